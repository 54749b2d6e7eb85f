"""A server agrees to each proper handshake, however it is written or cut, and refuses all others."""

import base64
import time

import pytest

import goev
from http_support import get
from support import settle
from websocket_support import (
    BINARY,
    KEY,
    PING,
    PONG,
    TEXT,
    ClientPeer,
    Echo,
    Frame,
    closed,
    ended,
    fragments,
    frame,
    handshake,
    text,
)


def test_a_handshake_is_answered_and_the_websocket_is_open(connected, events):
    client = connected()
    answer = client.open()
    assert set(answer) == {"upgrade", "connection", "sec-websocket-accept"}
    handler = events.until("open")[1]
    client.send(text("hello"))
    assert client.next() == Frame(TEXT, b"hello")
    assert (handler.subprotocol, handler.compressed, handler.close_code, handler.close_reason) == (
        None,
        False,
        None,
        "",
    )
    assert events.names == ["open", "message"]


def test_the_handler_knows_the_request(opened):
    class Asks(Echo):
        def on_handshake(self, request):
            self.events("handshake", request.path, request.query, request.headers["cookie"])

        def on_open(self):
            self.events("open", self)
            self.send(f"{self.request.path} {self.remote_address[1]}")

    client, handler = opened(Asks, None, "Cookie: a=b", "X-Other: 1")
    assert client.message() == f"/chat {client.socket.getsockname()[1]}"
    assert handler.events.history[0] == ("handshake", "/chat", "", "a=b")
    assert handler.request.headers["x-other"] == "1"


@pytest.mark.parametrize(
    ("fields", "instead"),
    [
        ((), {"upgrade": "WebSocket"}),
        ((), {"upgrade": "h2c, websocket"}),
        (("Upgrade: websocket",), {"upgrade": "h2c"}),
        ((), {"connection": "keep-alive, Upgrade"}),
        ((), {"connection": "UPGRADE"}),
        (("Connection: upgrade",), {"connection": "keep-alive"}),
        (("Content-Length: 0",), {}),
        ((), {"target": "http://test/chat?a=b"}),
        ((), {"key": f"  {KEY}\t"}),
    ],
)
def test_a_handshake_may_be_written_in_many_ways(opened, connected, fields, instead):
    client = connected()
    client.open(*fields, **instead)
    client.send(text("x"))
    assert client.message() == "x"


@pytest.mark.parametrize(
    ("status", "tells", "request_bytes"),
    [
        (405, ("allow", "GET"), handshake(method="POST")),
        (405, ("allow", "GET"), handshake(method="OPTIONS")),
        (426, ("upgrade", "websocket"), handshake(version="1.0")),
        (426, ("upgrade", "websocket"), get("/")),
        (426, ("upgrade", "websocket"), handshake(upgrade=None)),
        (426, ("upgrade", "websocket"), handshake(upgrade="h2c")),
        (426, ("upgrade", "websocket"), handshake(connection=None)),
        (426, ("upgrade", "websocket"), handshake(connection="keep-alive")),
        (426, ("sec-websocket-version", "13"), handshake(version_=None, **{"sec-websocket-version": "8"})),
        (426, ("sec-websocket-version", "13"), handshake(**{"sec-websocket-version": None})),
        (426, ("sec-websocket-version", "13"), handshake(**{"sec-websocket-version": "13, 8"})),
        (400, None, handshake(key=None)),
        (400, None, handshake(key="")),
        (400, None, handshake(key="not base64 at all!!!!!!!")),
        (400, None, handshake(key=base64.b64encode(bytes(15)).decode())),
        (400, None, handshake(key=base64.b64encode(bytes(17)).decode())),
        (400, None, handshake(key=KEY.rstrip("="))),
        (400, None, handshake(key=f"{KEY}, {KEY}")),
        (400, None, handshake(f"Sec-WebSocket-Key: {KEY}")),
    ],
    ids=lambda value: value.decode().replace("\r\n", "|")[:60] if isinstance(value, bytes) else None,
)
def test_what_is_no_proper_handshake_is_refused_and_the_handler_not_told(
    connected, events, status, tells, request_bytes
):
    client = connected()
    client.send(request_bytes)
    answered, fields = client.answer()
    assert (answered, fields["content-type"].split(";")[0]) == (status, "text/plain")
    assert fields["body"].endswith("\n")
    if tells is not None:
        assert fields[tells[0]] == tells[1]
    ended(client, events)


@pytest.mark.parametrize(
    ("status", "request_bytes"),
    [
        (400, b"\r\n\r\nno HTTP\r\n\r\n"),
        (400, handshake(host=None)),
        (413, handshake("Content-Length: 5") + b"12345"),
        (413, handshake("Transfer-Encoding: chunked") + b"5\r\n12345\r\n0\r\n\r\n"),
        (431, handshake("X: " + "y" * 100_000)),
    ],
)
def test_what_is_no_proper_request_is_refused_too(connected, events, status, request_bytes):
    client = connected()
    client.send(request_bytes)
    assert client.answer()[0] == status
    ended(client, events)


def test_a_websocket_server_goes_on_after_refusals(connected, stack, events):
    first = connected()
    for _ in range(20):
        client = ClientPeer(stack, first.server)
        client.send(get("/"))
        assert client.answer()[0] == 426
    first.open()
    first.send(text("x"))
    assert first.message() == "x"
    assert events.names == ["open", "message"]


def test_a_request_for_something_else_is_told_that_the_connection_ends(connected, events):
    client = connected(Echo)
    client.send(get("/"))
    status, fields = client.answer()
    assert (status, fields["upgrade"], fields["connection"]) == (426, "websocket", "upgrade, close")
    ended(client, events)


BEHIND = text("first") + fragments(BINARY, b"se", b"cond", between=frame(PING, b"?")) + frame(PONG, b"!")


def test_frames_right_behind_the_handshake_come_after_on_open(connected, events):
    client = connected()
    client.open(behind=BEHIND)
    assert [client.next(), client.next()] == [Frame(TEXT, b"first"), Frame(PONG, b"?")]
    assert client.next() == Frame(BINARY, b"second")
    assert events.until("pong") == ("pong", b"!")
    assert events.names == ["open", "message", "message", "pong"]


@pytest.mark.parametrize("garbage", [get("/"), b"\r\n", bytes(100), b"\xff" * 3])
def test_garbage_behind_the_handshake_is_a_violation(connected, events, garbage):
    client = connected()
    client.open(behind=garbage)
    assert client.farewell()[0] == 1002
    assert closed(events)[0] is goev.websocket.ProtocolError
    assert events.names == ["open", "close"]


def test_a_handshake_cut_at_every_byte(connected, stack, events):
    first = connected()
    stream = handshake("Sec-WebSocket-Extensions: permessage-deflate") + text("hello")
    for cut in range(1, len(stream)):
        client = ClientPeer(stack, first.server)
        client.send(stream[:cut])
        settle(client.server.reactor, 1)
        client.send(stream[cut:])
        assert client.answer()[0] == 101, cut
        assert client.message() == "hello"
        client.reset()
    first.send_bytewise(stream)
    assert first.answer()[0] == 101
    assert first.message() == "hello"


def test_a_handshake_that_takes_too_long_ends_the_connection_untold(connected, stack, events):
    began = time.monotonic()
    slow, quick = connected(Echo, {"open_timeout": 0.2}), None
    slow.send(handshake()[:-1])
    quick = ClientPeer(stack, slow.server)
    quick.open()
    with pytest.raises(ConnectionResetError):
        slow.rest()
    assert time.monotonic() - began >= 0.2
    # A connection that is open by then stays open.
    assert quick.is_silent(0.2)
    quick.send(text("x"))
    assert quick.message() == "x"
    assert events.names == ["open", "message"]


def test_a_client_that_leaves_within_the_handshake_is_not_told_of(connected, stack, events):
    client = connected()
    client.send(handshake()[:50])
    client.finish()
    client.rest()
    other = ClientPeer(stack, client.server)
    other.send(handshake()[:50])
    other.reset()
    settle(client.server.reactor)
    assert events.history == []
