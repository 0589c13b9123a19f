"""What several show of the same names, which must be the same in the end."""

from lib.processes import wait_for


def differing(found, wanted):
    return {
        name: (found.get(name), wanted.get(name)) for name in {*found, *wanted} if found.get(name) != wanted.get(name)
    }


def wait_to_agree(first, second):
    """Waits until both calls give the same names with the same contents, and tells what differs if they never do: what is stale
    at rest stays so."""
    try:
        wait_for(lambda: not differing(first(), second()), "agreement")
    except TimeoutError as error:
        raise AssertionError(f"{error}: {differing(first(), second())}") from error
