"""Answers leave in the order of their requests, whichever thread gives them and whenever."""

import queue
from contextlib import suppress

import goev
from http_support import HttpClient, Target, get, post
from support import PATIENCE, held, in_thread, settle


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
