"""`send` makes an answer of messages; wrong ones are clear errors."""

import asyncio
import gc
import weakref
from contextlib import ExitStack

import pytest

import goev
from asgi_support import TEXT, body_message, hello, sending, start_message
from http_support import get, post
from support import PATIENCE, Client, eventually


def test_a_whole_answer(client_of):
    answer = client_of(hello()).ask(get())
    assert (answer.status, answer.body, answer["content-type"], answer["content-length"]) == (
        200,
        b"hello",
        "text/plain",
        "5",
    )
    assert answer["date"]


def test_order_and_repetition_of_fields_are_kept(client_of):
    fields = [(b"set-cookie", b"a=1"), (b"x-b", b"2"), (b"set-cookie", b"c=3"), [b"x-list", b"\xe4"]]
    answer = client_of(sending(start_message(201, fields), body_message())).ask(get())
    assert answer.status == 201
    assert answer.fields[:4] == [("set-cookie", "a=1"), ("x-b", "2"), ("set-cookie", "c=3"), ("x-list", "\xe4")]


@pytest.mark.parametrize(
    ("messages", "method", "body"),
    [
        ([start_message(), body_message(b"one", more_body=True), body_message(b"two")], "GET", b"onetwo"),
        ([start_message(), body_message(b"", more_body=True), None, body_message(b"")], "GET", b""),
        ([start_message(), {"type": "http.response.body"}], "GET", b""),
        ([{"type": "http.response.start", "status": 200}, {"type": "http.response.body", "body": None}], "GET", b""),
        ([start_message(), body_message(bytearray(b"array"))], "GET", b"array"),
        ([start_message(), body_message(memoryview(b"view"), more_body=True), body_message()], "GET", b"view"),
        ([start_message(200, [(b"content-length", b"3")]), body_message(b"abc")], "GET", b"abc"),
        (
            [start_message(200, [(b"content-length", b"3")]), body_message(b"ab", more_body=True), body_message(b"c")],
            "GET",
            b"abc",
        ),
        ([start_message(200, [(b"transfer-encoding", b"chunked")]), body_message(b"abc")], "GET", b"abc"),
        ([start_message(200, [(b"content-length", b"3")]), body_message(b"abc")], "HEAD", b""),
        ([start_message(200, [(b"content-length", b"3")]), body_message(b"")], "HEAD", b""),
        ([start_message(), body_message(b"a", more_body=True), body_message(b"b")], "HEAD", b""),
        ([start_message(204), body_message(b"")], "GET", b""),
        ([start_message(304), body_message(b"ignored")], "GET", b""),
        ([start_message(), body_message(b"x"), start_message(), body_message(b"y")], "GET", b"x"),
    ],
)
def test_answers(client_of, messages, method, body):
    client = client_of(sending(*messages))
    for _ in range(2):  # the connection goes on
        answer = client.ask(get(method=method))
        assert (answer.status, answer.body) == (messages[0]["status"], body)


def test_an_http_1_0_client_gets_the_end_of_the_stream(client_of):
    client = client_of(sending(start_message(), body_message(b"one", more_body=True), None, body_message(b"two")))
    client.send(get(version="1.0"))
    head = client.head()
    assert head["transfer-encoding"] is None
    assert client.rest() == b"onetwo"


CLOSE = [(b"connection", b"close")]


def test_the_application_may_close_the_connection(client_of):
    client = client_of(sending(start_message(200, CLOSE), body_message(b"bye")))
    assert client.ask(get())["connection"] == "close"
    assert client.rest() == b""


WRONG = [
    ([body_message()], RuntimeError, "unexpected ASGI message 'http.response.body': expected 'http.response.start'"),
    ([start_message(), start_message()], RuntimeError, "expected 'http.response.body' or 'http.response.pathsend'"),
    ([{"type": "websocket.accept"}], RuntimeError, "unexpected ASGI message 'websocket.accept'"),
    ([{"type": "http.response.trailers"}], RuntimeError, "expected 'http.response.start'"),
    ([{"status": 200}], ValueError, "an ASGI message has no 'type'"),
    ([5], TypeError, "object is not iterable"),
    ([{"type": "http.response.start"}], ValueError, "'http.response.start' has no 'status'"),
    ([start_message("200")], TypeError, "int"),
    ([start_message(99)], ValueError, "'status' must be from 200 to 599, not 99"),
    ([start_message(101)], ValueError, "'status' must be from 200 to 599, not 101"),
    ([start_message(1000)], ValueError, "not 1000"),
    ([start_message(200, [("a", "b")])], TypeError, "headers must be pairs of bytes, not tuple ('a', 'b')"),
    ([start_message(200, [b"ab"])], TypeError, "headers must be pairs of bytes, not bytes"),
    ([start_message(200, [(b"a",)])], TypeError, "headers must be pairs of bytes, not tuple"),
    ([start_message(200, [(b"a b", b"c")])], ValueError, "a field name must be a token"),
    ([start_message(200, [(b"a", b"c\r\nd: e")])], ValueError, "a control character in the field a"),
    ([start_message(200, [(b"content-length", b"x")])], ValueError, "content-length must be a number"),
    ([start_message(), body_message("text")], TypeError, "bytes-like"),
    (
        [start_message(200, [(b"content-length", b"3")]), body_message(b"ab")],
        ValueError,
        "content-length is 3, but the body has 2",
    ),
    (
        [start_message(200, [(b"content-length", b"3")]), body_message(b"abcd")],
        ValueError,
        "content-length is 3, but the body has 4",
    ),
    ([start_message(), {"type": "http.response.pathsend"}], ValueError, "has no 'path'"),
    ([start_message(), {"type": "http.response.pathsend", "path": "x"}], ValueError, "must be absolute, not 'x'"),
    ([start_message(), {"type": "http.response.pathsend", "path": 1}], TypeError, "must be a str, not int"),
    ([start_message(), {"type": "http.response.pathsend", "path": "/no/such"}], FileNotFoundError, "/no/such"),
    ([{"type": "http.response.early_hint"}], ValueError, "has no 'links'"),
    ([{"type": "http.response.early_hint", "links": [b"a\n"]}], ValueError, "a control character in the field link"),
]


@pytest.mark.parametrize(("messages", "kind", "text"), WRONG, ids=[text for _, _, text in WRONG])
def test_a_wrong_message_is_an_error_and_the_client_gets_500(client_of, log, messages, kind, text):
    client = client_of(sending(*messages))
    answer = client.ask(get())
    assert (answer.status, answer["connection"]) == (500, "close")
    record, line = log.next()
    assert record.exc_info[0] is kind
    assert text in line
    assert record.getMessage().startswith("exception in app of Site with 127.0.0.1:")
    assert len(log.texts()) == 1


BROKEN = [
    (
        [start_message(200, [(b"content-length", b"3")]), body_message(b"ab", more_body=True), body_message(b"")],
        "shorter",
    ),
    (
        [start_message(200, [(b"content-length", b"3")]), body_message(b"ab", more_body=True), body_message(b"cd")],
        "2 bytes",
    ),
    ([start_message(), body_message(b"ab", more_body=True), start_message()], "expected 'http.response.body'"),
    ([start_message(), body_message(b"ab", more_body=True)], "the application returned before its answer was complete"),
]


@pytest.mark.parametrize(("messages", "text"), BROKEN, ids=[text for _, text in BROKEN])
def test_an_answer_that_breaks_off_is_cut(client_of, log, messages, text):
    client = client_of(sending(*messages))
    client.send(get())
    client.head()
    assert client.survives_until_end().find(b"0\r\n\r\n") == -1
    assert eventually(lambda: log.texts(), "it is logged")


@pytest.mark.parametrize("messages", [[], [None], [start_message()]], ids=["nothing", "later", "only the start"])
def test_an_application_without_an_answer(client_of, log, messages):
    answer = client_of(sending(*messages)).ask(get())
    assert (answer.status, answer["connection"]) == (500, "close")
    assert "the application returned without an answer" in log.next()[1]


@pytest.mark.parametrize("waits", [0, 1], ids=["at once", "later"])
@pytest.mark.parametrize("count", [0, 1], ids=["before the start", "behind the start"])
def test_an_exception_before_the_body_is_500(client_of, log, waits, count):
    async def app(scope, receive, send):
        for _ in range(count):
            await send(start_message())
        for _ in range(waits):
            await asyncio.sleep(0)
        raise KeyError("broken")

    answer = client_of(app).ask(get())
    assert (answer.status, answer.body, answer["connection"]) == (
        500,
        b"500 Internal Server Error: the server gave no answer\n",
        "close",
    )
    assert "KeyError: 'broken'" in log.next()[1]


def test_an_exception_in_the_body_cuts_it(client_of, log):
    async def app(scope, receive, send):
        await send(start_message())
        await send(body_message(b"part", more_body=True))
        raise KeyError("broken")

    client = client_of(app)
    client.send(get())
    client.head()
    assert client.survives_until_end() == b"4\r\npart\r\n"
    assert "KeyError" in log.next()[1]


def test_an_exception_behind_the_answer_is_logged_and_the_connection_goes_on(client_of, log):
    async def app(scope, receive, send):
        await send(start_message())
        await send(body_message(b"ok"))
        raise KeyError("broken")

    client = client_of(app)
    assert client.ask(get()).body == client.ask(get()).body == b"ok"
    assert "KeyError" in log.next()[1]
    assert "KeyError" in log.next()[1]


def answer_once(factory):
    """Serve one request; nothing of the server is left."""
    with goev.Reactor(pollers=1, asyncio=True) as reactor, ExitStack() as stack:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", factory)
        reactor.start()
        client = stack.enter_context(Client(acceptor.address))
        client.send(get())
        assert client.receive(15) == b"HTTP/1.1 200 OK"


def test_an_exception_that_an_application_keeps_can_be_collected():
    """Its frame holds the connection, which holds the application."""

    class App:
        async def __call__(self, scope, receive, send):
            await send(start_message())
            await send(body_message(b"ok"))

    class Site(goev.asgi.Connection):
        app = App()

        def on_request(self, request):
            try:
                raise KeyError("kept")
            except KeyError as error:
                self.app.error = error
            super().on_request(request)

    answer_once(Site)
    app = weakref.ref(Site.app)
    del Site, App

    def is_gone():
        gc.collect()
        return app() is None

    eventually(is_gone, "the application is collected")


def test_an_application_that_is_no_coroutine(client_of, log):
    assert client_of(lambda scope, receive, send: None).ask(get()).status == 500
    assert "an ASGI application must be async def; the call returned NoneType" in log.next()[1]


def test_an_application_that_is_cancelled(client_of):
    async def app(scope, receive, send):
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    assert client_of(app).ask(get()).status == 500


def test_send_waits_while_the_client_is_behind(client_of):
    sent = []

    async def app(scope, receive, send):
        await send(start_message())
        for number in range(64):
            await send(body_message(bytes(1 << 20), more_body=True))
            sent.append(number)
        await send(body_message())

    client = client_of(app, options={"send_buffer_size": 65536})
    client.send(get())
    client.head()
    assert eventually(lambda: sent == sent and len(sent) < 8, "it waits")
    assert len(client._chunks()) == 64
    assert len(sent) == 64


@pytest.mark.parametrize("catches", [True, False])
def test_send_raises_when_the_client_is_gone(client_of, events, catches):
    async def app(scope, receive, send):
        await send(start_message())
        try:
            while True:
                await send(body_message(bytes(100_000), more_body=True))
        except OSError as error:
            events("error", error)
            if not catches:
                raise

    client = client_of(app)
    client.send(get())
    client.head()
    client.reset()
    error = events.until("error")[1]
    assert isinstance(error, goev.asgi.ClientDisconnected)
    assert str(error) == "the client has gone away"


@pytest.mark.parametrize("is_error", [False, True])
def test_a_group_of_tasks_that_lose_their_client_is_no_error(client_of, events, log, is_error):
    async def pump(send):
        while True:
            await send(body_message(bytes(1000), more_body=True))
            await asyncio.sleep(0.001)

    async def clean_up():
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            if is_error:
                raise ZeroDivisionError from None

    async def app(scope, receive, send):
        await send(start_message())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(clean_up())
                group.create_task(pump(send))
        finally:
            asyncio.get_running_loop().call_later(0.05, events, "ended")

    client = client_of(app)
    client.send(get())
    client.head()
    client.reset()
    events.until("ended")
    assert any("ZeroDivisionError" in text for text in log.texts()) == is_error
    assert is_error or log.texts() == []


def test_messages_behind_the_answer_are_ignored_when_the_connection_has_ended(client_of, events):
    async def app(scope, receive, send):
        await send(start_message(200, CLOSE))
        await send(body_message())
        await asyncio.sleep(0.02)
        await send(body_message(b"more"))
        events("ended")

    assert client_of(app).ask(get()).status == 200
    events.until("ended")


# ---- extensions


def test_early_hints_come_before_the_answer(client_of):
    hint = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]}
    client = client_of(
        sending(start_message(), hint, hint, body_message(b"body", more_body=True), hint, body_message())
    )
    first = client.ask(get())
    assert (first.status, first.fields) == (103, [("link", "</a.css>; rel=preload"), ("link", "</b.js>; rel=preload")])
    assert client.answer().status == 103
    assert client.answer().body == b"body"
    assert client.ask(get(version="1.0")).status == 200


TRAILERS = [
    start_message(200, [(b"trailer", b"x-sum")], trailers=True),
    body_message(b"body"),
    {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": True},
    {"type": "http.response.trailers", "headers": [(b"x-more", b"2")]},
]


@pytest.mark.parametrize(
    ("fields", "expected"), [(["TE: trailers"], b"0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n"), ([], b"0\r\n\r\n")]
)
def test_trailers_go_to_a_client_that_takes_them(client_of, fields, expected):
    client = client_of(sending(*TRAILERS))
    client.send(get("/", *fields, "Connection: close"))
    client.head()
    assert client.rest() == b"4\r\nbody\r\n" + expected


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        (TRAILERS[:2], "the application returned before its answer was complete"),
        (TRAILERS[:3], "the application returned before its answer was complete"),
        ([*TRAILERS[:2], body_message(b"more")], "'http.response.body': expected 'http.response.trailers'"),
        ([start_message(), body_message(b"body", more_body=True), TRAILERS[3]], "expected 'http.response.body'"),
    ],
    ids=["none", "not the last", "another message", "without a word in the start"],
)
def test_an_answer_that_lacks_its_trailers_is_cut(client_of, log, messages, text):
    client = client_of(sending(*messages))
    client.send(get("/", "TE: trailers"))
    client.head()
    assert client.survives_until_end() == b"4\r\nbody\r\n"
    assert text in log.next()[1]


@pytest.mark.parametrize("name", [b"content-length", b"Transfer-Encoding", b"a b"])
def test_fields_of_heads_are_no_trailers(client_of, log, name):
    messages = [*TRAILERS[:2], {"type": "http.response.trailers", "headers": [(name, b"1")]}]
    client = client_of(sending(*messages))
    client.send(get("/", "TE: trailers"))
    client.head()
    assert client.survives_until_end() == b"4\r\nbody\r\n"
    assert "trailers" in log.next()[1] or name == b"a b"


@pytest.mark.parametrize("size", [0, 100, 1_000_000])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_is_sent_by_its_path(client_of, tmp_path, size, method):
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    client = client_of(sending(start_message(200, TEXT), {"type": "http.response.pathsend", "path": str(path)}))
    answer = client.ask(get(method=method))
    assert answer["content-length"] == str(size)
    assert answer.body == (bytes(size) if method == "GET" else b"")
    assert client.ask(post("/", b"x")).status == 200


def test_a_file_is_the_whole_answer(client_of, tmp_path):
    """Messages behind it are ignored, and the connection goes on."""
    (tmp_path / "file").write_bytes(b"file")
    path = {"type": "http.response.pathsend", "path": str(tmp_path / "file")}
    client = client_of(sending(start_message(), path, path, body_message(b"more")))
    assert client.ask(get()).body == client.ask(get()).body == b"file"


def test_an_answer_with_trailers_sends_no_file(client_of, log, tmp_path):
    (tmp_path / "file").write_bytes(b"file")
    path = {"type": "http.response.pathsend", "path": str(tmp_path / "file")}
    assert client_of(sending(start_message(trailers=True), path)).ask(get()).status == 500
    text = log.next()[1]
    assert text.endswith("unexpected ASGI message 'http.response.pathsend': expected 'http.response.body'"), text


def test_a_file_cannot_follow_a_part_of_the_body(client_of, log, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    path = {"type": "http.response.pathsend", "path": str(tmp_path / "file")}
    client = client_of(sending(start_message(), body_message(b"a", more_body=True), path))
    client.send(get())
    client.head()
    assert client.survives_until_end() == b"1\r\na\r\n"
    assert "unexpected ASGI message 'http.response.pathsend': expected 'http.response.body'" in log.next()[1]
