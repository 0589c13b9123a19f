"""Every key has one path and every path one key, also the odd ones; what cannot be a name is refused by its own error."""

import itertools
import json
import os

import pytest

from lib.mount import MountFailed
from lib.posix import opened
from lib.shell import fails_with, sh, tree, write

pytestmark = pytest.mark.timeout(240)

# Keys and the paths that the layout's documentation gives them.
PATHS = {
    "plain": "plain",
    "new\nline": "new\nline",
    "tab\tand space ": "tab\tand space ",
    "control\x01\x7f": "control\x01\x7f",
    "/leading": "%-/leading",
    "trailing/": "trailing/%-",
    "dou//ble": "dou/%-/ble",
    "tri///ple": "tri/%-/%-/ple",
    "dots/.": "dots/%./%=",
    "dots/..": "dots/%../%=",
    "dots/./x": "dots/%./x",
    "only/.": "only/%.",
    "only/..": "only/%..",
    "dots/../x": "dots/%../x",
    "dots/...": "dots/...",
    "dots/.hidden": "dots/.hidden",
    "%41": "%41",
    "100%": "100%",
    "pc/%": "pc/%",
    "pc/%-": "pc/%25-",
    "pc/%.": "pc/%25.",
    "pc/%..": "pc/%25..",
    "pc/%=": "pc/%25=",
    "pc/%25-": "pc/%2525-",
    "pc/%25": "pc/%25",
    "both": "both/%=",
    "both/x": "both/x/%=",  # it is a folder as well
    "both/x/y": "both/x/y",
    "nul\0inside": "nul%00inside",
    "ü/𐍈": "ü/𐍈",
    "back\\slash": "back\\slash",
    "*?[]": "*?[]",
    "-rf": "-rf",
}

@pytest.mark.parametrize("key", PATHS)
def test_a_foreign_key_is_at_its_path(pyserver, mount_on, key):
    pyserver.set_all({name: f"value of {name}" for name in PATHS})
    mount = mount_on(pyserver)
    assert (mount.path / PATHS[key]).read_bytes() == f"value of {key}".encode()


def test_all_foreign_keys_are_listed_once(server, mount_on):
    server.set_all({name: f"value of {name}" for name in PATHS})
    mount = mount_on(server)
    files = {name: content for name, content in tree(mount.path).items() if content is not None}
    assert files == {path: f"value of {key}".encode() for key, path in PATHS.items()}


@pytest.mark.parametrize("key", PATHS)
def test_a_file_at_the_path_is_that_key(pyserver, mount_on, key, plain):
    mount = mount_on(pyserver)
    path = mount.path / PATHS[key]
    os.makedirs(path.parent, exist_ok=True)
    write(path, b"ours")
    contents = plain(pyserver.contents())
    assert {name: value for name, value in contents.items() if not name.startswith(".hpkvfs/")} == {key: "ours"}
    os.unlink(path)
    assert not [name for name in pyserver.contents() if not name.startswith(".hpkvfs/")]


def test_every_short_key_has_a_path_of_its_own(pyserver, mount_on):
    """All keys of up to four of these pieces, at once."""
    pieces = ["a", "/", "%", "-", "25", ".", "="]
    keys = {"".join(word) for length in range(1, 5) for word in itertools.product(pieces, repeat=length)}
    pyserver.set_all({key: key for key in keys})
    mount = mount_on(pyserver, "ttl=60")
    files = {name: content for name, content in tree(mount.path).items() if content is not None}
    assert sorted(files.values()) == sorted(key.encode() for key in keys)


# --- a key that is also a folder ---


def test_a_key_that_is_also_a_folder(server, mount_on):
    server.set_all({"a": "value", "a/b": "1"})
    mount = mount_on(server)
    assert os.listdir(mount.path) == ["a"]
    assert sorted(os.listdir(mount.path / "a")) == ["%=", "b"]
    write(mount.path / "a/%=", b"changed")
    assert server.contents() == {"a": "changed", "a/b": "1"}
    os.unlink(mount.path / "a/%=")
    assert server.contents() == {"a/b": "1"}
    write(mount.path / "a/%=", b"again")
    assert server.contents() == {"a": "again", "a/b": "1"}


def test_a_file_becomes_a_folder_by_anothers_key(pyserver, mount_on):
    pyserver.set("a", "value")
    mount = mount_on(pyserver)
    assert (mount.path / "a").read_bytes() == b"value"
    pyserver.set("a/b", "1")
    assert sorted(os.listdir(mount.path / "a")) == ["%=", "b"]
    assert (mount.path / "a/%=").read_bytes() == b"value"


def test_moving_a_folder_takes_the_value_of_its_own_key_along(pyserver, mount_on):
    pyserver.set_all({"a": "value", "a/b": "1"})
    mount = mount_on(pyserver)
    os.rename(mount.path / "a", mount.path / "c")
    assert {key: value for key, value in pyserver.contents().items() if not key.startswith(".hpkvfs/")} == {"c": "value", "c/b": "1"}


def test_the_own_value_of_a_folder_is_no_folder(pyserver, mount_on):
    pyserver.set("a/b", "1")
    mount = mount_on(pyserver)
    with fails_with("EINVAL"):
        os.mkdir(mount.path / "a/%=")
    with fails_with("EINVAL"):
        write(mount.path / "%=", b"x")


# --- lengths ---


def long_key(length):
    """Segments of 99 bytes."""
    key = "/".join(["s" * 99] * 10)[:length]
    return key if not key.endswith("/") else key[:-1] + "s"


@pytest.mark.pyserver_options(max_key=1024)
def test_foreign_keys_of_the_greatest_length_are_files(pyserver, mount_on):
    key = long_key(512)
    pyserver.set(key, "far below")
    mount = mount_on(pyserver)
    assert [content for content in tree(mount.path).values() if content is not None] == [b"far below"]
    assert (mount.path / key).read_bytes() == b"far below"


def test_a_listing_keeps_to_the_servers_key_limit(pyserver, mount_on):
    """This server refuses keys of more than 512 bytes as the ends of ranges, too."""
    key = long_key(502)
    pyserver.set(key, "x")
    mount = mount_on(pyserver)
    assert (mount.path / key).read_bytes() == b"x"


def test_a_file_whose_record_would_fit_and_one_whose_would_not(pyserver, mount_on):
    folder = "d" * 255 + "/"
    room = 512 - len(".hpkvfs/m/") - len(folder)
    mount = mount_on(pyserver)
    os.mkdir(mount.path / folder)
    write(mount.path / (folder + "f" * room), b"fits")
    assert pyserver.get(folder + "f" * room) == "fits"
    with fails_with("ENAMETOOLONG"):
        write(mount.path / (folder + "f" * (room + 1)), b"does not")
    with fails_with("ENAMETOOLONG"):
        os.mkdir(mount.path / (folder + "d" * room))
    with fails_with("ENAMETOOLONG"):
        os.rename(mount.path / (folder + "f" * room), mount.path / (folder + "g" * (room + 1)))


def test_lengths_count_bytes_and_the_whole_path(pyserver, mount_on):
    mount = mount_on(pyserver, "prefix=some/prefix/")
    with fails_with("ENAMETOOLONG"):
        write(mount.path / ("€" * 165), b"x")
    folder = mount.path / ("d" * 200) / ("e" * 200)
    os.makedirs(folder)
    with fails_with("ENAMETOOLONG"):
        write(folder / ("f" * 100), b"x")
    write(folder / "short", b"x")


def test_max_key_option(pyserver, mount_on):
    mount = mount_on(pyserver, "max_key=100")
    write(mount.path / ("f" * 90), b"x")
    with fails_with("ENAMETOOLONG"):
        write(mount.path / ("f" * 91), b"x")


def test_statvfs_says_how_long_a_name_can_be_in_each_folder(pyserver, mount_on):
    """At most 255 bytes, for which programs have room; less where the folder's own path takes too much of a key."""
    mount = mount_on(pyserver)
    folder = mount.path
    for expected in (255, 512 - len(".hpkvfs/m/") - 256 - 1, 1):
        length = os.statvfs(folder).f_namemax
        assert length == os.pathconf(folder, "PC_NAME_MAX") == expected
        with fails_with("ENAMETOOLONG"):
            os.mkdir(folder / ("d" * (length + 1)))
        write(folder / "f", b"x")
        assert os.statvfs(folder / "f").f_namemax == length
        os.unlink(folder / "f")
        folder /= "d" * (length - 2 if 2 < length < 255 else length)
        os.mkdir(folder)
    assert os.statvfs(folder).f_namemax == 0
    with fails_with("ENAMETOOLONG"):
        os.mkdir(folder / "d")
    with opened(folder, os.O_RDONLY) as removed:
        os.rmdir(folder)
        assert os.fstatvfs(removed).f_namemax == 255


@pytest.mark.parametrize("count", [0, 1500])
def test_names_of_foreign_keys_may_be_longer(pyserver, mount_on, count):
    """They are read, written, renamed and removed; made here they are not. In large folders names are asked for singly."""
    long, folder, absent = "f" * 300, "d" * 256, "a" * 256
    pyserver.set_all({long: "1", f"{folder}/in": "2", **{f"x{i}": "" for i in range(count)}})
    mount = mount_on(pyserver)
    assert {long, folder} <= set(os.listdir(mount.path))
    assert (mount.path / long).read_bytes() == b"1"
    assert (mount.path / folder / "in").read_bytes() == b"2"
    write(mount.path / long, b"3")
    with open(mount.path / long, "ab") as file:
        file.write(b"4")
    os.chmod(mount.path / long, 0o600)
    write(mount.path / folder / "new", b"5")
    write(mount.path / "other", b"6")
    os.rename(mount.path / "other", mount.path / long)  # as editors save
    assert pyserver.get(long) == "6"
    for refused in (lambda: os.stat(mount.path / absent), lambda: os.rename(mount.path / long, mount.path / absent)):
        for _ in range(2):
            with fails_with("ENAMETOOLONG"):
                refused()
    os.rename(mount.path / long, mount.path / "short")
    os.rename(mount.path / folder, mount.path / "folder")
    keys = {"short": "6", "folder/in": "2", "folder/new": "5"}
    contents = pyserver.contents()
    assert {key: contents.get(key) for key in (*keys, long)} == {**keys, long: None}
    pyserver.set_all({long: "7", f"{folder}/in": "8"})
    os.unlink(mount.path / long)
    os.unlink(mount.path / folder / "in")
    os.rmdir(mount.path / folder)
    assert not {long, f"{folder}/in"} & set(pyserver.contents())


def test_an_overlong_name_is_never_called_absent(pyserver, mount_on):
    mount = mount_on(pyserver)
    with fails_with("ENAMETOOLONG"):
        os.stat(mount.path / ("f" * 900))


def test_moving_a_folder_checks_the_lengths_below_it_first(pyserver, mount_on):
    deep = "e" * 250 + "/" + "f" * 200
    pyserver.set_all({"d/" + deep: "x", "d/a": "y"})
    mount = mount_on(pyserver)
    with fails_with("ENAMETOOLONG"):
        os.rename(mount.path / "d", mount.path / ("long" * 20))
    assert {key: value for key, value in pyserver.contents().items() if not key.startswith(".hpkvfs/")} == {"d/" + deep: "x", "d/a": "y"}


# --- what is no UTF-8 ---


@pytest.mark.parametrize("name", [b"\xff", b"a\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"ok\xf4\x90\x80\x80"])
def test_names_that_are_not_utf8(pyserver, mount_on, name):
    pyserver.set("f", "x")
    mount = mount_on(pyserver)
    path = os.path.join(os.fsencode(mount.path), name)
    for call in (
        lambda: write(path, b"x"),
        lambda: os.mkdir(path),
        lambda: os.rename(os.fsencode(mount.path / "f"), path),
    ):
        with fails_with("EILSEQ"):
            call()
    assert pyserver.contents() == {"f": "x"}


# --- the reserved segment ---


def test_the_reserved_segment_is_hidden_and_cannot_be_made(pyserver, mount_on):
    pyserver.set_all({"d/x": "1", "d/.hpkvfs/y": "2", ".hpkvfs/z": "3", ".hpkvfs": "4", ".hpkvfs2": "5"})
    mount = mount_on(pyserver)
    assert sorted(os.listdir(mount.path)) == [".hpkvfs2", "d"]
    assert os.listdir(mount.path / "d") == ["x"]
    for folder in (mount.path, mount.path / "d"):
        with fails_with("EEXIST"):
            os.mkdir(folder / ".hpkvfs")
        with fails_with("EEXIST"):
            os.open(folder / ".hpkvfs", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with fails_with("EEXIST"):
        os.rename(mount.path / "d/x", mount.path / "d/.hpkvfs")
    assert pyserver.get(".hpkvfs/z") == "3"


def test_a_folder_with_reserved_keys_only_is_not_shown(pyserver, mount_on):
    pyserver.set("d/.hpkvfs/y", "2")
    mount = mount_on(pyserver)
    assert os.listdir(mount.path) == []


def test_the_layouts_mark_is_written_with_the_first_reserved_key(server, mount_on):
    mount = mount_on(server)
    write(mount.path / "plain", b"x")
    assert server.contents() == {"plain": "x"}
    os.mkdir(mount.path / "d")
    mark = json.loads(server.get(".hpkvfs/fs"))
    assert mark["v"] == 1
    assert mark["delimiter"] == "/"
    assert json.loads(server.get(".hpkvfs/m/d/"))


@pytest.mark.parametrize("mark", ['{"v":2,"delimiter":"/"}', '{"v":1,"delimiter":":"}', '{"v":1000000,"delimiter":"/","more":[]}'])
def test_a_newer_layout_or_another_delimiter_is_refused_at_mount(pyserver, mount_on, mark):
    pyserver.set_all({".hpkvfs/fs": mark, "f": "x"})
    with pytest.raises(MountFailed) as failure:
        mount_on(pyserver)
    assert failure.value.code == 32
    assert len(failure.value.log.strip().splitlines()) == 1
    assert pyserver.contents() == {".hpkvfs/fs": mark, "f": "x"}


def test_the_same_layout_is_mounted(pyserver, mount_on):
    pyserver.set_all({".hpkvfs/fs": '{"v":1,"delimiter":"/"}', "f": "x"})
    assert os.listdir(mount_on(pyserver).path) == ["f"]


# --- another delimiter ---


def test_another_delimiter(server, mount_on, plain):
    server.set_all({"user:1:name": "Ada", "path/like": "p", "a:b/c": "s", "a": "own", ":lead": "l", "a::b": "d"})
    mount = mount_on(server, "delimiter=:")
    files = {name: content for name, content in tree(mount.path).items() if content is not None}
    assert files == {
        "user/1/name": b"Ada",
        "path%2Flike": b"p",
        "a/b%2Fc": b"s",
        "a/%=": b"own",
        "%-/lead": b"l",
        "a/%-/b": b"d",
    }
    write(mount.path / "user/2", b"new")
    write(mount.path / "with%2Fslash", b"sl")
    assert server.get("user:2") == "new"
    assert server.get("with/slash") == "sl"
    with fails_with("EINVAL"):
        write(mount.path / "has:colon", b"x")
    with fails_with("EINVAL"):
        os.mkdir(mount.path / "has:colon")
    sh("rm -r a; mkdir d", mount.path)
    contents = plain(server.contents(), delimiter=":")
    assert {key for key in contents if not key.startswith(".hpkvfs/")} == {
        "user:1:name",
        "path/like",
        ":lead",
        "user:2",
        "with/slash",
    }
    with pytest.raises(MountFailed):
        mount_on(server)
