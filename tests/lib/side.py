"""One of two folders that a model test drives side by side: each operation by name, answering what it gave or its error, and
what can be seen of a file afterwards."""

import errno
import hashlib
import mmap
import os
import stat

from lib.shell import rename2

FALLOC_KEEP_SIZE = 1
FALLOC_PUNCH_HOLE = 2
FALLOC_ZERO_RANGE = 16


def content(kind, size, seed):
    """Bytes that differ at every offset, so that a piece in the wrong place is seen."""
    if kind == "zeros":
        return bytes(size)
    if kind == "json":
        return (b'{"n":%d}' % seed).ljust(max(size, 8))[: max(size, 8)]
    if kind == "stub":
        return (b"hpkvfs1 %d " % seed).ljust(size, b"=")[:size]
    if kind == "text":
        lines = b"".join(b"%d line %d\n" % (seed, number) for number in range(size // 8 + 1))
        return lines[:size]
    return hashlib.shake_128(b"%d" % seed).digest(size)


class Side:
    """A folder with its own open files, in numbered slots. Paths are relative; the folder itself is "."."""

    def __init__(self, root, libc):
        self.root = root
        self.libc = libc
        self.files = {}

    def path(self, name):
        return os.path.join(self.root, name)

    def do(self, name, *arguments):
        try:
            return getattr(self, name)(*arguments)
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error.errno))

    def _open(self, name, flags, mode=0o666):
        # A FIFO must not be waited for.
        return os.open(self.path(name), flags | os.O_NONBLOCK | os.O_CLOEXEC, mode)

    def _with(self, name, flags, call):
        file = self._open(name, flags)
        try:
            return call(file)
        finally:
            os.close(file)

    # --- files by name ---

    def write(self, name, data):
        return self._with(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, lambda file: os.write(file, data))

    def append(self, name, data):
        return self._with(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, lambda file: os.write(file, data))

    def overwrite(self, name, offset, data):
        return self._with(name, os.O_WRONLY, lambda file: os.pwrite(file, data, offset))

    def create(self, name, mode):
        os.close(self._open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))

    def truncate(self, name, size):
        os.truncate(self.path(name), size)

    def read(self, name, offset=0, size=1 << 22):
        return self._with(name, os.O_RDONLY, lambda file: os.pread(file, size, offset))

    def map(self, name, offset, data):
        """Stores by a shared mapping, which is as large as the file."""

        def store(file):
            size = os.fstat(file).st_size
            part = data[: max(size - offset, 0)]
            if not part:
                return 0
            with mmap.mmap(file, size) as memory:
                memory[offset : offset + len(part)] = part
            return len(part)

        return self._with(name, os.O_RDWR, store)

    # --- the tree ---

    def unlink(self, name):
        os.unlink(self.path(name))

    def mkdir(self, name, mode):
        os.mkdir(self.path(name), mode)

    def rmdir(self, name):
        os.rmdir(self.path(name))

    def symlink(self, target, name):
        os.symlink(target, self.path(name))

    def readlink(self, name):
        return os.readlink(self.path(name))

    def mkfifo(self, name):
        os.mkfifo(self.path(name))

    def mknod(self, name, kind, device):
        os.mknod(self.path(name), kind, device)

    def rename(self, old, new, flags):
        rename2(self.path(old), self.path(new), flags)

    def link(self, old, new):
        os.link(self.path(old), self.path(new), follow_symlinks=False)

    def listing(self, name):
        return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in os.scandir(self.path(name)))

    # --- attributes ---

    def chmod(self, name, mode):
        os.chmod(self.path(name), mode)

    def chown(self, name, uid, gid):
        os.chown(self.path(name), uid, gid, follow_symlinks=False)

    def utimens(self, name, access, change):
        os.utime(self.path(name), ns=(access, change), follow_symlinks=False)

    def setxattr(self, name, attribute, value, flags):
        os.setxattr(self.path(name), attribute, value, flags)

    def getxattr(self, name, attribute):
        return os.getxattr(self.path(name), attribute)

    def removexattr(self, name, attribute):
        os.removexattr(self.path(name), attribute)

    def listxattr(self, name):
        return sorted(os.listxattr(self.path(name), follow_symlinks=False))

    # --- open files ---

    def open(self, slot, name, flags):
        file = self._open(name, flags)
        self.close(slot)
        self.files[slot] = file

    def _slot(self, slot):
        if slot not in self.files:
            raise OSError(errno.EBADF, "nothing is open")
        return self.files[slot]

    def pread(self, slot, offset, size):
        return os.pread(self._slot(slot), size, offset)

    def pwrite(self, slot, offset, data):
        return os.pwrite(self._slot(slot), data, offset)

    def write_at_end(self, slot, data):
        os.lseek(self._slot(slot), 0, os.SEEK_END)
        return os.write(self._slot(slot), data)

    def ftruncate(self, slot, size):
        os.ftruncate(self._slot(slot), size)

    def fallocate(self, slot, mode, offset, size):
        if self.libc.fallocate(self._slot(slot), mode, offset, size) != 0:
            raise OSError(self.libc.errno(), "fallocate")

    def zero(self, slot, offset, size):
        """Zeros at the offset, also where the slot appends."""
        file = os.open(f"/proc/self/fd/{self._slot(slot)}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(file, bytes(size), offset)
        finally:
            os.close(file)

    def copy_range(self, slot, other, offset, to, size):
        return os.copy_file_range(self._slot(slot), self._slot(other), size, offset, to)

    def fsync(self, slot):
        os.fsync(self._slot(slot))

    def fchmod(self, slot, mode):
        os.fchmod(self._slot(slot), mode)

    def fstat(self, slot):
        st = os.fstat(self._slot(slot))
        return st.st_mode, st.st_uid, st.st_gid, st.st_size if not stat.S_ISDIR(st.st_mode) else None

    def close(self, slot):
        if slot in self.files:
            os.close(self.files.pop(slot))

    def close_all(self):
        for slot in list(self.files):
            self.close(slot)

    # --- what can be seen ---

    def seen(self, name):
        """Type and mode, owner, size, links, device and mtime of a file; the error where there is none."""
        try:
            st = os.lstat(self.path(name))
        except OSError as error:
            return {"error": errno.errorcode[error.errno]}
        folder = stat.S_ISDIR(st.st_mode)
        return {
            "mode": oct(st.st_mode),
            "owner": (st.st_uid, st.st_gid),
            "size": None if folder else st.st_size,
            "links": None if folder else st.st_nlink,
            "device": st.st_rdev,
            "mtime": st.st_mtime_ns,
        }

    def whole(self, name):
        """The same, with content, target and extended attributes."""
        found = self.seen(name)
        kind = int(found["mode"], 8)
        if stat.S_ISREG(kind):
            found["content"] = self.read(name)
        elif stat.S_ISLNK(kind):
            found["target"] = self.readlink(name)
        found["xattrs"] = {
            attribute: os.getxattr(self.path(name), attribute, follow_symlinks=False) for attribute in self.listxattr(name)
        }
        return found

    def names(self):
        """All paths below the folder, and the folder itself."""
        found = ["."]
        for where, folders, files in os.walk(self.root, onerror=_raise):
            found += [os.path.relpath(os.path.join(where, name), self.root) for name in folders + files]
        return sorted(found)


def _raise(error):
    raise error


def everything(root):
    """All that can be seen of every file below a folder, by relative path."""
    side = Side(str(root), None)
    return {name: side.whole(name) for name in side.names()}


def first_difference(ours, theirs):
    """Of contents, where they part; of all else nothing."""
    if not (isinstance(ours, bytes) and isinstance(theirs, bytes)):
        return ""
    places = [at for at, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]]
    first = places[0] if places else min(len(ours), len(theirs))
    last = places[-1] if places else first
    return (
        f" ({len(ours)} and {len(theirs)} bytes; {len(places)} differ from {first} to {last}:"
        f" {ours[first : first + 20]!r} and {theirs[first : first + 20]!r})"
    )


def differences(one, other):
    """What everything() tells of two folders that are not the same, as lines; a few are enough."""
    lines = [f"only in one of both: {name!r}" for name in sorted(one.keys() ^ other.keys())]
    for name in sorted(one.keys() & other.keys()):
        for field in sorted(one[name].keys() | other[name].keys()):
            ours, theirs = one[name].get(field), other[name].get(field)
            if ours != theirs:
                lines.append(f"{field} of {name!r}: {ours!r:.100} and {theirs!r:.100}{first_difference(ours, theirs)}")
    return lines[:20]
