"""hpkvd from its start to its end: options, keys, sockets, the lock, signals, crashes, full disks."""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import time
from pathlib import Path

import pytest
import websockets

from lib.hpkvd import KEY, Hpkvd, StartFailed, unix_socket
from lib.processes import program, wait_for
from lib.shell import need
from lib.wsclient import Client, Refused


def run(*arguments, key=KEY, env=None):
    """A run that ends by itself."""
    variables = {name: value for name, value in os.environ.items() if name != "HPKV_API_KEY"} | (env or {})
    if key is not None:
        variables["HPKV_API_KEY"] = key
    return subprocess.run(
        [str(program("src/server/hpkvd")), *arguments],
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def one_line(done, code):
    assert done.returncode == code, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("hpkvd: "), done.stderr
    return lines[0]


# --- the command line ---


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--store", "s"],
        ["--listen", "0"],
        ["--store", "s", "--listen", "0", "--bogus"],
        ["--store", "s", "--listen", "0", "--bogus=1"],
        ["--store", "s", "--listen", "0", "extra"],
        ["--store", "s", "--listen", "0", "-x"],
        ["--store", "s", "--listen", "0", "--rate"],
        ["--store", "s", "--listen", "0", "--rate", "x"],
        ["--store", "s", "--listen", "0", "--rate=-1"],
        ["--store", "s", "--listen", "0", "--max-value", "0"],
        ["--store", "s", "--listen", "0", "--max-key", "99999999999"],
        ["--store", "s", "--listen", "0", "--sync", "maybe"],
        ["--store", "s", "--listen", "0", "--idle-exit", "1x"],
        ["--store", "s", "--listen", "0", "--debug=1"],
        ["--store", "", "--listen", "0"],
    ],
    ids=range(16),
)
def test_wrong_usage(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    one_line(run(*arguments), 2)
    assert os.listdir(tmp_path) == []


def test_help_and_version():
    done = run("--help", key=None)
    assert done.returncode == 0 and "--idle-exit SECONDS" in done.stdout
    assert run("--version", key=None).stdout.startswith("hpkvd ")


def test_help_and_manual_name_the_same_options(pytestconfig):
    helped = re.findall(r"^  (--[a-z-]+)(?: (\S+))?", run("--help").stdout, re.MULTILINE)
    manual = (pytestconfig.rootpath / "packaging/man/hpkvd.8").read_text(encoding="utf-8")
    text = re.sub(r"\\f[RP]", "", manual).replace("\\-", "-").split(".SH OPTIONS")[1].split(".SH")[0]
    assert re.findall(r'^\.BI? (--[a-z-]+)(?: " (\S+)")?', text, re.MULTILINE) == helped
    assert len(helped) == 12


# --- the API key ---


def test_no_key(tmp_path):
    store = str(tmp_path / "s")
    assert "API key" in one_line(run("--store", store, "--listen", "0", key=None), 2)
    assert "API key" in one_line(run("--store", store, "--listen", "0", key=""), 2)
    assert "API key" in one_line(run("--store", store, "--listen", "0", key="with space"), 2)
    assert not os.path.exists(store)


def test_key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text("\nfrom-the-file \n")
    for mode in (0o640, 0o604, 0o620, 0o601):
        path.chmod(mode)
        line = one_line(run("--store", str(tmp_path / "s"), "--listen", "0", "--api-key-file", str(path)), 2)
        assert str(path) in line and "from-the-file" not in line
    path.chmod(0o600)
    with Hpkvd(tmp_path / "s", ["--api-key-file", str(path)]) as server:
        with Client(server.url, "from-the-file"):
            pass
    for content in ("", "\n", "two words\n", "two\nlines\n", "of\0file\n", "\u00e9\n", "k" * 1025):
        path.write_text(content)
        line = one_line(run("--store", str(tmp_path / "s"), "--listen", "0", "--api-key-file", str(path)), 2)
        assert str(path) in line and (not content.strip() or content.strip() not in line)
    path.write_text("k" * 1024)
    with Hpkvd(tmp_path / "s", ["--api-key-file", str(path)]) as server:
        with Client(server.url, "k" * 1024):
            pass


def test_a_key_that_is_in_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "none", tmp_path, tmp_path / "fifo"):
        line = one_line(run("--store", str(tmp_path / "s"), "--listen", "0", "--api-key-file", str(path)), 2)
        assert str(path) in line


def test_key_from_systemd(tmp_path):
    (tmp_path / "hpkv_api_key").write_text("from-systemd")
    with Hpkvd(tmp_path / "s", key=None, env={"CREDENTIALS_DIRECTORY": str(tmp_path)}) as server:
        with Client(server.url, "from-systemd"):
            pass


def test_the_key_shows_nowhere(tmp_path):
    with Hpkvd(tmp_path / "s", ["--debug"], key="very-secret-key") as server:
        with Client(server.url, server.key) as client:
            client.set("a", "the-secret-value")
        for name in ("environ", "cmdline"):
            with open(f"/proc/{server.pid}/{name}", "rb") as shown:
                assert b"very-secret-key" not in shown.read()
        server.stop()
        assert "secret" not in server.log() and "secret" not in "".join(server.lines)


# --- sockets ---


def test_ports_are_loopback_unless_said_otherwise(tmp_path):
    for listen in ("0", ":0", "127.0.0.1:0", "localhost:0"):
        with Hpkvd(tmp_path / "s", listen=listen) as server:
            assert server.url.startswith("http://127.0.0.1:") or server.url.startswith("http://[::1]:")
    with Hpkvd(tmp_path / "s", listen="0.0.0.0:0") as server:
        assert server.url.startswith("http://0.0.0.0:")
    with Hpkvd(tmp_path / "s", listen="[::1]:0") as server:
        assert server.url.startswith("http://[::1]:")
        assert server.http("GET", "/health")[0] == 200
    for listen in ("x", "127.0.0.1:", "127.0.0.1:99999", "192.0.2.1:0"):
        one_line(run("--store", str(tmp_path / "s"), "--listen", listen), 1)


def test_several_addresses(tmp_path):
    path = tmp_path / "socket"
    with Hpkvd(tmp_path / "s", ["--listen", "0", "--listen", f"unix:{path}"]) as server:
        wait_for(lambda: len(server.lines) == 3, "all addresses")
        assert server.lines[2] == f"hpkvd: listening on unix:{path}"
        with Client(server.url, KEY) as first, Client(f"unix:{path}", KEY) as second:
            first.set("a", "1")
            assert second.get("a") == "1"


def test_a_port_in_use(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        line = one_line(run("--store", str(tmp_path / "s"), "--listen", str(other.getsockname()[1])), 1)
        assert "in use" in line


def test_unix_socket(tmp_path):
    path = tmp_path / "socket"
    with Hpkvd(tmp_path / "s", listen=f"unix:{path}") as server:
        assert server.url == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with Client(server.url, server.key) as client:
            client.set("a", "1")
            assert client.get("a") == "1"
            watcher = client.subscribe(patterns=["*"])
            client.set("a", "2")
            assert watcher.notification()["value"] == "2"
            watcher.close()
        assert server.requests() == {"set": 2, "get": 1}
    assert not path.exists()


def test_unix_socket_with_a_long_path(tmp_path):
    folder = tmp_path / ("d" * 120) / ("e" * 120)
    folder.mkdir(parents=True)
    with Hpkvd(folder / "s", listen=f"unix:{folder}/socket") as server:
        with Client(server.url, server.key) as client:
            client.set("a", "1")
        assert (folder / "socket").is_socket()
    assert not (folder / "socket").exists()
    line = one_line(run("--store", str(tmp_path / "s"), "--listen", f"unix:{folder}/{'n' * 120}"), 1)
    assert "too long" in line


def test_unix_socket_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Hpkvd(tmp_path / "s", listen="unix:socket") as server:
        assert server.http("GET", "/health")[0] == 200
    assert not (tmp_path / "socket").exists()


def test_a_stale_socket_is_replaced_and_nothing_else(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with Hpkvd(tmp_path / "s", listen=f"unix:{path}"):
        unix_socket(str(path)).close()
    # somebody's live socket, and a file
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        assert "in use" in one_line(run("--store", str(tmp_path / "s"), "--listen", f"unix:{path}"), 1)
        assert path.is_socket()
    path.unlink()
    path.write_text("precious")
    one_line(run("--store", str(tmp_path / "s"), "--listen", f"unix:{path}"), 1)
    assert path.read_text() == "precious"


def test_a_socket_that_is_not_its_own_any_more_stays(tmp_path):
    path = tmp_path / "socket"
    with Hpkvd(tmp_path / "s", listen=f"unix:{path}"):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


# --- the lock ---


def test_one_server_a_store(tmp_path):
    path = tmp_path / "s" / "socket"
    with Hpkvd(tmp_path / "s", listen=f"unix:{path}") as server:
        done = run("--store", str(tmp_path / "s"), "--listen", f"unix:{path}")
        line = one_line(done, 4)
        assert str(server.pid) in line and str(tmp_path / "s") in line
        # the second left the first one's socket alone
        assert server.http("GET", "/health")[0] == 200


def test_a_killed_server_leaves_no_lock(tmp_path):
    path = tmp_path / "s" / "socket"
    with Hpkvd(tmp_path / "s", listen=f"unix:{path}") as server:
        with Client(server.url, server.key) as client:
            client.set("a", "1")
        server.kill9()
        assert path.is_socket()
        server.start()
        with Client(server.url, server.key) as client:
            assert client.get("a") == "1"


def test_the_lock_is_held_to_the_end(tmp_path):
    """Also after the socket has gone; and whoever gets it, finds everything written."""
    path = tmp_path / "s" / "socket"
    with Hpkvd(tmp_path / "s", listen=f"unix:{path}") as server:
        with Client(server.url, server.key) as client:
            ids = {client.send(op=2, key=f"k{number}", value="x" * 1000): f"k{number}" for number in range(2000)}
            client.receive(min(ids))
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: not path.exists(), "the socket to go")
            with open(tmp_path / "s" / "lock", "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # what was still on its way is not answered, and then the connection ends
                with contextlib.suppress(websockets.ConnectionClosed):
                    while len(client.replies) < len(ids) - 1:
                        client._take()
                with contextlib.closing(sqlite3.connect(tmp_path / "s" / "store.sqlite")) as table:
                    written = {bytes(key).decode() for (key,) in table.execute("SELECT key FROM kv")}
        answered = {ids[number] for number, reply in client.replies.items() if reply["code"] == 200}
        assert answered | {"k0"} <= written
        assert server.wait() == 0


def test_descriptors_are_not_inherited(tmp_path):
    """Neither taken over from the parent nor left to a child."""
    with open(tmp_path / "parents", "wb") as parents:
        os.set_inheritable(parents.fileno(), True)
        number = os.dup2(parents.fileno(), 77, inheritable=True)
        try:
            command = [str(program("src/server/hpkvd")), "--store", str(tmp_path / "s"), "--listen", f"unix:{tmp_path}/socket"]
            process = subprocess.Popen(
                command, env=os.environ | {"HPKV_API_KEY": KEY}, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, close_fds=False
            )
        finally:
            os.close(number)
    try:
        assert process.stdout.readline()
        folder = f"/proc/{process.pid}/fd"
        targets = {}
        for name in os.listdir(folder):
            targets[int(name)] = os.readlink(f"{folder}/{name}")
        assert str(tmp_path / "parents") not in targets.values()
        # libwebsockets 4.3 listens to the kernel's routing table, on a socket of its own making
        with open(f"/proc/{process.pid}/net/netlink", encoding="ascii") as table:
            netlink = {f"socket:[{line.split()[-1]}]" for line in table}
        for name in targets:
            if name > 2 and targets[name] not in netlink:
                with open(f"/proc/{process.pid}/fdinfo/{name}", encoding="ascii") as info:
                    flags = next(int(line.split()[1], 8) for line in info if line.startswith("flags"))
                # libwebsockets' own pipe or event counter is the one exception, and hpkvd starts no programs
                assert flags & os.O_CLOEXEC or targets[name].startswith(("pipe:", "anon_inode:")), (name, targets[name])
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()


def test_the_folder(tmp_path):
    with Hpkvd(tmp_path / "s") as server:
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700
        with Client(server.url, server.key) as client:
            client.set("a", "1")
        for entry in os.scandir(tmp_path / "s"):
            assert stat.S_IMODE(entry.stat().st_mode) == 0o600, entry.name
    one_line(run("--store", str(tmp_path / "none" / "s"), "--listen", "0"), 1)
    (tmp_path / "file").write_text("x")
    one_line(run("--store", str(tmp_path / "file"), "--listen", "0"), 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a server in another user's folder")
def test_root_becomes_the_owner(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir(mode=0o700)
    for parent in (tmp_path, tmp_path.parent):
        parent.chmod(0o755)
    os.chown(folder, 12345, 12346)
    with Hpkvd(folder) as server:
        with open(f"/proc/{server.pid}/status", encoding="ascii") as status:
            lines = dict(line.rstrip("\n").split(":", 1) for line in status if ":" in line)
        assert lines["Uid"].split() == ["12345"] * 4 and lines["Gid"].split() == ["12346"] * 4
        assert lines["Groups"].split() == []
        with Client(server.url, server.key) as client:
            client.set("a", "1")
        for entry in os.scandir(folder):
            assert entry.stat().st_uid == 12345


# --- the end ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_received_is_answered_before_the_end(tmp_path, number):
    with Hpkvd(tmp_path / "s") as server:
        with Client(server.url, server.key) as client, Client(server.url, server.key) as idle:
            for count in range(500):
                client.send(op=2, key=f"k{count}", value="x")
            client.receive(1)
            assert server.stop(number) == 0
            # what was still on its way is neither answered nor stored
            with contextlib.suppress(websockets.ConnectionClosed):
                while len(client.replies) < 499:
                    client._take()
            assert {reply["code"] for reply in client.replies.values()} <= {200}
            answered = {f"k{number - 1}" for number in (1, *client.replies)}
            assert client.wait_closed() == (1001, "server is shutting down")
            assert idle.wait_closed()[0] == 1001
        server.start()
        with Client(server.url, server.key) as client:
            assert {key for key, _ in client.range_all()} == answered


def test_the_end_with_clients_that_do_not_answer(tmp_path):
    """A half request, an idle HTTP connection, a WebSocket that does not close: none keeps it from ending."""
    with Hpkvd(tmp_path / "s") as server:
        host, port = server.url.removeprefix("http://").rsplit(":", 1)
        open_ones = [socket.create_connection((host, int(port)), timeout=240) for _ in range(3)]
        open_ones[1].sendall(b"GET /hea")
        client = Client(server.url, server.key).connect()
        assert server.stop() == 0
        for connection in open_ones:
            connection.close()
        client.close()


def test_kill_loses_nothing_acknowledged(tmp_path):
    """kill -9 in the middle of 1,000 sets."""
    for after in (1, 200, 700):
        with Hpkvd(tmp_path / f"s{after}") as server:
            acknowledged = []
            client = Client(server.url, server.key).connect()
            for number in range(1000):
                client.send(op=2, key=f"k{number}", value=str(number))
            while len(acknowledged) < after:
                reply = json.loads(client.receive_raw())
                assert reply["code"] == 200
                acknowledged.append(reply["messageId"] - 1)
            server.kill9()
            try:
                while True:
                    acknowledged.append(json.loads(client.receive_raw())["messageId"] - 1)
            except Exception as error:
                assert type(error).__name__ == "ConnectionClosedError"
            client.loop.close()
            server.start()
            with Client(server.url, server.key) as client:
                kept = dict(client.range_all())
            assert len(acknowledged) >= after
            assert all(kept[f"k{number}"] == str(number) for number in acknowledged)
            assert all(value == key[1:] for key, value in kept.items())


def test_idle_exit(tmp_path):
    with Hpkvd(tmp_path / "s", ["--idle-exit", "1"]) as server:
        with Client(server.url, server.key) as client:
            client.set("a", "1")
            time.sleep(2)
            assert client.get("a") == "1"
        assert server.wait() == 0
    with Hpkvd(tmp_path / "s", ["--idle-exit", "1"]) as server:
        assert server.wait() == 0


# --- the store ---


def test_it_is_an_sqlite_table_in_order_of_bytes(tmp_path):
    with Hpkvd(tmp_path / "s") as server, Client(server.url, server.key) as client:
        client.set("é", "text")
        client.atomic("b", 5)
    assert sorted(os.listdir(tmp_path / "s")) == ["lock", "store.sqlite"]
    with contextlib.closing(sqlite3.connect(tmp_path / "s" / "store.sqlite")) as table:
        rows = table.execute("SELECT key, value, number FROM kv").fetchall()
    assert rows == [(b"b", b"5", 1), ("é".encode(), b"text", 0)]


def fill(tmp_path, keys=200):
    with Hpkvd(tmp_path / "s") as server, Client(server.url, server.key) as client:
        for number in range(keys):
            client.set(f"k{number}", "x" * 1000)
    return tmp_path / "s" / "store.sqlite"


def refused_store(tmp_path, path):
    before = path.read_bytes()
    line = one_line(run("--store", str(tmp_path / "s"), "--listen", "0"), 1)
    assert path.read_bytes() == before
    return line


@pytest.mark.parametrize("where", ["head", "middle", "half"])
def test_a_damaged_store(tmp_path, where):
    path = fill(tmp_path)
    content = bytearray(path.read_bytes())
    if where == "head":
        content[:100] = os.urandom(100)
    elif where == "middle":
        for at in range(4096, len(content), 4096):
            content[at : at + 50] = b"\xa5" * 50
    else:
        del content[len(content) // 2 :]
    path.write_bytes(content)
    assert "damaged" in refused_store(tmp_path, path)


def test_a_file_that_is_no_store(tmp_path):
    path = fill(tmp_path)
    path.write_text("hello, this is my diary\n" * 100)
    assert "damaged" in refused_store(tmp_path, path)
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine(x)")
    assert "not a store" in refused_store(tmp_path, path)


def test_a_store_of_a_newer_version(tmp_path):
    path = fill(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as table:
        table.execute("PRAGMA user_version = 2")
    assert "version 2" in refused_store(tmp_path, path)


def test_a_full_disk(tmp_path):
    """Refused writes leave the old values, and it goes on: reads, smaller writes, and all once there is space again."""
    need("unshare")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    mount.append(f'mount -t tmpfs -o size=3m tmpfs "{folder}" && exec "$@"')
    with Hpkvd(folder / "s", ["--max-value", "200000"], wrapper=[*mount, "sh"]) as server:
        ballast = Path(f"/proc/{server.pid}/root{folder}/ballast")
        ballast.write_bytes(b"x" * 800_000)
        with Client(server.url, server.key) as client:
            client.set("small", "old")
            codes = []
            for number in range(60):
                try:
                    client.set(f"k{number}", str(number % 10) * 200_000)
                    codes.append(200)
                except Refused as refused:
                    codes.append(refused.code)
            assert codes[0] == 200 and codes[-1] == 507 and set(codes) == {200, 507}
            assert client.get("small") == "old"
            kept = dict(client.range_all())
            for number, code in enumerate(codes):
                assert (f"k{number}" in kept) == (code == 200)
            # many at once, of which some have no room: the others do not suffer
            ballast.unlink()
            ids = {client.send(op=2, key=f"s{n}", value="x" * (200_000 if n % 2 else 10)): n for n in range(60)}
            results = {number: client.receive(message_id)["code"] for message_id, number in ids.items()}
            assert all(code == 200 for number, code in results.items() if not number % 2)
            assert 507 in results.values()
        assert server.requests("set", 507) >= 1


def test_a_limit_on_file_sizes(tmp_path):
    """An error of writing that is not a full disk: 500, and it goes on."""
    need("prlimit")
    with Hpkvd(tmp_path / "s", ["--max-value", "200000"], wrapper=["prlimit", "--fsize=2000000"]) as server:
        with Client(server.url, server.key) as client:
            client.set("small", "old")
            codes = set()
            for number in range(30):
                try:
                    client.set(f"k{number}", "x" * 200_000)
                    codes.add(200)
                except Refused as refused:
                    codes.add(refused.code)
            assert codes == {200, 500}
            assert client.get("small") == "old"


@pytest.mark.parametrize("sync", ["full", "normal"])
def test_sync(tmp_path, sync):
    """Counted by strace: full syncs for each commit, normal does not."""
    need("strace")
    trace = tmp_path / "trace"
    wrapper = ["strace", "-D", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(trace)]
    # a search for leaks needs ptrace for itself
    with Hpkvd(tmp_path / "s", ["--sync", sync], wrapper=wrapper, env={"ASAN_OPTIONS": "detect_leaks=0"}) as server:
        with Client(server.url, server.key) as client:
            client.set("first", "x")
            before = len(trace.read_text().splitlines())
            for number in range(20):
                client.set("a", str(number))
            syncs = len(trace.read_text().splitlines()) - before
        assert syncs >= 20 if sync == "full" else syncs < 5
