"""What things cost in requests: the design's table, counted at the server. hpkvd's own figures are compared where they are the
contract; the independent server says which keys were asked for."""

import os
import subprocess
from collections import Counter

import pytest

from lib.processes import wait_for
from lib.shell import sh

pytestmark = pytest.mark.timeout(480)

WARM = "ttl=3600"


def names(count):
    return [f"n{number:05d}" for number in range(count)]


def counts(pyserver):
    return Counter(op for op, _ in pyserver.log())


def pages(keys):
    """Requests for so many keys: a page continues with its last key, so it brings 999 new ones."""
    return max(1, -(-keys // 999))


def test_mounting_is_one_get(pyserver, mount_on):
    mount_on(pyserver)
    assert pyserver.log() == [("GET", ".hpkvfs/fs")]


@pytest.mark.parametrize("count", [0, 1, 999, 2500])
def test_cold_ls_of_the_root(pyserver, mount_on, count):
    pyserver.set_all({name: "x" for name in names(count)})
    mount = mount_on(pyserver, WARM)
    pyserver.clear_log()
    assert len(sh("ls -l", mount.path).stdout.splitlines()) == count + 1
    assert set(counts(pyserver)) == {"RANGE"}
    assert counts(pyserver)["RANGE"] <= pages(count) + 1 + 1


@pytest.mark.parametrize("count", [1, 500, 999, 2500])
def test_cold_ls_of_a_folder(pyserver, mount_on, count):
    pyserver.set_all({f"d/{name}": "x" for name in names(count)})
    mount = mount_on(pyserver, WARM)
    sh("ls -l", mount.path)
    pyserver.clear_log()
    assert len(sh("ls -l d", mount.path).stdout.splitlines()) == count + 1
    assert set(counts(pyserver)) <= {"RANGE"}
    assert counts(pyserver)["RANGE"] <= pages(count) + 1


def test_cold_ls_of_a_folder_at_hpkvd(hpkvd, store, make_mount):
    numbers = [store.send(op=2, key=f"d/{name}", value="x") for name in names(2500)]
    for number in numbers:
        store.receive(number)
    mount = make_mount(options=[WARM])
    sh("ls -l", mount.path)
    before = hpkvd.requests()
    assert len(sh("ls -l d", mount.path).stdout.splitlines()) == 2501
    after = hpkvd.requests()
    assert after.get("range", 0) - before.get("range", 0) <= pages(2500) + 1
    assert {op: n for op, n in after.items() if op != "range"} == {op: n for op, n in before.items() if op != "range"}


def test_wide_subfolders_are_skipped_by_one_request_each(pyserver, mount_on):
    pyserver.set_all({f"w{number}/{name}": "x" for number in range(5) for name in names(1200)} | {"a": "1", "z": "2"})
    mount = mount_on(pyserver, WARM)
    pyserver.clear_log()
    assert len(os.listdir(mount.path)) == 7
    assert counts(pyserver)["RANGE"] <= 1 + 1 + 1 + 5


def test_small_subfolders_in_one_page_cost_nothing_more(pyserver, mount_on):
    """Their keys came along with the page."""
    pyserver.set_all({f"d/s{number}/f": "x" for number in range(20)})
    mount = mount_on(pyserver, WARM)
    sh("ls", mount.path)
    pyserver.clear_log()
    assert len(os.listdir(mount.path / "d")) == 20
    assert counts(pyserver)["RANGE"] <= 2 + 20


def test_warm_work_costs_nothing(pyserver, mount_on, tmp_path):
    pyserver.set_all({f"d{a}/{name}": "x" * 20 for a in range(3) for name in names(50)})
    mount = mount_on(pyserver, WARM)
    sh("ls -lR . > /dev/null; cat d*/*; find .; grep -r nothing . || true", mount.path)
    pyserver.clear_log()
    sh('ls -lR .; cat d*/*; find . -size +1000; stat d0/*; grep -r nothing . || true; test ! -e absent; test ! -e d1/absent', mount.path)
    assert pyserver.log() == []


def test_cold_find_and_cat_read_each_folder_once_and_no_key(pyserver, mount_on):
    """A listing brings the values along."""
    pyserver.set_all({f"d/{name}": name for name in names(100)})
    mount = mount_on(pyserver, WARM)
    sh("ls", mount.path)
    pyserver.clear_log()
    assert sh("cat d/*", mount.path).stdout == "".join(names(100))
    assert set(counts(pyserver)) <= {"RANGE"}
    assert counts(pyserver)["RANGE"] <= 2


@pytest.mark.parametrize("count", [50, 2500])
def test_100_concurrent_readers_of_a_cold_key(pyserver, mount_on, count):
    pyserver.set_all({f"d/{name}": name for name in names(count)})
    mount = mount_on(pyserver, WARM)
    pyserver.clear_log()
    name = names(count)[count // 2]
    hold = pyserver.fault(op=["GET", "RANGE"], hold=True)
    readers = [
        subprocess.Popen(["cat", f"d/{name}"], cwd=mount.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        for _ in range(100)
    ]
    wait_for(lambda: pyserver.hits(hold) > 0, "a request of the readers")
    pyserver.clear_faults()
    assert {reader.communicate(timeout=240)[0] for reader in readers} == {name.encode()}
    assert pyserver.log().count(("GET", f"d/{name}")) <= 1


def test_a_cold_file_of_a_large_folder_costs_no_listing_of_it(pyserver, mount_on):
    pyserver.set_all({f"d/{name}": name for name in names(20000)})
    mount = mount_on(pyserver, WARM)
    pyserver.clear_log()
    assert (mount.path / "d/n15000").read_bytes() == b"n15000"
    assert len(pyserver.log()) <= 10


# --- changes; the folder is warm ---


@pytest.fixture
def warm(pyserver, mount_on):
    pyserver.set_all({"d/old": "old", "d/a": "a\n", "d/other": "o"})
    mount = mount_on(pyserver, WARM)
    sh("ls -l . d", mount.path)
    pyserver.clear_log()
    return mount


@pytest.mark.parametrize(
    "script, expected",
    [
        ("echo x > d/new", [("SET", "d/new")]),
        ("echo x > d/old", [("SET", "d/old")]),
        ("touch d/new", [("SET", "d/new")]),
        ("printf 'a\\0b' > d/new", [("SET", "d/new")]),
        ("rm d/a", [("DELETE", "d/a")]),
        ("mv d/a d/b", [("SET", "d/b"), ("DELETE", "d/a")]),
        ("mv d/a d/old", [("SET", "d/old"), ("DELETE", "d/a")]),
        ("cp d/a d/b", [("SET", "d/b")]),
    ],
)
def test_a_change_costs(pyserver, warm, script, expected):
    """Of a mount without subscription, a GET of a key right before it is changed is no surprise: it finds what the
    change destroys."""
    sh(script, warm.path)
    warm.unmount()
    log = pyserver.log()
    assert [row for row in log if row[0] not in ("GET", "RANGE")] == expected
    assert [row for row in log if row[0] == "RANGE"] == []
    assert Counter(row for row in log if row[0] == "GET") <= Counter({("GET", key): 1 for _, key in expected})


@pytest.mark.parametrize("script", ["echo x > d/new", "echo x > d/old", "touch d/new"])
def test_a_whole_write_of_a_warm_file_is_its_set_alone(pyserver, warm, script):
    sh(script, warm.path)
    warm.unmount()
    assert [op for op, _ in pyserver.log()] == ["SET"]


def test_append_is_one_change(pyserver, warm):
    sh("echo x >> d/old", warm.path)
    warm.unmount()
    assert [key for op, key in pyserver.log() if op in ("SET", "PATCH")] == ["d/old"]


def test_after_our_own_change_reading_costs_nothing(pyserver, warm):
    sh("echo x > d/new; echo y > d/old; mv d/a d/b; rm d/other", warm.path)
    pyserver.clear_log()
    assert sh("cat d/new d/old d/b; ls d", warm.path).stdout.split() == ["x", "y", "a", "b", "new", "old"]
    assert pyserver.log() == []


def test_1000_new_files_are_1000_sets(pyserver, mount_on):
    mount = mount_on(pyserver, WARM)
    sh("ls", mount.path)
    pyserver.clear_log()
    sh("for i in $(seq 1000); do echo $i > f$i; done", mount.path)
    assert counts(pyserver) == {"SET": 1000}


def test_equal_requests_at_hpkvd(hpkvd, store, make_mount):
    store.set("d/old", "old")
    mount = make_mount(options=[WARM])
    sh("ls -l . d", mount.path)
    before = hpkvd.requests()
    sh("echo x > d/new; echo y > d/old; touch d/t", mount.path)
    mount.unmount()
    after = hpkvd.requests()
    changed = {op: after[op] - before.get(op, 0) for op in after if after[op] != before.get(op, 0)}
    assert changed == {"set": 3}
