"""Runs the command line in this process, with a stand-in for the service."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from goev.__main__ import main
from goev.cli import running
from goev.service.settings import Settings

HANDLERS = """
import goev

class Chat(goev.Connection):
    def on_read(self):
        self.write(self.read())

def make():
    return Chat
"""


class Outcome:
    """The end of a command: its status, its output, and the settings that it would have served with."""

    def __init__(self, status: int, out: str, err: str, served: list[Settings]) -> None:
        self.status, self.out, self.err, self._served = status, out, err, served

    @property
    def settings(self) -> Settings:
        assert self.status == 0, self.err
        return self._served[0]

    @property
    def complaint(self) -> str:
        """The one line of a command that was refused."""
        assert self.status == 2, (self.status, self.out)
        assert not self._served
        assert self.out == ""
        assert self.err.startswith("goev: ")
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("goev: ").rstrip("\n")


Command = Callable[..., Outcome]


def command_in(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """``command("run", "chat:Chat", GOEV_WORKERS="2")``, in a folder that has ``chat.py``."""
    (folder / "chat.py").write_text(HANDLERS)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in [name for name in os.environ if name.startswith("GOEV_")]:
        monkeypatch.delenv(name)

    def command(*arguments: Any, **environment: str) -> Outcome:
        served: list[Settings] = []

        def serve(settings: Settings) -> int:
            served.append(settings)
            return 0

        before = set(sys.modules)
        with monkeypatch.context() as patched:
            patched.setattr(running, "serve", serve)
            patched.setattr(sys, "argv", ["goev", *map(str, arguments)])
            for name, value in environment.items():
                patched.setenv(name, value)
            status = main()
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if Path(file).is_relative_to(folder):
                with suppress(KeyError):
                    del sys.modules[name]
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err, served)

    return command
