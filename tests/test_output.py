"""C4: what is written arrives once, whole and in order; the queue has a high-water mark and an end."""

import array
import hashlib
import mmap
import random
import struct
import sys
import threading

import pytest

import goev
from support import PATIENCE, Recorder, eventually, held, in_thread, on_poller, resident, settle, sha256

pytestmark = pytest.mark.wires("plain", "tls")

RECORD = struct.Struct("<II24s")


class Opened(goev.Connection):
    """Reports opening, draining and the end; the test writes."""

    def __init__(self, events) -> None:
        self.events = events

    def on_open(self):
        self.events("open", self)

    def on_drain(self):
        self.events("drain", self.pending_output, self.over_high_water)

    def on_close(self, error):
        self.events("close", error)


def opened(start, events, receive_buffer=None, **options):
    """A client and the handler of its connection."""
    client = start(lambda: Opened(events), **options).connect(receive_buffer=receive_buffer)
    return client, events.until("open")[1]


SMALL_BUFFERS = {"send_buffer_size": 8192, "receive_buffer": 8192}


# --- what can be written ---


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"memoryview"),
        memoryview(b"0123456789")[3:7],
        array.array("I", [1, 2, 3]),
        array.array("d", [1.5]),
        memoryview(array.array("H", range(10))),
        type("Bytes", (bytes,), {})(b"subclass" * 1000),
        b"",
    ],
    ids=["bytes", "bytearray", "memoryview", "slice", "ints", "doubles", "shorts", "subclass", "empty"],
)
def test_write_takes_any_bytes_like_and_returns_none(start, events, data):
    client, handler = opened(start, events)
    assert on_poller(handler, handler.write, data) is None
    on_poller(handler, handler.close)
    assert client.receive_all() == bytes(memoryview(data).cast("B"))


def test_write_takes_a_memory_map(start, events):
    client, handler = opened(start, events)
    with mmap.mmap(-1, 8192) as memory:
        memory[:4] = b"abcd"
        handler.write(memory)
    assert client.receive(8192) == b"abcd" + bytes(8188)


@pytest.mark.parametrize("size", [10, 4096, 1_000_000])
def test_write_owns_a_copy_of_what_can_change(start, events, size):
    client, handler = opened(start, events)
    data = bytearray(b"a" * size)

    def write_then_change() -> None:
        handler.write(data)
        data[:] = b"b" * size
        data.extend(b"no export is held")

    on_poller(handler, write_then_change)
    assert client.receive(size) == b"a" * size


def test_writelines_keeps_the_order_and_takes_a_generator(start, events):
    client, handler = opened(start, events)
    lines = [b"%d," % number for number in range(2000)]
    assert on_poller(handler, handler.writelines, (line for line in lines)) is None
    on_poller(handler, handler.writelines, [bytearray(b"x"), memoryview(b"y"), b"", b"z" * 10_000])
    handler.close()
    assert client.receive_all() == b"".join(lines) + b"xy" + b"z" * 10_000


def test_writelines_of_something_wrong_raises_and_the_connection_goes_on(start, events):
    client, handler = opened(start, events)
    with pytest.raises(TypeError):
        on_poller(handler, handler.writelines, [b"good", "text"])
    with pytest.raises(TypeError):
        on_poller(handler, handler.writelines, 5)
    on_poller(handler, handler.write, b"end")
    handler.close()
    assert client.receive_all() in (b"end", b"goodend")


def test_an_exception_of_the_iterable_comes_out_of_writelines(start, events):
    _, handler = opened(start, events)

    def lines():
        yield b"one"
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        on_poller(handler, handler.writelines, lines())


# --- order and wholeness ---


def test_a_greeting_is_sent_before_anything_arrives(start):
    class Greets(goev.Connection):
        def on_open(self):
            self.write(b"220 ready\r\n")

    assert start(Greets).connect().receive(11) == b"220 ready\r\n"


@pytest.mark.parametrize("sizes", ["small", "mixed", "large"])
def test_writes_arrive_in_order(start, events, sizes):
    generator = random.Random(sizes)
    longest = {"small": 20, "mixed": 9000, "large": 300_000}[sizes]
    parts = [generator.randbytes(generator.randrange(longest)) for _ in range(2000 if sizes != "large" else 100)]
    client, handler = opened(start, events)

    def write_all() -> None:
        for part in parts:
            handler.write(part)

    handler.call_soon(write_all)
    handler.close()
    data = b"".join(parts)
    assert client.hash_all() == (len(data), sha256(data))


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_fifty_megabytes_in_one_write_arrive_whole_whatever_max_output(start, events, kind):
    data = kind(random.Random(50).randbytes(50_000_000))
    client, handler = opened(start, events, max_output=1 << 20, send_buffer_size=65536)
    on_poller(handler, handler.write, data)
    handler.close()
    assert client.hash_all() == (len(data), sha256(data))
    assert events.until("close") == ("close", None)


def test_partial_writes_through_tiny_buffers_lose_nothing(start, events):
    generator = random.Random(7)
    parts = [generator.randbytes(generator.randrange(1, 10_000)) for _ in range(800)]
    client, handler = opened(start, events, **SMALL_BUFFERS)

    def write_all() -> None:
        handler.writelines(parts[:400])
        for part in parts[400:]:
            handler.write(bytearray(part))

    handler.call_soon(write_all)
    handler.close()
    data = b"".join(parts)
    assert client.hash_all() == (len(data), sha256(data))


def write_records(handler, writer: int, count: int) -> None:
    for number in range(count):
        handler.write(RECORD.pack(writer, number, b"%d/%d" % (writer, number)))


def test_order_is_kept_per_writing_thread(start, events):
    client, handler = opened(start, events)
    count = 3000
    writers = [in_thread(write_records, handler, writer, count) for writer in range(8)]
    received = client.receive(RECORD.size * count * 8)
    for writer in writers:
        writer.result(PATIENCE)
    numbers: dict[int, list[int]] = {writer: [] for writer in range(8)}
    for writer, number, text in RECORD.iter_unpack(received):
        assert text.rstrip(b"\0") == b"%d/%d" % (writer, number)
        numbers[writer].append(number)
    assert all(seen == list(range(count)) for seen in numbers.values())


def test_large_writes_of_many_threads_are_never_mixed(start, events):
    client, handler = opened(start, events, send_buffer_size=16384)
    size, count = 100_000, 20

    def write_blocks(letter: int) -> None:
        for _ in range(count):
            handler.write(bytes([letter]) * size)

    writers = [in_thread(write_blocks, 65 + writer) for writer in range(4)]
    received = client.receive(size * count * 4)
    for writer in writers:
        writer.result(PATIENCE)
    for begin in range(0, len(received), size):
        block = received[begin : begin + size]
        assert block == block[:1] * size


@pytest.mark.parametrize("size", [1, 1000, 2_000_000])
def test_close_from_another_thread_comes_after_what_that_thread_wrote(start, events, size):
    server = start(lambda: Opened(events))
    for _ in range(20 if size < 1_000_000 else 3):
        client = server.connect()
        handler = events.until("open")[1]
        handler.write(b"a" * size)
        handler.write(b"b")
        handler.close()
        assert client.hash_all() == (size + 1, sha256(b"a" * size + b"b"))


def test_a_thread_writes_in_order_with_its_call_soon(start, events):
    client, handler = opened(start, events)
    handler.write(b"1")
    handler.call_soon(handler.write, b"2")
    handler.write(b"3")
    handler.call_soon(handler.close)
    assert client.receive_all() == b"123"


# --- after the end ---


def test_write_after_close_raises_connection_closed(start, events):
    _, handler = opened(start, events)

    def close_then_write(end) -> None:
        end()
        handler.write(b"late")

    with pytest.raises(goev.ConnectionClosed):
        on_poller(handler, close_then_write, handler.close)
    with pytest.raises(goev.ConnectionClosed):
        handler.write(b"later")
    with pytest.raises(goev.ConnectionClosed):
        handler.writelines([b"later"])


def test_write_after_close_in_another_thread_raises_there(start, events):
    _, handler = opened(start, events)
    handler.close()
    with pytest.raises(goev.ConnectionClosed):
        handler.write(b"late")


def test_write_after_abort_raises_connection_closed(start, events):
    _, handler = opened(start, events)
    handler.abort()
    events.until("close")
    with pytest.raises(goev.ConnectionClosed):
        handler.write(b"late")


def test_in_on_close_writing_raises_and_ending_again_is_harmless(start, events):
    class Last(goev.Connection):
        def on_close(self, error):
            try:
                self.write(b"x")
            except goev.ConnectionClosed:
                events("refused")
            self.close()
            self.abort()

    start(Last).connect().close()
    assert events.next() == ("refused",)


def test_write_before_open_raises_connection_closed_or_runtime_error():
    with pytest.raises((goev.ConnectionClosed, RuntimeError)):
        goev.Connection().write(b"to nobody")


# --- high water, draining, overflow ---


def test_small_output_never_drains(start, events):
    client, handler = opened(start, events)
    for _ in range(20):
        on_poller(handler, handler.write, b"x" * 1000)
    client.receive(20_000)
    settle(handler)
    assert events.names == ["open"]


def test_over_high_water_is_seen_and_on_drain_comes_once_at_low_water(start, events):
    client, handler = opened(start, events, high_water=100_000, low_water=20_000, **SMALL_BUFFERS)

    def write() -> tuple[int, bool]:
        handler.write(bytearray(3_000_000))
        return handler.pending_output, handler.over_high_water

    pending, over = on_poller(handler, write)
    assert pending > 100_000
    assert over
    settle(handler)
    assert not events.of("drain")
    client.receive(3_000_000)
    _, left, over = events.until("drain")
    assert left <= 20_000
    assert not over
    settle(handler)
    assert len(events.of("drain")) == 1


def test_on_drain_comes_again_after_the_next_crossing(start, events):
    client, handler = opened(start, events, **SMALL_BUFFERS)
    for _ in range(3):
        on_poller(handler, handler.write, bytes(2_000_000))
        client.receive(2_000_000)
        events.until("drain")
    settle(handler)
    assert len(events.of("drain")) == 3


def test_a_stream_paced_by_on_drain_stays_near_the_high_water_mark(start):
    chunk, total = random.Random(3).randbytes(50_000), 1000
    longest = []

    class Streams(goev.Connection):
        def on_open(self):
            self.left = total
            self.on_drain()

        def on_drain(self):
            while self.left and not self.over_high_water:
                self.write(chunk)
                self.left -= 1
                longest.append(self.pending_output)
            if not self.left:
                self.close()

    client = start(Streams, high_water=100_000).connect(receive_buffer=65536)
    assert client.hash_all() == (50_000_000, sha256(chunk * total))
    assert max(longest) <= 150_000


def test_a_peer_that_does_not_read_is_not_read_from(start, events):
    class Doubles(goev.Connection):
        longest = 0

        def on_open(self):
            events("open", self)

        def on_read(self):
            data = self.read()
            self.write(data)
            self.write(data)
            Doubles.longest = max(self.longest, self.pending_output)

    data = random.Random(4).randbytes(30_000_000)
    client = start(Doubles, send_buffer_size=65536, receive_buffer_size=65536).connect(receive_buffer=65536)
    sent = client.fill(data)
    assert sent < 10_000_000, "the server went on reading"
    sending = in_thread(lambda: (client.send(data[sent:]), client.finish()))
    count, _ = client.hash_all()
    sending.result(PATIENCE)
    assert count == 60_000_000
    assert Doubles.longest < 2_000_000  # high water, and twice what one turn reads


def test_draining_does_not_lift_the_pause_of_the_user(start, events):
    class Paused(Opened):
        def on_open(self):
            self.pause_reading()
            self.write(bytes(2_000_000))
            super().on_open()

        def on_read(self):
            self.events("read", self.read())

    client = start(lambda: Paused(events), send_buffer_size=8192).connect(receive_buffer=8192)
    handler = events.until("open")[1]
    client.send(b"question")
    client.discard(2_000_000)
    events.until("drain")
    settle(handler)
    assert not events.of("read")
    handler.call_soon(handler.resume_reading)
    assert events.until("read") == ("read", b"question")


def test_a_second_write_past_max_output_ends_the_connection(start, events):
    _, handler = opened(start, events, max_output=1 << 20, **SMALL_BUFFERS)

    def write_twice() -> None:
        handler.write(bytes(2 << 20))
        handler.write(bytes(2 << 20))

    assert on_poller(handler, write_twice) is None  # write itself does not raise for it
    error = events.until("close")[1]
    assert isinstance(error, goev.OutputOverflow)
    assert "1048576" in str(error)


def test_small_writes_past_max_output_end_the_connection(start, events):
    _, handler = opened(start, events, max_output=1 << 20, **SMALL_BUFFERS)

    def write_much() -> None:
        for _ in range(10_000):
            try:
                handler.write(b"x" * 1000)
            except goev.ConnectionClosed:
                return

    on_poller(handler, write_much)
    assert isinstance(events.until("close")[1], goev.OutputOverflow)


def test_bytes_waiting_in_the_mailbox_count_and_memory_stays_bounded(start, events):
    _, handler = opened(start, events, max_output=8 << 20)
    block, before = bytearray(1 << 20), resident()
    with held(handler):
        for _ in range(500):
            try:
                handler.write(block)
            except goev.ConnectionClosed:
                break
        grown = resident() - before
    assert isinstance(events.until("close")[1], goev.OutputOverflow)
    assert grown < 64 << 20


def test_a_single_write_from_another_thread_into_an_empty_queue_fits(start, events):
    client, handler = opened(start, events, max_output=1 << 20)
    data = random.Random(5).randbytes(10 << 20)
    handler.write(data)
    assert sha256(client.receive(len(data))) == sha256(data)
    assert "close" not in events.names


def test_overflow_of_one_connection_leaves_the_others_alone(start, events):
    server = start(lambda: Opened(events), max_output=1 << 20, send_buffer_size=8192)
    other = server.connect()
    neighbour = events.until("open")[1]
    server.connect(receive_buffer=8192)
    greedy = events.until("open")[1]
    for _ in range(30):
        try:
            greedy.write(bytes(1 << 20))
        except goev.ConnectionClosed:
            break
    assert isinstance(events.until("close")[1], goev.OutputOverflow)
    neighbour.write(b"well")
    assert other.receive(4) == b"well"


# --- held references and bookkeeping ---


def test_large_bytes_are_released_when_they_are_sent(start, events):
    client, handler = opened(start, events)
    blob = random.Random(6).randbytes(3_000_000)
    before = sys.getrefcount(blob)
    on_poller(handler, handler.write, blob)
    assert client.receive(len(blob)) == blob
    eventually(lambda: sys.getrefcount(blob) == before, "the reference is let go")


def test_large_bytes_are_released_when_the_connection_ends_unsent(start, events):
    client, handler = opened(start, events, **SMALL_BUFFERS)
    blob = bytes(3_000_000)
    before = sys.getrefcount(blob)
    on_poller(handler, handler.write, blob)
    assert sys.getrefcount(blob) >= before
    client.reset()
    assert isinstance(events.until("close")[1], ConnectionError)
    eventually(lambda: sys.getrefcount(blob) == before, "the reference is let go")


def test_pending_output_falls_to_zero(start, events):
    client, handler = opened(start, events)
    handler.write(b"x" * 1000)
    client.receive(1000)
    eventually(lambda: on_poller(handler, lambda: handler.pending_output) == 0, "nothing is pending")


def test_writing_from_callbacks_and_threads_at_once_loses_nothing(start):
    """Echo on the poller, records from threads: each of both kinds arrives whole and in order."""
    opened_now = threading.Event()
    made = []

    class EchoesRecords(Recorder):
        def on_open(self):
            made.append(self)
            opened_now.set()

        def on_read(self):
            while (record := self.read_exactly(RECORD.size)) is not None:
                self.write(record)

        def on_close(self, error):
            pass

    client = start(lambda: EchoesRecords(None)).connect()
    assert opened_now.wait(PATIENCE)
    count = 3000
    records = b"".join(RECORD.pack(9, number, b"echo") for number in range(count))
    workers = [in_thread(write_records, made[0], writer, count) for writer in range(3)]
    workers.append(in_thread(client.send, records))
    received = client.receive(RECORD.size * count * 4)
    for worker in workers:
        worker.result(PATIENCE)
    for writer in (0, 1, 2, 9):
        assert [number for who, number, _ in RECORD.iter_unpack(received) if who == writer] == list(range(count))


def test_echo_of_random_chunks_is_identical(start):
    class Echoes(goev.Connection):
        def on_read(self):
            self.write(self.read(random.randrange(1, 70_000)))

    data = random.Random(8).randbytes(20_000_000)
    client = start(Echoes).connect()
    sending = in_thread(lambda: (client.send(data), client.finish()))
    count, digest = client.hash_all()
    sending.result(PATIENCE)
    assert (count, digest) == (len(data), hashlib.sha256(data).hexdigest())
