"""A TCP proxy that does to the bytes between a client and a server whatever a test wants: cuts, stalls, flips, crumbs."""

import random
import socket
import struct
import threading


class Cut(Exception):
    """Ends the connection on both sides, after what was passed on; `reset` as a crashed peer's kernel does it."""

    def __init__(self, reset=False):
        super().__init__()
        self.reset = reset


class Fault:
    """What happens to the bytes of one direction: pieces(offset, data) answers the pieces to be sent, one at a time. May
    raise Cut, after whose `passed` bytes the connection ends."""

    def pieces(self, _offset, data):
        return [data]


class Crumbs(Fault):
    """Pieces of `size` bytes, each in a segment of its own."""

    def __init__(self, size=1):
        self.size = size

    def pieces(self, _offset, data):
        return [data[at : at + self.size] for at in range(0, len(data), self.size)]


class CutAfter(Fault):
    """The connection ends after `count` bytes."""

    def __init__(self, count, reset=False):
        self.count = count
        self.reset = reset

    def pieces(self, offset, data):
        if offset + len(data) >= self.count:
            return [data[: max(0, self.count - offset)], Cut(self.reset)]
        return [data]


class StallAfter(Fault):
    """Nothing comes through after `count` bytes, and nobody is told."""

    def __init__(self, count):
        self.count = count

    def pieces(self, offset, data):
        return [data[: max(0, self.count - offset)]]


class Valve(Fault):
    """Nothing comes through while it is closed, and nobody is told."""

    def __init__(self):
        self.closed = False

    def pieces(self, _offset, data):
        return [] if self.closed else [data]


class Dam(Fault):
    """Holds back what comes while it is closed; with `cut`, the connection ends when it is opened."""

    def __init__(self, cut=False):
        self.cut = cut
        self.opened = threading.Event()
        self.opened.set()

    def pieces(self, _offset, data):
        if self.opened.is_set():
            return [data]
        self.opened.wait()
        return [Cut()] if self.cut else [data]


class FlipAt(Fault):
    """One bit of the byte at `at` is another."""

    def __init__(self, at, bit=0):
        self.at = at
        self.bit = bit

    def pieces(self, offset, data):
        if offset <= self.at < offset + len(data):
            changed = bytearray(data)
            changed[self.at - offset] ^= 1 << self.bit
            return [bytes(changed)]
        return [data]


class GarbageAt(Fault):
    """`count` random bytes stand before the byte at `at`; the same ones each time."""

    def __init__(self, at, count=16):
        self.at = at
        self.garbage = random.Random(at).randbytes(count)

    def pieces(self, offset, data):
        if offset <= self.at < offset + len(data):
            return [data[: self.at - offset] + self.garbage + data[self.at - offset :]]
        return [data]


def _end(side, reset):
    """The other thread's recv must return: shutting the reading half down wakes it and tells the peer nothing."""
    try:
        if reset:
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            side.shutdown(socket.SHUT_RD)
            side.close()
        else:
            side.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class Proxy:
    """Listens on a port of its own. to_client and to_server are the faults of connections made from then on. `passed` has the
    bytes that came through so far, by direction, of the last connection."""

    def __init__(self, url):
        host, _, port = url.removeprefix("http://").rpartition(":")
        self.target = (host, int(port))
        self.to_client = Fault()
        self.to_server = Fault()
        self.accepted = 0
        self.passed = {"client": 0, "server": 0}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.sockets = []
        self.threads = []
        self.acceptor = threading.Thread(target=self._accept)
        self.acceptor.start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.target)
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            self.passed = {"client": 0, "server": 0}
            ending = {"reset": False}
            self.sockets += [client, server]
            for source, sink, fault, name in (
                (server, client, self.to_client, "client"),
                (client, server, self.to_server, "server"),
            ):
                thread = threading.Thread(target=self._pump, args=(source, sink, fault, name, ending, self.passed))
                self.threads.append(thread)
                thread.start()

    def _pump(self, source, sink, fault, name, ending, passed):
        offset = 0
        try:
            while data := source.recv(65536):
                for piece in fault.pieces(offset, data):
                    if isinstance(piece, Cut):
                        raise piece
                    sink.sendall(piece)
                    passed[name] += len(piece)
                offset += len(data)
        except Cut as cut:
            ending["reset"] = cut.reset
        except OSError:
            pass
        for side in (source, sink):
            _end(side, ending["reset"])

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.acceptor.join()
        self.listener.close()
        for side in self.sockets:
            _end(side, False)
        for thread in self.threads:
            thread.join()
        for side in self.sockets:
            side.close()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()
