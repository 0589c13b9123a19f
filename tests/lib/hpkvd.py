"""hpkvd as a child of the test: on a free loopback port or a Unix socket, with a store in a temporary folder.

    with Hpkvd(tmp_path / "store", ["--rate", "5"]) as server:
        server.url, server.key      # what clients need
        server.requests("get")      # answered requests, counted by the server
        server.kill9(); server.start()   # same store, same address
"""

import os
import signal
import socket
import subprocess
import tempfile
import threading
from http.client import HTTPConnection
from pathlib import Path

from lib.processes import program, sanitizer_env, sanitizer_reports, wait_for

KEY = "test-key-0123456789"


class StartFailed(Exception):
    """The server ended instead of listening; code is its exit code, log what it said."""

    def __init__(self, code, log):
        super().__init__(f"hpkvd ended with exit code {code}:\n{log}")
        self.code = code
        self.log = log


class UnixConnection(HTTPConnection):
    """HTTP over a Unix socket, however long its path."""

    def __init__(self, path, timeout=240):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = unix_socket(self.path)
        self.sock.settimeout(self.timeout)


def unix_socket(path):
    """A socket connected to the path, which may be longer than an address has room for."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY)
    try:
        connected.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    except OSError:
        connected.close()
        raise
    finally:
        os.close(folder)
    return connected


class Hpkvd:
    """
    store     the store's folder (default: a new temporary one)
    options   further arguments, a list
    listen    what to give to --listen (default: a free port of 127.0.0.1)
    key       the API key, passed by HPKV_API_KEY; None: the variable is not set
    wrapper   words before the program, e.g. ["valgrind"]
    env       further variables
    limit     seconds to wait for the server to listen or to end; generous, because sanitized programs are slow
    """

    def __init__(self, store=None, options=(), listen=None, key=KEY, wrapper=(), env=None, limit=240.0):
        self.folder = tempfile.TemporaryDirectory(prefix="hpkvd-")
        self.store = Path(store) if store is not None else Path(self.folder.name) / "store"
        self.options = list(options)
        self.listen = listen or "127.0.0.1:0"
        self.key = self.api_key = key
        self.wrapper = list(wrapper)
        self.env = dict(env or {})
        self.limit = limit
        self.process = None
        self.url = None
        self.lines = []
        self.log_path = Path(self.folder.name) / "log"

    # --- life ---

    def start(self):
        """Starts it, again on the same address, and waits until it listens."""
        env = {name: value for name, value in os.environ.items() if name != "HPKV_API_KEY"}
        env.update(sanitizer_env(self.folder.name))
        if self.key is not None:
            env["HPKV_API_KEY"] = self.key
        env.update(self.env)
        command = [*self.wrapper, str(program("src/server/hpkvd")), "--store", str(self.store), "--listen", self.listen]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command + self.options, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )
        self.lines = []
        ready = threading.Event()
        threading.Thread(target=self._read, args=(self.process.stdout, ready), daemon=True).start()
        wait_for(lambda: ready.is_set() or self.process.poll() is not None, "hpkvd to listen", self.limit)
        if not ready.is_set():
            raise StartFailed(self.process.wait(), self.log())
        self.url = self.lines[0].removeprefix("hpkvd: listening on ")
        if self.url.startswith("http://") and self.listen.endswith(":0"):
            self.listen = self.url.removeprefix("http://")
        return self

    def _read(self, stream, ready):
        with stream:
            for line in stream:
                self.lines.append(line.decode().rstrip("\n"))
                ready.set()

    def wait(self):
        """Its exit code, once it has ended."""
        code = self.process.wait(self.limit)
        reports = sanitizer_reports(self.folder.name)
        assert not reports, reports
        return code

    def stop(self, number=signal.SIGTERM):
        """Asks it to end, and answers its exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.wait()
        self.process = None
        return code

    def kill9(self):
        self.process.kill()
        self.process.wait(self.limit)
        self.process = None

    kill = kill9

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self._end()
            raise

    def __exit__(self, kind, _error, _trace):
        ended_before = self.process is not None and self.process.poll() is not None
        code = self._end()
        if kind is None:
            assert not ended_before or code == 0, f"hpkvd had ended with exit code {code}:\n{self.log()}"
            assert code in (0, None), f"hpkvd ended with exit code {code}:\n{self.log()}"
        self.folder.cleanup()

    def _end(self):
        if self.process is None:
            return None
        try:
            return self.stop()
        except subprocess.TimeoutExpired:
            self.kill9()
            raise

    # --- HTTP ---

    def connection(self):
        """An http.client connection."""
        if self.url.startswith("unix:"):
            return UnixConnection(self.url.removeprefix("unix:"))
        return HTTPConnection(self.url.removeprefix("http://"), timeout=240)

    def http(self, method, path, body=None, key=True, headers=None):
        """One request: its status and its body as text. key=False leaves the API key out, a string replaces it."""
        connection = self.connection()
        all_headers = {"Connection": "close", **(headers or {})}
        if key:
            all_headers["x-api-key"] = self.key if key is True else key
        try:
            connection.request(method, path, body=body, headers=all_headers)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    # --- metrics ---

    def metrics(self):
        """A dict of all samples: {'hpkvd_connections': 1.0, 'hpkvd_requests_total{operation="get",code="200"}': 3.0, ...}."""
        status, text = self.http("GET", "/metrics", key=False)
        assert status == 200, text
        rows = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    def requests(self, op=None, code=None):
        """Answered requests: a dict by operation ("get", "set", ...), or the number of those of one operation, of any code or
        of one."""
        counts = {}
        for name, value in self.metrics().items():
            if not name.startswith("hpkvd_requests_total{"):
                continue
            labels = dict(part.split("=") for part in name[name.index("{") + 1 : -1].replace('"', "").split(","))
            if code is None or labels["code"] == str(code):
                counts[labels["operation"]] = counts.get(labels["operation"], 0) + int(value)
        return counts if op is None else counts.get(op, 0)
