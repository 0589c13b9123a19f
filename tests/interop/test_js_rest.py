"""The official REST client against hpkvd."""

import pytest

from lib.jsclient import JsError


def error_of(call, *arguments):
    with pytest.raises(JsError) as caught:
        call(*arguments)
    return caught.value


def test_records(rest, store):
    assert rest.call("set", "a", "1")["success"] is True
    assert rest.call("get", "a") == {"key": "a", "value": "1"}
    rest.call("set", "j", {"a": 1, "b": 2})
    rest.call("set", "j", {"b": None, "c": 3}, True)
    assert store.get("j") == '{"a":1,"c":3}'
    assert rest.call("delete", "a")["success"] is True
    error = error_of(rest.call, "get", "a")
    assert (error.status, error.code, error.message) == (404, "NOT_FOUND", "Record not found")
    assert error_of(rest.call, "delete", "a").status == 404


def test_atomic(rest):
    reply = rest.call("atomicIncrement", "n", 5)
    assert (reply["success"], reply["result"], reply["newValue"]) == (True, 5, 5)
    assert rest.call("atomicIncrement", "n", -6)["result"] == -1


def test_range(rest, store):
    names = ["a/b", "a b", "a+b", "a%41", "a&b=c", "é", "z"]
    for name in names:
        store.set(name, "v")
    ordered = sorted(names, key=str.encode)
    reply = rest.call("range", "a", "\U0010ffff")
    assert [record["key"] for record in reply["records"]] == ordered
    assert (reply["count"], reply["truncated"]) == (len(names), False)
    for name in names:
        assert rest.call("range", name, name)["records"] == [{"key": name, "value": "v"}]
    reply = rest.call("range", "a", "z", 2)
    assert (len(reply["records"]), reply["truncated"]) == (2, True)


@pytest.mark.parametrize("key", ["a//b", "a/../b", "/", "%41", "a=b&c", "é€", "a\nb", "?#", "a\0b"])
def test_any_key(rest, store, key):
    rest.call("set", key, key)
    assert store.get(key) == key
    assert rest.call("get", key) == {"key": key, "value": key}
    assert rest.call("delete", key)["success"] is True
    assert store.get(key) is None


def test_errors(rest, node, hpkvd):
    assert error_of(rest.call, "set", "", "x").status == 400
    assert error_of(rest.call, "set", "a", "").status == 400
    assert error_of(rest.call, "set", "a", "x" * 3073).status == 413
    error = error_of(node.rest(hpkvd.url, "wrong").call, "get", "a")
    assert (error.status, error.code) == (401, "UNAUTHORIZED")


@pytest.mark.hpkvd_options("--rate", "1")
def test_the_rate(rest):
    errors = [error_of(rest.result, order) for order in [rest.start("get", "none") for _ in range(20)]]
    assert {error.status for error in errors} == {404, 429}
    assert {error.code for error in errors} == {"NOT_FOUND", "RATE_LIMIT_EXCEEDED"}
