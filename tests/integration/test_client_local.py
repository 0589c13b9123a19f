"""local:DIR: a server that is found or started, whoever comes first, and heals by itself."""

import errno
import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from lib.client_driver import Driver
from lib.processes import alive, end_processes, program, sanitizer_env, sanitizer_reports, wait_for


def servers(folder):
    """Pids of the living hpkvd of this folder."""
    wanted = os.fsencode(f"{folder}")
    pids = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--store" in words and wanted in words and alive(int(entry)):
            pids.append(int(entry))
    return pids


class Local:
    """A folder for local:DIR; its server is ended with the test."""

    def __init__(self, folder, reports):
        self.folder = folder
        self.spec = f"local:{folder}"
        self.reports = reports

    def hpkv(self, *words, env=None, **keywords):
        return subprocess.run(
            [program("src/cli/hpkv"), "--url", self.spec, *words],
            env={**os.environ, **sanitizer_env(self.reports), **(env or {})},
            capture_output=True,
            timeout=400,
            check=False,
            **keywords,
        )

    def driver(self, **options):
        return Driver(self.spec, env={"HPKVD": str(program("src/server/hpkvd"))}, **options)

    def start(self, *words):
        return subprocess.Popen(
            [program("src/cli/hpkv"), "--url", self.spec, *words],
            env={**os.environ, **sanitizer_env(self.reports)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def pid(self):
        pids = servers(self.folder)
        assert len(pids) == 1, pids
        return pids[0]


@pytest.fixture
def local(tmp_path):
    # Not below tmp_path, which other users cannot enter: newer sanitizers end a program that finds no way to its reports.
    reports = Path(tempfile.mkdtemp(prefix="reports-"))
    reports.chmod(0o777)
    made = Local(tmp_path / "store", str(reports))
    yield made
    end_processes(servers(made.folder), grace=20.0)
    assert not sanitizer_reports(made.reports), sanitizer_reports(made.reports)


def ok(result):
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def test_started_when_nobody_answers(local):
    ok(local.hpkv("set", "a", "1"))
    assert ok(local.hpkv("get", "a")) == b"1"
    assert stat.S_IMODE(local.folder.stat().st_mode) == 0o700
    key = local.folder / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(bytes.fromhex(key.read_text())) == 32
    assert not list(local.folder.glob(".key*"))
    for name in ("log", "lock"):
        assert stat.S_IMODE((local.folder / name).stat().st_mode) == 0o600


def test_many_at_the_same_instant_share_one_server(local):
    runs = [local.start("set", f"k{i}", f"v{i}") for i in range(8)]
    for run in runs:
        _, text = run.communicate(timeout=400)
        assert run.returncode == 0, text
    wait_for(lambda: len(servers(local.folder)) == 1, "one server")
    rows = ok(local.hpkv("range", "k", "l")).decode().splitlines()
    assert rows == [f"k{i}\tv{i}" for i in range(8)]


def test_two_at_the_same_instant_again_and_again(local):
    for round_ in range(5):
        runs = [local.start("incr", "n") for _ in range(2)]
        for run in runs:
            _, text = run.communicate(timeout=400)
            assert run.returncode == 0, text
        assert ok(local.hpkv("get", "n")) == str(2 * (round_ + 1)).encode()
        end_processes(servers(local.folder))


def test_the_server_is_on_its_own(local):
    """In a session of its own, without our descriptors, our key and our folder."""
    ok(local.hpkv("set", "a", "1", env={"HPKV_API_KEY": "sesame"}))
    pid = local.pid()
    assert os.getsid(pid) == pid or os.getsid(pid) != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert b"HPKV_API_KEY" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert os.readlink(f"/proc/{pid}/fd/0").startswith("pipe:")  # tells its starter that it lives
    assert os.readlink(f"/proc/{pid}/fd/1") == str(local.folder / "log")
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    assert int(parent) != os.getpid()


def test_a_server_that_takes_its_time_is_started_once(local):
    """Also one that closes what it inherits, as hpkvd does."""
    reports = Path(local.reports)
    program_path = reports / "slow-hpkvd"
    program_path.write_text(
        f'#!/bin/sh\necho "$$" >> "{reports}/starts"\nexec 3>&- 4>&- 5>&-\nsleep 1\nexec "{program("src/server/hpkvd")}" "$@"\n'
    )
    program_path.chmod(0o755)
    ok(local.hpkv("--timeout", "50", "set", "a", "1", env={"HPKVD": str(program_path)}))
    starts = (reports / "starts").read_text().split()
    (reports / "starts").unlink()
    program_path.unlink()
    assert starts == [str(local.pid())]


def test_killed_between_two_calls(local):
    ok(local.hpkv("set", "a", "1"))
    for _ in range(3):
        before = local.pid()
        os.kill(before, signal.SIGKILL)
        assert ok(local.hpkv("get", "a")) == b"1"
        assert local.pid() != before


def test_killed_under_a_connection(local):
    with local.driver() as client:
        assert "err" not in client.connect()
        assert "err" not in client.request("set", "a", "1")
        os.kill(local.pid(), signal.SIGKILL)
        assert client.wait("disconnected")["err"] == -errno.ECONNRESET
        assert "err" not in client.connect()
        assert client.request("get", "a")["value"] == "1"


def test_ended_and_asked_at_the_same_time(local):
    """The old server may have removed its socket and still hold the lock; the next client waits for it, and starts anew."""
    ok(local.hpkv("set", "n", "x"))
    for _ in range(5):
        for pid in servers(local.folder):
            os.kill(pid, signal.SIGTERM)
        assert ok(local.hpkv("get", "n")) == b"x"


def test_a_socket_that_nobody_serves(local):
    local.folder.mkdir(mode=0o700)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(local.folder / "socket"))
    stale.close()
    ok(local.hpkv("set", "a", "1"))


def test_it_ends_after_its_last_client(local):
    ok(local.hpkv("set", "a", "1"))
    pid = local.pid()
    wait_for(lambda: not alive(pid), "the server's end")
    assert not (local.folder / "socket").exists()
    assert ok(local.hpkv("get", "a")) == b"1"


def test_long_paths(local, tmp_path):
    local.folder = tmp_path / ("d" * 100) / ("e" * 100)
    local.spec = f"local:{local.folder}"
    local.folder.parent.mkdir()
    ok(local.hpkv("set", "a", "1"))
    assert ok(local.hpkv("get", "a")) == b"1"
    assert ok(local.hpkv("token")).strip()
    with local.driver() as client:
        assert "err" not in client.connect()
        assert client.request("get", "a")["value"] == "1"


def test_a_relative_path(local, tmp_path):
    local.spec = "local:store"
    ok(local.hpkv("set", "a", "1", cwd=tmp_path))
    assert ok(local.hpkv("get", "a", cwd=tmp_path)) == b"1"
    assert local.pid()


def test_large_values(local):
    value = b"x" * (1 << 20)
    ok(local.hpkv("set", "a", input=value))
    assert ok(local.hpkv("get", "a")) == value


def test_freed_while_a_server_is_started(local):
    with local.driver() as client:
        client.do("together", [["connect"], ["free"]])
        client.wait("freed")
        assert client.wait("connect")["err"] == -errno.ECANCELED


def connections(client):
    """How many the client has made."""
    before = client.count("stats")
    client.do("stats")
    return client.wait("stats", after=before)["connections"]


def test_tokens_from_the_folders_server(local):
    """The key is DIR's; the connection changes while the store is watched."""
    with local.driver(tokens={"subscribe_patterns": ["a*"]}, token_lifetime_ms=500) as client:
        assert "err" not in client.connect()
        for i in range(3):
            assert "err" not in client.request("set", "a1", str(i))
            assert client.wait("notification", after=i)["value"] == str(i)
            made = connections(client)
            wait_for(lambda made=made: connections(client) > made, "a change-over")
        assert (client.count("connected"), client.count("disconnected")) == (1, 0)


def test_a_token_connection(local):
    with local.driver() as asker:
        asker.do("token", ["a*"], None)
        token = asker.wait("token")["token"]
    with local.driver(token=token) as client:
        assert "err" not in client.connect()
        assert "err" not in client.request("set", "a1", "x")
        assert client.wait("notification")["key"] == "a1"


# --- what is refused ---


def refused(local, *texts, env=None):
    result = local.hpkv("--timeout", "2", "get", "a", env=env)
    message = result.stderr.decode()
    assert result.returncode == 4, message
    assert message.count("\n") == 1
    for text in texts:
        assert text in message
    return message


def test_a_folder_that_others_can_write(local):
    local.folder.mkdir()
    for mode in (0o770, 0o702, 0o1777):
        local.folder.chmod(mode)
        refused(local, str(local.folder), "written by others")
    assert servers(local.folder) == []


def test_a_key_that_others_can_read(local):
    ok(local.hpkv("set", "a", "1"))
    (local.folder / "key").chmod(0o644)
    refused(local, str(local.folder / "key"), "read by others")


def test_a_key_that_is_a_link(local, tmp_path):
    local.folder.mkdir(mode=0o700)
    (tmp_path / "elsewhere").write_text("k\n")
    (local.folder / "key").symlink_to(tmp_path / "elsewhere")
    refused(local, str(local.folder / "key"))


def test_a_folder_whose_parent_is_missing(local):
    local.folder = local.folder / "below"
    local.spec = f"local:{local.folder}"
    refused(local, str(local.folder), "No such file")


def test_no_folder(local):
    local.folder.write_text("a file")
    refused(local, str(local.folder), "Not a directory")
    local.folder.unlink()


@pytest.mark.parametrize(
    "answer, text",
    [
        ({"version": "99.1.0"}, "the running hpkvd is version 99.1.0, this is "),
        ({"version": 1}, "no hpkvd"),
        ({}, "no hpkvd"),
        ("nonsense", "no hpkvd"),
    ],
)
def test_another_version_is_running(local, answer, text):
    local.folder.mkdir(mode=0o700)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(local.folder / "socket"))
    listener.listen()
    body = json.dumps(answer).encode()

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            request = connection.recv(65536)
            assert request.startswith(b"GET /health ")
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        refused(local, text)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
    assert servers(local.folder) == []


def test_no_server_is_installed(local):
    refused(local, "hpkvd", "not found", env={"HPKVD": "/no/such/hpkvd"})


def test_a_server_that_does_not_come_up(local, tmp_path):
    script = tmp_path / "hpkvd"
    script.write_text("#!/bin/sh\necho 'hpkvd: the disk is full' >&2\nexit 1\n")
    script.chmod(0o755)
    refused(local, "no server came up", "the disk is full", env={"HPKVD": str(script)})


def test_a_server_that_cannot_be_run(local, tmp_path):
    script = tmp_path / "hpkvd"
    script.write_text("#!/no/such/shell\n")
    script.chmod(0o755)
    refused(local, str(script), "cannot be started", env={"HPKVD": str(script)})


def test_a_request_never_ends_with_enoent_for_want_of_a_server(local):
    with Driver(local.spec, env={"HPKVD": "/no/such/hpkvd"}) as client:
        client.do("connect")
        number = client.start("get", "a")
        assert client.wait("connect")["err"] == -errno.ENOENT
        reply = client.reply(number)
        assert (reply["err"], reply["code"]) == (-errno.ECONNREFUSED, 0)


# --- root and others ---


def nobody():
    return pwd.getpwnam("nobody")


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")


@pytest.fixture
def within_reach(local):
    """Moves the folder to where another user can go: pytest's own are closed to others."""
    parent = Path(tempfile.mkdtemp())
    parent.chmod(0o755)
    local.folder = parent / "store"
    local.spec = f"local:{local.folder}"


@needs_root
def test_root_serves_anothers_folder_as_its_owner(local, within_reach):
    user = nobody()
    local.folder.mkdir(mode=0o700)
    os.chown(local.folder, user.pw_uid, user.pw_gid)
    ok(local.hpkv("set", "a", "1", env={"SECRET": "of root"}))
    pid = local.pid()
    rows = dict(row.split(":\t") for row in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in row)
    assert rows["Uid"].split() == [str(user.pw_uid)] * 4
    assert rows["Gid"].split() == [str(user.pw_gid)] * 4
    assert "0" not in rows["Groups"].split()
    assert b"SECRET" not in Path(f"/proc/{pid}/environ").read_bytes()
    for path in local.folder.iterdir():
        assert path.stat().st_uid == user.pw_uid, path


@needs_root
def test_anothers_folder_is_refused(local, within_reach):
    user = nobody()
    local.folder.mkdir(mode=0o755)
    result = local.hpkv("--timeout", "2", "get", "a", user=user.pw_uid, group=user.pw_gid, extra_groups=[])
    assert result.returncode == 4
    assert b"belongs to another user" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_client_whose_server_ends_starts_another(local, number):
    quick = {"max_reconnect_attempts": 20, "reconnect_initial_delay_ms": 10, "reconnect_max_delay_ms": 500, "connect_timeout_ms": 20000}
    with local.driver(**quick) as client:
        assert "err" not in client.connect()
        assert "err" not in client.request("set", "a", "1")
        for n in range(1, 4):
            before = local.pid()
            os.kill(before, number)
            client.wait("connected", after=n)
            assert client.request("get", "a")["value"] == "1"
            wait_for(lambda before=before: not alive(before), "the end of the server before")
            assert local.pid() != before
        assert client.count("reconnect_failed") == 0
