"""The library's manual says what its header says, names all that the official client exports, and its programs work."""

import re

import pytest

from lib import installation, manual, typescript
from lib.repository import files, need, relative, run

HEADER = manual.header()
PAGES = manual.library_pages()
MARKS = "FOR USERS OF THE JAVASCRIPT CLIENT"


def synopsis(source):
    return manual.Declarations("\n".join(manual.codes(manual.section(source, "SYNOPSIS"))))


SYNOPSES = {name: synopsis(source) for name, source in PAGES.items()}


def tags(source):
    """Every term that a page explains."""
    return {word for _, tag in manual.tags(source) for word in tag.split(", ")}


# --- the readers themselves ---

SOURCE = r""".TH X 3
.SH NAME
hpkv_a, hpkv_b \- y
.SH SYNOPSIS
.EX
#define HPKV_C 3

enum hpkv_d {
    HPKV_E,
    HPKV_F = 2,
};

struct hpkv_g {
    const char *const *h; /* i */
    uint64_t j, k[HPKV_C];
};

struct hpkv_l;

typedef void hpkv_m(void *arg);

int hpkv_a(struct hpkv_l *l,
           void (*done)(void *arg, const char *n),
           void *arg);
.EE
.SH "SEE \(dqALSO"
.TP
.BR h ", " j
x
.\" example: z c c++
.EX
'\e0\(aq \- \&.
.EE
"""


def test_declarations_are_read():
    found = synopsis(SOURCE)
    assert found.functions == {"hpkv_a": "int hpkv_a(struct hpkv_l *l, void (*done)(void *arg, const char *n), void *arg);"}
    assert found.callbacks == {"hpkv_m": "typedef void hpkv_m(void *arg);"}
    assert found.macros == {"HPKV_C": "3"}
    assert found.opaque == {"hpkv_l"}
    assert found.members == {"enum hpkv_d": ["HPKV_E", "HPKV_F"], "struct hpkv_g": ["h", "j", "k"]}
    assert found.types["struct hpkv_g"] == "struct hpkv_g { const char *const *h; uint64_t j, k[HPKV_C]; };"
    assert manual.names(SOURCE) == ["hpkv_a", "hpkv_b"]
    assert {"h", "j"} <= tags(SOURCE)
    assert manual.marked(SOURCE, "example") == {"z": (["c", "c++"], "'\\0' - .\n")}


def test_the_header_is_read():
    assert "hpkv_client_new" in HEADER.functions and "hpkv_str" in HEADER.functions
    assert "hpkv_callback" in HEADER.callbacks and "hpkv_client" in HEADER.opaque and "HPKV_FOREVER" in HEADER.macros
    assert HEADER.members["struct hpkv_slice"] == ["data", "size"]
    assert HEADER.members["enum hpkv_priority"] == ["HPKV_INTERACTIVE", "HPKV_BACKGROUND"]


def test_type_declarations_are_read():
    text = """
    interface A {
        /** b; */
        b?: string | number;
        c(d: {e: string}): Promise<void>;
    }
    """.replace("\n    ", "\n") + (
        "declare enum F {\n    G = 1,\n    H = 2\n}\n"
        "declare const I: {\n    readonly J: 0;\n};\n"
        "declare class K extends L {\n    private m;\n    protected n(): void;\n    constructor(o: string, p?: {\n        q: 1;\n    });\n"
        "    get r(): number;\n    static s(): K;\n    on(event: 't' | 'u', v: (...w: any[]) => void): void;\n}\n"
        "interface X {\n    y: 1;\n}\n"
        "declare function z(): A;\nexport { F, I, K, z };\nexport type { A };\n"
    )
    assert typescript.exports(text) == {
        "A", "A.b", "A.c", "F", "F.G", "F.H", "I", "I.J", "K", "new K", "K.r", "K.s", "K.on", "event t", "event u", "z",
    }  # fmt: skip


# --- header and pages ---


@pytest.mark.parametrize("kind", ["functions", "callbacks", "types", "macros"])
def test_synopses_and_header_declare_the_same(kind):
    """Each thing in one page, word by word."""
    found = {}
    for page, declared in SYNOPSES.items():
        for name, line in getattr(declared, kind).items():
            assert name not in found, f"{page} declares {name}, and another page too"
            found[name] = line
    expected = {name: line.removeprefix("static inline ") for name, line in getattr(HEADER, kind).items()}
    assert sorted(found) == sorted(expected)
    for name, line in expected.items():
        assert found[name] == line


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_named_for_its_functions(page):
    assert set(manual.names(PAGES[page])) - {"libhpkv"} == {page.removesuffix(".3"), *SYNOPSES[page].functions}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_explains_every_member_and_constant(page):
    explained = tags(PAGES[page])
    missing = [f"{name}: {member}" for name, members in SYNOPSES[page].members.items() for member in members if member not in explained]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_a_page_tells_of_every_function_that_it_declares(page):
    text = PAGES[page].replace(manual.section(PAGES[page], "SYNOPSIS"), "").replace(manual.section(PAGES[page], "NAME"), "")
    # What is the same but waits is told of in one sentence.
    missing = [name for name in SYNOPSES[page].functions if name not in text and not name.endswith("_sync")]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_nothing_that_does_not_exist(page):
    known = {*HEADER.functions, *HEADER.callbacks, *HEADER.macros, *HEADER.opaque}
    known |= {name.split()[1] for name in HEADER.types} | {one for members in HEADER.members.values() for one in members}
    known |= {name.removesuffix(".3") for name in PAGES} | {"HPKV_URL", "HPKV_API_KEY"}
    text = re.sub(r"^\.TH .*|\\f.", " ", PAGES[page], flags=re.MULTILINE)
    used = set(re.findall(r"\b(?:hpkv|HPKV)_\w+", text))
    assert used <= known, sorted(used - known)


@pytest.mark.parametrize("page", files(".1", ".3", ".7", ".8", under="packaging/man/"), ids=relative)
def test_groff_has_nothing_to_say(page):
    code, output = run(need("groff", "groff-base"), "-man", "-Tutf8", "-ww", "-z", page)
    assert (code, output) == (0, "")


@pytest.mark.parametrize("page", PAGES)
def test_code_is_not_wider_than_a_terminal(page):
    """80 columns, of which man(1) leaves 7 and 1 free."""
    wide = [line for code in manual.codes(PAGES[page]) for line in code.split("\n") if len(line) > 72]
    assert not wide


# --- the official client ---


def test_everything_that_the_official_client_exports_has_its_counterpart():
    assert typescript.DECLARATIONS.is_file(), "the official client is missing: npm ci --prefix tests/interop"
    exported = typescript.exports(typescript.DECLARATIONS.read_text(encoding="utf-8"))
    listed = []
    for section, tag in manual.tags(".TH X 3\n.SH X\n" + manual.section(PAGES["hpkv.3"], MARKS)):
        owner = ""
        for word in tag.split(", "):
            owner = owner if word.startswith(".") else word
            listed.append(owner + word if word.startswith(".") else word)
    assert len(listed) == len(set(listed))
    assert set(listed) == exported


def test_every_counterpart_exists():
    """What the table puts in bold is the header's: members and parameters too."""
    known = {*HEADER.functions, *HEADER.macros, *HEADER.callbacks, *HEADER.types, "_sync", "limit", "cancel", "hpkv_get"}
    known |= {f"struct {name}" for name in HEADER.opaque} | {one for members in HEADER.members.values() for one in members}
    bold = re.findall(r"\\fB(.*?)\\fP", manual.section(PAGES["hpkv.3"], MARKS))
    assert bold and set(bold) <= known, sorted(set(bold) - known)


# --- the programs ---

EXAMPLES = manual.marked(PAGES["hpkv.3"], "example")
OUTPUTS = manual.marked(PAGES["hpkv.3"], "output")
COMPILERS = {"c": [("gcc", "c11"), ("clang", "c17")], "c++": [("g++", "c++11"), ("clang++", "c++17")]}


def test_every_program_has_its_output():
    assert len(EXAMPLES) == 3 and sorted(EXAMPLES) == sorted(OUTPUTS)
    assert all("c" in languages and set(languages) <= set(COMPILERS) for languages, _ in EXAMPLES.values())


@pytest.mark.parametrize(
    "name, language, compiler, standard",
    [
        (name, language, *compiler)
        for name, (languages, _) in EXAMPLES.items()
        for language in languages
        for compiler in COMPILERS[language]
    ],
)
def test_a_program_of_the_manual(installed, hpkvd, tmp_path, name, language, compiler, standard):
    """As it stands there, built against the installed library, it prints what stands there. A proxy is of no concern to it."""
    source = tmp_path / ("program.c" if language == "c" else "program.cc")
    source.write_text(EXAMPLES[name][1], encoding="utf-8")
    installation.build(installed, compiler, standard, source, tmp_path / "program")
    proxy = {name: "http://127.0.0.1:9" for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")}
    done = installation.run_with(installed, tmp_path / "program", HPKV_URL=hpkvd.url, HPKV_API_KEY=hpkvd.key, **proxy)
    assert (done.returncode, done.stdout, done.stderr) == (0, OUTPUTS[name][1], "")


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_program_of_the_manual_tells_what_failed(installed, hpkvd, tmp_path, name):
    """With a wrong API key."""
    source = tmp_path / "program.c"
    source.write_text(EXAMPLES[name][1], encoding="utf-8")
    installation.build(installed, "gcc", "c11", source, tmp_path / "program")
    done = installation.run_with(installed, tmp_path / "program", HPKV_URL=hpkvd.url, HPKV_API_KEY="another-key")
    assert (done.returncode, done.stdout) == (1, "")
    assert "another-key" not in done.stderr
    # libwebsockets writes lines of its own, which begin with the time.
    assert len(re.findall(r"^(?!\[\d{4}/).+\n", done.stderr, re.MULTILINE)) == 1, done.stderr
