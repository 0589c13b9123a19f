"""Clients that get their tokens themselves, and the change-over from one connection to the next: nobody notices."""

import errno
import threading
import time

import pytest

from lib.client_driver import Driver
from lib.hpkvd import Hpkvd
from lib.processes import wait_for
from lib.pyserver import PyServer
from lib.rawserver import RawServer, answering, close_frame, drain, read_head, upgraded
from lib.renewal import changes, connections, gave_way, told
from lib.wsclient import Client

LONG = 600000  # ms


@pytest.fixture
def pyserver():
    with PyServer() as server:
        yield server


def tokens(server, *patterns, **more):
    return {"api_key": server.key, "subscribe_patterns": list(patterns), **more}


class Writer:
    """Changes keys without pause, on a thread of its own."""

    KEYS = ("w:0", "w:1", "w:2")

    def __init__(self, server):
        self.server = server
        self.written = {key: [] for key in self.KEYS}
        self.stop = threading.Event()
        self.error = None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            with Client(self.server.url, self.server.key) as client:
                n = 0
                while not self.stop.is_set():
                    n += 1
                    for key in self.KEYS:
                        client.set(key, str(n))
                        self.written[key].append(str(n))
                    if n % 7 == 0:
                        client.delete("w:1")
                        self.written["w:1"].append(None)
        except Exception as error:  # shown by the test
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_error):
        self.stop.set()
        self.thread.join()


def each_once_and_in_order(client, writer):
    writer.stop.set()
    writer.thread.join()
    assert writer.error is None
    for key, written in writer.written.items():
        wait_for(lambda key=key, written=written: len(told(client, key)) >= len(written), f"all of {key}")
        assert told(client, key) == written
    assert client.count("connected") == 1
    assert client.count("disconnected") == 0
    assert client.count("error") == 0


# --- notifications ---


def test_a_subscriber_hears_everything_once(tmp_path):
    with Hpkvd(tmp_path / "store") as server:
        with Driver(server.url, tokens=tokens(server, "w:*"), token_lifetime_ms=700) as client:
            assert "err" not in client.connect()
            with Writer(server) as writer:
                changes(client, 5)
                each_once_and_in_order(client, writer)


def test_a_subscriber_hears_everything_once_from_another_server(pyserver):
    with Driver(pyserver.url, tokens=tokens(pyserver, "w:*"), token_lifetime_ms=700) as client:
        assert "err" not in client.connect()
        with Writer(pyserver) as writer:
            changes(client, 5)
            each_once_and_in_order(client, writer)
        assert set(pyserver.closes()) <= {1000}


def test_a_token_says_when_it_expires(tmp_path):
    """hpkvd ends connections whose token has expired; the client is gone from there before."""
    with Hpkvd(tmp_path / "store", ["--token-ttl", "10"]) as server:
        with Driver(server.url, tokens=tokens(server, "w:*")) as client:
            assert "err" not in client.connect()
            began = time.monotonic()
            with Writer(server) as writer:
                wait_for(lambda: time.monotonic() - began > 12, "the first token's end")
                each_once_and_in_order(client, writer)
            assert connections(client) >= 2


def test_equal_notifications_are_told_as_often_as_they_came(pyserver):
    """The same value again is another change."""
    with Driver(pyserver.url, tokens=tokens(pyserver, "a"), token_lifetime_ms=600) as client:
        assert "err" not in client.connect()
        sent = 0
        while connections(client) < 4:
            pyserver.set("a", "same")
            pyserver.set("a", "same")
            sent += 2
        wait_for(lambda: len(told(client, "a")) >= sent, "all of them")
        client.request("get", "a")
        assert told(client, "a") == ["same"] * sent


def test_a_life_of_a_millisecond_is_not_taken_at_its_word(pyserver):
    with Driver(pyserver.url, tokens=tokens(pyserver, "a"), token_lifetime_ms=1) as client:
        assert "err" not in client.connect()
        began = time.monotonic()
        changes(client, 4)
        assert time.monotonic() - began >= 4 * 0.5


def test_an_idle_subscriber_changes_over_too(pyserver):
    with Driver(pyserver.url, tokens=tokens(pyserver, "a"), token_lifetime_ms=1500) as client:
        assert "err" not in client.connect()
        gave_way(client, pyserver, closes=2)
        pyserver.set("a", "1")
        assert client.wait("notification")["value"] == "1"
        client.request("get", "a")
        assert told(client, "a") == ["1"]


# --- requests ---


def test_requests_without_pause(tmp_path):
    """None fails, and none is made twice."""
    with Hpkvd(tmp_path / "store") as server:
        # the driver has room for 100000 of them
        rate = {"enabled": True, "rate_per_s": 5000}
        with Driver(server.url, tokens=tokens(server), token_lifetime_ms=700, throttle=rate) as client:
            assert "err" not in client.connect()
            done = 0
            while connections(client) < 6:
                numbers = [client.start("atomic", f"n:{i}", "1") for i in range(32)]
                done += 1
                for number in numbers:
                    reply = client.reply(number)
                    assert "err" not in reply, reply
                    assert reply["value"] == str(done)
                client.events.clear()
            assert client.count("disconnected") == 0


def test_what_is_under_way_is_waited_for(pyserver, given):
    """A slow answer keeps the former connection, and holds up nobody."""
    pyserver.set("a", "1")
    held = pyserver.fault(op="GET", key="slow", hold=True)
    pyserver.set("slow", "2")
    with Driver(pyserver.url, token=given(), operation_timeout_ms=LONG) as client:
        assert "err" not in client.connect()
        slow = client.start("get", "slow")
        wait_for(lambda: pyserver.hits(held) == 1, "the slow request")
        client.do("set_token", given())
        changes(client, 1)
        assert client.request("get", "a")["value"] == "1"
        assert pyserver.closes() == []
        pyserver.release(held)
        assert client.reply(slow)["value"] == "2"
        gave_way(client, pyserver)
        assert pyserver.hits(held) == 1


def test_the_next_change_does_not_wait_for_ever(pyserver):
    """What was not answered until the token after the next is repeated there, where that does no harm."""
    pyserver.set("a", "1")
    get = pyserver.fault(op="GET", key="a", never=True, times=1)
    patch = pyserver.fault(op="PATCH", never=True)
    with Driver(pyserver.url, tokens=tokens(pyserver), token_lifetime_ms=1500, operation_timeout_ms=LONG) as client:
        assert "err" not in client.connect()
        first, second = client.start("get", "a"), client.start("patch", "b", "x")
        wait_for(lambda: pyserver.hits(get) == 1 and pyserver.hits(patch) == 1, "both")
        assert client.reply(first)["value"] == "1"
        outcome = client.reply(second)
        assert (outcome["err"], outcome["unknown"]) == (-errno.ECONNRESET, True)
        assert pyserver.hits(patch) == 1
        changes(client, 2)
        gave_way(client, pyserver)


def test_the_former_connection_is_lost(pyserver, given):
    """Once all that it notifies of has come it is no loss: there is no event, and what was under way on it goes on."""
    pyserver.set("a", "1")
    held = pyserver.fault(op="GET", key="a", drop=True, hold=True, times=1)
    with Driver(pyserver.url, token=given("b"), operation_timeout_ms=LONG) as client:
        assert "err" not in client.connect()
        number = client.start("get", "a")
        wait_for(lambda: pyserver.hits(held) == 1, "the request")
        client.do("set_token", given("b"))
        changes(client, 1)
        pyserver.set("b", "1")
        client.wait("notification")
        client.request("get", "b")  # what both connections bring has come on both
        pyserver.release(held)
        assert client.reply(number)["value"] == "1"
        assert pyserver.hits(held) == 1
        assert (client.count("connected"), client.count("disconnected")) == (1, 0)


def test_changes_of_a_key_keep_their_order(pyserver):
    """Also where the first of them is under way when the connection changes."""
    held = pyserver.fault(op="SET", key="a", delay=0.3)
    with Driver(pyserver.url, tokens=tokens(pyserver), token_lifetime_ms=700) as client:
        assert "err" not in client.connect()
        n = 0
        while connections(client) < 5:
            n += 1
            assert "err" not in client.request("set", "a", str(n))
        assert pyserver.hits(held) == n
        assert pyserver.history("a") == [str(i) for i in range(1, n + 1)]


# --- tokens that are refused, or strange ---


def test_a_wrong_key(pyserver):
    with Driver(pyserver.url, tokens={"api_key": "wrong"}, max_reconnect_attempts=5) as client:
        outcome = client.connect()
        assert (outcome["err"], outcome["code"]) == (-errno.EACCES, 401)
        assert client.state() == 0
    assert pyserver.tokens() == 0


def test_no_token_no_connection(pyserver):
    pyserver.configure(token_status=503)
    with Driver(pyserver.url, tokens=tokens(pyserver)) as client:
        outcome = client.connect()
        assert (outcome["err"], outcome["code"]) == (-errno.EIO, 503)
        pyserver.configure(token_status=None)
        assert "err" not in client.connect()


def test_the_key_of_the_client_is_used(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key, tokens={"subscribe_patterns": ["a"]}) as client:
        assert "err" not in client.connect()
        pyserver.set("a", "1")
        assert client.wait("notification")["value"] == "1"


@pytest.mark.parametrize(
    "options",
    [
        {"tokens": {}},
        {"tokens": {"api_key": ""}},
        {"tokens": {"api_key": "a\nb"}},
        {"tokens": {"api_key": "k", "url": "nonsense"}},
        {"tokens": {"api_key": "k", "url": "http://example.com"}},
        {"tokens": {"api_key": "k"}, "token": "t"},
        {"tokens": {"api_key": "k"}, "token_lifetime_ms": 0},
    ],
)
def test_configurations_that_are_refused(options):
    with Driver("http://127.0.0.1:1", **options) as client:
        assert client.wait("invalid")["err"] == -errno.EINVAL


@pytest.mark.parametrize("status", [403, 429, 500])
def test_a_server_that_refuses_tokens_for_a_while(pyserver, status):
    """Each refusal is told; the connection is kept, and changes when there is a token again."""
    with Driver(
        pyserver.url,
        tokens=tokens(pyserver, "a"),
        token_lifetime_ms=500,
        reconnect_initial_delay_ms=50,
        reconnect_max_delay_ms=200,
    ) as client:
        assert "err" not in client.connect()
        pyserver.configure(token_status=status)
        for i in range(3):
            assert client.wait("error", after=i)["code"] == status
        made = connections(client)
        pyserver.set("a", "1")
        assert client.wait("notification")["value"] == "1"
        pyserver.configure(token_status=None)
        changes(client, made)
        assert (client.count("connected"), client.count("disconnected")) == (1, 0)


def test_a_connection_that_is_lost_while_no_tokens_are_given(pyserver):
    """The attempts to reconnect begin with a token, too."""
    options = {"reconnect_initial_delay_ms": 20, "reconnect_max_delay_ms": 20, "reconnect_jitter_ms": 0}
    with Driver(pyserver.url, tokens=tokens(pyserver, "a"), max_reconnect_attempts=1000000, **options) as client:
        assert "err" not in client.connect()
        pyserver.configure(token_status=500)
        pyserver.drop_connections()
        assert client.wait("error", after=2)["code"] == 500
        pyserver.configure(token_status=None)
        client.wait("connected", after=1)
        pyserver.set("a", "1")
        assert client.wait("notification")["value"] == "1"
        pyserver.configure(token_status=401)
        pyserver.drop_connections()
        assert client.wait("reconnect_failed")["code"] == 401
        assert client.state() == 0
        assert pyserver.tokens() == 2


def test_each_connection_has_a_token_of_its_own(pyserver):
    options = {"reconnect_initial_delay_ms": 20, "reconnect_jitter_ms": 0}
    with Driver(pyserver.url, tokens=tokens(pyserver), **options) as client:
        for i in range(3):
            assert "err" not in client.connect()
            assert pyserver.tokens() == 2 * i + 1
            pyserver.drop_connections()
            client.wait("disconnected", after=2 * i)
            wait_for(lambda: client.state() == 2 or client.do("connect"), "the next connection")
            assert pyserver.tokens() == 2 * i + 2
            client.do("disconnect")
            client.wait("disconnect", after=i)


@pytest.mark.parametrize("seconds", [-5, 0, 1e12, 1e300])
def test_tokens_with_a_strange_expiry(pyserver, seconds):
    """A clock may be wrong: what makes no sense is not believed, and the token used as long as it would be without."""
    pyserver.configure(token_exp_s=seconds)
    with Driver(pyserver.url, tokens=tokens(pyserver)) as client:
        assert "err" not in client.connect()
        time.sleep(1.5)
        assert pyserver.tokens() == 1
    with Driver(pyserver.url, tokens=tokens(pyserver), token_lifetime_ms=500) as client:
        assert "err" not in client.connect()
        changes(client, 2)


def test_the_shorter_of_two_times_counts(pyserver):
    pyserver.configure(token_exp_s=2)
    with Driver(pyserver.url, tokens=tokens(pyserver)) as client:
        assert "err" not in client.connect()
        changes(client, 2)
        assert client.count("error") == 0


def test_a_token_of_another_server():
    """It gives no connection, and is not asked for over and over."""
    asked = []

    def serve(connection):
        head = read_head(connection)
        if head.startswith(b"POST"):
            asked.append(time.monotonic())
            connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"token":"t"}')
            drain(connection)


    with PyServer() as server, RawServer(serve) as source:
        settings = {"api_key": server.key, "url": source.url}
        with Driver(server.url, tokens=settings, token_lifetime_ms=1, max_reconnect_attempts=3) as client:
            assert client.connect()["code"] == 403
            assert len(asked) == 1


def test_tokens_that_expire_at_once():
    """Each connection is ended as soon as it stands: the attempts are used up, like any others."""
    with PyServer() as source, RawServer(upgraded(close_frame(1008, b"token has expired"))) as server:
        settings = {"url": source.url, "api_key": source.key}
        options = {"reconnect_initial_delay_ms": 10, "reconnect_jitter_ms": 0, "max_reconnect_attempts": 3}
        with Driver(server.url, tokens=settings, **options) as client:
            client.do("connect")
            failed = client.wait("reconnect_failed")
            assert failed["err"] == -errno.ECONNRESET
            assert client.state() == 0
            assert source.tokens() == client.count("connected") == server.accepted


def test_the_upgrade_is_refused():
    with PyServer() as source, RawServer(answering(b"HTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n")) as server:
        with Driver(server.url, tokens={"url": source.url, "api_key": source.key}, max_reconnect_attempts=3) as client:
            outcome = client.connect()
            assert (outcome["err"], outcome["code"]) == (-errno.EACCES, 403)


def test_a_token_server_that_never_answers(pyserver):
    def silent(connection):
        read_head(connection)
        drain(connection)

    with RawServer(silent) as source:
        settings = {"url": source.url, "api_key": "k", "timeout_ms": 200}
        with Driver(pyserver.url, tokens=settings) as client:
            assert client.connect()["err"] == -errno.ETIMEDOUT
        settings["timeout_ms"] = LONG
        with Driver(pyserver.url, tokens=settings) as client:
            client.do("connect")
            wait_for(lambda: source.accepted >= 2, "the request")
            client.do("disconnect")
            assert client.wait("connect")["err"] == -errno.ECANCELED
            client.wait("disconnect")
            client.do("connect")
            wait_for(lambda: source.accepted >= 3, "the next request")


# --- another token ---


def test_another_token(pyserver, given):
    pyserver.set("b", "0")
    with Driver(pyserver.url, token=given("a")) as client:
        assert "err" not in client.connect()
        before = len(pyserver.closes())
        client.do("set_token", given("a", "b"))
        assert client.wait("set_token")["result"] == 0
        changes(client, 1)
        pyserver.set("a", "1")
        pyserver.set("b", "2")
        assert client.wait("notification", after=1)
        assert (told(client, "a"), told(client, "b")) == (["1"], ["2"])
        wait_for(lambda: len(pyserver.closes()) > before, "the former connection's end")
        assert pyserver.closes()[before:] == [1000]
        assert (client.count("connected"), client.count("disconnected"), client.count("error")) == (1, 0, 0)


def test_another_token_again_and_again(pyserver, given):
    """The last one counts, however fast they come."""
    with Driver(pyserver.url, token=given("a")) as client:
        assert "err" not in client.connect()
        last = [given(f"k{i}") for i in range(20)]
        for token in last:
            client.do("set_token", token)
        changes(client, 1)
        wait_for(lambda: pyserver.set("k19", "1") or told(client, "k19"), "a notification by the last token")
        assert (client.count("connected"), client.count("disconnected"), client.count("error")) == (1, 0, 0)


def test_another_token_that_is_refused(pyserver, given):
    """It is told once, and the connection stays as it is."""
    with Driver(pyserver.url, token=given("a"), reconnect_initial_delay_ms=10, reconnect_jitter_ms=0) as client:
        assert "err" not in client.connect()
        client.do("set_token", "wrong")
        assert client.wait("error")["code"] == 403
        pyserver.set("a", "1")
        assert client.wait("notification")["value"] == "1"
        client.do("set_token", given("a", "b"))
        changes(client, 1)
        assert client.count("error") == 1
        assert client.count("disconnected") == 0


def test_another_token_is_for_the_next_connection_too(pyserver, given):
    with Driver(pyserver.url, token="wrong") as client:
        client.do("set_token", given("a"))
        assert "err" not in client.connect()
        pyserver.set("a", "1")
        assert client.wait("notification")["value"] == "1"
        assert connections(client) == 1


def test_another_token_while_it_connects(pyserver, given):
    first, second = given("a"), given("b")
    with Driver(pyserver.url, token=first) as client:
        client.do("together", [["connect"], ["set_token", second]])
        client.wait("connected")
        wait_for(lambda: pyserver.set("b", "1") or told(client, "b"), "a notification by the second token")
        assert client.count("connected") == 1


def test_who_gets_tokens_takes_none(pyserver):
    with Driver(pyserver.url, tokens=tokens(pyserver)) as client:
        assert "err" not in client.connect()
        client.do("set_token", "t")
        assert client.wait("set_token")["result"] == -errno.EINVAL


# --- ends in the midst of it ---


def in_the_midst(pyserver, given, client):
    """A request keeps the former connection. Answers its number."""
    held = pyserver.fault(op="GET", key="slow", hold=True)
    assert "err" not in client.connect()
    number = client.start("get", "slow")
    wait_for(lambda: pyserver.hits(held) == 1, "the request")
    client.do("set_token", given("a"))
    changes(client, 1)
    return number


def test_freed_in_the_midst(pyserver, given):
    with Driver(pyserver.url, token=given("a"), operation_timeout_ms=LONG) as client:
        number = in_the_midst(pyserver, given, client)
        client.do("free")
        client.wait("freed")
        assert client.reply(number)["err"] == -errno.ECANCELED
    wait_for(lambda: pyserver.connections() == 0, "the connections' end")


def test_disconnected_in_the_midst(pyserver, given):
    with Driver(pyserver.url, token=given("a"), operation_timeout_ms=LONG) as client:
        number = in_the_midst(pyserver, given, client)
        client.do("disconnect")
        client.wait("disconnect")
        assert client.reply(number)["err"] == -errno.ECANCELED
        wait_for(lambda: pyserver.connections() == 0, "the connections' end")
        assert set(pyserver.closes()) == {1000}
        assert client.count("disconnected") == 1
        assert "err" not in client.connect()


def test_disconnected_gently_in_the_midst(pyserver, given):
    """The request that the former connection is kept for is waited for."""
    with Driver(pyserver.url, token=given("a"), operation_timeout_ms=LONG) as client:
        number = in_the_midst(pyserver, given, client)
        pyserver.set("slow", "1")
        client.do("disconnect", False)
        assert client.state() == 3
        pyserver.clear_faults()
        assert client.reply(number)["value"] == "1"
        client.wait("disconnect")
        wait_for(lambda: pyserver.connections() == 0, "the connections' end")
        assert set(pyserver.closes()) == {1000}


def test_both_connections_are_lost(pyserver, given):
    """There is one `disconnected`, and a reconnect; what was under way on either is repeated."""
    options = {"reconnect_initial_delay_ms": 20, "reconnect_jitter_ms": 0}
    with Driver(pyserver.url, token=given("a"), operation_timeout_ms=LONG, **options) as client:
        number = in_the_midst(pyserver, given, client)
        pyserver.set("slow", "1")
        pyserver.clear_faults()
        pyserver.drop_connections()
        assert client.reply(number)["value"] == "1"


@pytest.mark.parametrize("what", [["free"], ["disconnect"]])
def test_a_subscriber_that_ends_it_all(pyserver, what):
    """Inside a notification, at any moment of the change-over."""
    with Driver(pyserver.url, tokens=tokens(pyserver, "a"), token_lifetime_ms=500) as client:
        for i in range(4):
            if what == ["free"] and i:
                break
            assert "err" not in client.connect()
            changes(client, connections(client))
            client.do("inside", "notification", [what])
            client.state()  # by then it has that
            pyserver.set("a", "1")
            client.wait("freed" if what == ["free"] else "disconnect", after=i)
    wait_for(lambda: pyserver.connections() == 0, "the connections' end")


@pytest.mark.parametrize("what", ["free", "disconnect"])
def test_the_end_while_a_token_is_asked_for(pyserver, what):
    asked = threading.Event()

    def serve(connection):
        read_head(connection)
        if not asked.is_set():
            asked.set()
            with Client(pyserver.url, pyserver.key) as asker:
                body = b'{"token":"%s"}' % asker.token(patterns=["a"]).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        drain(connection)

    with RawServer(serve) as source:
        settings = {"url": source.url, "api_key": "k", "timeout_ms": LONG}
        with Driver(pyserver.url, tokens=settings, token_lifetime_ms=500) as client:
            assert "err" not in client.connect()
            wait_for(lambda: source.accepted == 2, "the second request")
            client.do(what)
            client.wait("freed" if what == "free" else what)
        wait_for(lambda: pyserver.connections() == 0, "the connection's end")
