"""A mount, and separately its server, that is killed between any two writes of a renaming: afterwards the next mount finishes it,
and everything is whole and under one name."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.hpkvd import Hpkvd
from lib.mount import Mount
from lib.processes import wait_for
from lib.shell import RENAME_EXCHANGE, rename2, tree
from lib.wsclient import Client

pytestmark = pytest.mark.timeout(300)

# Another mount's work is finished when nothing was heard of it for so long; it is heard of as often.
TIMES = "100:20"

BIG = bytes(range(256)) * 40

# What a renaming may be told when the mount dies under it.
DEATH = {errno.ENOTCONN, errno.ECONNABORTED, errno.EIO}


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


def mount_with(server, stop=None):
    env = {"HPKVFS_TEST_TIMES": TIMES}
    if stop:
        env["HPKVFS_TEST_STOP"] = stop
    return Mount(server.url, options="ttl=0", key=server.key, env=env)


def look_around(mount):
    """The tree, as somebody sees it who was there before: what is renamed is known."""
    return found(mount.path)


@pytest.fixture
def filled(pyserver):
    """The store's contents, and how a mount shows them."""
    with mount_with(pyserver) as mount:
        fill(mount.path)
        rows = found(mount.path)
    return pyserver.contents(), rows


def put_back(pyserver, contents):
    for key in pyserver.contents():
        pyserver.delete(key)
    pyserver.set_all(contents)


def dies(server, number, act):
    """Kills a mount after its N-th write in `act`; False where there were fewer."""
    with mount_with(server, f"{number}:kill") as mount:
        look_around(mount)
        try:
            act(mount.path)
        except OSError as error:
            assert error.errno in DEATH
        else:
            if mount.running():
                return False
        wait_for(lambda: not mount.running(), "the mount's end")
        mount.close()
    return True


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
        if not dies(pyserver, number, act):
            break
        with mount_with(pyserver) as mount:
            wait_for(lambda: settled(pyserver.contents()), "the journal to be empty")
            now = found(mount.path)
        assert now in (before, after), f"killed after write {number}"
        seen.append(now == after)
        number += 1
    assert number > 8
    assert seen[-1] and seen == sorted(seen), "what was done at one point was not at a later one"
    with mount_with(pyserver) as mount:
        assert found(mount.path) == after


def test_a_file_is_never_under_neither_name(pyserver, filled):
    """Two writes, and no journal: in between it is under both."""
    contents, rows = filled
    after = moved(rows, "two", "one")
    between = {**after, "two": rows["two"]}
    number = 1
    while True:
        put_back(pyserver, contents)
        if not dies(pyserver, number, rename_over):
            break
        with mount_with(pyserver) as mount:
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
        with mount_with(server) as mount:
            fill(mount.path)
            before = found(mount.path)
        after = moved(before, "d", "e") if act is rename_directory else exchanged(before, "one", "two")
        with Client(server.url, server.key) as client:
            contents = dict(client.range_all())
        number = 1
        while survives(server, number, act, after):
            with Client(server.url, server.key) as client:
                left = dict(client.range_all())
                assert settled(left)
                for key in left.keys() - contents.keys():
                    client.delete(key)
                for key, value in contents.items():
                    client.set(key, value)
            number += 1
        assert number > 8


def is_stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def survives(server, number, act, after):
    """False where the mount made fewer writes."""
    with mount_with(server, f"{number}:stop") as mount, ThreadPoolExecutor(1) as pool:
        look_around(mount)
        going = pool.submit(act, mount.path)
        try:
            wait_for(lambda: going.done() or is_stopped(mount.pid), "the end of the renaming, or the stop")
            stopped = is_stopped(mount.pid)
            if stopped:
                server.kill9()
                server.start()
        finally:
            os.kill(mount.pid, 18)
        going.result(timeout=100)
        assert found(mount.path) == after, f"killed after write {number}"
    return stopped
