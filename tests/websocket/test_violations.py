"""A violation of the protocol ends the WebSocket with its close code, behind the answers that were due."""

import pytest

import goev
from websocket_support import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MASK,
    PING,
    PONG,
    TEXT,
    close,
    fragments,
    frame,
    head,
    masked,
    text,
)

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
    sent, _, explained = str(error).partition(" [")
    assert explained == "GOEV601]", "the peer does not get the code of goev"
    assert said == (close_code, close_reason) == (code, sent[:123])
    assert ("message", "never") not in events.history


def test_text_is_refused_at_the_byte_that_makes_it_invalid(opened):
    client, _ = opened()
    client.send(head(TEXT, 1000) + masked(b"valid \xff", MASK))
    assert client.farewell()[0] == 1007
