"""The manual's pages as the lint tests read them: sections, tags, code, and the C header that the library's pages describe."""

import html.parser
import re
import subprocess

from lib.repository import TOP, files, need

MAN = TOP / "packaging/man"
HEADER = TOP / "src/client/hpkv.h"


# --- pages ---


class TagReader(html.parser.HTMLParser):
    """Collects (section, tag) of every tagged paragraph of a man page in mandoc's HTML."""

    def __init__(self):
        super().__init__()
        self.section = ""
        self.tags = []
        self._into = None
        self._text = ""

    def handle_starttag(self, tag, attrs):
        if tag in ("h1", "h2", "dt"):
            self._into = "dt" if tag == "dt" else "section"
            self._text = ""

    def handle_endtag(self, tag):
        text = " ".join(self._text.split())
        if tag in ("h1", "h2") and self._into == "section":
            self.section = text
            self._into = None
        elif tag == "dt" and self._into == "dt":
            self.tags.append((self.section, text))
            self._into = None

    def handle_data(self, data):
        if self._into:
            self._text += data


def tags(source):
    """(section or subsection, tag) of every tagged paragraph."""
    done = subprocess.run(
        [need("mandoc", "mandoc"), "-T", "html", "-O", "fragment"], input=source, capture_output=True, text=True, check=True
    )
    reader = TagReader()
    reader.feed(done.stdout)
    return reader.tags


ESCAPES = {"e": "\\", "-": "-", "(aq": "'", "(dq": '"', "(ha": "^", "(ti": "~", "(ga": "`", "&": ""}


def plain(text):
    """Text of a page without the escapes of roff; one that is not known is an error."""
    known = "|".join(re.escape(name) for name in ESCAPES)
    return re.sub(rf"\\({known}|.?)", lambda match: ESCAPES[match.group(1)], text)


def section(source, title):
    """The source of one section."""
    parts = re.split(r'^\.SH "?(.*?)"?$', source, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2])).get(title, "")


def names(source):
    """The names that a page gives itself in its first section."""
    return plain(section(source, "NAME")).partition(" - ")[0].strip().split(", ")


def codes(source):
    """The text of every block of code (.EX to .EE)."""
    return [plain(block) for block in re.findall(r"^\.EX\n(.*?)^\.EE$", source, re.DOTALL | re.MULTILINE)]


def marked(source, mark):
    """{name: (further words, code)} of the blocks behind a comment of the form  .\\" MARK: NAME WORD..."""
    found = {}
    for words, block in re.findall(rf'^\.\\" {mark}: ([^\n]*)\n\.EX\n(.*?)^\.EE$', source, re.DOTALL | re.MULTILINE):
        name, *further = words.split()
        assert name not in found, f"two of the name {name}"
        found[name] = (further, plain(block))
    return found


def library_pages():
    """{file name: source} of the pages about the library."""
    return {path.name: path.read_text(encoding="utf-8") for path in files(".3", under="packaging/man/")}


# --- the header ---


def one_line(code):
    """Code without comments, each space one, none inside of parentheses' edges."""
    code = re.sub(r"/\*.*?\*/", " ", code, flags=re.DOTALL)
    return re.sub(r"\s+", " ", code).strip()


def declarators(body):
    """The names that the members of a struct's body have."""
    found = []
    for member in one_line(body).split(";"):
        for declarator in member.split(",") if member.strip() else ():
            found.append(re.search(r"(\w+)\s*(\[[^]]*\])?\s*$", declarator).group(1))
    return found


class Declarations:
    """What a text in C, in the header's style, declares. Each is {name: text in one line}; members is {type: names}."""

    def __init__(self, text):
        text = re.sub(r"\bHPKV_API\s", "", re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL))
        self.macros = dict(re.findall(r"^#define (HPKV_\w+)[ \t]+(.+)$", text, re.MULTILINE))
        text = re.sub(r"^#(?:\\\n|.)*$", "", text, flags=re.MULTILINE)
        self.types, self.members = {}, {}
        for kind, name, body in re.findall(r"\b(struct|enum) (hpkv_\w+)\s*\{(.*?)\};", text, re.DOTALL):
            self.types[f"{kind} {name}"] = one_line(f"{kind} {name} {{ {body} }};")
            names = declarators(body) if kind == "struct" else [part.split("=")[0].strip() for part in one_line(body).split(",")]
            self.members[f"{kind} {name}"] = [name for name in names if name]
        text = re.sub(r"\b(struct|enum) (hpkv_\w+)\s*\{.*?\};", "", text, flags=re.DOTALL)
        self.opaque = set(re.findall(r"^struct (hpkv_\w+);$", text, re.MULTILINE))
        self.functions, self.callbacks = {}, {}
        for line in re.sub(r"\{.*?\n\}", ";", text, flags=re.DOTALL).split(";"):
            line = one_line(line)
            match = re.match(r"(typedef )?[\w ]+?[ *](hpkv_\w+)\(", line)
            if match:
                (self.callbacks if match.group(1) else self.functions)[match.group(2)] = line + ";"


def header():
    return Declarations(HEADER.read_text(encoding="utf-8").partition("/* --- errors --- */")[2])
