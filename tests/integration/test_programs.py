"""Programs that trust a file system with more than text: fio, git, SQLite, editors, dd. Each checks its own data."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys

import pytest

from lib.hpkvd import Hpkvd
from lib.shell import need, sh

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(params=[3072, 1 << 20], ids=["3072", "1M"])
def server(request, tmp_path):
    """Values hold 3072 bytes, or a mebibyte."""
    with Hpkvd(tmp_path / "store", ["--sync", "normal", "--max-value", str(request.param)]) as hpkvd:
        hpkvd.max_value = request.param
        yield hpkvd


@pytest.fixture
def disk(server, tmp_path, make_mount):
    """A function that mounts the store with its state file, again after the last one is unmounted or killed."""

    def again():
        options = [f"max_value={server.max_value}", f"state={tmp_path}/state", "umask=022"]
        return make_mount(server.url, options, key=server.key)

    again.max_value = server.max_value
    return again


# --- fio ---


def test_fio_reads_back_what_it_wrote_at_random(disk, tmp_path):
    """Four jobs, 64 MiB in all (with small values 8: they are the same code in more requests)."""
    need("fio")
    size = "16M" if disk.max_value > 3072 else "2M"
    mount = disk()
    job = """
        [global]
        directory={where}
        filesize={size}
        bsrange=512-64k
        blockalign=512
        verify=crc32c
        verify_fatal=1
        randseed=7
        [random]
        rw=randwrite
        numjobs=2
        end_fsync=1
        [mapped]
        rw=randwrite
        ioengine=mmap
        bs=4k
        [mixed]
        rw=randrw
        fsync=500
    """
    (tmp_path / "job").write_text(job.format(where=mount.path, size=size).replace("        ", ""))
    done = sh('fio --output-format=terse --minimal "$1" > "$2"; cat "$2"', tmp_path, tmp_path / "job", tmp_path / "report", limit=960)
    errors = [line.split(";")[4] for line in done.stdout.splitlines()]
    assert errors == ["0"] * 4, done.stdout + done.stderr
    mount.unmount()
    verify = (tmp_path / "job").read_text().replace("[random]", "verify_only=1\n[random]").replace(str(mount.path), str(disk().path))
    (tmp_path / "job").write_text(verify)
    sh('fio --output-format=terse "$1"', tmp_path, tmp_path / "job", limit=960)


# --- git ---

GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


@pytest.fixture
def git_env(monkeypatch):
    need("git")
    for name, value in GIT.items():
        monkeypatch.setenv(name, value)


def make_repository(folder):
    """300 files in 12 commits: text, binary, programs, links."""
    folder.mkdir()
    sh("git init -q -b main", folder)
    for commit in range(12):
        for number in range(25):
            path = folder / f"d{number % 5}" / f"f{commit}-{number}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"line of text\n" * number * commit if number % 2 else os.urandom(400 * number))
            path.chmod(0o755 if number % 7 == 0 else 0o644)
        (folder / f"link{commit}").symlink_to(f"d0/f{commit}-0")
        sh('git add -A && git commit -qm "commit $1"', folder, commit)


def test_git(disk, tmp_path, git_env):
    """A clone, work in it, and gc; another git then finds the same in it, also after a remount."""
    make_repository(tmp_path / "origin")
    mount = disk()
    sh('git clone -q "file://$1" work', mount.path, tmp_path / "origin")
    work = mount.path / "work"
    sh("git fsck --strict --full && test -z \"$(git status --porcelain)\"", work)
    sh("git checkout -qb other && git mv d1 moved && rm d2/f1-2 && echo new > new && git add -A && git commit -qm more", work)
    sh("git stash list && git repack -q && git gc -q --prune=now && git fsck --strict --full", work)
    sh("git checkout -q main && git merge -q other && git push -q origin other", work)
    head = sh("git rev-parse HEAD HEAD^{tree}", work).stdout
    mount.unmount()
    work = disk().path / "work"
    assert sh("git rev-parse HEAD HEAD^{tree}", work).stdout == head
    sh("git fsck --strict --full && test -z \"$(git status --porcelain)\" && git diff --exit-code HEAD", work)
    assert sh("git -C \"$1\" rev-parse other", work, tmp_path / "origin").stdout == head.splitlines(True)[0]
    sh('git clone -q "file://$1/work" "$2/back" && diff -r --exclude=.git --no-dereference . "$2/back"', work, work.parent, tmp_path)


# --- SQLite ---

WRITER = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("pragma journal_mode=" + sys.argv[2]).fetchone()
base.execute("pragma synchronous=full")
base.execute("pragma wal_autocheckpoint=20")
base.execute("create table if not exists t(n integer primary key, text, blob)")
start = base.execute("select coalesce(max(n), -1) + 1 from t").fetchone()[0]
for n in range(start, start + 100000):
    base.execute("begin immediate")
    base.execute("insert into t values(?, ?, ?)", (n, "text %d " % n * 20, bytes([n % 256]) * (n * 37 % 5000)))
    base.execute("update t set text = text || 'again' where n = ?", (n // 2,))
    base.execute("commit")
    print(n, flush=True)
"""


def kill_a_writer(path, mode, after):
    """Ends it with SIGKILL when it has told of `after` commits; answers the number of the last one that it told of."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), mode], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        told = [int(writer.stdout.readline()) for _ in range(after)]
    finally:
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read()
        writer.stdout.close()
        writer.wait(60)
    return [*told, *map(int, rest.split(b"\n")[:-1])][-1]


def check_base(path, last):
    """Whole, and with every row that was told of and at most the next one."""
    need("sqlite3")
    assert sh('sqlite3 "$1" "pragma integrity_check"', path.parent, path).stdout == "ok\n"
    with sqlite3.connect(path) as base:
        rows = base.execute("select n, text, blob from t order by n").fetchall()
    base.close()
    assert [n for n, _, _ in rows] == list(range(len(rows)))
    assert len(rows) in (last + 1, last + 2)
    for n, text, blob in rows:
        assert text.startswith(f"text {n} ") and blob == bytes([n % 256]) * (n * 37 % 5000)


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "wal"])
def test_sqlite_with_a_killed_writer(disk, mode):
    mount = disk()
    for _ in range(3):
        last = kill_a_writer(mount.path / "base", mode, 40)
        check_base(mount.path / "base", last)
    mount.unmount()
    check_base(disk().path / "base", last)


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite_with_a_killed_mount(disk, mode):
    """What was committed is in the store, not in the mount's memory."""
    mount = disk()
    last = kill_a_writer(mount.path / "base", mode, 40)
    mount.kill9()
    check_base(disk().path / "base", last)


# --- editors and tools that replace files ---

LINES = "".join(f"line {number} of many, all text\n" for number in range(1, 1500))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Without anybody's own settings."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("settings", ["", "set backup", "set backupcopy=yes", "set backupcopy=no", "set undofile", "set writebackup fsync"])
def test_vim_saves_with_its_defaults(disk, home, settings):
    """Swap file included; mode and owner stay."""
    need("vim")
    mount = disk()
    (mount.path / "f").write_text(LINES)
    os.chown(mount.path / "f", 7, 8)
    os.chmod(mount.path / "f", 0o640)
    sh("vim -N -es -i NONE --cmd 'set swapfile backupskip=' -c \"$1\" -c '%s/many/few/' -c w -c '$d' -c wq f", mount.path, settings)
    wanted = LINES.replace("many", "few").rsplit("line", 1)[0]
    st = os.stat(mount.path / "f")
    assert ((mount.path / "f").read_text(), stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (wanted, 0o640, 7, 8)
    left = {"f", *({"f~"} if settings == "set backup" else set()), *({".f.un~"} if settings == "set undofile" else set())}
    assert set(os.listdir(mount.path)) == left
    mount.unmount()
    again = disk()
    assert (again.path / "f").read_text() == wanted
    assert set(os.listdir(again.path)) == left


def test_sed_i(disk):
    need("sed")
    mount = disk()
    (mount.path / "f").write_text(LINES)
    os.chmod(mount.path / "f", 0o751)
    sh("sed -i s/many/few/ f && sed -i.bak s/few/some/ f", mount.path)
    assert (mount.path / "f").read_text() == LINES.replace("many", "some")
    assert (mount.path / "f.bak").read_text() == LINES.replace("many", "few")
    assert stat.S_IMODE(os.stat(mount.path / "f").st_mode) == 0o751
    assert sorted(os.listdir(mount.path)) == ["f", "f.bak"]


def test_dd_with_fsync_survives_the_mounts_death(disk, tmp_path):
    """In whole and in place: what fsync has answered for is in the store."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(700_000))
    mount = disk()
    sh('dd if="$1" of=f bs=64k conv=fsync status=none', mount.path, source)
    mount.kill9()
    mount = disk()
    sh('cmp f "$1"', mount.path, source)
    part = os.urandom(10_000)
    (tmp_path / "part").write_bytes(part)
    sh('dd if="$1" of=f bs=1000 seek=123 conv=notrunc,fsync status=none', mount.path, tmp_path / "part")
    mount.kill9()
    whole = bytearray(source.read_bytes())
    whole[123_000 : 123_000 + len(part)] = part
    assert (disk().path / "f").read_bytes() == whole


def test_dd_leaves_holes(disk):
    """A sparse gigabyte takes no time and no room."""
    mount = disk()
    sh("dd if=/dev/zero of=f bs=1M count=0 seek=1024 status=none; printf end >> f; cp --sparse=always f g", mount.path)
    for name in ("f", "g"):
        assert os.stat(mount.path / name).st_size == (1 << 30) + 3
        assert sh('tail -c 5 "$1"', mount.path, name).stdout == "\0\0end"
