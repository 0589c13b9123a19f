"""From the start of a mount to its end: servers that do not let us in, connections that are lost, signals."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from lib.hpkvd import KEY, Hpkvd
from lib.mount import MountFailed
from lib.mountcall import FAILURE, INTERRUPTED, USAGE, call, pid_of, point, refused  # noqa: F401 (fixtures)
from lib.processes import alive, mounted, program, wait_for

# --- servers that do not let us in ---


@pytest.mark.parametrize("words", [[], ["-f"]])
def test_a_wrong_key(call, point, hpkvd, words):
    result = call(hpkvd.url, point, *words, "-o", "state=none", key="wrong-key")
    refused(result, FAILURE, hpkvd.url, point=point)
    assert "wrong-key" not in result.err


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_server_that_refuses(call, point, pyserver, status):
    pyserver.configure(refuse=status)
    refused(call(pyserver.url, point, "-o", "state=none", key=pyserver.key), FAILURE, str(status), point=point)


@pytest.mark.parametrize("words", [[], ["-f"]])
def test_an_unreachable_server(call, point, words):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        refused(call(url, point, *words, "-o", "state=none", key="k"), FAILURE, url, point=point)


def test_a_server_that_says_nothing(call, point):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        refused(call(url, point, "-o", "state=none", key="k"), FAILURE, url, point=point)


def test_a_host_that_does_not_exist(call, point):
    refused(call("https://host.invalid", point, "-o", "state=none", key="k"), FAILURE, "host.invalid", point=point)


def test_a_server_that_fails_the_first_request(call, point, pyserver):
    pyserver.fault(op="GET", code=500, text="the disk is full")
    refused(call(pyserver.url, point, "-o", "state=none", key=pyserver.key), FAILURE, pyserver.url, point=point)


def test_another_delimiter_than_the_region_has(call, point, pyserver):
    pyserver.set(".hpkvfs/fs", '{"v":1,"delimiter":":"}')
    refused(call(pyserver.url, point, "-o", "state=none", key=pyserver.key), FAILURE, "delimiter", point=point)


def test_a_newer_layout(call, point, pyserver):
    pyserver.set(".hpkvfs/fs", '{"v":2,"delimiter":"/"}')
    refused(call(pyserver.url, point, "-o", "state=none", key=pyserver.key), FAILURE, "version", point=point)


def test_signals_while_it_starts(point):
    """A server that says nothing: the start takes seconds. Ctrl-C ends it, and nothing is left."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [str(program("src/mount/hpkvfs")), url, str(point), "-f", "-o", "state=none"],
            env={**os.environ, "HPKV_API_KEY": "k"},
            stderr=subprocess.PIPE,
            text=True,
        )
        silent.settimeout(30)
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=240)
        connection.close()
    assert process.returncode == INTERRUPTED, err
    assert "interrupted" in err
    assert mounted(point) is None


# --- local:DIR ---


def test_two_mounts_at_the_same_instant_share_a_server(make_mount, tmp_path):
    spec = f"local:{tmp_path}/store"
    mounts, failures = [], []

    def start():
        try:
            mounts.append(make_mount(spec=spec, options=["ttl=0"]))
        except (MountFailed, TimeoutError) as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    first, second = mounts
    for number in range(20):
        (first.path / f"a{number}").write_text(str(number))
        assert (second.path / f"a{number}").read_text() == str(number)
        (second.path / f"b{number}").write_text(str(number))
        assert (first.path / f"b{number}").read_text() == str(number)
    the_server_of(tmp_path / "store")


def servers_of(folder):
    """Pids of the living hpkvd of this folder."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.path.basename(words[0]) == b"hpkvd" and os.fsencode(folder) in words and alive(int(entry)):
            found.append(int(entry))
    return found


def the_server_of(folder):
    """Of several that were started at once all but one end by themselves."""
    wait_for(lambda: len(servers_of(folder)) == 1, f"one server of {folder}")
    return servers_of(folder)[0]


def test_a_killed_local_server_heals(make_mount, tmp_path):
    folder = tmp_path / "store"
    mount = make_mount(spec=f"local:{folder}", options=["ttl=0"])
    for number in range(5):
        (mount.path / "a").write_text(f"value {number}")
        server = the_server_of(folder)
        os.kill(server, signal.SIGKILL)
        assert (mount.path / "a").read_text() == f"value {number}"
        (mount.path / f"b{number}").write_text("x")
    assert sorted(os.listdir(mount.path)) == ["a", "b0", "b1", "b2", "b3", "b4"]


@pytest.mark.parametrize("limits", [[], ["--max-key", "300", "--max-value", "500"]])
def test_a_local_server_that_was_started_by_hand_may_take_less(make_mount, tmp_path, limits):
    max_key, max_value = map(int, limits[1::2] or (1024, 3072))
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    (folder / "key").write_text(KEY)
    (folder / "key").chmod(0o600)
    with Hpkvd(folder, limits, listen=f"unix:{folder}/socket") as server:
        mount = make_mount(spec=f"local:{folder}", options=["ttl=0"])
        content = "x" * 10 * max_value
        (mount.path / "f").write_text(content)
        assert (mount.path / "f").read_text() == content
        names = ["d" * 100] * ((max_key - len(".hpkvfs/m/")) // 101 + 1)
        with pytest.raises(OSError, match="File name too long"):
            (mount.path / "/".join(names)).mkdir(parents=True)
        assert (mount.path / "/".join(names[:-1])).is_dir()
        assert sorted(os.listdir(mount.path)) == ["d" * 100, "f"]
        assert server.process.poll() is None
        mount.unmount()


def test_the_store_and_the_mount_point_must_not_lie_in_each_other(call, tmp_path, point):
    for store in (point, point / "inner", tmp_path, point / "a" / "b"):
        refused(call(f"local:{store}", point), USAGE, f"local:{store}", point=point)
    os.symlink(point, tmp_path / "link")
    refused(call(f"local:{tmp_path}/link", point), USAGE, "lie in each other", point=point)
    refused(call(f"local:{point}", tmp_path / "link"), USAGE, "lie in each other", point=point)
    refused(call("local:.", "point/../point", cwd=tmp_path), USAGE, "lie in each other", point=point)
    # names that only begin alike are no trouble
    result = call(f"local:{point}-store", point, "-f", helper=True)
    assert result.code == 0, result.err


def test_a_relative_store_heals_too(make_mount, call, tmp_path, point):
    """The background process leaves the folder that it was started in."""
    result = call("local:store", "point", "-o", "state=none,ttl=0", cwd=tmp_path)
    try:
        assert result.code == 0, result.err
        assert mounted(point)["source"] == "local:store"
        (point / "a").write_text("1")
        server = the_server_of(tmp_path / "store")
        os.kill(server, signal.SIGKILL)
        assert (point / "a").read_text() == "1"
    finally:
        pid = pid_of(point)
        subprocess.run(["umount", "-i", str(point)], check=True)
        wait_for(lambda: not alive(pid), "the end of hpkvfs")


# --- the connection ---


def test_a_lost_connection_is_renewed(make_mount, pyserver):
    pyserver.set("a", "1")
    mount = make_mount(spec=pyserver.url, key=pyserver.key, options=["ttl=0"])
    for number in range(3):
        pyserver.drop_connections()
        assert (mount.path / "a").read_text() == "1"
        (mount.path / "b").write_text(str(number))
        assert pyserver.get("b") == str(number)


def test_requests_wait_for_the_server(make_mount, pyserver):
    pyserver.set("a", "1")
    mount = make_mount(spec=pyserver.url, key=pyserver.key, options=["ttl=0"])
    pyserver.down()
    reader = subprocess.Popen(["cat", str(mount.path / "a")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    assert reader.poll() is None
    pyserver.up()
    out, err = reader.communicate(timeout=240)
    assert (reader.returncode, out) == (0, b"1"), err


def test_requests_wait_no_longer_than_timeout(make_mount, pyserver):
    pyserver.set("a", "1")
    mount = make_mount(spec=pyserver.url, key=pyserver.key, options=["ttl=0", "timeout=1"])
    pyserver.down()
    before = time.monotonic()
    with pytest.raises(OSError, match="Input/output error"):
        (mount.path / "a").read_text()
    assert time.monotonic() - before >= 0.9
    with pytest.raises(OSError, match="Input/output error"):
        os.listdir(mount.path)
    pyserver.up()

    def works():
        with contextlib.suppress(OSError):
            return (mount.path / "a").read_text() == "1"

    wait_for(works, "the end of the errors")
    assert "cannot reach the server" in mount.log()


def test_at_most_128_requests_are_under_way(make_mount, pyserver):
    mount = make_mount(spec=pyserver.url, key=pyserver.key)
    held = pyserver.fault(op="SET", hold=True)
    names = [f"f{number}" for number in range(200)]
    errors = []

    def write(name):
        try:
            (mount.path / name).write_text(name)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    wait_for(lambda: pyserver.hits(held) >= 128, "128 requests")
    # whoever waits in the mount is not sent, however long that takes
    time.sleep(0.5)
    assert pyserver.hits(held) == 128
    pyserver.release(held)
    for thread in threads:
        thread.join()
    assert not errors
    assert set(names) <= set(pyserver.contents())


def test_reads_are_repeated_after_a_lost_connection(make_mount, pyserver):
    pyserver.set("a", "1")
    mount = make_mount(spec=pyserver.url, key=pyserver.key, options=["ttl=0"])
    pyserver.fault(op=["GET", "RANGE"], drop=True, times=2)
    assert (mount.path / "a").read_text() == "1"


def test_a_429_is_waited_out(make_mount, pyserver):
    mount = make_mount(spec=pyserver.url, key=pyserver.key, options=["ttl=0"])
    fault = pyserver.fault(code=429, text="slow down", times=5)
    (mount.path / "a").write_text("1")
    assert pyserver.hits(fault) == 5
    assert pyserver.get("a") == "1"


def test_a_429_that_does_not_pass(make_mount, pyserver):
    pyserver.set("a", "1")
    mount = make_mount(spec=pyserver.url, key=pyserver.key, options=["ttl=0", "timeout=1"])
    pyserver.fault(code=429, text="slow down")
    with pytest.raises(TimeoutError):
        (mount.path / "a").read_text()
    pyserver.clear_faults()
    assert (mount.path / "a").read_text() == "1"
    assert "429" in mount.log()


@pytest.mark.parametrize(
    "fault",
    [{"raw": "nonsense"}, {"remove": ["value", "records"]}, {"code": 500, "text": "broken"}, {"fields": {"value": [1]}}],
    ids=["no-json", "no-value", "500", "a-list"],
)
def test_a_reply_that_makes_no_sense_is_an_error(make_mount, pyserver, fault):
    pyserver.set("a", "1")
    mount = make_mount(spec=pyserver.url, key=pyserver.key, options=["ttl=0", "timeout=2"])
    pyserver.fault(op=["GET", "RANGE"], **fault)
    with pytest.raises(OSError) as caught:
        (mount.path / "a").read_text()
    assert caught.value.strerror in ("Input/output error", "Connection timed out")
    pyserver.clear_faults()
    assert (mount.path / "a").read_text() == "1"


def test_the_same_failure_is_logged_once(make_mount, pyserver):
    mount = make_mount(spec=pyserver.url, key=pyserver.key, options=["ttl=0"])
    pyserver.fault(op=["GET", "RANGE"], code=500, text="the-disk-is-full")
    for _ in range(20):
        with pytest.raises(OSError):
            (mount.path / "a").stat()
    assert 1 <= mount.log().count("the-disk-is-full") <= 3


# --- the end ---


def test_background_answers_when_it_is_mounted(make_mount, pyserver):
    """The server's first answer is late: so is the program's return."""
    pyserver.set("a", "1")
    pyserver.fault(op=["GET", "RANGE"], delay=1.0, times=1)
    before = time.monotonic()
    mount = make_mount(spec=pyserver.url, key=pyserver.key, background=True)
    assert time.monotonic() - before >= 1.0
    assert (mount.path / "a").read_text() == "1"
    mount.unmount()


def test_background_process(make_mount, hpkvd):
    mount = make_mount(background=True)
    fields = Path(f"/proc/{mount.pid}/stat").read_text().rpartition(")")[2].split()
    session, terminal = int(fields[3]), int(fields[4])
    assert session == mount.pid and terminal == 0
    assert os.readlink(f"/proc/{mount.pid}/cwd") == "/"
    for number in range(3):
        assert os.readlink(f"/proc/{mount.pid}/fd/{number}") == "/dev/null"


@pytest.mark.parametrize("background", [False, True])
def test_pid_file(make_mount, hpkvd, background):
    mount = make_mount(background=background)
    mount.path.stat()  # nothing is answered before the file is there
    file = Path(f"/run/hpkvfs/{mount.device}.pid")
    assert file.read_text() == f"{mount.pid}\n"
    mount.unmount()
    assert not file.exists() or file.read_text() != f"{mount.pid}\n"


@contextlib.contextmanager
def opened(path):
    """A new open file, which may be dead when it is closed."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):
            os.close(file)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_unmount(make_mount, hpkvd, store, number):
    mount = make_mount()
    (mount.path / "a").write_text("1")
    os.kill(mount.pid, number)
    mount.wait_end()
    assert store.get("a") == "1"


def test_sigterm_saves_what_an_open_file_holds(make_mount, hpkvd, store):
    mount = make_mount()
    with opened(mount.path / "a") as file:
        os.write(file, b"unsaved")
        assert store.get("a") is None
        os.kill(mount.pid, signal.SIGTERM)
        mount.wait_end()
        assert store.get("a") == "unsaved"


def test_unmount_waits_for_the_server(make_mount, pyserver):
    """What waits in memory goes out although the server is away when the mount ends."""
    mount = make_mount(spec=pyserver.url, key=pyserver.key)
    with opened(mount.path / "a") as file:
        os.write(file, b"1")
        pyserver.down()
        os.kill(mount.pid, signal.SIGTERM)
        wait_for(lambda: not mount.mounted(), "the unmount")
        assert mount.running()
        pyserver.up()
        mount.wait_end()
    assert pyserver.get("a") == "1"


def test_a_second_signal_gives_up(make_mount, pyserver):
    """Then the loss is told: by the exit code and in the log."""
    mount = make_mount(spec=pyserver.url, key=pyserver.key, options=["timeout=3600"])
    with opened(mount.path / "a") as file:
        os.write(file, b"1")
        pyserver.down()
        os.kill(mount.pid, signal.SIGTERM)
        wait_for(lambda: not mount.mounted(), "the unmount")
        os.kill(mount.pid, signal.SIGTERM)
        with pytest.raises(AssertionError, match="ended with 32"):
            mount.wait_end()
    assert "lost" in mount.log()
    assert not mount.reports()
    pyserver.up()


def test_changes_that_are_lost_at_the_end_are_told(make_mount, pyserver):
    mount = make_mount(spec=pyserver.url, key=pyserver.key)
    with opened(mount.path / "a") as file:
        os.write(file, b"1")
        pyserver.fault(op="SET", code=400, text="refused for good")
        os.kill(mount.pid, signal.SIGTERM)
        with pytest.raises(AssertionError, match="ended with 32"):
            mount.wait_end()
    assert "lost" in mount.log()


def test_sigterm_while_programs_use_it(make_mount, pyserver):
    """A program hangs in a request that is not answered, another one stands in the mount: both are let go."""
    pyserver.set("a", "1")
    mount = make_mount(spec=pyserver.url, key=pyserver.key, options=["ttl=0", "timeout=2"])
    stander = subprocess.Popen(["sleep", "1000"], cwd=mount.path)
    fault = pyserver.fault(op=["GET", "RANGE"], never=True)
    reader = subprocess.Popen(["cat", str(mount.path / "a")], stderr=subprocess.PIPE)
    try:
        wait_for(lambda: pyserver.hits(fault) > 0, "a request")
        os.kill(mount.pid, signal.SIGTERM)
        mount.wait_end()
        reader.communicate(timeout=240)
        assert reader.returncode != 0
    finally:
        stander.kill()
        stander.wait()


def test_umount_of_another_process_ends_it(make_mount, hpkvd):
    mount = make_mount(background=True)
    (mount.path / "a").write_text("1")
    mount.unmount()


def test_it_does_not_unmount_what_lies_over_it(make_mount, hpkvd):
    """Somebody mounted over the mount: SIGTERM must not take that away."""
    mount = make_mount()
    subprocess.run(["mount", "-t", "tmpfs", "over", str(mount.path)], check=True)
    try:
        os.kill(mount.pid, signal.SIGTERM)
        wait_for(lambda: not mount.running(), "the end of hpkvfs")
        assert mounted(mount.path)["source"] == "over"
    finally:
        subprocess.run(["umount", str(mount.path)], check=True)
        subprocess.run(["umount", "-i", "-l", str(mount.path)], check=False)


def test_a_kill_leaves_a_mount_that_can_be_replaced(make_mount, hpkvd, store):
    store.set("a", "1")
    mount = make_mount()
    os.kill(mount.pid, signal.SIGKILL)
    wait_for(lambda: not mount.running(), "the end of hpkvfs")
    subprocess.run(["umount", "-i", str(mount.path)], check=True)
    again = make_mount(path=mount.path)
    assert (again.path / "a").read_text() == "1"


def test_a_mount_over_a_mount(make_mount, hpkvd, store, tmp_path):
    """The mount point may be one already."""
    store.set("a", "1")
    first = make_mount(spec=f"local:{tmp_path}/local")
    second = make_mount(path=first.path)
    assert (first.path / "a").read_text() == "1"
    subprocess.run(["umount", "-i", str(first.path)], check=True)
    wait_for(lambda: not second.running(), "the end of hpkvfs")
    assert mounted(first.path)["source"] == f"local:{tmp_path}/local"
    assert os.listdir(first.path) == []
