"""hpkv: every command, every exit code, and what goes to which stream."""

import json
import os
import pty
import re
import subprocess
import threading
from pathlib import Path

import pytest

from lib.processes import program, sanitizer_env, sanitizer_reports
from lib.pyserver import PyServer
from lib.repository import TOP

OK, NOT_FOUND, USAGE, REFUSED, UNREACHABLE = range(5)


@pytest.fixture
def run(tmp_path):
    """run(*words, env=..., **keywords of subprocess.run): the finished process."""
    reports = tmp_path / "reports"
    reports.mkdir()

    def go(*words, env=None, **keywords):
        whole = {**os.environ, **sanitizer_env(str(reports)), **(env or {})}
        if "stdin" not in keywords and "input" not in keywords:
            keywords["stdin"] = subprocess.DEVNULL
        keywords.setdefault("stdout", subprocess.PIPE)
        return subprocess.run(
            [program("src/cli/hpkv"), *words], env=whole, stderr=subprocess.PIPE, timeout=400, check=False, **keywords
        )

    yield go
    assert not sanitizer_reports(str(reports)), sanitizer_reports(str(reports))


@pytest.fixture
def hpkv(run, pyserver):
    """The same on the test's server, with the right key in the environment."""

    def go(*words, env=None, **keywords):
        return run(*words, env={"HPKV_URL": pyserver.url, "HPKV_API_KEY": pyserver.key, **(env or {})}, **keywords)

    return go


def out(result):
    assert (result.returncode, result.stderr) == (OK, b"")
    return result.stdout


def failed(result, code):
    """The one line on standard error."""
    assert (result.returncode, result.stdout) == (code, b""), result
    text = result.stderr.decode()
    assert text.startswith("hpkv: ") and text.endswith("\n") and text.count("\n") == 1, text
    return text


# --- commands ---


def test_set_get_del(hpkv, pyserver):
    assert out(hpkv("set", "a", "a value")) == b""
    assert pyserver.get("a") == "a value"
    assert out(hpkv("get", "a")) == b"a value"
    assert out(hpkv("del", "a")) == b""
    assert pyserver.get("a") is None


def test_patch(hpkv, pyserver):
    pyserver.set("a", '{"x":1,"y":2}')
    assert out(hpkv("patch", "a", '{"y":null,"z":3}')) == b""
    assert json.loads(pyserver.get("a")) == {"x": 1, "z": 3}
    out(hpkv("patch", "b", "text"))
    out(hpkv("patch", "b", input=b" and more\n"))
    assert pyserver.get("b") == "text and more\n"


def test_incr(hpkv, pyserver):
    assert out(hpkv("incr", "n")) == b"1\n"
    assert out(hpkv("incr", "n", "41")) == b"42\n"
    assert out(hpkv("incr", "n", "-5")) == b"37\n"
    assert out(hpkv("incr", "n", "0.5")) == b"37.5\n"
    assert pyserver.get("n") == 37.5


def test_values_from_standard_input(hpkv, pyserver):
    value = "line\n\tdé😀\n\n".encode()
    out(hpkv("set", "a", input=value))
    assert pyserver.get("a").encode() == value
    assert out(hpkv("get", "a")) == value
    out(hpkv("set", "b", "-", input=b"dash"))
    assert pyserver.get("b") == "dash"


def test_get_adds_nothing_to_a_pipe_and_a_newline_on_a_terminal(hpkv, pyserver):
    pyserver.set("a", "x")
    assert out(hpkv("get", "a")) == b"x"
    leader, follower = pty.openpty()
    assert hpkv("get", "a", stdout=follower).returncode == OK
    os.close(follower)
    assert os.read(leader, 100) == b"x\r\n"
    os.close(leader)


def test_get_a_number(hpkv, pyserver):
    pyserver.fault(op="GET", raw='{"messageId":1,"code":200,"value":1.50e400}')
    assert out(hpkv("get", "n")) == b"1.50e400"
    assert out(hpkv("--json", "get", "n")) == b'{"key":"n","value":1.50e400}\n'


def test_range(hpkv, pyserver):
    pyserver.set_all({"a": "1", "b\t\n\\\x01": "x\ty\r\n", "c": "é", "d": "4"})
    assert out(hpkv("range", "a", "c")).decode() == "a\t1\nb\\t\\n\\\\\\x01\tx\\ty\\r\\n\nc\té\n"
    assert out(hpkv("range", "c")).decode() == "c\té\nd\t4\n"
    assert out(hpkv("range", "")).decode().count("\n") == 4
    assert out(hpkv("range", "a", "--limit", "1")) == b"a\t1\n"
    assert out(hpkv("range", "--keys", "c")) == b"c\nd\n"
    assert out(hpkv("range", "x")) == b""


def test_range_as_json(hpkv, pyserver):
    pyserver.set_all({"a": "1", "b\n": 2.5})
    rows = out(hpkv("--json", "range", "")).splitlines()
    assert [json.loads(row) for row in rows] == [{"key": "a", "value": "1"}, {"key": "b\n", "value": 2.5}]
    assert out(hpkv("--json", "range", "", "--keys", "--limit=1")) == b'{"key":"a"}\n'


@pytest.mark.parametrize("limit", [None, 1, 6, 7, 8, 999, 1000, 1001, 2500, 3000])
@pytest.mark.parametrize("page", [7, 1000])
def test_range_goes_on_past_the_first_page(hpkv, pyserver, limit, page):
    pyserver.configure(page_records=page)
    count = 2500 if page == 1000 else 60
    keys = [f"k{i:05}" for i in range(count)]
    pyserver.set_all({key: "v" for key in keys})
    words = [] if limit is None else ["--limit", str(limit)]
    assert out(hpkv("range", "", "--keys", *words)).decode().split() == keys[:limit]


def test_range_where_a_page_has_room_for_one(hpkv, pyserver):
    """Cut by size: the last key, asked for again, takes the whole page."""
    pyserver.configure(page_bytes=1500)
    pyserver.set_all({f"k{i}": "v" * 1000 for i in range(8)})
    assert out(hpkv("range", "", "--keys")).decode().split() == [f"k{i}" for i in range(8)]
    assert out(hpkv("range", "", "--keys", "--limit", "5")).decode().split() == [f"k{i}" for i in range(5)]


def test_range_of_a_server_that_says_more_and_gives_nothing(hpkv, pyserver):
    pyserver.set("a", "1")
    pyserver.fault(op="RANGE", fields={"truncated": True})
    result = hpkv("range", "")
    assert result.returncode == UNREACHABLE
    assert result.stdout == b"a\t1\n"


def test_json_of_the_others(hpkv, pyserver):
    assert json.loads(out(hpkv("--json", "set", "a\n", "1"))) == {"key": "a\n", "success": True}
    assert json.loads(out(hpkv("get", "--json", "a\n"))) == {"key": "a\n", "value": "1"}
    assert json.loads(out(hpkv("--json", "patch", "a\n", "2"))) == {"key": "a\n", "success": True}
    assert json.loads(out(hpkv("--json", "del", "a\n"))) == {"key": "a\n", "success": True}
    assert json.loads(out(hpkv("--json", "incr", "n"))) == {"key": "n", "value": 1}
    assert json.loads(out(hpkv("--json", "token")))["token"]
    assert set(json.loads(out(hpkv("--json", "ping")))) == {"connect_ms", "answer_ms"}


def test_ping(hpkv):
    assert re.fullmatch(rb"connected in [\d.]+ ms, answered in [\d.]+ ms\n", out(hpkv("ping")))


def test_token(hpkv, pyserver):
    from lib.client_driver import Driver

    token = out(hpkv("token", "a*", "b*", "--access", "^a")).decode().strip()
    with Driver(pyserver.url, token=token) as client:
        assert "err" not in client.connect()
        pyserver.set("b1", "x")
        assert client.wait("notification")["key"] == "b1"
        assert client.request("get", "b1")["code"] == 403


def test_words_that_look_like_options(hpkv, pyserver):
    out(hpkv("set", "--", "--key", "--value"))
    assert pyserver.get("--key") == "--value"
    out(hpkv("set", "-x", "-y"))
    assert pyserver.get("-x") == "-y"
    assert out(hpkv("get", "--", "--key")) == b"--value"


# --- exit codes ---


def test_not_found(hpkv):
    assert "not found" in failed(hpkv("get", "nothing"), NOT_FOUND)
    failed(hpkv("del", "nothing"), NOT_FOUND)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["gte", "a"],
        ["get"],
        ["get", "a", "b"],
        ["get", ""],
        ["set"],
        ["set", "a", "b", "c"],
        ["set", "", "b"],
        ["set", "a", ""],
        ["set", "a"],
        ["del"],
        ["range"],
        ["range", "a", ""],
        ["range", "a", "b", "c"],
        ["incr", "a", "x"],
        ["incr", "a", "01"],
        ["ping", "a"],
        ["get", "a", "--limit", "1"],
        ["get", "a", "--access", "x"],
        ["range", "a", "--limit", "0"],
        ["range", "a", "--limit", "-1"],
        ["range", "a", "--limit", "x"],
        ["range", "a", "--limit"],
        ["get", "a", "--count", "1"],
        ["watch", "--count", "0"],
        ["watch", "--count", "x"],
        ["watch", "--limit", "1"],
        ["watch", "a", ""],
        ["watch", "a", "\udcff"],
        ["--timeout", "0", "ping"],
        ["--timeout", "x", "ping"],
        ["--timeout", "nan", "ping"],
        ["--nonsense", "ping"],
        ["--json=yes", "ping"],
        ["--url", "nonsense", "ping"],
        ["--url", "http://example.com", "ping"],
        ["--url", "https://user:sesame@example.com", "ping"],
        ["--ca", "/no/such/file", "--url", "https://127.0.0.1:1", "token", "\udcff"],
        ["get", "\udcff"],
    ],
)
def test_usage(hpkv, words):
    text = failed(hpkv(*words), USAGE)
    assert "sesame" not in text


def test_a_value_that_is_no_text(hpkv, pyserver):
    assert "not UTF-8" in failed(hpkv("set", "a", input=b"\xff\xfe"), USAGE)
    assert "not UTF-8" in failed(hpkv("set", "a", b"\xff"), USAGE)
    assert pyserver.log() == []


def test_no_url_and_no_key(run):
    clean = {"HPKV_URL": "", "HPKV_API_KEY": ""}
    assert "HPKV_URL" in failed(run("ping", env=clean), USAGE)
    assert "HPKV_API_KEY" in failed(run("--url", "http://127.0.0.1:1", "ping", env=clean), USAGE)


def test_refused(hpkv, pyserver):
    assert "401" in failed(hpkv("ping", env={"HPKV_API_KEY": "sesame"}), REFUSED)
    assert "401" in failed(hpkv("token", env={"HPKV_API_KEY": "sesame"}), REFUSED)
    failed(hpkv("set", "a", "x" * 5000), REFUSED)
    pyserver.fault(op="GET", code=429, text="slow down")
    assert "429" in failed(hpkv("--timeout", "0.3", "get", "a"), REFUSED)
    pyserver.fault(op="DELETE", code=403, text="not yours")
    assert "not yours" in failed(hpkv("del", "a"), REFUSED)


def test_a_refusal_cannot_command_the_terminal(hpkv, pyserver):
    pyserver.fault(op="GET", code=403, text="\x1b[31mred\x9b0m\n\x7f\x85éあ.")
    assert " [31mred  0m    éあ." in failed(hpkv("get", "a"), REFUSED)


def test_unreachable(hpkv, run, pyserver):
    key = {"HPKV_API_KEY": "k"}
    failed(run("--url", "http://127.0.0.1:1", "ping", env=key), UNREACHABLE)
    failed(run("--url", "http://127.0.0.1:1", "token", env=key), UNREACHABLE)
    failed(run("--url", "unix:/no/such/socket", "ping", env=key), UNREACHABLE)
    pyserver.fault(op="GET", never=True, times=1)
    failed(hpkv("--timeout", "0.3", "get", "a"), UNREACHABLE)
    pyserver.fault(op="ATOMIC", drop=True, times=1)
    failed(hpkv("incr", "n"), UNREACHABLE)
    pyserver.fault(op="GET", code=503, text="down", times=1)
    failed(hpkv("get", "a"), UNREACHABLE)
    pyserver.configure(refuse=503)
    failed(hpkv("get", "a"), UNREACHABLE)


def test_what_can_be_asked_again_is(hpkv, pyserver):
    pyserver.set("a", "1")
    pyserver.fault(op="GET", drop=True, times=1)
    assert out(hpkv("get", "a")) == b"1"
    pyserver.fault(op="ATOMIC", code=429, times=1)
    assert out(hpkv("incr", "n")) == b"1\n"


def test_output_that_cannot_be_written(hpkv, pyserver):
    pyserver.set("a", "x" * 3000)
    with open("/dev/full", "wb") as full:
        assert hpkv("get", "a", stdout=full).returncode == USAGE


def test_a_reader_that_has_seen_enough(hpkv, pyserver):
    pyserver.set_all({f"k{i}": "x" * 3000 for i in range(100)})
    reader, writer = os.pipe()
    os.close(reader)
    result = hpkv("range", "", stdout=writer)
    os.close(writer)
    assert result.returncode != OK
    assert result.stderr == b""


# --- credentials ---


def test_a_credentials_file(run, tmp_path, monkeypatch):
    monkeypatch.delenv("HPKV_API_KEY", raising=False)
    path = tmp_path / "credentials"
    with PyServer(key="of-file") as server:

        def ping(content, mode=0o600):
            path.unlink(missing_ok=True)
            path.write_bytes(content)
            path.chmod(mode)
            return run("--url", server.url, "--credentials", str(path), "ping")

        out(ping(b"of-file"))
        out(ping(b"\n of-file \r\n"))
        out(ping(b"of-file\n", mode=0o400))
        for mode in (0o640, 0o604, 0o620):
            assert "chmod 600" in failed(ping(b"of-file", mode=mode), USAGE)
        assert "no API key" in failed(ping(b"\n"), USAGE)
        assert "one line without blanks" in failed(ping(b"two words"), USAGE)
        failed(ping(b"of-file\nof-file"), USAGE)
        failed(ping(b"\xff\xfe"), USAGE)
        failed(ping(b"of\0file"), USAGE)
        failed(ping(b"k" * 5000), USAGE)
        assert "sesame" not in failed(ping(b"sesame"), REFUSED)


def test_a_named_credentials_file_comes_before_the_environment(run, tmp_path):
    path = tmp_path / "credentials"
    path.write_text("of-file\n")
    path.chmod(0o600)
    with PyServer(key="of-file") as server:
        out(run("--url", server.url, "--credentials", str(path), "ping", env={"HPKV_API_KEY": "of-environment"}))


def test_credentials_that_are_no_file(run, pyserver, tmp_path, monkeypatch):
    monkeypatch.delenv("HPKV_API_KEY", raising=False)
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "missing", tmp_path, tmp_path / "fifo"):
        assert str(path) in failed(run("--url", pyserver.url, "--credentials", str(path), "ping"), USAGE)


def test_the_credential_directory_of_systemd(run, tmp_path, monkeypatch):
    monkeypatch.delenv("HPKV_API_KEY", raising=False)
    with PyServer(key="of-systemd") as server:
        (tmp_path / "hpkv_api_key").write_text("of-systemd\n")
        environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
        assert run("--url", server.url, "ping", env=environment).returncode == OK
        assert failed(run("--url", server.url, "ping", env={"CREDENTIALS_DIRECTORY": "/no/such"}), USAGE)


def test_the_key_is_not_left_in_the_environment(run, pyserver):
    """/proc/PID/environ of a running hpkv does not show it."""
    hold = pyserver.fault(op="GET", hold=True)
    result = []
    thread = threading.Thread(
        target=lambda: result.append(
            run("get", "a", env={"HPKV_URL": pyserver.url, "HPKV_API_KEY": pyserver.key, "HPKV_TEST_MARK": "here"})
        )
    )
    thread.start()
    try:
        from lib.processes import wait_for, with_variable

        wait_for(lambda: pyserver.hits(hold) == 1, "the request")
        (pid,) = with_variable("HPKV_TEST_MARK", "here")
        assert pyserver.key.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
        assert pyserver.key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    finally:
        pyserver.release(hold)
        thread.join()
    failed(result[0], NOT_FOUND)


# --- documentation ---


def test_help_and_version(run):
    text = out(run("--help")).decode()
    for word in ("get", "set", "patch", "del", "range", "incr", "watch", "token", "ping"):
        assert re.search(rf"^  {word}\b", text, re.M)
    assert re.fullmatch(rb"hpkv \d+\.\d+\.\d+\n", out(run("--version")))
    assert out(run("get", "--help")).decode() == text


def test_the_manual_names_every_command(run):
    """Options are compared by the lint suite."""
    manual = (TOP / "packaging/man/hpkv.1").read_text(encoding="utf-8")
    help_ = out(run("--help")).decode().partition("Commands:")[2].partition("Options:")[0]
    in_help = re.findall(r"^  ([a-z]+)\b", help_, re.M)
    in_manual = re.findall(r"^\.TP\n\.B[A-Z]* ([a-z]+)\b", manual.partition(".SH COMMANDS")[2].partition(".SH ")[0], re.M)
    assert in_help == in_manual
