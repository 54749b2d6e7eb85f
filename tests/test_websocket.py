"""WebSocket servers: the handshake, messages whatever the network does to them, and how each of them ends."""

import base64
import gc
import random
import sys
import threading
import time
import weakref
import zlib

import pytest

import goev
from http_support import get, post, post_chunked
from support import PATIENCE, Child, Client, Events, eventually, held, in_thread, on_poller, resident, settle
from websocket_support import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    MASK,
    NO_TAKEOVER,
    PING,
    PONG,
    TEXT,
    ClientPeer,
    Frame,
    close,
    deflated,
    fragments,
    frame,
    handshake,
    head,
    inflated,
    masked,
    text,
)

MEGABYTE = 1 << 20
NOISE = random.Random(7).randbytes(MEGABYTE)
WORDS = " ".join(f"user{number * number % 97} is at {number}" for number in range(2000))
SMALL_BUFFERS = {"send_buffer_size": 65536, "receive_buffer_size": 65536}
ORDERLY = ("close", None, 1000, "")
SIGN_OF_LIFE = Frame(PING, b"goev: there?")  # asks for one


class Told(goev.websocket.Connection):
    """Reports everything."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def on_open(self):
        self.events("open", self)

    def on_message(self, message):
        self.events("message", message)

    def on_pong(self, data):
        self.events("pong", data)

    def on_close(self, error):
        self.events("close", error, self.close_code, self.close_reason)


class Echo(Told):
    def on_message(self, message):
        super().on_message(message)
        self.send(message)


@pytest.fixture
def connected(start, stack, events):
    """``connected(kind, attributes, **options)``: a server of that kind with these attributes, and a client of it."""

    def connect(kind=Echo, attributes=None, **options):
        kind = type(kind.__name__, (kind,), attributes or {})
        return ClientPeer(stack, start(lambda: kind(events), **options))

    return connect


@pytest.fixture
def opened(connected, events):
    """``opened(kind, attributes, *fields, **options)``: a client after its handshake, and the handler."""

    def connect(kind=Echo, attributes=None, *fields, **options):
        client = connected(kind, attributes, **options)
        client.open(*fields)
        return client, events.until("open")[1]

    return connect


def closed(events):
    """The end as the handler saw it: type of the error, code, reason."""
    _, error, code, reason = events.until("close")
    return type(error), code, reason


def ended(client, events):
    """Nothing but the end of the stream comes, and the handler was told nothing."""
    assert client.rest() == b""
    settle(client.server.reactor)
    assert events.history == []


# --- the handshake ---


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


@pytest.mark.parametrize(
    ("origins", "origin", "is_let_in"),
    [
        (None, "https://anywhere.example", True),
        (None, None, True),
        ({"https://example.org"}, "https://example.org", True),
        (["https://example.org", None], None, True),
        ({"https://example.org"}, "https://example.org.evil.example", False),
        ({"https://example.org"}, "http://example.org", False),
        ({"https://example.org"}, None, False),
        ((), "https://example.org", False),
    ],
)
def test_only_the_origins_that_are_allowed_get_in(connected, events, origins, origin, is_let_in):
    client = connected(Echo, {"origins": origins})
    client.send(handshake(*([] if origin is None else [f"Origin: {origin}"])))
    status, fields = client.answer()
    assert status == (101 if is_let_in else 403)
    if not is_let_in:
        assert fields["body"] == "not from this origin\n"
        ended(client, events)


def test_a_handler_refuses_with_403(connected, events):
    class Picks(Echo):
        def on_handshake(self, request):
            return request.path == "/chat"

    client = connected(Picks)
    client.send(handshake(target="/other"))
    status, fields = client.answer()
    assert (status, fields["connection"]) == (403, "close")
    ended(client, events)


def test_a_request_for_something_else_is_told_that_the_connection_ends(connected, events):
    client = connected(Echo)
    client.send(get("/"))
    status, fields = client.answer()
    assert (status, fields["upgrade"], fields["connection"]) == (426, "websocket", "upgrade, close")
    ended(client, events)


class Guarded(Echo):
    """Answers by itself who does not say who it is."""

    def on_handshake(self, request):
        if "authorization" not in request.headers:
            assert not request.answered
            request.respond(401, {"www-authenticate": "Basic"}, b"who are you?\n")
            assert request.answered


def test_a_handler_answers_a_handshake_by_itself(connected, events):
    client = connected(Guarded)
    client.send(handshake())
    status, fields = client.answer()
    assert (status, fields["www-authenticate"], fields["body"]) == (401, "Basic", "who are you?\n")
    ended(client, events)


def test_a_handler_answers_an_upgrade_by_itself_and_the_connection_goes_on(connected, events):
    client = connected(Site, {"make": Guarded})
    client.send(handshake())
    assert client.answer()[0] == 401
    assert events.next() == ("upgraded", False)
    client.open("Authorization: Basic eDp5")
    client.send(text("hello"))
    assert client.message() == "hello"


def test_a_handler_that_raises_in_the_handshake_gets_500_and_a_line_in_the_log(connected, events, log):
    class Fails(Echo):
        def on_handshake(self, request):
            raise RuntimeError("not today")

    client = connected(Fails)
    client.send(handshake())
    assert client.answer()[0] == 500
    ended(client, events)
    assert "not today" in log.next()[1]


@pytest.mark.parametrize("answer", [0, "yes", [1]])
def test_a_handler_must_answer_the_handshake_with_a_bool_or_none(connected, events, log, answer):
    client = connected(Echo, {"on_handshake": lambda self, request: answer})
    client.send(handshake())
    assert client.answer()[0] == 500
    ended(client, events)
    assert f"on_handshake must return None, True or False, not {type(answer).__name__}" in log.next()[1]


@pytest.mark.parametrize(
    ("ours", "offered", "chosen"),
    [
        ((), ["chat"], None),
        (("v2", "v1"), [], None),
        (("v2", "v1"), ["v1"], "v1"),
        (("v2", "v1"), ["v1, v2"], "v2"),
        (["v2", "v1"], ["v1", "v0 ,v2"], "v2"),
        (("v2", "v1"), ["V2, v3"], None),
    ],
)
def test_the_first_of_our_subprotocols_that_is_offered_is_chosen(connected, events, ours, offered, chosen):
    client = connected(Echo, {"subprotocols": ours})
    answer = client.open(*(f"Sec-WebSocket-Protocol: {value}" for value in offered))
    assert answer.get("sec-websocket-protocol") == chosen
    assert events.until("open")[1].subprotocol == chosen


@pytest.mark.parametrize(
    ("offers", "agreed"),
    [
        ([], None),
        (["permessage-deflate"], ""),
        (["permessage-deflate; client_max_window_bits"], ""),
        (["permessage-deflate; client_max_window_bits=8"], ""),
        (["permessage-deflate;server_no_context_takeover ;  client_no_context_takeover"], ""),
        (["permessage-deflate; server_max_window_bits=10"], "; server_max_window_bits=10"),
        (['permessage-deflate; server_max_window_bits="10"'], "; server_max_window_bits=10"),
        (["permessage-deflate; server_max_window_bits=9; client_max_window_bits"], "; server_max_window_bits=9"),
        (["permessage-deflate; server_max_window_bits=8"], None),
        (["permessage-deflate; server_max_window_bits=8, permessage-deflate"], ""),
        (["permessage-deflate; server_max_window_bits=8", "permessage-deflate; client_max_window_bits"], ""),
        (["x-webkit-deflate-frame, permessage-deflate"], ""),
        (["x-webkit-deflate-frame"], None),
        (["permessage-deflate; server_max_window_bits=16"], None),
        (["permessage-deflate; server_max_window_bits=7"], None),
        (["permessage-deflate; server_max_window_bits=010"], None),
        (["permessage-deflate; server_max_window_bits"], None),
        (["permessage-deflate; server_max_window_bits="], None),
        (["permessage-deflate; client_max_window_bits=0"], None),
        (["permessage-deflate; client_max_window_bits="], None),
        (["permessage-deflate; server_no_context_takeover=1"], None),
        (["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], None),
        (["permessage-deflate; server_max_window_bits=10; server_max_window_bits=10"], None),
        (["permessage-deflate; unknown"], None),
        (["permessage-deflate; unknown, permessage-deflate"], ""),
    ],
)
def test_compression_is_agreed_on_by_the_first_offer_that_can_be_met(connected, events, offers, agreed):
    client = connected()
    answer = client.open(*(f"Sec-WebSocket-Extensions: {offer}" for offer in offers))
    assert answer.get("sec-websocket-extensions") == (None if agreed is None else NO_TAKEOVER + agreed)
    assert events.until("open")[1].compressed is (agreed is not None)


def test_a_window_that_was_asked_for_is_answered_also_when_it_is_the_largest(connected):
    answer = connected().open("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=15")
    assert answer["sec-websocket-extensions"] == f"{NO_TAKEOVER}; server_max_window_bits=15"


def test_a_window_of_five_thousand_digits_is_declined(connected):
    offer = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=" + "9" * 5000
    assert "sec-websocket-extensions" not in connected().open(offer)


def test_a_server_without_compression_agrees_to_none(connected):
    client = connected(Echo, {"compression": False})
    answer = client.open("Sec-WebSocket-Extensions: permessage-deflate")
    assert "sec-websocket-extensions" not in answer
    client.send(frame(TEXT, deflated(b"x"), rsv=4))
    assert client.farewell()[0] == 1002


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
    # Who is open by then stays so.
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


# --- from a server of HTTP ---


class Site(goev.http.Connection):
    """Serves pages, and a WebSocket at /chat."""

    make = Echo

    def __init__(self, events) -> None:
        self.events = events

    def on_request(self, request):
        if request.path == "/chat":
            self.events("upgraded", goev.websocket.upgrade(request, self.make(self.events)))
        elif request.path == "/later":
            self.events("request", request)
        else:
            request.respond(200, None, request.path.encode())

    def on_close(self, error):
        self.events("http close", error)


def test_a_request_is_upgraded(connected, events):
    client = connected(Site)
    client.send(get("/page") + handshake() + text("hello"))
    status, fields = client.answer()
    assert (status, fields["body"]) == (200, "/page")
    assert client.answer()[0] == 101
    assert client.message() == "hello"
    client.send(close())
    assert client.farewell() == (1000, "")
    events.until("close")
    assert events.names == ["upgraded", "http close", "open", "message", "close"]
    assert events.history[:2] == [("upgraded", True), ("http close", None)]


def test_who_is_closed_before_it_opens_says_so_too(connected, events):
    class Closes(Site):
        def on_request(self, request):
            handler = self.make(self.events)
            goev.websocket.upgrade(request, handler)
            handler.close(4001, "not you")

    client = connected(Closes)
    client.send(handshake())
    assert client.answer()[0] == 101
    assert client.farewell() == (4001, "not you")
    assert events.until("close") == ("close", None, 4001, "not you")
    assert events.names == ["http close", "open", "close"]


def test_a_request_that_is_no_handshake_is_answered_and_the_connection_goes_on(connected, events):
    client = connected(Site)
    for status, request in [(426, get("/chat")), (400, handshake(key="x")), (405, handshake(method="PUT"))]:
        client.send(request)
        assert client.answer()[0] == status
        assert events.next() == ("upgraded", False)
    client.send(get("/page"))
    assert client.answer()[1]["body"] == "/page"
    client.open()
    client.send(text("hello"))
    assert client.message() == "hello"


def test_a_handshake_behind_requests_without_an_answer_is_refused_in_its_turn(connected, events):
    client = connected(Site)
    client.send(get("/later") + handshake())
    later = events.next()[1]
    assert events.next() == ("upgraded", False)
    assert client.is_silent()
    later.respond(200, None, b"late")
    assert client.answer()[1]["body"] == "late"
    status, fields = client.answer()
    assert (status, fields["body"]) == (
        400,
        "a WebSocket cannot follow a body, nor requests that are not answered yet\n",
    )
    client.open()
    client.send(text("hello"))
    assert client.message() == "hello"


def test_a_connection_with_answers_due_is_not_handed_over(connected, events):
    class Hands(Site):
        def on_request(self, request):
            super().on_request(request)
            if request.path == "/switch":
                with pytest.raises(RuntimeError, match="answers are due"):
                    request.hand_over(goev.Connection())
                events("refused")

    client = connected(Hands)
    client.send(get("/later") + get("/switch"))
    later = events.next()[1]
    events.until("refused")
    later.respond(200, None, b"late")
    assert [client.answer()[1]["body"], client.answer()[1]["body"]] == ["late", "/switch"]


class Streaming(Site):
    def on_body(self, request, piece):
        self.events("body", piece)


@pytest.mark.parametrize(
    "body",
    [post("/chat", text("smuggled")), post_chunked("/chat", text("smuggled"))],
    ids=["of known length", "in chunks"],
)
def test_a_body_is_not_taken_for_frames(connected, events, body):
    client = connected(Streaming)
    fields, content = body.split(b"\r\n\r\n", 1)
    field = fields.split(b"\r\n")[-1].decode()
    client.send(handshake(field) + content)
    assert client.answer()[0] == 400
    assert events.next() == ("upgraded", False)
    assert events.next()[1] in (text("smuggled"), b"")
    client.open()  # of a request without one
    client.send(text("hello"))
    assert client.message() == "hello"


def test_a_connection_is_not_handed_over_amid_a_body(connected, events):
    class Hands(Streaming):
        def on_request(self, request):
            request.respond(101, {"upgrade": "other", "connection": "upgrade"})
            with pytest.raises(RuntimeError, match="in the middle of a request"):
                request.hand_over(goev.Connection())

        def on_body(self, request, piece):
            if piece == b"":
                request.hand_over(Raw())

    class Raw(goev.Connection):
        def on_read(self):
            events("raw", self.read())

    client = connected(Hands)
    client.send(post("/", b"body", "Upgrade: other", "Connection: upgrade") + b"behind it")
    assert client.answer()[0] == 101
    assert events.until("raw") == ("raw", b"behind it")


def test_an_upgrade_is_for_the_thread_of_the_poller(connected, events):
    client = connected(Site)
    client.send(handshake(target="/later"))
    request = events.next()[1]
    handler = Echo(events)
    with pytest.raises(goev.WrongThread):
        goev.websocket.upgrade(request, handler)
    assert client.is_silent()
    on_poller(client.server.reactor, goev.websocket.upgrade, request, handler)
    assert client.answer()[0] == 101
    client.send(text("hello"))
    assert client.message() == "hello"


def test_a_handler_serves_one_websocket_only(connected, events, stack, log):
    shared = Echo(events)
    client = connected(Site, {"make": lambda self, events: shared})
    client.open()
    other = ClientPeer(stack, client.server)
    other.send(handshake())
    assert other.answer()[0] == 500
    assert "a handler object serves one connection, once" in log.next()[1]
    client.send(text("hello"))
    assert client.message() == "hello"


def test_what_is_no_websocket_handler_is_refused(connected, events, log):
    client = connected(Site, {"make": lambda self, events: goev.Connection()})
    client.send(handshake())
    assert client.answer()[0] == 500
    assert "handler must be a goev.websocket.Connection, not Connection" in log.next()[1]


# --- attributes and callbacks that make no sense ---

WRONG = [
    ({"max_message_size": 0}, ValueError, "max_message_size must be from 1 to 1073741824, not 0"),
    ({"max_message_size": 1 << 31}, ValueError, "max_message_size must be from 1 to 1073741824, not 2147483648"),
    ({"max_message_size": "1 MB"}, TypeError, "max_message_size must be an int, not str"),
    ({"ping_interval": -1}, ValueError, "ping_interval must be from 0 to 315360000 seconds, not -1"),
    ({"ping_interval": 0}, ValueError, "ping_interval must be more than 0 seconds, not 0"),
    ({"ping_interval": "20"}, TypeError, "ping_interval must be a number or None, not str"),
    ({"ping_timeout": float("nan")}, ValueError, "ping_timeout must be from 0 to 315360000 seconds, not NaN"),
    ({"ping_timeout": 0.0}, ValueError, "ping_timeout must be more than 0 seconds, not 0"),
    ({"open_timeout": -1}, ValueError, "open_timeout must be from 0 to 315360000 seconds, not -1"),
    ({"open_timeout": None}, TypeError, "open_timeout must be a number, not None"),
    ({"subprotocols": "chat"}, TypeError, "subprotocols must be a sequence of str, not 'chat'"),
    ({"subprotocols": [b"chat"]}, TypeError, "subprotocols must be a sequence of str, not [b'chat']"),
    ({"subprotocols": ["a, b"]}, ValueError, "subprotocols: 'a, b' is no token"),
    (
        {"origins": "https://example.org"},
        TypeError,
        "origins must be a collection of str or None, not 'https://example.org'",
    ),
]


@pytest.mark.parametrize(("attributes", "error", "reason"), WRONG, ids=lambda value: str(value)[:40])
def test_attributes_that_make_no_sense_are_told_and_no_handshake_agreed_to(
    connected, stack, events, log, attributes, error, reason
):
    client = connected(Echo, attributes)
    ended(client, events)
    assert f"{error.__name__}: {reason}" in log.next()[1]
    site = connected(Site, {"make": type("Wrong", (Echo,), attributes)})
    site.send(handshake())
    assert site.answer()[0] == 500
    assert f"{error.__name__}: {reason}" in log.next()[1]


def test_a_limit_that_the_handshake_spoils_is_told_before_it_is_agreed_to(connected, events, log):
    def spoil(self, request):
        self.max_message_size = "x"

    client = connected(Site, {"make": type("Spoils", (Echo,), {"on_handshake": spoil})})
    client.send(handshake())
    assert client.answer()[0] == 500
    assert "TypeError: max_message_size must be an int, not str" in log.next()[1]
    assert "open" not in events.names


@pytest.mark.parametrize("name", ["on_handshake", "on_open", "on_message", "on_pong", "on_close"])
def test_a_callback_must_be_a_plain_function(events, name):
    async def callback(self, *_):
        pass

    kind = type("Chat", (Echo,), {name: callback})
    with pytest.raises(TypeError, match=rf"Chat\.{name} must be a plain function"):
        kind(events)


# --- the contract ---


def test_on_open_comes_first_and_once_and_on_close_last_and_once(opened, events):
    client, _ = opened()
    client.send(text("one") + frame(PONG) + text("two") + close() + text("never"))
    assert [client.message(), client.message()] == ["one", "two"]
    assert client.farewell() == (1000, "")
    assert events.until("close") == ORDERLY
    assert events.names == ["open", "message", "pong", "message", "close"]


def test_what_on_open_sends_comes_right_behind_the_handshake(connected):
    class Greets(Echo):
        def on_open(self):
            self.send("welcome")
            self.ping(b"?")
            super().on_open()

    client = connected(Greets)
    client.open(behind=text("hello"))
    assert client.message() == "welcome"
    assert client.next() == Frame(PING, b"?")
    assert client.message() == "hello"


@pytest.mark.parametrize("name", ["on_open", "on_message", "on_pong"])
def test_false_closes_with_1000(connected, events, name):
    client = connected(Told, {name: lambda self, *_: False})
    client.open(behind=text("x") + frame(PONG))
    assert client.farewell() == (1000, "")
    assert events.until("close") == ORDERLY


@pytest.mark.parametrize("name", ["on_open", "on_message", "on_pong"])
def test_an_exception_closes_with_1011(connected, events, log, name):
    def fails(self, *_):
        raise LookupError("of the test")

    client = connected(Told, {name: fails})
    client.open(behind=text("x") + frame(PONG) + text("never"))
    assert client.farewell() == (1011, "")
    _, error, code, reason = events.until("close")
    assert (repr(error), code, reason) == ("LookupError('of the test')", 1011, "")
    assert f"exception in {name} of Told" in log.next()[1]


def test_a_stop_closes_with_1001(opened, events):
    client, _ = opened()
    client.server.reactor.stop(grace=5)
    assert client.farewell() == (1001, "")
    client.reset()
    assert events.until("close") == ("close", None, 1001, "")


def test_a_stop_at_once_closes_with_1001_too(opened, events):
    client, _ = opened(Told, {"on_message": lambda self, message: sys.exit(3)})
    client.send(text("x"))
    assert client.farewell() == (1001, "")
    client.reset()
    assert events.until("close") == ("close", None, 1001, "")
    with pytest.raises(SystemExit):
        client.server.reactor.join(PATIENCE)


def test_a_handler_may_say_goodbye_itself(opened, events):
    client, _ = opened(Echo, {"on_stopping": lambda self: self.close(1012, "restart")})
    client.server.reactor.stop(grace=5)
    assert client.farewell() == (1012, "restart")
    client.reset()
    assert events.until("close") == ("close", None, 1012, "restart")


def test_callbacks_run_on_the_thread_of_the_poller(opened, events):
    class Threads(Echo):
        def on_message(self, message):
            self.events("thread", threading.get_ident())

    client, handler = opened(Threads)
    client.send(text("x"))
    assert events.until("thread")[1] == on_poller(handler, threading.get_ident)


# --- messages ---


@pytest.mark.parametrize(
    "message",
    ["", "x", "κόσμε €😀\0", "x" * 125, "x" * 126, "é" * 32_767, "x" * 65_535, "x" * 65_536, b"", b"\0\xff", NOISE],
    ids=lambda message: f"{type(message).__name__} {len(message)}",
)
def test_a_message_is_str_or_bytes_as_it_was_sent(opened, events, message):
    client, _ = opened(Echo, None, **SMALL_BUFFERS)
    opcode, data = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
    sending = in_thread(client.send, frame(opcode, data))
    assert client.message() == message
    sending.result(PATIENCE)
    assert events.until("message") == ("message", message)


@pytest.mark.parametrize(
    "parts", [[b"one"], [b"", b""], [b"a", b"", b"b"], [b"\xe2", b"\x82\xac"], [b"x" * 70_000] * 3]
)
def test_fragments_are_put_together_and_pings_between_them_answered(opened, parts):
    client, _ = opened()
    client.send(fragments(TEXT, *parts, between=frame(PING, b"1") + frame(PONG) + frame(PING, b"2")))
    for _ in parts[1:]:
        assert [client.next(), client.next()] == [Frame(PONG, b"1"), Frame(PONG, b"2")]
    assert client.message() == b"".join(parts).decode()


STREAM = [
    text("héllo €"),
    frame(BINARY, bytes(range(200))),
    frame(PING, b"ping"),
    fragments(TEXT, "grüße".encode()[:3], b"", "grüße".encode()[3:], between=frame(PING)),
    frame(TEXT, b"", mask=b"\0\0\0\0"),
    frame(BINARY, deflated(b"deflated " * 20), rsv=4),
    fragments(BINARY, deflated(b"in parts " * 20)[:7], deflated(b"in parts " * 20)[7:], rsv=4),
]
REPLIES = [
    Frame(TEXT, "héllo €".encode()),
    Frame(BINARY, bytes(range(200))),
    Frame(PONG, b"ping"),
    Frame(PONG, b""),
    Frame(PONG, b""),
    Frame(TEXT, "grüße".encode()),
    Frame(TEXT, b""),
    Frame(BINARY, b"deflated " * 20),
    Frame(BINARY, b"in parts " * 20),
]


def test_a_stream_cut_at_every_byte_means_the_same(opened):
    client, _ = opened(Echo, None, "Sec-WebSocket-Extensions: permessage-deflate")
    stream = b"".join(STREAM)
    for cut in range(len(stream)):
        client.send(stream[:cut])
        settle(client.server.reactor, 1)
        client.send(stream[cut:])
        assert [client.next() for _ in REPLIES] == REPLIES, cut
    client.send_bytewise(stream)
    assert [client.next() for _ in REPLIES] == REPLIES


def test_many_messages_in_one_segment_come_in_order(opened, events):
    client, _ = opened()
    messages = [f"{number}" for number in range(5000)]
    sending = in_thread(client.send, b"".join(map(text, messages)))
    assert [client.message() for _ in messages] == messages
    sending.result(PATIENCE)
    assert [message for _, message in events.of("message")] == messages


@pytest.mark.parametrize("cut", [None, 600])
def test_a_message_may_have_max_message_size_and_not_one_byte_more(opened, events, cut):
    client, _ = opened(Echo, {"max_message_size": 1000})
    whole = (lambda data: frame(BINARY, data)) if cut is None else (lambda d: fragments(BINARY, d[:cut], d[cut:]))
    client.send(whole(NOISE[:1000]))
    assert client.message() == NOISE[:1000]
    client.send(whole(NOISE[:1001]))
    assert client.farewell()[0] == 1009
    _, error, code, reason = events.until("close")
    assert isinstance(error, goev.websocket.ProtocolError)
    assert isinstance(error, goev.FramingError)
    assert str(error) == reason == "a message of at least 1001 bytes: max_message is 1000"
    assert code == 1009


def test_what_is_too_long_is_refused_before_it_comes(opened):
    client, _ = opened(Echo, {"max_message_size": 1000})
    client.send(head(BINARY, 1001))
    assert client.farewell()[0] == 1009


def test_a_message_of_the_default_limit_may_be_larger_than_max_input(opened):
    client, _ = opened(Echo, None, max_input=5000)
    sending = in_thread(client.send, frame(BINARY, NOISE))
    assert client.message() == NOISE
    sending.result(PATIENCE)
    client.send(head(BINARY, MEGABYTE + 1))
    assert client.farewell()[0] == 1009


# --- compression ---

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


@pytest.mark.parametrize("bits", range(9, 16))
def test_messages_are_compressed_each_alone_within_the_window(opened, bits):
    client, handler = opened(Echo, None, f"{DEFLATE}; server_max_window_bits={bits}")
    assert handler.compressed
    assert client.bits == bits
    for _ in range(3):
        client.send(frame(TEXT, deflated(WORDS.encode()), rsv=4))
        assert client.message() == WORDS
        client.send(frame(BINARY, deflated(WORDS.encode(), bits), rsv=4))
        assert client.message() == WORDS.encode()
    assert client.messages_deflated == 6


@pytest.mark.parametrize("level", range(10))
def test_whatever_a_deflater_writes_is_read(opened, level):
    client, _ = opened(Echo, None, DEFLATE)
    for data in (b"", b"x", WORDS.encode(), NOISE[:100_000]):
        client.send(frame(BINARY, deflated(data, level=level), rsv=4))
        assert client.message() == data


def test_what_is_short_or_gains_nothing_is_sent_as_it_is(opened):
    client, handler = opened(Told, None, DEFLATE)
    for message in ["short " * 10, NOISE[:5000], ""]:
        handler.send(message)
        assert client.message() == message
    assert client.messages_deflated == 0
    handler.send("long " * 1000)
    assert client.message() == "long " * 1000
    assert client.messages_deflated == 1


def test_a_message_in_parts_is_compressed_as_a_whole(opened):
    client, _ = opened(Echo, None, DEFLATE)
    payload = deflated(WORDS.encode())
    parts = [payload[at : at + 1000] for at in range(0, len(payload), 1000)]
    client.send(fragments(TEXT, *parts, between=frame(PING), rsv=4))
    for _ in parts[1:]:
        assert client.next() == Frame(PONG, b"")
    assert client.message() == WORDS


@pytest.mark.parametrize("size", [10_000_000, 100_000_000])
def test_a_bomb_is_refused_at_the_limit(opened, events, size):
    client, _ = opened(Echo, {"max_message_size": 100_000}, DEFLATE)
    payload = deflated(b"\0" * 100_000)
    client.send(frame(BINARY, payload, rsv=4))
    assert client.message() == bytes(100_000)
    bomb = deflated(b"\0" * size, level=9)
    assert len(bomb) < 110_000
    before = resident()
    client.send(frame(BINARY, bomb, rsv=4))
    assert client.farewell()[0] == 1009
    assert resident() - before < 10_000_000
    error, code, reason = closed(events)
    assert (error, code) == (goev.websocket.ProtocolError, 1009)
    assert reason == "a compressed message of more than max_message=100000 bytes"


def test_a_context_that_is_taken_over_is_not_accepted(opened, events):
    """The second message refers to the first, against what was agreed."""
    client, _ = opened(Echo, None, DEFLATE)
    compressor = zlib.compressobj(wbits=-15)
    first, second = ((compressor.compress(NOISE[:500]) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4] for _ in range(2))
    client.send(frame(BINARY, first, rsv=4))
    assert client.message() == NOISE[:500]
    client.send(frame(BINARY, second, rsv=4))
    assert client.farewell()[0] == 1007
    assert closed(events)[:2] == (goev.websocket.ProtocolError, 1007)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\x06", rsv=4), 1007),
        (frame(TEXT, deflated(b"x" * 100)[:-3], rsv=4), 1007),
        (frame(TEXT, deflated(b"\xff" * 100), rsv=4), 1007),
        (frame(TEXT, deflated("é".encode()[:1]), rsv=4), 1007),
        (frame(TEXT, deflated(b"x") + b"more", rsv=4), 1007),
        (frame(PING, deflated(b"x"), rsv=4), 1002),
        (frame(TEXT, b"x", fin=False) + frame(CONTINUATION, deflated(b"x"), rsv=4), 1002),
    ],
)
def test_what_is_no_compressed_message_is_refused(opened, events, data, code):
    client, _ = opened(Echo, None, DEFLATE)
    client.send(data)
    assert client.farewell()[0] == code
    assert closed(events)[:2] == (goev.websocket.ProtocolError, code)
    assert events.names == ["open", "close"]


# --- violations ---

WHOLE = fragments(TEXT, b"a", b"b")
VIOLATIONS = [
    (frame(TEXT, rsv=4), 1002, "reserved bits"),
    (frame(TEXT, rsv=2), 1002, "reserved bits"),
    (frame(PING, rsv=1), 1002, "reserved bits"),
    (frame(3), 1002, "reserved opcode 3"),
    (frame(7, fin=False), 1002, "reserved opcode 7"),
    (frame(11), 1002, "reserved opcode 11"),
    (frame(15), 1002, "reserved opcode 15"),
    (text("x", mask=None), 1002, "a client must mask"),
    (frame(PING, mask=None), 1002, "a client must mask"),
    (frame(PING, fin=False), 1002, "a control frame in fragments"),
    (frame(CLOSE, b"\x03\xe8", fin=False), 1002, "a control frame in fragments"),
    (frame(PING, bytes(126)), 1002, "a control frame of more than 125 bytes"),
    (frame(PONG, bytes(70_000)), 1002, "a control frame of more than 125 bytes"),
    (b"\x82\xfe\x00\x7d" + MASK + bytes(125), 1002, "a length of 125 bytes"),
    (b"\x82\xff\0\0\0\0\0\0\xff\xff" + MASK, 1002, "a length of 65535 bytes"),
    (b"\x82\xff\x80\0\0\0\0\0\0\0" + MASK, 1002, "2**63 bytes"),
    (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + MASK, 1009, "a message of at least"),
    (frame(CONTINUATION, b"x"), 1002, "continues no message"),
    (frame(CONTINUATION, b"x", fin=False), 1002, "continues no message"),
    (WHOLE + frame(CONTINUATION), 1002, "continues no message"),
    (frame(TEXT, b"a", fin=False) + text("b"), 1002, "within the fragments"),
    (frame(BINARY, b"a", fin=False) + frame(BINARY, b"b", fin=False), 1002, "within the fragments"),
    (frame(CLOSE, b"\x03"), 1002, "1 byte of a close code"),
    (frame(CLOSE, b"\x03\xe8\xff"), 1007, "reason is not UTF-8"),
    *((close(code), 1002, f"the close code {code}") for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)),
    (frame(TEXT, b"\xff"), 1007, "not UTF-8"),
    (frame(TEXT, b"\xed\xa0\x80"), 1007, "not UTF-8"),
    (frame(TEXT, b"\xc0\xaf"), 1007, "not UTF-8"),
    (frame(TEXT, b"\xf4\x90\x80\x80"), 1007, "not UTF-8"),
    (frame(TEXT, "€".encode()[:2]), 1007, "not UTF-8"),
    (fragments(TEXT, "€".encode()[:2], b""), 1007, "not UTF-8"),
    (fragments(TEXT, "€".encode()[:2], b"x"), 1007, "not UTF-8"),
]


@pytest.mark.parametrize(("data", "code", "reason"), VIOLATIONS, ids=lambda value: repr(value)[:30])
def test_a_violation_is_answered_with_its_code_behind_what_was_due(opened, events, data, code, reason):
    client, _ = opened()
    client.send(text("before") + data + text("never"))
    assert client.message() == "before"
    if data.startswith(WHOLE):
        assert client.message() == "ab"
    said = client.farewell()
    _, error, close_code, close_reason = events.until("close")
    assert type(error) is goev.websocket.ProtocolError
    assert reason in str(error)
    assert said == (close_code, close_reason) == (code, str(error)[:123])
    assert ("message", "never") not in events.history


def test_text_is_refused_at_the_byte_that_makes_it_invalid(opened):
    client, _ = opened()
    client.send(head(TEXT, 1000) + masked(b"valid \xff", MASK))
    assert client.farewell()[0] == 1007


# --- pings ---


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(125))])
def test_a_ping_is_answered_with_the_same_and_not_told(opened, events, data):
    client, _ = opened()
    client.send(text("1") + frame(PING, data) + text("2"))
    assert client.message() == "1"
    assert client.next() == Frame(PONG, data)
    assert client.message() == "2"
    assert events.names == ["open", "message", "message"]


def test_a_pong_is_told_whether_it_was_asked_for_or_not(opened, events):
    client, handler = opened()
    on_poller(handler, handler.ping, b"from the poller")
    handler.ping(memoryview(b"from a thread"))
    handler.ping()
    for data in (b"from the poller", b"from a thread", b""):
        assert client.next() == Frame(PING, data)
        client.send(frame(PONG, data))
        assert events.until("pong") == ("pong", data)
    client.send(frame(PONG, b"unasked"))
    assert events.until("pong") == ("pong", b"unasked")


def test_a_ping_that_makes_no_sense_is_refused(opened):
    _, handler = opened()
    with pytest.raises(ValueError, match="the length of data must be from 0 to 125, not 126"):
        handler.ping(bytes(126))
    with pytest.raises(TypeError, match="data must be a bytes-like object, not str"):
        handler.ping("text")


def test_who_is_paused_answers_pings_when_it_goes_on(opened):
    class Pauses(Echo):
        def on_message(self, message):
            self.pause_reading()
            self.events("paused")

    client, handler = opened(Pauses)
    client.send(text("stop") + frame(PING, b"there?"))
    handler.events.until("paused")
    settle(handler)
    assert client.is_silent()
    on_poller(handler, handler.resume_reading)
    assert client.next() == Frame(PONG, b"there?")


def test_a_silent_peer_is_pinged_and_given_up(opened, events):
    began = time.monotonic()
    client, _ = opened(Echo, {"ping_interval": 0.1, "ping_timeout": 0.2})
    assert client.next() == SIGN_OF_LIFE
    assert time.monotonic() - began >= 0.1
    code, reason = client.farewell()
    assert time.monotonic() - began >= 0.3
    assert (code, reason) == (1008, "the peer sent nothing for ping_timeout=0.2 seconds after a ping")
    _, error, *said = events.until("close")
    assert isinstance(error, goev.PingTimeout)
    assert isinstance(error, TimeoutError)
    assert [str(error), *said] == [reason, 1008, reason]


def test_a_silent_peer_that_takes_nothing_is_given_up_at_once(opened, events):
    """Not after ``write_timeout``: a farewell would wait behind what it does not take."""
    client, handler = opened(Echo, {"ping_interval": 0.1, "ping_timeout": 0.2}, **SMALL_BUFFERS, write_timeout=60.0)
    on_poller(handler, handler.send, NOISE)
    assert closed(events) == (goev.PingTimeout, 1006, "")
    client.reset()


def test_a_handler_is_not_told_of_pongs_it_has_not_asked_for(opened, events):
    client, handler = opened(Told, {"ping_interval": 0.02, "ping_timeout": 5.0})
    for _ in range(3):
        assert client.next() == SIGN_OF_LIFE
        client.send(frame(PONG, SIGN_OF_LIFE.payload))
    settle(handler)
    assert events.names == ["open"]


@pytest.mark.parametrize(
    "signs_of_life",
    [[frame(PONG, SIGN_OF_LIFE.payload)], [frame(PONG)], [text("x")], [text("in parts")[:1], text("in parts")[1:]]],
)
def test_a_peer_that_says_anything_is_pinged_again_and_not_given_up(opened, events, signs_of_life):
    client, _ = opened(Told, {"ping_interval": 0.03, "ping_timeout": 5.0})
    began = time.monotonic()
    for _ in range(3):
        for sign in signs_of_life:
            assert client.next() == SIGN_OF_LIFE
            client.send(sign)
    assert time.monotonic() - began < 4.0, "the interval counts, whatever the timeout"
    assert "close" not in events.names


def test_nobody_is_pinged_while_it_talks(opened):
    client, _ = opened(Echo, {"ping_interval": 0.5})
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        client.send(text("x"))
        assert client.message() == "x"
    assert client.next() == SIGN_OF_LIFE


def test_without_an_interval_nobody_is_pinged_and_without_a_timeout_nobody_given_up(opened, connected, events):
    never, _ = opened(Told, {"ping_interval": None})
    patient, _ = opened(Told, {"ping_interval": 0.02, "ping_timeout": None})
    assert patient.next() == SIGN_OF_LIFE
    assert never.is_silent(0.2)
    patient.send(text("here"))
    events.until("message")
    assert events.names == ["open", "open", "message"]


# --- how it ends ---


def is_closed(handler):
    try:
        handler.call_soon(int)
    except goev.ConnectionClosed:
        return True
    return False


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1000, "bye €"), (1001, "x" * 123), (3000, ""), (4999, "é" * 61)]
)
def test_a_close_of_the_peer_is_answered_with_its_code(opened, events, code, reason):
    client, handler = opened()
    client.send(close(code, reason))
    assert client.farewell() == (code, "")
    assert events.until("close") == ("close", None, code, reason)
    assert (handler.close_code, handler.close_reason) == (code, reason)


def test_a_close_of_the_peer_without_a_code_is_answered_without_one(opened, events):
    client, _ = opened()
    client.send(close(None))
    assert client.farewell() == (None, "")
    assert events.until("close") == ("close", None, 1005, "")


def test_a_close_of_the_peer_is_answered_also_when_it_sends_no_more(opened, events):
    client, _ = opened()
    with held(client.server.reactor):
        client.send(text("last") + close(3001))
        client.finish()
    assert client.message() == "last"
    assert client.farewell() == (3001, "")
    assert events.until("close") == ("close", None, 3001, "")


@pytest.mark.parametrize("in_callback", [True, False])
def test_close_says_why_and_ends(opened, events, in_callback):
    client, handler = opened(Told)
    if in_callback:
        on_poller(handler, handler.close, 4000, "going €")
    else:
        handler.close(4000, "going €")
    assert client.farewell() == (4000, "going €")
    assert events.until("close") == ("close", None, 4000, "going €")


def test_only_the_first_close_counts(opened, events):
    client, handler = opened(Told)

    def twice():
        handler.close(4001, "first")
        handler.close(4002, "second")

    on_poller(handler, twice)
    handler.close(4003, "third")
    assert client.farewell() == (4001, "first")
    assert events.until("close") == ("close", None, 4001, "first")
    handler.close(4004)
    assert handler.close_code == 4001


def test_only_the_first_close_of_a_thread_counts(opened, events):
    client, handler = opened(Told)
    with held(handler):
        handler.close(4001, "first")
        handler.close(4002, "second")
    assert client.farewell() == (4001, "first")
    assert events.until("close") == ("close", None, 4001, "first")


def test_a_close_behind_that_of_the_peer_changes_nothing(opened, events):
    client, handler = opened(Told)
    client.send(close(4001, "mine"))
    assert client.farewell() == (4001, "")
    events.until("close")
    handler.close(4002, "too late")
    assert (handler.close_code, handler.close_reason) == (4001, "mine")


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65536, 1 << 70])
def test_a_code_that_must_not_be_sent_is_refused(opened, code):
    _, handler = opened()
    reason = r"code must be 1000 to 1003, 1007 to 1014 or 3000 to 4999, not "
    with pytest.raises(ValueError, match=reason):
        handler.close(code)
    assert handler.close_code is None


def test_a_reason_that_cannot_be_sent_is_refused(opened):
    client, handler = opened()
    with pytest.raises(ValueError, match="the length of reason in bytes must be from 0 to 123, not 124"):
        handler.close(1000, "é" * 62)
    for wrong in [(1000, b"bytes"), ("1000",), (1000.5,), (None,)]:
        with pytest.raises(TypeError):
            handler.close(*wrong)
    with pytest.raises(UnicodeEncodeError):
        handler.close(1000, "\ud800")
    client.send(text("still here"))
    assert client.message() == "still here"


@pytest.mark.parametrize("in_callback", [True, False])
def test_what_is_queued_goes_out_before_the_last_word(opened, events, in_callback):
    client, handler = opened(Told, None, **SMALL_BUFFERS)

    def says():
        handler.send(NOISE)
        handler.close(1000, "that was all")

    if in_callback:
        on_poller(handler, says)
    else:
        says()
    assert client.message() == NOISE
    assert client.farewell() == (1000, "that was all")
    assert events.until("close") == ("close", None, 1000, "that was all")


def test_messages_behind_close_are_not_told(opened, events):
    class Once(Told):
        def on_message(self, message):
            super().on_message(message)
            self.close()

    client, _ = opened(Once)
    client.send(text("one") + text("two") + b"garbage")
    assert client.farewell() == (1000, "")
    assert events.until("close") == ORDERLY
    assert events.of("message") == [("message", "one")]


def test_an_end_without_a_last_word_is_1006(opened, events):
    client, handler = opened()
    client.send(text("x"))
    assert client.message() == "x"
    client.finish()
    assert client.rest() == b""
    assert events.until("close") == ("close", None, 1006, "")
    assert (handler.close_code, handler.close_reason) == (1006, "")


def test_an_end_within_a_message_is_1006_too(opened, events):
    client, _ = opened()
    client.send(text("half of this")[:8])
    client.finish()
    assert client.rest() == b""
    assert events.until("close") == ("close", None, 1006, "")


def test_a_reset_is_told_as_one(opened, events):
    client, _ = opened()
    client.reset()
    _, error, code, reason = events.until("close")
    assert isinstance(error, ConnectionResetError)
    assert (code, reason) == (1006, "")


def test_abort_says_nothing(opened, events):
    client, handler = opened()
    handler.abort()
    with pytest.raises(ConnectionResetError):
        client.rest()
    assert closed(events) == (ConnectionAbortedError, 1006, "")


def test_a_last_word_that_never_left_is_none(opened, events):
    _, handler = opened(Told, **SMALL_BUFFERS)
    on_poller(handler, lambda: (handler.send(bytes(8 * MEGABYTE)), handler.close(4000), handler.abort()))
    assert closed(events) == (ConnectionAbortedError, 1006, "")


@pytest.mark.parametrize("queued", [b"", NOISE], ids=["idle", "behind a megabyte"])
def test_a_limit_in_time_closes_with_1008(opened, events, queued):
    client, handler = opened(Told, {"ping_interval": None}, idle_timeout=0.1, **SMALL_BUFFERS)
    if queued:
        handler.send(queued)
        # Nothing is read until the time is up.
        eventually(lambda: is_closed(handler), "it is closed")
        assert client.message() == queued
    code, reason = client.farewell()
    assert (code, reason) == (1008, "no byte moved either way for idle_timeout=0.1 seconds")
    assert closed(events) == (goev.IdleTimeout, 1008, reason)


# --- send ---


def test_threads_may_send_and_frames_never_mix(opened):
    client, handler = opened(Told, None, DEFLATE, **SMALL_BUFFERS)
    sizes = (3, 300, 5000, 100_000)

    def send(thread):
        for number in range(60):
            handler.send(f"{thread:02} {number:04} ".encode() + bytes([thread]) * sizes[(thread + number) % 4])
            if number % 10 == 0:
                handler.ping(b"%d" % thread)

    threads = [in_thread(send, thread) for thread in range(16)]
    last = [-1] * 16
    for _ in range(16 * 60 + 16 * 6):
        came = client.next()
        if came.opcode == PING:
            continue
        data = inflated(came.payload) if came.rsv else came.payload
        thread, number = int(data[:2]), int(data[3:7])
        assert number == last[thread] + 1
        assert data[8:] == bytes([thread]) * sizes[(thread + number) % 4]
        last[thread] = number
    assert last == [59] * 16
    for thread in threads:
        thread.result(PATIENCE)


@pytest.mark.parametrize("size", [3, 10_000])
@pytest.mark.parametrize("extensions", [(), (DEFLATE,)])
def test_all_that_is_like_bytes_is_sent_and_owned(opened, size, extensions):
    client, handler = opened(Told, None, *extensions)
    data = bytearray(b"a" * size)
    for message in (bytes(data), data, memoryview(data), memoryview(data)[1:]):
        for send in (handler.send, lambda message: on_poller(handler, handler.send, message)):
            send(message)
            expected = bytes(message)
            data[:] = b"b" * size
            assert client.message() == expected
            data[:] = b"a" * size


@pytest.mark.parametrize("wrong", [None, 1, ["x"], object()])
def test_what_is_no_message_is_refused(opened, wrong):
    client, handler = opened(Told)
    name = type(wrong).__name__
    with pytest.raises(TypeError, match=f"message must be a str or a bytes-like object, not {name}"):
        handler.send(wrong)
    with pytest.raises(TypeError, match=f"message must be a str or a bytes-like object, not {name}"):
        goev.websocket.Framing().frame(wrong)
    with pytest.raises(UnicodeEncodeError):
        handler.send("\ud800")
    with pytest.raises(ValueError, match="must be contiguous"):
        handler.send(memoryview(b"abcd")[::2])
    handler.send("x")
    assert client.message() == "x"


def test_several_messages_are_sent_in_order(opened):
    client, handler = opened(Told)
    handler.send_messages(["one", b"two", bytearray(5000), ""])
    assert [client.message() for _ in range(4)] == ["one", b"two", bytes(5000), ""]


def test_nothing_is_sent_before_on_open_and_after_the_end(connected, events):
    class Hasty(Told):
        def __init__(self, events):
            super().__init__(events)
            self.tries("new")

        def on_handshake(self, request):
            self.tries("handshake")

        def on_close(self, error):
            self.tries("closed")
            super().on_close(error)

        def tries(self, when):
            for method, arguments in [(self.send, ("x",)), (self.ping, ())]:
                with pytest.raises(goev.ConnectionClosed):
                    method(*arguments)
            if when != "closed":
                with pytest.raises(goev.ConnectionClosed):
                    self.close()
            self.events(when)

    client = connected(Hasty)
    client.open()
    handler = events.until("open")[1]
    assert events.names == ["new", "handshake", "open"]
    on_poller(handler, handler.close)
    with pytest.raises(goev.ConnectionClosed):
        handler.send("x")
    assert client.farewell() == (1000, "")
    events.until("close")
    assert events.names == ["new", "handshake", "open", "closed", "close"]


# --- back-pressure ---


def test_a_reader_that_is_slow_slows_the_echo_down(opened):
    client, handler = opened(Echo, None, high_water=50_000, low_water=1000, **SMALL_BUFFERS)
    message = frame(BINARY, NOISE[:10_000])
    sent = client.fill(message * 3000)
    assert sent < 3000 * len(message), "the peer feels it"
    assert on_poller(handler, lambda: handler.over_high_water)
    assert on_poller(handler, lambda: handler.pending_output) < 200_000
    whole, part = divmod(sent, len(message))
    rest = in_thread(client.send, message[part:] if part else b"")
    for _ in range(whole + bool(part)):
        assert client.message() == NOISE[:10_000]
    rest.result(PATIENCE)
    client.send(text("on again"))
    assert client.message() == "on again"


def send_for_ever(handler, message):
    while True:
        handler.send(message)


def test_too_much_that_waits_ends_the_websocket(opened, events):
    client, handler = opened(Told, None, max_output=100_000, **SMALL_BUFFERS)
    with pytest.raises(goev.ConnectionClosed):
        send_for_ever(handler, NOISE[:20_000])
    error, code, _ = closed(events)
    assert (error, code) == (goev.OutputOverflow, 1006)
    client.reset()


@pytest.mark.parametrize("in_callback", [True, False])
@pytest.mark.parametrize("extensions", [(), (DEFLATE,)])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_one_message_into_an_empty_queue_always_fits(opened, in_callback, extensions, kind):
    client, handler = opened(Told, None, *extensions, max_output=100_000, **SMALL_BUFFERS)
    for _ in range(2):
        eventually(lambda: on_poller(handler, lambda: handler.pending_output) == 0, "what was before is sent")
        if in_callback:
            on_poller(handler, handler.send, kind(NOISE))
        else:
            handler.send(kind(NOISE))
        assert client.message() == NOISE


# --- groups ---


@pytest.mark.parametrize("extensions", [(), (DEFLATE,)])
def test_a_group_sends_messages_to_all_its_members_on_all_pollers(start, stack, events, extensions):
    room = goev.Group(goev.websocket.Framing())

    class Member(Told):
        def on_open(self):
            room.add(self)
            super().on_open()

        def on_message(self, message):
            room.send(message)

    server = start(lambda: Member(events), pollers=2)
    clients = [ClientPeer(stack, server) for _ in range(6)]
    for number, client in enumerate(clients):
        client.open(*extensions if number % 2 else ())
    events.times("open", 6)
    big = "großes " * 20_000
    for message in ("hello €", b"\0\1", "", big):
        room.send(message)
        assert [client.message() for client in clients] == [message] * 6
    clients[0].send(text("from a member"))
    assert [client.message() for client in clients] == ["from a member"] * 6
    clients[0].send(close())
    assert clients[0].farewell() == (1000, "")
    events.until("close")
    eventually(lambda: len(room) == 5, "the one that left is no member")
    room.send("rest")
    assert [client.message() for client in clients[1:]] == ["rest"] * 5


@pytest.mark.parametrize("framing", [None, goev.LengthPrefixed(4), goev.Delimited(b"\n")])
def test_a_group_that_makes_no_frames_takes_no_websockets(opened, framing):
    client, handler = opened()
    group = goev.Group(framing)
    with pytest.raises(TypeError, match=r"a WebSocket can be a member of a Group\(goev.websocket.Framing\(\)\) only"):
        group.add(handler)
    group.send(b"nothing")
    handler.send("a message")
    assert client.message() == "a message"


def test_a_group_of_websockets_takes_no_others(start):
    class Raw(goev.Connection):
        def on_read(self):
            with pytest.raises(TypeError, match=r"goev\.websocket\.Framing\(\) is for WebSockets, not for Raw"):
                goev.Group(goev.websocket.Framing()).add(self)
            self.write(self.read())

    assert start(Raw).connect().ask(b"x") == b"x"


def test_a_framing_of_ones_own_may_make_frames(opened):
    class Shouts:
        def frame(self, message):
            return goev.websocket.Framing().frame(message.upper())

    client, handler = opened()
    group = goev.Group(Shouts())
    group.add(handler)
    group.send("hello")
    assert client.message() == "HELLO"


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_framing_makes_whole_frames(size):
    framing = goev.websocket.Framing()
    assert framing.frame("x" * size) == frame(TEXT, b"x" * size, mask=None)
    assert framing.frame(bytes(size)) == frame(BINARY, bytes(size), mask=None)


# --- another handler ---


def test_a_websocket_takes_over_by_its_handshake_only(start, stack, events):
    class Raw(goev.Connection):
        def on_read(self):
            with pytest.raises(ValueError, match=r"a WebSocket takes over by its handshake: goev\.websocket\.upgrade"):
                self.hand_over(Told(events))
            self.write(self.read())

    client = start(Raw).connect()
    assert client.ask(b"x") == b"x"
    assert events.history == []


class Lobby(Told):
    """Hands over to the handler that the test puts here."""

    subprotocols = ("chess",)

    def on_message(self, message):
        super().on_message(message)
        if message == "play":
            self.hand_over(self.room)


@pytest.mark.parametrize("extensions", [(), (DEFLATE,)])
def test_a_websocket_is_handed_over_to_another_handler_wherever_the_stream_is(opened, events, extensions):
    told, behind = Events(), text("whole") + fragments(TEXT, b"in ", b"parts") + frame(PING, b"p") + text("last")
    for cut in range(len(behind)):
        room = Echo(told)
        client, _ = opened(Lobby, {"room": room}, "Sec-WebSocket-Protocol: chess", *extensions)
        client.send(text("play") + behind[:cut])
        assert told.until("open")[1] is room
        client.send(behind[cut:])
        assert [client.message(), client.message()] == ["whole", "in parts"]
        assert client.next() == Frame(PONG, b"p")
        assert client.message() == "last"
        assert (room.subprotocol, room.request.path, room.compressed) == ("chess", "/chat", bool(extensions))
        room.close(3000, "bye")
        assert client.farewell() == (3000, "bye")
        assert told.until("close") == ("close", None, 3000, "bye")
    ends = [event for event in events.history if event[0] == "close"]
    assert ends == [("close", None, None, "")] * len(behind), "the lobby has no more to do with it"


def test_who_takes_over_a_websocket_has_limits_of_its_own(opened, events):
    told = Events()
    small = type("Small", (Echo,), {"max_message_size": 10, "ping_interval": 0.05})(told)
    client, _ = opened(Lobby, {"room": small})
    begun = text("x" * 100)
    client.send(text("play") + begun[:50])
    told.until("open")
    assert client.next() == SIGN_OF_LIFE
    client.send(begun[50:])
    assert client.message() == "x" * 100, "it began under the limit of the other"
    client.send(text("y" * 11))
    assert client.farewell()[0] == 1009
    assert closed(told)[0] is goev.websocket.ProtocolError


def test_a_websocket_is_handed_over_to_nothing_else(opened, events):
    client, handler = opened()
    used = type(handler)(events)
    on_poller(handler, handler.hand_over, used)
    events.until("open")
    for other, error, says in [
        (goev.Connection(), TypeError, "a WebSocket goes on as one, not as Connection"),
        (goev.http.Connection(), TypeError, "a WebSocket goes on as one, not as HttpConnection"),
        (used, ValueError, "hand_over"),
        (type("Bad", (Told,), {"max_message_size": 0})(events), ValueError, "max_message_size"),
    ]:
        with pytest.raises(error, match=says):
            on_poller(used, used.hand_over, other)
    client.send(text("goes on"))
    assert client.message() == "goes on"


@pytest.mark.parametrize("method", ["write", "writelines", "sendfile", "shutdown_write"])
def test_nothing_is_written_between_the_frames(opened, method):
    client, handler = opened()
    argument = {"write": [b"raw"], "writelines": [[b"raw"]], "sendfile": [0], "shutdown_write": []}[method]
    with pytest.raises(RuntimeError, match=rf"{method}\(\): a WebSocket (has messages: use send|is closed as a whole)"):
        on_poller(handler, getattr(handler, method), *argument)
    handler.send("a message")
    assert client.message() == "a message"


# --- memory ---


def test_an_idle_websocket_keeps_no_buffer(stack):
    """2,000 after an echo of 16 KiB each, compressed and not: kept buffers would be 32 MB or more."""
    child = stack.enter_context(
        Child.running(
            """
            import goev

            class Echo(goev.websocket.Connection):
                def on_message(self, message):
                    self.send(message)

            with goev.Reactor(pollers=1) as reactor:
                acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
                print(acceptor.address[1], flush=True)
                reactor.run()
            """
        )
    )

    class There:
        address = ("127.0.0.1", int(child.line()))

        def connect(self):
            return stack.enter_context(Client(self.address))

    server = There()
    plain = frame(BINARY, NOISE[:16_384])
    words = frame(TEXT, deflated(WORDS[:16_384].encode()), rsv=4)

    def visit():
        client = ClientPeer(stack, server)
        client.open(DEFLATE)
        client.send(plain + words)
        assert client.message() == NOISE[:16_384]
        assert client.message() == WORDS[:16_384]

    for _ in range(200):
        visit()
    before = resident(child.pid)
    for _ in range(2000):
        visit()
    grown = (resident(child.pid) - before) / 2000
    assert grown < 5000, f"{grown:.0f} bytes a connection"
    child.interrupt()


def test_handlers_in_cycles_are_collected_after_the_end(connected, stack, events):
    alive = []

    class Cyclic(goev.websocket.Connection):
        def __init__(self, _):
            alive.append(weakref.ref(self))

        def on_open(self):
            self.myself = self
            self.method = self.on_message
            self.timer = self.schedule(60.0, self.on_pong)
            self.send("open")

    first = connected(Cyclic)
    for number in range(10):
        client = ClientPeer(stack, first.server)
        client.open()
        assert client.message() == "open"
        if number % 2:
            client.send(close())
            client.farewell()
        client.reset()
    refused = ClientPeer(stack, first.server)
    refused.send(get("/"))
    assert refused.answer()[0] == 426
    first.reset()
    refused.reset()
    assert len(alive) == 12
    eventually(lambda: gc.collect() >= 0 and all(ref() is None for ref in alive), "the handlers are collected")
