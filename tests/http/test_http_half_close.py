"""A half-closed client gets all answers that are due, and a reset is told at once."""

from contextlib import suppress

import pytest

import goev
from http_support import Keeps, Pieces, Target, get, post_chunked
from support import eventually, held, settle


def test_a_half_close_is_no_end_before_the_answers(kept, events):
    client, one, two, three = kept(get("/1"), get("/2"), get("/3"))
    client.finish()
    settle(client.server.reactor)
    assert client.is_silent()
    three.respond(200, None, b"three")
    two.start()
    two.write(b"two")
    one.respond(200, None, b"one")
    assert client.answer().body == b"one"
    assert client.head()["transfer-encoding"] == "chunked"
    assert client.take(8) == b"3\r\ntwo\r\n"
    two.end()
    assert client.take(5) == b"0\r\n\r\n"
    assert client.answer().body == b"three"
    assert client.rest() == b""
    assert events.until("close") == ("close", None)


def test_a_half_close_right_behind_many_requests_loses_none(connected):
    client = connected(Target)
    client.send(b"".join(get(f"/{n}") for n in range(200)))
    client.finish()
    assert [client.answer().body for _ in range(200)] == [b"/%d" % n for n in range(200)]
    assert client.rest() == b""


def test_a_half_close_loses_none_that_waits_for_the_answers_before(connected, events):
    class Later(Keeps):
        limits = goev.http.Limits(max_pending=2)

        def on_request(self, request):
            super().on_request(request)
            self.run_in_executor(None, int, then=lambda _: request.respond(200, None, request.target.encode()))

    client = connected(lambda: Later(events))
    client.send(b"".join(get(f"/{n}") for n in range(20)) + get("/upgrade", "Connection: upgrade", "Upgrade: h2c"))
    client.send(get("/last"))
    client.finish()
    answers = [client.answer().body for _ in range(22)]
    assert answers == [*(b"/%d" % n for n in range(20)), b"/upgrade", b"/last"]
    assert client.rest() == b""
    assert events.until("close") == ("close", None)


def test_a_half_close_behind_a_body_that_came_whole_costs_no_answer_when_the_handler_has_enough(connected, events):
    class Enough(Pieces):
        def on_request(self, request):
            return False

    client = connected(lambda: Enough(events))
    with held(client.server.reactor):
        client.send(post_chunked("/", b"a", b"b"))
        client.finish()
    assert client.answer().body == b"ab"
    assert client.rest() == b""


def test_a_half_close_within_a_request_still_answers_those_before(kept, events):
    client, one = kept(get("/1"))
    client.send(get("/2")[:-1])
    settle(client.server.reactor)
    client.finish()
    settle(client.server.reactor)
    one.respond(200, None, b"one")
    assert client.answer().body == b"one"
    assert client.rest()[:12] in (b"", b"HTTP/1.1 400"), "9112-8: an error answer to what is incomplete is optional"
    events.until("close")
    assert events.names == ["request", "close"]


@pytest.mark.parametrize("writes", [True, False])
@pytest.mark.parametrize("last", [get("/", "Connection: close"), get()], ids=["close", "keep-alive"])
def test_a_reset_is_told_also_when_more_input_waits_than_may(kept, events, log, last, writes):
    client, request = kept(last, max_input=100_000)
    request.start()
    handed_out = len(events.of("request"))
    client.raw.fill(get("/more") * 30_000)
    events.history[:] = events.history[: handed_out + 1]
    client.reset()

    def write():
        with suppress(goev.ConnectionClosed):
            request.write(b"x")
        return events.of("close")

    eventually(write if writes else lambda: events.of("close"), "the end is told")
    assert type(events.of("close")[0][1]) in (ConnectionResetError, BrokenPipeError)
