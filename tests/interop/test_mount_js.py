"""The official JavaScript client and a mount on one store: its keys are files, files are its keys."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from lib.processes import wait_for
from lib.pyserver import PyServer
from lib.shell import need, sh, tree, write

pytestmark = pytest.mark.timeout(120)

HERE = Path(__file__).parent

VALUES = {
    "user/1": '{"name":"Ada","tags":["a","b"]}',
    "user/2": "größe 𐍈 \u2028 \x01",
    "plain": "line\r\n\ttab",
    "deep/er/and/deeper": " ",
}


class Js:
    """The official client as a process; the key in its own query string must need no encoding."""

    def __init__(self, url, key):
        need("node")
        assert (HERE / "node_modules/@hpkv/websocket-client").is_dir(), f"run npm ci in {HERE}"
        self.command = ["node", str(HERE / "mount_client.js"), url, key]

    def start(self, *calls):
        return subprocess.Popen([*self.command, json.dumps(calls)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, cwd="/")

    def run(self, *calls):
        process = self.start(*calls)
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0
        return json.loads(output.splitlines()[-1])


@pytest.fixture(params=["hpkvd", "pyserver"])
def world(request, make_mount):
    """The official client and a mount, on each server."""
    if request.param == "hpkvd":
        server = request.getfixturevalue("hpkvd")
        yield Js(server.url, server.key), make_mount(options=["ttl=0"])
        return
    with PyServer(key="needs-no-encoding") as server:
        with make_mount(spec=server.url, key=server.key, options=["ttl=0"]) as mount:
            yield Js(server.url, server.key), mount


def test_its_keys_are_files(world):
    js, mount = world
    assert all(result["success"] for result in js.run(*[["set", key, value] for key, value in VALUES.items()]))
    files = {name: content for name, content in tree(mount.path).items() if content is not None}
    assert files == {key: value.encode() for key, value in VALUES.items()}


def test_files_are_its_keys(world):
    js, mount = world
    for key, value in VALUES.items():
        os.makedirs((mount.path / key).parent, exist_ok=True)
        write(mount.path / key, value.encode())
    results = js.run(*[["get", key] for key in VALUES])
    assert [result["value"] for result in results] == list(VALUES.values())
    found = js.run(["range", "deep/", "user0"])[0]
    assert {record["key"]: record["value"] for record in found["records"]} == VALUES


def test_what_it_changes_the_mount_shows(world):
    js, mount = world
    js.run(["set", "a", "1"], ["set", "b", "2"], ["set", "j", '{"x":1,"y":2}'])
    assert sorted(os.listdir(mount.path)) == ["a", "b", "j"]
    js.run(["set", "a", "changed"], ["delete", "b"], ["patch", "j", '{"y":null,"z":3}'], ["atomicIncrement", "n", 7])
    assert sorted(os.listdir(mount.path)) == ["a", "j", "n"]
    assert (mount.path / "a").read_bytes() == b"changed"
    assert json.loads((mount.path / "j").read_text()) == {"x": 1, "z": 3}
    assert (mount.path / "n").read_bytes() == b"7"


def test_what_the_mount_changes_it_sees(world):
    js, mount = world
    js.run(["set", "d/a", "1"], ["set", "d/b", "2"], ["set", "d/c", "3"])
    sh("echo 4 > d/a; rm d/b; mv d/c d/moved; echo 5 >> d/moved", mount.path)
    results = js.run(["get", "d/a"], ["get", "d/b"], ["get", "d/c"], ["get", "d/moved"], ["range", "\x01", "\U0010ffff"])
    assert results[0]["value"] == "4\n"
    assert results[1] == results[2] == {"error": 404}
    assert results[3]["value"] == "35\n"
    assert [record["key"] for record in results[4]["records"]] == ["d/a", "d/moved"]


def test_it_is_told_of_what_the_mount_does_and_never_of_an_empty_value(world):
    js, mount = world
    js.run(["set", "f", "old"])
    watcher = js.start(["watch", 4])
    assert watcher.stdout.readline() == "watching\n"
    sh("echo x > f; echo y > g; mv g h", mount.path)
    output = watcher.communicate(timeout=60)[0]
    assert json.loads(output.splitlines()[-1]) == [[["f", "x\n"], ["g", "y\n"], ["h", "y\n"], ["g", None]]]


def test_a_program_that_waits_for_its_answer_in_a_file(world):
    """Another client's worker: the mount writes a question, the client reads it and sets the answer."""
    js, mount = world
    write(mount.path / "question", b"6*7")
    question = js.run(["get", "question"])[0]["value"]
    assert question == "6*7"
    js.run(["set", "answer", "42"])
    wait_for(lambda: (mount.path / "answer").exists(), "the answer", 60)
    assert (mount.path / "answer").read_bytes() == b"42"
