"""A request refuses a second answer, one too late, and one that would split or spoil what is sent."""

import queue

import pytest

import goev
from http_support import get, post
from support import PATIENCE, in_thread, settle


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
    # Arguments that no answer may have: status, headers, body; then the exception, and the text that it contains.
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
