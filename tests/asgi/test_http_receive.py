"""`receive` gives the body as it comes, and reports the end."""

import asyncio
import hashlib
import time

import pytest

import goev
from asgi_support import body_message, cancelled_waits, start_message, whole_body
from http_support import chunked, get, post
from support import PATIENCE, eventually, resident


async def digest(scope, receive, send):
    """Answers with the size and the hash of the body."""
    hash_, size, more = hashlib.sha256(), 0, True
    while more:
        message = await receive()
        hash_.update(message["body"])
        size, more = size + len(message["body"]), message["more_body"]
    await send(start_message())
    await send(body_message(f"{size} {hash_.hexdigest()}".encode()))


def messages(events, count):
    """An application that reports so many messages, then answers."""

    async def app(scope, receive, send):
        for _ in range(count):
            events("message", await receive())
        await send(start_message())
        await send(body_message())
        events("message", await receive())

    return app


NOTHING = {"type": "http.request", "body": b"", "more_body": False}
GONE = {"type": "http.disconnect"}


@pytest.mark.parametrize("request_", [get(), get(version="1.0"), post("/", b"")])
def test_a_request_without_a_body(client_of, events, request_):
    assert client_of(messages(events, 1)).ask(request_).status == 200
    assert [events.next()[1], events.next()[1]] == [NOTHING, GONE]


def test_an_application_that_does_not_ask_for_the_body_hears_of_the_end(client_of, events):
    client = client_of(messages(events, 0))
    assert client.ask(post("/", b"not read")).status == 200
    assert events.next()[1] == GONE
    assert client.ask(post("/", b"nor this")).status == 200


def test_a_body_comes_in_pieces(client_of, events):
    client = client_of(messages(events, 3))
    client.send(get("/", "Transfer-Encoding: chunked", method="POST"))
    for piece in (b"one", b"two"):
        client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        assert events.next()[1] == {"type": "http.request", "body": piece, "more_body": True}
    client.send(b"0\r\n\r\n")
    assert events.next()[1] == NOTHING
    assert client.answer().status == 200


@pytest.mark.parametrize("size", [1, 100, 65_536, 65_537, 3_000_000])
def test_bodies_of_any_size(client_of, size):
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    expected = f"{size} {hashlib.sha256(data).hexdigest()}".encode()
    client = client_of(digest)
    assert client.ask(post("/", data)).body == expected
    client.send(get("/", "Transfer-Encoding: chunked", method="POST") + chunked(data[: size // 2 + 1], data))
    assert client.answer().body.startswith(b"%d " % (size + size // 2 + 1 if size > 1 else 2))


def test_a_large_body_is_received_in_bounded_memory(client_of):
    count, most = 0, 0

    async def app(scope, receive, send):
        nonlocal count, most
        more = True
        while more:
            message = await receive()
            count, more = count + len(message["body"]), message["more_body"]
            most = max(most, len(message["body"]))
        await send(start_message())
        await send(body_message(b"%d" % count))

    client, buffer = client_of(app), bytes(1 << 20)
    before = resident()
    client.send(get("/", f"Content-Length: {256 << 20}", method="POST"))
    for _ in range(256):
        client.send(buffer)
    assert client.answer().body == b"%d" % (256 << 20)
    assert resident() - before < 32 << 20
    assert most <= 1 << 20


def test_a_body_that_is_not_taken_holds_the_client_back(client_of):
    release = asyncio.Event()
    loops = []

    async def app(scope, receive, send):
        loops.append(asyncio.get_running_loop())
        await release.wait()
        await digest(scope, receive, send)

    client, size = client_of(app, options={"receive_buffer_size": 65536}), 64 << 20
    client.send(get("/", f"Content-Length: {size}", method="POST"))
    client.raw.socket.settimeout(0.3)
    sent, end = 0, time.monotonic() + PATIENCE
    try:
        while time.monotonic() < end and sent < size:
            sent += client.raw.socket.send(bytes(1 << 16))
    except TimeoutError:
        pass
    assert 0 < sent < size
    client.raw.socket.settimeout(PATIENCE)
    loops[0].call_soon_threadsafe(release.set)
    while sent < size:
        sent += client.raw.socket.send(bytes(min(1 << 16, size - sent)))
    assert client.answer().body.startswith(b"%d " % size)


def test_the_rest_of_a_body_that_nobody_takes_is_discarded(client_of):
    async def app(scope, receive, send):
        await send(start_message(403))
        await send(body_message())

    client = client_of(app)
    client.send(get("/", "Content-Length: 5000000", method="POST") + bytes(5_000_000))
    assert client.answer().status == 403
    assert client.ask(get()).status == 403


def test_continue_is_sent_when_the_application_asks_for_the_body(client_of, events):
    asked = []

    async def app(scope, receive, send):
        events("began")
        await asyncio.sleep(0.05)
        asked.append(time.monotonic())
        body = await whole_body(receive)
        await send(start_message())
        await send(body_message(body))

    client = client_of(app)
    client.send(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    assert client.answer().status == 100
    assert time.monotonic() >= asked[0]
    client.send(b"body")
    assert client.answer().body == b"body"
    assert client.ask(get()).body == b""


def test_an_application_that_refuses_a_body_sends_no_continue(client_of):
    async def app(scope, receive, send):
        await asyncio.sleep(0)
        await send(start_message(413))
        await send(body_message(b"too large"))

    client = client_of(app)
    client.send(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (413, "close")


@pytest.mark.parametrize("end", ["finish", "reset"])
def test_a_client_that_goes_away_is_a_disconnect(client_of, events, end):
    async def app(scope, receive, send):
        events("message", await receive())
        events("waits")
        events("message", await receive())
        events("message", await receive())

    client = client_of(app)
    client.send(get())
    events.until("waits")
    getattr(client, end)()
    assert [events.until("message")[1], events.until("message")[1]] == [GONE, GONE]


def test_a_client_that_goes_away_in_the_middle_of_a_body(client_of, events):
    client = client_of(messages(events, 2))
    client.send(get("/", "Content-Length: 10", method="POST") + b"part")
    assert events.next()[1] == {"type": "http.request", "body": b"part", "more_body": True}
    client.reset()
    assert events.next()[1] == GONE


def test_a_client_that_has_half_closed_gets_its_answer(client_of):
    async def app(scope, receive, send):
        assert await receive() == NOTHING
        assert await receive() == GONE
        await send(start_message())
        await send(body_message(b"still here"))

    client = client_of(app)
    client.send(get())
    client.finish()
    assert client.answer().body == b"still here"


def test_a_wait_for_a_message_ends_when_the_answer_is_complete(client_of, events):
    """As the disconnect listeners of frameworks, which run beside the answer."""

    async def app(scope, receive, send):
        assert await receive() == NOTHING
        listener = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await send(start_message())
        await send(body_message())
        events("message", await listener)

    assert client_of(app).ask(get()).status == 200
    assert events.until("message")[1] == GONE


def test_a_wait_for_a_message_may_be_cancelled(client_of):
    async def app(scope, receive, send):
        assert await receive() == NOTHING
        try:
            async with asyncio.timeout(0.01):
                await receive()
        except TimeoutError:
            await send(start_message())
            await send(body_message(b"timeout"))

    client = client_of(app)
    assert client.ask(get()).body == client.ask(get()).body == b"timeout"


def test_waits_that_are_cancelled_leave_nothing_behind(client_of, events):
    async def app(scope, receive, send):
        assert await receive() == NOTHING
        events("left", await cancelled_waits(receive))
        await send(start_message())
        await send(body_message(b"ok", more_body=True))
        events("last", await receive())

    client = client_of(app)
    client.send(get())
    assert events.until("left")[1] < 50
    client.head()
    client.reset()
    assert events.until("last")[1] == GONE


def test_messages_may_be_awaited_in_tasks(client_of):
    async def app(scope, receive, send):
        assert await asyncio.create_task(receive()) == NOTHING
        await asyncio.gather(send(start_message()))
        await asyncio.create_task(send(body_message(b"ok")))

    assert client_of(app).ask(get()).body == b"ok"


def test_a_body_above_the_limit(client_of, events):
    client = client_of(messages(events, 0), limits=goev.http.Limits(max_body=10))
    assert client.ask(post("/", bytes(11))).status == 413
    assert not events.history


def test_requests_are_handled_one_after_the_other(client_of, events):
    async def app(scope, receive, send):
        events("began", scope["path"])
        await asyncio.sleep(0.01)
        events("ended", scope["path"])
        await send(start_message())
        await send(body_message(scope["path"].encode()))

    client = client_of(app)
    client.send(get("/1") + post("/2", b"body") + get("/3"))
    assert [client.answer().body for _ in range(3)] == [b"/1", b"/2", b"/3"]
    assert events.history == [(name, path) for path in ("/1", "/2", "/3") for name in ("began", "ended")]


def test_the_application_may_go_on_when_it_has_answered(client_of, events):
    async def app(scope, receive, send):
        await send(start_message())
        await send(body_message())
        events("message", await receive())
        await asyncio.sleep(0.05)
        events("ended")

    client = client_of(app)
    assert client.ask(get()).status == 200
    assert client.ask(get("/", "Connection: close")).status == 200
    assert client.rest() == b""  # the end of the connection does not wait for the application
    events.times("ended", 2)
    assert eventually(lambda: events.names.count("ended") == 2, "both have ended")
