"""What the conformance tests stand on: the same calls in two places, a mount of ours and a tmpfs, by root and by others.

A case is right only if the tmpfs passes it too; where the two may differ, the case says so. `stage(at)` makes the files that
the cases are about, `call(...)` runs one system call as somebody and answers the name of its error."""

import contextlib
import ctypes
import errno
import os
import pickle
import signal
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

from lib.hpkvd import Hpkvd
from lib.mount import Mount
from lib.processes import free_mount, mounted
from lib.shell import rename2

ROOT = None
ALICE = 4001
BOB = 4002

UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2

_libc = ctypes.CDLL(None, use_errno=True)


# --- places ---


class Tmpfs:
    """An empty tmpfs in a folder of its own, which everybody may pass."""

    def __init__(self):
        self.work = Path(tempfile.mkdtemp(prefix="tmpfs-"))
        self.work.chmod(0o755)
        self.path = self.work / "mnt"
        self.path.mkdir()
        self._mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", self.path)

    def _mount(self, *arguments):
        subprocess.run(["mount", *map(str, arguments)], stdin=subprocess.DEVNULL, check=True, timeout=240)

    def read_only(self):
        """The same files at another path, where nothing may be changed."""
        path = self.work / "ro"
        path.mkdir()
        self._mount("--bind", self.path, path)
        self._mount("-o", "remount,bind,ro", path)
        return path

    def close(self):
        for path in (self.work / "ro", self.path):
            if mounted(path):
                free_mount(path)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()


def passable_folder():
    """A folder for a mount point that other users reach."""
    folder = Path(tempfile.mkdtemp(prefix="posix-"))
    folder.chmod(0o755)
    return folder / "mnt"


MOUNT_OPTIONS = ("allow_other", "umask=022", "suid", "dev", "ttl=0")


@contextlib.contextmanager
def places(*options):
    """Both, empty: {"tmpfs": path, "mount": path}, and under "server" the mount's server."""
    with Tmpfs() as tmpfs, Hpkvd() as server:
        with Mount(server.url, passable_folder(), [*MOUNT_OPTIONS, *options], key=server.key) as mount:
            yield {"tmpfs": tmpfs, "mount": mount, "server": server}


# --- users ---


def _become(user, groups):
    os.setgroups(groups)
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _answer(function, arguments):
    try:
        return "result", function(*arguments)
    except OSError as error:
        return "errno", error.errno
    except BaseException as error:  # pylint: disable=broad-except
        return "other", repr(error)


def as_user(user, function, *arguments, groups=()):
    """Calls it in a child process that is this user (its group has the same number) and in these further groups; answers what
    it answers, or raises its OSError. ROOT: here."""
    if user is ROOT:
        return function(*arguments)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _become(user, list(groups))
            os.write(writer, pickle.dumps(_answer(function, arguments)))
        finally:
            os._exit(0)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as pipe:
            kind, value = pickle.loads(pipe.read())
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.waitpid(child, 0)
    if kind == "errno":
        raise OSError(value, os.strerror(value))
    assert kind == "result", value
    return value


@contextlib.contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def opened(path, flags, mode=0o666):
    """A descriptor, closed also where a case fails: an open file would keep the mount busy for all others."""
    file = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        yield file
    finally:
        os.close(file)


# --- system calls: the folder, then the arguments of the call, paths relative to the folder ---


def path_of(at, name):
    """Pure text: pathlib would drop the slash at an end and a dot in the middle."""
    return f"{at}/{name}" if name else ""


def do_open(at, name, flags, mode=0o666):
    os.close(os.open(path_of(at, name), flags | os.O_CLOEXEC, mode))


def do_creat(at, name, mode=0o666):
    do_open(at, name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)


def do_mkdir(at, name, mode=0o755):
    os.mkdir(path_of(at, name), mode)


def do_rmdir(at, name):
    os.rmdir(path_of(at, name))


def do_mknod(at, name, kind=stat.S_IFREG, device=0):
    os.mknod(path_of(at, name), kind | 0o644, device)


def do_mkfifo(at, name):
    os.mkfifo(path_of(at, name), 0o644)


def do_symlink(at, target, name):
    os.symlink(target, path_of(at, name))


def do_readlink(at, name):
    return os.readlink(path_of(at, name))


def do_link(at, old, new):
    os.link(path_of(at, old), path_of(at, new), follow_symlinks=False)


def do_rename(at, old, new, flags=0):
    rename2(path_of(at, old), path_of(at, new), flags)


def do_unlink(at, name):
    os.unlink(path_of(at, name))


def do_chmod(at, name, mode=0o600):
    os.chmod(path_of(at, name), mode)


def do_chown(at, name, uid=0, gid=0):
    os.chown(path_of(at, name), uid, gid)


def do_lchown(at, name, uid=0, gid=0):
    os.lchown(path_of(at, name), uid, gid)


def do_truncate(at, name, size=0):
    os.truncate(path_of(at, name), size)


def do_ftruncate(at, name, flags, size=0):
    file = os.open(path_of(at, name), flags)
    try:
        os.ftruncate(file, size)
    finally:
        os.close(file)


class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("ns", ctypes.c_long)]


def do_utimensat(at, name, access=(1, 0), change=(1, 0), flags=0):
    """utimensat(2) itself, with (seconds, ns) or (0, UTIME_NOW); access=None: no times at all, which is now."""
    times = None if access is None else (Timespec * 2)(Timespec(*access), Timespec(*change))
    if _libc.utimensat(-100, os.fsencode(path_of(at, name)), times, flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def do_stat(at, name):
    os.stat(path_of(at, name))


def do_lstat(at, name):
    os.lstat(path_of(at, name))


def do_list(at, name):
    os.listdir(path_of(at, name))


def do_access(at, name, mode=os.F_OK):
    if _libc.access(os.fsencode(path_of(at, name)), mode) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def do_chdir(at, name):
    before = os.getcwd()
    os.chdir(path_of(at, name))
    os.chdir(before)


def do_statvfs(at, name):
    os.statvfs(path_of(at, name))


def error_name(function, *arguments, user=ROOT, groups=()):
    """The name of the error that the call gives this user, None if it succeeds."""
    try:
        as_user(user, function, *arguments, groups=groups)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return None


# --- the stage ---

FOLDERS = {
    "dir": (0o755, 0),
    "empty": (0o755, 0),
    "full": (0o755, 0),
    "full/sub": (0o755, 0),
    "closed": (0o700, 0),
    "closed/sub": (0o755, 0),
    "unsearchable": (0o744, 0),
    "readonly": (0o555, ALICE),
    "readonly/sub": (0o755, ALICE),
    "home": (0o755, ALICE),
    "home/sub": (0o755, ALICE),
    "home/roots-dir": (0o755, 0),
    "sticky": (0o1777, 0),
    "sticky/alice-dir": (0o755, ALICE),
    "sticky/bob-dir": (0o755, BOB),
}
FILES = {
    "file": (0o644, 0),
    "other": (0o644, 0),
    "alices": (0o644, ALICE),
    "secret": (0o600, 0),
    "writable": (0o666, 0),
    "dir/in": (0o644, 0),
    "full/in": (0o644, 0),
    "closed/in": (0o644, 0),
    "unsearchable/in": (0o644, 0),
    "readonly/in": (0o644, ALICE),
    "home/in": (0o644, ALICE),
    "home/roots": (0o644, 0),
    "sticky/alice": (0o644, ALICE),
    "sticky/bob": (0o666, BOB),
    "sticky/root": (0o644, 0),
}
LINKS = {
    "link": "file",
    "dirlink": "dir",
    "dangling": "absent",
    "loop": "pool",
    "pool": "loop",
    "self": "self",
}
CONTENT = b"content\n"


def stage(at):
    """The files that error cases are about, in an empty folder. No case changes them."""
    for name, (mode, owner) in FOLDERS.items():
        os.mkdir(at / name)
    for name, (mode, owner) in FILES.items():
        (at / name).write_bytes(CONTENT)
        os.chown(at / name, owner, owner)
        os.chmod(at / name, mode)
    for name, target in LINKS.items():
        os.symlink(target, at / name)
    os.mkfifo(at / "fifo", 0o644)
    os.chmod(at / "fifo", 0o644)
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(at)  # the path may be longer than an address has room for
        try:
            listener.bind("socket")
        finally:
            os.chdir("/")
    for name, (mode, owner) in FOLDERS.items():
        os.chown(at / name, owner, owner)
        os.chmod(at / name, mode)


def attributes(at):
    """All that a case could have changed, by relative path: type, mode, owner, content or target, times."""
    found = {}
    for where, folders, files in os.walk(at):
        for name in folders + files:
            path = os.path.join(where, name)
            st = os.lstat(path)
            found[os.path.relpath(path, at)] = (
                st.st_mode,
                st.st_uid,
                st.st_gid,
                st.st_mtime_ns,
                st.st_ctime_ns,
                _content(path, st),
            )
    return found


def _content(path, st):
    if stat.S_ISREG(st.st_mode):
        return Path(path).read_bytes()
    if stat.S_ISLNK(st.st_mode):
        return os.readlink(path)
    return st.st_rdev
