"""Arguments and handlers that a client cannot use are refused at the call."""

import pytest

import goev
from websocket_support import Told


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "127.0.0.1:80",
        "",
        "ws:",
        "ws://",
        "ws:///path",
        "ws://:80/",
        "ws://user@127.0.0.1/",
        "ws://user:secret@127.0.0.1/",
        "ws://@127.0.0.1/",
        "ws://127.0.0.1/#fragment",
        "ws://127.0.0.1/#",
        "ws://127.0.0.1/a b",
        " ws://127.0.0.1/",
        "ws://127.0.0.1/ ",
        "ws://127.0.0.1/a\nb",
        "ws://127.0.0.1/a\r\nX: y",
        "ws://127.0.0.1/\0",
        "ws://127.0.0.1/é",
        "ws://127.0.0.1:0/",
        "ws://127.0.0.1:65536/",
        "ws://127.0.0.1:-1/",
        "ws://127.0.0.1:http/",
        "ws://[::1/",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_at_the_call(reactor, events, url):
    with pytest.raises(ValueError, match="url must be ws://host:port/path") as raised:
        goev.websocket.connect(reactor, url, Told(events))
    assert repr(url) in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "reason"),
    [
        ({"url": b"ws://127.0.0.1/"}, {}, TypeError, "url must be a str, not bytes"),
        ({"handler": goev.Connection()}, {}, TypeError, "handler must be a goev.websocket.Connection, not Connection"),
        ({}, {"headers": {"X": "a\r\nY: b"}}, ValueError, r"headers: 'X': 'a\\r\\nY: b' cannot be sent"),
        ({}, {"headers": {"X": "\0"}}, ValueError, "cannot be sent"),
        ({}, {"headers": {"X": "€"}}, ValueError, "cannot be sent"),
        ({}, {"headers": {"X: Y": "a"}}, ValueError, "cannot be sent"),
        ({}, {"headers": {"": "a"}}, ValueError, "cannot be sent"),
        ({}, {"headers": {"X": 1}}, TypeError, "headers must be of str"),
        ({}, {"headers": {"sec-websocket-KEY": "a"}}, ValueError, "sec-websocket-KEY is made by the handshake"),
        ({}, {"headers": {"Sec-WebSocket-Protocol": "a"}}, ValueError, "is made by the handshake"),
        ({}, {"timeout": 0}, ValueError, "timeout must be more than 0 seconds, not 0"),
        ({}, {"timeout": -1}, ValueError, "timeout must be from 0"),
        ({}, {"max_inptu": 1}, TypeError, "unexpected keyword argument 'max_inptu'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_at_the_call(reactor, events, arguments, options, error, reason):
    arguments = {"url": "ws://127.0.0.1/", "handler": Told(events), **arguments}
    with pytest.raises(error, match=reason):
        goev.websocket.connect(reactor, arguments["url"], arguments["handler"], **options)
    assert events.history == []


@pytest.mark.parametrize(
    ("attributes", "error", "reason"),
    [
        ({"max_message_size": 0}, ValueError, "max_message_size must be from 1"),
        ({"ping_interval": -1}, ValueError, "ping_interval must be from 0"),
        ({"subprotocols": "chat"}, TypeError, "subprotocols must be a sequence of str, not 'chat'"),
        ({"subprotocols": ["a\r\nb"]}, ValueError, "is no token"),
    ],
)
def test_attributes_that_make_no_sense_are_refused_at_the_call(reactor, events, attributes, error, reason):
    handler = type("Wrong", (Told,), attributes)(events)
    with pytest.raises(error, match=reason):
        goev.websocket.connect(reactor, "ws://127.0.0.1/", handler)


def test_a_handler_is_connected_once(opened, reactor, events):
    _, handler = opened()
    with pytest.raises(ValueError, match="a handler object serves one connection, once"):
        goev.websocket.connect(reactor, "ws://127.0.0.1/", handler)


def test_a_handler_is_not_connected_while_it_connects(asked, reactor):
    _, handler = asked()
    with pytest.raises(ValueError, match="a handler object serves one connection, once"):
        goev.websocket.connect(reactor, "ws://127.0.0.1/", handler)


def test_a_connector_does_not_connect_websockets(reactor, events):
    handler = Told(events)
    for connect in (goev.Connector(reactor).connect, lambda *args: goev.connect(reactor, *args)):
        with pytest.raises(TypeError, match=r"goev\.websocket\.connect\(\)"):
            connect("127.0.0.1:80", handler)
