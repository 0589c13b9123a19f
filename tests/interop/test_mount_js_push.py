"""Mounts that are told of changes, while the official JavaScript client changes keys as well."""

import json
import os
import random
import threading
import time

import pytest

from lib.agreement import differing, wait_to_agree
from lib.hpkvd import Hpkvd
from lib.jsclient import JsError
from lib.layout import content_of
from lib.processes import wait_for
from lib.wsclient import Client

# Beyond what the work takes by itself.
LIMIT_S = 960
pytestmark = pytest.mark.timeout(LIMIT_S)

CHANGES = int(os.environ.get("HPKVFS_JS_CHANGES", "1000"))
# How long random operations go on, and reads and writes under tokens that expire.
TOGETHER_S = float(os.environ.get("HPKVFS_TOGETHER_SECONDS", "10"))
TOKENS_S = float(os.environ.get("HPKVFS_TOKENS_SECONDS", "12"))
TOKEN_TTL_S = int(os.environ.get("HPKVFS_TOKEN_TTL", "3"))

FAST = {"throttling": {"enabled": False}}
FOR_EVER = "ttl=3600"  # what is not told would be wrong for the whole test


def figures(mount):
    return json.loads(os.getxattr(mount.path, "user.hpkv.stats"))


def live(mount):
    return figures(mount)["subscription"]["live"]


def told_mount(make_mount, server, *options):
    mount = make_mount(server.url, [FOR_EVER, *options], key=server.key, subscribe=True)
    wait_for(lambda: live(mount), "the subscription")
    return mount


def connected(node, server):
    client = node.api(server.key, server.url, FAST)
    client.call("connect")
    return client


# --- one client, one mount: never stale ---


def is_done(mount, notifications):
    """The mount has been told so often, and has told the kernel what follows."""
    now = figures(mount)
    return (
        now["subscription"]["notifications"] >= notifications
        and now["invalidations"]["queued"] == 0
        and now["memory"]["deferred"] == 0
    )


def below(root):
    return sorted(
        os.path.relpath(os.path.join(folder, name), root) for folder, _dirs, names in os.walk(root) for name in names
    )


class Changer:
    """Makes random changes by the JavaScript client, and knows what they come to."""

    NAMES = [f"f{number}" for number in range(30)] + [f"d{number % 4}/f{number}" for number in range(20)]

    def __init__(self, client, seed):
        self.client = client
        self.rng = random.Random(seed)
        self.values = {}

    def change(self):
        """The key that was changed."""
        key = self.rng.choice(self.NAMES)
        kind = self.rng.choice(["set", "set", "same size", "append", "delete"])
        old = self.values.get(key)
        if kind == "delete" and old is not None:
            self.client.call("delete", key)
            del self.values[key]
        elif kind == "append" and old is not None and len(old) < 2000:
            self.client.call("set", key, "+more", True)
            self.values[key] = old + "+more"
        else:
            size = len(old) if kind == "same size" and old else self.rng.choice([1, 10, 3000])
            value = "".join(self.rng.choices("abcdefgh", k=size))
            self.client.call("set", key, value)
            self.values[key] = value
        return key


def check(mount, changer, key, before):
    path = mount.path / key
    value = changer.values.get(key)
    assert os.path.lexists(path) == (value is not None), key
    listed = os.listdir(path.parent) if path.parent.exists() else []
    assert (path.name in listed) == (value is not None), key
    if value is None:
        with pytest.raises(FileNotFoundError):
            path.read_text()
        return
    found = os.stat(path)
    assert path.read_text() == value and found.st_size == len(value), key
    assert before is None or before[0] == value or found.st_mtime_ns > before[1], f"{key} keeps its mtime"


def test_nothing_stale_is_ever_seen(node, js, hpkvd, make_mount):
    mount = told_mount(make_mount, hpkvd)
    tokens = node.tokens(hpkvd.key, hpkvd.url)
    other = node.subscription(tokens.call("generateToken", {"subscribePatterns": ["*"], "accessPattern": ".*"}), hpkvd.url)
    other.call("connect")
    other.listen("*")
    changer = Changer(js, 7)
    seen = {}
    worst = 0.0
    for number in range(CHANGES):
        key = changer.change()
        told = other.event("*")
        start = time.monotonic()
        assert (told["key"], told["value"]) == (key, changer.values.get(key))
        wait_for(lambda: is_done(mount, number + 1), "the mount to be told", every=0.001)
        worst = max(worst, time.monotonic() - start)
        check(mount, changer, key, seen.get(key))
        seen.pop(key, None)
        if key in changer.values:
            seen[key] = (changer.values[key], os.stat(mount.path / key).st_mtime_ns)
        if number % 100 == 99:
            assert below(mount.path) == sorted(changer.values)
    print(f"the longest time from another subscriber's notification to the mount's: {1000 * worst:.1f} ms")
    assert figures(mount)["subscription"] == {
        **figures(mount)["subscription"], "begun": 1, "lost": 0, "notifications": CHANGES
    }  # fmt: skip


# --- three writers ---

# What a program may be told when another client has removed or replaced a file under it.
FAIR = (FileNotFoundError, FileExistsError)


def is_fair(error):
    return isinstance(error, FAIR) or "Stale" in os.strerror(error.errno)


class Worker:
    """Works on one mount until the time is over; what fails for no good reason is kept."""

    NAMES = Changer.NAMES

    def __init__(self, root, seed, end):
        self.root, self.rng, self.end = root, random.Random(seed), end
        self.steps, self.unfair = 0, []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while time.monotonic() < self.end:
                self.step()
                self.steps += 1
        except BaseException as error:
            self.unfair.append(repr(error))

    def step(self):
        path = self.root / self.rng.choice(self.NAMES)
        act = self.rng.choice([self.write, self.write, self.append, self.patch, self.read, self.read, self.remove, self.move, self.look])
        try:
            act(path)
        except OSError as error:
            if not is_fair(error):
                self.unfair.append(f"{act.__name__} {path}: {error}")

    def content(self):
        size = self.rng.choice([0, 1, 10, 3000])
        return self.rng.randbytes(size) if self.rng.random() < 0.3 else bytes(self.rng.choices(b"abcdefgh\n", k=size))

    def write(self, path):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self.content())

    def append(self, path):
        path.parent.mkdir(exist_ok=True)
        with open(path, "ab") as file:
            file.write(b"appended\n")

    def patch(self, path):
        with open(path, "r+b") as file:
            file.seek(self.rng.randrange(20))
            file.write(b"written in place")

    def read(self, path):
        path.read_bytes()

    def remove(self, path):
        path.unlink()

    def move(self, path):
        other = self.root / self.rng.choice(self.NAMES)
        other.parent.mkdir(exist_ok=True)
        os.rename(path, other)

    def look(self, path):
        os.stat(path)
        os.listdir(path.parent)


def js_work(client, seed, end):
    """The third writer; how many changes it made."""
    rng = random.Random(seed)
    made = 0
    while time.monotonic() < end:
        key = rng.choice(Changer.NAMES)
        try:
            if rng.random() < 0.25:
                client.call("delete", key)
            else:
                client.call("set", key, "".join(rng.choices("ijklmnop", k=rng.choice([1, 10, 3000]))))
            made += 1
        except JsError as error:
            assert error.code == 404, error
    return made


def expected(server):
    """The files that the store's keys make."""
    with Client(server.url, server.key) as client:
        keys = dict(client.range_all())
    files = [key for key in keys if not key.startswith(".hpkvfs/")]
    return {key: content_of(keys.__getitem__, key) for key in files}


def shown(mount):
    return {name: (mount.path / name).read_bytes() for name in below(mount.path)}


@pytest.mark.timeout(TOGETHER_S + LIMIT_S)
@pytest.mark.hpkvd_options("--sync", "normal")
def test_two_mounts_and_a_third_writer_agree_at_rest(js, hpkvd, make_mount):
    mounts = [told_mount(make_mount, hpkvd) for _ in range(2)]
    end = time.monotonic() + TOGETHER_S
    workers = [Worker(mount.path, seed, end) for seed, mount in enumerate(mounts)]
    changes = js_work(js, 3, end)
    for worker in workers:
        worker.thread.join()
    unfair = [line for worker in workers for line in worker.unfair]
    logs = "".join(mount.log() + mount.reports() for mount in mounts)
    assert not unfair, "\n".join(unfair[:5]) + "\n" + logs
    assert changes and all(worker.steps for worker in workers)
    for mount in mounts:
        wait_to_agree(lambda: shown(mount), lambda: expected(hpkvd))
        assert live(mount) and figures(mount)["subscription"]["lost"] == 0, mount.log()
        mount.unmount()
    again = told_mount(make_mount, hpkvd)
    assert not differing(shown(again), expected(hpkvd))


# --- tokens that expire ---


@pytest.mark.timeout(TOKENS_S + LIMIT_S)
def test_tokens_that_expire_again_and_again(node, make_mount):
    with Hpkvd(options=["--token-ttl", str(TOKEN_TTL_S)]) as server:
        mount = told_mount(make_mount, server)
        client = connected(node, server)
        end = time.monotonic() + TOKENS_S
        number = 0
        while time.monotonic() < end:
            number += 1
            client.call("set", "theirs", f"{number}")
            (mount.path / "ours").write_text(f"{number}")
            assert client.call("get", "ours")["value"] == f"{number}"
            wait_for(lambda: (mount.path / "theirs").read_text() == f"{number}", "the change", every=0.001)
        now = figures(mount)["subscription"]
        assert now == {**now, "live": True, "begun": 1, "lost": 0}, mount.log()
        assert server.metrics()["hpkvd_tokens_total"] >= TOKENS_S // TOKEN_TTL_S
        client.call("disconnect", False)
        mount.unmount()
