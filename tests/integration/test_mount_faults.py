"""A server that fails, lies or dies: a clear errno, never ENOENT, never an empty listing, never a success, never a crash, and the
mount goes on when the server does."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.mount import Mount
from lib.processes import wait_for
from lib.pyserver import PyServer
from lib.shell import error_of, fails_with, sh, write

pytestmark = pytest.mark.timeout(480)

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
    "404 with a success's members": {"fields": {"code": 404}},
}


# Of a change these are successes all the same.
STILL_SUCCESS = [kind for kind in NONSENSE if kind.startswith(("value", "records", "record ", "nothing but", "members"))]

# Of GET and DELETE that is a proper answer.
ABSENT = "404 with a success's members"


def answers_again(mount, path, content):
    def reads():
        try:
            return path.read_bytes() == content
        except OSError as error:
            assert error.errno != errno.ENOENT
            return False

    wait_for(reads, "the mount to read again", 60)
    assert mount.running()


def reading(pyserver, mount, kind):
    """The file is known, its value is not."""
    assert sorted(os.listdir(mount.path / "d")) == ["f", "g"]
    pyserver.fault(op=["GET", "RANGE"], **NONSENSE[kind])
    assert error_of((mount.path / "d/f").read_bytes) in UNCLEAR
    assert error_of(os.stat, mount.path / "d/f") in UNCLEAR
    pyserver.clear_faults()
    answers_again(mount, mount.path / "d/f", b"old")


def listing(pyserver, mount, kind):
    pyserver.fault(op=["RANGE"], **NONSENSE[kind])
    assert error_of(os.listdir, mount.path) in UNCLEAR
    assert error_of(os.listdir, mount.path / "d") in UNCLEAR
    assert error_of(os.stat, mount.path / "absent") in UNCLEAR
    pyserver.clear_faults()
    answers_again(mount, mount.path / "d/f", b"old")
    assert sorted(os.listdir(mount.path / "d")) == ["f", "g"]


def writing(pyserver, mount, kind):
    """A reply of code 200 to a SET is a success, whatever its other members are."""
    harmless = kind in STILL_SUCCESS
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


def removing_and_moving(pyserver, mount, kind):
    os.listdir(mount.path / "d")
    pyserver.fault(op=["SET", "PATCH", "DELETE"], apply=False, **NONSENSE[kind])
    assert error_of(os.unlink, mount.path / "d/f") in UNCLEAR
    assert error_of(os.rename, mount.path / "d/f", mount.path / "d/h") in UNCLEAR
    assert error_of(os.mkdir, mount.path / "new") in UNCLEAR
    pyserver.clear_faults()
    answers_again(mount, mount.path / "d/f", b"old")
    contents = {key: value for key, value in pyserver.contents().items() if ".hpkvfs" not in key}
    assert contents == {"d/f": "old", "d/g": "other"}
    assert sorted(os.listdir(mount.path / "d")) == ["f", "g"]


def run(scenario, kind):
    with PyServer() as pyserver:
        pyserver.set_all({"d/f": "old", "d/g": "other"})
        with Mount(pyserver.url, options="ttl=0,timeout=1", key=pyserver.key) as mount:
            scenario(pyserver, mount, kind)


@pytest.fixture(scope="module")
def outcomes(request):
    """These tests spend their time waiting for timeouts, so all that were chosen run at once, each with a server and a mount
    of its own; then every test takes its own result."""
    chosen = {
        (item.callspec.params["scenario"], item.callspec.params["kind"])
        for item in request.session.items
        if "outcomes" in item.fixturenames
    }
    with ThreadPoolExecutor(16) as pool:
        return {what: pool.submit(run, *what) for what in chosen}


CASES = [(listing, kind) for kind in NONSENSE] + [(writing, kind) for kind in NONSENSE]
CASES += [(reading, kind) for kind in NONSENSE if kind != ABSENT]
CASES += [(removing_and_moving, kind) for kind in NONSENSE if kind != ABSENT and kind not in STILL_SUCCESS]


@pytest.mark.timeout(1600)
@pytest.mark.parametrize("scenario, kind", CASES)
def test_nonsense(outcomes, scenario, kind):
    outcomes[scenario, kind].result()


@pytest.fixture
def mount(pyserver, mount_on):
    return mount_on(pyserver, "timeout=1")


@pytest.mark.parametrize(
    "code, name", [(413, "EFBIG"), (400, "EINVAL"), (422, "EINVAL"), (403, "EACCES"), (401, "EACCES"), (500, "EIO"), (503, "EIO")]
)
def test_a_refused_value_fails_the_writer_and_the_old_stays(pyserver, mount, code, name):
    pyserver.set("f", "old")
    fault = pyserver.fault(op="SET", code=code, text="no")
    with fails_with(name):
        write(mount.path / "f", b"new")
    assert pyserver.hits(fault) >= 1
    assert pyserver.get("f") == "old"
    pyserver.clear_faults()
    assert (mount.path / "f").read_bytes() == b"old"
    assert os.stat(mount.path / "f").st_size == 3


def test_a_refused_value_fails_a_shells_command(pyserver, mount):
    pyserver.set_all({"f": "old", "new/x": "y"})
    pyserver.fault(op="SET", code=413, text="too large")
    assert sh("cp /etc/hostname f", mount.path, check=False).returncode != 0
    assert sh("cp /etc/hostname new/f", mount.path, check=False).returncode != 0
    pyserver.clear_faults()
    assert pyserver.contents() == {"f": "old", "new/x": "y"}
    assert not (mount.path / "new/f").exists()


def test_a_refused_value_fails_fsync_and_then_the_file_is_as_in_the_store(pyserver, mount):
    pyserver.set("f", "old")
    file = os.open(mount.path / "f", os.O_RDWR | os.O_TRUNC)
    os.write(file, b"new")
    pyserver.fault(op="SET", code=413, text="too large")
    with fails_with("EFBIG"):
        os.fsync(file)
    pyserver.clear_faults()
    error_of(os.close, file)
    assert pyserver.get("f") == "old"
    assert (mount.path / "f").read_bytes().decode() == pyserver.get("f")


def test_a_passing_429_is_no_error(pyserver, mount_on):
    pyserver.set("f", "old")
    mount = mount_on(pyserver, "timeout=30")
    pyserver.fault(op=["GET", "RANGE", "SET"], code=429, text="slow down", times=3)
    assert (mount.path / "f").read_bytes() == b"old"
    pyserver.fault(op=["SET"], code=429, text="slow down", times=2)
    write(mount.path / "f", b"new")
    assert pyserver.get("f") == "new"


def test_a_failing_listing_is_never_a_shorter_one(pyserver, mount):
    """The second page fails."""
    pyserver.set_all({f"d/n{number:05d}": "x" for number in range(1500)})
    pyserver.fault(op="RANGE", prefix="d/n", code=500, text="broken")
    assert error_of(os.listdir, mount.path / "d") in UNCLEAR
    done = sh("ls d", mount.path, check=False)
    assert done.returncode != 0
    pyserver.clear_faults()
    assert len(os.listdir(mount.path / "d")) == 1500


def test_keys_outside_the_range_are_dropped(pyserver, mount):
    pyserver.set("d/f", "x")
    foreign = [{"key": "c", "value": "1"}, {"key": "d/f", "value": "x"}, {"key": "e/g", "value": "2"}]
    os.listdir(mount.path)
    pyserver.fault(op="RANGE", key="d/", fields={"records": foreign, "count": 3})
    assert os.listdir(mount.path / "d") == ["f"]


@pytest.mark.parametrize("truncated", [True, False])
def test_a_page_that_repeats_itself_ends(pyserver, mount, truncated):
    pyserver.set("d/f", "x")
    os.listdir(mount.path)
    same = [{"key": "d/f", "value": "x"}, {"key": "d/f", "value": "x"}]
    pyserver.fault(op="RANGE", prefix="d/", fields={"records": same, "count": 2, "truncated": truncated})
    try:
        assert os.listdir(mount.path / "d") == ["f"]
    except OSError as error:
        assert errno.errorcode[error.errno] in UNCLEAR


def test_error_texts_may_be_anything(pyserver, mount):
    pyserver.set("f", "old")
    for text in ("%s%n%s%n", "x" * 100000, "\n\x1b[31m", "", {"an": "object"}):
        pyserver.fault(op="SET", code=400, text=text)
        with fails_with("EINVAL"):
            write(mount.path / "f", b"new")
        pyserver.clear_faults()
    assert pyserver.get("f") == "old"


def test_an_answer_in_a_binary_frame_is_an_error_or_right(pyserver, mount):
    pyserver.set("f", "x")
    pyserver.fault(binary=True)
    try:
        assert (mount.path / "f").read_bytes() == b"x"
        assert os.listdir(mount.path) == ["f"]
    except OSError as error:
        assert errno.errorcode[error.errno] in UNCLEAR


def test_unasked_messages_are_passed_over(pyserver, mount):
    pyserver.set("f", "x")
    note = '{"type":"notification","key":"f","value":"y","timestamp":1}'
    pyserver.configure(noise=[note, '{"messageId":77777,"code":200}', '{"hello":"world"}'])
    for _ in range(5):
        assert (mount.path / "f").read_bytes() == b"x"
    assert mount.running()
