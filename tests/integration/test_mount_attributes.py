"""Modes, owners, times, special files, xattrs and ACLs on a real mount."""

import os
import socket
import stat
import struct
import subprocess
import threading

import pytest

from lib.processes import wait_for
from lib.shell import fails_with, need, sh, write

pytestmark = pytest.mark.timeout(480)

T1 = 1_000_000_000_123_456_789
T2 = 1_000_000_001_987_654_321

# cap_net_raw=ep, as setcap(8) writes it: revision 2, effective; permitted and inheritable sets.
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)

STRANGER = 12345


def acl(*entries):
    """As the kernel takes it: version 2, then (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NO_ID = 0xFFFFFFFF
STRANGER_READS = acl((1, 6, NO_ID), (2, 4, STRANGER), (4, 0, NO_ID), (16, 4, NO_ID), (32, 0, NO_ID))


def as_stranger(script, cwd, *arguments):
    """Exit code of the script, run by a user without any rights."""
    return subprocess.run(
        ["sh", "-c", script, "sh", *map(str, arguments)],
        cwd=cwd,
        user=STRANGER,
        group=STRANGER,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=400,
    ).returncode


def changes(pyserver):
    """What was asked since the log was cleared, but for the layout's own key."""
    return [entry for entry in pyserver.log() if entry[1] != ".hpkvfs/fs"]


def settled(pyserver, count):
    """So many requests, also a while later than attributes wait."""
    wait_for(lambda: len(changes(pyserver)) >= count, f"{count} requests", 30)
    probe = pyserver.log()
    assert len(changes(pyserver)) == count, probe
    return changes(pyserver)


def sync(path):
    """fsync of a file or folder: what waits of its attributes is sent."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


# --- a tree of every kind, there and back ---


def make_tree(root):
    root.mkdir()
    (root / "deep/er").mkdir(parents=True)
    write(root / "plain", b"text\n")
    write(root / "empty", b"")
    write(root / "binary", bytes(range(256)) * 80)
    write(root / "deep/er/€ ümläut", b"x")
    write(root / "private", b"secret")
    write(root / "program", b"#!/bin/sh\n")
    os.symlink("../some/where that is not there", root / "link")
    os.symlink("deep", root / "link to folder")
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 70000))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    os.setxattr(root / "plain", "user.note", b"\0binary\xff")
    os.setxattr(root / "plain", "user.empty", b"")
    os.setxattr(root / "deep", "user.folder", b"too")
    os.setxattr(root / "program", "security.capability", CAPABILITY)
    os.setxattr(root / "private", "system.posix_acl_access", STRANGER_READS)
    os.setxattr(root / "deep", "system.posix_acl_default", STRANGER_READS)
    os.chmod(root / "private", 0o640)
    os.chmod(root / "plain", 0o664)
    os.chmod(root / "deep/er", 0o2770)
    os.chmod(root / "deep", 0o1755)
    os.chown(root / "empty", 1000, 2000)
    os.chown(root / "link", 1000, 2000, follow_symlinks=False)
    os.chown(root / "fifo", 0, 5)
    os.chmod(root / "binary", 0o4755)
    times = T1
    for folder, folders, files in os.walk(root, topdown=False):
        for name in [*files, *folders]:
            times += 1_111_111_111
            os.utime(os.path.join(folder, name), ns=(times, times), follow_symlinks=False)
    os.utime(root, ns=(T1, T1))


def describe(root):
    """Every attribute that rsync -aAX promises to bring over, and the content."""
    found = {}
    for folder, folders, files in os.walk(root):
        for path in [folder, *(os.path.join(folder, name) for name in files + folders)]:
            info = os.lstat(path)
            content = None
            if stat.S_ISREG(info.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            elif not stat.S_ISDIR(info.st_mode):
                content = info.st_rdev
            names = os.listxattr(path, follow_symlinks=False)
            xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
            xattrs.pop("security.selinux", None)
            found[os.path.relpath(path, root)] = (
                oct(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns, content, xattrs,
            )  # fmt: skip
    return found


def test_a_tree_goes_in_and_comes_back_on_another_machine(server, mount_on, tmp_path):
    need("rsync")
    make_tree(tmp_path / "tree")
    wanted = describe(tmp_path / "tree")
    assert len(wanted) == 15
    mount = mount_on(server, "ttl=3600", "allow_other", "dev", "suid")
    sh('rsync -aAX "$1/" ./', mount.path, tmp_path / "tree")
    assert describe(mount.path) == wanted
    mount.unmount()
    mount = mount_on(server, "ttl=3600", "allow_other", "dev", "suid")
    assert describe(mount.path) == wanted
    sh('rsync -aAX ./ "$1/"', mount.path, tmp_path / "back")
    assert describe(tmp_path / "back") == wanted
    assert sh('rsync -aAXi ./ "$1/"', mount.path, tmp_path / "back").stdout == ""
    assert sh('rsync -aAXi "$1/" ./', mount.path, tmp_path / "tree").stdout == ""
    mount.unmount()


def test_an_unchanged_tree_is_synced_again_without_a_request(pyserver, mount_on, tmp_path):
    need("rsync")
    make_tree(tmp_path / "tree")
    mount = mount_on(pyserver, "ttl=3600", "dev", "suid")
    sh('rsync -aAX "$1/" ./', mount.path, tmp_path / "tree")
    sh("find . -ls", mount.path)
    sync(mount.path)
    sync(mount.path / "deep")
    sync(mount.path / "deep/er")
    pyserver.clear_log()
    assert sh('rsync -aAXi "$1/" ./', mount.path, tmp_path / "tree").stdout == ""
    assert pyserver.log() == []


# --- requests ---


def test_changes_in_a_row_are_one_patch(pyserver, mount_on):
    pyserver.set("f", "x")
    mount = mount_on(pyserver, "ttl=3600")
    os.stat(mount.path / "f")
    pyserver.clear_log()
    os.chown(mount.path / "f", 1000, 1000)
    os.chmod(mount.path / "f", 0o640)
    os.utime(mount.path / "f", ns=(T1, T1))
    assert settled(pyserver, 1) == [("PATCH", ".hpkvfs/m/f")]
    info = os.stat(mount.path / "f")
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode), info.st_mtime_ns) == (1000, 1000, 0o640, T1)


def test_a_mode_that_is_so_already_costs_nothing(pyserver, mount_on):
    pyserver.set("f", "x")
    mount = mount_on(pyserver, "ttl=3600", "umask=022")
    os.chmod(mount.path / "f", 0o600)
    sync(mount.path / "f")
    pyserver.clear_log()
    os.chmod(mount.path / "f", 0o600)
    os.chown(mount.path / "f", os.getuid(), -1)
    sync(mount.path / "f")
    assert pyserver.log() == []


def test_touch_of_a_new_file_is_one_set(pyserver, mount_on):
    mount = mount_on(pyserver, "ttl=3600", "umask=022")
    os.stat(mount.path)
    os.listdir(mount.path)
    pyserver.clear_log()
    sh("umask 022; touch new", mount.path)
    sync(mount.path / "new")
    assert changes(pyserver) == [("SET", "new")]


def test_a_copy_with_its_attributes_is_value_and_record(pyserver, mount_on, tmp_path):
    write(tmp_path / "f", b"content")
    os.chmod(tmp_path / "f", 0o640)
    os.utime(tmp_path / "f", ns=(T1, T1))
    mount = mount_on(pyserver, "ttl=3600")
    os.listdir(mount.path)
    pyserver.clear_log()
    sh('cp -p "$1" f', mount.path, tmp_path / "f")
    sync(mount.path / "f")
    assert sorted(changes(pyserver)) == [("PATCH", ".hpkvfs/m/f"), ("SET", "f")]
    assert os.stat(mount.path / "f").st_mtime_ns == T1


def test_attributes_warm_cost_nothing(pyserver, mount_on):
    mount = mount_on(pyserver, "ttl=3600", "dev")
    os.symlink("to", mount.path / "link")
    os.mkfifo(mount.path / "fifo")
    write(mount.path / "f", b"x")
    os.setxattr(mount.path / "f", "user.a", b"1")
    sync(mount.path / "f")
    os.listdir(mount.path)
    pyserver.clear_log()
    assert os.readlink(mount.path / "link") == "to"
    assert os.getxattr(mount.path / "f", "user.a") == b"1"
    assert os.listxattr(mount.path / "f") == ["user.a"]
    os.utime(mount.path / "f", ns=(T1, os.stat(mount.path / "f").st_mtime_ns))
    assert os.stat(mount.path / "f").st_atime_ns == T1
    assert [entry for entry in pyserver.log() if entry[0] != "PATCH"] == []


# --- who may what ---


def test_modes_and_acls_hold_for_others(server, mount_on):
    mount = mount_on(server, "allow_other")
    os.chmod(mount.path, 0o755)
    write(mount.path / "f", b"x")
    assert as_stranger("cat f", mount.path) == 0
    os.chmod(mount.path / "f", 0o600)
    assert as_stranger("cat f", mount.path) != 0
    os.setxattr(mount.path / "f", "system.posix_acl_access", STRANGER_READS)
    assert stat.S_IMODE(os.stat(mount.path / "f").st_mode) == 0o640
    assert as_stranger("cat f", mount.path) == 0
    assert as_stranger("echo x >> f", mount.path) != 0
    mount.unmount()
    mount = mount_on(server, "allow_other")
    assert as_stranger("cat f", mount.path) == 0
    os.chmod(mount.path / "f", 0o600)
    assert as_stranger("cat f", mount.path) != 0
    os.removexattr(mount.path / "f", "system.posix_acl_access")
    assert os.listxattr(mount.path / "f") == []


def test_umask_and_default_acls_of_what_is_made(pyserver, mount_on):
    need("getfacl")
    mount = mount_on(pyserver, "allow_other")
    sh("umask 027; echo > f; mkdir d; mkfifo p", mount.path)
    assert [stat.S_IMODE(os.stat(mount.path / name).st_mode) for name in ("f", "d", "p")] == [0o640, 0o750, 0o640]
    sh("setfacl -d -m u:1000:rwx d; umask 077; echo > d/f; mkdir d/e", mount.path)
    shown = sh("getfacl -cn d/f d/e", mount.path).stdout
    assert "user:1000:rwx\t#effective:rw-" in shown
    assert shown.count("default:user:1000:rwx") == 1
    assert stat.S_IMODE(os.stat(mount.path / "d/f").st_mode) == 0o660


def test_set_id_bits_end_with_a_write_by_another(pyserver, mount_on):
    mount = mount_on(pyserver, "allow_other", "suid")
    os.chmod(mount.path, 0o777)
    for script in ("echo y >> f", "echo y > f", "truncate -s 0 f", "chmod u+x f || true; echo y 1<> f"):
        write(mount.path / "f", b"x")
        os.chown(mount.path / "f", 0, 0)
        os.chmod(mount.path / "f", 0o6777)
        assert stat.S_IMODE(os.stat(mount.path / "f").st_mode) == 0o6777
        assert as_stranger(script, mount.path) == 0
        assert stat.S_IMODE(os.stat(mount.path / "f").st_mode) == 0o777, script
    os.chmod(mount.path / "f", 0o4755)
    os.setxattr(mount.path / "f", "security.capability", CAPABILITY)
    write(mount.path / "f", b"by root")
    assert stat.S_IMODE(os.stat(mount.path / "f").st_mode) == 0o4755
    with fails_with("ENODATA"):
        os.getxattr(mount.path / "f", "security.capability")


def test_trusted_xattrs_are_root_s(pyserver, mount_on):
    pyserver.set("f", "x")
    mount = mount_on(pyserver, "allow_other")
    os.setxattr(mount.path / "f", "trusted.t", b"1")
    assert os.listxattr(mount.path / "f") == ["trusted.t"]
    assert as_stranger("test -z \"$(getfattr -d -m - f)\"", mount.path) == 0


# --- special files ---


def test_devices_only_where_they_are_asked_for(pyserver, mount_on):
    mount = mount_on(pyserver)
    os.mknod(mount.path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with fails_with("EACCES"):
        os.open(mount.path / "null", os.O_RDONLY)
    mount.unmount()
    mount = mount_on(pyserver, "dev")
    handle = os.open(mount.path / "null", os.O_RDWR)
    assert os.write(handle, b"gone") == 4
    assert os.read(handle, 4) == b""
    os.close(handle)


def test_fifos_and_sockets_carry_bytes(pyserver, mount_on):
    mount = mount_on(pyserver)
    os.mkfifo(mount.path / "fifo")
    thread = threading.Thread(target=lambda: (mount.path / "fifo").write_bytes(b"through"))
    thread.start()
    assert (mount.path / "fifo").read_bytes() == b"through"
    thread.join(60)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(str(mount.path / "socket"))
        listener.listen()
        caller.connect(str(mount.path / "socket"))
        caller.sendall(b"hello")
        other, _ = listener.accept()
        assert other.recv(5) == b"hello"
        other.close()
    assert {key for key in pyserver.contents() if not key.startswith(".hpkvfs/")} == set()


def test_a_symbolic_link_is_followed_and_a_target_must_be_text(pyserver, mount_on):
    pyserver.set("d/f", "x")
    mount = mount_on(pyserver)
    os.symlink("d", mount.path / "to d")
    assert (mount.path / "to d/f").read_bytes() == b"x"
    os.rename(mount.path / "to d", mount.path / "d/up")
    assert os.readlink(mount.path / "d/up") == "d"
    with fails_with("EILSEQ"):
        os.symlink(b"\xff", os.fsencode(mount.path / "bad"))
    with fails_with("ENOSPC"):
        os.symlink("t" * 3072, mount.path / "long")
    with fails_with("ELOOP"):
        os.symlink("loop", mount.path / "loop")
        os.stat(mount.path / "loop")


# --- several at once, and damage ---


def test_two_mounts_that_change_different_attributes(server, mount_on):
    server.set("f", "x")
    one, two = mount_on(server), mount_on(server)
    for mount in (one, two):
        os.stat(mount.path / "f")
    os.chmod(one.path / "f", 0o600)
    os.setxattr(one.path / "f", "user.one", b"1")
    os.chown(two.path / "f", 1000, 1000)
    os.setxattr(two.path / "f", "user.two", b"2")
    sync(one.path / "f")
    sync(two.path / "f")
    for mount in (one, two, mount_on(server)):
        info = os.stat(mount.path / "f")
        assert (stat.S_IMODE(info.st_mode), info.st_uid) == (0o600, 1000)
        assert sorted(os.listxattr(mount.path / "f")) == ["user.one", "user.two"]


def test_a_damaged_record_harms_its_file_only(server, mount_on):
    server.set_all({
        "f": "x", "g": "y", ".hpkvfs/m/f": "{damaged", ".hpkvfs/m/g": '{"v":1,"mode":33152}',
        ".hpkvfs/m/l": '{"v":1,"mode":41471,"target":7}', ".hpkvfs/m/d/": "[]", "d/h": "z",
    })  # fmt: skip
    mount = mount_on(server, "umask=022")
    assert sorted(os.listdir(mount.path)) == ["d", "f", "g"]
    assert stat.S_IMODE(os.stat(mount.path / "f").st_mode) == 0o644
    assert stat.S_IMODE(os.stat(mount.path / "g").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(mount.path / "d").st_mode) == 0o755
    assert (mount.path / "f").read_bytes() == b"x"
    assert "attributes of f cannot be read" in mount.log()
    os.chmod(mount.path / "f", 0o640)
    sync(mount.path / "f")
    assert server.get(".hpkvfs/m/f") == '{"v":1,"mode":33184}'


def test_a_record_that_does_not_fit_a_value(pyserver, mount_on):
    pyserver.set("f", "x")
    mount = mount_on(pyserver)
    os.setxattr(mount.path / "f", "user.small", b"1")
    with fails_with("ENOSPC"):
        os.setxattr(mount.path / "f", "user.large", b"x" * 3000)
    assert os.listxattr(mount.path / "f") == ["user.small"]
    assert (mount.path / "f").read_bytes() == b"x"


# --- the rest ---


def test_xattrs_that_do_something(server, mount_on):
    server.set_all({"n": 41, "j": '{"a":1,"b":2}', "a//k": "x"})
    mount = mount_on(server)
    assert (mount.path / "n").read_bytes() == b"41"
    os.setxattr(mount.path / "n", "user.hpkv.incr", b"1")
    assert os.getxattr(mount.path / "n", "user.hpkv.incr") == b"42"
    assert (mount.path / "n").read_bytes() == b"42"
    os.setxattr(mount.path / "j", "user.hpkv.patch", b'{"b":null,"c":[3]}')
    assert (mount.path / "j").read_bytes() == b'{"a":1,"c":[3]}'
    assert os.getxattr(mount.path / "a/%-/k", "user.hpkv.key") == b"a//k"
    assert os.listxattr(mount.path / "n") == []
    with fails_with("EINVAL"):
        os.setxattr(mount.path / "n", "user.hpkv.incr", b"much")


def test_times_as_set_on_another_machine(server, mount_on):
    mount = mount_on(server)
    os.mkdir(mount.path / "d")
    write(mount.path / "d/f", b"x")
    for name, time in (("d/f", -1), ("d", T2), ("", T1)):
        os.utime(mount.path / name, ns=(time, time))
    mount.unmount()
    mount = mount_on(server)
    assert [os.stat(mount.path / name).st_mtime_ns for name in ("d/f", "d", "")] == [-1, T2, T1]


def test_what_df_shows(server, mount_on):
    need("df")
    mount = mount_on(server)
    size, used, free, percent = sh("df --output=size,used,avail,pcent . | tail -n 1", mount.path).stdout.split()
    assert int(size) > 0 and int(used) == 0 and int(free) == int(size) and percent == "0%"
