"""A connection goes on with the next request until the request, the answer or the handler ends it."""

import gc
import re

import pytest

import goev
from http_support import DATA, Hello, Keeps, Target, get, post
from support import SMALL_BUFFERS, settle, sha256


def test_a_connection_is_kept_for_the_next_request(connected, events):
    class Counts(Target):
        def on_close(self, error):
            events("close", error)

    client = connected(Counts)
    for number in range(50):
        assert client.ask(get(f"/{number}")).body == b"/%d" % number
        assert client.ask(post(f"/{number}", b"body")).body == b"/%d" % number
    assert events.history == []
    client.finish()
    assert client.rest() == b""
    assert events.until("close") == ("close", None)


def test_http_1_0_ends_with_the_answer(connected):
    client = connected(Hello)
    client.send(get(version="1.0") + get())
    answer = client.answer()
    assert (answer.status, answer["connection"], answer["content-length"], answer.body) == (
        200,
        "close",
        "6",
        b"Hello\n",
    )
    assert client.rest() == b""


def test_http_1_0_is_kept_when_it_asks_for_it(connected):
    client = connected(Hello)
    for _ in range(3):
        answer = client.ask(get("/", "Connection: Keep-Alive", version="1.0"))
        assert (answer.body, answer["connection"].lower()) == (b"Hello\n", "keep-alive"), "9112-9.3: it must be told"
    assert client.ask(get(version="1.0"))["connection"] == "close"
    assert client.rest() == b""


def test_connection_close_ends_with_the_answer(connected, events):
    class Notes(Target):
        def on_request(self, request):
            events("request", request.target, request.keep_alive)
            super().on_request(request)

        def on_close(self, error):
            events("close", error)

    client = connected(Notes)
    client.send(get("/one") + get("/two", "Connection: close") + get("/never"))
    one, two = client.answer(), client.answer()
    assert (one.body, one["connection"] == "close", two.body, two["connection"]) == (b"/one", False, b"/two", "close")
    assert client.rest() == b""
    assert events.until("close") == ("close", None)
    assert events.history[:-1] == [("request", "/one", True), ("request", "/two", False)]


@pytest.mark.parametrize(
    ("request_", "said", "connection"),
    [
        (get("/", "Connection: close"), "x-trace", ["x-trace", "close"]),
        (get("/", "Connection: close"), "keep-alive", ["keep-alive", "close"]),
        (get("/", "Connection: close"), "Close", ["Close"]),
        (get("/", "Connection: keep-alive", version="1.0"), "x-trace", ["x-trace", "keep-alive"]),
        (get("/", "Connection: keep-alive", version="1.0"), "x-trace, keep-alive", ["x-trace, keep-alive"]),
        (get("/"), "x-trace", ["x-trace"]),
    ],
)
def test_whether_the_connection_goes_on_is_told_whatever_else_its_field_says(kept, request_, said, connection):
    client, request = kept(request_)
    request.respond(200, {"connection": said})
    head = client.take_until(b"\r\n\r\n").decode()
    assert re.findall(r"(?im)^connection: (.*)\r$", head) == connection


@pytest.mark.parametrize("how", ["given", "begun", "let go of"])
def test_nothing_behind_an_answer_that_says_close_is_given_to_the_handler(kept, events, log, how):
    client, first, last = kept(get("/first"), get("/last"))
    if how == "given":
        last.respond(200, {"connection": "close"}, b"last")
    elif how == "begun":
        last.start(200, {"connection": "close"})
    else:
        events.history.pop()
        del last
        gc.collect()
    settle(client.server.reactor)
    client.send(get("/never"))
    settle(client.server.reactor)
    assert "/never" not in [event[1].target for event in events.of("request")]
    first.respond(200, None, b"first")
    if how == "begun":
        last.end()
    assert client.answer().body == b"first"
    assert client.answer()["connection"] == "close"
    assert client.rest() == b""


@pytest.mark.parametrize("last", [get("/last", "Connection: close"), get("/last", version="1.0")], ids=["close", "1.0"])
def test_nothing_behind_a_last_request_is_given_to_the_handler_while_its_answer_is_due(kept, events, last):
    client, first, request = kept(get("/first"), last)
    client.send(get("/never"))
    settle(client.server.reactor)
    assert client.is_silent()
    request.respond(200, None, b"last")
    first.respond(200, None, b"first")
    answers = [client.answer(), client.answer()]
    assert [(answer.body, answer["connection"] == "close") for answer in answers] == [
        (b"first", False),
        (b"last", True),
    ]
    assert client.rest() == b""
    assert events.until("close") == ("close", None)
    assert events.names == ["request", "request", "close"]


def test_false_closes_after_the_answers_due(connected, events):
    class Enough(Keeps):
        def on_request(self, request):
            self.events("request", request)
            return request.target != "/last"

    client = connected(lambda: Enough(events))
    client.send(get("/first") + get("/last") + get("/never"))
    first, last = events.until("request")[1], events.until("request")[1]
    settle(client.server.reactor)
    assert client.is_silent()
    last.respond(200, None, b"last")
    settle(client.server.reactor)
    assert client.is_silent()
    first.respond(200, None, b"first")
    assert [client.answer().body, client.answer().body] == [b"first", b"last"]
    assert client.rest() == b""
    assert events.until("close") == ("close", None)
    assert events.names == ["request", "request", "close"]


def test_close_after_an_answer_still_sends_it(connected, events):
    class Closes(Keeps):
        def on_request(self, request):
            self.events("request")
            request.respond(200, None, DATA)
            self.close()

    client = connected(lambda: Closes(events), **SMALL_BUFFERS)
    client.send(get() * 3)
    assert sha256(client.answer().body) == sha256(DATA)
    assert client.rest() == b""
    assert events.until("close") == ("close", None)
    assert events.names == ["request", "close"]


def test_who_waits_for_an_answer_is_not_idle(kept, events):
    client, request = kept(get(), idle_timeout=0.1)
    assert client.is_silent(0.35)
    request.respond(200, None, b"late")
    assert client.answer().body == b"late"
    assert client.rest() == b"", "now it is idle"
    assert isinstance(events.until("close")[1], goev.IdleTimeout)
