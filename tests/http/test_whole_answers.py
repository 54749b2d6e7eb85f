"""An answer given at once carries status, headers, date, length and body, or no body where none may be."""

import re
import threading
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

import goev
from http_support import DATA, Hello, Keeps, Reflects, get, post, streaming
from support import SMALL_BUFFERS, eventually, on_poller, sha256


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


class Shouts(str):
    """A text that encodes itself in another way each time."""

    times = 0

    def encode(self, *_):
        Shouts.times += 1
        return b"shout %d" % Shouts.times


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.update(a="other"),
        lambda fields: fields.update(b="more"),
        lambda fields: fields.pop("a"),
        lambda fields: fields.update(a=fields.pop("a")),  # the order alone
        lambda fields: fields.update(a="".join(["equal, ", "and another object"])),
        lambda fields: fields.update(a=Shouts("é")),
        lambda fields: fields.update({"connection": "close"}),
    ],
    ids=["value", "new", "gone", "order", "equal", "subclass", "close"],
)
def test_fields_that_change_between_answers_are_read_anew(connected, change):
    fields = {"a": "equal, and another object", "c": "1"}

    class Says(goev.http.Connection):
        def on_request(self, request):
            if request.path == "/change":
                change(fields)
            request.respond(200, fields, b"x")

    client = connected(Says)
    for target in ["/", "/", "/", "/change"]:
        answer = client.ask(get(target))
        sent = [(name, value) for name, value in answer.fields if name not in ("content-length", "date")]
        shout = f"shout {Shouts.times}"
        assert sent == [(name, shout if isinstance(value, Shouts) else value) for name, value in fields.items()]


def test_a_kept_head_is_sent_with_its_own_status_and_length(connected):
    fields = {"a": "1"}

    class Says(goev.http.Connection):
        def on_request(self, request):
            request.respond(int(request.query), fields, request.path.encode())

    client = connected(Says)
    for status, path in [(200, "/a"), (200, "/a"), (200, "/abc"), (404, "/a"), (404, "/"), (404, "/ab"), (200, "/a")]:
        answer = client.ask(get(f"{path}?{status}"))
        assert (answer.status, answer["a"], answer.body) == (status, "1", path.encode())


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


# --- answers without a body ---


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
