"""libhpkv on a network that does anything to its bytes: every request ends, once, and the next connection is as good as new."""

import pytest

from lib.client_driver import Driver
from lib.proxy import Crumbs, CutAfter, Fault, FlipAt, GarbageAt, Proxy, StallAfter

pytestmark = pytest.mark.timeout(720)

VALUE = "välue " * 40
SHORT_MS = 300  # of requests whose answers the network may have swallowed


@pytest.fixture
def proxy(hpkvd):
    with Proxy(hpkvd.url) as between:
        yield between


@pytest.fixture
def driver(hpkvd, proxy):
    with Driver(proxy.url, api_key=hpkvd.key, connect_timeout_ms=3000) as client:
        yield client


def exchange(driver, timeout_ms=0):
    """Three requests at once; each ends once, whatever happens. Answers what they brought."""
    requests = [("set", "key", VALUE), ("get", "key"), ("range", "a", "z", 10)]
    numbers = [driver.start(*request, timeout_ms) for request in requests]
    return [driver.reply(number) for number in numbers]


def disconnect(driver):
    before = driver.count("disconnect")
    driver.do("disconnect")
    driver.wait("disconnect", after=before)


def assert_good_as_new(driver, proxy):
    proxy.to_client = proxy.to_server = Fault()
    disconnect(driver)
    assert "err" not in driver.connect()
    assert [reply.get("err") for reply in exchange(driver)] == [None, None, None]
    assert driver.request("get", "key", 0)["value"] == VALUE


def test_bytes_that_come_one_by_one(driver, proxy):
    proxy.to_client = Crumbs()
    proxy.to_server = Crumbs()
    assert "err" not in driver.connect()
    replies = exchange(driver)
    assert [reply.get("err") for reply in replies] == [None, None, None]
    assert replies[1]["value"] == VALUE
    assert replies[2]["records"] == [["key", VALUE, False]]


def length_of_a_good_exchange(driver, proxy):
    assert "err" not in driver.connect()
    exchange(driver)
    return dict(proxy.passed)


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_cut_after_any_byte(driver, proxy, side, reset):
    total = length_of_a_good_exchange(driver, proxy)[side]
    for count in sorted({*range(0, total, 31), 1, 2, 3, total - 1}):
        disconnect(driver)
        setattr(proxy, f"to_{side}", CutAfter(count, reset))
        outcome = driver.connect()
        if "err" not in outcome:
            exchange(driver, SHORT_MS)
        assert_good_as_new(driver, proxy)


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("fault", [FlipAt, GarbageAt])
def test_other_bytes_than_were_sent(driver, proxy, side, fault):
    total = length_of_a_good_exchange(driver, proxy)[side]
    for at in range(0, total, 19):
        disconnect(driver)
        setattr(proxy, f"to_{side}", fault(at))
        if "err" not in driver.connect():
            exchange(driver, SHORT_MS)
        assert_good_as_new(driver, proxy)


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_network_that_stalls(driver, proxy, side):
    total = length_of_a_good_exchange(driver, proxy)[side]
    for count in (0, 40, total // 2, total - 3):
        disconnect(driver)
        setattr(proxy, f"to_{side}", StallAfter(count))
        if "err" not in driver.connect():
            assert any(reply.get("err") for reply in exchange(driver, SHORT_MS))
        assert_good_as_new(driver, proxy)
