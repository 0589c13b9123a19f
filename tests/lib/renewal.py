"""How a client changes over from one connection to the next, and what it has told of."""

from lib.processes import wait_for


def connections(client):
    """How many the client has made."""
    before = client.count("stats")
    client.do("stats")
    return client.wait("stats", after=before)["connections"]


def changes(client, count):
    """Waits for so many change-overs."""
    wait_for(lambda: connections(client) > count, f"{count} change-overs")


def gave_way(client, server, closes=1):
    """Waits until the former connection is closed, as it should."""
    wait_for(lambda: len(server.closes()) >= closes, "the former connection's end")
    assert set(server.closes()) == {1000}
    assert client.count("disconnected") == 0
    assert client.count("connected") == 1


def told(client, key):
    return [event.get("value") for event in list(client.events) if event["event"] == "notification" and event["key"] == key]
