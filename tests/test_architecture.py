"""Rules of the source that no compiler checks."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT

SOURCES = sorted((ROOT / "src").rglob("*.rs"))
MAY_NAME_PYO3 = [path for path in SOURCES if (ROOT / "src/python") in path.parents or path == ROOT / "src/lib.rs"]
IDS = [str(path.relative_to(ROOT)) for path in SOURCES]


def code(line: str) -> str:
    """A line without its comment and without the insides of its strings."""
    line = re.sub(r'"(\\.|[^"\\])*"', '""', line)
    return line.split("//")[0]


def outside_tests(text: str) -> str:
    """A source up to its own tests, which stand at the end."""
    return re.split(r"(?m)^\s*#\[cfg\((?:all\()?test\b", text)[0]


def unexplained_unsafe(text: str) -> Iterator[int]:
    """Numbers of the lines with an unsafe block or impl that no SAFETY comment precedes closely."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if not re.search(r"\bunsafe\b(?!_)\s*(\{|impl\b|extern\b|$)", code(line)):
            continue
        above = lines[max(0, number - 8) : number + 1]
        if not any("SAFETY:" in near for near in above):
            yield number + 1


def unexplained_unsafe_fn(text: str) -> Iterator[int]:
    """Numbers of the lines that declare an unsafe function without saying what its caller owes."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if re.search(r"\bunsafe\s+(extern\s+\"\"\s+)?fn\s+\w", code(line)):
            above = "\n".join(lines[max(0, number - 25) : number + 1])
            if "SAFETY:" not in above and "# Safety" not in above:
                yield number + 1


def unwraps(text: str) -> list[int]:
    """Numbers of the lines that unwrap outside the tests of a source."""
    lines = outside_tests(text).splitlines()
    return [number for number, line in enumerate(lines, 1) if ".unwrap()" in code(line)]


def test_there_are_sources_to_check():
    names = {str(path.relative_to(ROOT / "src")) for path in SOURCES}
    assert {"lib.rs", "reactor.rs", "timer.rs", "poller.rs", "mailbox.rs", "buffer.rs"} <= names
    assert any((ROOT / "src/python") in path.parents for path in SOURCES)


@pytest.mark.parametrize("path", [path for path in SOURCES if path not in MAY_NAME_PYO3], ids=lambda path: path.stem)
def test_pyo3_is_named_in_the_python_layer_only(path):
    assert "pyo3" not in path.read_text().lower()


def test_pyo3_is_named_in_no_other_file_under_src():
    others = [path for path in (ROOT / "src").rglob("*") if path.is_file() and path not in MAY_NAME_PYO3]
    assert not [path.name for path in others if b"pyo3" in path.read_bytes().lower()]


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_every_unsafe_says_why_it_is_safe(path):
    text = path.read_text()
    assert [*unexplained_unsafe(text), *unexplained_unsafe_fn(text)] == []


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_nothing_is_unwrapped_outside_tests(path):
    assert unwraps(path.read_text()) == []


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_a_module_begins_with_what_it_is(path):
    assert path.read_text().startswith("//!")


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_a_source_holds_one_idea(path: Path):
    assert len(outside_tests(path.read_text()).splitlines()) < 1000


PURE = [
    *(
        ROOT / "src" / name
        for name in ("error.rs", "timer.rs", "buffer.rs", "codec.rs", "framing.rs", "http.rs", "websocket.rs")
    ),
    *(path for folder in ("http", "websocket") for path in sorted((ROOT / "src" / folder).glob("*.rs"))),
]


@pytest.mark.parametrize("path", PURE, ids=lambda path: path.stem)
def test_pure_modules_have_no_socket_and_no_clock(path):
    text = "\n".join(code(line) for line in outside_tests(path.read_text()).splitlines())
    assert not re.search(r"\b(mio|socket2|Instant::now|SystemTime|TcpStream|libc::(read|write|send|recv)\w*)\b", text)


def test_the_checks_find_what_they_look_for():
    assert list(unexplained_unsafe("fn f() {\n    unsafe { g() }\n}")) == [2]
    assert list(unexplained_unsafe("unsafe impl Send for X {}")) == [1]
    assert list(unexplained_unsafe("// SAFETY: X owns it.\nunsafe impl Send for X {}")) == []
    assert list(unexplained_unsafe('#![deny(unsafe_code)] // unsafe {\nlet s = "unsafe {";')) == []
    assert list(unexplained_unsafe_fn("pub unsafe fn f() {}")) == [1]
    assert list(unexplained_unsafe_fn("/// # Safety\n/// Owe it.\npub unsafe fn f() {}")) == []
    assert unwraps("a.unwrap();\n// b.unwrap()\n#[cfg(test)]\nmod tests { c.unwrap(); }") == [1]
