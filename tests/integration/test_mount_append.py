"""Appends from several writers to one file: no line is lost, none is there twice, and each is whole."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter

import pytest

from lib.layout import content_of, parts_of
from lib.processes import wait_for
from lib.shell import sh, write

pytestmark = pytest.mark.timeout(720)

MAX = 3072

# Opens, appends a line and closes, for each line.
WRITER = """
import os, sys
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
for number in range(count):
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    line = f"{name}{number}\\n".encode()
    assert os.write(file, line) == len(line)
    os.close(file)
"""


def lines_of(name, count):
    return [f"{name}{number}" for number in range(count)]


def run_writers(path_names, count):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, name, str(count)]) for path, name in path_names]
    return [writer.wait(150) for writer in writers]


def patch(hpkvd, key, text):
    """False where the value would become too long: this client cannot make it shorter."""
    status, reply = hpkvd.http("POST", "/record", json.dumps({"key": key, "value": text, "partialUpdate": True}))
    assert status in (200, 413), reply
    return status == 200


def check_lines(text, expected):
    """Each once, in any order: what a fold has destroyed is appended again behind what came after it."""
    wrong = Counter(text.splitlines())
    wrong.subtract(Counter(line for lines in expected for line in lines))
    assert not {line: number for line, number in wrong.items() if number}
    assert text.endswith("\n")


@pytest.mark.parametrize("made", [False, True], ids=["new", "there"])
def test_two_mounts_append_to_a_file_that_stays_plain(hpkvd, store, make_mount, made):
    mounts = [make_mount() for _ in range(2)]
    if made:
        store.set("log", "0\n")
    assert run_writers([(m.path / "log", name) for m, name in zip(mounts, "ab")], 200) == [0, 0]
    text = store.get("log")
    assert parts_of(text) is None and len(text) < MAX
    check_lines(text, [lines_of("a", 200), lines_of("b", 200)] + ([["0"]] if made else []))


@pytest.mark.parametrize("foreign", [False, True], ids=["mounts", "foreign"])
def test_two_mounts_append_to_a_file_that_outgrows_a_value(hpkvd, store, make_mount, foreign):
    mounts = [make_mount() for _ in range(2)]
    store.set("log", "first line\n")
    expected = [["first line"], lines_of("first", 1000), lines_of("second", 1000)]
    elsewhere, failures = [], []

    def append_elsewhere():
        try:
            for line in lines_of("elsewhere", 500):
                if patch(hpkvd, "log", line + "\n"):
                    elsewhere.append(line)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=append_elsewhere)
    if foreign:
        expected.append(elsewhere)
        thread.start()
    codes = run_writers([(m.path / "log", name) for m, name in zip(mounts, ["first", "second"])], 1000)
    if foreign:
        thread.join()
    assert codes == [0, 0] and not failures and bool(elsewhere) == foreign
    assert parts_of(store.get("log")) is not None
    check_lines(content_of(store.get, "log").decode(), expected)
    check_lines((make_mount().path / "log").read_text(), expected)


LONG = 500


def test_a_mount_that_may_send_little_appends_with_another_client(hpkvd, store, make_mount):
    """There is a fold every other line; while the rate holds the mount back, the other appends."""
    mount = make_mount(options=["rate=20"])
    store.set("log", "first\n")
    elsewhere, failures, done = [], [], threading.Event()

    def append_elsewhere():
        try:
            read = hpkvd.requests("get")
            while not done.is_set():
                line = f"elsewhere{len(elsewhere)}"
                if patch(hpkvd, "log", line + "\n"):
                    elsewhere.append(line)
                # it is not to fill the value alone, and comes behind what the mount has read
                wait_for(lambda: done.is_set() or hpkvd.requests("get") > read, "the mount to read", every=0.001)
                read = hpkvd.requests("get")
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=append_elsewhere)
    own = [f"{number}{'x' * 3 * LONG}" for number in range(20)]
    thread.start()
    try:
        for line in own:
            append(mount.path / "log", line.encode() + b"\n")
    finally:
        done.set()
        thread.join()
    assert not failures and elsewhere
    check_lines(content_of(store.get, "log").decode(), [["first"], own, elsewhere])


def fold_of(pyserver, mount_on, *options):
    """A mount, and a file's text that only a fold can append LONG bytes to."""
    mount = mount_on(pyserver, "max_value=3072", *options)
    text = "0" * (MAX - LONG) + "\n"
    pyserver.set("log", text)
    assert (mount.path / "log").read_text() == text
    pyserver.clear_log()
    return mount, text


def test_a_fold_that_the_server_refuses_for_its_rate_finds_what_came_meanwhile(pyserver, mount_on):
    """It has taken the GET: the SET is not sent again without another."""
    mount, text = fold_of(pyserver, mount_on)
    pyserver.fault(op="SET", key="log", code=429, text="slow down", times=1, store={"log": text + "theirs\n"})
    append(mount.path / "log", b"x" * LONG + b"\n")
    log = [op for op, key in pyserver.log() if key == "log"]
    first = log.index("SET")
    assert log[first - 1 : first + 3] == ["GET", "SET", "GET", "SET"]
    check_lines(content_of(pyserver.get, "log").decode(), [[text[:-1], "theirs", "x" * LONG]])


def test_a_fold_is_two_requests_where_one_may_be_in_flight(pyserver, mount_on):
    mount, text = fold_of(pyserver, mount_on, "inflight=1", "ttl=3600")
    hold = pyserver.fault(op="GET", key="log", skip=1, hold=True, apply_first=True)
    thread = threading.Thread(target=append, args=(mount.path / "log", b"x" * LONG + b"\n"))
    thread.start()
    try:
        wait_for(lambda: ("SET", "log") in pyserver.log(), "the SET beside its GET")
        assert pyserver.hits(hold) == 1
    finally:
        pyserver.clear_faults()
        thread.join()
    check_lines(content_of(pyserver.get, "log").decode(), [[text[:-1], "x" * LONG]])


def test_shell_appends_and_programs_that_append(hpkvd, store, make_mount):
    mount = make_mount()
    sh("echo one > log; ls >> log; echo two | tee -a log; printf three >> log; printf '' >> log", mount.path)
    assert store.get("log") == "one\nlog\ntwo\nthree"
    assert (mount.path / "log").read_text() == "one\nlog\ntwo\nthree"
    assert os.stat(mount.path / "log").st_size == 17


def test_a_line_is_one_patch_however_large_the_log(pyserver, mount_on):
    mount = mount_on(pyserver, "ttl=3600")
    for size in (10, 10 * MAX, 100 * MAX):
        write(mount.path / "log", b"x" * (size - 1) + b"\n")
        pyserver.clear_log()
        sh("echo line >> log", mount.path)
        assert pyserver.log() == [("PATCH", "log")]
        for _ in range(5):
            sh("echo line >> log", mount.path)
        assert pyserver.log() == [("PATCH", "log")] * 6
        assert (mount.path / "log").read_bytes() == b"x" * (size - 1) + b"\n" + b"line\n" * 6


def test_a_logger_that_syncs_each_line_is_a_patch_a_line(pyserver, mount_on):
    mount = mount_on(pyserver, "ttl=3600")
    write(mount.path / "log", b"x" * 10 * MAX)
    file = os.open(mount.path / "log", os.O_WRONLY | os.O_APPEND)
    pyserver.clear_log()
    for number in range(20):
        os.write(file, b"line %d\n" % number)
        os.fsync(file)
        assert os.fstat(file).st_size == 10 * MAX + sum(len(b"line %d\n" % n) for n in range(number + 1))
    assert [op for op, key in pyserver.log() if op not in ("GET", "RANGE")] == ["PATCH"] * 20
    os.close(file)
    assert (mount.path / "log").read_bytes().endswith(b"xline 0\n" + b"".join(b"line %d\n" % n for n in range(1, 20)))


def test_appended_text_is_read_at_once_with_what_others_appended(pyserver, mount_on):
    mount = mount_on(pyserver, "ttl=3600")
    write(mount.path / "log", b"1\n")
    pyserver.set("log", "1\ntheirs\n")
    sh("echo mine >> log", mount.path)
    assert pyserver.get("log") == "1\ntheirs\nmine\n"
    assert (mount.path / "log").read_bytes() == b"1\ntheirs\nmine\n"


@pytest.mark.parametrize("text", [b'{"a": 1}\n', b"\xff\xfe\n", b"\0"])
def test_what_a_patch_would_not_append_is_appended_all_the_same(pyserver, mount_on, text):
    mount = mount_on(pyserver)
    for base in (b"", b'{"b": 2}\n', b"plain\n", b"\xff", b"z" * 3 * MAX):
        write(mount.path / "f", base)
        for number in range(3):
            append(mount.path / "f", text)
            assert (mount.path / "f").read_bytes() == base + text * (number + 1)
        assert content_of(pyserver.get, "f") == base + text * 3


def append(path, data):
    with open(path, "ab", buffering=0) as file:
        assert file.write(data) == len(data)


def test_much_appended_at_once(pyserver, mount_on):
    mount = mount_on(pyserver, "max_value=3072")
    write(mount.path / "f", b"begin")
    data = os.urandom(1 << 20)
    append(mount.path / "f", data)
    assert (mount_on(pyserver).path / "f").read_bytes() == b"begin" + data
