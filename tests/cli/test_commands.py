"""The commands: help, version, completion, wrong usage, and the message without click."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

import goev
from goev.cli.commands import commands
from goev.cli.options import GROUPS
from support import PATIENCE

PROGRAM = [sys.executable, "-m", "goev"]


def run(*command: str, timeout: float = PATIENCE * 2, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["check", "--help"], ["run", "-h"], []])
def test_a_help_fits_a_screen(command, arguments):
    outcome = command(*arguments)
    lines = outcome.out.splitlines()
    assert (outcome.status, outcome.err) == (0, "")
    assert 5 < len(lines) <= 50
    assert max(map(len, lines)) <= 100


def test_the_help_of_run_has_the_main_options_and_names_the_groups(command):
    out = command("run", "--help").out
    for part in ("--listen", "--workers", "--tls-certificate", "--dev", "[:8080]", "goev help GROUP", *GROUPS):
        assert part in out


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_has_a_page(command, group):
    outcome = command("help", group)
    assert outcome.status == 0
    assert outcome.out.startswith(f"Options for {group} (")


def test_help_lists_the_groups(command):
    assert all(group in command("help").out for group in GROUPS)


def test_the_version(command):
    assert command("--version").out == f"goev {goev.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["rum"], "No such command 'rum'"),
        (["run"], "TARGET is missing: module:attribute, or a TOML file, as in 'goev run chat:Chat'"),
        (["check"], "TARGET is missing"),
        (["help", "tsl"], "Invalid value for 'GROUP': 'tsl' is not one of"),
        (["completion", "tcsh"], "Invalid value for 'bash|zsh|fish': 'tcsh' is not one of"),
        (["completion"], "Missing argument 'bash|zsh|fish'"),
        (["--verion"], "there is no option --verion; did you mean --version?"),
        (["run", "--wokers=3"], "there is no option --wokers; did you mean --workers?"),
    ],
)
def test_wrong_usage_is_one_line_and_the_status_2(command, arguments, complaint):
    assert command(*arguments).complaint.startswith(complaint)


def test_the_exit_status_is_that_of_the_service(command, monkeypatch):
    monkeypatch.setattr("cli_support.running.serve", lambda settings: 3)
    monkeypatch.setattr(sys, "argv", ["goev", "run", "chat:Chat"])
    from goev.__main__ import main

    assert main() == 3


def test_without_click_one_line_names_the_extra(tmp_path):
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError(\"No module named 'click'\", name='click')\n")
    done = run(*PROGRAM, "run", "chat:Chat", env={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "goev: the command line needs click: pip install 'goev[cli]'\n"


def test_the_package_alone_imports_nothing_of_the_command_line():
    ours = {"click", "watchfiles", "tomllib", "goev.cli", "goev.service"}
    code = f"import sys, goev; print(sorted(sys.modules.keys() & {ours}))"
    assert run(sys.executable, "-c", code).stdout == "[]\n"


def test_a_reader_that_leaves_hears_nothing_more():
    with subprocess.Popen([*PROGRAM, "help", "listening"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.close()
        assert child.stderr.read() == b""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_for_that_shell(command, shell):
    outcome = command("completion", shell)
    assert outcome.status == 0
    assert f"_GOEV_COMPLETE={shell}_complete" in outcome.out
    assert "goev" in outcome.out


def complete(line: str) -> list[str]:
    """The words that a shell offers at the end of a line, by click's own protocol."""
    *words, last = line.split(" ")
    offers = BashComplete(commands, {}, "goev", "_GOEV_COMPLETE").get_completions(words, last)
    return [f"{offer.type},{offer.value}" for offer in offers]


def test_commands_options_and_values_are_completed():
    assert complete("ch") == ["plain,check"]
    assert complete("run --tls-ce") == ["plain,--tls-certificate"]
    assert complete("run --no-node") == ["plain,--no-nodelay"]
    assert complete("run --when-full w") == ["plain,wait"]
    assert complete("run --tls-certificate ce") == ["file,ce"]
    assert complete("run --app-dir co") == ["dir,co"]
    assert complete("run ser") == ["file,ser"]
    assert complete("help t") == ["plain,tls"]


def test_bash_completes_with_the_script(tmp_path):
    """The real shell, with the function that the script defines."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "goev").write_text(f'#!/bin/sh\nexec {sys.executable} -m goev "$@"\n')
    (bin_ / "goev").chmod(0o755)
    program = f"""
        PATH={bin_}:$PATH
        eval "$(goev completion bash)"
        COMP_WORDS=(goev run --work); COMP_CWORD=2
        _goev_completion goev --work run
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = run("bash", "--norc", "-c", program)
    assert done.stdout.split() == ["--workers"], done.stderr


@pytest.mark.parametrize("program", [PROGRAM, [str(Path(sys.executable).parent / "goev")]], ids=["-m", "script"])
def test_a_ctrl_c_while_it_is_imported_ends_it_without_a_traceback(tmp_path, program):
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    ended = run(*program, "--version", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
