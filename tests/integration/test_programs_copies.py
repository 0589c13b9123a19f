"""A tree of 2,000 files of every kind, carried in and out by rsync, tar and cp: nothing of it is changed, and a second rsync
copies nothing, whatever lies between."""

import os
import random
import stat

import pytest

from lib.shell import need, sh
from lib.side import differences, everything

pytestmark = [pytest.mark.timeout(1200), pytest.mark.hpkvd_options("--sync", "normal")]

FILES = 2000
MAX_VALUE = 3072
NAMES = ["plain", "with space", "ünï", "-dash", "new\nline", "quote'\"", "back\\slash", "100%", "%2F", "%-", ".hidden", "*?[]", "𐍈", "~"]
TIMES = [0, 1, 999_999_999, -1_500_000_000, 1_000_000_000_123_456_789, 1_700_000_000_000_000_001]


def _content(rng, number):
    size = rng.choice([0, 1, 10, 100, 500, 1500, MAX_VALUE - 1, MAX_VALUE, MAX_VALUE + 1, 5000, 20000])
    if number % 3 == 0:
        return rng.randbytes(size)
    return (f"line of {number}\n".encode() * (size // 8 + 1))[:size]


def _folders(rng, root):
    folders = [root]
    for number in range(120):
        parent = rng.choice([folder for folder in folders if len(folder.parts) < len(root.parts) + 8])
        folder = parent / f"{rng.choice(NAMES)}{number}"
        folder.mkdir()
        folders.append(folder)
    (root / "empty folder").mkdir()
    return folders


def _special(rng, path, number):
    kind = number % 5
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3 + number % 200))
    elif kind == 2:
        os.mknod(path, stat.S_IFSOCK | 0o600)
    else:
        os.symlink(rng.choice(["plain", "../up", "/absolute/ü", "no such file", "x" * 200]), path)


def make_tree(root):
    """Every kind of file, name, mode, owner, time and attribute; the same each time."""
    rng = random.Random(4)
    root.mkdir()
    folders = _folders(rng, root)
    made = []
    for number in range(FILES):
        path = rng.choice(folders) / f"{rng.choice(NAMES)}.{number}"
        if number % 20 == 7:
            _special(rng, path, number // 20)
        else:
            path.write_bytes(_content(rng, number))
        made.append(path)
    for number, path in enumerate(made + folders[:0:-1]):
        _attributes(rng, path, number)
    (root / "acl").write_text("with an ACL\n")
    (root / "acls").mkdir()
    sh("setfacl -m u:7:rw,g:8:r acl && setfacl -d -m u:9:rwx acls", root)
    return root


def _attributes(rng, path, number):
    os.chown(path, rng.choice([0, 7, 65534]), rng.choice([0, 8]), follow_symlinks=False)
    if not path.is_symlink():
        os.chmod(path, rng.choice([0o644, 0o600, 0o755, 0o444, 0o4711, 0o2755, 0o1777] if path.is_dir() or number % 4 == 0 else [0o644]))
    if number % 10 == 0 and stat.S_IFMT(os.lstat(path).st_mode) in (stat.S_IFREG, stat.S_IFDIR):
        os.setxattr(path, "user.note", b"of %d\0" % number)
        os.setxattr(path, "user.empty", b"")
    os.utime(path, ns=(5, rng.choice(TIMES) + number), follow_symlinks=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    need("rsync", "tar", "setfacl", "diff")
    return make_tree(tmp_path_factory.mktemp("copies") / "source")


@pytest.fixture(scope="module")
def wanted(source):
    return everything(source)


@pytest.fixture
def store_of(hpkvd, tmp_path, make_mount):
    """A function that mounts the same store again, by default with this machine's state file."""

    def again(state="state"):
        return make_mount(hpkvd.url, [f"state={tmp_path}/{state}", "umask=022", "suid", "dev"], key=hpkvd.key)

    return again


def same(folder, wanted):
    found = differences(everything(folder), wanted)
    assert not found, "\n".join(found)


# As root does a backup; -i tells of everything that is changed, also of attributes alone.
RSYNC = 'rsync -aAXHi --modify-window=-1 --devices --specials --delete "$1/" "$2/"'


def rsync(source, target, expected=None):
    done = sh(RSYNC, "/", source, target, limit=800)
    if expected is not None:
        assert done.stdout.splitlines() == expected
    return done.stdout.splitlines()


def test_rsync_in_and_out(source, wanted, store_of, tmp_path):
    """In; again; out; each second time, also after a remount and on another machine, nothing is to do."""
    mount = store_of()
    assert len(rsync(source, mount.path / "copy")) > FILES
    rsync(source, mount.path / "copy", expected=[])
    same(mount.path / "copy", wanted)
    rsync(mount.path / "copy", tmp_path / "back")
    same(tmp_path / "back", wanted)
    mount.unmount()

    mount = store_of()
    rsync(source, mount.path / "copy", expected=[])
    rsync(mount.path / "copy", tmp_path / "back", expected=[])
    same(mount.path / "copy", wanted)
    mount.unmount()

    other = store_of("another-state")
    rsync(source, other.path / "copy", expected=[])
    rsync(other.path / "copy", tmp_path / "back", expected=[])
    rsync(other.path / "copy", tmp_path / "back2")
    same(tmp_path / "back2", wanted)


def test_rsync_of_changes_copies_those(source, wanted, store_of, tmp_path):
    """Three files change, also one of the same size; one goes, and one is new."""
    mount = store_of()
    rsync(source, tmp_path / "changing")
    rsync(source, mount.path / "copy")
    files = sorted(name for name, seen in wanted.items() if seen.get("content") and seen["size"] > 100)
    size, text, mode, gone = files[3], files[7], files[11], files[13]
    changing = tmp_path / "changing"
    (changing / size).write_bytes(bytes(reversed((changing / size).read_bytes())))
    (changing / text).write_bytes(b"other content")
    os.chmod(changing / mode, 0o640)
    os.unlink(changing / gone)
    (changing / "new").write_bytes(b"\0new")
    changed = sh("rsync -aAXHi --modify-window=-1 --devices --specials --delete --dry-run \"$1/\" \"$2/\" | grep -c '^[<>*]'", "/", changing, mount.path / "copy")
    assert int(changed.stdout) == 4
    rsync(changing, mount.path / "copy")
    same(mount.path / "copy", everything(changing))
    mount.unmount()
    other = store_of("another-state")
    same(other.path / "copy", everything(changing))
    rsync(changing, other.path / "copy", expected=[])


def test_tar_in_and_out(source, wanted, store_of, tmp_path):
    tar = "tar --acls --xattrs --xattrs-include='*' --numeric-owner --format=posix --sparse"
    mount = store_of()
    (mount.path / "copy").mkdir()
    sh(f'{tar} -C "$1" -cf - . 2> /dev/null | {tar} -C "$2" -xpf -', "/", source, mount.path / "copy", limit=800)
    sockets = {name for name, seen in wanted.items() if stat.S_ISSOCK(int(seen["mode"], 8))}
    # tar leaves sockets out, and with that dates their folders as it does all others.
    without = {name: seen for name, seen in wanted.items() if name not in sockets}
    same(mount.path / "copy", without)
    mount.unmount()
    mount = store_of()
    sh(f'mkdir "$2" && {tar} -C "$1" -cf - . | {tar} -C "$2" -xpf -', "/", mount.path / "copy", tmp_path / "back", limit=800)
    same(tmp_path / "back", without)
    sh(f'{tar} -C "$1" -cf "$2/all.tar" . && {tar} -C "$1" --compare -f "$2/all.tar"', "/", mount.path / "copy", tmp_path, limit=800)


def test_cp_in_and_out(source, wanted, store_of, tmp_path):
    mount = store_of()
    sh('cp -a "$1" "$2"', "/", source, mount.path / "copy", limit=800)
    same(mount.path / "copy", wanted)
    sh('cp -a "$1/copy" "$1/again" && rm -r "$1/copy"', "/", mount.path, limit=800)
    mount.unmount()
    mount = store_of("another-state")
    assert os.listdir(mount.path) == ["again"]
    same(mount.path / "again", wanted)
    sh('cp -a "$1" "$2"', "/", mount.path / "again", tmp_path / "back", limit=800)
    same(tmp_path / "back", wanted)
    sh('mv "$1/again" "$1/moved" && rm -r "$1/moved"', "/", mount.path, limit=800)
    assert os.listdir(mount.path) == []
