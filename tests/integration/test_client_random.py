"""libhpkv's states under random calls, from outside and inside callbacks, while the server comes and goes: every call is
answered once, every connection is told of once, and the client works afterwards. A failure repeats with its seed."""

import errno
import json
import os
import random
import subprocess
import time

import pytest

from lib.client_driver import Driver
from lib.processes import program, sanitizer_env, sanitizer_reports

STEPS = 200
CALLBACKS = ["connected", "disconnected", "reconnecting", "reconnect_failed", "error", "connect", "disconnect", "reply"]
KINDS = ["connect"] * 5 + ["get"] * 4 + ["atomic", "disconnect", "untold"]
OPTIONS = {
    "max_reconnect_attempts": 3,
    "reconnect_initial_delay_ms": 1,
    "reconnect_max_delay_ms": 8,
    "reconnect_jitter_ms": 2,
    "connect_timeout_ms": 20000,
    "operation_timeout_ms": 2000,
}


class Walk:
    def __init__(self, client, server, seed):
        self.client = client
        self.server = server
        self.random = random.Random(seed)
        self.up = True

    def call(self):
        kind = self.random.choice(KINDS)
        if kind == "disconnect":
            return ["disconnect", self.random.random() < 0.5]
        if kind == "get":
            return ["get", "a"]
        if kind == "atomic":
            return ["atomic", "n", "1"]
        if kind == "untold":
            return [self.random.choice(["connect_untold", "disconnect_untold"])]
        return ["connect"]

    def step(self):
        what = self.random.random()
        if what < 0.40:
            self.client.do(*self.call())
        elif what < 0.52:
            name = self.random.choice(CALLBACKS)
            self.client.do("inside", name, [self.call() for _ in range(self.random.randint(1, 3))])
        elif what < 0.75:
            self.client.state()  # everything before was begun
            time.sleep(self.random.random() / 50)  # and some of it ends
        elif what < 0.88:
            self.server.drop_connections()
        elif what < 0.92:
            self.server.down()
            self.up = False
        elif what < 0.94:
            self.server.configure(refuse=self.random.choice([401, 429, 500, None, None]))
        else:
            self.server.configure(refuse=None)
            if not self.up:
                self.server.up()
            self.up = True


def settle(client, server):
    """The server is well again, and nothing is left to be run inside callbacks."""
    server.configure(refuse=None)
    server.down()
    server.up()
    for name in CALLBACKS:
        client.do("inside", name, [])
    client.do("disconnect")
    client.do("sum")
    begun = client.wait("sum")
    for kind, name in (("connects", "connect"), ("disconnects", "disconnect")):
        if begun[kind]:
            client.wait(name, after=begun[kind] - 1)
    if begun["started"]:
        client.wait_for(lambda event: event["event"] in ("reply", "refused"), "reply", after=begun["started"] - 1)
    return begun


@pytest.mark.parametrize("seed", range(20))
def test_random_calls(pyserver, seed):
    with Driver(pyserver.url, api_key=pyserver.key, **OPTIONS) as client:
        walk = Walk(client, pyserver, seed)
        pyserver.set("a", "1")
        for _ in range(STEPS):
            walk.step()
        begun = settle(client, pyserver)
        assert client.state() == 0
        for kind, name in (("connects", "connect"), ("disconnects", "disconnect")):
            assert sorted(event["n"] for event in client.events if event["event"] == name) == list(range(1, begun[kind] + 1))
        answered = [event["n"] for event in client.events if event["event"] in ("reply", "refused")]
        assert sorted(answered) == list(range(1, begun["started"] + 1))
        story = [event["event"] for event in client.events if event["event"] in ("connected", "disconnected")]
        assert story == ["connected", "disconnected"] * (len(story) // 2)
        errors = {event["err"] for event in client.events if event["event"] == "connect" and "err" in event}
        assert errors <= {-errno.ECANCELED, -errno.ECONNREFUSED, -errno.ECONNRESET, -errno.EACCES, -errno.EAGAIN, -errno.EIO}
        client.started = begun["started"]
        assert "err" not in client.connect()
        assert client.request("get", "a")["value"] == "1"


@pytest.mark.parametrize("seed", range(4))
def test_several_clients_on_one_loop(pyserver, tmp_path, seed):
    """Each does anything to any other, inside callbacks too, while their connections are dropped now and then."""
    words = [program("tests/integration/client_many_driver"), pyserver.url, pyserver.key, str(seed), "4000", "51"]
    env = {**os.environ, **sanitizer_env(tmp_path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=env, text=True) as process:
        try:
            while process.poll() is None:
                time.sleep(0.05)
                pyserver.drop_connections()
            counts = json.loads(process.stdout.read())
        finally:
            process.kill()
    assert not sanitizer_reports(tmp_path), sanitizer_reports(tmp_path)
    assert process.returncode == 0
    for begun, answered in (("connects", "connected"), ("disconnects", "disconnected"), ("requests", "replies")):
        assert counts[begun] == counts[answered] > 0
    assert counts["opened"] > 50
    # a client that is freed tells nothing of the end of its connection
    assert counts["opened"] - counts["freed"] <= counts["lost"] <= counts["opened"]
