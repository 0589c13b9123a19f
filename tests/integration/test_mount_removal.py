"""Chunks that no file needs any more go after a while: by the mount that has replaced or removed the file, or by the next."""

import os

import pytest

from lib.mount import Mount
from lib.processes import wait_for

pytestmark = pytest.mark.timeout(480)

SOON, LATE = "50:10", "1000000:10"

OLD, NEW = bytes(range(256)) * 40, bytes(reversed(range(256))) * 30


def mount_with(server, times):
    return Mount(server.url, options="ttl=0", key=server.key, env={"HPKVFS_TEST_TIMES": times})


def chunks(server):
    return {key for key in server.contents() if key.startswith(".hpkvfs/c/")}


def journal(server):
    return [key for key in server.contents() if key.startswith(".hpkvfs/j/")]


def replace(path):
    (path / "f").write_bytes(NEW)


def remove(path):
    os.unlink(path / "f")


def rename_over(path):
    (path / "g").write_bytes(NEW)
    os.rename(path / "g", path / "f")


@pytest.mark.parametrize("act", [replace, remove, rename_over])
@pytest.mark.parametrize("times", [SOON, LATE])
def test_chunks_go(pyserver, act, times):
    with mount_with(pyserver, times) as mount:
        (mount.path / "f").write_bytes(OLD)
        old = chunks(pyserver)
        assert len(old) == 5
        act(mount.path)
        if times == SOON:
            wait_for(lambda: not old & chunks(pyserver), "the removal of the old chunks")
        else:
            assert old <= chunks(pyserver)
    if times == LATE:
        assert old <= chunks(pyserver)
        assert journal(pyserver)
        with mount_with(pyserver, SOON):
            wait_for(lambda: not journal(pyserver), "the next mount's work")
    assert not old & chunks(pyserver)
    with mount_with(pyserver, SOON) as mount:
        if act is not remove:
            assert (mount.path / "f").read_bytes() == NEW
    assert len(chunks(pyserver)) == (0 if act is remove else 4)


def test_chunks_of_a_file_that_is_open_stay_until_it_is_closed(pyserver):
    with mount_with(pyserver, SOON) as mount:
        (mount.path / "f").write_bytes(OLD)
        old = chunks(pyserver)
        with open(mount.path / "f", "rb", buffering=0) as file:
            os.unlink(mount.path / "f")
            (mount.path / "g").write_bytes(NEW)
            now = chunks(pyserver)
            os.unlink(mount.path / "g")
            wait_for(lambda: chunks(pyserver) == old, f"the removal of what was written later, {now - old}")
            assert file.read() == OLD
        wait_for(lambda: not chunks(pyserver), "the removal of what was open")
