"""`inotifywait -m` as a test's ear.

    with Inotify(mount.path, mount.path / "d") as ear:
        store.set("d/a", "1")
        ear.next(2)      # ["CREATE d/a", "CLOSE_WRITE d/a"]
        ear.nothing()    # whatever was told before has come: fails if it has

Paths are relative to the first folder. Events come in order, so `nothing` and `all` make one more change by the function `mark`
and read up to its event.
"""

import os
import subprocess
import threading

from lib.processes import wait_for
from lib.shell import need

EVENTS = "create,modify,close_write,delete,moved_from,moved_to"


class Inotify:
    """
    paths      folders or files
    mark       makes, as another client, the file that it is given the name of, in the first folder
    recursive  what is below them too
    user       uid and gid to run as
    """

    def __init__(self, *paths, mark=None, recursive=False, events=EVENTS, user=None):
        need("inotifywait")
        self.root = str(paths[0])
        self.mark = mark
        self.taken = 0
        self.marks = 0
        self.lines = []
        self.words = []
        command = ["inotifywait", "-m", "-e", events, "--format", "%e|%w%f", *(["-r"] if recursive else []), *map(str, paths)]
        as_user = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
            **as_user,
        )
        self.readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self.words), daemon=True),
        ]
        for reader in self.readers:
            reader.start()
        try:
            wait_for(lambda: "Watches established." in self.words or self.process.poll() is not None, "the watches")
            assert self.process.poll() is None, self.words
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _read(stream, lines):
        with stream:
            for line in stream:
                lines.append(line.rstrip("\n"))

    def _line(self, line):
        names, path = line.split("|", 1)
        kept = [name for name in names.split(",") if name != "CLOSE"]
        return f"{','.join(kept)} {os.path.relpath(path, self.root)}"

    def _take(self, count):
        lines = self.lines[self.taken : self.taken + count]
        self.taken += len(lines)
        return [self._line(line) for line in lines]

    def next(self, count):
        """The next so many."""
        wait_for(lambda: len(self.lines) >= self.taken + count, f"{count} events after {self.lines[self.taken :]}")
        return self._take(count)

    def until(self, line):
        """All up to this one, which is included."""
        found = []
        while not found or found[-1] != line:
            found += self.next(1)
        return found

    def all(self):
        """All that other clients' changes have raised by now."""
        self.marks += 1
        name = f"mark-{self.marks}"
        self.mark(name)
        found = self.until(f"CREATE {name}")[:-1]
        self.until(f"CLOSE_WRITE {name}")
        return found

    def nothing(self):
        found = self.all()
        assert found == [], found

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(60)
        for reader in self.readers:
            reader.join(60)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()
