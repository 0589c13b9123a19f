"""What this machine remembers between mounts: mtimes of plain keys, and inode numbers."""

import os
import time

import pytest

from lib.shell import need, sh, write

pytestmark = pytest.mark.timeout(480)


@pytest.fixture
def remount(pyserver, mount_on, tmp_path):
    """A mount with a state file; called again, it unmounts the last one and mounts anew."""
    last = []

    def mount(*options):
        if last:
            last.pop().unmount()
        last.append(mount_on(pyserver, f"state={tmp_path}/state.db", *options))
        return last[0]

    return mount


def mtime(path):
    return os.stat(path).st_mtime_ns


def test_mtime_of_a_foreign_key_stays(pyserver, remount):
    pyserver.set("d/f", "x")
    mount = remount()
    first = mtime(mount.path / "d/f")
    assert abs(first / 1e9 - time.time()) < 100
    assert mtime(mount.path / "d/f") == first
    assert (mount.path / "d/f").read_bytes() == b"x"
    assert mtime(mount.path / "d/f") == first


def test_mtime_stays_across_remounts(pyserver, remount):
    pyserver.set("d/f", "x")
    mount = remount()
    first = mtime(mount.path / "d/f")
    for _ in range(2):
        mount = remount()
        assert mtime(mount.path / "d/f") == first


def test_mtime_of_our_own_write_stays_across_remounts(remount):
    mount = remount()
    write(mount.path / "f", b"x")
    write(mount.path / "binary", b"\0")
    first = mtime(mount.path / "f"), mtime(mount.path / "binary")
    assert (mount.path / "f").read_bytes() == b"x"
    assert (mtime(mount.path / "f"), mtime(mount.path / "binary")) == first
    mount = remount()
    assert (mtime(mount.path / "f"), mtime(mount.path / "binary")) == first


def test_mtime_moves_forward_with_a_foreign_change(pyserver, remount):
    pyserver.set("f", "aaaa")
    mount = remount()
    first = mtime(mount.path / "f")
    pyserver.set("f", "bbbb")
    second = mtime(mount.path / "f")
    assert second > first
    mount = remount()
    assert mtime(mount.path / "f") == second
    pyserver.set("f", "cccc")
    mount = remount()
    assert mtime(mount.path / "f") > second


def test_mtime_moves_forward_with_a_change_while_not_mounted(pyserver, remount):
    pyserver.set("f", "aaaa")
    first = mtime(remount().path / "f")
    pyserver.set("f", "bbbb")
    assert mtime(remount().path / "f") > first


def test_mtime_moves_with_our_own_writes_and_not_with_their_commit(remount):
    mount = remount()
    write(mount.path / "f", b"x")
    first = mtime(mount.path / "f")
    time.sleep(0.05)
    file = os.open(mount.path / "f", os.O_WRONLY)
    os.write(file, b"y")
    during = os.fstat(file).st_mtime_ns
    assert during > first
    os.fsync(file)
    os.close(file)
    assert mtime(mount.path / "f") == during


def test_mtime_is_kept_by_a_rename(pyserver, remount):
    pyserver.set("a", "x")
    mount = remount()
    first = mtime(mount.path / "a")
    os.rename(mount.path / "a", mount.path / "b")
    assert mtime(mount.path / "b") == first
    assert mtime(remount().path / "b") == first


def test_rsync_out_a_second_time_copies_nothing(pyserver, remount, tmp_path):
    need("rsync")
    pyserver.set_all({f"d{n % 4}/f{n}": f"content {n}" for n in range(60)} | {"top": "x"})
    mount = remount()
    write(mount.path / "empty", b"")
    first = sh('rsync -ai ./ "$1/"', mount.path, tmp_path / "copy").stdout
    assert len([line for line in first.splitlines() if line.startswith(">f")]) == 62
    again = sh('rsync -ai ./ "$1/"', mount.path, tmp_path / "copy").stdout
    assert again == ""
    mount = remount()
    after_remount = sh('rsync -ai ./ "$1/"', mount.path, tmp_path / "copy").stdout
    assert after_remount == ""


def test_rsync_out_after_three_foreign_changes_copies_those_three(pyserver, remount, tmp_path):
    need("rsync")
    pyserver.set_all({f"d/f{n}": "same size" for n in range(20)})
    mount = remount()
    sh('rsync -a ./ "$1/"', mount.path, tmp_path / "copy")
    for n in (3, 7, 11):
        pyserver.set(f"d/f{n}", "SAME SIZE")
    mount = remount()
    copied = [line.split()[1] for line in sh('rsync -ai ./ "$1/"', mount.path, tmp_path / "copy").stdout.splitlines() if line[0] == ">"]
    assert sorted(copied) == ["d/f11", "d/f3", "d/f7"]
    assert (tmp_path / "copy/d/f7").read_text() == "SAME SIZE"


def inodes(folder):
    found = {}
    for where, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(where, name)
            found[os.path.relpath(path, folder)] = os.stat(path).st_ino
    return found


def test_inode_numbers_are_unique_and_the_same_after_a_remount(pyserver, remount):
    pyserver.set_all({f"d{n % 7}/f{n}": "x" for n in range(3000)})
    first = inodes(remount().path)
    assert len(first) == 3007
    assert len(set(first.values())) == 3007
    assert 1 not in first.values()
    assert inodes(remount().path) == first


def test_inode_numbers_in_listings_are_those_of_stat(pyserver, remount):
    pyserver.set_all({f"d/f{n}": "x" for n in range(50)} | {"d/sub/x": "y"})
    mount = remount()
    with os.scandir(mount.path / "d") as entries:
        for entry in entries:
            assert entry.inode() == os.stat(entry.path).st_ino


def test_inode_number_is_kept_by_a_rename(pyserver, remount):
    pyserver.set("a", "x")
    mount = remount()
    first = os.stat(mount.path / "a").st_ino
    os.rename(mount.path / "a", mount.path / "b")
    write(mount.path / "a", b"another")
    assert os.stat(mount.path / "b").st_ino == first
    assert os.stat(mount.path / "a").st_ino != first
    mount = remount()
    assert os.stat(mount.path / "b").st_ino == first
    assert os.stat(mount.path / "a").st_ino != first
