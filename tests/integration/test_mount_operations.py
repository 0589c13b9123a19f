"""Each operation of a file, as a program calls it, and what it leaves at the key."""

import ctypes
import os
import stat
import threading

import pytest

from lib.shell import RENAME_EXCHANGE, RENAME_NOREPLACE, fails_with, rename2, tree, write

pytestmark = pytest.mark.timeout(240)


def record(contents):
    return {key: value for key, value in contents.items() if not key.startswith(".hpkvfs/")}


@pytest.fixture
def mount(pyserver, mount_on):
    return mount_on(pyserver)


# --- lookup, getattr ---


def test_lookup_of_an_absent_name(mount):
    with fails_with("ENOENT"):
        os.stat(mount.path / "absent")


def test_lookup_below_an_absent_folder(mount):
    with fails_with("ENOENT"):
        os.stat(mount.path / "absent" / "f")


def test_lookup_below_a_file(pyserver, mount):
    pyserver.set("f", "x")
    with fails_with("ENOTDIR"):
        os.stat(mount.path / "f" / "g")


def test_a_key_is_a_regular_file_with_its_size(pyserver, mount):
    pyserver.set("f", "größe")
    st = os.stat(mount.path / "f")
    assert stat.S_ISREG(st.st_mode)
    assert st.st_size == 7
    assert st.st_nlink == 1
    assert st.st_blocks >= 1


def test_a_prefix_of_keys_is_a_folder(pyserver, mount):
    pyserver.set("d/e/f", "x")
    assert stat.S_ISDIR(os.stat(mount.path / "d").st_mode)
    assert stat.S_ISDIR(os.stat(mount.path / "d/e").st_mode)
    assert stat.S_ISREG(os.stat(mount.path / "d/e/f").st_mode)


def test_a_name_that_begins_like_a_folder_is_not_one(pyserver, mount):
    pyserver.set("dir/f", "x")
    pyserver.set("dirt", "y")
    with fails_with("ENOENT"):
        os.stat(mount.path / "di")
    assert stat.S_ISREG(os.stat(mount.path / "dirt").st_mode)


def test_owner_and_mode_come_from_the_options(pyserver, mount_on):
    pyserver.set("d/f", "x")
    mount = mount_on(pyserver, "uid=1234", "gid=2345", "umask=027")
    for name, mode in (("d", 0o750), ("d/f", 0o640)):
        st = os.stat(mount.path / name)
        assert (st.st_uid, st.st_gid) == (1234, 2345)
        assert stat.S_IMODE(st.st_mode) == mode


# --- read ---


def test_read_in_pieces_and_past_the_end(pyserver, mount):
    pyserver.set("f", "0123456789")
    file = os.open(mount.path / "f", os.O_RDONLY)
    assert os.pread(file, 3, 0) == b"012"
    assert os.pread(file, 3, 8) == b"89"
    assert os.pread(file, 3, 10) == b""
    assert os.pread(file, 3, 1000) == b""
    os.close(file)


def test_open_of_a_folder_for_writing(pyserver, mount):
    pyserver.set("d/f", "x")
    with fails_with("EISDIR"):
        os.open(mount.path / "d", os.O_WRONLY)


def test_write_through_a_descriptor_for_reading(pyserver, mount):
    pyserver.set("f", "x")
    file = os.open(mount.path / "f", os.O_RDONLY)
    with fails_with("EBADF"):
        os.write(file, b"y")
    os.close(file)


# --- create, write ---


def test_created_file_is_a_key(pyserver, mount):
    write(mount.path / "f", b"content\n")
    assert record(pyserver.contents()) == {"f": "content\n"}


def test_create_exclusively(pyserver, mount):
    write(mount.path / "new", b"a", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with fails_with("EEXIST"):
        write(mount.path / "new", b"b", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    assert pyserver.get("new") == "a"


def test_create_exclusively_over_another_clients_key(pyserver, mount):
    pyserver.set("old", "theirs")
    with fails_with("EEXIST"):
        os.open(mount.path / "old", os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def test_create_below_an_absent_folder(mount):
    with fails_with("ENOENT"):
        os.open(mount.path / "absent" / "f", os.O_WRONLY | os.O_CREAT)


def test_create_below_a_file(pyserver, mount):
    pyserver.set("f", "x")
    with fails_with("ENOTDIR"):
        os.open(mount.path / "f" / "g", os.O_WRONLY | os.O_CREAT)


def test_overwrite_of_a_part_keeps_the_rest(pyserver, mount):
    pyserver.set("f", "0123456789")
    file = os.open(mount.path / "f", os.O_WRONLY)
    os.pwrite(file, b"X", 4)
    os.close(file)
    assert pyserver.get("f") == "0123X56789"


def test_write_behind_the_end_fills_with_zeros(pyserver, mount):
    pyserver.set("f", "ab")
    file = os.open(mount.path / "f", os.O_WRONLY)
    os.pwrite(file, b"z", 5)
    os.close(file)
    assert (mount.path / "f").read_bytes() == b"ab\0\0\0z"
    assert os.stat(mount.path / "f").st_size == 6
    assert pyserver.get("f").startswith("hpkvfs1 ")


def test_append_goes_behind_the_end(pyserver, mount):
    pyserver.set("f", "one\n")
    file = os.open(mount.path / "f", os.O_WRONLY | os.O_APPEND)
    os.write(file, b"two\n")
    os.write(file, b"three\n")
    os.close(file)
    assert pyserver.get("f") == "one\ntwo\nthree\n"


def test_truncating_open_replaces_all(pyserver, mount):
    pyserver.set("f", "a long old value")
    write(mount.path / "f", b"new", os.O_WRONLY | os.O_TRUNC)
    assert pyserver.get("f") == "new"


def test_read_back_through_the_same_descriptor_before_close(pyserver, mount):
    file = os.open(mount.path / "f", os.O_RDWR | os.O_CREAT)
    os.write(file, b"hello")
    assert os.pread(file, 10, 0) == b"hello"
    assert os.fstat(file).st_size == 5
    os.close(file)


def test_what_one_descriptor_wrote_another_reads(pyserver, mount):
    pyserver.set("f", "old")
    writer = os.open(mount.path / "f", os.O_WRONLY)
    reader = os.open(mount.path / "f", os.O_RDONLY)
    os.write(writer, b"NEW")
    assert os.pread(reader, 10, 0) == b"NEW"
    os.close(writer)
    assert os.pread(reader, 10, 0) == b"NEW"
    os.close(reader)


BINARY = {
    "empty": b"",
    "a NUL": b"\0",
    "not UTF-8": b"\xff\xfe",
    "NUL inside": b"a\0b",
    "like a stub": b"hpkvfs1 looks like a stub\n",
    "all bytes": bytes(range(256)) * 4,
}


@pytest.mark.parametrize("content", BINARY.values(), ids=BINARY)
def test_content_that_a_value_cannot_hold_is_kept_exactly(pyserver, mount, mount_on, content):
    write(mount.path / "f", content)
    assert (mount.path / "f").read_bytes() == content
    mount.unmount()
    assert pyserver.get("f").startswith("hpkvfs1 ")
    again = mount_on(pyserver)
    assert os.stat(again.path / "f").st_size == len(content)
    assert (again.path / "f").read_bytes() == content


@pytest.mark.parametrize("content", [b"x", b"\n", b"\xc3\xa4\r\n\t", b"{}", b"42", b"hpkvfs", "𐍈\u2028\ufffe".encode(), b'"\\/\b\f'])
def test_content_that_a_value_can_hold_is_the_value(pyserver, mount, content):
    write(mount.path / "f", content)
    assert pyserver.get("f").encode() == content
    assert (mount.path / "f").read_bytes() == content


def test_content_of_exactly_the_greatest_size(pyserver, mount):
    write(mount.path / "f", b"x" * 3072)
    assert pyserver.get("f") == "x" * 3072


def test_max_value_option_admits_larger_content(pyserver, mount_on):
    pyserver.configure(max_value=200000)
    mount = mount_on(pyserver, "max_value=200000")
    content = bytes(range(256)) * 400
    write(mount.path / "binary", content)
    write(mount.path / "text", b"y" * 200000)
    assert (mount.path / "binary").read_bytes() == content
    assert (mount.path / "text").read_bytes() == b"y" * 200000
    assert pyserver.get("text") == "y" * 200000


# --- flush, fsync, release ---


def test_fsync_puts_the_content_into_the_store(pyserver, mount):
    file = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT)
    os.write(file, b"synced")
    os.fsync(file)
    assert pyserver.get("f") == "synced"
    os.write(file, b" and more")
    os.fdatasync(file)
    assert pyserver.get("f") == "synced and more"
    os.close(file)
    assert pyserver.history("f") == ["synced", "synced and more"]


def test_fsync_of_a_new_empty_file(pyserver, mount):
    file = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT)
    os.fsync(file)
    assert pyserver.get("f").startswith("hpkvfs1 ")
    os.close(file)


def test_fsync_of_a_folder(pyserver, mount):
    pyserver.set("d/f", "x")
    folder = os.open(mount.path / "d", os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)


def test_close_of_a_copy_commits_what_was_written(pyserver, mount):
    file = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT)
    copy = os.dup(file)
    os.write(file, b"one")
    os.close(copy)
    assert pyserver.get("f") == "one"
    os.write(file, b" two")
    os.close(file)
    assert pyserver.get("f") == "one two"


def test_close_of_what_was_only_read_writes_nothing(pyserver, mount):
    pyserver.set("f", "x")
    pyserver.clear_log()
    file = os.open(mount.path / "f", os.O_RDWR)
    os.read(file, 10)
    os.close(file)
    assert [op for op, _ in pyserver.log() if op in ("SET", "PATCH", "DELETE")] == []


# --- setattr ---


@pytest.mark.parametrize("size, expected", [(0, b""), (3, b"012"), (10, b"0123456789"), (12, b"0123456789\0\0")])
def test_truncate_by_path(pyserver, mount, mount_on, size, expected):
    pyserver.set("f", "0123456789")
    os.truncate(mount.path / "f", size)
    assert (mount.path / "f").read_bytes() == expected
    again = mount_on(pyserver)
    assert (again.path / "f").read_bytes() == expected


def test_truncate_through_a_descriptor(pyserver, mount):
    pyserver.set("f", "0123456789")
    file = os.open(mount.path / "f", os.O_RDWR)
    os.ftruncate(file, 4)
    assert os.fstat(file).st_size == 4
    os.pwrite(file, b"!", 4)
    os.close(file)
    assert pyserver.get("f") == "0123!"


def test_truncate_of_an_absent_file(mount):
    with fails_with("ENOENT"):
        os.truncate(mount.path / "absent", 0)


def test_truncate_of_a_folder(pyserver, mount):
    pyserver.set("d/f", "x")
    with fails_with("EISDIR"):
        os.truncate(mount.path / "d", 0)


def test_truncate_beyond_what_any_file_can_have(pyserver, mount):
    pyserver.set("f", "abc")
    with fails_with("EFBIG"):
        os.truncate(mount.path / "f", 1 << 62)
    assert (mount.path / "f").read_bytes() == b"abc"
    assert pyserver.get("f") == "abc"


def test_mode_owner_and_times_are_accepted_and_harm_nothing(pyserver, mount):
    pyserver.set("d/f", "x")
    for name in ("d/f", "d"):
        os.chmod(mount.path / name, 0o700)
        os.chown(mount.path / name, 1, 1)
        os.utime(mount.path / name, ns=(1_000_000_007, 2_000_000_009))
    assert stat.S_ISREG(os.stat(mount.path / "d/f").st_mode)
    assert stat.S_ISDIR(os.stat(mount.path / "d").st_mode)
    assert (mount.path / "d/f").read_bytes() == b"x"
    assert pyserver.get("d/f") == "x"


# --- readdir ---


def test_empty_store_lists_empty(mount):
    assert os.listdir(mount.path) == []


def test_listing_has_files_and_folders_with_their_types(pyserver, mount):
    pyserver.set_all({"a": "1", "d/x": "2", "d/y/z": "3", "e/f": "4"})
    with os.scandir(mount.path) as entries:
        found = {entry.name: entry.is_dir() for entry in entries}
    assert found == {"a": False, "d": True, "e": True}
    assert sorted(os.listdir(mount.path / "d")) == ["x", "y"]


def test_listing_of_an_absent_folder_and_of_a_file(pyserver, mount):
    pyserver.set("f", "x")
    with fails_with("ENOENT"):
        os.listdir(mount.path / "absent")
    with fails_with("ENOTDIR"):
        os.listdir(mount.path / "f")


# --- unlink ---


def test_unlink_removes_the_key(pyserver, mount):
    pyserver.set("f", "x")
    os.unlink(mount.path / "f")
    assert pyserver.contents() == {}
    with fails_with("ENOENT"):
        os.stat(mount.path / "f")


def test_unlink_of_what_is_not_there_or_a_folder(pyserver, mount):
    pyserver.set("d/f", "x")
    with fails_with("ENOENT"):
        os.unlink(mount.path / "absent")
    with fails_with("EISDIR"):
        os.unlink(mount.path / "d")


def test_unlinked_file_stays_readable_while_open(pyserver, mount):
    pyserver.set("f", "still here")
    file = os.open(mount.path / "f", os.O_RDONLY)
    os.unlink(mount.path / "f")
    assert os.pread(file, 100, 0) == b"still here"
    assert os.fstat(file).st_size == 10
    os.close(file)


def test_close_does_not_bring_an_unlinked_file_back(pyserver, mount):
    file = os.open(mount.path / "f", os.O_RDWR | os.O_CREAT)
    os.write(file, b"x")
    os.unlink(mount.path / "f")
    os.write(file, b"y")
    assert os.pread(file, 10, 0) == b"xy"
    os.close(file)
    assert record(pyserver.contents()) == {}
    assert os.listdir(mount.path) == []


def test_a_new_file_in_the_place_of_an_unlinked_open_one(pyserver, mount):
    pyserver.set("f", "old")
    old = os.open(mount.path / "f", os.O_RDONLY)
    os.unlink(mount.path / "f")
    write(mount.path / "f", b"new file")
    assert os.pread(old, 100, 0) == b"old"
    assert (mount.path / "f").read_bytes() == b"new file"
    os.close(old)
    assert pyserver.get("f") == "new file"


# --- mkdir, rmdir ---


def test_mkdir_makes_a_lasting_empty_folder(pyserver, mount, mount_on):
    os.mkdir(mount.path / "d")
    assert os.listdir(mount.path / "d") == []
    again = mount_on(pyserver)
    assert stat.S_ISDIR(os.stat(again.path / "d").st_mode)
    assert os.listdir(again.path / "d") == []
    assert os.listdir(again.path) == ["d"]


def test_mkdir_over_what_exists(pyserver, mount):
    pyserver.set_all({"f": "x", "d/f": "y"})
    for name in ("f", "d"):
        with fails_with("EEXIST"):
            os.mkdir(mount.path / name)


def test_mkdir_below_what_is_no_folder(pyserver, mount):
    pyserver.set("f", "x")
    with fails_with("ENOTDIR"):
        os.mkdir(mount.path / "f" / "d")
    with fails_with("ENOENT"):
        os.mkdir(mount.path / "absent" / "d")


def test_rmdir_removes_an_empty_folder_and_its_record(pyserver, mount, plain):
    os.mkdir(mount.path / "d")
    os.rmdir(mount.path / "d")
    assert plain(pyserver.contents()) == {}
    with fails_with("ENOENT"):
        os.stat(mount.path / "d")


def test_rmdir_of_what_is_not_empty(pyserver, mount):
    pyserver.set("d/e/f", "x")
    os.mkdir(mount.path / "made")
    write(mount.path / "made" / "f", b"y")
    os.mkdir(mount.path / "outer")
    os.mkdir(mount.path / "outer" / "inner")
    for name in ("d", "d/e", "made", "outer"):
        with fails_with("ENOTEMPTY"):
            os.rmdir(mount.path / name)
    assert pyserver.get("d/e/f") == "x"
    assert pyserver.get("made/f") == "y"


def test_rmdir_sees_what_another_client_put_there_meanwhile(pyserver, mount_on):
    mount = mount_on(pyserver, "ttl=3600")
    os.mkdir(mount.path / "d")
    assert os.listdir(mount.path / "d") == []
    pyserver.set("d/theirs", "x")
    with fails_with("ENOTEMPTY"):
        os.rmdir(mount.path / "d")
    assert pyserver.get("d/theirs") == "x"


def test_rmdir_of_a_file_and_of_an_absent_name(pyserver, mount):
    pyserver.set("f", "x")
    with fails_with("ENOTDIR"):
        os.rmdir(mount.path / "f")
    with fails_with("ENOENT"):
        os.rmdir(mount.path / "absent")


def test_an_implied_folder_outlives_its_last_key_until_rmdir(pyserver, mount):
    pyserver.set("d/f", "x")
    os.unlink(mount.path / "d/f")
    assert os.listdir(mount.path / "d") == []
    os.rmdir(mount.path / "d")
    assert os.listdir(mount.path) == []


# --- rename ---


def test_rename_of_a_file(pyserver, mount):
    pyserver.set("a", "x")
    os.rename(mount.path / "a", mount.path / "b")
    assert record(pyserver.contents()) == {"b": "x"}
    assert os.listdir(mount.path) == ["b"]


def test_rename_over_a_file_never_shows_it_absent(pyserver, mount):
    pyserver.set_all({"a": "new", "b": "old"})
    os.rename(mount.path / "a", mount.path / "b")
    assert record(pyserver.contents()) == {"b": "new"}
    assert pyserver.history("b") == ["old", "new"]
    assert (mount.path / "b").read_bytes() == b"new"


def test_rename_into_another_folder(pyserver, mount):
    pyserver.set_all({"d/a": "x", "e/b": "y"})
    os.rename(mount.path / "d/a", mount.path / "e/a")
    assert record(pyserver.contents()) == {"e/a": "x", "e/b": "y"}


@pytest.mark.parametrize("content", [b"", b"\0binary\xff"])
def test_rename_of_what_is_a_stub(pyserver, mount, content):
    write(mount.path / "a", content)
    os.rename(mount.path / "a", mount.path / "b")
    assert (mount.path / "b").read_bytes() == content
    assert set(record(pyserver.contents())) == {"b"}


def test_rename_of_an_open_file_that_has_new_content(pyserver, mount):
    file = os.open(mount.path / "a", os.O_RDWR | os.O_CREAT)
    os.write(file, b"one")
    os.rename(mount.path / "a", mount.path / "b")
    os.write(file, b" two")
    os.close(file)
    assert record(pyserver.contents()) == {"b": "one two"}
    assert (mount.path / "b").read_bytes() == b"one two"


def test_rename_over_an_open_file_leaves_its_reader_the_old_content(pyserver, mount):
    pyserver.set_all({"a": "new", "b": "old"})
    old = os.open(mount.path / "b", os.O_RDONLY)
    os.rename(mount.path / "a", mount.path / "b")
    assert os.pread(old, 10, 0) == b"old"
    assert (mount.path / "b").read_bytes() == b"new"
    os.close(old)


def test_rename_of_a_folder_of_plain_files(pyserver, mount, plain):
    pyserver.set_all({"d/a": "1", "d/e/b": "2", "d/e/f/c": "3", "dd": "4", "d ": "5"})
    os.rename(mount.path / "d", mount.path / "new")
    contents = record(pyserver.contents())
    assert contents == {"new/a": "1", "new/e/b": "2", "new/e/f/c": "3", "dd": "4", "d ": "5"}
    assert sorted(os.listdir(mount.path)) == ["d ", "dd", "new"]
    assert (mount.path / "new/e/f/c").read_bytes() == b"3"


def test_rename_of_an_empty_folder(pyserver, mount, mount_on):
    os.mkdir(mount.path / "d")
    os.rename(mount.path / "d", mount.path / "e")
    assert os.listdir(mount_on(pyserver).path) == ["e"]


def test_rename_of_a_folder_takes_empty_folders_below_it_along(pyserver, mount, mount_on, plain):
    os.makedirs(mount.path / "d/e/f")
    os.makedirs(mount.path / "d/g")
    write(mount.path / "d/g/file", b"x")
    os.rename(mount.path / "d", mount.path / "new")
    again = mount_on(pyserver)
    assert tree(again.path) == {"new/": None, "new/e/": None, "new/e/f/": None, "new/g/": None, "new/g/file": b"x"}
    records = {key for key in plain(pyserver.contents()) if key.startswith(".hpkvfs/")}
    assert records == {f".hpkvfs/m/{name}/" for name in ("new", "new/e", "new/e/f", "new/g")}


def test_rename_of_a_folder_with_open_and_unsaved_files_below(pyserver, mount):
    pyserver.set("d/old", "old")
    new = os.open(mount.path / "d/new", os.O_RDWR | os.O_CREAT)
    old = os.open(mount.path / "d/old", os.O_RDWR)
    os.write(new, b"new")
    os.write(old, b"OLD")
    os.rename(mount.path / "d", mount.path / "e")
    os.write(new, b" and more")
    os.close(new)
    os.close(old)
    assert record(pyserver.contents()) == {"e/new": "new and more", "e/old": "OLD"}
    assert sorted(os.listdir(mount.path / "e")) == ["new", "old"]


def test_rename_of_a_folder_of_2000_files(pyserver, mount):
    pyserver.set_all({f"d/{number % 7}/f{number}": str(number) for number in range(2000)})
    os.rename(mount.path / "d", mount.path / "e")
    assert record(pyserver.contents()) == {f"e/{number % 7}/f{number}": str(number) for number in range(2000)}


def test_rename_of_a_folder_over_an_empty_one(pyserver, mount):
    pyserver.set("d/a", "1")
    os.mkdir(mount.path / "e")
    os.rename(mount.path / "d", mount.path / "e")
    assert record(pyserver.contents()) == {"e/a": "1"}
    assert os.listdir(mount.path) == ["e"]


def test_rename_refusals(pyserver, mount):
    pyserver.set_all({"f": "x", "d/a": "1", "e/b": "2"})
    for old, new, error in (
        ("absent", "g", "ENOENT"),
        ("f", "absent/g", "ENOENT"),
        ("f", "d", "EISDIR"),
        ("d", "f", "ENOTDIR"),
        ("d", "e", "ENOTEMPTY"),
        ("d", "d/inside", "EINVAL"),
    ):
        with fails_with(error):
            os.rename(mount.path / old, mount.path / new)
    assert record(pyserver.contents()) == {"f": "x", "d/a": "1", "e/b": "2"}


def test_rename_to_itself(pyserver, mount):
    pyserver.set("f", "x")
    os.rename(mount.path / "f", mount.path / "f")
    assert record(pyserver.contents()) == {"f": "x"}


def test_rename_that_must_not_replace(pyserver, mount):
    pyserver.set_all({"a": "1", "b": "2"})
    with fails_with("EEXIST"):
        rename2(mount.path / "a", mount.path / "b", RENAME_NOREPLACE)
    rename2(mount.path / "a", mount.path / "c", RENAME_NOREPLACE)
    assert record(pyserver.contents()) == {"b": "2", "c": "1"}


def test_rename_flags_that_are_not_known_are_refused(pyserver, mount):
    pyserver.set_all({"a": "1", "b": "2"})
    with fails_with("EINVAL"):
        rename2(mount.path / "a", mount.path / "b", RENAME_NOREPLACE | RENAME_EXCHANGE)
    assert pyserver.contents() == {"a": "1", "b": "2"}


def test_files_change_places(pyserver, mount):
    pyserver.set_all({"a": "1", "d/b": "2"})
    write(mount.path / "binary", b"\0\1")
    rename2(mount.path / "a", mount.path / "d/b", RENAME_EXCHANGE)
    rename2(mount.path / "a", mount.path / "binary", RENAME_EXCHANGE)
    assert record(pyserver.contents())["d/b"] == "1"
    assert (mount.path / "a").read_bytes() == b"\0\1"
    assert (mount.path / "binary").read_bytes() == b"2"
    assert [key for key in pyserver.contents() if key.startswith(".hpkvfs/j/")] == []
    with fails_with("EINVAL"):
        rename2(mount.path / "a", mount.path / "d", RENAME_EXCHANGE)


# --- statfs, other calls ---


def test_statfs_is_not_all_zero(mount):
    figures = os.statvfs(mount.path)
    assert figures.f_namemax == 255
    assert figures.f_blocks > 0 and figures.f_bfree > 0 and figures.f_bavail > 0 and figures.f_bsize > 0


def test_links_of_any_kind_are_refused_clearly(pyserver, mount):
    pyserver.set("f", "x")
    with fails_with("EPERM", "ENOSYS", "EOPNOTSUPP"):
        os.link(mount.path / "f", mount.path / "g")


def test_private_mapping_reads_the_content(pyserver, mount):
    pyserver.set("f", "mapped")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    file = os.open(mount.path / "f", os.O_RDONLY)
    address = libc.mmap(None, 4096, 1, 2, file, 0)
    os.close(file)
    assert ctypes.string_at(address, 6) == b"mapped"
    assert libc.munmap(ctypes.c_void_p(address), 4096) == 0


def test_many_files_open_at_once(pyserver, mount):
    files = []
    for number in range(300):
        file = os.open(mount.path / f"f{number}", os.O_RDWR | os.O_CREAT)
        os.write(file, b"%d" % number)
        files.append(file)
    for file in files:
        os.close(file)
    assert record(pyserver.contents()) == {f"f{number}": str(number) for number in range(300)}


def test_writers_of_different_files_at_the_same_time(pyserver, mount):
    errors = []

    def work(thread):
        try:
            for number in range(20):
                path = mount.path / f"t{thread}-{number}"
                write(path, b"%d" % number)
                assert path.read_bytes() == b"%d" % number
        except (OSError, AssertionError) as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(record(pyserver.contents())) == 160


# --- read-only ---


def test_read_only_mount_reads_and_refuses_every_change(pyserver, mount_on):
    pyserver.set_all({"f": "x", "d/f": "y"})
    mount = mount_on(pyserver, "ro")
    assert (mount.path / "f").read_bytes() == b"x"
    refused = [
        lambda: os.open(mount.path / "f", os.O_WRONLY),
        lambda: os.open(mount.path / "new", os.O_WRONLY | os.O_CREAT),
        lambda: os.truncate(mount.path / "f", 0),
        lambda: os.unlink(mount.path / "f"),
        lambda: os.mkdir(mount.path / "e"),
        lambda: os.rmdir(mount.path / "d"),
        lambda: os.rename(mount.path / "f", mount.path / "g"),
        lambda: os.chmod(mount.path / "f", 0o600),
        lambda: os.utime(mount.path / "f"),
    ]
    for change in refused:
        with fails_with("EROFS"):
            change()
    assert pyserver.contents() == {"f": "x", "d/f": "y"}
