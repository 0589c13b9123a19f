"""What is measured: the same system calls on every peer, by one process at a time."""

import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path

from lib.processes import program
from peers import Failed


class Work:
    """The phases, run on one mounted folder."""

    def __init__(self, root, source, files, size, folder="files"):
        self.root, self.source = Path(root), source
        self.folder = str(self.root / folder)
        self.names = [f"file-{number:06d}" for number in range(files)]
        self.paths = [f"{self.folder}/{name}" for name in self.names]
        self.size = size

    def content(self, generation):
        """Plain text, another one in each generation."""
        line = f"{generation}: the quick brown fox jumps over the lazy dog\n".encode()
        return (line * (self.size // len(line) + 1))[: self.size]

    def prepare(self):
        os.mkdir(self.folder)

    def _write_all(self, flags, data):
        for path in self.paths:
            file = os.open(path, os.O_WRONLY | flags, 0o644)
            os.write(file, data)
            os.close(file)

    def create(self):
        self._write_all(os.O_CREAT | os.O_EXCL, self.content("created"))

    def overwrite(self):
        self._write_all(os.O_TRUNC, self.content("overwritten"))

    def _read_all(self, data):
        for path in self.paths:
            file = os.open(path, os.O_RDONLY)
            got = b""
            while chunk := os.read(file, 65536):
                got += chunk
            os.close(file)
            if got != data:
                raise Failed(f"{path} holds {len(got)} bytes that were not written to it")

    def read_created(self):
        self._read_all(self.content("created"))

    def read(self):
        self._read_all(self.content("overwritten"))

    def list(self):
        """Answers the seconds."""
        command = [str(program("tests/bench/list_bench")), self.folder]
        seconds, count, size = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        if (int(count), int(size)) != (len(self.names), len(self.names) * self.size):
            raise Failed(f"{self.folder} lists {count} files of {size} bytes together")
        return float(seconds)

    def list_names(self):
        """The same, with a look at each."""
        with os.scandir(self.folder) as entries:
            sizes = {entry.name: os.lstat(entry.path).st_size for entry in entries}
        if sizes != dict.fromkeys(self.names, self.size):
            raise Failed(f"{self.folder} lists {len(sizes)} files, with wrong names, number or sizes")

    def unlink(self):
        for path in self.paths:
            os.unlink(path)

    def copy(self):
        subprocess.run(["cp", "-r", self.source, str(self.root / "copy")], check=True)

    def remove(self):
        subprocess.run(["rm", "-r", str(self.root / "copy")], check=True)

    def clear(self):
        os.rmdir(self.folder)
        if os.listdir(self.root):
            raise Failed(f"{self.root} is not empty: {os.listdir(self.root)[:5]}")


def run_in_child(function, deadline):
    """Seconds that it took, or that it answers. Only a child touches the mounts: it can be killed in a system call that hangs, this process not."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        answer = {}
        try:
            start = time.perf_counter()
            seconds = function()
            answer["seconds"] = time.perf_counter() - start if seconds is None else seconds
        except BaseException as error:  # the parent reports it
            answer["error"] = f"{type(error).__name__}: {error}"
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    try:
        if not select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise Failed("the time is over (--limit)")
        answer = json.loads(os.read(reader, 65536) or b'{"error": "the process that worked on the mount was killed"}')
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(reader)
    os.waitpid(pid, 0)
    if "error" in answer:
        raise Failed(answer["error"])
    return answer["seconds"]
