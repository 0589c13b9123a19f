"""The official WebSocket client against hpkvd."""

import pytest

from lib.jsclient import JsError

FAST = {"throttling": {"enabled": False}}


def error_of(call, *arguments):
    with pytest.raises(JsError) as caught:
        call(*arguments)
    return caught.value


def test_operations(js, store):
    assert js.call("set", "a", "1")["success"] is True
    reply = js.call("get", "a")
    assert (reply["code"], reply["key"], reply["value"]) == (200, "a", "1")
    assert store.get("a") == "1"
    store.set("a", "2")
    assert js.call("get", "a")["value"] == "2"
    assert js.call("delete", "a")["success"] is True
    assert store.get("a") is None


def test_partial_updates(js, store):
    js.call("set", "a", {"name": "x", "deep": {"b": 1}})
    assert store.get("a") == '{"name":"x","deep":{"b":1}}'
    assert js.call("set", "a", {"deep": {"b": None, "c": 2}}, True)["success"] is True
    assert store.get("a") == '{"name":"x","deep":{"c":2}}'
    js.call("set", "t", "one")
    js.call("set", "t", " two", True)
    assert store.get("t") == "one two"


def test_range(js, store):
    for number in range(150):
        store.set(f"k{number:03}", str(number))
    reply = js.call("range", "k", "l")
    assert (len(reply["records"]), reply["count"], reply["truncated"]) == (100, 100, True)
    reply = js.call("range", "k010", "k012", {"limit": 10})
    assert reply["records"] == [{"key": f"k{number:03}", "value": str(number)} for number in (10, 11, 12)]
    assert reply["truncated"] is False


def test_atomic(js):
    assert js.call("atomicIncrement", "n", 5)["newValue"] == 5
    assert js.call("atomicIncrement", "n", -7)["newValue"] == -2
    # it can set nothing but text
    js.call("set", "m", 10)
    assert js.call("atomicIncrement", "m", 1)["newValue"] == 11


def test_errors(js, store):
    error = error_of(js.call, "get", "none")
    assert (error.code, error.message) == (404, "Record not found")
    assert error_of(js.call, "delete", "none").code == 404
    assert error_of(js.call, "set", "", "x").code == 400
    assert error_of(js.call, "set", "a", "").code == 400
    assert error_of(js.call, "set", "a", "x" * 3073).code == 413
    store.set("a", "text")
    assert error_of(js.call, "atomicIncrement", "a", 1).code == 400


def test_many_at_once(js, store):
    orders = [js.start("set", f"k{number}", str(number)) for number in range(500)]
    assert all(js.result(order)["success"] for order in orders)
    orders = [js.start("get", f"k{number}") for number in range(500)]
    assert [js.result(order)["value"] for order in orders] == [str(number) for number in range(500)]
    assert len(list(store.range_all())) == 500


@pytest.mark.parametrize("key", ["a//b", "ü €\U0001f600", "\n", "a\0b", '"\\'])
def test_any_text(js, store, key):
    js.call("set", key, key)
    assert store.get(key) == key
    assert js.call("get", key)["value"] == key


def test_a_wrong_key(node, hpkvd):
    client = node.api("wrong", hpkvd.url, {**FAST, "maxReconnectAttempts": 1, "initialDelayBetweenReconnects": 10})
    client.listen("error")
    error_of(client.call, "connect")


def test_the_address_may_be_any_of_those_it_takes(node, hpkvd):
    for url in (hpkvd.url, hpkvd.url + "/ws", hpkvd.url.replace("http", "ws"), hpkvd.url.replace("http", "ws") + "/ws"):
        client = node.api(hpkvd.key, url, FAST)
        client.call("connect")
        client.call("set", "a", url)
        assert client.call("get", "a")["value"] == url
        client.call("disconnect", False)


def test_notifications(node, hpkvd, store):
    tokens = node.tokens(hpkvd.key, hpkvd.url)
    token = tokens.call("generateToken", {"subscribePatterns": ["user:*"], "subscribeKeys": ["one"], "accessPattern": "^user:.*$"})
    client = node.subscription(token, hpkvd.url, FAST)
    client.call("connect")
    client.listen("*")
    store.set("user:1", "a")
    store.set("other", "x")
    store.set("one", "y")
    store.atomic("user:n", 7)
    client.call("set", "user:own", "z")
    store.delete("user:1")
    told = [client.event("*") for _ in range(5)]
    assert [(note["key"], note["value"]) for note in told] == [
        ("user:1", "a"),
        ("one", "y"),
        ("user:n", 7),
        ("user:own", "z"),
        ("user:1", None),
    ]
    assert all(note["type"] == "notification" and note["timestamp"] > 1.6e12 for note in told)
    assert client.call("get", "user:own")["value"] == "z"
    assert error_of(client.call, "get", "other").code == 403
    client.call("disconnect", False)


def test_tokens_need_the_key(node, hpkvd):
    error = error_of(node.tokens("wrong", hpkvd.url).call, "generateToken", {"subscribePatterns": ["*"]})
    assert "401" in error.message
    client = node.subscription("no.token", hpkvd.url, {**FAST, "maxReconnectAttempts": 1, "initialDelayBetweenReconnects": 10})
    client.listen("error")
    error_of(client.call, "connect")


@pytest.mark.hpkvd_options("--rate", "5")
def test_the_rate(js, hpkvd):
    codes = []
    for order in [js.start("get", "none") for _ in range(40)]:
        codes.append(error_of(js.result, order).code)
    assert set(codes) == {404, 429}


def test_it_reconnects_after_a_restart(js, hpkvd, store):
    js.listen("connected")
    js.listen("disconnected")
    js.call("set", "a", "1")
    assert hpkvd.stop() == 0
    assert js.event("disconnected")["code"] == 1001
    hpkvd.start()
    js.event("connected")
    assert js.call("get", "a")["value"] == "1"
