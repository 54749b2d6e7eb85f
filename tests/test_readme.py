"""The README tells the truth: its Python blocks and those of the pages on messages run, the commands it names exist."""

import os
import re
import time
from contextlib import suppress
from pathlib import Path

import pytest

import goev
from support import ROOT, Child, Client

README = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""
BLOCK = re.compile(r"(?ms)^```(\w+)[^\n]*\n(.*?)^```")
BLOCKS = BLOCK.findall(README)
PAGES = [
    block
    for name in ("messages", "http", "websocket", "testing", "addresses", "proxy")
    for block in BLOCK.findall((ROOT / "docs" / f"{name}.md").read_text())
]
PYTHON = [text for language, text in BLOCKS + PAGES if language == "python"]
SHELL = [text for language, text in BLOCKS if language in ("sh", "shell", "bash", "console")]


def listens(pid: int) -> int | None:
    """The port of a listening TCP socket of the process."""
    ports = {}
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                ports[f"socket:[{fields[9]}]"] = int(fields[1].rpartition(":")[2], 16)
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed just now
            if (link := os.readlink(fd)) in ports:
                return ports[link]
    return None


def wait_until_it_serves_or_ends(child: Child) -> int | None:
    """The port on which it serves."""
    end = time.monotonic() + 10
    while child.process.poll() is None and time.monotonic() < end:
        with suppress(FileNotFoundError, ProcessLookupError):  # it may end just now
            if (port := listens(child.pid)) is not None:
                return port
        time.sleep(0.01)
    return None


def test_the_readme_has_examples():
    assert PYTHON
    assert SHELL


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_a_python_block_runs_as_it_stands(number, tmp_path):
    """On a free port; one that serves answers or refuses what is a line, JSON and no HTTP, and is stopped by Ctrl-C."""
    program = tmp_path / "block.py"
    program.write_text(PYTHON[number].replace('":8080"', '"127.0.0.1:0"'))
    with Child(str(program)) as child:
        if (port := wait_until_it_serves_or_ends(child)) is not None:
            with Client(("127.0.0.1", port)) as client, suppress(ConnectionResetError):
                client.send(b"[1, 2]\n")
                client.finish()
                client.receive_all()
        if child.process.poll() is None:
            child.interrupt()
        status = child.end()
        interrupted = child.errors.rstrip().endswith("KeyboardInterrupt")
        assert status == 0 or interrupted, child.errors
        assert "exception in" not in child.errors


def test_every_make_target_it_names_exists():
    targets = set(re.findall(r"(?m)^([\w-]+)\s*:", (ROOT / "Makefile").read_text()))
    named = set(re.findall(r"\bmake ([a-z][\w-]*)", "\n".join(SHELL) + "\n".join(re.findall(r"`[^`\n]+`", README))))
    assert {"demo", "test"} <= named
    assert named <= targets


def test_every_file_it_links_to_exists():
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", README)
    assert not [link for link in links if not (ROOT / link).exists()]


def test_every_example_it_names_exists():
    named = set(re.findall(r"examples/\w+\.py", README))
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


def codes(cell: str) -> list[str]:
    """What stands in backquotes in a cell of a table, without arguments."""
    return [re.split(r"[(=]", code)[0] for code in re.findall(r"`([^`]+)`", cell)]


def test_the_table_maps_go_names_to_names_that_exist():
    section = README.partition("## Coming from Go")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\|(.+?)\|(.+?)\|$", section)
    go_names = {name for left, _ in rows for name in codes(left)}
    assert {"OnOpen", "AsyncWrite", "ScheduleTimer", "PollSyncOpt", "PCachedGet"} <= go_names
    kinds = (
        goev.Connection,
        goev.Reactor,
        goev.Acceptor,
        goev.Connector,
        goev.ConnectionPool,
        goev.EventHandler,
        goev.Timer,
    )
    known = {name for kind in kinds for name in dir(kind)} | set(goev.__all__)
    known |= set(re.findall(r"\b(\w+)=", goev.Acceptor.__text_signature__ or "")) | {"pollers", "factory"}
    ours = {name.rsplit(".", 1)[-1] for _, right in rows for name in codes(right)}
    assert ours
    assert not ours - known
