"""umount.hpkvfs, as umount(8) calls it: it answers when the mount's process has ended, not before."""

import os
import shutil
import signal
import subprocess

import pytest

from lib.processes import alive, wait_for
from lib.repository import TOP

HELPER = TOP / "packaging/sbin/umount.hpkvfs"


def umount(*arguments, **keywords):
    return subprocess.Popen(
        [str(HELPER), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **keywords,
    )


def pid_file(mount):
    return f"/run/hpkvfs/{mount.device}.pid"


@pytest.fixture
def background(make_mount):
    return make_mount(options=["ttl=0"], background=True)


def test_it_unmounts_and_waits_for_the_process(background):
    (background.path / "f").write_text("x")
    helper = umount(background.path)
    assert helper.wait(60) == 0, helper.stderr.read()
    assert not background.mounted()
    assert not alive(background.pid)
    background.wait_end()


@pytest.fixture
def lingering(tmp_path):
    """A process of the program's name that takes its time."""
    shutil.copy("/bin/sleep", tmp_path / "hpkvfs")
    with subprocess.Popen([tmp_path / "hpkvfs", "600"]) as process:
        yield process
        process.kill()


def test_it_says_what_it_waits_for(background, lingering):
    with open(pid_file(background), "w", encoding="utf-8") as file:
        file.write(f"{lingering.pid}\n")
    helper = umount(background.path)
    assert helper.stderr.readline() == f"umount.hpkvfs: waiting for {lingering.pid} to send what is left\n"
    assert not background.mounted()
    assert helper.poll() is None
    lingering.kill()
    assert helper.wait(60) == 0
    background.wait_end()


@pytest.mark.parametrize("language", ["C", "C.UTF-8"])
def test_it_says_nothing_that_a_terminal_obeys(background, lingering, language):
    """An ordinary user's mount may have written what root then sees."""
    with open(pid_file(background), "wb") as file:
        file.write(b"%d\n\x1b]0;x\x07 \\033 \xc2\x85 \xc3\xa4\n" % lingering.pid)
    helper = umount(background.path, env=dict(os.environ, LC_ALL=language))
    assert helper.stderr.readline() == f"umount.hpkvfs: waiting for {lingering.pid} to send what is left\n"
    lingering.kill()
    assert helper.wait(60) == 32
    assert helper.stderr.read() == "umount.hpkvfs: ?]0;x? \\033 ? ä\n"
    background.wait_end()


def test_lazy_does_not_wait(background):
    os.kill(background.pid, signal.SIGSTOP)
    try:
        helper = umount(background.path, "-l")
        assert helper.wait(60) == 0, helper.stderr.read()
        assert not background.mounted()
        assert alive(background.pid)
    finally:
        os.kill(background.pid, signal.SIGCONT)
    background.wait_end()


def test_a_busy_mount_stays(background):
    with open(background.path / "f", "w", encoding="utf-8"):
        helper = umount(background.path)
        assert helper.wait(60) == 32
        assert "busy" in helper.stderr.read()
        assert background.mounted()
    background.unmount()


def test_what_is_not_mounted(tmp_path):
    helper = umount(tmp_path)
    assert helper.wait(60) != 0
    assert "not mounted" in helper.stderr.read() or "no mount point" in helper.stderr.read()


def test_a_stale_pid_file_is_passed_over(background):
    """A file that a crash left, and a pid that is another program's by now."""
    path = pid_file(background)
    assert open(path, encoding="utf-8").read().strip() == str(background.pid)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    helper = umount(background.path)
    assert helper.wait(60) == 0
    assert helper.stderr.read() == ""
    background.wait_end()


def named(path):
    """The pid in the file; None where there is none."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (FileNotFoundError, ValueError):
        return None


def test_the_pid_file_goes_with_the_process(background):
    path, pid = pid_file(background), background.pid
    assert named(path) == pid
    background.unmount()
    assert named(path) != pid  # the next mount of this machine, of another test, may have the number by now


@pytest.fixture
def losing(make_mount, pyserver):
    """A mount, and the fault that holds its last change until that is refused."""
    mount = make_mount(spec=pyserver.url, key=pyserver.key, options=["commit=3600"], background=True)
    (mount.path / "f").write_text("x")
    fault = pyserver.fault(op=["SET", "PATCH"], hold=True, code=400, text="refused for good")
    (mount.path / "f").chmod(0o640)
    return mount, fault


def begin_umount(mount):
    helper = umount(mount.path)
    wait_for(lambda: not mount.mounted(), "the unmount")
    return helper


def says_what_was_lost(helper, mount):
    code = helper.wait(240)
    lines = helper.stderr.read().splitlines()
    return code == 32 and lines[-1] == f"umount.hpkvfs: changes were lost at the end of {mount.path}: Invalid argument"


def test_it_tells_of_changes_that_were_lost(losing, pyserver):
    mount, fault = losing
    path, pid = pid_file(mount), mount.pid
    helper = begin_umount(mount)
    pyserver.release(fault)
    assert says_what_was_lost(helper, mount)
    assert named(path) != pid
    mount.wait_end()


def test_it_tells_of_them_when_another_mount_has_the_number(losing, make_mount, pyserver):
    """The kernel gives a device number to the next mount while the process of the former is still at work."""
    mount, fault = losing
    path, pid = pid_file(mount), mount.pid
    helper = begin_umount(mount)
    others = []
    while named(path) == pid:  # each gets the lowest number that is free
        others.append(make_mount(background=True))
    other = named(path)
    pyserver.release(fault)
    assert says_what_was_lost(helper, mount)
    if any(each.pid == other for each in others):
        assert named(path) == other
    mount.wait_end()


def test_an_ordinary_users_mount(make_mount):
    """Without a session's folder there is no file, and nothing to wait for; the unmount works all the same."""
    mount = make_mount(options=["ttl=0"], background=True, user=65534)
    helper = umount(mount.path, user=65534, group=65534, extra_groups=[])
    assert helper.wait(60) == 0, helper.stderr.read()
    mount.wait_end()
