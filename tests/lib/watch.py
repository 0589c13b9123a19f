"""hpkv watch as a child of the test.

    with Watch(server.url, server.key, "a*", "--count", "1") as watch:
        watch.ready()               # from now on changes are told
        watch.line()                # the next line of standard output
        watch.wait()                # its exit code, once it has ended by itself
"""

import os
import re
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

from lib.processes import program, sanitizer_env, sanitizer_reports, wait_for

READY = "hpkv: watching"
BACK = "hpkv: watching again; what changed meanwhile is not shown"
LOST = re.compile(r"hpkv: not watching: .")


class Watch:
    """Both streams are read as they come, but standard output not before read() where `reads` is false."""

    def __init__(self, url, key, *words, reads=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
        self.folder = tempfile.TemporaryDirectory(prefix="watch-")
        self.lines = []
        self.said = []
        self.taken = 0
        self.threads = []
        env = {**os.environ, **sanitizer_env(self.folder.name), "HPKV_URL": url, "HPKV_API_KEY": key or ""}
        # freed memory that the sanitizer keeps would look like growth
        env["ASAN_OPTIONS"] += ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"
        self.process = subprocess.Popen(
            [program("src/cli/hpkv"), "watch", *words], env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )
        self._start(self.process.stderr, self.said)
        if reads:
            self.read()

    # --- what it writes ---

    def _start(self, stream, lines):
        if stream is not None:
            self.threads.append(threading.Thread(target=self._read, args=(stream, lines)))
            self.threads[-1].start()

    @staticmethod
    def _read(stream, lines):
        with stream:
            for line in stream:
                lines.append(line.decode())

    def read(self):
        self._start(self.process.stdout, self.lines)

    def _until(self, condition, what):
        """Waits for it; in vain where the process has ended without."""

        def come():
            ended = self.process.poll() is not None
            if ended:
                for thread in self.threads:
                    thread.join()
            if condition():
                return True
            assert not ended, f"it ended without {what}: {self.said}"
            return False

        wait_for(come, what)

    def hears(self, text, count=1):
        """Waits until standard error had the line so many times."""
        self._until(lambda: self.said.count(text + "\n") >= count, f"{text!r} on standard error, {count} times")

    def ready(self):
        self.hears(READY)
        return self

    def loses(self, count=1):
        """Waits until it has said so many times that the connection was lost."""
        self._until(lambda: sum(bool(LOST.match(line)) for line in self.said) >= count, f"{count} lost connections")

    def line(self):
        """The next line of standard output, without its end."""
        self._until(lambda: len(self.lines) > self.taken, "a line of standard output")
        self.taken += 1
        return self.lines[self.taken - 1].removesuffix("\n")

    def next(self, count):
        return [self.line() for _ in range(count)]

    # --- its life ---

    @property
    def pid(self):
        return self.process.pid

    def kib(self, name):
        """A size of /proc/PID/status, e.g. VmRSS."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(re.search(rf"^{name}:\s+([0-9]+) kB$", status, re.MULTILINE).group(1))

    def wait(self):
        """Its exit code, a negative signal, and whatever it wrote is in `lines` and `said`."""
        code = self.process.wait(100)
        for thread in self.threads:
            thread.join()
        return code

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        reports = sanitizer_reports(self.folder.name)
        self.folder.cleanup()
        assert not reports, reports
