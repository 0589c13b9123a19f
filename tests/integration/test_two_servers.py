"""hpkvd and the independent server of the tests answer alike: either being wrong would make the mount's tests worthless."""

import pytest

from lib.wsclient import Client

pytestmark = pytest.mark.timeout(240)

GET, SET, PATCH, DELETE, RANGE, ATOMIC = range(1, 7)

# One conversation: each request's outcome depends on those before.
REQUESTS = [
    {"op": GET, "key": "absent"},
    {"op": SET, "key": "a", "value": "größe 𐍈 \0 \u2028"},
    {"op": GET, "key": "a"},
    {"op": SET, "key": "a", "value": ""},
    {"op": SET, "key": "", "value": "x"},
    {"op": SET, "key": "a", "value": "x" * 3073},
    {"op": SET, "key": "a", "value": "x" * 3072},
    {"op": GET, "key": "a"},
    {"op": PATCH, "key": "new", "value": "first"},
    {"op": PATCH, "key": "new", "value": " second"},
    {"op": GET, "key": "new"},
    {"op": PATCH, "key": "j", "value": '{"a":{"b":1,"c":[1,2]},"d":"x"}'},
    {"op": PATCH, "key": "j", "value": '{"a":{"b":null,"c":[3]},"e":null}'},
    {"op": PATCH, "key": "text", "value": "not JSON"},
    {"op": PATCH, "key": "text", "value": '{"x":1}'},
    {"op": GET, "key": "text"},
    {"op": PATCH, "key": "j2", "value": '{"x":1}'},
    {"op": PATCH, "key": "j2", "value": "text"},
    {"op": GET, "key": "j2"},
    {"op": PATCH, "key": "a", "value": "too much"},
    {"op": DELETE, "key": "text"},
    {"op": DELETE, "key": "text"},
    {"op": ATOMIC, "key": "n", "value": 5},
    {"op": ATOMIC, "key": "n", "value": -7},
    {"op": GET, "key": "n"},
    {"op": ATOMIC, "key": "new", "value": 1},
    {"op": ATOMIC, "key": "n", "value": "1"},
    {"op": SET, "key": "d/1", "value": "1"},
    {"op": SET, "key": "d/2", "value": "2"},
    {"op": SET, "key": "d/2/3", "value": "3"},
    {"op": SET, "key": "d0", "value": "behind"},
    {"op": RANGE, "key": "d/", "endKey": "d/\U0010ffff"},
    {"op": RANGE, "key": "d/", "endKey": "d/2", "limit": 2},
    {"op": RANGE, "key": "d/", "endKey": "d/2/3", "limit": 2},
    {"op": RANGE, "key": "d/1\0", "endKey": "d0", "limit": 1000},
    {"op": RANGE, "key": "z", "endKey": "zz"},
    {"op": RANGE, "key": "\x01", "endKey": "\U0010ffff"},
    {"op": RANGE, "key": "", "endKey": "z"},
    {"op": RANGE, "key": "a", "endKey": ""},
    {"op": 99, "key": "a"},
    {"op": GET},
]


def talk(server):
    with Client(server.url, server.key) as client:
        replies = [client.receive(client.send(**request)) for request in REQUESTS]
    return replies


def compare(request, ours, theirs):
    if ours["code"] == 200 or theirs["code"] == 200:
        assert {**ours, "message": None} == {**theirs, "message": None}, request
        return
    for code in (ours["code"], theirs["code"]):
        assert 400 <= code < 500
    assert (ours["code"] == 404) == (theirs["code"] == 404), request
    assert ours.get("error") or ours.get("message")


def test_one_conversation(hpkvd, pyserver):
    for request, ours, theirs in zip(REQUESTS, talk(hpkvd), talk(pyserver)):
        compare(request, ours, theirs)


def _watcher(client):
    return Client(client.url, token=client.token(patterns=["d/*"], keys=["one"]))


def test_notifications(hpkvd, pyserver):
    told = []
    for server in (hpkvd, pyserver):
        with Client(server.url, server.key) as client, _watcher(client) as watcher:
            client.set("d/a", "1")
            client.set("other", "x")
            client.set("one", "2")
            client.delete("d/a")
            client.atomic("d/n", 3)
            client.set("d/end", "e")
            seen = [watcher.notification() for _ in range(5)]
        assert [message["timestamp"] for message in seen] == sorted(message["timestamp"] for message in seen)
        told.append([(message["key"], message["value"]) for message in seen])
    assert told[0] == told[1] == [("d/a", "1"), ("one", "2"), ("d/a", None), ("d/n", 3), ("d/end", "e")]
