"""The official JavaScript client and a mount on one store: its keys are files, files are its keys."""

import json
import os

import pytest

from lib.jsclient import JsError
from lib.processes import wait_for
from lib.pyserver import PyServer
from lib.shell import sh, tree, write

pytestmark = pytest.mark.timeout(480)

VALUES = {
    "user/1": '{"name":"Ada","tags":["a","b"]}',
    "user/2": "größe 𐍈 \u2028 \x01",
    "plain": "line\r\n\ttab",
    "deep/er/and/deeper": " ",
}


class World:
    """The official client and a mount, on one server."""

    def __init__(self, node, server, mount):
        self.node = node
        self.server = server
        self.path = mount.path
        self.client = node.api(server.key, server.url, {"throttling": {"enabled": False}})
        self.client.call("connect")

    def call(self, *arguments):
        return self.client.call(*arguments)

    def code(self, *arguments):
        """Of a call that fails."""
        with pytest.raises(JsError) as caught:
            self.call(*arguments)
        return caught.value.code

    def watch(self):
        tokens = self.node.tokens(self.server.key, self.server.url)
        token = tokens.call("generateToken", {"subscribePatterns": ["*"], "accessPattern": ".*"})
        watcher = self.node.subscription(token, self.server.url)
        watcher.call("connect")
        watcher.listen("*")
        return watcher


@pytest.fixture(params=["hpkvd", "pyserver"])
def world(request, node, make_mount):
    if request.param == "hpkvd":
        server = request.getfixturevalue("hpkvd")
        yield World(node, server, make_mount(options=["ttl=0"]))
        return
    # This client does not percent-encode the key.
    with PyServer(key="needs-no-encoding") as server:
        with make_mount(spec=server.url, key=server.key, options=["ttl=0"]) as mount:
            yield World(node, server, mount)


def test_its_keys_are_files(world):
    for key, value in VALUES.items():
        assert world.call("set", key, value)["success"] is True
    files = {name: content for name, content in tree(world.path).items() if content is not None}
    assert files == {key: value.encode() for key, value in VALUES.items()}


def test_its_objects_are_files_of_json(world):
    world.call("set", "user", {"name": "Ada", "tags": ["ü"]})
    assert (world.path / "user").read_text() == '{"name":"Ada","tags":["ü"]}'


def test_files_are_its_keys(world):
    for key, value in VALUES.items():
        os.makedirs((world.path / key).parent, exist_ok=True)
        write(world.path / key, value.encode())
    for key, value in VALUES.items():
        assert world.call("get", key)["value"] == value
    found = world.call("range", "deep/", "user0")
    assert {record["key"]: record["value"] for record in found["records"]} == VALUES


def test_what_it_changes_the_mount_shows(world):
    world.call("set", "a", "1")
    world.call("set", "b", "2")
    world.call("set", "j", '{"x":1,"y":2}')
    assert sorted(os.listdir(world.path)) == ["a", "b", "j"]
    world.call("set", "a", "changed")
    world.call("delete", "b")
    world.call("set", "j", {"y": None, "z": 3}, True)
    world.call("atomicIncrement", "n", 7)
    assert sorted(os.listdir(world.path)) == ["a", "j", "n"]
    assert (world.path / "a").read_bytes() == b"changed"
    assert json.loads((world.path / "j").read_text()) == {"x": 1, "z": 3}
    assert (world.path / "n").read_bytes() == b"7"


def test_what_the_mount_changes_it_sees(world):
    for name in "abc":
        world.call("set", f"d/{name}", name)
    sh("echo 4 > d/a; rm d/b; mv d/c d/moved; echo 5 >> d/moved", world.path)
    assert world.call("get", "d/a")["value"] == "4\n"
    assert world.code("get", "d/b") == 404
    assert world.code("get", "d/c") == 404
    assert world.call("get", "d/moved")["value"] == "c5\n"
    assert [record["key"] for record in world.call("range", "\x01", "\U0010ffff")["records"]] == ["d/a", "d/moved"]


def test_it_is_told_of_what_the_mount_does_and_never_of_an_empty_value(world):
    world.call("set", "f", "old")
    watcher = world.watch()
    sh("echo x > f; echo y > g; mv g h", world.path)
    told = [watcher.event("*") for _ in range(4)]
    assert [(event["key"], event["value"]) for event in told] == [("f", "x\n"), ("g", "y\n"), ("h", "y\n"), ("g", None)]


def test_a_question_in_one_file_and_its_answer_in_another(world):
    """Another client's worker."""
    write(world.path / "question", b"6*7")
    assert world.call("get", "question")["value"] == "6*7"
    world.call("set", "answer", "42")
    wait_for((world.path / "answer").exists, "the answer", 60)
    assert (world.path / "answer").read_bytes() == b"42"
