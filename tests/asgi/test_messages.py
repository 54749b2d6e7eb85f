"""Rules of the specification for messages of every kind: unknown types, missing types, other keys, other protocols."""

import asyncio

import pytest
import websockets
from websockets.sync.client import connect

import goev
from asgi_support import TEXT, UPGRADE, body_message, sending, start_message
from http_support import get
from support import PATIENCE, text_of

NOT_OFFERED = [
    {"type": "http.response.push", "path": "/a.css", "headers": []},
    {"type": "http.response.zerocopysend", "file": 0},
    {"type": "http.response.debug", "info": {}},
]


def type_of(message):
    return message["type"]


@pytest.mark.parametrize("message", NOT_OFFERED, ids=type_of)
def test_a_message_of_an_extension_that_is_not_offered_is_an_error(client_of, events, log, message):
    async def app(scope, receive, send):
        events("extensions", scope["extensions"])
        if message["type"] != "http.response.debug":  # it comes before the start
            await send(start_message())
        await send(message)

    assert client_of(app).ask(get()).status == 500
    assert message["type"] not in events.until("extensions")[1]
    assert f"RuntimeError: unexpected ASGI message '{message['type']}'" in log.next()[1]


def test_other_keys_of_a_message_are_ignored_in_http(client_of):
    more = {"x-own": object(), "headers_": 5}
    client = client_of(sending({**start_message(201, TEXT), **more}, {**body_message(b"ok"), **more}))
    answer = client.ask(get())
    assert (answer.status, answer.body) == (201, b"ok")


@pytest.fixture
def socket_of(serving, stack):
    """``socket_of(app)``: a client of the library websockets, connected."""
    return lambda app: stack.enter_context(
        connect(f"ws://{text_of(serving(app).address)}/", open_timeout=PATIENCE, compression=None)
    )


def test_other_keys_of_a_message_are_ignored_in_websockets(socket_of):
    async def app(scope, receive, send):
        await receive()
        for message in ({"type": "websocket.accept"}, {"type": "websocket.send", "text": "a"}):
            await send({**message, "x-own": object()})
        await send({"type": "websocket.close", "code": 4000, "x-own": object()})

    client = socket_of(app)
    assert client.recv(PATIENCE) == "a"
    with pytest.raises(websockets.ConnectionClosed) as closed:
        client.recv(PATIENCE)
    assert closed.value.rcvd.code == 4000


def test_other_keys_of_a_message_are_ignored_in_a_lifespan():
    async def app(scope, receive, send):
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete", "x-own": object()})

    async def main():
        async with asyncio.timeout(PATIENCE), goev.asgi.Lifespan(app):
            pass

    goev.asyncio.run(main())


WRONG = [
    ({"text": "a"}, ValueError, "an ASGI message has no 'type'"),
    (5, TypeError, "an ASGI message must be a dict, not int"),
]


@pytest.mark.parametrize(("message", "kind", "text"), WRONG, ids=["no type", "no dict"])
@pytest.mark.parametrize("is_open", [False, True])
def test_a_message_of_a_websocket_without_a_type(client_of, log, message, kind, text, is_open):
    async def app(scope, receive, send):
        await receive()
        if is_open:
            await send({"type": "websocket.accept"})
        await send(message)

    assert client_of(app).ask(get("/", *UPGRADE)).status == (101 if is_open else 500)
    record, line = log.next()
    assert record.exc_info[0] is kind
    assert text in line


@pytest.mark.parametrize(("message", "kind", "text"), WRONG, ids=["no type", "no dict"])
def test_a_message_of_a_lifespan_without_a_type(message, kind, text):
    errors = []

    async def app(scope, receive, send):
        await receive()
        try:
            await send(message)
        except Exception as error:
            errors.append(error)
            raise

    async def main():
        async with asyncio.timeout(PATIENCE), goev.asgi.Lifespan(app):
            pass

    goev.asyncio.run(main())
    assert [(type(error), str(error)) for error in errors] == [(kind, text)]


def test_a_lifespan_starts_once(log):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.startup.complete"})

    async def main():
        async with asyncio.timeout(PATIENCE), goev.asgi.Lifespan(app):
            pass

    goev.asyncio.run(main())
    assert "unexpected ASGI message 'lifespan.startup.complete'" in log.next()[1]


# ---- a denial of a WebSocket

DENIAL = {**start_message(401), "type": "websocket.http.response.start"}
BODY = {**body_message(b"no"), "type": "websocket.http.response.body"}


@pytest.mark.parametrize("message", [{"type": "websocket.accept"}, {"type": "websocket.close"}], ids=type_of)
def test_a_denial_is_followed_by_no_message_of_websockets(client_of, log, message):
    async def app(scope, receive, send):
        await receive()
        await send(DENIAL)
        await send(message)

    assert client_of(app).ask(get("/", *UPGRADE)).status == 500
    assert f"RuntimeError: unexpected ASGI message '{message['type']}': expected 'websocket.http.resp" in log.next()[1]


def test_the_socket_is_disconnected_behind_a_denial(client_of, events):
    async def app(scope, receive, send):
        events("message", await receive())
        await send(DENIAL)
        await send(BODY)
        await send(BODY)  # behind the end of an answer it is ignored, as in HTTP
        events("message", await receive())

    answer = client_of(app).ask(get("/", *UPGRADE))
    assert (answer.status, answer.body) == (401, b"no")
    assert events.next()[1] == {"type": "websocket.connect"}
    assert events.next()[1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


def test_a_denial_whose_application_fails_is_500(client_of, log):
    async def app(scope, receive, send):
        await receive()
        await send(DENIAL)
        raise KeyError("broken")

    assert client_of(app).ask(get("/", *UPGRADE)).status == 500
    assert "KeyError: 'broken'" in log.next()[1]


# ---- the end of a WebSocket


def test_a_disconnect_is_repeated(socket_of, events):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        events("message", await receive())
        events("message", await receive())

    socket_of(app).close(4001, "bye")
    assert events.next()[1] == events.next()[1] == {"type": "websocket.disconnect", "code": 4001, "reason": "bye"}


def test_text_that_is_no_utf_8_is_a_disconnect(client_of, events):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        events("message", await receive())

    client = client_of(app)
    assert client.ask(get("/", *UPGRADE)).status == 101
    client.send(b"\x81\x81\0\0\0\0\xff")  # one masked byte
    assert events.until("message")[1]["code"] == 1007


def test_a_handshake_may_be_answered_before_its_message_is_taken(socket_of, events):
    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})
        events("message", await receive())

    socket_of(app).send("a")
    assert events.next()[1] == {"type": "websocket.receive", "text": "a"}
