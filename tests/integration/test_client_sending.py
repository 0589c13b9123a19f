"""What libhpkv sends to a server that takes its time: whole frames in order, whatever their sizes, and pongs between them."""

import json
import threading

from lib.client_driver import Driver
from lib.rawserver import RawServer, drain, read_frame, upgraded

# The lengths at which a frame's head changes, and ones that no socket takes in one go.
SIZES = (1, 80, 125, 126, 3000, 65000, 65535, 65536, 200000)
ROUNDS = 20
PINGS = 5


def value(number):
    return (f"{number}:" + "0123456789 abcdef" * 20000)[: SIZES[number % len(SIZES)]]


class SlowReader:
    """Reads nothing until it is told to; its pings are to be answered behind what already waits."""

    def __init__(self, count):
        self.count = count
        self.go = threading.Event()
        self.values, self.opcodes = [], []

    def serve(self, connection):
        for number in range(PINGS):
            connection.sendall(bytes([0x89, 1, number]))
        self.go.wait(60)
        while len(self.values) < self.count:
            opcode, payload = read_frame(connection)
            self.opcodes.append(opcode)
            if opcode != 1:
                continue
            request = json.loads(payload)
            self.values.append(request["value"])
            reply = json.dumps({"messageId": request["messageId"], "code": 200, "success": True}).encode()
            connection.sendall(bytes([0x81, len(reply)]) + reply)
        drain(connection)


def test_a_server_that_reads_late():
    count = ROUNDS * len(SIZES)
    reader = SlowReader(count)
    with RawServer(upgraded(reader.serve)) as server, Driver(server.url, api_key="k", operation_timeout_ms=60000) as driver:
        assert "err" not in driver.connect()
        numbers = [driver.start("set", f"key {number}", value(number), 0) for number in range(count)]
        # all of them have been made
        driver.state()
        reader.go.set()
        assert [driver.reply(number).get("err") for number in numbers] == [None] * count
        assert reader.values == [value(number) for number in range(count)]
        # 10: a pong; one for the last of several pings is enough
        assert set(reader.opcodes) == {1, 10}


def test_many_small_requests_at_once(hpkvd):
    with Driver(hpkvd.url, api_key=hpkvd.key) as driver:
        assert "err" not in driver.connect()
        numbers = [driver.start("set", f"key {number:04}", f"value {number}", 0) for number in range(3000)]
        assert [driver.reply(number).get("err") for number in numbers] == [None] * 3000
        page = driver.request("range", "key 0000", "key 2999", 1000, 0)
        assert page["records"] == [[f"key {number:04}", f"value {number}", False] for number in range(1000)]
