"""What people do in a shell, and what other clients see of the keys meanwhile: never a file empty or half written.

An empty file is committed by its last close, which the kernel announces when close(2) has returned already; so tests that count what
such a change cost unmount first."""

import os
import subprocess

import pytest

from lib.processes import wait_for
from lib.shell import need, sh, tree

pytestmark = pytest.mark.timeout(480)

CHANGES = ("SET", "PATCH", "DELETE", "ATOMIC")


@pytest.fixture
def mount(pyserver, mount_on):
    return mount_on(pyserver)


def changes(pyserver):
    return [row for row in pyserver.log() if row[0] in CHANGES]


def keys(pyserver):
    return {key: value for key, value in pyserver.contents().items() if not key.startswith(".hpkvfs/")}


# --- redirections ---


def test_echo_into_a_new_file_is_one_set(pyserver, mount):
    sh("echo x > f", mount.path)
    assert changes(pyserver) == [("SET", "f")]
    assert pyserver.history("f") == ["x\n"]


def test_echo_over_an_old_file_is_one_set(pyserver, mount):
    pyserver.set("f", "old")
    sh("echo x > f", mount.path)
    assert changes(pyserver) == [("SET", "f")]
    assert pyserver.history("f") == ["old", "x\n"]


def test_echo_by_a_program_of_its_own(pyserver, mount):
    pyserver.set("f", "old")
    sh("/bin/echo x > f", mount.path)
    assert pyserver.history("f") == ["old", "x\n"]


def test_another_client_sees_no_empty_value(hpkvd, store, make_mount):
    """As above, on hpkvd: by its notifications, and by polling."""
    from lib.wsclient import Client

    mount = make_mount(options=["ttl=0"])
    store.set("f", "old")
    token = store.token(patterns=["*"])
    seen = []
    with Client(hpkvd.url, token=token) as watcher:
        poller = subprocess.Popen(
            ["bash", "-c", "for i in $(seq 100); do echo $i > f; done"], cwd=mount.path, stdin=subprocess.DEVNULL
        )
        while poller.poll() is None:
            seen.append(store.get("f"))
        assert poller.returncode == 0
        store.set("end", "1")
        told = []
        while True:
            message = watcher.notification()
            if message["key"] == "end":
                break
            told.append((message["key"], message["value"]))
    assert told == [("f", f"{number}\n") for number in range(1, 101)]
    assert set(seen) <= {"old"} | {f"{number}\n" for number in range(1, 101)}


def test_touch_is_one_set_of_an_inline_stub(pyserver, mount):
    sh("touch new", mount.path)
    assert os.stat(mount.path / "new").st_size == 0
    mount.unmount()
    assert changes(pyserver) == [("SET", "new")]
    assert pyserver.get("new").startswith("hpkvfs1 ")


def test_touch_of_an_old_file_leaves_its_value(pyserver, mount):
    pyserver.set("f", "x")
    sh("touch f", mount.path)
    mount.unmount()
    assert pyserver.history("f") == ["x"]


def test_empty_redirection_creates_and_empties(pyserver, mount):
    pyserver.set("old", "content")
    sh(": > new; : > old", mount.path)
    for name in ("new", "old"):
        assert (mount.path / name).read_bytes() == b""
    mount.unmount()
    assert pyserver.get("old").startswith("hpkvfs1 ")
    assert len(pyserver.history("new")) == 1
    assert len(pyserver.history("old")) == 2


def test_append_never_shows_less_than_before(pyserver, mount):
    pyserver.set("log", "one\n")
    sh("echo two >> log; echo three >> log; /bin/echo four >> log", mount.path)
    assert pyserver.history("log") == ["one\n", "one\ntwo\n", "one\ntwo\nthree\n", "one\ntwo\nthree\nfour\n"]


def test_append_to_a_new_file(pyserver, mount):
    sh("echo one >> log; echo two >> log", mount.path)
    assert pyserver.history("log") == ["one\n", "one\ntwo\n"]


def test_append_to_a_touched_file(pyserver, mount):
    sh("touch log; echo one >> log", mount.path)
    assert (mount.path / "log").read_bytes() == b"one\n"
    assert pyserver.get("log") == "one\n"


def test_several_processes_that_share_a_redirection(pyserver, mount):
    pyserver.set("f", "old")
    sh("(echo a; echo b) > f; (/bin/echo c; /bin/echo d) > g", mount.path)
    assert pyserver.get("f") == "a\nb\n"
    assert pyserver.get("g") == "c\nd\n"
    assert set(pyserver.history("f")) <= {"old", "a\n", "a\nb\n"}
    assert set(pyserver.history("g")) <= {"c\n", "c\nd\n"}


def test_background_child_that_inherits_the_file(pyserver, mount):
    """A child that never writes closes its copy early: what is there then is nobody's finished content."""
    sh("exec 3> f; /bin/true; (exit 0); /bin/true; echo x >&3; exec 3>&-", mount.path)
    assert pyserver.history("f") == ["x\n"]


def test_reading_and_writing_in_one_pipeline(pyserver, mount):
    pyserver.set("in", "b\na\n")
    sh("sort in > out; cat out | tr a-z A-Z > up", mount.path)
    assert pyserver.get("out") == "a\nb\n"
    assert pyserver.get("up") == "A\nB\n"


# --- coreutils ---


def test_cat_and_wc(pyserver, mount):
    pyserver.set("user/1", "größe\n")
    assert sh("cat user/1", mount.path).stdout == "größe\n"
    assert sh("wc -c < user/1", mount.path).stdout.strip() == "8"


def test_cp_is_one_set(pyserver, mount):
    pyserver.set("a", "content")
    sh("cp a b", mount.path)
    assert changes(pyserver) == [("SET", "b")]
    assert pyserver.history("b") == ["content"]


def test_cp_of_a_folder_in_and_out(pyserver, mount, tmp_path):
    source = tmp_path / "source"
    sh("mkdir -p s/d/e; echo 1 > s/a; : > s/empty; printf 'a\\0b' > s/d/bin; echo ü > s/d/e/f", tmp_path)
    sh('cp -r "$1" here; cp -r here "$2"; diff -r "$1" "$2"', mount.path, tmp_path / "s", tmp_path / "back")
    assert not source.exists()
    assert pyserver.get("here/d/e/f") == "ü\n"


def test_mv_is_one_set_and_one_delete(pyserver, mount):
    pyserver.set("a", "content")
    sh("mv a b", mount.path)
    assert changes(pyserver) == [("SET", "b"), ("DELETE", "a")]


def test_mv_over_an_old_file(pyserver, mount):
    pyserver.set_all({"a": "new", "b": "old"})
    sh("mv a b", mount.path)
    assert keys(pyserver) == {"b": "new"}
    assert pyserver.history("b") == ["old", "new"]


def test_mv_of_a_folder(pyserver, mount):
    pyserver.set_all({"d/a": "1", "d/e/b": "2"})
    sh("mkdir t; mv d t/", mount.path)
    assert keys(pyserver) == {"t/d/a": "1", "t/d/e/b": "2"}


def test_rm_is_one_delete(pyserver, mount):
    pyserver.set("f", "x")
    sh("rm f", mount.path)
    assert changes(pyserver) == [("DELETE", "f")]


def test_rm_r_of_a_folder_that_only_foreign_keys_imply(pyserver, mount):
    pyserver.set_all({f"d/{a}/{b}": "x" for a in range(5) for b in range(5)} | {"d/f": "y", "keep": "z"})
    sh("rm -r d", mount.path)
    assert keys(pyserver) == {"keep": "z"}
    assert os.listdir(mount.path) == ["keep"]


def test_rm_r_of_a_folder_beside_a_key_of_its_name(pyserver, mount):
    pyserver.set_all({"d": "value", "d/a": "1", "d/b": "2"})
    sh("rm -r d", mount.path)
    assert keys(pyserver) == {}


def test_rm_r_leaves_no_records(pyserver, mount, plain):
    sh("mkdir -p d/e/f d/g; echo x > d/e/y; rm -r d", mount.path)
    assert plain(pyserver.contents()) == {}


def test_mkdir_p(pyserver, mount):
    sh("mkdir -p a/b/c; mkdir -p a/b/c; echo x > a/b/c/f", mount.path)
    assert keys(pyserver) == {"a/b/c/f": "x\n"}


def test_grep_r_and_find(pyserver, mount):
    need("grep", "find")
    pyserver.set_all({f"d{a}/e{b}/f": f"needle {a}\n" if b == 3 else "hay\n" for a in range(4) for b in range(4)})
    assert sorted(sh("grep -r needle .", mount.path).stdout.split("\n"))[1:] == [
        f"./d{a}/e3/f:needle {a}" for a in range(4)
    ]
    found = sh("find . -type f | sort", mount.path).stdout.split()
    assert found == [f"./d{a}/e{b}/f" for a in range(4) for b in range(4)]
    assert len(sh("find . -type d", mount.path).stdout.split()) == 1 + 4 + 16


def test_truncate_command(pyserver, mount):
    pyserver.set("f", "0123456789")
    sh("truncate -s 3 f; truncate -s 5 g", mount.path)
    assert pyserver.get("f") == "012"
    assert (mount.path / "g").read_bytes() == bytes(5)


def test_dd_with_fsync(pyserver, mount):
    sh("printf 'some text' | dd of=f conv=fsync status=none; dd if=/dev/zero of=z bs=100 count=3 conv=fsync status=none", mount.path)
    assert pyserver.get("f") == "some text"
    assert (mount.path / "z").read_bytes() == bytes(300)


def test_dd_into_the_middle(pyserver, mount):
    pyserver.set("f", "0123456789")
    sh("printf XY | dd of=f bs=1 seek=4 conv=notrunc status=none", mount.path)
    assert pyserver.get("f") == "0123XY6789"


def test_tee_install_ln_and_df(pyserver, mount):
    sh("echo x | tee f > g; install -m 600 f h; df . > /dev/null", mount.path)
    assert keys(pyserver) == {"f": "x\n", "g": "x\n", "h": "x\n"}


# --- editors ---


def test_sed_i_never_shows_the_file_absent_or_empty(pyserver, mount):
    need("sed")
    pyserver.set("conf/f", "port = 1\n")
    sh("sed -i s/1/2/ conf/f", mount.path)
    assert keys(pyserver) == {"conf/f": "port = 2\n"}
    assert pyserver.history("conf/f") == ["port = 1\n", "port = 2\n"]


@pytest.mark.parametrize("settings", ["backupcopy=yes", "backupcopy=no", "backupcopy=auto"])
def test_vim_saves_a_file(pyserver, mount, settings):
    need("vim")
    pyserver.set("conf/f", "port = 1\n")
    sh('vim -es -n -u NONE -i NONE -c "set $1" -c "%s/1/2/" -c wq conf/f', mount.path, settings)
    assert keys(pyserver) == {"conf/f": "port = 2\n"}
    assert "" not in pyserver.history("conf/f")
    assert set(pyserver.history("conf/f")) <= {"port = 1\n", "port = 2\n", None}


def test_vim_with_a_swap_file_where_values_are_large(pyserver, mount_on):
    """Its swap file is 12 KiB of binary content."""
    need("vim")
    pyserver.configure(max_value=1 << 20)
    pyserver.set("f", "port = 1\n")
    mount = mount_on(pyserver, "max_value=1048576")
    sh("vim -es -u NONE -i NONE -c '%s/1/2/' -c wq f", mount.path)
    assert keys(pyserver) == {"f": "port = 2\n"}


# --- rsync ---


def make_tree(folder):
    for number in range(40):
        sub = folder / f"d{number % 5}" / f"e{number % 3}"
        sub.mkdir(parents=True, exist_ok=True)
        (sub / f"text{number}").write_text(f"content {number}\n" * (number + 1))
        (sub / f"bin{number}").write_bytes(bytes([0, 255, number]) * number)
    (folder / "empty").write_bytes(b"")
    (folder / "name with spaces, ü and \n newline").write_bytes(b"odd")


def test_rsync_in_and_out(server, mount_on, tmp_path):
    need("rsync", "diff")
    source = tmp_path / "source"
    source.mkdir()
    make_tree(source)
    mount = mount_on(server, "ttl=60")
    sh('rsync -r "$1/" copy/; diff -r "$1" copy', mount.path, source)
    again = mount_on(server)
    sh('rsync -r copy/ "$2/"; diff -r "$1" "$2"', again.path, source, tmp_path / "back")
    assert tree(source) == tree(tmp_path / "back")
    assert not [key for key in server.contents("copy/") if "/." in key]


def test_rsync_a_in_and_out(pyserver, mount_on, tmp_path):
    need("rsync", "diff")
    source = tmp_path / "source"
    source.mkdir()
    make_tree(source)
    mount = mount_on(pyserver, "ttl=60")
    sh('rsync -a "$1/" copy/; diff -r "$1" copy; rsync -a copy/ "$2/"; diff -r "$1" "$2"', mount.path, source, tmp_path / "back")
    assert tree(source) == tree(tmp_path / "back")


@pytest.mark.pyserver_options(disorder=True)
def test_rsync_through_a_server_that_answers_out_of_order(pyserver, mount_on, tmp_path):
    need("rsync", "diff")
    source = tmp_path / "source"
    source.mkdir()
    make_tree(source)
    mount = mount_on(pyserver, "ttl=1")
    sh('rsync -r "$1/" copy/; diff -r "$1" copy; mv copy moved; diff -r "$1" moved; rm -r moved', mount.path, source)
    assert keys(pyserver) == {}


def test_two_shells_at_the_same_time(pyserver, mount):
    script = "for i in $(seq 50); do echo $i > $1/f$i; cat $1/f$i > /dev/null; mv $1/f$i $1/g$i; done"
    shells = [
        subprocess.Popen(["bash", "-euc", f"mkdir $1; {script}", "bash", name], cwd=mount.path, stdin=subprocess.DEVNULL)
        for name in ("a", "b", "c")
    ]
    wait_for(lambda: all(shell.poll() is not None for shell in shells), "the end of three shells", 100)
    assert [shell.returncode for shell in shells] == [0, 0, 0]
    assert keys(pyserver) == {f"{name}/g{i}": f"{i}\n" for name in "abc" for i in range(1, 51)}
