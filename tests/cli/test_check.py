"""``goev check`` imports the target, reads the files, binds nothing, and says all that is wrong."""

import socket

import pytest

from certificates import Authority


def test_a_right_target_has_the_status_0(command):
    outcome = command("check", "chat:Chat", "--listen", "127.0.0.1:1", "--max-input", "64k")
    assert (outcome.status, outcome.out, outcome.err) == (0, "goev: chat:Chat is right\n", "")


def test_nothing_is_bound(command, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = tmp_path / "socket"
        assert command("check", "chat:Chat", "--listen", f"127.0.0.1:{port}", "--listen", f"unix:{path}").status == 0
        assert not path.exists()


def test_all_that_is_wrong_is_said(command):
    wrong = "--max-input 0 --backlog 0 --pollers 0 --listen 1 --listen :2 --tls-key a --low-water 1m --when-full refuse"
    outcome = command("check", "chat:Chatt", *wrong.split())
    assert (outcome.status, outcome.out) == (1, "")
    lines = sorted(line.removeprefix("goev: ").partition(":")[0] for line in outcome.err.splitlines())
    assert lines[:5] == ["--backlog", "--listen", "--low-water", "--max-input", "--pollers"]
    assert lines[5] == "--tls-key needs --tls-certificate"
    assert "has no Chatt; did you mean Chat?" in lines[6]
    assert len(lines) == 7


def test_values_that_cannot_be_read_are_all_said(command, tmp_path):
    (tmp_path / "server.toml").write_text('target = "chat:Chat"\nworker = 2\nmax_input = "x"\n')
    outcome = command("check", "server.toml", "--grace", "x", GOEV_JITTER="x")
    assert outcome.status == 1
    assert [line.split(": ")[1] for line in outcome.err.splitlines()] == ["server.toml"] * 2 + [
        "GOEV_JITTER",
        "--grace",
    ]


def test_wrong_usage_has_the_status_2(command):
    assert command("check", "none.toml").complaint.startswith("cannot read none.toml")


@pytest.mark.parametrize("factory", ["chat:make()", "chat:make", "chat:Chat"])
def test_handlers_are_right_in_every_form(command, factory):
    assert command("check", factory, "--interface", "goev").status == 0


def test_an_object_that_is_nothing_to_serve_is_said(command, tmp_path):
    (tmp_path / "chat.py").write_text("app = 3\n")
    outcome = command("check", "chat:app", "--interface", "goev")
    assert (outcome.status, outcome.err.count("\n")) == (1, 1)
    assert outcome.err.startswith("goev: chat:app is 3, and no Connection subclass")


def test_a_callback_that_is_never_called_is_a_warning(command, tmp_path):
    (tmp_path / "chat.py").write_text("import goev\nclass Chat(goev.Connection):\n    def onRead(self): ...\n")
    outcome = command("check", "chat:Chat")
    assert outcome.status == 0
    assert outcome.err == "goev: warning: chat:Chat: onRead is never called; goev.Connection has on_read\n"


def test_coroutines_without_asyncio_are_said(command, tmp_path):
    (tmp_path / "chat.py").write_text("import goev\nclass Chat(goev.Connection):\n    async def on_read(self): ...\n")
    assert command("check", "chat:Chat").status == 0
    outcome = command("check", "chat:Chat", "--no-asyncio")
    assert (outcome.status, outcome.err) == (1, "goev: --asyncio: chat:Chat needs asyncio, because it has coroutines\n")


def test_an_exception_of_the_target_comes_with_the_users_frames(command, tmp_path):
    (tmp_path / "chat.py").write_text("def begin():\n    raise RuntimeError('no database')\nbegin()\n")
    outcome = command("check", "chat:Chat")
    assert outcome.status == 1
    assert outcome.err.startswith("Traceback (most recent call last):\n")
    assert outcome.err.endswith("goev: cannot import chat: RuntimeError: no database [GOEV801]\n")
    assert outcome.err.count("  File ") == 2


def test_certificates_are_read(command, tmp_path):
    certificate, key = map(str, Authority().issue("a.example").files(tmp_path))
    tls = ["--tls-certificate", certificate, "--tls-key", key]
    assert command("check", "chat:Chat", *tls).status == 0
    assert command("check", "chat:Chat", *tls, "--tls-names", f"b.example={certificate},{key}").status == 0
    wrong = str(Authority().issue("a.example", kind="rsa").files(tmp_path, "other")[1])
    outcome = command("check", "chat:Chat", "--tls-certificate", certificate, "--tls-key", wrong)
    assert outcome.status == 1
    assert outcome.err.startswith("goev: --tls-")
    outcome = command("check", "chat:Chat", *tls, "--tls-client-certificates", "required")
    assert outcome.status == 1
    assert "client_ca" in outcome.err


def test_a_certificate_of_a_file_is_found_beside_it(command, tmp_path):
    folder = tmp_path / "etc"
    folder.mkdir()
    certificate, key = Authority().issue("a.example").files(folder)
    (folder / "server.toml").write_text(
        f'target = "chat:Chat"\n[tls]\ncertificate = "{certificate.name}"\nkey = "{key.name}"\n'
        f'[tls.names]\n"b.example" = ["{certificate.name}", "{key.name}"]\n'
    )
    outcome = command("check", "etc/server.toml")
    assert (outcome.status, outcome.err) == (0, "")
    certificate.unlink()
    outcome = command("check", "etc/server.toml")
    assert outcome.err.startswith('goev: etc/server.toml: tls.certificate: [Errno 2] cannot read certificate "etc/')


def test_files_that_cannot_be_written_and_a_missing_folder_are_told_and_nothing_is_made(command, tmp_path):
    (tmp_path / "logs").mkdir()
    outcome = command(
        *("check", "chat:Chat", "--app-dir", "/no/folder", "--access-log", "/no/folder/log", "--pid-file", "logs")
    )
    assert outcome.status == 1
    assert outcome.err.splitlines() == [
        "goev: --app-dir: there is no folder /no/folder",
        "goev: --access-log: cannot write /no/folder/log: No such file or directory",
        "goev: --pid-file: cannot write logs: Is a directory",
    ]
    assert command("check", "chat:Chat", "--access-log", "logs/access", "--pid-file", "logs/pid").status == 0
    assert list((tmp_path / "logs").iterdir()) == []
