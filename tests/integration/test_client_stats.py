"""What libhpkv counts."""

import errno

import pytest

from lib.client_driver import Driver
from lib.processes import wait_for


@pytest.fixture
def driver(pyserver):
    options = {"max_reconnect_attempts": 1000, "reconnect_initial_delay_ms": 20, "reconnect_jitter_ms": 5}
    with Driver(pyserver.url, api_key=pyserver.key, **options) as client:
        yield client


def stats(driver):
    before = driver.count("stats")
    driver.do("stats")
    return driver.wait("stats", after=before)


def test_nothing_yet(driver):
    first = stats(driver)
    assert first.pop("event") == "stats"
    assert first.pop("state") == "disconnected"
    assert first.pop("connected") is False
    assert first.pop("requests") == [0] * 7
    assert set(first.values()) == {0}


def test_requests_by_operation(driver, pyserver):
    driver.connect()
    for count, command in enumerate(
        [["get", "a"], ["set", "a", "1"], ["patch", "a", "1"], ["delete", "a"], ["range", "a", "b", 1], ["atomic", "n", "1"]], 1
    ):
        for _ in range(count):
            driver.request(*command)
    now = stats(driver)
    assert now["requests"] == [0, 1, 2, 3, 4, 5, 6]
    # the get, and three of four deletes, found nothing
    assert (now["succeeded"], now["failed"]) == (17, 4)
    assert now["messages_sent"] == now["messages_received"] == now["rtt_count"] == 21
    assert (now["timed_out"], now["cancelled"], now["repeated"], now["ignored"]) == (0, 0, 0, 0)
    assert (now["state"], now["connected"], now["connections"]) == ("connected", True, 1)


def test_what_was_refused_at_once_was_not_started(driver, pyserver):
    assert driver.request("get", "a")["err"] == -errno.ENOTCONN
    driver.connect()
    assert driver.request("get", "")["err"] == -errno.EINVAL
    assert stats(driver)["requests"] == [0] * 7


def test_bytes_are_those_of_the_messages(driver, pyserver):
    pyserver.set("a", "1")
    driver.connect()
    sent = '{"op":1,"messageId":1,"key":"a"}'
    answer = '{"messageId":1,"code":200,"value":"' + "é" * 1000 + '"}'
    pyserver.fault(op="GET", raw=answer)
    driver.request("get", "a")
    now = stats(driver)
    assert now["bytes_sent"] == len(sent)
    assert now["bytes_received"] == len(answer.encode())


def test_how_requests_end(driver, pyserver):
    driver.connect()
    hold = pyserver.fault(key="later", never=True)
    cancelled = driver.start("get", "later")
    wait_for(lambda: pyserver.hits(hold) == 1, "the request at the server")
    now = stats(driver)
    assert (now["in_flight"], now["queued"]) == (1, 0)
    driver.do("cancel", cancelled)
    driver.reply(cancelled)
    driver.request("get", "later", 100)
    driver.request("get", "absent")
    now = stats(driver)
    assert (now["succeeded"], now["failed"], now["timed_out"], now["cancelled"]) == (0, 3, 1, 1)
    assert now["in_flight"] == 0


def test_lost_connections(driver, pyserver):
    driver.connect()
    pyserver.fault(op="SET", times=2, drop=True)
    driver.request("set", "a", "1", {"before": None})
    now = stats(driver)
    assert now["connections"] == 3
    assert now["repeated"] == 2
    assert (now["requests"][1], now["requests"][2]) == (0, 1)  # the reading is no request of the program's
    pyserver.down()
    wait_for(lambda: stats(driver)["reconnect_attempts"] >= 2, "attempts")
    now = stats(driver)
    assert (now["state"], now["connected"]) == ("reconnecting", False)
    waiting = driver.start("get", "a")
    assert stats(driver)["queued"] == 1
    pyserver.up()
    driver.reply(waiting)
    assert stats(driver)["queued"] == 0
    assert stats(driver)["connections"] == 4


def test_what_is_ignored(driver, pyserver):
    driver.connect()
    pyserver.configure(noise=["nonsense", '{"messageId":999,"code":200}', '{"type":"hello"}'])
    driver.request("get", "a")
    assert stats(driver)["ignored"] == 3


def test_notifications(driver, pyserver):
    driver.do("token", ["a:*"], None)
    token = driver.wait("token")["token"]
    with Driver(pyserver.url, token=token) as client:
        client.connect()
        for i in range(5):
            pyserver.set("a:1", str(i))
        client.wait("notification", after=4)
        now = stats(client)
        assert (now["notifications"], now["messages_received"], now["ignored"]) == (5, 5, 0)


def test_round_trips(driver, pyserver):
    driver.connect()
    pyserver.fault(key="slow", delay=0.2)
    for _ in range(9):
        driver.request("get", "a")
    driver.request("get", "slow")
    now = stats(driver)
    assert now["rtt_count"] == 10
    assert 0 < now["rtt_min_us"] <= now["rtt_max_us"]
    assert now["rtt_max_us"] >= 200000
    assert now["rtt_sum_us"] >= now["rtt_max_us"] + 9 * now["rtt_min_us"]
    # a power of two that is not below the fastest, and not above twice the slowest
    assert now["rtt_median_us"] & (now["rtt_median_us"] - 1) == 0
    assert now["rtt_min_us"] < now["rtt_median_us"] <= 2 * now["rtt_max_us"]
