"""Bytes that belong to no answer never reach an HTTP peer: neither by methods of the connection nor by a group."""

import pytest

import goev
from http_support import Keeps, get
from support import on_poller

ARGUMENTS = {
    "write": [b"raw"],
    "writelines": [[b"raw"]],
    "send": [b"raw"],
    "send_messages": [[b"raw"]],
    "sendfile": [0],
}


class Framed(Keeps):
    """Its framing is never used, because the stream is cut into requests."""

    framing = goev.Delimited()

    def on_open(self):
        self.events("open", self)


@pytest.fixture
def opened(connected, events):
    client = connected(lambda: Framed(events))
    return client, events.until("open")[1]


@pytest.mark.parametrize("method", ARGUMENTS)
def test_a_connection_refuses_bytes_between_its_answers_and_says_what_to_use(opened, events, method):
    client, connection = opened
    client.send(get())
    request = events.until("request")[1]
    for call in (lambda fn, *args: fn(*args), lambda fn, *args: on_poller(connection, fn, *args)):
        with pytest.raises(RuntimeError, match=rf"{method}\(\): an HTTP connection has answers: use respond\(\)"):
            call(getattr(connection, method), *ARGUMENTS[method])
    request.respond(200, None, b"answer")
    assert client.answer().body == b"answer"
    client.finish()
    assert client.rest() == b""


@pytest.mark.parametrize(
    "framing",
    [None, goev.Delimited(), goev.LengthPrefixed(4), goev.FixedSize(3)],
    ids=["bytes", "lines", "sizes", "fixed"],
)
def test_a_group_refuses_it_unless_the_framing_is_the_users(opened, framing):
    _, connection = opened
    with pytest.raises(TypeError, match="an HTTP connection can be a member only of a Group whose own framing"):
        goev.Group(framing).add(connection)


def test_a_group_for_websockets_refuses_it(opened):
    with pytest.raises(TypeError, match="is for WebSockets, not for Framed"):
        goev.Group(goev.websocket.Framing()).add(opened[1])


class Chunks:
    """An event stream: each message is one chunk of an answer that was begun."""

    def frame(self, message: str) -> bytes:
        event = f"data: {message}\n\n".encode()
        return b"%x\r\n%b\r\n" % (len(event), event)


def test_a_group_of_event_streams_sends_chunks_of_answers_that_were_begun(opened, events):
    client, connection = opened
    client.send(get())
    request = events.until("request")[1]
    request.start(200, {"content-type": "text/event-stream"})
    group = goev.Group(Chunks())
    group.add(connection)
    group.send("one")
    group.send("two")
    on_poller(connection, request.end)
    group.discard(connection)
    assert client.answer().chunks == [b"data: one\n\n", b"data: two\n\n"]


class Raw(goev.Connection):
    def __init__(self, events):
        self.events = events

    def on_open(self):
        self.write(b"<open>")
        self.events("raw", self)

    def on_read(self):
        self.write(self.read())


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (get("/", "Connection: Upgrade", "Upgrade: raw"), (101, {"Upgrade": "raw", "Connection": "Upgrade"})),
        (get("test:80", method="CONNECT"), (200, None)),
    ],
    ids=["upgrade", "connect"],
)
def test_the_handler_that_takes_over_writes_and_joins_groups(opened, events, request_, answer):
    client, connection = opened
    client.send(request_)
    request = events.until("request")[1]

    def hand_over():
        request.respond(*answer)
        request.hand_over(Raw(events))

    on_poller(connection, hand_over)
    assert client.head().status == answer[0]
    assert client.take(6) == b"<open>"
    successor = events.until("raw")[1]
    group = goev.Group()
    group.add(successor)
    group.send(b"to all")
    assert client.take(6) == b"to all"
    successor.writelines([b"1", b"2"])
    client.send(b"back")
    assert sorted(client.take(6)) == sorted(b"12back")
