"""A request whose handler raises or lets go of it gets 500 in its turn, and the connection ends."""

import gc

import pytest

import goev
from http_support import BrokenError, Keeps, get, post
from support import PATIENCE, eventually, in_thread, names, settle


class RaisesThere(Keeps):
    """Raises at one target, and leaves the others to the test."""

    def on_request(self, request):
        super().on_request(request)
        if request.target == "/raises":
            raise BrokenError


@pytest.mark.parametrize("streamed", [False, True])
def test_a_request_whose_callback_raised_gets_500_and_the_end(connected, events, log, streamed):
    class Raises(Keeps):
        def on_request(self, request):
            raise BrokenError("in on_request")

    if streamed:
        Raises.on_body = lambda self, request, data: None
    client = connected(lambda: Raises(events))
    name = client.raw.name
    client.send(post("/", b"body") + get())
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (500, "close")
    assert b"BrokenError" not in answer.body
    assert b"in on_request" not in answer.body
    assert client.rest() == b""
    assert isinstance(events.until("close")[1], BrokenError)
    record, text = log.next()
    assert name in record.getMessage()
    assert "BrokenError: in on_request" in text
    assert "Traceback" in text
    settle(client.server.reactor)
    assert len(log.texts()) == 1


def test_what_is_raised_in_on_body_gets_500_too(connected, events, log):
    class Raises(Keeps):
        def on_body(self, request, data):
            raise BrokenError("in on_body")

    client = connected(lambda: Raises(events))
    client.send(post("/", b"body") + get())
    assert client.answer().status == 500
    assert client.rest() == b""
    assert isinstance(events.until("close")[1], BrokenError)
    assert "in on_body" in log.next()[1]


def test_what_was_raised_is_told_also_when_what_follows_is_no_request(kept, events, log):
    client, first, _ = kept(get("/first"), get("/raises") + b"nonsense\r\n\r\n", kind=RaisesThere)
    settle(client.server.reactor)
    first.respond(200, None, b"first")
    assert client.answer().body == b"first"
    assert client.answer().status == 500
    assert client.rest() == b""
    assert isinstance(events.until("close")[1], BrokenError)


def test_a_cut_answer_of_another_thread_does_not_look_whole(connected, events, log):
    class Raises(Keeps):
        def on_request(self, request):
            in_thread(lambda: (request.start(), request.write(b"part"))).result(PATIENCE)
            raise BrokenError

    client = connected(lambda: Raises(events))
    client.send(get(version="1.0"))
    assert client.take_until(b"\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        client.rest()
    assert isinstance(events.until("close")[1], BrokenError)


def test_what_is_raised_after_the_answer_gets_no_second_one(connected, events, log):
    class Raises(Keeps):
        def on_request(self, request):
            request.respond(200, None, b"fine")
            raise BrokenError

    client = connected(lambda: Raises(events))
    client.send(get() * 2)
    assert client.answer().body == b"fine"
    assert client.rest() == b""
    assert isinstance(events.until("close")[1], BrokenError)
    assert len(log.texts()) == 1


def test_what_is_raised_in_the_middle_of_an_answer_leaves_it_cut(connected, events, log):
    class Raises(Keeps):
        def on_request(self, request):
            self.events("request", request)  # so it is not let go of
            request.start()
            request.write(b"hello")
            raise BrokenError

    client = connected(lambda: Raises(events))
    client.send(get())
    assert client.head().status == 200
    assert client.survives_until_end() == b"5\r\nhello\r\n", "what was written, but no last chunk"
    assert isinstance(events.until("close")[1], BrokenError)


def test_the_answers_before_one_that_raised_leave_before_its_500(connected, events, log):
    client = connected(lambda: RaisesThere(events))
    client.send(get("/before") + get("/raises") + get("/never"))
    before = events.until("request")[1]
    events.until("request")
    settle(client.server.reactor)
    assert client.is_silent()
    before.respond(200, None, b"before")
    assert client.answer().body == b"before"
    assert client.answer().status == 500
    assert client.rest() == b""
    assert isinstance(events.until("close")[1], BrokenError)
    assert events.names == ["request", "request", "close"]


def test_what_is_raised_behind_an_answer_of_another_thread_leaves_that_answer(connected, events, log):
    class Raises(Keeps):
        def on_request(self, request):
            in_thread(request.respond, 200, None, b"fine").result(PATIENCE)
            raise BrokenError

    client = connected(lambda: Raises(events))
    client.send(get() * 2)
    assert client.answer().body == b"fine"
    assert client.rest() == b""
    assert isinstance(events.until("close")[1], BrokenError)


def test_requests_that_only_the_exception_holds_are_answered(connected, events, log):
    class Batches(Keeps):
        def __init__(self, events):
            super().__init__(events)
            self.batch = []

        def on_request(self, request):
            self.batch.append(request)
            if len(self.batch) == 3:
                batch = [self.batch.pop(0) for _ in range(3)]
                try:
                    raise KeyError
                except KeyError:
                    self.answer(batch)

        def answer(self, requests):
            raise BrokenError

    client = connected(lambda: Batches(events))
    client.send(get() * 3)
    assert client.answer().status == 500
    assert client.rest() == b""
    assert isinstance(events.until("close")[1], BrokenError)


def test_what_was_raised_is_told_also_when_the_peer_does_not_wait_for_the_answers_before(kept, events, log):
    client, _, _ = kept(get("/before"), get("/raises"), kind=RaisesThere)
    client.reset()
    assert isinstance(events.until("close")[1], BrokenError)


@pytest.mark.parametrize("where", ["timer", "call_soon", "then", "on_eof", "on_stopping"])
def test_what_is_raised_elsewhere_while_an_answer_is_due_gets_500(kept, events, log, where):
    class Raises(Keeps):
        def fails(self, *_):
            raise BrokenError(where)

        def on_request(self, request):
            super().on_request(request)
            if where == "timer":
                self.schedule(0, self.fails)
            elif where == "call_soon":
                self.call_soon(self.fails)
            elif where == "then":
                self.run_in_executor(None, int, then=self.fails)

    if where.startswith("on_"):
        setattr(Raises, where, Raises.fails)
    client, request = kept(get(), kind=Raises)
    if where == "on_eof":
        client.finish()
    elif where == "on_stopping":
        client.server.reactor.stop(grace=PATIENCE)
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (500, "close")
    assert client.rest() == b""
    assert isinstance(events.until("close")[1], BrokenError)
    with pytest.raises(goev.ConnectionClosed):
        request.respond()


def test_what_is_no_answer_to_a_callback_is_a_type_error(connected, events, log):
    class Wrong(Keeps):
        def on_request(self, request):
            request.respond()
            return "yes"

    client = connected(lambda: Wrong(events))
    client.send(get())
    assert client.answer().status == 200
    assert client.rest() == b""
    assert isinstance(events.until("close")[1], TypeError)


class Ignores(Keeps):
    def on_request(self, request):
        self.events("request")


def test_a_request_let_go_of_at_once_gets_500_and_the_end_and_a_line_in_the_log(connected, events, log):
    client = connected(lambda: Ignores(events))
    name = client.raw.name
    client.send(get("/forgotten?a=b") * 2)
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (500, "close")
    assert client.rest() == b""
    events.until("close")
    record, text = log.next()
    assert record.levelname == "WARNING"
    assert names(text, "Ignores", "'GET /forgotten?a=b HTTP/1.1'", name, "500")
    assert (record.peer, record.callback) == (name, None)
    settle(client.server.reactor)
    assert len(log.texts()) == 1


def test_a_request_let_go_of_in_a_thread_is_named_in_the_log(kept, events, log):
    client = kept(get("/" + "x" * 1000))[0]
    events.history.clear()
    settle(client.server.reactor, 1)  # without the interpreter lock the object ends on the thread that made it
    assert client.answer().status == 500
    assert names(log.next()[1], "Keeps", "'GET /xxx", client.raw.name)
    assert len(log.texts()[0]) < 400


def test_a_request_let_go_of_amid_its_answer_is_named_in_the_log(connected, log):
    class Begins(goev.http.Connection):
        def on_request(self, request):
            request.start()
            request.write(b"part")

    client = connected(Begins)
    client.send(get("/begun"))
    assert client.survives_until_end().endswith(b"part\r\n")
    assert names(log.next()[1], "Begins", "GET /begun", "complete")


def test_a_request_let_go_of_after_its_connection_has_ended_is_worth_no_line(kept, events):
    client = kept(get())[0]
    client.reset()
    events.until("close")
    events.history.clear()
    settle(client.server.reactor)


@pytest.mark.parametrize("how", ["here", "in a thread", "in a cycle"])
def test_a_request_let_go_of_later_gets_500_in_its_turn(connected, log, how):
    requests = []

    class Holds(goev.http.Connection):
        def on_request(self, request):
            requests.append(request)

    client = connected(Holds)
    client.send(get() * 2)
    eventually(lambda: len(requests) == 2, "both are there")
    if how == "here":
        requests.pop()
    elif how == "in a thread":
        in_thread(requests.pop).exception(PATIENCE)  # its result is gone with it
    else:
        cycle = [requests.pop()]
        cycle.append(cycle)
        del cycle
    gc.collect()
    settle(client.server.reactor)
    assert client.is_silent()
    requests.pop().respond(200, None, b"first")
    assert client.answer().body == b"first"
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (500, "close")
    assert client.rest() == b""


@pytest.mark.parametrize("how", ["timer", "then", "close", "half-close"])
def test_an_answer_that_only_the_end_would_complete_is_cut(kept, events, log, how):
    class Stops(Keeps):
        def on_request(self, request):
            request.start()
            request.write(b"part")
            super().on_request(request)
            if how == "timer":
                self.schedule(0, self.fails)
            elif how == "then":
                self.run_in_executor(None, int, then=self.fails)
            elif how == "close":
                self.close()

        def on_body(self, request, data):
            pass

        def fails(self, *_):
            raise BrokenError

    client, _request = kept(post("/", b"", version="1.0") if how != "half-close" else HALF, kind=Stops)
    assert client.take_until(b"\r\n\r\n")
    if how == "half-close":
        client.finish()
    with pytest.raises(ConnectionResetError):
        client.rest()
    events.until("close")


HALF = post("/", b"12345", version="1.0")[:-2]


@pytest.mark.parametrize("how", ["raises", "body"])
def test_an_error_answer_to_head_has_no_body(connected, events, log, how):
    class Takes(Keeps):
        def on_request(self, request):
            if how == "raises":
                raise BrokenError

        def on_body(self, request, data):
            pass

    client = connected(lambda: Takes(events))
    client.send(get("/", "Transfer-Encoding: chunked", method="HEAD") + b"nonsense\r\n")
    answer = client.answer("HEAD")
    assert answer.status == (500 if how == "raises" else 400)
    assert answer["content-length"] not in (None, "0"), "the length that a GET would have got"
    assert client.rest() == b""
    events.until("close")
