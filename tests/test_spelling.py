"""A method that looks like a callback and is none is warned of; one that the class uses itself is not."""

import warnings

import pytest

import goev
import goev.testing
from goev.spelling import CALLBACKS, KNOWN, suspects
from support import on_poller

KINDS = {
    goev.Connection: "goev.Connection",
    goev.http.Connection: "goev.http.Connection",
    goev.websocket.Connection: "goev.websocket.Connection",
    goev.EventHandler: "goev.EventHandler",
    goev.Datagram: "goev.Datagram",
}


def handler(base: type, *names: str) -> type:
    return type("Handler", (base,), {name: lambda self, *_: None for name in names})


def found(cls: type) -> dict[str, str]:
    return {name: callback for name, callback, _ in suspects(cls)}


@pytest.mark.parametrize(
    ("base", "name", "callback"),
    [
        (goev.Connection, "on_data", "on_read"),
        (goev.Connection, "on_connected", "on_open"),
        (goev.Connection, "onRead", "on_read"),
        (goev.Connection, "OnClose", "on_close"),
        (goev.Connection, "data_received", "on_read"),
        (goev.Connection, "dataReceived", "on_read"),
        (goev.Connection, "connection_lost", "on_close"),
        (goev.Connection, "on_raed", "on_read"),
        (goev.Connection, "on_mesage", "on_message"),
        (goev.Connection, "on_messsage", "on_message"),
        (goev.Connection, "on_clsoe", "on_close"),
        (goev.Connection, "on_request", "on_request"),
        (goev.Connection, "on_write", "on_drain"),
        (goev.http.Connection, "on_request_received", "on_request"),
        (goev.http.Connection, "on_data", "on_body"),
        (goev.http.Connection, "on_read", "on_read"),
        (goev.websocket.Connection, "on_data", "on_message"),
        (goev.websocket.Connection, "on_messages", "on_messages"),
        (goev.Datagram, "datagram_received", "on_datagram"),
        (goev.EventHandler, "onwrite", "on_write"),
    ],
)
def test_a_name_like_that_of_a_callback_is_found(base, name, callback):
    assert found(handler(base, name)) == {name: callback}


@pytest.mark.parametrize("base", KINDS)
def test_callbacks_are_never_found(base):
    assert found(handler(base, *CALLBACKS[KINDS[base]])) == {}


OWN = [
    "on_login",
    "on_join",
    "on_ready",
    "on_head",
    "on_lose",
    "on_ping",
    "on_tick",
    "on_load",
    "on_command",
    "on_",
    "on",
]
METHODS = ["handle", "setup", "finish", "open", "feed", "received", "_on_data_from_elsewhere"]


@pytest.mark.parametrize("name", [*OWN, *METHODS])
def test_names_of_the_users_own_are_not_found(name):
    for base in (goev.Connection, goev.http.Connection):
        assert found(handler(base, name)) == {}


def test_a_method_that_the_class_uses_is_its_own_business():
    class Calls(goev.Connection):
        def on_read(self):
            self.schedule(0.0, lambda: self.on_data(self.read()))

        def on_data(self, data):
            raise NotImplementedError

    class Inherits(Calls):
        def on_data(self, data):
            self.write(data)

    class LooksUp(goev.Connection):
        def on_read(self):
            getattr(self, f"on_{self.read().decode()}")()

        def on_connect(self):
            pass

    assert found(Calls) == found(Inherits) == found(LooksUp) == {}


@pytest.mark.parametrize("base", KINDS)
def test_every_name_of_other_libraries_stands_for_a_callback(base):
    assert all(callback in set().union(*CALLBACKS.values()) for meant in KNOWN.values() for callback in meant)
    assert all(name == name.lower() and "_" not in name for name in KNOWN)


def test_the_first_handler_of_a_class_warns_and_names_the_callback():
    cls = handler(goev.Connection, "on_data")
    with pytest.warns(RuntimeWarning, match=r"Handler\.on_data is never called: goev\.Connection has on_read"):
        goev.testing.open(cls())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        goev.testing.open(cls())


def test_the_warning_points_to_the_method():
    class Handler(goev.Connection):
        def on_data(self):
            pass

    with pytest.warns(RuntimeWarning, match="on_data is never called") as caught:
        goev.testing.open(Handler())
    code = Handler.on_data.__code__
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, code.co_firstlineno)]


def test_an_acceptor_warns_of_its_class_at_once(idle):
    cls = handler(goev.http.Connection, "on_read")
    with pytest.warns(RuntimeWarning, match=r"on_read is a callback of goev\.Connection"):
        goev.Acceptor(idle, "127.0.0.1:0", cls)


def test_the_other_kinds_warn_too(reactor):
    with pytest.warns(RuntimeWarning, match=r"goev\.Datagram has on_datagram"):
        on_poller(reactor, handler(goev.Datagram, "datagram_received"))
    with pytest.warns(RuntimeWarning, match=r"goev\.EventHandler has on_read"):
        on_poller(reactor, handler(goev.EventHandler, "handle_read"))
