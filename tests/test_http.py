"""HTTP/1.1 servers: what a handler sees, what a client gets, and in which order, whatever threads and networks do."""

import gc
import queue
import random
import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

import goev
from http_support import HttpClient, chunked, get, post, post_chunked
from support import PATIENCE, eventually, held, in_thread, on_poller, resident, settle, sha256

SMALL_BUFFERS = {"send_buffer_size": 65536, "receive_buffer_size": 65536}
DATA = random.Random(5).randbytes(10_000_000)


class Hello(goev.http.Connection):
    def on_request(self, request):
        request.respond(200, {"content-type": "text/plain"}, b"Hello\n")


class Target(goev.http.Connection):
    """Answers with what was asked for."""

    def on_request(self, request):
        request.respond(200, None, request.target.encode())


class Reflects(goev.http.Connection):
    """Answers with the body of the request."""

    def on_request(self, request):
        request.respond(200, None, request.body)


class Keeps(goev.http.Connection):
    """Reports its requests and leaves the answer to the test."""

    def __init__(self, events) -> None:
        self.events = events

    def on_request(self, request):
        self.events("request", request)

    def on_close(self, error):
        self.events("close", error)


class Drains(Keeps):
    def on_open(self):
        self.events("handler", self)

    def on_drain(self):
        self.events("drain")


class Pieces(Keeps):
    """Takes bodies in pieces, and answers with the whole at the end."""

    def __init__(self, events) -> None:
        super().__init__(events)
        self.body = b""

    def on_request(self, request):
        self.events("request", request.target, request.body)

    def on_body(self, request, data):
        self.events("body", request.target, data)
        self.body += data
        if not data:
            request.respond(200, None, self.body)
            self.body = b""


def streaming(*steps, status=200, headers=None):
    """A class whose answers are streamed: each step is written, or called with the request."""

    class Streaming(goev.http.Connection):
        def on_request(self, request):
            request.start(status, headers)
            for step in steps:
                step(request) if callable(step) else request.write(step)
            request.end()

    return Streaming


@pytest.fixture
def connected(start, stack):
    """``connected(factory, **options)``: a server of that handler, and a client of it."""
    return lambda factory, **options: HttpClient(stack, start(factory, **options))


@pytest.fixture
def kept(connected, events):
    """``kept(*requests)``: a client that sent these, and the requests as the handler got them, not answered yet."""

    def connect(*requests, kind=Keeps, **options):
        client = connected(lambda: kind(events), **options)
        client.send(b"".join(requests))
        return client, *(events.until("request")[1] for _ in requests)

    return connect


# --- one answer ---


def test_an_answer_has_status_headers_body_length_and_date(connected):
    client = connected(Hello)
    answer = client.ask(get())
    assert (answer.status, answer.reason, answer.body) == (200, "OK", b"Hello\n")
    assert (answer["content-type"], answer["content-length"]) == ("text/plain", "6")
    assert answer["connection"] in (None, "keep-alive")
    assert re.fullmatch(r"[SMTWF][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", answer["date"])
    assert abs((datetime.now(UTC) - parsedate_to_datetime(answer["date"])).total_seconds()) < 5
    assert client.is_silent()


def test_the_date_goes_on(connected):
    client = connected(Hello)
    first = client.ask(get())["date"]
    eventually(lambda: client.ask(get())["date"] != first, "another date")


def test_an_answer_is_200_without_body_by_default(connected):
    class Nothing(goev.http.Connection):
        def on_request(self, request):
            assert request.respond() is None

    client = connected(Nothing)
    for _ in range(2):
        answer = client.ask(get())
        assert (answer.status, answer["content-length"], answer.body) == (200, "0", b"")


@pytest.mark.parametrize(
    ("status", "reason"), [(200, "OK"), (201, "Created"), (404, "Not Found"), (503, "Service Unavailable"), (599, None)]
)
def test_a_status_has_its_reason(connected, status, reason):
    class Says(goev.http.Connection):
        def on_request(self, request):
            request.respond(status, None, b"x")

    client = connected(Says)
    answer = client.ask(get())
    assert (answer.status, answer.body) == (status, b"x")
    assert reason is None or answer.reason == reason


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_body_is_anything_bytes_like_and_owned_by_the_answer(connected, kind):
    class Says(goev.http.Connection):
        def on_request(self, request):
            data = bytearray(b"a" * 100_000)
            request.respond(200, None, data if kind is bytearray else kind(data))
            data[:] = b"b" * len(data)

    client = connected(Says)
    assert client.ask(get()).body == b"a" * 100_000


@pytest.mark.parametrize(
    "headers",
    [
        {"X-One": "1", "set-cookie": "a=b", "X-Two": "é \t!"},
        [("X-One", "1"), ("set-cookie", "a=b"), ("X-Two", "é \t!")],
        (pair for pair in [("X-One", "1"), ("set-cookie", "a=b"), ("X-Two", "é \t!")]),
    ],
    ids=["mapping", "list", "generator"],
)
def test_headers_are_a_mapping_or_any_pairs(connected, headers):
    class Says(goev.http.Connection):
        def on_request(self, request):
            request.respond(200, headers)

    answer = connected(Says).ask(get())
    assert (answer["x-one"], answer["set-cookie"], answer["x-two"]) == ("1", "a=b", "é \t!")


def test_a_name_may_be_sent_more_than_once(connected):
    class Says(goev.http.Connection):
        def on_request(self, request):
            request.respond(200, [("Set-Cookie", "a=1"), ("X", ""), ("Set-Cookie", "b=2")])

    answer = connected(Says).ask(get())
    assert answer.all("set-cookie") == ["a=1", "b=2"]
    assert answer["x"] == ""


def test_what_the_handler_says_itself_is_not_added_a_second_time(connected):
    class Says(goev.http.Connection):
        def on_request(self, request):
            request.respond(200, {"Content-Length": "5", "DATE": "Thu, 01 Jan 1970 00:00:00 GMT"}, b"hello")

    answer = connected(Says).ask(get())
    assert (answer["content-length"], answer["date"]) == ("5", "Thu, 01 Jan 1970 00:00:00 GMT")
    assert answer.body == b"hello"


@pytest.mark.parametrize("how", ["respond", "start"])
def test_a_handler_that_says_close_is_taken_at_its_word(connected, events, how):
    class Closes(Keeps):
        def on_request(self, request):
            self.events("request")
            if how == "respond":
                request.respond(200, {"Connection": "close"}, b"bye")
            else:
                request.start(200, {"Connection": "close"})
                request.write(b"bye")
                request.end()

    client = connected(lambda: Closes(events))
    client.send(get() * 2)
    answer = client.answer()
    assert (answer["connection"], answer.body) == ("close", b"bye")
    assert client.rest() == b""
    assert events.until("close") == ("close", None)
    assert events.names == ["request", "close"]


def test_a_body_of_ten_megabytes_arrives_whole(connected):
    class Large(goev.http.Connection):
        def on_request(self, request):
            request.respond(200, None, DATA)

    client = connected(Large, **SMALL_BUFFERS)
    for _ in range(2):
        answer = client.ask(get())
        assert (len(answer.body), sha256(answer.body)) == (len(DATA), sha256(DATA))


def test_a_unix_socket_serves(connected, tmp_path):
    client = connected(Reflects, address=f"unix:{tmp_path}/http")
    for body in (b"one", b"", b"three"):
        assert client.ask(post("/", body)).body == body


def test_it_is_a_connection(connected, events):
    class Knows(Keeps):
        def on_open(self):
            self.events("open", self)

        def on_request(self, request):
            self.events("request", self, threading.get_ident())
            request.respond(200, None, "{}:{}".format(*self.remote_address).encode())

    assert issubclass(goev.http.Connection, goev.Connection)
    client = connected(lambda: Knows(events))
    handler = events.until("open")[1]
    assert client.ask(get()).body == client.raw.name.encode()
    assert events.next() == ("request", handler, on_poller(handler, threading.get_ident))
    client.raw.close()
    assert events.next() == ("close", None)


# --- one connection, many requests ---


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


def test_pipelined_requests_are_answered_in_order(connected):
    client = connected(Target)
    requests = [post(f"/{n}", b"x" * n) if n % 3 else get(f"/{n}") for n in range(1000)]
    sending = in_thread(client.send, b"".join(requests))
    for number in range(1000):
        assert client.answer().body == b"/%d" % number
    sending.result(PATIENCE)


def test_answers_of_other_threads_leave_in_the_order_of_the_requests(kept):
    client, *requests = kept(*(get(f"/{n}") for n in range(10)))
    for number in (9, 8, 7, 6, 5, 4, 3, 2, 1):
        in_thread(requests[number].respond, 200, None, requests[number].target.encode()).result(PATIENCE)
    settle(client.server.reactor)
    assert client.is_silent()
    requests[0].respond(200, None, b"/0")
    assert [client.answer().body for _ in range(10)] == [b"/%d" % n for n in range(10)]


def test_an_answer_does_not_wait_for_those_behind_it(kept):
    client, one, two, three = kept(get("/1"), get("/2"), get("/3"))
    one.respond(200, None, b"one")
    assert client.answer().body == b"one"
    three.respond(200, None, b"three")
    settle(client.server.reactor)
    assert client.is_silent()
    two.respond(200, None, b"two")
    assert [client.answer().body, client.answer().body] == [b"two", b"three"]


def test_streamed_and_whole_answers_keep_the_order_too(kept):
    client, one, two, three = kept(get("/1"), get("/2"), get("/3"))
    two.start()
    two.write(b"two, ")
    three.respond(200, None, b"three")
    one.start()
    one.write(b"one, ")
    assert client.head()["transfer-encoding"] == "chunked"
    assert client.take(10) == b"5\r\none, \r\n"
    two.write(b"and its end")
    two.end()
    settle(client.server.reactor)
    assert client.is_silent()
    one.end()
    assert client.take(5) == b"0\r\n\r\n"
    assert [client.answer().body, client.answer().body] == [b"two, and its end", b"three"]


def test_sixteen_threads_answer_what_many_connections_ask(start, stack):
    todo = queue.SimpleQueue()

    class Hands(goev.http.Connection):
        def on_request(self, request):
            todo.put(request)

    def work() -> None:
        while (request := todo.get()) is not None:
            body = request.target.encode()
            if len(body) % 2:
                request.respond(200, {"x-target": request.target}, body)
            else:
                request.start(200, {"x-target": request.target})
                for byte in body:
                    request.write(bytes([byte]))
                request.end()

    server = start(Hands, pollers=2)
    workers = [in_thread(work) for _ in range(16)]
    clients = [HttpClient(stack, server) for _ in range(10)]
    for number, client in enumerate(clients):
        client.send(b"".join(get(f"/{number}/{n}") for n in range(200)))
    for number, client in enumerate(clients):
        for n in range(200):
            answer = client.answer()
            assert answer.body == b"/%d/%d" % (number, n)
            assert answer["x-target"] == f"/{number}/{n}"
    for _ in workers:
        todo.put(None)
    for worker in workers:
        worker.result(PATIENCE)


def test_clients_that_vanish_do_no_harm_to_threads_that_answer(start, stack):
    todo = queue.SimpleQueue()

    class Hands(goev.http.Connection):
        def on_request(self, request):
            todo.put(request)

    def work() -> None:
        while (request := todo.get()) is not None:
            with suppress(goev.ConnectionClosed):
                request.respond(200, None, b"x" * 1000)

    server = start(Hands, pollers=2)
    workers = [in_thread(work) for _ in range(4)]
    for _ in range(100):
        client = HttpClient(stack, server)
        client.send(get() * 10)
        client.reset()
    client = HttpClient(stack, server)
    assert client.ask(get()).body == b"x" * 1000
    for _ in workers:
        todo.put(None)
    for worker in workers:
        worker.result(PATIENCE)


def test_answers_given_while_the_poller_is_busy_all_leave(kept):
    client, *requests = kept(*(get(f"/{n}") for n in range(20)))
    with held(client.server.reactor):
        for request in reversed(requests):
            request.respond(200, None, request.target.encode())
    assert [client.answer().body for _ in range(20)] == [b"/%d" % n for n in range(20)]


# --- a request cut anywhere ---

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


# --- what has no body ---


@pytest.mark.parametrize("streamed", [False, True])
def test_head_gets_the_head_only(connected, streamed):
    class Says(goev.http.Connection):
        def on_request(self, request):
            if streamed:
                request.start(200, {"content-length": "5"})
                request.write(b"hello")
                request.end()
            else:
                request.respond(200, {"x": "y"}, b"hello")

    client = connected(Says)
    client.send(get(method="HEAD") * 2 + get())
    for _ in range(2):
        answer = client.answer("HEAD")
        assert (answer.status, answer["content-length"]) == (200, "5")
    assert client.answer().body == b"hello"


def test_head_of_a_chunked_answer_has_no_chunks(connected):
    client = connected(streaming(b"he", b"llo"))
    client.send(get(method="HEAD") + get())
    assert client.answer("HEAD").status == 200
    assert client.answer().chunks == [b"he", b"llo"]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", [204, 205, 304])
def test_204_205_and_304_have_no_body_even_when_given_one(connected, status, streamed):
    class Says(goev.http.Connection):
        def on_request(self, request):
            if streamed:
                request.start(status)
                request.write(b"hello")
                request.end()
            else:
                request.respond(status, None, b"hello")

    client = connected(Says)
    client.send(get() * 3)
    for _ in range(3):
        assert client.answer().status == status, "the answer before had a body"
    assert client.is_silent()


# --- streamed answers ---


def test_a_streamed_answer_is_chunked_as_it_is_written(connected):
    client = connected(streaming(b"one", b"", bytearray(b"two"), memoryview(b"three"), headers={"x": "y"}))
    for _ in range(2):
        answer = client.ask(get())
        assert (answer.status, answer["transfer-encoding"], answer["content-length"]) == (200, "chunked", None)
        assert (answer["x"], answer.body) == ("y", b"onetwothree"), "an empty piece is no end"
        assert answer["date"]


def test_a_streamed_answer_may_be_empty(connected):
    client = connected(streaming())
    client.send(get() * 2)
    assert [client.answer().body, client.answer().body] == [b"", b""]


def test_a_streamed_answer_leaves_piece_by_piece(kept):
    client, request = kept(get())
    assert request.start(201, [("x", "y")]) is None
    head = client.head()
    assert (head.status, head["x"], head["transfer-encoding"]) == (201, "y", "chunked")
    for piece in (b"one", b"two"):
        assert request.write(piece) is None
        assert client.take(8) == b"3\r\n" + piece + b"\r\n"
    assert request.end() is None
    assert client.take(5) == b"0\r\n\r\n"
    assert client.is_silent()


def test_a_streamed_answer_with_a_length_is_not_chunked(connected):
    client = connected(streaming(b"he", b"", b"llo", headers={"Content-Length": "5"}))
    client.send(get() * 2)
    for _ in range(2):
        answer = client.answer()
        assert (answer["content-length"], answer["transfer-encoding"], answer.body) == ("5", None, b"hello")


def test_a_streamed_answer_to_http_1_0_lasts_until_the_end(connected):
    client = connected(streaming(b"he", b"llo"))
    client.send(get("/", "Connection: keep-alive", version="1.0") + get())
    answer = client.answer()
    assert (answer["content-length"], answer["transfer-encoding"], answer["connection"]) == (None, None, "close")
    assert answer.body == b"hello", "and nothing behind it"


def test_a_streamed_answer_to_http_1_0_with_a_length_keeps_the_connection(connected):
    client = connected(streaming(b"he", b"llo", headers={"content-length": "5"}))
    for _ in range(2):
        answer = client.ask(get("/", "Connection: keep-alive", version="1.0"))
        assert (answer["connection"].lower(), answer.body) == ("keep-alive", b"hello")


def test_a_streamed_answer_to_a_last_request_is_ended_before_the_connection(connected):
    client = connected(streaming(b"hello"))
    answer = client.ask(get("/", "Connection: close"))
    assert (answer["connection"], answer["transfer-encoding"], answer.body) == ("close", "chunked", b"hello")
    assert client.rest() == b""


@pytest.mark.parametrize("length", [None, 8 * 20 * 50_000])
def test_threads_stream_one_answer_together(kept, length):
    client, request = kept(get(), **SMALL_BUFFERS)
    request.start(200, None if length is None else {"content-length": str(length)})

    def write(letter: int) -> None:
        for _ in range(20):
            request.write(bytes([letter]) * 50_000)

    writers = [in_thread(write, letter) for letter in b"abcdefgh"]
    ending = in_thread(lambda: ([writer.result(PATIENCE) for writer in writers], request.end()))
    answer = client.answer()
    ending.result(PATIENCE)
    assert answer.body == b"".join(answer.body[n : n + 1] * 50_000 for n in range(0, len(answer.body), 50_000))
    assert sorted(answer.body[::50_000]) == sorted(b"abcdefgh" * 20)


def test_what_follows_on_the_poller_does_not_overtake_what_another_thread_gave(connected):
    class Both(goev.http.Connection):
        def on_request(self, request):
            in_thread(lambda: (request.start(), request.write(b"there"))).result(PATIENCE)
            request.write(b"here")
            request.end()

    client = connected(Both)
    client.send(get() * 2)
    assert [client.answer().chunks, client.answer().chunks] == [[b"there", b"here"]] * 2


def test_more_than_the_length_that_was_said_is_refused(kept):
    client, request = kept(get())
    request.start(200, {"content-length": "5"})
    request.write(b"hell")
    with pytest.raises(ValueError, match="5"):
        request.write(b"o, and more")
    request.write(b"o")
    with pytest.raises(ValueError, match="5"):
        request.write(b"!")
    request.end()
    assert client.answer().body == b"hello"
    assert client.is_silent()


def test_less_than_the_length_that_was_said_is_refused(kept):
    client, request = kept(get())
    request.start(200, {"content-length": "5"})
    request.write(b"hell")
    with pytest.raises(ValueError, match="5"):
        request.end()
    request.write(b"o")
    request.end()
    assert client.answer().body == b"hello"


def test_a_streamed_answer_whose_rest_never_comes_is_seen_to_be_cut(connected, events, log):
    requests = []

    class Forgets(Keeps):
        def on_request(self, request):
            request.start()
            request.write(b"hello")
            requests.append(request)

    client = connected(lambda: Forgets(events))
    client.send(get() * 2)
    assert client.head()["transfer-encoding"] == "chunked"
    assert client.take(10) == b"5\r\nhello\r\n"
    requests.clear()
    assert client.survives_until_end() == b"", "neither the last chunk nor another answer"
    events.until("close")


def test_a_slow_reader_gets_all_of_a_streamed_answer_and_little_is_queued(connected, events):
    piece, count = DATA[:100_000], 100

    class Pours(goev.http.Connection):
        def on_request(self, request):
            self.request, self.left = request, count
            request.start()
            self.pour()

        def on_drain(self):
            self.pour()

        def pour(self):
            while self.left and not self.over_high_water:
                self.request.write(piece)
                self.left -= 1
                events("queued", self.pending_output)
                if not self.left:
                    self.request.end()

    client = connected(Pours, **SMALL_BUFFERS)
    client.send(get())
    time.sleep(0.2)  # a reader that is slow to begin, so that the server has to wait for it
    assert len(events.history) < count
    assert sha256(client.answer().body) == sha256(piece * count)
    assert max(queued for _, queued in events.history) < 400_000
    assert client.ask(get(method="HEAD")).status == 200


# --- using a request wrongly, or too late ---


@pytest.mark.parametrize("first", ["respond", "stream"])
@pytest.mark.parametrize("second", ["respond", "start", "write", "end"])
def test_a_second_answer_is_refused_and_the_first_stays(kept, first, second):
    client, request = kept(get())
    if first == "respond":
        request.respond(200, None, b"first")
    else:
        request.start()
        request.write(b"first")
        request.end()
    calls = {
        "respond": lambda: request.respond(200, None, b"second"),
        "start": request.start,
        "write": lambda: request.write(b"second"),
        "end": request.end,
    }
    with pytest.raises(RuntimeError, match="answer"):
        calls[second]()
    assert client.answer().body == b"first"
    settle(client.server.reactor)
    assert client.is_silent()


@pytest.mark.parametrize("call", ["write", "end"])
def test_a_streamed_answer_begins_with_start(kept, call):
    client, request = kept(get())
    with pytest.raises(RuntimeError, match="start"):
        request.write(b"x") if call == "write" else request.end()
    request.respond(200, None, b"fine")
    assert client.answer().body == b"fine"


@pytest.mark.parametrize("call", ["start", "respond"])
def test_a_streamed_answer_has_begun_only_once(kept, call):
    client, request = kept(get())
    request.start()
    with pytest.raises(RuntimeError, match="answer"):
        request.start() if call == "start" else request.respond()
    request.write(b"fine")
    request.end()
    assert client.answer().body == b"fine"


def test_of_two_threads_that_answer_one_request_one_wins(connected):
    results = queue.SimpleQueue()

    def answer(request, body) -> None:
        try:
            request.respond(200, None, body)
            results.put(body)
        except RuntimeError:
            results.put(None)

    class Races(goev.http.Connection):
        def on_request(self, request):
            for body in (b"one", b"two"):
                in_thread(answer, request, body)

    client = connected(Races)
    for _ in range(100):
        body = client.ask(get()).body
        told = [results.get(timeout=PATIENCE), results.get(timeout=PATIENCE)]
        assert sorted(told, key=bool) == [None, body]
    assert client.is_silent()


def test_an_answer_after_the_end_raises_connection_closed(kept, events):
    client, one, two = kept(get(), get())
    two.start()
    two.write(b"begun")
    client.reset()
    assert isinstance(events.until("close")[1], ConnectionResetError)
    for call in (one.respond, one.start, lambda: two.write(b"x"), two.end):
        with pytest.raises(goev.ConnectionClosed):
            call()
        with pytest.raises(goev.ConnectionClosed):
            in_thread(call).result(PATIENCE)


def test_a_request_can_be_looked_at_after_the_end(kept, events):
    client, request = kept(post("/a%20b?c", b"body", "X: y"))
    client.reset()
    events.until("close")
    assert (request.method, request.target, request.path, request.query) == ("POST", "/a%20b?c", "/a b", "c")
    assert (request.version, request.body, request.headers["x"], request.keep_alive) == ("1.1", b"body", "y", True)


@pytest.mark.parametrize("name", ["method", "target", "path", "query", "version", "headers", "body", "keep_alive"])
def test_a_request_cannot_be_changed(kept, name):
    _, request = kept(get())
    with pytest.raises(AttributeError):
        setattr(request, name, getattr(request, name))


REFUSED = [
    # What an answer must not be made of: status, headers, body, what is raised, and what that names.
    (199, None, b"", ValueError, "199"),
    (100, None, b"", ValueError, "100"),  # sent by itself, and it is no answer
    (600, None, b"", ValueError, "600"),
    (0, None, b"", ValueError, "0"),
    (-200, None, b"", ValueError, "-200"),
    (10**20, None, b"", ValueError, "."),
    ("200", None, b"", TypeError, "str"),
    (200.0, None, b"", TypeError, "float"),
    (200, {"X": "a\r\nSet-Cookie: b"}, b"", ValueError, "X"),
    (200, {"X": "a\r\n\r\nHTTP/1.1 200 OK"}, b"", ValueError, "X"),
    (200, {"X": "a\nb"}, b"", ValueError, "X"),
    (200, {"X": "a\rb"}, b"", ValueError, "X"),
    (200, {"X": "a\r\n b"}, b"", ValueError, "X"),
    (200, {"X": "\n"}, b"", ValueError, "X"),
    (200, {"X": "a\0b"}, b"", ValueError, "X"),
    (200, {"X": "a€"}, b"", ValueError, "X"),  # not latin-1
    (200, {"X": "a\u010a"}, b"", ValueError, "X"),  # LF in its low byte
    (200, {"X": "\ud80a"}, b"", ValueError, "X"),
    (200, {"": "a"}, b"", ValueError, "name"),
    (200, {"X Y": "a"}, b"", ValueError, "X Y"),
    (200, {"X:": "a"}, b"", ValueError, "X:"),
    (200, {" X": "a"}, b"", ValueError, " X"),
    (200, {"X\r\nY": "a"}, b"", ValueError, "."),
    (200, {"X\nY: a\nZ": "a"}, b"", ValueError, "."),
    (200, {"X\0": "a"}, b"", ValueError, "."),
    (200, {"Xé": "a"}, b"", ValueError, "Xé"),
    (200, {"Transfer-Encoding": "chunked"}, b"", ValueError, "(?i)transfer-encoding"),
    (200, {"transfer-encoding": "identity"}, b"", ValueError, "(?i)transfer-encoding"),
    (200, {"Content-Length": "-1"}, b"", ValueError, "(?i)content-length"),
    (200, {"Content-Length": "five"}, b"", ValueError, "(?i)content-length"),
    (200, {"Content-Length": "+5"}, b"hello", ValueError, "(?i)content-length"),
    (200, {"Content-Length": ""}, b"", ValueError, "(?i)content-length"),
    (200, {"Content-Length": "5, 5"}, b"hello", ValueError, "(?i)content-length"),
    (200, {"Content-Length": "9" * 40}, b"", ValueError, "(?i)content-length"),
    (200, [("Content-Length", "5"), ("content-length", "6")], b"hello", ValueError, "(?i)content-length"),
    (200, {"X": 5}, b"", TypeError, "."),
    (200, {"X": b"a"}, b"", TypeError, "."),
    (200, {"X": None}, b"", TypeError, "."),
    (200, {b"X": "a"}, b"", TypeError, "."),
    (200, 5, b"", TypeError, "headers"),
    (200, [("X",)], b"", (TypeError, ValueError), "."),
]
ONLY_WHOLE = [
    (200, {"Content-Length": "4"}, b"hello", ValueError, "(?i)content-length"),
    (200, {"Content-Length": "6"}, b"hello", ValueError, "(?i)content-length"),
    (200, None, "text", TypeError, "str"),
    (200, None, None, TypeError, "body"),
    (200, None, [1, 2], TypeError, "."),
]


@pytest.mark.parametrize(("status", "headers", "body", "error", "named"), REFUSED + ONLY_WHOLE)
def test_what_would_split_or_spoil_an_answer_is_refused_before_a_byte_is_sent(
    kept, status, headers, body, error, named
):
    client, request = kept(get())
    with pytest.raises(error, match=named):
        request.respond(status, headers, body)
    request.respond(200, None, b"another one is fine")
    assert client.answer().body == b"another one is fine"
    assert client.is_silent()


@pytest.mark.parametrize(("status", "headers", "_body", "error", "named"), REFUSED)
def test_what_would_split_or_spoil_a_streamed_answer_is_refused_too(kept, status, headers, _body, error, named):
    client, request = kept(get())
    with pytest.raises(error, match=named):
        request.start(status, headers)
    request.start()
    with pytest.raises(TypeError, match="str"):
        request.write("text")
    request.write(b"another one is fine")
    request.end()
    assert client.answer().chunks == [b"another one is fine"]


def test_an_exception_of_the_headers_comes_out_of_respond(kept):
    def headers():
        yield "x", "y"
        raise LookupError("mine")

    client, request = kept(get())
    with pytest.raises(LookupError, match="mine"):
        request.respond(200, headers())
    request.respond(200, None, b"fine")
    assert client.answer().body == b"fine"


# --- no answer ---


class BrokenError(Exception):
    pass


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


def test_a_request_let_go_of_at_once_gets_500_and_the_end(connected, events, log):
    class Ignores(Keeps):
        def on_request(self, request):
            self.events("request")

    client = connected(lambda: Ignores(events))
    client.send(get() * 2)
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (500, "close")
    assert client.rest() == b""
    events.until("close")


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


# --- bodies in pieces ---


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


# --- Expect: 100-continue ---

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


# --- headers of a request ---


@pytest.fixture
def headers(kept):
    """Of a request with these fields and Host."""
    return kept(get("/", "X-One: 1", "Accept: a", "X-Two: é", "ACCEPT: b", "accept:", "Cookie: c=d"))[1].headers


def test_headers_are_a_mapping_that_ignores_case(headers):
    assert isinstance(headers, Mapping)
    assert headers["x-one"] == headers["X-One"] == headers["X-ONE"] == "1"
    assert "x-one" in headers
    assert "X-ONE" in headers
    assert "x-on" not in headers
    assert headers["x-two"] == "é", "latin-1"


def test_headers_iterate_over_names_in_lower_case(headers):
    names = ["host", "x-one", "accept", "x-two", "cookie"]
    assert list(headers) == list(headers.keys()) == names
    assert len(headers) == 5
    assert list(headers.items()) == [(name, headers[name]) for name in names]
    assert list(headers.values()) == [headers[name] for name in names]
    assert dict(headers) == dict(headers.items())


def test_repeated_headers_are_joined_or_listed(headers):
    assert headers["Accept"] == "a, b, "
    assert headers.get_all("ACCEPT") == ["a", "b", ""]
    assert headers.get_all("cookie") == ["c=d"]
    assert headers.get_all("none") == []


def test_headers_have_the_views_and_the_equality_of_a_mapping(headers):
    assert headers.keys() & {"host", "cookie", "none"} == {"host", "cookie"}
    assert ("cookie", "c=d") in headers.items()
    everything = dict(headers)
    assert headers == everything == {name: everything[name] for name in reversed(everything)}
    assert headers == {name.upper(): value for name, value in everything.items()}
    assert headers != {**everything, "cookie": "other"}
    assert headers != {}
    assert headers != 5
    with pytest.raises(TypeError, match="unhashable"):
        hash(headers)


@pytest.mark.parametrize(
    ("request_", "host"),
    [
        (get("/"), "test"),
        (get("http://example.org:81/path?query"), "example.org:81"),
        (get("http://example.org"), "example.org"),
        (get("/http://example.org"), "test"),
        (get("example.org:443", method="CONNECT"), "example.org:443"),
        (b"GET / HTTP/1.0\r\n\r\n", ""),
    ],
)
def test_the_host_is_the_one_of_the_target_where_that_has_one(kept, request_, host):
    assert kept(request_)[1].host == host


def test_headers_that_are_missing(headers):
    assert headers.get("none") is None
    assert headers.get("none", "default") == "default"
    assert headers.get("HOST", "default") == "test"
    with pytest.raises(KeyError, match="None-Such"):
        headers["None-Such"]


def test_headers_are_read_only(headers):
    with pytest.raises(TypeError):
        headers["x-one"] = "2"
    with pytest.raises(TypeError):
        del headers["x-one"]
    headers.get_all("x-one").append("2")
    assert headers.get_all("x-one") == ["1"]


# --- half-close, limits, back-pressure ---


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


@pytest.mark.parametrize("writes", [True, False])
@pytest.mark.parametrize("last", [get("/", "Connection: close"), get()], ids=["close", "keep-alive"])
def test_a_reset_is_told_also_when_more_input_waits_than_may(kept, events, last, writes):
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


def test_a_client_that_never_reads_its_answers_takes_no_memory(start, stack):
    server = start(Target, **SMALL_BUFFERS)
    client, other = HttpClient(stack, server, receive_buffer=16384), HttpClient(stack, server)
    flood = get("/" + "x" * 1000) * 20_000
    before = resident()
    assert client.raw.fill(flood) < len(flood)
    assert resident() - before < 8_000_000
    assert other.ask(get("/other")).body == b"/other"


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
def test_an_async_callback_is_refused_when_its_class_is_first_used(name):
    async def callback(self, *arguments):
        pass

    wrong = type("Wrong", (goev.http.Connection,), {name: callback})
    with pytest.raises(TypeError, match=f"(?s)(?=.*{name})(?=.*async)"):
        wrong()


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


# --- upgrades ---


class Shouts(goev.Connection):
    def __init__(self, events) -> None:
        self.events = events

    def on_open(self):
        self.write(b"<open>")

    def on_read(self):
        self.write(self.read().upper())

    def on_close(self, error):
        self.events("close of the new one", error)


class Upgrades(Keeps):
    def on_request(self, request):
        self.events("request", request.target)
        if request.target == "/upgrade":
            request.respond(101, {"Upgrade": "shouts", "Connection": "Upgrade"})
            self.hand_over(Shouts(self.events))
        else:
            request.respond(200, None, request.target.encode())


UPGRADE = get("/upgrade", "Connection: Upgrade", "Upgrade: shouts")


@pytest.mark.parametrize("behind", [b"", b"behind the head"])
def test_an_upgrade_hands_over_the_connection_and_what_is_behind_the_head(connected, events, behind):
    client = connected(lambda: Upgrades(events))
    client.send(get("/before") + UPGRADE + behind)
    assert client.answer().body == b"/before"
    answer = client.answer()
    assert (answer.status, answer["upgrade"], answer["connection"]) == (101, "shouts", "Upgrade")
    assert client.take(6 + len(behind)) == b"<open>" + behind.upper()
    client.send(get("/never"))
    assert client.take(len(get("/never"))) == get("/never").upper()
    client.finish()
    assert client.rest() == b""
    assert events.until("close of the new one")[1] is None
    assert events.history[:-1] == [("request", "/before"), ("request", "/upgrade"), ("close", None)]


@pytest.mark.parametrize(
    ("request_", "headers", "reason"),
    [
        (get(), {"upgrade": "x", "connection": "upgrade"}, "the request has no Upgrade"),
        (get("/", "Upgrade: x"), {"upgrade": "x", "connection": "upgrade"}, "the request has no Upgrade"),
        (get("/", "Upgrade: x", "Connection: upgrade", version="1.0"), {"upgrade": "x"}, "or is of HTTP/1.0"),
        (UPGRADE, {"connection": "upgrade"}, "the fields must have an Upgrade"),
    ],
)
def test_101_is_for_those_who_asked_for_it(kept, request_, headers, reason):
    client, request = kept(request_)
    with pytest.raises(ValueError, match=f"101 cannot be answered: .*{reason}"):
        request.respond(101, headers)
    request.respond(200, None, b"without")
    assert client.answer().body == b"without"


@pytest.mark.parametrize("request_", [UPGRADE, get("test:443", method="CONNECT")])
def test_what_another_protocol_follows_has_no_body(kept, request_):
    client, request = kept(request_)
    with pytest.raises(ValueError, match="another protocol follows, and no body"):
        request.start(200 if b"CONNECT" in request_ else 101, {"upgrade": "shouts"})
    request.respond(500)
    assert client.answer().status == 500


def test_a_connection_is_not_handed_over_amid_the_next_request(connected, events):
    class Hands(Keeps):
        def on_request(self, request):
            request.respond()
            try:
                self.hand_over(Shouts(self.events))
            except RuntimeError as error:
                self.events("refused", str(error))

    client = connected(lambda: Hands(events))
    client.send(get() + post_chunked("/", b"next"))
    assert "in the middle of a request" in events.next()[1]
    assert [client.answer().status, client.answer().status] == [200, 200]
    assert client.take(6) == b"<open>"


def test_an_upgrade_cut_anywhere(start, stack, events):
    server = start(lambda: Upgrades(events))
    for cut in range(1, len(UPGRADE)):
        client = HttpClient(stack, server)
        client.send(UPGRADE[:cut])
        settle(server.reactor, 1)
        client.send(UPGRADE[cut:] + b"x")
        assert client.answer().status == 101
        assert client.take(7) == b"<open>X"


# --- limits in time ---


def test_who_waits_for_an_answer_is_not_idle(kept, events):
    client, request = kept(get(), idle_timeout=0.1)
    assert client.is_silent(0.35)
    request.respond(200, None, b"late")
    assert client.answer().body == b"late"
    assert client.rest() == b"", "now it is idle"
    assert isinstance(events.until("close")[1], goev.IdleTimeout)


# --- stop ---


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
