"""Tokens and notifications."""

import base64
import json
import time

import pytest
import websockets

from lib.hpkvd import Hpkvd
from lib.processes import resident_peak, wait_for
from lib.wsclient import Client, Refused, UpgradeRefused


def refused_upgrade(url, **how):
    with pytest.raises(UpgradeRefused) as caught:
        Client(url, **how).connect()
    return caught.value.status


# --- tokens ---


def test_upgrade_needs_a_key_or_a_token(hpkvd):
    assert refused_upgrade(hpkvd.url, key="wrong") == 401
    assert refused_upgrade(hpkvd.url, key="") == 401
    assert refused_upgrade(hpkvd.url, path="/ws") == 401
    assert refused_upgrade(hpkvd.url, token="") == 403
    assert refused_upgrade(hpkvd.url, token="x.y") == 403
    assert refused_upgrade(hpkvd.url, token=hpkvd.key) == 403
    assert hpkvd.metrics()["hpkvd_refused_total"] == 6


def test_an_api_key_with_special_characters(tmp_path):
    """The official client does not encode it, others do."""
    with Hpkvd(tmp_path / "s", key="k/+%41=&!") as server:
        with Client(server.url, server.key) as client:
            client.set("a", "1")
    with Hpkvd(tmp_path / "s", key="k/+%41=!") as server:
        with Client(server.url, path="/ws?apiKey=" + server.key) as client:
            assert client.get("a") == "1"


def test_forged_tokens(hpkvd, store):
    token = store.token(patterns=["a*"], access="^a")
    claims, signature = token.split(".")
    assert refused_upgrade(hpkvd.url, token=claims) == 403
    assert refused_upgrade(hpkvd.url, token=claims + ".") == 403
    assert refused_upgrade(hpkvd.url, token="." + signature) == 403
    more = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    more["accessPattern"] = "."
    forged = base64.urlsafe_b64encode(json.dumps(more).encode()).decode().rstrip("=")
    assert refused_upgrade(hpkvd.url, token=f"{forged}.{signature}") == 403
    for at in (0, 10, len(claims) - 1, len(claims) + 1, len(token) - 3):
        other = "A" if token[at] != "A" else "B"
        assert refused_upgrade(hpkvd.url, token=token[:at] + other + token[at + 1 :]) == 403
    with Client(hpkvd.url, token=token):
        pass


def test_a_token_is_of_its_key(tmp_path):
    with Hpkvd(tmp_path / "s", key="first") as server, Client(server.url, "first") as client:
        token = client.token()
    with Hpkvd(tmp_path / "s", key="first") as server, Client(server.url, token=token):
        pass
    with Hpkvd(tmp_path / "s", key="second") as server:
        assert refused_upgrade(server.url, token=token) == 403


@pytest.mark.hpkvd_options("--token-ttl", "1")
def test_an_expired_token(hpkvd, store):
    token = store.token(patterns=["*"])
    # at the very end of its second it may be too late already
    try:
        with Client(hpkvd.url, token=token) as client:
            assert client.wait_closed() == (1008, "token has expired")
    except UpgradeRefused as error:
        assert error.status == 403
    wait_for(lambda: hpkvd.metrics()["hpkvd_subscriptions"] == 0, "the subscription to end")
    time.sleep(1)
    assert refused_upgrade(hpkvd.url, token=token) == 403


def test_access_pattern(hpkvd, store):
    for key in ("user/1", "user/2", "other", "a\0user/"):
        store.set(key, "x")
    with store.subscribe(access="^user/[0-9]+$") as client:
        assert client.get("user/1") == "x"
        client.set("user/3", "y")
        assert client.atomic("user/4", 1) == 1
        for message in (
            {"op": 1, "key": "other"},
            {"op": 1, "key": "nouser/1"},
            {"op": 1, "key": "user/1\0"},
            {"op": 2, "key": "user/x", "value": "x"},
            {"op": 3, "key": "user/", "value": "x"},
            {"op": 4, "key": "other"},
            {"op": 6, "key": "xuser/4", "value": 1},
        ):
            with pytest.raises(Refused) as caught:
                client.request(**message)
            assert caught.value.code == 403
        reply = client.range("\x01", "\U0010ffff", 3)
        assert [record["key"] for record in reply["records"]] == ["user/1", "user/2", "user/3"] and reply["truncated"]
        assert [key for key, _ in client.range_all()] == ["user/1", "user/2", "user/3", "user/4"]
    assert store.get("other") == "x"
    assert hpkvd.requests("get", 403) == 3


def test_access_patterns_match_characters(store):
    with store.subscribe(access="^.$") as client:
        client.set("é", "x")
        with pytest.raises(Refused):
            client.set("éé", "x")


@pytest.mark.parametrize(
    "pattern, yes, no",
    [
        (r"^user:[][:digit:]_-]+$", "user:1]_-2", "user:a"),
        (r"^[^]]+$", "a[", "a]"),
        (r"^(user:[a-z]{1,20}/)+(\w|\.)*$", "user:ab/user:c/x.y", "user:/"),
        (r"^a{2}b{0,3}c{2,}$", "aabcc", "aabbbbcc"),
        (r"^\(a\+\)$", "(a+)", "(aa)"),
    ],
)
def test_access_patterns_that_are_taken(store, pattern, yes, no):
    with store.subscribe(access=pattern) as client:
        client.set(yes, "x")
        with pytest.raises(Refused):
            client.set(no, "x")


@pytest.mark.parametrize(
    "request_body",
    [
        {"accessPattern": "("},
        {"accessPattern": r"^\d+$"},
        {"accessPattern": "(?:a)"},
        {"accessPattern": r"(a)\1"},
        {"accessPattern": "a\0b"},
        {"accessPattern": "x" * 2000},
        {"accessPattern": "(((a{200}){200}){200}){200}"},
        {"accessPattern": "(a{30000}){30000}"},
        {"accessPattern": "a" + "+" * 60},
        {"accessPattern": "a*" + "+" * 60},
        {"accessPattern": "(" * 60 + "a" + "+)" * 60},
        {"accessPattern": "(" * 60 + "a" + "+)" * 59},
        {"accessPattern": "(" * 60 + "a" + "){1,}" * 60},
        {"accessPattern": "(" * 20 + "a" + "){2,}" * 20},
        {"accessPattern": "){32767}" * 100},
        {"accessPattern": "a)"},
        {"accessPattern": "a{b}"},
        {"accessPattern": "^t[0-9]{,3}/"},
        {"accessPattern": "^user-.+?-x$"},
        {"accessPattern": "^t[0-9]{4}?/"},
        {"accessPattern": "^a*+$"},
        {"accessPattern": "^*a"},
        {"accessPattern": "(+a)"},
        {"accessPattern": "a|?b"},
        {"accessPattern": r"^[^\W]+$"},
        {"accessPattern": r"^[a-z\-]+$"},
        {"accessPattern": r"^[]\w]+$"},
        {"accessPattern": r"^[[:alpha:]\w]+$"},
        {"accessPattern": r"\<user"},
        {"accessPattern": 1},
        {"subscribePatterns": "a"},
        {"subscribePatterns": [1]},
        {"subscribePatterns": [""]},
        {"subscribeKeys": {}},
        {"subscribePatterns": ["x"] * 1001},
        [],
        "x",
    ],
    ids=range(37),
)
def test_tokens_that_make_no_sense(hpkvd, request_body):
    status, text = hpkvd.http("POST", "/token/websocket", json.dumps(request_body))
    assert status == 400 and json.loads(text)["error"]


def test_token_bodies_that_are_no_json(hpkvd):
    for body in ("", "{", "\xff", "[" * 100000):
        assert hpkvd.http("POST", "/token/websocket", body.encode("latin-1"))[0] == 400


# --- notifications ---


def test_changes_are_told_in_order(store):
    with store.subscribe(patterns=["user:*"]) as watcher:
        before = time.time() * 1000
        store.set("user:1", "a")
        store.set("other", "x")
        store.patch("user:1", "b")
        store.atomic("user:n", 5)
        store.atomic("user:n", -1)
        store.delete("user:1")
        watcher.set("user:mine", "own changes too")
        told = [watcher.notification() for _ in range(6)]
        after = time.time() * 1000
    assert [(note["key"], note["value"]) for note in told] == [
        ("user:1", "a"),
        ("user:1", "ab"),
        ("user:n", 5),
        ("user:n", 4),
        ("user:1", None),
        ("user:mine", "own changes too"),
    ]
    for note in told:
        assert set(note) == {"type", "key", "value", "timestamp"}
        assert before - 1 <= note["timestamp"] <= after + 1
    assert [note["timestamp"] for note in told] == sorted(note["timestamp"] for note in told)


def test_what_changes_nothing_is_not_told(store):
    with store.subscribe(patterns=["*"]) as watcher:
        store.set("a", "x")
        for message in (
            {"op": 4, "key": "none"},
            {"op": 2, "key": "a", "value": ""},
            {"op": 6, "key": "a", "value": 1},
            {"op": 3, "key": "a", "value": "y" * 4000},
        ):
            with pytest.raises(Refused):
                store.request(**message)
        store.get("a")
        store.set("a", "x")
        store.set("end", "1")
        assert [watcher.notification()["key"] for _ in range(3)] == ["a", "a", "end"]


@pytest.mark.parametrize(
    "patterns, keys, heard",
    [
        (["*"], None, ["a", "ab", "abc", "b*", "é"]),
        (["a*"], None, ["a", "ab", "abc"]),
        (["*b"], None, ["ab"]),
        (["a*c"], None, ["abc"]),
        (["*b*"], None, ["ab", "abc", "b*"]),
        (["a**c", "é"], None, ["abc", "é"]),
        (["a", "ab", "a*"], None, ["a", "ab", "abc"]),
        (None, ["b*"], ["b*"]),
        (["?"], ["a"], ["a"]),
    ],
)
def test_patterns(store, patterns, keys, heard):
    with store.subscribe(patterns=patterns, keys=(keys or []) + ["end"]) as watcher:
        for key in ("a", "ab", "abc", "b*", "é", "end"):
            store.set(key, "x")
        told = []
        while not told or told[-1] != "end":
            told.append(watcher.notification()["key"])
    assert told[:-1] == heard


def test_writes_of_many_are_told_as_they_took_effect(hpkvd, store):
    """The last one told is the one that stays, for every key, though the writers do not wait for each other."""
    writers = [Client(hpkvd.url, hpkvd.key).connect() for _ in range(8)]
    with store.subscribe(patterns=["k*"]) as watcher:
        for number in range(50):
            for index, writer in enumerate(writers):
                writer.send(op=2, key=f"k{number % 3}", value=f"{index}.{number}")
        last = {}
        for _ in range(400):
            note = watcher.notification()
            last[note["key"]] = note["value"]
    for writer in writers:
        writer.close()
    assert {key: store.get(key) for key in last} == last


def test_only_token_connections_are_told(hpkvd, store):
    with store.subscribe() as silent:
        store.set("a", "1")
        assert silent.get("a") == "1" and not silent.notifications and not store.notifications
        metrics = hpkvd.metrics()
        assert metrics["hpkvd_subscriptions"] == 0 and metrics["hpkvd_notifications_total"] == 0
    with store.subscribe(patterns=["*"]) as first, store.subscribe(keys=["a"]) as second:
        store.set("a", "2")
        store.set("b", "2")
        assert first.notification()["key"] == second.notification()["key"] == "a"
        metrics = hpkvd.metrics()
        assert metrics["hpkvd_subscriptions"] == 2 and metrics["hpkvd_notifications_total"] == 3
    wait_for(lambda: hpkvd.metrics()["hpkvd_subscriptions"] == 0, "the subscriptions to end")


@pytest.mark.hpkvd_options("--max-value", "1048576")
def test_a_subscriber_that_does_not_read_is_closed(hpkvd, store):
    """And the server's memory stays bounded; others go on hearing."""
    with store.subscribe(patterns=["*"]) as slow:
        # websockets reads while its loop runs only, which it does not here
        value = "v" * 1_000_000
        for number in range(60):
            store.set(f"k{number % 5}", value)
        wait_for(lambda: hpkvd.metrics()["hpkvd_slow_subscribers_total"] == 1, "the slow subscriber to be closed")
        assert hpkvd.metrics()["hpkvd_subscriptions"] == 0
        peak = resident_peak(hpkvd.pid)
        with store.subscribe(patterns=["*"]) as other:
            store.set("a", "1")
            assert other.notification()["value"] == "1"
        with pytest.raises(websockets.ConnectionClosed):
            while True:
                slow.notification()
    assert store.get("k0") == value
    # 60 MB were written; sanitizers take some more for themselves
    assert peak < 400 << 20
