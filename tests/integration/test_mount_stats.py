"""A mount's own figures: `.hpkvfs/stats`, and user.hpkv.stats of the root."""

import errno
import json
import os
import shutil
import stat
import subprocess

import pytest

from lib.processes import wait_for
from lib.repository import TOP
from lib.shell import look_at_all

pytestmark = pytest.mark.timeout(480)

# What the kernel asks for only where it does not hold the answer.
ANSWERS = ("LOOKUP", "GETATTR", "READ", "READDIR", "READDIRPLUS", "READLINK")


@pytest.fixture
def mount(hpkvd, make_mount):
    return make_mount(hpkvd.url, key=hpkvd.key)


@pytest.fixture
def told(hpkvd, make_mount):
    mount = make_mount(hpkvd.url, ["ttl=0"], key=hpkvd.key, subscribe=True)
    wait_for(lambda: figures(mount)["subscription"]["live"], "the subscription")
    return mount


def figures(mount):
    """By the xattr: it costs the kernel one GETXATTR and touches nothing else."""
    return json.loads(os.getxattr(mount.path, "user.hpkv.stats"))


def pages_read_again():
    """How often the kernel had to read a page of a file that it had given up for memory, for all filesystems."""
    with open("/proc/vmstat", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("workingset_refault_file "))


def run(*command, cwd):
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=240).stdout


def refused(expected, call, *arguments):
    with pytest.raises(OSError) as caught:
        call(*arguments)
    assert caught.value.errno in expected, caught.value


# --- the file ---


def test_it_is_json_and_anew_each_time(mount):
    path = mount.path / ".hpkvfs/stats"
    first = json.loads(path.read_bytes())
    (mount.path / "new").write_text("content")
    second = json.loads(path.read_bytes())
    assert set(first) == set(second) == set(figures(mount))
    assert first["requests"]["set"] == 0 and second["requests"]["set"] == 1


def test_ordinary_programs_read_it(mount, tmp_path):
    assert json.loads(run("cat", ".hpkvfs/stats", cwd=mount.path))
    assert run("grep", "-c", '"requests"', ".hpkvfs/stats", cwd=mount.path) == "1\n"
    run("cp", ".hpkvfs/stats", tmp_path / "copy", cwd=mount.path)
    assert json.loads((tmp_path / "copy").read_bytes())
    assert run("dd", "if=.hpkvfs/stats", "bs=7", "status=none", cwd=mount.path).endswith("}\n")
    assert json.loads(run("getfattr", "--only-values", "-n", "user.hpkv.stats", ".", cwd=mount.path))
    assert run("ls", "-a", ".hpkvfs", cwd=mount.path).split() == [".", "..", "stats"]
    assert "stats" in run("ls", "-la", ".hpkvfs", cwd=mount.path)
    assert run("find", ".hpkvfs", cwd=mount.path).split() == [".hpkvfs", ".hpkvfs/stats"]


def test_no_listing_shows_it(mount, store):
    store.set("a", "1")
    assert os.listdir(mount.path) == ["a"]
    assert os.listxattr(mount.path) == []
    assert os.listxattr(mount.path / ".hpkvfs/stats") == []
    (mount.path / "sub").mkdir()
    assert not (mount.path / "sub/.hpkvfs").exists()


def test_attributes(mount):
    folder, file = os.stat(mount.path / ".hpkvfs"), os.stat(mount.path / ".hpkvfs/stats")
    assert folder.st_mode == stat.S_IFDIR | 0o555 and file.st_mode == stat.S_IFREG | 0o444
    assert folder.st_ino != file.st_ino
    assert (file.st_uid, file.st_gid) == (os.getuid(), os.getgid())
    assert os.statvfs(mount.path / ".hpkvfs").f_bsize == os.statvfs(mount.path).f_bsize


def test_nothing_can_be_done_to_it(mount, store):
    root, folder, file = mount.path, mount.path / ".hpkvfs", mount.path / ".hpkvfs/stats"
    (root / "a").write_text("a")
    (root / "d").mkdir()
    no = {errno.EPERM, errno.EACCES}
    refused({errno.EEXIST}, os.mkdir, folder)
    refused(no, os.rmdir, folder)
    refused(no, os.rename, folder, root / "other")
    refused(no, os.rename, root / "d", folder)
    refused(no, os.rename, root / "a", folder / "a")
    refused(no, os.rename, root / "a", file)
    refused(no, os.rename, file, root / "b")
    refused(no, os.unlink, file)
    refused(no, os.mkdir, folder / "new")
    refused(no, os.mkfifo, folder / "new")
    refused(no, os.symlink, "target", folder / "new")
    refused(no, os.link, root / "a", folder / "new")
    refused(no, open, folder / "new", "w")
    refused(no, open, file, "w")
    refused(no, open, file, "r+")
    refused(no, os.truncate, file, 0)
    refused(no, os.chmod, file, 0o666)
    refused(no, os.chown, folder, 1, 1)
    refused(no, os.utime, file)
    refused(no, os.setxattr, file, "user.a", b"1")
    refused(no, os.removexattr, file, "user.a")
    refused({errno.ENODATA}, os.getxattr, file, "user.hpkv.stats")
    refused({errno.ENOENT}, os.stat, folder / "other")
    refused({errno.EPERM}, os.setxattr, root, "user.hpkv.stats", b"1")
    assert json.loads(file.read_bytes())
    assert sorted(os.listdir(root)) == ["a", "d"] and store.get("a") == "a"


def test_positions_and_copies_within_the_kernel(mount):
    with open(mount.path / ".hpkvfs/stats", "rb") as file, open(mount.path / "copy", "wb") as to:
        whole = file.read()
        assert os.pread(file.fileno(), 5, 3) == whole[3:8]
        assert os.pread(file.fileno(), 5, len(whole)) == b"" and os.pread(file.fileno(), 5, 1 << 40) == b""
        assert os.copy_file_range(file.fileno(), to.fileno(), len(whole), 0, 0) in (0, len(whole))
        refused({errno.EINVAL}, os.lseek, file.fileno(), 0, os.SEEK_DATA)


def test_another_user_reads_it(hpkvd, make_mount):
    mount = make_mount(hpkvd.url, ["allow_other"], key=hpkvd.key)
    os.chmod(mount.work, 0o755)
    done = subprocess.run(
        ["cat", str(mount.path / ".hpkvfs/stats")], user=65534, group=65534, extra_groups=[], capture_output=True, check=True
    )
    assert json.loads(done.stdout)


def test_a_copy_of_the_tree_has_nothing_of_it(mount, tmp_path):
    (mount.path / "a").write_text("a")
    run("rsync", "-a", "./", f"{tmp_path}/copy", cwd=mount.path)
    shutil.copytree(mount.path, tmp_path / "other")
    assert os.listdir(tmp_path / "copy") == os.listdir(tmp_path / "other") == ["a"]


# --- the figures ---


def members(object_, path=()):
    for name, value in object_.items():
        if path != ("kernel",):  # operations
            yield name
        if isinstance(value, dict):
            yield from members(value, (*path, name))


def test_the_manual_names_each(told):
    source = (TOP / "packaging/man/mount.hpkvfs.8").read_text()
    section = source.partition(".SH FIGURES\n")[2].partition("\n.SH ")[0]
    words = {word for line in section.splitlines() if line.startswith((".B ", ".BR ", ".RB ")) for word in line.split()}
    named = {word.strip('",;.()') for word in words}
    assert set(members(figures(told))) <= named
    assert {name for name in named if "_" in name} <= {*members(figures(told)), "cache_size"}


def test_requests_are_those_that_the_server_counts(hpkvd, mount):
    def counted():
        return {kind: hpkvd.requests(kind) for kind in ("get", "set", "patch", "delete", "range")}

    before, server_before = figures(mount)["requests"], counted()
    (mount.path / "a").write_text("1")
    with open(mount.path / "a", "a", encoding="utf-8") as file:
        file.write("2")
    os.listdir(mount.path)
    os.unlink(mount.path / "a")
    after, server_after = figures(mount)["requests"], counted()
    made = {kind: after[kind] - before[kind] for kind in server_before}
    assert made == {kind: server_after[kind] - server_before[kind] for kind in server_before}
    assert made["set"] == 1 and made["patch"] == 1 and made["delete"] == 1


def test_hits_and_misses(hpkvd, store, told):
    store.set("d/a", "1")
    (told.path / "d/a").read_text()
    cold = figures(told)
    assert cold["misses"]["names"] > 0
    # the kernel's own copies are dropped, the mount's are not
    store.set("d/a", "2")
    wait_for(lambda: (told.path / "d/a").read_text() == "2", "the change")
    store.set("d/b", "1")
    wait_for((told.path / "d/b").exists, "the new file")
    os.listdir(told.path / "d")
    warm = figures(told)
    assert all(warm["hits"][kind] > cold["hits"][kind] for kind in ("names", "attributes", "content", "listings")), warm
    assert warm["misses"] == cold["misses"]


def test_what_is_told_and_what_that_makes_the_kernel_forget(store, told):
    store.set("a", "1")
    wait_for(lambda: (told.path / "a").exists() and (told.path / "a").read_text() == "1", "the file")
    before = figures(told)
    for number in range(20):
        store.set("a", f"changed {number}")
    wait_for(lambda: (told.path / "a").read_text() == "changed 19", "the last value")
    after = figures(told)
    assert after["subscription"]["notifications"] - before["subscription"]["notifications"] == 20
    assert after["invalidations"]["inodes"] > before["invalidations"]["inodes"]
    assert after["invalidations"]["queued_most"] >= 1
    assert after["subscription"]["begun"] == 1 and after["subscription"]["lost"] == 0


def test_losses_are_counted(hpkvd, told):
    hpkvd.kill9()
    wait_for(lambda: not figures(told)["subscription"]["live"], "the loss")
    hpkvd.start()
    wait_for(lambda: figures(told)["subscription"]["live"] and figures(told)["server"]["connected"], "the return")
    now = figures(told)
    assert now["subscription"]["begun"] == 2 and now["subscription"]["lost"] == 1
    assert now["server"]["reconnects"] >= 1


def test_without_a_subscription_there_are_no_figures_of_one(mount):
    assert figures(mount)["subscription"] is None


def test_the_rate_is_shown(hpkvd, make_mount):
    mount = make_mount(hpkvd.url, ["rate=50"], key=hpkvd.key)
    assert figures(mount)["server"]["rate_per_s"] == 50


def test_what_the_kernel_holds_it_does_not_ask_for(hpkvd, store, told, tmp_path):
    for number in range(1000):
        store.set(f"d{number % 10}/f{number:04}", f"value {number}\n")

    look_at_all(told.path, tmp_path / "copy")
    look_at_all(told.path, tmp_path / "copy")  # what a listing gave without attributes has been looked up now
    before, requests, again = figures(told)["kernel"], hpkvd.requests(), pages_read_again()
    look_at_all(told.path, tmp_path / "copy")
    after = figures(told)["kernel"]
    asked = {name: after.get(name, 0) - before.get(name, 0) for name in ANSWERS}
    # Some systems give up what was not used for a minute. To read such a page again makes the kernel doubt the time of access.
    allowed = dict.fromkeys(("READ", "GETATTR"), pages_read_again() - again)
    assert all(asked[name] <= allowed.get(name, 0) for name in ANSWERS), (asked, allowed)
    assert after["OPEN"] - before["OPEN"] >= 1000
    assert hpkvd.requests() == requests
