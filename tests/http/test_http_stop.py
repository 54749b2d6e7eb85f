"""A stop waits for the answers that are due, within its grace, and for nothing else."""

import time

import pytest

import goev
from http_support import DATA, HttpClient, Keeps, get
from support import PATIENCE, in_thread, sha256


def stopping(server, grace: float):
    """Stop it; what comes out at last is the report."""
    server.reactor.stop(grace)
    return in_thread(server.reactor.join, PATIENCE)


def test_a_stop_waits_for_the_answers_due_and_for_nobody_else(start, stack, events):
    server = start(lambda: Keeps(events))
    idle, client = HttpClient(stack, server), HttpClient(stack, server)
    idle.send(get("/idle"))
    events.until("request")[1].respond(200, None, b"idle")
    assert idle.answer().body == b"idle"
    client.send(get("/due"))
    request = events.until("request")[1]
    report = stopping(server, PATIENCE)
    assert idle.rest() == b"", "which says that the stop has come"
    client.send(get("/too-late"))
    request.respond(200, None, DATA)
    assert sha256(client.answer().body) == sha256(DATA)
    assert client.rest() == b""
    idle.reset()
    client.raw.close()
    assert report.result(PATIENCE) == goev.StopReport(closed=2, aborted=0)
    assert events.names.count("request") == 2
    assert events.of("close") == [("close", None)] * 2


def test_a_stop_does_not_wait_longer_than_its_grace_for_an_answer(start, stack, events):
    server = start(lambda: Keeps(events))
    client = HttpClient(stack, server)
    client.send(get())
    request = events.until("request")[1]
    began = time.monotonic()
    assert stopping(server, 0.3).result(PATIENCE) == goev.StopReport(closed=0, aborted=1)
    assert 0.3 <= time.monotonic() - began < 3
    assert events.until("close")[1] is not None
    with pytest.raises(goev.ConnectionClosed):
        request.respond()
    assert client.survives_until_end() == b""


def test_a_stop_finishes_a_streamed_answer(start, stack, events):
    server = start(lambda: Keeps(events))
    idle, client = HttpClient(stack, server), HttpClient(stack, server)
    client.send(get())
    request = events.until("request")[1]
    request.start()
    request.write(b"begun, ")
    report = stopping(server, PATIENCE)
    assert idle.rest() == b""
    request.write(b"and ended")
    request.end()
    assert client.answer().body == b"begun, and ended"
    assert client.rest() == b""
    client.raw.close()
    idle.raw.close()
    assert report.result(PATIENCE).aborted == 0


@pytest.mark.parametrize("how", ["stop", "stop in the callback", "False"])
def test_the_last_answer_before_an_orderly_end_says_so(connected, events, how):
    """RFC 9112 section 9.6: so a client sends no request that would be lost."""

    class Ends(Keeps):
        def on_request(self, request):
            if how == "stop in the callback":
                self.reactor.stop(PATIENCE)
                request.respond(200, None, b"bye")
            super().on_request(request)
            return how != "False"

    client = connected(lambda: Ends(events))
    client.send(get())
    request = events.until("request")[1]
    if how == "stop":
        client.server.reactor.stop(PATIENCE)
    if how != "stop in the callback":
        request.respond(200, None, b"bye")
    answer = client.answer()
    assert (answer["connection"], answer.body) == ("close", b"bye")
    assert client.rest() == b""


def test_only_the_last_of_the_answers_before_a_stop_says_the_end(kept):
    client, first, second = kept(get("/first"), get("/second"))
    second.respond(200, None, DATA)
    client.server.reactor.stop(PATIENCE)
    first.start()
    first.end()
    assert client.answer()["connection"] is None
    answer = client.answer()
    assert (answer["connection"], sha256(answer.body)) == ("close", sha256(DATA))
    assert client.rest() == b""
