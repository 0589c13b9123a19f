"""Servers of a few lines, for what a proper server never does: scripts on accepted sockets, byte by byte.

    with RawServer(scripted([upgraded(close_frame(4001)), upgraded(answer)])) as server:
        ... server.port, server.accepted ...
"""

import base64
import hashlib
import json
import socket
import threading


class RawServer:
    """Hands every connection to `serve(socket)` on a thread of its own; address as socket.create_server takes it."""

    def __init__(self, serve, context=None, family=socket.AF_INET, address=("127.0.0.1", 0)):
        self.serve = serve
        self.context = context
        self.accepted = 0
        self.listener = socket.create_server(address, family=family) if family != socket.AF_UNIX else self._unix(address)
        self.port = self.listener.getsockname()[1] if family != socket.AF_UNIX else None
        self.url = f"http://127.0.0.1:{self.port}"
        self.threads = []
        self.sockets = []
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()

    @staticmethod
    def _unix(path):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        return listener

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            self.sockets.append(connection)
            thread = threading.Thread(target=self._run, args=(connection,))
            self.threads.append(thread)
            thread.start()

    def _run(self, connection):
        try:
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
            self.serve(connection)
        except OSError:
            pass
        finally:
            connection.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        for connection in self.sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()


# --- what is done with a connection ---


def scripted(serves):
    """The first connection gets the first of them, the second the second, and so on; those after the last get that."""
    left = list(serves)
    lock = threading.Lock()

    def serve(connection):
        with lock:
            mine = left.pop(0) if len(left) > 1 else left[0]
        mine(connection)

    return serve


def drain(connection):
    while connection.recv(65536):
        pass


def read_head(connection):
    request = b""
    while b"\r\n\r\n" not in request:
        data = connection.recv(65536)
        if not data:
            raise OSError("the client hung up")
        request += data
    return request


def answering(head):
    def serve(connection):
        read_head(connection)
        connection.sendall(head)
        drain(connection)

    return serve


def upgraded(then):
    """Answers the upgrade properly and goes on with then(connection)."""

    def serve(connection):
        rows = read_head(connection).split(b"\r\n")
        key = next(row.split(b": ")[1] for row in rows if row.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        then(connection)

    return serve


def hang_up(_connection):
    pass


def close_frame(code, reason=b""):
    def then(connection):
        payload = code.to_bytes(2, "big") + reason
        connection.sendall(bytes([0x88, len(payload)]) + payload)
        drain(connection)

    return then


def _exactly(connection, size):
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise OSError("the client hung up")
        data += more
    return data


def read_frame(connection):
    """The opcode and payload of one unfragmented frame of a client."""
    head = _exactly(connection, 2)
    size = head[1] & 0x7F
    if size >= 126:
        size = int.from_bytes(_exactly(connection, 2 if size == 126 else 8), "big")
    mask = _exactly(connection, 4)
    payload = _exactly(connection, size)
    return head[0] & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def answer(connection):
    """Answers every request with the value "v", pings with pongs, and a close with a close."""
    while True:
        opcode, payload = read_frame(connection)
        if opcode == 1:
            reply = {"messageId": json.loads(payload)["messageId"], "code": 200, "success": True, "value": "v"}
            opcode, payload = 1, json.dumps(reply).encode()
        elif opcode == 9:
            opcode = 10
        elif opcode == 10:
            continue
        connection.sendall(bytes([0x80 | opcode, len(payload)]) + payload)
        if opcode == 8:
            return
