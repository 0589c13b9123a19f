"""The official JavaScript clients, driven from Python.

    node = Node()                            # needs `npm ci` in tests/interop; packaging/check runs it
    client = node.api(key, url, config)      # HPKVApiClient
    client.call("connect")
    client.call("get", "a")                  # the reply, or JsError
    client.listen("disconnected"); client.event("disconnected")
"""

import json
import subprocess
import threading
from collections import defaultdict
from pathlib import Path

from lib.shell import need

INTEROP = Path(__file__).resolve().parent.parent / "interop"
LIMIT = 240.0


class JsError(Exception):
    """What a promise was rejected with."""

    def __init__(self, error):
        super().__init__(f"{error['name']}: {error['message']}")
        self.message = error["message"]
        self.code = error.get("code")
        self.status = error.get("status")


class JsObject:
    """One client inside the Node process."""

    def __init__(self, node, name):
        self.node = node
        self.name = name

    def start(self, method, *arguments):
        """Calls a method without waiting; pass what it answers to `result`."""
        return self.node.order(on=self.name, call=method, args=list(arguments))

    def result(self, order):
        return self.node.answer(order)

    def call(self, method, *arguments):
        return self.result(self.start(method, *arguments))

    def listen(self, event):
        """Begins to keep an event's data; "*": notifications."""
        self.node.answer(self.node.order(on=self.name, listen=event))

    def event(self, event):
        """Waits for the next one."""
        return self.node.event(self.name, event)


class Node:
    def __init__(self):
        need("node")
        assert (INTEROP / "node_modules/@hpkv/websocket-client").is_dir(), f"run npm ci in {INTEROP}"
        self.process = subprocess.Popen(
            ["node", "driver.js"], cwd=INTEROP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.changed = threading.Condition()
        self.answers = {}
        self.events = defaultdict(list)
        self.ended = False
        self.last = 0
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            message = json.loads(line)
            with self.changed:
                if "event" in message:
                    self.events[message["on"], message["event"]].append(message.get("data"))
                else:
                    self.answers[message["id"]] = message
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def _wait(self, condition, what):
        with self.changed:
            if not self.changed.wait_for(lambda: self.ended or condition(), LIMIT):
                raise TimeoutError(f"{LIMIT:.0f} s passed without {what}")
            if not condition():
                raise RuntimeError(f"node ended without {what}")

    def order(self, **members):
        self.last += 1
        self.process.stdin.write(json.dumps({"id": self.last, **members}) + "\n")
        self.process.stdin.flush()
        return self.last

    def answer(self, order):
        self._wait(lambda: order in self.answers, f"an answer to order {order}")
        message = self.answers.pop(order)
        if "error" in message:
            raise JsError(message["error"])
        return message["result"]

    def event(self, name, event):
        self._wait(lambda: self.events[name, event], f"the event {event}")
        return self.events[name, event].pop(0)

    def _make(self, kind, arguments):
        order = self.order(make=kind, args=list(arguments))
        self.answer(order)
        return JsObject(self, order)

    def api(self, key, url, config=None):
        return self._make("api", (key, url, config or {}))

    def subscription(self, token, url, config=None):
        return self._make("subscription", (token, url, config or {}))

    def tokens(self, key, url):
        return self._make("tokens", (key, url))

    def rest(self, url, key):
        return self._make("rest", (url, url, key))

    def close(self):
        self.process.stdin.close()
        self.process.wait(LIMIT)
        self.reader.join()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()
