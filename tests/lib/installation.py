"""Programs that are built against an installation of the library in some folder, and run with it."""

import os
import subprocess

from lib.repository import need, run

WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-pedantic", "-Werror", "-O2"]


def library_flags(installed):
    """What pkg-config says about the library that is installed in the folder."""
    environment = {
        **os.environ,
        "PKG_CONFIG_PATH": str(installed / "lib/pkgconfig"),
        "PKG_CONFIG_SYSROOT_DIR": str(installed.parent),
        # Its folders are the system's by name only.
        "PKG_CONFIG_ALLOW_SYSTEM_CFLAGS": "1",
        "PKG_CONFIG_ALLOW_SYSTEM_LIBS": "1",
    }
    done = subprocess.run(
        [need("pkg-config", "pkg-config"), "--cflags", "--libs", "libhpkv"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def build(installed, compiler, standard, source, program):
    """Compiles one file, free of warnings."""
    code, output = run(
        need(compiler, compiler), f"-std={standard}", *WARNINGS, source, "-o", program, *library_flags(installed)
    )
    assert code == 0, output


def run_with(installed, program, limit=400, **variables):
    """The finished process of a program built with the library."""
    return subprocess.run(
        [str(program)],
        env={**os.environ, "LD_LIBRARY_PATH": str(installed / "lib"), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=limit,
    )
