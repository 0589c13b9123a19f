"""The arrows between the folders of src/, as the design draws them: an include against them is refused."""

import re

import pytest

from lib.repository import TOP, files

# folder: (folders of ours, libraries)
ARROWS = {
    "base": (set(), {"libc", "uthash", "libbsd", "libwebsockets", "sanitizer"}),
    "client": ({"base"}, {"libc", "libwebsockets", "jansson", "libcurl"}),
    "fs": ({"base"}, {"libc", "jansson", "openssl", "sqlite3"}),
    "mount": ({"base", "client", "fs"}, {"libc", "libfuse3", "jansson"}),
    "server": ({"base"}, {"libc", "libwebsockets", "jansson", "openssl", "sqlite3"}),
    "cli": ({"base", "client"}, {"libc", "jansson"}),
}

# Narrower than the folder: a library behind a few files only.
ONLY_IN = {
    ("base", "libwebsockets"): re.compile(r"base/loop\w*\.[ch]$"),
    ("base", "uthash"): re.compile(r"base/(hash|list)\.h$"),
    ("base", "libbsd"): re.compile(r"base/tree\.h$"),
}

LIBRARIES = [
    ("libwebsockets", r"libwebsockets\.h"),
    ("jansson", r"jansson\.h"),
    ("libcurl", r"curl/.*"),
    ("sqlite3", r"sqlite3\.h"),
    ("openssl", r"openssl/.*"),
    ("libfuse3", r"fuse.*\.h|fuse3/.*"),
    ("uthash", r"ut(hash|list|array|string)\.h"),
    ("libbsd", r"bsd/.*"),
    ("sanitizer", r"sanitizer/.*|valgrind/.*"),
    (
        "libc",
        r"(sys|linux|net|netinet|arpa|asm)/\w+\.h|"
        r"(aio|assert|byteswap|ctype|dirent|dlfcn|endian|errno|fcntl|fnmatch|ftw|getopt|glob|grp|inttypes|"
        r"langinfo|limits|locale|malloc|math|mntent|netdb|paths|poll|pthread|pwd|regex|sched|search|semaphore|setjmp|"
        r"signal|spawn|stdalign|stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|stdnoreturn|string|strings|syslog|"
        r"termios|threads|time|ucontext|uchar|unistd|utime|wchar|wctype|wordexp)\.h",
    ),
]

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)


def library_of(header):
    for library, pattern in LIBRARIES:
        if re.fullmatch(pattern, header):
            return library
    return None


def fault_of(name, folder, quote, header):
    """What is wrong with one include of src/<name>, or None."""
    ours, libraries = ARROWS[folder]
    if quote == '"':
        if header == "config.h":
            return None
        target, slash, _ = header.partition("/")
        if not slash or target not in ARROWS:
            return f'{name}: "{header}" is not of the form "folder/file.h"'
        if target != folder and target not in ours:
            return f'{name}: {folder} must not include "{header}"'
        return None
    library = library_of(header)
    if library is None:
        return f"{name}: <{header}> is of no library that this test knows"
    if library not in libraries:
        return f"{name}: {folder} must not include <{header}> ({library})"
    only = ONLY_IN.get((folder, library))
    if only is not None and not only.search(name):
        return f"{name}: <{header}> belongs into {only.pattern} only"
    return None


def faults(tree):
    """tree: {name below src/: text}."""
    found = []
    for name, text in sorted(tree.items()):
        folder, slash, _ = name.partition("/")
        if not slash or folder not in ARROWS:
            found.append(f"{name}: in no folder that the design names")
            continue
        includes = INCLUDE.findall(text)
        found += [fault for quote, header in includes if (fault := fault_of(name, folder, quote, header))]
        own = name[:-2] + ".h"
        if name.endswith(".c") and own in tree and (not includes or includes[0][1] != own):
            found.append(f'{name}: its own header "{own}" must come first')
    return found


GOOD = {
    "base/buf.h": "#include <stddef.h>\n",
    "base/buf.c": '#include "base/buf.h"\n\n#include <string.h>\n',
    "base/loop.c": "#include <libwebsockets.h>\n",
    "client/codec.c": '#include "base/buf.h"\n#include <jansson.h>\n',
    "fs/node.c": '  #  include "fs/names.h"\n',
    "mount/main.c": '#include <fuse_lowlevel.h>\n#include "client/hpkv.h"\n#include "fs/fs.h"\n#include "config.h"\n',
    "server/store.c": "#include <sqlite3.h>\n",
}


def test_a_good_tree_has_no_faults():
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    "name, line",
    [
        ("base/log.c", '#include "client/hpkv.h"'),
        ("base/log.c", "#include <libwebsockets.h>"),
        ("base/log.c", "#include <jansson.h>"),
        ("client/codec.c", '#include "fs/fs.h"'),
        ("client/codec.c", "#include <sqlite3.h>"),
        ("client/codec.c", "#include <uthash.h>"),
        ("fs/node.c", '#include "client/hpkv.h"'),
        ("fs/node.c", "#include <fuse_lowlevel.h>"),
        ("fs/node.c", "#include <libwebsockets.h>"),
        ("fs/node.c", '#include "names.h"'),
        ("fs/node.c", '#include "../base/buf.h"'),
        ("fs/node.c", "#\tinclude <curl/curl.h>"),
        ("mount/main.c", '#include "server/store.h"'),
        ("mount/main.c", "#include <libwebsockets.h>"),
        ("server/store.c", '#include "client/hpkv.h"'),
        ("server/store.c", "#include <curl/curl.h>"),
        ("cli/main.c", '#include "fs/fs.h"'),
        ("cli/main.c", "#include <glib.h>"),
        ("other/main.c", "#include <stdio.h>"),
        ("main.c", "#include <stdio.h>"),
        ("base/buf.c", '#include <string.h>\n#include "base/buf.h"'),
    ],
)
def test_one_bad_include_is_found(name, line):
    tree = dict(GOOD)
    tree[name] = line + "\n"
    found = faults(tree)
    assert len(found) == 1 and found[0].startswith(name + ":"), found


def test_the_sources_follow_the_arrows():
    sources = files(".c", ".h", under="src/")
    assert sources
    tree = {str(path.relative_to(TOP / "src")): path.read_text(encoding="utf-8") for path in sources}
    found = faults(tree)
    assert not found, "\n".join(found)
