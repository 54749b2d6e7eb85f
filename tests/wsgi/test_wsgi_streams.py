"""Bodies that stream both ways, slow clients, clients that go away, and threads that are all busy."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

import goev.wsgi
from goev.service.settings import Settings
from goev.wsgi.interface import Application
from http_support import chunked, get, post
from support import PATIENCE, SMALL_BUFFERS, Events, eventually, in_thread, resident


class Streams:
    """An endless answer, and a record of its end."""

    def __init__(self) -> None:
        self.sent, self.closed = 0, threading.Event()

    def app(self, environ, start_response):
        start_response("200 OK", [])
        return self

    def __iter__(self):
        return self

    def __next__(self) -> bytes:
        self.sent += 100_000
        return bytes(100_000)

    def close(self) -> None:
        self.closed.set()


def test_a_slow_client_holds_the_generator_back_and_its_end_closes_it(client):
    streams = Streams()
    raw = client(streams.app, **SMALL_BUFFERS)
    raw.send(get())
    raw.head()

    def rests() -> bool:
        before = streams.sent
        time.sleep(0.05)
        return before == streams.sent

    eventually(rests, "a generator that waits")
    assert streams.sent < 10_000_000
    raw.reset()
    assert streams.closed.wait(PATIENCE)


def test_a_client_that_reads_gets_everything(client):
    def app(environ, start_response):
        start_response("200 OK", [])
        yield from (bytes([number % 256]) * 50_000 for number in range(100))

    answer = client(app, **SMALL_BUFFERS).ask(get())
    assert answer.body == b"".join(bytes([number % 256]) * 50_000 for number in range(100))


def test_a_large_body_goes_out_in_bounded_parts(client):
    body = bytes(range(256)) * 40_000

    def app(environ, start_response):
        start_response("200 OK", [])
        return [body]

    answer = client(app, max_output=100_000, high_water=50_000, low_water=10_000).ask(get())
    assert (answer["content-length"], answer.body) == (str(len(body)), body)


def test_an_upload_of_300_mb_is_read_in_bounded_memory(client):
    piece, count = bytes(1 << 20), 300

    def app(environ, start_response):
        total = 0
        while data := environ["wsgi.input"].read(100_000):
            total += len(data)
        start_response("200 OK", [])
        return [b"%d" % total]

    raw = client(app)
    raw.send(get("/", f"Content-Length: {len(piece) * count}", method="POST"))
    raw.send(piece)
    before = resident()
    for _ in range(count - 1):
        raw.send(piece)
    assert raw.answer().body == b"%d" % (len(piece) * count)
    assert resident() - before < 30_000_000


def test_a_slow_application_holds_the_upload_back(client):
    go = threading.Event()

    def app(environ, start_response):
        go.wait(PATIENCE)
        start_response("200 OK", [])
        return [b"%d" % len(environ["wsgi.input"].read())]

    raw = client(app, **SMALL_BUFFERS)
    raw.send(get("/", "Content-Length: 20000000", method="POST"))
    sent = raw.raw.fill(bytes(20_000_000))
    assert sent < 5_000_000
    go.set()
    raw.send(bytes(20_000_000 - sent))
    assert raw.answer().body == b"20000000"


def test_a_body_that_comes_slowly_takes_no_thread_before_it_is_whole(client, site):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [environ["wsgi.input"].read() or b"none"]

    server = site(app, threads=1)
    slow = client(server)
    slow.send(post("/", b"slow")[:-1])
    assert client(server).ask(get()).body == b"none"
    slow.send(b"w")
    assert slow.answer().body == b"slow"


def test_the_client_is_asked_for_a_body_when_the_application_reads(client):
    go, began = threading.Event(), threading.Event()

    def app(environ, start_response):
        began.set()
        go.wait(PATIENCE)
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    raw = client(app)
    raw.send(post("/", b"", "Expect: 100-continue").replace(b"Content-Length: 0", b"Content-Length: 4"))
    assert began.wait(PATIENCE)
    assert raw.is_silent(0.05)
    go.set()
    assert raw.answer().status == 100
    raw.send(b"body")
    assert raw.answer().body == b"body"
    assert raw.ask(get()).status == 200


def test_a_client_that_is_not_asked_gets_the_answer_and_the_close(client):
    def app(environ, start_response):
        start_response("403 No", [])
        return [b"no"]

    raw = client(app)
    raw.send(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    answer = raw.answer()
    assert (answer.status, answer["connection"], raw.rest()) == (403, "close", b"")


def test_a_client_that_goes_away_amid_its_body_ends_the_read(client):
    events = Events()

    def app(environ, start_response):
        events("began", environ["wsgi.input"].read(1))
        try:
            environ["wsgi.input"].read()
        except ConnectionResetError as error:
            events("lost", str(error))
            raise
        return []

    raw = client(app)
    raw.send(get("/", "Transfer-Encoding: chunked", method="POST") + chunked(bytes(100_000))[:-10])
    events.until("began")
    raw.reset()
    assert "went away" in events.until("lost")[1]


def test_requests_wait_for_threads_in_order_and_bounded(client, site):
    go, order = threading.Semaphore(0), []

    def app(environ, start_response):
        go.acquire(timeout=PATIENCE)
        order.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b"ok"]

    server = site(app, threads=1, max_waiting=3)
    raws = [client(server) for _ in range(8)]
    for number, raw in enumerate(raws):
        raw.send(get(f"/{number}"))
        if number == 0:
            eventually(lambda: server.handler._pool().waiting == 0, "the first request in its thread")
        elif number < 4:
            eventually(lambda n=number: server.handler._pool().waiting == n, "a request that waits")
    assert server.handler._pool().waiting == 3
    for _ in raws:
        go.release()
    assert [raw.answer().status for raw in raws] == [200] * 8
    assert order[:4] == ["/0", "/1", "/2", "/3"]
    assert sorted(order[4:]) == ["/4", "/5", "/6", "/7"]


def test_clients_that_leave_while_they_wait_hold_up_no_other(client, site):
    may_go = threading.Event()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/first":
            may_go.wait(PATIENCE)
        start_response("200 OK", [])
        return [b"ok"]

    server = site(app, threads=1, max_waiting=1)
    clients = [client(server) for _ in range(6)]
    for number, each in enumerate(clients):
        each.send(get("/first" if number == 0 else "/"))
        time.sleep(0.02)  # in this order: one runs, one waits in the queue, and four wait in their sockets
    for each in clients[2:5]:
        each.reset()
    assert eventually(lambda: server.reactor.stats()[0]["open"] == 3, "they have left")
    may_go.set()
    for each in clients[:2] + clients[5:]:
        assert each.answer().body == b"ok"


def test_a_forked_child_that_comes_back_ends(client):
    def app(environ, start_response):
        if (child := os.fork()) == 0:
            raise SystemExit
        ended = False
        try:
            ended = eventually(lambda: os.waitpid(child, os.WNOHANG)[0] == child, "the child has ended")
        finally:
            if not ended:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        start_response("200 OK", [])
        return [b"it has ended"]

    assert client(app).ask(get()).body == b"it has ended"


def test_calls_that_block_run_side_by_side(client, site):
    together = threading.Barrier(4)

    def app(environ, start_response):
        together.wait(PATIENCE)
        start_response("200 OK", [])
        return [b"ok"]

    server = site(app, threads=4)
    raws = [client(server) for _ in range(4)]
    for raw in raws:
        raw.send(get())
    assert [raw.answer().status for raw in raws] == [200] * 4


def test_a_stop_waits_for_the_request_that_runs(client, site):
    began, go = threading.Event(), threading.Event()

    def app(environ, start_response):
        began.set()
        go.wait(PATIENCE)
        start_response("200 OK", [])
        return [b"done"]

    server = site(app)
    raw = client(server)
    raw.send(get())
    assert began.wait(PATIENCE)
    stopped = in_thread(server.reactor.stop, PATIENCE)
    stopped.result(PATIENCE)
    go.set()
    answer = raw.answer()
    assert (answer.status, answer.body, answer["connection"]) == (200, b"done", "close")
    server.reactor.join()


@pytest.mark.parametrize("size", [100, 3_000_000])
@pytest.mark.parametrize("offset", [0, 10])
def test_a_file_is_sent_by_the_wrapper(client, tmp_path: Path, size, offset):
    path = tmp_path / "file"
    path.write_bytes(bytes(index % 251 for index in range(size)))
    files = []

    def app(environ, start_response):
        file = path.open("rb")
        file.seek(offset)
        files.append(file)
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](file, 1000)

    raw = client(app)
    answer = raw.ask(get())
    assert (answer["content-length"], answer.body) == (str(size - offset), path.read_bytes()[offset:])
    head = raw.ask(get(method="HEAD"))
    assert (head["content-length"], head.body) == (str(size - offset), b"")
    raw.ask(get())
    assert files[0].closed
    assert files[1].closed


def test_the_wrapper_reads_an_object_that_is_no_file(client):
    import io

    def app(environ, start_response):
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](io.BytesIO(b"abcdef"), 4)

    assert client(app).ask(get()).chunks == [b"abcd", b"ef"]


class Mixed(goev.wsgi.Connection):
    """Answers one path by itself."""

    def on_request(self, request):
        if request.path == "/live":
            return request.respond(200, None, b"handler")
        return super().on_request(request)


def test_a_handler_answers_some_paths_and_the_application_the_others(client):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"app ", environ["wsgi.input"].read()]

    raw = client(app, base=Mixed)
    raw.send(get("/live") + post("/other", b"body") + get("/live"))
    assert [raw.answer().body for _ in range(3)] == [b"handler", b"app body", b"handler"]


def test_a_slow_client_holds_the_generator_back_behind_a_handler_too(client):
    streams = Streams()
    raw = client(streams.app, base=Mixed, **SMALL_BUFFERS)
    raw.send(get())
    raw.raw.discard(5_000_000)
    raw.reset()
    assert streams.closed.wait(PATIENCE)


WRONG = [
    ({"threads": 0}, ValueError, "threads must be an int of at least 1, not 0"),
    ({"threads": "4"}, ValueError, "not '4'"),
    ({"max_waiting": 0}, ValueError, "max_waiting must be at least 1, not 0"),
    ({"root_path": "app"}, ValueError, "root_path must be '' or '/path', not 'app'"),
    ({"root_path": "/app/"}, ValueError, "not '/app/'"),
    ({"app": None}, TypeError, "app must be a WSGI application, not None"),
]


@pytest.mark.parametrize(("attributes", "error", "text"), WRONG, ids=lambda value: str(value))
def test_a_wrong_attribute_is_named(attributes, error, text):
    handler = type("Handler", (goev.wsgi.Connection,), {"app": staticmethod(print), **attributes})
    with pytest.raises(error, match=text.replace("(", r"\(")):
        handler._pool()


def test_the_interface_of_a_service_makes_connections_and_ends_its_threads():
    def app(environ, start_response):
        return []

    interface = Application(app, Settings(target="site:app", threads=3, workers=2))
    connection = interface.connection()
    handler = type(connection)
    assert (handler.threads, handler.multiprocess, interface.on_loop, interface.asyncio) == (3, True, False, False)
    handler._pool()
    threads = list(handler._own_threads)
    assert [thread.is_alive() for thread in threads] == [True] * 3
    interface.close()
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize(("app", "threads", "error"), [("no", 1, TypeError), (print, 0, ValueError)])
def test_the_interface_refuses_a_wrong_application_or_number_of_threads(app, threads, error):
    with pytest.raises(error):
        Application(app, Settings(target="site:app", threads=threads))
