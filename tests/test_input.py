"""C2: every byte that came is delivered, in order, at the pace of the handler, within max_input."""

import hashlib
import random

import pytest

import goev
from support import Recorder, held, in_thread, on_poller, settle, sha256

pytestmark = pytest.mark.wires("plain", "tls")

FRAME = b"PUT /name HTTP/1.1\r\n\r\n" + b"\x00\x0bhello\r\nyou\r"


class Framed(goev.Connection):
    """A head up to an empty line, then two bytes of length and that many bytes."""

    def __init__(self, events) -> None:
        self.events = events
        self.head: bytes | None = None
        self.length: int | None = None

    def on_read(self):
        self.events("came", self.pending_input)
        while self.step():
            pass

    def step(self) -> bool:
        if self.head is None:
            self.head = self.read_until(b"\r\n\r\n")
            return self.head is not None
        if self.length is None:
            size = self.read_exactly(2)
            self.length = None if size is None else int.from_bytes(size, "big")
            return self.length is not None
        body = self.read_exactly(self.length)
        if body is None:
            return False
        self.events("frame", self.head, body)
        self.head = self.length = None
        return True


class Passive(goev.Connection):
    """Reads nothing by itself: the test does it through call_soon."""

    def __init__(self, events) -> None:
        self.events = events

    def on_open(self):
        self.events("open", self)

    def on_read(self):
        self.events("came", self.pending_input)

    def on_close(self, error):
        self.events("close", error)


def passive(start, events, data: bytes, **options):
    """A connection that holds ``data`` as unread input."""
    server = start(lambda: Passive(events), **options)
    client = server.connect()
    handler = events.until("open")[1]
    client.send(data)
    while events.until("came")[1] < len(data):
        pass
    return handler


@pytest.mark.parametrize("cut", range(len(FRAME) + 1))
def test_frame_cut_anywhere_arrives_once_and_whole(start, events, cut):
    client = start(lambda: Framed(events)).connect()
    if cut:
        client.send(FRAME[:cut])
        events.until("came")
    client.send(FRAME[cut:])
    assert events.until("frame") == ("frame", b"PUT /name HTTP/1.1\r\n\r\n", b"hello\r\nyou\r")
    assert len(events.of("frame")) == 1


def test_frames_in_one_packet_are_all_delivered(start, events):
    client = start(lambda: Framed(events)).connect()
    client.send(FRAME * 500)
    events.times("frame", 500)
    assert set(events.of("frame")) == {("frame", b"PUT /name HTTP/1.1\r\n\r\n", b"hello\r\nyou\r")}


@pytest.mark.parametrize("size", [1, 1000, 65536, 1 << 20, 10_000_000])
def test_every_byte_before_eof_is_delivered(start, events, size):
    data = random.Random(size).randbytes(size)
    client = start(lambda: Recorder(events)).connect()
    client.send(data)
    client.close()
    assert events.until("close") == ("close", None)
    assert sha256(b"".join(event[1] for event in events.of("read"))) == sha256(data)


@pytest.mark.parametrize("size", [1, 5000, 60_000])
def test_every_byte_before_a_reset_is_delivered(start, events, size):
    server = start(lambda: Recorder(events))
    client = server.connect()
    events.until("open")
    with held(server.reactor):  # so that input and reset are both there when the poller looks
        client.send(b"x" * size)
        client.reset()
    assert isinstance(events.until("close")[1], ConnectionResetError)
    assert b"".join(event[1] for event in events.of("read")) == b"x" * size


def test_input_left_at_eof_is_still_offered_piece_by_piece(start, events):
    class OneByte(Recorder):
        def on_read(self):
            self.events("read", self.read(1))

    server = start(lambda: OneByte(events))
    client = server.connect()
    events.until("open")
    with held(server.reactor):
        client.send(b"abc")
        client.close()
    events.until("close")
    assert events.history[1:] == [("read", b"a"), ("read", b"b"), ("read", b"c"), ("close", None)]


def test_after_a_write_error_the_remaining_input_comes_first(start, events):
    server = start(lambda: Recorder(events))
    client = server.connect()
    handler = events.until("open")[1]

    def write() -> None:
        handler.write(b"to nobody")

    with held(server.reactor):
        client.send(b"last words")
        client.reset()
        server.reactor.call_soon(write)  # flushed before the input has been looked at
    assert isinstance(events.until("close")[1], ConnectionError)
    assert events.of("read") == [("read", b"last words")]


def test_on_read_comes_again_while_it_consumes_and_input_remains(start, events):
    class OneByte(goev.Connection):
        def on_read(self):
            events("read", self.read(1), self.pending_input)

    start(OneByte).connect().send(b"abcde")
    events.times("read", 5)
    assert b"".join(event[1] for event in events.history) == b"abcde"
    assert events.history[-1][2] == 0


def test_a_handler_that_consumed_nothing_is_called_again_only_when_more_comes(start, events):
    server = start(lambda: Passive(events))
    client = server.connect()
    events.until("open")
    client.send(b"a")
    assert events.next() == ("came", 1)
    settle(server.reactor, 20)
    assert events.names.count("came") == 1
    client.send(b"b")
    assert events.next() == ("came", 2)


def test_on_read_is_not_called_without_input(start, events):
    class ReadsAhead(goev.Connection):
        def on_open(self):
            events("open", self)

        def on_read(self):
            events("read", self.pending_input)
            self.read()

    server = start(ReadsAhead)
    client = server.connect()
    handler = events.until("open")[1]
    for _ in range(20):
        client.send(b"x")
        on_poller(handler, handler.read)
    settle(server.reactor)
    assert all(count > 0 for _, count in events.of("read"))


# --- the methods that read ---


def test_read_takes_up_to_n_or_everything(start, events):
    handler = passive(start, events, b"0123456789")
    assert on_poller(handler, lambda: handler.read(3)) == b"012"
    assert on_poller(handler, lambda: handler.read(0)) == b""
    assert on_poller(handler, lambda: handler.pending_input) == 7
    assert on_poller(handler, lambda: handler.read(100)) == b"3456789"
    assert on_poller(handler, lambda: handler.read()) == b""


def test_read_without_an_argument_takes_everything(start, events):
    handler = passive(start, events, b"0123456789")
    assert on_poller(handler, lambda: (handler.read(), handler.pending_input)) == (b"0123456789", 0)


def test_peek_consumes_nothing(start, events):
    handler = passive(start, events, b"0123456789")
    assert on_poller(handler, lambda: handler.peek(3)) == b"012"
    assert on_poller(handler, lambda: handler.peek()) == b"0123456789"
    assert on_poller(handler, lambda: handler.peek(100)) == b"0123456789"
    assert on_poller(handler, lambda: handler.read()) == b"0123456789"


def test_skip_returns_how_many_bytes_it_dropped(start, events):
    handler = passive(start, events, b"0123456789")
    assert on_poller(handler, lambda: handler.skip(4)) == 4
    assert on_poller(handler, lambda: handler.peek(2)) == b"45"
    assert on_poller(handler, lambda: handler.skip(100)) == 6
    assert on_poller(handler, lambda: handler.skip(1)) == 0


def test_read_exactly_is_none_until_all_is_there(start, events):
    handler = passive(start, events, b"0123456789")
    assert on_poller(handler, lambda: handler.read_exactly(11)) is None
    assert on_poller(handler, lambda: handler.read_exactly(4)) == b"0123"
    assert on_poller(handler, lambda: handler.read_exactly(0)) == b""
    assert on_poller(handler, lambda: handler.read_exactly(6)) == b"456789"


@pytest.mark.parametrize(
    ("data", "separator", "expected"),
    [
        (b"one\ntwo\n", b"\n", [b"one\n", b"two\n", None]),
        (b"a\r\n\r\nb\r\n\r\n", b"\r\n\r\n", [b"a\r\n\r\n", b"b\r\n\r\n", None]),
        (b"\n\nx", b"\n", [b"\n", b"\n", None]),
        (b"aab", b"ab", [b"aab", None]),
        (b"aaa", b"aaaa", [None]),
        (b"abcabd", b"abd", [b"abcabd", None]),
    ],
)
def test_read_until_includes_the_separator(start, events, data, separator, expected):
    handler = passive(start, events, data)
    assert [on_poller(handler, lambda: handler.read_until(separator)) for _ in expected] == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a", [None]),
        (b"a\n", [b"a\n", None]),
        (b"a\nb\nrest", [b"a\nb\n", None]),
        (b"\n\n", [b"\n\n", None]),
        (b"12345\n7\n9\n", [b"12345\n7\n", b"9\n"]),  # nine bytes are looked at
    ],
)
def test_read_until_the_last_separator_takes_all_that_is_complete(start, events, data, expected):
    handler = passive(start, events, data)
    assert [on_poller(handler, lambda: handler.read_until(b"\n", 9, last=True)) for _ in expected] == expected


def test_read_until_finds_a_separator_that_came_in_pieces(start, events):
    class Lines(goev.Connection):
        def on_read(self):
            line = self.read_until(b"<end>")
            events("came", line)

    client = start(Lines).connect()
    for piece in (b"x" * 1000, b"<e", b"n", b"d"):
        client.send(piece)
        assert events.next() == ("came", None)
    client.send(b">")
    assert events.next() == ("came", b"x" * 1000 + b"<end>")


def test_read_until_counts_the_separator_into_its_limit(start, events):
    handler = passive(start, events, b"12345\r\nrest")
    assert on_poller(handler, lambda: handler.read_until(b"\r\n", 7)) == b"12345\r\n"
    assert on_poller(handler, lambda: handler.read()) == b"rest"


def test_read_until_raises_when_the_limit_is_there_without_the_separator(start, events):
    handler = passive(start, events, b"12345\r\nrest")
    with pytest.raises(goev.InputOverflow, match="6"):
        on_poller(handler, lambda: handler.read_until(b"\r\n", 6))
    assert on_poller(handler, lambda: handler.peek()) == b"12345\r\nrest"


def test_read_until_waits_below_its_limit(start, events):
    handler = passive(start, events, b"12345")
    assert on_poller(handler, lambda: handler.read_until(b"\r\n", 6)) is None


def test_input_overflow_in_a_callback_ends_the_connection(start, events, log):
    class Lines(Recorder):
        def on_read(self):
            self.read_until(b"\n", 100)

    client = start(lambda: Lines(events)).connect()
    client.send(b"x" * 100)
    assert isinstance(events.until("close")[1], goev.InputOverflow)


@pytest.mark.parametrize("make", [bytearray, lambda n: memoryview(bytearray(n))], ids=["bytearray", "memoryview"])
def test_read_into_fills_what_fits(start, events, make):
    handler = passive(start, events, b"0123456789")
    buffer = make(4)
    assert on_poller(handler, handler.read_into, buffer) == 4
    assert bytes(buffer) == b"0123"
    assert on_poller(handler, handler.read_into, buffer) == 4
    assert on_poller(handler, handler.read_into, buffer) == 2
    assert bytes(buffer) == b"8967"
    assert on_poller(handler, handler.read_into, buffer) == 0


def test_read_into_a_slice_leaves_the_rest_of_the_buffer_alone(start, events):
    handler = passive(start, events, b"0123456789")
    buffer = bytearray(b"........")
    assert on_poller(handler, handler.read_into, memoryview(buffer)[2:5]) == 3
    assert buffer == b"..012..."


def test_a_buffer_read_into_can_be_resized_afterwards(start, events):
    handler = passive(start, events, b"0123456789")
    buffer = bytearray(4)
    on_poller(handler, handler.read_into, buffer)
    buffer.extend(b"no export is held")
    assert len(buffer) == 21


# --- pausing and max_input ---


def test_paused_input_waits_and_the_peer_feels_it(start, events):
    data = random.Random(1).randbytes(40_000_000)

    class Paused(Recorder):
        def on_open(self):
            self.events("open", self)
            self.pause_reading()

    server = start(lambda: Paused(events), receive_buffer_size=65536)
    client = server.connect()
    handler = events.until("open")[1]
    sent = client.fill(data)
    assert sent < len(data)
    assert not events.of("read")
    handler.call_soon(handler.resume_reading)
    client.send(data[sent:])
    client.close()
    events.until("close")
    assert sha256(b"".join(event[1] for event in events.of("read"))) == sha256(data)


def test_pausing_inside_on_read_keeps_the_rest_until_resumed(start, events):
    class Steps(goev.Connection):
        def on_open(self):
            events("open", self)

        def on_read(self):
            events("read", self.read(1))
            self.pause_reading()

    client = start(Steps).connect()
    handler = events.until("open")[1]
    client.send(b"abc")
    for byte in (b"a", b"b", b"c"):
        assert events.next() == ("read", byte)
        settle(handler)
        assert events.history[-1] == ("read", byte)
        handler.call_soon(handler.resume_reading)


def test_resuming_calls_nothing_by_itself(start, events):
    class Steps(goev.Connection):
        def on_open(self):
            events("open", self)

        def on_read(self):
            events("read", self.read(1))
            self.pause_reading()

    client = start(Steps).connect()
    handler = events.until("open")[1]

    def resume() -> None:
        handler.resume_reading()
        events("resumed")

    client.send(b"ab")
    events.until("read")
    handler.call_soon(resume)
    assert [events.next(), events.next()] == [("resumed",), ("read", b"b")]


def test_pausing_and_resuming_twice_is_the_same_as_once(start, events):
    class Paused(Recorder):
        def on_open(self):
            self.events("open", self)
            self.pause_reading()
            self.pause_reading()

    client = start(lambda: Paused(events)).connect()
    handler = events.until("open")[1]
    client.send(b"x")
    handler.call_soon(handler.resume_reading)
    assert events.next() == ("read", b"x")
    handler.call_soon(handler.resume_reading)
    client.send(b"y")
    assert events.next() == ("read", b"y")


@pytest.mark.parametrize("when", ["before reading", "after reading"])
@pytest.mark.parametrize("pauses", [False, True])
def test_resuming_in_every_on_read_does_not_make_it_come_again(start, events, pauses, when):
    """A line comes in two pieces: the first stays unread, and on_read has to wait for the second."""

    class Resumes(goev.Connection):
        def on_read(self):
            if when == "before reading":
                self.resume()
            events("read", self.read_until(b"\n"))
            if when == "after reading":
                self.resume()

        def resume(self):
            if pauses:
                self.pause_reading()
            self.resume_reading()

    server = start(Resumes)
    client = server.connect()
    client.send(b"in two ")
    assert events.next() == ("read", None)
    settle(server.reactor, 20)
    assert len(events.history) == 1
    client.send(b"pieces\n")
    assert events.next() == ("read", b"in two pieces\n")
    settle(server.reactor, 20)
    assert len(events.history) == 2


def test_a_reset_is_noticed_while_paused(start, events):
    class Paused(Recorder):
        def on_open(self):
            self.pause_reading()
            self.events("open", self)

    client = start(lambda: Paused(events)).connect()
    events.until("open")
    client.reset()
    assert isinstance(events.until("close")[1], ConnectionResetError)


@pytest.mark.parametrize("chunk", [1, 1000, 4096])
def test_input_longer_than_max_input_passes_through(start, events, chunk):
    data = random.Random(chunk).randbytes(chunk * 2000 if chunk > 1 else 20_000)
    digest, longest = hashlib.sha256(), []

    class Small(goev.Connection):
        def on_read(self):
            longest.append(self.pending_input)
            while (part := self.read_exactly(chunk)) is not None:
                digest.update(part)

        def on_close(self, error):
            events("close", error)

    client = start(Small, max_input=4096).connect()
    sending = in_thread(client.send, data)
    sending.result(20)
    client.close()
    assert events.until("close") == ("close", None)
    assert digest.hexdigest() == sha256(data)
    assert max(longest) <= 4096 + 256 * 1024  # at most what one turn may bring on top


def test_consuming_nothing_at_max_input_is_input_overflow(start, events):
    client = start(lambda: Passive(events), max_input=4096).connect()
    client.send(b"x" * 4095)
    while events.until("came")[1] < 4095:
        pass
    settle(events.history[0][1])
    assert "close" not in events.names
    client.send(b"x")
    error = events.until("close")[1]
    assert isinstance(error, goev.InputOverflow)
    assert "4096" in str(error)


def test_a_paused_handler_does_not_overflow(start, events):
    class Stops(Passive):
        def on_read(self):
            super().on_read()
            self.pause_reading()

    client = start(lambda: Stops(events), max_input=4096).connect()
    handler = events.until("open")[1]
    client.send(b"x" * 100_000)
    events.until("came")
    settle(handler)
    assert "close" not in events.names


def test_consuming_one_byte_at_max_input_goes_on(start, events):
    class Sips(goev.Connection):
        def on_open(self):
            self.left = 10_000

        def on_read(self):
            self.left -= self.skip(1)
            if self.left == 0:
                events("all")

        def on_close(self, error):
            events("close", error)

    client = start(Sips, max_input=1000).connect()
    client.send(b"x" * 10_000)
    assert events.next() == ("all",)


@pytest.mark.parametrize(
    "call",
    [
        lambda connection: connection.read_exactly(4097),
        lambda connection: connection.read_until(b"\n", 4097),
    ],
    ids=["read_exactly", "read_until"],
)
def test_asking_for_more_than_max_input_is_a_value_error(start, events, call):
    handler = passive(start, events, b"x", max_input=4096)
    with pytest.raises(ValueError, match=r"(?s)4097.*4096|4096.*4097"):
        on_poller(handler, call, handler)


def test_all_of_max_input_can_be_asked_for(start, events):
    class Whole(goev.Connection):
        def on_read(self):
            if (whole := self.read_exactly(4096)) is not None:
                events("whole", whole)

    client = start(Whole, max_input=4096).connect()
    client.send(b"x" * 4096 * 3)
    assert [events.next() for _ in range(3)] == [("whole", b"x" * 4096)] * 3
