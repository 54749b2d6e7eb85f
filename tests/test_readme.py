"""The README tells the truth: its Python blocks and those of some pages run, the commands it names exist."""

import os
import re
import shlex
import signal
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest

import goev
from goev.cli.commands import commands
from goev.cli.sources import configuration
from support import PATIENCE, ROOT, Child, Client, eventually

README = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""
BLOCK = re.compile(r"(?ms)^```(\w+)[^\n]*\n(.*?)^```")
BLOCKS = BLOCK.findall(README)
PAGES = [
    block
    for name in ("guide", "index", "messages", "http", "websocket", "testing", "addresses", "proxy")
    for block in BLOCK.findall((ROOT / "docs" / f"{name}.md").read_text())
]
PYTHON = [text for language, text in BLOCKS + PAGES if language == "python"]
SHELL = [text for language, text in BLOCKS if language in ("sh", "shell", "bash", "console")]
COMMAND = re.compile(r"(?m)(?:^|`)((?:\S*/)?goev (?:run|check) [^`\n]+)")
COMMANDS = sorted(
    {
        (page.name, line.partition(" #")[0].rstrip())
        for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        for line in COMMAND.findall(page.read_text())
        if "…" not in line and "--help" not in line
    }
)
IN_A_CLONE = [line for page, line in COMMANDS if page == "README.md" and line.startswith(".venv/bin/goev ")]


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
                with suppress(OSError):  # a server that refuses may have reset the connection already
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
    named = set(re.findall(r"examples/\w+\.py", README + (ROOT / "docs" / "guide.md").read_text()))
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_commands_of_the_pages_were_found():
    assert {"README.md", "cli.md", "deploy.md", "metrics.md", "wsgi.md", "coming-from-gunicorn.md"} <= dict(
        COMMANDS
    ).keys()
    assert len(IN_A_CLONE) == 1


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_of_a_page_has_options_that_exist_and_values_that_they_take(page, line):
    """By the parser of the command line. Nothing is imported, bound or served, and no file is read."""
    name, *arguments = shlex.split(line)[1:]
    values = commands.commands[name].make_context(name, arguments, commands.make_context("goev", [name])).params
    target = values.pop("target").replace("server.toml", "module:name")
    assert target.partition(":")[0] not in sys.stdlib_module_names, "Python's own module would be served"
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if value}
    assert configuration(target, given, {}).problems == []


def test_the_readme_says_how_to_install_the_command_before_it_shows_it():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    before, install, _ = README.partition("pip install '.[cli]'")
    assert install
    assert "cli" in extras
    assert not re.search(r"(?m)^goev run", before)


def test_the_command_for_a_clone_serves_as_it_stands(monkeypatch):
    """On a free port. It says where it listens, echoes, and ends in order by SIGTERM."""
    line = IN_A_CLONE[0].replace(":8080", "127.0.0.1:0")
    monkeypatch.chdir(ROOT)
    with Child(str(Path(sys.executable).with_name("goev")), *shlex.split(line)[1:]) as child:
        eventually(lambda: "serving on" in child.errors or child.process.poll() is not None, "it serves", PATIENCE * 2)
        (port,) = re.findall(r"serving on 127\.0\.0\.1:(\d+) .* with 2 workers", child.errors)
        with Client(("127.0.0.1", int(port))) as client:
            assert client.ask(b"hello") == b"hello"
        child.process.send_signal(signal.SIGTERM)
        assert child.end() == 0, child.errors


def codes(cell: str) -> list[str]:
    """What stands in backquotes in a cell of a table, without arguments."""
    return [re.split(r"[(=]", code)[0] for code in re.findall(r"`([^`]+)`", cell)]


def test_the_table_maps_go_names_to_names_that_exist():
    section = (ROOT / "docs" / "guide.md").read_text().partition("## Coming from Go")[2].partition("\n## ")[0]
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
