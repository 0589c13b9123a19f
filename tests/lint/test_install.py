"""What `meson install` leaves where, and that a program builds against the installed library."""

import os
import subprocess

import pytest

from lib.repository import TOP, files, need, run

PREFIX = "usr"

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


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of an installation with prefix /usr. Its own build, since the prefix is decided at set-up."""
    root = tmp_path_factory.mktemp("installed")
    build = tmp_path_factory.mktemp("build")
    code, output = run(
        need("meson", "meson"), "setup", build, TOP, f"--prefix=/{PREFIX}", "--libdir=lib", "-Dtests=disabled",
        "-Dbuildtype=debug",
    )  # fmt: skip
    assert code == 0, output
    code, output = run("meson", "install", "-C", build, "--destdir", root, "--quiet")
    assert code == 0, output
    return root / PREFIX


def test_programs_library_and_helpers(installed):
    names = {
        "bin/hpkv",
        "bin/hpkvd",
        "bin/hpkvfs",
        "sbin/mount.hpkvfs",
        "sbin/umount.hpkvfs",
        "sbin/umount.fuse.hpkvfs",
        "include/hpkv.h",
        "lib/libhpkv.so",
        "lib/pkgconfig/libhpkv.pc",
        "share/man/man8/mount.hpkvfs.8",
        "share/man/man8/hpkvfs.8",
        "share/bash-completion/completions/hpkv",
    }
    missing = sorted(name for name in names if not (installed / name).exists())
    assert not missing
    for name in ("bin/hpkv", "bin/hpkvd", "bin/hpkvfs", "sbin/mount.hpkvfs", "sbin/umount.hpkvfs"):
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
    expected |= {f"sbin/{name}" for name in ("mount.hpkvfs", "umount.hpkvfs", "umount.fuse.hpkvfs")}
    assert found == expected | {"include/hpkv.h"}


def test_a_program_builds_against_the_installed_library(installed, tmp_path):
    source = tmp_path / "caller.c"
    source.write_text(CALLER, encoding="utf-8")
    environment = {
        **os.environ,
        "PKG_CONFIG_PATH": str(installed / "lib/pkgconfig"),
        "PKG_CONFIG_SYSROOT_DIR": str(installed.parent),
        # Its folders are the system's by name only.
        "PKG_CONFIG_ALLOW_SYSTEM_CFLAGS": "1",
        "PKG_CONFIG_ALLOW_SYSTEM_LIBS": "1",
    }
    flags = subprocess.run(
        [need("pkg-config", "pkg-config"), "--cflags", "--libs", "libhpkv"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    code, output = run("gcc", "-Wall", "-Wextra", "-pedantic", "-Werror", source, "-o", tmp_path / "caller", *flags)
    assert code == 0, output
    done = subprocess.run(
        [tmp_path / "caller"],
        env={**os.environ, "LD_LIBRARY_PATH": str(installed / "lib")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "works\n"), done.stderr


def test_only_listed_symbols_are_exported(installed):
    """The list is src/client/libhpkv.map; the header declares exactly those."""
    done = subprocess.run(
        ["nm", "-D", "--defined-only", str(installed / "lib/libhpkv.so")], capture_output=True, text=True, check=True
    )
    exported = {line.split()[-1].partition("@")[0] for line in done.stdout.splitlines() if " A " not in line}
    header = (TOP / "src/client/hpkv.h").read_text(encoding="utf-8")
    declared = set()
    for part in header.split("HPKV_API ")[1:]:
        declared.add(part.partition("(")[0].split()[-1].lstrip("*"))
    declared.discard("__attribute__")
    assert exported == {name for name in declared if name.startswith("hpkv_")}
