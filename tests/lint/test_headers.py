"""Each header compiles alone; the public one as C++ too, and for callers without any of our flags."""

import subprocess

import pytest

from lib.processes import build_dir
from lib.repository import TOP, files, need, relative, run

PACKAGES = ["libwebsockets", "jansson", "libcurl", "openssl", "sqlite3", "fuse3", "libbsd"]

WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Werror"]


@pytest.fixture(scope="module")
def flags():
    need("pkg-config", "pkg-config")
    done = subprocess.run(["pkg-config", "--cflags", *PACKAGES], capture_output=True, text=True, check=True)
    # The libraries' own headers need not be free of warnings.
    return [word.replace("-I", "-isystem", 1) if word.startswith("-I") else word for word in done.stdout.split()]


@pytest.mark.parametrize("header", files(".h", under="src/"), ids=relative)
def test_a_header_compiles_alone(header, flags, tmp_path):
    # Included from a file, since a header as the main file draws warnings of its own; twice, for its guard.
    main = tmp_path / "main.c"
    name = header.relative_to(TOP / "src")
    main.write_text(f'#include "{name}"\n#include "{name}"\n', encoding="utf-8")
    code, output = run(
        need("gcc", "gcc"), "-std=gnu17", "-D_GNU_SOURCE", "-DFUSE_USE_VERSION=35", *WARNINGS, "-fsyntax-only", *flags, "-I", TOP / "src",
        "-I", build_dir(), main,
    )  # fmt: skip
    assert code == 0, output


@pytest.mark.parametrize("compiler, package", [("g++", "g++"), ("clang++", "clang")])
@pytest.mark.parametrize("standard", ["c++11", "c++17", "c++20"])
def test_the_public_header_is_cplusplus(compiler, package, standard, tmp_path):
    main = tmp_path / "main.cc"
    main.write_text('#include "hpkv.h"\n#include "hpkv.h"\n', encoding="utf-8")
    code, output = run(
        need(compiler, package), f"-std={standard}", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only",
        "-I", TOP / "src/client", main,
    )  # fmt: skip
    assert code == 0, output


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("standard", ["c99", "c11", "c17"])
def test_the_public_header_is_standard_c(compiler, standard, tmp_path):
    main = tmp_path / "main.c"
    main.write_text('#include "hpkv.h"\n', encoding="utf-8")
    code, output = run(
        need(compiler, compiler), f"-std={standard}", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only",
        "-I", TOP / "src/client", main,
    )  # fmt: skip
    assert code == 0, output
