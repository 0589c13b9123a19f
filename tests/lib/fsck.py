"""fsck.hpkvfs, run to its end."""

import os
import subprocess

from lib.processes import program, sanitizer_env, sanitizer_reports

OK, CORRECTED, LEFT, FAILURE, USAGE, CANCELLED = 0, 1, 4, 8, 16, 32


def run_fsck(folder, *words, key=None, env=None, **keywords):
    """The finished process, its output as text; **keywords of subprocess.run. Sanitizers report to the folder, which is to hold
    nothing else."""
    whole = {name: value for name, value in os.environ.items() if name != "HPKV_API_KEY"}
    whole.update(sanitizer_env(str(folder)), **(env or {}))
    if key is not None:
        whole["HPKV_API_KEY"] = key
    done = subprocess.run(
        [program("src/mount/fsck.hpkvfs"), *map(str, words)], env=whole, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=400, check=False, **keywords,
    )  # fmt: skip
    reports = sanitizer_reports(str(folder))
    assert not reports, reports
    return done
