"""Docs, docstrings and comments are in plain English: short sentences, and a thing of the code as their subject.

codespell looks after the spelling (``make lint``), and these rules after words and sentences.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT

MOST = 40  # words of a sentence; about 25 is the aim
# A sentence whose subject is a clause. A question may begin so.
CLAUSE = re.compile(r"(?:What|Who|Whoever|Whatever|Whom)\b.*[^?]$")
WORDS = re.compile(r"\b(?:whom|befell|befalls|lets? go of|(?:is|was|were) not told of|untold)\b", re.IGNORECASE)
FENCED = re.compile(r"(?ms)^ *```.*?^ *```")
CODE = re.compile(r"``.+?``|`[^`]+`", re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\](?:\([^)]*\))?")
ITEM = re.compile(r"\s*(?:[-*] |\d+\. |\w+(?:, \w+)*: )")
ITS_OWN = re.compile(r"\s*(?:[|#!<>]|\$ |:::)")

PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})
PYTHON = sorted(path for folder in ("python", "examples", "tools") for path in (ROOT / folder).rglob("*.py"))
RUST = sorted((ROOT / "src").rglob("*.rs"))


def of_page(text: str) -> Iterator[str]:
    """The paragraphs and the items of lists of a page in Markdown, without programs, tables and headings."""
    block: list[str] = []
    for line in [*FENCED.sub("", text).splitlines(), ""]:
        if not line.strip() or ITS_OWN.match(line) or re.match(r"\s*(?:[-*] |\d+\. )", line):
            yield " ".join(block)
            block = []
        if line.strip() and not ITS_OWN.match(line):
            block.append(re.sub(r"^\s*(?:[-*] |\d+\. )", "", line))


def of_python(text: str) -> Iterator[str]:
    """The docstrings and comments of a module."""
    named = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, named) and (docstring := ast.get_docstring(node)):
            yield from of_lines(docstring.splitlines())
    comments = [
        token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT
    ]
    lines: list[str] = []
    before = 0
    for token in comments:
        is_alone = token.line.lstrip().startswith("#")
        if not is_alone or token.start[0] != before + 1:
            lines.append("")
        lines.append(token.string.lstrip("#! "))
        before = token.start[0] if is_alone else 0
    yield from of_lines(lines)


def of_rust(text: str) -> Iterator[str]:
    """The comments of a file that stand on lines of their own."""
    lines = [re.match(r"\s*//[/!]? ?(.*)", line) for line in text.splitlines()]
    yield from of_lines([found[1] if found else "" for found in lines])


def of_lines(lines: list[str]) -> Iterator[str]:
    """The paragraphs and items of a comment. An indented line is an example, unless it goes on with an item."""
    block: list[str] = []
    for line in [*lines, ""]:
        if not line.strip() or ITEM.match(line) or ITS_OWN.match(line):
            yield " ".join(block)
            block = []
        if line.strip() and not ITS_OWN.match(line):
            block.append(line.strip())


def sentences(block: str) -> Iterator[str]:
    """The sentences of a paragraph, with a word for each piece of code."""
    plain = LINK.sub(r"\1", CODE.sub("X", block))
    for sentence in re.split(r"(?<=[.!?:;])\)?\s+", " ".join(plain.split())):
        if sentence:
            yield sentence


def faults(blocks: Iterator[str]) -> list[str]:
    found = []
    for sentence in (sentence for block in blocks for sentence in sentences(block)):
        if CLAUSE.match(sentence):
            found.append(f"the subject is a clause: {sentence}")
        if word := WORDS.search(sentence):
            found.append(f"{word[0]!r}: {sentence}")
        if len(sentence.split()) > MOST:
            found.append(f"{len(sentence.split())} words: {sentence}")
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [path for path in PAGES if "zh" not in path.parts], ids=name_of)
def test_a_page_is_in_plain_english(path):
    assert faults(of_page(path.read_text())) == []


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_docstrings_and_comments_of_python_are_in_plain_english(path):
    assert faults(of_python(path.read_text())) == []


def test_comments_of_rust_are_in_plain_english():
    found = {name_of(path): faults(of_rust(path.read_text())) for path in RUST}
    assert {name: each for name, each in found.items() if each} == {}


LONG = "word " * MOST


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Who ends leaves.", 1),
        ("A connection that ends leaves its groups.", 0),
        ("What is given of an answer goes out.", 1),
        ("What is a poller?", 0),
        ("First. Whoever pauses waits.", 1),
        ("`What` is a name. The host whom the request names.", 1),
        ("A value that the poller lets go of.", 1),
        (LONG + "more.", 1),
        (LONG.strip() + ".", 0),
        (f"A list:\n\n- {LONG}\n- {LONG}\n", 0),
        (f"| {LONG}{LONG} |\n", 0),
        (f"```\nWho {LONG}{LONG}\n```\n", 0),
    ],
)
def test_a_rule_finds_what_it_is_for_and_nothing_else(text, count):
    assert len(faults(of_page(text))) == count


def test_docstrings_comments_and_both_languages_are_read():
    function = 'def f():\n    """Do it.\n\n    Args:\n        a: what it is.\n    """\n'
    python = f'"""Who ends leaves."""\n\nx = 1  # Who pauses waits.\n\n\n{function}'
    assert len(faults(of_python(python))) == 2
    rust = "//! Who ends leaves.\n\n/// Whatever comes\n/// is read.\nfn f() {\n    // Who pauses waits.\n}\n"
    assert len(faults(of_rust(rust))) == 3
