"""Pings are answered by themselves, and find out peers that are silent."""

import time

import pytest

import goev
import goev.testing
from support import SMALL_BUFFERS, on_poller, settle
from websocket_support import NOISE, PING, PONG, SIGN_OF_LIFE, Echo, Frame, Told, closed, frame, text


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
    assert [str(error), *said] == [f"{reason} [GOEV501]", 1008, reason]


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


class Sends(goev.websocket.Connection):
    """Sends a long message when asked."""

    ping_interval, ping_timeout = 0.5, 1.0

    def on_message(self, message):
        self.send(bytes(3_000_000))


def test_a_peer_that_takes_data_is_alive_before_the_ping_has_reached_it():
    """The ping waits behind a message that the peer takes slowly, for longer than the interval and the timeout."""
    clock = goev.testing.Clock()
    peer = goev.testing.open(Sends(), clock=clock, auto_pause=False)
    peer.take_only(0)
    peer.send("go")
    for _ in range(20):
        clock.advance(0.9)
        assert not peer.closed
        peer.take_only(50_000)
    clock.advance(1.3)  # a quarter of the timeout late at most
    assert isinstance(peer.close_error, goev.PingTimeout)


def test_a_peer_whose_kernel_holds_the_message_and_the_ping_is_alive_while_it_reads(opened, events):
    """It takes two seconds: the peer has to be slower than the times of the ping, and those slower than the machine."""
    client, handler = opened(Echo, {"ping_interval": 0.5, "ping_timeout": 1.0})
    handler.send(bytes(3_000_000))
    taken, began = 0, time.monotonic()
    while taken < 1_500_000:
        taken += len(client.socket.recv(15_000))
        time.sleep(max(0.0, began + taken / 600_000 - time.monotonic()))
    assert "close" not in events.names


def test_the_time_of_a_ping_runs_when_the_peer_reads_no_more(opened, events):
    client, handler = opened(Echo, {"ping_interval": 0.05, "ping_timeout": 0.1}, **SMALL_BUFFERS)
    handler.send(bytes(len(NOISE)))
    client.socket.recv(50_000)
    assert closed(events)[0] is goev.PingTimeout
