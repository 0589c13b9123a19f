"""Listings: complete and exact, however large, deep or cut they are, and whatever happens meanwhile."""

import os
import subprocess
import threading

import pytest

from lib.processes import wait_for
from lib.shell import sh, tree, write

pytestmark = pytest.mark.timeout(480)


def names(count, width=5):
    return [f"n{number:0{width}d}" for number in range(count)]


@pytest.mark.timeout(1200)
def test_2500_keys_in_one_folder(server, mount_on):
    expected = names(2500)
    server.set_all({f"d/{name}": name for name in expected} | {"c": "before", "e": "behind"})
    mount = mount_on(server, "ttl=60")
    assert sorted(os.listdir(mount.path / "d")) == expected
    assert sorted(os.listdir(mount.path)) == ["c", "d", "e"]
    lines = sh("ls -l d", mount.path).stdout.splitlines()
    assert len(lines) == 2501
    assert (mount.path / "d" / expected[1234]).read_text() == expected[1234]


@pytest.mark.parametrize("count", [998, 999, 1000, 1001, 1998, 1999, 2000])
def test_folders_whose_size_is_about_a_pages(pyserver, mount_on, count):
    pyserver.set_all({f"d/{name}": "x" for name in names(count)})
    mount = mount_on(pyserver)
    assert sorted(os.listdir(mount.path / "d")) == names(count)


@pytest.mark.parametrize("records", [1, 2, 7])
def test_pages_cut_to_few_records(pyserver, mount_on, records):
    """With one record a page, a page that begins with the last key known brings nothing new: so it is where values are as
    large as a page may be. The way on is behind that key."""
    pyserver.set_all({f"d/{name}": name for name in names(40)} | {f"d/sub{n}/{m}": "y" for n in range(5) for m in range(9)})
    pyserver.configure(page_records=records)
    mount = mount_on(pyserver, "ttl=60")
    assert sorted(os.listdir(mount.path / "d")) == names(40) + [f"sub{n}" for n in range(5)]


def test_pages_cut_by_size(pyserver, mount_on):
    expected = {f"d/{name}": name * 50 for name in names(500)}
    pyserver.set_all(expected)
    pyserver.configure(page_bytes=4000)
    mount = mount_on(pyserver, "ttl=60")
    assert tree(mount.path / "d") == {name: (name * 50).encode() for name in names(500)}


def test_a_tree_of_20_levels(server, mount_on):
    path = "/".join(f"level{number}" for number in range(20))
    server.set(path + "/file", "deep")
    server.set("level0/level1/beside", "x")
    mount = mount_on(server)
    assert (mount.path / path / "file").read_bytes() == b"deep"
    assert sh("find . -type f | sort", mount.path).stdout.splitlines() == ["./level0/level1/beside", f"./{path}/file"]


def test_wide_folders_beside_files(server, mount_on):
    values = {f"w{number}/{name}": "x" for number in range(3) for name in names(1100)}
    server.set_all(values | {"a": "1", "w1.": "2", "w1": "own", "z": "3"})
    mount = mount_on(server, "ttl=60")
    assert sorted(os.listdir(mount.path)) == ["a", "w0", "w1", "w1.", "w2", "z"]
    assert len(os.listdir(mount.path / "w1")) == 1101


def test_unlinking_while_reading_loses_no_name(pyserver, mount_on):
    pyserver.set_all({f"d/{name}": "x" for name in names(2000)})
    mount = mount_on(pyserver, "ttl=60")
    seen = []
    with os.scandir(mount.path / "d") as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.path)
    assert sorted(seen) == names(2000)
    assert os.listdir(mount.path / "d") == []
    assert pyserver.contents() == {}


@pytest.mark.parametrize("ttl", ["ttl=0", "ttl=60"])
def test_unlinking_by_another_process_loses_no_other_name(pyserver, mount_on, ttl):
    pyserver.set_all({f"d/{name}": "x" for name in names(2000)})
    mount = mount_on(pyserver, ttl)
    with os.scandir(mount.path / "d") as entries:
        seen = [next(entries).name for _ in range(100)]
        gone = set(seen[:50]) | set(names(2000)[100:1900:4])
        sh('xargs -0 rm < "$1"', mount.path / "d", _list_file(mount, gone))
        seen += [entry.name for entry in entries]
    assert len(seen) == len(set(seen)), "a name came twice"
    assert set(names(2000)) - gone <= set(seen)
    assert sorted(os.listdir(mount.path / "d")) == sorted(set(names(2000)) - gone)


def _list_file(mount, found):
    path = mount.work / "list"
    path.write_text("".join(name + "\0" for name in sorted(found)))
    return path


def test_creating_while_reading_loses_no_old_name(pyserver, mount_on):
    pyserver.set_all({f"d/{name}": "x" for name in names(1500)})
    mount = mount_on(pyserver, "ttl=60")
    with os.scandir(mount.path / "d") as entries:
        seen = [next(entries).name for _ in range(50)]
        for number in range(50):
            write(mount.path / "d" / f"m{number}", b"new")
        seen += [entry.name for entry in entries]
    assert len(seen) == len(set(seen))
    assert set(names(1500)) <= set(seen)
    assert len(os.listdir(mount.path / "d")) == 1550


def test_two_listings_at_once(pyserver, mount_on):
    pyserver.set_all({f"d/{name}": "x" for name in names(2500)})
    mount = mount_on(pyserver, "ttl=0")
    shells = [
        subprocess.Popen(["ls", "-l", "d"], cwd=mount.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for shell in shells:
        lines = shell.communicate(timeout=400)[0].splitlines()
        assert [line.split()[-1] for line in lines[1:]] == names(2500)


def test_rewound_listing_starts_again(pyserver, mount_on):
    pyserver.set_all({f"d/{name}": "x" for name in names(300)})
    mount = mount_on(pyserver, "ttl=60")
    folder = os.open(mount.path / "d", os.O_RDONLY | os.O_DIRECTORY)
    assert len(os.listdir(folder)) == 300
    write(mount.path / "d" / "new", b"x")
    assert len(os.listdir(folder)) == 301
    os.close(folder)


def read_all(folder, end, problems):
    """Whole listings, and every third one left in its midst."""
    turn = 0
    try:
        while not end.is_set():
            turn += 1
            with os.scandir(folder) as entries:
                for _, entry in zip(range(400 if turn % 3 else 40), entries):
                    assert entry.name
    except OSError as error:
        problems.append(error)


@pytest.mark.parametrize("ttl", ["ttl=60", "ttl=1"])
def test_a_change_is_in_the_next_listing_whoever_else_reads(pyserver, mount_on, ttl):
    """The kernel keeps the names of a directory. What it was given before a change must not be what it shows after."""
    pyserver.set_all({f"d/{name}": "x" for name in names(300)})
    mount = mount_on(pyserver, ttl)
    folder = mount.path / "d"
    end = threading.Event()
    problems = []
    readers = [threading.Thread(target=read_all, args=(folder, end, problems)) for _ in range(3)]
    for reader in readers:
        reader.start()
    expected = set(names(300))

    def agree(what):
        assert set(os.listdir(folder)) == expected, what

    try:
        for turn in range(150):
            write(folder / f"file{turn}", b"x")
            expected.add(f"file{turn}")
            agree("after a creation")
            os.rename(folder / f"file{turn}", folder / f"moved{turn}")
            expected = expected - {f"file{turn}"} | {f"moved{turn}"}
            agree("after a rename")
            (folder / "sub").mkdir()
            expected.add("sub")
            agree("after a mkdir")
            (folder / "sub").rmdir()
            expected.discard("sub")
            if turn % 2:
                os.unlink(folder / f"moved{turn}")
                expected.discard(f"moved{turn}")
            agree("after a removal")
    finally:
        end.set()
        for reader in readers:
            reader.join()
    assert not problems


def test_rewound_listing_sees_foreign_changes(pyserver, mount_on):
    """No opening tells the kernel that its copy of the names is old."""
    pyserver.set_all({f"d/{name}": "x" for name in names(300)})
    mount = mount_on(pyserver, "ttl=1")
    folder = os.open(mount.path / "d", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for turn in range(3):
            assert len(os.listdir(folder)) == 300 + turn
            pyserver.set_all({f"d/foreign{turn}": "x"})
            wait_for(lambda: f"foreign{turn}" in os.listdir(folder), "the name that was made elsewhere")
    finally:
        os.close(folder)


def test_listings_while_others_write(pyserver, mount_on):
    """Names that stay are in every listing."""
    stay = names(200)
    pyserver.set_all({f"d/{name}": "x" for name in stay})
    mount = mount_on(pyserver, "ttl=0")
    end = threading.Event()
    problems = []

    def churn():
        number = 0
        try:
            while not end.is_set():
                write(mount.path / "d" / f"churn{number % 7}", b"y")
                if number % 3 == 0:
                    os.unlink(mount.path / "d" / f"churn{number % 7}")
                number += 1
        except OSError as error:
            problems.append(error)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(30):
            found = os.listdir(mount.path / "d")
            assert set(stay) <= set(found)
            assert len(found) == len(set(found))
    finally:
        end.set()
        thread.join()
    assert not problems
