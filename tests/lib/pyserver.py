"""A second HPKV server, written from the protocol's description alone: in memory, strict, and full of faults on demand.

It runs as a process of its own (a test that hangs in a mount must not stop the server that the mount waits for) and
takes its orders as JSON lines on standard input; it ends when that ends.

    with PyServer() as server:
        server.set("a", "1")
        server.fault(op="GET", key="a", code=500, text="broken", times=1)
        ... server.url, server.key ...
        server.log()        # [("GET", "a")]

A fault applies to requests by `op` (a name or a list of them) and `key` (exact) or `prefix`, after the first `skip` matches,
`times` times (default: for ever), and does one of:

    delay=SECONDS            answers later
    hold=True                applies and answers after release(fault); with apply_first=True applies at once
    store={KEY: VALUE}       does this besides, as if another client had, before anything else
    never=True               does not answer
    drop=True                drops the connection instead of answering
    close=CODE               closes the connection with that code instead of answering
    code=N, text=T           answers with that failure, and applies nothing
    raw=TEXT                 sends this text frame instead of the answer
    fields={...}             overwrites members of the answer; remove=[...] takes some out
    binary=True              sends the answer as a binary frame
    partial=True             sends the first half of the answer's frame, then ends the connection
    huge=BYTES               sends a text frame of so many bytes instead of the answer

With apply=False nothing is applied, though the answer may say so; it is the default for those that do not answer (never, drop, close), apply=True
makes them apply first.
"""

import asyncio
import base64
import bisect
import fnmatch
import http
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse

OPS = {1: "GET", 2: "SET", 3: "PATCH", 4: "DELETE", 5: "RANGE", 6: "ATOMIC"}
SILENT = ("never", "drop", "close")


# --- the controlling side ---


class PyServer:
    """The server as a child process. Keywords: key, max_value, max_key (bytes), page_records, page_bytes (where pages are
    cut; default 1000 and 1 MiB), disorder (requests that arrive together are served in reverse order)."""

    def __init__(self, **settings):
        self.key = settings.setdefault("key", "py-server+key/&=")
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
        )
        hello = self._process.stdout.readline()
        if not hello:
            self.close()
            raise RuntimeError("the Python server did not start; it needs the Debian package python3-websockets")
        self.port = json.loads(hello)["port"]
        self.url = f"http://127.0.0.1:{self.port}"

    def _do(self, name, **arguments):
        with self._lock:
            self._process.stdin.write(json.dumps({"do": name, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def set(self, key, value):
        """As another client does; a number stays a number."""
        self._do("set", key=key, value=value)

    def set_all(self, values):
        self._do("set_all", values=values)

    def delete(self, key):
        self._do("delete", key=key)

    def get(self, key):
        """The value, or None."""
        return self._do("get", key=key)

    def contents(self, prefix=""):
        return self._do("contents", prefix=prefix)

    def log(self):
        """The requests since the last clear_log(), in order of arrival: [(operation, key)]."""
        return [tuple(row) for row in self._do("log")]

    def clear_log(self):
        self._do("clear_log")

    def history(self, key):
        """Every value that the key had since the start, None for absent."""
        return self._do("history", key=key)

    def fault(self, **fault):
        return self._do("fault", fault=fault)

    def hits(self, fault):
        """How many requests the fault has met so far."""
        return self._do("hits", fault=fault)

    def release(self, fault):
        self._do("release", fault=fault)

    def clear_faults(self):
        """Also releases what is held."""
        self._do("clear_faults")

    def configure(self, **settings):
        """refuse (an HTTP status for every upgrade, or None), token_status (one for every token, or None), token_exp_s (tokens
        say that they expire after so many seconds, but do not), token_delay_s and upgrade_delay_s (before each answer to one who asks
        for a token, or comes with one), noise (texts sent unasked before each answer), page_records, page_bytes, max_value, max_key, disorder."""
        self._do("configure", settings=settings)

    def reset(self, **settings):
        """As a server that was started anew, on the same port: nothing stored, no connection, no fault."""
        self._do("reset", settings=settings)

    def connections(self):
        return self._do("connections")

    def tokens(self):
        """How many were given."""
        return self._do("tokens")

    def token_requests(self):
        """What was asked for, also where none was given."""
        return self._do("token_requests")

    def closes(self):
        """How connections ended, in order: the close code that the client sent, 1006 where there was none."""
        return self._do("closes")

    def drop_connections(self, *, tokens_only=False):
        self._do("drop_connections", tokens_only=tokens_only)

    def tell(self, text):
        """Sends a text frame to all that came with a token."""
        self._do("tell", text=text)

    def down(self):
        """Nobody listens any more, and every connection is dropped; the contents stay."""
        self._do("down")

    def up(self):
        """Listens again, on the same port."""
        self._do("up")

    def close(self):
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()


# --- the store ---


class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code
        self.text = text


def _number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _object(text):
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def merge(target, patch):
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


class Store:
    def __init__(self, settings):
        self.settings = settings
        self.values = {}
        self.order = []
        self.changes = {}
        self.watch = None
        self.last_ms = 0

    def put(self, key, value):
        """None removes."""
        if value is None:
            del self.values[key]
            del self.order[bisect.bisect_left(self.order, key)]
        else:
            if key not in self.values:
                bisect.insort(self.order, key)
            self.values[key] = value
        self.changes.setdefault(key, []).append(value)
        self.last_ms = max(self.last_ms + 1, int(time.time() * 1000))
        if self.watch is not None:
            self.watch(key, value, self.last_ms)

    def check_key(self, key):
        if not isinstance(key, str) or not key:
            raise Refused(400, "Key must be a non-empty string")
        if len(key.encode()) > self.settings["max_key"]:
            raise Refused(400, "Key is too long")

    def check_value(self, value):
        if not isinstance(value, str) or not value:
            raise Refused(400, "Value must be a non-empty string")
        if len(value.encode()) > self.settings["max_value"]:
            raise Refused(413, "Value is too large")

    def run(self, op, message):
        """The reply's members, or Refused."""
        self.check_key(message.get("key"))
        return getattr(self, op.lower())(message["key"], message)

    def get(self, key, _message):
        if key not in self.values:
            raise Refused(404, "Record not found")
        return {"key": key, "value": self.values[key]}

    def set(self, key, message):
        self.check_value(message.get("value"))
        self.put(key, message["value"])
        return {"success": True}

    def patch(self, key, message):
        text = message.get("value")
        self.check_value(text)
        old = self.values.get(key)
        if old is not None:
            old = old if isinstance(old, str) else json.dumps(old)
            before, change = _object(old), _object(text)
            if before is not None and change is not None:
                text = json.dumps(merge(before, change), separators=(",", ":"), ensure_ascii=False)
            else:
                text = old + text
            self.check_value(text)
        self.put(key, text)
        return {"success": True}

    def delete(self, key, _message):
        if key not in self.values:
            raise Refused(404, "Record not found")
        self.put(key, None)
        return {"success": True}

    def range(self, key, message):
        end = message.get("endKey")
        self.check_key(end)
        limit = message.get("limit", 100)
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= 1000:
            raise Refused(400, "Limit must be between 1 and 1000")
        records, size, truncated = [], 0, False
        for index in range(bisect.bisect_left(self.order, key), bisect.bisect_right(self.order, end)):
            name = self.order[index]
            value = self.values[name]
            size += len(name.encode()) + len(str(value).encode())
            full = len(records) >= min(limit, self.settings["page_records"])
            if records and (full or size > self.settings["page_bytes"]):
                truncated = True
                break
            records.append({"key": name, "value": value})
        return {"records": records, "count": len(records), "truncated": truncated}

    def atomic(self, key, message):
        increment = message.get("value")
        old = self.values.get(key, 0)
        if not _number(increment) or not _number(old):
            raise Refused(400, "Value is not a number")
        self.put(key, old + increment)
        return {"success": True, "key": key, "newValue": old + increment}


# --- the server ---


class Fault:
    def __init__(self, rule):
        self.rule = rule
        ops = rule.get("op")
        self.ops = [ops] if isinstance(ops, str) else ops
        self.seen = 0
        self.hits = 0
        self.released = asyncio.Event()

    def takes(self, op, key):
        rule = self.rule
        if self.ops is not None and op not in self.ops:
            return False
        if "key" in rule and key != rule["key"]:
            return False
        if "prefix" in rule and not (isinstance(key, str) and key.startswith(rule["prefix"])):
            return False
        self.seen += 1
        if self.seen <= rule.get("skip", 0):
            return False
        if rule.get("times") is not None and self.hits >= rule["times"]:
            return False
        self.hits += 1
        return True

    def applies(self):
        silent = any(name in self.rule for name in SILENT)
        return self.rule.get("apply", not silent) and "code" not in self.rule


def make_protocol(server):
    from websockets.exceptions import AbortHandshake
    from websockets.legacy.http import read_request
    from websockets.legacy.server import WebSocketServerProtocol

    class Protocol(WebSocketServerProtocol):
        """Also answers POST /token/websocket, which the library's own handshake refuses."""

        async def read_http_request(self):
            head = await self.reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST "):
                status, answer = await self.token_request(head)
                body = json.dumps(answer).encode()
                raise AbortHandshake(http.HTTPStatus(status), [("Content-Type", "application/json")], body)
            stream = asyncio.StreamReader()
            stream.feed_data(head)
            stream.feed_eof()
            self.path, self.request_headers = await read_request(stream)
            return self.path, self.request_headers

        async def token_request(self, head):
            line, *rows = head.decode("latin-1").split("\r\n")
            headers = {name.strip().lower(): value.strip() for name, _, value in (row.partition(":") for row in rows)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
            if line.split(" ")[1] != "/token/websocket":
                return 404, {"error": "Not found"}
            if headers.get("x-api-key") != server.settings["key"]:
                return 401, {"error": "Authentication failed"}
            request = _object(body)
            if request is None:
                return 400, {"error": "Invalid body"}
            server.token_requests.append(request)
            await server.pause(server.settings["token_delay_s"])
            if server.settings["token_status"] is not None:
                return server.settings["token_status"], {"error": "No token now"}
            return 200, {"token": server.new_token(request)}

        async def process_request(self, path, _headers):
            status = server.upgrade_status(path)
            if "token=" in path:
                await server.pause(server.settings["upgrade_delay_s"])
            if status is not None:
                return http.HTTPStatus(status), [], b""
            return None

    return Protocol


class Server:
    def __init__(self, settings):
        self.key = settings["key"]
        self.tasks = set()
        self.sockets = {}
        self.listener = None
        self.port = 0
        self.reset(settings)

    def reset(self, settings):
        self.drop()
        for task in self.tasks:
            task.cancel()
        self.settings = {
            "max_value": 3072,
            "max_key": 512,
            "page_records": 1000,
            "page_bytes": 1 << 20,
            "disorder": False,
            "refuse": None,
            "token_status": None,
            "token_exp_s": None,
            "token_delay_s": 0,
            "upgrade_delay_s": 0,
            "noise": [],
            **settings,
            "key": self.key,
        }
        self.store = Store(self.settings)
        self.store.watch = self.announce
        self.requests = []
        self.faults = {}
        self.tokens = {}
        self.token_requests = []
        self.closes = []
        self.waiting = []

    # connections

    def new_token(self, request):
        token = base64.urlsafe_b64encode(os.urandom(24)).decode()
        if self.settings["token_exp_s"] is not None:
            claims = json.dumps({"exp": time.time() + self.settings["token_exp_s"]}).encode()
            parts = (b'{"alg":"HS256","typ":"JWT"}', claims)
            token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "." + token
        self.tokens[token] = {
            "patterns": request.get("subscribePatterns") or [],
            "keys": request.get("subscribeKeys") or [],
            "access": request.get("accessPattern"),
        }
        return token

    def upgrade_status(self, path):
        if self.settings["refuse"] is not None:
            return self.settings["refuse"]
        url = urllib.parse.urlsplit(path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path != "/ws":
            return 404
        if "token" in query:
            return None if query["token"] in self.tokens else 403
        return None if query.get("apiKey") == self.settings["key"] else 401

    async def serve(self, websocket, path):
        from websockets.exceptions import ConnectionClosed

        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(path).query))
        self.sockets[websocket] = self.tokens.get(query.get("token"))
        try:
            async for text in websocket:
                self.receive(websocket, text)
        except ConnectionClosed:
            pass
        finally:
            del self.sockets[websocket]
            self.closes.append(websocket.close_code)

    def announce(self, key, value, timestamp):
        message = {"type": "notification", "key": key, "value": value, "timestamp": timestamp}
        text = json.dumps(message, ensure_ascii=False)
        for websocket, token in list(self.sockets.items()):
            if token is None:
                continue
            wanted = key in token["keys"] or any(fnmatch.fnmatchcase(key, p) for p in token["patterns"])
            if wanted:
                self.start(self.send(websocket, text))

    async def send(self, websocket, data):
        from websockets.exceptions import ConnectionClosed

        try:
            await websocket.send(data)
        except ConnectionClosed:
            pass

    def start(self, work):
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def pause(self, seconds):
        """Ended by the next reset: whoever listens no more waits for all handshakes."""
        await asyncio.wait([self.start(asyncio.sleep(seconds))])

    # requests

    def receive(self, websocket, text):
        if not self.settings["disorder"]:
            self.start(self.handle(websocket, text))
            return
        self.waiting.append((websocket, text))
        if len(self.waiting) == 1:
            asyncio.get_running_loop().call_later(0.002, self.serve_waiting)

    def serve_waiting(self):
        waiting, self.waiting = self.waiting, []
        for websocket, text in reversed(waiting):
            self.start(self.handle(websocket, text))

    async def handle(self, websocket, text):
        message = _object(text) if isinstance(text, str) else None
        if message is None:
            await self.send(websocket, json.dumps({"code": 400, "error": "Not a JSON object in a text frame"}))
            return
        op, key = OPS.get(message.get("op")), message.get("key")
        self.requests.append((op, key))
        fault = next((fault for fault in self.faults.values() if fault.takes(op, key)), None)
        rule = fault.rule if fault is not None else {}
        for name, value in rule.get("store", {}).items():
            self.store.put(name, value)
        if "delay" in rule:
            await asyncio.sleep(rule["delay"])
        if rule.get("hold") and not rule.get("apply_first"):
            await fault.released.wait()
        reply = {"messageId": message.get("messageId"), "code": 200, "success": True}
        if fault is None or fault.applies():
            reply = self.reply(websocket, op, message)
        if rule.get("hold") and rule.get("apply_first"):
            await fault.released.wait()
        await self.answer(websocket, message, reply, rule)

    def reply(self, websocket, op, message):
        number = message.get("messageId")
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            return {"code": 400, "error": "messageId must be a positive integer"}
        if op is None:
            return {"messageId": number, "code": 400, "error": "Unknown operation"}
        access = (self.sockets.get(websocket) or {}).get("access")
        if access is not None and not re.search(access, str(message.get("key"))):
            return {"messageId": number, "code": 403, "error": "Access denied"}
        try:
            return {"messageId": number, "code": 200, **self.store.run(op, message)}
        except Refused as refused:
            return {"messageId": number, "code": refused.code, "error": refused.text}

    async def answer(self, websocket, message, reply, rule):
        if rule.get("never"):
            return
        for text in self.settings["noise"]:
            await self.send(websocket, text)
        if rule.get("drop"):
            websocket.transport.abort()
            return
        if "close" in rule:
            await websocket.close(rule["close"])
            return
        if "code" in rule:
            reply = {"messageId": message.get("messageId"), "code": rule["code"], "error": rule.get("text", "")}
        reply.update(rule.get("fields", {}))
        for name in rule.get("remove", []):
            reply.pop(name, None)
        data = rule["raw"] if "raw" in rule else json.dumps(reply, ensure_ascii=False)
        if "huge" in rule:
            data = "x" * rule["huge"]
        if rule.get("partial"):
            half = data.encode()[: max(1, len(data) // 2)]
            websocket.transport.write(b"\x81\x7f" + (2 * len(half) + 1).to_bytes(8, "big") + half)
            websocket.transport.close()
            return
        await self.send(websocket, data.encode() if rule.get("binary") else data)

    # orders

    async def up(self):
        from websockets.legacy.server import serve

        self.listener = await serve(
            self.serve,
            "127.0.0.1",
            self.port,
            create_protocol=make_protocol(self),
            max_size=None,
            ping_interval=None,
            reuse_address=True,
        )
        self.port = self.listener.sockets[0].getsockname()[1]

    async def down(self):
        self.drop()
        if self.listener is not None:
            self.listener.close()
            await self.listener.wait_closed()
            self.listener = None

    def drop(self, tokens_only=False):
        for websocket, token in list(self.sockets.items()):
            if token is not None or not tokens_only:
                websocket.transport.abort()

    def tell(self, text):
        for websocket, token in list(self.sockets.items()):
            if token is not None:
                self.start(self.send(websocket, text))

    async def order(self, message):
        do = message["do"]
        store = self.store
        if do == "set":
            store.put(message["key"], message["value"])
        elif do == "set_all":
            for key, value in message["values"].items():
                store.put(key, value)
        elif do == "delete":
            store.put(message["key"], None)
        elif do == "get":
            return store.values.get(message["key"])
        elif do == "contents":
            return {key: value for key, value in store.values.items() if key.startswith(message["prefix"])}
        elif do == "history":
            return store.changes.get(message["key"], [])
        elif do == "log":
            return self.requests
        elif do == "clear_log":
            self.requests = []
        elif do == "tokens":
            return len(self.tokens)
        elif do == "token_requests":
            return self.token_requests
        elif do == "closes":
            return self.closes
        elif do == "connections":
            return len(self.sockets)
        elif do == "drop_connections":
            self.drop(message["tokens_only"])
        elif do == "tell":
            self.tell(message["text"])
        elif do == "reset":
            self.reset(message["settings"])
            if self.listener is None:
                await self.up()
        elif do == "configure":
            self.settings.update(message["settings"])
        elif do in ("up", "down"):
            await getattr(self, do)()
        else:
            return self.fault_order(do, message)
        return None

    def fault_order(self, do, message):
        if do == "fault":
            number = len(self.faults) + 1 if not self.faults else max(self.faults) + 1
            self.faults[number] = Fault(message["fault"])
            return number
        if do == "hits":
            return self.faults[message["fault"]].hits
        if do == "release":
            self.faults[message["fault"]].released.set()
        elif do == "clear_faults":
            for fault in self.faults.values():
                fault.released.set()
            self.faults = {}
        else:
            raise ValueError(f"unknown order {do}")
        return None


async def main(settings):
    server = Server(settings)
    await server.up()
    print(json.dumps({"port": server.port}), flush=True)
    reader = asyncio.StreamReader(limit=1 << 28)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        try:
            answer = {"result": await server.order(json.loads(line))}
        except Exception as error:  # told to the test, which fails with it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    server.drop()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
