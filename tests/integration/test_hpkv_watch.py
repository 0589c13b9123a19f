"""hpkv watch: each change once and in order, through all that can happen to the connection and to the reader."""

import contextlib
import json
import os
import signal
import subprocess
import time

import pytest

from lib.processes import program, wait_for
from lib.rawserver import RawServer, answering, drain, hang_up, scripted, upgraded
from lib.shell import sh
from lib.watch import BACK, LOST, READY, Watch
from lib.wsclient import Client

OK, USAGE, REFUSED, UNREACHABLE = 0, 2, 3, 4

MIB = 1 << 20


@pytest.fixture
def watch(pyserver):
    """watch(*words, on=server, ready=True, **keywords of Watch): one that is ended with the test."""
    with contextlib.ExitStack() as stack:

        def go(*words, on=pyserver, ready=True, **keywords):
            one = stack.enter_context(Watch(on.url, on.key, *words, **keywords))
            return one.ready() if ready else one

        yield go


def only_ready(watch):
    return watch.said == [READY + "\n"]


# --- lines ---


def test_text(watch, server):
    with_controls = "\x01\x1b[31m\x7f\x9b31m\x85"
    changes = watch(on=server)
    server.set("a", "one")
    server.set("tab\tin key\n", "x\ty\r\n\\")
    server.set("é😀", f"ü{with_controls}")
    server.set("n", 42)
    server.set("d", "\\N")
    server.delete("d")
    assert changes.next(6) == [
        "a\tone",
        "tab\\tin key\\n\tx\\ty\\r\\n\\\\",
        "é😀\tü\\x01\\x1b[31m\\x7f\\xc2\\x9b31m\\xc2\\x85",
        "n\t42",
        "d\t\\\\N",
        "d\t\\N",
    ]
    assert only_ready(changes)


def test_json(watch, server):
    changes = watch("--json", on=server)
    before = int(time.time() * 1000)
    server.set("a\n", "x\ty\r\n\\ \"é😀\"\x01")
    server.set("n", -7)
    server.set("s", "-7")
    server.set("null", "null")
    server.delete("null")
    rows = [json.loads(line) for line in changes.next(5)]
    assert [list(row) for row in rows] == [["key", "value", "timestamp"]] * 5
    assert [(row["key"], row["value"]) for row in rows] == [
        ("a\n", "x\ty\r\n\\ \"é😀\"\x01"),
        ("n", -7),
        ("s", "-7"),
        ("null", "null"),
        ("null", None),
    ]
    # the server's clock is this one, but may be set
    times = [row["timestamp"] for row in rows]
    assert times == sorted(times) and all(isinstance(ms, int) and abs(ms - before) < 3600000 for ms in times)


def test_a_listing_and_its_changes_have_the_same_lines(watch, pyserver):
    pyserver.set("k\t", "v\n")
    changes = watch()
    pyserver.set("k\t", "v\n")
    listed = subprocess.run(
        [program("src/cli/hpkv"), "range", ""],
        env={**os.environ, "HPKV_URL": pyserver.url, "HPKV_API_KEY": pyserver.key},
        capture_output=True,
        check=True,
    )
    assert listed.stdout.decode() == changes.line() + "\n"


def test_a_value_that_is_set_again_is_a_change(watch, server):
    changes = watch("a", on=server)
    for value in ("1", "1", "2"):
        server.set("a", value)
    server.delete("a")
    server.set("a", "1")
    assert changes.next(5) == ["a\t1", "a\t1", "a\t2", "a\t\\N", "a\t1"]


def test_a_large_value(watch, hpkvd, store):
    """The largest that the server takes, and what only its escapes make as large."""
    changes = watch(on=hpkvd)
    store.set("a", "x" * 3072)
    store.set("b", "\x01" * 3072)
    assert changes.next(2) == ["a\t" + "x" * 3072, "b\t" + "\\x01" * 3072]


# --- patterns ---


def test_patterns(watch, server):
    changes = watch("user:*", "*:log", "exact", on=server)
    everything = watch(on=server)
    told = ["user:1", "user:", "a:log", "user:log", "exact"]
    for key in ("user", "exact2", "a:logs", "User:1", *told, "last", "exact"):
        server.set(key, "x")
    assert changes.next(6) == [f"{key}\tx" for key in (*told, "exact")]
    assert len(everything.next(11)) == 11
    assert len(changes.lines) == 6


def test_a_star_inside(watch, server):
    changes = watch("a*c*e", on=server)
    for key in ("ace", "ac", "abbcdde", "ae", "aXcYe"):
        server.set(key, "x")
    assert changes.next(3) == ["ace\tx", "abbcdde\tx", "aXcYe\tx"]


def test_a_pattern_that_looks_like_an_option(watch, pyserver):
    changes = watch("--count", "1", "--", "--key*")
    pyserver.set("other", "1")
    pyserver.set("--key", "2")
    assert changes.wait() == OK
    assert changes.lines == ["--key\t2\n"]


# --- whose changes ---


def test_every_way_to_change_a_key(watch, hpkvd):
    """The command line's own and REST; the official client has a test of its own."""
    environment = {**os.environ, "HPKV_URL": hpkvd.url, "HPKV_API_KEY": hpkvd.key}
    changes = watch(on=hpkvd)
    for words in (["set", "a", "{}"], ["patch", "a", '{"b":1}'], ["patch", "l", "x"], ["incr", "n", "3"], ["del", "a"]):
        subprocess.run([program("src/cli/hpkv"), *words], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert hpkvd.http("POST", "/record", json.dumps({"key": "r", "value": "of REST"}))[0] == 200
    assert changes.next(6) == ["a\t{}", 'a\t{"b":1}', "l\tx", "n\t3", "a\t\\N", "r\tof REST"]


def test_a_store_of_ones_own(watch, tmp_path):
    """Its server is started if need be, and watched on: it does not end itself before its last client."""

    class Local:
        url = f"local:{tmp_path}/store"
        key = "of another server"

    changes = watch("--count", "2", on=Local)
    for value in ("1", "2"):
        subprocess.run([program("src/cli/hpkv"), "--url", Local.url, "set", "a", value], check=True)
    assert changes.wait() == OK
    assert changes.lines == ["a\t1\n", "a\t2\n"]


# --- its end ---


def test_count(watch, pyserver):
    """No more, however many come at once; and the end is clean."""
    changes = watch("--count", "3")
    pyserver.set_all({f"k{i}": "x" for i in range(50)})
    assert changes.wait() == OK
    assert changes.lines == ["k0\tx\n", "k1\tx\n", "k2\tx\n"]
    assert only_ready(changes)
    wait_for(lambda: pyserver.connections() == 0, "the connection's end")


def test_count_waits_for_a_slow_reader(watch, pyserver):
    changes = watch("--count", "100", reads=False)
    pyserver.set_all({f"k{i}": "x" * 3000 for i in range(200)})
    wait_for(lambda: pyserver.connections() == 0, "the connection's end")
    changes.read()
    assert [line.partition("\t")[0] for line in changes.next(100)] == [f"k{i}" for i in range(100)]
    assert changes.wait() == OK
    assert len(changes.lines) == 100


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals(watch, pyserver, number):
    """It ends by the signal, as tail -f does, so a shell knows that it was interrupted."""
    changes = watch()
    pyserver.set("a", "1")
    assert changes.line() == "a\t1"
    assert changes.stop(number) == -number
    assert only_ready(changes)


def test_a_signal_while_the_reader_is_stuck(watch, pyserver):
    changes = watch(reads=False)
    pyserver.set_all({f"k{i}": "x" * 3000 for i in range(200)})
    assert changes.stop() == -signal.SIGTERM


def test_a_reader_that_goes(watch, pyserver):
    """It is seen at once, not with the next change."""
    changes = watch(reads=False)
    changes.process.stdout.close()
    assert changes.wait() == USAGE
    assert only_ready(changes)


def test_a_reader_that_goes_early(watch, pyserver):
    """There may not be a connection yet."""
    changes = watch(ready=False, reads=False)
    changes.process.stdout.close()
    assert changes.wait() == USAGE
    assert "".join(changes.said) in ("", READY + "\n")


def test_a_reader_that_goes_while_it_is_written_to(watch, pyserver):
    changes = watch(reads=False)
    pyserver.set_all({f"k{i}": "x" * 3000 for i in range(200)})
    assert changes.process.stdout.read(1) == b"k"
    changes.process.stdout.close()
    assert changes.wait() == USAGE
    assert only_ready(changes)


def test_a_pipeline_that_waits_for_a_change(pyserver, tmp_path):
    """grep has seen enough, and so has the shell."""
    environment = f"export HPKV_URL={pyserver.url} HPKV_API_KEY='{pyserver.key}'"
    script = f"""
        {environment}; hpkv={program("src/cli/hpkv")}
        $hpkv watch 'job/*' 2> ready | {{ grep -m 1 done > found; echo yes > seen; }} &
        until grep -q watching ready; do sleep 0.05; done
        $hpkv set job/7 running; $hpkv set job/7 done
        wait
    """
    sh(script, tmp_path)
    assert (tmp_path / "found").read_text() == "job/7\tdone\n"
    assert (tmp_path / "ready").read_text() == READY + "\n"


def test_output_that_cannot_be_written(watch, pyserver):
    with open("/dev/full", "wb") as full:
        changes = watch(stdout=full)
    pyserver.set("a", "1")
    assert changes.wait() == USAGE
    assert changes.said[1:] == ["hpkv: standard output: No space left on device\n"]


# --- connections ---


def test_a_server_that_is_killed_and_comes_back(watch, hpkvd, store):
    changes = watch("a*", on=hpkvd)
    store.set("a1", "before")
    assert changes.line() == "a1\tbefore"
    hpkvd.kill9()
    changes.loses()
    hpkvd.start()
    changes.hears(BACK)
    with Client(hpkvd.url, hpkvd.key) as client:
        client.set("b", "not matched")
        client.set("a2", "after")
    assert changes.line() == "a2\tafter"
    assert len(changes.lines) == 2
    assert len(changes.said) == 3


def test_what_changed_meanwhile_is_not_told_and_that_is_said(watch, pyserver):
    changes = watch()
    for round_ in range(1, 4):
        pyserver.set("a", f"before {round_}")
        assert changes.line() == f"a\tbefore {round_}"
        pyserver.down()
        changes.loses(round_)
        pyserver.set("a", "meanwhile")
        pyserver.up()
        changes.hears(BACK, round_)
    pyserver.set("a", "last")
    assert changes.line() == "a\tlast"
    assert [bool(LOST.match(line)) for line in changes.said] == [False, *[True, False] * 3]
    assert changes.said[2] == BACK + "\n"


def test_one_stream_has_it_all_in_order(watch, pyserver):
    """2>&1: a gap is where it belongs."""
    changes = watch(stderr=subprocess.STDOUT, ready=False)
    assert changes.line() == READY
    pyserver.set("a", "1")
    assert changes.line() == "a\t1"
    pyserver.drop_connections()
    assert LOST.match(changes.line())
    assert changes.line() == BACK
    pyserver.set("a", "2")
    assert changes.line() == "a\t2"


def test_a_server_in_trouble_is_waited_for(watch):
    """For longer than the library's default of three attempts, and it is not told of each."""
    trouble = answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    script = [GIVES_TOKEN, upgraded(hang_up), *[trouble] * 3, GIVES_TOKEN, upgraded(saying(notification(1)))]
    with RawServer(scripted(script)) as server:
        server.key = "k"
        changes = watch("--count", "1", on=server)
        assert changes.wait() == OK
        assert changes.lines == ["n\t1\n"]
        assert len(changes.said) == 3 and LOST.match(changes.said[1]) and changes.said[2] == BACK + "\n"


def only_line(watch, code):
    """It ended before it began, with one line that says why."""
    assert watch.wait() == code
    assert watch.lines == [] and len(watch.said) == 1 and watch.said[0].startswith("hpkv: "), watch.said
    return watch.said[0]


def test_a_first_connection_that_fails(watch, pyserver):
    class Nobody:
        url = "http://127.0.0.1:1"
        key = "k"

    class Stranger:
        url = pyserver.url
        key = "sesame"

    only_line(watch(on=Nobody, ready=False), UNREACHABLE)
    text = only_line(watch(on=Stranger, ready=False), REFUSED)
    assert "401" in text and "sesame" not in text
    pyserver.configure(refuse=403)
    assert "403" in only_line(watch(ready=False), REFUSED)
    pyserver.configure(refuse=503)
    assert "503" in only_line(watch(ready=False), UNREACHABLE)
    pyserver.configure(refuse=None, token_status=503)
    assert "503" in only_line(watch(ready=False), UNREACHABLE)


@pytest.mark.parametrize("settings", [{"token_status": 401}, {"token_status": 403}, {"refuse": 401}, {"refuse": 403}])
def test_a_key_that_is_refused_later(watch, pyserver, settings):
    changes = watch()
    pyserver.set("a", "1")
    assert changes.line() == "a\t1"
    pyserver.configure(**settings)
    pyserver.drop_connections()
    assert changes.wait() == REFUSED
    assert len(changes.said) == 3 and LOST.match(changes.said[1])
    assert "refused" in changes.said[2] and str(*settings.values()) in changes.said[2]
    assert pyserver.key not in "".join(changes.said)


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_tokens_that_expire(watch, pyserver, words):
    """Nothing is lost or told twice when the connection changes, and nobody is bothered with it."""
    pyserver.configure(token_exp_s=1)
    changes = watch("k*", *words)
    sent = 0
    while pyserver.tokens() < 6:
        sent += 1
        pyserver.set(f"k{sent % 3}", str(sent))
        # what two connections can differ by is bounded
        wait_for(lambda: len(changes.lines) > sent - 1000, "those before")
    lines = changes.next(sent)
    rows = [json.loads(line) for line in lines] if words else [dict(zip(("key", "value"), line.split("\t"))) for line in lines]
    assert [(row["key"], row["value"]) for row in rows] == [(f"k{n % 3}", str(n)) for n in range(1, sent + 1)]
    assert len(changes.lines) == sent
    assert only_ready(changes)


# --- servers of few words ---

TOKEN = b'{"token":"t"}'
GIVES_TOKEN = answering(
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(TOKEN), TOKEN)
)


def saying(*texts):
    """Text frames, sent as soon as there is a connection."""

    def then(connection):
        for text in texts:
            data = text.encode()
            connection.sendall(bytes([0x81, 126]) + len(data).to_bytes(2, "big") + data)
        drain(connection)

    return then


def notification(value, more='"timestamp":1700000000000'):
    return f'{{"type":"notification","key":"n","value":{value},{more}}}'


def raw(*texts):
    server = RawServer(scripted([GIVES_TOKEN, upgraded(saying(*texts))]))
    server.key = "k"
    return server


def test_numbers_as_they_were_received(watch):
    texts = [notification(number) for number in ("1.50e400", "-0.0", "12345678901234567890.10")]
    with raw(*texts) as server:
        changes = watch("--json", "--count", "3", on=server)
        assert changes.wait() == OK
        rows = ["1.50e400", "-0.0", "12345678901234567890.10"]
        assert changes.lines == [f'{{"key":"n","value":{row},"timestamp":1700000000000}}\n' for row in rows]
    with raw(*texts) as server:
        changes = watch("--count", "3", on=server)
        assert changes.wait() == OK
        assert changes.lines == [f"n\t{row}\n" for row in rows]


def test_what_makes_no_sense_is_told(watch):
    """It may have been a change."""
    nonsense = ["nonsense", '{"type":"notification","value":"of no key"}', notification("[1]")]
    with raw(*nonsense, '{"type":"hello"}', notification('"x"', '"timestamp":"soon"')) as server:
        changes = watch("--json", "--count", "1", on=server)
        assert changes.wait() == OK
        assert changes.lines == ['{"key":"n","value":"x","timestamp":0}\n']
        assert changes.said[1:] == ["hpkv: the server sent a message that makes no sense\n"] * 3


# --- slow readers ---


def test_a_stuck_reader_does_not_keep_the_connection_from_being_served(watch, pyserver):
    """The pipe is full, and tokens are renewed all the same."""
    pyserver.configure(token_exp_s=1)
    changes = watch(reads=False)
    keys = [f"k{i:03}" for i in range(300)]
    pyserver.set_all({key: "x" * 3000 for key in keys})
    made = pyserver.tokens()
    wait_for(lambda: pyserver.tokens() > made + 2, "the next tokens")
    changes.read()
    assert [line.partition("\t")[0] for line in changes.next(300)] == keys
    changes.stop()
    assert len(changes.lines) == 300
    assert only_ready(changes)


def test_a_pipe_that_does_not_block(watch, pyserver):
    """Whoever shares it may have made it so."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    changes = watch("--count", "100", stdout=writer)
    os.close(writer)
    pyserver.set_all({f"k{i}": "x" * 3000 for i in range(100)})
    wait_for(lambda: pyserver.connections() == 0, "the connection's end")
    with os.fdopen(reader, "rb") as pipe:
        assert [line.partition(b"\t")[0] for line in pipe] == [f"k{i}".encode() for i in range(100)]
    assert changes.wait() == OK


@pytest.mark.pyserver_options(max_value=2 * MIB)
def test_a_stuck_reader_costs_bounded_memory_and_loses_nothing(watch, pyserver):
    """Also if it is stuck for longer than a silent server is waited for: what was not read is no silence."""
    changes = watch(reads=False)
    before = changes.kib("VmRSS")
    for i in range(128):
        pyserver.set(f"k{i:03}", "x" * MIB)
    time.sleep(17)
    changes.read()
    assert changes.next(128) == [f"k{i:03}\t" + "x" * MIB for i in range(128)]
    assert changes.kib("VmHWM") - before < 64 * 1024
    pyserver.set("last", "1")
    assert changes.line() == "last\t1"
    assert only_ready(changes)


@pytest.mark.hpkvd_options("--max-value", str(MIB))
def test_a_server_that_drops_slow_readers(watch, hpkvd, store):
    """What had arrived is told, and then that something is missing."""
    changes = watch(on=hpkvd, reads=False)
    sent = 0
    while not hpkvd.metrics()["hpkvd_slow_subscribers_total"]:
        store.set(f"k{sent:03}", "x" * MIB)
        sent += 1
    changes.read()
    changes.hears(BACK)
    store.set("last", "1")
    told = 0
    while (line := changes.line()) != "last\t1":
        assert line == f"k{told:03}\t" + "x" * MIB
        told += 1
    assert 0 < told < sent
    assert len(changes.said) == 3 and LOST.match(changes.said[1])
