"""A client masks each frame with a mask of its own, and otherwise speaks as a server does."""

import pytest

import goev
from support import PATIENCE, in_thread
from websocket_support import (
    BINARY,
    CLOSE,
    CONTINUATION,
    NO_TAKEOVER,
    PING,
    PONG,
    TEXT,
    WORDS,
    Echo,
    Told,
    close,
    deflated,
    fragments,
    frame,
    text,
)


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


def test_a_client_is_no_member_of_a_group(opened):
    """One frame for all has no mask, or the same one."""
    server, handler = opened()
    with pytest.raises(TypeError, match="a WebSocket of a client cannot be a member: it masks each message"):
        goev.Group(goev.websocket.Framing()).add(handler)
    handler.send("alone")
    assert server.message() == "alone"
