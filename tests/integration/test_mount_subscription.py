"""The mount's second connection, on which the server tells of changes: it is there, comes back, and never stands in the way."""

import json
import os
import re
import time

import pytest

from lib.processes import wait_for
from lib.proxy import Fault, GarbageAt, Proxy

pytestmark = pytest.mark.timeout(240)

CHECK = ("GET", ".hpkvfs/fs")
LIVE = "the server tells of changes"
LOST = "the server does not tell of changes"


@pytest.fixture
def subscribed(pyserver, mount_on):
    """A mount with a subscription, whose log shows what becomes of it."""

    def make(*options, **keywords):
        return mount_on(pyserver, *options, subscribe=True, arguments=["-d"], **keywords)

    return make


def begun(mount):
    return len(re.findall(LIVE, mount.log()))


def wait_live(mount, times=1):
    wait_for(lambda: begun(mount) >= times, f"subscription number {times}")


def losses(mount):
    return [line for line in mount.log().splitlines() if LOST in line]


# --- what it asks for ---


def test_one_token_one_connection_and_one_request(pyserver, subscribed):
    mount = subscribed()
    wait_live(mount)
    assert pyserver.tokens() == 1 and pyserver.connections() == 2
    assert pyserver.token_requests() == [{"subscribePatterns": ["*"], "accessPattern": r"^.*\.hpkvfs/fs$"}]
    # One is the mount's own.
    assert pyserver.log().count(CHECK) == 2
    mount.unmount()
    wait_for(lambda: pyserver.connections() == 0, "the end of both connections")
    assert set(pyserver.closes()) <= {1000, 1001}


def test_none_where_it_is_not_wanted(pyserver, subscribed):
    mount = subscribed("nosubscribe")
    os.listdir(mount.path)
    wait_live(subscribed())  # another, in the time that the first one would take
    assert len(pyserver.token_requests()) == 1 and pyserver.connections() == 3
    assert json.loads(os.getxattr(mount.path, "user.hpkv.stats"))["subscription"] is None


@pytest.mark.parametrize(
    ("prefix", "pattern"), [("users/", "users/*"), ("a*b?c/", "a*b*c/*"), ("[x]/", "*x*/*"), ("ä/", "ä/*")]
)
def test_the_pattern_of_a_prefix(pyserver, subscribed, prefix, pattern):
    mount = subscribed(f"prefix={prefix}")
    wait_live(mount)
    (request,) = pyserver.token_requests()
    assert request["subscribePatterns"] == [pattern]
    assert ("GET", f"{prefix}.hpkvfs/fs") in pyserver.log()


def test_with_the_local_server(make_mount, tmp_path):
    mount = make_mount(spec=f"local:{tmp_path}/store", subscribe=True, arguments=["-d"])
    wait_live(mount)
    (mount.path / "f").write_text("x")
    assert (mount.path / "f").read_text() == "x"


def test_with_hpkvd(hpkvd, make_mount):
    wait_live(make_mount(subscribe=True, options=["prefix=a.b{c}/"], arguments=["-d"]))


# --- it comes back ---


def test_a_lost_connection(pyserver, subscribed):
    mount = subscribed()
    for count in range(1, 4):
        wait_live(mount, count)
        pyserver.drop_connections(tokens_only=True)
    wait_live(mount, 4)
    assert pyserver.tokens() == 4 and len(losses(mount)) == 3
    assert (mount.path / "none").exists() is False


def test_a_server_that_was_away(pyserver, subscribed):
    mount = subscribed()
    wait_live(mount)
    pyserver.down()
    wait_for(lambda: losses(mount), "the loss")
    pyserver.up()
    wait_live(mount, 2)
    assert len(losses(mount)) == 1


def test_tokens_that_expire(pyserver, subscribed):
    """Nobody notices: there is one subscription all the time."""
    pyserver.configure(token_exp_s=2)
    mount = subscribed()
    wait_live(mount)
    wait_for(lambda: pyserver.tokens() >= 3, "two new tokens")
    assert begun(mount) == 1 and not losses(mount)


def test_a_renewal_that_is_answered_with_nonsense(pyserver, make_mount):
    """The connection stands, and nothing was misread on it."""
    pyserver.configure(token_exp_s=2)
    with Proxy(pyserver.url) as proxy:
        mount = make_mount(spec=proxy.url, key=pyserver.key, subscribe=True, arguments=["-d"])
        wait_live(mount)
        accepted = proxy.accepted
        proxy.to_client = GarbageAt(0)
        wait_for(lambda: proxy.accepted > accepted + 1, "a renewal, and another attempt")
        proxy.to_client = Fault()
        wait_for(lambda: pyserver.tokens() >= 3, "a new token")
        assert begun(mount) == 1 and not losses(mount)
        mount.unmount()


def test_a_check_that_is_not_answered(pyserver, subscribed):
    """The connection is made anew, and only one that answers counts."""
    held = pyserver.fault(op="GET", key=".hpkvfs/fs", skip=1, times=1, never=True)
    mount = subscribed()
    wait_for(lambda: pyserver.hits(held), "the check")
    wait_live(mount)
    assert pyserver.tokens() == 2


@pytest.mark.parametrize("code", [404, 403])
def test_any_answer_to_the_check_is_one(pyserver, subscribed, code):
    pyserver.fault(op="GET", key=".hpkvfs/fs", skip=1, code=code, text="no")
    mount = subscribed()
    wait_live(mount)
    assert pyserver.tokens() == 1


def test_a_check_that_fails_is_made_again(pyserver, subscribed):
    pyserver.fault(op="GET", key=".hpkvfs/fs", skip=1, times=2, code=500, text="broken")
    mount = subscribed()
    wait_live(mount)
    assert pyserver.tokens() == 3 and len(losses(mount)) == 1 and "broken" in losses(mount)[0]


def test_a_suspended_machine(pyserver, subscribed, tmp_path):
    asleep = tmp_path / "asleep"
    mount = subscribed(env={"HPKVFS_TEST_SUSPEND": str(asleep)})
    for count in (1, 3):
        wait_live(mount, count)
        asleep.write_text("")
        wait_for(lambda: len(losses(mount)) == count, "the loss")
        assert "suspended" in losses(mount)[-1]
        wait_live(mount, count + 1)
        asleep.unlink()
        pyserver.drop_connections(tokens_only=True)  # each new one looks at the clocks
        wait_live(mount, count + 2)
    assert len([line for line in losses(mount) if "suspended" in line]) == 2 and pyserver.tokens() == 5


def test_a_change_that_cannot_be_read(pyserver, subscribed):
    mount = subscribed()
    wait_live(mount)
    pyserver.tell('{"type":"notification","key":"a","value":{},"timestamp":1}')
    wait_live(mount, 2)
    assert len(losses(mount)) == 1


# --- the kernel ---


def test_the_kernel_can_expire_all_names(subscribed):
    """From Linux 6.16 on."""
    mount = subscribed()
    can = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2]) >= (6, 16)
    wait_for(lambda: f"the kernel {'can' if can else 'cannot'} expire all names at once" in mount.log(), "the kernel's answer")


# --- servers without tokens ---


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_server_without_tokens(pyserver, subscribed, status):
    pyserver.configure(token_status=status)
    pyserver.set("f", "one")
    mount = subscribed("ttl=0")
    wait_for(lambda: len(pyserver.token_requests()) >= 3, "some attempts")
    assert (mount.path / "f").read_text() == "one"
    pyserver.set("f", "two")
    assert (mount.path / "f").read_text() == "two"
    assert len(losses(mount)) == 1 and str(status) in losses(mount)[0]
    pyserver.configure(token_status=None)
    wait_live(mount)


def test_its_attempts_become_rare(pyserver, subscribed):
    pyserver.configure(token_status=404)
    start = time.monotonic()
    mount = subscribed()
    wait_for(lambda: len(pyserver.token_requests()) >= 6, "some attempts")
    assert time.monotonic() - start >= 0.2 + 0.4 + 0.8 + 1.6 + 3.2
    assert len(losses(mount)) == 1


def test_a_refused_token(pyserver, subscribed):
    """The upgrade is refused, not the token."""
    mount = subscribed()
    wait_live(mount)
    pyserver.configure(refuse=403)
    pyserver.drop_connections(tokens_only=True)
    wait_for(lambda: len(pyserver.token_requests()) >= 3, "some attempts")
    pyserver.configure(refuse=None)
    wait_live(mount, 2)


# --- the mount does not wait for it ---


def test_the_mount_serves_meanwhile(pyserver, subscribed):
    pyserver.configure(token_delay_s=3600)
    pyserver.set("f", "one")
    mount = subscribed()
    assert (mount.path / "f").read_text() == "one"
    wait_for(pyserver.token_requests, "a token to be asked for")


def asked(pyserver, _mount):
    wait_for(pyserver.token_requests, "a token to be asked for")


def dialled(pyserver, _mount):
    wait_for(pyserver.tokens, "a token")
    time.sleep(0.2)


def checking(pyserver, _mount):
    wait_for(lambda: pyserver.log().count(CHECK) == 2, "the check")


def waiting(_pyserver, mount):
    wait_for(lambda: losses(mount), "a failure")


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize(
    ("settings", "fault", "phase"),
    [
        ({"token_delay_s": 3600}, None, asked),
        ({"upgrade_delay_s": 3600}, None, dialled),
        ({}, {"op": "GET", "key": ".hpkvfs/fs", "skip": 1, "never": True}, checking),
        ({"token_status": 503}, None, waiting),
        ({}, None, None),
    ],
    ids=["token", "dial", "check", "waiting", "at once"],
)
def test_an_unmount_in_every_phase(pyserver, mount_on, settings, fault, phase, background):
    pyserver.configure(**settings)
    if fault is not None:
        pyserver.fault(**fault)
    if background and phase is waiting:
        phase = asked
    arguments = () if background else ["-d"]
    mount = mount_on(pyserver, subscribe=True, background=background, arguments=arguments)
    (mount.path / "f").write_text("x")
    if phase is not None:
        phase(pyserver, mount)
    started = time.monotonic()
    mount.unmount()
    assert time.monotonic() - started < 20
    assert pyserver.get("f") == "x"
    wait_for(lambda: pyserver.connections() == 0, "the end of all connections")


def test_a_signal_while_it_is_live(pyserver, subscribed):
    mount = subscribed()
    wait_live(mount)
    os.kill(mount.pid, 15)
    mount.wait_end()
