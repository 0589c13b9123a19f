"""What all tests share: one temporary folder a session, a watchdog against hanging mounts, and the fixtures.

hpkvd       a fresh server on a free loopback port          @pytest.mark.hpkvd_options("--max-value", "100")
store       a foreign client of that server
mount       a mount of that server, ttl=0                   @pytest.mark.mount_options("ro", "prefix=a/")
make_mount  a function for more mounts: make_mount(options=..., spec=..., ...), see lib/mount.py
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hypothesis
import pytest

from lib.mount import Mount
from lib.processes import SESSION_VARIABLE

LIB = Path(__file__).parent / "lib"

# The signal of pytest-timeout comes first; the watchdog acts only where it could not be delivered.
WATCHDOG_GRACE = 5.0


# No test may depend on speed, and a mount a test is as good as one an example.
hypothesis.settings.register_profile(
    "hpkvfs",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("hpkvfs")


class Session:
    """The session's folder and its watchdog."""

    def __init__(self, config):
        self.default_timeout = float(config.getini("timeout"))
        self.folder = tempfile.mkdtemp(prefix="hpkvfs-test-")
        # Servers and mounts that run as another user pass through.
        os.chmod(self.folder, 0o755)
        os.environ["TMPDIR"] = self.folder
        tempfile.tempdir = self.folder
        if config.option.basetemp is None:
            config.option.basetemp = os.path.join(self.folder, "tmp")
        # The watchdog is started before the variable is set: it must not count as one of the tests' processes.
        self.watchdog = subprocess.Popen(
            [sys.executable, str(LIB / "watchdog.py"), self.folder, str(os.getpid())], stdin=subprocess.PIPE, cwd="/"
        )
        os.environ[SESSION_VARIABLE] = self.folder

    def say(self, line):
        self.watchdog.stdin.write(line.encode() + b"\n")
        self.watchdog.stdin.flush()

    def end(self, keep):
        self.watchdog.stdin.close()
        self.watchdog.wait(60)
        if keep:
            print(f"\nfiles of the failed tests are kept in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def pytest_configure(config):
    config.hpkvfs_session = Session(config)


def pytest_unconfigure(config):
    session = getattr(config, "hpkvfs_session", None)
    if session is not None:
        session.end(keep=getattr(config, "hpkvfs_failed", False))


def pytest_sessionfinish(session, exitstatus):
    session.config.hpkvfs_failed = exitstatus == pytest.ExitCode.TESTS_FAILED


def _limit(item):
    marker = item.get_closest_marker("timeout")
    if marker is None:
        return item.config.hpkvfs_session.default_timeout
    return float(marker.args[0] if marker.args else marker.kwargs["timeout"])


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    session = item.config.hpkvfs_session
    item.hpkvfs_started = time.monotonic()
    session.say(f"deadline {_limit(item) + WATCHDOG_GRACE}")
    yield
    session.say("idle")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Late is failed. pytest-timeout's exception can get lost where it meets the one of the freed system call."""
    outcome = yield
    report = outcome.get_result()
    seconds = time.monotonic() - item.hpkvfs_started
    if report.failed:
        item.hpkvfs_failed = True
    elif report.passed and seconds > _limit(item) and not getattr(item, "hpkvfs_failed", False):
        item.hpkvfs_failed = True
        report.outcome = "failed"
        report.longrepr = f"late in {report.when}: {seconds:.1f} s of {_limit(item):.0f} s"


def _marked(request, name):
    marker = request.node.get_closest_marker(name)
    return list(marker.args) if marker is not None else []


@pytest.fixture
def hpkvd(request, tmp_path):
    from lib.hpkvd import Hpkvd

    with Hpkvd(tmp_path / "store", _marked(request, "hpkvd_options")) as server:
        yield server


@pytest.fixture
def store(hpkvd):
    from lib.wsclient import Client

    with Client(hpkvd.url, hpkvd.key) as client:
        yield client


@pytest.fixture
def make_mount(request):
    """Mounts made by it are unmounted, with the checks of Mount.unmount(), at the end of the test, newest first."""
    made = []

    def make(spec=None, options=None, **keywords):
        if spec is None:
            server = request.getfixturevalue("hpkvd")
            spec = server.url
            keywords.setdefault("key", server.key)
        mount = Mount(spec, options=options, **keywords)
        made.append(mount)
        return mount

    yield make
    errors = []
    for mount in reversed(made):
        try:
            with mount:
                pass
        except (AssertionError, TimeoutError, subprocess.TimeoutExpired) as error:
            errors.append(str(error))
    assert not errors, "\n".join(errors)


@pytest.fixture
def mount(request, hpkvd, make_mount):
    options = _marked(request, "mount_options")
    if not any(option.startswith("ttl=") for option in options):
        options.append("ttl=0")
    return make_mount(options=options)
