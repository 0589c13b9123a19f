"""libhpkv's callbacks: what is told when, and that any of them may do anything, the end of the client included."""

import errno

import pytest

from lib.client_driver import Driver
from lib.rawserver import RawServer, answer, hang_up, scripted, upgraded

DISCONNECTED, CONNECTING, CONNECTED, DISCONNECTING, RECONNECTING = range(5)

QUICK = {
    "max_reconnect_attempts": 3,
    "reconnect_initial_delay_ms": 10,
    "reconnect_max_delay_ms": 20,
    "reconnect_jitter_ms": 0,
}
KIND_PROTOCOL = 5


def names(client, *wanted):
    return [event["event"] for event in client.events if event["event"] in wanted]


def listeners(client):
    return [event["n"] for event in client.events if event["event"] == "listener"]


def subscriber(server, **options):
    """A connected client that is told of every change."""
    with Driver(server.url, api_key=server.key) as client:
        client.do("token", ["*"], None)
        token = client.wait("token")["token"]
    client = Driver(server.url, token=token, **{**QUICK, **options})
    assert "err" not in client.connect()
    return client


# --- what is told ---


def test_a_connection_from_its_begin_to_its_end(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key, **QUICK) as client:
        assert "err" not in client.connect()
        assert client.wait("connected")["state"] == "connected"
        client.do("disconnect")
        client.wait("disconnect")
        gone = client.wait("disconnected")
        assert "err" not in gone
        assert (gone["graceful"], gone["previous"], gone["state"]) == (True, "disconnecting", "disconnected")
        assert names(client, "connected", "connect", "disconnected", "disconnect", "error") == [
            "connected",
            "connect",
            "disconnected",
            "disconnect",
        ]


def test_each_connection_once(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key, **QUICK) as client:
        assert "err" not in client.connect()
        for n in range(1, 4):
            pyserver.drop_connections()
            client.wait("connected", after=n)
            assert "err" not in client.request("set", "a", "1")
        client.do("disconnect")
        client.wait("disconnect")
        story = names(client, "connected", "reconnecting", "disconnected", "reconnect_failed")
        assert story == ["connected"] + ["disconnected", "reconnecting", "connected"] * 3 + ["disconnected"]


def test_a_client_that_is_freed_tells_no_more(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key, **QUICK) as client:
        assert "err" not in client.connect()
        client.do("connect")
        client.do("free")
        client.wait("freed")
        assert client.count("disconnected") == 0
    assert client.events[-1]["event"] == "freed"
    assert client.count("connect") == 2


# --- several listeners ---


@pytest.mark.parametrize("message", ["nonsense", "[]", '{"type":"notification"}', '{"messageId":999,"code":01}'])
def test_a_message_that_makes_no_sense(pyserver, message):
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        client.connect()
        # nor is what only comes too late, or says nothing to this client
        pyserver.configure(noise=[message, '{"messageId":999,"code":200}', '{"type":"hello"}'])
        assert client.request("get", "a")["err"] == -errno.ENOENT
        told = client.wait("error")
        assert (told["err"], told["kind"]) == (-errno.EPROTO, KIND_PROTOCOL)
        assert client.count("error") == 1
        assert client.state() == 2


def test_freed_inside_the_event_of_a_message_that_makes_no_sense(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        client.connect()
        pyserver.configure(noise=["nonsense"])
        client.do("inside", "error", [["free"]])
        assert client.request("get", "a")["err"] == -errno.ECANCELED
        client.wait("freed")


def test_several_in_order_of_their_adding(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        for n in (3, 1, 2):
            client.do("on", "connected", n)
        client.do("on", "disconnected", 9)
        assert "err" not in client.connect()
        assert listeners(client) == [3, 1, 2]
        client.do("disconnect")
        client.wait("disconnect")
        assert listeners(client) == [3, 1, 2, 9]


def test_removed_and_added_while_they_are_called(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        for n in (1, 2, 3, 4):
            client.do("on", "connected", n)
        client.do("inside", "listener 2", [["off", 1], ["off", 2], ["off", 3], ["on", "connected", 5], ["off", 77]])
        assert "err" not in client.connect()
        assert listeners(client) == [1, 2, 4]
        client.do("disconnect")
        client.wait("disconnect")
        assert "err" not in client.connect()
        assert listeners(client) == [1, 2, 4, 4, 5]


def test_the_client_is_freed_by_one_of_several(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        for n in (1, 2, 3):
            client.do("on", "connected", n)
        client.do("inside", "listener 2", [["free"]])
        client.do("connect")
        assert client.wait("connect")["err"] == -errno.ECANCELED
        client.wait("freed")
    assert listeners(client) == [1, 2]


def test_several_subscribers(pyserver):
    with subscriber(pyserver) as client:
        for n in (1, 2, 3):
            client.do("on", "notification", n)
        client.state()
        pyserver.set("a", "1")
        client.wait("listener", after=2)
        assert listeners(client) == [1, 2, 3]
        client.do("inside", "listener 1", [["unsubscribe", 2], ["on", "notification", 4]])
        client.state()
        pyserver.set("a", "2")
        pyserver.set("a", "3")
        client.wait("listener", after=7)
        assert listeners(client) == [1, 2, 3, 1, 3, 1, 3, 4]
        assert [event["value"] for event in client.events if event["event"] == "notification"] == ["1", "2", "3"]


def test_a_client_freed_by_one_of_several_subscribers(pyserver):
    with subscriber(pyserver) as client:
        for n in (1, 2, 3):
            client.do("on", "notification", n)
        client.do("inside", "listener 2", [["free"]])
        client.state()
        pyserver.set_all({f"k{i}": "v" for i in range(50)})
        client.wait("freed")
    assert listeners(client) == [1, 2]
    assert client.count("notification") == 1


# --- any call inside any callback ---


def lose(client, server):
    assert "err" not in client.connect()
    server.drop_connections()


def lose_for_ever(client, server):
    assert "err" not in client.connect()
    server.down()


def fail(client, server):
    server.down()
    client.do("connect_untold")


def connect(client, _server):
    client.do("connect")


def request(client, _server):
    client.do("connect")
    client.start("set", "a", "1")


def leave(client, _server):
    assert "err" not in client.connect()
    client.do("disconnect")


def leave_gently(client, _server):
    assert "err" not in client.connect()
    client.start("set", "a", "1")
    client.do("disconnect", False)


def change(client, server):
    assert "err" not in client.connect()
    server.set("a", "1")


# A callback, and what brings it about.
CALLBACKS = [
    ("connected", connect),
    ("connect", connect),
    ("reply", request),
    ("disconnected", leave),
    ("disconnected", leave_gently),
    ("disconnect", leave),
    ("disconnect", leave_gently),
    ("disconnected", lose),
    ("reconnecting", lose),
    ("error", lose_for_ever),
    ("reconnect_failed", lose_for_ever),
    ("error", fail),
    ("notification", change),
]

every_callback = pytest.mark.parametrize("callback, bring", CALLBACKS, ids=[f"{name}-{fn.__name__}" for name, fn in CALLBACKS])


@pytest.fixture
def client(pyserver):
    with subscriber(pyserver) as client:
        client.do("disconnect")
        client.wait("disconnect")
        del client.events[:]
        yield client


@every_callback
def test_freed_inside(client, pyserver, callback, bring):
    client.do("inside", callback, [["free"]])
    bring(client, pyserver)
    client.wait("freed")
    before = len(client.events)
    client.close()
    assert len(client.events) == before
    assert client.events[-1]["event"] == "freed"
    assert client.count("connect") <= 2


@every_callback
@pytest.mark.parametrize("cancel", [True, False], ids=["cancel", "gently"])
def test_disconnected_inside(client, pyserver, callback, bring, cancel):
    client.do("inside", callback, [["disconnect", cancel], ["get", "a"]])
    bring(client, pyserver)
    assert client.wait("refused")["err"] == -errno.ENOTCONN
    client.started += 1
    client.wait("disconnect", after=1 if bring in (leave, leave_gently) else 0)
    assert client.state() == DISCONNECTED
    assert client.count("connected") == client.count("disconnected")
    pyserver.up() if bring in (lose_for_ever, fail) else None
    assert "err" not in client.connect()
    assert "err" not in client.request("set", "b", "1")


@every_callback
def test_connected_inside(client, pyserver, callback, bring):
    client.do("inside", callback, [["connect"], ["set", "c", "1", 60000]])
    connects = 1 if bring in (connect, request, leave, leave_gently, lose, lose_for_ever, change) else 0
    bring(client, pyserver)
    if bring in (lose_for_ever, fail):
        client.wait(callback)
        pyserver.up()
        client.wait("connect", after=connects)
        if client.state() != CONNECTED:
            assert "err" not in client.connect()
        return
    assert "err" not in client.wait("connect", after=connects)
    assert client.state() == CONNECTED
    client.started += 1
    assert "err" not in client.reply(client.started)


@every_callback
def test_disconnected_and_connected_inside(client, pyserver, callback, bring):
    client.do("inside", callback, [["disconnect"], ["connect"], ["disconnect", False], ["connect"], ["state"]])
    bring(client, pyserver)
    client.wait("state")
    pyserver.up() if bring in (lose_for_ever, fail) else None
    own = 1 if bring in (leave, leave_gently) else 0
    for n in range(2):
        client.wait("disconnect", after=own + n)
    first = 0 if bring is fail else 1
    assert client.wait("connect", after=first)["err"] == -errno.ECANCELED
    client.wait("connect", after=first + 1)
    if client.state() != CONNECTED:
        assert bring in (lose_for_ever, fail)
        assert "err" not in client.connect()
    assert "err" not in client.request("set", "b", "1")
    assert client.count("connected") == client.count("disconnected") + 1


@every_callback
def test_connected_and_freed_inside(client, pyserver, callback, bring):
    client.do("inside", callback, [["connect"], ["disconnect"], ["connect"], ["get", "a"], ["free"]])
    bring(client, pyserver)
    client.wait("freed")
    asked = [event for event in client.events if event["event"] == "connect"]
    assert [event["err"] for event in asked[-2:]] == [-errno.ECANCELED] * 2
    replies = [event for event in client.events if event["event"] == "reply"]
    assert replies[-1]["err"] == -errno.ECANCELED


# --- freed while a connection is in the middle of something ---


def test_freed_inside_the_callbacks_that_freeing_makes(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        assert "err" not in client.connect()
        pyserver.fault(op="GET", never=True)
        for _ in range(5):
            client.start("get", "a", 60000)
        client.do("inside", "reply", [["free"]])
        client.do("free")
        client.wait("freed", after=1)
        assert client.count("reply") == 5


def test_lost_and_freed_again_and_again():
    """A server that drops every connection; each client ends at another moment."""
    with RawServer(upgraded(hang_up)) as server:
        for name in ("connected", "connect", "disconnected", "reconnecting", "reconnect_failed"):
            for after in range(3 if name not in ("connect", "reconnect_failed") else 1):
                with Driver(server.url, api_key="k", **QUICK) as client:
                    client.do("connect")
                    client.wait(name, after=after)
                    client.do("free")
                    client.wait("freed")


def test_a_reconnect_begun_inside_disconnected_is_announced_once():
    with RawServer(scripted([upgraded(hang_up), upgraded(answer)])) as server:
        options = {**QUICK, "reconnect_initial_delay_ms": 3_600_000, "reconnect_max_delay_ms": 3_600_000}
        with Driver(server.url, api_key="k", **options) as client:
            client.do("inside", "disconnected", [["connect"]])
            assert "err" not in client.connect()
            assert "err" not in client.wait("connect", after=1)
            announced = client.wait("reconnecting")
            assert (announced["attempt"], announced["delay_ms"]) == (1, 0)
            assert client.count("reconnecting") == 1
            assert client.count("connected") == 2
