"""``on_answered`` is called once for each answer, when it was sent: in order, with status, size and time."""

import gc
import os
import threading
import time

import pytest

import goev
import goev.testing
from http_support import BrokenError, Keeps, get, post, post_chunked
from support import eventually, on_poller, settle


class Logs(Keeps):
    """Keeps its requests, and reports what was answered."""

    def on_open(self):
        self.events("open", self)

    def on_answered(self, request, status, bytes_sent, seconds):
        self.events("answered", request, status, bytes_sent, seconds)


@pytest.fixture
def logged(kept):
    return lambda *requests, **options: kept(*requests, kind=Logs, **options)


def size_of(answer) -> int:
    """Bytes of an answer without chunks."""
    head = f"HTTP/1.1 {answer.status} {answer.reason}\r\n" + "".join(f"{n}: {v}\r\n" for n, v in answer.fields) + "\r\n"
    return len(head) + len(answer.body)


def test_an_answer_is_reported_once_with_its_status_size_and_request(logged, events):
    client, request = logged(get("/a"))
    request.respond(201, {"X": "y"}, b"body")
    answer = client.answer()
    _, same, status, size, seconds = events.until("answered")
    assert same is request
    assert (status, size) == (201, size_of(answer))
    assert 0 <= seconds < 10
    client.finish()
    events.until("close")
    assert events.names.count("answered") == 1


@pytest.mark.parametrize("from_elsewhere", [False, True])
def test_answers_out_of_turn_are_reported_in_the_order_of_the_requests(logged, events, from_elsewhere):
    client, *requests = logged(*(get(f"/{number}") for number in range(4)))
    call = (lambda fn: fn()) if from_elsewhere else (lambda fn: on_poller(client.server.reactor, fn))
    for number in (2, 3, 1):
        call(lambda number=number: requests[number].respond(200 + number, None, bytes(number * 10_000)))
    settle(client.server.reactor)
    assert "answered" not in events.names
    call(requests[0].respond)
    answers = [client.answer() for _ in requests]
    for request, answer in zip(requests, answers, strict=True):
        _, same, status, size, _ = events.until("answered")
        assert (same is request, status, size) == (True, answer.status, size_of(answer))


def test_a_streamed_answer_is_reported_at_its_end_with_its_chunks(logged, events):
    client, request = logged(get())
    request.start(200)
    request.write(b"12345")
    assert client.head().status == 200
    settle(client.server.reactor)
    assert "answered" not in events.names
    request.end()
    assert client._chunks() == [b"12345"]
    _, same, status, size, _ = events.until("answered")
    assert (same is request, status) == (True, 200)
    head = len(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n")
    assert size == head + len(b"5\r\n12345\r\n0\r\n\r\n")


def test_an_answer_of_known_length_is_reported_after_its_last_piece(logged, events):
    client, request = logged(get())
    request.start(200, {"content-length": "5"})
    request.write(b"12345")
    client.head()
    client.take(5)
    request.end()
    assert events.until("answered")[2] == 200


def test_a_file_is_reported_when_the_kernel_has_taken_its_last_byte(logged, tmp_path, events):
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(30_000_000)
    client, request = logged(get(), send_buffer_size=65536)
    request.respond_file(path)
    head = client.head()
    settle(client.server.reactor)
    assert "answered" not in events.names, "the peer has not read it"
    head.body = client.take(30_000_000)
    _, same, status, size, _ = events.until("answered")
    assert (same is request, status, size) == (True, 200, size_of(head))


def test_a_request_that_was_forgotten_is_reported_with_the_500(connected, events, log):
    class Forgets(Logs):
        def on_request(self, request):
            pass

    client = connected(lambda: Forgets(events))
    client.send(post("/forgotten?x", b"body", "X-A: 1"))
    answer = client.answer()
    _, request, status, size, _ = events.until("answered")
    assert (request.target, request.body, request.headers["x-a"]) == ("/forgotten?x", b"body", "1")
    assert (request.answered, status, size) == (True, 500, size_of(answer))
    with pytest.raises((RuntimeError, goev.ConnectionClosed)):
        request.respond()
    assert events.until("close")[1] is None
    assert "POST /forgotten?x" in log.next()[1]


def test_a_request_whose_callback_raised_is_reported_with_the_500(connected, events, log):
    class Breaks(Logs):
        def on_request(self, request):
            self.events("request", request)
            raise BrokenError

    client = connected(lambda: Breaks(events))
    assert client.ask(get()).status == 500
    request = events.until("request")[1]
    _, same, status, _, _ = events.until("answered")
    assert (same is request, status) == (True, 500)
    assert isinstance(events.until("close")[1], BrokenError)


def test_the_500_for_an_exception_elsewhere_is_reported(logged, events, log):
    client, _request = logged(get())

    def breaks():
        raise BrokenError

    events.history[0][1].call_soon(breaks)
    assert client.answer().status == 500
    assert events.until("answered")[2] == 500
    assert isinstance(events.until("close")[1], BrokenError)


def test_a_malformed_body_is_reported_with_the_request_that_it_belongs_to(connected, events):
    class Streams(Logs):
        def on_body(self, request, data):
            pass

    client = connected(lambda: Streams(events))
    client.send(get("/", "Transfer-Encoding: chunked", method="POST") + b"nonsense\r\n")
    request = events.until("request")[1]
    assert client.answer().status == 400
    _, same, status, _, _ = events.until("answered")
    assert (same is request, status) == (True, 400)
    assert isinstance(events.until("close")[1], goev.http.ProtocolError)


def test_input_that_is_no_request_is_not_reported(connected, events):
    client = connected(lambda: Logs(events))
    client.send(b"nonsense\r\n\r\n")
    assert client.answer().status == 400
    events.until("close")
    assert "answered" not in events.names


@pytest.mark.parametrize("how", ["given up", "cut"])
def test_an_answer_that_is_not_whole_is_not_reported(logged, events, how, log):
    client, request = logged(get())
    request.start(200)
    request.write(b"part")
    client.head()
    if how == "cut":
        client.reset()
    else:
        events.history.clear()
        del request
        gc.collect()
        settle(client.server.reactor, 1)  # without the interpreter lock the object ends on the thread that made it
        client.survives_until_end()
        assert "before its answer was complete" in log.next()[1]
    events.until("close") if how == "cut" else None
    settle(client.server.reactor)
    assert "answered" not in events.names


def test_it_comes_before_on_close(logged, events):
    client, request = logged(get("/", "Connection: close"))
    request.respond()
    client.answer()
    events.until("close")
    assert events.names[-2:] == ["answered", "close"]


def test_it_comes_before_on_close_also_when_the_callback_took_the_whole_time_of_the_batch(connected, events):
    class Slow(Logs):
        def on_request(self, request):
            request.respond(200, {"connection": "close"}, bytes(200_000))
            time.sleep(0.01)  # a batch has a millisecond
            return False

    client = connected(lambda: Slow(events))
    assert client.ask(get()).status == 200
    events.until("close")
    assert events.names == ["open", "answered", "close"]


def test_an_upgrade_is_reported_before_the_close_of_the_old_handler(connected, events):
    class Upgrades(Logs):
        def on_request(self, request):
            request.respond(101, {"Upgrade": "x", "Connection": "Upgrade"})
            self.hand_over(goev.Connection())

    client = connected(lambda: Upgrades(events))
    client.send(get("/", "Connection: Upgrade", "Upgrade: x"))
    assert client.head().status == 101
    assert events.until("answered")[2] == 101
    events.until("close")
    assert events.names == ["open", "answered", "close"]


def test_an_exception_in_it_ends_the_connection(connected, events, log):
    class Breaks(Logs):
        def on_request(self, request):
            request.respond()

        def on_answered(self, request, status, bytes_sent, seconds):
            raise BrokenError

    client = connected(lambda: Breaks(events))
    assert client.ask(get()).status == 200
    assert "exception in on_answered of Breaks with" in log.next()[1]
    assert isinstance(events.until("close")[1], BrokenError)


def test_the_time_is_that_from_the_request_to_the_last_byte():
    answered = []

    class Waits(goev.http.Connection):
        def on_request(self, request):
            self.schedule(1.5, lambda: request.respond(200, None, bytes(1000)))

        def on_answered(self, request, status, bytes_sent, seconds):
            answered.append((status, seconds))

    peer = goev.testing.open(Waits())
    peer.take_only(500)
    peer.receive(get())
    peer.clock.advance(1.5)
    assert answered == []
    peer.clock.advance(2)
    peer.take_only(None)
    assert answered == [(200, 3.5)]


def test_many_pipelined_answers_are_reported_each(connected, events):
    class Answers(Logs):
        def on_request(self, request):
            request.respond(200, None, request.target.encode())

    client = connected(lambda: Answers(events))
    client.send(b"".join(get(f"/{number}") for number in range(200)))
    answers = [client.answer() for _ in range(200)]
    events.times("answered", 200)
    reported = [(event[1].target.encode(), event[3]) for event in events.of("answered")]
    assert reported == [(answer.body, size_of(answer)) for answer in answers]


def test_threads_answer_and_it_is_called_on_the_poller(logged, events):
    client, *requests = logged(*(get(f"/{number}") for number in range(16)))
    threads = [threading.Thread(target=request.respond) for request in requests]
    for thread in threads:
        thread.start()
    for _ in requests:
        assert client.answer().status == 200
    reported = [events.until("answered")[1] for _ in requests]
    assert all(one is other for one, other in zip(reported, requests, strict=True))
    for thread in threads:
        thread.join()


def test_answered_requests_are_not_kept(connected, events):
    class Counts(goev.http.Connection):
        def on_request(self, request):
            request.respond()

        def on_answered(self, request, status, bytes_sent, seconds):
            events("answered", os.getpid())

    client = connected(Counts)
    for _ in range(50):
        client.ask(get())
    events.times("answered", 50)

    def are_gone():
        gc.collect()  # a second time, if the first one has freed the owner of others
        return not any(type(thing) is goev.http.Request for thing in gc.get_objects())

    eventually(are_gone, "no request is left")


def test_a_chunked_request_is_reported_like_others(connected, events):
    class Reflects(Logs):
        def on_request(self, request):
            request.respond(200, None, request.body)

    client = connected(lambda: Reflects(events))
    assert client.ask(post_chunked("/", b"ab", b"c")).body == b"abc"
    assert events.until("answered")[1].body == b"abc"
