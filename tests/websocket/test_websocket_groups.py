"""A group that makes frames sends each message to WebSockets on all pollers."""

import pytest

import goev
from support import eventually
from websocket_support import BINARY, DEFLATE, TEXT, ClientPeer, Told, close, frame, text


@pytest.mark.parametrize("extensions", [(), (DEFLATE,)])
def test_a_group_sends_messages_to_all_its_members_on_all_pollers(start, stack, events, extensions):
    room = goev.Group(goev.websocket.Framing())

    class Member(Told):
        def on_open(self):
            room.add(self)
            super().on_open()

        def on_message(self, message):
            room.send(message)

    server = start(lambda: Member(events), pollers=2)
    clients = [ClientPeer(stack, server) for _ in range(6)]
    for number, client in enumerate(clients):
        client.open(*extensions if number % 2 else ())
    events.times("open", 6)
    big = "großes " * 20_000
    for message in ("hello €", b"\0\1", "", big):
        room.send(message)
        assert [client.message() for client in clients] == [message] * 6
    clients[0].send(text("from a member"))
    assert [client.message() for client in clients] == ["from a member"] * 6
    clients[0].send(close())
    assert clients[0].farewell() == (1000, "")
    events.until("close")
    eventually(lambda: len(room) == 5, "the one that left is no member")
    room.send("rest")
    assert [client.message() for client in clients[1:]] == ["rest"] * 5


@pytest.mark.parametrize("framing", [None, goev.LengthPrefixed(4), goev.Delimited(b"\n")])
def test_a_group_that_makes_no_frames_takes_no_websockets(opened, framing):
    client, handler = opened()
    group = goev.Group(framing)
    with pytest.raises(TypeError, match=r"a WebSocket can be a member of a Group\(goev.websocket.Framing\(\)\) only"):
        group.add(handler)
    group.send(b"nothing")
    handler.send("a message")
    assert client.message() == "a message"


def test_a_group_of_websockets_takes_no_others(start):
    class Raw(goev.Connection):
        def on_read(self):
            with pytest.raises(TypeError, match=r"goev\.websocket\.Framing\(\) is for WebSockets, not for Raw"):
                goev.Group(goev.websocket.Framing()).add(self)
            self.write(self.read())

    assert start(Raw).connect().ask(b"x") == b"x"


def test_a_framing_of_ones_own_may_make_frames(opened):
    class Shouts:
        def frame(self, message):
            return goev.websocket.Framing().frame(message.upper())

    client, handler = opened()
    group = goev.Group(Shouts())
    group.add(handler)
    group.send("hello")
    assert client.message() == "HELLO"


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_framing_makes_whole_frames(size):
    framing = goev.websocket.Framing()
    assert framing.frame("x" * size) == frame(TEXT, b"x" * size, mask=None)
    assert framing.frame(bytes(size)) == frame(BINARY, bytes(size), mask=None)
