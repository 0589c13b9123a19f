"""The memory of a mount while much waits in it, over all files."""

import errno
import os
import threading
import time

import pytest

from lib.processes import is_sanitized, resident_peak
from lib.shell import write

pytestmark = pytest.mark.timeout(1200)

KIB = 1 << 10
MIB = 1 << 20
LARGE = pytest.mark.hpkvd_options("--max-value", str(MIB))
LARGE_MOUNT = "max_value=1048576,ttl=3600"

# 64 MiB that wait, 64 that can be read again, and what is on its way.
MOST = 256 * MIB


def assert_bounded(mount):
    if not is_sanitized(mount.pid):
        assert resident_peak(mount.pid) < MOST


def block(number, at, size):
    """Of every second file it is text, so that a megabyte of it is a plain value."""
    line = b"%010d%010d" % (number, at) + (b"text" * 3 if number % 2 else b"\0\xff" * 6)
    return line * (size // len(line)) + line[: size % len(line)]


def assert_holds(path, number, total, size):
    with open(path, "rb") as file:
        for at in range(0, total, size):
            assert file.read(size) == block(number, at, size)
        assert file.read(1) == b""


@LARGE
@pytest.mark.parametrize("threads", [1, 16])
def test_hundreds_of_open_files(hpkvd, make_mount, threads):
    mount = make_mount(options=LARGE_MOUNT)
    # More than there is room for; and several times as much where memory can be measured.
    count, size = 120 if is_sanitized(mount.pid) else 320, 64 * KIB * threads
    fds = [os.open(mount.path / f"f{number}", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666) for number in range(count)]
    errors = []

    def work(first):
        try:
            for at in range(0, MIB, size):
                for number in range(first, count, threads):
                    assert os.write(fds[number], block(number, at, size)) == size
            for number in range(first, count, threads):
                os.close(fds[number])
        except (OSError, AssertionError) as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(first,)) for first in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors
    assert_bounded(mount)
    again = make_mount(options=LARGE_MOUNT)
    for number in range(count):
        assert_holds(again.path / f"f{number}", number, MIB, size)
    assert_bounded(again)


@LARGE
def test_thousands_of_closed_local_files(hpkvd, make_mount):
    mount = make_mount(options=LARGE_MOUNT + ",local_ttl=3600")
    count, size = 5000, 32 * KIB
    for number in range(count):
        fd = os.open(mount.path / f"f{number}~", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        os.write(fd, block(number, 0, size))
        os.close(fd)
    assert_bounded(mount)
    stored = hpkvd.requests("set")
    assert 0 < stored < count
    mount.unmount()
    again = make_mount(options=LARGE_MOUNT)
    for number in range(count):
        assert_holds(again.path / f"f{number}~", number, size, size)


@LARGE
def test_many_open_files_while_the_server_is_away(hpkvd, make_mount):
    """A write that finds no room fails in its time, and what was taken is in the store in the end."""
    mount = make_mount(options=LARGE_MOUNT + ",timeout=3")
    count, size = 100, 64 * KIB
    write(mount.path / "first", b"x")
    fds = [os.open(mount.path / f"f{number}", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666) for number in range(count)]
    written = [0] * count
    hpkvd.stop()
    failed, number, start = 0, 0, 0
    while failed < 3:
        assert sum(written) < 80 * MIB
        try:
            start = time.monotonic()
            assert os.write(fds[number % count], block(number % count, written[number % count], size)) == size
            written[number % count] += size
        except OSError as error:
            assert error.errno in (errno.EIO, errno.ETIMEDOUT)
            assert time.monotonic() - start < 15
            failed += 1
        number += 1
    assert sum(written) > 40 * MIB
    hpkvd.start()
    for number, fd in enumerate(fds):
        assert os.write(fd, block(number, written[number], size)) == size
        written[number] += size
        os.close(fd)
    assert_bounded(mount)
    again = make_mount(options=LARGE_MOUNT)
    for number in range(count):
        assert_holds(again.path / f"f{number}", number, written[number], size)
