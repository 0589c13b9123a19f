"""The longest paths: with local:DIR every path that a call can take (PATH_MAX, its end included) is a file, also below a folder
that the caller has gone into, for which the whole is longer."""

import os
import stat
import subprocess

import pytest

from lib import posix
from lib.posix import error_name
from lib.processes import program

pytestmark = pytest.mark.timeout(480)

PATH_MAX = 4096
BELOW = "some/folder/to/begin/in"


@pytest.fixture
def local(make_mount, tmp_path, request):
    return make_mount(spec=f"local:{tmp_path}/store", options=["umask=022", *getattr(request, "param", [])])


@pytest.fixture
def inside(local):
    """The current folder is in the mount, some folders down."""
    before = os.getcwd()
    os.makedirs(local.path / BELOW)
    os.chdir(local.path / BELOW)
    yield
    os.chdir(before)


def path_of(length, name=127, letter="p"):
    """A relative path of so many bytes, of names of so many."""
    path = "/".join([letter * name] * (length // (name + 1) + 1))[:length]
    return path[:-1] + "x" if path.endswith("/") else path


def folders_of(path):
    """All folders above the path, from the outermost."""
    parts = path.split("/")
    return ["/".join(parts[: i + 1]) for i in range(len(parts) - 1)]


# To look up 2,000 names can take longer than the usual ttl; then each call would begin anew.
@pytest.mark.parametrize("local", [["ttl=3600"]], ids=["ttl"], indirect=True)
@pytest.mark.parametrize("name", [127, 255, 1])
def test_the_longest_path(inside, name):
    path = path_of(PATH_MAX - 1, name)
    for folder in folders_of(path):
        os.mkdir(folder)
    for make in (
        lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)),
        lambda: os.mkfifo(path),
        lambda: os.symlink("target", path),
        lambda: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    ):
        make()
        os.chown(path, posix.ALICE, posix.BOB, follow_symlinks=False)
        st = os.lstat(path)
        assert (st.st_uid, st.st_gid) == (posix.ALICE, posix.BOB)
        os.rename(path, "short")
        os.rename("short", path)
        os.unlink(path)
        assert error_name(os.lstat, path) == "ENOENT"
    os.mkdir(path)
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
    os.rmdir(path)
    assert error_name(os.mkdir, path + "x") == "ENAMETOOLONG"


def test_what_lies_at_the_longest_path(inside, local, make_mount):
    """Text, chunks, attributes; seen by another client, moved with its folder, found by fsck, and there after a remount."""
    spec = local.spec
    path = path_of(PATH_MAX - 1)
    for folder in folders_of(path):
        os.mkdir(folder)
    with open(path, "w", encoding="utf-8") as file:
        file.write("text\n")
    os.chmod(path, 0o600)
    got = subprocess.run(
        [program("src/cli/hpkv"), "get", f"{BELOW}/{path}"],
        env={**os.environ, "HPKV_URL": spec},
        stdout=subprocess.PIPE,
        check=True,
        timeout=240,
    )
    assert got.stdout == b"text\n"
    large = os.urandom(3_000_000)
    with open(path, "wb") as file:
        file.write(large)
    with open(path, "ab") as file:
        file.write(b"more")
    top, rest = path.split("/", 1)
    os.rename(top, "o" * 127)
    os.chdir("/")
    local.unmount()
    os.chdir(make_mount(spec=spec).path / BELOW)
    with open(f"{'o' * 127}/{rest}", "rb") as file:
        assert file.read() == large + b"more"
    assert stat.S_IMODE(os.stat(f"{'o' * 127}/{rest}").st_mode) == 0o600
    assert sum(len(files) for _, _, files in os.walk(".")) == 1
    done = subprocess.run([program("src/mount/fsck.hpkvfs"), "-n", spec], stdout=subprocess.PIPE, check=False, timeout=240)
    assert (done.returncode, done.stdout.decode().strip()) == (0, f"{spec}: clean")


def test_a_tree_may_be_deeper_than_a_stack(inside):
    """Its folders' keys are made anew, from the outermost to the one that a program is in, and all of them are looked at when the
    store may have changed."""
    top = os.getcwd()
    for _ in range(2500):
        os.mkdir("d")
        os.chdir("d")
    os.rename(f"{top}/d", f"{top}/e")
    assert os.listdir(".") == []
    with open("f", "w", encoding="utf-8") as file:
        file.write("text")
    assert error_name(os.rmdir, f"{top}/e") == "ENOTEMPTY"
    with open("f", encoding="utf-8") as file:
        assert file.read() == "text"
