"""Random programs on a mount and on a tmpfs side by side: every call answers the same in both, and so does everything that can
be seen of the files afterwards, also after a remount and on a machine that has another state file.

10,000 calls; HPKVFS_MODEL_STEPS=N makes N, other ones each time where those are more. A failure prints the shortest program
found that shows it."""

import ctypes
import os
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from lib.hpkvd import Hpkvd
from lib.mount import Mount
from lib.posix import Tmpfs
from lib.processes import program, sanitizer_env
from lib.shell import RENAME_EXCHANGE, RENAME_NOREPLACE
from lib.side import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, Side, content

USUAL_STEPS = 10000
STEPS = int(os.environ.get("HPKVFS_MODEL_STEPS", USUAL_STEPS))
STEPS_A_PROGRAM = 80
# Some programs end earlier.
STEPS_OF_MOST_PROGRAMS = 55

# Shrinking a failure takes hypothesis up to five minutes.
pytestmark = pytest.mark.timeout(1920 + STEPS // 5)

# Two of them are local.
NAMES = ["a", "b", "c", "ü 100%", "a~", "tmp_a_123456"]
PATHS = [*NAMES, *(f"{folder}/{name}" for folder in "ab" for name in NAMES[:3]), "a/b/a", "a/b/c", "b/a/c", "b/a~"]

# What nothing names any more is removed while a program runs, not after a minute.
TIMES = {"HPKVFS_TEST_TIMES": "200:100"}

# None leads out of the folder, wherever the link is.
TARGETS = ["a", "b", "./b/c", "nowhere", "/nowhere/at/all", "t/" * 150]

# Around the limits of values (3072 and 60000), chunks, inline content and pages.
SIZES = [0, 1, 2, 700, 2303, 2304, 2305, 3071, 3072, 3073, 4096, 6912, 16383, 16384, 16385, 60000, 131072, 300000]
OFFSETS = [0, 1, 2000, 2304, 3072, 4095, 9000, 16384, 131071, 250000]

paths = st.sampled_from(PATHS)
# What content() makes bytes of: so a failure's program stays short.
contents = st.tuples(st.sampled_from(["text", "text", "binary", "zeros", "json", "stub"]), st.sampled_from(SIZES), st.integers(0, 99))
offsets = st.sampled_from(OFFSETS)
sizes = st.sampled_from(SIZES)
slots = st.integers(0, 2)
modes = st.sampled_from([0o644, 0o600, 0o755, 0o444, 0o000, 0o4755, 0o2755, 0o1777])
owners = st.sampled_from([0, 7, 65534, 4294967294])
times = st.sampled_from([0, 1, -1, 999_999_999, 1_000_000_000_123_456_789, 1_234_567_890_000_000_000])
xattr_values = st.sampled_from([b"", b"x", b"\0\xff", b"v" * 200])


class Libc:
    """fallocate(2), which Python has without modes only."""

    def __init__(self):
        self.dll = ctypes.CDLL(None, use_errno=True)

    def fallocate(self, file, mode, offset, size):
        return self.dll.fallocate(file, mode, ctypes.c_long(offset), ctypes.c_long(size))

    @staticmethod
    def errno():
        return ctypes.get_errno()


class World:
    """The server and the tmpfs of all programs, and how many steps they made."""

    def __init__(self, tmpfs, server):
        self.tmpfs, self.server = tmpfs, server
        self.programs = self.steps = 0
        self.started_ns = time.time_ns() - 10**9
        self.libc = Libc()
        self.xattrs = ["trusted.one", "trusted.two"]
        try:
            os.setxattr(tmpfs.path, "user.one", b"")
            os.removexattr(tmpfs.path, "user.one")
            self.xattrs += ["user.one", "user.two"]
        except OSError:
            print("this kernel's tmpfs has no xattrs of users: only trusted ones are compared")


WORLD = None


def some_open(trees):
    return bool(trees.theirs.files)


class Trees(RuleBasedStateMachine):
    """Both sides. Slots are open files that both have."""

    def __init__(self):
        super().__init__()
        WORLD.programs += 1
        self.work = Path(tempfile.mkdtemp(prefix="model-"))
        self.states = 0
        self.elsewhere = False
        self.mount = None
        self.theirs = Side(str(WORLD.tmpfs.path / f"p{WORLD.programs}"), WORLD.libc)
        os.mkdir(self.theirs.root, 0o755)
        os.chmod(self.theirs.root, 0o755)
        self.ours = None

    @initialize(max_value=st.sampled_from([3072, 3072, 60000]), ttl=st.sampled_from(["0", "3600"]), folders=st.booleans())
    def begin(self, max_value, ttl, folders):
        self.options = [f"prefix=p{WORLD.programs}/", f"max_value={max_value}", f"ttl={ttl}", "umask=022", "suid", "dev"]
        self._mount()
        for path in ("a", "b", "a/b") if folders else ():
            self.both("mkdir", path, 0o755, look=[path])

    def _mount(self):
        options = [*self.options, f"state={self.work}/state{self.states}"]
        server = WORLD.server
        self.mount = Mount(server.url, self.work / "mnt", options, key=server.key, env=TIMES)
        self.ours = Side(str(self.mount.path), WORLD.libc)

    def teardown(self):
        sides = [side for side in (self.ours, self.theirs) if side is not None]
        try:
            if self.mount is not None:
                self.compare_all()
                for side in sides:
                    side.close_all()
                self.mount.unmount()
                self.examine()
        finally:
            for side in sides:
                side.close_all()
            if self.mount is not None:
                self.mount.close()
            shutil.rmtree(self.theirs.root)
            shutil.rmtree(self.work)

    def examine(self):
        """fsck.hpkvfs finds nothing wrong in what an unmounted filesystem has left."""
        options = ",".join(option for option in self.options if option.startswith(("prefix=", "max_value=")))
        done = subprocess.run(
            [program("src/mount/fsck.hpkvfs"), WORLD.server.url, "-n", "-o", options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=480,
            env={**os.environ, **TIMES, **sanitizer_env(self.work), "HPKV_API_KEY": WORLD.server.key},
        )
        assert done.returncode == 0, f"fsck.hpkvfs answers {done.returncode}:\n{done.stdout}{done.stderr}"

    def an_open(self, number):
        """One of the slots that are in use."""
        slots = sorted(self.theirs.files)
        return slots[number % len(slots)]

    # --- comparing ---

    def both(self, name, *arguments, look=()):
        """The same call on both sides; then the files in `look`."""
        WORLD.steps += 1
        theirs = self.theirs.do(name, *arguments)
        ours = self.ours.do(name, *arguments)
        if ours != theirs:
            raise AssertionError(f"{name}: the mount answers {shown(ours, theirs)}\n{self.mount.log()}")
        for path in look:
            self.compare(path, self.ours.seen(path), self.theirs.seen(path))
        return theirs

    def compare(self, path, ours, theirs):
        self.compare_mtimes(path, ours, theirs)
        for field in theirs.keys() | ours.keys():
            if ours.get(field) != theirs.get(field):
                raise AssertionError(f"{field} of {path}: the mount has {shown(ours.get(field), theirs.get(field))}\n{self.mount.log()}")

    def compare_mtimes(self, path, ours, theirs):
        """Those that a program set are the same; the others are from the time of this test."""
        ours, theirs = ours.pop("mtime", None), theirs.pop("mtime", None)
        if theirs is None or ours is None:
            return
        if theirs < WORLD.started_ns:
            assert ours == theirs, f"mtime of {path}: the mount has {ours}, the tmpfs {theirs}"
            return
        folder = os.path.isdir(self.theirs.path(path)) and not os.path.islink(self.theirs.path(path))
        # What another machine's programs did below a folder is known to that machine's state file only.
        if not (folder and self.elsewhere):
            assert ours >= WORLD.started_ns, f"mtime of {path}: the mount has {ours}, the tmpfs the present"

    def compare_all(self):
        names = self.theirs.names()
        assert self.ours.names() == names
        for path in names:
            self.compare(path, self.ours.whole(path), self.theirs.whole(path))

    # --- files by name ---

    @rule(path=paths, data=contents)
    def write(self, path, data):
        self.both("write", path, content(*data), look=[path])

    @rule(path=paths, data=contents)
    def append(self, path, data):
        self.both("append", path, content(*data), look=[path])

    @rule(path=paths, offset=offsets, data=contents)
    def overwrite(self, path, offset, data):
        self.both("overwrite", path, offset, content(*data), look=[path])

    @rule(path=paths, mode=modes)
    def create(self, path, mode):
        self.both("create", path, mode, look=[path])

    @rule(path=paths, size=sizes)
    def truncate(self, path, size):
        self.both("truncate", path, size, look=[path])

    @rule(path=paths, offset=offsets, size=sizes)
    def read(self, path, offset, size):
        self.both("read", path, offset, size)

    @rule(path=paths)
    def read_all(self, path):
        self.both("read", path, look=[path])

    @rule(path=paths, offset=offsets, data=contents)
    def map(self, path, offset, data):
        self.both("map", path, offset, content(*data), look=[path])

    # --- the tree ---

    @rule(path=paths)
    def unlink(self, path):
        self.both("unlink", path, look=[path])

    @rule(path=paths, mode=modes)
    def mkdir(self, path, mode):
        self.both("mkdir", path, mode, look=[path])

    @rule(path=st.sampled_from(["a", "b", "a/b", "b/a"]))
    def mkdir_again(self, path):
        self.both("mkdir", path, 0o755, look=[path])

    @rule(path=paths)
    def rmdir(self, path):
        self.both("rmdir", path, look=[path])

    @rule(path=paths, text=st.sampled_from(TARGETS))
    def symlink(self, path, text):
        self.both("symlink", text, path, look=[path])

    @rule(path=paths)
    def readlink(self, path):
        self.both("readlink", path)

    @rule(path=paths, kind=st.sampled_from([stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR]))
    def mknod(self, path, kind):
        device = os.makedev(1, 3) if kind == stat.S_IFCHR else 0
        self.both("mknod", path, kind | 0o640, device, look=[path])

    @rule(old=paths, new=paths, flags=st.sampled_from([0, 0, 0, RENAME_NOREPLACE]))
    def rename(self, old, new, flags):
        self.both("rename", old, new, flags, look=[old, new])

    @rule(old=paths, new=paths)
    def exchange(self, old, new):
        """Of regular files; folders are refused, which the manual says."""
        if all(os.path.isfile(self.theirs.path(name)) and not os.path.islink(self.theirs.path(name)) for name in (old, new)):
            self.both("rename", old, new, RENAME_EXCHANGE, look=[old, new])

    @rule(old=paths, new=paths)
    def link(self, old, new):
        """There are no hard links."""
        WORLD.steps += 1
        possible = os.path.lexists(self.theirs.path(old)) and not os.path.lexists(self.theirs.path(new))
        if possible and os.path.isdir(os.path.dirname(self.theirs.path(new))):
            answer = self.ours.do("link", old, new)
            assert answer == "EPERM", f"link answers {answer}"
            self.compare(new, self.ours.seen(new), self.theirs.seen(new))

    @rule(path=st.sampled_from([".", *PATHS]))
    def listing(self, path):
        self.both("listing", path)

    # --- attributes ---

    @rule(path=paths, mode=modes)
    def chmod(self, path, mode):
        self.both("chmod", path, mode, look=[path])

    @rule(path=paths, uid=owners, gid=owners)
    def chown(self, path, uid, gid):
        self.both("chown", path, uid, gid, look=[path])

    @rule(path=paths, access=times, change=times)
    def utimens(self, path, access, change):
        self.both("utimens", path, access, change, look=[path])

    @rule(path=paths, number=st.integers(0, 3), value=xattr_values, flags=st.sampled_from([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE]))
    def setxattr(self, path, number, value, flags):
        self.both("setxattr", path, WORLD.xattrs[number % len(WORLD.xattrs)], value, flags)

    @rule(path=paths, number=st.integers(0, 3))
    def getxattr(self, path, number):
        self.both("getxattr", path, WORLD.xattrs[number % len(WORLD.xattrs)])
        self.both("listxattr", path)

    @rule(path=paths, number=st.integers(0, 3))
    def removexattr(self, path, number):
        self.both("removexattr", path, WORLD.xattrs[number % len(WORLD.xattrs)])

    # --- open files ---

    @rule(slot=slots, path=paths, flags=st.sampled_from([0, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC, os.O_CREAT | os.O_APPEND]))
    def open(self, slot, path, flags):
        self.both("open", slot, path, os.O_RDWR | flags, look=[path])

    @precondition(some_open)
    @rule(slot=slots, offset=offsets, size=sizes)
    def pread(self, slot, offset, size):
        self.both("pread", self.an_open(slot), offset, size)

    @precondition(some_open)
    @rule(slot=slots, offset=offsets, data=contents)
    def pwrite(self, slot, offset, data):
        self.both("pwrite", self.an_open(slot), offset, content(*data))
        self.both("fstat", self.an_open(slot))

    @precondition(some_open)
    @rule(slot=slots, data=contents)
    def write_at_end(self, slot, data):
        self.both("write_at_end", self.an_open(slot), content(*data))
        self.both("fstat", self.an_open(slot))

    @precondition(some_open)
    @rule(slot=slots, size=sizes)
    def ftruncate(self, slot, size):
        self.both("ftruncate", self.an_open(slot), size)
        self.both("fstat", self.an_open(slot))

    @precondition(some_open)
    @rule(
        slot=slots,
        mode=st.sampled_from([0, FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, FALLOC_ZERO_RANGE]),
        offset=offsets,
        size=sizes,
    )
    def fallocate(self, slot, mode, offset, size):
        slot = self.an_open(slot)
        if mode == FALLOC_ZERO_RANGE and self.theirs.do("fallocate", self.an_open(slot), mode, 0, 1) == "ENOTSUP":
            # A tmpfs cannot; writing zeros is the same to see.
            self.theirs.zero(slot, offset, size)
            answer = self.ours.do("fallocate", slot, mode, offset, size)
            assert answer == (None if size else "EINVAL"), f"zeroing answers {answer}"
            WORLD.steps += 1
        else:
            self.both("fallocate", self.an_open(slot), mode, offset, size)
        self.both("fstat", self.an_open(slot))

    @precondition(some_open)
    @rule(slot=slots, other=slots, offset=offsets, to=offsets, size=sizes)
    def copy_range(self, slot, other, offset, to, size):
        self.both("copy_range", self.an_open(slot), self.an_open(other), offset, to, size)

    @precondition(some_open)
    @rule(slot=slots)
    def fsync(self, slot):
        self.both("fsync", self.an_open(slot))

    @precondition(some_open)
    @rule(slot=slots, mode=modes)
    def fchmod(self, slot, mode):
        self.both("fchmod", self.an_open(slot), mode)
        self.both("fstat", self.an_open(slot))

    @precondition(some_open)
    @rule(slot=slots)
    def close(self, slot):
        self.both("close", self.an_open(slot))

    # --- everything ---

    @rule()
    def look_at_all(self):
        self.compare_all()

    @rule(other_machine=st.sampled_from([False, False, True]), seldom=st.integers(0, 3))
    def remount(self, other_machine, seldom):
        if seldom:
            return
        WORLD.steps += 1
        for side in (self.ours, self.theirs):
            side.close_all()
        self.mount.unmount()
        if other_machine:
            self.states += 1
            self.elsewhere = True
        self._mount()
        self.compare_all()


def shown(ours, theirs):
    """Both values; of long ones where they begin to differ."""
    if isinstance(ours, bytes) and isinstance(theirs, bytes) and len(ours) + len(theirs) > 200:
        at = next((i for i, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]), min(len(ours), len(theirs)))
        return f"{len(ours)} bytes, {ours[at:at + 30]!r} at {at}; the tmpfs {len(theirs)} bytes, {theirs[at:at + 30]!r}"
    return f"{ours!r}, the tmpfs {theirs!r}"


@pytest.fixture(scope="module")
def world():
    global WORLD
    with Tmpfs() as tmpfs, Hpkvd(options=["--max-value", "65536", "--sync", "normal"]) as server:
        WORLD = World(tmpfs, server)
        yield WORLD
        WORLD = None


def test_a_mount_and_a_tmpfs_cannot_be_told_apart(world):
    with_this = settings(
        max_examples=max(STEPS // STEPS_OF_MOST_PROGRAMS, 1),
        stateful_step_count=STEPS_A_PROGRAM,
        derandomize=STEPS <= USUAL_STEPS,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        print_blob=False,
    )
    run_state_machine_as_test(Trees, settings=with_this)
    assert world.steps >= STEPS, f"{world.steps} steps in {world.programs} programs"
