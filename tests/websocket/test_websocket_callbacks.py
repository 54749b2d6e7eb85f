"""Callbacks of a WebSocket come in order, on its poller, and end it by what they return or raise."""

import sys
import threading

import pytest

from support import PATIENCE, on_poller
from websocket_support import ORDERLY, PING, PONG, Echo, Frame, Told, close, frame, text


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
