"""The options of the mount: each does what it says, and bad ones are refused by name."""

import os
import re
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest

from lib.mountcall import (  # noqa: F401 (fixtures)
    AS_NOBODY,
    FAILURE,
    NOBODY,
    USAGE,
    call,
    namespace,
    point,
    refused,
)
from lib.processes import mounted, program, wait_for

# --- what is refused before anything is tried ---


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("no_such_option", "unknown option: no_such_option"),
        ("no_such_option=1", "unknown option: no_such_option"),
        ("ttl", "ttl"),
        ("ttl=soon", "ttl=soon"),
        ("timeout=0", "timeout=0"),
        ("umask=9", "umask=9"),
        ("uid=nobody-is-called-so", "uid=nobody-is-called-so"),
        ("delimiter=xy", "delimiter=xy"),
        ("delimiter=%", "delimiter=%"),
        ("max_value=many", "max_value=many"),
        ("insecure=yes", "insecure"),
    ],
)
def test_a_bad_option_is_refused_by_name(call, point, option, text):
    refused(call("http://127.0.0.1:9", point, "-o", f"rw,{option}", key="k"), USAGE, "hpkvfs: ", text, point=point)
    refused(call("http://127.0.0.1:9", point, "-o", option, key="k", helper=True), USAGE, "mount.hpkvfs: ", text)


@pytest.mark.parametrize("spec", ["nonsense", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999", "local:", ""])
def test_a_bad_spec_is_refused(call, point, spec):
    refused(call(spec, point, key="k"), USAGE, point=point)


def test_plain_http_to_another_host_is_refused(call, point):
    refused(call("http://host.invalid", point, key="k"), USAGE, "host.invalid", "insecure", point=point)


def test_help_and_version(call):
    result = call("--help")
    assert result.code == 0 and "Usage: hpkvfs SPEC DIR" in result.out and result.lines() == []
    result = call("--version", helper=True)
    assert result.code == 0 and re.fullmatch(r"hpkvfs \d+\.\d+\.\d+\n", result.out)


def test_words_on_the_command_line(call, point):
    refused(call(), USAGE, "SPEC")
    refused(call("local:/x"), USAGE, "DIR")
    refused(call("local:/x", point, "more"), USAGE, "more")


def test_the_mount_point_must_be_a_folder(call, tmp_path, hpkvd):
    refused(call(hpkvd.url, tmp_path / "none", "-o", "state=none", key=hpkvd.key), USAGE, f"{tmp_path}/none")
    (tmp_path / "file").write_text("x")
    refused(call(hpkvd.url, tmp_path / "file", "-o", "state=none", key=hpkvd.key), FAILURE, f"{tmp_path}/file")


def test_a_ca_file_that_is_not_there(call, point, tmp_path):
    result = call("https://127.0.0.1:9", point, "-o", f"state=none,cacert={tmp_path}/none", key="k")
    refused(result, FAILURE, f"{tmp_path}/none", point=point)


# --- credentials ---


def test_no_key(call, point):
    refused(call("http://127.0.0.1:9", point), USAGE, "HPKV_API_KEY", point=point)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_credentials_that_others_can_read_are_refused(call, point, tmp_path, hpkvd, mode):
    file = tmp_path / "key"
    file.write_text(hpkvd.key)
    file.chmod(mode)
    refused(call(hpkvd.url, point, "-o", f"credentials={file}"), USAGE, str(file), point=point)


@pytest.mark.parametrize("content", ["", "\n", "two words", "a\nb\n"])
def test_credentials_that_hold_no_key_are_refused(call, point, tmp_path, content):
    file = tmp_path / "key"
    file.write_text(content)
    file.chmod(0o600)
    refused(call("http://127.0.0.1:9", point, "-o", f"credentials={file}"), USAGE, str(file), point=point)


def test_credentials_that_are_not_there(call, point, tmp_path):
    refused(call("http://127.0.0.1:9", point, "-o", f"credentials={tmp_path}/none"), USAGE, f"{tmp_path}/none")


def test_a_key_from_a_credentials_file(make_mount, tmp_path, hpkvd, store):
    file = tmp_path / "a key, with a comma"
    file.write_text(hpkvd.key + "\n")
    file.chmod(0o600)
    store.set("a", "1")
    escaped = str(file).replace(",", "\\,")
    mount = make_mount(spec=hpkvd.url, options=[f"credentials={escaped}"], key=None)
    assert (mount.path / "a").read_text() == "1"


def test_a_key_from_systemd(make_mount, tmp_path, hpkvd, store):
    (tmp_path / "hpkv_api_key").write_text(hpkvd.key)
    store.set("a", "1")
    mount = make_mount(spec=hpkvd.url, key=None, env={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert (mount.path / "a").read_text() == "1"


@pytest.mark.parametrize("background", [False, True])
def test_the_key_is_seen_nowhere(make_mount, hpkvd, background):
    mount = make_mount(spec=hpkvd.url, key=hpkvd.key, background=background)
    if background:
        assert hpkvd.key.encode() not in Path(f"/proc/{mount.pid}/environ").read_bytes()
    assert hpkvd.key.encode() not in Path(f"/proc/{mount.pid}/cmdline").read_bytes()
    assert hpkvd.key not in Path("/proc/self/mountinfo").read_text()
    assert hpkvd.key not in mount.log()


# --- remount ---


def flags_of(mount):
    return set(mounted(mount.path)["options"])


def test_remount(call, make_mount, hpkvd):
    mount = make_mount(options=["nosuid", "noexec", "ttl=0"])
    before = flags_of(mount)
    assert {"rw", "nosuid", "nodev", "noexec"} <= before
    assert call("none", mount.path, "-o", "remount,ro", helper=True).code == 0
    assert flags_of(mount) == before - {"rw"} | {"ro"}
    with pytest.raises(OSError, match="Read-only"):
        (mount.path / "x").write_text("1")
    assert call("none", mount.path, "-o", "rw,remount,exec", helper=True).code == 0
    assert flags_of(mount) == before - {"noexec"}
    (mount.path / "x").write_text("1")


def test_a_mount_that_began_read_only_can_become_writable(call, make_mount, hpkvd, store):
    mount = make_mount(options=["ro", "ttl=0"])
    assert "ro" in flags_of(mount)
    with pytest.raises(OSError, match="Read-only"):
        (mount.path / "x").write_text("1")
    with pytest.raises(OSError, match="Read-only"):
        (mount.path / "d").mkdir()
    assert call("none", mount.path, "-o", "remount,rw", helper=True).code == 0
    (mount.path / "x").write_text("1")
    assert store.get("x") == "1"


def test_remount_of_what_is_not_ours(call, point):
    refused(call("none", point, "-o", "remount,ro", helper=True), FAILURE, str(point))
    subprocess.run(["mount", "-t", "tmpfs", "none", str(point)], check=True)
    try:
        refused(call("none", point, "-o", "remount,ro", helper=True), FAILURE, str(point))
        assert "rw" in mounted(point)["options"]
    finally:
        subprocess.run(["umount", str(point)], check=True)


# --- what the options do ---


def test_the_mount_table_says_what_is_mounted(make_mount, hpkvd):
    mount = make_mount()
    row = mounted(mount.path)
    assert row["source"] == hpkvd.url and row["type"] == "fuse.hpkvfs"
    assert {"rw", "nosuid", "nodev"} <= set(row["options"])


def test_dev_suid_noexec(make_mount, hpkvd):
    mount = make_mount(options=["dev", "suid", "noexec"])
    assert flags_of(mount) & {"nodev", "nosuid", "noexec"} == {"noexec"}


def test_a_comma_in_the_spec(make_mount, tmp_path):
    spec = f"local:{tmp_path}/a,b\\c d"
    mount = make_mount(spec=spec)
    assert mounted(mount.path)["source"] == spec
    (mount.path / "x").write_text("1")
    assert (tmp_path / "a,b\\c d").is_dir()


def test_owner_and_umask(make_mount, hpkvd, store):
    store.set("d/f", "1")
    mount = make_mount(options=["uid=1234", "gid=2345", "umask=027"])
    st = (mount.path / "d/f").stat()
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (1234, 2345, 0o640)
    st = (mount.path / "d").stat()
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (1234, 2345, 0o750)


def test_prefix(make_mount, hpkvd, store):
    store.set("a/b", "inside")
    store.set("c", "outside")
    mount = make_mount(options=["prefix=a/", "ttl=0"])
    assert os.listdir(mount.path) == ["b"]
    (mount.path / "new").write_text("x")
    assert store.get("a/new") == "x"


def test_delimiter(make_mount, hpkvd, store):
    store.set("a:b", "1")
    mount = make_mount(options=["delimiter=:", "ttl=0"])
    assert (mount.path / "a/b").read_text() == "1"
    (mount.path / "a/c").write_text("2")
    assert store.get("a:c") == "2"


def test_ttl_zero_and_ttl_long(make_mount, hpkvd, store):
    """With ttl=0 another client's change is seen at once, with a long one it is not, and both were told so."""
    store.set("a", "1")
    at_once = make_mount(options=["ttl=0"])
    later = make_mount(options=["ttl=3600"])
    for mount in (at_once, later):
        assert (mount.path / "a").read_text() == "1"
    store.set("a", "22")
    assert (at_once.path / "a").read_text() == "22"
    assert (later.path / "a").read_text() == "1"


def test_max_value(make_mount, hpkvd, store):
    mount = make_mount(options=["max_value=200", "ttl=0"])
    (mount.path / "fits").write_text("x" * 200)
    assert store.get("fits") == "x" * 200
    (mount.path / "more").write_text("x" * 201)
    assert store.get("more").startswith("hpkvfs1 ")
    assert max(len(value) for _, value in store.range_all()) <= 200


def test_max_key(make_mount, hpkvd):
    mount = make_mount(options=["max_key=40", "ttl=0"])
    with pytest.raises(OSError, match="File name too long"):
        (mount.path / ("x" * 41)).write_text("1")


def test_timeout(make_mount, pyserver):
    """A request that is never answered ends with ETIMEDOUT; a reply that came would have been taken."""
    pyserver.set("a", "1")
    mount = make_mount(spec=pyserver.url, key=pyserver.key, options=["timeout=0.5", "ttl=0"])
    pyserver.fault(never=True)
    with pytest.raises(TimeoutError):
        (mount.path / "a").stat()
    pyserver.clear_faults()
    assert (mount.path / "a").read_text() == "1"


def test_inflight(make_mount, pyserver):
    """So many requests are at the server at once, and no more."""
    pyserver.set_all({f"f{i}": str(i) for i in range(8)})
    mount = make_mount(spec=pyserver.url, key=pyserver.key, options=["inflight=2", "ttl=0"])
    for i in range(8):
        (mount.path / f"f{i}").stat()
    hold = pyserver.fault(hold=True)
    readers = [threading.Thread(target=(mount.path / f"f{i}").read_text) for i in range(8)]
    for reader in readers:
        reader.start()
    wait_for(lambda: pyserver.hits(hold) == 2, "two requests")
    time.sleep(0.5)
    assert pyserver.hits(hold) == 2
    pyserver.clear_faults()
    for reader in readers:
        reader.join(60)
        assert not reader.is_alive()


def test_rate(make_mount, hpkvd):
    """At a rate below the server's limit no request is refused; each of the files asks at least once."""
    hpkvd.stop()
    hpkvd.options += ["--rate", "30"]
    hpkvd.start()
    mount = make_mount(options=["rate=20", "ttl=0"])
    for i in range(60):
        (mount.path / f"f{i}").write_text("1")
    assert sum(hpkvd.requests().values()) >= 60
    assert sum(hpkvd.requests(code=429).values()) == 0


def test_allow_other(namespace, hpkvd, store, point):
    """Without it only the mounter gets in, also past permissions; with it, as far as permissions allow."""
    store.set("open", "1")
    script = """
for options in umask=0 umask=0,allow_other umask=077,allow_other; do
    "$1" "$3" "$2" -o state=none,$options
    setpriv --reuid=65534 --regid=65534 --clear-groups cat "$2/open" 2>&1 | sed "s/.*: //"
    echo " $options"
    umount -i "$2"
done
"""
    result = namespace(script, program("src/mount/hpkvfs"), point, hpkvd.url, env={"HPKV_API_KEY": hpkvd.key})
    assert result.code == 0, result.err
    words = " ".join(result.out.split())
    assert words == "Permission denied umask=0 1 umask=0,allow_other Permission denied umask=077,allow_other"


def test_state_file(make_mount, hpkvd, store, tmp_path):
    store.set("a", "1")
    path = tmp_path / "deep" / "state.db"
    mount = make_mount(options=[f"state={path}", "ttl=0"])
    before = (mount.path / "a").stat().st_mtime_ns
    mount.unmount()
    assert path.is_file() and stat.S_IMODE(path.stat().st_mode) == 0o600
    mount = make_mount(options=[f"state={path}", "ttl=0"])
    assert (mount.path / "a").stat().st_mtime_ns == before


def test_default_state_file_of_a_user(namespace, hpkvd, tmp_path):
    """Below XDG_STATE_HOME, else below HOME, also without a HOME (then the user's folder counts)."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    point = home / "point"
    point.mkdir()
    os.chown(point, NOBODY, NOBODY)
    script = (
        AS_NOBODY
        + """
as_nobody env HOME="$4" "$1" "$3" "$2"
as_nobody fusermount3 -u "$2"
as_nobody env XDG_STATE_HOME="$4/xdg" "$1" "$3" "$2"
as_nobody fusermount3 -u "$2"
"""
    )
    result = namespace(script, program("src/mount/hpkvfs"), point, hpkvd.url, home, env={"HPKV_API_KEY": hpkvd.key})
    assert result.code == 0, result.err
    wait_for(lambda: (home / ".local/state/hpkvfs/state.db").is_file(), "the state file below HOME")
    wait_for(lambda: (home / "xdg/hpkvfs/state.db").is_file(), "the state file below XDG_STATE_HOME")
