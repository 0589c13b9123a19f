"""Processes, mounts and sanitizer reports: what every helper that starts a program of ours needs.

Nothing here knows pytest, so that the benchmarks and the watchdog can use it too.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

MNT_FORCE = 1
MNT_DETACH = 2

# Every process that a test starts inherits this variable, so that what is left over can be told from
# everybody else's processes. Its value is the session's temporary folder.
SESSION_VARIABLE = "HPKVFS_TEST_SESSION"

_libc = ctypes.CDLL(None, use_errno=True)


def build_dir():
    """The meson build folder whose programs are tested."""
    name = os.environ.get("HPKVFS_BUILD")
    if not name:
        raise RuntimeError("HPKVFS_BUILD must name the meson build folder whose programs are to be tested")
    return Path(name).resolve()


def program(relative):
    """The path of a built program, e.g. program("src/mount/hpkvfs")."""
    path = build_dir() / relative
    if not os.access(path, os.X_OK):
        raise RuntimeError(f"{path} was not built: run ninja -C {build_dir()}")
    return path


def wait_for(condition, what, limit=240.0, every=0.02):
    """Polls until condition() is true and answers its result; the limit is generous on purpose, since no test
    may depend on speed."""
    end = time.monotonic() + limit
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise TimeoutError(f"{limit:.0f} s passed without: {what}")
        time.sleep(every)


# --- mounts ---


def _unescape(text):
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), text)


def mount_table():
    """The mounts of this namespace, oldest first: dicts with path, device ("0:51"), type and source."""
    rows = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            left, _, right = line.rstrip("\n").partition(" - ")
            fields, behind = left.split(" "), right.split(" ")
            rows.append(
                {
                    "device": fields[2],
                    "path": _unescape(fields[4]),
                    "options": fields[5].split(","),
                    "type": behind[0],
                    "source": _unescape(behind[1]),
                }
            )
    return rows


def mounted(path):
    """The newest mount on exactly this path, or None. Never touches the path itself, which could hang."""
    path = str(path)
    for row in reversed(mount_table()):
        if row["path"] == path:
            return row
    return None


def mounts_below(folder):
    """Paths of the mounts on or below the folder, innermost first."""
    folder = str(folder)
    return [row["path"] for row in reversed(mount_table()) if (row["path"] + "/").startswith(folder + "/")]


def free_mount(path):
    """The last resort: ends the mount at once. Requests that hang in it fail, so whoever waits goes on."""
    path = os.fsencode(str(path))
    if _libc.umount2(path, MNT_FORCE | MNT_DETACH) == 0:
        return
    subprocess.run(["fusermount3", "-u", "-z", "--", path], stdin=subprocess.DEVNULL, capture_output=True, check=False)


def free_mounts_below(folder):
    """Ends every mount on or below the folder and answers their paths."""
    paths = mounts_below(folder)
    for path in paths:
        free_mount(path)
    return paths


# --- processes ---


def alive(pid):
    """True while the process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def parent_of(pid):
    """Its parent's pid, or None."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[1])


def with_variable(name, value):
    """Pids of the living processes whose environment has NAME=VALUE, the caller's own left out."""
    wanted = f"{name}={value}".encode()
    pids = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as environ:
                if wanted in environ.read().split(b"\0"):
                    pids.append(int(entry))
        except OSError:
            continue
    return [pid for pid in pids if alive(pid)]


def end_processes(pids, grace=5.0):
    """SIGTERM, then after `grace` seconds SIGKILL."""
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, grace)):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        end = time.monotonic() + seconds
        while any(alive(pid) for pid in pids) and time.monotonic() < end:
            time.sleep(0.05)
        pids = [pid for pid in pids if alive(pid)]
        if not pids:
            return


# The first lines of a shell script in a mount namespace of its own, which begins with copies of all mounts. A copy keeps a
# filesystem alive that another test unmounts meanwhile, and that test would wait for its end as long as the namespace lasts.
WITHOUT_OTHERS_MOUNTS = """
findmnt --raw --noheadings --output TARGET --types fuse.hpkvfs | while read -r mount; do umount -i -l "$mount" || :; done
"""


def where(pid):
    """What the threads of a process that does not end are doing: their states, and where gdb is installed, their stacks."""
    lines = []
    for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
        try:
            state = re.search(r"^State:\s*(.*)$", (task / "status").read_text(), re.MULTILINE).group(1)
            lines.append(f"thread {task.name}: {state}, in {(task / 'wchan').read_text()}")
        except OSError:
            continue
    if shutil.which("gdb"):
        command = ["gdb", "-p", str(pid), "--batch", "-nx", "-ex", "thread apply all bt"]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=240)
            lines += [line for line in done.stdout.splitlines() if re.match(r"(#|Thread )", line)]
        except subprocess.TimeoutExpired:
            lines.append("gdb did not end")
    return "\n".join(lines)


# --- memory ---


def resident_peak(pid):
    """The most memory that the process has had, in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) * 1024


# --- sanitizers ---


def is_sanitized(pid):
    """Its memory says nothing then."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        return "asan" in maps.read()


def sanitizer_env(folder):
    """Variables that make a sanitized program write its reports to files in the folder, also when it runs in
    the background; a program without sanitizers ignores them."""
    common = f"log_path={folder}/sanitizer:print_stacktrace=1"
    return {
        "ASAN_OPTIONS": f"{common}:detect_leaks=1:abort_on_error=0:exitcode=99",
        "UBSAN_OPTIONS": f"{common}:halt_on_error=1:exitcode=99",
        "LSAN_OPTIONS": f"{common}:exitcode=99:print_suppressions=0",
        "TSAN_OPTIONS": f"{common}:exitcode=99",
    }


# gcc's address sanitizer says this at the first coroutine, though it is told of every switch.
NO_REPORT = "WARNING: ASan doesn't fully support makecontext/swapcontext"


def sanitizer_reports(folder):
    """The text of all reports written to the folder, or an empty string."""
    parts = []
    for path in sorted(Path(folder).glob("sanitizer.*")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        text = "\n".join(line for line in lines if NO_REPORT not in line)
        if text.strip():
            parts.append(f"--- {path.name}\n{text}")
    return "\n".join(parts)
