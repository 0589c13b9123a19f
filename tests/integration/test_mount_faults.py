"""A server that fails, lies or dies: a clear errno, never ENOENT, never an empty listing, never a success, never a crash, and the
mount goes on when the server does."""

import errno
import os

import pytest

from lib.processes import wait_for
from lib.shell import error_of, fails_with, sh, write

pytestmark = pytest.mark.timeout(120)

# What a program may be told when the server's answer says nothing about the key.
UNCLEAR = {"EIO", "ETIMEDOUT", "EPROTO", "EACCES", "EAGAIN", "EINVAL", "EFBIG", "ECONNRESET"}

# Answers that break the protocol, and the errors that they may become.
NONSENSE = {
    "garbage text": {"raw": "}{ not json"},
    "empty frame": {"raw": ""},
    "a bare number": {"raw": "42"},
    "an array": {"raw": "[]"},
    "deep nesting": {"raw": "[" * 100000},
    "no message id": {"remove": ["messageId"]},
    "unknown message id": {"fields": {"messageId": 987654321}},
    "message id as text": {"fields": {"messageId": "1"}},
    "negative message id": {"fields": {"messageId": -1}},
    "no code": {"remove": ["code"]},
    "code as text": {"fields": {"code": "200"}},
    "code null": {"fields": {"code": None}},
    "a code that does not exist": {"fields": {"code": 299}},
    "value an object": {"fields": {"value": {}, "records": {}, "success": "?"}},
    "value null": {"fields": {"value": None, "records": None, "success": None}},
    "value true": {"fields": {"value": True, "records": True, "success": 5}},
    "members missing": {"remove": ["value", "records", "success", "truncated", "count"]},
    "records of numbers": {"fields": {"records": [1, 2], "value": []}},
    "records without keys": {"fields": {"records": [{"value": "x"}], "value": []}},
    "records without values": {"fields": {"records": [{"key": "f"}], "value": []}},
    "record with a null value": {"fields": {"records": [{"key": "f", "value": None}], "value": []}},
    "nothing but truncated": {"fields": {"records": [], "truncated": True, "value": []}},
    "binary frame": {"binary": True},
    "partial frame": {"partial": True},
    "a frame of 16 MiB": {"huge": 16 << 20},
    "connection lost": {"drop": True},
    "closed with 1011": {"close": 1011},
    "never": {"never": True},
    "500": {"code": 500, "text": "broken"},
    "503": {"code": 503, "text": "unavailable"},
    "429": {"code": 429, "text": "rate limit"},
    "401": {"code": 401, "text": "who?"},
    "403": {"code": 403, "text": "not you"},
    "400": {"code": 400, "text": "bad"},
    "404 to everything, with a success's members": {"fields": {"code": 404}},
}


def mount_for(pyserver, mount_on, *options):
    return mount_on(pyserver, "timeout=1", *options)


def answers_again(mount, path, content):
    def reads():
        try:
            return path.read_bytes() == content
        except OSError as error:
            assert error.errno != errno.ENOENT
            return False

    wait_for(reads, "the mount to read again", 60)
    assert mount.running()


@pytest.mark.parametrize("kind", [kind for kind in NONSENSE if not kind.startswith("404")])
def test_reading(pyserver, mount_on, kind):
    """The file is known, its value is not."""
    pyserver.set_all({"d/f": "content", "d/g": "other"})
    mount = mount_for(pyserver, mount_on)
    assert sorted(os.listdir(mount.path / "d")) == ["f", "g"]
    pyserver.fault(op=["GET", "RANGE"], **NONSENSE[kind])
    assert error_of((mount.path / "d/f").read_bytes) in UNCLEAR
    assert error_of(os.stat, mount.path / "d/f") in UNCLEAR
    pyserver.clear_faults()
    answers_again(mount, mount.path / "d/f", b"content")


@pytest.mark.parametrize("kind", NONSENSE)
def test_listing(pyserver, mount_on, kind):
    pyserver.set_all({"d/f": "content", "d/g": "other"})
    mount = mount_for(pyserver, mount_on)
    pyserver.fault(op=["RANGE"], **NONSENSE[kind])
    assert error_of(os.listdir, mount.path) in UNCLEAR
    assert error_of(os.listdir, mount.path / "d") in UNCLEAR
    assert error_of(os.stat, mount.path / "absent") in UNCLEAR
    pyserver.clear_faults()
    answers_again(mount, mount.path / "d/f", b"content")
    assert sorted(os.listdir(mount.path / "d")) == ["f", "g"]


@pytest.mark.parametrize("kind", NONSENSE)
def test_writing(pyserver, mount_on, kind):
    """A reply of code 200 to a SET is a success, whatever its other members are."""
    harmless = kind.startswith(("value", "records", "record ", "nothing but", "members"))
    pyserver.set("d/f", "old")
    mount = mount_for(pyserver, mount_on, "ttl=3600")
    assert sorted(os.listdir(mount.path / "d")) == ["f"]
    assert (mount.path / "d/f").read_bytes() == b"old"
    pyserver.fault(op=["SET"], apply=harmless, **NONSENSE[kind])
    error = error_of(write, mount.path / "d/f", b"new")
    if harmless:
        assert error is None or error in UNCLEAR
    else:
        assert error in UNCLEAR
        assert pyserver.get("d/f") == "old"
    pyserver.clear_faults()
    answers_again(mount, mount.path / "d/f", pyserver.get("d/f").encode())
    write(mount.path / "d/f", b"newer")
    assert pyserver.get("d/f") == "newer"


@pytest.mark.parametrize("kind", ["garbage text", "never", "500", "connection lost", "a frame of 16 MiB", "403"])
def test_removing_and_moving(pyserver, mount_on, kind):
    pyserver.set_all({"d/f": "old", "d/g": "other"})
    mount = mount_for(pyserver, mount_on)
    os.listdir(mount.path / "d")
    pyserver.fault(op=["SET", "DELETE"], apply=False, **NONSENSE[kind])
    assert error_of(os.unlink, mount.path / "d/f") in UNCLEAR
    assert error_of(os.rename, mount.path / "d/f", mount.path / "d/h") in UNCLEAR
    assert error_of(os.mkdir, mount.path / "new") in UNCLEAR
    pyserver.clear_faults()
    answers_again(mount, mount.path / "d/f", b"old")
    assert {key: value for key, value in pyserver.contents().items() if ".hpkvfs" not in key} == {"d/f": "old", "d/g": "other"}
    assert sorted(os.listdir(mount.path / "d")) == ["f", "g"]


@pytest.mark.parametrize(
    "code, name", [(413, "EFBIG"), (400, "EINVAL"), (422, "EINVAL"), (403, "EACCES"), (401, "EACCES"), (500, "EIO"), (503, "EIO")]
)
def test_a_refused_value_fails_the_writer_and_the_old_stays(pyserver, mount_on, code, name):
    pyserver.set("f", "old")
    mount = mount_for(pyserver, mount_on)
    fault = pyserver.fault(op="SET", code=code, text="no")
    with fails_with(name):
        write(mount.path / "f", b"new")
    assert pyserver.hits(fault) >= 1
    assert pyserver.get("f") == "old"
    pyserver.clear_faults()
    assert (mount.path / "f").read_bytes() == b"old"
    assert os.stat(mount.path / "f").st_size == 3


def test_a_refused_value_fails_a_shells_command(pyserver, mount_on):
    pyserver.set_all({"f": "old", "new/x": "y"})
    mount = mount_for(pyserver, mount_on)
    pyserver.fault(op="SET", code=413, text="too large")
    assert sh("cp /etc/hostname f", mount.path, check=False).returncode != 0
    assert sh("cp /etc/hostname new/f", mount.path, check=False).returncode != 0
    pyserver.clear_faults()
    assert pyserver.contents() == {"f": "old", "new/x": "y"}
    assert not (mount.path / "new/f").exists()


def test_a_refused_value_fails_fsync_and_then_the_file_is_as_in_the_store(pyserver, mount_on):
    pyserver.set("f", "old")
    mount = mount_for(pyserver, mount_on)
    file = os.open(mount.path / "f", os.O_RDWR | os.O_TRUNC)
    os.write(file, b"new")
    fault = pyserver.fault(op="SET", code=413, text="too large")
    with fails_with("EFBIG"):
        os.fsync(file)
    pyserver.clear_faults()
    assert fault
    error_of(os.close, file)
    assert pyserver.get("f") in ("old", "new")
    assert (mount.path / "f").read_bytes().decode() == pyserver.get("f")


def test_a_passing_429_is_no_error(pyserver, mount_on):
    pyserver.set("f", "old")
    mount = mount_on(pyserver, "timeout=30")
    pyserver.fault(op=["GET", "RANGE", "SET"], code=429, text="slow down", times=3)
    assert (mount.path / "f").read_bytes() == b"old"
    pyserver.fault(op=["SET"], code=429, text="slow down", times=2)
    write(mount.path / "f", b"new")
    assert pyserver.get("f") == "new"


def test_a_failing_listing_is_never_a_shorter_one(pyserver, mount_on):
    """The second page fails."""
    pyserver.set_all({f"d/n{number:05d}": "x" for number in range(1500)})
    mount = mount_for(pyserver, mount_on)
    pyserver.fault(op="RANGE", prefix="d/n", skip=0, code=500, text="broken")
    assert error_of(os.listdir, mount.path / "d") in UNCLEAR
    done = sh("ls d", mount.path, check=False)
    assert done.returncode != 0
    pyserver.clear_faults()
    assert len(os.listdir(mount.path / "d")) == 1500


def test_keys_outside_the_range_are_dropped(pyserver, mount_on):
    pyserver.set("d/f", "x")
    mount = mount_for(pyserver, mount_on)
    foreign = [{"key": "c", "value": "1"}, {"key": "d/f", "value": "x"}, {"key": "e/g", "value": "2"}]
    os.listdir(mount.path)
    pyserver.fault(op="RANGE", key="d/", fields={"records": foreign, "count": 3})
    assert os.listdir(mount.path / "d") == ["f"]


@pytest.mark.parametrize("truncated", [True, False])
def test_a_page_that_repeats_itself_ends(pyserver, mount_on, truncated):
    pyserver.set("d/f", "x")
    mount = mount_for(pyserver, mount_on)
    os.listdir(mount.path)
    same = [{"key": "d/f", "value": "x"}, {"key": "d/f", "value": "x"}]
    pyserver.fault(op="RANGE", prefix="d/", fields={"records": same, "count": 2, "truncated": truncated})
    try:
        assert os.listdir(mount.path / "d") == ["f"]
    except OSError as error:
        assert errno.errorcode[error.errno] in UNCLEAR


def test_error_texts_may_be_anything(pyserver, mount_on):
    pyserver.set("f", "old")
    mount = mount_for(pyserver, mount_on)
    for text in ("%s%n%s%n", "x" * 100000, "\n\x1b[31m", "", {"an": "object"}):
        pyserver.fault(op="SET", code=400, text=text)
        with fails_with("EINVAL"):
            write(mount.path / "f", b"new")
        pyserver.clear_faults()
    assert pyserver.get("f") == "old"


def test_unasked_messages_are_passed_over(pyserver, mount_on):
    pyserver.set("f", "x")
    mount = mount_for(pyserver, mount_on)
    pyserver.fault(op="GET", key="nobody", raw="{}")
    note = '{"type":"notification","key":"f","value":"y","timestamp":1}'
    pyserver.configure(noise=[note, '{"messageId":77777,"code":200}', '{"hello":"world"}'])
    for _ in range(5):
        assert (mount.path / "f").read_bytes() == b"x"
    assert mount.running()
