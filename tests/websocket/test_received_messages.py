"""A message arrives as it was sent, in any fragments and segments, up to max_message_size."""

import pytest

import goev
from support import PATIENCE, SMALL_BUFFERS, in_thread, settle
from websocket_support import (
    BINARY,
    MEGABYTE,
    NOISE,
    PING,
    PONG,
    TEXT,
    Echo,
    Frame,
    deflated,
    fragments,
    frame,
    head,
    text,
)


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
    assert reason == "a message of at least 1001 bytes: max_message is 1000"
    assert str(error) == f"{reason} [GOEV601]"
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
