"""What `meson install` leaves where, and that a program builds against the installed library."""

import os
import re
import subprocess

from lib import installation, manual
from lib.repository import TOP, files

CALLER = """
#include <errno.h>
#include <hpkv.h>
#include <stdio.h>

int main(void)
{
	struct hpkv_loop *loop;

	if (hpkv_loop_new(&loop))
		return 1;
	hpkv_loop_free(loop);
	puts(hpkv_code_errno(404) == -ENOENT ? "works" : "wrong");
	return 0;
}
"""


def test_programs_library_and_helpers(installed):
    names = {
        "bin/hpkv",
        "bin/hpkvd",
        "bin/hpkvfs",
        "sbin/fsck.hpkvfs",
        "sbin/mount.hpkvfs",
        "sbin/umount.hpkvfs",
        "sbin/umount.fuse.hpkvfs",
        "include/hpkv.h",
        "lib/libhpkv.so",
        "lib/pkgconfig/libhpkv.pc",
        "share/man/man8/mount.hpkvfs.8",
        "share/man/man8/hpkvfs.8",
        "share/man/man8/fsck.hpkvfs.8",
        "share/bash-completion/completions/hpkv",
    }
    missing = sorted(name for name in names if not (installed / name).exists())
    assert not missing
    for name in ("bin/hpkv", "bin/hpkvd", "bin/hpkvfs", "sbin/fsck.hpkvfs", "sbin/mount.hpkvfs", "sbin/umount.hpkvfs"):
        assert os.access(installed / name, os.X_OK), name
    assert (installed / "sbin/mount.hpkvfs").resolve() == (installed / "bin/hpkvfs").resolve()


def test_every_man_page_is_installed(installed):
    pages = [path.name for path in files(under="packaging/man/")]
    assert pages
    for page in pages:
        assert (installed / f"share/man/man{page[-1]}" / page).is_file(), page


def test_nothing_else_is_in_the_programs_folders(installed):
    found = {str(path.relative_to(installed)) for folder in ("bin", "sbin", "include") for path in (installed / folder).rglob("*")}
    expected = {f"bin/{name}" for name in ("hpkv", "hpkvd", "hpkvfs")}
    expected |= {f"sbin/{name}" for name in ("fsck.hpkvfs", "mount.hpkvfs", "umount.hpkvfs", "umount.fuse.hpkvfs")}
    assert found == expected | {"include/hpkv.h"}


def test_a_program_builds_against_the_installed_library(installed, tmp_path):
    source = tmp_path / "caller.c"
    source.write_text(CALLER, encoding="utf-8")
    installation.build(installed, "gcc", "c11", source, tmp_path / "caller")
    done = installation.run_with(installed, tmp_path / "caller")
    assert (done.returncode, done.stdout) == (0, "works\n"), done.stderr


def test_only_listed_symbols_are_exported(installed):
    """The list is src/client/libhpkv.map; the header declares exactly those."""
    done = subprocess.run(
        ["nm", "-D", "--defined-only", str(installed / "lib/libhpkv.so")], capture_output=True, text=True, check=True
    )
    exported = {line.split()[-1].partition("@")[0] for line in done.stdout.splitlines() if " A " not in line}
    declared = {name for name, line in manual.header().functions.items() if not line.startswith("static inline")}
    assert exported == declared
    listed = re.findall(r"^\t(hpkv_\w+);$", (TOP / "src/client/libhpkv.map").read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == sorted(declared)


def test_every_function_has_a_man_page(installed):
    """man NAME works, and no page is there for what is none."""
    folder = installed / "share/man/man3"
    pages = {path.name: manual.names(path.read_text(encoding="utf-8")) for path in folder.iterdir()}
    for page, names in pages.items():
        assert page.removesuffix(".3") in names or not (folder / page).is_symlink(), page
    missing = [name for name in manual.header().functions if name not in pages.get(f"{name}.3", ())]
    assert not missing
