"""A request to an HTTP server becomes a WebSocket in its turn, on its poller, and without a body."""

import pytest

import goev
from http_support import get, post, post_chunked
from support import on_poller
from websocket_support import ClientPeer, Echo, Site, close, handshake, text


def test_a_request_is_upgraded(connected, events):
    client = connected(Site)
    client.send(get("/page") + handshake() + text("hello"))
    status, fields = client.answer()
    assert (status, fields["body"]) == (200, "/page")
    assert client.answer()[0] == 101
    assert client.message() == "hello"
    client.send(close())
    assert client.farewell() == (1000, "")
    events.until("close")
    assert events.names == ["upgraded", "http close", "open", "message", "close"]
    assert events.history[:2] == [("upgraded", True), ("http close", None)]


def test_who_is_closed_before_it_opens_says_so_too(connected, events):
    class Closes(Site):
        def on_request(self, request):
            handler = self.make(self.events)
            goev.websocket.upgrade(request, handler)
            handler.close(4001, "not you")

    client = connected(Closes)
    client.send(handshake())
    assert client.answer()[0] == 101
    assert client.farewell() == (4001, "not you")
    assert events.until("close") == ("close", None, 4001, "not you")
    assert events.names == ["http close", "open", "close"]


def test_a_request_that_is_no_handshake_is_answered_and_the_connection_goes_on(connected, events):
    client = connected(Site)
    for status, request in [(426, get("/chat")), (400, handshake(key="x")), (405, handshake(method="PUT"))]:
        client.send(request)
        assert client.answer()[0] == status
        assert events.next() == ("upgraded", False)
    client.send(get("/page"))
    assert client.answer()[1]["body"] == "/page"
    client.open()
    client.send(text("hello"))
    assert client.message() == "hello"


def test_a_handshake_behind_requests_without_an_answer_is_refused_in_its_turn(connected, events):
    client = connected(Site)
    client.send(get("/later") + handshake())
    later = events.next()[1]
    assert events.next() == ("upgraded", False)
    assert client.is_silent()
    later.respond(200, None, b"late")
    assert client.answer()[1]["body"] == "late"
    status, fields = client.answer()
    assert (status, fields["body"]) == (
        400,
        "a WebSocket cannot follow a body, nor requests that are not answered yet\n",
    )
    client.open()
    client.send(text("hello"))
    assert client.message() == "hello"


def test_a_connection_with_answers_due_is_not_handed_over(connected, events):
    class Hands(Site):
        def on_request(self, request):
            super().on_request(request)
            if request.path == "/switch":
                with pytest.raises(RuntimeError, match="answers are due"):
                    request.hand_over(goev.Connection())
                events("refused")

    client = connected(Hands)
    client.send(get("/later") + get("/switch"))
    later = events.next()[1]
    events.until("refused")
    later.respond(200, None, b"late")
    assert [client.answer()[1]["body"], client.answer()[1]["body"]] == ["late", "/switch"]


class Streaming(Site):
    def on_body(self, request, piece):
        self.events("body", piece)


@pytest.mark.parametrize(
    "body",
    [post("/chat", text("smuggled")), post_chunked("/chat", text("smuggled"))],
    ids=["of known length", "in chunks"],
)
def test_a_body_is_not_taken_for_frames(connected, events, body):
    client = connected(Streaming)
    fields, content = body.split(b"\r\n\r\n", 1)
    field = fields.split(b"\r\n")[-1].decode()
    client.send(handshake(field) + content)
    assert client.answer()[0] == 400
    assert events.next() == ("upgraded", False)
    assert events.next()[1] in (text("smuggled"), b"")
    client.open()  # of a request without one
    client.send(text("hello"))
    assert client.message() == "hello"


def test_a_connection_is_not_handed_over_amid_a_body(connected, events):
    class Hands(Streaming):
        def on_request(self, request):
            request.respond(101, {"upgrade": "other", "connection": "upgrade"})
            with pytest.raises(RuntimeError, match="in the middle of a request"):
                request.hand_over(goev.Connection())

        def on_body(self, request, piece):
            if piece == b"":
                request.hand_over(Raw())

    class Raw(goev.Connection):
        def on_read(self):
            events("raw", self.read())

    client = connected(Hands)
    client.send(post("/", b"body", "Upgrade: other", "Connection: upgrade") + b"behind it")
    assert client.answer()[0] == 101
    assert events.until("raw") == ("raw", b"behind it")


def test_an_upgrade_is_for_the_thread_of_the_poller(connected, events):
    client = connected(Site)
    client.send(handshake(target="/later"))
    request = events.next()[1]
    handler = Echo(events)
    with pytest.raises(goev.WrongThread):
        goev.websocket.upgrade(request, handler)
    assert client.is_silent()
    on_poller(client.server.reactor, goev.websocket.upgrade, request, handler)
    assert client.answer()[0] == 101
    client.send(text("hello"))
    assert client.message() == "hello"


def test_a_handler_serves_one_websocket_only(connected, events, stack, log):
    shared = Echo(events)
    client = connected(Site, {"make": lambda self, events: shared})
    client.open()
    other = ClientPeer(stack, client.server)
    other.send(handshake())
    assert other.answer()[0] == 500
    assert "a handler object serves one connection, once" in log.next()[1]
    client.send(text("hello"))
    assert client.message() == "hello"


def test_what_is_no_websocket_handler_is_refused(connected, events, log):
    client = connected(Site, {"make": lambda self, events: goev.Connection()})
    client.send(handshake())
    assert client.answer()[0] == 500
    assert "handler must be a goev.websocket.Connection, not Connection" in log.next()[1]
