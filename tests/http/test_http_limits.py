"""Limits bound what a client may send and have pending, and refuse values that make no sense."""

import pytest

import goev
from http_support import DATA, Hello, Keeps, Pieces, Reflects, get, post, post_chunked
from support import PATIENCE, in_thread, resident, settle, sha256


def test_no_more_requests_are_given_than_may_be_pending(connected, events):
    class Few(Keeps):
        limits = goev.http.Limits(max_pending=4)

    client = connected(lambda: Few(events))
    client.send(b"".join(get(f"/{n}") for n in range(20)))
    events.times("request", 4)
    settle(client.server.reactor)
    assert events.names.count("request") == 4
    requests = [events.next()[1] for _ in range(4)]
    requests[1].respond(200, None, b"/1")  # leaves after the first, and so frees no place before it
    settle(client.server.reactor)
    assert client.is_silent()
    for number in range(20):
        request = requests[number]
        if number != 1:
            request.respond(200, None, request.target.encode())
        assert client.answer().body == b"/%d" % number
        if number < 16:
            requests.append(events.until("request")[1])
            settle(client.server.reactor, 2)
            assert events.names.count("request") <= number + 6
    assert events.names.count("request") == 20


def test_the_default_is_thirty_two_pending(connected, events):
    client = connected(lambda: Keeps(events))
    client.send(get() * 40)
    events.times("request", 32)
    settle(client.server.reactor)
    assert events.names.count("request") == 32


def test_a_flood_of_requests_that_wait_takes_neither_memory_nor_callbacks(connected, events):
    client = connected(lambda: Keeps(events), receive_buffer_size=65536)
    flood = get("/", "X: " + "y" * 100) * 100_000
    before = resident()
    assert client.raw.fill(flood) < len(flood)
    assert resident() - before < 8_000_000
    assert events.names.count("request") == 32


@pytest.mark.parametrize("kind", [Keeps, Pieces])
@pytest.mark.parametrize("make", [post, post_chunked])
def test_a_client_still_sending_a_body_too_large_gets_to_read_why_not(connected, events, make, kind):
    client = connected(lambda: kind(events), linger_timeout=PATIENCE)
    sending = in_thread(client.send, make("/", DATA))
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (413, "close")
    assert client.rest() == b""
    assert isinstance(events.until("close")[1], goev.http.ProtocolError)
    sending.result(PATIENCE)
    assert b"" not in [event[2] for event in events.of("body")]
    if kind is Keeps:
        assert events.names == ["close"]


def test_max_body_may_be_larger(connected):
    class Large(Reflects):
        limits = goev.http.Limits(max_body=len(DATA))

    client = connected(Large)
    sending = in_thread(client.send, post("/", DATA))
    assert sha256(client.answer().body) == sha256(DATA)
    sending.result(PATIENCE)


LIMIT_NAMES = ("max_line", "max_headers", "max_head", "max_body", "max_pending")


def test_limits_have_defaults_and_can_be_read():
    limits = goev.http.Limits()
    assert [getattr(limits, name) for name in LIMIT_NAMES] == [8192, 100, 32768, 1_048_576, 32]
    changed = goev.http.Limits(max_body=5)
    assert [getattr(changed, name) for name in LIMIT_NAMES] == [8192, 100, 32768, 5, 32]


@pytest.mark.parametrize("name", LIMIT_NAMES)
def test_a_limit_that_makes_no_sense_is_refused_by_name(name):
    for value in (-1, -(10**30), 10**30):
        with pytest.raises(ValueError, match=name):
            goev.http.Limits(**{name: value})
    for value in ("5", 5.0, None):
        with pytest.raises(TypeError, match=name):
            goev.http.Limits(**{name: value})


@pytest.mark.parametrize("name", ["max_line", "max_head", "max_pending"])
def test_a_limit_of_zero_that_would_refuse_everything_is_refused(name):
    with pytest.raises(ValueError, match=f"(?s)(?=.*{name})(?=.*0)"):
        goev.http.Limits(**{name: 0})


def test_a_limit_nobody_knows_is_refused():
    with pytest.raises(TypeError, match="max_size"):
        goev.http.Limits(max_size=5)


def test_limits_that_are_none_are_refused_when_the_class_is_first_used():
    class Wrong(Hello):
        limits = {"max_body": 5}  # noqa: RUF012

    with pytest.raises(TypeError, match="limits"):
        Wrong()


@pytest.mark.parametrize("name", ["on_request", "on_body", "on_close"])
def test_a_generator_is_refused_when_its_class_is_first_used(name):
    def callback(self, *arguments):
        yield

    wrong = type("Wrong", (goev.http.Connection,), {name: callback})
    with pytest.raises(TypeError, match=rf"Wrong\.{name} .*not a generator"):
        wrong()
