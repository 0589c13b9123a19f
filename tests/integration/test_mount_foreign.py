"""Other clients' keys are files and our files are other clients' keys, byte for byte, on two servers that were written
independently."""

import os

import pytest

from lib.shell import sh, tree, write

pytestmark = pytest.mark.timeout(240)

TEXTS = {
    "a": "x",
    "user/1": '{"name":"Ada","n":1.0}',
    "user/2": " leading and trailing \n\n",
    "user/notes/today": "tab\tquote\"back\\slash\x01control\x7f",
    "unicode/ü": "ä€𐍈\u2028\ufeff",
    "nothing special": "null",
    "crlf": "a\r\nb\r\n",
    "large": "y" * 3072,
}


def test_foreign_keys_are_files(server, mount_on):
    server.set_all(TEXTS)
    mount = mount_on(server)
    expected = {name: text.encode() for name, text in TEXTS.items()}
    expected |= {"user/": None, "user/notes/": None, "unicode/": None}
    assert tree(mount.path) == expected


def test_reading_leaves_no_key_behind(server, mount_on):
    server.set_all(TEXTS)
    mount = mount_on(server)
    sh("ls -lR . > /dev/null; cat a > /dev/null; grep -r x . > /dev/null; du -s . > /dev/null", mount.path)
    mount.unmount()
    assert server.contents() == TEXTS


def test_files_are_foreign_keys_and_nothing_else(server, mount_on):
    server.set_all({"user/0": "-", "user/notes/0": "-", "unicode/0": "-"})
    mount = mount_on(server)
    for name, text in TEXTS.items():
        write(mount.path / name, text.encode())
        assert server.get(name) == text
    mount.unmount()
    assert server.contents() == TEXTS | {"user/0": "-", "user/notes/0": "-", "unicode/0": "-"}


def test_changing_moving_and_removing_plain_files_leaves_no_other_key(server, mount_on):
    server.set_all({"d/a": "1", "d/b": "2", "d/c": "3"})
    mount = mount_on(server)
    sh("echo 4 > d/a; mv d/b d/e; rm d/c; cp d/a d/f; echo 5 >> d/e; truncate -s 1 d/a", mount.path)
    mount.unmount()
    assert server.contents() == {"d/a": "4", "d/e": "25\n", "d/f": "4\n"}


def test_foreign_changes_are_seen(server, mount_on):
    server.set_all({"d/a": "1", "d/b": "2"})
    mount = mount_on(server)
    assert sorted(os.listdir(mount.path / "d")) == ["a", "b"]
    server.set("d/a", "changed")
    server.set("d/new", "3")
    server.delete("d/b")
    assert sorted(os.listdir(mount.path / "d")) == ["a", "new"]
    assert (mount.path / "d/a").read_bytes() == b"changed"
    assert (mount.path / "d/new").read_bytes() == b"3"
    assert not (mount.path / "d/b").exists()


def test_stub_of_ours_is_one_line_that_others_can_tell(server, mount_on):
    mount = mount_on(server)
    write(mount.path / "empty", b"")
    write(mount.path / "binary", b"\x00\x01\xff")
    mount.unmount()
    for name in ("empty", "binary"):
        stub = server.get(name)
        assert stub.startswith("hpkvfs1 ") and stub.endswith("\n") and stub.count("\n") == 1


def test_another_client_replaces_a_stub_by_text(server, mount_on):
    mount = mount_on(server)
    write(mount.path / "f", b"\0")
    server.set("f", "text now")
    assert (mount.path / "f").read_bytes() == b"text now"
    assert os.stat(mount.path / "f").st_size == 8


@pytest.mark.parametrize("number", [0, 1, -5, 42, 9007199254740991])
def test_numbers_are_shown_as_their_text(server, mount_on, number):
    server.set("counter", number)
    mount = mount_on(server)
    text = str(number).encode()
    assert os.stat(mount.path / "counter").st_size == len(text)
    assert (mount.path / "counter").read_bytes() == text


@pytest.mark.parametrize("number, texts", [(1.5, ["1.5"]), (-0.25, ["-0.25"]), (1e100, ["1e+100", "1e100", "1E+100"])])
def test_fractions_are_shown_as_the_server_wrote_them(pyserver, mount_on, number, texts):
    pyserver.set("n", number)
    mount = mount_on(pyserver)
    assert (mount.path / "n").read_text() in texts


def test_moving_a_number_keeps_its_text(server, mount_on):
    server.set("a/counter", 7)
    mount = mount_on(server)
    os.rename(mount.path / "a/counter", mount.path / "a/moved")
    assert server.contents() == {"a/moved": "7"}


def test_a_value_with_a_nul_is_read_as_it_is(server, mount_on):
    """JSON can say it, so another client can have set it."""
    server.set("f", "a\0b")
    mount = mount_on(server)
    assert (mount.path / "f").read_bytes() == b"a\0b"


def test_prefix_shows_one_part_of_the_store(server, mount_on, plain):
    server.set_all({"app/x": "1", "app/d/y": "2", "application": "3", "other": "4"})
    mount = mount_on(server, "prefix=app/")
    assert tree(mount.path) == {"x": b"1", "d/": None, "d/y": b"2"}
    write(mount.path / "new", b"n")
    os.mkdir(mount.path / "made")
    os.unlink(mount.path / "x")
    contents = plain(server.contents(), prefix="app/")
    assert {key for key in contents if not key.startswith("app/.hpkvfs/")} == {"app/d/y", "app/new", "application", "other"}
    assert [key for key in contents if ".hpkvfs" in key] == ["app/.hpkvfs/m/made/"]


def test_prefix_without_a_delimiter(server, mount_on):
    server.set_all({"app-x": "1", "app-d/y": "2", "apple": "3"})
    mount = mount_on(server, "prefix=app-")
    assert tree(mount.path) == {"x": b"1", "d/": None, "d/y": b"2"}
    write(mount.path / "z", b"n")
    assert server.get("app-z") == "n"


def test_two_mounts_of_one_store_see_each_other(server, mount_on):
    one, two = mount_on(server), mount_on(server)
    sh("mkdir d; echo 1 > d/f; printf 'a\\0' > d/b", one.path)
    assert sorted(os.listdir(two.path / "d")) == ["b", "f"]
    assert (two.path / "d/f").read_bytes() == b"1\n"
    assert (two.path / "d/b").read_bytes() == b"a\0"
    sh("echo 2 > d/f; mv d/b d/c; mkdir e", two.path)
    assert (one.path / "d/f").read_bytes() == b"2\n"
    assert sorted(os.listdir(one.path / "d")) == ["c", "f"]
    sh("rm -r d", one.path)
    assert os.listdir(two.path) == ["e"]
