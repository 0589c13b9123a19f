"""Temporary files wait here under their names: what programs that replace files cost, and what other clients see of it."""

import os
from collections import Counter

import pytest

from lib.processes import wait_for
from lib.shell import need, sh

pytestmark = pytest.mark.timeout(480)


def changes(pyserver):
    """Writes by operation and key, without the layout's mark."""
    return Counter(row for row in pyserver.log() if row[0] not in ("GET", "RANGE") and row[1] != ".hpkvfs/fs")


def test_rsync_of_a_new_small_file_is_a_value_and_a_record(pyserver, mount_on, tmp_path):
    need("rsync")
    (tmp_path / "f").write_text("text")
    os.utime(tmp_path / "f", ns=(1, 1234567890123456789))
    mount = mount_on(pyserver, "umask=022", "ttl=3600", "uid=0", "gid=0")
    sh("ls -l", mount.path)
    sh('rsync -a "$1" .', mount.path, tmp_path / "f")
    assert changes(pyserver) == {("SET", "f"): 1, ("SET", ".hpkvfs/m/f"): 1}
    assert pyserver.get("f") == "text"
    assert os.stat(mount.path / "f").st_mtime_ns == 1234567890123456789


def test_sed_i_is_one_set(pyserver, mount_on):
    need("sed")
    pyserver.set("f", "old\n")
    mount = mount_on(pyserver, "umask=022", "ttl=3600", "uid=0", "gid=0")
    sh("ls -l", mount.path)
    sh("sed -i s/old/new/ f", mount.path)
    assert changes(pyserver) == {("SET", "f"): 1}
    assert pyserver.get("f") == "new\n"


def test_no_name_is_local_with_an_empty_list(pyserver, mount_on):
    mount = mount_on(pyserver, "local=")
    os.close(os.open(mount.path / "f.swp", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    wait_for(lambda: "f.swp" in pyserver.contents(), "the file in the store", 30)


def test_own_patterns_and_time(pyserver, mount_on):
    mount = mount_on(pyserver, "local=tmp-*:x?", "local_ttl=0.1")
    os.close(os.open(mount.path / "tmp-1", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    wait_for(lambda: "tmp-1" in pyserver.contents(), "the file in the store", 30)


def test_swap_files_are_gone_with_the_mount_and_others_are_not(pyserver, mount_on):
    mount = mount_on(pyserver, "umask=022", "uid=0", "gid=0")
    for name in (".f.swp", "g~"):
        file = os.open(mount.path / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(file, b"text")
        os.close(file)
    assert set(os.listdir(mount.path)) == {".f.swp", "g~"}
    assert changes(pyserver) == {}
    mount.unmount()
    assert changes(pyserver) == {("SET", "g~"): 1}


def test_an_open_file_is_sent_by_time_once_a_copy_was_closed(pyserver, mount_on):
    mount = mount_on(pyserver, "commit=0.1")
    file = os.open(mount.path / "f", os.O_CREAT | os.O_WRONLY)
    os.close(os.dup(file))
    os.write(file, b"text")
    wait_for(lambda: pyserver.contents().get("f") == "text", "the file in the store", 30)
    os.close(file)
