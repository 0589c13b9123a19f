"""packaging/quickstart from a clean copy of the repository, as root and by sudo for an ordinary user.

Each runs in a mount namespace of its own where /usr and the tables of users are covered by throw-away copies, so nothing of
this machine changes.
"""

import os
import subprocess

import pytest

from lib.processes import WITHOUT_OTHERS_MOUNTS, end_processes, program, with_variable
from lib.repository import TOP, files

pytestmark = pytest.mark.timeout(1600)

UID = 54321
MARK = "HPKVFS_TEST_QUICKSTART"

# $1 the folder for everything, $2 root or the user's name. What quickstart says goes to files; what a person would type
# follows.
SCRIPT = r"""
set -eu
base=$1 user=$2
mount --make-rprivate /
mkdir -p "$base/over/upper" "$base/over/work"
mount -t tmpfs tmpfs "$base/over"
mkdir "$base/over/upper" "$base/over/work"
mount -t overlay overlay -o "lowerdir=/usr,upperdir=$base/over/upper,workdir=$base/over/work" /usr
mount --bind "$base/passwd" /etc/passwd
mount --bind "$base/group" /etc/group
cd "$base"
if [ "$user" = root ]; then
    export HOME=$base/home
    unset SUDO_USER SUDO_UID SUDO_GID
    as() { "$@"; }
else
    export HOME=/root SUDO_USER=$user SUDO_UID=54321 SUDO_GID=54321
    as() { runuser -u "$user" -- "$@"; }
fi
"$base/repository/packaging/quickstart" >"$base/first" 2>&1 || { cat "$base/first"; exit 1; }
"$base/repository/packaging/quickstart" >"$base/second" 2>&1 || { cat "$base/second"; exit 1; }
dir=$base/home/hpkv
as bash -c 'cd "$1" && echo hello > greeting && cat greeting && ls && stat -c %U greeting' bash "$dir"
readlink /sbin/mount.hpkvfs /sbin/umount.hpkvfs /sbin/umount.fuse.hpkvfs /sbin/fsck.hpkvfs
if [ "$user" = root ]; then umount "$dir"; else as fusermount3 -u "$dir"; fi
ls -A "$dir"
"$base/repository/packaging/quickstart" "$dir" >"$base/third" 2>&1 || { cat "$base/third"; exit 1; }
as cat "$dir/greeting"
umount "$dir"
# By mount(8), through the helper in /sbin.
mount -t hpkvfs "local:$base/home/.local/share/hpkv/store" "$dir"
cat "$dir/greeting"
umount "$dir"
"""


@pytest.fixture
def base(tmp_path):
    """A clean copy of the repository, a home, and tables of users with one more."""
    for folder in [tmp_path, *tmp_path.parents]:
        if str(folder).startswith(os.environ["TMPDIR"]):
            folder.chmod(0o755)
    for path in files():
        copy = tmp_path / "repository" / path.relative_to(TOP)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        copy.chmod(path.stat().st_mode & 0o777)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, UID, UID)
    (tmp_path / "over").mkdir()
    for table, row in (("passwd", f"tester:x:{UID}:{UID}::{home}:/bin/bash"), ("group", f"tester:x:{UID}:")):
        with open(f"/etc/{table}", encoding="utf-8") as file:
            (tmp_path / table).write_text(file.read() + row + "\n", encoding="utf-8")
        (tmp_path / table).chmod(0o644)
    yield tmp_path
    end_processes(with_variable(MARK, str(tmp_path)))


@pytest.mark.parametrize("user", ["root", "tester"])
def test_quickstart(base, user):
    program("src/mount/hpkvfs")
    if user == "root":
        os.chown(base / "home", 0, 0)
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", WITHOUT_OTHERS_MOUNTS + SCRIPT, "bash", str(base), user],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, MARK: str(base)},
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines() == [
        "hello",
        "greeting",
        user,
        "/usr/local/sbin/mount.hpkvfs",
        "/usr/local/sbin/umount.hpkvfs",
        "/usr/local/sbin/umount.fuse.hpkvfs",
        "/usr/local/sbin/fsck.hpkvfs",
        "hello",
        "hello",
    ]
    first = (base / "first").read_text(encoding="utf-8")
    assert "nothing is missing" in first and "mounted: " in first
    assert "echo hello > greeting; cat greeting; ls" in first
    assert "already mounted" in (base / "second").read_text(encoding="utf-8")
    third = (base / "third").read_text(encoding="utf-8")
    assert "installed already" in third and "mounted: " in third
    if user != "root":
        foreign = [path for path in (base / "home").rglob("*") if path.lstat().st_uid != UID]
        assert not foreign, "root wrote in the user's home"
