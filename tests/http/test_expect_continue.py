"""A client that expects 100-continue gets it once, in its turn, and only where the body is wanted."""

import pytest

import goev
from http_support import BrokenError, Keeps, Pieces, Reflects, Target, chunked, get, post
from support import settle

EXPECTS = "Expect: 100-continue"


@pytest.mark.parametrize("expect", [EXPECTS, "EXPECT:100-Continue"])
@pytest.mark.parametrize("kind", [Reflects, Pieces])
def test_who_waits_is_told_to_go_on_and_once(connected, events, kind, expect):
    client = connected(Reflects if kind is Reflects else lambda: Pieces(events))
    for body in (b"the body", b"another"):
        request = post("/", body, expect)
        client.send(request[: -len(body)])
        answer = client.answer()
        assert (answer.status, answer.fields) == (100, [])
        settle(client.server.reactor)
        assert client.is_silent()
        client.send(body)
        assert client.answer().body == body


def test_who_waits_with_a_chunked_body_is_told_to_go_on(connected):
    client = connected(Reflects)
    client.send(get("/", "Transfer-Encoding: chunked", EXPECTS, method="POST"))
    assert client.answer().status == 100
    client.send(chunked(b"hel", b"lo"))
    assert client.answer().body == b"hello"


@pytest.mark.parametrize("kind", [Reflects, Pieces])
def test_who_expects_and_does_not_wait_is_answered(connected, events, kind):
    """9110-10.1.1: the interim answer may be left out when the body is there."""
    client = connected(Reflects if kind is Reflects else lambda: Pieces(events))
    for _ in range(3):
        client.send(post("/", b"the body", EXPECTS))
        answer = client.answer()
        if answer.status == 100:
            answer = client.answer()
        assert (answer.status, answer.body) == (200, b"the body")
    assert client.is_silent()


def test_who_expects_without_a_body_is_answered_only(connected):
    client = connected(Target)
    for request in (get("/a", EXPECTS), post("/b", b"", EXPECTS)):
        assert client.ask(request).status == 200


def test_http_1_0_is_never_told_to_go_on(connected):
    client = connected(Reflects)
    request = post("/", b"the body", EXPECTS, version="1.0")
    client.send(request[:-8])
    settle(client.server.reactor)
    assert client.is_silent()
    client.send(request[-8:])
    assert client.answer().body == b"the body"


def test_a_body_too_large_is_refused_to_who_waits(connected, events):
    client = connected(lambda: Keeps(events))
    client.send(get("/", f"Content-Length: {(1 << 20) + 1}", EXPECTS, method="POST"))
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (413, "close")
    assert client.rest() == b""
    assert isinstance(events.until("close")[1], goev.http.ProtocolError)


def test_who_waits_may_be_refused_without_reading_the_body(connected, events):
    """Whether the client then sends the body is not known: what it sends is never taken for a request."""

    class Refuses(Keeps):
        def on_request(self, request):
            self.events("request", request.target)
            request.respond(403, None, b"no")

        def on_body(self, request, data):
            pass

    smuggled = get("/smuggled")
    client = connected(lambda: Refuses(events))
    client.send(post("/", smuggled, EXPECTS)[: -len(smuggled)])
    answer = client.answer()
    assert (answer.status, answer.body) == (403, b"no"), "and no 100 before it"
    if answer["connection"] == "close":
        client.send(smuggled)
        assert client.rest() == b""
    else:
        client.send(smuggled)
        settle(client.server.reactor)
        assert client.is_silent()
    assert events.of("request") == [("request", "/")]


def test_who_waits_is_told_to_go_on_in_its_turn(connected, events):
    """9110-15.2: to the client an interim answer belongs to the first request that has no final one."""

    class FirstLater(Keeps):
        def on_request(self, request):
            self.events("request", request)

    client = connected(lambda: FirstLater(events))
    request = post("/two", b"the body", EXPECTS)
    client.send(get("/one") + request[:-8])
    one = events.until("request")[1]
    settle(client.server.reactor)
    assert client.is_silent()
    one.respond(200, None, b"one")
    assert client.answer().body == b"one"
    assert client.answer().status == 100
    client.send(request[-8:])
    two = events.until("request")[1]
    assert two.body == b"the body"
    two.respond(200, None, b"two")
    assert client.answer().body == b"two"


def test_who_waits_is_not_told_to_go_on_when_the_request_raised(connected, events, log):
    class Raises(Pieces):
        def on_request(self, request):
            raise BrokenError

    client = connected(lambda: Raises(events))
    client.send(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    assert client.answer().status == 500
    assert client.rest() == b""
