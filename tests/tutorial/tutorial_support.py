"""The pages of `docs/tutorial/` and their programs, which run in a copy of their folder, on free ports."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from test_readme import wait_until_it_serves_or_ends

from guides import FENCED, Guide
from support import PATIENCE, ROOT, Child, eventually, need

STEPS = ROOT / "examples" / "tutorial"
NAMES = sorted(page.name for page in (ROOT / "docs" / "tutorial").glob("[0-9]*.md"))
IN_FOLDER = "import os, runpy, sys; os.chdir(sys.argv.pop(1)); "
PROGRAM = IN_FOLDER + "runpy.run_path(sys.argv[1], run_name='__main__')"
COMMAND = IN_FOLDER + "sys.argv[0] = 'goev'; runpy.run_module('goev', run_name='__main__')"


class Page(Guide):
    """A page with its blocks of code."""

    def __init__(self, name: str) -> None:
        super().__init__(f"tutorial/{name}", 8080)
        self.blocks = FENCED.findall(self.text)

    def of(self, *languages: str) -> list[str]:
        return [text for language, text in self.blocks if language in languages]

    def commands(self) -> list[str]:
        return [line for block in self.of("sh") for line in block.replace("\\\n", "").splitlines()]

    def shows(self, *lines: str) -> bool:
        """Whether a block of the page has exactly these lines."""
        return "".join(f"{line}\n" for line in lines) in self.of("text")


@contextmanager
def copied(folder: Path) -> Iterator[Path]:
    """The programs, each with free ports."""
    shutil.copytree(STEPS, folder / "tutorial", ignore=shutil.ignore_patterns("__pycache__", "*.pem", "*.pid"))
    for file in (folder / "tutorial").iterdir():
        file.write_text(re.sub(r"127\.0\.0\.1:8\d\d\d", "127.0.0.1:0", file.read_text()))
    yield folder / "tutorial"


@contextmanager
def serving(folder: Path, page: Page) -> Iterator[int]:
    """The port of the program that the page starts. It ends in order on Ctrl-C, without an exception."""
    (name,) = re.findall(r"(?m)^python (step\d\d_\w+\.py)$", "\n".join(page.commands()))
    with Child("-c", PROGRAM, str(folder), name) as child:
        port = wait_until_it_serves_or_ends(child)
        assert port is not None, child.errors
        yield port
        child.interrupt()
        assert (child.end(), child.complaints) == (0, "")


@contextmanager
def service(folder: Path, command: str, *more: str) -> Iterator[tuple[int, Child]]:
    """The port of a service, and its supervisor. It ends in order on Ctrl-C."""
    words = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:0", command).split()
    with Child("-c", COMMAND, str(folder), *words[1:], *more) as child:
        eventually(lambda: "serving on" in child.errors or child.process.poll() is not None, "it serves", 2 * PATIENCE)
        found = re.search(r"serving on 127\.0\.0\.1:(\d+)", child.errors)
        assert found, child.errors
        yield int(found[1]), child
        child.interrupt()
        assert child.end() == 0, child.errors


def shown(folder: Path, page: Page, command: str, port: int) -> str:
    """The output of a command of the page that asks the server on that port."""
    assert command in page.commands()
    need(command.split()[0])
    command = re.sub(r":(80|84|91)\d\d", f":{port}", command)
    run = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=20)
    return (run.stdout + run.stderr).replace("\r\n", "\n")


class Terminal:
    """The client that the page starts, in a terminal, which shows all lines that are typed or arrive, and no others."""

    def __init__(self, folder: Path, page: Page, port: int) -> None:
        (command,) = [line for line in page.commands() if "client" in line]
        words = [sys.executable, *command.split()[1:], str(port)]
        self.screen, keyboard = pty.openpty()
        self.process = subprocess.Popen(words, cwd=folder, stdin=keyboard, stdout=keyboard, stderr=keyboard)
        os.close(keyboard)
        self.lines: list[str] = []
        self.seen = ""

    def type(self, line: str) -> None:
        self.lines.append(line)
        os.write(self.screen, line.encode() + b"\n")

    def reads(self, line: str) -> None:
        self.lines.append(line)
        eventually(lambda: self._shown()[: len(self.lines)] == self.lines, f"the screen shows {self.lines}")

    def _shown(self) -> list[str]:
        if select.select([self.screen], [], [], 0)[0]:
            with suppress(OSError):  # the client has ended
                self.seen += os.read(self.screen, 65536).decode()
        return self.seen.splitlines()

    def ends(self) -> None:
        assert (self.process.wait(PATIENCE), self._shown()) == (0, self.lines)
        os.close(self.screen)

    def leave(self) -> None:
        self.process.send_signal(signal.SIGINT)  # as Ctrl-C does
        self.ends()
