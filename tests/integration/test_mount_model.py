"""Random operations on a mount and on an ordinary folder: each gives the same result or the same error in both, and so do the
trees at every end, on a second mount and after a remount. A failure prints the seed and the steps that led to it."""

import errno
import os
import random

import pytest

from lib.shell import tree

pytestmark = pytest.mark.timeout(1200)

NAMES = ["a", "b", "c", "%=x", "ü", "d e"]
CONTENTS = [b"", b"x", b"text\n", b"\0\1\2", b"y" * 700, "größe".encode(), b"hpkvfs1 x\n", b"\xff" * 100]


class Side:
    """One of the two folders, with its own open files."""

    def __init__(self, root):
        self.root = root
        self.files = {}

    def path(self, name):
        return os.path.join(self.root, name)

    def do(self, step):
        kind, *arguments = step
        try:
            return getattr(self, kind)(*arguments)
        except OSError as error:
            return errno.errorcode[error.errno]

    def write(self, name, content):
        with open(self.path(name), "wb", buffering=0) as file:
            file.write(content)

    def append(self, name, content):
        file = os.open(self.path(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, content)
        finally:
            os.close(file)

    def overwrite(self, name, offset, content):
        file = os.open(self.path(name), os.O_WRONLY)
        try:
            os.pwrite(file, content, offset)
        finally:
            os.close(file)

    def create(self, name):
        os.close(os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL))

    def truncate(self, name, size):
        os.truncate(self.path(name), size)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def size(self, name):
        st = os.stat(self.path(name))
        return st.st_mode & 0o170000, st.st_size if st.st_mode & 0o170000 == 0o100000 else None

    def listing(self, name):
        return sorted(os.listdir(self.path(name)))

    def unlink(self, name):
        os.unlink(self.path(name))

    def mkdir(self, name):
        os.mkdir(self.path(name))

    def rmdir(self, name):
        os.rmdir(self.path(name))

    def rename(self, old, new):
        os.rename(self.path(old), self.path(new))

    def open(self, name, slot):
        file = os.open(self.path(name), os.O_RDWR)
        if slot in self.files:
            os.close(self.files.pop(slot))
        self.files[slot] = file

    def pread(self, slot):
        return os.pread(self.files[slot], 2000, 0) if slot in self.files else None

    def pwrite(self, slot, offset, content):
        return os.pwrite(self.files[slot], content, offset) if slot in self.files else None

    def ftruncate(self, slot, size):
        return os.ftruncate(self.files[slot], size) if slot in self.files else None

    def fsync(self, slot):
        return os.fsync(self.files[slot]) if slot in self.files else None

    def close(self, slot):
        return os.close(self.files.pop(slot)) if slot in self.files else None

    def end(self):
        for slot in list(self.files):
            self.close(slot)


def a_path(rng):
    return "/".join(rng.choice(NAMES) for _ in range(rng.choice([1, 1, 2, 2, 3])))


def a_step(rng):
    name, content, slot = a_path(rng), rng.choice(CONTENTS), rng.randrange(3)
    offset = rng.choice([0, 1, 5, 100, 900])
    return rng.choice(
        [
            ("write", name, content),
            ("write", name, content),
            ("append", name, content),
            ("overwrite", name, offset, content),
            ("create", name),
            ("truncate", name, offset),
            ("read", name),
            ("size", name),
            ("listing", name),
            ("unlink", name),
            ("mkdir", name),
            ("mkdir", name),
            ("rmdir", name),
            ("rename", name, a_path(rng)),
            ("rename", name, a_path(rng)),
            ("open", name, slot),
            ("pread", slot),
            ("pwrite", slot, offset, content),
            ("ftruncate", slot, offset),
            ("fsync", slot),
            ("close", slot),
        ]
    )


@pytest.mark.parametrize("ttl", ["ttl=0", "ttl=3600"])
@pytest.mark.parametrize("seed", range(6))
def test_same_as_an_ordinary_folder(pyserver, mount_on, tmp_path, plain, seed, ttl):
    rng = random.Random(seed)
    pyserver.configure(max_value=1 << 20)
    options = ttl, "max_value=1048576"
    local = tmp_path / "local"
    local.mkdir()
    for _ in range(3):
        mount = mount_on(pyserver, *options)
        sides = Side(mount.path), Side(local)
        steps = []
        for _ in range(300):
            step = a_step(rng)
            steps.append(step)
            ours, theirs = (side.do(step) for side in sides)
            assert ours == theirs, f"seed {seed}: {step} after {steps[-12:]}"
        for side in sides:
            side.end()
        assert tree(mount.path) == tree(local), f"seed {seed}: after {steps}"
        assert tree(mount_on(pyserver, *options[1:]).path) == tree(local)
        mount.unmount()
    keys = {key for key in plain(pyserver.contents()) if not key.startswith(".hpkvfs/")}
    assert len(keys) == len([content for content in tree(local).values() if content is not None])
