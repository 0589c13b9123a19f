"""The outer form of the sources: format, sizes, scripts, spelling, and what must not be in a repository."""

import ast
import os
import re
import subprocess

import pytest

from lib.repository import TOP, files, git, need, relative, run, scripts

MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 80


# --- format ---


@pytest.fixture(scope="module")
def clang_format():
    """Other versions format otherwise. packaging/check names the one it found or installed."""
    tool = os.environ.get("HPKVFS_CLANG_FORMAT", "clang-format-14")
    path = need(tool, "clang-format-14 (where the release has none: npm install clang-format@1.6.0, HPKVFS_CLANG_FORMAT)")
    code, output = run(path, "--version")
    assert code == 0 and "version 14." in output, output
    return path


def test_sources_are_formatted(clang_format):
    sources = files(".c", ".h", under="src/") + files(".c", ".h", under="tests/")
    assert sources
    code, output = run(clang_format, "--dry-run", "-Werror", "--style=file", *sources, cwd=TOP)
    names = sorted(set(re.findall(r"^(\S+?):\d+:\d+: error", output, re.MULTILINE)))
    assert code == 0, f"run clang-format-14 -i on {len(names)} files:\n" + "\n".join(names) + "\n" + output[:3000]


def test_no_trailing_blanks():
    found = []
    for path in files(".c", ".h", ".py", ".js", ".md", ".build", ".txt", ".json") + scripts():
        text = path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            found.append(f"{relative(path)}: no newline at its end")
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                found.append(f"{relative(path)}:{number}: blanks at the end")
    assert not found, "\n".join(found)


# --- sizes ---


def c_functions(text):
    """(line number, lines) of each function: in our format its braces alone stand in the first column."""
    start = None
    for number, line in enumerate(text.split("\n"), 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            yield start, number - start + 1
            start = None


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, node.end_lineno - node.lineno + 1


def test_the_size_of_functions_is_seen():
    text = "int a[] = {\n\t1,\n};\n\nint f(void)\n{\n\treturn 0;\n}\n\nstruct s {\n\tint a;\n};\n"
    assert list(c_functions(text)) == [(6, 3)]
    assert list(python_functions("def f():\n    a = 1\n    return a\n")) == [(1, 3)]


def test_sizes():
    found = []
    for path in files(".c", ".h", ".py"):
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > MAX_FILE_LINES:
            found.append(f"{relative(path)}: {lines} lines, {MAX_FILE_LINES} at most")
        functions = python_functions(text) if path.suffix == ".py" else c_functions(text)
        for number, size in functions:
            if size > MAX_FUNCTION_LINES:
                found.append(f"{relative(path)}:{number}: a function of {size} lines, {MAX_FUNCTION_LINES} at most")
    assert not found, "\n".join(found)


# --- scripts, words ---


@pytest.mark.parametrize("script", scripts(), ids=relative)
def test_shellcheck(script):
    code, output = run(need("shellcheck", "shellcheck"), "-x", script, cwd=TOP)
    assert code == 0, output


def test_scripts_can_be_run():
    missing = [
        relative(path)
        for path in scripts()
        if path.read_bytes().startswith(b"#!") and not os.access(path, os.X_OK)
    ]
    assert not missing, missing


def test_spelling():
    texts = files(".c", ".h", ".py", ".js", ".md", ".build", ".txt", ".1", ".3", ".7", ".8") + scripts()
    code, output = run(
        need("codespell", "codespell"), "--ignore-words", TOP / "tests/lint/words.txt", *texts, cwd=TOP
    )
    assert code == 0, output


# An issue's number follows, or it is done now.
NOT_DONE = re.compile(r"\b(TO" r"DO|FIX" r"ME)\b(?!\W{0,2}(#|issue )\d)")


def test_a_mark_of_unfinished_work_is_seen():
    assert NOT_DONE.search("/* TO" "DO: later */")
    assert NOT_DONE.search("# FIX" "ME")
    assert not NOT_DONE.search("/* TO" "DO(#12): later */")
    assert not NOT_DONE.search("/* TO" "DO issue 12: later */")


def test_nothing_is_left_undone_without_an_issue():
    found = []
    for path in files(".c", ".h", ".py", ".js", ".build", ".1", ".3", ".7", ".8") + scripts():
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if NOT_DONE.search(line):
                found.append(f"{relative(path)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


# --- what is tracked ---

BUILT = re.compile(
    r"(^|/)(build[^/]*|node_modules|__pycache__|\.pytest_cache|\.hypothesis|meson-logs)/|"
    r"\.(o|a|so|so\.\d+|d|pyc|gcda|gcno|profraw|sqlite|db|log|orig|rej|swp|tgz|tar\.gz|deb|rpm)$|(^|/)(core|vgcore\.\d+)$"
)


def test_built_files_are_seen():
    for name in ["build/x", "src/a.o", "src/libx.so", "src/libx.so.0", "tests/interop/node_modules/ws/index.js", "a/core"]:
        assert BUILT.search(name), name
    for name in ["src/base/loop.c", "packaging/man/hpkv.1", "meson.build", "src/base/meson.build", "tests/core/a.c"]:
        assert not BUILT.search(name), name


def test_nothing_built_is_tracked():
    found = []
    for path in files(tracked_only=True):
        name = relative(path)
        data = path.read_bytes()
        if BUILT.search(name) or data.startswith((b"\x7fELF", b"!<arch>")):
            found.append(f"{name}: looks like the output of a build")
        if len(data) > 512 * 1024:
            found.append(f"{name}: {len(data)} bytes")
    assert not found, "\n".join(found)


# Paths of the machine that it was written on mean nothing to anybody else.
MACHINE_PATH = re.compile(r"(?<![\w.$}])/wo" r"rk/")


def test_no_path_of_a_developers_machine():
    found = [
        relative(path)
        for path in files(tracked_only=True)
        if MACHINE_PATH.search(path.read_bytes().decode("utf-8", "replace"))
    ]
    assert not found, found
    log = git("log", "--format=%h %an <%ae>%n%B")
    lines = [line for line in log.split("\n") if MACHINE_PATH.search(line)]
    assert not lines, "\n".join(lines)


def test_meson_files_name_every_source():
    """A source that no meson.build names is dead."""
    found = []
    for path in files(".c", under="src/"):
        build = path.parent / "meson.build"
        if not build.is_file() or f"'{path.name}'" not in build.read_text(encoding="utf-8"):
            found.append(f"{relative(path)} is not in {relative(path.parent)}/meson.build")
    assert not found, "\n".join(found)


def test_the_package_list_can_be_read():
    """Every line is SECTION PROOF PACKAGES, and check's own reading of it finds nothing missing here."""
    for line in (TOP / "packaging/packages").read_text(encoding="utf-8").split("\n"):
        if line and not line.startswith("#"):
            section, proof, packages = line.split()
            assert section in ("build", "test"), line
            assert re.fullmatch(r"(command|pkg-config|header|python):\S+|package", proof), line
            assert re.fullmatch(r"[a-z0-9.+-]+(\|[a-z0-9.+-]+)*", packages), line
    done = subprocess.run(
        ["bash", "-c", 'me=test top=$1; . "$top/packaging/lib.sh"; missing build test', "bash", str(TOP)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "", f"missing: {done.stdout}"
