"""The codes of errors: the code has those that docs/errors.md explains, and each program there shows its code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import goev
from goev import errors
from support import ROOT

PAGE = (ROOT / "docs" / "errors.md").read_text()
SOURCES = [
    *(path for path in (ROOT / "src").rglob("*.rs") if "tests" not in path.parts and path.stem != "tests"),
    *(path for path in (ROOT / "python").rglob("*.py")),
]
CODE = re.compile(r"""[\["](GOEV\d{3})[\]"]""")
SECTIONS = {code: errors.explain(code) for code in errors.codes()}
PROGRAMS = {
    code: re.findall(r"(?ms)^```python\n(.*?)^```", text) for code, text in SECTIONS.items() if "```python" in text
}
# Sections without a program: other tests see these errors.
ELSEWHERE = {
    "GOEV703": "a peer that cuts the stream amid TLS: test_faults_of_streams.py",
    "GOEV705": "a peer that speaks before the handshake: test_start_tls.py",
    "GOEV801": "a command: below",
    "GOEV802": "workers that cannot start: test_starts.py",
}


def raised() -> set[str]:
    """The codes in the sources: in brackets at the end of a message, or as a string that is put there."""
    return {code for path in SOURCES for code in CODE.findall(path.read_text())}


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | environment
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20, env=environ, check=False)


def test_each_code_that_is_raised_has_a_section_and_the_reverse():
    assert sorted(raised()) == sorted(SECTIONS)
    assert len(SECTIONS) > 40


def test_codes_stand_in_order_and_once():
    headings = re.findall(r"(?m)^### (.*)$", PAGE)
    assert headings == sorted(set(headings)) == list(SECTIONS)


@pytest.mark.parametrize("code", SECTIONS)
def test_a_section_has_meaning_cause_and_remedy(code):
    title, *_ = re.findall(r"(?s)^GOEV\d{3}: \*\*(.+?)\*\*", SECTIONS[code])
    assert 10 < len(title) < 100
    assert re.search(r"(?m)^Cause: [^\n]+", SECTIONS[code])
    assert re.search(r"(?m)^Remedy: [^\n]+", SECTIONS[code])


def test_a_section_without_a_program_has_a_reason():
    assert set(SECTIONS) - set(PROGRAMS) == set(ELSEWHERE)


@pytest.mark.parametrize("code", PROGRAMS)
def test_the_program_of_a_section_shows_its_code(code, tmp_path):
    """Each program ends by itself; those of TLS use files that the command before them makes."""
    for commands in re.findall(r"(?ms)^```sh\n(.*?)^```", SECTIONS[code]):
        assert run(tmp_path, "bash", "-ec", commands).returncode == 0
    [program] = PROGRAMS[code]
    (tmp_path / "program.py").write_text(program)
    done = run(tmp_path, sys.executable, "program.py", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f" [{code}]" in done.stdout + done.stderr


def test_the_command_of_a_section_shows_its_code(tmp_path):
    [command] = re.findall(r"(?ms)^```sh\n(.*?)^```", SECTIONS["GOEV801"])
    done = run(tmp_path, "bash", "-c", command)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("[GOEV801]")


def test_the_program_at_the_head_of_the_page_runs(tmp_path):
    head = PAGE.partition("\n## ")[0]
    [program] = re.findall(r"(?ms)^```python\n(.*?)^```", head)
    done = run(tmp_path, sys.executable, "-c", program)
    assert done.stdout.startswith("GOEV102\nGOEV102: **The connection is closed")


def test_an_error_of_goev_knows_its_code():
    with pytest.raises(goev.ConnectionClosed) as caught:
        goev.Connection().write(b"x")
    assert caught.value.code == errors.code_of(caught.value) == "GOEV102"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (goev.Error("no code"), None),
        (goev.Error(), None),
        (goev.FramingError("the user's own [GOEV12]"), None),
        (goev.FramingError("[GOEV12x]"), None),
        (goev.tls.Error("[GOEV"), None),
        (goev.MessageTooLong("a message [GOEV405]"), "GOEV405"),
        (goev.Error("other: the connection is closed [GOEV102] [GOEV101]"), "GOEV101"),
    ],
)
def test_a_code_is_read_from_the_end_of_the_message(error, code):
    assert error.code == errors.code_of(error) == code


def test_the_code_of_an_error_of_python_is_found():
    assert errors.code_of(OSError(98, "Address already in use [GOEV301]", "a file")) == "GOEV301"
    assert errors.code_of(KeyboardInterrupt()) is None
    with pytest.raises(TypeError):
        errors.code_of("GOEV301")  # type: ignore[arg-type]


def test_an_error_whose_text_raises_has_no_code():
    class BrokenError(goev.Error):
        def __str__(self):
            raise RuntimeError("no text")

    with pytest.raises(RuntimeError, match="no text"):
        _ = BrokenError().code


@pytest.mark.parametrize("code", ["GOEV301", "goev301", "301"])
def test_a_code_is_explained_in_any_spelling(code):
    assert errors.explain(code).startswith("GOEV301: **The address is in use.**")


@pytest.mark.parametrize("code", ["GOEV999", "", "X", "GOEV"])
def test_a_code_that_there_is_not_is_a_key_error(code):
    with pytest.raises(KeyError):
        errors.explain(code)


def test_the_package_carries_the_page():
    carried = Path(goev.__file__).with_name("errors.md")
    assert carried.read_text() == PAGE
