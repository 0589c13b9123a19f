"""Content of every kind and size through a real mount, and what of it another client finds in the store."""

import ctypes
import fcntl
import mmap
import os
import random
import time

import pytest

from lib.layout import chunks, content_of, parts_of, stub
from lib.processes import is_sanitized, resident_peak, wait_for
from lib.shell import fails_with, sh, write

pytestmark = pytest.mark.timeout(720)

MAX = 3072
CHUNK = 2304
ID = "1a0c4506c000123456789abcdef0123456789abcdef"

MIB = 1 << 20
LARGE = pytest.mark.hpkvd_options("--max-value", str(MIB))
LARGE_MOUNT = "max_value=1048576,ttl=3600"

PUNCH = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE, which needs FALLOC_FL_KEEP_SIZE
KEEP_SIZE = 0x01
ZERO_RANGE = 0x10

libc = ctypes.CDLL(None, use_errno=True)


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def content(size, kind):
    """`size` bytes, the same for the same arguments."""
    source = random.Random(f"{kind}{size}")
    if kind == "text":
        return bytes(source.choices(b"abcdefghij \n", k=size))
    return source.randbytes(size - 1) + b"\0" if size else b""


def chunk_keys(server):
    return {key for key in server.contents() if key.startswith(".hpkvfs/c/")}


# --- sizes and kinds ---

SIZES = [0, 1, 2285, 2286, CHUNK - 1, CHUNK, CHUNK + 1, MAX - 1, MAX, MAX + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 100000]


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_every_size_is_read_back_by_a_mount_and_by_another_client(pyserver, mount_on, kind):
    mount = mount_on(pyserver)
    for size in SIZES:
        write(mount.path / f"f{size}", content(size, kind))
        assert (mount.path / f"f{size}").read_bytes() == content(size, kind)
    again = mount_on(pyserver)
    for size in SIZES:
        value = pyserver.get(f"f{size}")
        assert (parts_of(value) is None) == (kind == "text" and 0 < size <= MAX)
        assert content_of(pyserver.get, f"f{size}") == content(size, kind)
        assert os.stat(again.path / f"f{size}").st_size == size
        assert (again.path / f"f{size}").read_bytes() == content(size, kind)
    assert max(len(value) for value in pyserver.contents().values()) <= MAX


def test_what_another_client_stored_is_read(pyserver, mount_on):
    first, second = content(10 * CHUNK + 7, "binary"), content(1000, "binary")
    holed = first[:CHUNK] + bytes(2 * CHUNK) + first[3 * CHUNK :]
    part = chunks(pyserver.set, ID, holed, CHUNK, holes={1, 2})
    other = chunks(pyserver.set, ID[::-1], second, 10)
    pyserver.set("f", stub(part, b"inline\0", other, text="and text"))
    mount = mount_on(pyserver)
    expected = holed + b"inline\0" + second + b"and text"
    assert os.stat(mount.path / "f").st_size == len(expected)
    assert (mount.path / "f").read_bytes() == expected
    with open(mount.path / "f", "rb") as file:
        for offset, size in [(CHUNK - 3, 10), (len(holed) - 2, 20), (len(expected) - 4, 100), (0, 1)]:
            file.seek(offset)
            assert file.read(size) == expected[offset : offset + size]
    # a change makes one part of it
    with open(mount.path / "f", "r+b") as file:
        file.seek(len(holed) + 2)
        file.write(b"changed")
    expected = expected[: len(holed) + 2] + b"changed" + expected[len(holed) + 9 :]
    assert content_of(pyserver.get, "f") == expected
    assert (mount_on(pyserver).path / "f").read_bytes() == expected


def test_a_file_changes_between_plain_and_stub_as_its_content_does(pyserver, mount_on):
    mount = mount_on(pyserver)
    forms = []
    for data in (b"text", b"\0", b"t" * 5000, b"t" * 3000, b"", b"\xff" * 5000, b"text again"):
        with open(mount.path / "f", "wb", buffering=0) as file:
            file.write(data)
            os.fsync(file)
        found = parts_of(pyserver.get("f"))
        forms.append("plain" if found is None else "inline" if found[0][0].startswith("=") else "chunks")
        assert content_of(pyserver.get, "f") == data
    assert forms == ["plain", "inline", "chunks", "plain", "inline", "chunks", "plain"]


# --- requests ---


@LARGE
def test_requests_of_large_files(hpkvd, make_mount):
    mount = make_mount(options=LARGE_MOUNT)
    size = 128 * 1024
    write(mount.path / "first", b"\0" * (size + 1) + b"\1")  # the layout's version is written once
    data = bytearray(content(10 * MIB, "binary"))

    def cost(work):
        before = hpkvd.requests()
        work()
        after = hpkvd.requests()
        return {op: after[op] - before.get(op, 0) for op in after if after[op] != before.get(op, 0)}

    assert cost(lambda: write(mount.path / "f", data)) == {"set": 81}
    data[0] ^= 1
    assert cost(lambda: write(mount.path / "f", data)) == {"set": 81}
    assert cost(lambda: write(mount.path / "small", b"\0\1\2")) == {"set": 1}

    def change():
        with open(mount.path / "f", "r+b", buffering=0) as file:
            file.seek(5 * MIB)
            file.write(b"x" * 4096)

    # the chunk and the record; the chunk is still in memory
    assert cost(change) == {"set": 1, "patch": 1}
    data[5 * MIB : 5 * MIB + 4096] = b"x" * 4096
    again = make_mount(options=LARGE_MOUNT)
    assert cost(lambda: (again.path / "f").read_bytes())["get"] == 80
    assert (again.path / "f").read_bytes() == data
    assert cost(lambda: (again.path / "f").read_bytes()) == {}


# --- much ---


@LARGE
def test_memory_is_bounded_while_much_is_written_and_read(hpkvd, make_mount):
    mount = make_mount(options=LARGE_MOUNT)
    block = content(MIB, "binary")
    with open(mount.path / "f", "wb", buffering=0) as file:
        for number in range(200):
            file.write(number.to_bytes(8, "big") + block[8:])
    again = make_mount(options=LARGE_MOUNT)
    with open(again.path / "f", "rb", buffering=0) as file:
        for number in [*range(60), 100, 150, 199]:
            file.seek(number * MIB)
            assert file.read(MIB) == number.to_bytes(8, "big") + block[8:]
    for one in (mount, again):
        if not is_sanitized(one.pid):
            assert resident_peak(one.pid) < 100 * MIB


@LARGE
def test_random_changes_of_64_mebibytes(hpkvd, make_mount, tmp_path):
    """Beside an ordinary file: writes, truncations, holes, copies, fsync, reopening, another mount."""
    mount = make_mount(options=LARGE_MOUNT)
    paths = [tmp_path / "twin", mount.path / "f"]
    size, source = 64 * MIB, random.Random(7)
    for path in paths:
        with open(path, "wb") as file:
            file.truncate(size)
    fds = [os.open(path, os.O_RDWR) for path in paths]
    for step in range(600):
        kind, offset = source.choice("wwwwwwwzpctsro"), source.randrange(size)
        length = min(source.choice([1, 100, 4096, 128 * 1024, 300000]), size - offset)
        data = source.randbytes(length)
        target = source.randrange(size - length + 1)
        for fd in fds:
            if kind == "w":
                os.pwrite(fd, data, offset)
            elif kind == "z":
                fallocate(fd, ZERO_RANGE | KEEP_SIZE, offset, length)
            elif kind == "p":
                fallocate(fd, PUNCH, offset, length)
            elif kind == "c" and abs(target - offset) >= length:
                os.copy_file_range(fd, fd, length, offset, target)
            elif kind == "t" and step % 5 == 0:
                os.ftruncate(fd, offset)
                os.ftruncate(fd, size)
            elif kind == "s":
                os.fsync(fd)
        if kind == "o":
            os.close(fds[1])
            fds[1] = os.open(paths[1], os.O_RDWR)
        assert len({os.pread(fd, length, offset) for fd in fds}) == 1, step
    for fd in fds:
        os.close(fd)
    sh(f"cmp {paths[0]} {paths[1]}", tmp_path)
    again = make_mount(options=LARGE_MOUNT)
    sh(f"cmp {paths[0]} {again.path}/f", tmp_path)


# --- sparse ---


def test_sparse_files(pyserver, mount_on):
    mount = mount_on(pyserver, "ttl=3600")
    path = mount.path / "f"
    with open(path, "wb") as file:
        file.seek(100 * CHUNK)
        file.write(b"middle")
        file.truncate(1 << 40)
    assert len(chunk_keys(pyserver)) == 1
    assert os.stat(path).st_size == 1 << 40
    for mounted in (mount, mount_on(pyserver)):
        fd = os.open(mounted.path / "f", os.O_RDONLY)
        assert os.lseek(fd, 0, os.SEEK_DATA) == 100 * CHUNK
        assert os.lseek(fd, 100 * CHUNK, os.SEEK_HOLE) == 101 * CHUNK
        with fails_with("ENXIO"):
            os.lseek(fd, 101 * CHUNK, os.SEEK_DATA)
        assert os.pread(fd, 10, 100 * CHUNK - 2) == b"\0\0middle\0\0"
        assert os.pread(fd, 10, (1 << 40) - 4) == bytes(4)
        os.close(fd)
    with open(path, "r+b") as file:
        fallocate(file.fileno(), PUNCH, 100 * CHUNK, CHUNK)
    (part,), _ = parts_of(pyserver.get("f"))
    # the former id goes later, with its chunk
    assert not any(part.split(":")[0] in key for key in chunk_keys(pyserver))


def test_fallocate_of_all_kinds(pyserver, mount_on):
    mount = mount_on(pyserver)
    data = content(5 * CHUNK, "binary")
    write(mount.path / "f", data)
    fd = os.open(mount.path / "f", os.O_RDWR)
    fallocate(fd, KEEP_SIZE, 0, 10 * CHUNK)
    fallocate(fd, 0, 0, CHUNK)
    assert os.fstat(fd).st_size == 5 * CHUNK
    assert os.pread(fd, 6 * CHUNK, 0) == data
    fallocate(fd, ZERO_RANGE, 5 * CHUNK - 10, 20)
    assert os.fstat(fd).st_size == 5 * CHUNK + 10
    fallocate(fd, 0, 6 * CHUNK, CHUNK)
    assert os.fstat(fd).st_size == 7 * CHUNK
    with fails_with("ENOTSUP"):
        fallocate(fd, 0x08, 0, CHUNK)  # FALLOC_FL_COLLAPSE_RANGE
    os.close(fd)
    expected = data[:-10] + bytes(10) + bytes(2 * CHUNK)
    assert content_of(pyserver.get, "f") == expected
    assert (mount.path / "f").read_bytes() == expected


@pytest.mark.parametrize("size", [0, 1, MAX, CHUNK, CHUNK + 1, 3 * CHUNK - 1, 9 * CHUNK])
def test_truncation_up_and_down(pyserver, mount_on, size):
    mount = mount_on(pyserver)
    data = content(4 * CHUNK + 5, "binary")
    write(mount.path / "f", data)
    os.truncate(mount.path / "f", size)
    expected = data[:size] + bytes(max(0, size - len(data)))
    assert (mount.path / "f").read_bytes() == expected
    assert content_of(pyserver.get, "f") == expected
    os.truncate(mount.path / "f", 6 * CHUNK)
    expected = expected[: 6 * CHUNK] + bytes(max(0, 6 * CHUNK - size))
    assert content_of(pyserver.get, "f") == expected
    assert (mount_on(pyserver).path / "f").read_bytes() == expected


# --- ways to read and write ---


def test_mappings(pyserver, mount_on):
    mount = mount_on(pyserver, "ttl=3600")
    data = bytearray(content(40000, "binary"))
    write(mount.path / "f", data)
    # also by a descriptor that appends: pages go to their place
    with open(mount.path / "f", "r+b") as file, open(mount.path / "f", "ab"):
        with mmap.mmap(file.fileno(), 0) as shared:
            shared[20000:20010] = data[20000:20010] = b"0123456789"
            shared[0:1] = data[0:1] = b"!"
            shared.flush()
            assert (mount.path / "f").read_bytes() == data
            shared[39999:40000] = data[39999:40000] = b"?"
        with mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as private:
            private[5:10] = b"xxxxx"
            assert private[20000:20010] == b"0123456789"
    wait_for(lambda: content_of(pyserver.get, "f") == data, "what was mapped in the store", 30)
    assert (mount.path / "f").read_bytes() == data


def test_direct_reads_and_writes(pyserver, mount_on):
    mount = mount_on(pyserver)
    data = bytearray(content(65536, "binary"))
    write(mount.path / "f", data)
    fd = os.open(mount.path / "f", os.O_RDWR | os.O_DIRECT)
    buffer = mmap.mmap(-1, 4096)  # aligned
    buffer[:] = data[8192:12288] = b"d" * 4096
    os.pwrite(fd, buffer, 8192)
    buffer[:] = bytes(4096)
    assert os.preadv(fd, [buffer], 4096) == 4096
    assert buffer[:] == data[4096:8192]
    assert os.preadv(fd, [buffer], 8192) == 4096
    assert buffer[:] == b"d" * 4096
    os.close(fd)
    assert content_of(pyserver.get, "f") == data


def test_ranges_are_copied_between_files(pyserver, mount_on):
    mount = mount_on(pyserver)
    data = content(6 * CHUNK, "binary")
    write(mount.path / "from", data)
    write(mount.path / "to", b"x" * 100)
    source, target = os.open(mount.path / "from", os.O_RDONLY), os.open(mount.path / "to", os.O_RDWR)
    assert os.copy_file_range(source, target, 3 * CHUNK, 5, 50) == 3 * CHUNK
    assert os.copy_file_range(source, target, 100, 6 * CHUNK - 10, 0) == 10
    assert os.copy_file_range(source, target, 100, 6 * CHUNK, 0) == 0
    os.close(source)
    os.close(target)
    expected = data[-10:] + b"x" * 40 + data[5 : 5 + 3 * CHUNK]
    assert (mount.path / "to").read_bytes() == expected
    assert content_of(pyserver.get, "to") == expected


def test_an_open_file_outlives_its_name(pyserver, mount_on):
    mount = mount_on(pyserver)
    data = content(10 * CHUNK, "binary")
    for name in ("removed", "replaced"):
        write(mount.path / name, data)
    write(mount.path / "new", b"new")
    fds = [os.open(mount.path / name, os.O_RDWR) for name in ("removed", "replaced")]
    os.unlink(mount.path / "removed")
    os.rename(mount.path / "new", mount.path / "replaced")
    for fd in fds:
        assert os.pread(fd, len(data), 0) == data
        os.pwrite(fd, b"changed", 5 * CHUNK - 3)
        os.ftruncate(fd, 7 * CHUNK)
        assert os.pread(fd, 20 * CHUNK, 0) == data[: 5 * CHUNK - 3] + b"changed" + data[5 * CHUNK + 4 : 7 * CHUNK]
        os.close(fd)
    assert os.listdir(mount.path) == ["replaced"]
    assert pyserver.get("replaced") == "new"


def test_a_large_file_is_renamed_as_it_is(pyserver, mount_on):
    mount = mount_on(pyserver)
    data = content(50 * CHUNK, "binary")
    write(mount.path / "f", data)
    before = chunk_keys(pyserver)
    pyserver.clear_log()
    os.rename(mount.path / "f", mount.path / "g")
    assert not [key for _, key in pyserver.log() if key.startswith(".hpkvfs/c/")]
    assert chunk_keys(pyserver) == before
    assert content_of(pyserver.get, "g") == data
    assert (mount.path / "g").read_bytes() == data


def test_a_lock_and_appends_of_two_descriptors(pyserver, mount_on):
    mount = mount_on(pyserver)
    data = content(5 * CHUNK, "binary")
    write(mount.path / "f", data)
    with open(mount.path / "f", "ab", buffering=0) as first, open(mount.path / "f", "ab", buffering=0) as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        for number in range(50):
            (first, second)[number % 2].write(b"%06d" % number)
    expected = data + b"".join(b"%06d" % number for number in range(50))
    assert (mount.path / "f").read_bytes() == expected
    assert content_of(pyserver.get, "f") == expected


# --- damage ---


def damage(server, name, how):
    keys = sorted(key for key in chunk_keys(server) if key.split("/")[2] in server.get(name))
    if how == "missing":
        server.delete(keys[2])
    else:
        server.set(keys[2], {"not base64": "???", "too short": "AAAA", "empty": " "}[how])


@pytest.mark.parametrize("how", ["missing", "not base64", "too short", "empty"])
def test_a_damaged_chunk_is_an_error_of_its_file_alone(pyserver, mount_on, how):
    data = content(6 * CHUNK, "binary")
    first = mount_on(pyserver)
    for name in ("bad", "good"):
        write(first.path / name, data)
    first.unmount()
    damage(pyserver, "bad", how)
    mount = mount_on(pyserver)
    for _ in range(2):
        with fails_with("EIO"):
            (mount.path / "bad").read_bytes()
    fd = os.open(mount.path / "bad", os.O_RDONLY | os.O_DIRECT)
    assert os.pread(fd, 512, 3 * CHUNK) == data[3 * CHUNK : 3 * CHUNK + 512]
    os.close(fd)
    assert (mount.path / "good").read_bytes() == data
    lines = [line for line in mount.log().splitlines() if "damaged" in line]
    assert len(lines) == 1
    assert "bad" in lines[0]
    # and it can be replaced
    write(mount.path / "bad", b"whole again")
    assert (mount.path / "bad").read_bytes() == b"whole again"


def test_a_change_by_another_mount_is_seen(pyserver, mount_on):
    one, two = mount_on(pyserver, "ttl=0"), mount_on(pyserver, "ttl=0")
    data = bytearray(content(20 * CHUNK, "binary"))
    write(one.path / "f", data)
    assert (two.path / "f").read_bytes() == data
    with open(one.path / "f", "r+b") as file:
        file.seek(10 * CHUNK)
        file.write(b"in place")
    data[10 * CHUNK : 10 * CHUNK + 8] = b"in place"
    end = time.monotonic() + 30
    while (two.path / "f").read_bytes() != data:
        assert time.monotonic() < end, "a change in place is never seen by another mount"
        time.sleep(0.05)
