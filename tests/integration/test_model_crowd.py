"""Several programs at once that make, change, move and remove the same few files at random: no call fails for a reason that a
tmpfs would not give, and what is seen at the end is what is in the store."""

import os
import random
import subprocess
import traceback

import pytest

from lib.posix import Tmpfs
from lib.processes import program, sanitizer_env
from lib.shell import RENAME_EXCHANGE, RENAME_NOREPLACE
from lib.side import Side, content, differences, everything

pytestmark = [pytest.mark.timeout(960), pytest.mark.hpkvd_options("--sync", "normal")]

WORKERS = 5
STEPS = int(os.environ.get("HPKVFS_CROWD_STEPS", "400"))

NAMES = ["a", "b", "a~", "c", "a/a", "a/b", "b/a", "b/b", "a/b/a", "b/a/b"]
SIZES = [0, 1, 700, 3072, 3073, 9000, 20000]

# What a call may answer because of what another worker has just done.
FAIR = {
    *("EACCES", "EAGAIN", "EBADF", "EEXIST", "EINVAL", "EISDIR", "ELOOP", "ENODATA", "ENODEV", "ENOENT", "ENOTDIR"),
    *("ENOTEMPTY", "ENXIO", "EPERM", "EPIPE", "ESPIPE"),
}

TIMES = {"HPKVFS_TEST_TIMES": "200:100"}


def a_step(rng):
    name, other = rng.choice(NAMES), rng.choice(NAMES)
    data = content(rng.choice(["text", "binary", "json"]), rng.choice(SIZES), rng.randrange(100))
    slot = rng.randrange(2)
    return rng.choice(
        [
            ("write", name, data),
            ("append", name, data),
            ("overwrite", name, rng.choice(SIZES), data),
            ("truncate", name, rng.choice(SIZES)),
            ("read", name),
            ("unlink", name),
            ("mkdir", name, 0o755),
            ("mkdir", name, 0o700),
            ("rmdir", name),
            ("symlink", "a", name),
            ("mkfifo", name),
            ("rename", name, other, 0),
            ("rename", name, other, 0),
            ("rename", name, other, RENAME_NOREPLACE),
            ("exchange", name, other),
            ("listing", rng.choice(["a", "b", "."])),
            ("chmod", name, rng.choice([0o644, 0o600])),
            ("chown", name, rng.randrange(3), 0),
            ("utimens", name, 5, rng.randrange(10**18)),
            ("setxattr", name, "trusted.x", data[:20], 0),
            ("open", slot, name, os.O_RDWR | os.O_CREAT),
            ("pwrite", slot, rng.choice(SIZES), data),
            ("pread", slot, 0, 30000),
            ("ftruncate", slot, rng.choice(SIZES)),
            ("fsync", slot),
            ("close", slot),
        ]
    )


def work(root, seed, report):
    """One worker; writes the steps that were answered unfairly into its report."""
    rng = random.Random(seed)
    side = Side(root, None)
    lines = []
    for number in range(STEPS):
        step = a_step(rng)
        if step[0] == "exchange":
            # Of folders it is refused, by the tmpfs it is not.
            kinds = [os.path.isfile(side.path(name)) for name in step[1:]]
            if not all(kinds):
                continue
            step = ("rename", *step[1:], RENAME_EXCHANGE)
        answer = side.do(*step)
        if isinstance(answer, str) and answer not in FAIR:
            lines.append(f"{number}: {step[0]} {[word if not isinstance(word, bytes) else len(word) for word in step[1:]]}: {answer}")
    side.close_all()
    report.write_text("\n".join(lines))


def crowd(root, seed, folder):
    """Runs the workers to their end; answers what they report."""
    pids = {}
    for number in range(WORKERS):
        report = folder / f"report{number}"
        pid = os.fork()
        if pid == 0:
            try:
                work(str(root), f"{seed}.{number}", report)
            except BaseException:
                report.write_text(traceback.format_exc())
            finally:
                os._exit(0)
        pids[pid] = report
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    return [line for report in pids.values() for line in report.read_text().splitlines()]


def settled(root):
    """What is there, without times: those that no program set are another machine's."""
    found = everything(root)
    for seen in found.values():
        if seen["mtime"] > 10**18:
            seen["mtime"] = "recent"
    return found


@pytest.mark.parametrize(("ttl", "subscribe"), [("0", False), ("3600", False), ("3600", True)])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_crowd(hpkvd, make_mount, tmp_path, seed, ttl, subscribe):
    options = [f"state={tmp_path}/state", "umask=022"]
    mount = make_mount(hpkvd.url, [*options, f"ttl={ttl}"], key=hpkvd.key, env=TIMES, subscribe=subscribe)
    unfair = crowd(mount.path, seed, tmp_path)
    assert not unfair, "\n".join(unfair[:5]) + "\n" + mount.log() + mount.reports()
    before = settled(mount.path)
    mount.unmount()
    assert "lost" not in mount.log(), mount.log()
    again = make_mount(hpkvd.url, options, key=hpkvd.key, env=TIMES)
    found = differences(settled(again.path), before)
    assert not found, "\n".join(found)
    again.unmount()
    done = subprocess.run(
        [program("src/mount/fsck.hpkvfs"), hpkvd.url, "-n"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=480,
        env={**os.environ, **TIMES, **sanitizer_env(tmp_path), "HPKV_API_KEY": hpkvd.key},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_crowd_on_a_tmpfs(tmp_path):
    """The workers ask for nothing that Linux does not do."""
    with Tmpfs() as tmpfs:
        assert crowd(tmpfs.path, 1, tmp_path) == []
