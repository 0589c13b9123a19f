"""What the type declarations of the official client export, read as far as its own style goes."""

import re

from lib.repository import TOP

DECLARATIONS = TOP / "tests/interop/node_modules/@hpkv/websocket-client/dist/types/index.d.ts"

HEAD = re.compile(r"^(?:export )?(?:declare )?(?:abstract )?(interface|enum|class|const|type|function) (\w+)", re.MULTILINE)


def _body(text, start):
    """What stands in the braces that open behind `start`, or what comes before the semicolon that ends it."""
    opened = re.compile(r"[{;]").search(text, start)
    if opened.group() == ";":
        return ""
    depth = 0
    for position in range(opened.start(), len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[opened.start() + 1 : position]
    raise AssertionError("a brace is not closed")


def _flat(body):
    """The body without what stands in braces and parentheses inside of it."""
    previous = None
    while previous != body:
        previous = body
        body = re.sub(r"\{[^{}]*\}|\([^()]*\)", "()", body)
    return body


def _members(kind, name, body):
    found = set()
    for member in re.split(r"[;,]\s" if kind == "enum" else r";", _flat(body)):
        words = member.strip().split(":")[0].split("=")[0].split("(")[0].rstrip("? ").split()
        if not words or words[0] in ("private", "protected"):
            continue
        found.add(f"new {name}" if words[-1] == "constructor" else f"{name}.{words[-1]}")
    return found


def exports(text):
    """Names that a user can reach: each exported thing, its public members as THING.MEMBER, constructors as "new THING", and
    events as "event NAME"."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    exported = set()
    for names in re.findall(r"^export (?:type )?\{(.*?)\};", text, re.MULTILINE | re.DOTALL):
        exported.update(name.strip() for name in names.split(","))
    found = set(exported)
    for match in HEAD.finditer(text):
        kind, name = match.groups()
        if name in exported and kind not in ("type", "function"):
            found |= _members(kind, name, _body(text, match.end()))
    for union in re.findall(r"^\s+on\(event: ((?:'\w+'(?: \| )?)+),", text, re.MULTILINE):
        found.update(f"event {name}" for name in re.findall(r"\w+", union))
    return found
