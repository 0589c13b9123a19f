"""A mount, and separately its server, that is killed at every point between two writes of whatever takes several: afterwards each
file is old or new, whole, with modes that fit its content, and once fsck.hpkvfs was there it finds nothing more.

A row of CASES is what is there before and what is then done; what must come of it is seen where nobody dies.
"""

import contextlib
import ctypes
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
from websockets.exceptions import WebSocketException

from lib.crash import contents_of, dies, mount_with, outlives, put_back
from lib.fsck import CORRECTED, OK, run_fsck
from lib.hpkvd import Hpkvd
from lib.layout import content_of, unneeded
from lib.processes import wait_for

pytestmark = pytest.mark.timeout(480)

# Chunks that nothing names go so soon, and so soon fsck.hpkvfs takes what is not named for left over.
TIMES, CHECK_TIMES = "20:5", "2:1:1"

# So that the mount leaves them to the next.
LATE = "100000:20"

# Servers that are killed at different points.
AT_ONCE = 3

MAX_VALUE, CHUNK = 600, 450
OPTIONS = [f"max_value={MAX_VALUE}"]

OLD, NEW = bytes(range(256)) * 6, bytes(reversed(range(256))) * 5
TEXT, TEXT2 = "old text\n" * 20, "new text\n" * 40
OLD_TIME, NEW_TIME = 10**17, 2 * 10**17

# Times before this one are those that a case sets.
LONG_AGO = 10**18

# --- what is done ---

FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 16

_libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def together(*steps):
    def act(path):
        for step in steps:
            step(path)

    return act


def content(data, name="f", mode=None, mtime=None, flags=os.O_TRUNC, owner=None):
    """Written by one descriptor, with attributes set by it before it is closed."""

    def act(path):
        file = os.open(path / name, os.O_WRONLY | os.O_CREAT | flags, 0o666)
        try:
            assert os.write(file, data if isinstance(data, bytes) else data.encode()) == len(data)
            if mode is not None:
                os.fchmod(file, mode)
            if owner is not None:
                os.fchown(file, owner, -1)
            if mtime is not None:
                os.utime(file, ns=(mtime, mtime))
        finally:
            os.close(file)

    return act


def append(data):
    return content(data, flags=os.O_APPEND)


def at(*places, mode=None):
    """place: an offset and what is written there; all with one close, and a mode first."""

    def act(path):
        with open(path / "f", "r+b", buffering=0) as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            for offset, data in places:
                assert os.pwrite(file.fileno(), data, offset) == len(data)

    return act


def truncate(size):
    return lambda path: os.truncate(path / "f", size)


def allocate(mode, offset, size):
    def act(path):
        with open(path / "f", "r+b", buffering=0) as file:
            check(_libc.fallocate(file.fileno(), mode, ctypes.c_long(offset), ctypes.c_long(size)))

    return act


def chmod(mode, name="f"):
    return lambda path: os.chmod(path / name, mode)


def date(mtime, name="f"):
    return lambda path: os.utime(path / name, ns=(mtime, mtime))


def rename(old, new="f"):
    return lambda path: os.rename(path / old, path / new)


def unlink(path):
    os.unlink(path / "f")


def mkdir(path):
    os.mkdir(path / "f", 0o700)


def rmdir(path):
    os.rmdir(path / "f")


def symlink(path):
    os.symlink("a target", path / "f")


def mknod(path):
    os.mknod(path / "f", stat.S_IFCHR | 0o600, os.makedev(1, 3))


def set_xattr(value):
    return lambda path: os.setxattr(path / "f", "user.test", value)


def rsync(path):
    """As rsync does it to a file that was there."""
    temporary = ".f.Xy12Zz"
    content(NEW, temporary, flags=os.O_EXCL)(path)
    date(NEW_TIME, temporary)(path)
    chmod(0o640, temporary)(path)
    rename(temporary)(path)


def sync_folder(path):
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def backup(*steps):
    """As many programs do it before they write the file anew."""
    return together(rename("f", "f~"), *steps, sync_folder)


def nothing(_path):
    pass


LONG = together(content(OLD), append("text behind it\n" * 20))


class Case(NamedTuple):
    before: object
    act: object
    in_place: bool = False  # some chunks may be new
    passing: tuple = ()  # names that are there in between
    steps: tuple = ()  # contents in between, where several things are done


CASES = {
    "new": Case(nothing, content(NEW)),
    "new-plain-private": Case(nothing, content(TEXT, mode=0o600)),
    "new-all": Case(nothing, content(NEW, mode=0o600, mtime=NEW_TIME)),
    "chunks-chunks": Case(content(OLD), content(NEW)),
    "chunks-plain": Case(content(OLD), content(TEXT)),
    "plain-chunks": Case(content(TEXT), content(NEW)),
    "chunks-inline": Case(content(OLD), content(b"\0new")),
    "inline-chunks": Case(content(b"\0old"), content(NEW)),
    "inline-plain": Case(content(b"\0old"), content(TEXT)),
    "chunks-empty": Case(content(OLD), content(b"")),
    "chunks-cut": Case(content(OLD + OLD), truncate(100)),
    # with attributes
    "owner": Case(content(TEXT, mode=0o640), content(TEXT2, mode=0o600, owner=1000)),
    "owner-chunks": Case(content(OLD, mode=0o640, owner=1000), content(NEW, owner=1001)),
    "private-public": Case(content(OLD, mode=0o600, mtime=OLD_TIME), content(NEW, mode=0o644, mtime=NEW_TIME)),
    "public-private": Case(content(OLD, mode=0o644, mtime=OLD_TIME), content(NEW, mode=0o600, mtime=NEW_TIME)),
    "sideways": Case(content(TEXT, mode=0o604), content(TEXT2, mode=0o640)),
    "plain-dated": Case(content(TEXT, mtime=OLD_TIME), content(TEXT2, mtime=NEW_TIME)),
    "dated-undated": Case(content(OLD, mode=0o600, mtime=OLD_TIME), content(NEW)),
    "chmod": Case(content(OLD, mtime=OLD_TIME), chmod(0o600)),
    "utimens": Case(content(OLD, mode=0o600), date(NEW_TIME)),
    "setxattr": Case(content(OLD), set_xattr(b"value")),
    "setxattr-again": Case(together(content(TEXT, mode=0o600), set_xattr(b"old")), set_xattr(b"value")),
    # in place
    "in-place": Case(content(OLD), at((400, b"x" * 800)), in_place=True),
    "in-place-parts": Case(content(OLD), at((10, b"x"), (500, b"y"), (1300, b"z")), in_place=True),
    "in-place-dated": Case(content(OLD, mode=0o600, mtime=OLD_TIME), at((400, b"x" * 800)), in_place=True),
    "in-place-private": Case(content(OLD, mode=0o644), at((400, b"x" * 800), mode=0o600), in_place=True),
    "in-place-set-id": Case(content(OLD, mode=0o4755), at((400, b"x" * 800), mode=0o755), in_place=True),
    "in-place-sideways": Case(content(OLD, mode=0o604), at((400, b"x" * 800), mode=0o640), in_place=True),
    "growth": Case(content(OLD), at((len(OLD), NEW))),
    "growth-inside": Case(content(OLD[:500]), at((500, b"x" * 100))),
    "growth-hole": Case(content(OLD), at((3000, b"x" * 500))),
    "growth-truncate": Case(content(OLD), truncate(4000)),
    "growth-both": Case(content(OLD), at((100, b"x" * 500), (len(OLD), NEW)), in_place=True),
    "shrink": Case(content(OLD), truncate(1000)),
    "shrink-dated": Case(content(OLD, mode=0o600, mtime=OLD_TIME), truncate(1000)),
    "punch": Case(content(OLD), allocate(FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 100, 1100), in_place=True),
    "punch-whole": Case(content(OLD), allocate(FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, CHUNK, CHUNK)),
    "zero": Case(content(OLD), allocate(FALLOC_ZERO_RANGE, 100, 1100), in_place=True),
    "zero-growth": Case(content(OLD), allocate(FALLOC_ZERO_RANGE, 1200, 1500), in_place=True),
    "fill-hole": Case(together(content(OLD), at((3000, NEW))), at((1800, b"x" * 500)), in_place=True),
    # appends
    "append": Case(content(OLD), append("more\n")),
    "append-binary": Case(content(OLD), append(NEW)),
    "append-fold-plain": Case(content(TEXT2), append(TEXT2)),
    "append-fold-text": Case(LONG, append("more text\n" * 30)),
    "append-fold-binary": Case(LONG, append(b"\0more")),
    "append-fold-longer": Case(
        content(TEXT2), together(append(TEXT2 * 2), append(TEXT2 * 2)), steps=(TEXT2 * 3,)
    ),
    "append-inline": Case(content(b"\0old"), append("more")),
    "append-dated": Case(content(TEXT2, mode=0o600, mtime=OLD_TIME), append(TEXT2)),
    # names
    "unlink": Case(content(OLD, mode=0o600, mtime=OLD_TIME), unlink),
    "unlink-plain": Case(content(TEXT, mode=0o600), unlink),
    "mkdir": Case(nothing, mkdir),
    "rmdir": Case(mkdir, rmdir),
    "symlink": Case(nothing, symlink),
    "mknod": Case(nothing, mknod),
    "unlink-symlink": Case(symlink, unlink),
    "symlink-file": Case(symlink, together(content(NEW, "temp"), rename("temp")), passing=("temp",)),
    "symlink-private": Case(
        symlink, together(content(NEW, "temp", mode=0o600), rename("temp")), passing=("temp",)
    ),
    "private-symlink": Case(
        together(content(OLD, mode=0o600), lambda path: os.symlink("a target", path / "temp")), rename("temp"), passing=("temp",)
    ),
    "private-fifo": Case(
        together(content(OLD, mode=0o600), lambda path: os.mkfifo(path / "temp", 0o644)), rename("temp"), passing=("temp",)
    ),
    "rename-over": Case(content(OLD), together(content(NEW, "temp"), rename("temp")), passing=("temp",)),
    "rename-over-private": Case(
        content(OLD, mode=0o600, mtime=OLD_TIME), together(content(NEW, "temp"), rename("temp")), passing=("temp",)
    ),
    "rename-over-public": Case(
        content(OLD), together(content(NEW, "temp", mode=0o600, mtime=NEW_TIME), rename("temp")), passing=("temp",)
    ),
    "rename-over-owner": Case(
        content(OLD, mode=0o640, owner=1000),
        together(content(NEW, "temp", mode=0o640, owner=1001), rename("temp")),
        passing=("temp",),
    ),
    # a backup's renaming waits
    "backup": Case(content(OLD), backup(content(NEW), lambda path: os.unlink(path / "f~"))),
    "backup-stays": Case(content(OLD), backup(content(NEW))),
    "backup-alone": Case(content(OLD, mode=0o600, mtime=OLD_TIME), backup()),
    "backup-private": Case(content(OLD, mode=0o600, mtime=OLD_TIME), backup(content(NEW, mode=0o640, mtime=NEW_TIME))),
    "backup-over-private": Case(
        together(content(TEXT, "f~", mode=0o604), content(OLD, mode=0o640)), backup(content(NEW, mode=0o640))
    ),
    "backup-rename": Case(
        content(OLD, mode=0o600), together(content(NEW, ".f.Xy12Zz", flags=os.O_EXCL), backup(rename(".f.Xy12Zz")))
    ),
    "rsync-new": Case(nothing, rsync),
    "rsync-over": Case(content(OLD, mode=0o600, mtime=OLD_TIME), rsync),
}


class File(NamedTuple):
    type: int
    owner: int
    mode: int
    mtime: int  # None: not one that a case has set
    content: bytes
    xattrs: tuple

    def __repr__(self):
        rest = f" xattrs={self.xattrs}" if self.xattrs else ""
        return f"<{stat.filemode(self.type | self.mode)} {self.owner} mtime={self.mtime} {len(self.content)}:{self.content[:12]!r}{rest}>"


def look(path):
    """All files by name."""
    return {name: look_at(path / name) for name in sorted(os.listdir(path)) if name != "others"}


def look_at(path):
    status = os.lstat(path)
    mode = status.st_mode
    if stat.S_ISREG(mode):
        found = path.read_bytes()
    else:
        found = os.readlink(path).encode() if stat.S_ISLNK(mode) else str(status.st_rdev).encode()
    xattrs = () if stat.S_ISLNK(mode) else tuple((name, os.getxattr(path, name)) for name in sorted(os.listxattr(path)))
    mtime = status.st_mtime_ns if status.st_mtime_ns < LONG_AGO else None
    return File(stat.S_IFMT(mode), status.st_uid, stat.S_IMODE(mode), mtime, found, xattrs)


# --- what may be found ---


def is_mixture(now, old, new):
    if len(now) not in (len(old), len(new)):
        return False
    for start in range(0, len(now), CHUNK):
        piece = now[start : start + CHUNK]
        if piece not in [whole[start : start + len(piece)].ljust(len(piece), b"\0") for whole in (old, new)]:
            return False
    return True


def gained(now, version):
    """Permissions that somebody has, if the content is of this version, and should not."""
    if now.owner == version.owner:
        return now.mode & ~version.mode
    anybody = version.mode >> 6 & version.mode >> 3 & version.mode & 7
    return now.mode & ~(anybody << 6 | anybody << 3 | anybody)


def settings(versions):
    """Owner and mode are those of one version, or the mode is within both."""
    found = {(version.owner, version.mode) for version in versions}
    for version in versions:
        for other in versions:
            found.add((version.owner, version.mode & ~gained(version, other)))
    return found


def is_between(now, old, new, in_place):
    """Whole, and nothing of it is open to more than what it holds was or is to be."""
    if now is None or now in (old, new):
        return now in (old, new)
    versions = [version for version in (old, new) if version]
    belongs = [version for version in versions if (version.type, version.content) == (now.type, now.content)]
    if in_place and is_mixture(now.content, old.content, new.content):
        mode = old.mode & new.mode if now.content != old.content else old.mode
        fits = not now.mode & ~mode and now.mtime in (old.mtime, new.mtime, None)  # the time comes after the chunks
    else:
        fits = any(not gained(now, version) and now.mtime in (version.mtime, None) for version in belongs)
    return (
        fits
        and (now.owner, now.mode) in settings(versions)
        and now.xattrs in [(), *(version.xattrs for version in versions)]
    )


ABSENT = File(0, -1, 0, None, None, ())


def progress(now, old, new):
    """Of all that is to change, what has."""
    rows = zip(now or ABSENT, old or ABSENT, new or ABSENT, strict=True)
    return [value == wanted for value, before, wanted in rows if before != wanted]


def check_states(case, old, states):
    """The last one is the new one, in which nobody died."""
    new = states[-1]
    assert new != old
    was, arrived = {}, False
    for number, now in enumerate(states, 1):
        if case.passing:
            arrives = any(now[name].content == new["f"].content for name in ("f", *case.passing) if name in now)
            assert arrives or not arrived, f"under neither name after write {number}"
            arrived = arrives
        for name in {*old, *new, *now}:
            if name in case.passing:
                assert name not in now or now[name].content in (b"", new["f"].content), number
                continue
            told = f"{name} after write {number}: {now.get(name)}, which was {old.get(name)} and is to be {new.get(name)}"
            between = [old[name]._replace(content=step.encode()) for step in case.steps]
            assert now.get(name) in between or is_between(now.get(name), old.get(name), new.get(name), case.in_place), told
            if not case.in_place:
                parts = progress(now.get(name), old.get(name), new.get(name))
                assert all(after or not before for before, after in zip(was.get(name, parts), parts, strict=True)), told
                was[name] = parts


# --- who dies ---


def sync(path):
    folder = os.open(path, os.O_RDONLY)
    try:
        check(_libc.syncfs(folder))
    finally:
        os.close(folder)


def at_rest(server):
    try:
        return not unneeded(contents_of(server))
    except (OSError, WebSocketException):
        return False  # it is killed just now


def to_the_end(server, mount, act):
    """With all that the mount does later."""

    def whole(path):
        act(path)
        sync(path)
        wait_for(lambda: not mount.running() or at_rest(server), "the removal of what no file needs", every=0.01)

    return whole


def prepare(server, case):
    """What others have, all keys, and how they look."""
    with mount_with(server, TIMES, options=OPTIONS) as mount:
        others = mount.path / "others"
        others.mkdir(0o750)
        content(OLD, "chunks", mode=0o600, mtime=OLD_TIME)(others)
        content(TEXT, "plain")(others)
        os.symlink("plain", others / "link")
    untouched = contents_of(server)
    with mount_with(server, TIMES, options=OPTIONS) as mount:
        to_the_end(server, mount, case.before)(mount.path)
        old = look(mount.path)
    return untouched, contents_of(server), old


def check_store(server, reports, untouched, now):
    """Nothing is wrong for fsck.hpkvfs, and the store holds what a mount shows."""
    words = (server.url, "-o", ",".join(OPTIONS))
    first = run_fsck(reports, "-y", *words, key=server.key, env={"HPKVFS_TEST_TIMES": CHECK_TIMES})
    assert first.returncode in (OK, CORRECTED) and not first.stderr, first
    if first.returncode == CORRECTED:
        second = run_fsck(reports, "-n", *words, key=server.key, env={"HPKVFS_TEST_TIMES": CHECK_TIMES})
        assert (second.returncode, second.stderr) == (OK, ""), (first, second)
    contents = contents_of(server)
    assert not unneeded(contents), first
    assert untouched.items() <= contents.items()
    for name, file in now.items():
        if stat.S_ISREG(file.type):
            assert content_of(contents.get, name) == file.content
    return first.returncode


@pytest.fixture
def reports(tmp_path):
    folder = tmp_path / "reports"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_mount_is_killed(pyserver, reports, case):
    untouched, before, old = prepare(pyserver, case)
    states, died = [], True
    while died:
        put_back(pyserver, before)
        with mount_with(pyserver, TIMES, f"{len(states) + 1}:kill", OPTIONS) as mount:
            look(mount.path)
            died = dies(mount, to_the_end(pyserver, mount, case.act))
        with mount_with(pyserver, TIMES, options=OPTIONS) as mount:
            states.append(look(mount.path))
        code = check_store(pyserver, reports, untouched, states[-1])
    assert code == OK, "where nobody dies nothing is left"
    check_states(case, old, states)
    assert len(states) > 1


def test_a_mount_is_killed_while_it_leaves_chunks_to_the_next(pyserver, reports):
    """At its end it notes them in the journal."""
    case = CASES["chunks-chunks"]
    untouched, before, old = prepare(pyserver, case)
    states, died = [], True
    while died:
        put_back(pyserver, before)
        with mount_with(pyserver, LATE, f"{len(states) + 1}:kill", OPTIONS) as mount:
            look(mount.path)
            died = dies(mount, case.act)
        with mount_with(pyserver, TIMES, options=OPTIONS) as mount:
            states.append(look(mount.path))
            wait_for(lambda: not any(key.startswith(".hpkvfs/j/") for key in pyserver.contents()), "the journal to be empty")
        code = check_store(pyserver, reports, untouched, states[-1])
    assert code == OK, "the next mount has removed them"
    check_states(case, old, states)


@pytest.mark.parametrize("case", ["growth", "growth-hole", "shrink", "punch", "zero-growth"])
def test_nothing_old_shows_in_a_hole_that_the_next_mount_makes(pyserver, case):
    """Chunks that a dead mount has sent, or not yet removed, lie behind the end or in holes."""
    _untouched, before, _old = prepare(pyserver, CASES[case])
    number, died = 1, True
    while died:
        put_back(pyserver, before)
        with mount_with(pyserver, TIMES, f"{number}:kill", OPTIONS) as mount:
            look(mount.path)
            died = dies(mount, CASES[case].act)
        with mount_with(pyserver, TIMES, options=OPTIONS) as mount:
            found = look_at(mount.path / "f").content + bytes(2500)
            truncate(len(found))(mount.path)
            assert look_at(mount.path / "f").content == found, f"killed after write {number}"
            at((len(found), b"the end"))(mount.path)
        with mount_with(pyserver, TIMES, options=OPTIONS) as mount:
            assert look_at(mount.path / "f").content == found + b"the end", f"killed after write {number}"
        number += 1
    assert number > 2


def outlive(server, reports, case, untouched, before, number):
    """What is found on a mount whose server is killed after its N-th write, and whether it was."""
    states = []
    put_back(server, before)
    with mount_with(server, TIMES, f"{number}:stop", OPTIONS) as mount:
        look(mount.path)
        act = together(to_the_end(server, mount, case.act), lambda path: states.append(look(path)))
        stopped = outlives(mount, server, act)
    assert check_store(server, reports, untouched, states[-1]) == OK, f"killed after write {number}"
    return states[-1], stopped


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_server_is_killed(tmp_path, reports, case):
    """Several points at once: that the mounts find their servers again takes most of the time."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Hpkvd(tmp_path / f"store{number}")) for number in range(AT_ONCE)]
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        untouched, before, old = prepare(servers[0], case)
        ends, first = [], 1
        while all(stopped for _state, stopped in ends):
            numbers = range(first, first + AT_ONCE)
            ends += pool.map(lambda server, number: outlive(server, reports, case, untouched, before, number), servers, numbers)
            first += AT_ONCE
    new = ends[-1][0]
    assert new != old and not ends[-1][1] and ends[0][1]
    for number, (now, _stopped) in enumerate(ends, 1):
        assert now == new, f"killed after write {number}"
