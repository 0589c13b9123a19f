"""Without a subscription, what was read holds for `ttl=` and no longer: then another client's change is seen by whoever opens,
lists or asks."""

import os
import time

import pytest

from lib.processes import wait_for
from lib.shell import sh, write

pytestmark = pytest.mark.timeout(240)

TTL = 1.0


@pytest.fixture
def mount(pyserver, mount_on):
    return mount_on(pyserver, "ttl=1")


def pass_ttl():
    """A lower bound, not a limit: after it nothing read before may be relied on."""
    time.sleep(TTL + 0.3)


def test_changed_content_and_size(pyserver, mount):
    pyserver.set("f", "one")
    assert (mount.path / "f").read_bytes() == b"one"
    pyserver.set("f", "a longer second")
    pass_ttl()
    assert os.stat(mount.path / "f").st_size == 15
    assert (mount.path / "f").read_bytes() == b"a longer second"
    pyserver.set("f", "3")
    pass_ttl()
    assert (mount.path / "f").read_bytes() == b"3"
    assert os.stat(mount.path / "f").st_size == 1


def test_changed_content_of_equal_size(pyserver, mount):
    """What the kernel's pages hold must not be shown again."""
    pyserver.set("f", "aaaa")
    for letter in "bcd":
        assert (mount.path / "f").read_bytes() == (mount.path / "f").read_bytes()
        pyserver.set("f", letter * 4)
        pass_ttl()
        assert (mount.path / "f").read_bytes() == letter.encode() * 4


def test_equal_size_seen_by_a_new_open_while_another_is_held(pyserver, mount):
    pyserver.set("f", "aaaa")
    held = os.open(mount.path / "f", os.O_RDONLY)
    assert os.pread(held, 10, 0) == b"aaaa"
    pyserver.set("f", "bbbb")
    pass_ttl()
    assert (mount.path / "f").read_bytes() == b"bbbb"
    os.close(held)
    held = os.open(mount.path / "f", os.O_RDONLY)
    assert os.pread(held, 10, 0) == b"bbbb"
    os.close(held)


def test_a_listing_that_brought_the_new_value_does_not_hide_the_change(pyserver, mount):
    """The directory is read again between the change and the open; the pages are still those of the old value."""
    pyserver.set("d/f", "aaaa")
    assert (mount.path / "d/f").read_bytes() == b"aaaa"
    pyserver.set("d/f", "bbbb")
    pass_ttl()
    sh("ls -l d", mount.path)
    assert (mount.path / "d/f").read_bytes() == b"bbbb"


def test_removed_file(pyserver, mount):
    pyserver.set("f", "x")
    assert (mount.path / "f").exists()
    pyserver.delete("f")
    pass_ttl()
    assert not (mount.path / "f").exists()
    assert os.listdir(mount.path) == []


def test_new_name_that_was_absent_before(pyserver, mount):
    assert not (mount.path / "f").exists()
    assert os.listdir(mount.path) == []
    pyserver.set("f", "x")
    pass_ttl()
    assert (mount.path / "f").read_bytes() == b"x"
    assert os.listdir(mount.path) == ["f"]


def test_new_and_removed_folders(pyserver, mount):
    assert not (mount.path / "d").exists()
    pyserver.set("d/e/f", "x")
    pass_ttl()
    assert os.listdir(mount.path / "d/e") == ["f"]
    pyserver.delete("d/e/f")
    pyserver.set("other", "x")
    pass_ttl()
    assert "other" in os.listdir(mount.path)
    assert not (mount.path / "d/e/f").exists()


def test_file_that_became_a_folder_and_back(pyserver, mount):
    pyserver.set("x", "file")
    assert (mount.path / "x").read_bytes() == b"file"
    pyserver.delete("x")
    pyserver.set("x/f", "below")
    pass_ttl()
    assert (mount.path / "x/f").read_bytes() == b"below"


def test_a_file_that_became_a_folder_as_well_while_only_the_file_was_asked_for(pyserver, mount):
    """Somebody who waits for `a/b` and never lists the folder above."""
    pyserver.set("a", "value")
    assert (mount.path / "a").read_bytes() == b"value"
    pyserver.set("a/b", "below")
    pass_ttl()
    wait_for((mount.path / "a/b").exists, "the key below the file", 20)
    assert (mount.path / "a/b").read_bytes() == b"below"
    assert (mount.path / "a/%=").read_bytes() == b"value"


def test_foreign_change_under_a_writer_that_has_not_committed(pyserver, mount):
    """The last one wins, and nothing mixes."""
    pyserver.set("f", "original")
    file = os.open(mount.path / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(file, b"ours")
    pyserver.set("f", "theirs")
    os.close(file)
    assert pyserver.get("f") == "ours"
    assert (mount.path / "f").read_bytes() == b"ours"


def test_seen_within_the_default_ttl_of_about_a_second(pyserver, make_mount):
    pyserver.set("f", "aaaa")
    mount = make_mount(spec=pyserver.url, key=pyserver.key)
    assert (mount.path / "f").read_bytes() == b"aaaa"
    pyserver.set("f", "bbbb")
    wait_for(lambda: (mount.path / "f").read_bytes() == b"bbbb", "the other client's value", 30)


def test_long_ttl_asks_nothing_again(pyserver, mount_on):
    mount = mount_on(pyserver, "ttl=3600")
    pyserver.set("f", "aaaa")
    assert (mount.path / "f").read_bytes() == b"aaaa"
    pyserver.clear_log()
    for _ in range(20):
        assert (mount.path / "f").read_bytes() == b"aaaa"
        os.listdir(mount.path)
    assert [row for row in pyserver.log() if row[1] == "f"] == []


def test_two_mounts_after_ttl(server, mount_on):
    one, two = mount_on(server, "ttl=1"), mount_on(server, "ttl=1")
    write(one.path / "f", b"1111")
    wait_for(lambda: (two.path / "f").exists(), "the new file on the other mount", 30)
    assert (two.path / "f").read_bytes() == b"1111"
    write(two.path / "f", b"2222")
    pass_ttl()
    assert (one.path / "f").read_bytes() == b"2222"
    os.unlink(one.path / "f")
    pass_ttl()
    assert os.listdir(two.path) == []
