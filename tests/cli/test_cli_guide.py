"""The pages on the command line tell the truth: every command, file and option in them is one."""

import re
import shlex
import tomllib

import pytest
from uvicorn.main import main as uvicorn

from certificates import Authority
from goev.cli.options import OPTIONS, Dev
from goev.service.settings import Settings
from support import ROOT

GUIDE = (ROOT / "docs" / "cli.md").read_text()
THEIRS = (ROOT / "docs" / "coming-from-gunicorn.md").read_text()
BLOCK = re.compile(r"(?ms)^```(\w+)\n(.*?)^```")
SHELL = [line for language, text in BLOCK.findall(GUIDE) if language == "sh" for line in text.splitlines()]
TOML = [text for language, text in BLOCK.findall(GUIDE) if language == "toml"]
FLAGS = {flag for option in OPTIONS.values() for flag in (option.flag, f"--no-{option.flag.removeprefix('--')}")}
COMMANDS = {"goev run", "goev check", "goev explain", "goev help", "goev completion", "goev --version", "goev --help"}
LISTS = ROOT / "tests" / "cli" / "theirs"


@pytest.fixture
def place(command, tmp_path):
    """A folder that has everything that the guide names."""
    (tmp_path / "web.py").write_text("import goev\nclass app(goev.Connection): ...\ndef make_app(): return app\n")
    (tmp_path / "legacy.py").write_text("import goev\nclass app(goev.Connection): ...\n")
    (tmp_path / "server.toml").write_text(TOML[0])
    for name, files in {"a.example": ("cert.pem", "key.pem"), "b.example": ("b.pem", "b.key")}.items():
        identity = Authority().issue(name)
        (tmp_path / files[0]).write_bytes(identity.chain)
        (tmp_path / files[1]).write_bytes(identity.key)
    return tmp_path


def test_the_guide_was_understood():
    assert len([line for line in SHELL if "goev " in line]) > 10
    assert len(TOML) == 1


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("goev ") and "--dev" not in line])
def test_a_command_of_the_guide_works(command, place, line):
    arguments = shlex.split(line.partition(" >")[0])[1:]
    assert command(*arguments).status == 0


def test_the_commands_for_installing_name_extras_that_there_are():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [name for line in SHELL for name in re.findall(r"pip install 'goev\[(\w+)\]'", line)]
    assert sorted(named) == ["cli", "dev"]
    assert set(named) <= set(extras)


def test_the_file_of_the_guide_is_right(command, place):
    outcome = command("check", "server.toml")
    assert (outcome.status, outcome.err) == (0, "")
    settings = command("run", "server.toml").settings
    assert settings.tls is not None
    assert settings.tls["names"] == {"b.example": ("b.pem", "b.key")}
    assert settings.grace == Settings.grace


def test_the_check_in_the_guide_has_the_lines_of_a_real_one(command, place):
    (place / "server.toml").write_text('target = "chat:Chatt"\nworker = 2\n')
    shown = next(text for language, text in BLOCK.findall(GUIDE) if language == "text")
    outcome = command("check", "server.toml", "--max-input", 0)
    assert (outcome.status, outcome.err) == (1, shown.replace("/srv/chat", str(place)))


@pytest.mark.parametrize("text", re.findall(r"(?m)^\| (?:environment|file|command line) \| (.*) \|$", GUIDE))
def test_the_examples_of_the_three_places_are_right(command, place, text):
    settings = []
    for code in re.findall(r"`([^`]+)`", text):
        if code.startswith("GOEV_"):
            name, _, value = code.partition("=")
            settings.append(command("run", "chat:Chat", **{name: value}).settings)
        elif code.startswith("--"):
            settings.append(command("run", "chat:Chat", *code.split()).settings)
        else:
            (place / "server.toml").write_text(f'target = "chat:Chat"\n{code}\n')
            settings.append(command("run", "server.toml").settings)
    sizes, delays, listens = settings
    assert sizes.acceptor == {"max_input": 65536}
    assert delays.acceptor == {"nodelay": False}
    assert listens.listen == (":8080", "unix:/run/chat.sock")


def rows(library: str) -> dict[str, tuple[str, str]]:
    """Of each option of that library: our counterpart and the note."""
    section = re.search(rf"(?ms)^## {library}$(.*?)(?=^## |\Z)", THEIRS)
    assert section
    found = re.findall(r"(?m)^\| `([^`]+)` \| (.*?) \|(?: (.*?))? \|$", section[1])
    return {name: (ours, note) for name, ours, note in found}


@pytest.mark.parametrize("library", ["gunicorn", "uvicorn", "granian"])
def test_every_option_of_theirs_has_an_answer(library):
    names = [line for line in (LISTS / f"{library}.txt").read_text().splitlines() if not line.startswith("#")]
    assert sorted(rows(library)) == sorted(names)
    assert not [name for name, (ours, note) in rows(library).items() if ours == "none" and not note]


def test_the_list_of_uvicorn_is_that_of_the_version_that_is_installed():
    names = {max(option.opts, key=len) for option in uvicorn.params if option.param_type_name == "option"}
    assert names == set((LISTS / "uvicorn.txt").read_text().splitlines()[1:])


@pytest.mark.parametrize("library", ["gunicorn", "uvicorn", "granian"])
def test_our_counterpart_of_each_option_exists(library):
    for ours, note in rows(library).values():
        for code in re.findall(r"`([^`]+)`", ours):
            assert code in FLAGS or any(code.startswith(name) for name in COMMANDS), code
        if ours not in ("none", "TARGET"):
            assert ours.startswith("`")
        for flag in re.findall(r"`(--[\w-]+)", note):
            assert flag in FLAGS | {"--env-file"} or flag in rows(library), flag


@pytest.mark.parametrize("line", re.findall(r"(?m)^\| `[^|]*` \| `(goev run [^`]*)` \|$", THEIRS))
def test_a_line_that_replaces_one_of_theirs_works(command, place, line):
    arguments = [argument for argument in shlex.split(line)[1:] if argument != "--dev"]
    assert command(*arguments).settings.target.startswith(("web:", "legacy:"))


@pytest.mark.parametrize("page", ["cli.md", "coming-from-gunicorn.md"])
def test_lines_are_at_most_120_characters_long_and_links_lead_somewhere(page):
    text = (ROOT / "docs" / page).read_text()
    assert not [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")]
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", text):
        linked = ROOT / "docs" / (target or page)
        headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"(?m)^#+ (.+)$", linked.read_text())}
        assert not anchor or anchor in headings, anchor


def test_the_guide_has_the_folders_and_names_that_development_ignores_and_watches():
    section = GUIDE.partition("## Development")[2].partition("## Completion")[0]
    from goev.cli.dev import IGNORED

    assert all(f"`{name}`" in section for name in IGNORED - {"__pypackages__"})
    assert all(f"{pattern}" in GUIDE for pattern in Dev.dev_files)
