"""What a program says in --help, in its man page and to the shell's completion is the same list of options."""

import os
import re
import subprocess

import pytest

from lib import manual
from lib.processes import program
from lib.repository import TOP, files, need, relative, run

MAN = TOP / "packaging/man"
COMPLETION = TOP / "packaging/completions/hpkvfs.bash"

# program: (where it is built, its man page)
PROGRAMS = {
    "hpkvfs": ("src/mount/hpkvfs", "mount.hpkvfs.8"),
    "fsck.hpkvfs": ("src/mount/fsck.hpkvfs", "fsck.hpkvfs.8"),
    "hpkvd": ("src/server/hpkvd", "hpkvd.8"),
    "hpkv": ("src/cli/hpkv", "hpkv.1"),
}

SWITCH = re.compile(r"(?<![\w-])(--?[A-Za-z][\w-]*)")
MOUNT_OPTION = re.compile(r"([a-z_]+)(=\S+)?")


# --- readers ---


def help_of(name):
    code, output = run(program(PROGRAMS[name][0]), "--help")
    assert code == 0, output
    return output


def help_options(text):
    """Switches, and options of -o: in --help each begins a line, two blanks in; what follows two more blanks explains."""
    found = set()
    for line in text.split("\n"):
        if not re.match(r"  \S", line):
            continue
        head = re.split(r" {2,}|\t", line.strip())[0]
        if head.startswith("-"):
            found.update(SWITCH.findall(head))
        elif MOUNT_OPTION.fullmatch(head) and "-o" in text:
            found.add(MOUNT_OPTION.fullmatch(head).group(1))
    return found


def man_options(source):
    """Switches of every tagged paragraph; options of -o from those in sections whose title has OPTIONS."""
    found = set()
    for section, tag in manual.tags(source):
        if tag.startswith("-"):
            found.update(SWITCH.findall(tag))
        elif "OPTIONS" in section.upper():
            for word in re.split(r",\s*|\s+or\s+", tag):
                match = MOUNT_OPTION.fullmatch(word)
                if match:
                    found.add(match.group(1))
    return found


def completions(name, *words, environment=None):
    """What Tab offers after the words; the program itself is asked, so PATH leads to it."""
    binary = program(PROGRAMS[name][0])
    script = (
        f'. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); '
        f'_hpkvfs "$1" "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD - 1]}}"; '
        f'printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", str(COMPLETION), name, *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{binary.parent}:{os.environ['PATH']}", **(environment or {})},
    )
    assert done.stderr == "", done.stderr
    return {line for line in done.stdout.split("\n") if line}


# --- the readers themselves ---


def test_options_are_read_from_help():
    text = (
        "usage: x [-f] [-o OPTION]\n\n  -f             foreground, not --x\n  -h, --help     this\n"
        "  --sync full|normal  how\nOptions for -o:\n  ttl=SECONDS\n        how long\n  allow_other\n        let\n"
    )
    assert help_options(text) == {"-f", "-h", "--help", "--sync", "ttl", "allow_other"}


def test_options_are_read_from_a_man_page():
    source = (
        ".TH X 8\n.SH NAME\nx \\- y\n.SH OPTIONS\n.TP\n.BR \\-h \", \" \\-\\-help\nthis\n.TP\n"
        ".BI ttl= SECONDS\nlong, not \\-\\-other\n.TP\n.BR suid \", \" nosuid\nz\n.SH FILES\n.TP\nname\nz\n"
    )
    assert man_options(source) == {"-h", "--help", "ttl", "suid", "nosuid"}


# --- the programs ---


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_and_man_page_list_the_same_options(name):
    from_help = help_options(help_of(name))
    page = MAN / PROGRAMS[name][1]
    assert page.is_file(), f"{relative(page)} is missing"
    from_man = man_options(page.read_text(encoding="utf-8"))
    assert "--help" in from_help
    only_help, only_man = from_help - from_man, from_man - from_help
    assert not only_help and not only_man, f"only in --help: {sorted(only_help)}; only in {page.name}: {sorted(only_man)}"


@pytest.mark.parametrize("name", PROGRAMS)
def test_completion_offers_what_help_lists(name):
    switches = {option for option in help_options(help_of(name)) if option.startswith("--")}
    offered = {word.rstrip("=") for word in completions(name, "--")}
    assert offered == switches


def test_completion_of_mount_options():
    listed = {option for option in help_options(help_of("hpkvfs")) if not option.startswith("-")}
    assert "ttl" in listed and "allow_other" in listed
    assert {word.rstrip("=") for word in completions("hpkvfs", "local:x", "dir", "-o", "")} == listed
    assert completions("hpkvfs", "local:x", "dir", "-o", "insecure,allow_o") == {"insecure,allow_other"}
    assert completions("hpkvfs", "local:x", "dir", "-o", "tt") == {"ttl="}


def test_fsck_takes_the_options_of_the_mount_that_concern_the_store():
    of_mount = {option for option in help_options(help_of("hpkvfs")) if not option.startswith("-")}
    listed = {option for option in help_options(help_of("fsck.hpkvfs")) if not option.startswith("-")}
    assert {"credentials", "prefix", "timeout"} <= listed < of_mount and "ttl" not in listed
    assert {word.rstrip("=") for word in completions("fsck.hpkvfs", "local:x", "-o", "")} == listed


def test_completion_of_commands():
    text = help_of("hpkv")
    for command in ("get", "set", "patch", "del", "range", "incr", "watch", "token", "ping"):
        assert re.search(rf"^  (hpkv .*)?{command}\b", text, re.MULTILINE), f"{command} is not in --help"
        assert command in completions("hpkv", "")
    assert completions("hpkv", "ran") == {"range"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_unknown_option_is_refused_by_name(name):
    """An option that is not listed is refused by name, with a usage exit code."""
    code, output = run(program(PROGRAMS[name][0]), "--no-such-option")
    assert code in ((16,) if name == "fsck.hpkvfs" else (1, 2)), output
    assert "no-such-option" in output


@pytest.mark.parametrize("page", files(under="packaging/man/"), ids=relative)
def test_man_pages_are_clean(page):
    code, output = run(need("mandoc", "mandoc"), "-T", "lint", "-W", "error", page)
    assert code == 0, output


@pytest.mark.parametrize("page", files(under="packaging/man/"), ids=relative)
def test_man_pages_name_existing_pages(page):
    """A reference to a page of ours leads somewhere."""
    pages = set()
    for path in files(under="packaging/man/"):
        names = manual.names(path.read_text(encoding="utf-8"))
        pages |= {path.name} | {f"{name}{path.suffix}" for name in names}
    text = page.read_text(encoding="utf-8").replace("\\-", "-")
    for name, section in re.findall(r"((?:mount\.|umount\.|fsck\.)?(?:hpkv\w*|libhpkv)[\w-]*)\s?\(([1-8])\)", text):
        assert f"{name}.{section}" in pages, f"{name}({section}) is not in packaging/man"
