"""An installation for the tests that look at what others would get."""

import pytest

from lib.repository import TOP, need, run

PREFIX = "usr"


@pytest.fixture(scope="session")
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
