"""Asking for tokens: many at once, servers that are silent, slow, rude or refuse, and what a callback may do."""

import contextlib
import errno
import json
import os
import socket
import socketserver
import threading

import pytest

from lib.client_driver import Driver
from lib.processes import wait_for
from lib.pyserver import PyServer

KEY = "secret-key-1234"


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        server = self.server
        with server.lock:
            server.accepted += 1
        self.request.settimeout(120)
        with contextlib.suppress(OSError):
            server.answer(self.request)


class TokenServer(socketserver.ThreadingTCPServer):
    """Hands every connection to answer(socket), on a thread of its own, and then closes it."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.accepted = 0
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self.thread.start()

    def __exit__(self, *error):
        self.shutdown()
        self.thread.join()
        super().__exit__(*error)


def read_request(connection):
    """The head's lines and the body."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        assert more, "the client hung up"
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    length = next((int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return lines, body


def reply(status, body, headers=""):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n{headers}\r\n".encode() + data


def drain(connection):
    while connection.recv(65536):
        pass


def answering(data):
    def answer(connection):
        read_request(connection)
        connection.sendall(data)
        drain(connection)

    return answer


def ask(client, patterns=(), access=None):
    before = client.count("token")
    client.do("token", list(patterns), access)
    return client.wait("token", after=before)


def threads(client):
    return len(os.listdir(f"/proc/{client.process.pid}/task"))


@pytest.fixture
def pyserver():
    with PyServer() as server:
        yield server


# --- what is sent ---


def test_what_is_sent():
    seen = []

    def answer(connection):
        seen.append(read_request(connection))
        connection.sendall(reply(200, {"token": "T.1"}))
        drain(connection)

    with TokenServer(answer) as server, Driver(server.url.replace("http", "ws") + "/base/ws", api_key=KEY) as client:
        assert ask(client, ["a:*", "täglich"], "^a")["token"] == "T.1"
        lines, body = seen[0]
        headers = {line.split(":")[0].lower(): line.split(":", 1)[1].strip() for line in lines[1:]}
        assert lines[0] == "POST /base/token/websocket HTTP/1.1"
        assert headers["x-api-key"] == KEY
        assert headers["content-type"] == "application/json"
        assert headers["host"] == server.url.removeprefix("http://")
        assert "authorization" not in headers and "cookie" not in headers
        assert json.loads(body) == {"subscribePatterns": ["a:*", "täglich"], "accessPattern": "^a"}
        ask(client)
        assert json.loads(seen[1][1]) == {"subscribePatterns": []}


def test_neither_netrc_nor_cookies(tmp_path):
    seen = []

    def answer(connection):
        seen.append(read_request(connection)[0])
        connection.sendall(reply(200, {"token": "T"}, "Set-Cookie: a=b\r\nAlt-Svc: h2=\"127.0.0.1:1\"\r\n"))
        drain(connection)

    (tmp_path / ".netrc").write_text("default login somebody password something\n")
    (tmp_path / ".netrc").chmod(0o600)
    with TokenServer(answer) as server, Driver(server.url, env={"HOME": str(tmp_path)}, api_key=KEY) as client:
        assert "token" in ask(client)
        assert "token" in ask(client)
    assert not any(line.lower().startswith(("authorization", "cookie")) for head in seen for line in head)


@pytest.mark.parametrize("key", ["", "a\r\nx-other: b", "a\nb", "\x01"])
def test_keys_that_no_header_can_carry(key):
    with TokenServer(answering(reply(200, {"token": "T"}))) as server:
        with Driver(server.url, token="t", token_api_key=key) as client:
            assert ask(client)["err"] == -errno.EINVAL
        assert server.accepted == 0


# --- what comes back ---


@pytest.mark.parametrize(
    "status, err",
    [
        (400, errno.EINVAL),
        (401, errno.EACCES),
        (403, errno.EACCES),
        (404, errno.EPROTO),
        (429, errno.EAGAIN),
        (500, errno.EIO),
        (503, errno.EIO),
        (301, errno.EPROTO),
        (302, errno.EPROTO),
        (307, errno.EPROTO),
        (308, errno.EPROTO),
    ],
)
def test_refusals(status, err):
    """A redirect is a refusal: the key goes nowhere else. What the server says about the key is not passed on."""
    with TokenServer(answering(reply(200, {"token": "stolen"}))) as other:
        headers = f"Location: {other.url}/token/websocket\r\n" if status < 400 else ""
        data = reply(status, {"error": f"no token for {KEY}"}, headers)
        with TokenServer(answering(data)) as server, Driver(server.url, api_key=KEY) as client:
            outcome = ask(client)
            assert (outcome["err"], outcome["code"]) == (-err, status)
            assert KEY not in outcome["text"]
            assert "token" not in outcome
        assert other.accepted == 0


def test_the_servers_reason_is_told():
    with TokenServer(answering(reply(400, {"error": "bad pattern\n"}))) as server, Driver(server.url, api_key=KEY) as client:
        assert ask(client)["text"].endswith("bad pattern ")


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b"no JSON", b'{"token":1}', b'{"token":""}', b'{"token":"a', b"\xff\xfe", b'{"token":"a\\u0000b"}'],
)
def test_answers_without_a_token(body):
    with TokenServer(answering(reply(200, body))) as server, Driver(server.url, api_key=KEY) as client:
        assert ask(client)["err"] == -errno.EPROTO


@pytest.mark.parametrize("data", [b"nonsense\r\n\r\n", b"\0" * 100, b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_what_is_no_http(data):
    def answer(connection):
        read_request(connection)
        connection.sendall(data)

    with TokenServer(answer) as server, Driver(server.url, api_key=KEY) as client:
        assert ask(client)["err"] in (-errno.EPROTO, -errno.ECONNRESET)


def test_an_answer_in_pieces():
    def answer(connection):
        read_request(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in reply(200, {"token": "in.pieces"}):
            connection.sendall(bytes([byte]))
        drain(connection)

    with TokenServer(answer) as server, Driver(server.url, api_key=KEY) as client:
        assert ask(client)["token"] == "in.pieces"


def test_an_answer_in_chunks_and_after_100():
    def answer(connection):
        read_request(connection)
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (b'{"tok', b'en":"c', b'"}', b""))
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        drain(connection)

    with TokenServer(answer) as server, Driver(server.url, api_key=KEY) as client:
        assert ask(client)["token"] == "c"


def test_an_answer_that_is_cut_off():
    def answer(connection):
        read_request(connection)
        connection.sendall(reply(200, {"token": "cut"})[:-3])

    with TokenServer(answer) as server, Driver(server.url, api_key=KEY) as client:
        assert ask(client)["err"] in (-errno.EPROTO, -errno.ECONNRESET)


@pytest.mark.parametrize("where", ["body", "head"])
def test_an_answer_without_end(where):
    """It ends when it is too large, not when the time is over."""

    def answer(connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if where == "body" else b""))
        while True:
            connection.sendall((b"x" if where == "body" else b"x-y: z\r\n") * 8192)

    with TokenServer(answer) as server, Driver(server.url, api_key=KEY, connect_timeout_ms=600000) as client:
        assert ask(client)["err"] in (-errno.EPROTO, -errno.ECONNRESET)


def test_a_server_that_hangs_up():
    with TokenServer(read_request) as server, Driver(server.url, api_key=KEY) as client:
        assert ask(client)["err"] == -errno.ECONNRESET


def test_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with Driver(f"http://127.0.0.1:{taken.getsockname()[1]}", api_key=KEY) as client:
            assert ask(client)["err"] == -errno.ECONNREFUSED


def test_every_address_of_a_name_is_tried(pyserver):
    """The server listens on one of localhost's addresses only."""
    with Driver(pyserver.url.replace("127.0.0.1", "localhost"), api_key=pyserver.key) as client:
        assert "token" in ask(client)


def test_a_host_that_does_not_exist():
    with Driver("https://no-such-host.invalid", api_key=KEY) as client:
        assert ask(client)["err"] in (-errno.EHOSTUNREACH, -errno.ETIMEDOUT)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"])
def test_a_server_that_never_answers(said):
    """It is let go after the time-out, and the loop serves others meanwhile."""

    def answer(connection):
        read_request(connection)
        connection.sendall(said)
        drain(connection)

    with TokenServer(answer) as server, Driver(server.url, api_key=KEY, connect_timeout_ms=300) as client:
        outcome = ask(client)
        assert outcome["err"] == -errno.ETIMEDOUT
        assert KEY not in outcome["text"]
        client.do("token", [], None)
        assert client.state() == 0
        assert client.wait("token", after=1)["err"] == -errno.ETIMEDOUT


# --- several ---


def test_many_at_once(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key, connect_timeout_ms=120000) as client:
        for _ in range(200):
            client.do("token", ["a:*"], None)
        tokens = [client.wait("token", after=i) for i in range(200)]
        assert len({token["token"] for token in tokens}) == 200
        assert sorted(token["n"] for token in tokens) == list(range(1, 201))


def test_waiting_ones_cost_no_threads():
    """A hundred under way at servers that do not answer."""
    go = threading.Event()

    def answer(connection):
        read_request(connection)
        go.wait(120)
        connection.sendall(reply(200, {"token": "late"}))
        drain(connection)

    with TokenServer(answer) as server, Driver(server.url, api_key=KEY, connect_timeout_ms=120000) as client:
        client.state()
        before = threads(client)
        for _ in range(100):
            client.do("token", [], None)
        wait_for(lambda: server.accepted == 100, "100 requests")
        wait_for(lambda: threads(client) == before, "the look-ups' end")
        go.set()
        for i in range(100):
            assert client.wait("token", after=i)["token"] == "late"


def test_good_and_bad_at_once(pyserver):
    """One that fails takes none of the others with it."""
    counter = iter(range(1000))
    lock = threading.Lock()

    def answer(connection):
        read_request(connection)
        with lock:
            n = next(counter)
        if n % 3 == 0:
            connection.sendall(reply(200, {"token": "good"}))
            drain(connection)
        elif n % 3 == 1:
            connection.sendall(reply(500, {"error": "bad"}))
            drain(connection)

    with TokenServer(answer) as server, Driver(server.url, api_key=KEY, connect_timeout_ms=120000) as client:
        for _ in range(90):
            client.do("token", [], None)
        outcomes = [client.wait("token", after=i) for i in range(90)]
        assert sum("token" in o for o in outcomes) == 30
        assert sum(o.get("err") == -errno.EIO for o in outcomes) == 30
        assert sum(o.get("err") == -errno.ECONNRESET for o in outcomes) == 30


# --- callbacks and ends ---


def test_the_loop_is_freed_meanwhile():
    """Each callback is told, and no connection stays."""
    gone = threading.Semaphore(0)

    def answer(connection):
        # some end before their request was read
        try:
            with contextlib.suppress(OSError):
                read_request(connection)
                drain(connection)
        finally:
            gone.release()

    with TokenServer(answer) as server:
        with Driver(server.url, api_key=KEY, connect_timeout_ms=120000) as client:
            for _ in range(20):
                client.do("token", [], None)
            wait_for(lambda: server.accepted == 20, "20 requests")
            # one more is asked for as the loop is freed: it is refused, and the end comes all the same
            client.do("on_token", [["token", [], None]])
            client.process.stdin.close()
            assert client.process.wait(60) == 0
            client._reader.join()
            outcomes = [event for event in client.events if event["event"] == "token"]
            assert [outcome["err"] for outcome in outcomes] == [-errno.ECANCELED] * 21
        for _ in range(20):
            assert gone.acquire(timeout=240)


def test_the_loop_is_freed_before_anything_was_sent(pyserver):
    with Driver(pyserver.url.replace("127.0.0.1", "localhost"), api_key=pyserver.key) as client:
        client.do("token", [], None)


def test_a_callback_that_frees_the_client(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        assert "err" not in client.connect()
        client.do("on_token", [["free"]])
        client.do("token", [], None)
        client.do("token", [], None)
        client.wait("freed")
        assert "token" in client.wait("token", after=1)


def test_a_callback_that_asks_for_the_next(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        hook = [["token", [], None]]
        for _ in range(20):
            hook = [["on_token", hook], ["token", [], None]]
        client.do("on_token", hook)
        client.do("token", [], None)
        for i in range(22):
            assert "token" in client.wait("token", after=i)


def test_over_and_over(pyserver):
    """No descriptor stays behind."""
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        def descriptors():
            return len(os.listdir(f"/proc/{client.process.pid}/fd"))

        assert "token" in ask(client)
        before = descriptors()
        for _ in range(300):
            assert "token" in ask(client)
        wait_for(lambda: descriptors() == before, "closed descriptors")
