"""``goev run`` serves: the command line with the real service behind it."""

import os
import re
import signal
import socket
import ssl
from pathlib import Path

import pytest

from certificates import Authority
from support import PATIENCE, Child, Client, eventually

CHAT = """
import goev

class Chat(goev.Connection):
    def on_read(self):
        self.write(self.read())
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "chat.py").write_text(CHAT)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GOEV_")]:
        monkeypatch.delenv(name)
    return tmp_path


def connected(path: Path) -> Client:
    """A client, as soon as the service accepts."""

    def attempt() -> Client | None:
        try:
            return Client(str(path))
        except OSError:
            return None

    return eventually(attempt, "the service accepts", PATIENCE * 2)


def test_a_target_is_served_until_a_signal(folder):
    with Child("-m", "goev", "run", "chat:Chat", "--listen", f"unix:{folder}/socket") as child:
        with connected(folder / "socket") as client:
            assert client.ask(b"hello") == b"hello"
        child.process.send_signal(signal.SIGTERM)
        assert child.end() == 0


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_target_may_have_the_name_of_a_module_that_python_begins_with(folder, method):
    (folder / "chat.py").rename(folder / "site.py")
    with Child("-m", "goev", "check", "site:Chat") as child:
        assert child.line() == "goev: site:Chat is right"
        assert child.end() == 0
    options = ["--start-method", method, "--listen", f"unix:{folder}/socket"]
    with Child("-m", "goev", "run", "site:Chat", *options) as child:
        with connected(folder / "socket") as client:
            assert client.ask(b"hello") == b"hello"
        child.process.send_signal(signal.SIGTERM)
        assert child.end() == 0


def test_a_file_is_served_with_several_workers_and_tls(folder):
    authority = Authority()
    authority.issue("localhost").files(folder)
    (folder / "server.toml").write_text(
        f'target = "chat:Chat"\nlisten = ["unix:{folder}/socket"]\nworkers = 2\n'
        '[tls]\ncertificate = "server.pem"\nkey = "server.key"\n'
    )
    with Child("-m", "goev", "run", "server.toml") as child:
        with connected(folder / "socket") as client:
            context = ssl.create_default_context(cadata=authority.pem.decode())
            with context.wrap_socket(client.socket, server_hostname="localhost") as secure:
                secure.sendall(b"hello")
                assert secure.recv(100) == b"hello"
        child.interrupt()
        assert child.end() == 0


def test_a_target_that_cannot_be_imported_ends_the_start_with_its_traceback(folder):
    (folder / "chat.py").write_text("def begin():\n    raise RuntimeError('no database')\nbegin()\n")
    with Child("-m", "goev", "run", "chat:Chat", "--listen", f"unix:{folder}/socket") as child:
        assert child.end() not in (0, 2)
        assert "cannot import chat: RuntimeError: no database" in child.errors
        assert "loading.py" not in child.errors
        assert "importlib" not in child.errors


def test_a_target_that_is_missing_is_one_line(folder):
    with Child("-m", "goev", "run", "chat:Chatt", "--listen", f"unix:{folder}/socket") as child:
        assert child.end() not in (0, 2)
        assert "has no Chatt; did you mean Chat?" in child.errors
        assert "Traceback" not in child.errors


def test_an_address_that_is_taken_is_told(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Child("-m", "goev", "run", "chat:Chat", "--listen", f"127.0.0.1:{port}") as child:
            assert child.end() != 0
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in child.errors


def test_development_serves_the_file_as_it_is_now(folder):
    with Child("-m", "goev", "run", "chat:Chat", "--listen", f"unix:{folder}/socket", "--dev") as child:
        with connected(folder / "socket") as client:
            assert client.ask(b"hello") == b"hello"
        (folder / "chat.py").write_text("def on_read(:\n")
        eventually(lambda: "waiting for a change" in child.errors, "the error was told", PATIENCE * 2)
        assert "SyntaxError" in child.errors
        (folder / "chat.py").write_text(CHAT.replace("self.read()", "self.read().upper()"))

        def answers_anew() -> bool:
            with connected(folder / "socket") as client:
                return client.ask(b"hello") == b"HELLO"

        eventually(answers_anew, "the new code serves", PATIENCE * 2)
        child.interrupt()
        assert child.end() == 0


@pytest.mark.parametrize("option", ["--listen", "--metrics"])
def test_an_address_that_is_taken_is_one_line(folder, option):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with Child("-m", "goev", "run", "chat:Chat", "--listen", "127.0.0.1:0", option, address) as child:
            assert child.end() == 2
            assert child.errors == f"goev: [Errno 98] cannot listen on {address}: Address already in use [GOEV301]\n"


def test_the_start_tells_where_the_metrics_are(folder):
    with Child("-m", "goev", "run", "chat:Chat", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0") as child:
        eventually(lambda: re.search(r"metrics and health checks on 127.0.0.1:\d+", child.errors), "told", PATIENCE * 2)
        child.process.send_signal(signal.SIGTERM)
        assert child.end() == 0
