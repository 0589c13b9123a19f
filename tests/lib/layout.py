"""Content as another program reads and writes it by hpkvfs-layout(7): made from the manual, not from the code."""

import base64
import hashlib
import json
import stat

MAGIC = "hpkvfs1 "


def stub(*parts, text=""):
    """The value for these parts: bytes (inline), or strings as chunks() returns them."""
    line = " ".join(part if isinstance(part, str) else "=" + base64.b64encode(part).decode() for part in parts)
    return f"{MAGIC}{hashlib.sha256(line.encode()).hexdigest()[:16]} {line}\n{text}"


def chunks(put, ident, content, size, holes=(), prefix=""):
    """Stores the content in chunks of `size` bytes, but those in `holes`, by put(key, value); answers the part."""
    for index, start in enumerate(range(0, len(content), size)):
        if index not in holes:
            put(f"{prefix}.hpkvfs/c/{ident}/{index:08x}", base64.b64encode(content[start : start + size]).decode())
    ranges = []
    for index in sorted(holes):
        if ranges and sum(ranges[-1]) == index:
            ranges[-1][1] += 1
        else:
            ranges.append([index, 1])
    text = ",".join(f"{first}+{count}" for first, count in ranges)
    return f"{ident}:{len(content)}:{size}:b64" + (f":{text}" if text else "")


def parts_of(value):
    """The parts of a stub as text, and the text behind it; None where the value is plain."""
    if not value.startswith(MAGIC):
        return None
    line, newline, text = value.partition("\n")
    checksum, _, parts = line[len(MAGIC) :].partition(" ")
    if not newline or hashlib.sha256(parts.encode()).hexdigest()[:16] != checksum:
        return None
    return parts.split(" "), text


def _read_part(get, part, prefix):
    if part.startswith("="):
        return base64.b64decode(part[1:], validate=True)
    ident, size, chunk_size, encoding, *holes = part.split(":")
    size, chunk_size = int(size), int(chunk_size)
    assert encoding == "b64"
    assert len(ident) == 43
    absent = set()
    for one in holes[0].split(",") if holes else []:
        first, count = map(int, one.split("+"))
        absent.update(range(first, first + count))
    content = bytearray(size)
    for index, start in enumerate(range(0, size, chunk_size)):
        if index not in absent:
            length = min(chunk_size, size - start)
            chunk = base64.b64decode(get(f"{prefix}.hpkvfs/c/{ident}/{index:08x}"), validate=True)
            assert len(chunk) >= length, f"chunk {index} of {ident} is {len(chunk)} bytes long"
            content[start : start + length] = chunk[:length]
    return bytes(content)


def content_of(get, key, prefix=""):
    """What the file at `key` holds, by get(key)."""
    value = get(key)
    found = parts_of(value)
    if found is None:
        return value.encode()
    parts, text = found
    return b"".join(_read_part(get, part, prefix) for part in parts) + text.encode()


def ids_of(value):
    """Those whose chunks the value names."""
    parts, _text = parts_of(value) or ([], "")
    return {part.split(":")[0] for part in parts if not part.startswith("=")}


def _belongs(contents, kind, rest, used):
    if kind == "m":
        record = json.loads(contents[f".hpkvfs/m/{rest}"])
        regular = not rest.endswith("/") and rest and stat.S_IFMT(record.get("mode", 0)) in (0, stat.S_IFREG)
        return not regular or rest in contents
    if kind in ("c", "i"):
        return rest.split("/")[0] in used
    return kind == "fs"


def unneeded(contents):
    """Reserved keys of a store at rest that no file needs. For names without escapes."""
    used = {ident for key, value in contents.items() if not key.startswith(".hpkvfs/") for ident in ids_of(value)}
    found = []
    for key in contents:
        if key.startswith(".hpkvfs/"):
            kind, _, rest = key.removeprefix(".hpkvfs/").partition("/")
            if not _belongs(contents, kind, rest, used):
                found.append(key)
    return found
