"""A WebSocket goes on with another handler of WebSockets, wherever its stream is, and with no other."""

import pytest

import goev
from support import Events, on_poller
from websocket_support import DEFLATE, PING, PONG, SIGN_OF_LIFE, TEXT, Echo, Frame, Told, closed, fragments, frame, text


def test_a_websocket_takes_over_by_its_handshake_only(start, stack, events):
    class Raw(goev.Connection):
        def on_read(self):
            with pytest.raises(ValueError, match=r"a WebSocket takes over by its handshake: goev\.websocket\.upgrade"):
                self.hand_over(Told(events))
            self.write(self.read())

    client = start(Raw).connect()
    assert client.ask(b"x") == b"x"
    assert events.history == []


class Lobby(Told):
    """Hands over to the handler that the test puts here."""

    subprotocols = ("chess",)

    def on_message(self, message):
        super().on_message(message)
        if message == "play":
            self.hand_over(self.room)


@pytest.mark.parametrize("extensions", [(), (DEFLATE,)])
def test_a_websocket_is_handed_over_to_another_handler_wherever_the_stream_is(opened, events, extensions):
    told, behind = Events(), text("whole") + fragments(TEXT, b"in ", b"parts") + frame(PING, b"p") + text("last")
    for cut in range(len(behind)):
        room = Echo(told)
        client, _ = opened(Lobby, {"room": room}, "Sec-WebSocket-Protocol: chess", *extensions)
        client.send(text("play") + behind[:cut])
        assert told.until("open")[1] is room
        client.send(behind[cut:])
        assert [client.message(), client.message()] == ["whole", "in parts"]
        assert client.next() == Frame(PONG, b"p")
        assert client.message() == "last"
        assert (room.subprotocol, room.request.path, room.compressed) == ("chess", "/chat", bool(extensions))
        room.close(3000, "bye")
        assert client.farewell() == (3000, "bye")
        assert told.until("close") == ("close", None, 3000, "bye")
    ends = [event for event in events.history if event[0] == "close"]
    assert ends == [("close", None, None, "")] * len(behind), "the lobby has no more to do with it"


def test_who_takes_over_a_websocket_has_limits_of_its_own(opened, events):
    told = Events()
    small = type("Small", (Echo,), {"max_message_size": 10, "ping_interval": 0.05})(told)
    client, _ = opened(Lobby, {"room": small})
    begun = text("x" * 100)
    client.send(text("play") + begun[:50])
    told.until("open")
    assert client.next() == SIGN_OF_LIFE
    client.send(begun[50:])
    assert client.message() == "x" * 100, "it began under the limit of the other"
    client.send(text("y" * 11))
    assert client.farewell()[0] == 1009
    assert closed(told)[0] is goev.websocket.ProtocolError


def test_a_websocket_is_handed_over_to_nothing_else(opened, events):
    client, handler = opened()
    used = type(handler)(events)
    on_poller(handler, handler.hand_over, used)
    events.until("open")
    for other, error, says in [
        (goev.Connection(), TypeError, "a WebSocket goes on as one, not as Connection"),
        (goev.http.Connection(), TypeError, "a WebSocket goes on as one, not as HttpConnection"),
        (used, ValueError, "hand_over"),
        (type("Bad", (Told,), {"max_message_size": 0})(events), ValueError, "max_message_size"),
    ]:
        with pytest.raises(error, match=says):
            on_poller(used, used.hand_over, other)
    client.send(text("goes on"))
    assert client.message() == "goes on"


@pytest.mark.parametrize("method", ["write", "writelines", "sendfile", "shutdown_write"])
def test_nothing_is_written_between_the_frames(opened, method):
    client, handler = opened()
    argument = {"write": [b"raw"], "writelines": [[b"raw"]], "sendfile": [0], "shutdown_write": []}[method]
    with pytest.raises(RuntimeError, match=rf"{method}\(\): a WebSocket (has messages: use send|is closed as a whole)"):
        on_poller(handler, getattr(handler, method), *argument)
    handler.send("a message")
    assert client.message() == "a message"
