"""TLS that begins amid a conversation, on either side."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest

import goev
from certificates import Authority, Identity
from support import PATIENCE, Events, Recorder

READY = b"ready\n"


@pytest.fixture
def context(server: Identity) -> goev.tls.ServerContext:
    return goev.tls.ServerContext(server.chain, server.key)


@pytest.fixture
def trusting(root: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=root.pem.decode())


class Upgrading(Recorder):
    """Answers ``start`` with ``ready``, begins TLS, and echoes from then on."""

    context: goev.tls.ServerContext

    def on_read(self) -> None:
        data = self.read()
        if self.tls is None:
            assert data == b"start\n"
            self.write(READY)
            self.start_tls(self.context, then=lambda: self.events("secure", self.tls))
        else:
            self.write(data)


@pytest.fixture
def upgrading(reactor: goev.Reactor, events: Events, context: goev.tls.ServerContext) -> goev.Acceptor:
    kind = type("Upgrading", (Upgrading,), {"context": context})
    return goev.Acceptor(reactor, "127.0.0.1:0", lambda: kind(events))


@pytest.fixture
def begun(upgrading: goev.Acceptor) -> Iterator[socket.socket]:
    """A client whose server waits for its handshake."""
    with socket.create_connection(upgrading.address, PATIENCE) as client:
        client.sendall(b"start\n")
        assert client.recv(100) == READY
        yield client


def test_a_server_begins_tls_behind_its_last_plain_output(
    begun: socket.socket, trusting: ssl.SSLContext, events: Events
) -> None:
    with trusting.wrap_socket(begun, server_hostname="a.example") as client:
        assert events.until("secure")[1].version == "TLSv1.3"
        client.sendall(b"x" * 20_000)
        got = b""
        while len(got) < 20_000:
            got += client.recv(20_000)
        assert got == b"x" * 20_000


def test_output_waits_for_the_handshake(
    reactor: goev.Reactor, context: goev.tls.ServerContext, trusting: ssl.SSLContext, events: Events
) -> None:
    class Hasty(Recorder):
        def on_open(self) -> None:
            self.start_tls(context)
            self.write(b"x" * 300_000)
            self.close()

    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", lambda: Hasty(events))
    plain = socket.create_connection(acceptor.address, PATIENCE)
    with trusting.wrap_socket(plain, server_hostname="a.example", suppress_ragged_eofs=False) as client:
        got = bytearray()
        while part := client.recv(100_000):
            got += part
    assert got == b"x" * 300_000
    assert events.until("close")[1] is None


def test_a_client_begins_tls(
    reactor: goev.Reactor, root: Authority, server: Identity, events: Events, tmp_path
) -> None:
    class Asks(Recorder):
        def on_open(self) -> None:
            self.write(b"start\n")

        def on_read(self) -> None:
            data = self.read()
            if self.tls is None:
                assert data == READY
                self.start_tls(goev.tls.ClientContext(ca=root.pem), server_name="a.example", then=self.secured)
                self.write(b"hello")
            else:
                self.events("read", data)

        def secured(self) -> None:
            self.events("secure", self.tls.server_name)

    certificate, key = server.files(tmp_path)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        plain, _ = listener.accept()
        plain.settimeout(PATIENCE)
        assert plain.recv(100) == b"start\n"
        plain.sendall(READY)
        with theirs.wrap_socket(plain, server_side=True) as secure:
            secure.sendall(secure.recv(100))
            secure.recv(100)

    thread = threading.Thread(target=serve)
    thread.start()
    with listener:
        goev.connect(reactor, f"127.0.0.1:{listener.getsockname()[1]}", asks := Asks(events))
        assert events.until("secure")[1] == "a.example"
        assert events.until("read")[1] == b"hello"
        asks.close()
        thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_certificate_of_another_name_ends_the_client(
    upgrading: goev.Acceptor, reactor: goev.Reactor, root: Authority
) -> None:
    mine = Events()

    class Asks(Recorder):
        def on_open(self) -> None:
            self.write(b"start\n")

        def on_read(self) -> None:
            self.read()
            self.start_tls(goev.tls.ClientContext(ca=root.pem), server_name="b.example", then=lambda: mine("secure"))

    host, port = upgrading.address
    goev.connect(reactor, f"{host}:{port}", Asks(mine))
    error = mine.until("close")[1]
    assert isinstance(error, goev.tls.CertificateError)
    assert "a.example" in str(error)
    assert "secure" not in mine.names


def test_bytes_that_are_no_tls_end_the_connection(begun: socket.socket, events: Events) -> None:
    begun.sendall(b"EHLO me\r\n")
    assert begun.recv(100)[:1] == b"\x15"  # an alert
    error = events.until("close")[1]
    assert isinstance(error, goev.tls.Error)


def test_the_handshake_has_its_time_limit(
    reactor: goev.Reactor, context: goev.tls.ServerContext, events: Events
) -> None:
    class Opens(Recorder):
        def on_open(self) -> None:
            self.start_tls(context)

    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", lambda: Opens(events), handshake_timeout=0.05)
    with socket.create_connection(acceptor.address, PATIENCE):
        error = events.until("close")[1]
    assert isinstance(error, goev.tls.Error)
    assert "handshake_timeout=0.05" in str(error)


def test_a_peer_that_leaves_ends_the_connection(begun: socket.socket, events: Events) -> None:
    begun.close()
    assert isinstance(events.until("close")[1], goev.tls.TruncatedError | ConnectionResetError)


@pytest.fixture
def attempt(reactor: goev.Reactor, events: Events) -> Callable[[Callable[[Recorder], object]], BaseException | None]:
    """``attempt(work)``: the exception of ``work(connection)`` in ``on_read``."""

    def attempt(work: Callable[[Recorder], object]) -> BaseException | None:
        class Tries(Recorder):
            def on_read(self) -> bool:
                try:
                    work(self)
                except Exception as error:
                    self.events("raised", error)
                else:
                    self.events("raised", None)
                return False

        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", lambda: Tries(events))
        with socket.create_connection(acceptor.address, PATIENCE) as client:
            client.sendall(b"start\ninjected\n")
            return events.until("raised")[1]

    return attempt


def test_unread_input_is_refused(attempt, context) -> None:
    error = attempt(lambda connection: connection.read(6) and connection.start_tls(context))
    assert isinstance(error, RuntimeError)
    assert "input has come" in str(error)


def test_output_that_the_socket_does_not_take_is_refused(attempt, context) -> None:
    def work(connection: Recorder) -> None:
        connection.read()
        connection.write(b"x" * 30_000_000)
        connection.start_tls(context)

    error = attempt(work)
    assert isinstance(error, RuntimeError)
    assert "bytes of output wait" in str(error)


def test_it_begins_once(attempt, context) -> None:
    def work(connection: Recorder) -> None:
        connection.read()
        connection.start_tls(context)
        connection.start_tls(context)

    error = attempt(work)
    assert isinstance(error, RuntimeError)
    assert "already" in str(error)


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ((None,), TypeError, "context must be a goev.tls.ServerContext, True or a goev.tls.ClientContext, not None"),
        (("cert.pem",), TypeError, "not str"),
        ((goev.tls.ClientContext(ca=Authority().pem),), ValueError, "TLS needs the name of the server here"),
    ],
)
def test_a_wrong_context_is_refused(attempt, arguments, kind, text) -> None:
    error = attempt(lambda connection: connection.read() and connection.start_tls(*arguments))
    assert isinstance(error, kind)
    assert text in str(error)


def test_a_wrong_name_or_callable_is_refused(attempt, context, root) -> None:
    client = goev.tls.ClientContext(ca=root.pem)
    for name in ("a b", ""):
        error = attempt(
            lambda connection, name=name: connection.read() and connection.start_tls(client, server_name=name)
        )
        assert isinstance(error, ValueError), error
    error = attempt(lambda connection: connection.read() and connection.start_tls(context, then=1))
    assert isinstance(error, TypeError)
    error = attempt(lambda connection: connection.read() and connection.start_tls(context, server_name="a.example"))
    assert isinstance(error, TypeError)


def test_another_thread_is_refused(begun: socket.socket, events: Events, context) -> None:
    connection = events.until("open")[1]
    with pytest.raises(goev.WrongThread):
        connection.start_tls(context)
