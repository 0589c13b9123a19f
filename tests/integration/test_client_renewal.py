"""What a client's former connection alone can tell, while another takes over from it: it is told, or the connection counts as lost."""

import contextlib
import errno
import threading
import time

import pytest

from lib.client_driver import Driver
from lib.processes import wait_for
from lib.proxy import Dam, Fault, GarbageAt, Proxy
from lib.pyserver import PyServer
from lib.rawserver import RawServer, answer, drain, read_head, scripted, upgraded
from lib.renewal import changes, connections, gave_way, told

# Nothing of these tests is to be over before its time. In seconds and milliseconds.
PATIENT = {"ping_after_s": 1000, "dead_after_s": 2000, "operation_timeout_ms": 600000}
AGAIN = {"reconnect_initial_delay_ms": 20, "reconnect_jitter_ms": 0}

# So long a former connection could be thought to have nothing more to say.
QUIET_S = 2

CONNECTION = 3  # enum hpkv_error_kind


@pytest.fixture
def pyserver():
    with PyServer() as server:
        yield server


@contextlib.contextmanager
def behind_a_dam(server, given, *, cut=False, **options):
    """A client whose first connection leads through a dam, and the dam. The next will not."""
    with Proxy(server.url) as proxy:
        proxy.to_client = dam = Dam(cut)
        try:
            with Driver(proxy.url, token=given("a", "k*"), **PATIENT, **AGAIN, **options) as client:
                assert "err" not in client.connect()
                proxy.to_client = Fault()
                yield client, dam
        finally:
            dam.opened.set()


def take_over(server, given, client, dam):
    """A second connection takes over while a change is on its way on the first."""
    dam.opened.clear()
    server.set("a", "1")
    client.do("set_token", given("a", "k*"))
    changes(client, 1)
    assert told(client, "a") == []


def connected_again(server, client):
    assert client.wait("disconnected")["err"] == -errno.ECONNRESET
    client.wait("connected", after=1)
    server.set("k", "later")
    client.wait_for(lambda event: event.get("key") == "k" and event.get("value") == "later", "a change after that")
    assert (client.count("disconnected"), client.count("error")) == (1, 0)


# --- all is told ---


def test_what_is_still_on_its_way_on_the_former(pyserver, given):
    with behind_a_dam(pyserver, given) as (client, dam):
        take_over(pyserver, given, client, dam)
        time.sleep(QUIET_S)
        assert pyserver.closes() == []
        dam.opened.set()
        assert client.wait("notification")["value"] == "1"
        pyserver.set("a", "2")
        client.wait("notification", after=1)
        gave_way(client, pyserver)
        assert told(client, "a") == ["1", "2"]


def test_the_next_token_waits_for_that(pyserver, given):
    with behind_a_dam(pyserver, given) as (client, dam):
        take_over(pyserver, given, client, dam)
        client.do("set_token", given("b"))
        time.sleep(QUIET_S)
        assert connections(client) == 2
        dam.opened.set()
        assert client.wait("notification")["value"] == "1"
        changes(client, 2)
        gave_way(client, pyserver, closes=2)
        pyserver.set("b", "1")
        client.wait("notification", after=1)
        assert (told(client, "a"), told(client, "b")) == (["1"], ["1"])


# --- or it is a loss ---


def test_the_former_ends_before_all_has_come(pyserver, given):
    with behind_a_dam(pyserver, given, cut=True, max_reconnect_attempts=1000) as (client, dam):
        take_over(pyserver, given, client, dam)
        dam.opened.set()
        connected_again(pyserver, client)
        assert told(client, "a") == []


def test_whoever_listens_to_nothing_loses_nothing(pyserver, given):
    with behind_a_dam(pyserver, given, cut=True, deaf=True) as (client, dam):
        take_over(pyserver, given, client, dam)
        before = len(pyserver.closes())
        dam.opened.set()
        wait_for(lambda: len(pyserver.closes()) > before, "the former connection's end")
        assert client.request("get", "a")["value"] == "1"
        assert (client.count("connected"), client.count("disconnected")) == (1, 0)


def test_the_second_brings_more_than_can_be_kept(pyserver, given):
    with behind_a_dam(pyserver, given, max_reconnect_attempts=1000) as (client, dam):
        take_over(pyserver, given, client, dam)
        value = "v" * 3000
        pyserver.set_all({f"k{number}": value for number in range(6000)})
        client.wait("disconnected")
        dam.opened.set()
        connected_again(pyserver, client)


# --- what goes wrong beside it ---


def test_a_renewal_that_is_answered_with_nonsense(pyserver):
    """On the connection itself nothing was misread."""
    with Proxy(pyserver.url) as proxy:
        settings = {"api_key": pyserver.key, "subscribe_patterns": ["a"]}
        with Driver(proxy.url, tokens=settings, token_lifetime_ms=500, **AGAIN) as client:
            assert "err" not in client.connect()
            proxy.to_client = GarbageAt(0)
            event = client.wait("error")
            assert (event["err"], event["kind"]) == (-errno.EPROTO, CONNECTION)
            pyserver.set("a", "1")
            assert client.wait("notification")["value"] == "1"
            proxy.to_client = Fault()
            changes(client, 1)
            assert (client.count("connected"), client.count("disconnected")) == (1, 0)


def test_another_token_while_the_former_is_refused():
    """The attempt to reconnect was made with a token that had expired; there is another by now."""
    asked, go = threading.Event(), threading.Event()

    def refuse(connection):
        read_head(connection)
        asked.set()
        go.wait()
        connection.sendall(b"HTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n")
        drain(connection)

    scripts = [upgraded(lambda connection: None), refuse, upgraded(answer)]
    with RawServer(scripted(scripts)) as server:
        try:
            with Driver(server.url, token="old", max_reconnect_attempts=5, **AGAIN) as client:
                client.connect()
                asked.wait()
                client.do("set_token", "new")
                assert client.wait("set_token")["result"] == 0
                go.set()
                client.wait("connected", after=1)
                assert client.request("get", "a")["value"] == "v"
                assert client.count("reconnect_failed") == 0
        finally:
            go.set()


def test_disconnected_gently_while_a_token_is_asked_for(pyserver):
    """The request that the former connection is kept for is waited for."""
    held = pyserver.fault(op="PATCH", key="a", hold=True)
    settings = {"api_key": pyserver.key}
    with Driver(pyserver.url, tokens=settings, token_lifetime_ms=1500, **PATIENT) as client:
        assert "err" not in client.connect()
        number = client.start("patch", "a", "x")
        wait_for(lambda: pyserver.hits(held) == 1, "the request")
        pyserver.configure(token_delay_s=3)
        wait_for(lambda: len(pyserver.token_requests()) == 3, "the token after the next")
        client.do("disconnect", False)
        assert client.state() == 3
        wait_for(lambda: pyserver.tokens() == 3, "the answer that is too late")
        time.sleep(QUIET_S)
        pyserver.release(held)
        assert "err" not in client.reply(number)
        client.wait("disconnect")
