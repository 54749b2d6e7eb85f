"""Output that waits stays within max_output, and one answer always fits where nothing waits."""

import sys

import pytest

import goev
from http_support import DATA, HttpClient, Keeps, Target, get
from support import PATIENCE, SMALL_BUFFERS, eventually, in_thread, on_poller, resident, settle, sha256


class Drains(Keeps):
    def on_open(self):
        self.events("handler", self)

    def on_drain(self):
        self.events("drain")


def test_one_answer_into_an_empty_queue_always_fits(connected):
    class Large(goev.http.Connection):
        def on_request(self, request):
            request.respond(200, None, DATA)

    client = connected(Large, max_output=100_000, **SMALL_BUFFERS)
    for _ in range(2):
        assert sha256(client.ask(get()).body) == sha256(DATA)


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_one_answer_of_another_thread_always_fits_where_nothing_waits(kept, kind):
    client, request = kept(get(), max_output=100_000, **SMALL_BUFFERS)
    request.respond(200, None, kind(DATA))
    assert client.answer().body == DATA


@pytest.mark.parametrize("first", [0, 1])
def test_one_answer_out_of_its_turn_always_fits(kept, first):
    client, *requests = kept(get("/0"), get("/1"), max_output=100_000, **SMALL_BUFFERS)
    data = [b"small", DATA[:1_000_000]]
    for number in (first, 1 - first):
        on_poller(client.server.reactor, requests[number].respond, 200, None, data[number])
    assert [client.answer().body, client.answer().body] == data


def test_answers_out_of_their_turn_do_not_hold_up_the_one_before(kept, events):
    client, first, second = kept(get("/first"), get("/second"), kind=Drains)
    handler = events.of("handler")[0][1]
    on_poller(handler, second.respond, 200, None, bytes(200_000))

    def write():
        first.start()
        while not handler.over_high_water:
            first.write(bytes(1_000_000))

    on_poller(handler, write)
    assert client.head()["transfer-encoding"] == "chunked"
    reading = in_thread(client.answer_behind_chunks)
    events.until("drain")
    on_poller(handler, first.end)
    assert reading.result(PATIENCE).body == bytes(200_000)


def test_answers_out_of_their_turn_are_bound_by_max_output(kept, events):
    client, _, flood = kept(get("/first"), get("/second"), max_output=1_000_000)

    def write():
        flood.start()
        for _ in range(200):
            flood.write(bytes(10_000))

    with pytest.raises(goev.ConnectionClosed):
        on_poller(client.server.reactor, write)
    assert isinstance(events.until("close")[1], goev.OutputOverflow)


def test_one_piece_of_an_answer_of_another_thread_always_fits_where_nothing_waits(kept):
    client, request = kept(get(), max_output=100_000, **SMALL_BUFFERS)
    request.start()
    settle(client.server.reactor)
    request.write(DATA)
    client.raw.discard(len(DATA))


def test_a_client_that_never_reads_its_answers_takes_no_memory(start, stack):
    server = start(Target, **SMALL_BUFFERS)
    client, other = HttpClient(stack, server, receive_buffer=16384), HttpClient(stack, server)
    flood = get("/" + "x" * 1000) * 20_000
    before = resident()
    assert client.raw.fill(flood) < len(flood)
    assert resident() - before < 8_000_000
    assert other.ask(get("/other")).body == b"/other"


class Big(Keeps):
    """Answers all requests but ``/slow`` with the same large object."""

    body = bytes(1_000_000)

    def on_request(self, request):
        super().on_request(request)
        if request.target != "/slow":
            request.respond(200, None, self.body)


def test_no_request_is_handed_out_while_the_answers_that_wait_exceed_high_water(connected, events):
    client = connected(lambda: Big(events))
    client.send(get("/slow") + get("/big") * 31)
    slow = events.until("request")[1]
    events.until("request")
    settle(client.server.reactor)
    assert events.names.count("request") == 2, "the answer to the second is as large as may wait"
    slow.respond(200, None, b"slow")
    assert client.answer().body == b"slow"
    assert all(client.answer().body == Big.body for _ in range(31))
    assert client.is_silent()


def test_answers_that_wait_are_held_by_reference_and_a_peer_that_is_gone_frees_them(start, stack, events):
    server = start(lambda: Big(events))
    before = sys.getrefcount(Big.body)
    clients = [HttpClient(stack, server) for _ in range(20)]
    for client in clients:
        client.send(get("/slow") + get("/big") * 31)
    events.times("request", 40)
    settle(server.reactor)
    held = sys.getrefcount(Big.body) - before  # an assert would hold it, too
    assert held == 20, "each connection holds it once"
    memory = resident()
    for client in clients:
        client.reset()
    events.times("close", 20)
    eventually(lambda: sys.getrefcount(Big.body) == before, "the bodies are freed, though /slow was never answered")
    assert resident() - memory < 5_000_000


def test_output_in_the_queue_and_answers_that_wait_reach_max_output_together_only(kept, events):
    client, first, second = kept(get("/first"), get("/second"), max_output=4_000_000, **SMALL_BUFFERS)

    def fill():
        first.start()
        first.write(bytes(3_000_000))
        second.start()
        for _ in range(30):
            second.write(bytes(100_000))

    with pytest.raises(goev.ConnectionClosed):
        on_poller(client.server.reactor, fill)
    assert isinstance(events.until("close")[1], goev.OutputOverflow)
