"""``goev run --dev``: real files change, real processes end and begin; a stand-in takes the place of the service."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from goev.cli.dev import Filter
from service_support import children, is_alive
from support import PATIENCE, Child, eventually

# In each process that the tests start, the supervisor prints its settings, and waits for a signal.
STAND_IN = """
import os, signal, sys
import goev.service.supervisor

def run(settings):
    from goev.service.loading import TargetError, explain, load
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        app = load(settings.target, settings.app_dir)
    except TargetError as error:
        print(explain(error), file=sys.stderr, flush=True)
        return 1
    print("serving", app, settings.workers, settings.grace, settings.logging.level, os.getpid(), flush=True)
    if app == "ends":
        return 0
    signal.sigwait(ends)
    print("ended", flush=True)
    return 0

class Supervisor:
    @classmethod
    def of(cls, settings):
        supervisor = cls()
        supervisor.run = lambda: run(settings)
        return supervisor

goev.service.supervisor.Supervisor = Supervisor
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with a target of the value 1."""
    (tmp_path / "stand_in").mkdir()
    (tmp_path / "stand_in" / "sitecustomize.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stand_in"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "site_.py").write_text("app = 1\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def developing(project) -> Iterator[Child]:
    with Child("-m", "goev", "run", "site_:app", "--dev") as child:
        yield child


def served(child: Child) -> list[str]:
    """The words of the next line of the stand-in that reports its start."""
    while (words := child.line().split())[0] != "serving":
        assert words == ["ended"]
    return words[1:]


def told(child: Child, text: str) -> None:
    eventually(lambda: text in child.errors, text, PATIENCE * 2)


def test_a_change_starts_the_service_anew_with_settings_for_development(developing, project):
    first = served(developing)
    assert first[:4] == ["1", "1", "1.0", "debug"]
    (project / "site_.py").write_text("app = 2\n")
    second = served(developing)
    assert second[0] == "2"
    assert second[4] != first[4]
    told(developing, "goev: site_.py changed: starting anew\n")
    developing.interrupt()
    assert developing.end() == 0


def test_a_syntax_error_waits_for_the_next_change(developing, project):
    served(developing)
    (project / "site_.py").write_text("app = (\n")
    told(developing, "SyntaxError")
    told(developing, "goev: the service ended with status 1; waiting for a change\n")
    assert developing.process.poll() is None
    (project / "site_.py").write_text("app = 3\n")
    assert served(developing)[0] == "3"
    developing.process.send_signal(signal.SIGTERM)
    assert developing.end() == 0


def test_a_target_that_is_wrong_from_the_start_waits_too(project):
    (project / "site_.py").write_text("raise RuntimeError('no database')\n")
    with Child("-m", "goev", "run", "site_:app", "--dev") as child:
        told(child, "cannot import site_: RuntimeError: no database")
        told(child, "waiting for a change")
        (project / "site_.py").write_text("app = 4\n")
        assert served(child)[0] == "4"


def test_a_service_that_ends_in_order_ends_the_command(project):
    (project / "site_.py").write_text("app = 'ends'\n")
    with Child("-m", "goev", "run", "site_:app", "--dev") as child:
        served(child)
        assert child.end() == 0


def test_a_file_of_settings_is_read_again_and_a_wrong_one_waits(project):
    settings = project / "server.toml"
    settings.write_text('target = "site_:app"\ndev = true\ngrace = 3\n')
    with Child("-m", "goev", "run", "server.toml") as child:
        assert served(child)[2] == "3.0"
        settings.write_text('target = "site_:app"\ndev = true\ngrace = "x"\n')
        told(child, "server.toml: grace: 'x' is not a time")
        told(child, "waiting for a change")
        settings.write_text('target = "site_:app"\ndev = true\ngrace = 4\n')
        assert served(child)[2] == "4.0"


def test_the_service_ends_when_the_command_is_killed(developing):
    pid = int(served(developing)[4])
    developing.process.kill()
    assert developing.line() == "ended"
    eventually(lambda: not Path(f"/proc/{pid}").exists() or state(pid) == "Z", "the service has ended")


# The child of the command hangs at its imports, before any line of goev.
HANGS = """
import sys
if "-c" in sys.orig_argv:
    open("gate").read()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_child_imports_ends_the_command_without_a_line(project, tmp_path, number, status):
    (tmp_path / "stand_in" / "sitecustomize.py").write_text(HANGS)
    os.mkfifo(project / "gate")
    with Child("-m", "goev", "run", "site_:app", "--dev") as command:
        gate = eventually(lambda: opened(project / "gate"), "the child hangs", PATIENCE)
        (child,) = children(command.pid)
        if number == signal.SIGINT:
            os.kill(child, number)  # a terminal sends it to both
        command.process.send_signal(number)
        assert (command.end(), command.errors) == (status, "")
        assert not is_alive(child)
        os.close(gate)


def test_a_ctrl_c_while_a_worker_imports_the_target_stops_the_service_in_order(project, monkeypatch):
    monkeypatch.delenv("PYTHONPATH")
    os.mkfifo(project / "gate")
    (project / "site_.py").write_text("open('gate').read()\n")
    with Child("-m", "goev", "run", "site_:app", "--dev", "--listen", "127.0.0.1:0") as command:
        gate = eventually(lambda: opened(project / "gate"), "the worker hangs", PATIENCE * 2)
        (child,) = children(command.pid)
        for pid in (*children(child), child, command.pid):
            os.kill(pid, signal.SIGINT)
        assert command.end() == 0, command.errors
        assert "Traceback" not in command.errors
        os.close(gate)


def opened(fifo: Path) -> int | None:
    """A descriptor for writing, as soon as there is a reader."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_folders_and_patterns_may_be_named(project, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    options = ["--dev-dir", str(other), "--dev-files", "*.css,*.py"]
    with Child("-m", "goev", "run", "site_:app", "--dev", *options) as child:
        served(child)
        (project / "site_.py").write_text("app = 5\n")  # not watched
        (other / "site.css").write_text("a {}")
        assert served(child)[0] == "5"
        told(child, "site.css changed: starting anew")
        assert "site_.py" not in child.errors


def test_tracebacks_have_colours(project, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    (project / "site_.py").write_text("raise RuntimeError('no database')\n")
    with Child("-m", "goev", "run", "site_:app", "--dev") as child:
        told(child, "\x1b[1;35mRuntimeError\x1b[0m: \x1b[35mno database\x1b[0m")
        told(child, "waiting for a change")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--dev", "--dev-dir", "nowhere"], "there is no folder "),
        (["--dev", "--max-input", "0"], "--max-input: must be from"),
    ],
)
def test_wrong_input_ends_at_once(command, arguments, complaint):
    assert command("run", "chat:Chat", *arguments).complaint.startswith(complaint)


def test_without_watchfiles_one_line_names_the_extra(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    assert command("run", "chat:Chat", "--dev").complaint == "--dev needs watchfiles: pip install 'goev[dev]'"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("a.py", True),
        ("deep/er/a.py", True),
        ("server.toml", True),
        ("page.html", True),
        ("data.sqlite", False),
        ("a.pyc", False),
        ("a.py~", False),
        (".a.py.swp", False),
        (".a.py", False),
        ("__pycache__/a.py", False),
        (".venv/lib/a.py", False),
        ("venv/lib/a.py", False),
        ("env/lib/python3.13/site-packages/a.py", False),
        (".git/hooks/a.py", False),
        ("node_modules/x/a.py", False),
        ("../outside/a.py", False),
    ],
)
def test_files_that_count_as_changed(name, counts):
    """In a project that is itself below folders of such names."""
    root = "/home/me/.work/venv/target/project"
    watched = Filter([root], ["*.py", "*.toml", "*.html"])
    assert watched(None, os.path.normpath(f"{root}/{name}")) is counts
