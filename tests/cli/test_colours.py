"""Tracebacks get colours; everything else stays as it is."""

import io
import os
import re
import traceback

import pytest

from goev.cli.colours import Painter, are_wanted, copy


def failing() -> str:
    try:
        {}["x"] + len(5)
    except KeyError:
        return traceback.format_exc()
    return ""


def painted(text: str) -> list[str]:
    painter = Painter()
    return [painter.paint(line) for line in text.splitlines()]


def plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def test_a_traceback_is_coloured_and_its_text_stays():
    text = failing()
    lines = painted(text)
    assert [plain(line) for line in lines] == text.splitlines()
    assert any(line.startswith('  File \x1b[35m"') for line in lines)
    assert lines[-1] == "\x1b[1;35mKeyError\x1b[0m: \x1b[35m'x'\x1b[0m"


def test_a_traceback_of_a_syntax_error_and_of_a_group():
    text = "  File \"a.py\", line 1\n    x = (\n        ^\nSyntaxError: '(' was never closed"
    assert painted(text)[2] == "\x1b[31m        ^\x1b[0m"
    assert painted(text)[3].startswith("\x1b[1;35mSyntaxError\x1b[0m")
    try:
        raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])
    except ExceptionGroup:
        group = traceback.format_exc()
    assert [plain(line) for line in painted(group)] == group.splitlines()


@pytest.mark.parametrize(
    "line",
    ["", "INFO ready on :8080", "ValueError: in a log line", "  indented", 'GET /File "x" 200', "\x1b[31mred\x1b[0m"],
)
def test_other_lines_stay_as_they_are(line):
    assert painted(line or "\n") == [line]


def test_lines_after_a_traceback_stay_as_they_are():
    assert painted(failing() + "Next: line")[-1] == "Next: line"


@pytest.mark.parametrize(
    ("environment", "terminal", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colours_are_for_terminals(monkeypatch, environment, terminal, wanted):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    assert are_wanted(stream) is wanted


def test_a_pipe_of_any_bytes_is_copied_to_its_end(capfd):
    reading, writing = os.pipe()
    os.write(writing, failing().encode() + b"\xff broken \xe9\nno end of line")
    os.close(writing)
    copy(reading)
    err = capfd.readouterr().err
    assert plain(err) == failing() + "\\xff broken \\xe9\nno end of line"
