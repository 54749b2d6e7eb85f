"""`examples/starttls.py` takes mails of real senders, over TLS and in the clear, and obeys nothing behind STARTTLS."""

import re
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from test_examples import imported

import goev.testing
from support import PATIENCE, ROOT, Child, need

PROGRAM = ROOT / "examples" / "starttls.py"
example = imported("starttls")
LETTER = "Subject: Hello\r\n\r\n.a line with a dot\r\n..\r\n.\r\nthe end\r\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key, made by the command that the program names when they are missing."""
    need("openssl")
    folder = tmp_path_factory.mktemp("files")
    files = folder / "cert.pem", folder / "key.pem"
    with Child(str(PROGRAM), "--certificate", str(files[0]), "--key", str(files[1])) as child:
        assert child.end() == 2
        command = child.errors.splitlines()[-1]
    assert re.search(r"cannot read certificate .*cert\.pem", child.errors)
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return files


class Running(NamedTuple):
    port: int
    printed: Callable[[int], list[str]]


@pytest.fixture
def sink(files: tuple[Path, Path]) -> Iterator[Running]:
    """The program, which must end with status 0 and without complaints."""
    with Child(str(PROGRAM), "--port", "0", "--certificate", str(files[0]), "--key", str(files[1])) as child:
        found = re.fullmatch(r"mail on 127\.0\.0\.1:(\d+)", child.line())
        assert found is not None
        yield Running(int(found[1]), lambda count: [child.line() for _ in range(count)])
        child.interrupt()
        assert (child.end(), child.complaints) == (0, "")


def test_python_sends_mails_over_tls_and_in_the_clear(sink, files):
    with smtplib.SMTP("localhost", sink.port, timeout=PATIENCE) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        client.starttls(context=ssl.create_default_context(cafile=str(files[0])))
        client.ehlo()
        assert not client.has_extn("starttls")
        for _ in range(2):
            client.sendmail("ada@example.org", ["grace@example.org", "konrad@example.org"], LETTER)
            assert sink.printed(7) == [
                "from ada@example.org to grace@example.org, konrad@example.org (TLSv1.3):",
                "    Subject: Hello",
                "",
                "    .a line with a dot",
                "    ..",
                "    .",
                "    the end",
            ]
    with smtplib.SMTP("localhost", sink.port, timeout=PATIENCE) as client:
        client.sendmail("ada@example.org", "grace@example.org", "short")
    assert sink.printed(2) == ["from ada@example.org to grace@example.org (in the clear):", "    short"]


@pytest.mark.parametrize("options", [(), ("--pipeline",)], ids=["by turns", "pipelined"])
def test_swaks_sends_a_mail_over_tls(sink, options):
    swaks = need("swaks")
    command = [swaks, "--server", f"127.0.0.1:{sink.port}", "--tls", "--from", "ada@example.org", "--to", "a@b.example"]
    done = subprocess.run([*command, *options, "--body", "Hello"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "TLS started with cipher TLSv1.3" in done.stdout
    assert sink.printed(1) == ["from ada@example.org to a@b.example (TLSv1.3):"]
    while sink.printed(1) != ["    Hello"]:
        pass


@pytest.mark.parametrize("behind", [b"NOOP\r\n", b"N", b"MAIL FROM:<mallory@example.org>\r\nRCPT TO:<a@b.example>\r\n"])
def test_bytes_behind_starttls_end_the_connection(sink, behind):
    with socket.create_connection(("127.0.0.1", sink.port), PATIENCE) as client:
        client.sendall(b"EHLO me\r\nSTARTTLS\r\n" + behind)
        told = b"".join(iter(lambda: client.recv(1000), b""))
    assert told.splitlines()[-1].startswith(b"554 ")
    assert b"\r\n220 " not in told


def test_nothing_that_was_said_in_the_clear_counts_under_tls(sink, files):
    with smtplib.SMTP("localhost", sink.port, timeout=PATIENCE) as client:
        client.ehlo()
        client.mail("mallory@example.org")
        client.starttls(context=ssl.create_default_context(cafile=str(files[0])))
        assert client.rcpt("ada@example.org")[0] == 503
        assert client.mail("ada@example.org")[0] == 503
        assert client.docmd("STARTTLS")[0] == 503
        client.ehlo()
        assert client.mail("ada@example.org")[0] == 250


# --- what it answers, without sockets ---


def answers(*lines: bytes) -> list[bytes]:
    """The first digits of each answer behind the greeting."""
    peer = goev.testing.open(example.Sink(None))
    peer.receive(b"".join(line + b"\r\n" for line in lines))
    return [line[:3] for line in peer.sent().split(b"\r\n")[1:-1] if line[3:4] == b" "]


def test_commands_out_of_order_or_without_an_address_are_refused():
    assert answers(b"MAIL FROM:<a@b>", b"HELO me", b"RCPT TO:<a@b>", b"DATA") == [b"503", b"250", b"503", b"503"]
    assert answers(b"HELO me", b"MAIL FROM:<>", b"MAIL FROM:<>", b"RCPT TO:<>") == [b"250", b"250", b"503", b"503"]
    assert answers(b"HELO me", b"MAIL a@b", b"mail from: <a@b> SIZE=9", b"RSET") == [b"250", b"503", b"250", b"250"]
    assert answers(b"", b"VRFY ada", b"NOOP", b"STARTTLS now", b"QUIT", b"NOOP") == [
        b"502",
        b"502",
        b"250",
        b"503",
        b"221",
    ]


def test_too_many_recipients_and_a_mail_that_is_too_large_are_refused():
    begin = [b"EHLO me", b"MAIL FROM:<a@b>"]
    many = answers(*begin, *([b"RCPT TO:<a@b>"] * (example.MOST_RECIPIENTS + 1)))
    assert many[2:] == [b"250"] * example.MOST_RECIPIENTS + [b"452"]
    line = b"x" * 60_000
    large = [line] * (example.LARGEST_MAIL // len(line) + 1)
    assert answers(*begin, b"RCPT TO:<a@b>", b"DATA", *large, b".", b"NOOP")[3:] == [b"354", b"552", b"250"]


def test_control_characters_do_not_reach_the_terminal(capsys):
    mail = [b"EHLO me", b"MAIL FROM:<\x1b[2J@b>", b"RCPT TO:<a@b>", b"DATA", b"\x1b]0;mine\x07\xff\ttab", b"."]
    assert answers(*mail)[-1] == b"250"
    assert capsys.readouterr().out == "from \ufffd[2J@b to a@b (in the clear):\n    \ufffd]0;mine\ufffd\ufffd\ttab\n"
