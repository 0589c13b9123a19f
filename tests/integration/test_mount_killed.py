"""Programs that are killed while their requests wait for the server. The kernel then closes what they had open, while the mount
still works on their requests: these end before what they use, and what they have changed is stored."""

import json
import os
import random
import signal
import subprocess
import sys
import threading

import pytest

from lib.layout import chunks, content_of, stub
from lib.processes import wait_for
from lib.shell import sh

pytestmark = pytest.mark.timeout(480)

ID = "1a0c4506c000123456789abcdef0123456789abcdef"
CHUNK = 2304
READS = ["GET", "RANGE"]
CHUNKS = f".hpkvfs/c/{ID}/"
FOR_EVER = "ttl=3600"  # what is wrong here stays wrong for the whole test

# Chunks of which a copy reads the first in one go, and how many it asks for at once.
COPIED = (1 << 20) // CHUNK
WINDOW = 32

# The changes are made at this place, in the middle of a chunk.
AT = 50 * CHUNK + 7


def big(pyserver, count=100, name="big", ident=ID):
    """In the store alone: the content of a file with so many chunks, of which the last is not full."""
    data = random.Random(count).randbytes(count * CHUNK - 5)
    pyserver.set(name, stub(chunks(pyserver.set, ident, data, CHUNK)))
    return data


def held_at(pyserver, place):
    return pyserver.fault(op=READS, key=f"{CHUNKS}{place // CHUNK:08x}", hold=True)


def figures(mount):
    return json.loads(os.getxattr(mount.path, "user.hpkv.stats"))


def kill_at(pyserver, fault, mount, command, number=signal.SIGKILL):
    """Ends the program once its request is at the server; what it had open is closed when this returns."""
    met = pyserver.hits(fault)
    process = subprocess.Popen(command, cwd=mount.path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: pyserver.hits(fault) > met, "the request")
    process.send_signal(number)
    assert process.wait(240) == -number
    assert figures(mount)  # the kernel's requests come in their order


def wait_for_rest(mount):
    """Until nothing is open, under way or unsent; without a look at any file."""

    def rests():
        now = figures(mount)
        return not (now["memory"]["handles"] or now["memory"]["changed_bytes"] or now["server"]["in_flight"])

    wait_for(rests, "the end of what was killed", 60)


def agreed(mount, pyserver, name):
    """What the store holds, and the mount shows."""
    stored = content_of(pyserver.get, name)
    assert os.stat(mount.path / name).st_size == len(stored)
    assert (mount.path / name).read_bytes() == stored
    return stored


def python(script):
    return [sys.executable, "-c", f"import os; file = os.open('big', os.O_RDWR)\n{script}"]


# --- readers ---


@pytest.mark.parametrize("command", [["ls", "d"], ["find", "d"]])
def test_killed_listing(pyserver, mount_on, command):
    pyserver.set("d/f", "x")
    mount = mount_on(pyserver, FOR_EVER)
    os.stat(mount.path / "d")
    held = pyserver.fault(op=READS, hold=True)
    kill_at(pyserver, held, mount, command)
    pyserver.release(held)
    wait_for_rest(mount)
    for _ in range(2):
        assert os.listdir(mount.path / "d") == ["f"]


@pytest.mark.parametrize("command", [["cat", "big"], ["dd", "if=big", "iflag=direct", "bs=100K", "of=/dev/null"]])
def test_killed_reader(pyserver, mount_on, command):
    data = big(pyserver)
    mount = mount_on(pyserver, FOR_EVER, "timeout=3600")
    held = held_at(pyserver, 0)
    kill_at(pyserver, held, mount, command)
    pyserver.release(held)
    wait_for_rest(mount)
    assert agreed(mount, pyserver, "big") == data


# --- writers ---

WRITERS = {
    "dd": ["dd", "if=/dev/zero", "of=big", "bs=5", "count=1", f"seek={AT}", "oflag=seek_bytes", "conv=notrunc"],
    "write": python(f"os.pwrite(file, b'later', {AT})"),
    "zeros": python(f"import ctypes; ctypes.CDLL(None).fallocate(file, 0x10, ctypes.c_long({AT}), ctypes.c_long(5))"),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("commit", ["commit=5", "commit=0"])
def test_killed_writer(pyserver, mount_on, writer, commit):
    """The change that nobody was told of is made for all, or for nobody."""
    before = big(pyserver)
    mount = mount_on(pyserver, FOR_EVER, commit)
    held = held_at(pyserver, AT)
    kill_at(pyserver, held, mount, WRITERS[writer])
    pyserver.release(held)
    wait_for_rest(mount)
    new = b"later" if writer == "write" else bytes(5)
    assert agreed(mount, pyserver, "big") in (before, before[:AT] + new + before[AT + 5 :])


def test_killed_writer_of_more(pyserver, mount_on):
    """The kernel has asked for the size meanwhile."""
    before = big(pyserver)
    mount = mount_on(pyserver, FOR_EVER)
    held = held_at(pyserver, len(before))
    kill_at(pyserver, held, mount, python(f"os.pwrite(file, b'at the end', {len(before) - 3})"))
    assert os.stat(mount.path / "big").st_size == len(before)
    pyserver.release(held)
    wait_for_rest(mount)
    assert agreed(mount, pyserver, "big") in (before, before[:-3] + b"at the end")


def test_what_was_written_before_the_killed_write_is_stored(pyserver, mount_on):
    before = big(pyserver)
    mount = mount_on(pyserver, FOR_EVER)
    held = held_at(pyserver, AT)
    kill_at(pyserver, held, mount, python(f"os.pwrite(file, b'first', 10); os.pwrite(file, b'later', {AT})"))
    pyserver.release(held)
    wait_for_rest(mount)
    assert agreed(mount, pyserver, "big")[:AT] == before[:10] + b"first" + before[15:AT]


def test_killed_sync(pyserver, mount_on):
    before = big(pyserver)
    mount = mount_on(pyserver, FOR_EVER)
    held = pyserver.fault(op="SET", hold=True)
    kill_at(pyserver, held, mount, python("os.pwrite(file, b'first', 10); os.fsync(file)"))
    pyserver.release(held)
    wait_for_rest(mount)
    assert agreed(mount, pyserver, "big") == before[:10] + b"first" + before[15:]


def test_file_that_goes_after_its_writer_was_killed(pyserver, mount_on):
    big(pyserver)
    mount = mount_on(pyserver, FOR_EVER)
    held = held_at(pyserver, AT)
    kill_at(pyserver, held, mount, WRITERS["write"])
    removal = threading.Thread(target=sh, args=("rm big", mount.path))
    removal.start()
    pyserver.release(held)
    removal.join()
    wait_for_rest(mount)
    assert os.listdir(mount.path) == []
    assert pyserver.get("big") is None


# --- names ---


@pytest.mark.parametrize(
    "command, op, there, gone",
    [
        ("mkdir new", "SET", ["new", "d", "f"], []),
        ("mv f new", "SET", ["new", "d"], ["f"]),
        ("mv f d/new", "DELETE", ["d/new", "d"], ["f"]),
        ("mv d new", "DELETE", ["new/g", "f"], ["d"]),
        ("rm f", "DELETE", ["d"], ["f"]),
    ],
)
def test_killed_change_of_names(pyserver, mount_on, command, op, there, gone):
    """The kernel believes what it knew before, without limit."""
    pyserver.set_all({"f": "x", "d/g": "y"})
    mount = mount_on(pyserver, FOR_EVER, subscribe=True)
    wait_for(lambda: figures(mount)["subscription"]["live"], "the subscription")
    for name in ("f", "d", "new", "d/new"):
        (mount.path / name).exists()
    held = pyserver.fault(op=op, hold=True)
    kill_at(pyserver, held, mount, command.split())
    pyserver.release(held)
    wait_for_rest(mount)
    wait_for(lambda: all((mount.path / name).exists() for name in there), "what has come")
    wait_for(lambda: not any((mount.path / name).exists() for name in gone), "the end of what has gone")
    assert sorted(os.listdir(mount.path)) == sorted({name.split("/")[0] for name in there})


# --- copies ---


def test_killed_copy(pyserver, mount_on):
    """What it has copied is kept, and it goes no further."""
    data = big(pyserver, 3 * COPIED)
    mount = mount_on(pyserver, FOR_EVER)
    held = held_at(pyserver, AT)
    pyserver.clear_log()
    kill_at(pyserver, held, mount, ["cp", "big", "other"], signal.SIGTERM)
    pyserver.release(held)
    wait_for_rest(mount)
    read = {key for op, key in pyserver.log() if op == "GET" and key.startswith(CHUNKS)}
    assert COPIED < len(read) <= COPIED + 2 + 2 * WINDOW
    assert agreed(mount, pyserver, "big") == data
    copy = agreed(mount, pyserver, "other")
    assert copy == data[: len(copy)]


# --- others ---


def test_killed_programs_hold_nobody_up(pyserver, mount_on):
    """The kernel reads ahead for nobody while a dozen of its requests without a program are not answered."""
    names = [f"big{number}" for number in range(16)]
    for number, name in enumerate(names):
        data = big(pyserver, 2, name, f"{ID[:-2]}{number:02x}")
    other = big(pyserver, 100, "other", ID[::-1])
    mount = mount_on(pyserver, "timeout=3600")
    held = pyserver.fault(op=READS, prefix=CHUNKS[:-3], hold=True)
    script = "os.pwrite(os.open(os.sys.argv[1], os.O_WRONLY), b'new', 5)"
    processes = [subprocess.Popen([sys.executable, "-c", f"import os\n{script}", name], cwd=mount.path) for name in names]
    wait_for(lambda: pyserver.hits(held) == len(names), "the requests")
    for process in processes:
        process.kill()
    for process in processes:
        process.wait(240)
    assert int(sh("cat other | wc -c", mount.path, limit=60).stdout) == len(other)
    pyserver.release(held)
    wait_for_rest(mount)
    for name in names:
        assert agreed(mount, pyserver, name) in (data, data[:5] + b"new" + data[8:])


@pytest.mark.parametrize("writer", ["dd", "zeros"])
def test_the_mount_ends_when_the_killed_have_ended(pyserver, mount_on, writer):
    before = big(pyserver)
    mount = mount_on(pyserver, "timeout=3600")
    held = held_at(pyserver, AT)
    kill_at(pyserver, held, mount, WRITERS[writer])
    os.kill(mount.pid, signal.SIGTERM)
    wait_for(lambda: not mount.mounted(), "the unmount")
    pyserver.release(held)
    mount.wait_end()
    assert content_of(pyserver.get, "big") in (before, before[:AT] + bytes(5) + before[AT + 5 :])


def test_the_mount_gives_the_killed_up(pyserver, mount_on):
    before = big(pyserver)
    mount = mount_on(pyserver, "timeout=3600")
    held = pyserver.fault(op=READS, key=f"{CHUNKS}{AT // CHUNK:08x}", never=True)
    kill_at(pyserver, held, mount, WRITERS["dd"])
    os.kill(mount.pid, signal.SIGTERM)
    wait_for(lambda: not mount.mounted(), "the unmount")
    os.kill(mount.pid, signal.SIGTERM)
    mount.exit_code()
    assert not mount.reports()
    assert content_of(pyserver.get, "big") == before
