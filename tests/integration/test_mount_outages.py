"""Connections lost in the middle, servers that go and come, processes and mounts that are killed."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lib.mount import MountFailed
from lib.mountcall import AS_NOBODY, NOBODY, namespace, point  # noqa: F401 (fixtures)
from lib.processes import alive, program, wait_for
from lib.shell import error_of, fails_with, sh, write

pytestmark = pytest.mark.timeout(480)


def keys(pyserver):
    return {key: value for key, value in pyserver.contents().items() if not key.startswith(".hpkvfs/")}


# --- a connection lost in the middle of a change ---


@pytest.mark.parametrize("before", [None, "old"])
def test_set_that_was_applied_before_the_loss_is_not_repeated(pyserver, mount_on, before):
    if before is not None:
        pyserver.set("f", before)
    mount = mount_on(pyserver, "ttl=3600")
    sh("ls -l", mount.path)
    pyserver.fault(op="SET", key="f", drop=True, apply=True, times=1)
    write(mount.path / "f", b"new")
    assert pyserver.get("f") == "new"
    assert pyserver.log().count(("SET", "f")) == 1


@pytest.mark.parametrize("before", [None, "old"])
def test_set_that_was_lost_is_repeated(pyserver, mount_on, before):
    if before is not None:
        pyserver.set("f", before)
    mount = mount_on(pyserver, "ttl=3600")
    sh("ls -l", mount.path)
    pyserver.fault(op="SET", key="f", drop=True, times=1)
    write(mount.path / "f", b"new")
    assert pyserver.get("f") == "new"
    log = pyserver.log()
    assert log.count(("SET", "f")) == 2
    first = log.index(("SET", "f"))
    assert ("GET", "f") in log[first:], "repeated without a look at what stands there"


def test_set_that_was_lost_is_not_repeated_over_anothers_value(pyserver, mount_on):
    pyserver.set("f", "old")
    mount = mount_on(pyserver, "ttl=3600")
    sh("ls -l", mount.path)
    pyserver.fault(op="SET", key="f", drop=True, times=1, store={"f": "theirs"})
    with fails_with("EIO"):
        write(mount.path / "f", b"new")
    assert pyserver.get("f") == "theirs"
    assert pyserver.log().count(("SET", "f")) == 1
    assert (mount.path / "f").read_bytes() == b"theirs"


@pytest.mark.parametrize("applied", [True, False])
def test_removal_in_a_lost_connection(pyserver, mount_on, applied):
    pyserver.set("f", "x")
    mount = mount_on(pyserver, "ttl=3600")
    sh("ls -l", mount.path)
    pyserver.fault(op="DELETE", key="f", drop=True, apply=applied, times=1)
    os.unlink(mount.path / "f")
    assert keys(pyserver) == {}
    assert os.listdir(mount.path) == []


@pytest.mark.parametrize("op, key", [("SET", "b"), ("DELETE", "a")])
@pytest.mark.parametrize("applied", [True, False])
def test_rename_in_a_lost_connection(pyserver, mount_on, op, key, applied):
    pyserver.set("a", "x")
    mount = mount_on(pyserver, "ttl=3600")
    sh("ls -l", mount.path)
    pyserver.fault(op=op, key=key, drop=True, apply=applied, times=1)
    os.rename(mount.path / "a", mount.path / "b")
    assert keys(pyserver) == {"b": "x"}
    assert os.listdir(mount.path) == ["b"]


def test_append_in_a_lost_connection_is_never_there_twice(pyserver, mount_on):
    for applied in (True, False):
        pyserver.set("log", "one\n")
        mount = mount_on(pyserver, "ttl=3600")
        sh("ls -l", mount.path)
        pyserver.fault(op=["SET", "PATCH"], key="log", drop=True, apply=applied, times=1)
        result = sh("echo two >> log", mount.path, check=False).returncode
        expected = "one\ntwo\n" if applied or result == 0 else "one\n"
        assert pyserver.get("log") == expected
        pyserver.clear_faults()


@pytest.mark.parametrize("op", ["GET", "RANGE"])
def test_reading_goes_on_over_a_lost_connection(pyserver, mount_on, op):
    pyserver.set_all({"d/f": "x", "d/g": "y"})
    mount = mount_on(pyserver)
    os.listdir(mount.path / "d")
    pyserver.fault(op=op, drop=True, times=1)
    assert (mount.path / "d/f").read_bytes() == b"x"
    assert sorted(os.listdir(mount.path / "d")) == ["f", "g"]


# --- servers that go and come ---


def test_the_mount_goes_on_by_itself_after_a_restart(pyserver, mount_on):
    pyserver.set("f", "x")
    mount = mount_on(pyserver)
    assert (mount.path / "f").read_bytes() == b"x"
    for _ in range(3):
        pyserver.down()
        pyserver.up()
        assert (mount.path / "f").read_bytes() == b"x"
        write(mount.path / "g", b"y")
    assert pyserver.get("g") == "y"


def test_requests_wait_for_the_server_to_come_back(pyserver, mount_on):
    pyserver.set("f", "x")
    mount = mount_on(pyserver, "timeout=60")
    os.listdir(mount.path)
    pyserver.down()
    results = []

    def work():
        results.append((mount.path / "f").read_bytes())
        write(mount.path / "g", b"y")
        results.append(pyserver.get("g"))

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(1.0)
    assert results == []
    pyserver.up()
    thread.join(60)
    assert results == [b"x", "y"]


def test_a_server_that_stays_away_is_an_error_and_no_absence(pyserver, mount_on):
    pyserver.set("d/f", "x")
    mount = mount_on(pyserver, "timeout=1")
    assert os.listdir(mount.path / "d") == ["f"]
    pyserver.down()
    for call in (
        lambda: os.stat(mount.path / "d/f"),
        lambda: os.stat(mount.path / "absent"),
        lambda: os.listdir(mount.path / "d"),
        lambda: write(mount.path / "d/f", b"new"),
        lambda: write(mount.path / "d/new", b"new"),
        lambda: os.mkdir(mount.path / "e"),
        lambda: os.unlink(mount.path / "d/f"),
    ):
        assert error_of(call) in ("EIO", "ETIMEDOUT")
    pyserver.up()

    def reads():
        return error_of((mount.path / "d/f").read_bytes) is None

    wait_for(reads, "the mount to go on", 60)
    assert (mount.path / "d/f").read_bytes() == b"x"
    assert keys(pyserver) == {"d/f": "x"}
    write(mount.path / "d/f", b"after")
    assert pyserver.get("d/f") == "after"


def test_hpkvd_killed_and_started_again(hpkvd, store, make_mount):
    mount = make_mount(options=["ttl=0", "timeout=60"])
    write(mount.path / "f", b"x")
    hpkvd.kill9()
    hpkvd.start()
    assert (mount.path / "f").read_bytes() == b"x"
    write(mount.path / "g", b"y")
    assert sorted(os.listdir(mount.path)) == ["f", "g"]


@pytest.mark.parametrize("status", [401, 403, 429, 503])
def test_a_server_that_refuses_the_connection_at_mount(pyserver, mount_on, status):
    pyserver.configure(refuse=status)
    with pytest.raises(MountFailed) as failure:
        mount_on(pyserver, "timeout=2")
    assert failure.value.code == 32
    assert len(failure.value.log.strip().splitlines()) == 1
    assert pyserver.key not in failure.value.log


@pytest.mark.parametrize("status", [401, 403, 429, 503])
def test_a_server_that_refuses_the_connection_later(pyserver, mount_on, status):
    pyserver.set("f", "x")
    mount = mount_on(pyserver, "timeout=1")
    pyserver.configure(refuse=status)
    pyserver.drop_connections()
    assert error_of(os.stat, mount.path / "f") in ("EACCES", "EIO", "ETIMEDOUT")
    pyserver.configure(refuse=None)
    wait_for(lambda: error_of(os.stat, mount.path / "f") is None, "the mount to go on", 60)


# --- a server that never answers ---


def test_never_answered_requests_time_out_and_the_mount_stays_usable(pyserver, mount_on):
    pyserver.set_all({"d/f": "x", "g": "y"})
    mount = mount_on(pyserver, "timeout=1")
    pyserver.fault(op=["GET", "RANGE"], prefix="d", never=True)
    assert (mount.path / "g").exists()
    with fails_with("ETIMEDOUT"):
        (mount.path / "d/f").read_bytes()
    with fails_with("ETIMEDOUT"):
        os.listdir(mount.path / "d")
    assert (mount.path / "g").read_bytes() == b"y"
    pyserver.clear_faults()
    assert (mount.path / "d/f").read_bytes() == b"x"


def test_a_late_answer_is_dropped(pyserver, mount_on):
    pyserver.set("d/f", "x")
    mount = mount_on(pyserver, "timeout=1")
    os.listdir(mount.path)
    pyserver.fault(op=["GET", "RANGE"], prefix="d/", delay=2)
    with fails_with("ETIMEDOUT"):
        (mount.path / "d/f").read_bytes()
    pyserver.clear_faults()
    pyserver.set("d/f", "now")
    time.sleep(2)
    assert (mount.path / "d/f").read_bytes() == b"now"


def test_writers_timeout(pyserver, mount_on):
    pyserver.set("f", "old")
    mount = mount_on(pyserver, "timeout=1")
    pyserver.fault(op="SET", never=True)
    with fails_with("ETIMEDOUT"):
        write(mount.path / "f", b"new")
    pyserver.clear_faults()
    assert (mount.path / "f").read_bytes() == b"old"
    write(mount.path / "f", b"newer")
    assert pyserver.get("f") == "newer"


@pytest.mark.parametrize(
    "command, ops",
    [
        (["cat", "d/f"], ["GET", "RANGE"]),
        (["ls", "d"], ["GET", "RANGE"]),
        (["bash", "-c", "echo x > g"], ["SET"]),
        (["rm", "g"], ["DELETE"]),
        (["mv", "g", "h"], ["SET"]),
    ],
)
def test_kill_9_frees_a_process_that_waits_for_the_server(pyserver, mount_on, command, ops):
    pyserver.set_all({"d/f": "x", "g": "y"})
    mount = mount_on(pyserver, "timeout=600")
    fault = pyserver.fault(op=ops, never=True)
    process = subprocess.Popen(command, cwd=mount.path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: pyserver.hits(fault) > 0, "the request")
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    wait_for(lambda: not alive(process.pid), "the end of the killed process", 30)
    process.wait()
    pyserver.clear_faults()
    # What was held up by the killed process' request must not be held up for long.
    mount.kill9()


def test_after_a_killed_reader_others_go_on(pyserver, mount_on):
    pyserver.set("d/f", "x")
    mount = mount_on(pyserver, "timeout=2")
    fault = pyserver.fault(op=["GET", "RANGE"], never=True)
    process = subprocess.Popen(["cat", "d/f"], cwd=mount.path, stdin=subprocess.DEVNULL)
    wait_for(lambda: pyserver.hits(fault) > 0, "the request")
    process.kill()
    process.wait()
    pyserver.clear_faults()
    wait_for(lambda: error_of((mount.path / "d/f").read_bytes) is None, "the mount to answer", 60)
    assert (mount.path / "d/f").read_bytes() == b"x"


INTERRUPTED = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
count = 0
def tick(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, tick)
signal.siginterrupt(signal.SIGALRM, True)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
def check(result):
    if result < 0:
        print(os.strerror(ctypes.get_errno()))
        sys.exit(1)
    return result
path = sys.argv[1].encode()
file = check(libc.open(path, os.O_RDWR))
buffer = ctypes.create_string_buffer(10)
check(libc.pread(file, buffer, 10, ctypes.c_long(0)))
check(libc.pwrite(file, b"new", 3, ctypes.c_long(0)))
check(libc.fsync(file))
check(libc.close(file))
check(libc.rename(path, path + b"2"))
check(libc.unlink(path + b"2"))
print(buffer.value.decode(), count >= 5)
"""


def test_timer_signals_interrupt_nothing(pyserver, mount_on):
    """Runtimes that preempt by signals would see EINTR where local filesystems never give it."""
    pyserver.set("d/f", "old")
    mount = mount_on(pyserver)
    pyserver.fault(delay=0.2)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, mount.path / "d/f"], capture_output=True, text=True, check=False, timeout=400
    )
    assert done.stdout == "old True\n", done.stdout + done.stderr
    assert pyserver.history("d/f")[:2] == ["old", "new"]


CLOSE = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(file, b"x")
os.close(file)
"""


# $1: the program, $2: the mount point, $3: SPEC. Another user's programs are let in, and cannot be seen by the mount.
HIDDEN = (
    AS_NOBODY
    + """
echo user_allow_other > "$devices/fuse.conf"
mount --bind "$devices/fuse.conf" /etc/fuse.conf
mount -t proc -o hidepid=2 proc /proc
if as_nobody test -e "/proc/$$"; then exit 50; fi
export XDG_RUNTIME_DIR=$(mktemp -d)
chown 65534 "$XDG_RUNTIME_DIR"
as_nobody "$1" "$3" "$2" -o state=none,nosubscribe,allow_other,umask=0,timeout=600
pid=$(cat "$XDG_RUNTIME_DIR"/hpkvfs/*.pid)
as_another() {
    setpriv --reuid=65533 --regid=65533 --clear-groups "$@"
}
"""
)


@pytest.fixture
def hidden(namespace, point, pyserver):
    """Runs a script behind HIDDEN; $4 and $5 are a program that closes the file that is its argument."""
    os.chown(point, NOBODY, NOBODY)

    def run(script):
        words = [program("src/mount/hpkvfs"), point, pyserver.url, sys.executable, CLOSE]
        return namespace(HIDDEN + script, *words, env={"HPKV_API_KEY": pyserver.key})

    return run


def test_a_close_where_proc_hides_its_program(hidden, pyserver):
    """It waits for the server longer than a close is left without a look at whether its program still lives."""
    pyserver.fault(op="SET", key="f", delay=1)
    result = hidden(
        """
as_another "$4" -c "$5" "$2/f"
as_nobody fusermount3 -u "$2"
while [ -e "/proc/$pid" ]; do sleep 0.05; done
"""
    )
    assert result.code == 0, result.err
    assert pyserver.get("f") == "x"


def test_kill_9_frees_a_process_that_proc_hides(hidden, pyserver):
    pyserver.fault(op="SET", key="f", never=True)
    result = hidden(
        """
code=0
as_another timeout --signal=KILL 3 "$4" -c "$5" "$2/f" || code=$?
kill -9 "$pid"
exit $code
"""
    )
    assert result.code == 137, result.err


# --- the mount process killed ---


def test_kill_9_of_the_mount_loses_nothing_acknowledged_and_umount_l_frees(pyserver, mount_on):
    mount = mount_on(pyserver)
    for number in range(50):
        write(mount.path / f"f{number}", b"%d" % number)
    file = os.open(mount.path / "synced", os.O_WRONLY | os.O_CREAT)
    os.write(file, b"synced")
    os.fsync(file)
    os.kill(mount.pid, signal.SIGKILL)
    wait_for(lambda: not mount.running(), "the end of the mount")
    assert error_of(os.stat, mount.path / "f1") in ("ENOTCONN", "ECONNABORTED")
    assert keys(pyserver) == {f"f{number}": str(number) for number in range(50)} | {"synced": "synced"}
    error_of(os.close, file)
    done = subprocess.run(["umount", "-l", mount.path], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert not mount.mounted()
    again = mount_on(pyserver)
    assert len(os.listdir(again.path)) == 51


def test_kill_9_in_the_middle_of_many_writers(pyserver, mount_on):
    mount = mount_on(pyserver)
    acknowledged = []
    errors = []

    def work(thread):
        number = 0
        try:
            while True:
                write(mount.path / f"t{thread}-{number}", b"%d" % number)
                acknowledged.append(f"t{thread}-{number}")
                number += 1
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(acknowledged) > 200, "200 files", 100)
    mount.kill9()
    for thread in threads:
        thread.join(30)
    contents = pyserver.contents()
    for name in acknowledged:
        assert contents[name] == name.split("-")[1]


def test_unmount_sends_what_waits(pyserver, mount_on):
    mount = mount_on(pyserver)
    for number in range(200):
        write(mount.path / f"f{number}", b"%d" % number)
    mount.unmount()
    assert keys(pyserver) == {f"f{number}": str(number) for number in range(200)}
