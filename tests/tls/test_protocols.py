"""HTTP, WebSockets and pools over TLS: what their handlers see of it, and their clients."""

import ssl
import threading

import pytest
import websockets.sync.server

import goev
from certificates import Authority, Identity
from support import Echo, Events

PAGE = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"


@pytest.fixture
def context(server: Identity) -> goev.tls.ServerContext:
    return goev.tls.ServerContext(server.chain, server.key)


@pytest.fixture
def trusting(root: Authority) -> goev.tls.ClientContext:
    return goev.tls.ClientContext(ca=root.pem, server_name="a.example")


class Site(goev.http.Connection):
    def on_request(self, request: goev.http.Request) -> None:
        request.respond(200, {}, request.scheme.encode())


class Fetch(goev.Connection):
    def __init__(self, events: Events) -> None:
        self.events = events

    def on_open(self) -> None:
        self.write(PAGE)

    def on_eof(self) -> None:
        self.events("answer", self.read().partition(b"\r\n\r\n")[2])
        self.close()

    def on_read(self) -> None:
        """Everything is read at the end."""


def address_of(acceptor: goev.Acceptor) -> str:
    host, port = acceptor.address
    return f"{host}:{port}"


def test_a_request_knows_its_scheme(reactor, context, trusting, events) -> None:
    for tls, client, scheme in [(None, None, b"http"), (context, trusting, b"https")]:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Site, tls=tls)
        goev.connect(reactor, address_of(acceptor), Fetch(events), tls=client)
        assert events.until("answer")[1] == scheme


class Talk(goev.websocket.Connection):
    def __init__(self, events: Events, name: str) -> None:
        self.events = events
        self.name = name

    def on_open(self) -> None:
        self.events(self.name, self.secure)
        if self.name == "client":
            self.send("hello")

    def on_message(self, message: str) -> None:
        self.events("message", message)
        if self.name == "server":
            self.send(message.upper())
        else:
            self.close()

    def on_connect_fail(self, error: Exception) -> None:
        self.events("fail", error)


def test_websockets_of_ours_on_both_sides(reactor, context, trusting, events) -> None:
    for scheme, tls, client in [("ws", None, None), ("wss", context, trusting)]:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", lambda: Talk(events, "server"), tls=tls)
        goev.websocket.connect(reactor, f"{scheme}://{address_of(acceptor)}/", Talk(events, "client"), tls=client)
        assert events.until("client")[1] is (scheme == "wss")
        assert [events.until("message")[1] for _ in range(2)] == ["hello", "HELLO"]
    assert [secure for _, secure in events.of("server")] == [False, True]


def test_a_client_of_ours_meets_the_websockets_package(reactor, server, trusting, events, tmp_path) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*server.files(tmp_path))

    def echo(connection: websockets.sync.server.ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with websockets.sync.server.serve(echo, "127.0.0.1", 0, ssl=theirs) as peer:
        thread = threading.Thread(target=peer.serve_forever)
        thread.start()
        port = peer.socket.getsockname()[1]
        goev.websocket.connect(reactor, f"wss://127.0.0.1:{port}/", Talk(events, "client"), tls=trusting)
        assert events.until("message")[1] == "hello"
        peer.shutdown()
        thread.join()


def test_a_websocket_client_refuses_a_certificate_of_another_name(reactor, context, root, events) -> None:
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", lambda: Talk(events, "server"), tls=context)
    other = goev.tls.ClientContext(ca=root.pem, server_name="b.example")
    goev.websocket.connect(reactor, f"wss://{address_of(acceptor)}/", Talk(events, "client"), tls=other)
    error = events.until("fail")[1]
    assert isinstance(error, goev.tls.CertificateError)
    assert "a.example" in str(error)


@pytest.mark.parametrize(("url", "tls"), [("ws://a.example/", True), ("wss://a.example/", False)])
def test_scheme_and_tls_have_to_agree(reactor, events, url, tls) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        goev.websocket.connect(reactor, url, Talk(events, "client"), tls=tls)


def test_a_pool_keeps_connections_over_tls(reactor, context, trusting, events) -> None:
    class Asks(goev.PooledConnection):
        def on_open(self) -> None:
            events("tls", self.tls)
            super().on_open()

    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo, tls=context)
    with goev.ConnectionPool(goev.Connector(reactor), address_of(acceptor), Asks, min_idle=2, tls=trusting) as pool:
        versions = {events.until("tls")[1].version for _ in range(2)}
        assert versions == {"TLSv1.3"}
        with pool.connection(timeout=10) as connection:
            assert isinstance(connection, Asks)


def test_a_unix_socket_has_the_name_of_its_context(reactor, context, trusting, root, events, tmp_path) -> None:
    acceptor = goev.Acceptor(reactor, f"unix:{tmp_path}/goev", Site, tls=context)
    assert acceptor.address == f"{tmp_path}/goev"
    goev.connect(reactor, f"unix:{tmp_path}/goev", Fetch(events), tls=trusting)
    assert events.until("answer")[1] == b"https"
    with pytest.raises(ValueError, match="TLS needs the name of the server here"):
        goev.connect(reactor, f"unix:{tmp_path}/goev", Fetch(events), tls=goev.tls.ClientContext(ca=root.pem))
