"""The repository's own files, for the lint tests."""

import shutil
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def git(*arguments):
    """git's output as text. It may be run by another user than the folder's owner (root, by sudo)."""
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", str(TOP), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def files(*endings, under="", tracked_only=False):
    """Paths of the repository's files, tracked or about to be, by the end of their name."""
    others = [] if tracked_only else ["--others", "--exclude-standard"]
    names = git("ls-files", "-z", "--cached", *others).split("\0")
    return sorted(
        TOP / name
        for name in set(names)
        if name and name.startswith(under) and (not endings or name.endswith(endings)) and (TOP / name).is_file()
    )


def relative(path):
    return str(Path(path).relative_to(TOP))


def scripts():
    """Shell scripts: by their first line."""
    found = []
    for path in files():
        with open(path, "rb") as file:
            first = file.readline(100)
        if first.startswith((b"#!/bin/sh", b"#!/bin/bash", b"#!/usr/bin/env bash", b"# shellcheck shell=")):
            found.append(path)
    return found


def need(tool, package):
    """The path of a tool; a missing one is a failure that names its package."""
    path = shutil.which(tool)
    assert path, f"{tool} is missing: apt-get install {package}"
    return path


def run(*command, **keywords):
    """Exit code and all output."""
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **keywords,
    )
    return done.returncode, done.stdout
