"""Frees a test that hangs in a mount.

A process that waits for a FUSE filesystem's answer sees no signal until the answer comes, so a test that hangs there
cannot be ended from inside. This runs as a process of its own, is told on standard input when a test may be
late ("deadline SECONDS", "idle"), and then ends the mounts below the session's folder, which makes the
hanging system call fail. When standard input ends, the session is over, however it ended: what it left
is cleared away.
"""

import os
import select
import signal
import sys
import time

from processes import SESSION_VARIABLE, end_processes, free_mounts_below, with_variable

# How long a freed test gets to come to its end by itself.
LAST_GRACE = 60.0


def clean(folder):
    free_mounts_below(folder)
    left = [pid for pid in with_variable(SESSION_VARIABLE, folder) if pid != os.getppid()]
    end_processes(left)
    free_mounts_below(folder)


def main():
    folder, parent = sys.argv[1], int(sys.argv[2])
    deadline = kill_at = None
    buffer = b""
    while True:
        limits = [at for at in (deadline, kill_at) if at is not None]
        wait = max(0.0, min(limits) - time.monotonic()) if limits else None
        if select.select([0], [], [], wait)[0]:
            data = os.read(0, 4096)
            if not data:
                break
            buffer += data
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                word, _, seconds = line.partition(b" ")
                deadline = time.monotonic() + float(seconds) if word == b"deadline" else None
                kill_at = None
            continue
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            freed = free_mounts_below(folder)
            print(f"watchdog: the test is late; freed the mounts {freed}", file=sys.stderr, flush=True)
            deadline, kill_at = None, now + LAST_GRACE
        elif kill_at is not None and now >= kill_at:
            print(f"watchdog: the test still hangs; ending the test session {parent}", file=sys.stderr, flush=True)
            os.kill(parent, signal.SIGKILL)
            kill_at = None
    clean(folder)


if __name__ == "__main__":
    # Ctrl-C is for the session; this process must outlive it to clean up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main()
