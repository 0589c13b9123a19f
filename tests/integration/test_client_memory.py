"""A client that lives long needs no more memory than one that has just begun."""

import os
import re
import subprocess
from pathlib import Path

from lib.processes import program, sanitizer_env, sanitizer_reports

FLIGHT = 64
# Each leak of a pointer's size for every request, or of some KiB for every connection, is more.
GROWTH_KIB = 1024


def environment(folder, key):
    env = {**os.environ, **sanitizer_env(folder), "HPKV_API_KEY": key}
    # freed memory that the sanitizer keeps would look like growth
    env["ASAN_OPTIONS"] += ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"
    return env


def resident_kib(pid):
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"^VmRSS:\s+([0-9]+) kB$", status, re.MULTILINE).group(1))


def run_connections(process, count, requests):
    """Connections one after the other, each with as many sets or gets."""
    for number in range(count):
        process.stdin.write(f"{('set', 'get')[number % 2]} {FLIGHT} {FLIGHT} {requests - FLIGHT}\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith("{")


def test_requests_and_connections_leave_nothing(hpkvd, tmp_path):
    with subprocess.Popen(
        [str(program("tests/bench/client_bench")), hpkvd.url],
        env=environment(tmp_path, hpkvd.key),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            run_connections(process, 10, 2000)
            before = resident_kib(process.pid)
            run_connections(process, 90, 2000)
            after = resident_kib(process.pid)
            process.stdin.close()
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert not sanitizer_reports(tmp_path)
    assert hpkvd.requests("set") + hpkvd.requests("get") == 200000
    assert after - before < GROWTH_KIB, f"{before} KiB resident after 20,000 requests, {after} KiB after 200,000"
