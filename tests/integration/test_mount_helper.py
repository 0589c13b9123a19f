"""Ways to the mount: mount(8), fstab, namespaces, ordinary users, an automounter."""

import os
import subprocess
from pathlib import Path

import pytest

from lib.mountcall import (  # noqa: F401 (fixtures)
    AS_NOBODY,
    FAILURE,
    NOBODY,
    USAGE,
    call,
    namespace,
    pid_of,
    point,
    refused,
)
from lib.processes import WITHOUT_OTHERS_MOUNTS, alive, mounted, program, sanitizer_env, sanitizer_reports, wait_for

# --- mount(8) and its helper ---


def test_fake_does_nothing(call, point):
    for spec in ("http://127.0.0.1:9", f"local:{point}-store"):
        result = call(spec, point, "-f", "-o", "rw", key="k", helper=True)
        assert (result.code, result.lines()) == (0, [])
    assert mounted(point) is None
    assert not Path(f"{point}-store").exists()


def test_sloppy_passes_over_unknown_options(call, point):
    refused(call("local:/nonexistent", point, "-f", "-o", "no_such_option", helper=True), USAGE, "no_such_option")
    assert call("local:/nonexistent", point, "-f", "-s", "-o", "no_such_option", helper=True).code == 0


# $1: the program, $2: the mount point, $3: SPEC. A folder of links lies over /sbin, where mount(8) looks for helpers.
OVER_SBIN = """
work=$(mktemp -d)
mkdir "$work/sbin" "$work/up" "$work/work"
mount -t tmpfs none "$work"
mkdir "$work/up" "$work/work"
mount -t overlay -o "lowerdir=/sbin/.,upperdir=$work/up,workdir=$work/work" overlay "$(readlink -f /sbin)"
ln -sfn "$1" /sbin/mount.hpkvfs
ln -sfn "$1" /sbin/hpkvfs
end() {
    umount -i "$2"
    pid=$(cat "$work/pid")
    while [ -e "/proc/$pid" ]; do sleep 0.05; done
}
"""


@pytest.mark.parametrize("kind", ["hpkvfs", "fuse.hpkvfs"])
def test_mount_8(namespace, point, hpkvd, store, kind):
    store.set("a", "1")
    script = (
        OVER_SBIN
        + f"""
mount -t {kind} "$3" "$2" -o ttl=0,state=none,_netdev,nofail,noauto,x-systemd.automount,comment=x
cat "/run/hpkvfs/$(findmnt -nro MAJ:MIN --mountpoint "$2").pid" > "$work/pid"
findmnt --noheadings --raw --output VFS-OPTIONS,FSTYPE,SOURCE,FS-OPTIONS --mountpoint "$2"
cat "$2/a"
echo
mount -o remount,ro -t {kind} "$2"
if echo x > "$2/b"; then exit 50; fi 2> "$work/err"
cat "$work/err" >&2
mount -o remount,rw -t {kind} "$2"
echo x > "$2/b"
end "$@"
"""
    )
    result = namespace(script, program("src/mount/hpkvfs"), point, hpkvd.url, env={"HPKV_API_KEY": hpkvd.key})
    assert result.code == 0, result.err
    row, content = result.out.split("\n")[:2]
    assert content == "1"
    flags, kind_shown, source, options = row.split(" ")
    assert kind_shown == "fuse.hpkvfs" and source == hpkvd.url
    if kind == "hpkvfs":
        # mount.fuse adds dev and suid of its own accord
        assert {"nosuid", "nodev"} <= set(flags.split(","))
    assert "default_permissions" in options.split(",")
    assert "Read-only file system" in result.err
    assert store.get("b") == "x\n"


def test_fstab(namespace, point, hpkvd, store, tmp_path):
    file = tmp_path / "key"
    file.write_text(hpkvd.key)
    file.chmod(0o600)
    store.set("a", "1")
    fstab = tmp_path / "fstab"
    fstab.write_text(f"{hpkvd.url} {point} hpkvfs noauto,user,exec,nofail,_netdev,state=none,credentials={file} 0 0\n")
    script = (
        OVER_SBIN
        + """
mount -T "$4" "$2"
cat "/run/hpkvfs/$(findmnt -nro MAJ:MIN --mountpoint "$2").pid" > "$work/pid"
cat "$2/a"
end "$@"
"""
    )
    result = namespace(script, program("src/mount/hpkvfs"), point, hpkvd.url, fstab)
    assert result.code == 0, result.err
    assert result.out == "1"


def test_mount_into_another_namespace(call, point, hpkvd, store):
    store.set("a", "1")
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", WITHOUT_OTHERS_MOUNTS + "echo ready; read _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"ready\n"
        result = call(
            hpkvd.url, point, "-N", f"/proc/{holder.pid}/ns/mnt", "-o", "state=none", key=hpkvd.key, helper=True
        )
        assert result.code == 0, result.err
        assert mounted(point) is None
        inside = ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"]
        assert subprocess.run([*inside, "cat", f"{point}/a"], capture_output=True, check=True).stdout == b"1"
        subprocess.run([*inside, "umount", "-i", str(point)], check=True)
    finally:
        holder.stdin.close()
        holder.wait(30)
        holder.stdout.close()


# --- ordinary users ---


@pytest.fixture
def user_point(tmp_path):
    path = tmp_path / "of-nobody"
    path.mkdir()
    os.chown(path, NOBODY, NOBODY)
    return path


def test_an_ordinary_user(namespace, user_point, hpkvd, store):
    store.set("a", "1")
    script = (
        AS_NOBODY
        + """
runtime=$(mktemp -d)
chown 65534 "$runtime"
export XDG_RUNTIME_DIR=$runtime
as_nobody "$1" "$3" "$2" -o state=none,ttl=0
findmnt --noheadings --raw --output VFS-OPTIONS,FSTYPE,SOURCE,FS-OPTIONS --mountpoint "$2"
as_nobody cat "$2/a"
echo
as_nobody sh -c 'echo x > "$1/new"' sh "$2"
cat "$2/a" 2>&1 | sed 's/.*: //'
pid=$(cat "$runtime"/hpkvfs/*.pid)
stat -c %u "/proc/$pid"
as_nobody fusermount3 -u "$2"
while [ -e "/proc/$pid" ]; do sleep 0.05; done
ls "$runtime/hpkvfs"
"""
    )
    result = namespace(script, program("src/mount/hpkvfs"), user_point, hpkvd.url, env={"HPKV_API_KEY": hpkvd.key})
    assert result.code == 0, result.err
    row, content, roots, owner, rest = result.out.split("\n", 4)
    flags, kind, source, options = row.split(" ")
    assert {"rw", "nosuid", "nodev"} <= set(flags.split(","))
    assert kind == "fuse.hpkvfs" and source == hpkvd.url
    assert {f"user_id={NOBODY}", "default_permissions"} <= set(options.split(","))
    assert content == "1"
    assert roots == "Permission denied", "root must not get in without allow_other"
    assert owner == str(NOBODY)
    assert rest == "", "the pid file is removed at the end"
    assert store.get("new") == "x\n"


def test_sigterm_ends_the_mount_of_an_ordinary_user(namespace, user_point, hpkvd):
    script = (
        AS_NOBODY
        + """
export XDG_RUNTIME_DIR=$(mktemp -d)
chown 65534 "$XDG_RUNTIME_DIR"
as_nobody "$1" "$3" "$2" -o state=none
pid=$(cat "$XDG_RUNTIME_DIR"/hpkvfs/*.pid)
kill "$pid"
while [ -e "/proc/$pid" ]; do sleep 0.05; done
grep -c " $2 " /proc/self/mountinfo || true
"""
    )
    result = namespace(script, program("src/mount/hpkvfs"), user_point, hpkvd.url, env={"HPKV_API_KEY": hpkvd.key})
    assert (result.code, result.out) == (0, "0\n"), result.err


def test_what_an_ordinary_user_must_not_do(namespace, tmp_path, hpkvd):
    """A mount point of somebody else's: one line, with fusermount3's reason, and no mount."""
    point = tmp_path / "of-root"
    point.mkdir(mode=0o755)
    script = AS_NOBODY + 'as_nobody "$1" "$3" "$2" -o state=none'
    result = namespace(script, program("src/mount/hpkvfs"), point, hpkvd.url, env={"HPKV_API_KEY": hpkvd.key})
    refused(result, FAILURE, "fusermount3", "access", point=point)


def test_started_with_sigchld_ignored(namespace, user_point, hpkvd, store):
    """As some programs start others: then nobody is told of a child's end, fusermount3's for one."""
    store.set("a", "1")
    script = (
        AS_NOBODY
        + """
export XDG_RUNTIME_DIR=$(mktemp -d)
chown 65534 "$XDG_RUNTIME_DIR"
as_nobody env --ignore-signal=CHLD "$1" "$3" "$2" -o state=none
pid=$(cat "$XDG_RUNTIME_DIR"/hpkvfs/*.pid)
as_nobody cat "$2/a"
as_nobody fusermount3 -u "$2"
while [ -e "/proc/$pid" ]; do sleep 0.05; done
"""
    )
    result = namespace(script, program("src/mount/hpkvfs"), user_point, hpkvd.url, env={"HPKV_API_KEY": hpkvd.key})
    assert (result.code, result.out) == (0, "1"), result.err


def test_no_dead_mount_stays_where_fusermount3_fails_after_it(namespace, user_point, hpkvd):
    script = (
        AS_NOBODY
        + """
printf '#!/bin/sh\n"%s" "$@"\nexit 1\n' "$(command -v fusermount3)" > "$devices/fusermount3"
chmod 755 "$devices" "$devices/fusermount3"
code=0
PATH=$devices:$PATH as_nobody "$1" "$3" "$2" -o state=none || code=$?
grep -c " $2 " /proc/self/mountinfo || true
exit $code
"""
    )
    result = namespace(script, program("src/mount/hpkvfs"), user_point, hpkvd.url, env={"HPKV_API_KEY": hpkvd.key})
    refused(result, FAILURE, "fusermount3")
    assert result.out == "0\n"


# --- under the automounter ---


AUTOMOUNTER = Path(__file__).parent / "automounter.py"


def test_under_an_automounter(hpkvd, store, point, tmp_path):
    """As under systemd's automount units: the first access waits while the mount is made, and the kernel lets only the
    automounter's process group pass. The mount point must not be walked by anybody else before."""
    store.set("a", "1")
    environment = {**os.environ, **sanitizer_env(tmp_path), "HPKV_API_KEY": hpkvd.key}
    helper = program("src/mount/mount.hpkvfs")
    automounter = subprocess.Popen(
        ["/usr/bin/python3", str(AUTOMOUNTER), str(point), str(helper), hpkvd.url, str(point), "-o", "state=none"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd="/",
        start_new_session=True,
    )
    try:
        assert automounter.stdout.readline() == b"ready\n"
        reader = subprocess.run(["cat", str(point / "a")], capture_output=True, timeout=240, check=False)
        assert automounter.stdout.readline() == b"mounted 0\n"
        assert (reader.returncode, reader.stdout) == (0, b"1"), reader.stderr
        pid = pid_of(point)
        subprocess.run(["umount", "-i", str(point)], check=True)
        wait_for(lambda: not alive(pid), "the end of hpkvfs")
    finally:
        automounter.stdin.close()
        automounter.wait(30)
        automounter.stdout.close()
    assert mounted(point) is None
    assert not sanitizer_reports(tmp_path)
