"""A mount that is told of changes: warm work asks nothing, and what others change is there at once."""

import errno
import mmap
import os
import random
import subprocess
import threading
import time
from contextlib import ExitStack

import pytest

from lib.agreement import wait_to_agree
from lib.hpkvd import Hpkvd
from lib.processes import wait_for
from lib.proxy import Proxy, Valve
from lib.shell import look_at_all
from lib.watch import Watch
from lib.wsclient import Client, Refused

pytestmark = pytest.mark.timeout(480)

LIVE = "the server tells of changes"
FOR_EVER = "ttl=3600"  # what is not told would be wrong for the whole test


@pytest.fixture
def told(hpkvd, make_mount):
    """Mounts whose subscription stands."""

    def make(*options, server=hpkvd, **keywords):
        mount = make_mount(server.url, [FOR_EVER, *options], key=server.key, subscribe=True, arguments=["-d"], **keywords)
        wait_for(lambda: LIVE in mount.log(), "the subscription")
        return mount

    return make


def end(process):
    process.kill()
    process.wait()


def run(*command, cwd):
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=240).stdout


def content(path):
    try:
        return path.read_text()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def shows(mount, path, text):
    wait_for(lambda: content(mount.path / path) == text, f"{path} = {text!r}")


# --- nothing is asked twice ---


def test_warm_work_asks_nothing(hpkvd, store, told, tmp_path):
    for number in range(1000):
        store.set(f"d{number % 10}/f{number:04}", f"value {number}\n")
    mount = told("ttl=0")

    look_at_all(mount.path, tmp_path / "copy")
    before = hpkvd.requests()
    look_at_all(mount.path, tmp_path / "copy")
    look_at_all(mount.path, tmp_path / "copy")
    assert hpkvd.requests() == before


def test_reading_what_was_changed_asks_nothing(hpkvd, store, told):
    store.set("a", "1")
    store.set("d/b", "1")
    mount = told()
    run("ls", "-lR", ".", cwd=mount.path)
    store.set("a", "changed")
    store.set("d/new", "new")
    store.delete("d/b")
    before = hpkvd.requests("get") + hpkvd.requests("range")
    shows(mount, "a", "changed")
    shows(mount, "d/new", "new")
    shows(mount, "d/b", None)
    assert sorted(os.listdir(mount.path / "d")) == ["new"]
    assert hpkvd.requests("get") + hpkvd.requests("range") == before


# --- what others change ---


def test_all_that_the_kernel_holds_is_corrected(store, told):
    store.set("a", "1")
    mount = told()
    root = mount.path
    assert content(root / "a") == "1" and content(root / "none") is None and os.listdir(root) == ["a"]
    store.set("a", "longer than it was")
    wait_for(lambda: (root / "a").stat().st_size == 18, "the size")
    shows(mount, "a", "longer than it was")
    store.set("a", "x")
    wait_for(lambda: (root / "a").stat().st_size == 1, "the size")
    store.set("none", "here")
    shows(mount, "none", "here")
    assert sorted(os.listdir(root)) == ["a", "none"]
    store.delete("none")
    wait_for(lambda: os.listdir(root) == ["a"], "the listing")
    store.set("dir/deep/file", "1")
    shows(mount, "dir/deep/file", "1")
    store.set("a/below", "1")
    wait_for(lambda: (root / "a").is_dir(), "the directory in the file's place")
    assert sorted(os.listdir(root / "a")) == ["%=", "below"]
    store.set(".hpkvfs/m/a/below", '{"v":1,"mode":33216}')
    wait_for(lambda: (root / "a/below").stat().st_mode == 0o100700, "the mode")
    store.set(".hpkvfs/m/link", '{"v":1,"mode":41471,"target":"a"}')
    wait_for(lambda: os.path.islink(root / "link"), "the link")
    store.delete(".hpkvfs/m/link")
    wait_for(lambda: not os.path.lexists(root / "link"), "the link's end")


def test_what_is_open_and_mapped_is_corrected(store, told):
    store.set("a", "first")
    mount = told()
    with open(mount.path / "a", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == b"first"
        store.set("a", "other")
        wait_for(lambda: mapped[:] == b"other", "the mapped page")
        wait_for(lambda: os.pread(file.fileno(), 100, 0) == b"other", "the page")


def test_mtimes_agree_and_grow(store, told):
    store.set("a", "1")
    one, other = told(), told()
    last = 0
    assert content(one.path / "a") == content(other.path / "a") == "1"
    # Seen for the first time at two times; within a second of its own a change would get the begin of the next.
    seen = max((mount.path / "a").stat().st_mtime_ns for mount in (one, other))
    wait_for(lambda: time.time_ns() // 10**9 > seen // 10**9, "the next second")
    for number in range(5):
        store.set("a", f"change {number}")
        shows(one, "a", f"change {number}")
        shows(other, "a", f"change {number}")
        now = (one.path / "a").stat().st_mtime_ns
        assert now > last and (other.path / "a").stat().st_mtime_ns == now
        last = now


def test_our_own_writes_are_no_news(hpkvd, told):
    mount = told()
    (mount.path / "a").write_text("mine")
    before = (mount.path / "a").stat().st_mtime_ns
    with Watch(hpkvd.url, hpkvd.key, "b") as watch:
        watch.ready()
        (mount.path / "b").write_text("later")
        watch.line()
    assert (mount.path / "a").stat().st_mtime_ns == before
    count = hpkvd.requests("get") + hpkvd.requests("range")
    assert (mount.path / "a").read_text() == "mine"
    assert hpkvd.requests("get") + hpkvd.requests("range") == count


def test_none_is_stale_once_another_was_told(hpkvd, told):
    """What a second subscriber has been told is seen through the mount, at the latest after what is on its way to the kernel."""
    mount = told()
    rng = random.Random(1)
    names = [f"n{number}" for number in range(20)] + [f"d/n{number}" for number in range(20)]
    stale = []
    with Client(hpkvd.url, hpkvd.key) as client, Watch(hpkvd.url, hpkvd.key) as watch:
        watch.ready()
        for number in range(1000):
            name = rng.choice(names)
            text = None if rng.random() < 0.2 and content(mount.path / name) is not None else f"{number}" * rng.randrange(1, 40)
            if text is None:
                client.delete(name)
            else:
                client.set(name, text)
            watch.line()
            if content(mount.path / name) != text:
                stale.append(name)
                shows(mount, name, text)
            present = mount.path / name
            assert (present.name in os.listdir(present.parent)) == (text is not None)
            if text is not None:
                assert present.stat().st_size == len(text)
    assert len(stale) < 500, "most are there by then"


def test_a_name_that_goes_while_it_is_looked_up_again(hpkvd, told):
    """What the kernel is just taking in of it, that it is there, must not hold: nobody would tell of it again."""
    mount = told()
    goes = mount.path / "goes"
    look = ["sh", "-c", "while :; do [ -e goes ]; done"]
    with Client(hpkvd.url, hpkvd.key) as client, ExitStack() as ends:
        for _ in range(4):
            ends.callback(end, subprocess.Popen(look, cwd=mount.path))
        for _ in range(300):
            client.set("goes", "1")
            wait_for(goes.exists, "the name")
            client.set("goes", "22")  # so that it is to be looked up again
            goes.exists()
            client.delete("goes")
            wait_for(lambda: not goes.exists(), "its end")


# --- several writers ---


NAMES = [f"n{number}" for number in range(15)] + [f"d/n{number}" for number in range(10)]

# What a call may answer because of what another writer has just done.
FAIR = {errno.ENOENT, errno.ESTALE, errno.EIO, errno.EBUSY}


def append(path, text):
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def a_step(rng, path, other, text):
    """One change, or a look, by a program."""
    return rng.choice(
        [
            lambda: path.write_text(text * rng.randrange(1, 300)),
            lambda: path.write_bytes(bytes([0, rng.randrange(256)]) * rng.randrange(1, 4000)),
            lambda: append(path, text),
            path.unlink,
            lambda: path.rename(other),
            path.read_bytes,
            lambda: path.chmod(rng.choice([0o600, 0o644])),
        ]
    )


def programs(mount, seed, unfair):
    rng = random.Random(seed)
    for number in range(300):
        step = a_step(rng, mount.path / rng.choice(NAMES), mount.path / rng.choice(NAMES), f"{seed} {number} ")
        try:
            step()
        except OSError as error:
            if error.errno not in FAIR:
                unfair.append(repr(error))


def another_client(hpkvd, seed, unfair):
    rng = random.Random(seed)
    with Client(hpkvd.url, hpkvd.key) as client:
        for number in range(300):
            name = rng.choice(NAMES)
            try:
                if rng.random() < 0.3:
                    client.delete(name)
                else:
                    client.set(name, f"foreign {number}")
            except Refused as refused:
                if refused.code != 404:
                    unfair.append(repr(refused))


def seen(mount):
    found = {}
    for name in NAMES:
        path = mount.path / name
        try:
            found[name] = (path.stat().st_mode, path.read_bytes())
        except FileNotFoundError:
            found[name] = None
    return found


def test_two_mounts_and_another_client_agree_at_rest(hpkvd, told):
    mounts = [told("umask=022"), told("umask=022")]
    for mount in mounts:
        (mount.path / "d").mkdir(exist_ok=True)
    # What is not touched again stays as it is shown: rests find more than one long run.
    for turn in range(5):
        unfair = []
        workers = [
            threading.Thread(target=programs, args=(mount, 10 * turn + number, unfair)) for number, mount in enumerate(mounts)
        ]
        workers.append(threading.Thread(target=another_client, args=(hpkvd, 10 * turn + 3, unfair)))
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not unfair, unfair[:5]
        # Attributes wait for a second: at rest both have sent them.
        wait_to_agree(lambda: seen(mounts[0]), lambda: seen(mounts[1]))
    third = told("umask=022")
    for mount in mounts:
        wait_to_agree(lambda: seen(third), lambda: seen(mount))


# --- lost and found ---


def test_connections_that_die_without_a_word(tmp_path, make_mount):
    """As when a cable is pulled: nobody is told, and no error reaches a program."""
    with Hpkvd(tmp_path / "store") as server, Proxy(server.url) as proxy, Client(server.url, server.key) as client:
        valve = proxy.to_client = proxy.to_server = Valve()
        mount = make_mount(proxy.url, [FOR_EVER], key=server.key, subscribe=True, arguments=["-d"])
        wait_for(lambda: LIVE in mount.log(), "the subscription")
        client.set("changes", "1")
        client.set("goes", "1")
        shows(mount, "changes", "1")
        shows(mount, "goes", "1")
        assert not (mount.path / "comes").exists()
        proxy.to_client = proxy.to_server = Valve()
        valve.closed = True
        client.set("changes", "22")
        client.delete("goes")
        client.set("comes", "1")
        (mount.path / "ours").write_text("written meanwhile")
        wait_for(lambda: mount.log().count(LIVE) >= 2, "the subscription again")
        shows(mount, "changes", "22")
        shows(mount, "goes", None)
        shows(mount, "comes", "1")
        assert client.get("ours") == "written meanwhile"
        assert sorted(os.listdir(mount.path)) == ["changes", "comes", "ours"]
        mount.unmount()


def test_what_changed_while_the_server_was_away(tmp_path, make_mount):
    with Hpkvd(tmp_path / "store") as server:
        mount = make_mount(server.url, [FOR_EVER], key=server.key, subscribe=True, arguments=["-d"])
        wait_for(lambda: LIVE in mount.log(), "the subscription")
        with Client(server.url, server.key) as client:
            client.set("changes", "1")
            client.set("goes", "1")
        shows(mount, "changes", "1")
        shows(mount, "goes", "1")
        assert not (mount.path / "comes").exists()
        with open(mount.path / "changes", "rb") as file:
            assert file.read() == b"1"
            server.kill9()
            server.start()
            with Client(server.url, server.key) as client:
                client.set("changes", "22")
                client.delete("goes")
                client.set("comes", "1")
            wait_for(lambda: mount.log().count(LIVE) >= 2, "the subscription again")
            shows(mount, "changes", "22")
            shows(mount, "goes", None)
            shows(mount, "comes", "1")
            wait_for(lambda: os.pread(file.fileno(), 10, 0) == b"22", "the page of what is open")
        assert sorted(os.listdir(mount.path)) == ["changes", "comes"]
