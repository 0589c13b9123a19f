"""Names that a key cannot hold are refused by every call that takes one, by the same error, and nothing is made; those that it
can hold are as long as the file system says."""

import os
import stat

import pytest

from lib import posix
from lib.posix import (
    do_chmod,
    do_creat,
    do_link,
    do_lstat,
    do_mkdir,
    do_mkfifo,
    do_mknod,
    do_open,
    do_readlink,
    do_rename,
    do_rmdir,
    do_stat,
    do_symlink,
    do_truncate,
    do_unlink,
    do_utimensat,
)

pytestmark = pytest.mark.timeout(240)

MAX_KEY = 200
RECORD = len(".hpkvfs/m/")

MAKE = [
    (do_open, "{}", os.O_WRONLY | os.O_CREAT),
    (do_creat, "{}"),
    (do_mkdir, "{}"),
    (do_mknod, "{}"),
    (do_mknod, "{}", stat.S_IFCHR, os.makedev(1, 3)),
    (do_mkfifo, "{}"),
    (do_symlink, "target", "{}"),
    (do_rename, "file", "{}"),
    (do_rename, "folder", "{}"),
    (do_link, "file", "{}"),
]
FIND = [
    (do_open, "{}", os.O_RDONLY),
    (do_stat, "{}"),
    (do_lstat, "{}"),
    (do_readlink, "{}"),
    (do_unlink, "{}"),
    (do_rmdir, "{}"),
    (do_chmod, "{}"),
    (do_truncate, "{}"),
    (do_utimensat, "{}"),
    (do_rename, "{}", "new"),
    (do_link, "{}", "new"),
]


@pytest.fixture(scope="module")
def at():
    with posix.places(f"max_key={MAX_KEY}") as places:
        path = places["mount"].path
        (path / "file").write_bytes(b"content")
        (path / "folder").mkdir()
        yield path


def answers(at, calls, name):
    """The errors of all calls with this name."""
    return {posix.error_name(call, at, *[name if word == "{}" else word for word in words]) for call, *words in calls}


@pytest.mark.parametrize("calls", [MAKE, FIND], ids=["make", "find"])
@pytest.mark.parametrize("folder", ["", "folder/"])
@pytest.mark.parametrize("name", ["\udcff", "a\udcc3", "\udcc0\udcaf", "\udced\udca0\udc80"])
def test_what_is_no_utf8(at, calls, folder, name):
    assert answers(at, calls, folder + name) == {"EILSEQ"}
    assert sorted(os.listdir(at)) == ["file", "folder"]


@pytest.mark.parametrize("calls", [MAKE, FIND], ids=["make", "find"])
@pytest.mark.parametrize("name", ["n" * (MAX_KEY + 1), "folder/" + "ü" * (MAX_KEY // 2), "n" * 300 + "/x"])
def test_too_long(at, calls, name):
    assert answers(at, calls, name) == {"ENAMETOOLONG"}
    assert sorted(os.listdir(at)) == ["file", "folder"]


def test_the_longest_name_is_that_of_statvfs(at):
    assert os.statvfs(at).f_namemax == MAX_KEY - RECORD - 1
    assert os.pathconf(at, "PC_NAME_MAX") == MAX_KEY - RECORD - 1


def test_the_longest_names_that_can_be_made(at):
    """A folder's record key ends in a slash."""
    longest = "f" * (MAX_KEY - RECORD)
    assert answers(at, MAKE, longest + "f") == {"ENAMETOOLONG"}
    for call, *words in MAKE[:7]:
        name = longest[1:] if call is do_mkdir else longest
        call(at, *[name if word == "{}" else word for word in words])
        assert name in os.listdir(at)
        do_rename(at, name, "new")
        do_rename(at, "new", name)
        (do_rmdir if call is do_mkdir else do_unlink)(at, name)
    assert sorted(os.listdir(at)) == ["file", "folder"]


def test_the_reserved_name_exists_and_is_not_made(at):
    for name in (".hpkvfs", "folder/.hpkvfs"):
        assert answers(at, MAKE[2:7], name) == {"EEXIST"}
    assert sorted(os.listdir(at)) == ["file", "folder"]
