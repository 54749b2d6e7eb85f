"""A compressed message stands alone, keeps to the window, and is refused at the limit of its size."""

import zlib

import pytest

import goev
from support import resident
from websocket_support import (
    BINARY,
    CONTINUATION,
    DEFLATE,
    NOISE,
    PING,
    PONG,
    TEXT,
    WORDS,
    Echo,
    Frame,
    Told,
    closed,
    deflated,
    fragments,
    frame,
)


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
