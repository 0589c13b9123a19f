"""A mount, and separately its server, that is killed between any two writes of a renaming: afterwards the next mount finishes it,
and everything is whole and under one name."""

import os
import stat

import pytest

from lib.crash import contents_of, dies, mount_with, outlives, put_back
from lib.hpkvd import Hpkvd
from lib.processes import wait_for
from lib.shell import RENAME_EXCHANGE, rename2, tree

pytestmark = pytest.mark.timeout(1200)

# Another mount's work is finished when nothing was heard of it for so long; it is heard of as often.
TIMES = "100:20"

BIG = bytes(range(256)) * 40


def fill(path):
    (path / "d/sub").mkdir(parents=True)
    (path / "d/empty").mkdir()
    (path / "d/plain").write_text("plain")
    (path / "d/sub/other").write_text("other")
    (path / "d/big").write_bytes(BIG)
    os.chmod(path / "d/big", 0o600)
    os.symlink("plain", path / "d/link")
    (path / "one").write_text("the first")
    (path / "two").write_bytes(BIG[1:])
    os.chmod(path / "two", 0o640)


def found(path):
    """Everything below: type and permissions, and content."""
    rows = {}
    for name in tree(path):
        name = name.rstrip("/")
        whole = path / name
        status = os.lstat(whole)
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(whole)
        else:
            content = whole.read_bytes() if stat.S_ISREG(status.st_mode) else None
        rows[name] = (stat.filemode(status.st_mode), content)
    return rows


def moved(rows, old, new):
    """The same after a renaming of `old` to `new`, which replaces what is there."""
    kept = {name: row for name, row in rows.items() if name != new}
    return {new + name[len(old) :] if (name + "/").startswith(old + "/") else name: row for name, row in kept.items()}


def exchanged(rows, one, two):
    return {**rows, one: rows[two], two: rows[one]}


def rename_directory(path):
    os.rename(path / "d", path / "e")


def rename_over(path):
    os.rename(path / "two", path / "one")


def exchange(path):
    rename2(path / "one", path / "two", RENAME_EXCHANGE)


def settled(contents):
    return not any(key.startswith(".hpkvfs/j/") for key in contents)


def look_around(mount):
    """The tree, as somebody sees it who was there before: what is renamed is known."""
    return found(mount.path)


@pytest.fixture
def filled(pyserver):
    """The store's contents, and how a mount shows them."""
    with mount_with(pyserver, TIMES) as mount:
        fill(mount.path)
        rows = found(mount.path)
    return pyserver.contents(), rows


def dies_in(server, number, act):
    """Kills a mount after its N-th write in `act`; False where there were fewer."""
    with mount_with(server, TIMES, f"{number}:kill") as mount:
        look_around(mount)
        return dies(mount, act)


# Where the last write is the deletion of the journal's entry, or of the old key, all is done at the last point.
@pytest.mark.parametrize(
    "act, before_and_after",
    [
        (rename_directory, lambda rows: (rows, moved(rows, "d", "e"))),
        (exchange, lambda rows: (rows, exchanged(rows, "one", "two"))),
    ],
    ids=["directory", "exchange"],
)
def test_the_next_mount_finishes_what_a_killed_one_has_begun(pyserver, filled, act, before_and_after):
    contents, rows = filled
    before, after = before_and_after(rows)
    number, seen = 1, []
    while True:
        put_back(pyserver, contents)
        if not dies_in(pyserver, number, act):
            break
        with mount_with(pyserver, TIMES) as mount:
            wait_for(lambda: settled(pyserver.contents()), "the journal to be empty")
            now = found(mount.path)
        assert now in (before, after), f"killed after write {number}"
        seen.append(now == after)
        number += 1
    assert number > 8
    assert seen[-1] and seen == sorted(seen), "what was done at one point was not at a later one"
    with mount_with(pyserver, TIMES) as mount:
        assert found(mount.path) == after


def test_a_file_is_never_under_neither_name(pyserver, filled):
    """Two writes, and no journal: in between it is under both."""
    contents, rows = filled
    after = moved(rows, "two", "one")
    between = {**after, "two": rows["two"]}
    number = 1
    while True:
        put_back(pyserver, contents)
        if not dies_in(pyserver, number, rename_over):
            break
        with mount_with(pyserver, TIMES) as mount:
            now = found(mount.path)
        contents_of = {name: row[1] for name, row in now.items()}
        assert contents_of in [{name: row[1] for name, row in state.items()} for state in (rows, between, after)]
        assert now.get("two", rows["two"]) == rows["two"]
        number += 1
    assert number > 3


@pytest.mark.parametrize("act", [rename_directory, exchange], ids=["directory", "exchange"])
def test_a_server_that_is_killed_at_any_point_is_waited_for(tmp_path, act):
    """The mount stops after each of its writes in turn; its server dies then, with answers on the way, and comes back."""
    with Hpkvd(tmp_path / "store") as server:
        with mount_with(server, TIMES) as mount:
            fill(mount.path)
            before = found(mount.path)
        after = moved(before, "d", "e") if act is rename_directory else exchanged(before, "one", "two")
        contents = contents_of(server)
        number = 1
        while survives(server, number, act, after):
            assert settled(contents_of(server))
            put_back(server, contents)
            number += 1
        assert number > 8


def survives(server, number, act, after):
    """False where the mount made fewer writes."""

    def act_and_look(path):
        act(path)
        assert found(path) == after, f"killed after write {number}"

    with mount_with(server, TIMES, f"{number}:stop") as mount:
        look_around(mount)
        return outlives(mount, server, act_and_look)
