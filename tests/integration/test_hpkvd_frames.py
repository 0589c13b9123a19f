"""hpkvd and what clients may send besides requests: pings, fragments, garbage, floods."""

import base64
import json
import os
import random
import socket
import struct
import threading

import pytest

from lib.hpkvd import Hpkvd, unix_socket
from lib.processes import is_sanitized, resident_peak, wait_for
from lib.wsclient import Client

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Raw:
    """A WebSocket by hand, with the server's key or a token."""

    def __init__(self, hpkvd, token=None):
        if hpkvd.url.startswith("unix:"):
            self.socket = unix_socket(hpkvd.url.removeprefix("unix:"))
        else:
            host, port = hpkvd.url.removeprefix("http://").rsplit(":", 1)
            self.socket = socket.create_connection((host, int(port)))
        self.socket.settimeout(240)
        key = base64.b64encode(os.urandom(16)).decode()
        allowed = f"apiKey={hpkvd.key}" if token is None else f"token={token}"
        self.socket.sendall(
            f"GET /ws?{allowed} HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            self.data += self._more()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head

    def _more(self):
        part = self.socket.recv(65536)
        if not part:
            raise EOFError
        return part

    def frame(self, opcode, payload=b"", final=True, mask=b"\x12\x34\x56\x78", reserved=0, length=None):
        size = len(payload) if length is None else length
        head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
        bit = 0x80 if mask else 0
        if size < 126:
            head += bytes([bit | size])
        elif size < 65536:
            head += struct.pack("!BH", bit | 126, size)
        else:
            head += struct.pack("!BQ", bit | 127, size)
        if mask:
            payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        return head + (mask or b"") + payload

    def send(self, *arguments, **options):
        self.socket.sendall(self.frame(*arguments, **options))

    def request(self, **message):
        self.send(TEXT, json.dumps(message).encode())

    def receive(self):
        """The next frame: opcode and payload."""
        while True:
            if len(self.data) >= 2:
                assert self.data[0] & 0x80 and not self.data[1] & 0x80
                size, at = self.data[1], 2
                if size == 126 and len(self.data) >= 4:
                    size, at = struct.unpack("!H", self.data[2:4])[0], 4
                elif size == 127 and len(self.data) >= 10:
                    size, at = struct.unpack("!Q", self.data[2:10])[0], 10
                elif size >= 126:
                    size = 1 << 62
                if len(self.data) >= at + size:
                    opcode, payload = self.data[0] & 15, self.data[at : at + size]
                    self.data = self.data[at + size :]
                    return opcode, payload
            self.data += self._more()

    def reply(self):
        opcode, payload = self.receive()
        assert opcode == TEXT
        return json.loads(payload)

    def closed_with(self):
        """The status of the close frame, and that the connection ends after it."""
        opcode, payload = self.receive()
        while opcode != CLOSE:
            opcode, payload = self.receive()
        self.socket.shutdown(socket.SHUT_WR)
        with pytest.raises((EOFError, ConnectionResetError)):
            self.receive()
        return struct.unpack("!H", payload[:2])[0]

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.socket.close()


@pytest.fixture
def raw(hpkvd):
    with Raw(hpkvd) as connection:
        yield connection


def test_pings(raw):
    for payload in (b"", b"x" * 125):
        raw.send(PING, payload)
        assert raw.receive() == (PONG, payload)
    raw.send(PONG, b"unasked")
    raw.request(op=1, key="a", messageId=1)
    assert raw.reply()["code"] == 404


def test_fragments_with_a_ping_between(raw):
    text = json.dumps({"op": 2, "key": "a", "value": "é" * 100, "messageId": 5}, ensure_ascii=False).encode()
    for at, byte in enumerate(text):
        raw.send(TEXT if at == 0 else 0, bytes([byte]), final=at == len(text) - 1)
        if at == 10:
            raw.send(PING, b"p")
    assert raw.receive() == (PONG, b"p")
    assert raw.reply()["code"] == 200
    raw.request(op=1, key="a", messageId=6)
    assert raw.reply()["value"] == "é" * 100


def test_frames_byte_by_byte(raw):
    raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in raw.frame(TEXT, b'{"op":1,"key":"' + b"k" * 300 + b'","messageId":1}'):
        raw.socket.sendall(bytes([byte]))
    assert raw.reply()["code"] == 404


def test_many_frames_in_one_piece(raw):
    raw.socket.sendall(b"".join(raw.frame(TEXT, b'{"op":6,"key":"n","value":1,"messageId":%d}' % n) for n in range(1, 2001)))
    assert [raw.reply()["newValue"] for _ in range(2000)] == list(range(1, 2001))


def test_replies_of_every_length_around_those_that_change_the_frame(tmp_path):
    with Hpkvd(tmp_path / "store", ["--max-value", "70000"]) as hpkvd, Raw(hpkvd) as raw:
        around = len(b'{"messageId":1,"code":200,"key":"k","value":""}')
        # The last is for jansson to write, the others are not.
        for text in ("x", "é", "\""):
            size = len(json.dumps(text, ensure_ascii=False).encode()) - 2
            for edge in (126, 65536):
                for length in range((edge - around - 3) // size, (edge - around + 3) // size + 1):
                    raw.request(op=2, key="k", value=text * length, messageId=1)
                    assert raw.reply()["code"] == 200
                    raw.request(op=1, key="k", messageId=1)
                    _, payload = raw.receive()
                    assert len(payload) == around + size * length
                    assert json.loads(payload) == {"messageId": 1, "code": 200, "key": "k", "value": text * length}


@pytest.mark.parametrize("status", [1000, 1001, 3000, 4999])
def test_a_close_is_answered(raw, status):
    raw.send(CLOSE, struct.pack("!H", status) + b"bye")
    assert raw.closed_with() == status


def test_requests_before_a_close_are_answered(raw):
    raw.socket.sendall(raw.frame(TEXT, b'{"op":2,"key":"a","value":"x","messageId":1}') + raw.frame(CLOSE, b"\x03\xe8"))
    assert raw.reply() == {"messageId": 1, "code": 200, "success": True, "message": "Record inserted/updated successfully"}
    assert raw.closed_with() == 1000


@pytest.mark.parametrize(
    "arguments, options, status",
    [
        ((TEXT, b"{}"), {"mask": b""}, 1002),
        ((TEXT, b"{}"), {"reserved": 4}, 1002),
        ((3, b"{}"), {}, 1002),
        ((15, b"{}"), {}, 1002),
        ((0, b"{}"), {}, 1002),
        ((PING, b"x" * 126), {}, 1002),
        ((PING, b"x"), {"final": False}, 1002),
        ((CLOSE, b"\x03\xed"), {}, 1002),
        ((BINARY, b"{}"), {}, 1003),
        ((TEXT, b""), {"length": 2**63 - 1}, 1009),
        ((TEXT, b""), {"length": 2**64 - 1}, 1009),
        ((TEXT, b""), {"length": 1 << 24}, 1009),
    ],
    ids=range(12),
)
def test_malformed_frames(hpkvd, store, raw, arguments, options, status):
    raw.send(*arguments, **options)
    assert raw.closed_with() == status
    store.set("a", "1")


def test_a_new_message_between_fragments(raw):
    raw.send(TEXT, b"{", final=False)
    raw.send(TEXT, b"{}")
    assert raw.closed_with() == 1002


def test_endless_fragments(raw):
    with pytest.raises((ConnectionResetError, BrokenPipeError, EOFError)):
        raw.send(TEXT, b"{", final=False)
        for _ in range(1000):
            raw.send(0, b" " * 65536, final=False)
        raw.closed_with()
        raise EOFError


def test_invalid_utf8_is_answered(raw):
    for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"):
        raw.send(TEXT, b'{"op":2,"messageId":1,"key":"a","value":"' + bad + b'"}')
        assert raw.reply()["code"] == 400
    raw.request(op=1, key="a", messageId=2)
    assert raw.reply()["code"] == 404


def test_a_value_a_little_too_large_is_refused_not_cut_off(raw):
    raw.request(op=2, key="a", value="x" * 500_000, messageId=1)
    assert raw.reply()["code"] == 413


@pytest.mark.hpkvd_options("--max-value", "1048576")
def test_the_largest_value_in_its_longest_form(raw, store):
    text = b'{"op":2,"key":"a","messageId":1,"value":"' + b"\\u0001" * 1048576 + b'"}'
    raw.socket.sendall(raw.frame(TEXT, b"", mask=b"\0\0\0\0", length=len(text)) + text)
    assert raw.reply()["code"] == 200
    assert store.get("a") == "\x01" * 1048576


def test_garbage(hpkvd, store):
    """Random bytes, and requests with random bytes in them: the server lives on."""
    random.seed(5)
    for _ in range(60):
        with Raw(hpkvd) as connection:
            try:
                for _ in range(5):
                    connection.socket.sendall(random.randbytes(random.choice((1, 10, 1000))))
                connection.socket.shutdown(socket.SHUT_WR)
                while True:
                    connection.receive()
            except (EOFError, OSError):
                pass
    pieces = [b"{", b"}", b"[", b"]", b'"', b"\\", b":", b",", b"1", b"-", b"e", b".", b"op", b'"key":"a"', b'"op":2', b"\xff", b"\0", b"null", b'"value":', b'"messageId":1']
    with Raw(hpkvd) as connection:
        for _ in range(3000):
            connection.send(TEXT, b"".join(random.choices(pieces, k=random.randrange(1, 12))))
            assert "code" in connection.reply()
    store.set("a", "1")
    assert store.get("a") == "1"


@pytest.mark.hpkvd_options("--max-value", "30000")
def test_a_client_that_does_not_read_its_replies(hpkvd, store):
    """It is slowed down, not served into memory; then it gets them all."""
    value = "v" * 30000
    store.set("a", value)
    count = 5000
    with Raw(hpkvd) as connection:
        message = connection.frame(TEXT, b'{"op":1,"key":"a","messageId":1}')
        sender = threading.Thread(target=connection.socket.sendall, args=(message * count,))
        connection.socket.settimeout(None)
        sender.start()
        wait_for(lambda: hpkvd.requests("get") > 100, "requests to be served")
        last = -1
        while last != (last := hpkvd.requests("get")):
            threading.Event().wait(0.5)
        assert last < count
        for _ in range(count):
            assert connection.reply()["value"] == value
        sender.join()
    # the replies are 150 MB in all; sanitizers take some memory for themselves
    assert resident_peak(hpkvd.pid) < (400 if is_sanitized(hpkvd.pid) else 100) << 20


def test_what_a_client_that_is_always_behind_has_got_is_not_kept(tmp_path):
    """What waits for it is never all sent: of 100 MB, 5 MB are always ahead of it, which is more than a Unix socket holds."""
    value = "v" * 1_000_000
    with Hpkvd(tmp_path / "store", ["--max-value", str(len(value))], listen=f"unix:{tmp_path}/socket") as hpkvd:
        with Client(hpkvd.url, hpkvd.key) as store, Raw(hpkvd, store.token(patterns=["*"])) as behind:
            for number in range(100):
                store.set(f"k{number}", value)
                if number >= 5:
                    assert behind.reply()["key"] == f"k{number - 5}"
            for number in range(95, 100):
                assert behind.reply()["key"] == f"k{number}"
        assert is_sanitized(hpkvd.pid) or resident_peak(hpkvd.pid) < 60 << 20


def test_many_connections(tmp_path):
    with Hpkvd(tmp_path / "s") as server:
        clients = [Raw(server) for _ in range(400)]
        for number, client in enumerate(clients):
            client.request(op=2, key=f"k{number}", value="x", messageId=number + 1)
        for number, client in enumerate(clients):
            assert client.reply()["messageId"] == number + 1
        assert server.metrics()["hpkvd_connections"] == 401
        for client in clients:
            client.socket.close()
        wait_for(lambda: server.metrics()["hpkvd_connections"] == 1, "the connections to be gone")


def test_writers_share_commits(tmp_path):
    """64 that write at once: far fewer commits than writes, and nothing mixed up."""
    with Hpkvd(tmp_path / "s") as server:
        clients = [Raw(server) for _ in range(64)]
        before = server.metrics()["hpkvd_transactions_total"]
        for number in range(20):
            for index, client in enumerate(clients):
                client.request(op=6, key="n", value=1, messageId=number + 1)
                client.request(op=2, key=f"k{index}", value=str(number), messageId=1000 + number)
        for client in clients:
            ids = [client.reply()["messageId"] for _ in range(40)]
            assert sorted(ids) == sorted([*range(1, 21), *range(1000, 1020)])
            client.socket.close()
        commits = server.metrics()["hpkvd_transactions_total"] - before
        assert commits < 64 * 40 / 2
        with Client(server.url, server.key) as client:
            assert client.get("n") == 64 * 20
            assert [client.get(f"k{index}") for index in range(64)] == ["19"] * 64


def test_a_get_is_answered_though_what_is_behind_it_does_not_come(hpkvd):
    """A client may want the answer first."""
    with Raw(hpkvd) as connection:
        connection.socket.sendall(connection.frame(TEXT, b'{"op":1,"key":"a","messageId":1}'))
        later = connection.frame(TEXT, b'{"op":2,"key":"a","value":"x","messageId":2}')
        connection.socket.sendall(later[:10])
        assert connection.reply()["code"] == 404
        connection.socket.sendall(later[10:])
        assert connection.reply()["code"] == 200
        connection.socket.sendall(connection.frame(TEXT, b'{"op":1,"key":"a",', final=False))
        connection.socket.sendall(connection.frame(0, b'"messageId":3}'))
        connection.socket.sendall(connection.frame(TEXT, b'{"op":2,', final=False))
        assert connection.reply()["value"] == "x"
