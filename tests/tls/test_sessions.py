"""Sessions that are resumed, certificates that are reloaded, and the secrets of a key log."""

import re
import socket
import ssl

import pytest

import goev
from certificates import Authority
from support import PATIENCE, Recorder, in_thread
from tls_support import VERSIONS, Echo, Peer, accepting, openssl, serving, trusting

each_version = pytest.mark.parametrize("version", VERSIONS)
OPTION = {"TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3"}


class Tells(goev.Connection):
    """Answers a line by whether the session was resumed, and closes."""

    def on_read(self):
        if self.read_until(b"\n") is not None:
            self.write(f"resumed={self.tls.resumed} {self.tls.version}\n".encode())
            self.close()


class Client(Recorder):
    def on_open(self):
        self.events("open", self.tls)
        self.write(b"x")

    def on_read(self):
        self.events("read", self.read())
        self.close()

    def on_connect_fail(self, error):
        self.events("connect_fail", error)


# --- tickets ---


@pytest.fixture
def s_client(root, tmp_path):
    """``s_client(acceptor, *options)``: all that openssl prints."""
    (tmp_path / "ca.pem").write_bytes(root.pem)

    def run(acceptor, *options):
        host, port = acceptor.address
        fixed = ("-ign_eof", "-CAfile", tmp_path / "ca.pem", "-servername", "localhost", "-verify_return_error")
        return openssl("s_client", "-connect", f"{host}:{port}", *fixed, *options, stdin="hello\n")

    return run


@each_version
def test_openssl_resumes_by_a_ticket(serve, s_client, tmp_path, version):
    acceptor, session = serve(Tells), tmp_path / "session.pem"
    output = s_client(acceptor, OPTION[version], "-sess_out", session)
    assert f"resumed=False {version}" in output, output
    for _ in range(2):
        output = s_client(acceptor, OPTION[version], "-sess_in", session, "-sess_out", session)
        assert f"resumed=True {version}" in output, output
        assert "Reused, " in output


@each_version
def test_python_resumes_by_a_ticket(serve, root, version):
    acceptor, context, session = serve(Tells), trusting(root, version=version), None
    for resumed in (False, True, True):
        with Peer.to(acceptor.address, context, session=session) as client:
            client.send(b"hello\n")
            assert client.receive_all() == f"resumed={resumed} {version}\n".encode()
            assert client.tls.session_reused is resumed
            session = client.tls.session
            assert session.has_ticket


@each_version
def test_without_tickets_nothing_is_resumed(serve, root, s_client, tmp_path, version):
    acceptor = serve(Tells, tls={"tickets": False})
    output = s_client(acceptor, OPTION[version], "-sess_out", tmp_path / "session.pem")
    assert f"resumed=False {version}" in output
    assert "New Session Ticket arrived" not in output
    assert "TLS session ticket:" not in output
    context, session = trusting(root, version=version), None
    for _ in range(2):
        with Peer.to(acceptor.address, context, session=session) as client:
            client.send(b"hello\n")
            assert client.receive_all() == f"resumed=False {version}\n".encode()
            session = client.tls.session if client.tls.session and client.tls.session.has_ticket else None
            assert session is None


@each_version
def test_a_ticket_of_another_server_is_no_fault(serve, root, version):
    context, session = trusting(root, version=version), None
    for acceptor in (serve(Tells), serve(Tells)):
        with Peer.to(acceptor.address, context, session=session) as client:
            client.send(b"hello\n")
            assert client.receive_all() == f"resumed=False {version}\n".encode()
            session = client.tls.session


@each_version
def test_a_client_of_ours_resumes(reactor, root, identity, tmp_path, events, version):
    def serve(accept):
        reused = []
        for _ in range(3):
            with accept() as peer:
                peer.shake_hands()
                peer.send(peer.receive(1))
                reused.append(peer.tls.session_reused)
                peer.receive_all()
        return reused

    context = goev.tls.ClientContext(ca=root.pem)
    with accepting(serving(identity, tmp_path, version=version)) as (address, accept):
        served = in_thread(serve, accept)
        for resumed in (False, True, True):
            goev.connect(reactor, address, Client(events), tls=context)
            assert events.until("open")[1].resumed is resumed
            events.until("close")
        assert served.result(PATIENCE) == [False, True, True]


def test_clients_of_other_contexts_resume_nothing_of_each_other(serve, reactor, root, events):
    acceptor = serve(Echo)
    for _ in range(2):
        context = goev.tls.ClientContext(ca=root.pem)
        goev.connect(reactor, f"localhost:{acceptor.address[1]}", Client(events), tls=context)
        assert events.until("open")[1].resumed is False
        events.until("close")


# --- reload ---


@pytest.fixture
def reloading(reactor, root, tmp_path):
    """A context of files, an acceptor of it, and a function that gets the name in its certificate."""

    def name(context):
        with Peer.to(acceptor.address, context, name="localhost") as client:
            assert client.ask(b"x") == b"x"
            return [name for _, name in client.tls.getpeercert()["subjectAltName"]]

    root.issue("localhost", "old.example").files(tmp_path)
    context = goev.tls.ServerContext(tmp_path / "server.pem", tmp_path / "server.key")
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo, tls=context)
    return context, acceptor, name


def test_reload_is_for_later_handshakes_and_open_connections_go_on(reloading, root, tmp_path):
    context, acceptor, name = reloading
    trusted = trusting(root)
    assert name(trusted) == ["localhost", "old.example"]
    with Peer.to(acceptor.address, trusted) as before:
        assert before.ask(b"hello") == b"hello"
        root.issue("localhost", "new.example", kind="rsa").files(tmp_path)
        # Without the call nothing changes.
        assert name(trusted) == ["localhost", "old.example"]
        context.reload()
        assert name(trusted) == ["localhost", "new.example"]
        assert before.ask(b"hello") == b"hello"


def test_a_handshake_that_began_before_a_reload_ends_as_it_began(reloading, root, tmp_path):
    context, acceptor, name = reloading
    trusted = trusting(root)
    with Peer(socket.create_connection(acceptor.address, PATIENCE), trusted, server_hostname="localhost") as peer:
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.do_handshake()
        hello = peer.going.read()
        peer.socket.sendall(hello[:50])
        assert name(trusted) == ["localhost", "old.example"]  # so the first part was read
        root.issue("localhost", "new.example").files(tmp_path)
        context.reload()
        peer.socket.sendall(hello[50:])
        peer.shake_hands()
        assert peer.ask(b"x") == b"x"
        assert ("DNS", "old.example") in peer.tls.getpeercert()["subjectAltName"]
    assert name(trusted) == ["localhost", "new.example"]


def test_wrong_new_files_leave_the_old_in_force(reloading, root, tmp_path):
    context, _, name = reloading
    trusted = trusting(root)
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    old = certificate.read_bytes(), key.read_bytes()
    new = root.issue("localhost", "new.example", number=7)

    def refused(error, *words):
        with pytest.raises(error) as raised:
            context.reload()
        assert all(word in str(raised.value) for word in words), raised.value
        assert name(trusted) == ["localhost", "old.example"]

    certificate.write_bytes(new.chain)
    refused(ValueError, "is not the key of")
    certificate.write_bytes(new.chain[:-40])
    refused(ValueError, "server.pem", "no end")
    certificate.unlink()
    refused(FileNotFoundError, "server.pem")
    certificate.write_bytes(old[0])
    key.write_bytes(b"")
    refused(ValueError, "server.key", "is empty")
    key.write_bytes(new.key)
    certificate.write_bytes(new.chain)
    context.reload()
    assert name(trusted) == ["localhost", "new.example"]


@each_version
def test_sessions_from_before_a_reload_are_resumed(reloading, root, version):
    context, acceptor, _ = reloading
    trusted = trusting(root, version=version)
    with Peer.to(acceptor.address, trusted) as client:
        assert client.ask(b"x") == b"x"
        session = client.tls.session
    context.reload()
    with Peer.to(acceptor.address, trusted, session=session) as client:
        assert client.ask(b"x") == b"x"
        assert client.tls.session_reused


@each_version
def test_a_reload_with_clients_certificates_forgets_the_sessions(reactor, root, identity, tmp_path, version):
    """A ticket holds the client's certificate, and its CA may be one that is no longer trusted."""
    own, ca = root.issue("client", purpose="client", number=1), tmp_path / "clients.pem"
    ca.write_bytes(root.pem)
    context = goev.tls.ServerContext(identity.chain, identity.key, client_ca=ca, client_certificates="required")
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo, tls=context)
    trusted = trusting(root, version=version)
    trusted.load_cert_chain(*own.files(tmp_path, "client"))
    with Peer.to(acceptor.address, trusted) as client:
        assert client.ask(b"x") == b"x"
        session = client.tls.session
    ca.write_bytes(Authority("Other").pem)
    context.reload()
    with (
        pytest.raises(ssl.SSLError, match=r"(?i)unknown.ca"),
        Peer.to(acceptor.address, trusted, session=session) as client,
    ):
        client.read()


# --- the key log ---

LABELS = {
    "TLSv1.2": {"CLIENT_RANDOM"},
    "TLSv1.3": {
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
        "EXPORTER_SECRET",
    },
}


def secrets(path):
    """The lines of a key log as (label, random of the client) and secret. Each has the format of NSS."""
    found = {}
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            match = re.fullmatch(r"([A-Z_0-9]+) ([0-9a-f]{64}) ([0-9a-f]{64,96})", line)
            assert match, line
            found[match[1], match[2]] = match[3]
    return found


@each_version
def test_the_key_log_of_a_server_has_what_the_client_knows(serve, root, tmp_path, version):
    ours, theirs = tmp_path / "ours.log", tmp_path / "theirs.log"
    context = trusting(root, version=version)
    context.keylog_filename = theirs
    acceptor = serve(Echo, tls={"key_log": ours})
    for _ in range(2):
        with Peer.to(acceptor.address, context) as client:
            assert client.ask(b"x") == b"x"
    known, told = secrets(ours), secrets(theirs)
    assert {label for label, _ in known} == LABELS[version]
    assert len({random for _, random in known}) == 2
    assert {key: told.get(key) for key in known} == known


@each_version
def test_the_key_log_of_openssl_has_the_same_secrets(serve, s_client, tmp_path, version):
    ours, theirs = tmp_path / "ours.log", tmp_path / "theirs.log"
    acceptor = serve(Tells, tls={"key_log": ours})
    output = s_client(acceptor, OPTION[version], "-keylogfile", theirs)
    assert "resumed=False" in output
    known, told = secrets(ours), secrets(theirs)
    assert {key: told.get(key) for key in known} == known
    if version == "TLSv1.2":
        (secret,) = known.values()
        assert f"Master-Key: {secret.upper()}" in output


@each_version
def test_the_key_log_of_a_client_has_what_the_server_knows(reactor, root, identity, tmp_path, events, version):
    ours, theirs = tmp_path / "ours.log", tmp_path / "theirs.log"
    context = serving(identity, tmp_path, version=version)
    context.keylog_filename = theirs

    def serve(accept):
        with accept() as peer:
            peer.shake_hands()
            peer.send(peer.receive(1))
            peer.receive_all()

    with accepting(context) as (address, accept):
        served = in_thread(serve, accept)
        goev.connect(reactor, address, Client(events), tls=goev.tls.ClientContext(ca=root.pem, key_log=ours))
        events.until("close")
        served.result(PATIENCE)
    known, told = secrets(ours), secrets(theirs)
    assert {label for label, _ in known} == LABELS[version]
    assert {key: told.get(key) for key in known} == known


def test_no_secret_is_written_unless_it_is_asked_for(serve, root, tmp_path, monkeypatch):
    path = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=root.pem.decode())
    for options, written in (({}, False), ({"key_log": "SSLKEYLOGFILE"}, True)):
        with Peer.to(serve(Echo, tls=options).address, context) as client:
            assert client.ask(b"x") == b"x"
        assert (path.exists() and bool(secrets(path))) is written
