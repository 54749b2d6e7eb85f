"""PEP 3333, "The start_response() Callable" and "Handling the Content-Length Header"."""

import sys

import pytest

from http_support import BrokenError, get, post


def answering(*items, status="200 OK", headers=(), close=None):
    """An application that answers with these items."""

    def app(environ, start_response):
        start_response(status, list(headers))
        return list(items)

    return app


def test_an_iterable_of_one_item_gets_a_length(client):
    answer = client(answering(b"hello", headers=[("X-A", "b")])).ask(get())
    assert (answer.status, answer["content-length"], answer["x-a"], answer.body) == (200, "5", "b", b"hello")


def test_several_items_are_chunks(client):
    answer = client(answering(b"a", b"", b"b")).ask(get())
    assert answer.chunks == [b"a", b"b"]


def test_an_http_1_0_peer_gets_the_body_until_the_close(client):
    answer = client(answering(b"a", b"b")).ask(get(version="1.0"))
    assert (answer["transfer-encoding"], answer.body) == (None, b"ab")


def test_a_length_of_the_application_is_kept(client):
    answer = client(answering(b"ab", b"cd", headers=[("Content-Length", "4")])).ask(get())
    assert (answer["content-length"], answer.body) == ("4", b"abcd")


@pytest.mark.parametrize("items", [[], [b""], (), [b"", b""]])
def test_no_body_has_the_length_0(client, items):
    assert client(answering(*items)).ask(get())["content-length"] == "0"


def test_an_answer_to_head_has_no_body(client):
    raw = client(answering(b"hello"))
    answer = raw.ask(get(method="HEAD"))
    assert (answer["content-length"], answer.body) == ("5", b"")
    assert raw.ask(get()).body == b"hello"


def test_the_reason_phrase_is_the_applications(client):
    answer = client(answering(status="418 I'm a teapot")).ask(get())
    assert (answer.status, answer.reason) == (418, "I'm a teapot")


def test_write_sends_before_the_iterable(client):
    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"a")
        write(b"b")
        return [b"c"]

    assert client(app).ask(get()).chunks == [b"a", b"b", b"c"]


def test_a_generator_may_call_start_response_at_its_first_item(client):
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"late"

    assert client(app).ask(get()).body == b"late"


def test_a_head_is_replaced_by_one_with_exc_info(client):
    def app(environ, start_response):
        start_response("200 OK", [("X-Old", "1")])
        try:
            raise BrokenError
        except BrokenError:
            start_response("503 Later", [("X-New", "1")], sys.exc_info())
        return [b"sorry"]

    answer = client(app).ask(get())
    assert (answer.status, answer["x-old"], answer["x-new"], answer.body) == (503, None, "1", b"sorry")


def test_exc_info_after_the_head_raises_it_again(client, log):
    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"begun")
        try:
            raise BrokenError("amid")
        except BrokenError:
            start_response("500 No", [], sys.exc_info())
        raise AssertionError("not reached")

    raw = client(app)
    raw.send(get())
    assert raw.survives_until_end().endswith(b"5\r\nbegun\r\n")
    assert "BrokenError: amid" in "\n".join(log.texts())


@pytest.mark.parametrize("items", [[b"body"], iter([b"a", b"b"])])
def test_close_is_called_once_after_the_answer(client, items):
    closed = []

    class Closing:
        def __iter__(self):
            return iter(items)

        def close(self):
            closed.append(True)

    def app(environ, start_response):
        start_response("200 OK", [])
        return Closing()

    raw = client(app)
    raw.ask(get())
    raw.ask(get())  # behind it, so the first call is over
    assert len(closed) >= 1


BAD = [
    ("status", "must be '200 OK'", ("OK", [])),
    ("status", "must be '200 OK'", ("200OK", [])),
    ("status", "from 200 to 599", ("100 Continue", [])),
    ("status", "must be str", (200, [])),
    ("reason", "control character", ("200 a\rb", [])),
    ("headers", "must be a list", ("200 OK", (("a", "b"),))),
    ("headers", "must be a list", ("200 OK", None)),
    ("headers", "tuples of name and value", ("200 OK", [["a", "b"]])),
    ("headers", "must be str", ("200 OK", [("a", 1)])),
    ("headers", "must be str", ("200 OK", [(b"a", "b")])),
    ("headers", "ISO-8859-1", ("200 OK", [("a", "€")])),
    ("headers", "control character", ("200 OK", [("a", "b\r\nc: d")])),
    ("headers", "must be a token", ("200 OK", [("a b", "c")])),
    ("length", "content-length must be a number", ("200 OK", [("Content-Length", "x")])),
    ("exc_info", "must be a tuple of three", ("200 OK", [], "no")),
    *(
        ("one hop", "fields of one hop", ("200 OK", [(name, "x")]))
        for name in ("Connection", "keep-alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authenticate")
    ),
]


@pytest.mark.parametrize(("text", "arguments"), [row[1:] for row in BAD])
def test_a_bad_head_is_an_error_of_the_application(client, log, text, arguments):
    def app(environ, start_response):
        start_response(*arguments)
        return [b"never"]

    assert client(app).ask(get()).status == 500
    assert text in "\n".join(log.texts())


def twice(environ, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []


def raises(environ, start_response):
    raise BrokenError("here")


def raises_later(environ, start_response):
    start_response("200 OK", [])
    raise BrokenError("here")


def exits(environ, start_response):
    sys.exit("here")


def no_start(environ, start_response):
    return [b"body"]


def writes_text(environ, start_response):
    start_response("200 OK", [])("text")


def wrong_close(environ, start_response):
    class Closing(list):
        def close(self):
            raise BrokenError("in close")

    start_response("200 OK", [])
    return Closing()


MISUSED = [
    (twice, 500, "was called before"),
    (raises, 500, "BrokenError: here"),
    (raises_later, 500, "BrokenError: here"),
    (exits, 500, "SystemExit: here"),
    (no_start, 500, "before it called start_response"),
    (writes_text, 500, "write() takes bytes, not str"),
    (lambda environ, start_response: None, 500, "must return an iterable, not NoneType"),
    (answering("text"), 500, "must yield bytes, not str"),
    (answering("text", "more"), 500, "must yield bytes, not str"),
    (answering(b"long", headers=[("Content-Length", "2")]), 500, "content-length is 2"),
    (answering(b"long", b"er", headers=[("Content-Length", "2")]), 500, "more than content-length 2"),
    (answering(headers=[("Content-Length", "2")]), 500, "content-length is 2"),
    (wrong_close, 200, "BrokenError: in close"),
]


@pytest.mark.parametrize(("app", "status", "text"), MISUSED, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_fault_of_the_application_is_logged(client, log, app, status, text):
    raw = client(app)
    assert raw.ask(get("/page")).status == status
    if status == 200:
        raw.ask(get())  # behind it, so its close() is over
    assert text in "\n".join(log.texts())
    assert "'GET /page HTTP/1.1' of 127.0.0.1" in "\n".join(log.texts())


def cut(environ, start_response):
    start_response("200 OK", [])
    yield b"begun"
    raise BrokenError("amid")


def short(environ, start_response):
    start_response("200 OK", [("Content-Length", "10")])
    yield b"begun"


@pytest.mark.parametrize("app", [cut, short])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_answer_that_was_begun_ends_the_connection_incomplete(client, log, app, version):
    raw = client(app)
    raw.send(get(version=version))
    got = raw.survives_until_end()
    assert b"begun" in got or version == "1.0"  # a reset may overtake the part
    assert not got.endswith(b"0\r\n\r\n")
    assert log.next()


def test_requests_of_one_connection_are_answered_one_after_the_other(client):
    running = []

    def app(environ, start_response):
        running.append(environ["PATH_INFO"])
        assert len(running) == 1
        start_response("200 OK", [])
        yield environ["PATH_INFO"].encode()
        running.pop()

    raw = client(app)
    raw.send(b"".join(get(f"/{number}") for number in range(50)))
    assert [raw.answer().body for _ in range(50)] == [b"/%d" % number for number in range(50)]


def test_a_body_that_nobody_reads_is_skipped(client):
    raw = client(answering(b"ok"))
    raw.send(post("/", b"x" * 3_000_000) + get())
    assert [raw.answer().body, raw.answer().body] == [b"ok", b"ok"]
