"""`docs/tls.md` tells the truth: its commands and programs run, and do what the page says beside real peers.

A program runs in a folder with the files that the page's commands make, on a free port instead of 8443.
"""

import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from test_docs import codes, rows

import goev
from certificates import Authority
from guides import FENCED, Guide, output
from support import PATIENCE, ROOT, Events, Recorder, eventually, need

GUIDE = Guide("tls.md", 8443)
TEXT, program, serving = GUIDE.text, GUIDE.program, GUIDE.serving
COMMANDS = [text for language, text in FENCED.findall(TEXT) if language == "sh"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the commands of the page make."""
    need("openssl")
    folder = tmp_path_factory.mktemp("made")
    for command in COMMANDS:
        subprocess.run(["sh", "-ec", command], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Those files, in a folder of the test's own."""
    for file in made.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def trusting(ca: Path | bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=(ca if isinstance(ca, bytes) else ca.read_bytes()).decode())


@contextmanager
def connected(port: int, context: ssl.SSLContext, name: str = "localhost") -> Iterator[ssl.SSLSocket]:
    plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
    with context.wrap_socket(plain, server_hostname=name, suppress_ragged_eofs=False) as client:
        yield client


def ask(port: int, context: ssl.SSLContext, name: str = "localhost") -> str:
    """The body of an answer over HTTP."""
    with connected(port, context, name) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: client.recv(10_000), b"")).decode().partition("\r\n\r\n")[2]


# --- servers ---


def test_the_first_server_and_its_certificate_satisfy_curl_python_and_goev(folder, reactor, events: Events) -> None:
    curl = need("curl")
    with serving(folder, "") as (port, _):
        command = re.search(r"`(curl --cacert cert\.pem \S+)`", TEXT)
        assert command is not None
        words = shlex.split(command[1].replace("8443", str(port)))[1:]
        shown = subprocess.run(
            [curl, "-sS", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=20
        )
        assert shown.stdout == "Hello over https\n"
        assert ask(port, trusting(folder / "cert.pem")) == "Hello over https\n"
        tls = goev.tls.ClientContext(ca=folder / "cert.pem")
        goev.connect(reactor, f"localhost:{port}", client := Recorder(events), tls=tls)
        events.until("open")
        client.close()
        events.until("close")


def test_sighup_takes_new_files_and_keeps_the_old_ones_when_they_are_wrong(root: Authority, tmp_path) -> None:
    def put(serial: int) -> int:
        identity = root.issue("localhost", number=serial)
        (tmp_path / "fullchain.pem").write_bytes(identity.chain)
        (tmp_path / "privkey.pem").write_bytes(identity.key)
        return identity.certificate.serial_number

    def served(port: int) -> int:
        with connected(port, trusting(root.pem)) as client:
            return int(client.getpeercert()["serialNumber"], 16)

    heading = "Let's Encrypt, and new files without a restart"
    first = put(0)
    with serving(tmp_path, heading, FOLDER=str(tmp_path)) as (port, child):
        assert served(port) == first
        second = put(1)
        child.process.send_signal(signal.SIGHUP)
        eventually(lambda: served(port) == second, "the new certificate is served")
        (tmp_path / "privkey.pem").write_bytes(b"")
        child.process.send_signal(signal.SIGHUP)
        eventually(lambda: "the old certificate stays in force: key" in child.errors, "the error is logged")
        assert served(port) == second


@pytest.mark.parametrize("number", [0, 1], ids=["dict", "callable"])
def test_each_name_has_its_certificate(root: Authority, tmp_path, number) -> None:
    (tmp_path / "certificates").mkdir()
    root.issue("localhost").files(tmp_path)
    os.rename(tmp_path / "server.pem", tmp_path / "cert.pem")
    os.rename(tmp_path / "server.key", tmp_path / "key.pem")
    for short, names in {"a": ["a.example"], "b": ["*.b.example"]}.items():
        identity = root.issue(*names)
        (tmp_path / f"{short}.pem").write_bytes(identity.chain)
        (tmp_path / f"{short}-key.pem").write_bytes(identity.key)
        identity.files(tmp_path / "certificates", names[0].replace("*", "x"))
    with serving(tmp_path, "Certificates for several names", number) as (port, _):
        for name in ("a.example", "x.b.example", "localhost"):
            assert ask(port, trusting(root.pem), name) == f"This is {name}\n"
        for name in ("b.example", "y.x.b.example", "c.example"):
            with pytest.raises(ssl.SSLCertVerificationError):
                ask(port, trusting(root.pem), name)


def test_a_client_shows_its_certificate_and_is_refused_without_one(folder, reactor, events: Events) -> None:
    with serving(folder, "Certificates of clients") as (port, _):
        with program(folder, "Clients", 1, port=port) as client:
            assert output(client) == "b'Hello CN=ada\\n'"
        tls = goev.tls.ClientContext(ca=folder / "cert.pem")
        goev.connect(reactor, f"localhost:{port}", Recorder(events), tls=tls)
        error = events.until("close")[1]
    assert events.names[0] == "open"
    assert isinstance(error, goev.tls.CertificateError)
    assert error.alert == "certificate_required"


def test_alpn_chooses_the_protocol(folder) -> None:
    with serving(folder, "ALPN") as (port, _):
        context = trusting(folder / "cert.pem")
        assert ask(port, context) == "Hello over HTTP\n"
        context.set_alpn_protocols(["http/1.1", "lines/1"])
        with connected(port, context) as client:
            assert client.selected_alpn_protocol() == "lines/1"
            client.sendall(b"hello\n")
            assert client.recv(100) == b"HELLO\n"
        context.set_alpn_protocols(["h2"])
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"), connected(port, context):
            pass


def test_the_log_of_keys_has_the_secrets_of_a_session(folder) -> None:
    page = serving(folder, "Reading along with Wireshark")
    with page as (port, _), connected(port, trusting(folder / "cert.pem")) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
    labels = {line.split()[0] for line in (folder / "keys.log").read_text().splitlines()}
    assert {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} <= labels


def test_failed_handshakes_are_counted(folder) -> None:
    with serving(folder, "The life of a connection") as (port, child):
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert client.recv(100)[:1] == b"\x15"  # an alert
        while "'protocol': 1" not in (line := child.line()):
            assert "protocol" in line


# --- clients ---


@pytest.fixture
def served(reactor: goev.Reactor) -> Callable[..., int]:
    """``served(handler, certificate, key)``: the port of a server."""

    def served(handler: Callable[[], goev.Connection], *files: Path | bytes) -> int:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", handler, tls=goev.tls.ServerContext(*files))
        port: int = acceptor.address[1]
        return port

    return served


class Site(goev.http.Connection):
    def on_request(self, request: goev.http.Request) -> None:
        if request.path == "/echo":
            goev.websocket.upgrade(request, Speaks())
        else:
            request.respond(200)


class Speaks(goev.websocket.Connection):
    def on_message(self, message: str | bytes) -> None:
        self.send(message)


def test_the_first_client_trusts_the_cas_of_the_system(root: Authority, tmp_path, served, monkeypatch) -> None:
    (tmp_path / "system.pem").write_bytes(root.pem)
    identity = root.issue("localhost")
    port = served(Site, identity.chain, identity.key)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    with program(tmp_path, "Clients", 0, port=port) as client:
        shown = output(client)
    assert shown.startswith("HTTP/1.1 200 OK")
    assert shown.endswith("TLSv1.3 TLS_AES_256_GCM_SHA384")
    stranger = Authority("Another").issue("localhost")
    with program(tmp_path, "Clients", 0, port=served(Site, stranger.chain, stranger.key)) as client:
        assert re.search("failed: .* the issuer of the certificate is unknown", output(client))


def test_both_sides_of_starttls_understand_each_other(folder) -> None:
    with serving(folder, "STARTTLS", 0) as (port, _), program(folder, "STARTTLS", 1, port=port) as client:
        assert output(client) == "b'HELLO'\nclosed None"


@pytest.mark.parametrize("behind", [b"hello\r\n", b"h"])
def test_bytes_behind_starttls_get_no_answer(folder, behind) -> None:
    page = serving(folder, "STARTTLS", 0)
    with page as (port, _), socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(b"STARTTLS\r\n" + behind)
        with suppress(ConnectionResetError):
            assert client.recv(100) == b""


def test_a_client_goes_on_with_tls_only(folder) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, program(folder, "STARTTLS", 1, port=listener.getsockname()[1]) as client:
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(100) == b"STARTTLS\r\n"
            peer.sendall(b"NO\r\n")
            assert peer.recv(100) == b""
        assert output(client) == "closed None"


def test_a_websocket_is_secure(folder, served) -> None:
    port = served(Site, folder / "cert.pem", folder / "key.pem")
    with program(folder, "WebSockets", port=port) as client:
        assert output(client) == "hello True"


# --- the page ---


def test_every_program_of_the_page_was_tried(request: pytest.FixtureRequest) -> None:
    here = {item.name.partition("[")[0] for item in request.session.items if item.path == Path(__file__)}
    if {name for name in globals() if name.startswith("test_")} - here:
        pytest.skip("only some tests of this file run")
    assert GUIDE.tried == set(GUIDE.programs)


def literals() -> str:
    """The texts of the Rust sources of TLS, with their lines joined."""
    sources = "".join(path.read_text() for path in sorted((ROOT / "src" / "tls").glob("*.rs")))
    return re.sub(r"\\\n\s*", "", sources)


@pytest.mark.parametrize("row", rows(GUIDE.path, "class, alert"), ids=lambda row: row[0][:40])
def test_a_text_in_the_table_of_errors_is_one_of_goevs(row) -> None:
    """Its fixed parts; the names of alerts are put in behind."""
    (text,), (kind, alert) = codes(row[0]), codes(row[1])
    assert isinstance(getattr(goev.tls, kind), type)
    source = literals()
    for part in re.sub(r" \(alert \w+\)", "", text).split("…"):
        assert part.strip() in source, part
    assert alert == "None" or f'"{alert}"' in source


def test_every_link_leads_somewhere() -> None:
    assert GUIDE.dead_links() == []
