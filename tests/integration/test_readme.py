"""The README's examples are run as they stand, and answer what stands there."""

import os
import re
import shlex
import subprocess

import pytest

from lib.processes import program
from lib.repository import TOP, need

pytestmark = pytest.mark.timeout(720)

EXAMPLES = re.findall(r"^```console\n(.*?)^```$", (TOP / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(example):
    """(command, output) pairs: a command begins with "$ "."""
    pairs = []
    for line in example.splitlines():
        if line.startswith("$ "):
            pairs.append((line[2:], []))
        else:
            pairs[-1][1].append(line)
    return pairs


def test_the_examples(tmp_path, make_mount):
    assert len(EXAMPLES) == 10
    need("rsync", "rsync")
    home = tmp_path / "home"
    (home / ".local/share/hpkv").mkdir(parents=True)
    folders = [str(program(name).parent) for name in ("src/mount/hpkvfs", "src/cli/hpkv", "src/server/hpkvd")]
    environment = {**os.environ, "HOME": str(home), "PATH": ":".join([*folders, os.environ["PATH"]]), "LC_ALL": "C.UTF-8"}
    for name in ("HPKV_API_KEY", "CREDENTIALS_DIRECTORY"):
        environment.pop(name, None)
    spec = f"local:{home}/.local/share/hpkv/store"
    make_mount(spec=spec, path=home / "hpkv", env=environment)
    pairs = [pair for example in EXAMPLES for pair in commands(example)]
    lines = []
    for number, (command, _) in enumerate(pairs):
        # Longer than the mount's ttl=, which the text tells of.
        lines.append(f"sleep 1.1; eval {shlex.quote(command)} > {tmp_path}/{number} 2>&1")
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        env={**environment, "HPKV_URL": spec},
    )
    assert done.stderr == ""
    for number, (command, output) in enumerate(pairs):
        assert (tmp_path / str(number)).read_text(encoding="utf-8").splitlines() == output, command
