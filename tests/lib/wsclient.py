"""A small synchronous client of the protocol, on python3-websockets: an independent peer for servers and mounts.

    with Client(server.url, server.key) as client:
        client.set("a", "1")
        client.get("a")                      # "1"; None: there is none
        client.range("a", "b")               # the whole reply
        token = client.token(patterns=["a*"], access="^a")
    with Client(server.url, token=token) as watcher:
        watcher.notification()               # waits for the next

A refusal raises Refused(code, text). `send` and `receive` give the raw messages.
"""

import asyncio
import collections
import json
import os
from http.client import HTTPConnection
from urllib.parse import quote

import websockets

from lib.hpkvd import UnixConnection, unix_socket

LIMIT = 240.0


class Refused(Exception):
    def __init__(self, code, text, reply=None):
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text
        self.reply = reply


class UpgradeRefused(Exception):
    """The server answered the upgrade to WebSocket with this HTTP status."""

    def __init__(self, status):
        super().__init__(f"HTTP {status}")
        self.status = status


class Client:
    """url: http://HOST:PORT or unix:PATH."""

    def __init__(self, url, key=None, token=None, limit=LIMIT, path=None):
        self.url = url
        self.key = key
        self.limit = limit
        self.path = path or ("/ws?token=" + token if token is not None else "/ws?apiKey=" + quote(key, safe=""))
        self.loop = asyncio.new_event_loop()
        self.socket = None
        self.next_id = 1
        self.replies = {}
        self.notifications = collections.deque()

    # --- life ---

    def connect(self):
        try:
            self.socket = self._run(self._connect())
        except BaseException as error:
            self.loop.close()
            # python3-websockets 10 has the status on the error, 14 and later on its response.
            status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
            if status is not None:
                raise UpgradeRefused(status) from error
            raise
        return self

    async def _connect(self):
        # Unread messages must not keep the connection from closing, which a full queue would.
        settings = {"max_queue": None, "max_size": None, "ping_interval": None, "compression": None, "open_timeout": self.limit}
        if self.url.startswith("unix:"):
            connected = unix_socket(os.path.abspath(self.url.removeprefix("unix:")))
            return await websockets.connect("ws://localhost" + self.path, sock=connected, **settings)
        return await websockets.connect(self.url.replace("http", "ws", 1) + self.path, **settings)

    def close(self):
        if self.socket is not None:
            self._run(self.socket.close())
            self.socket = None
        self.loop.close()

    def wait_closed(self):
        """The status and the reason that the server closed with, once it has."""
        self._run(self.socket.wait_closed())
        return self.socket.close_code, self.socket.close_reason

    def __enter__(self):
        return self if self.socket is not None else self.connect()

    def __exit__(self, *_error):
        self.close()

    def _run(self, work):
        return self.loop.run_until_complete(asyncio.wait_for(work, self.limit))

    # --- messages ---

    def send(self, **message):
        """Sends a request with a new id, and answers the id."""
        message.setdefault("messageId", self.next_id)
        self.next_id += 1
        self.send_raw(json.dumps(message))
        return message["messageId"]

    def send_raw(self, data):
        """Text, or bytes as a binary frame, or a list of either as fragments."""
        self._run(self.socket.send(data))

    def receive_raw(self):
        """The next message's text."""
        return self._run(self.socket.recv())

    def receive(self, message_id):
        """The reply to one request; others and notifications are kept."""
        while message_id not in self.replies:
            self._take()
        return self.replies.pop(message_id)

    def _take(self):
        message = json.loads(self.receive_raw())
        if message.get("type") == "notification":
            self.notifications.append(message)
        else:
            self.replies[message.get("messageId")] = message

    def notification(self):
        while not self.notifications:
            self._take()
        return self.notifications.popleft()

    def request(self, **message):
        """The reply, or Refused."""
        reply = self.receive(self.send(**message))
        if reply["code"] != 200:
            raise Refused(reply["code"], reply.get("error") or reply.get("message"), reply)
        return reply

    # --- operations ---

    def get(self, key):
        try:
            return self.request(op=1, key=key)["value"]
        except Refused as refusal:
            if refusal.code == 404:
                return None
            raise

    def set(self, key, value):
        self.request(op=2, key=key, value=value)

    def patch(self, key, value):
        self.request(op=3, key=key, value=value)

    def delete(self, key):
        self.request(op=4, key=key)

    def range(self, key, end_key, limit=None):
        members = {} if limit is None else {"limit": limit}
        return self.request(op=5, key=key, endKey=end_key, **members)

    def range_all(self, first="\x01", last="\U0010ffff"):
        """All keys and values from first to last, as pairs, page by page."""
        start = first
        while True:
            reply = self.range(start, last, 1000)
            for record in reply["records"]:
                yield record["key"], record["value"]
            if not reply["truncated"]:
                return
            start = reply["records"][-1]["key"] + "\0"

    def atomic(self, key, value):
        return self.request(op=6, key=key, value=value)["newValue"]

    # --- tokens ---

    def token(self, patterns=None, keys=None, access=None):
        """A token for these patterns and literal keys to subscribe to, and this access pattern."""
        body = {"subscribePatterns": patterns, "subscribeKeys": keys, "accessPattern": access}
        text = json.dumps({name: value for name, value in body.items() if value is not None})
        if self.url.startswith("unix:"):
            connection = UnixConnection(self.url.removeprefix("unix:"))
        else:
            connection = HTTPConnection(self.url.removeprefix("http://"), timeout=self.limit)
        try:
            connection.request("POST", "/token/websocket", body=text, headers={"x-api-key": self.key, "Content-Type": "application/json"})
            reply = connection.getresponse()
            answer = json.loads(reply.read())
        finally:
            connection.close()
        if reply.status != 200:
            raise Refused(reply.status, answer.get("error"), answer)
        return answer["token"]

    def subscribe(self, patterns=None, keys=None, access=None):
        """A connected client that hears of these."""
        return Client(self.url, self.key, token=self.token(patterns, keys, access), limit=self.limit).connect()
