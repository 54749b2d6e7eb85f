"""C4, C8: files go out whole, in order with what is written, and by turns of at most 256 KiB."""

import os
import random
import time

import pytest

import goev
from support import Echo, in_thread, on_poller, open_fds, sha256

pytestmark = pytest.mark.wires("plain", "tls")

DATA = random.Random(11).randbytes(5_000_000)


@pytest.fixture
def path(tmp_path):
    """A file of 5 MB."""
    file = tmp_path / "data"
    file.write_bytes(DATA)
    return file


@pytest.fixture
def sent(start, events):
    """``sent(act)``: everything a client receives when ``act(connection)`` runs in on_open, then closes."""

    def exchange(act, **options) -> bytes:
        class Sends(goev.Connection):
            def on_open(self):
                act(self)
                self.close()

            def on_close(self, error):
                events("close", error)

        return start(Sends, **options).connect().receive_all()

    return exchange


def test_a_file_arrives_whole_and_the_connection_ends_in_order(sent, path, events):
    with open(path, "rb") as file:
        assert sha256(sent(lambda connection: connection.sendfile(file))) == sha256(DATA)
    assert events.next() == ("close", None)


def test_a_file_descriptor_does_as_well(sent, path):
    fd = os.open(path, os.O_RDONLY)
    try:
        assert sha256(sent(lambda connection: connection.sendfile(fd))) == sha256(DATA)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("offset", "count"), [(0, 1), (1, 999_999), (4_999_999, 1), (4_000_000, None), (5_000_000, None), (7, 0), (0, None)]
)
def test_offset_and_count_choose_the_part(sent, path, offset, count):
    end = None if count is None else offset + count
    with open(path, "rb") as file:
        part = sent(lambda connection: connection.sendfile(file, offset=offset, count=count))
    assert part == DATA[offset:end]


def test_the_position_of_the_file_object_is_neither_used_nor_moved(sent, path):
    with open(path, "rb") as file:
        file.seek(1234)
        assert len(sent(lambda connection: connection.sendfile(file))) == len(DATA)
        assert file.tell() == 1234


def test_the_file_may_be_closed_at_once(sent, path):
    def send_and_close(connection: goev.Connection) -> None:
        with open(path, "rb") as file:
            connection.sendfile(file)

    assert sha256(sent(send_and_close, send_buffer_size=16384)) == sha256(DATA)


def test_order_between_write_and_sendfile_is_kept(sent, path):
    def mix(connection: goev.Connection) -> None:
        with open(path, "rb") as file:
            for number in range(20):
                connection.write(b"<%d>" % number)
                connection.sendfile(file, offset=number * 100_000, count=100_000)
                connection.writelines([b"</", b"%d>" % number])
                connection.write(bytearray(b"-" * number * 1000))

    expected = b"".join(
        b"<%d>" % n + DATA[n * 100_000 : (n + 1) * 100_000] + b"</%d>" % n + b"-" * n * 1000 for n in range(20)
    )
    assert sha256(sent(mix, send_buffer_size=16384)) == sha256(expected)


def test_many_connections_send_the_same_file(start, path):
    with open(path, "rb") as file:

        class Sends(goev.Connection):
            def on_open(self):
                self.sendfile(file)
                self.close()

        server = start(Sends, pollers=2)
        receiving = [in_thread(server.connect().receive_all) for _ in range(8)]
        assert {sha256(future.result(20)) for future in receiving} == {sha256(DATA)}


def test_fds_do_not_leak(sent, path):
    def send(connection: goev.Connection) -> None:
        with open(path, "rb") as file:
            for _ in range(50):
                connection.sendfile(file, count=1000)

    before = len(os.listdir("/proc/self/fd"))
    sent(send)
    assert len(os.listdir("/proc/self/fd")) <= before + 10  # the server, its poller and the client


def test_thousands_of_small_files_in_one_callback_do_not_use_as_many_descriptors(sent, tmp_path):
    used = []
    (tmp_path / "small").write_bytes(b"0123456789")

    def send(connection: goev.Connection) -> None:
        with open(tmp_path / "small", "rb") as file:
            before = open_fds()
            for number in range(2000):
                connection.sendfile(file, offset=number % 10)
            used.append(open_fds() - before)

    received = sent(send)
    assert received == b"".join(b"0123456789"[number % 10 :] for number in range(2000))
    assert used[0] < 100


def test_a_file_that_shrinks_is_an_error(start, events, tmp_path):
    file = open(tmp_path / "shrinks", "w+b")  # noqa: SIM115
    file.truncate(100_000_000)

    class Sends(goev.Connection):
        def on_open(self):
            self.sendfile(file)
            self.close()

        def on_close(self, error):
            events("close", error)

    with file:
        client = start(Sends).connect()
        received = len(client.receive(1000))
        file.truncate(1000)
        with pytest.raises(ConnectionResetError):  # an orderly end would pass for a whole file
            client.receive_all()
        error = events.next()[1]
    assert received == 1000
    assert type(error) is OSError
    assert "shrank" in str(error)


def test_a_large_file_does_not_starve_the_others(start, tmp_path):
    with open(tmp_path / "sparse", "w+b") as file:
        file.truncate(2_000_000_000)

        class EchoOrFile(Echo):
            def on_read(self):
                if self.peek() == b"file":
                    self.skip(4)
                    self.sendfile(file)
                else:
                    super().on_read()

        server = start(EchoOrFile)
        greedy, other = server.connect(), server.connect()
        greedy.send(b"file")
        greedy.receive(1000)
        receiving = in_thread(greedy.discard, 500_000_000)
        waits = []
        while not receiving.done():
            began = time.perf_counter()
            assert other.ask(b"ping") == b"ping"
            waits.append(time.perf_counter() - began)
        receiving.result()
        assert len(waits) > 10
        assert sorted(waits)[len(waits) // 2] < 0.05


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"offset": -1}, "offset.*-1"),
        ({"count": -1}, "count.*-1"),
        ({"offset": 5_000_001}, "5000001"),
        ({"count": 5_000_001}, "5000001"),
        ({"offset": 4_000_000, "count": 1_000_001}, "1000001"),
    ],
)
def test_a_part_that_is_not_in_the_file_is_a_value_error(start, events, path, options, named):
    with open(path, "rb") as file:
        _, handler = visitor(start, events)
        with pytest.raises(ValueError, match=f"(?s){named}"):
            on_poller(handler, lambda: handler.sendfile(file, **options))


def visitor(start, events):
    class Opens(goev.Connection):
        def on_open(self):
            events("open", self)

    client = start(Opens).connect()
    return client, events.until("open")[1]


def test_what_is_no_file_is_refused_at_the_call(start, events, path):
    client, handler = visitor(start, events)
    for wrong in (str(path), None, 1.5):
        with pytest.raises(TypeError):
            on_poller(handler, handler.sendfile, wrong)
    fd = os.open(path, os.O_RDONLY)
    os.close(fd)
    with pytest.raises((OSError, ValueError)):
        on_poller(handler, handler.sendfile, fd)
    reading, writing = os.pipe()
    try:
        with pytest.raises((OSError, ValueError)):
            on_poller(handler, handler.sendfile, reading)
    finally:
        os.close(reading)
        os.close(writing)
    on_poller(handler, handler.write, b"still open")
    assert client.receive(10) == b"still open"


def test_sendfile_after_close_raises_connection_closed(start, events, path):
    _, handler = visitor(start, events)

    def close_then_send() -> None:
        handler.close()
        with open(path, "rb") as file:
            handler.sendfile(file)

    with pytest.raises(goev.ConnectionClosed):
        on_poller(handler, close_then_send)
