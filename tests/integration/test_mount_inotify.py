"""The option inotify: what other clients change is seen by programs that watch, once each, and costs nothing."""

import contextlib
import os
import re
import signal
import stat
import subprocess
import threading

import pytest

from lib.hpkvd import Hpkvd
from lib.inotify import Inotify
from lib.mount import MountFailed
from lib.processes import alive, mounted, program, wait_for
from lib.wsclient import Client

pytestmark = pytest.mark.timeout(480)

LIVE = "the server tells of changes"
ENDED = "the helper process for inotify has ended"


@pytest.fixture
def told(hpkvd, make_mount):
    """Mounts that raise events, with a subscription that stands, and the root listed."""

    def make(*options, **keywords):
        mount = make_mount(
            hpkvd.url, ["inotify", "ttl=3600", *options], key=hpkvd.key, subscribe=True, arguments=["-d"], **keywords
        )
        wait_for(lambda: LIVE in mount.log(), "the subscription")
        return mount

    return make


@pytest.fixture
def ear(store):
    """Watches, most often the root and what is given below it."""
    with contextlib.ExitStack() as stack:

        def make(root, *below, **keywords):
            keywords.setdefault("mark", lambda name: store.set(name, "a mark"))
            return stack.enter_context(Inotify(root, *[root / name for name in below], **keywords))

        yield make


def reads(hpkvd):
    return hpkvd.requests("get") + hpkvd.requests("range")


# --- what is told ---


def test_what_comes_changes_and_goes(hpkvd, store, told, ear):
    store.set("d/there", "1")
    mount = told()
    assert sorted(os.listdir(mount.path)) == ["d"] and os.listdir(mount.path / "d") == ["there"]
    heard = ear(mount.path, "d")
    before = hpkvd.requests()
    for name in ["a", "d/a", "d/there"]:
        store.set(name, "first")
        new = "MODIFY" if name == "d/there" else "CREATE"
        assert heard.next(2) == [f"{new} {name}", f"CLOSE_WRITE {name}"]
        store.set(name, "second, which is longer")
        assert heard.next(2) == [f"MODIFY {name}", f"CLOSE_WRITE {name}"]
        assert (mount.path / name).read_text() == "second, which is longer"
        store.set(name, "third")
        assert heard.next(2) == [f"MODIFY {name}", f"CLOSE_WRITE {name}"]
        assert (mount.path / name).read_text() == "third"
        store.delete(name)
        assert heard.next(1) == [f"DELETE {name}"]
        assert not (mount.path / name).exists()
    heard.nothing()
    # all that was asked is what the other client did
    after = hpkvd.requests()
    assert {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)} == {
        "set": 3 * 3 + 1,
        "delete": 3,
    }


def test_each_event_finds_the_content_that_it_is_about(store, told, ear):
    """Whoever reads when told never finds older content."""
    store.set("a", "0")
    mount = told()
    assert (mount.path / "a").read_text() == "0"
    heard = ear(mount.path)
    for number in range(1, 200):
        store.set("a", f"{number}" * (number % 7 + 1))
        assert heard.next(2) == ["MODIFY a", "CLOSE_WRITE a"]
        assert (mount.path / "a").read_text() == f"{number}" * (number % 7 + 1)


def test_an_equal_value_is_no_event(store, told, ear):
    store.set("a", "same")
    mount = told()
    assert (mount.path / "a").read_text() == "same"
    heard = ear(mount.path)
    store.set("a", "same")
    store.set("a", "same")
    heard.nothing()


def test_folders_appear_with_their_keys(store, told, ear):
    mount = told()
    assert os.listdir(mount.path) == []
    heard = ear(mount.path)
    store.set("d/e/x", "1")
    store.set("d/e/y", "1")
    assert heard.next(1) == ["CREATE,ISDIR d"]
    assert os.listdir(mount.path / "d") == ["e"] and sorted(os.listdir(mount.path / "d/e")) == ["x", "y"]
    store.set("d/e/z", "1")
    heard.nothing()
    deep = ear(mount.path / "d/e", mark=lambda name: store.set(f"d/e/{name}", "1"))
    store.set("d/e/x", "2")
    store.delete("d/e/y")
    assert deep.all() == ["MODIFY x", "CLOSE_WRITE x", "DELETE y"]


def test_what_another_mount_does(hpkvd, store, told, ear, make_mount):
    """Every kind of file, and folders that go with what is in them."""
    mount = told()
    other = make_mount(hpkvd.url, ["ttl=0"], key=hpkvd.key, subscribe=True).path
    assert os.listdir(mount.path) == []
    heard = ear(mount.path)
    (other / "d").mkdir()
    assert heard.next(1) == ["CREATE,ISDIR d"]
    deep = ear(mount.path / "d", mark=lambda name: store.set(f"d/{name}", "1"))
    (other / "d/a").write_text("text")
    assert deep.until("CLOSE_WRITE a") == ["CREATE a", "CLOSE_WRITE a"]
    (other / "d/big").write_bytes(os.urandom(100000))
    assert deep.until("CLOSE_WRITE big") == ["CREATE big", "CLOSE_WRITE big"]
    (other / "d/link").symlink_to("a")
    assert deep.next(1) == ["CREATE link"]
    os.mkfifo(other / "d/pipe")
    assert deep.next(1) == ["CREATE pipe"]
    assert stat.S_ISFIFO((mount.path / "d/pipe").stat().st_mode) and os.readlink(mount.path / "d/link") == "a"
    (other / "d/a").rename(other / "d/b")
    assert sorted(deep.next(3)) == ["CLOSE_WRITE b", "CREATE b", "DELETE a"]
    (other / "d/sub").mkdir()
    assert deep.next(1) == ["CREATE,ISDIR sub"]
    assert os.listdir(mount.path / "d/sub") == []
    heard.nothing()
    deep.nothing()
    subprocess.run(["rm", "-r", other / "d"], check=True, timeout=240)
    gone = ["DELETE b", "DELETE big", "DELETE link", "DELETE mark-1", "DELETE pipe", "DELETE,ISDIR sub"]
    assert sorted(deep.next(len(gone))) == gone
    assert heard.until("DELETE,ISDIR d") == ["DELETE,ISDIR d"]
    assert sorted(os.listdir(mount.path)) == ["mark-1"]


# --- what is not told, or otherwise ---


def local_work(root):
    script = """
    echo one > a
    echo two > a
    echo more >> a
    mv a b
    cp b c
    mkdir d
    mv b d/b
    sed -i s/two/three/ d/b
    rm -r d
    ln -s c link
    touch c
    rm c link
    """
    subprocess.run(["bash", "-euc", script], cwd=root, check=True, timeout=240)


def comparable(lines):
    """Events that are equal to the one before may be one, and sed's temporary name is another each time."""
    lines = [re.sub(r"sed\w{6}", "sed", line) for line in lines]
    return [line for before, line in zip([None, *lines], lines) if line != before]


def test_local_work_raises_what_it_does_elsewhere(store, told, ear, tmp_path):
    """The same events as in a folder of another filesystem: none twice, none missing."""
    mount = told()
    plain = tmp_path / "plain"
    plain.mkdir()
    heard = ear(mount.path)
    with Inotify(plain) as reference:
        local_work(plain)
        expected = reference.until("DELETE link")
    local_work(mount.path)
    assert comparable(heard.all()) == comparable(expected)


def test_in_a_folder_that_nobody_has_listed(hpkvd, store, told, ear):
    """The first change of a file that was never looked at may be its creation, as far as anybody here knows."""
    store.set("there", "1")
    store.set("goes", "1")
    mount = told()
    heard = ear(mount.path)
    before = reads(hpkvd)
    store.set("there", "2")
    store.set("there", "2")
    store.set("there", "3")
    store.delete("goes")
    store.set("new", "1")
    store.delete("new")
    assert heard.all() == [
        "CREATE there",
        "CLOSE_WRITE there",
        "MODIFY there",
        "CLOSE_WRITE there",
        "DELETE goes",
        "CREATE new",
        "CLOSE_WRITE new",
        "DELETE new",
    ]
    assert reads(hpkvd) == before
    assert (mount.path / "there").read_text() == "3" and sorted(os.listdir(mount.path)) == ["mark-1", "there"]


def stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


@contextlib.contextmanager
def held_up(mount):
    """While the helper is stopped, events wait."""
    pid = mount.helper()
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: stopped(pid), "the helper to stop")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_name_that_was_looked_up_before_its_event(store, told, ear):
    store.set("d/keep", "1")
    mount = told()
    os.listdir(mount.path)
    heard = ear(mount.path)
    with held_up(mount):
        store.set("a", "1")
        wait_for((mount.path / "a").exists, "the file")
        store.set("dir/x", "1")
        wait_for((mount.path / "dir").exists, "the folder")
    assert heard.all() == ["MODIFY a", "CLOSE_WRITE a"]
    assert (mount.path / "a").read_text() == "1" and os.listdir(mount.path / "dir") == ["x"]


def test_what_came_in_the_place_of_what_was_removed_stays(store, told, ear):
    store.set("a", "1")
    store.set("b", "1")
    mount = told()
    assert (mount.path / "a").read_text() == (mount.path / "b").read_text() == "1"
    heard = ear(mount.path)
    with held_up(mount):
        for name in "a", "b":
            store.delete(name)
            store.set(name, "22")
        wait_for(lambda: (mount.path / "a").stat().st_size == 2, "the new file")
    # of one a program knows already that it is there
    assert heard.all() == ["MODIFY a", "CLOSE_WRITE a", "DELETE b", "CREATE b", "CLOSE_WRITE b"]
    for name in "a", "b":
        assert (mount.path / name).read_text() == "22" and (mount.path / name).stat().st_nlink == 1


def test_what_came_and_went_before_its_event(store, told, ear):
    store.set("d/keep", "1")
    mount = told()
    assert os.listdir(mount.path / "d") == ["keep"]
    heard = ear(mount.path, "d")
    with held_up(mount):
        store.set("d/a", "1")
        store.set("d/a", "2")
        store.delete("d/a")
        store.set("sub/x", "1")
    found = heard.all()
    assert found == ["CREATE d/a", "CLOSE_WRITE d/a", "MODIFY d/a", "CLOSE_WRITE d/a", "DELETE d/a", "CREATE,ISDIR sub"]
    assert not (mount.path / "d/a").exists() and os.listdir(mount.path / "d") == ["keep"]


def test_a_watch_on_the_file_itself(store, told, ear):
    mount = told()
    with ear(mount.path) as heard:
        store.set("a", "1")
        heard.until("CLOSE_WRITE a")
    heard = ear(mount.path / "a", events="modify,close_write,delete_self")
    store.set("a", "2")
    assert heard.next(2) == ["MODIFY .", "CLOSE_WRITE ."]
    store.delete("a")
    assert heard.next(1) == ["DELETE_SELF ."]


def test_an_executable_can_be_started_at_any_time(store, told, ear):
    mount = told()
    script = mount.path / "run"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    os.listdir(mount.path)
    heard = ear(mount.path)
    done = threading.Event()
    failed = []

    def start():
        while not done.is_set():
            try:
                subprocess.run([script], check=True, timeout=240)
            except (OSError, subprocess.SubprocessError) as error:
                failed.append(error)

    starter = threading.Thread(target=start)
    starter.start()
    for number in range(300):
        store.set("run", f"#!/bin/sh\nexit 0\n# {number}\n")
    found = heard.all()
    done.set()
    starter.join()
    assert not failed, failed[:3]
    assert set(found) == {"MODIFY run"}


# --- the helper's life ---


def test_without_its_helper_the_mount_goes_on(store, told, ear):
    mount = told()
    os.listdir(mount.path)
    heard = ear(mount.path)
    store.set("a", "1")
    assert heard.next(2) == ["CREATE a", "CLOSE_WRITE a"]
    os.kill(mount.helper(), signal.SIGKILL)
    wait_for(lambda: ENDED in mount.log(), "the line in the log")
    for number in range(100):
        store.set("a", f"{number}")
    wait_for(lambda: (mount.path / "a").read_text() == "99", "the last value")
    (mount.path / "b").write_text("here")
    assert heard.until("CLOSE_WRITE b") == ["CREATE b", "MODIFY b", "CLOSE_WRITE b"]
    mount.unmount()
    assert mount.log().count(ENDED) == 1


def test_a_helper_that_hangs(store, told):
    """Everything works, and the end comes."""
    mount = told()
    pid = mount.helper()
    os.kill(pid, signal.SIGSTOP)
    for number in range(100):
        store.set(f"f{number}", "1")
    wait_for(lambda: len(os.listdir(mount.path)) == 100, "the names")
    (mount.path / "f1").write_text("mine")
    (mount.path / "f2").unlink()
    mount.unmount()
    assert not alive(pid)


def test_a_folder_that_a_program_keeps_locked(pyserver, make_mount):
    """What a program waits for in it, an event in it waits for too, and nobody else."""
    pyserver.set_all({"d/x": "1", "e/x": "1"})
    mount = make_mount(
        pyserver.url, ["inotify", "timeout=60"], key=pyserver.key, subscribe=True, arguments=["-d"]
    )
    wait_for(lambda: LIVE in mount.log(), "the subscription")
    assert os.listdir(mount.path / "d") == os.listdir(mount.path / "e") == ["x"]
    held = pyserver.fault(op="SET", prefix=".hpkvfs/m/d/sub", hold=True)
    maker = threading.Thread(target=(mount.path / "d/sub").mkdir)
    with Inotify(mount.path / "d", mount.path / "e", mark=lambda name: pyserver.set(f"d/{name}", "1")) as heard:
        maker.start()
        try:
            wait_for(lambda: pyserver.hits(held), "the request that hangs")
            pyserver.set("d/x", "2")
            pyserver.set("d/y", "1")
            pyserver.set("e/y", "1")
            wait_for((mount.path / "e/y").exists, "the other folder's file")
            for number in range(20):
                (mount.path / f"e/z{number}").write_text("mine")
                assert (mount.path / f"e/z{number}").read_text() == "mine"
        finally:
            pyserver.release(held)
            maker.join(60)
        found = [line for line in heard.all() if "e/z" not in line]
        wanted = ["MODIFY x", "CLOSE_WRITE x", "CREATE y", "CLOSE_WRITE y", "CREATE,ISDIR sub"]
        assert sorted(line for line in found if "../e" not in line) == sorted(wanted)
        assert [line for line in found if "../e" in line] == ["MODIFY ../e/y", "CLOSE_WRITE ../e/y"]


def test_after_the_server_was_away(tmp_path, make_mount):
    with Hpkvd(tmp_path / "store") as server:
        mount = make_mount(server.url, ["inotify"], key=server.key, subscribe=True, arguments=["-d"])
        wait_for(lambda: LIVE in mount.log(), "the subscription")
        with Inotify(mount.path) as heard:
            with Client(server.url, server.key) as client:
                for name in "changes", "goes", "stays":
                    client.set(name, "1")
            heard.next(6)
            assert sorted(os.listdir(mount.path)) == ["changes", "goes", "stays"]
            server.kill9()
            server.start()
            with Client(server.url, server.key) as client:
                client.set("changes", "2")
                client.set("stays", "1")
                client.delete("goes")
                client.set("comes", "1")
                client.set("folder/x", "1")
                wait_for(lambda: mount.log().count(LIVE) >= 2, "the subscription again")
                # as one after the other, or by what is found other than before
                found = heard.next(6)
                assert sorted(found) == [
                    "CLOSE_WRITE changes",
                    "CLOSE_WRITE comes",
                    "CREATE comes",
                    "CREATE,ISDIR folder",
                    "DELETE goes",
                    "MODIFY changes",
                ]
                client.set("a", "1")
                client.set("a", "2")
                client.delete("a")
            assert heard.next(5) == ["CREATE a", "CLOSE_WRITE a", "MODIFY a", "CLOSE_WRITE a", "DELETE a"]


def test_a_mount_that_was_made_read_only(store, told, ear):
    """Events are missing, with one line, until it is writable again."""
    mount = told()
    os.listdir(mount.path)
    heard = ear(mount.path)
    subprocess.run([program("src/mount/hpkvfs"), "none", mount.path, "-o", "remount,ro"], check=True, timeout=240)
    store.set("a", "1")
    store.set("b", "1")
    wait_for(lambda: mount.log().count("inotify: no event for") == 2, "the refusals")
    assert mount.log().count("raise no inotify events") == 1
    subprocess.run([program("src/mount/hpkvfs"), "none", mount.path, "-o", "remount,rw"], check=True, timeout=240)
    store.set("a", "2")
    assert heard.next(2) == ["MODIFY a", "CLOSE_WRITE a"]


def test_it_ends_with_the_mount(store, told):
    mount = told()
    pid = mount.helper()
    assert alive(pid)
    mount.unmount()
    assert not alive(pid)


def test_it_ends_with_a_mount_that_is_killed(store, told):
    mount = told()
    pid = mount.helper()
    mount.kill9()
    wait_for(lambda: not alive(pid), "the helper's end")


def test_it_holds_nothing(told):
    """No descriptor of the daemon's, and nothing in the mount."""
    mount = told()
    pid = mount.helper()
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert sorted(link.split(":")[0] for link in links) == ["/dev/null"] * 3 + ["socket"]
    assert os.readlink(f"/proc/{pid}/cwd") == "/"


def test_umount_while_nothing_is_told(store, told, ear):
    """Not once it is busy."""
    mount = told()
    os.listdir(mount.path)
    pid = mount.helper()
    with Inotify(mount.path) as heard:
        for number in range(10):
            store.set(f"f{number}", "1")
        heard.until("CLOSE_WRITE f9")
    wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) == 4, "rest")
    done = subprocess.run(["umount", "-i", mount.path], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    mount.wait_end()


def test_umount_while_events_flow(hpkvd, told):
    mount = told()
    os.listdir(mount.path)
    done = threading.Event()

    def change():
        with Client(hpkvd.url, hpkvd.key) as client:
            for number in range(100000):
                if done.is_set():
                    break
                client.set(f"f{number % 50}", f"{number}")

    changer = threading.Thread(target=change)
    changer.start()
    try:
        with Inotify(mount.path) as heard:
            heard.next(200)
            mount.unmount()
    finally:
        done.set()
        changer.join()


def test_a_burst(hpkvd, store, told, ear):
    """Two thousand files at once: each is told of, in order, and the mount answers meanwhile."""
    store.set("d/keep", "1")
    mount = told()
    assert os.listdir(mount.path / "d") == ["keep"]
    heard = ear(mount.path, "d")
    numbers = [store.send(op=2, key=f"d/f{number:04}", value="1") for number in range(2000)]
    for number in range(20):
        (mount.path / f"local{number}").write_text("mine")
    for number in numbers:
        assert store.receive(number)["code"] == 200
    found = [line for line in heard.all() if " local" not in line]
    assert found == [f"{kind} d/f{number:04}" for number in range(2000) for kind in ("CREATE", "CLOSE_WRITE")]
    assert len(os.listdir(mount.path / "d")) == 2001


# --- who mounts ---


def test_for_an_ordinary_user(hpkvd, store, told, ear):
    mount = told(user=1000)
    heard = ear(mount.path, user=1000)
    store.set("a", "1")
    store.set("a", "2")
    store.delete("a")
    assert heard.all() == ["CREATE a", "CLOSE_WRITE a", "MODIFY a", "CLOSE_WRITE a", "DELETE a"]


def test_in_the_background(hpkvd, store, make_mount, ear):
    mount = make_mount(hpkvd.url, ["inotify"], key=hpkvd.key, subscribe=True, background=True)
    heard = ear(mount.path)

    def comes():
        store.set("a", os.urandom(8).hex())
        return heard.lines

    wait_for(comes, "an event", every=0.2)
    assert alive(mount.helper())
    mount.unmount()


@pytest.mark.parametrize(
    "options, text",
    [("ro,inotify", "ro and inotify cannot be used together"), ("inotify,nosubscribe", "inotify cannot be used with nosubscribe")],
)
def test_what_it_does_not_go_with(hpkvd, make_mount, options, text):
    with pytest.raises(MountFailed) as failed:
        make_mount(hpkvd.url, options, key=hpkvd.key, subscribe=True)
    assert failed.value.code == 1 and text in failed.value.log and failed.value.log.count("\n") == 1


def test_another_folder_in_the_place_of_the_mount(store, told, tmp_path):
    """What the helper does elsewhere would be done to real files."""
    mount = told(path=tmp_path / "up/mnt")
    store.set("a", "1")
    os.listdir(mount.path)
    (tmp_path / "up").rename(tmp_path / "away")
    elsewhere = tmp_path / "up/mnt"
    elsewhere.mkdir(parents=True)
    (elsewhere / "a").write_text("real")
    store.set("b", "1")
    store.delete("a")
    store.set("c", "1")
    wait_for(lambda: mount.log().count("inotify: no event for") >= 3, "the events' end")
    assert os.listdir(elsewhere) == ["a"] and (elsewhere / "a").read_text() == "real"
    (elsewhere / "a").unlink()
    elsewhere.rmdir()
    (tmp_path / "up").rmdir()
    (tmp_path / "away").rename(tmp_path / "up")
    assert mounted(mount.path)
