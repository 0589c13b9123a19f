"""Drives libhpkv through tests/integration/client_driver.c: commands go in, callbacks come out as events."""

import json
import os
import subprocess
import tempfile
import threading
import time

from lib.processes import program, sanitizer_env, sanitizer_reports

LIMIT = 240.0


class Driver:
    """A client of `url`; options are hpkv_config's members. Leaving it checks the exit code and the sanitizers' reports."""

    def __init__(self, url, env=None, **options):
        self.reports = tempfile.mkdtemp(prefix="driver-")
        self.events = []
        self.started = 0
        self.options = options
        self._arrived = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [program("tests/integration/client_driver"), url, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **sanitizer_env(self.reports), **(env or {})},
            cwd="/",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._arrived:
                self.events.append(json.loads(line))
                self._arrived.notify_all()
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()

    # --- commands ---

    def do(self, *command):
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def start(self, *command):
        """A request; answers its number."""
        self.started += 1
        self.do(*command)
        return self.started

    def connect(self):
        """Connects, waits, and answers the outcome; it has "err" where it failed."""
        before = self.count("connect")
        self.do("connect")
        return self.wait("connect", after=before)

    def request(self, *command):
        """A request, waited for."""
        return self.reply(self.start(*command))

    # --- events ---

    def count(self, name):
        with self._arrived:
            return sum(1 for event in self.events if event["event"] == name)

    def _find(self, wanted, after):
        found = [event for event in self.events if wanted(event)]
        return found[after] if len(found) > after else None

    def wait_for(self, wanted, what, after=0):
        end = time.monotonic() + LIMIT
        with self._arrived:
            while True:
                event = self._find(wanted, after)
                if event is not None:
                    return event
                left = end - time.monotonic()
                if self._ended or left <= 0:
                    raise AssertionError(f"no {what} came; events: {self.events}")
                self._arrived.wait(left)

    def wait(self, name, after=0):
        """The event of this name, after so many others of it."""
        return self.wait_for(lambda event: event["event"] == name, name, after)

    def reply(self, number):
        return self.wait_for(
            lambda event: event["event"] in ("reply", "refused") and event["n"] == number, f"reply {number}"
        )

    def state(self):
        before = self.count("state")
        self.do("state")
        return self.wait("state", after=before)["state"]

    # --- the end ---

    def close(self):
        try:
            self.process.stdin.close()
            code = self.process.wait(LIMIT)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._reader.join()
            self.process.stdout.close()
        assert code == 0, f"the driver ended with {code}\n{sanitizer_reports(self.reports)}"
        assert not sanitizer_reports(self.reports), sanitizer_reports(self.reports)

    def __enter__(self):
        return self

    def __exit__(self, kind, _value, _traceback):
        if kind is None:
            self.close()
        else:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self._reader.join()
            self.process.stdout.close()
