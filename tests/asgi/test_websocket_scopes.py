"""A WebSocket of an application: its scope, and the messages of both sides."""

import asyncio
from contextlib import suppress

import pytest
import websockets
from websockets.sync.client import connect

import goev
from asgi_support import TEXT, UPGRADE, body_message, cancelled_waits, site, start_message
from http_support import HttpClient, get
from support import PATIENCE, text_of


@pytest.fixture
def connecting(serving, stack):
    """``connecting(app, path="/", attributes={}, **options)``: a client of the library websockets, connected."""

    def opened(app, path="/", attributes=None, **options):
        address = text_of(serving(app, **(attributes or {})).address)
        return stack.enter_context(connect(f"ws://{address}{path}", open_timeout=PATIENCE, **options))

    return opened


async def accepted(receive, send, **more):
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept", **more})


async def echo(scope, receive, send):
    await accepted(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def reporting(events, *messages):
    """An application that accepts, sends these, and reports what it receives to the end."""

    async def app(scope, receive, send):
        events("scope", scope)
        await accepted(receive, send)
        for message in messages:
            await send(message)
        while True:
            message = await receive()
            events("message", message)
            if message["type"] == "websocket.disconnect":
                return

    return app


def test_the_scope_of_a_websocket(connecting, events):
    client = connecting(reporting(events), "/a%20b?q", subprotocols=["one", "two"], compression=None)
    scope = events.until("scope")[1]
    headers = dict(scope.pop("headers"))
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"q",
        "root_path": "",
        "client": client.local_address,
        "server": client.remote_address,
        "subprotocols": ["one", "two"],
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }
    assert headers[b"upgrade"] == b"websocket"


@pytest.mark.parametrize("data", ["text", "", "ä" * 100_000, b"bytes", b"", bytes(1_000_000)])
def test_messages_go_both_ways(connecting, data):
    client = connecting(echo, max_size=None)
    client.send(data)
    assert client.recv(PATIENCE) == data


def test_bytes_and_text_have_one_key_each(connecting, events):
    client = connecting(reporting(events))
    client.send("a")
    client.send(b"b")
    assert events.until("message")[1] == {"type": "websocket.receive", "text": "a"}
    assert events.until("message")[1] == {"type": "websocket.receive", "bytes": b"b"}


@pytest.mark.parametrize("message", [{"text": "a"}, {"text": "a", "bytes": None}, {"text": None, "bytes": b"a"}])
def test_a_message_may_have_both_keys(connecting, events, message):
    client = connecting(reporting(events, {"type": "websocket.send", **message}))
    assert client.recv(PATIENCE) in ("a", b"a")


def test_the_subprotocol_and_fields_of_the_answer(connecting):
    async def app(scope, receive, send):
        await accepted(receive, send, subprotocol="two", headers=[(b"x-a", b"1"), (b"x-a", b"2")])
        await receive()

    client = connecting(app, subprotocols=["one", "two"])
    assert client.subprotocol == "two"
    assert client.response.headers.get_all("x-a") == ["1", "2"]


@pytest.mark.parametrize(
    ("code", "reason", "expected"), [(1000, "bye", (1000, "bye")), (4001, "", (4001, "")), (None, "", (1005, ""))]
)
def test_the_close_of_the_client(connecting, events, code, reason, expected):
    client = connecting(reporting(events))
    if code is None:
        with client.send_context():
            client.protocol.send_close()
    else:
        client.close(code, reason)
    assert events.until("message")[1] == {"type": "websocket.disconnect", "code": expected[0], "reason": expected[1]}


def test_a_client_that_is_lost(connecting, events):
    client = connecting(reporting(events))
    client.socket.close()
    assert events.until("message")[1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({}, (1000, "")),
        ({"code": 4000, "reason": "later"}, (4000, "later")),
        ({"code": None, "reason": None}, (1000, "")),
    ],
)
def test_the_close_of_the_application(connecting, events, message, expected):
    client = connecting(reporting(events, {"type": "websocket.close", **message}))
    with pytest.raises(websockets.ConnectionClosed) as closed:
        client.recv(PATIENCE)
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == expected
    assert events.until("message")[1]["type"] == "websocket.disconnect"


@pytest.mark.parametrize(("fails", "code"), [(False, 1000), (True, 1011)])
def test_the_end_of_the_application_closes(connecting, log, fails, code):
    async def app(scope, receive, send):
        await accepted(receive, send)
        if fails:
            raise KeyError("broken")

    with pytest.raises(websockets.ConnectionClosed) as closed:
        connecting(app).recv(PATIENCE)
    assert closed.value.rcvd.code == code
    if fails:
        assert "KeyError: 'broken'" in log.next()[1]


def test_the_stop_of_the_server_is_a_close(serving, stack, events):
    server = serving(reporting(events))
    client = stack.enter_context(connect(f"ws://{text_of(server.address)}/", open_timeout=PATIENCE))
    events.until("scope")
    server.reactor.stop(PATIENCE)
    with pytest.raises(websockets.ConnectionClosed) as closed:
        client.recv(PATIENCE)
    assert closed.value.rcvd.code == 1001
    assert events.until("message")[1]["code"] == 1001


def test_send_raises_when_the_client_is_gone(connecting, events):
    async def app(scope, receive, send):
        await accepted(receive, send)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        try:
            await send({"type": "websocket.send", "text": "x"})
        except OSError as error:
            events("error", error)
            raise

    connecting(app).close()
    assert isinstance(events.until("error")[1], goev.asgi.ClientDisconnected)


def test_waits_that_are_cancelled_leave_nothing_behind(connecting):
    async def app(scope, receive, send):
        await accepted(receive, send)
        left = await cancelled_waits(receive)
        await send({"type": "websocket.send", "text": str(left)})
        await send(await receive() | {"type": "websocket.send"})

    client = connecting(app)
    assert int(client.recv(PATIENCE)) < 50
    client.send("still here")
    assert client.recv(PATIENCE) == "still here"


def test_send_waits_while_the_client_is_behind(connecting):
    sent = []

    async def app(scope, receive, send):
        await accepted(receive, send)
        for number in range(64):
            await send({"type": "websocket.send", "bytes": bytes(1 << 20)})
            sent.append(number)
        await receive()

    client = connecting(app, max_size=None, max_queue=1, compression=None)
    client.recv(PATIENCE)
    assert len(sent) < 60
    for _ in range(63):
        client.recv(PATIENCE)


def test_messages_that_are_not_taken_hold_the_client_back(connecting, events):
    release, taken = asyncio.Event(), []

    async def app(scope, receive, send):
        await accepted(receive, send)
        events("loop", asyncio.get_running_loop())
        await release.wait()
        while (message := await receive())["type"] == "websocket.receive":
            taken.append(message)
        events("ended")

    client = connecting(app, compression=None)
    loop = events.until("loop")[1]
    client.socket.settimeout(0.3)
    sent = 0
    with suppress(TimeoutError, websockets.ConnectionClosed):
        for _ in range(64):
            client.send(bytes(1 << 20))
            sent += 1
    assert sent < 60
    loop.call_soon_threadsafe(release.set)
    events.until("ended")
    assert sent - 1 <= len(taken) <= sent + 1


def test_a_message_above_the_limit_is_refused(connecting, events):
    class Small(goev.asgi.WebSocket):
        max_message_size = 10

    client = connecting(reporting(events), attributes={"websocket": Small})
    client.send(bytes(11))
    with pytest.raises(websockets.ConnectionClosed) as closed:
        client.recv(PATIENCE)
    assert closed.value.rcvd.code == 1009


# ---- before the handshake


def test_a_close_before_the_handshake_is_403(client_of):
    async def app(scope, receive, send):
        assert await receive() == {"type": "websocket.connect"}
        await send({"type": "websocket.close"})
        assert (await receive())["type"] == "websocket.disconnect"

    client = client_of(app)
    answer = client.ask(get("/", *UPGRADE))
    assert (answer.status, answer["connection"], answer.body) == (403, "close", b"")


def test_a_denial_is_an_answer_of_http(client_of):
    async def app(scope, receive, send):
        await receive()
        prefix = "websocket."
        await send({**start_message(401, TEXT), "type": f"{prefix}http.response.start"})
        await send({**body_message(b"who ", more_body=True), "type": f"{prefix}http.response.body"})
        await send({**body_message(b"are you?"), "type": f"{prefix}http.response.body"})

    answer = client_of(app).ask(get("/", *UPGRADE))
    assert (answer.status, answer.body, answer["connection"]) == (401, b"who are you?", "close")


@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        (None, RuntimeError, "the application returned without an answer to the WebSocket's handshake"),
        (
            {"type": "websocket.send", "text": ""},
            RuntimeError,
            "unexpected ASGI message 'websocket.send': expected 'websocket.accept'",
        ),
        ({"type": "http.response.start"}, RuntimeError, "expected 'websocket.accept', 'websocket.close' or"),
        (
            {"type": "websocket.accept", "subprotocol": "x"},
            ValueError,
            "subprotocol must be one that the client offers, [], not 'x'",
        ),
        (
            {"type": "websocket.accept", "headers": [(b"sec-websocket-protocol", b"x")]},
            ValueError,
            "is made of 'subprotocol'",
        ),
        ({"type": "websocket.accept", "headers": [(b"a", b"\n")]}, ValueError, "a control character"),
        (
            {"type": "websocket.http.response.body"},
            RuntimeError,
            "unexpected ASGI message 'websocket.http.response.body'",
        ),
    ],
)
def test_a_wrong_message_before_the_handshake_is_500(client_of, log, message, kind, text):
    async def app(scope, receive, send):
        await receive()
        if message is not None:
            await send(message)

    assert client_of(app).ask(get("/", *UPGRADE)).status == 500
    record, line = log.next()
    assert record.exc_info[0] is kind
    assert text in line


@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        (
            {"type": "websocket.accept"},
            RuntimeError,
            "unexpected ASGI message 'websocket.accept': expected 'websocket.send'",
        ),
        ({"type": "websocket.http.response.start"}, RuntimeError, "expected 'websocket.send' or 'websocket.close'"),
        ({"type": "websocket.send"}, ValueError, "must have either 'bytes' or 'text'"),
        ({"type": "websocket.send", "text": "a", "bytes": b"a"}, ValueError, "must have either 'bytes' or 'text'"),
        ({"type": "websocket.send", "text": b"a", "bytes": None}, TypeError, "'text' must be a str"),
        ({"type": "websocket.close", "code": 1006}, ValueError, "code must be"),
        ({"type": "websocket.close", "reason": "x" * 124}, ValueError, "the length of reason in bytes"),
    ],
)
def test_a_wrong_message_behind_the_handshake_is_1011(connecting, events, log, message, kind, text):
    client = connecting(reporting(events, message))
    with pytest.raises(websockets.ConnectionClosed) as closed:
        client.recv(PATIENCE)
    assert closed.value.rcvd.code == 1011
    record, line = log.next()
    assert record.exc_info[0] is kind
    assert text in line


def test_nothing_follows_a_close(connecting, events, log):
    connecting(reporting(events, {"type": "websocket.close"}, {"type": "websocket.send", "text": ""}))
    assert "unexpected ASGI message 'websocket.send': expected nothing, behind 'websocket.close'" in log.next()[1]


@pytest.mark.parametrize("end", ["finish", "reset"])
def test_a_client_that_goes_away_before_the_handshake(client_of, events, end):
    async def app(scope, receive, send):
        await receive()
        events("waits")
        events("message", await receive())
        try:
            await send({"type": "websocket.accept"})
        except OSError as error:
            events("error", error)
            raise

    client = client_of(app)
    client.send(get("/", *UPGRADE))
    events.until("waits")
    getattr(client, end)()
    assert events.until("message")[1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    if end == "reset":
        assert isinstance(events.until("error")[1], goev.asgi.ClientDisconnected)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["Connection: Upgrade", "Upgrade: websocket"], 426),
        ([*UPGRADE[:3], "Sec-WebSocket-Key: short"], 400),
    ],
)
def test_a_malformed_handshake_never_comes_to_the_application(client_of, events, fields, status):
    assert client_of(reporting(events)).ask(get("/", *fields)).status == status
    assert not events.history


@pytest.mark.parametrize("fields", [["Connection: Upgrade", "Upgrade: h2c"], UPGRADE])
def test_other_upgrades_are_requests(client_of, events, fields):
    async def app(scope, receive, send):
        events("scope", scope["type"])
        await send(start_message())
        await send(body_message())

    method = "POST" if fields is UPGRADE else "GET"
    assert client_of(app).ask(get("/", *fields, method=method)).status == 200
    assert events.next() == ("scope", "http")


@pytest.mark.wires("tls")
def test_a_websocket_over_tls(client_of, events, wire):
    client = client_of(reporting(events))
    assert client.ask(get("/", *UPGRADE)).status == 101
    scope = events.until("scope")[1]
    assert (scope["scheme"], scope["extensions"]["tls"]["tls_version"]) == ("wss", 0x0304)


# ---- beside handlers of goev


def test_a_handler_may_answer_some_requests_by_itself(start, stack, events):
    async def app(scope, receive, send):
        await send(start_message())
        await send(body_message(scope["path"].encode()))

    class Shout(goev.websocket.Connection):
        def on_message(self, message):
            self.send(message.upper())

    class Both(site(app)):
        def on_request(self, request):
            if request.path == "/plain":
                request.respond(200, None, b"plain")
            elif request.path == "/shout":
                goev.websocket.upgrade(request, Shout())
            else:
                super().on_request(request)

    server = start(Both, asyncio=True)
    client = HttpClient(stack, server)
    assert [client.ask(get(path)).body for path in ("/plain", "/app", "/plain")] == [b"plain", b"/app", b"plain"]
    shout = stack.enter_context(connect(f"ws://{text_of(server.address)}/shout", open_timeout=PATIENCE))
    shout.send("a")
    assert shout.recv(PATIENCE) == "A"


def test_an_async_handler_may_ask_the_application(start, stack):
    async def app(scope, receive, send):
        await asyncio.sleep(0)
        await send(start_message())
        await send(body_message(scope["path"].encode()))

    class Later(site(app)):
        async def on_request(self, request):
            if request.path == "/later":
                await asyncio.sleep(0)
            super().on_request(request)

    client = HttpClient(stack, start(Later, asyncio=True))
    assert [client.ask(get(path)).body for path in ("/now", "/later")] == [b"/now", b"/later"]
