"""The benchmarks run, on few files and requests; what they measure is not judged here."""

import os
import re
import signal
import subprocess
import sys

import pytest

from lib.processes import mounts_below, wait_for, with_variable
from lib.repository import TOP

BENCH = TOP / "tests/bench/mount"
CLIENT = TOP / "tests/bench/client"
PHASES = ["create", "overwrite", "cold read", "cold ls -l", "warm read", "warm ls -l", "late ls -l", "unlink", "cp -r", "rm -r"]
FEW_FILES = ("--files", "20", "--many", "50", "--changes", "5", "--late", "0.1", "--rounds", "1")


def environment(folder):
    return {**os.environ, "TMPDIR": str(folder), "HPKV_API_KEY": "of no use here"}


def run(folder, *arguments, bench=BENCH):
    return subprocess.run(
        [sys.executable, str(bench), *arguments],
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


def table(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What the whole of `mount` prints."""
    folder = tmp_path_factory.mktemp("mount")
    done = run(folder, *FEW_FILES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert os.listdir(folder) == []
    return done.stdout


def test_every_phase_is_measured(measured):
    phases, warm = [table(part)[2:] for part in measured.split("\n\n")[1:3]]
    assert [row[0] for row in phases] == PHASES
    assert [row[0] for row in warm] == ["warm read", "warm ls -l", "late ls -l"]
    for row in phases + warm:
        assert all(re.fullmatch(r"[0-9]+(\.[0-9]+)?", cell) for cell in row[1:]), row
    for row in phases:
        assert float(row[1]) > 0 and float(row[5]) > 0
    requests = {row[0]: int(row[4]) for row in phases}
    assert requests["create"] >= 20 and requests["unlink"] >= 20
    assert requests["warm read"] == requests["warm ls -l"] == 0


def test_what_is_measured_once(measured):
    number = "-?[0-9.]+"
    for line in (
        f"cold ls -l of 50 files, s: hpkvfs {number}, sshfs {number}, ratio {number}",
        f"memory of hpkvfs for each of 50 cached files, bytes: {number} on top of 100",
        f"from another client's set to its content in the mount, ms: median {number}, p99 {number}, most {number}, of 5",
    ):
        assert re.search(f"^{line}$", measured, re.MULTILINE), measured
    for name in ("hpkvfs", "hpkvd", "sshfs", "ssh", "sshd(-session)?", "sftp-server", "passthrough"):
        assert re.search(rf"\b{name} [0-9.]+", measured), measured


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_cleans_up_when_it_is_stopped(tmp_path, number):
    with subprocess.Popen(
        [sys.executable, str(BENCH), "--files", "20", "--rounds", "1000"],
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as bench:
        try:
            wait_for(lambda: len(mounts_below(tmp_path)) == 3, "all mounts")
            bench.send_signal(number)
            _, errors = bench.communicate(timeout=240)
        finally:
            bench.kill()
    assert bench.returncode == 128 + number, errors
    assert mounts_below(tmp_path) == []
    assert os.listdir(tmp_path) == []


def test_the_time_limit(tmp_path):
    done = run(tmp_path, "--rounds", "1000", "--limit", "3")
    assert done.returncode == 2
    assert "the time is over" in done.stderr
    assert os.listdir(tmp_path) == []


# --- client ---

FEW = ("--requests", "200", "--many", "2000", "--rounds", "2")


def stores():
    return {name for name in os.listdir("/dev/shm") if name.startswith("hpkvfs-bench-")}


def test_both_clients_are_measured(tmp_path):
    before = stores()
    done = run(tmp_path, *FEW, "--flight", "8", bench=CLIENT)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = table(done.stdout)[2:]
    assert [row[0] for row in rows] == [
        f"{server}: {op}, {flight} under way" for server in ("hpkvd", "instant") for flight in (1, 8) for op in ("set", "get")
    ]
    for row in rows:
        assert all(re.fullmatch(r"[0-9]+(\.[0-9]+)?", cell) for cell in row[1:]), row
        assert float(row[1]) > 0 and float(row[6]) > 0
    for name in ("libhpkv", "official"):
        assert re.search(rf"^peak memory of {name}, MiB: [0-9.]+$", done.stdout, re.MULTILINE)
    assert re.search(r"MiB: [0-9.]+ after 200 requests, [0-9.]+ after 2000$", done.stdout, re.MULTILINE)
    assert os.listdir(tmp_path) == []
    assert stores() <= before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_clients_and_servers_end_when_it_is_stopped(tmp_path, number):
    before = stores()
    session = str(tmp_path)
    with subprocess.Popen(
        [sys.executable, str(CLIENT), "--rounds", "100000"],
        env={**environment(tmp_path), "HPKVFS_BENCH": session},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as bench:
        try:
            # itself, hpkvd and both clients
            wait_for(lambda: len(with_variable("HPKVFS_BENCH", session)) == 4, "both clients")
            bench.send_signal(number)
            _, errors = bench.communicate(timeout=240)
        finally:
            bench.kill()
    assert bench.returncode == 128 + number, errors
    # one that was just being started ends by itself, with its standard input
    wait_for(lambda: not with_variable("HPKVFS_BENCH", session), "the end of all")
    assert os.listdir(tmp_path) == []
    assert stores() <= before


def test_the_time_limit_of_the_client(tmp_path):
    done = run(tmp_path, "--rounds", "100000", "--limit", "3", bench=CLIENT)
    assert done.returncode == 2
    assert "the time is over" in done.stderr
    assert os.listdir(tmp_path) == []
