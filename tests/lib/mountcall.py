"""The mount as a program: called to its end, also as another user and in a mount namespace of its own.

Fixtures, to be imported by name: call, point, namespace.
"""

import os
import subprocess
from pathlib import Path

import pytest

from lib.processes import WITHOUT_OTHERS_MOUNTS, mounted, program, sanitizer_env, sanitizer_reports

# Exit codes, as mount(8) has them.
USAGE, FAILURE, INTERRUPTED = 1, 32, 8
NOBODY = 65534


class Result:
    def __init__(self, done, reports):
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr
        assert not reports, reports

    def lines(self):
        return [line for line in self.err.split("\n") if line]


def without(environment, *names):
    return {name: value for name, value in environment.items() if name not in names}


@pytest.fixture
def call(tmp_path):
    """Runs hpkvfs (or the helper) to its end: call("SPEC", "DIR", ..., key=None, helper=False)."""

    def run(*words, key=None, helper=False, env=None, cwd="/", prefix=(), timeout=240):
        environment = without(os.environ, "HPKV_API_KEY", "CREDENTIALS_DIRECTORY")
        environment.update(sanitizer_env(tmp_path))
        if key is not None:
            environment["HPKV_API_KEY"] = key
        environment.update(env or {})
        binary = program("src/mount/mount.hpkvfs" if helper else "src/mount/hpkvfs")
        done = subprocess.run(
            [*prefix, str(binary), *map(str, words)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=cwd,
            timeout=timeout,
        )
        return Result(done, sanitizer_reports(tmp_path))

    return run


@pytest.fixture
def point(tmp_path):
    path = tmp_path / "point"
    path.mkdir()
    return path


def refused(result, code, *parts, point=None):
    """It ended with this code, one line on standard error that has these parts, and no mount."""
    assert result.code == code, result.err
    lines = result.lines()
    assert len(lines) == 1, result.err
    for part in parts:
        assert part in lines[0], result.err
    if point is not None:
        assert mounted(point) is None


@pytest.fixture
def namespace(tmp_path):
    """Runs a shell script in a mount namespace of its own; what it mounts is gone with it. Any user may pass to the
    test's folder."""
    reports = tmp_path / "reports"
    reports.mkdir()
    reports.chmod(0o777)
    for folder in (tmp_path, tmp_path.parent):
        folder.chmod(0o755)

    def run(script, *words, env=None, timeout=400):
        environment = without(os.environ, "HPKV_API_KEY")
        environment.update(sanitizer_env(reports))
        environment.update(env or {})
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-eu", "-c", WITHOUT_OTHERS_MOUNTS + script, "sh", *map(str, words)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd="/",
            timeout=timeout,
        )
        return Result(done, sanitizer_reports(reports))

    return run


# /dev/fuse may be for root only on the machine that tests; here it is for everybody, as usual.
AS_NOBODY = """
devices=$(mktemp -d)
mount -t tmpfs -o dev none "$devices"
mknod -m 666 "$devices/fuse" c 10 229
mount --bind "$devices/fuse" /dev/fuse
as_nobody() {
    setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}
"""


def pid_of(path):
    return int(Path(f"/run/hpkvfs/{mounted(path)['device']}.pid").read_text())
