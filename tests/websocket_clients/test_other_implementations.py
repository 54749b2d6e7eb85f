"""Both sides of goev speak with each other, and with another implementation."""

import http
import threading

import pytest
import websockets.sync.client
import websockets.sync.server
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

import goev
from support import PATIENCE
from websocket_support import WORDS, Echo, Told

MESSAGES = ["", "x", "κόσμε €😀", "x" * 126, WORDS, "é" * 40_000, b"", b"\0\xff", WORDS.encode(), bytes(1 << 20)]


@pytest.mark.parametrize("compression", [True, False])
def test_goev_speaks_with_itself(start, reactor, events, compression):
    class Server(goev.websocket.Connection):
        subprotocols = ("v1",)

        def on_message(self, message):
            self.send(message)

    kind = type("Client", (Told,), {"subprotocols": ("v2", "v1"), "compression": compression})
    client = kind(events)
    port = start(Server).address[1]
    goev.websocket.connect(reactor, f"ws://localhost:{port}/?a", client)
    assert events.until("open") == ("open", client)
    assert (client.subprotocol, client.compressed) == ("v1", compression)
    for message in MESSAGES:
        client.send(message)
        assert events.until("message") == ("message", message)
    client.ping(b"there?")
    assert events.until("pong") == ("pong", b"there?")
    client.close(3001, "enough")
    assert events.until("close") == ("close", None, 3001, "enough")


def test_a_client_of_an_ordinary_server_is_told_why_not(start, reactor, events):
    class Site(goev.http.Connection):
        def on_request(self, request):
            request.respond(404)

    goev.websocket.connect(reactor, f"ws://127.0.0.1:{start(Site).address[1]}", Told(events))
    assert "404 Not Found" in str(events.until("failed")[1])


OURS = {"max_message_size": 2 << 20, "subprotocols": ("v1",)}


@pytest.fixture
def foreign_server(stack):
    """``foreign_server(**options)``: the URL of an echo on the library ``websockets``."""

    def serve(**options):
        def echo(connection):
            for message in connection:
                connection.send(message)

        served = stack.enter_context(
            websockets.sync.server.serve(echo, "127.0.0.1", 0, max_size=2 << 20, subprotocols=["v1"], **options)
        )
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        stack.callback(thread.join, PATIENCE)
        stack.callback(served.shutdown)
        return f"ws://127.0.0.1:{served.socket.getsockname()[1]}"

    return serve


@pytest.mark.parametrize("compression", ["deflate", None])
def test_our_client_speaks_with_another_server(reactor, events, foreign_server, compression):
    client = type("Client", (Told,), OURS)(events)
    goev.websocket.connect(reactor, foreign_server(compression=compression), client)
    events.until("open")
    assert (client.subprotocol, client.compressed) == ("v1", compression is not None)
    for message in MESSAGES:
        client.send(message)
        assert events.until("message") == ("message", message)
    client.ping(b"there?")
    assert events.until("pong") == ("pong", b"there?")
    client.close(3001, "enough")
    assert events.until("close") == ("close", None, 3001, "enough")


@pytest.mark.parametrize(
    "extension",
    [
        ClientPerMessageDeflateFactory(),
        ClientPerMessageDeflateFactory(server_max_window_bits=9),
        ClientPerMessageDeflateFactory(server_max_window_bits=15, client_max_window_bits=True),
        ClientPerMessageDeflateFactory(client_max_window_bits=9),
        ClientPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True),
        None,
    ],
    ids=["plain", "server 9", "15", "client 9", "no takeover", "none"],
)
def test_another_client_speaks_with_our_server(start, events, extension):
    server = start(lambda: type("Server", (Echo,), OURS)(events))
    url = f"ws://127.0.0.1:{server.address[1]}"
    extensions = None if extension is None else [extension]
    options = {"extensions": extensions, "compression": None, "max_size": 2 << 20, "subprotocols": ["v0", "v1"]}
    with websockets.sync.client.connect(url, **options) as client:
        assert client.subprotocol == "v1"
        assert events.until("open")[1].compressed is (extension is not None)
        for message in MESSAGES:
            client.send(message)
            assert client.recv(PATIENCE) == message
        client.send(["in ", "parts"])
        assert client.recv(PATIENCE) == "in parts"
        assert client.ping(b"there?").wait(PATIENCE)
    assert events.until("close") == ("close", None, 1000, "")


def test_another_client_is_told_how_it_ended(start, events):
    class Ends(Told):
        def on_message(self, message):
            self.close(int(message), "as you wish")

    server = start(lambda: Ends(events))
    url = f"ws://127.0.0.1:{server.address[1]}"
    for code, error in ((1000, ConnectionClosedOK), (1001, ConnectionClosedOK), (4000, ConnectionClosedError)):
        with websockets.sync.client.connect(url) as client:
            client.send(f"{code}")
            with pytest.raises(error) as raised:
                client.recv(PATIENCE)
            assert (raised.value.rcvd.code, raised.value.rcvd.reason) == (code, "as you wish")
        assert events.until("close") == ("close", None, code, "as you wish")


def test_another_client_is_refused(start, events):
    server = start(lambda: type("Picky", (Told,), {"origins": {"https://example.org"}})(events))
    with pytest.raises(InvalidStatus) as raised:
        websockets.sync.client.connect(f"ws://127.0.0.1:{server.address[1]}")
    assert raised.value.response.status_code == 403
    assert events.history == []


def test_our_client_is_refused_by_another_server(reactor, events, foreign_server):
    def refuses(connection, request):
        return connection.respond(http.HTTPStatus.FORBIDDEN, "no\n")

    goev.websocket.connect(reactor, foreign_server(process_request=refuses), Told(events))
    assert "403 Forbidden" in str(events.until("failed")[1])
