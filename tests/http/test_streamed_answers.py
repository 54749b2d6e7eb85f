"""A streamed answer leaves in pieces, in chunks or of known length, and is never longer or shorter than it said."""

import time

import pytest

import goev
from http_support import DATA, Keeps, get, streaming
from support import PATIENCE, SMALL_BUFFERS, in_thread, settle, sha256


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
    settle(client.server.reactor, 1)  # without the interpreter lock the objects end on the thread that made them
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
