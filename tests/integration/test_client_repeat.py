"""What libhpkv does with requests whose connection was lost: what may be repeated is, what may not is told as unknown."""

import errno
from random import Random

import pytest

from lib.client_driver import Driver
from lib.hpkvd import Hpkvd
from lib.processes import wait_for

ABSENT = {"before": None}
KIND_CONNECTION, KIND_TIMEOUT = 3, 4


def driver_of(server, **options):
    settings = {
        "max_reconnect_attempts": 1000,
        "reconnect_initial_delay_ms": 20,
        "reconnect_max_delay_ms": 100,
        "reconnect_jitter_ms": 5,
        "operation_timeout_ms": 60000,
        **options,
    }
    return Driver(server.url, api_key=server.key, **settings)


@pytest.fixture
def driver(pyserver):
    with driver_of(pyserver) as client:
        assert "err" not in client.connect()
        yield client


def operations(pyserver):
    return [operation for operation, _key in pyserver.log()]


def assert_unknown(reply):
    assert (reply["err"], reply["unknown"]) == (-errno.ECONNRESET, True)


def lose(pyserver, driver, count, *requests):
    """Starts the requests, and drops the connection when `count` of them have arrived, unanswered and without effect."""
    fault = pyserver.fault(never=True, times=count)
    driver.do("together", [list(request) for request in requests])
    first = driver.started + 1
    driver.started += len(requests)
    wait_for(lambda: pyserver.hits(fault) == count, "the requests at the server")
    return list(range(first, first + len(requests)))


# --- reading ---


@pytest.mark.parametrize("apply", [False, True])
def test_get_and_range_are_repeated(driver, pyserver, apply):
    pyserver.set("a", "1")
    pyserver.fault(op=["GET", "RANGE"], times=1, drop=True, apply=apply)
    assert driver.request("get", "a")["value"] == "1"
    pyserver.clear_faults()
    pyserver.fault(op="RANGE", times=2, drop=True, apply=apply)
    assert driver.request("range", "a", "b", 10)["records"] == [["a", "1", False]]
    assert operations(pyserver) == ["GET"] * 2 + ["RANGE"] * 3
    assert driver.count("connected") == 4


@pytest.mark.parametrize("command", [["get", "a"], ["range", "a", "b", 10]])
def test_reading_is_not_repeated_where_that_was_not_wanted(driver, pyserver, command):
    pyserver.fault(times=1, drop=True)
    reply = driver.request(*command, {"repeat": "never"})
    assert (reply["err"], reply["unknown"]) == (-errno.ECONNRESET, False)
    assert len(pyserver.log()) == 1


# --- set ---


def test_a_set_that_did_not_arrive_is_repeated(driver, pyserver):
    pyserver.fault(op="SET", times=1, drop=True)
    assert "err" not in driver.request("set", "a", "1", ABSENT)
    assert operations(pyserver) == ["SET", "GET", "SET"]
    assert pyserver.history("a") == ["1"]


def test_a_set_over_a_value_that_did_not_arrive_is_repeated(driver, pyserver):
    pyserver.set("a", "old")
    pyserver.fault(op="SET", times=1, drop=True)
    assert "err" not in driver.request("set", "a", "1", {"before": "old"})
    assert operations(pyserver) == ["SET", "GET", "SET"]
    assert pyserver.history("a") == ["old", "1"]


@pytest.mark.parametrize("options", [{}, ABSENT, {"before": "whatever"}])
def test_a_set_that_arrived_is_not_repeated(driver, pyserver, options):
    pyserver.fault(op="SET", times=1, drop=True, apply=True)
    assert "err" not in driver.request("set", "a", "1", options)
    assert operations(pyserver) == ["SET", "GET"]
    assert pyserver.history("a") == ["1"]


@pytest.mark.parametrize("options", [{}, ABSENT, {"before": "old"}])
def test_a_set_whose_key_another_has_changed_meanwhile(driver, pyserver, options):
    pyserver.fault(op="SET", times=1, drop=True, store={"a": "another's"})
    assert_unknown(driver.request("set", "a", "1", options))
    assert operations(pyserver) == ["SET", "GET"]
    assert pyserver.get("a") == "another's"


@pytest.mark.parametrize("before", ["old", None])
def test_a_set_whose_key_is_not_known(driver, pyserver, before):
    """Without `before`, what the key holds tells nothing, unless it is what was wanted."""
    if before is not None:
        pyserver.set("a", before)
    pyserver.fault(op="SET", times=1, drop=True)
    assert_unknown(driver.request("set", "a", "1"))
    assert operations(pyserver) == ["SET", "GET"]
    assert pyserver.get("a") == before


def test_a_set_that_was_absent_and_is_not(driver, pyserver):
    pyserver.set("a", "old")
    pyserver.fault(op="SET", times=1, drop=True)
    assert_unknown(driver.request("set", "a", "1", ABSENT))
    assert pyserver.get("a") == "old"


def test_a_set_that_another_has_deleted_under(driver, pyserver):
    pyserver.fault(op="SET", times=1, drop=True)
    assert_unknown(driver.request("set", "a", "1", {"before": "old"}))
    assert pyserver.get("a") is None


def test_the_last_writer_wins_where_that_is_wanted(driver, pyserver):
    pyserver.fault(op="SET", times=1, drop=True, store={"a": "another's"})
    assert "err" not in driver.request("set", "a", "1", {"repeat": "overwrite"})
    assert operations(pyserver) == ["SET", "SET"]
    assert pyserver.get("a") == "1"


@pytest.mark.parametrize("repeat", ["never", "refused"])
@pytest.mark.parametrize("command", [["set", "a", "1"], ["delete", "a"], ["patch", "a", "1"], ["atomic", "n", "1"]])
def test_a_change_that_may_not_be_repeated(driver, pyserver, command, repeat):
    pyserver.set("a", "old")
    pyserver.fault(times=1, drop=True)
    options = {"repeat": repeat, "before": "old"}
    assert_unknown(driver.request(*command, options))
    assert len(pyserver.log()) == 1


def test_only_what_did_nothing_is_repeated_where_that_was_wanted(driver, pyserver):
    pyserver.set("a", "1")
    pyserver.fault(op="GET", times=1, drop=True)
    assert driver.request("get", "a", {"repeat": "refused"})["value"] == "1"
    assert operations(pyserver) == ["GET", "GET"]


@pytest.mark.parametrize("command", [["set", "a", "1"], ["delete", "a"]])
@pytest.mark.parametrize("code", [500, 413])
def test_a_refusal_says_nothing_of_an_earlier_sending(driver, pyserver, command, code):
    """The first had its effect and was lost; the repetition did nothing, but that is not the whole truth."""
    pyserver.set("a", "old")
    pyserver.fault(times=1, drop=True, apply=True)
    pyserver.fault(times=1, code=code)
    reply = driver.request(*command, {"repeat": "overwrite", "before": "old"})
    assert (reply["code"], reply["unknown"]) == (code, True)
    assert pyserver.get("a") == (None if command[0] == "delete" else "1")


def test_a_pause_says_nothing_of_an_earlier_sending(driver, pyserver):
    pyserver.fault(times=1, drop=True, apply=True)
    refusal = pyserver.fault(code=429)
    number = driver.start("set", "a", "1", {"repeat": "overwrite"})
    wait_for(lambda: pyserver.hits(refusal) >= 1, "the repetition")
    driver.do("cancel", number)
    assert driver.reply(number)["err"] == -errno.ECANCELED
    assert driver.reply(number)["unknown"] is True


def test_a_refusal_of_what_had_no_effect_before(driver, pyserver):
    """The reading has shown that the first sending did nothing, and the server says so of the second."""
    pyserver.fault(op="SET", times=1, drop=True)
    pyserver.fault(op="SET", times=1, code=500)
    reply = driver.request("set", "a", "1", ABSENT)
    assert (reply["code"], reply["unknown"]) == (500, False)


# --- delete ---


@pytest.mark.parametrize("options", [{}, {"before": "1"}])
def test_a_delete_that_arrived(driver, pyserver, options):
    pyserver.set("a", "1")
    pyserver.fault(op="DELETE", times=1, drop=True, apply=True)
    assert "err" not in driver.request("delete", "a", options)
    assert operations(pyserver) == ["DELETE", "GET"]


def test_a_delete_that_did_not_arrive(driver, pyserver):
    pyserver.set("a", "1")
    pyserver.fault(op="DELETE", times=1, drop=True)
    assert "err" not in driver.request("delete", "a", {"before": "1"})
    assert operations(pyserver) == ["DELETE", "GET", "DELETE"]
    assert pyserver.get("a") is None


@pytest.mark.parametrize("options", [{}, {"before": "1"}, ABSENT])
def test_a_delete_whose_key_another_has_changed_meanwhile(driver, pyserver, options):
    pyserver.set("a", "1")
    pyserver.fault(op="DELETE", times=1, drop=True, store={"a": "another's"})
    assert_unknown(driver.request("delete", "a", options))
    assert pyserver.get("a") == "another's"


def test_a_repeated_delete_finds_nothing(driver, pyserver):
    """An earlier sending has done it, though nobody said so."""
    pyserver.set("a", "1")
    pyserver.fault(op="DELETE", times=1, drop=True, apply=True)
    assert "err" not in driver.request("delete", "a", {"repeat": "overwrite"})
    assert operations(pyserver) == ["DELETE", "DELETE"]


def test_a_delete_that_was_only_refused_finds_nothing(driver, pyserver):
    pyserver.fault(op="DELETE", times=1, code=429)
    assert driver.request("delete", "a")["err"] == -errno.ENOENT
    assert operations(pyserver) == ["DELETE", "DELETE"]


# --- what is never repeated ---


@pytest.mark.parametrize("repeat", ["safe", "overwrite"])
@pytest.mark.parametrize("apply", [False, True])
def test_patch_and_atomic_are_never_repeated(driver, pyserver, apply, repeat):
    pyserver.fault(times=1, drop=True, apply=apply)
    assert_unknown(driver.request("patch", "a", "1", {"repeat": repeat}))
    pyserver.clear_faults()
    pyserver.fault(times=1, drop=True, apply=apply)
    assert_unknown(driver.request("atomic", "n", "5", {"repeat": repeat}))
    assert operations(pyserver) == ["PATCH", "ATOMIC"]
    assert pyserver.get("n") == (5 if apply else None)


def test_a_message_that_is_too_large_is_asked_for_once(pyserver):
    pyserver.set("a", "1")
    with driver_of(pyserver, max_message_bytes=1 << 20) as client:
        client.connect()
        pyserver.fault(op="GET", key="a", huge=4 << 20)
        assert client.request("get", "a")["err"] == -errno.EPROTO
        assert pyserver.log() == [("GET", "a")]
        assert "err" not in client.request("set", "b", "1")
        assert client.count("connected") == 2


# --- several losses ---


def test_lost_again_and_again(driver, pyserver):
    pyserver.fault(op="SET", times=2, drop=True)
    pyserver.fault(op="GET", times=1, drop=True)
    assert "err" not in driver.request("set", "a", "1", ABSENT)
    assert operations(pyserver) == ["SET", "GET", "GET", "SET", "GET", "SET"]
    assert pyserver.history("a") == ["1"]


def test_changed_by_another_after_the_second_loss(driver, pyserver):
    pyserver.fault(op="SET", times=1, drop=True)
    pyserver.fault(op="SET", times=1, drop=True, store={"a": "another's"})
    assert_unknown(driver.request("set", "a", "1", ABSENT))
    assert operations(pyserver) == ["SET", "GET", "SET", "GET"]
    assert pyserver.get("a") == "another's"


@pytest.mark.parametrize("fault", [{"code": 403}, {"code": 500}, {"fields": {"value": None}}, {"remove": ["code"]}])
def test_what_it_left_cannot_be_read(driver, pyserver, fault):
    pyserver.set("a", "old")
    pyserver.fault(op="SET", times=1, drop=True)
    pyserver.fault(op="GET", times=1, **fault)
    assert_unknown(driver.request("set", "a", "1", {"before": "old"}))
    assert operations(pyserver) == ["SET", "GET"]


def test_the_reading_is_refused_for_a_while(driver, pyserver):
    pyserver.fault(op="SET", times=1, drop=True)
    pyserver.fault(op="GET", times=2, code=429)
    assert "err" not in driver.request("set", "a", "1", ABSENT)
    assert operations(pyserver) == ["SET", "GET", "GET", "GET", "SET"]


def test_the_repetition_is_refused_for_a_while(driver, pyserver):
    pyserver.fault(op="SET", times=1, drop=True)
    pyserver.fault(op="SET", times=2, code=429)
    assert "err" not in driver.request("set", "a", "1", ABSENT)
    assert operations(pyserver) == ["SET", "GET", "SET", "SET", "SET"]


# --- order ---


def test_later_requests_wait_for_what_is_repeated(driver, pyserver):
    (first,) = lose(pyserver, driver, 1, ["set", "a", "1", ABSENT])
    pyserver.down()
    driver.wait("disconnected")
    second = driver.start("set", "a", "2")
    third = driver.start("set", "b", "1")
    pyserver.up()
    for number in first, second, third:
        assert "err" not in driver.reply(number)
    assert pyserver.log()[1:] == [("GET", "a"), ("SET", "a"), ("SET", "a"), ("SET", "b")]
    assert pyserver.history("a") == ["1", "2"]


def test_changes_of_one_key_are_repeated_one_after_the_other(driver, pyserver):
    numbers = lose(
        pyserver,
        driver,
        4,
        ["set", "a", "1", ABSENT],
        ["set", "a", "2", {"before": "1"}],
        ["set", "b", "1", ABSENT],
        ["delete", "a", {"before": "2"}],
    )
    pyserver.drop_connections()
    for number in numbers:
        assert "err" not in driver.reply(number)
    assert [op for op, key in pyserver.log()[4:] if key == "a"] == ["GET", "SET", "GET", "SET", "GET", "DELETE"]
    assert pyserver.history("a") == ["1", "2", None]
    assert pyserver.history("b") == ["1"]


def test_one_that_is_cancelled_makes_room_for_the_next(driver, pyserver):
    first, second, third = lose(
        pyserver, driver, 2, ["set", "a", "1", ABSENT], ["set", "a", "2", ABSENT], ["get", "b", {"priority": "background"}]
    )
    hold = pyserver.fault(op="GET", key="a", hold=True, times=1)
    pyserver.drop_connections()
    wait_for(lambda: pyserver.hits(hold) == 1, "the reading")
    last = driver.start("set", "c", "1")
    driver.do("cancel", first)
    assert driver.reply(first)["err"] == -errno.ECANCELED
    assert driver.reply(first)["unknown"] is True
    assert "err" not in driver.reply(second)
    assert "err" not in driver.reply(last)
    assert driver.reply(third)["err"] == -errno.ENOENT
    assert pyserver.history("a") == ["2"]
    pyserver.release(hold)


def test_freed_while_it_repeats(driver, pyserver):
    numbers = lose(pyserver, driver, 3, *[["set", key, "1", ABSENT] for key in ("a", "a", "b")])
    hold = pyserver.fault(op="GET", hold=True)
    pyserver.drop_connections()
    wait_for(lambda: pyserver.hits(hold) == 2, "the reading")
    driver.do("free")
    for number in numbers:
        assert driver.reply(number)["err"] == -errno.ECANCELED


# --- without a connection ---


def test_requests_made_while_it_reconnects(driver, pyserver):
    pyserver.set("a", "1")
    pyserver.down()
    driver.wait("disconnected")
    numbers = [driver.start("get", "a"), driver.start("set", "b", "2"), driver.start("atomic", "n", "3")]
    pyserver.up()
    assert driver.reply(numbers[0])["value"] == "1"
    assert "err" not in driver.reply(numbers[1])
    assert driver.reply(numbers[2])["value"] == "3"
    assert operations(pyserver) == ["GET", "SET", "ATOMIC"]


def test_time_runs_out_before_there_is_a_connection(driver, pyserver):
    pyserver.down()
    driver.wait("disconnected")
    reply = driver.request("set", "a", "1", 200)
    assert (reply["err"], reply["kind"], reply["unknown"]) == (-errno.ETIMEDOUT, KIND_CONNECTION, False)
    pyserver.up()
    assert "err" not in driver.request("set", "b", "1")
    assert pyserver.log() == [("SET", "b")]


def test_time_runs_out_before_it_can_be_repeated(driver, pyserver):
    (number,) = lose(pyserver, driver, 1, ["set", "a", "1", {"timeout_ms": 1000, "before": None}])
    pyserver.down()
    reply = driver.reply(number)
    assert (reply["err"], reply["unknown"]) == (-errno.ETIMEDOUT, True)
    pyserver.up()
    assert "err" not in driver.request("set", "b", "1")
    assert pyserver.get("a") is None


def test_no_more_attempts(pyserver):
    with driver_of(pyserver, max_reconnect_attempts=2) as client:
        client.connect()
        numbers = lose(pyserver, client, 3, ["get", "a"], ["set", "a", "1", ABSENT], ["patch", "a", "1"])
        pyserver.down()
        waiting = client.start("set", "b", "1")
        replies = [client.reply(number) for number in numbers]
        assert [reply["unknown"] for reply in replies] == [False, True, True]
        assert replies[2]["err"] == -errno.ECONNRESET
        assert all(reply["err"] in (-errno.ECONNRESET, -errno.ECONNREFUSED) for reply in replies)
        last = client.reply(waiting)
        assert last["err"] == -errno.ENOTCONN or last["unknown"] is False
        wait_for(lambda: client.state() == 0, "the end of the attempts")
        assert client.request("get", "a")["err"] == -errno.ENOTCONN
        pyserver.up()


def test_a_late_reply_belongs_to_nobody(driver, pyserver):
    pyserver.set_all({"a": "late", "b": "right"})
    hold = pyserver.fault(op="GET", key="a", hold=True)
    reply = driver.request("get", "a", 200)
    assert (reply["err"], reply["kind"]) == (-errno.ETIMEDOUT, KIND_TIMEOUT)
    pyserver.release(hold)
    assert driver.request("get", "b")["value"] == "right"
    driver.do("stats")
    assert driver.wait("stats")["ignored"] == 1
    assert driver.count("reply") == 2


def test_the_unknown_outcome_of_a_timeout(driver, pyserver):
    pyserver.fault(never=True)
    assert driver.request("set", "a", "1", 200)["unknown"] is True
    assert driver.request("get", "a", 200)["unknown"] is False


# --- around a disconnect that waits ---


def test_requests_for_the_connection_after_the_one_that_is_being_closed(driver, pyserver):
    hold = pyserver.fault(key="a", hold=True)
    first = driver.start("set", "a", "1")
    wait_for(lambda: pyserver.hits(hold) == 1, "the request at the server")
    driver.do("disconnect", False)
    assert driver.request("set", "b", "refused")["err"] == -errno.ENOTCONN
    driver.do("connect")
    later = driver.start("set", "b", "1")
    driver.do("stats")
    assert driver.wait("stats")["queued"] == 1
    pyserver.release(hold)
    assert "err" not in driver.reply(first)
    assert "err" not in driver.reply(later)
    driver.wait("disconnect")
    assert pyserver.log() == [("SET", "a"), ("SET", "b")]
    assert driver.count("connected") == 2


def test_a_disconnect_cancels_what_waits_for_the_next_connection(driver, pyserver):
    """There will be none: the connect that it was made for is cancelled as well."""
    pyserver.set("a", "1")
    hold = pyserver.fault(op="GET", key="a", hold=True)
    first = driver.start("get", "a")
    wait_for(lambda: pyserver.hits(hold) == 1, "the request")
    driver.do("disconnect", False)
    driver.do("connect")
    second = driver.start("set", "b", "1")
    driver.do("disconnect", False)
    reply = driver.reply(second)
    assert (reply["err"], reply["unknown"]) == (-errno.ECANCELED, False)
    assert driver.count("disconnect") == 0
    pyserver.release(hold)
    assert driver.reply(first)["value"] == "1"
    driver.wait("disconnect", after=1)
    assert driver.state() == 0
    assert pyserver.get("b") is None


def test_a_request_that_is_refused_while_a_disconnect_waits_for_it(driver, pyserver):
    pyserver.fault(key="a", code=429, times=2)
    first = driver.start("set", "a", "1")
    driver.do("disconnect", False)
    assert "err" not in driver.reply(first)
    driver.wait("disconnect")
    assert driver.count("disconnected") == 1
    assert pyserver.get("a") == "1"


def test_the_connection_is_lost_while_a_disconnect_waits(driver, pyserver):
    (number,) = lose(pyserver, driver, 1, ["set", "a", "1", ABSENT])
    driver.do("disconnect", False)
    driver.state()
    pyserver.drop_connections()
    assert_unknown(driver.reply(number))
    driver.wait("disconnect")
    assert driver.state() == 0
    assert pyserver.log() == [("SET", "a")]


# --- all of it together ---

FAULTS = [{"drop": True}, {"drop": True, "apply": True}, {"close": 1001}, {"partial": True}, {"code": 429}]


def scatter(pyserver, random, count, requests):
    for _ in range(count):
        fault = dict(random.choice(FAULTS), skip=random.randrange(requests), times=random.choice([1, 1, 2]))
        if random.random() < 0.5:
            fault["op"] = random.choice(["GET", "SET", "DELETE", "PATCH"])
        pyserver.fault(**fault)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_with_faults_of_every_kind_each_change_happens_once(pyserver, seed):
    """One writer for each key, and no other: what it says of the key is true, so nothing is left unknown but patches."""
    random = Random(seed)
    keys = [f"k{i}" for i in range(20)]
    held = dict.fromkeys(keys)
    logs = {f"log{i}": "" for i in range(5)}
    with driver_of(pyserver, max_in_flight=8, throttle={"enabled": True, "rate_per_s": 1000}) as client:
        client.connect()
        scatter(pyserver, random, 60, 200)
        for round_ in range(8):
            started = {}
            for key in keys:
                wanted = None if held[key] is not None and random.random() < 0.3 else f"{key} {round_}"
                command = ["delete", key] if wanted is None else ["set", key, wanted]
                priority = random.choice(["interactive", "background"])
                started[key] = wanted, client.start(*command, {"before": held[key], "priority": priority})
            patches = {log: client.start("patch", log, f"<{round_}>") for log in logs}
            for key, (wanted, number) in started.items():
                assert "err" not in client.reply(number)
                held[key] = wanted
                assert pyserver.get(key) == wanted
            for log, number in patches.items():
                reply = client.reply(number)
                text = pyserver.get(log) or ""
                assert text in (logs[log], logs[log] + f"<{round_}>")
                if "err" in reply:
                    assert_unknown(reply)
                else:
                    assert text != logs[log]
                logs[log] = text
        for key in keys:
            changes = [value for value in pyserver.history(key) if value is not None]
            assert len(changes) == len(set(changes))
        assert client.count("connected") > 5


# --- a real server that is killed ---


def test_a_server_that_is_killed_again_and_again():
    """Every set, each with what the key held before, arrives once or is told as what it is."""
    with Hpkvd() as server, driver_of(server) as client:
        client.connect()
        expected = {}
        for round_ in range(3):
            numbers = {}
            for i in range(200):
                key, value = f"k{i}", f"{round_}.{i}"
                numbers[key] = client.start("set", key, value, {"before": expected.get(key)})
                expected[key] = value
            server.kill9()
            server.start()
            for number in numbers.values():
                assert "err" not in client.reply(number)
        for key, value in expected.items():
            assert client.request("get", key)["value"] == value
