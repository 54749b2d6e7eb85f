"""The start by ``goev.serve(workers=…)``: programs of every kind, and settings that are refused at the call."""

import os
import re
import signal
import subprocess
import sys
from textwrap import dedent

import pytest

import goev
from goev.service import Logging
from service_support import SLOW
from support import Child

PROGRAM = dedent("""
    import goev

    class Site(goev.http.Connection):
        def on_request(self, request):
            request.respond(200, None, b"hello")

    if __name__ == "__main__":
        goev.serve(Site, "127.0.0.1:0", workers=2, ready=lambda where: print(where.address[1], flush=True), grace=1.0)
""")
SECONDS = 30


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "names.py").write_text("NAME = 'shop'\n")
    (tmp_path / "shop" / "__main__.py").write_text("from .names import NAME\n" + PROGRAM)
    (tmp_path / "shop" / "server.py").write_text("from .names import NAME\n" + PROGRAM)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text(PROGRAM)
    subprocess.run([sys.executable, "-m", "zipfile", "-c", "site.zip", "folder/__main__.py"], check=True)
    return tmp_path


@pytest.mark.parametrize(
    "command", [["-m", "shop"], ["-m", "shop.server"], ["folder"], ["folder/__main__.py"], ["site.zip"]], ids=" ".join
)
def test_workers_import_a_program_of_any_form(folder, command):
    with Child(*command) as child:
        assert int(child.line())
        child.process.send_signal(signal.SIGTERM)
        assert child.end(SLOW) == 0, child.errors


@pytest.mark.parametrize("command", [["-c", PROGRAM], ["-"]], ids=["-c", "-"])
def test_a_program_without_a_file_is_refused_at_the_call(folder, command):
    ended = subprocess.run(
        [sys.executable, *command], input=PROGRAM.encode(), capture_output=True, timeout=SECONDS, check=False
    )
    errors = ended.stderr.decode()
    assert ended.returncode == 1
    assert "ValueError: workers cannot import a program that python got by -c" in errors
    assert "worker 0" not in errors


def test_a_program_without_a_file_may_fork(folder):
    with Child("-c", PROGRAM.replace("workers=2", "workers=2, start_method='fork'")) as child:
        assert int(child.line())
        child.process.send_signal(signal.SIGTERM)
        assert child.end(SLOW) == 0, child.errors


WRONG = {
    "pollers": ({"pollers": 0}, ValueError, "pollers must be from 1"),
    "tls": ({"tls": {"certificate": "/no/file", "key": "/no/key"}}, OSError, "/no/file"),
    "metrics": ({"metrics": "nowhere"}, ValueError, "nowhere"),
    "metrics type": ({"metrics": 9100}, TypeError, "metrics must be text, not 9100"),
    "pid_file": ({"pid_file": "/no/folder/pid"}, FileNotFoundError, "cannot write pid_file /no/folder/pid"),
    "jitter": ({"jitter": "much"}, TypeError, "jitter must be a number, not 'much'"),
    "affinity": ({"affinity": 0}, TypeError, "affinity must be CPU numbers"),
    "logging": ({"logging": {"level": "info"}}, TypeError, "logging must be goev.service.Logging"),
    "level": ({"logging": Logging(level="loud")}, ValueError, "level must be one of"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_refused_at_the_call(name):
    settings, kind, text = WRONG[name]
    with pytest.raises(kind, match=re.escape(text)):
        goev.serve(goev.http.Connection, "127.0.0.1:0", workers=1, **settings)  # type: ignore[arg-type]


def test_a_factory_that_cannot_be_pickled_is_refused_at_the_call():
    with pytest.raises(TypeError, match="the factory must be picklable for workers"):
        goev.serve(lambda: goev.http.Connection(), "127.0.0.1:0", workers=1)


def test_more_addresses_than_a_message_can_carry_are_refused():
    with pytest.raises(ValueError, match="listen must name at most 253 addresses, not 254"):
        goev.serve(goev.http.Connection, ["127.0.0.1:0"] * 254, workers=1)


def test_a_pid_file_is_tried_without_leaving_a_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="cannot write pid_file"):
        goev.serve(goev.http.Connection, "127.0.0.1:0", workers=1, pid_file=str(tmp_path))
    assert os.listdir(tmp_path) == []
