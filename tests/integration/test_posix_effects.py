"""What calls that succeed do besides: times of files and of the folders above them, owners, set-id bits, and what stays of a
file without a name. Each test runs on a tmpfs as well, so that it asks for nothing that Linux does not do."""

import contextlib
import os
import stat
import tempfile
import time
from pathlib import Path

import pytest

from lib import posix
from lib.posix import ALICE, BOB, UTIME_NOW, UTIME_OMIT, as_user, do_chown, do_utimensat, error_name, opened, umask
from lib.shell import RENAME_EXCHANGE, RENAME_NOREPLACE, rename2, write

pytestmark = pytest.mark.timeout(240)

# A time in the past that files are given, and how far a clock moves on before a call whose times are looked at: more than
# the ticks by which kernels date files.
OLD = 1_000_000_000_123_456_789
TICK = 0.02
COARSE_CLOCK = 5  # CLOCK_REALTIME_COARSE, which Python's time does not name

FRIENDS = 4100


@pytest.fixture(scope="module")
def both():
    with posix.places() as places:
        yield places


@pytest.fixture(params=["tmpfs", "mount"])
def at(request, both):
    """An empty folder of the test's own in the place."""
    folder = Path(tempfile.mkdtemp(dir=both[request.param].path, prefix="case-"))
    folder.chmod(0o755)
    return folder


def a_file(path, mode=0o644, owner=0, group=None, content=b"content\n"):
    write(path, content)
    os.chown(path, owner, owner if group is None else group)
    os.chmod(path, mode)
    return path


def a_folder(path, mode=0o755, owner=0, group=None):
    os.mkdir(path)
    os.chown(path, owner, owner if group is None else group)
    os.chmod(path, mode)
    return path


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


# --- times ---


def until_after(ns):
    """Returns when what is dated now has a later time: native filesystems go by the kernel's coarse clock."""
    end = time.monotonic() + 30
    while time.clock_gettime_ns(COARSE_CLOCK) <= ns:
        assert time.monotonic() < end, "the clock of files stands still"


@contextlib.contextmanager
def moves(*expected):
    """(path or descriptor, letters): "m" and "c" for the times that move, and no others do. Those of mtime begin as OLD."""
    before = []
    for path, _letters in expected:
        os.utime(path, ns=(OLD, OLD), **({} if isinstance(path, int) else {"follow_symlinks": False}))
        before.append(times_of(path).st_ctime_ns)
    until_after(max(before))
    started = time.time_ns()
    yield
    for (path, letters), ctime in zip(expected, before):
        st = times_of(path)
        assert (st.st_mtime_ns != OLD) == ("m" in letters), f"mtime of {path}: {st.st_mtime_ns}"
        assert (st.st_ctime_ns != ctime) == ("c" in letters), f"ctime of {path}: {st.st_ctime_ns}, before {ctime}"
        for letter, value in (("m", st.st_mtime_ns), ("c", st.st_ctime_ns)):
            assert letter not in letters or value >= started - TICK * 1e9, f"{letter}time of {path} is in the past"


def times_of(path):
    return os.fstat(path) if isinstance(path, int) else os.lstat(path)


MAKERS = {
    "creat": lambda path: write(path, b""),
    "creat with content": lambda path: write(path, b"x" * 5000),
    "mkdir": os.mkdir,
    "mkfifo": os.mkfifo,
    "mknod": lambda path: os.mknod(path, stat.S_IFREG | 0o600),
    "device": lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    "symlink": lambda path: os.symlink("target", path),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_making_dates_the_folder_and_what_is_made(at, kind):
    folder = a_folder(at / kind)
    started = time.time_ns() - TICK * 1e9
    with moves((folder, "mc")):
        MAKERS[kind](folder / "new")
    st = os.lstat(folder / "new")
    assert started <= st.st_mtime_ns <= time.time_ns()
    assert started <= st.st_ctime_ns <= time.time_ns()


@pytest.mark.parametrize("kind", MAKERS)
def test_removing_dates_the_folder(at, kind):
    folder = a_folder(at / kind)
    MAKERS[kind](folder / "old")
    with moves((folder, "mc")):
        (os.rmdir if kind == "mkdir" else os.unlink)(folder / "old")


def test_removing_dates_the_open_file(at):
    with opened(a_file(at / "f"), os.O_RDONLY) as file:
        with moves((file, "c")):
            os.unlink(at / "f")
        assert os.fstat(file).st_nlink == 0


def test_making_a_file_that_exists_dates_nothing(at):
    folder = a_folder(at / "d")
    a_file(folder / "f")
    with moves((folder, ""), (folder / "f", "")):
        os.close(os.open(folder / "f", os.O_WRONLY | os.O_CREAT))


def test_emptying_dates_the_file_alone(at):
    folder = a_folder(at / "d")
    a_file(folder / "f")
    with moves((folder, ""), (folder / "f", "mc")):
        os.close(os.open(folder / "f", os.O_WRONLY | os.O_TRUNC))
    os.chmod(folder / "f", 0o600)
    write(folder / "f", b"content")
    with moves((folder, ""), (folder / "f", "mc")):
        os.truncate(folder / "f", 3)
    with moves((folder, ""), (folder / "f", "mc")):
        os.truncate(folder / "f", 7000)


def test_writing_dates_the_file(at):
    a_file(at / "f")
    with opened(at / "f", os.O_RDWR) as file:
        for letters, call in (
            ("mc", lambda: os.write(file, b"x")),
            ("mc", lambda: os.pwrite(file, b"y" * 5000, 10000)),
            ("mc", lambda: os.ftruncate(file, 100)),
            ("", lambda: os.write(file, b"")),
            ("", lambda: os.read(file, 10)),
            ("", lambda: os.lseek(file, 0, os.SEEK_END)),
        ):
            with moves((file, letters)):
                call()
        os.pwrite(file, b"z", 0)
        before = os.fstat(file).st_mtime_ns
        until_after(before)
    assert os.stat(at / "f").st_mtime_ns == before, "a close is no change"


@pytest.mark.parametrize("kind", ["file", "folder", "fifo"])
def test_attributes_date_only_ctime(at, kind):
    path = {"file": a_file, "folder": a_folder, "fifo": lambda path: os.mkfifo(path) or path}[kind](at / kind)
    with moves((path, "c"), (at, "")):
        os.chmod(path, 0o700)
    with moves((path, "c"), (at, "")):
        os.chown(path, ALICE, BOB)
    with moves((path, "c"), (at, "")):
        os.utime(path, ns=(OLD, OLD))


def test_a_links_own_attributes_are_not_its_targets(at):
    a_file(at / "f")
    os.symlink("f", at / "l")
    with moves((at / "f", ""), (at / "l", "c")):
        os.chown(at / "l", ALICE, BOB, follow_symlinks=False)
    with moves((at / "f", "c"), (at / "l", "")):
        os.chown(at / "l", BOB, ALICE)
    os.utime(at / "l", ns=(5, 7), follow_symlinks=False)
    os.utime(at / "l", ns=(OLD, OLD + 1))
    assert os.lstat(at / "l").st_mtime_ns == 7
    assert os.stat(at / "f").st_mtime_ns == OLD + 1
    assert (os.lstat(at / "l").st_uid, os.stat(at / "f").st_uid) == (ALICE, BOB)


def test_rename_dates_both_folders_and_the_file(at):
    here, there = a_folder(at / "here"), a_folder(at / "there")
    a_file(here / "f")
    with opened(here / "f", os.O_RDONLY) as file, moves((here, "mc"), (there, "mc"), (file, "c")):
        os.rename(here / "f", there / "g")
    with moves((there, "mc"), (here, "")):
        os.rename(there / "g", there / "h")
    os.mkdir(there / "d")
    with moves((there, "mc"), (here, "mc")):
        os.rename(there / "d", here / "d")


def test_refusals_date_nothing(at):
    folder = a_folder(at / "d", mode=0o777)
    a_file(folder / "f")
    a_folder(folder / "sub")
    a_file(folder / "sub/f")
    with moves((folder, ""), (folder / "f", ""), (folder / "sub", "")):
        for expected, user, call, *arguments in (
            ("EEXIST", None, os.mkdir, folder / "f"),
            ("EEXIST", None, os.symlink, "x", folder / "f"),
            ("EISDIR", None, os.unlink, folder / "sub"),
            ("ENOTEMPTY", None, os.rmdir, folder / "sub"),
            ("EEXIST", None, rename2, folder / "f", folder / "sub/f", RENAME_NOREPLACE),
            ("EISDIR", None, os.rename, folder / "f", folder / "sub"),
            ("EPERM", ALICE, os.chmod, folder / "f", 0o777),
            ("EPERM", ALICE, os.chown, folder / "f", ALICE, ALICE),
            ("EACCES", ALICE, os.truncate, folder / "f", 0),
            ("EACCES", ALICE, os.unlink, folder / "sub/f"),
        ):
            assert error_name(call, *arguments, user=user) == expected, (call, arguments)


@pytest.mark.parametrize("ns", [0, 1, 999_999_999, 10**9, -1, -500_000_000, -(10**9), 2**31 * 10**9, OLD, 4_000_000_000_000_000_001])
def test_times_are_as_set_to_the_nanosecond(at, ns):
    seconds, rest = divmod(ns, 10**9)
    for path in (a_file(at / f"f{ns}"), a_folder(at / f"d{ns}")):
        do_utimensat(path.parent, path.name, (seconds, rest), (seconds, rest))
        assert (os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns) == (ns, ns)


def test_one_of_both_times(at):
    a_file(at / "f")
    do_utimensat(at, "f", (5, 1), (7, 2))
    do_utimensat(at, "f", (0, UTIME_OMIT), (8, 3))
    assert (os.stat(at / "f").st_atime_ns, os.stat(at / "f").st_mtime_ns) == (5_000_000_001, 8_000_000_003)
    do_utimensat(at, "f", (6, 4), (0, UTIME_OMIT))
    assert (os.stat(at / "f").st_atime_ns, os.stat(at / "f").st_mtime_ns) == (6_000_000_004, 8_000_000_003)
    before = time.time_ns()
    do_utimensat(at, "f", (0, UTIME_OMIT), (0, UTIME_NOW))
    st = os.stat(at / "f")
    assert st.st_atime_ns == 6_000_000_004 and before - TICK * 1e9 <= st.st_mtime_ns <= time.time_ns()
    with moves((at / "f", "")):
        do_utimensat(at, "f", (0, UTIME_OMIT), (0, UTIME_OMIT))


def test_who_may_write_may_set_the_time_to_now(at):
    a_file(at / "f", mode=0o666)
    with moves((at / "f", "mc")):
        as_user(ALICE, do_utimensat, at, "f", None)


# --- owners and permissions of what is made ---


def test_what_is_made_belongs_to_its_maker(at):
    folder = a_folder(at / "d", mode=0o777)
    for name, make in MAKERS.items():
        if name != "device":
            as_user(ALICE, make, folder / name)
            assert (os.lstat(folder / name).st_uid, os.lstat(folder / name).st_gid) == (ALICE, ALICE), name


def test_a_setgid_folder_gives_its_group(at):
    folder = a_folder(at / "d", mode=0o2777, group=FRIENDS)
    for name, make in MAKERS.items():
        if name != "device":
            as_user(ALICE, make, folder / name)
            assert (os.lstat(folder / name).st_uid, os.lstat(folder / name).st_gid) == (ALICE, FRIENDS), name
    assert mode_of(folder / "mkdir") & 0o2000, "folders inherit the bit"
    assert not mode_of(folder / "creat") & 0o2000


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_the_umask_is_taken_off(at, mask):
    def modes(folder):
        with umask(mask):
            os.close(os.open(folder / "f", os.O_WRONLY | os.O_CREAT, 0o666))
            os.mkdir(folder / "d", 0o777)
            os.mkfifo(folder / "p", 0o666)
            os.mknod(folder / "n", stat.S_IFREG | 0o666)
            os.symlink("x", folder / "l")
        return [mode_of(folder / name) for name in "fdpnl"]

    wanted = [0o666 & ~mask, 0o777 & ~mask, 0o666 & ~mask, 0o666 & ~mask, 0o777]
    assert modes(a_folder(at / f"{mask:o}")) == wanted


def test_bits_of_what_is_made_are_those_that_were_asked_for(at):
    with umask(0):
        for mode in (0, 0o400, 0o4711, 0o2755, 0o1777, 0o7777):
            os.close(os.open(at / f"f{mode:o}", os.O_WRONLY | os.O_CREAT, mode))
            assert mode_of(at / f"f{mode:o}") == mode
        os.mkdir(at / "d", 0o1777)
        assert mode_of(at / "d") == 0o1777


def test_a_new_file_may_be_written_whatever_its_mode(at):
    a_folder(at / "d", owner=ALICE)

    def make():
        with opened(at / "d/f", os.O_RDWR | os.O_CREAT, 0) as file:
            os.write(file, b"written")
            return os.pread(file, 10, 0)

    assert as_user(ALICE, make) == b"written"
    assert mode_of(at / "d/f") == 0
    assert error_name(os.open, at / "d/f", os.O_RDONLY, user=ALICE) == "EACCES"
    assert (at / "d/f").read_bytes() == b"written"


@pytest.mark.parametrize("mode", [0o000, 0o644, 0o4755, 0o2755, 0o6777, 0o1777, 0o7777])
def test_modes_are_as_set(at, mode):
    for path in (a_file(at / f"f{mode:o}"), a_folder(at / f"d{mode:o}")):
        kind = stat.S_IFMT(os.stat(path).st_mode)
        os.chmod(path, mode)
        assert os.stat(path).st_mode == kind | mode


def test_the_largest_owners(at):
    for path in (a_file(at / "f"), a_folder(at / "d")):
        os.chown(path, 4294967294, 4294967294)
        assert (os.stat(path).st_uid, os.stat(path).st_gid) == (4294967294, 4294967294)
        os.chown(path, -1, 7)
        assert (os.stat(path).st_uid, os.stat(path).st_gid) == (4294967294, 7)


def test_an_owner_may_give_a_file_to_a_group_of_his(at):
    a_file(at / "f", owner=ALICE)
    as_user(ALICE, os.chown, at / "f", -1, FRIENDS, groups=[FRIENDS])
    assert (os.stat(at / "f").st_uid, os.stat(at / "f").st_gid) == (ALICE, FRIENDS)
    assert error_name(os.chown, at / "f", -1, BOB, user=ALICE, groups=[FRIENDS]) == "EPERM"


def test_groups_give_access(at):
    a_file(at / "f", mode=0o640, group=FRIENDS)
    assert error_name(os.open, at / "f", os.O_RDONLY, user=ALICE) == "EACCES"
    assert error_name(os.open, at / "f", os.O_RDONLY, user=ALICE, groups=[FRIENDS]) is None
    assert error_name(os.open, at / "f", os.O_WRONLY, user=ALICE, groups=[FRIENDS]) == "EACCES"


def test_a_mode_changes_what_is_allowed_at_once(at):
    a_file(at / "f", mode=0o600)
    a_folder(at / "d", mode=0o700)
    a_file(at / "d/f")
    for path in ("f", "d/f"):
        assert error_name(os.open, at / path, os.O_RDONLY, user=ALICE) == "EACCES"
    os.chmod(at / "f", 0o604)
    os.chmod(at / "d", 0o701)
    for path in ("f", "d/f"):
        assert error_name(os.open, at / path, os.O_RDONLY, user=ALICE) is None
    os.chmod(at / "f", 0o600)
    os.chown(at / "f", ALICE, 0)
    assert error_name(os.open, at / "f", os.O_WRONLY, user=ALICE) is None


# --- sticky folders ---


def test_who_may_remove_from_a_sticky_folder(at):
    folder = a_folder(at / "d", mode=0o1777, owner=BOB)
    for name, owner in (("alices", ALICE), ("bobs", BOB), ("roots", 0), ("more", ALICE)):
        a_file(folder / name, mode=0o666, owner=owner)
    assert error_name(os.unlink, folder / "bobs", user=ALICE) == "EPERM"
    assert error_name(os.rename, folder / "roots", folder / "x", user=ALICE) == "EPERM"
    as_user(ALICE, os.rename, folder / "alices", folder / "mine")
    as_user(ALICE, os.unlink, folder / "mine")
    as_user(BOB, os.unlink, folder / "roots")
    as_user(BOB, os.rename, folder / "more", folder / "bobs")
    assert os.stat(folder / "bobs").st_uid == ALICE
    assert os.listdir(folder) == ["bobs"]


# --- set-id bits ---


@pytest.mark.parametrize("mode, left", [(0o6777, 0o777), (0o4777, 0o777), (0o2777, 0o777), (0o1777, 0o1777)])
def test_a_write_by_another_user_takes_set_id_bits_off(at, mode, left):
    def by_write(path):
        write(path, b"new", os.O_WRONLY)

    def by_truncate(path):
        os.truncate(path, 3)

    def by_open(path):
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))

    for name, call in (("write", by_write), ("truncate", by_truncate), ("open", by_open)):
        path = a_file(at / f"{name}{mode:o}", mode=mode)
        as_user(ALICE, call, path)
        assert oct(mode_of(path)) == oct(left), name


def test_a_write_by_root_leaves_set_id_bits(at):
    path = a_file(at / "f", mode=0o6755)
    write(path, b"new", os.O_WRONLY)
    assert mode_of(path) == 0o6755


@pytest.mark.parametrize("user", [None, ALICE])
def test_a_new_owner_takes_set_id_bits_off(at, user):
    for mode, left in ((0o6755, 0o755), (0o4644, 0o644), (0o2744, 0o2744)):
        path = a_file(at / f"{user}{mode:o}", mode=mode, owner=ALICE)
        as_user(user, os.chown, path, -1, FRIENDS, groups=[FRIENDS])
        assert oct(mode_of(path)) == oct(left)


def test_a_folder_keeps_its_set_id_bits(at):
    folder = a_folder(at / "d", mode=0o6755)
    os.chown(folder, ALICE, FRIENDS)
    assert mode_of(folder) == 0o6755


def test_setgid_of_a_group_that_one_is_not_in(at):
    path = a_file(at / "f", mode=0o644, owner=ALICE, group=FRIENDS)
    as_user(ALICE, os.chmod, path, 0o2755)
    assert mode_of(path) == 0o755
    as_user(ALICE, os.chmod, path, 0o2755, groups=[FRIENDS])
    assert mode_of(path) == 0o2755


# --- files without a name, and under others ---


def test_an_unlinked_file_lives_as_long_as_it_is_open(at):
    a_file(at / "f", mode=0o600)
    with opened(at / "f", os.O_RDWR) as file:
        os.unlink(at / "f")
        a_file(at / "f", content=b"another")
        assert os.fstat(file).st_nlink == 0
        assert os.pread(file, 100, 0) == b"content\n"
        os.pwrite(file, b"Z" * 10000, 5)
        os.fchmod(file, 0o640)
        os.fchown(file, ALICE, BOB)
        os.utime(file, ns=(OLD, OLD))
        os.ftruncate(file, 8000)
        os.fsync(file)
        st = os.fstat(file)
        assert (st.st_size, stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (8000, 0o640, ALICE, BOB)
        assert os.pread(file, 20000, 0) == b"conte" + b"Z" * 7995
    assert (at / "f").read_bytes() == b"another"
    assert mode_of(at / "f") == 0o644


def test_rename_takes_everything_along(at):
    a_file(at / "f", mode=0o640, owner=ALICE, group=FRIENDS, content=b"\0binary" * 2000)
    os.utime(at / "f", ns=(OLD, OLD))
    a_file(at / "old", mode=0o600, content=b"replaced")
    before = os.stat(at / "f")
    with open(at / "old", "rb", buffering=0) as reader:
        os.rename(at / "f", at / "old")
        assert reader.read() == b"replaced"
    after = os.stat(at / "old")
    kept = ("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_ino")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert (at / "old").read_bytes() == b"\0binary" * 2000
    assert os.listdir(at) == ["old"]


def test_rename_of_a_folder_takes_everything_along(at):
    folder = a_folder(at / "d", mode=0o2750, owner=ALICE, group=FRIENDS)
    a_folder(folder / "sub", mode=0o700)
    a_file(folder / "sub/f", mode=0o4711, owner=BOB, content=b"\0" * 7000)
    os.symlink("sub/f", folder / "l")
    os.mkfifo(folder / "p", 0o600)
    for name in ("sub/f", "sub", "."):
        os.utime(folder / name, ns=(OLD, OLD))
    before = posix.attributes(folder)
    os.mkdir(at / "e")
    os.rename(folder, at / "e")
    after = posix.attributes(at / "e")
    without_ctime = {name: values[:4] + values[5:] for name, values in before.items()}
    assert {name: values[:4] + values[5:] for name, values in after.items()} == without_ctime
    st = os.stat(at / "e")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns) == (0o2750, ALICE, FRIENDS, OLD)
    assert os.listdir(at) == ["e"]


@pytest.mark.parametrize("kind", ["symlink", "fifo", "device"])
def test_rename_of_what_is_no_regular_file(at, kind):
    folder = a_folder(at / kind)
    MAKERS[{"fifo": "mkfifo"}.get(kind, kind)](folder / "old")
    a_file(folder / "new")
    before = os.lstat(folder / "old")
    os.rename(folder / "old", folder / "new")
    after = os.lstat(folder / "new")
    assert (after.st_mode, after.st_rdev, after.st_ino) == (before.st_mode, before.st_rdev, before.st_ino)
    assert os.listdir(folder) == ["new"]
    write(folder / "file", b"over it")
    os.rename(folder / "file", folder / "new")
    assert (folder / "new").read_bytes() == b"over it"


def test_exchange_of_files(at):
    a_file(at / "a", mode=0o600, owner=ALICE, content=b"of a")
    a_file(at / "b", mode=0o644, owner=BOB, content=b"\0of b" * 1000)
    rename2(at / "a", at / "b", RENAME_EXCHANGE)
    assert ((at / "a").read_bytes(), (at / "b").read_bytes()) == (b"\0of b" * 1000, b"of a")
    assert [(mode_of(at / name), os.stat(at / name).st_uid) for name in "ab"] == [(0o644, BOB), (0o600, ALICE)]


@pytest.mark.parametrize("content", [b"", b"text\n", b"\0" * 7000], ids=["empty", "text", "chunks"])
def test_a_commit_dates_nothing(at, content):
    with opened(at / f"f{len(content)}", os.O_RDWR | os.O_CREAT) as file:
        os.write(file, content)
        with moves((file, "")):
            os.fsync(file)


def test_a_removed_folder_that_is_somebodys_own(at):
    """It is empty, and its files can no longer be made."""
    folder = a_folder(at / "d")
    # What is no longer on this machine may be called stale instead.
    gone = ("ENOENT", "ESTALE")
    with opened(folder, os.O_RDONLY) as file:
        os.rmdir(folder)
        assert os.fstat(file).st_nlink == 0
        assert os.listdir(file) == []
        assert error_name(lambda: os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=file)) in gone
        assert error_name(lambda: os.mkdir("new", dir_fd=file)) in gone


def test_symlinks_hold_any_text(at):
    for number, target in enumerate(["x", "../a/b", "/", "a" * 1000, "ü 𐍈 \n", "no/such/place", "."]):
        os.symlink(target, at / f"l{number}")
        assert os.readlink(at / f"l{number}") == target
        st = os.lstat(at / f"l{number}")
        assert (stat.S_ISLNK(st.st_mode), st.st_size) == (True, len(os.fsencode(target)))


def test_special_files_are_what_was_made(at):
    for name, kind, device in (
        ("char", stat.S_IFCHR, os.makedev(1, 3)),
        ("block", stat.S_IFBLK, os.makedev(250, 77000)),
        ("fifo", stat.S_IFIFO, 0),
        ("socket", stat.S_IFSOCK, 0),
    ):
        os.mknod(at / name, kind | 0o640, device)
        st = os.lstat(at / name)
        assert (stat.S_IFMT(st.st_mode), st.st_rdev, st.st_nlink, st.st_size) == (kind, device, 1, 0)
    assert sorted((entry.name, entry.is_file(), entry.is_dir()) for entry in os.scandir(at)) == [
        (name, False, False) for name in ("block", "char", "fifo", "socket")
    ]


def test_a_fifo_is_a_pipe(at):
    os.mkfifo(at / "p")
    with opened(at / "p", os.O_RDONLY | os.O_NONBLOCK) as reader, opened(at / "p", os.O_WRONLY) as writer:
        os.write(writer, b"through")
        assert os.read(reader, 100) == b"through"


def test_a_changed_owner_alone(at):
    """-1 leaves one of both."""
    path = a_file(at / "f", owner=ALICE, group=BOB)
    do_chown(at, "f", 7, -1)
    assert (os.stat(path).st_uid, os.stat(path).st_gid) == (7, BOB)
    do_chown(at, "f", -1, 8)
    assert (os.stat(path).st_uid, os.stat(path).st_gid) == (7, 8)
