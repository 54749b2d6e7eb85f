"""docs/wsgi.md: its programs run, its table of attributes is true, and no link is dead."""

import re
import urllib.request
from pathlib import Path

import pytest

import goev.wsgi
from guides import Guide

GUIDE = Guide("wsgi.md", 8080)
PROGRAMS = {
    ("", 0): {"/": b"Hello, World!"},
    ("Handlers and an application on one listener", 0): {"/live": b"alive", "/": b"the application"},
}


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_a_program_of_the_page_serves(tmp_path: Path, program):
    with GUIDE.serving(tmp_path, *program) as (port, _):
        for path, body in PROGRAMS[program].items():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                assert answer.read() == body


def test_every_program_and_link_of_the_page_is_tried():
    assert set(GUIDE.programs) == set(PROGRAMS)
    assert GUIDE.dead_links() == []


def test_the_attributes_have_these_defaults():
    rows = re.findall(r"(?m)^\| `(\w+)` \| `?([^|`]*)`? \|", GUIDE.text)
    assert len(rows) == 5
    for name, default in rows:
        value = getattr(goev.wsgi.Connection, name)
        expected = eval(default, {"goev": goev})
        assert repr(value) == repr(expected), name
