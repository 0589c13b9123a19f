"""The errors that the manual pages promise, call by call: each row is tried on a tmpfs and on a mount of ours, and nothing
that was refused has changed anything."""

import os
import stat

import pytest

from lib import posix
from lib.hpkvd import Hpkvd
from lib.mount import Mount
from lib.posix import (
    ALICE,
    ROOT,
    Tmpfs,
    do_access,
    do_chdir,
    do_chmod,
    do_chown,
    do_creat,
    do_ftruncate,
    do_lchown,
    do_link,
    do_list,
    do_lstat,
    do_mkdir,
    do_mkfifo,
    do_mknod,
    do_open,
    do_readlink,
    do_rename,
    do_rmdir,
    do_stat,
    do_statvfs,
    do_symlink,
    do_truncate,
    do_unlink,
    do_utimensat,
)
from lib.shell import RENAME_EXCHANGE, RENAME_NOREPLACE

pytestmark = pytest.mark.timeout(240)

# No file system takes a name of so many bytes, and no call a path of so many.
LONG_NAME = "n" * 1025
LONG_PATH = "dir/../" * 600 + "file"

RD, WR, CREATE = os.O_RDONLY, os.O_WRONLY, os.O_CREAT
NEW = os.O_WRONLY | os.O_CREAT
EXCLUSIVE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
NOREPLACE, EXCHANGE = RENAME_NOREPLACE, RENAME_EXCHANGE
NOFOLLOW = 0x100


@pytest.fixture(scope="module")
def staged():
    """Both places with the same stage; at the end it is as it was."""
    with posix.places() as places:
        paths = {name: places[name].path for name in ("tmpfs", "mount")}
        for path in paths.values():
            posix.stage(path)
        before = {name: posix.attributes(path) for name, path in paths.items()}
        yield paths
        for name, path in paths.items():
            assert posix.attributes(path) == before[name], f"calls that failed have changed something on the {name}"


def check(staged, rows, only=None):
    """Rows of (error, user, call, arguments ...)."""
    wrong = []
    for expected, user, call, *arguments in rows:
        for name, path in staged.items():
            if only not in (None, name):
                continue
            error = posix.error_name(call, path, *arguments, user=user)
            if error != expected:
                shown = ", ".join(repr(word)[:60] for word in arguments)
                wrong.append(f"{name}: {call.__name__}({shown}) by {user or 'root'}: {error}, not {expected}")
    assert not wrong, "\n".join(wrong)


# --- what is wrong with a path on the way to its last name ---

# Each call with a path of its own as the place of `{}`.
CALLS = {
    "open": (do_open, "{}", RD),
    "open to write": (do_open, "{}", WR),
    "open to create": (do_open, "{}", NEW),
    "open to create exclusively": (do_open, "{}", EXCLUSIVE),
    "open a directory": (do_open, "{}", os.O_DIRECTORY),
    "open a path": (do_open, "{}", os.O_PATH),
    "creat": (do_creat, "{}"),
    "mkdir": (do_mkdir, "{}"),
    "mknod": (do_mknod, "{}"),
    "mknod of a device": (do_mknod, "{}", stat.S_IFCHR, os.makedev(1, 3)),
    "mkfifo": (do_mkfifo, "{}"),
    "symlink": (do_symlink, "target", "{}"),
    "readlink": (do_readlink, "{}"),
    "link from": (do_link, "{}", "new"),
    "link to": (do_link, "file", "{}"),
    "rename from": (do_rename, "{}", "new"),
    "rename to": (do_rename, "file", "{}"),
    "rename of a directory to": (do_rename, "empty", "{}"),
    "unlink": (do_unlink, "{}"),
    "rmdir": (do_rmdir, "{}"),
    "chmod": (do_chmod, "{}"),
    "chown": (do_chown, "{}"),
    "lchown": (do_lchown, "{}"),
    "truncate": (do_truncate, "{}"),
    "utimensat": (do_utimensat, "{}"),
    "stat": (do_stat, "{}"),
    "lstat": (do_lstat, "{}"),
    "access": (do_access, "{}"),
    "list": (do_list, "{}"),
    "chdir": (do_chdir, "{}"),
    "statvfs": (do_statvfs, "{}"),
}
WAYS = [
    ("ENOENT", ROOT, ""),
    ("ENOENT", ROOT, "absent/x"),
    ("ENOENT", ROOT, "dir/absent/x"),
    ("ENOENT", ROOT, "dangling/x"),
    ("ENOTDIR", ROOT, "file/x"),
    ("ENOTDIR", ROOT, "link/x"),
    ("ENOTDIR", ROOT, "dir/in/x/y"),
    ("ENOTDIR", ROOT, "fifo/x"),
    ("ENOTDIR", ROOT, "socket/x"),
    ("ELOOP", ROOT, "loop/x"),
    ("ELOOP", ROOT, "self/x"),
    ("ENAMETOOLONG", ROOT, LONG_NAME),
    ("ENAMETOOLONG", ROOT, "dir/" + LONG_NAME),
    ("ENAMETOOLONG", ROOT, LONG_NAME + "/x"),
    ("ENAMETOOLONG", ROOT, LONG_PATH),
    ("EACCES", ALICE, "closed/in"),
    ("EACCES", ALICE, "closed/absent"),
    ("EACCES", ALICE, "closed/sub/x"),
    ("EACCES", ALICE, "unsearchable/in"),
]


@pytest.mark.parametrize("name", CALLS)
def test_ways_that_lead_nowhere(staged, name):
    call, *arguments = CALLS[name]
    rows = []
    for expected, user, path in WAYS:
        if user is not ROOT and name in ("link to", "rename to", "rename of a directory to"):
            arguments[0] = "home/in" if call is do_link or "directory" not in name else "home/sub"
        rows.append((expected, user, call, *[path if word == "{}" else word for word in arguments]))
    check(staged, rows)


# --- what is wrong with what the path names ---

OPEN = [
    ("ENOENT", ROOT, do_open, "absent", RD),
    ("ENOENT", ROOT, do_open, "absent", WR),
    ("ENOENT", ROOT, do_open, "absent", WR | os.O_TRUNC),
    ("ENOENT", ROOT, do_open, "dangling", RD),
    ("ENOENT", ROOT, do_open, "absent/", RD),
    ("EISDIR", ROOT, do_open, "dir", WR),
    ("EISDIR", ROOT, do_open, "dir", os.O_RDWR),
    ("EISDIR", ROOT, do_open, "dir", RD | os.O_TRUNC),
    ("EISDIR", ROOT, do_open, "dir", CREATE),
    ("EISDIR", ROOT, do_open, "dirlink", WR),
    ("EISDIR", ROOT, do_open, "absent/", NEW),
    ("EISDIR", ROOT, do_creat, "dir"),
    ("EISDIR", ROOT, do_creat, "dirlink"),
    ("EEXIST", ROOT, do_open, "file", EXCLUSIVE),
    ("EEXIST", ROOT, do_open, "dir", EXCLUSIVE),
    ("EEXIST", ROOT, do_open, "link", EXCLUSIVE),
    ("EEXIST", ROOT, do_open, "dangling", EXCLUSIVE),
    ("EEXIST", ROOT, do_open, "loop", EXCLUSIVE),
    ("EEXIST", ROOT, do_open, "fifo", EXCLUSIVE),
    ("ENOTDIR", ROOT, do_open, "file", os.O_DIRECTORY),
    ("ENOTDIR", ROOT, do_open, "link", os.O_DIRECTORY),
    ("ENOTDIR", ROOT, do_open, "fifo", os.O_DIRECTORY),
    ("ENOTDIR", ROOT, do_open, "file/", RD),
    ("ENOTDIR", ROOT, do_open, "dirlink", os.O_DIRECTORY | os.O_NOFOLLOW),
    ("ELOOP", ROOT, do_open, "loop", RD),
    ("ELOOP", ROOT, do_open, "loop", NEW),
    ("ELOOP", ROOT, do_open, "link", RD | os.O_NOFOLLOW),
    ("ELOOP", ROOT, do_open, "dangling", NEW | os.O_NOFOLLOW),
    ("ELOOP", ROOT, do_creat, "self"),
    ("ENXIO", ROOT, do_open, "fifo", WR | os.O_NONBLOCK),
    ("ENXIO", ROOT, do_open, "socket", RD),
    ("EACCES", ALICE, do_open, "secret", RD),
    ("EACCES", ALICE, do_open, "file", WR),
    ("EACCES", ALICE, do_open, "file", os.O_RDWR),
    ("EACCES", ALICE, do_open, "file", RD | os.O_TRUNC),
    ("EACCES", ALICE, do_open, "fifo", WR | os.O_NONBLOCK),
    ("EACCES", ALICE, do_open, "closed", RD),
    ("EACCES", ALICE, do_open, "dir/new", NEW),
    ("EACCES", ALICE, do_open, "readonly/new", NEW),
    ("EACCES", ALICE, do_creat, "file"),
    ("EACCES", ALICE, do_creat, "dir/new"),
    ("EPERM", ALICE, do_open, "file", RD | os.O_NOATIME),
]
MAKE = [
    ("EEXIST", ROOT, do_mkdir, "file"),
    ("EEXIST", ROOT, do_mkdir, "dir"),
    ("EEXIST", ROOT, do_mkdir, "dir/"),
    ("EEXIST", ROOT, do_mkdir, "dir/."),
    ("EEXIST", ROOT, do_mkdir, "link"),
    ("EEXIST", ROOT, do_mkdir, "dangling"),
    ("EEXIST", ROOT, do_mkdir, "loop"),
    ("EEXIST", ROOT, do_mkdir, "fifo"),
    ("EEXIST", ROOT, do_mkdir, "."),
    ("ENOENT", ROOT, do_mkdir, "absent/."),
    ("EACCES", ALICE, do_mkdir, "dir/new"),
    ("EACCES", ALICE, do_mkdir, "readonly/new"),
    ("EEXIST", ALICE, do_mkdir, "dir/in"),
    ("EEXIST", ROOT, do_mknod, "file"),
    ("EEXIST", ROOT, do_mknod, "dir"),
    ("EEXIST", ROOT, do_mknod, "dangling"),
    ("ENOENT", ROOT, do_mknod, "absent/"),
    ("EACCES", ALICE, do_mknod, "dir/new"),
    ("EPERM", ALICE, do_mknod, "home/new", stat.S_IFCHR, os.makedev(1, 3)),
    ("EPERM", ALICE, do_mknod, "home/new", stat.S_IFBLK, os.makedev(7, 0)),
    ("EPERM", ROOT, do_mknod, "new", stat.S_IFDIR),
    ("EINVAL", ROOT, do_mknod, "new", stat.S_IFLNK),
    ("EEXIST", ROOT, do_mkfifo, "file"),
    ("EEXIST", ROOT, do_mkfifo, "fifo"),
    ("EEXIST", ROOT, do_mkfifo, "link"),
    ("EACCES", ALICE, do_mkfifo, "dir/new"),
    ("EACCES", ALICE, do_mkfifo, "readonly/new"),
    ("EEXIST", ROOT, do_symlink, "target", "file"),
    ("EEXIST", ROOT, do_symlink, "target", "dir"),
    ("EEXIST", ROOT, do_symlink, "target", "dangling"),
    ("ENOENT", ROOT, do_symlink, "", "new"),
    ("ENOENT", ROOT, do_symlink, "target", "absent/"),
    ("ENAMETOOLONG", ROOT, do_symlink, "t" * 4096, "new"),
    ("EACCES", ALICE, do_symlink, "target", "dir/new"),
    ("EINVAL", ROOT, do_readlink, "file"),
    ("EINVAL", ROOT, do_readlink, "dir"),
    ("EINVAL", ROOT, do_readlink, "fifo"),
    ("EINVAL", ROOT, do_readlink, "dirlink/"),
    ("ENOENT", ROOT, do_readlink, "absent"),
]
LINK = [
    ("ENOENT", ROOT, do_link, "absent", "new"),
    ("EEXIST", ROOT, do_link, "file", "other"),
    ("EEXIST", ROOT, do_link, "file", "file"),
    ("EEXIST", ROOT, do_link, "file", "dir"),
    ("EEXIST", ROOT, do_link, "file", "dangling"),
    ("EPERM", ROOT, do_link, "dir", "new"),
    ("EACCES", ALICE, do_link, "alices", "dir/new"),
]
RENAME = [
    ("ENOENT", ROOT, do_rename, "absent", "new"),
    ("ENOENT", ROOT, do_rename, "absent", "file"),
    ("ENOENT", ROOT, do_rename, "file", "new", EXCHANGE),
    ("ENOTDIR", ROOT, do_rename, "file", "dangling/"),
    ("ENOTDIR", ROOT, do_rename, "dir", "file"),
    ("ENOTDIR", ROOT, do_rename, "dir", "fifo"),
    ("ENOTDIR", ROOT, do_rename, "empty", "dirlink"),
    ("ENOTDIR", ROOT, do_rename, "empty", "dangling"),
    ("ENOTDIR", ROOT, do_rename, "file", "new/"),
    ("ENOTDIR", ROOT, do_rename, "file/", "new"),
    ("EISDIR", ROOT, do_rename, "file", "dir"),
    ("EISDIR", ROOT, do_rename, "file", "empty"),
    ("EISDIR", ROOT, do_rename, "link", "empty"),
    ("EISDIR", ROOT, do_rename, "fifo", "empty"),
    ("ENOTEMPTY", ROOT, do_rename, "empty", "full"),
    ("ENOTEMPTY", ROOT, do_rename, "dir", "full"),
    ("ENOTEMPTY", ROOT, do_rename, "full/sub", "full"),
    ("EINVAL", ROOT, do_rename, "dir", "dir/new"),
    ("EINVAL", ROOT, do_rename, "full", "full/sub/new"),
    ("EINVAL", ROOT, do_rename, "full", "full/sub"),
    ("EINVAL", ROOT, do_rename, "file", "other", NOREPLACE | EXCHANGE),
    ("EINVAL", ROOT, do_rename, "file", "new", 1 << 20),
    ("EBUSY", ROOT, do_rename, "dir/.", "new"),
    ("EBUSY", ROOT, do_rename, "dir", "empty/."),
    ("EBUSY", ROOT, do_rename, "dir", "empty/.."),
    ("EEXIST", ROOT, do_rename, "file", "other", NOREPLACE),
    ("EEXIST", ROOT, do_rename, "file", "dir", NOREPLACE),
    ("EEXIST", ROOT, do_rename, "dir", "empty", NOREPLACE),
    ("EEXIST", ROOT, do_rename, "file", "dangling", NOREPLACE),
    ("EEXIST", ROOT, do_rename, "file", "file", NOREPLACE),
    ("EACCES", ALICE, do_rename, "home/in", "dir/new"),
    ("EACCES", ALICE, do_rename, "dir/in", "home/new"),
    ("EACCES", ALICE, do_rename, "readonly/in", "readonly/new"),
    ("EACCES", ALICE, do_rename, "home/roots-dir", "home/sub/new"),
    ("EPERM", ALICE, do_rename, "sticky/bob", "sticky/new"),
    ("EPERM", ALICE, do_rename, "sticky/root", "home/new"),
    ("EPERM", ALICE, do_rename, "sticky/alice", "sticky/bob"),
    ("EPERM", ALICE, do_rename, "home/in", "sticky/root"),
    ("EPERM", ALICE, do_rename, "sticky/bob-dir", "sticky/new"),
]
REMOVE = [
    ("ENOENT", ROOT, do_unlink, "absent"),
    ("ENOENT", ROOT, do_unlink, "absent/"),
    ("EISDIR", ROOT, do_unlink, "dir"),
    ("EISDIR", ROOT, do_unlink, "empty"),
    ("EISDIR", ROOT, do_unlink, "empty/"),
    ("ENOTDIR", ROOT, do_unlink, "file/"),
    ("ENOTDIR", ROOT, do_unlink, "dirlink/"),
    ("EACCES", ALICE, do_unlink, "dir/in"),
    ("EACCES", ALICE, do_unlink, "readonly/in"),
    ("EPERM", ALICE, do_unlink, "sticky/bob"),
    ("EPERM", ALICE, do_unlink, "sticky/root"),
    ("ENOENT", ROOT, do_rmdir, "absent"),
    ("ENOTDIR", ROOT, do_rmdir, "file"),
    ("ENOTDIR", ROOT, do_rmdir, "dirlink"),
    ("ENOTDIR", ROOT, do_rmdir, "dirlink/"),
    ("ENOTDIR", ROOT, do_rmdir, "fifo"),
    ("ENOTDIR", ROOT, do_rmdir, "dangling"),
    ("ENOTEMPTY", ROOT, do_rmdir, "full"),
    ("ENOTEMPTY", ROOT, do_rmdir, "dir"),
    ("ENOTEMPTY", ROOT, do_rmdir, "full/sub/.."),
    ("EINVAL", ROOT, do_rmdir, "empty/."),
    ("EACCES", ALICE, do_rmdir, "full/sub"),
    ("EACCES", ALICE, do_rmdir, "readonly/sub"),
    ("EPERM", ALICE, do_rmdir, "sticky/bob-dir"),
]
CHANGE = [
    ("ENOENT", ROOT, do_chmod, "absent"),
    ("ENOENT", ROOT, do_chmod, "dangling"),
    ("ELOOP", ROOT, do_chmod, "loop"),
    ("ENOTDIR", ROOT, do_chmod, "file/"),
    ("EPERM", ALICE, do_chmod, "file"),
    ("EPERM", ALICE, do_chmod, "dir"),
    ("EPERM", ALICE, do_chmod, "link"),
    ("EPERM", ALICE, do_chmod, "fifo"),
    ("EPERM", ALICE, do_chmod, "writable"),
    ("ENOENT", ROOT, do_chown, "absent"),
    ("ENOENT", ROOT, do_chown, "dangling"),
    ("ELOOP", ROOT, do_chown, "self"),
    ("EPERM", ALICE, do_chown, "file", ALICE, ALICE),
    ("EPERM", ALICE, do_chown, "alices", 0, -1),
    ("EPERM", ALICE, do_chown, "alices", -1, 0),
    ("EPERM", ALICE, do_chown, "home", 0, ALICE),
    ("EPERM", ALICE, do_chown, "fifo", ALICE, ALICE),
    ("ENOENT", ROOT, do_lchown, "absent"),
    ("EPERM", ALICE, do_lchown, "link", ALICE, ALICE),
    ("ENOENT", ROOT, do_truncate, "absent"),
    ("ENOENT", ROOT, do_truncate, "dangling"),
    ("ELOOP", ROOT, do_truncate, "loop"),
    ("EISDIR", ROOT, do_truncate, "dir"),
    ("EISDIR", ROOT, do_truncate, "dirlink"),
    ("ENOTDIR", ROOT, do_truncate, "file/"),
    ("EINVAL", ROOT, do_truncate, "file", -1),
    ("EINVAL", ROOT, do_truncate, "fifo"),
    ("EACCES", ALICE, do_truncate, "file"),
    ("EACCES", ALICE, do_truncate, "secret"),
    ("EACCES", ALICE, do_truncate, "link"),
    ("EINVAL", ROOT, do_ftruncate, "file", RD),
    ("EINVAL", ROOT, do_ftruncate, "file", WR, -1),
    ("EINVAL", ROOT, do_ftruncate, "dir", RD),
    ("ENOENT", ROOT, do_utimensat, "absent"),
    ("ENOENT", ROOT, do_utimensat, "dangling"),
    ("ELOOP", ROOT, do_utimensat, "loop"),
    ("EINVAL", ROOT, do_utimensat, "file", (1, 1000000000), (1, 0)),
    ("EINVAL", ROOT, do_utimensat, "file", (1, 0), (1, -1)),
    ("EINVAL", ROOT, do_utimensat, "file", (1, 0), (1, 0), 1 << 20),
    ("EACCES", ALICE, do_utimensat, "file", None),
    ("EACCES", ALICE, do_utimensat, "file", (0, posix.UTIME_NOW), (0, posix.UTIME_NOW)),
    ("EPERM", ALICE, do_utimensat, "file", (1, 0), (1, 0)),
    ("EPERM", ALICE, do_utimensat, "writable", (1, 0), (1, 0)),
    ("EPERM", ALICE, do_utimensat, "writable", (0, posix.UTIME_NOW), (0, posix.UTIME_OMIT)),
    ("EPERM", ALICE, do_utimensat, "link", (1, 0), (1, 0), NOFOLLOW),
]
READ = [
    ("ENOENT", ROOT, do_stat, "dangling"),
    ("ELOOP", ROOT, do_stat, "loop"),
    ("ENOTDIR", ROOT, do_stat, "file/"),
    ("ENOTDIR", ROOT, do_stat, "file/."),
    (None, ROOT, do_lstat, "loop"),
    ("ENOTDIR", ROOT, do_list, "file"),
    ("ENOTDIR", ROOT, do_list, "fifo"),
    ("ENOTDIR", ROOT, do_chdir, "link"),
    ("EACCES", ALICE, do_list, "closed"),
    ("EACCES", ALICE, do_chdir, "closed"),
    ("EACCES", ALICE, do_chdir, "unsearchable"),
    (None, ALICE, do_list, "unsearchable"),
    ("EACCES", ALICE, do_access, "file", os.W_OK),
    ("EACCES", ALICE, do_access, "file", os.X_OK),
    ("EACCES", ALICE, do_access, "secret", os.R_OK),
    ("EACCES", ROOT, do_access, "secret", os.X_OK),
    (None, ALICE, do_access, "secret"),
    (None, ALICE, do_access, "writable", os.R_OK | os.W_OK),
]


@pytest.mark.parametrize(
    "rows",
    [OPEN, MAKE, LINK, RENAME, REMOVE, CHANGE, READ],
    ids=["open", "make", "link", "rename", "remove", "change", "read"],
)
def test_errors(staged, rows):
    check(staged, rows)


def test_hard_links_are_refused(staged):
    """The one row that a tmpfs answers otherwise: it would make the link."""
    check(staged, [("EPERM", ROOT, do_link, name, "new") for name in ("file", "link", "fifo")], only="mount")


def test_descriptors(staged):
    """Errors of calls on what is open."""

    def at_descriptor(path, name, flags, call):
        file = os.open(path / name, flags)
        try:
            call(file)
        finally:
            os.close(file)

    rows = [
        ("EISDIR", ROOT, at_descriptor, "dir", RD, lambda file: os.read(file, 10)),
        ("EBADF", ROOT, at_descriptor, "file", WR, lambda file: os.read(file, 10)),
        ("EBADF", ROOT, at_descriptor, "file", RD, lambda file: os.write(file, b"x")),
        ("EBADF", ROOT, at_descriptor, "file", os.O_PATH, lambda file: os.fchmod(file, 0o600)),
        ("EINVAL", ROOT, at_descriptor, "file", RD, lambda file: os.lseek(file, -1, os.SEEK_SET)),
        ("ENXIO", ROOT, at_descriptor, "file", RD, lambda file: os.lseek(file, 100, os.SEEK_DATA)),
        ("ENXIO", ROOT, at_descriptor, "file", RD, lambda file: os.lseek(file, 100, os.SEEK_HOLE)),
        ("EBADF", ROOT, at_descriptor, "file", RD, lambda file: os.posix_fallocate(file, 0, 10)),
        ("EPERM", ALICE, at_descriptor, "file", RD, lambda file: os.fchmod(file, 0o600)),
        ("EPERM", ALICE, at_descriptor, "file", RD, lambda file: os.fchown(file, ALICE, ALICE)),
        ("ENOTDIR", ROOT, at_descriptor, "file", RD, lambda file: os.stat("x", dir_fd=file)),
        ("ENOTDIR", ROOT, at_descriptor, "file", RD, os.fchdir),
    ]
    check(staged, rows)


def test_read_only(staged):
    """Every call that would change something answers EROFS, and those that would not work anyway their own error."""
    changes = [
        (do_open, "file", WR),
        (do_open, "file", os.O_RDWR),
        (do_open, "file", RD | os.O_TRUNC),
        (do_open, "new", NEW),
        (do_creat, "file"),
        (do_mkdir, "new"),
        (do_mknod, "new"),
        (do_mkfifo, "new"),
        (do_symlink, "target", "new"),
        (do_link, "file", "new"),
        (do_rename, "file", "new"),
        (do_rename, "dir", "empty"),
        (do_unlink, "file"),
        (do_rmdir, "empty"),
        (do_chmod, "file"),
        (do_chmod, "dir"),
        (do_chown, "file"),
        (do_lchown, "link"),
        (do_truncate, "file"),
        (do_utimensat, "file"),
        (do_utimensat, "dir", None),
        (do_access, "file", os.W_OK),
    ]
    others = [
        ("EEXIST", ROOT, do_open, "file", EXCLUSIVE),
        ("EEXIST", ROOT, do_mkdir, "dir"),
        ("ENOENT", ROOT, do_truncate, "absent"),
        ("ENOENT", ROOT, do_open, "absent", WR),
        ("EISDIR", ROOT, do_open, "dir", WR),
        (None, ROOT, do_open, "file", RD),
        (None, ROOT, do_list, "dir"),
    ]
    with Tmpfs() as tmpfs, Hpkvd() as server:
        posix.stage(tmpfs.path)
        # unmounted: what it has changed last is in the store before the other looks
        with Mount(server.url, posix.passable_folder(), posix.MOUNT_OPTIONS, key=server.key) as writer:
            posix.stage(writer.path)
        options = [*posix.MOUNT_OPTIONS, "ro"]
        with Mount(server.url, posix.passable_folder(), options, key=server.key) as reader:
            paths = {"tmpfs": tmpfs.read_only(), "mount": reader.path}
            before = {name: posix.attributes(path) for name, path in paths.items()}
            check(paths, [("EROFS", ROOT, *change) for change in changes] + others)
            assert {name: posix.attributes(path) for name, path in paths.items()} == before
