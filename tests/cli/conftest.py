"""Fixtures of the tests of the command line."""

import pytest

from cli_support import Command, command_in


@pytest.fixture
def command(tmp_path, monkeypatch, capsys) -> Command:
    """``command("run", "chat:Chat", GOEV_WORKERS="2")``, in a folder that has ``chat.py``."""
    return command_in(tmp_path, monkeypatch, capsys)
