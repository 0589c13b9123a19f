"""Programs that replace a file's content: what another client finds at its key meanwhile, and which keys they make besides."""

import os
import re
import threading
from collections import Counter

import pytest

from lib.hpkvd import Hpkvd
from lib.processes import wait_for
from lib.shell import need, sh
from lib.wsclient import Client

pytestmark = pytest.mark.timeout(480)

BACKUPCOPY = ["yes", "no", "auto", "auto,breaksymlink", "auto,breakhardlink"]

VIM = "vim -N -es -i NONE --cmd 'set backupskip=' -c \"set backupcopy=$1 $2\" -c 's/one/two/' -c w -c 's/two/three/' -c wq f"

MOUNT = ["umask=022", "uid=0", "gid=0"]


def writes(pyserver):
    """By operation and key, without the layout's mark."""
    return Counter(row for row in pyserver.log() if row[0] not in ("GET", "RANGE") and row[1] != ".hpkvfs/fs")


def replaced(pyserver, mount, script, *arguments):
    """The values that the key `f` has had since it was "one\\n", while the script ran, and the mount was unmounted."""
    pyserver.set("f", "one\n")
    sh("ls -l", mount.path)
    pyserver.clear_log()
    sh(script, mount.path, *arguments)
    mount.unmount()
    history = pyserver.history("f")
    assert history[0] == "one\n"
    return history[1:]


@pytest.mark.parametrize("backup", ["nobackup", "backup"])
@pytest.mark.parametrize("copy", BACKUPCOPY)
def test_vim_replaces_a_value_by_the_next(pyserver, mount_on, copy, backup):
    need("vim")
    mount = mount_on(pyserver, *MOUNT)
    assert replaced(pyserver, mount, VIM, copy, backup) == ["two\n", "three\n"]
    assert pyserver.get("f~") == ("two\n" if backup == "backup" else None)
    made = writes(pyserver)
    assert made[("SET", "f")] == 2
    assert {key for _op, key in made} <= {"f", "f~", ".hpkvfs/m/f", ".hpkvfs/m/f~"}


def test_vim_with_its_defaults_saves_by_one_set(pyserver, mount_on):
    need("vim")
    mount = mount_on(pyserver, *MOUNT, "ttl=3600")
    assert replaced(pyserver, mount, "vim -N -es -i NONE --cmd 'set backupskip=' -c 's/one/two/' -c wq f") == ["two\n"]
    assert writes(pyserver) == {("SET", "f"): 1}


@pytest.mark.parametrize(
    "script, values",
    [
        ("sed -i s/one/two/ f", ["two\n"]),
        ("sed -i~ s/one/two/ f && sed -i~ s/two/three/ f", ["two\n", "three\n"]),
        ("mkdir ../g && echo two > ../g/f && rsync -aI ../g/f .", ["two\n"]),
        ("mkdir ../g && echo two > ../g/f && rsync -aI --backup ../g/f . && echo three > ../g/f && rsync -aI --backup ../g/f .", ["two\n", "three\n"]),
        ("mkdir ../g && echo two > ../g/f && rsync -aI --inplace ../g/f .", ["two\n"]),
        ("mv f f~ && echo two > f", ["two\n"]),
        ("cp f f~ && echo two > f && rm f~", ["two\n"]),
        ("echo two > .f.tmpXYZ && mv .f.tmpXYZ f", ["two\n"]),
    ],
)
def test_programs_replace_a_value_by_the_next(pyserver, mount_on, script, values):
    need("sed", "rsync")
    mount = mount_on(pyserver, *MOUNT)
    assert replaced(pyserver, mount, script) == values


def test_a_backup_that_is_left_is_a_renaming(pyserver, mount_on):
    mount = mount_on(pyserver, *MOUNT, "local_ttl=0.1")
    pyserver.set("f", "one\n")
    sh("mv f f~", mount.path)
    wait_for(lambda: pyserver.contents() == {"f~": "one\n"}, "the backup in the store alone", 30)
    assert os.listdir(mount.path) == ["f~"]


class Poller(threading.Thread):
    """Another client that reads the key again and again."""

    def __init__(self, server, key):
        super().__init__()
        self.server, self.key = server, key
        self.found = Counter()
        self.over = threading.Event()

    def run(self):
        with Client(self.server.url, self.server.key) as client:
            while not self.over.is_set():
                self.found[client.get(self.key)] += 1

    def __enter__(self):
        self.start()
        wait_for(lambda: self.found, "the first answer")
        return self

    def __exit__(self, *_error):
        self.over.set()
        self.join()


@pytest.mark.parametrize("backup", ["nobackup", "backup"])
@pytest.mark.parametrize("copy", ["yes", "no", "auto"])
def test_a_client_that_polls_the_key_finds_whole_content(tmp_path, make_mount, copy, backup):
    need("vim")
    with Hpkvd(tmp_path / "store") as server, Client(server.url, server.key) as client:
        client.set("f", "one\n")
        mount = make_mount(server.url, [*MOUNT, "ttl=0"], key=server.key)
        with Poller(server, "f") as poller:
            for _ in range(5):
                client.set("f", "one\n")
                sh(VIM, mount.path, copy, backup)
            assert client.get("f") == "three\n"
        assert set(poller.found) <= {"one\n", "two\n", "three\n"}
        mount.unmount()


GIT = """
git init -q r && cd r && git config user.name A && git config user.email a@b && git config gc.auto 0
for i in 1 2 3; do echo "$i" > "f$i" && git add . && git commit -q -m "$i"; done
git tag -m t t && git checkout -q -b other HEAD~1 && echo 4 > f4 && git add f4 && git commit -q -m 4
git checkout -q - && git merge -q -m m other && git branch -d other -q
git repack -q -a -d && git gc -q && git pack-refs --all
git clone -q . ../s && cd ../s && git fsck --strict
"""


def test_git_makes_no_temporary_keys(pyserver, mount_on):
    need("git")
    pyserver.configure(max_value=65536)
    mount = mount_on(pyserver, *MOUNT, "max_value=65536")
    sh(GIT, mount.path)
    temporary = re.compile(r"(^|/)(tmp_[^/]*|[^/]*\.lock|[^/]*_?tmp[^/]*)(/|$)")
    made = {key for op, key in writes(pyserver) if op == "SET" and not key.startswith(".hpkvfs/c/")}
    made.discard("r/.git/objects/info/commit-graph.lock")  # which git syncs, and what was synced is in the store
    left = [key for key in sorted(made) if temporary.search(key)]
    assert not left, "\n".join(left)
