"""A peer that takes too long for a head or a body gets 408; the time between two requests is no such time."""

import pytest

import goev
import goev.testing
from http_support import Keeps, get, post, post_chunked

LIMITS = goev.http.Limits(head_timeout=20, body_min_rate=(100, 10))


class Slow(Keeps):
    limits = LIMITS


class Answers(Slow):
    def on_request(self, request):
        request.respond(200, None, request.body)


class Streams(Slow):
    """Takes bodies in pieces, and answers at their end."""

    def on_body(self, request, data):
        if not data:
            request.respond(200, None, b"whole")


@pytest.fixture
def clock():
    return goev.testing.Clock()


@pytest.fixture
def peer(clock, events):
    """``peer(kind)``: the peer of a handler of this class."""
    return lambda kind=Answers, **options: goev.testing.open(kind(events), clock=clock, **options)


def is_too_late(peer, what: str) -> bool:
    answer = peer.answer()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert what.encode() in answer.body
    assert isinstance(peer.close_error, goev.http.ProtocolError)
    return "408" in str(peer.close_error)


def test_the_limits_are_on_by_default():
    limits = goev.http.Limits()
    assert (limits.head_timeout, limits.body_min_rate) == (20, (500, 20))
    assert "head_timeout=20.0, body_min_rate=(500.0, 20.0)" in repr(limits)
    off = goev.http.Limits(head_timeout=None, body_min_rate=None)
    assert (off.head_timeout, off.body_min_rate) == (None, None)
    assert "head_timeout=None, body_min_rate=None" in repr(off)


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"head_timeout": 0}, ValueError, "head_timeout must be more than 0 seconds, not 0"),
        ({"head_timeout": -1}, ValueError, "head_timeout must be from 0 to"),
        ({"head_timeout": "1"}, TypeError, "head_timeout"),
        ({"body_min_rate": 1}, TypeError, "body_min_rate"),
        ({"body_min_rate": (0, 1)}, ValueError, "the rate of body_min_rate must be more than 0 bytes a second, not 0"),
        ({"body_min_rate": (1, 0)}, ValueError, "the window of body_min_rate must be more than 0 seconds"),
    ],
)
def test_wrong_limits_are_refused(wrong, error, text):
    with pytest.raises(error, match=text):
        goev.http.Limits(**wrong)


def test_a_head_has_its_time_from_its_first_byte(peer, clock):
    slow = peer()
    clock.advance(1000)
    for byte in get()[:19]:
        slow.receive(bytes([byte]))
        clock.advance(1)
    assert slow.sent() == b""
    clock.advance(0.999)
    assert slow.sent() == b""
    clock.advance(0.001)
    assert is_too_late(slow, "head_timeout")


def test_the_time_between_requests_is_no_time_of_a_head(peer, clock):
    kept = peer()
    for _ in range(5):
        assert kept.ask("GET").status == 200
        clock.advance(1000)
    assert not kept.closed


def test_each_head_has_a_time_of_its_own(peer, clock):
    """Also if the end of one and the beginning of the next arrive together."""
    steady = peer()
    steady.receive(get()[:10])
    for _ in range(10):
        clock.advance(15)
        steady.receive(get()[10:] + get()[:10])
        assert steady.answer().status == 200
    clock.advance(20)
    assert is_too_late(steady, "head_timeout")


def test_a_request_that_came_whole_sets_no_timer(peer, clock):
    whole = peer(write_timeout=None)
    timers = clock.reactor.stats()[0]["timers"]
    for _ in range(10):
        whole.receive(get() * 3 + post("/", b"body"))
    assert clock.reactor.stats()[0]["timers"] == timers


@pytest.mark.parametrize("kind", [Answers, Streams])
@pytest.mark.parametrize("make", [post, post_chunked])
def test_a_body_has_its_time_and_more_for_each_byte(peer, clock, kind, make):
    slow = peer(kind)
    request = make("/", bytes(1000))
    at = request.index(b"\r\n\r\n") + 4
    slow.receive(request[:at])
    slow.receive(request[at : at + 500])
    clock.advance(14)
    assert slow.sent() == b""
    clock.advance(2)
    assert is_too_late(slow, "body_min_rate")


@pytest.mark.parametrize("kind", [Answers, Streams])
def test_a_body_at_the_rate_may_last_for_ever(peer, clock, kind):
    steady = peer(kind)
    request = post("/", bytes(30_000))
    begin = request.index(b"\r\n\r\n") + 4
    steady.receive(request[:begin])
    for at in range(begin, len(request), 100):
        assert steady.sent() == b""
        clock.advance(1)
        steady.receive(request[at : at + 100])
    assert steady.answer().status == 200


def test_a_handler_that_pauses_is_no_fault_of_the_peer(peer, clock, events):
    class Pauses(Streams):
        def on_open(self):
            self.events("handler", self)

        def on_request(self, request):
            self.pause_reading()

    paused = peer(Pauses)
    request = post("/", bytes(100))
    paused.receive(request[:-50])
    handler = events.until("handler")[1]
    paused.receive(request[-50:-20])
    clock.advance(1000)
    assert paused.sent() == b""
    clock.reactor.call_soon(handler.resume_reading)
    clock.settle()
    paused.receive(request[-20:])
    assert paused.answer().body == b"whole"


def test_a_peer_that_waits_for_100_continue_is_not_slow(peer, clock, events):
    waits = peer(Slow)
    waits.receive(get("/slow") + post("/", b"body", "Expect: 100-continue")[:-4])
    clock.advance(1000)
    assert waits.sent() == b"", "its turn has not come"
    events.until("request")[1].respond(200, None, b"slow")
    clock.settle()
    assert waits.sent().endswith(b"slowHTTP/1.1 100 Continue\r\n\r\n")
    clock.advance(9)
    waits.receive(b"bo")
    assert waits.sent() == b""
    clock.advance(2)
    assert is_too_late(waits, "body_min_rate")


def test_a_late_head_is_answered_behind_the_answers_that_are_due(peer, clock, events):
    late = peer(Slow)
    late.receive(get("/first") + b"GET")
    clock.advance(30)
    assert late.sent() == b""
    events.until("request")[1].respond(200, None, b"first")
    clock.settle()
    assert late.answer().body == b"first"
    assert is_too_late(late, "head_timeout")


def test_an_answer_that_was_begun_is_cut_where_the_body_of_its_request_is_late(peer, clock, events):
    class Begins(Slow):
        def on_request(self, request):
            super().on_request(request)
            request.start()
            request.write(b"part")

        def on_body(self, request, data):
            pass

    cut = peer(Begins)
    cut.receive(post("/", b"body")[:-1])
    clock.advance(11)
    sent = cut.sent()
    assert sent.startswith(b"HTTP/1.1 200 OK")
    assert sent.endswith(b"4\r\npart\r\n")
    assert isinstance(cut.close_error, goev.http.ProtocolError)


def test_empty_lines_are_no_way_to_stay(peer, clock):
    empty = peer()
    for _ in range(4):
        empty.receive(b"\r\n")
        clock.advance(1000)
    assert not empty.closed
    empty.receive(get())
    assert empty.answer().status == 200
    empty.receive(b"\r\n" * 5 + get())
    assert empty.answer().status == 400


def test_another_protocol_has_no_time_for_heads(peer, clock, events):
    class Reads(goev.Connection):
        def on_read(self):
            self.write(self.read())

    class Upgrades(Slow):
        def on_request(self, request):
            request.respond(101, {"upgrade": "echo"})
            self.hand_over(Reads())

    upgraded = peer(Upgrades)
    upgraded.receive(get("/", "Connection: upgrade", "Upgrade: echo"))
    assert upgraded.answer().status == 101
    upgraded.receive(b"GET")
    clock.advance(1000)
    assert upgraded.sent() == b"GET"
    assert not upgraded.closed
