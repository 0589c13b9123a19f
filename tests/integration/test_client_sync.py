"""The calls of libhpkv that wait: with and without a thread that serves the loop, on many threads, and what the library
does to the process around it. The programs are those of client_sync_driver."""

import errno
import json
import os
import shutil
import ssl
import subprocess
import tempfile

import pytest

from lib.processes import program, sanitizer_env, sanitizer_reports
from lib.rawserver import RawServer, answer, read_frame, upgraded

LIMIT = 480

SERVED = pytest.mark.parametrize("served", ["by_caller", "by_thread"])


def run_program(name, url, key, *arguments, served="by_caller", env=None):
    """What it wrote to standard output; its end is checked, and that it wrote nothing else."""
    with tempfile.TemporaryDirectory(prefix="sync-") as reports:
        variables = {**os.environ, **sanitizer_env(reports), **(env or {})}
        if served == "by_thread":
            variables["DRIVER_THREAD"] = "1"
        done = subprocess.run(
            [program("tests/integration/client_sync_driver"), name, url, key, *map(str, arguments)],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        found = sanitizer_reports(reports)
    assert not found, found
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


# --- calls ---


@SERVED
def test_every_call(served, pyserver):
    run_program("calls", pyserver.url, pyserver.key, served=served)
    assert pyserver.contents() == {"n": -7, "o\0\n": "o\0\n", "again": "1"}


def test_the_shortest_way(pyserver):
    run_program("open", pyserver.url, pyserver.key)
    assert pyserver.contents() == {"a": "1"}


def test_the_shortest_way_is_alive_while_nothing_is_called(tmp_path):
    closes = []

    def ping_first(connection):
        connection.sendall(b"\x89\x00")
        assert read_frame(connection) == (10, b"")
        (tmp_path / "answered").touch()
        answer(connection)
        closes.append("closed")

    with RawServer(upgraded(ping_first)) as server:
        run_program("open_idle", f"http://127.0.0.1:{server.port}", "sesame", tmp_path / "answered")
    assert (server.accepted, closes) == (1, ["closed"])


@SERVED
def test_inside_a_callback(served, pyserver):
    run_program("deadlock", pyserver.url, pyserver.key, served=served)
    assert pyserver.contents() == {"a": "1"}
    assert [op for op, _ in pyserver.log()] == ["SET", "GET"]


@SERVED
@pytest.mark.parametrize("clients, loops", [(1, 1), (8, 1), (2, 2)])
def test_many_threads(served, clients, loops, hpkvd, store):
    run_program("threads", hpkvd.url, hpkvd.key, 16, 100, clients, loops, served=served)
    assert store.get("sum") == 16 * 100
    assert [store.get(f"w{i}") for i in range(16)] == [f"{i}.99" for i in range(16)]


def test_a_loop_that_is_freed_as_soon_as_another_thread_has_stopped_it(pyserver):
    run_program("ends", pyserver.url, pyserver.key)


def test_posts_from_another_thread_keep_their_order(pyserver):
    run_program("posts", pyserver.url, pyserver.key)


@SERVED
def test_a_loop_whose_runs_begin_and_end(served, hpkvd, store):
    """The calls that wait go on, whoever serves them."""
    run_program("stops", hpkvd.url, hpkvd.key, served=served)
    assert store.get("sum") == 4 * 200


@SERVED
def test_a_client_that_is_freed_by_another_thread(served, pyserver):
    pyserver.fault(key="silent", never=True)
    run_program("free", pyserver.url, pyserver.key, served=served)


@SERVED
def test_a_client_that_is_freed_before_a_waiting_call_had_its_turn(served, pyserver):
    run_program("free_early", pyserver.url, pyserver.key, served=served)
    assert pyserver.log() == []


@SERVED
def test_a_server_that_is_not_there(served, pyserver):
    pyserver.down()
    try:
        run_program("refused", pyserver.url, pyserver.key, served=served)
    finally:
        pyserver.up()


@SERVED
def test_a_server_that_goes(served, pyserver):
    pyserver.fault(key="silent", never=True)
    pyserver.fault(key="drop", drop=True)
    run_program("dropped", pyserver.url, pyserver.key, served=served)
    assert pyserver.contents() == {"a": "1"}


# --- iterator ---

WALK = pytest.mark.parametrize("how, served", [("sync", "by_caller"), ("sync", "by_thread"), ("async", "by_caller"), ("async", "by_thread")])


def walk(server, how, served, start="\x01", end="\U0010ffff", limit=0):
    """The records as pairs, and the error or None."""
    rows = [json.loads(line) for line in run_program("iterate", server.url, server.key, how, start, end, limit, served=served).splitlines()]
    error = rows.pop() if rows and isinstance(rows[-1], int) else None
    return [(key, value) for key, value, _number in rows], error


@WALK
@pytest.mark.parametrize("count, limit, pages", [(0, 0, 1), (1, 0, 1), (100, 0, 1), (2500, 0, 3), (100, 10, 10), (10, 1, 10)])
def test_iterator(how, served, count, limit, pages, pyserver):
    values = {f"k{i:05}": f"v{i}" for i in range(count)}
    pyserver.set_all(values)
    pyserver.clear_log()
    assert walk(pyserver, how, served, limit=limit) == (sorted(values.items()), None)
    assert len(pyserver.log()) == pages


@WALK
def test_iterator_ends_at_its_end(how, served, pyserver):
    pyserver.set_all({"a": "1", "k\0": "nul\0", "k\0\n": "x", "l": "2", "l\0": "3"})
    assert walk(pyserver, how, served, "b", "l") == ([("k\0", "nul\0"), ("k\0\n", "x"), ("l", "2")], None)
    assert walk(pyserver, how, served, "z", "a") == ([], None)


@WALK
def test_iterator_where_a_page_has_room_for_one(how, served, pyserver):
    pyserver.configure(page_bytes=1500)
    values = {f"k{i}": "v" * 1000 for i in range(8)}
    pyserver.set_all(values)
    assert walk(pyserver, how, served) == (sorted(values.items()), None)


@WALK
def test_iterator_over_the_longest_keys(how, served, pyserver):
    """A key one byte longer would be refused."""
    pyserver.configure(max_key=512)
    values = {("k" * 508) + f"{i:04}": "v" for i in range(50)}
    pyserver.set_all(values)
    assert walk(pyserver, how, served, limit=7) == (sorted(values.items()), None)


@WALK
def test_iterator_that_cannot_go_on_says_so(how, served, pyserver):
    """A page has room for one record, and the key right behind it is too long to be asked for."""
    pyserver.configure(max_key=512, page_bytes=1500)
    values = {("k" * 508) + f"{i:04}": "v" * 1000 for i in range(3)}
    pyserver.set_all(values)
    assert walk(pyserver, how, served) == (sorted(values.items())[:1], -errno.EINVAL)


@WALK
def test_iterator_of_a_server_that_says_more_and_gives_nothing(how, served, pyserver):
    pyserver.set("a", "1")
    pyserver.fault(op="RANGE", fields={"truncated": True})
    assert walk(pyserver, how, served) == ([("a", "1")], -errno.EPROTO)
    pyserver.delete("a")
    assert walk(pyserver, how, served) == ([], -errno.EPROTO)


def records(*keys):
    return [{"key": key, "value": "v"} for key in keys]


@WALK
def test_iterator_of_a_server_that_gives_the_same_page_for_ever(how, served, pyserver):
    pyserver.fault(op="RANGE", fields={"records": records("a", "b"), "count": 2, "truncated": True})
    assert walk(pyserver, how, served) == ([("a", "v"), ("b", "v")], -errno.EPROTO)


@WALK
def test_iterator_drops_what_was_not_asked_for(how, served, pyserver):
    pyserver.fault(op="RANGE", fields={"records": records("a", "k", "l", "m"), "count": 4, "truncated": False})
    assert walk(pyserver, how, served, "b", "l") == ([("k", "v"), ("l", "v")], None)


@WALK
@pytest.mark.parametrize("keys", [("b", "a"), ("a", "b", "b")])
def test_iterator_refuses_keys_in_disorder(how, served, keys, pyserver):
    pyserver.fault(op="RANGE", fields={"records": records(*keys), "count": len(keys), "truncated": False})
    assert walk(pyserver, how, served) == ([], -errno.EPROTO)


@SERVED
def test_iterator_freed_inside_its_callback_and_before_and_after_its_client(served, pyserver):
    pyserver.set_all({f"k{i}": "v" for i in range(8)})
    run_program("iterator", pyserver.url, pyserver.key, served=served)


@SERVED
@pytest.mark.parametrize("number, fault", [(-errno.EIO, {"code": 500, "text": "broken"}), (-errno.EPROTO, {"raw": '{"messageId":2,"code":200,"records":1}'})])
def test_iterator_asks_again_after_an_error(served, number, fault, pyserver):
    values = {f"k{i:02}": f"v{i}" for i in range(30)}
    pyserver.set_all(values)
    pyserver.fault(op="RANGE", skip=1, times=1, **fault)
    rows = run_program("iterate_again", pyserver.url, pyserver.key, number, 1, served=served).splitlines()
    assert [tuple(json.loads(row)[:2]) for row in rows] == sorted(values.items())


# --- the process around it ---


@SERVED
def test_signals_and_the_log_level_stay_as_they_are(served, pyserver):
    """Also, nothing is written to standard error, though the program did not turn libwebsockets' own lines off."""
    run_program("signals", pyserver.url, pyserver.key, served=served, env={"DRIVER_LOUD": "1"})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A context for a server, and the file that a client trusts."""
    assert shutil.which("openssl"), "the test needs the Debian package openssl"
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "30",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:TRUE"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context, folder / "cert.pem"


def take_some(connection):
    """And hang up with the rest unread, which the client gets as a reset."""
    connection.recv(65536)


@SERVED
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_server_that_hangs_up_does_not_end_the_program(served, secure, certificate):
    """SIGPIPE is at its default in the program: a write to the connection that is no more would end it."""
    context, file = certificate
    with RawServer(upgraded(take_some), context if secure else None) as server:
        url = server.url.replace("http://", "https://") if secure else server.url
        run_program("hangup", url, "key", 30, served=served, env={"DRIVER_CA": str(file)} if secure else None)
        assert server.accepted == 30


@SERVED
def test_a_child_that_becomes_another_program_inherits_no_descriptor(served, pyserver):
    run_program("exec", pyserver.url, pyserver.key, served=served)


@SERVED
def test_fork(served, pyserver):
    run_program("fork", pyserver.url, pyserver.key, served=served)
    assert pyserver.contents() == {"a": "child" if served == "by_caller" else "parent"}
