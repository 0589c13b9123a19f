"""Fixtures for the official JavaScript clients."""

import pytest

from lib.jsclient import Node

# Unthrottled, as its default of ten requests a second would only make the tests slow.
FAST = {"throttling": {"enabled": False}}


@pytest.fixture
def node():
    with Node() as process:
        yield process


@pytest.fixture
def js(node, hpkvd):
    """A connected API client of the server."""
    client = node.api(hpkvd.key, hpkvd.url, FAST)
    client.call("connect")
    yield client
    client.call("disconnect", False)


@pytest.fixture
def rest(node, hpkvd):
    return node.rest(hpkvd.url, hpkvd.key)
