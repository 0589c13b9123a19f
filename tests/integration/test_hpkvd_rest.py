"""hpkvd over HTTP: REST, health, metrics, and what is no proper HTTP."""

import json
import socket
from urllib.parse import quote, urlencode

import pytest

from lib.processes import wait_for

JSON = {"Content-Type": "application/json"}


def ask(hpkvd, method, path, body=None, **options):
    status, text = hpkvd.http(method, path, None if body is None else json.dumps(body), headers=JSON, **options)
    return status, json.loads(text)


def raw(hpkvd, data, end=True):
    """Sends bytes and answers all that comes until the server closes."""
    host, port = hpkvd.url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=240) as connection:
        connection.sendall(data)
        if end:
            connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


def test_record(hpkvd, store):
    assert ask(hpkvd, "GET", "/record/a") == (404, {"error": "Record not found"})
    status, reply = ask(hpkvd, "POST", "/record", {"key": "a", "value": "1"})
    assert (status, reply["success"]) == (200, True) and reply["message"]
    assert ask(hpkvd, "GET", "/record/a") == (200, {"key": "a", "value": "1"})
    assert store.get("a") == "1"
    status, reply = ask(hpkvd, "POST", "/record", {"key": "a", "value": "2", "partialUpdate": True})
    assert (status, reply["success"]) == (200, True)
    assert store.get("a") == "12"
    ask(hpkvd, "POST", "/record", {"key": "a", "value": "3", "partialUpdate": False})
    assert store.get("a") == "3"
    status, reply = ask(hpkvd, "DELETE", "/record/a")
    assert (status, reply["success"]) == (200, True)
    assert ask(hpkvd, "DELETE", "/record/a")[0] == 404


def test_atomic(hpkvd):
    status, reply = ask(hpkvd, "POST", "/record/atomic", {"key": "n", "increment": 5})
    assert (status, reply["success"], reply["result"], reply["newValue"]) == (200, True, 5, 5)
    assert ask(hpkvd, "POST", "/record/atomic", {"key": "n", "increment": -6})[1]["newValue"] == -1
    assert ask(hpkvd, "GET", "/record/n") == (200, {"key": "n", "value": -1})
    assert ask(hpkvd, "POST", "/record/atomic", {"key": "n"})[0] == 400


@pytest.mark.parametrize("key", ["a//b", "/a", "a/../b", "..", "a=b", "a+b", "a b", "a?b", "a#b", "%41", "%2541", "a\nb", "a\0b", "é€\U0001f600"])
def test_keys_in_addresses(hpkvd, store, key):
    store.set(key, "here")
    assert ask(hpkvd, "GET", "/record/" + quote(key, safe="")) == (200, {"key": key, "value": "here"})
    assert ask(hpkvd, "DELETE", "/record/" + quote(key, safe=""))[0] == 200
    assert store.get(key) is None


def test_a_key_called_atomic(hpkvd, store):
    """POST has this address for another purpose, GET and DELETE have not."""
    store.set("atomic", "x")
    assert ask(hpkvd, "GET", "/record/atomic") == (200, {"key": "atomic", "value": "x"})
    assert ask(hpkvd, "DELETE", "/record/atomic")[0] == 200


@pytest.mark.parametrize("path", ["/record/%", "/record/%4", "/record/%zz", "/record/%ff", "/record/%c0%80", "/record/%ed%a0%80", "/record/"])
def test_keys_that_are_none(hpkvd, path):
    assert ask(hpkvd, "GET", path)[0] == 400


@pytest.mark.parametrize("start, end", [("a/", "b"), ("a b", "a+b\U0010ffff"), ("é", "€"), ("\x01", "\U0010ffff"), ("a&b=", "a&c=")])
def test_range_keys_encoded_once_or_twice(hpkvd, store, start, end):
    names = ["a/", "a/x", "a b", "a+b", "é", "€", "z", "a&b=1"]
    for name in names:
        store.set(name, "x")
    expected = [{"key": name, "value": "x"} for name in sorted(names, key=str.encode) if start.encode() <= name.encode() <= end.encode()]
    assert expected
    for once in (str, lambda key: quote(key, safe="")):
        query = urlencode({"startKey": once(start), "endKey": once(end)})
        assert ask(hpkvd, "GET", "/records?" + query) == (200, {"records": expected, "count": len(expected), "truncated": False})


def test_range_keys_with_percent_signs(hpkvd, store):
    """Encoded twice, as the official client does."""
    store.set("%41", "x")
    store.set("A", "y")
    query = urlencode({"startKey": quote("%41", safe=""), "endKey": quote("%41", safe="")})
    assert ask(hpkvd, "GET", "/records?" + query)[1]["records"] == [{"key": "%41", "value": "x"}]
    # not twice: what cannot be decoded again is taken as it is
    store.set("100%", "z")
    assert ask(hpkvd, "GET", "/records?startKey=100%25&endKey=100%25")[1]["records"] == [{"key": "100%", "value": "z"}]


def test_range_limits(hpkvd, store):
    for name in "abcde":
        store.set(name, "x")
    assert ask(hpkvd, "GET", "/records?startKey=a&endKey=z&limit=2")[1] == {
        "records": [{"key": "a", "value": "x"}, {"key": "b", "value": "x"}],
        "count": 2,
        "truncated": True,
    }
    for limit in ("0", "-1", "x", "1.5"):
        assert ask(hpkvd, "GET", f"/records?startKey=a&endKey=z&limit={limit}")[0] == 400
    assert ask(hpkvd, "GET", "/records?startKey=a")[0] == 400
    assert ask(hpkvd, "GET", "/records?startKey=a&endKey=")[0] == 400


@pytest.mark.hpkvd_options("--max-value", "100", "--max-key", "10")
def test_limits(hpkvd):
    assert ask(hpkvd, "POST", "/record", {"key": "a", "value": "x" * 101})[0] == 413
    assert ask(hpkvd, "POST", "/record", {"key": "k" * 11, "value": "x"})[0] == 400
    assert ask(hpkvd, "POST", "/record", {"key": "a", "value": ""})[0] == 400
    assert ask(hpkvd, "POST", "/record", {"key": "a", "value": {"b": 1}})[0] == 400
    assert ask(hpkvd, "POST", "/record", {"key": "a", "value": "x", "partialUpdate": "yes"})[0] == 400
    assert hpkvd.http("POST", "/record", "{")[0] == 400
    assert ask(hpkvd, "GET", "/record/a")[0] == 404


def test_the_longest_keys_encoded_twice(hpkvd, store):
    """Nine bytes a character of two."""
    start, end = "é" * 512, "ê" * 512
    store.set(start, "x")
    query = urlencode({"startKey": quote(start, safe=""), "endKey": quote(end, safe="")})
    assert ask(hpkvd, "GET", "/records?" + query)[1]["count"] == 1


def test_without_or_with_a_wrong_key(hpkvd, store):
    store.set("a", "1")
    for key in (False, "wrong", hpkvd.key + "x", hpkvd.key[:-1]):
        for method, path, body in (
            ("GET", "/record/a", None),
            ("DELETE", "/record/a", None),
            ("POST", "/record", {"key": "a", "value": "2"}),
            ("POST", "/record/atomic", {"key": "n", "increment": 1}),
            ("GET", "/records?startKey=a&endKey=z", None),
            ("POST", "/token/websocket", {}),
        ):
            status, reply = ask(hpkvd, method, path, body, key=key)
            assert (status, list(reply)) == (401, ["error"])
    assert store.get("a") == "1"
    assert hpkvd.metrics()["hpkvd_refused_total"] == 24


def test_health_and_metrics_need_no_key(hpkvd):
    status, reply = ask(hpkvd, "GET", "/health", key=False)
    assert (status, reply.pop("version") > "0") == (200, True)
    assert reply == {"status": "ok", "maxKey": 1024, "maxValue": 3072}
    assert hpkvd.metrics()["hpkvd_connections"] == 1


def test_metrics_count_exactly(hpkvd, store):
    """Before the reply is sent: who has it finds it counted."""
    for number in range(1, 21):
        store.set("a", str(number))
        assert hpkvd.requests("set") == number
    store.get("a")
    store.get("none")
    store.patch("a", "x")
    store.atomic("n", 1)
    store.range("a", "b")
    store.delete("n")
    ask(hpkvd, "GET", "/record/a")
    ask(hpkvd, "GET", "/record/none")
    store.send_raw("{")
    store.receive_raw()
    assert hpkvd.requests() == {"set": 20, "get": 4, "patch": 1, "atomic": 1, "range": 1, "delete": 1, "invalid": 1}
    assert hpkvd.requests("get", 404) == 2 and hpkvd.requests("get", 200) == 2
    metrics = hpkvd.metrics()
    assert metrics["hpkvd_connections"] == 2
    assert metrics["hpkvd_received_bytes_total"] > 1000 and metrics["hpkvd_sent_bytes_total"] > 1000


@pytest.mark.hpkvd_options("--rate", "3")
def test_rate(hpkvd, store):
    """A burst of three, then 429 in both ways in, then again."""
    ids = [store.send(op=1, key="a") for _ in range(50)]
    codes = [store.receive(message_id)["code"] for message_id in ids]
    assert codes[:3] == [404] * 3
    assert codes.count(429) >= 40
    assert ask(hpkvd, "GET", "/record/a")[0] in (404, 429)
    wait_for(lambda: ask(hpkvd, "GET", "/record/a")[0] == 404, "the rate to recover")
    assert hpkvd.requests("get", 429) >= 40


def test_many_requests_on_one_connection(hpkvd):
    connection = hpkvd.connection()
    for number in range(100):
        connection.request("POST", "/record", json.dumps({"key": "a", "value": str(number)}), {"x-api-key": hpkvd.key})
        assert connection.getresponse().read()
        connection.request("GET", "/record/a", headers={"x-api-key": hpkvd.key})
        assert json.loads(connection.getresponse().read())["value"] == str(number)
    connection.close()
    assert hpkvd.metrics()["hpkvd_connections_total"] == 2


def test_pipelined_requests_are_answered_in_order(hpkvd):
    request = "GET /record/{} HTTP/1.1\r\nHost: x\r\nx-api-key: " + hpkvd.key + "\r\n\r\n"
    body = '{"key":"k","value":"v"}'
    data = f"POST /record HTTP/1.1\r\nx-api-key: {hpkvd.key}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    data += request.format("k") + request.format("none") + request.format("k")
    reply = raw(hpkvd, data.encode()).decode()
    assert [part.split(" ")[0] for part in reply.split("HTTP/1.1 ")[1:]] == ["200", "200", "404", "200"]


def test_a_request_in_small_pieces(hpkvd, store):
    store.set("a", "x")
    host, port = hpkvd.url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=240) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in f"GET /record/a HTTP/1.1\r\nX-API-Key:\t{hpkvd.key} \r\nConnection: close\r\n\r\n".encode():
            connection.sendall(bytes([byte]))
        reply = b""
        while part := connection.recv(65536):
            reply += part
    assert reply.endswith(b'{"key":"a","value":"x"}')


def test_expect_continue(hpkvd, store):
    body = '{"key":"k","value":"v"}'
    host, port = hpkvd.url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=240) as connection:
        head = f"POST /record HTTP/1.1\r\nx-api-key: {hpkvd.key}\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
    assert store.get("k") == "v"


@pytest.mark.parametrize(
    "data, status",
    [
        (b"\r\n\r\n", b"400"),
        (b"GET\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\n\r\n", b"400"),
        (b"GET http://x/ HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /\x00 HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\nHost: x\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nA : b\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\n folded\r\n\r\n", b"400"),
        (b"POST /record HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /record HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", b"400"),
        (b"POST /record HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
        (b"GET /nothing HTTP/1.1\r\n\r\n", b"404"),
        (b"PUT /record HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /ws HTTP/1.1\r\n\r\n", b"426"),
        (b"GET /" + b"x" * 100000 + b" HTTP/1.1\r\n\r\n", b"431"),
        (b"A: b\r\n" * 20000, b"431"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01" * 20000, b"431"),
    ],
    ids=range(17),
)
def test_what_is_no_proper_request(hpkvd, data, status):
    try:
        reply = raw(hpkvd, data)
    except ConnectionError:
        # the rest of a large one met a closed connection
        assert len(data) > 65536
    else:
        assert reply.startswith(b"HTTP/1.1 " + status), reply
    assert ask(hpkvd, "GET", "/health")[0] == 200


@pytest.mark.hpkvd_options("--max-value", "1000")
def test_a_huge_body_is_refused_unread(hpkvd):
    reply = raw(hpkvd, f"POST /record HTTP/1.1\r\nx-api-key: {hpkvd.key}\r\nContent-Length: 99999999999\r\n\r\n".encode(), end=False)
    assert reply.startswith(b"HTTP/1.1 413")


def test_a_body_that_never_ends_is_forgotten(hpkvd):
    assert raw(hpkvd, f"POST /record HTTP/1.1\r\nx-api-key: {hpkvd.key}\r\nContent-Length: 100\r\n\r\n{{".encode()) == b""
    wait_for(lambda: hpkvd.metrics()["hpkvd_connections"] == 1, "the connection to be gone")
