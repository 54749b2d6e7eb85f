"""A body comes whole or in pieces, and is the same however the network cuts it."""

import time

import pytest

import goev
from http_support import DATA, Keeps, Pieces, Reflects, get, post, post_chunked
from support import PATIENCE, eventually, in_thread, on_poller, settle, sha256

# --- whole ---


CUT = {
    "get": (get("/cut?a=b", "X: y"), b""),
    "post": (post("/cut?a=b", b"the body\r\n\r\n"), b"the body\r\n\r\n"),
    "chunked": (post_chunked("/cut?a=b", b"the ", b"body", b"\r\n\r\n" * 5), b"the body" + b"\r\n\r\n" * 5),
    "trailers": (
        get("/cut?a=b", "Transfer-Encoding: chunked", method="POST") + b'3;a="b;\\""\r\nthe\r\n0\r\nX: y\r\nZ:\r\n\r\n',
        b"the",
    ),
}


@pytest.mark.parametrize("kind", [Reflects, Pieces])
@pytest.mark.parametrize("name", CUT)
def test_a_request_cut_anywhere_is_the_same_request(connected, events, name, kind):
    request, body = CUT[name]
    client = connected(Reflects if kind is Reflects else lambda: Pieces(events))
    for cut in range(1, len(request)):
        client.send(request + request[:cut])
        assert client.answer().body == body
        settle(client.server.reactor, 2)
        assert client.is_silent()
        client.send(request[cut:])
        assert client.answer().body == body
    if kind is Pieces:
        assert events.names.count("request") == 2 * (len(request) - 1)
        assert events.history.count(("body", "/cut?a=b", b"")) == 2 * (len(request) - 1)


@pytest.mark.parametrize("make", [post, post_chunked])
def test_a_body_may_be_larger_than_max_input(connected, make):
    body = bytes(range(256)) * 4096
    client = connected(Reflects, max_input=1000)
    request = make("/", body)
    sending = in_thread(client.send, request * 2)
    for _ in range(2):
        assert sha256(client.answer().body) == sha256(body)
    sending.result(PATIENCE)


# --- in pieces ---


def test_a_body_comes_in_pieces_behind_its_request(connected, events):
    client = connected(lambda: Pieces(events))
    request = post("/one", b"0123456789")
    client.send(request[:-10])
    assert events.next() == ("request", "/one", b""), "before any of the body is there"
    settle(client.server.reactor)
    for piece in (b"012", b"3456789"):
        client.send(piece)
        assert events.next() == ("body", "/one", piece)
    assert events.next() == ("body", "/one", b"")
    assert client.answer().body == b"0123456789"


def test_a_chunked_body_comes_in_pieces_too(connected, events):
    client = connected(lambda: Pieces(events))
    client.send(get("/one", "Transfer-Encoding: chunked", method="POST"))
    assert events.next() == ("request", "/one", b"")
    for sent, piece in ((b"3\r\n012\r\n", b"012"), (b"7\r\n345", b"345"), (b"6789\r\n", b"6789")):
        client.send(sent)
        assert events.next() == ("body", "/one", piece)
    settle(client.server.reactor)
    assert events.names.count("body") == 3
    client.send(b"0\r\nX: y\r\n\r\n")
    assert events.next() == ("body", "/one", b"")
    assert client.answer().body == b"0123456789"


@pytest.mark.parametrize(
    "request_", [get("/one"), post("/one", b""), post_chunked("/one"), get("/one", "Connection: close", version="1.0")]
)
def test_a_request_without_body_has_the_end_of_one(connected, events, request_):
    client = connected(lambda: Pieces(events))
    assert client.ask(request_).body == b""
    assert events.history[:2] == [("request", "/one", b""), ("body", "/one", b"")]


def test_pipelined_bodies_in_pieces_are_not_mixed(connected, events):
    client = connected(lambda: Pieces(events))
    requests = [get("/0"), post("/1", b"one"), post_chunked("/2", b"t", b"wo"), get("/3"), post("/4", b"four")]
    client.send(b"".join(requests))
    assert [client.answer().body for _ in requests] == [b"", b"one", b"two", b"", b"four"]
    order = [event[1] for event in events.history]
    assert order == sorted(order)
    assert [event[1] for event in events.history if event[-1] == b"" and event[0] == "body"] == [
        f"/{n}" for n in range(5)
    ]


def test_an_answer_may_leave_before_the_body_came_and_the_rest_is_still_given(connected, events):
    class Early(Keeps):
        def on_request(self, request):
            request.respond(200, None, request.target.encode())

        def on_body(self, request, data):
            self.events("body", data)

    client = connected(lambda: Early(events))
    request = post("/one", b"0123456789")
    client.send(request[:-5])
    assert client.answer().body == b"/one"
    client.send(request[-5:] + get("/two"))
    assert client.answer().body == b"/two"
    events.times("body", 4)
    pieces = [event[1] for event in events.history]
    assert b"".join(pieces) == b"0123456789"
    assert pieces.count(b"") == 2


def test_an_answer_may_be_streamed_while_the_body_comes(connected):
    class Upper(goev.http.Connection):
        def on_request(self, request):
            request.start()

        def on_body(self, request, data):
            request.write(data.upper()) if data else request.end()

    client = connected(Upper)
    client.send(get("/", "Transfer-Encoding: chunked", method="POST"))
    assert client.head()["transfer-encoding"] == "chunked"
    for word in (b"one", b"two"):
        client.send(b"3\r\n" + word + b"\r\n")
        assert client.take(8) == b"3\r\n" + word.upper() + b"\r\n"
    client.send(b"0\r\n\r\n" + get())
    assert client.take(5) == b"0\r\n\r\n"
    assert client.answer().body == b""


def test_false_from_on_body_closes(connected, events):
    class Enough(Keeps):
        def on_request(self, request):
            pass

        def on_body(self, request, data):
            self.events("body", data)
            request.respond(200, None, b"enough")
            return False

    client = connected(lambda: Enough(events))
    client.send(post("/", b"0123456789")[:-5])
    assert client.answer().body == b"enough"
    assert client.rest() == b""
    assert events.until("close") == ("close", None)
    assert events.names == ["body", "close"]


def test_a_pause_holds_the_pieces_and_slows_the_client_down(connected, events):
    body = DATA[:8_000_000]

    class Pauses(Pieces):
        limits = goev.http.Limits(max_body=len(body))

        def on_open(self):
            self.events("open", self)

        def on_body(self, request, data):
            if not self.body:
                self.pause_reading()
            super().on_body(request, data)

    client = connected(lambda: Pauses(events))
    sending = in_thread(client.send, post("/", body))
    handler = events.until("open")[1]
    events.until("body")
    time.sleep(0.1)  # what must not come has its chance to
    assert events.names.count("body") == 1
    assert not sending.done()
    on_poller(handler, handler.resume_reading)
    assert sha256(client.answer().body) == sha256(body)
    sending.result(PATIENCE)


@pytest.mark.parametrize("how", ["finish", "reset"])
@pytest.mark.parametrize("make", [post, post_chunked])
@pytest.mark.parametrize("kind", [Keeps, Pieces])
def test_a_body_of_which_the_end_is_missing_is_no_body(connected, events, kind, make, how):
    client = connected(lambda: kind(events))
    client.send(make("/", b"0123456789")[:-1])
    settle(client.server.reactor)
    client.finish() if how == "finish" else client.reset()
    events.until("close")
    if kind is Keeps:
        assert events.names == ["close"]
    else:
        assert events.names[0] == "request"
        assert b"" not in [event[2] for event in events.of("body")]


class Early(Keeps):
    """Leaves the first to the test, answers the others at once, and takes bodies in pieces."""

    early = b"early"

    def on_open(self):
        self.events("handler", self)

    def on_request(self, request):
        super().on_request(request)
        if request.target != "/first" and self.early:
            request.respond(200, None, self.early)

    def on_body(self, request, data):
        self.events("body", data)


@pytest.mark.parametrize("early", [b"early", b""], ids=["answered", "not answered"])
@pytest.mark.parametrize("how", ["malformed", "half-close", "malformed and answered late"])
def test_a_body_that_does_not_come_whole_costs_the_answers_before_nothing(kept, events, early, how):
    kind = type("Kind", (Early,), {"early": early})
    client, first, last = kept(get("/first"), get("/last", "Transfer-Encoding: chunked", method="POST"), kind=kind)
    client.send(b"5\r\nhello\r\n" + (b"" if how == "half-close" else b"nonsense\r\n"))
    if how == "half-close":
        client.finish()
    eventually(lambda: ("body", b"hello") in events.history, "the body began")
    settle(client.server.reactor)
    if how == "malformed and answered late" and not early:
        events.of("handler")[0][1].call_soon(last.respond)  # raises ConnectionClosed, which ends nothing more
        settle(client.server.reactor)
    first.respond(200, None, b"first")
    assert client.answer().body == b"first"
    if early:
        assert client.answer().body == b"early"
    elif how != "half-close":
        assert client.answer().status == 400
    assert client.rest() == b""
    assert type(events.until("close")[1]) is (type(None) if how == "half-close" else goev.http.ProtocolError)
