"""WebSocket clients: goev's against a raw server, and both sides of goev against another implementation and itself."""

import http
import socket
import threading
import time
from contextlib import closing

import pytest
import websockets.sync.client
import websockets.sync.server
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

import goev
from support import PATIENCE, in_thread, settle
from websocket_support import (
    BINARY,
    CLOSE,
    CONTINUATION,
    NO_TAKEOVER,
    PING,
    PONG,
    TEXT,
    ServerPeer,
    accept_of,
    close,
    deflated,
    fragments,
    frame,
    text,
)

WORDS = " ".join(f"user{number * number % 97} is at {number}" for number in range(2000))
MESSAGES = ["", "x", "κόσμε €😀", "x" * 126, WORDS, "é" * 40_000, b"", b"\0\xff", WORDS.encode(), bytes(1 << 20)]


class Told(goev.websocket.Connection):
    """Reports everything."""

    def __init__(self, events):
        self.events = events

    def on_open(self):
        self.events("open", self)

    def on_message(self, message):
        self.events("message", message)

    def on_pong(self, data):
        self.events("pong", data)

    def on_connect_fail(self, error):
        self.events("failed", error)

    def on_close(self, error):
        self.events("close", error, self.close_code, self.close_reason)


class Echo(Told):
    def on_message(self, message):
        super().on_message(message)
        self.send(message)


@pytest.fixture
def listener(stack):
    listening = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
    listening.settimeout(PATIENCE)
    return listening


@pytest.fixture
def asked(reactor, listener, stack, events):
    """``asked(kind, attributes, target, **options)``: a raw server that such a handler asks, and the handler."""

    def connect(kind=Told, attributes=None, target="/", **options):
        handler = type(kind.__name__, (kind,), attributes or {})(events)
        goev.websocket.connect(reactor, f"ws://127.0.0.1:{listener.getsockname()[1]}{target}", handler, **options)
        return ServerPeer(stack, listener), handler

    return connect


@pytest.fixture
def opened(asked, events):
    """``opened(kind, attributes, *fields)``: a raw server that agreed, and the handler."""

    def connect(kind=Told, attributes=None, *fields, **options):
        server, handler = asked(kind, attributes, **options)
        server.agree(*fields)
        assert events.next() == ("open", handler)
        return server, handler

    return connect


# --- the handshake ---


def test_the_request_is_as_it_must_be(asked):
    server, handler = asked(target="/chat/room?a=b&c")
    assert server.request == "GET /chat/room?a=b&c HTTP/1.1"
    assert accept_of(server.key)
    assert server.fields == {
        "host": f"127.0.0.1:{server.socket.getsockname()[1]}",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": server.key,
        "sec-websocket-version": "13",
        "sec-websocket-extensions": f"{NO_TAKEOVER}; client_max_window_bits",
    }
    server.agree(behind=text("hello", mask=None))
    assert handler.events.next() == ("open", handler)
    assert handler.events.next() == ("message", "hello")
    assert (handler.subprotocol, handler.compressed, handler.request) == (None, False, None)


def test_what_the_handler_wants_is_offered(asked):
    server, _ = asked(
        Told, {"subprotocols": ("v2", "v1"), "compression": False}, headers={"Origin": "http://test", "Cookie": "a=é"}
    )
    assert server.fields["sec-websocket-protocol"] == "v2, v1"
    assert (server.fields["origin"], server.fields["cookie"]) == ("http://test", "a=é")
    assert "sec-websocket-extensions" not in server.fields


def test_every_request_has_another_key(asked):
    assert len({asked()[0].key for _ in range(10)}) == 10


def test_an_answer_cut_at_every_byte(reactor, listener, stack, events):
    whole = None
    cut = 1
    while whole is None or cut < len(whole):
        handler = Told(events)
        goev.websocket.connect(reactor, f"ws://127.0.0.1:{listener.getsockname()[1]}", handler)
        server = ServerPeer(stack, listener)
        sent = []
        server.send = lambda *data, sent=sent: sent.extend(data)
        server.agree("X-More: 1", behind=text("hello", mask=None))
        whole = b"".join(sent)
        server.socket.sendall(whole[:cut])
        settle(reactor, 1)
        server.socket.sendall(whole[cut:])
        assert events.next() == ("open", handler)
        assert events.next() == ("message", "hello")
        server.reset()
        events.until("close")
        cut += 3


@pytest.mark.parametrize(
    ("fields", "subprotocol", "compressed"),
    [
        ([], None, False),
        (["Sec-WebSocket-Protocol: v1"], "v1", False),
        ([f"Sec-WebSocket-Extensions: {NO_TAKEOVER}"], None, True),
        (["Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover"], None, True),
        ([f"Sec-WebSocket-Extensions: {NO_TAKEOVER}; server_max_window_bits=10"], None, True),
    ],
)
def test_what_the_server_agrees_to_is_known(opened, fields, subprotocol, compressed):
    server, handler = opened(Told, {"subprotocols": ["v2", "v1"]}, *fields)
    assert (handler.subprotocol, handler.compressed) == (subprotocol, compressed)
    server.bits = 15
    handler.send(WORDS)
    assert server.message() == WORDS
    assert server.messages_deflated == compressed


def answering(*fields, status="101 Switching Protocols", **instead):
    """An answer to the handshake with that key, with other fields or without them."""

    def answer(key):
        values = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": accept_of(key), **instead}
        lines = [f"{name}: {value}" for name, value in values.items() if value is not None]
        return "\r\n".join([f"HTTP/1.1 {status}", *lines, *fields, "", ""]).encode()

    return answer


def test_white_space_around_fields_and_interim_answers_mean_nothing(asked, events):
    server, handler = asked(Told, {"subprotocols": ["v1"]})
    answer = answering("Sec-WebSocket-Protocol:\tv1 \t", **{ACCEPT: f"{accept_of(server.key)} "})(server.key)
    for part in (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", answer):
        server.send(part)
    server.send(text("hello", mask=None))
    assert events.next() == ("open", handler)
    assert events.next() == ("message", "hello")
    assert handler.subprotocol == "v1"


ACCEPT = "sec-websocket-accept"
FAILURES = [
    (answering(status="404 Not Found"), "the server refused the handshake: HTTP/1.1 404 Not Found"),
    (answering(status="1010 No"), "the server refused the handshake: HTTP/1.1 1010 No"),
    (answering(status="200 OK"), "the server refused the handshake"),
    (lambda key: answering()(key).replace(b"HTTP/1.1", b"HTTP/1.0"), "the server refused the handshake"),
    (lambda key: b"SSH-2.0-OpenSSH\r\n\r\n", "the server refused the handshake: SSH-2.0-OpenSSH"),
    (answering(upgrade=None), "no upgrade to a WebSocket"),
    (answering(upgrade="h2c"), "no upgrade to a WebSocket"),
    (answering(connection=None), "no upgrade to a WebSocket"),
    (answering(connection="close"), "no upgrade to a WebSocket"),
    (answering(**{ACCEPT: None}), "not one to this request"),
    (answering(**{ACCEPT: accept_of("another")}), "not one to this request"),
    (lambda key: answering(f"{ACCEPT}: {accept_of(key)}")(key), "not one to this request"),
    (answering("Sec-WebSocket-Protocol:"), "the sub-protocol '', which was not offered"),
    (answering("Sec-WebSocket-Protocol: v3"), "the sub-protocol 'v3', which was not offered"),
    (answering("Sec-WebSocket-Protocol: V1"), "the sub-protocol 'V1', which was not offered"),
    (answering("Sec-WebSocket-Protocol: v1, v2"), "the sub-protocol 'v1, v2', which was not offered"),
    (
        answering("Sec-WebSocket-Protocol: v1", "Sec-WebSocket-Protocol: v2"),
        "the sub-protocol 'v1, v2', which was not offered",
    ),
    *(
        (answering(f"Sec-WebSocket-Extensions: {extension}"), "extensions that were not offered or cannot be: ")
        for extension in (
            "x-webkit-deflate-frame",
            "permessage-deflate",
            "permessage-deflate; client_no_context_takeover",
            f"{NO_TAKEOVER}; client_max_window_bits=8",
            f"{NO_TAKEOVER}; server_max_window_bits=" + "9" * 5000,
            f"{NO_TAKEOVER}; unknown",
            f"{NO_TAKEOVER}; server_no_context_takeover",
            f"{NO_TAKEOVER}, {NO_TAKEOVER}",
        )
    ),
    (answering("no field", "Sec-WebSocket-Protocol: v3"), "malformed: a line that is no field"),
    (answering(*(f"X-{number}: 1" for number in range(200))), "malformed: got more than 100 headers"),
]


@pytest.mark.parametrize(("answer", "reason"), FAILURES, ids=lambda value: value[:50] if isinstance(value, str) else "")
def test_an_answer_that_is_no_agreement_is_a_failure(asked, events, answer, reason):
    server, handler = asked(Told, {"subprotocols": ["v1", "v2"]})
    server.send(answer(server.key))
    name, error = events.next()
    assert (name, type(error)) == ("failed", goev.websocket.ProtocolError)
    assert reason in str(error)
    assert server.rest() == b""
    assert events.names == ["failed"]
    assert handler.close_code is None
    with pytest.raises(goev.ConnectionClosed):
        handler.send("x")


def test_an_answer_that_is_too_long_is_a_failure(asked, events):
    server, _ = asked()
    server.send(b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 16_384)
    _, error = events.until("failed")
    assert isinstance(error, goev.InputOverflow)
    assert "limit=16384" in str(error)


def test_a_small_max_input_limits_the_answer(asked, events):
    server, _ = asked(max_input=1000)
    server.send(b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 1000)
    _, error = events.until("failed")
    assert isinstance(error, goev.InputOverflow)
    assert "limit=1000" in str(error)


def test_compression_that_was_not_offered_is_a_failure(asked, events):
    server, _ = asked(Told, {"compression": False})
    server.agree(f"Sec-WebSocket-Extensions: {NO_TAKEOVER}")
    assert "not offered" in str(events.until("failed")[1])


@pytest.mark.parametrize("how", ["finish", "reset"])
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 101 Switch"])
def test_a_server_that_leaves_within_the_handshake_is_a_failure(asked, events, how, said):
    server, _ = asked()
    server.send(said)
    getattr(server, how)()
    _, error = events.until("failed")
    if how == "finish":
        assert type(error) is goev.websocket.ProtocolError
        assert "the server closed during the handshake" in str(error)
    else:
        assert isinstance(error, ConnectionResetError)
    assert events.names == ["failed"]


def test_a_server_that_does_not_answer_is_given_up(asked, events):
    began = time.monotonic()
    server, _ = asked(timeout=0.2)
    server.send(b"HTTP/1.1 101 ")
    _, error = events.until("failed")
    assert 0.2 <= time.monotonic() - began < 5
    assert type(error) is TimeoutError
    assert "did not answer the handshake" in str(error)
    with pytest.raises(ConnectionResetError):
        server.rest()


def test_a_connection_that_is_refused_is_a_failure_and_the_handler_may_try_again(reactor, listener, stack, events):
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        handler = Told(events)
        goev.websocket.connect(reactor, f"ws://127.0.0.1:{nobody.getsockname()[1]}", handler)
        assert isinstance(events.until("failed")[1], ConnectionRefusedError)
    goev.websocket.connect(reactor, f"ws://127.0.0.1:{listener.getsockname()[1]}", handler)
    server = ServerPeer(stack, listener)
    server.send(b"HTTP/1.1 503 Busy\r\n\r\n")
    assert "503 Busy" in str(events.until("failed")[1])
    goev.websocket.connect(reactor, f"ws://127.0.0.1:{listener.getsockname()[1]}", handler)
    ServerPeer(stack, listener).agree()
    assert events.until("open") == ("open", handler)


def test_a_failure_that_nobody_takes_is_logged(reactor, listener, stack, log):
    class Silent(goev.websocket.Connection):
        pass

    goev.websocket.connect(reactor, f"ws://127.0.0.1:{listener.getsockname()[1]}", Silent())
    ServerPeer(stack, listener).send(b"HTTP/1.1 404 Not Found\r\n\r\n")
    record, printed = log.next()
    assert record.getMessage() == "Silent without on_connect_fail"
    assert "404 Not Found" in printed


def test_a_stop_within_the_handshake_is_told_as_one(events, listener, stack):
    with goev.Reactor() as reactor:
        reactor.start()
        goev.websocket.connect(reactor, f"ws://127.0.0.1:{listener.getsockname()[1]}", Told(events))
        server = ServerPeer(stack, listener)
        reactor.stop(grace=5)
        assert isinstance(events.until("failed")[1], ConnectionAbortedError)
        server.reset()


# --- arguments ---


@pytest.mark.parametrize(
    "url",
    [
        "wss://127.0.0.1/",
        "http://127.0.0.1/",
        "127.0.0.1:80",
        "",
        "ws:",
        "ws://",
        "ws:///path",
        "ws://:80/",
        "ws://user@127.0.0.1/",
        "ws://user:secret@127.0.0.1/",
        "ws://@127.0.0.1/",
        "ws://127.0.0.1/#fragment",
        "ws://127.0.0.1/#",
        "ws://127.0.0.1/a b",
        " ws://127.0.0.1/",
        "ws://127.0.0.1/ ",
        "ws://127.0.0.1/a\nb",
        "ws://127.0.0.1/a\r\nX: y",
        "ws://127.0.0.1/\0",
        "ws://127.0.0.1/é",
        "ws://127.0.0.1:0/",
        "ws://127.0.0.1:65536/",
        "ws://127.0.0.1:-1/",
        "ws://127.0.0.1:http/",
        "ws://[::1/",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_at_the_call(reactor, events, url):
    with pytest.raises(ValueError, match="url must be ws://host:port/path") as raised:
        goev.websocket.connect(reactor, url, Told(events))
    assert repr(url) in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "reason"),
    [
        ({"url": b"ws://127.0.0.1/"}, {}, TypeError, "url must be a str, not bytes"),
        ({"handler": goev.Connection()}, {}, TypeError, "handler must be a goev.websocket.Connection, not Connection"),
        ({}, {"headers": {"X": "a\r\nY: b"}}, ValueError, r"headers: 'X': 'a\\r\\nY: b' cannot be sent"),
        ({}, {"headers": {"X": "\0"}}, ValueError, "cannot be sent"),
        ({}, {"headers": {"X": "€"}}, ValueError, "cannot be sent"),
        ({}, {"headers": {"X: Y": "a"}}, ValueError, "cannot be sent"),
        ({}, {"headers": {"": "a"}}, ValueError, "cannot be sent"),
        ({}, {"headers": {"X": 1}}, TypeError, "headers must be of str"),
        ({}, {"headers": {"sec-websocket-KEY": "a"}}, ValueError, "sec-websocket-KEY is made by the handshake"),
        ({}, {"headers": {"Sec-WebSocket-Protocol": "a"}}, ValueError, "is made by the handshake"),
        ({}, {"timeout": 0}, ValueError, "timeout must be more than 0 seconds, not 0"),
        ({}, {"timeout": -1}, ValueError, "timeout must be from 0"),
        ({}, {"max_inptu": 1}, TypeError, "unexpected keyword argument 'max_inptu'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_at_the_call(reactor, events, arguments, options, error, reason):
    arguments = {"url": "ws://127.0.0.1/", "handler": Told(events), **arguments}
    with pytest.raises(error, match=reason):
        goev.websocket.connect(reactor, arguments["url"], arguments["handler"], **options)
    assert events.history == []


@pytest.mark.parametrize(
    ("attributes", "error", "reason"),
    [
        ({"max_message_size": 0}, ValueError, "max_message_size must be from 1"),
        ({"ping_interval": -1}, ValueError, "ping_interval must be from 0"),
        ({"subprotocols": "chat"}, TypeError, "subprotocols must be a sequence of str, not 'chat'"),
        ({"subprotocols": ["a\r\nb"]}, ValueError, "is no token"),
    ],
)
def test_attributes_that_make_no_sense_are_refused_at_the_call(reactor, events, attributes, error, reason):
    handler = type("Wrong", (Told,), attributes)(events)
    with pytest.raises(error, match=reason):
        goev.websocket.connect(reactor, "ws://127.0.0.1/", handler)


def test_a_handler_is_connected_once(opened, reactor, events):
    _, handler = opened()
    with pytest.raises(ValueError, match="a handler object serves one connection, once"):
        goev.websocket.connect(reactor, "ws://127.0.0.1/", handler)


def test_a_handler_is_not_connected_while_it_connects(asked, reactor):
    _, handler = asked()
    with pytest.raises(ValueError, match="a handler object serves one connection, once"):
        goev.websocket.connect(reactor, "ws://127.0.0.1/", handler)


def test_a_connector_does_not_connect_websockets(reactor, events):
    handler = Told(events)
    for connect in (goev.Connector(reactor).connect, lambda *args: goev.connect(reactor, *args)):
        with pytest.raises(TypeError, match=r"goev\.websocket\.connect\(\)"):
            connect("127.0.0.1:80", handler)


# --- behind the handshake ---


def test_everything_is_masked_and_masks_differ(opened):
    server, handler = opened()
    for number in range(50):
        handler.send(f"{number}")
        handler.send(bytes(5000))
        handler.ping()
        assert [server.message(), server.message(), server.next().opcode] == [f"{number}", bytes(5000), PING]
    server.send(frame(PING, b"?", mask=None))
    assert server.next().payload == b"?"
    handler.close()
    assert server.next().opcode == CLOSE
    assert len(server.masks) == 152
    assert len(set(server.masks)) > 149


def test_messages_come_as_on_a_server(opened, events):
    server, _ = opened(Echo, None, f"Sec-WebSocket-Extensions: {NO_TAKEOVER}")
    server.bits = 15
    stream = [
        text("héllo", mask=None),
        frame(BINARY, b"\0" * 70_000, mask=None),
        fragments(TEXT, "grüße".encode()[:3], "grüße".encode()[3:], between=frame(PING, b"?", mask=None), mask=None),
        frame(TEXT, deflated(WORDS.encode()), rsv=4, mask=None),
    ]
    server.send(*stream)
    assert server.message() == "héllo"
    assert server.message() == b"\0" * 70_000
    last = server.next()
    assert (last.opcode, last.payload) == (PONG, b"?")
    assert server.message() == "grüße"
    assert server.message() == WORDS
    server.send(close(3000, "bye", mask=None))
    assert server.farewell() == (3000, "")
    assert events.until("close") == ("close", None, 3000, "bye")
    assert events.names == ["open", *["message"] * 4, "close"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (text("x"), 1002),
        (frame(PING), 1002),
        (frame(CONTINUATION, mask=None), 1002),
        (frame(TEXT, b"\xff", mask=None), 1007),
        (frame(BINARY, bytes(1001), mask=None), 1009),
    ],
)
def test_a_violation_of_the_server_is_answered_with_its_code(opened, events, data, code):
    server, _ = opened(Told, {"max_message_size": 1000})
    server.send(data)
    assert server.farewell()[0] == code
    _, error, close_code, _ = events.until("close")
    assert (type(error), close_code) == (goev.websocket.ProtocolError, code)


def test_a_silent_server_is_given_up(opened, events):
    server, _ = opened(Told, {"ping_interval": 0.05, "ping_timeout": 0.1})
    assert server.next().opcode == PING
    assert server.farewell()[0] == 1008
    assert isinstance(events.until("close")[1], goev.PingTimeout)


def test_threads_may_send_on_a_client_too(opened):
    server, handler = opened()

    def send(thread):
        for number in range(50):
            handler.send(f"{thread} {number} " + "x" * (number * 200))

    threads = [in_thread(send, thread) for thread in range(8)]
    last = dict.fromkeys(range(8), -1)
    for _ in range(400):
        thread, number, rest = server.message().split(" ")
        assert int(number) == last[int(thread)] + 1
        assert rest == "x" * (int(number) * 200)
        last[int(thread)] = int(number)
    for thread in threads:
        thread.result(PATIENCE)


# --- goev with itself ---


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


# --- with another implementation ---

OURS = {"max_message_size": 2 << 20, "subprotocols": ("v1",)}


def test_a_client_is_no_member_of_a_group(opened):
    """One frame for all has no mask, or the same one."""
    server, handler = opened()
    with pytest.raises(TypeError, match="a WebSocket of a client cannot be a member: it masks each message"):
        goev.Group(goev.websocket.Framing()).add(handler)
    handler.send("alone")
    assert server.message() == "alone"


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
