"""Each end of a WebSocket has its code and its reason, for the peer and for the handler."""

import pytest

import goev
from support import SMALL_BUFFERS, eventually, held, on_poller
from websocket_support import MEGABYTE, NOISE, ORDERLY, Told, close, closed, text


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
