"""libhpkv against a server that does whatever the test wants."""

import errno
import time

import pytest

from lib.client_driver import Driver
from lib.processes import wait_for

DISCONNECTED = 0


@pytest.fixture
def driver(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        assert "err" not in client.connect()
        yield client


@pytest.fixture
def impatient(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key, operation_timeout_ms=300) as client:
        assert "err" not in client.connect()
        yield client


def test_every_operation(driver, pyserver):
    assert "err" not in driver.request("set", "a", "1")
    assert pyserver.get("a") == "1"
    assert driver.request("get", "a")["value"] == "1"
    assert "err" not in driver.request("patch", "a", "2")
    assert pyserver.get("a") == "12"
    assert driver.request("atomic", "n", "-7")["value"] == "-7"
    assert pyserver.get("n") == -7
    reply = driver.request("range", "a", "z", 10)
    assert reply["records"] == [["a", "12", False], ["n", "-7", True]]
    assert reply["truncated"] is False
    assert driver.request("range", "a", "z", 1)["truncated"] is True
    assert "err" not in driver.request("delete", "a")
    assert pyserver.get("a") is None
    missing = driver.request("get", "a")
    assert (missing["err"], missing["code"]) == (-errno.ENOENT, 404)
    assert (driver.request("delete", "a")["err"]) == -errno.ENOENT


def test_text_is_kept_exactly(driver, pyserver):
    key, value = "k\0\n\t\"\\/é😀\u2028", "v\0\x01\x7f\"\\😀" * 100
    assert "err" not in driver.request("set", key, value)
    assert pyserver.get(key) == value
    assert driver.request("get", key)["value"] == value


@pytest.mark.parametrize("number", ["0.10", "1e400", "-0", "123456789012345678901234567890", "9007199254740993"])
def test_numbers_are_kept_exactly(driver, pyserver, number):
    pyserver.fault(op="GET", raw=f'{{"messageId":1,"code":200,"value":{number}}}')
    reply = driver.request("get", "n")
    assert reply["value"] == number
    assert reply["number"] is True


def test_a_value_of_a_megabyte_goes_both_ways(pyserver):
    pyserver.configure(max_value=2 << 20)
    value = "0123456789abcdé" * 65536
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        client.connect()
        assert "err" not in client.request("set", "big", value)
        assert pyserver.get("big") == value
        assert client.request("get", "big")["value"] == value


def test_replies_in_another_order(driver, pyserver):
    pyserver.configure(disorder=True)
    pyserver.set_all({f"k{i}": f"v{i}" for i in range(500)})
    numbers = [driver.start("get", f"k{i}") for i in range(500)]
    for i, number in enumerate(numbers):
        assert driver.reply(number)["value"] == f"v{i}"


def test_noise_is_passed_by(driver, pyserver):
    """Garbage, replies to nobody, notifications nobody asked for: the answer still arrives, once."""
    pyserver.set("a", "1")
    pyserver.configure(
        noise=[
            "",
            "nonsense",
            "[]",
            "{",
            '{"messageId":999,"code":200,"value":"wrong"}',
            '{"messageId":0,"code":200,"value":"wrong"}',
            '{"messageId":"1","code":200,"value":"wrong"}',
            '{"messageId":-1,"code":200,"value":"wrong"}',
            '{"code":200,"value":"wrong"}',
            '{"type":"hello"}',
            '{"type":"notification"}',
        ]
    )
    for _ in range(3):
        assert driver.request("get", "a")["value"] == "1"
    assert driver.count("reply") == 3
    assert driver.count("notification") == 0


def test_an_id_that_was_not_sent_is_no_reply(pyserver):
    """A reply that comes before its request was sent belongs to nobody."""
    with Driver(pyserver.url, api_key=pyserver.key, operation_timeout_ms=300) as client:
        client.connect()
        pyserver.fault(op="GET", raw='{"messageId":2,"code":200,"value":"early"}', times=1)
        assert client.request("get", "a")["err"] == -errno.ETIMEDOUT
        pyserver.set("a", "right")
        assert client.request("get", "a")["value"] == "right"


@pytest.mark.parametrize(
    "members",
    [
        {"remove": ["code"]},
        {"fields": {"code": "200"}},
        {"remove": ["value"]},
        {"fields": {"value": None}},
        {"fields": {"value": {"a": 1}}},
        {"fields": {"success": False}},
        {"raw": '{"messageId":1,"code":200,"value":"\\ud800"}'},
        {"raw": '{"messageId":1,"code":200,"value":01}'},
        {"raw": '{"messageId":1,"code":200,"value":"x'},
        {"raw": '{"messageId":1,"code":200,"value":' + "[" * 100000},
    ],
)
def test_a_reply_that_makes_no_sense(driver, pyserver, members):
    pyserver.set("a", "1")
    pyserver.fault(op="GET", times=1, **members)
    assert driver.request("get", "a")["err"] == -errno.EPROTO
    assert driver.request("get", "a")["value"] == "1"


@pytest.mark.parametrize(
    "code, expected",
    [
        (400, errno.EINVAL),
        (401, errno.EACCES),
        (403, errno.EACCES),
        (404, errno.ENOENT),
        (409, errno.EINVAL),
        (413, errno.EFBIG),
        (500, errno.EIO),
        (503, errno.EIO),
        (302, errno.EIO),
    ],
)
def test_codes_become_errnos(driver, pyserver, code, expected):
    pyserver.fault(code=code, text="the text", times=1)
    reply = driver.request("set", "a", "1")
    assert (reply["err"], reply["code"], reply["text"]) == (-expected, code, "the text")


def test_no_answer_in_time(impatient, pyserver):
    pyserver.set("a", "1")
    hold = pyserver.fault(op="GET", hold=True, times=1)
    reply = impatient.request("get", "a")
    assert (reply["err"], reply["code"]) == (-errno.ETIMEDOUT, 0)
    pyserver.release(hold)
    # the late reply is dropped, the connection lives on
    assert impatient.request("get", "a")["value"] == "1"
    assert impatient.count("reply") == 2
    assert impatient.count("disconnected") == 0


def test_each_request_has_its_own_timeout(driver, pyserver):
    pyserver.fault(never=True)
    slow = driver.start("get", "slow", 60000)
    quick = driver.start("get", "quick", 100)
    middle = driver.start("set", "middle", "x", 300)
    assert driver.reply(quick)["err"] == -errno.ETIMEDOUT
    assert driver.reply(middle)["err"] == -errno.ETIMEDOUT
    order = [event["n"] for event in driver.events if event["event"] == "reply"]
    assert order == [quick, middle]
    driver.do("cancel", slow)
    assert driver.reply(slow)["err"] == -errno.ECANCELED


def test_cancelled(driver, pyserver):
    hold = pyserver.fault(op="SET", hold=True)
    number = driver.start("set", "a", "1")
    wait_for(lambda: pyserver.hits(hold) == 1, "the request at the server")
    driver.do("cancel", number)
    assert driver.reply(number)["err"] == -errno.ECANCELED
    pyserver.release(hold)
    assert "err" not in driver.request("delete", "a")
    assert driver.count("reply") == 2


def test_lost_while_requests_are_under_way(driver, pyserver):
    hold = pyserver.fault(never=True)
    numbers = [driver.start("get", f"k{i}") for i in range(10)]
    wait_for(lambda: pyserver.hits(hold) == 10, "ten requests at the server")
    pyserver.drop_connections()
    for number in numbers:
        assert driver.reply(number)["err"] == -errno.ECONNRESET
    assert driver.wait("disconnected")["err"] == -errno.ECONNRESET
    assert driver.state() == DISCONNECTED
    pyserver.clear_faults()
    assert "err" not in driver.connect()
    assert driver.count("connected") == 2


@pytest.mark.parametrize("fault", [{"drop": True}, {"close": 1000}, {"close": 1001}, {"close": 4001}, {"partial": True}])
def test_the_server_hangs_up_instead_of_answering(driver, pyserver, fault):
    pyserver.fault(op="GET", times=1, **fault)
    pyserver.set("a", "1")
    assert driver.request("get", "a")["err"] == -errno.ECONNRESET
    lost = driver.wait("disconnected")
    assert lost["code"] == fault.get("close", 0)
    assert "err" not in driver.connect()
    assert driver.request("get", "a")["value"] == "1"


def test_connects_again_from_inside_the_callback(driver, pyserver):
    pyserver.set("a", "1")
    driver.do("on_lost", [["connect"], ["get", "a"]])
    driver.state()  # the order was taken
    pyserver.drop_connections()
    driver.wait("disconnected")
    assert driver.reply(1)["value"] == "1"
    assert driver.count("connected") == 2


def test_a_message_that_is_too_large(pyserver):
    pyserver.set("a", "1")
    with Driver(pyserver.url, api_key=pyserver.key, max_message_bytes=1 << 20) as client:
        client.connect()
        pyserver.fault(op="GET", times=1, huge=16 << 20)
        assert client.request("get", "a")["err"] == -errno.EPROTO
        lost = client.wait("disconnected")
        assert lost["err"] == -errno.EPROTO
        assert "larger than 1048576" in lost["text"]
        assert "err" not in client.connect()
        assert client.request("get", "a")["value"] == "1"


def test_a_frame_of_sixteen_megabytes_within_the_limit(pyserver):
    """It is read whole, makes no sense, and answers nobody."""
    pyserver.set("a", "1")
    with Driver(pyserver.url, api_key=pyserver.key, max_message_bytes=32 << 20, operation_timeout_ms=20000) as client:
        client.connect()
        pyserver.fault(op="GET", times=1, huge=16 << 20)
        first = client.start("get", "a")
        assert client.request("get", "a")["value"] == "1"
        client.do("cancel", first)
        assert client.reply(first)["err"] == -errno.ECANCELED
        assert client.count("disconnected") == 0


def test_an_answer_in_a_binary_frame_is_read(driver, pyserver):
    pyserver.set("a", "1")
    pyserver.fault(op="GET", times=1, binary=True)
    assert driver.request("get", "a")["value"] == "1"


@pytest.mark.parametrize(
    "status, expected",
    [
        (401, errno.EACCES),
        (403, errno.EACCES),
        (404, errno.EPROTO),
        (429, errno.EAGAIN),
        (500, errno.EIO),
        (503, errno.EIO),
        (301, errno.EPROTO),
        (302, errno.EPROTO),
        (200, errno.EPROTO),
    ],
)
def test_refused_upgrades(pyserver, status, expected):
    pyserver.configure(refuse=status)
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        outcome = client.connect()
        assert (outcome["err"], outcome["code"]) == (-expected, status)
        assert pyserver.key not in outcome["text"]
        assert client.count("disconnected") == 0
        pyserver.configure(refuse=None)
        assert "err" not in client.connect()


def test_a_wrong_key(pyserver):
    with Driver(pyserver.url, api_key="sesame&apiKey=" + pyserver.key) as client:
        outcome = client.connect()
        assert (outcome["err"], outcome["code"]) == (-errno.EACCES, 401)
        assert "sesame" not in outcome["text"]


def test_requests_wait_while_it_connects(pyserver):
    pyserver.set("a", "1")
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        assert client.request("get", "a")["err"] == -errno.ENOTCONN
        client.do("connect")
        second = client.start("get", "a")
        client.do("connect")
        assert client.reply(second)["value"] == "1"
        client.wait("connect", after=1)
        assert client.count("connected") == 1
        assert pyserver.connections() == 1


def test_requests_end_when_the_connect_fails(pyserver):
    pyserver.configure(refuse=503)
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        client.do("together", [["connect"], ["set", "a", "1"]])
        assert client.reply(1)["err"] == -errno.EIO
        assert client.wait("connect")["code"] == 503


def test_nobody_listens(pyserver):
    url = pyserver.url
    pyserver.down()
    try:
        with Driver(url, api_key="k") as client:
            assert client.connect()["err"] == -errno.ECONNREFUSED
            assert client.connect()["err"] == -errno.ECONNREFUSED
    finally:
        pyserver.up()


def test_disconnect_and_connect_again(driver, pyserver):
    pyserver.set("a", "1")
    pyserver.fault(op="SET", never=True)
    number = driver.start("set", "b", "1")
    driver.do("disconnect")
    driver.wait("disconnect")
    assert driver.reply(number)["err"] == -errno.ECANCELED
    assert driver.state() == DISCONNECTED
    assert "err" not in driver.wait("disconnected")
    assert driver.request("get", "a")["err"] == -errno.ENOTCONN
    wait_for(lambda: pyserver.connections() == 0, "the connection's end at the server")
    assert "err" not in driver.connect()
    assert driver.request("get", "a")["value"] == "1"


def test_disconnect_then_connect_at_once(driver, pyserver):
    pyserver.set("a", "1")
    driver.do("disconnect")
    driver.do("connect")
    driver.wait("connect", after=1)
    assert driver.request("get", "a")["value"] == "1"


def test_disconnect_in_every_state(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        client.do("disconnect")
        client.wait("disconnect")
        client.do("connect")
        client.do("disconnect")
        client.do("disconnect")
        client.wait("disconnect", after=2)
        assert client.wait("connect").get("err") in (None, -errno.ECANCELED)
        assert client.state() == DISCONNECTED
        assert "err" not in client.connect()


def test_disconnect_inside_a_callback(driver, pyserver):
    driver.do("then", [["disconnect"]])
    pyserver.fault(op="GET", key="later", never=True)
    later = driver.start("get", "later")
    assert "err" not in driver.request("set", "a", "1")
    driver.wait("disconnect")
    assert driver.reply(later)["err"] == -errno.ECANCELED


def test_freed_inside_a_reply(driver, pyserver):
    hold = pyserver.fault(op="GET", key="later", never=True)
    later = [driver.start("get", "later") for _ in range(5)]
    wait_for(lambda: pyserver.hits(hold) == 5, "requests at the server")
    driver.do("then", [["free"]])
    driver.do("set", "a", "1")
    driver.wait("freed")
    for number in later:
        assert driver.reply(number)["err"] == -errno.ECANCELED
    wait_for(lambda: pyserver.connections() == 0, "the connection's end at the server")


def test_freed_inside_the_loss(driver, pyserver):
    hold = pyserver.fault(never=True)
    number = driver.start("get", "a")
    wait_for(lambda: pyserver.hits(hold) == 1, "the request at the server")
    driver.do("on_lost", [["free"]])
    driver.state()  # the order was taken
    pyserver.drop_connections()
    driver.wait("freed")
    assert driver.reply(number)["err"] == -errno.ECANCELED


@pytest.mark.parametrize("refuse", [None, 401])
def test_freed_inside_the_connect(pyserver, refuse):
    pyserver.configure(refuse=refuse)
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        client.do("on_connect", [["free"]])
        client.do("connect")
        client.wait("freed")


def test_freed_while_it_connects(pyserver):
    with Driver(pyserver.url, api_key=pyserver.key) as client:
        client.do("together", [["connect"], ["get", "a"], ["free"]])
        client.wait("freed")
        assert client.reply(1)["err"] == -errno.ECANCELED
        assert client.wait("connect")["err"] == -errno.ECANCELED


def test_cancelling_another_inside_a_callback(driver, pyserver):
    hold = pyserver.fault(op="GET", key="later", never=True)
    later = driver.start("get", "later")
    wait_for(lambda: pyserver.hits(hold) == 1, "the request at the server")
    driver.do("then", [["cancel", later], ["cancel", later]])
    assert "err" not in driver.request("set", "a", "1")
    assert driver.reply(later)["err"] == -errno.ECANCELED


@pytest.mark.parametrize(
    "command",
    [
        ["get", ""],
        ["set", "", "1"],
        ["set", "a", ""],
        ["patch", "a", ""],
        ["delete", ""],
        ["range", "", "b"],
        ["range", "a", ""],
        ["atomic", "a", ""],
        ["atomic", "a", "1x"],
        ["atomic", "a", "01"],
    ],
)
def test_what_no_server_takes_is_refused_at_once(driver, pyserver, command):
    assert driver.request(*command) == {"event": "refused", "n": 1, "err": -errno.EINVAL}
    assert pyserver.log() == []


def test_notifications(pyserver):
    pyserver.set("a:1", "0")
    with Driver(pyserver.url, api_key=pyserver.key) as asker:
        asker.do("token", ["a:*"], "^a:")
        token = asker.wait("token")["token"]
    with Driver(pyserver.url, token=token) as client:
        assert "err" not in client.connect()
        pyserver.set("a:1", "new")
        first = client.wait("notification")
        assert (first["key"], first["value"], first["number"]) == ("a:1", "new", False)
        assert first["timestamp"] > 1.6e12
        pyserver.set("b:1", "not ours")
        pyserver.set("a:1", 0.5)
        assert client.wait("notification", after=1)["value"] == "0.5"
        pyserver.delete("a:1")
        assert "value" not in client.wait("notification", after=2)
        assert client.request("get", "b:1")["err"] == -errno.EACCES
        assert "err" not in client.request("set", "a:2", "own")
        assert client.wait("notification", after=3)["key"] == "a:2"


def test_tokens_that_are_refused(pyserver):
    with Driver(pyserver.url, api_key="wrong") as client:
        client.do("token", [], None)
        outcome = client.wait("token")
        assert (outcome["err"], outcome["code"]) == (-errno.EACCES, 401)
        assert "token" not in outcome
    with Driver(pyserver.url, token="wrong") as client:
        assert client.connect()["err"] == -errno.EACCES


def test_a_proxy_in_the_environment_is_not_used(pyserver):
    pyserver.set("a", "1")
    proxy = "http://127.0.0.1:9"
    env = {name: proxy for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")}
    with Driver(pyserver.url, env=env, api_key=pyserver.key) as client:
        assert "err" not in client.connect()
        assert client.request("get", "a")["value"] == "1"
        client.do("token", [], None)
        assert "token" in client.wait("token")


def test_many_requests_in_flight(driver, pyserver):
    pyserver.set("a", "1")
    numbers = [driver.start("get", "a") for _ in range(5000)]
    for number in numbers:
        assert driver.reply(number)["value"] == "1"


def test_localhost_by_name(pyserver):
    """Both addresses of the name are tried; the server listens on one only."""
    pyserver.set("a", "1")
    with Driver(pyserver.url.replace("127.0.0.1", "localhost"), api_key=pyserver.key) as client:
        assert "err" not in client.connect()
        assert client.request("get", "a")["value"] == "1"


def test_a_host_that_does_not_exist():
    with Driver("https://no-such-host.invalid", api_key="k") as client:
        assert client.connect()["err"] in (-errno.EHOSTUNREACH, -errno.ETIMEDOUT)


@pytest.mark.parametrize("url, options", [
    ("http://example.com", {"api_key": "k"}),
    ("http://127.0.0.1", {}),
    ("http://127.0.0.1", {"api_key": "k", "token": "t"}),
    ("http://127.0.0.1", {"api_key": ""}),
    ("nonsense", {"api_key": "k"}),
])
def test_configurations_that_are_refused(url, options):
    with Driver(url, **options) as client:
        assert client.wait("invalid")["err"] == -errno.EINVAL


def test_the_time_of_a_timeout_counts_from_sending(pyserver):
    """A request that waits for the connection does not lose the time that the connect took."""
    with Driver(pyserver.url, api_key=pyserver.key, operation_timeout_ms=1500) as client:
        client.do("connect")
        pyserver.fault(op="GET", delay=1.0)
        pyserver.set("a", "1")
        assert client.request("get", "a")["value"] == "1"
        began = time.monotonic()
        assert client.request("get", "a")["value"] == "1"
        assert time.monotonic() - began >= 0.9
