"""The pages of `docs/how-to/`: each program of a page runs, or says in its first line why it does not."""

import re
from pathlib import Path
from typing import Any

import pytest

from guides import Guide
from support import ROOT

FOLDER = ROOT / "docs" / "how-to"
NAMES = sorted(page.name for page in FOLDER.glob("*.md"))
LEFT_OUT = re.compile(r"# .*the tests? do(?:es)? not run this block")


class HowTo(Guide):
    """A page whose programs serve on port 8080, also as a number of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(f"how-to/{name}", 8080)

    def source(self, heading: str, number: int = 0, **constants: Any) -> str:
        return re.sub(r'(?<="), 8080\b', ", 0", super().source(heading, number, **constants))

    def untried(self) -> set[tuple[str, int]]:
        """The programs that no test has run, and that do not say why."""
        left_out = {key for key, text in self.programs.items() if LEFT_OUT.match(text)}
        assert not left_out & self.tried
        return self.programs.keys() - self.tried - left_out


def needs_the_whole_file(request: pytest.FixtureRequest) -> None:
    """Skip the test unless all tests of its file run."""
    tests = {name for name in vars(request.module) if name.startswith("test_")}
    if tests - {item.name.partition("[")[0] for item in request.session.items if item.path == request.path}:
        pytest.skip("only some tests of this file run")


def write(folder: Path, **texts: str) -> None:
    """Files of Python: the programs of a page under names of their own."""
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
