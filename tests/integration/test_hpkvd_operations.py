"""hpkvd's operations over WebSocket, one by one: what they answer, and what they refuse."""

import json
import socket
import threading

import pytest

from lib.wsclient import Client, Refused


def refused(call, *arguments):
    with pytest.raises(Refused) as caught:
        call(*arguments)
    assert caught.value.text
    assert caught.value.reply["error"] == caught.value.reply["message"]
    return caught.value.code


def test_get_and_set(store):
    assert store.get("a") is None
    assert store.request(op=2, key="a", value="1")["success"] is True
    reply = store.request(op=1, key="a")
    assert (reply["key"], reply["value"]) == ("a", "1")
    store.set("a", "2")
    assert store.get("a") == "2"


@pytest.mark.parametrize(
    "key",
    ["a//b", "/a", "a/", ".", "..", "a/../b", "%41", "a=b", "a+b c", "a\nb", "\t", "\u0001", "a\0b", "ü/€/\U0001f600", "\U0010ffff"],
)
def test_any_text_is_a_key_and_a_value(store, key):
    store.set(key, key)
    assert store.get(key) == key
    assert store.range(key, key)["records"] == [{"key": key, "value": key}]
    store.delete(key)
    assert store.get(key) is None


def test_missing_keys(store):
    for op in (1, 4):
        with pytest.raises(Refused) as caught:
            store.request(op=op, key="none")
        assert (caught.value.code, caught.value.text) == (404, "Record not found")


def test_delete(store):
    store.set("a", "1")
    assert store.request(op=4, key="a")["success"] is True
    assert store.get("a") is None


@pytest.mark.parametrize(
    "old, patch, new",
    [
        ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
        ('{"a":"b"}', '{"a":null}', "{}"),
        ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
        ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
        ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
        ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
        ('{"a":"foo"}', '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
        ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
        ('{"a":1.10,"b":1e2}', '{"c":12345678901234567890123}', '{"a":1.10,"b":1e2,"c":12345678901234567890123}'),
        (' { "a" : "\\u00e9" } ', '{"b":true}', '{"a":"é","b":true}'),
        ("one", " two", "one two"),
        ('{"a":1}', "tail", '{"a":1}tail'),
        ("head", '{"a":1}', 'head{"a":1}'),
        ("[1]", "[2]", "[1][2]"),
        ('{"a":1}\n', '{"b":2}\n', '{"a":1,"b":2}'),
        ('{"a":1', '{"b":2}', '{"a":1{"b":2}'),
        ('{"a":01}', '{"b":2}', '{"a":01}{"b":2}'),
    ],
)
def test_patch(store, old, patch, new):
    store.set("a", old)
    assert store.request(op=3, key="a", value=patch)["success"] is True
    assert store.get("a") == new


def test_patch_makes_a_missing_key_as_it_is(store):
    store.patch("a", '{"a":null}')
    assert store.get("a") == '{"a":null}'


def test_patch_of_a_number_appends_to_its_text(store):
    store.atomic("n", 12)
    store.patch("n", "3")
    assert store.get("n") == "123"


def test_patch_that_nests_too_deeply_is_refused(store):
    deep = '{"a":' * 2000 + "1" + "}" * 2000
    store.set("b", '{"a":1}')
    assert refused(store.patch, "b", deep[:2] + deep[2:]) in (400, 413)
    assert store.get("b") == '{"a":1}'


@pytest.mark.hpkvd_options("--max-value", "100000")
def test_deep_json_is_stored_but_not_merged(store):
    deep = '{"a":' * 2000 + "1" + "}" * 2000
    store.set("a", deep)
    assert store.get("a") == deep
    assert refused(store.patch, "a", '{"b":1}') == 400
    assert store.get("a") == deep


def test_atomic(store):
    reply = store.request(op=6, key="n", value=5)
    assert (reply["success"], reply["key"], reply["newValue"]) == (True, "n", 5)
    assert store.atomic("n", -7) == -2
    assert store.get("n") == -2
    assert store.range("n", "n")["records"] == [{"key": "n", "value": -2}]


def test_atomic_takes_text_that_is_a_number(store):
    """The official client can set nothing but text."""
    store.set("n", "41")
    assert store.atomic("n", 1) == 42


@pytest.mark.parametrize("value", ["x", "1.5", " 1", "1 ", "0x10", "01", "+1", "{}", "9223372036854775808", "1e400"])
def test_atomic_on_what_is_no_whole_number(store, value):
    store.set("n", value)
    assert refused(store.atomic, "n", 1) == 400
    assert store.get("n") == value


def test_atomic_up_to_64_bits_exactly(store):
    assert store.atomic("n", 2**63 - 2) == 2**63 - 2
    assert store.atomic("n", 1) == 2**63 - 1
    assert refused(store.atomic, "n", 1) == 400
    assert store.get("n") == 2**63 - 1
    assert store.atomic("m", -(2**63)) == -(2**63)
    assert refused(store.atomic, "m", -1) == 400


@pytest.mark.parametrize("increment", ["1", None, True, [1], {}, 0.5])
def test_atomic_refuses_other_increments(store, increment):
    assert refused(store.atomic, "n", increment) == 400
    assert store.get("n") is None


@pytest.mark.parametrize("text", ["5", "-0", "1.50", "1E+2", "12345678901234567890123", "0.1e-400"])
def test_numbers_keep_their_text(store, text):
    store.send_raw('{"op":2,"key":"n","messageId":900,"value":%s}' % text)
    assert store.receive(900)["code"] == 200
    store.send_raw('{"op":1,"key":"n","messageId":901}')
    assert store.receive_raw().endswith('"value":%s}' % text)
    store.send_raw('{"op":5,"key":"n","endKey":"n","messageId":902}')
    assert '{"key":"n","value":%s}' % text in store.receive_raw()


def test_range(store):
    names = ["a", "a/", "a/b", "a0", "b", "é", "€", "\uffff", "\U00010000"]
    for name in names:
        store.set(name, "v" + name)
    everything = store.range("\x01", "\U0010ffff")
    assert [(r["key"], r["value"]) for r in everything["records"]] == [
        (name, "v" + name) for name in sorted(names, key=lambda name: name.encode())
    ]
    assert (everything["count"], everything["truncated"]) == (9, False)
    assert [r["key"] for r in store.range("a/", "b")["records"]] == ["a/", "a/b", "a0", "b"]
    backwards = store.range("x", "c")
    assert (backwards["records"], backwards["count"], backwards["truncated"]) == ([], 0, False)


def test_range_pages(store):
    for number in range(1200):
        store.send(op=2, key=f"k{number:04}", value="x")
    for number in range(1200):
        assert store.receive(number + 1)["code"] == 200
    assert len(store.range("a", "z")["records"]) == 100
    assert store.range("a", "z", 3)["count"] == 3
    page = store.range("a", "z", 5000)
    assert (page["count"], page["truncated"]) == (1000, True)
    exact = store.range("k0000", "k0999", 1000)
    assert (exact["count"], exact["truncated"]) == (1000, False)
    assert [key for key, _ in store.range_all("a", "z")] == [f"k{number:04}" for number in range(1200)]


@pytest.mark.parametrize("limit", [0, -1, 1.5, "10", True, [1]])
def test_range_refuses_other_limits(store, limit):
    assert refused(store.range, "a", "b", limit) == 400


@pytest.mark.hpkvd_options("--max-value", "1000000")
def test_a_large_range_is_cut(store):
    """By its size as JSON: a newline takes two bytes there."""
    for number in range(8):
        store.set(f"k{number}", "\n" * 900_000)
    store.send(op=5, key="a", endKey="z", messageId=77)
    text = store.receive_raw()
    reply = json.loads(text)
    assert reply["truncated"] and reply["count"] == len(reply["records"]) == 2
    assert len(text) < 5 * 1024 * 1024
    assert [key for key, _ in store.range_all("a", "z")] == [f"k{number}" for number in range(8)]


@pytest.mark.hpkvd_options("--max-value", "6000000")
def test_a_range_gives_one_record_however_large(store):
    store.set("a", "\x01" * 5_000_000)
    store.set("b", "x")
    reply = store.range("a", "b")
    assert (reply["count"], reply["truncated"]) == (1, True)
    assert reply["records"][0]["value"] == "\x01" * 5_000_000


# --- refusals ---


def test_empty_keys_and_values(store):
    for message in (
        {"op": 1, "key": ""},
        {"op": 2, "key": "", "value": "x"},
        {"op": 2, "key": "a", "value": ""},
        {"op": 3, "key": "a", "value": ""},
        {"op": 4, "key": ""},
        {"op": 5, "key": "", "endKey": "z"},
        {"op": 5, "key": "a", "endKey": ""},
        {"op": 5, "key": "a"},
        {"op": 6, "key": "", "value": 1},
    ):
        assert refused(lambda: store.request(**message)) == 400


@pytest.mark.hpkvd_options("--max-key", "16", "--max-value", "100")
def test_limits_are_bytes(store):
    assert refused(store.set, "k" * 17, "x") == 400
    assert refused(store.set, "é" * 9, "x") == 400
    store.set("é" * 8, "é" * 50)
    assert store.get("é" * 8) == "é" * 50
    assert refused(store.set, "a", "x" * 101) == 413
    assert refused(store.set, "a", "é" * 51) == 413
    assert store.get("a") is None
    # a page goes on just behind the longest key
    assert store.range("é" * 8 + "\0", "é" * 8 + "\U0010ffff")["records"] == []


@pytest.mark.hpkvd_options("--max-value", "100")
def test_a_result_over_the_limit_leaves_the_old_value(store):
    store.set("a", "x" * 60)
    assert refused(store.patch, "a", "y" * 41) == 413
    assert store.get("a") == "x" * 60
    store.patch("a", "y" * 40)
    assert store.get("a") == "x" * 60 + "y" * 40
    store.set("j", '{"a":"%s"}' % ("x" * 60))
    assert refused(store.patch, "j", '{"b":"%s"}' % ("x" * 60)) == 413
    assert store.get("j") == '{"a":"%s"}' % ("x" * 60)


@pytest.mark.parametrize("op", [0, 7, -1, 1.5, "1", None, [], 11])
def test_other_operations(store, op):
    assert refused(lambda: store.request(op=op, key="a")) == 400


@pytest.mark.parametrize("value", [None, True, [], {}, ["x"]])
def test_other_types_of_value(store, value):
    for op in (2, 3):
        assert refused(lambda: store.request(op=op, key="a", value=value)) == 400


@pytest.mark.parametrize("key", [None, 1, True, [], {}])
def test_other_types_of_key(store, key):
    for op in range(1, 7):
        assert refused(lambda: store.request(op=op, key=key, endKey="z", value="x")) == 400


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "{",
        "[]",
        "1",
        "null",
        '{"op":1,"key":"a"',
        '{"op":1,"key":"\\ud800"}',
        '{"op":1,"key":"a"}}',
        '{"op":1,"key":"a" "b"}',
        "[" * 100000,
        '{"op":1,"key":"a","more":' + "[" * 1000 + "]" * 1000 + "}",
        '{"op":01,"key":"a"}',
        '{"op":1e,"key":"a"}',
        '{"op":-,"key":"a"}',
        '{"op":1,"key":"a\nb"}',
    ],
    ids=lambda text: text[:24],
)
def test_what_is_not_a_request_is_answered_without_an_id(store, text):
    store.send_raw(text)
    reply = json.loads(store.receive_raw())
    assert reply["code"] == 400 and reply["error"] and "messageId" not in reply
    store.set("a", "still there")
    assert store.get("a") == "still there"


def test_a_request_without_id_is_answered_without_one(store):
    store.send_raw('{"op":2,"key":"a","value":"1"}')
    assert json.loads(store.receive_raw()) == {"code": 200, "success": True, "message": "Record inserted/updated successfully"}
    assert store.get("a") == "1"


def test_ids_come_back_as_they_are(store):
    store.send_raw('{"op":1,"key":"a","messageId":12345678901234567890}')
    assert '"messageId":12345678901234567890,' in store.receive_raw()
    for bad in ('"x"', "[]", "true", "1" * 40):
        store.send_raw('{"op":1,"key":"a","messageId":%s}' % bad)
        reply = json.loads(store.receive_raw())
        assert reply["code"] == 400 and "messageId" not in reply


@pytest.mark.parametrize(
    "text",
    [
        '{"op":2,"key":"k","value":"v","messageId":7}',
        ' {\t"op" : 2 ,\r\n"key" : "k" , "value" : "v" , "messageId" : 7 } ',
        '{"op":2,"key":"\\u006b","value":"v","messageId":7}',
        '{"op":2,"\\u006bey":"k","value":"v","messageId":7}',
        '{"op":2,"key":"k","value":"v","messageId":7,"other":[1,{"key":"x"}]}',
        '{"op":2,"key":"k","value":"v","messageId":7,"limit":null,"a":true,"b":false,"c":-1.5e3,"é":"é"}',
        '{"op":2,"key":"k","value":"v","messageId":7,' + ",".join(f'"m{n}":{n}' for n in range(20)) + "}",
        '{"op":1,"key":3,"value":[],"messageId":"x","op":2,"key":"k","value":"v","messageId":7}',
        '{"op":1,"key":3,"value":{},"messageId":[],"op":2,"key":"k","value":"\\u0076","messageId":7}',
    ],
)
def test_one_request_written_in_many_ways(store, text):
    store.send_raw(text)
    assert json.loads(store.receive_raw()) == {"messageId": 7, "code": 200, "success": True, "message": "Record inserted/updated successfully"}
    assert store.get("k") == "v"


def test_unknown_members_are_ignored(store):
    store.request(op=2, key="a", value="1", more={"deep": [1, 2]}, endKey=7)
    assert store.get("a") == "1"


# --- order ---


def test_requests_of_one_connection_without_waiting(store):
    """A read sees the writes that were sent before it, though their replies have not come."""
    for number in range(300):
        key = f"k{number % 7}"
        store.send(op=2, key=key, value=str(number), messageId=4 * number + 1)
        store.send(op=1, key=key, messageId=4 * number + 2)
        store.send(op=5, key="k", endKey="l", messageId=4 * number + 3)
        store.send(op=3, key=key, value="+", messageId=4 * number + 4)

    def at_least(value, number):
        return int(value.rstrip("+")) >= number

    for number in range(300):
        assert store.receive(4 * number + 1)["code"] == 200
        assert at_least(store.receive(4 * number + 2)["value"], number)
        values = {record["key"]: record["value"] for record in store.receive(4 * number + 3)["records"]}
        assert at_least(values[f"k{number % 7}"], number)
        assert store.receive(4 * number + 4)["code"] == 200
    assert store.get("k0") == "294+"


def test_a_get_and_a_set_that_are_sent_together_have_nothing_of_others_between(hpkvd, store):
    """So a client knows what its SET has replaced: what others append in the meantime is in one value that was read."""
    count, rounds = 300, 0
    connection = store.socket.transport.get_extra_info("socket")
    store.set("a", "start\n")
    with Client(hpkvd.url, key=hpkvd.key) as other:
        patches = [other.send(op=3, key="a", value=f"line {number}\n") for number in range(count)]
        found = []
        while len(found) < count:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            got = store.send(op=1, key="a")
            done = store.send(op=2, key="a", value=f"round {rounds}\n")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
            found += store.receive(got)["value"].splitlines()[1:]
            assert store.receive(done)["code"] == 200
            rounds += 1
        for number in patches:
            assert other.receive(number)["code"] == 200
    assert found == [f"line {number}" for number in range(count)]


LARGE = pytest.mark.hpkvd_options("--max-value", str(1 << 20))


@pytest.mark.parametrize(
    "reads, size",
    [
        (0, 0),
        pytest.param(7, 0, id="the GET is the eighth"),
        pytest.param(7, 0, marks=LARGE, id="more may be read than is to be sent"),
        pytest.param(0, 400_000, marks=LARGE, id="the SET comes in pieces"),
    ],
)
def test_so_it_is_whatever_comes_with_them(hpkvd, store, reads, size):
    """Others' replies and the size of the SET make no difference; nothing that was appended meanwhile is lost."""
    appended, found = 0, []
    over = threading.Event()
    connection = store.socket.transport.get_extra_info("socket")
    store.set("a", "start\n")

    def append():
        nonlocal appended
        with Client(hpkvd.url, key=hpkvd.key) as other:
            while not over.is_set():
                other.patch("a", f"line {appended}\n")
                appended += 1

    thread = threading.Thread(target=append)
    thread.start()
    try:
        for rounds in range(40 if size else 150):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            others = [store.send(op=1, key="b") for _ in range(reads)]
            got = store.send(op=1, key="a")
            done = store.send(op=2, key="a", value=f"round {rounds} {'x' * size}\n")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
            found += store.receive(got)["value"].splitlines()[1:]
            assert store.receive(done)["code"] == 200
            for number in others:
                store.receive(number)
    finally:
        over.set()
        thread.join()
    found += store.get("a").splitlines()[1:]
    assert appended > 0
    assert found == [f"line {number}" for number in range(appended)]
