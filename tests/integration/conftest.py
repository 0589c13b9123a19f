"""Fixtures of the tests on real mounts.

pyserver    the independent server          @pytest.mark.pyserver_options(max_value=100)
server      each of both servers in turn, with one way to look into them: see Backend
given       a function: given("a", "b*") answers a token of `pyserver` for these patterns
mount_on    a function: mount_on(server_or_pyserver, "ttl=60", ...) answers a Mount; ttl=0 unless given
"""

import json

import pytest

from lib.pyserver import PyServer
from lib.wsclient import Client


def pytest_configure(config):
    config.addinivalue_line("markers", "pyserver_options(**settings): settings of the `pyserver` fixture's server")


@pytest.fixture(scope="session")
def pyserver_process():
    with PyServer() as server:
        yield server


@pytest.fixture
def pyserver(request, pyserver_process):
    marker = request.node.get_closest_marker("pyserver_options")
    pyserver_process.reset(**(marker.kwargs if marker is not None else {}))
    return pyserver_process


@pytest.fixture
def given(pyserver):
    asker = Client(pyserver.url, pyserver.key)  # which needs no connection for them
    yield lambda *patterns: asker.token(patterns=list(patterns))
    asker.close()


class Backend:
    """hpkvd as another client sees it, with the calls of PyServer."""

    def __init__(self, hpkvd, client):
        self.url = hpkvd.url
        self.key = hpkvd.key
        self.client = client

    def set(self, key, value):
        if isinstance(value, str):
            self.client.set(key, value)
            return
        self.client.atomic(key, value)

    def set_all(self, values):
        """Many at once, so that the server can take them together."""
        texts = {key: value for key, value in values.items() if isinstance(value, str)}
        numbers = [self.client.send(op=2, key=key, value=value) for key, value in texts.items()]
        for number in numbers:
            assert self.client.receive(number)["code"] == 200
        for key in values.keys() - texts.keys():
            self.set(key, values[key])

    def get(self, key):
        return self.client.get(key)

    def delete(self, key):
        self.client.delete(key)

    def contents(self, prefix=""):
        return {key: value for key, value in self.client.range_all() if key.startswith(prefix)}


@pytest.fixture(params=["hpkvd", "pyserver"])
def server(request):
    if request.param == "pyserver":
        return request.getfixturevalue("pyserver")
    return Backend(request.getfixturevalue("hpkvd"), request.getfixturevalue("store"))


@pytest.fixture
def mount_on(make_mount):
    def make(server, *options, **keywords):
        words = list(options)
        if not any(word.startswith("ttl=") for word in words):
            words.append("ttl=0")
        return make_mount(spec=server.url, key=server.key, options=words, **keywords)

    return make


@pytest.fixture
def plain():
    """Leaves the layout's own mark out of a store's contents, and checks it."""

    def filter_mark(contents, delimiter="/", prefix=""):
        rest = dict(contents)
        mark = rest.pop(prefix + ".hpkvfs/fs", None)
        if mark is not None:
            mark = json.loads(mark)
            assert mark["v"] == 1 and mark["delimiter"] == delimiter
        return rest

    return filter_mark
