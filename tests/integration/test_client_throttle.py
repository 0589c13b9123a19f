"""How fast libhpkv sends: rates, pauses after a 429, priorities, bounds. What is looked at is the order of arrival at the server
and what the client says of itself, never a clock."""

import errno

import pytest

from lib.client_driver import Driver
from lib.hpkvd import Hpkvd
from lib.processes import wait_for

# they would wake whoever sleeps by mistake
NO_PINGS = {"ping_after_s": 1000, "dead_after_s": 2000}
BACKGROUND = {"priority": "background"}


def driver_of(server, **options):
    settings = {"operation_timeout_ms": 60000, **options}
    return Driver(server.url, api_key=server.key, **settings)


@pytest.fixture
def driver(pyserver):
    with driver_of(pyserver) as client:
        assert "err" not in client.connect()
        yield client


def ask(driver, name):
    before = driver.count(name)
    driver.do(name)
    return driver.wait(name, after=before)


def set_throttle(driver, enabled, rate):
    before = driver.count("set_throttle")
    driver.do("set_throttle", enabled, rate)
    return driver.wait("set_throttle", after=before)["err"]


def keys(pyserver):
    return [key for _operation, key in pyserver.log()]


# --- 429 ---


def test_a_server_that_refuses_everything_keeps_nobody_waiting_for_his_turn(pyserver):
    """One request after the other is sent to see whether it is over; the others' time must not begin with their turn."""
    with driver_of(pyserver, operation_timeout_ms=500) as driver:
        assert "err" not in driver.connect()
        pyserver.fault(code=429, text="slow down")
        first = driver.start("get", "first")
        wait_for(lambda: ask(driver, "stats")["rate_limited"], "the first 429")
        others = [driver.start("get", f"k{number}") for number in range(30)]
        for number in [first, *others]:
            reply = driver.reply(number)
            assert (reply["err"], reply["code"]) == (-errno.ETIMEDOUT, 429)
        assert len(set(keys(pyserver))) < 10, "each had a time of its own, and its turn"
        pyserver.clear_faults()
        pyserver.set("a", "1")
        assert driver.request("get", "a", {"timeout_ms": 60000})["value"] == "1"


@pytest.mark.parametrize("repeat", ["safe", "overwrite", "refused"])
@pytest.mark.parametrize(
    "command", [["get", "a"], ["set", "a", "1"], ["patch", "a", "1"], ["delete", "a"], ["range", "a", "b", 1], ["atomic", "n", "1"]]
)
def test_a_request_that_was_refused_is_sent_again(driver, pyserver, command, repeat):
    pyserver.set("a", "1")
    pyserver.fault(times=3, code=429, text="slow down")
    assert "err" not in driver.request(*command, {"repeat": repeat})
    assert len(pyserver.log()) == 4
    stats = ask(driver, "stats")
    assert (stats["rate_limited"], stats["repeated"], stats["succeeded"]) == (3, 3, 1)


def test_not_where_that_was_not_wanted(driver, pyserver):
    pyserver.fault(times=1, code=429, text="slow down")
    reply = driver.request("set", "a", "1", {"repeat": "never"})
    assert (reply["err"], reply["code"], reply["text"], reply["unknown"]) == (-errno.EAGAIN, 429, "slow down", False)
    assert "err" not in driver.request("set", "a", "1", {"repeat": "never"})
    assert len(pyserver.log()) == 2


def test_not_without_a_throttle(pyserver):
    with driver_of(pyserver, throttle={"enabled": False, "rate_per_s": 1}) as client:
        client.connect()
        pyserver.fault(times=1, code=429)
        assert client.request("set", "a", "1")["err"] == -errno.EAGAIN
        numbers = [client.start("get", "a") for _ in range(100)]
        for number in numbers:
            assert client.reply(number)["err"] == -errno.ENOENT
        status = ask(client, "throttle")
        assert (status["rate"], status["pause_ms"]) == (0, 0)
        assert status["config"] == {"enabled": False, "rate_per_s": 1}


def test_refused_until_its_time_is_over(driver, pyserver):
    pyserver.fault(code=429)
    reply = driver.request("set", "a", "1", 500)
    assert reply["err"] == -errno.ETIMEDOUT
    # refused, unless its last repetition is under way at the end of its time
    assert (reply["code"], reply["unknown"]) in ((429, False), (0, True))
    pyserver.clear_faults()
    assert "err" not in driver.request("set", "b", "1")
    assert reply["unknown"] or pyserver.get("a") is None


def test_what_was_refused_goes_before_what_came_later(pyserver):
    with driver_of(pyserver, max_in_flight=3) as client:
        client.connect()
        refused = pyserver.fault(code=429, times=3, hold=True)
        numbers = [client.start("set", f"k{i}", "1") for i in range(6)]
        wait_for(lambda: pyserver.hits(refused) == 3, "the first three")
        pyserver.release(refused)
        for number in numbers:
            assert "err" not in client.reply(number)
        assert sorted(keys(pyserver)[:3]) == ["k0", "k1", "k2"]
        assert keys(pyserver)[3:] == [f"k{i}" for i in range(6)]


def test_cancelled_while_it_waits(driver, pyserver):
    pyserver.fault(code=429)
    number = driver.start("set", "a", "1")
    wait_for(lambda: len(pyserver.log()) >= 2, "the second attempt")
    driver.do("cancel", number)
    reply = driver.reply(number)
    assert reply["err"] == -errno.ECANCELED
    assert ask(driver, "throttle")["queued"] == 0


def test_everything_waits_during_a_pause(driver, pyserver):
    fault = pyserver.fault(key="a", code=429)
    driver.start("get", "a")
    wait_for(lambda: pyserver.hits(fault) >= 5, "attempts")
    status = wait_for(lambda: (s := ask(driver, "throttle"))["pause_ms"] > 0 and s, "a pause")
    assert status["queued"] == 1
    assert status["pause_ms"] <= 5000
    assert status["config"] == {"enabled": True, "rate_per_s": 0}
    pyserver.clear_faults()
    driver.reply(1)


# --- the rate ---


def test_the_rate_falls_and_recovers(pyserver):
    with driver_of(pyserver, throttle={"enabled": True, "rate_per_s": 400}) as client:
        client.connect()
        assert ask(client, "throttle")["rate"] == 400
        pyserver.fault(code=429, times=2)
        client.request("get", "a")
        rates = [ask(client, "throttle")["rate"]]
        wait_for(lambda: rates.append(ask(client, "throttle")["rate"]) or rates[-1] == 400, "the rate that was set")
        assert rates == sorted(rates)
        # refused twice in a row: three quarters; each step is a fiftieth, and from 380 on a thousandth, of the rate that was set
        steps = {300 + 8 * step for step in range(11)} | {380 + 0.4 * step for step in range(51)}
        assert all(min(abs(rate - step) for step in steps) < 0.001 for rate in rates)
        assert ask(client, "stats")["rate"] == 400


def test_without_a_rate_one_is_found_and_grows(driver, pyserver):
    assert ask(driver, "throttle")["rate"] == 0
    pyserver.fault(code=429, times=1)
    driver.request("get", "a")
    first = ask(driver, "throttle")["rate"]
    assert first >= 1
    wait_for(lambda: ask(driver, "throttle")["rate"] > 1.2 * first, "a higher rate")
    driver.request("get", "a")


def test_a_real_server_with_a_limit():
    """Every request is answered in the end, and the server refuses only a part of them."""
    with Hpkvd(options=["--rate", "40"]) as server, driver_of(server) as client:
        client.connect()
        numbers = [client.start("set", f"k{i}", str(i)) for i in range(160)]
        for number in numbers:
            assert "err" not in client.reply(number)
        stats = ask(client, "stats")
        assert stats["succeeded"] == 160
        assert server.requests("set", 200) == 160
        assert server.requests("set", 429) == stats["rate_limited"] == stats["repeated"]


def test_a_rate_below_the_servers_limit_is_never_refused():
    options = {"throttle": {"enabled": True, "rate_per_s": 100}}
    with Hpkvd(options=["--rate", "120"]) as server, driver_of(server, **options) as client:
        client.connect()
        numbers = [client.start("set", f"k{i}", str(i)) for i in range(300)]
        for number in numbers:
            assert "err" not in client.reply(number)
        assert ask(client, "stats")["rate_limited"] == 0


def test_another_rate_holds_for_what_is_queued(pyserver):
    with driver_of(pyserver, throttle={"enabled": True, "rate_per_s": 0.001}) as client:
        client.connect()
        numbers = [client.start("get", f"k{i}") for i in range(20)]
        client.reply(numbers[0])
        status = ask(client, "throttle")
        assert (status["rate"], status["queued"]) == (0.001, 19)
        assert keys(pyserver) == ["k0"]
        assert set_throttle(client, True, 100000) == 0
        for number in numbers:
            client.reply(number)
        assert keys(pyserver) == [f"k{i}" for i in range(20)]
        assert ask(client, "throttle")["config"] == {"enabled": True, "rate_per_s": 100000}


def test_without_a_throttle_nothing_queued_waits(pyserver):
    with driver_of(pyserver, throttle={"enabled": True, "rate_per_s": 0.001}) as client:
        client.connect()
        numbers = [client.start("get", f"k{i}") for i in range(20)]
        client.reply(numbers[0])
        assert set_throttle(client, False, 0) == 0
        for number in numbers:
            client.reply(number)


@pytest.mark.parametrize("rate", [-1, 1000001])
def test_rates_that_are_refused(driver, pyserver, rate):
    assert set_throttle(driver, True, rate) == -errno.EINVAL
    assert ask(driver, "throttle")["config"] == {"enabled": True, "rate_per_s": 0}
    with driver_of(pyserver, throttle={"enabled": True, "rate_per_s": rate}) as client:
        assert client.wait("invalid")["err"] == -errno.EINVAL


def test_waiting_for_the_rate_takes_none_of_a_requests_time(pyserver):
    with driver_of(pyserver, throttle={"enabled": True, "rate_per_s": 1}) as client:
        client.connect()
        numbers = [client.start("get", "a", 300) for _ in range(4)]
        for number in numbers:
            assert client.reply(number)["err"] == -errno.ENOENT


# --- priorities ---


def test_interactive_requests_go_first(pyserver):
    with driver_of(pyserver, max_in_flight=1) as client:
        client.connect()
        background = [["get", f"b{i}", BACKGROUND] for i in range(3)]
        interactive = [["get", f"i{i}"] for i in range(3)]
        client.do("together", background + interactive)
        for number in range(1, 7):
            client.reply(number)
        assert keys(pyserver) == ["i0", "i1", "i2", "b0", "b1", "b2"]


def test_interactive_requests_go_first_after_a_pause(pyserver):
    with driver_of(pyserver, max_in_flight=1) as client:
        client.connect()
        fault = pyserver.fault(key="b0", code=429, times=3)
        client.start("get", "b0", BACKGROUND)
        wait_for(lambda: pyserver.hits(fault) == 3, "the background request, refused")
        client.do("together", [["get", "b1", BACKGROUND], ["get", "i0"]])
        for number in 1, 2, 3:
            client.reply(number)
        assert keys(pyserver)[3:] == ["i0", "b0", "b1"]


def test_interactive_requests_go_first_when_there_is_a_connection(pyserver):
    with driver_of(pyserver) as client:
        client.do("together", [["connect"], ["get", "b0", BACKGROUND], ["get", "b1", BACKGROUND], ["get", "i0"], ["get", "i1"]])
        for number in range(1, 5):
            client.reply(number)
        assert keys(pyserver) == ["i0", "i1", "b0", "b1"]


# --- a set right behind a get of its key ---


GET_AND_SET = [["get", "k"], ["set", "k", "1"]]


def start_together(driver, *requests):
    first = driver.started + 1
    driver.started += len(requests)
    driver.do("together", list(requests))
    return list(range(first, first + len(requests)))


def test_a_get_and_the_set_behind_it_take_their_turn_together(pyserver):
    with driver_of(pyserver, throttle={"enabled": True, "rate_per_s": 0.001}) as client:
        client.connect()
        get, change, *_rest = start_together(client, *GET_AND_SET, ["get", "other"])
        assert client.reply(get)["err"] == -errno.ENOENT
        assert "err" not in client.reply(change)
        assert ask(client, "throttle")["queued"] == 1
        assert pyserver.log() == [("GET", "k"), ("SET", "k")]


def test_a_get_and_the_set_behind_it_are_in_flight_together(pyserver):
    with driver_of(pyserver, max_in_flight=1, **NO_PINGS) as client:
        client.connect()
        hold = pyserver.fault(hold=True)
        numbers = start_together(client, *GET_AND_SET, ["get", "other"])
        wait_for(lambda: pyserver.hits(hold) == 2, "both")
        stats = ask(client, "stats")
        assert (stats["in_flight"], stats["queued"]) == (2, 1)
        pyserver.release(hold)
        for number in numbers:
            client.reply(number)
        assert pyserver.log() == [("GET", "k"), ("SET", "k"), ("GET", "other")]


# --- bounds ---


def test_in_flight_at_most(pyserver):
    with driver_of(pyserver, max_in_flight=2) as client:
        client.connect()
        hold = pyserver.fault(hold=True)
        numbers = [client.start("get", f"k{i}") for i in range(5)]
        wait_for(lambda: pyserver.hits(hold) == 2, "two requests")
        stats = ask(client, "stats")
        assert (stats["in_flight"], stats["queued"]) == (2, 3)
        pyserver.release(hold)
        for number in numbers:
            client.reply(number)
        assert keys(pyserver) == [f"k{i}" for i in range(5)]
        stats = ask(client, "stats")
        assert (stats["in_flight"], stats["queued"]) == (0, 0)


def test_one_that_times_out_makes_room(pyserver):
    with driver_of(pyserver, max_in_flight=1, **NO_PINGS) as client:
        client.connect()
        pyserver.fault(key="a", never=True)
        first = client.start("get", "a", 300)
        assert client.request("get", "b")["err"] == -errno.ENOENT
        assert client.reply(first)["err"] == -errno.ETIMEDOUT


def test_one_that_is_cancelled_makes_room(pyserver):
    with driver_of(pyserver, max_in_flight=1, **NO_PINGS) as client:
        client.connect()
        hold = pyserver.fault(key="a", never=True)
        first = client.start("get", "a")
        second = client.start("get", "b")
        wait_for(lambda: pyserver.hits(hold) == 1, "the first")
        client.do("cancel", first)
        assert client.reply(second)["err"] == -errno.ENOENT


def test_queued_at_most(pyserver):
    with driver_of(pyserver, max_in_flight=1, max_queued=3) as client:
        client.connect()
        hold = pyserver.fault(key="k0", hold=True)
        numbers = [client.start("get", "k0")]
        wait_for(lambda: pyserver.hits(hold) == 1, "the first")
        numbers += [client.start("get", f"k{i}") for i in range(1, 4)]
        assert client.request("get", "k4")["err"] == -errno.ENOBUFS
        pyserver.release(hold)
        for number in numbers:
            assert client.reply(number)["err"] == -errno.ENOENT
        assert client.request("get", "k5")["err"] == -errno.ENOENT


def test_queued_at_most_while_there_is_no_connection(pyserver):
    with driver_of(pyserver, max_queued=2) as client:
        client.do("together", [["connect"], ["get", "a"], ["get", "b"], ["get", "c"]])
        assert client.reply(3) == {"event": "refused", "n": 3, "err": -errno.ENOBUFS}
        assert client.reply(1)["err"] == client.reply(2)["err"] == -errno.ENOENT


@pytest.mark.parametrize("name", ["max_in_flight", "max_queued", "operation_timeout_ms"])
def test_bounds_that_are_refused(pyserver, name):
    with driver_of(pyserver, **{name: 0}) as client:
        assert client.wait("invalid")["err"] == -errno.EINVAL
