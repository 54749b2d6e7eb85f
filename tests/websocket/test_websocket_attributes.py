"""A handler with attributes or callbacks that make no sense is refused before any handshake is agreed to."""

import pytest

from websocket_support import Echo, Site, ended, handshake

WRONG = [
    ({"max_message_size": 0}, ValueError, "max_message_size must be from 1 to 1073741824, not 0"),
    ({"max_message_size": 1 << 31}, ValueError, "max_message_size must be from 1 to 1073741824, not 2147483648"),
    ({"max_message_size": "1 MB"}, TypeError, "max_message_size must be an int, not str"),
    ({"ping_interval": -1}, ValueError, "ping_interval must be from 0 to 315360000 seconds, not -1"),
    ({"ping_interval": 0}, ValueError, "ping_interval must be more than 0 seconds, not 0"),
    ({"ping_interval": "20"}, TypeError, "ping_interval must be a number or None, not str"),
    ({"ping_timeout": float("nan")}, ValueError, "ping_timeout must be from 0 to 315360000 seconds, not NaN"),
    ({"ping_timeout": 0.0}, ValueError, "ping_timeout must be more than 0 seconds, not 0"),
    ({"open_timeout": -1}, ValueError, "open_timeout must be from 0 to 315360000 seconds, not -1"),
    ({"open_timeout": None}, TypeError, "open_timeout must be a number, not None"),
    ({"subprotocols": "chat"}, TypeError, "subprotocols must be a sequence of str, not 'chat'"),
    ({"subprotocols": [b"chat"]}, TypeError, "subprotocols must be a sequence of str, not [b'chat']"),
    ({"subprotocols": ["a, b"]}, ValueError, "subprotocols: 'a, b' is no token"),
    (
        {"origins": "https://example.org"},
        TypeError,
        "origins must be a collection of str or None, not 'https://example.org'",
    ),
]


@pytest.mark.parametrize(("attributes", "error", "reason"), WRONG, ids=lambda value: str(value)[:40])
def test_attributes_that_make_no_sense_are_told_and_no_handshake_agreed_to(
    connected, stack, events, log, attributes, error, reason
):
    client = connected(Echo, attributes)
    ended(client, events)
    assert f"{error.__name__}: {reason}" in log.next()[1]
    site = connected(Site, {"make": type("Wrong", (Echo,), attributes)})
    site.send(handshake())
    assert site.answer()[0] == 500
    assert f"{error.__name__}: {reason}" in log.next()[1]


def test_a_limit_that_the_handshake_spoils_is_told_before_it_is_agreed_to(connected, events, log):
    def spoil(self, request):
        self.max_message_size = "x"

    client = connected(Site, {"make": type("Spoils", (Echo,), {"on_handshake": spoil})})
    client.send(handshake())
    assert client.answer()[0] == 500
    assert "TypeError: max_message_size must be an int, not str" in log.next()[1]
    assert "open" not in events.names


@pytest.mark.parametrize("name", ["on_handshake", "on_open", "on_message", "on_pong", "on_close"])
def test_a_callback_is_no_generator(events, name):
    def callback(self, *_):
        yield

    kind = type("Chat", (Echo,), {name: callback})
    with pytest.raises(TypeError, match=rf"Chat\.{name} .*not a generator"):
        kind(events)
