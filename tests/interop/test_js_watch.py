"""What the official clients change, as hpkv watch tells it."""

import json

from lib.watch import READY, Watch


def test_changes_of_the_official_clients(js, rest, hpkvd):
    with Watch(hpkvd.url, hpkvd.key, "--json", "a*", "n") as watch:
        watch.ready()
        js.call("set", "a1", "line\n\tü😀")
        js.call("set", "b", "not watched")
        js.call("set", "a2", {"x": 1, "y": {"z": 2}})
        js.call("set", "a2", {"y": {"z": None}, "w": "3"}, True)
        js.call("atomicIncrement", "n", 41)
        js.call("delete", "a1")
        rest.call("set", "a3", "of REST")
        rows = [json.loads(line) for line in watch.next(6)]
        assert [(row["key"], row["value"]) for row in rows] == [
            ("a1", "line\n\tü😀"),
            ("a2", '{"x":1,"y":{"z":2}}'),
            ("a2", '{"x":1,"y":{},"w":"3"}'),
            ("n", 41),
            ("a1", None),
            ("a3", "of REST"),
        ]
        assert watch.said == [READY + "\n"]


def test_it_tells_what_the_official_subscriber_hears(node, js, hpkvd):
    token = node.tokens(hpkvd.key, hpkvd.url).call("generateToken", {"subscribePatterns": ["*"]})
    subscriber = node.subscription(token, hpkvd.url)
    subscriber.call("connect")
    subscriber.listen("*")
    with Watch(hpkvd.url, hpkvd.key, "--json", "*") as watch:
        watch.ready()
        for value in ("1", "ü\n", "1"):
            js.call("set", "a", value)
        js.call("atomicIncrement", "n", -5)
        js.call("delete", "a")
        for line in watch.next(5):
            event = subscriber.event("*")
            assert json.loads(line) == {name: event[name] for name in ("key", "value", "timestamp")}
    subscriber.call("disconnect", False)
