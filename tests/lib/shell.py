"""Commands as a person types them, and errors as system calls give them."""

import contextlib
import ctypes
import errno
import os
import shutil
import subprocess

import pytest

_libc = ctypes.CDLL(None, use_errno=True)

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

PACKAGES = {
    "rsync": "rsync",
    "vim": "vim",
    "sed": "sed",
    "find": "findutils",
    "grep": "grep",
    "diff": "diffutils",
    "df": "coreutils",
    "readelf": "binutils",
    "fio": "fio",
    "git": "git",
    "sqlite3": "sqlite3",
    "tar": "tar",
    "setfacl": "acl",
    "setfattr": "attr",
    "node": "nodejs",
    "npm": "npm",
    "inotifywait": "inotify-tools",
}


def need(*tools):
    """A missing tool is a failure that names its package."""
    for tool in tools:
        assert shutil.which(tool), f"{tool} is missing: install the Debian package {PACKAGES[tool]}"


def sh(script, cwd, *arguments, check=True, limit=400.0):
    """Runs the script in bash (stopping at its first error) in the folder; answers the finished process, text as str."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script, "bash", *map(str, arguments)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        timeout=limit,
    )
    if check:
        assert done.returncode == 0, f"{script!r} answered {done.returncode}:\n{done.stdout}{done.stderr}"
    return done


def look_at_all(root, elsewhere):
    """What programs do that only look, at a tree with d1/f0001 and d2; rsync would write to `elsewhere`, but writes nothing."""
    sh("ls -lR .; find . -name 'f0*'; grep -r 'value 77' .; rsync -an . \"$1\"; cat d1/f0001; stat d1/f0001 d2", root, elsewhere)
    assert not (root / "none").exists() and not (root / "d1/none").exists()


@contextlib.contextmanager
def fails_with(*names):
    """The block must raise an OSError with one of these errno names, e.g. fails_with("ENOENT")."""
    with pytest.raises(OSError) as caught:
        yield caught
    name = errno.errorcode.get(caught.value.errno, str(caught.value.errno))
    assert name in names, f"expected {' or '.join(names)}, got {name}: {caught.value}"


def error_of(function, *arguments):
    """The errno name of the OSError that the call raises, None where it succeeds."""
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return None


def write(path, content, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
    """Writes and closes, raising what write or close answered."""
    file = os.open(path, flags, 0o666)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(file, view) :]
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(file)
        raise
    os.close(file)


def rename2(old, new, flags):
    """renameat2(2), raising OSError."""
    at_cwd = -100
    if _libc.renameat2(at_cwd, os.fsencode(old), at_cwd, os.fsencode(new), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(old))


def tree(folder):
    """Every file below the folder with its content: {relative path: bytes}; folders are {path + "/": None}."""
    found = {}
    for where, folders, files in os.walk(folder, onerror=_raise):
        for name in folders:
            found[os.path.relpath(os.path.join(where, name), folder) + "/"] = None
        for name in files:
            path = os.path.join(where, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = file.read()
    return found


def _raise(error):
    raise error
