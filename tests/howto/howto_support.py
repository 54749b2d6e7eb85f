"""The pages of `docs/how-to/`: each program of a page runs, or says in its first line why it does not."""

import re
from pathlib import Path

from guides import Guide
from support import ROOT

FOLDER = ROOT / "docs" / "how-to"
NAMES = sorted(page.name for page in FOLDER.glob("*.md"))
LEFT_OUT = re.compile(r"# .*the tests? do(?:es)? not run this block")


class HowTo(Guide):
    """A page whose programs serve on port 8080, also as a number of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(f"how-to/{name}", 8080)

    def source(self, heading: str, number: int = 0, **constants: str) -> str:
        return re.sub(r'(?<="), 8080\b', ", 0", super().source(heading, number, **constants))

    def untried(self) -> set[tuple[str, int]]:
        """The programs that no test has run, and that do not say why."""
        left_out = {key for key, text in self.programs.items() if LEFT_OUT.match(text)}
        assert not left_out & self.tried
        return self.programs.keys() - self.tried - left_out


def write(folder: Path, **texts: str) -> None:
    """Files of Python: the programs of a page under names of their own."""
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
