"""The pages of `docs/`: their headings, and their programs, which run as they stand but for ports and constants."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from test_readme import wait_until_it_serves_or_ends

from support import ROOT, Child

FENCED = re.compile(r"(?ms)^```(\w+)\n(.*?)^```")
IN_FOLDER = "import os, runpy, sys; os.chdir(sys.argv[1]); runpy.run_path('block.py', run_name='__main__')"


def output(child: Child) -> str:
    """Everything that a program printed that must end by itself."""
    assert child.end() == 0, child.errors
    lines = []
    while not child._lines.empty():
        lines.append(child._lines.get())
    return "\n".join(lines)


class Guide:
    """A page whose programs serve on ``port``. Each program is known by its heading and its number below that."""

    def __init__(self, name: str, port: int) -> None:
        self.path = ROOT / "docs" / name
        self.text = self.path.read_text()
        self.port = port
        headings = ["", *re.findall(r"(?m)^##+ (.+)$", self.text)]
        sections = re.split(r"(?m)^##+ .+$", self.text)
        self.programs = {
            (heading, number): text
            for heading, section in zip(headings, sections, strict=True)
            for number, text in enumerate(text for language, text in FENCED.findall(section) if language == "python")
        }
        self.tried: set[tuple[str, int]] = set()

    def source(self, heading: str, number: int = 0, **constants: Any) -> str:
        """A program of the page, with other values for constants. It counts as tried."""
        self.tried.add((heading, number))
        text = self.programs[heading, number]
        for name, value in constants.items():
            text, found = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value!r}", text)
            assert found, f"{name} is no constant of the program"
        return text

    def program(self, folder: Path, heading: str, number: int = 0, *, port: int = 0, **constants: Any) -> Child:
        """The running program, in that folder. It serves on a free port, or connects to a server on ``port``."""
        text = self.source(heading, number, **constants)
        text = text.replace(f'":{self.port}"', '"127.0.0.1:0"').replace(f":{self.port}", f":{port}")
        (folder / "block.py").write_text(text)
        return Child("-c", IN_FOLDER, str(folder))

    @contextmanager
    def serving(self, folder: Path, heading: str, number: int = 0, **constants: Any) -> Iterator[tuple[int, Child]]:
        """The port of a server of the page. It must end in order on Ctrl-C, without an exception."""
        with self.program(folder, heading, number, **constants) as child:
            port = wait_until_it_serves_or_ends(child)
            assert port is not None, child.errors
            yield port, child
            child.interrupt()
            assert child.end() == 0 or child.errors.rstrip().endswith("KeyboardInterrupt"), child.errors
            assert "exception in" not in child.errors

    def dead_links(self) -> list[str]:
        """The links that lead to no file, or to no heading of it."""
        dead = []
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", self.text):
            linked = self.path.parent / target if target else self.path
            headings = re.findall(r"(?m)^#+ (.+)$", linked.read_text()) if anchor and linked.is_file() else []
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            if not linked.exists() or (anchor and anchor not in anchors):
                dead.append(f"{target}#{anchor}")
        return dead
