"""Mounts that die or stop after one of their writes (HPKVFS_TEST_STOP in mount.hpkvfs(8)), and servers that are killed."""

import contextlib
import errno
import os
import signal
from concurrent.futures import ThreadPoolExecutor

from lib.mount import Mount
from lib.processes import wait_for
from lib.pyserver import PyServer
from lib.wsclient import Client

# What a program may be told when the mount dies under it.
DEATH = {errno.ENOTCONN, errno.ECONNABORTED, errno.EIO}


def mount_with(server, times, stop=None, options=()):
    """`times` as in HPKVFS_TEST_TIMES, `stop` as in HPKVFS_TEST_STOP."""
    env = {"HPKVFS_TEST_TIMES": times}
    if stop:
        env["HPKVFS_TEST_STOP"] = stop
    return Mount(server.url, options=["ttl=0", *options], key=server.key, env=env)


def dies(mount, act):
    """Runs act(path) on a mount that is to kill itself, and unmounts; False where it made fewer writes than that takes."""
    try:
        act(mount.path)
    except OSError as error:
        assert error.errno in DEATH, error
        wait_for(lambda: not mount.running(), "the mount's end")
    if mount.running():
        mount.umount()
        if mount.exit_code() != -signal.SIGKILL:
            mount.wait_end()
            return False
    mount.close()
    return True


def is_stopped(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"
    except (FileNotFoundError, ProcessLookupError):
        return False


def outlives(mount, hpkvd, act):
    """The same on a mount that is to stop itself: its server dies then, with answers on the way, and comes back."""

    def whole():
        act(mount.path)
        mount.unmount()

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(whole)
        try:
            wait_for(lambda: going.done() or is_stopped(mount.pid), "the end of the work, or the stop", every=0.005)
            stopped = is_stopped(mount.pid)
            if stopped:
                hpkvd.kill9()
                hpkvd.start()
        finally:
            if mount.running():
                os.kill(mount.pid, signal.SIGCONT)
        going.result(timeout=400)
    return stopped


@contextlib.contextmanager
def peer(server):
    """What changes the store of a PyServer or an Hpkvd as another client does."""
    if isinstance(server, PyServer):
        yield server
        return
    with Client(server.url, server.key) as client:
        yield client


def contents_of(server):
    with peer(server) as other:
        return server.contents() if other is server else dict(other.range_all())


def put_back(server, contents):
    now = contents_of(server)
    with peer(server) as other:
        for key in now.keys() - contents.keys():
            other.delete(key)
        for key, value in contents.items():
            if now.get(key) != value:
                other.set(key, value)
