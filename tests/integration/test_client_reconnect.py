"""libhpkv after a connection was lost: when it tries again, how often, what ends it, and what the program may do meanwhile."""

import errno
import os
import socket
import threading
import time

import pytest

from lib.client_driver import Driver
from lib.processes import wait_for
from lib.rawserver import RawServer, answer, answering, close_frame, drain, hang_up, read_frame, scripted, upgraded

DISCONNECTED, CONNECTING, CONNECTED, DISCONNECTING, RECONNECTING = range(5)
FOREVER = 2**32 - 1

QUICK = {
    "max_reconnect_attempts": 5,
    "reconnect_initial_delay_ms": 10,
    "reconnect_max_delay_ms": 40,
    "reconnect_jitter_ms": 2,
}
# An attempt that does not come by itself while the test runs.
WAITING = {**QUICK, "reconnect_initial_delay_ms": 3_600_000, "reconnect_max_delay_ms": 3_600_000}


def connected(server, **options):
    """A connected client of the server; close it."""
    client = Driver(server.url, **{"api_key": getattr(server, "key", "k"), **QUICK, **options})
    assert "err" not in client.connect()
    return client


def named(client, name):
    return [event for event in client.events if event["event"] == name]


# --- attempts and delays ---


def test_attempts_until_they_are_used_up(pyserver):
    with connected(pyserver) as client:
        pyserver.down()
        failed = client.wait("reconnect_failed")
        assert failed["err"] == -errno.ECONNREFUSED
        assert failed["state"] == "disconnected"
        attempts = named(client, "reconnecting")
        assert [event["attempt"] for event in attempts] == [1, 2, 3, 4, 5]
        assert {event["max_attempts"] for event in attempts} == {5}
        assert {event["state"] for event in attempts} == {"reconnecting"}
        for event, delay in zip(attempts, (10, 20, 40, 40, 40)):
            assert delay <= event["delay_ms"] <= delay + 2
        # each failure is told once, the last as the end
        assert [event["err"] for event in named(client, "error")] == [-errno.ECONNREFUSED] * 4
        assert client.count("connected") == client.count("disconnected") == 1
        assert client.state() == DISCONNECTED
        assert client.request("get", "a")["err"] == -errno.ENOTCONN
        assert client.connect()["err"] == -errno.ECONNREFUSED
        pyserver.up()
        assert "err" not in client.connect()
        assert client.count("reconnecting") == 5


def test_refused_some_times_then_accepted(pyserver):
    pyserver.set("a", "1")
    with connected(pyserver) as client:
        for cycle in range(1, 3):
            attempts = client.count("reconnecting")
            pyserver.down()
            client.wait("reconnecting", after=attempts + 2)
            pyserver.up()
            client.wait("connected", after=cycle)
            assert client.state() == CONNECTED
            assert client.request("get", "a")["value"] == "1"
            # a message came: the attempts are counted anew
            assert named(client, "reconnecting")[attempts]["attempt"] == 1
        assert client.count("connected") == 3
        assert client.count("disconnected") == 2
        assert client.count("reconnect_failed") == 0
        assert client.count("connect") == 1


def test_never(pyserver):
    with connected(pyserver, max_reconnect_attempts=0) as client:
        pyserver.drop_connections()
        lost = client.wait("disconnected")
        assert (lost["err"], lost["graceful"], lost["previous"]) == (-errno.ECONNRESET, False, "connected")
        assert lost["state"] == "disconnected"
        assert client.state() == DISCONNECTED
        assert client.request("get", "a")["err"] == -errno.ENOTCONN
        assert client.count("reconnecting") == client.count("reconnect_failed") == 0
        assert "err" not in client.connect()


def test_for_ever(pyserver):
    with connected(pyserver, max_reconnect_attempts=FOREVER, reconnect_max_delay_ms=15) as client:
        pyserver.down()
        event = client.wait("reconnecting", after=19)
        assert (event["attempt"], event["max_attempts"]) == (20, FOREVER)
        pyserver.up()
        client.wait("connected", after=1)
        assert client.count("reconnect_failed") == 0


def test_an_attempt_is_not_made_before_its_time():
    times = []

    def first(connection):
        times.append(time.monotonic())
        hang_up(connection)

    def second(connection):
        times.append(time.monotonic())
        upgraded(answer)(connection)

    with RawServer(scripted([upgraded(first), second])) as server:
        options = {"reconnect_initial_delay_ms": 700, "reconnect_max_delay_ms": 700, "reconnect_jitter_ms": 300}
        with connected(server, **options) as client:
            client.wait("connected", after=1)
            delay = client.wait("reconnecting")["delay_ms"]
            assert 700 <= delay <= 1000
            assert times[1] - times[0] >= delay / 1000 - 0.05


def test_jitter_differs(pyserver):
    with connected(pyserver, max_reconnect_attempts=12, reconnect_max_delay_ms=10, reconnect_jitter_ms=30) as client:
        pyserver.down()
        client.wait("reconnect_failed")
        delays = {event["delay_ms"] for event in named(client, "reconnecting")}
        assert len(delays) > 2
        assert all(10 <= delay <= 40 for delay in delays)


# --- connections that end ---


def test_dropped_right_after_the_upgrade():
    """Such a server serves nobody: the attempts do not begin anew with each connection."""
    options = {"max_reconnect_attempts": 3, "reconnect_max_delay_ms": 3_600_000}
    with RawServer(upgraded(hang_up)) as server, Driver(server.url, api_key="k", **{**QUICK, **options}) as client:
        assert "err" not in client.connect()
        assert client.wait("reconnect_failed")["err"] == -errno.ECONNRESET
        assert [event["attempt"] for event in named(client, "reconnecting")] == [1, 2, 3]
        assert client.count("connected") == client.count("disconnected") == 4
        assert [event["state"] for event in named(client, "disconnected")] == ["reconnecting"] * 3 + ["disconnected"]
        assert client.state() == DISCONNECTED
        assert server.accepted == 4


def test_a_connection_that_stood_counts():
    def stand(_connection):
        time.sleep(1)

    with RawServer(upgraded(stand)) as server:
        options = {"max_reconnect_attempts": 1, "reconnect_max_delay_ms": 5, "reconnect_initial_delay_ms": 5}
        with connected(server, **options) as client:
            client.wait("connected", after=3)
            assert {event["attempt"] for event in named(client, "reconnecting")} == {1}


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 4001])
def test_a_servers_close(code):
    with RawServer(scripted([upgraded(close_frame(code, b"because")), upgraded(answer)])) as server:
        with Driver(server.url, api_key="k", **QUICK) as client:
            assert "err" not in client.connect()
            client.wait("connected", after=1)
            lost = client.wait("disconnected")
            assert (lost["err"], lost["code"]) == (-errno.ECONNRESET, code)
            assert lost["graceful"] is False
            assert "because" in lost["text"]
            assert client.request("get", "a")["value"] == "v"
            assert client.count("disconnected") == 1


def test_a_close_without_a_code():
    def then(connection):
        connection.sendall(b"\x88\x00")
        drain(connection)

    with RawServer(scripted([upgraded(then), upgraded(answer)])) as server:
        with Driver(server.url, api_key="k", **QUICK) as client:
            assert "err" not in client.connect()
            client.wait("connected", after=1)
            assert client.wait("disconnected")["err"] == -errno.ECONNRESET


def test_a_reset():
    """What other clients call 1006: the end of the transport without a close."""

    def then(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()

    with RawServer(scripted([upgraded(then), upgraded(answer)])) as server:
        with Driver(server.url, api_key="k", **QUICK) as client:
            assert "err" not in client.connect()
            client.wait("connected", after=1)
            lost = client.wait("disconnected")
            assert (lost["err"], lost["code"]) == (-errno.ECONNRESET, 0)


# --- what a server says to an attempt ---


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_credential_ends_the_attempts(pyserver, status):
    with connected(pyserver, max_reconnect_attempts=FOREVER) as client:
        pyserver.configure(refuse=status)
        pyserver.drop_connections()
        failed = client.wait("reconnect_failed")
        assert (failed["err"], failed["code"]) == (-errno.EACCES, status)
        assert client.count("reconnecting") == 1
        assert client.count("error") == 0
        assert client.state() == DISCONNECTED
        pyserver.configure(refuse=None)
        assert "err" not in client.connect()


@pytest.mark.parametrize("status, err", [(429, errno.EAGAIN), (500, errno.EIO), (503, errno.EIO), (404, errno.EPROTO)])
def test_other_refusals_do_not(pyserver, status, err):
    with connected(pyserver, max_reconnect_attempts=FOREVER) as client:
        pyserver.configure(refuse=status)
        pyserver.drop_connections()
        client.wait("reconnecting", after=3)
        pyserver.configure(refuse=None)
        client.wait("connected", after=1)
        errors = named(client, "error")
        assert len(errors) >= 3
        assert {(event["err"], event["code"]) for event in errors} == {(-err, status)}


def test_an_attempt_that_hangs_in_the_upgrade():
    with RawServer(scripted([upgraded(hang_up), drain, upgraded(answer)])) as server:
        with Driver(server.url, api_key="k", connect_timeout_ms=500, **QUICK) as client:
            assert "err" not in client.connect()
            client.wait("connected", after=1)
            assert [event["err"] for event in named(client, "error")] == [-errno.ETIMEDOUT]
            assert [event["attempt"] for event in named(client, "reconnecting")] == [1, 2]
            assert server.accepted == 3


def test_garbage_instead_of_an_upgrade():
    with RawServer(scripted([upgraded(hang_up), answering(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), upgraded(answer)])) as server:
        with Driver(server.url, api_key="k", connect_timeout_ms=2000, **QUICK) as client:
            assert "err" not in client.connect()
            client.wait("connected", after=1)
            assert client.count("error") == 1


def test_another_address_of_the_same_name(tmp_path):
    """Each attempt looks anew where the server is."""
    path = tmp_path / "socket"
    path.symlink_to("one")
    with RawServer(scripted([upgraded(hang_up), drain]), family=socket.AF_UNIX, address=str(tmp_path / "one")):
        with RawServer(upgraded(answer), family=socket.AF_UNIX, address=str(tmp_path / "two")) as second:
            with Driver(f"unix:{path}", api_key="k", **QUICK) as client:
                assert second.accepted == 0
                (tmp_path / "link").symlink_to("two")
                assert "err" not in client.connect()
                os.rename(tmp_path / "link", path)
                client.wait("connected", after=1)
                assert client.request("get", "a")["value"] == "v"
                assert second.accepted == 1


def test_a_socket_whose_folder_is_gone(tmp_path):
    """Only the server's 404 makes a request say that its key is not there."""
    folder = tmp_path / "folder"
    folder.mkdir()
    lose = threading.Event()
    with RawServer(upgraded(lambda _connection: lose.wait(60)), family=socket.AF_UNIX, address=str(folder / "socket")):
        with Driver(f"unix:{folder}/socket", api_key="k", **QUICK) as client:
            assert "err" not in client.connect()
            folder.rename(tmp_path / "elsewhere")
            client.do("inside", "disconnected", [["get", "a"]])
            client.state()
            lose.set()
            client.started += 1
            assert client.reply(client.started)["err"] == -errno.ECONNREFUSED
            client.wait("reconnect_failed")


# --- dead peers ---


def test_a_peer_that_died_without_a_word_is_found_and_left():
    pings = []

    def silent(connection):
        while data := connection.recv(65536):
            pings.append(data[0])

    with RawServer(scripted([upgraded(silent), upgraded(answer)])) as server:
        with Driver(server.url, api_key="k", ping_after_s=1, dead_after_s=2, **QUICK) as client:
            assert "err" not in client.connect()
            client.wait("connected", after=1)
            assert client.wait("disconnected")["err"] == -errno.ECONNRESET
            assert pings and pings[0] == 0x89


def test_a_peer_that_is_busy_with_one_long_message_is_alive():
    piece = 70000

    def then(connection):
        assert read_frame(connection)[0] == 1
        text = b'{"messageId":1,"code":200,"value":"' + b"x" * (25 * piece) + b'"}'
        connection.sendall(b"\x81\x7f" + len(text).to_bytes(8, "big"))
        for byte in range(0, len(text), piece):
            connection.sendall(text[byte : byte + piece])
            time.sleep(0.3)
        drain(connection)

    with RawServer(upgraded(then)) as server:
        with Driver(server.url, api_key="k", ping_after_s=1, dead_after_s=4) as client:
            assert "err" not in client.connect()
            reply = client.request("get", "a", 60000)
            assert len(reply.get("value", "")) == 25 * piece
            assert client.count("disconnected") == 0


# --- connect ---


def test_connects_that_come_together_share_a_connection(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        client.do("inside", "connected", [["connect"]])
        for _ in range(3):
            client.do("connect")
        for n in range(4):
            assert "err" not in client.wait("connect", after=n)
        assert pyserver.connections() == 1
        assert client.count("connected") == 1
        assert "err" not in client.connect()
        assert client.count("connected") == 1


def test_connect_while_an_attempt_is_waited_for(pyserver):
    with connected(pyserver, **WAITING) as client:
        pyserver.drop_connections()
        assert client.wait("reconnecting")["delay_ms"] >= 3_600_000
        assert client.state() == RECONNECTING
        for _ in range(2):
            client.do("connect")
        for n in (1, 2):
            assert "err" not in client.wait("connect", after=n)
        assert client.count("connected") == 2
        assert client.count("reconnecting") == 1
        assert client.state() == CONNECTED


def test_connect_while_an_attempt_is_waited_for_and_fails(pyserver):
    with connected(pyserver, **WAITING) as client:
        pyserver.down()
        client.wait("reconnecting")
        for attempt in range(2, 6):
            assert client.connect()["err"] == -errno.ECONNREFUSED
            assert client.wait("reconnecting", after=attempt - 1)["attempt"] == attempt
            assert client.state() == RECONNECTING
        assert client.count("error") == 0  # the callers were told
        assert client.connect()["err"] == -errno.ECONNREFUSED
        client.wait("reconnect_failed")
        assert client.state() == DISCONNECTED


def test_connect_during_an_attempt():
    arrived = threading.Event()
    go_on = threading.Event()

    def slow(connection):
        arrived.set()
        assert go_on.wait(60)
        upgraded(answer)(connection)

    with RawServer(scripted([upgraded(hang_up), slow])) as server:
        with Driver(server.url, api_key="k", connect_timeout_ms=60000, **QUICK) as client:
            assert "err" not in client.connect()
            assert arrived.wait(60)
            client.do("connect")
            assert client.state() == RECONNECTING
            go_on.set()
            assert "err" not in client.wait("connect", after=1)
            assert server.accepted == 2
            assert client.count("connected") == 2


def test_nobody_waits_for_a_connect_that_fails(pyserver):
    pyserver.down()
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        client.do("connect_untold")
        assert client.wait("error")["err"] == -errno.ECONNREFUSED
        assert client.state() == DISCONNECTED
        assert client.connect()["err"] == -errno.ECONNREFUSED
        assert client.count("error") == 1


def test_a_first_connect_that_fails_is_not_repeated(pyserver):
    pyserver.down()
    with Driver(pyserver.url, api_key=pyserver.key, **QUICK) as client:
        client.do("together", [["connect"], ["get", "a"]])
        client.started += 1
        assert client.reply(1)["err"] == -errno.ECONNREFUSED
        assert client.wait("connect")["err"] == -errno.ECONNREFUSED
        assert client.state() == DISCONNECTED
        assert client.request("get", "a")["err"] == -errno.ENOTCONN
        assert client.count("reconnecting") == client.count("disconnected") == client.count("reconnect_failed") == 0


# --- disconnect ---


@pytest.mark.parametrize("cancel", [True, False])
def test_disconnect_while_an_attempt_is_waited_for(pyserver, cancel):
    with connected(pyserver, **WAITING) as client:
        pyserver.drop_connections()
        client.wait("reconnecting")
        number = client.start("get", "a", 60000)
        client.do("disconnect", cancel)
        client.wait("disconnect")
        assert client.reply(number)["err"] == -errno.ECANCELED
        assert client.state() == DISCONNECTED
        assert client.count("disconnected") == 1  # the loss; there was no other connection
        assert client.count("reconnect_failed") == 0
        assert client.request("get", "a")["err"] == -errno.ENOTCONN
        assert "err" not in client.connect()
        assert client.count("connected") == 2


@pytest.mark.parametrize("end", ["disconnect", "free"])
@pytest.mark.parametrize("first", [True, False], ids=["connecting", "reconnecting"])
def test_the_end_during_an_attempt(end, first):
    arrived = threading.Event()
    left = threading.Event()

    def hanging(connection):
        arrived.set()
        drain(connection)
        left.set()

    with RawServer(hanging if first else scripted([upgraded(hang_up), hanging])) as server:
        with Driver(server.url, api_key="k", connect_timeout_ms=3_600_000, **QUICK) as client:
            client.do("connect")
            assert arrived.wait(60)
            assert client.state() == (CONNECTING if first else RECONNECTING)
            client.do("connect")
            number = client.start("get", "a", 60000)
            client.do(end)
            assert client.reply(number)["err"] == -errno.ECANCELED
            assert client.wait("connect", after=0 if first else 1)["err"] == -errno.ECANCELED
            client.wait("freed" if end == "free" else "disconnect")
            assert left.wait(60)
            if end == "disconnect":
                assert client.state() == DISCONNECTED


def test_disconnect_where_there_is_nothing(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        for n, cancel in enumerate((True, False)):
            client.do("disconnect", cancel)
            client.wait("disconnect", after=n)
        assert client.state() == DISCONNECTED
        assert client.count("disconnected") == 0


def test_disconnect_waits_for_what_is_under_way(pyserver):
    pyserver.set("a", "1")
    fault = pyserver.fault(op="GET", hold=True)
    with connected(pyserver) as client:
        numbers = [client.start("get", "a", 60000) for _ in range(3)]
        client.do("disconnect", False)
        assert client.state() == DISCONNECTING
        assert client.request("get", "a")["err"] == -errno.ENOTCONN
        assert client.count("disconnect") == 0
        pyserver.release(fault)
        assert [client.reply(number)["value"] for number in numbers] == ["1"] * 3
        client.wait("disconnect")
        gone = client.wait("disconnected")
        assert "err" not in gone
        assert (gone["graceful"], gone["previous"], gone["state"]) == (True, "disconnecting", "disconnected")
        wait_for(lambda: pyserver.connections() == 0, "the connection's end at the server")
        assert client.count("reconnecting") == 0


def test_disconnect_waits_no_longer_than_the_requests(pyserver):
    pyserver.fault(op="GET", never=True)
    with connected(pyserver) as client:
        number = client.start("get", "a", 300)
        client.do("disconnect", False)
        client.wait("disconnect")
        assert client.reply(number)["err"] == -errno.ETIMEDOUT


def test_a_second_disconnect_cancels_what_the_first_waits_for(pyserver):
    pyserver.fault(op="GET", never=True)
    with connected(pyserver) as client:
        number = client.start("get", "a", 3_600_000)
        client.do("disconnect", False)
        client.do("disconnect", True)
        for n in (0, 1):
            client.wait("disconnect", after=n)
        assert client.reply(number)["err"] == -errno.ECANCELED
        assert client.count("disconnected") == 1


def test_lost_while_a_disconnect_waits(pyserver):
    pyserver.fault(op="ATOMIC", drop=True, delay=0.2)
    with connected(pyserver) as client:
        number = client.start("atomic", "n", "1", 60000)
        client.do("disconnect", False)
        lost = client.wait("disconnected")
        assert (lost["err"], lost["graceful"], lost["previous"]) == (-errno.ECONNRESET, False, "disconnecting")
        client.wait("disconnect")
        assert client.reply(number)["err"] == -errno.ECONNRESET
        assert client.state() == DISCONNECTED
        assert client.count("reconnecting") == 0


def test_connect_while_it_disconnects(pyserver):
    fault = pyserver.fault(op="GET", hold=True)
    pyserver.set("a", "1")
    with connected(pyserver) as client:
        number = client.start("get", "a", 60000)
        client.do("disconnect", False)
        client.do("connect")
        assert client.state() == DISCONNECTING
        pyserver.release(fault)
        assert client.reply(number)["value"] == "1"
        assert "err" not in client.wait("connect", after=1)
        client.wait("disconnect")
        order = [event["event"] for event in client.events if event["event"] in ("connected", "disconnected")]
        assert order == ["connected", "disconnected", "connected"]
        assert client.request("get", "a")["value"] == "1"


def test_connect_while_it_disconnects_and_disconnect_again(pyserver):
    with connected(pyserver) as client:
        client.do("inside", "disconnect", [["disconnect"]])
        client.do("together", [["disconnect"], ["connect"], ["disconnect"]])
        for n in range(3):
            client.wait("disconnect", after=n)
        assert client.wait("connect", after=1)["err"] == -errno.ECANCELED
        assert client.state() == DISCONNECTED
        assert client.count("connected") == 1


# --- requests meanwhile ---


def test_requests_wait_for_the_next_connection(pyserver):
    pyserver.set("a", "1")
    with connected(pyserver, max_reconnect_attempts=FOREVER) as client:
        pyserver.down()
        client.wait("reconnecting")
        numbers = [client.start("get", "a", 60000) for _ in range(5)]
        client.wait("reconnecting", after=2)
        pyserver.up()
        assert [client.reply(number).get("value") for number in numbers] == ["1"] * 5


def test_requests_end_with_the_attempts(pyserver):
    with connected(pyserver, **WAITING, operation_timeout_ms=3_600_000) as client:
        pyserver.configure(refuse=401)
        pyserver.drop_connections()
        client.wait("reconnecting")
        number = client.start("get", "a")
        client.do("connect")
        reply = client.reply(number)
        assert (reply["err"], reply["code"]) == (-errno.EACCES, 401)


# --- another token ---


def test_another_token_for_the_next_connection(pyserver):
    with Driver(pyserver.url, token_api_key=pyserver.key, token="no such token") as client:
        assert client.connect()["code"] == 403
        client.do("token", ["*"], None)
        token = client.wait("token")["token"]
        client.do("set_token", token)
        assert client.wait("set_token")["result"] == 0
        assert "err" not in client.connect()
        client.do("set_token", "")
        assert client.wait("set_token", after=1)["result"] == -errno.EINVAL


def test_a_client_with_a_key_takes_no_token(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        client.do("set_token", "token")
        assert client.wait("set_token")["result"] == -errno.EINVAL
