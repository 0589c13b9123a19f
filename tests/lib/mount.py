"""A real mount of ours, as every integration test uses it."""

import os
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from lib.processes import (
    alive,
    free_mount,
    mounted,
    parent_of,
    program,
    sanitizer_env,
    sanitizer_reports,
    wait_for,
    where,
    with_variable,
)

MOUNT_VARIABLE = "HPKVFS_TEST_MOUNT"

# Seconds for which an unmount may find the mount busy.
BUSY_LIMIT = 60.0


class MountFailed(Exception):
    """The program ended instead of mounting; code is its exit code, log what it said."""

    def __init__(self, code, log):
        super().__init__(f"hpkvfs ended with exit code {code}:\n{log}")
        self.code = code
        self.log = log


def _option_list(options):
    if options is None:
        return []
    if isinstance(options, str):
        return options.split(",") if options else []
    return list(options)


class Mount:
    """`hpkvfs SPEC DIR -o OPTIONS -f` as a child, or in the background.

    spec        as on the command line: a URL or local:DIR
    path        the mount point, made if it does not exist (default: a new folder)
    options     a string "a,b=c" or a list; state=none is added unless a state= is given, so that no test
                writes to the user's state folder
    subscribe   let the server tell of changes; without it nosubscribe is added, so that tests see what a mount does by itself
    key         the API key, passed by HPKV_API_KEY; None: the variable is not set
    background  let it go into the background by itself; then .pid is found by an inherited variable
    helper      the name to call the program by, e.g. "mount.hpkvfs" (a link to the same binary)
    user        uid to mount as (its gid the same, no other groups); the caller sees to permissions
    arguments   further arguments, e.g. ["-d"]
    limit       seconds to wait for the mount or for its end; generous, because sanitized programs are slow
    """

    def __init__(
        self,
        spec,
        path=None,
        options=None,
        *,
        subscribe=False,
        key=None,
        env=None,
        background=False,
        helper="hpkvfs",
        user=None,
        arguments=(),
        limit=240.0,
    ):
        self.spec = str(spec)
        self.background = background
        self.user = user
        self.limit = limit
        if user is not None and os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
            raise RuntimeError("ordinary users cannot mount here: chmod 0666 /dev/fuse, as udev does on Debian and Ubuntu")
        self.work = Path(tempfile.mkdtemp(prefix="mount-"))
        self.work.chmod(0o777 if user is not None else 0o700)
        self.path = Path(os.path.realpath(path)) if path is not None else self.work / "mnt"
        self.path.mkdir(parents=True, exist_ok=True)
        if user is not None and path is None:
            os.chown(self.path, user, user)
        self._mark = uuid.uuid4().hex
        self._log_path = self.work / "log"
        self._process = None
        self.pid = None

        words = _option_list(options)
        if not any(word.startswith("state=") for word in words):
            words.append("state=none")
        if not subscribe and "nosubscribe" not in words:
            words.append("nosubscribe")
        self.command = [str(self._binary(helper)), self.spec, str(self.path), "-o", ",".join(words)]
        self.command += [*arguments] if background else ["-f", *arguments]
        self._start(key, env)

    def _binary(self, helper):
        binary = program("src/mount/hpkvfs")
        if helper == "hpkvfs":
            return binary
        # The program tells its name from argv[0], as through the links that are installed.
        link = self.work / helper
        link.symlink_to(binary)
        return link

    def _start(self, key, env):
        environment = {name: value for name, value in os.environ.items() if name != "HPKV_API_KEY"}
        environment.update(sanitizer_env(self.work))
        environment[MOUNT_VARIABLE] = self._mark
        if key is not None:
            environment["HPKV_API_KEY"] = key
        environment.update(env or {})
        as_user = {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        # The mount point's row in mountinfo may be one that was there before (mounted over): count by device.
        before = mounted(self.path)
        with open(self._log_path, "wb") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd="/", **as_user
            )
        try:
            if self.background:
                self._wait_background()
            else:
                self.pid = self._process.pid
                self._wait_foreground(before)
        except BaseException:
            self.close()
            raise
        self.device = mounted(self.path)["device"]

    def _wait_foreground(self, before):
        def ready():
            if self._process.poll() is not None:
                raise MountFailed(self._process.returncode, self.log())
            row = mounted(self.path)
            return row is not None and row != before

        try:
            wait_for(ready, f"a mount on {self.path}", self.limit)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log()}") from None

    def _wait_background(self):
        try:
            code = self._process.wait(self.limit)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"hpkvfs has not gone into the background in {self.limit:.0f} s:\n{self.log()}") from None
        if code != 0:
            raise MountFailed(code, self.log())
        if mounted(self.path) is None:
            raise AssertionError(f"hpkvfs answered 0 and {self.path} is not mounted:\n{self.log()}")
        pids = self._background_pids()
        if len(pids) != 1:
            raise AssertionError(f"expected one hpkvfs in the background, found {pids}:\n{self.log()}")
        self.pid = pids[0]

    def _background_pids(self):
        """The helper of the option inotify is a child of the one that is meant."""
        binary = str(program("src/mount/hpkvfs").resolve())
        pids = []
        for pid in with_variable(MOUNT_VARIABLE, self._mark):
            try:
                if os.readlink(f"/proc/{pid}/exe") == binary:
                    pids.append(pid)
            except OSError:
                continue
        return [pid for pid in pids if parent_of(pid) not in pids]

    def helper(self):
        """The pid of the option inotify's helper, or None."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii").split()
        named = [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == "hpkvfs-inotify"]
        return named[0] if named else None

    def log(self):
        """What the program has written so far to standard output and standard error."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def reports(self):
        """Sanitizer reports of the program and of what it started."""
        return sanitizer_reports(self.work)

    def running(self):
        if self.background:
            return self.pid is not None and alive(self.pid)
        return self._process is not None and self._process.poll() is None

    def mounted(self):
        return mounted(self.path) is not None

    def unmount(self):
        """umount, then waits for the program's end: exit code 0 and no sanitizer report, else AssertionError."""
        self.umount()
        self.wait_end()

    def umount(self):
        """The command alone."""
        if self.user is None:
            command = ["umount", "-i", str(self.path)]
            as_user = {}
        else:
            command = ["fusermount3", "-u", str(self.path)]
            as_user = {"user": self.user, "group": self.user, "extra_groups": []}
        end = time.monotonic() + BUSY_LIMIT
        while True:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=self.limit, **as_user
            )
            # A last close that the kernel does later, or a namespace that is just being copied, keeps it for a moment.
            if "busy" not in done.stderr or time.monotonic() > end:
                break
            time.sleep(0.1)
        assert done.returncode == 0, f"{command} answered {done.returncode}: {done.stderr}"

    def wait_end(self):
        """Waits for the end of a program whose mount was ended by somebody else; checks as unmount() does."""
        if self.background:
            wait_for(lambda: not alive(self.pid), f"the end of hpkvfs {self.pid}", self.limit)
        else:
            code = self.exit_code()
            assert code == 0, f"hpkvfs ended with {code}:\n{self.log()}\n{self.reports()}"
        assert not self.mounted(), f"hpkvfs ended and left {self.path} mounted"
        reports = self.reports()
        assert not reports, reports

    def exit_code(self):
        """That of a program in the foreground whose mount was ended, once it has ended too; negative: the signal."""
        try:
            return self._process.wait(self.limit)
        except subprocess.TimeoutExpired:
            raise TimeoutError(
                f"hpkvfs still runs {self.limit:.0f} s after the unmount:\n{self.log()}\n{where(self.pid)}"
            ) from None

    def kill9(self):
        """Kills the program as a crash would, and clears the dead mount away."""
        os.kill(self.pid, signal.SIGKILL)
        if self.background:
            wait_for(lambda: not alive(self.pid), f"the end of hpkvfs {self.pid}", self.limit)
        else:
            self._process.wait(self.limit)
        if self.mounted():
            free_mount(self.path)

    def close(self):
        """The last resort of every teardown: whatever state it is in, no mount and no process remains."""
        if self._process is None:
            return
        while self.mounted() and self._ours():
            free_mount(self.path)
        end = time.monotonic() + 10
        while self.running() and time.monotonic() < end:
            time.sleep(0.02)
        if self.running() or self._process.poll() is None:
            for pid in {self.pid, self._process.pid} - {None}:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
        if self._process.poll() is None:
            self._process.wait(10)

    def _ours(self):
        return mounted(self.path)["type"].startswith("fuse")

    def __enter__(self):
        return self

    def __exit__(self, kind, _error, _trace):
        # The checks of unmount() would hide the error that is already on its way.
        try:
            if kind is None and self.running() and self.mounted():
                self.unmount()
        finally:
            self.close()
