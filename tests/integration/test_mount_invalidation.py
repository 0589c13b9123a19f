"""What the kernel is told of changes that it cannot know of itself, before a program can look."""

import os
import threading

import pytest

from lib.processes import free_mount, wait_for

pytestmark = pytest.mark.timeout(240)

# The kernel's own copy is what tests look at.
WARM = "ttl=3600"
ROUNDS = 200


def test_a_number_is_seen_as_soon_as_it_was_added(pyserver, mount_on):
    pyserver.set("n", 0)
    mount = mount_on(pyserver, WARM)
    file = os.open(mount.path / "n", os.O_RDONLY)
    try:
        for count in range(1, ROUNDS):
            os.pread(file, 10, 0)
            os.setxattr(mount.path / "n", "user.hpkv.incr", b"1")
            assert os.pread(file, 10, 0) == str(count).encode()
            assert os.fstat(file).st_size == len(str(count))
    finally:
        os.close(file)


def test_a_patch_is_seen_at_once(pyserver, mount_on):
    pyserver.set("j", '{"a":0}')
    mount = mount_on(pyserver, WARM)
    file = os.open(mount.path / "j", os.O_RDONLY)
    try:
        for count in range(1, ROUNDS):
            os.pread(file, 100, 0)
            os.setxattr(mount.path / "j", "user.hpkv.patch", b'{"a":%d}' % count)
            assert os.pread(file, 100, 0) == b'{"a":%d}' % count
    finally:
        os.close(file)


def test_an_append_at_an_old_size_is_seen_after_the_close(pyserver, mount_on):
    """Somebody else has made the file longer in the meantime."""
    pyserver.set("log", "0\n")
    mount = mount_on(pyserver, "ttl=0")
    expected = b"0\n"
    for count in range(1, 60):
        file = os.open(mount.path / "log", os.O_WRONLY | os.O_APPEND)
        theirs, ours = b"theirs %d\n" % count, b"ours %d\n" % count
        pyserver.set("log", (expected + theirs).decode())
        os.write(file, ours)
        os.close(file)
        expected += theirs + ours
        assert pyserver.get("log").encode() == expected
        reader = os.open(mount.path / "log", os.O_RDONLY)
        try:
            assert os.pread(reader, 10000, 0) == expected
        finally:
            os.close(reader)


def test_a_removal_beside_a_verb_does_not_hang(pyserver, mount_on):
    """Who removes the name waits with the folder locked for who holds the file."""
    mount = mount_on(pyserver, WARM)
    for count in range(20):
        pyserver.set(f"d/n{count}", 0)
    paths = [mount.path / "d" / name for name in sorted(os.listdir(mount.path / "d"))]
    for path in paths:
        path.read_bytes()

    def add(path):
        try:
            os.setxattr(path, "user.hpkv.incr", b"1")
        except FileNotFoundError:
            pass

    def remove(path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass

    threads = [threading.Thread(target=work, args=(path,)) for path in paths for work in (add, remove)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert not any(thread.is_alive() for thread in threads)
    mount.unmount()


def test_a_closed_file_beside_a_reader_whose_server_is_silent(pyserver, mount_on):
    """What hangs is one request; others and their files go on."""
    pyserver.set_all({"a/f": "one", "b/f": "one"})
    mount = mount_on(pyserver, "ttl=0", "timeout=20")
    assert (mount.path / "b" / "f").read_text() == "one"
    held = pyserver.fault(prefix="a/", hold=True)
    reader = threading.Thread(target=lambda: (mount.path / "a" / "f").read_text())
    reader.start()
    try:
        wait_for(lambda: pyserver.hits(held), "the request that hangs")
        pyserver.set("b/f", "two")
        assert (mount.path / "b" / "f").read_text() == "two"
        with open(mount.path / "b" / "f", "a", encoding="utf-8") as file:
            file.write("three")
        assert (mount.path / "b" / "f").read_text() == "twothree"
    finally:
        pyserver.release(held)
        reader.join(30)


def test_a_folder_that_is_waited_for_holds_nobody_else_up(pyserver, mount_on):
    """The name that changed cannot be expired while a lookup beside it hangs; what concerns other folders goes first."""
    pyserver.set_all({"a/f": "one", "a/x": "1", "b/m": "7"})
    pyserver.set("b/n", 0)
    mount = mount_on(pyserver, "ttl=0", "timeout=40")
    assert sorted(os.listdir(mount.path / "a")) == ["f", "x"]
    assert (mount.path / "a" / "f").read_text() == "one"
    number = os.open(mount.path / "b" / "n", os.O_RDONLY)
    # A name that the kernel has not seen: only then it keeps the folder locked.
    held = pyserver.fault(op=["GET", "RANGE"], prefix="a/", times=1, hold=True)
    asker = threading.Thread(target=lambda: os.path.exists(mount.path / "a" / "none"))
    asker.start()
    try:
        wait_for(lambda: pyserver.hits(held), "the lookup that hangs")
        pyserver.set("a/f", "another")
        assert os.stat(mount.path / "a" / "f").st_size == 7
        for count in range(1, 20):
            os.pread(number, 10, 0)
            os.setxattr(mount.path / "b" / "n", "user.hpkv.incr", b"1")
            assert os.pread(number, 10, 0) == str(count).encode()
    finally:
        pyserver.release(held)
        asker.join(30)
        os.close(number)


class Hangs:
    """True when it was asked for a while and the process was in the kernel all the time, and could not be interrupted."""

    def __init__(self, pid):
        self.pid, self.count = pid, 0

    def __call__(self):
        with open(f"/proc/{self.pid}/stat", encoding="utf-8", errors="replace") as file:
            stuck = file.read().rpartition(")")[2].split()[0] == "D"
        self.count = self.count + 1 if stuck else 0
        return self.count >= 50


def test_written_by_the_thread_that_answers_it_hangs(pyserver, mount_on):
    """What the one before this is good for: the same work, and the kernel is told directly."""
    pyserver.set_all({"a/f": "one", "a/x": "1"})
    mount = mount_on(pyserver, "ttl=0", "timeout=40", env={"HPKVFS_TEST_NOTIFY": "directly"})
    assert "HPKVFS_TEST_NOTIFY" in mount.log()
    assert sorted(os.listdir(mount.path / "a")) == ["f", "x"]
    assert (mount.path / "a" / "f").read_text() == "one"
    held = pyserver.fault(op=["GET", "RANGE"], prefix="a/", times=1, hold=True)
    asker = threading.Thread(target=lambda: os.path.exists(mount.path / "a" / "none"))
    asker.start()
    wait_for(lambda: pyserver.hits(held), "the lookup that waits")
    pyserver.set("a/f", "another")
    looker = threading.Thread(target=lambda: os.path.exists(mount.path / "a" / "f"))
    looker.start()
    try:
        wait_for(Hangs(mount.pid), "the deadlock")
        pyserver.release(held)  # there is nobody to take the answer
        wait_for(Hangs(mount.pid), "the deadlock, still")
        assert asker.is_alive()
    finally:
        pyserver.release(held)
        free_mount(mount.path)
        asker.join(30)
        looker.join(30)
    assert not asker.is_alive() and not looker.is_alive()
    mount.close()
