"""Objects that threads share, used by eight of them at once while the collector stops them again and again.

With the interpreter lock most of these steps cannot meet. Without it they do, and a lock that is held across a stop
of all threads would hang the test. ``GOEV_SOAK=10`` makes each of them ten times as long.
"""

import gc
import os
import socket
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

import goev
from http_support import get
from support import LOCAL, PATIENCE, Child, Client, eventually, in_thread
from websocket_support import CLOSE, DEFLATE, TEXT, ClientPeer, Told, inflated

THREADS = 8
SECONDS = 0.7 * int(os.environ.get("GOEV_SOAK", "1"))

pytestmark = pytest.mark.timeout(30 + 20 * SECONDS)


class Crowd:
    """Threads that do something over and over, at the same time, until the time is over or one of them fails."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.over = threading.Event()
        self._line = threading.Barrier(THREADS + 1)
        self._seconds = seconds

    def __call__(self, *works: Callable[[int], object]) -> list[int]:
        """Each thread does one of the works, with its number; returns how often each did it."""
        crowd = [in_thread(self._repeat, works[number % len(works)], number) for number in range(THREADS)]
        self._line.wait(PATIENCE)
        end = time.monotonic() + self._seconds
        while time.monotonic() < end and not any(one.done() for one in crowd):
            gc.collect(0)  # stops all threads where there is no lock
            self.over.wait(0.01)
        self.over.set()
        return [one.result(PATIENCE) for one in crowd]

    def _repeat(self, work: Callable[[int], object], number: int) -> int:
        self._line.wait(PATIENCE)
        count = 0
        while not self.over.is_set():
            work(number)
            count += 1
        return count


@pytest.fixture
def crowd(switching) -> Crowd:
    return Crowd()


@pytest.fixture
def switching():
    """Threads that share the interpreter lock take turns often."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def answer_of(client: Client, ask: bytes, kept: bytearray) -> tuple[int, dict[str, str], bytes]:
    """Send a request; take its answer apart, with a length or in chunks. ``kept`` has what came behind it."""
    client.send(ask)

    def more() -> None:
        part = client.socket.recv(65536)
        assert part, "the server ended the connection"
        kept.extend(part)

    def line() -> bytes:
        while (end := kept.find(b"\r\n")) < 0:
            more()
        taken = bytes(kept[:end])
        del kept[: end + 2]
        return taken

    def take(count: int) -> bytes:
        while len(kept) < count:
            more()
        taken = bytes(kept[:count])
        del kept[:count]
        return taken

    version, status, *_ = line().split(b" ")
    assert version == b"HTTP/1.1"
    fields = {}
    while field := line():
        name, value = field.split(b": ", 1)
        fields[name.decode().lower()] = value.decode()
    if "content-length" in fields:
        return int(status), fields, take(int(fields["content-length"]))
    body = b""
    while size := int(line(), 16):
        body += take(size)
        assert line() == b""
    assert line() == b""
    return int(status), fields, body


class Visitors:
    """A client for each thread, to the same server."""

    def __init__(self, server) -> None:
        self.clients = [server.connect() for _ in range(THREADS)]
        self.kept = [bytearray() for _ in range(THREADS)]

    def ask(self, number: int, target: str = "/") -> tuple[int, dict[str, str], bytes]:
        return answer_of(self.clients[number], get(target), self.kept[number])


# ---- HTTP -----------------------------------------------------------------------------------------------------------


class Changing(Mapping):
    """A mapping of the user's over a dict that changes."""

    def __init__(self, fields: dict[str, str]) -> None:
        self.fields = fields

    def __getitem__(self, name: str) -> str:
        return self.fields[name]

    def __iter__(self):
        return iter(list(self.fields))

    def __len__(self) -> int:
        return len(self.fields)


@pytest.mark.parametrize("kind", [dict, list, Changing])
def test_fields_that_change_while_pollers_answer_with_them(start, crowd, kind):
    values = ["one", "a-second-value", "3" * 50]
    shared: dict[str, str] = {"x-first": values[0], "x-second": values[0]}
    fields: Any = kind(shared.items() if kind is list else shared)
    if kind is dict:
        shared = fields

    class Site(goev.http.Connection):
        def on_request(self, request):
            try:
                request.respond(200, fields, b"good")
            except (RuntimeError, KeyError) as error:  # the size changed while it was read
                assert not request.answered
                request.respond(503, None, str(error).encode())

    visitors = Visitors(start(Site, pollers=2))

    def change(number: int) -> None:
        value = values[number % 3]
        if kind is list:
            fields[0] = ("x-first", value)
            fields.append(("x-more", value))
            fields.pop()
        else:
            shared["x-first"] = value
            shared["x-more"] = value
            shared.pop("x-more", None)

    seen: Counter = Counter()

    def ask(number: int) -> None:
        status, given, body = visitors.ask(number)
        assert (status == 200) == (body == b"good")
        assert all(value in values for name, value in given.items() if name.startswith("x-"))
        seen[status] += 1

    crowd(change, ask, ask, ask)
    assert seen[200] > 0


def test_the_fields_of_one_request_are_read_by_all_threads(start, crowd, events):
    class Site(goev.http.Connection):
        def on_request(self, request):
            events("request", request)

    client = start(Site).connect()
    client.send(get("/a%20b?c=d", "Cookie: a=1", "Cookie: b=2"))
    request = events.until("request")[1]

    def read(number: int) -> None:
        headers = request.headers
        assert headers["cookie"] == "a=1; b=2"
        assert headers == {"host": "test", "cookie": "a=1; b=2"}
        assert list(headers) == ["host", "cookie"]
        assert (request.path, request.query, request.host) == ("/a b", "c=d", "test")
        assert repr(request) == "<goev.http.Request GET /a%20b?c=d>"

    crowd(read)
    request.respond()


def test_one_of_many_threads_answers(start, crowd):
    """And the others learn that it did."""
    asked: list[goev.http.Request] = []
    given = [0] * (THREADS + 1)

    def answer(request: goev.http.Request, number: int) -> None:
        with suppress(RuntimeError, goev.ConnectionClosed):
            request.respond(200, None, b"by %d" % number)
            given[number] += 1

    class Site(goev.http.Connection):
        def on_request(self, request):
            asked.append(request)
            self.call_soon(answer, request, THREADS)

    visitors = Visitors(start(Site))

    def answer_all(number: int) -> None:
        for request in asked[-4:]:
            answer(request, number)

    def ask(number: int) -> None:
        status, _, body = visitors.ask(number)
        assert (status, body[:3]) == (200, b"by ")

    counts = crowd(answer_all, answer_all, answer_all, ask)
    assert sum(given) == counts[3] + counts[7]


@pytest.mark.parametrize("length", [None, 64])
def test_threads_write_pieces_of_one_answer_while_it_begins_and_ends(start, crowd, length):
    """Each piece that was taken is a whole piece of the body, behind the head and before the end."""
    current: list[goev.http.Request] = []
    fields = {"content-length": str(length)} if length else {}
    taken = Counter()

    def finish(request: goev.http.Request, number: int) -> None:
        """Other threads may have filled the body, or ended it."""
        piece = b"%d" % number * 4
        with suppress(ValueError):
            for _ in range(100):
                request.write(piece)
                taken[number] += 1
        request.end()

    class Site(goev.http.Connection):
        def on_request(self, request):
            if request.target == "/whole":
                return request.respond(200, None, b"whole")
            current[:] = [request]
            request.start(200, fields)
            return self.call_soon(finish_at_last, request)

    def finish_at_last(request: goev.http.Request) -> None:
        with suppress(RuntimeError):
            finish(request, THREADS)

    client, kept = start(Site).connect(), bytearray()

    def write(number: int) -> None:
        for request in tuple(current):
            with suppress(RuntimeError, goev.ConnectionClosed):
                finish(request, number)

    def ask(number: int) -> None:
        status, _, body = answer_of(client, get("/pieces"), kept)
        assert status == 200
        pieces = [body[at : at + 4] for at in range(0, len(body), 4)]
        assert all(len(piece) == 4 and len(set(piece)) == 1 for piece in pieces)
        assert length is None or len(body) == length
        assert answer_of(client, get("/whole"), kept)[2] == b"whole"

    crowd(lambda number: (write if number else ask)(number))
    assert len(taken) > 0


# ---- messages -------------------------------------------------------------------------------------------------------


def test_threads_send_messages_into_one_connection_each_in_its_order(start, crowd, events):
    class Sink(goev.Connection):
        framing = goev.Delimited(b"\n")
        high_water = 1 << 16

        def on_open(self):
            events("open", self)

    client = start(Sink, max_output=1 << 30).connect()
    connection = events.until("open")[1]
    sent = [0] * THREADS

    def send(number: int) -> None:
        kind = sent[number] % 3
        batch = [b"%d %d" % (number, sent[number] + more) for more in range(1 + kind)]
        if kind == 0:
            connection.send(batch[0])
        elif kind == 1:
            connection.send_messages(batch)
        else:
            connection.writelines(part for message in batch for part in (message, b"\n"))
        sent[number] += len(batch)
        if sent[number] % 500 == 0:
            time.sleep(0.001)

    received = in_thread(lambda: client.receive_all())
    crowd(send)
    connection.close()
    lines = received.result(PATIENCE).split(b"\n")
    assert lines.pop() == b""
    by_thread = defaultdict(list)
    for line in lines:
        number, count = map(int, line.split())
        by_thread[number].append(count)
    assert {number: list(range(count)) for number, count in enumerate(sent) if count} == dict(by_thread)


def test_groups_are_joined_left_and_sent_to_by_all(start, crowd, events):
    group = goev.Group(goev.LengthPrefixed(2), when_behind="skip")
    members: list[goev.Connection] = []

    class Member(goev.Connection):
        def on_open(self):
            group.add(self)
            members.append(self)

        def on_close(self, error):
            members.remove(self)

    server = start(Member, pollers=2)

    def read(client: Client) -> int:
        count = 0
        with suppress(OSError), client.socket.makefile("rb") as stream:
            while head := stream.read(2):
                size = int.from_bytes(head)
                message = stream.read(size)
                assert len(message) == size, "cut"
                assert len(set(message)) == 1
                count += 1
        return count

    readers = [in_thread(read, server.connect()) for _ in range(6)]
    eventually(lambda: len(group) == 6, "all are members")

    def send(number: int) -> None:
        group.send(b"%d" % number * (number + 1) * 20)
        time.sleep(0.0002)

    def come_and_go(number: int) -> None:
        for member in tuple(members):
            with suppress(goev.ConnectionClosed):
                if member in group:
                    group.discard(member)
                group.add(member)
        len(group)

    def visit(number: int) -> None:
        with suppress(TimeoutError), Client(server.address) as client:
            client.socket.settimeout(0.1)  # the senders may have stopped
            client.socket.recv(10)

    crowd(send, come_and_go, visit, send)
    for member in tuple(members):
        with suppress(goev.ConnectionClosed):
            member.close()
    assert all(reader.result(PATIENCE) > 0 for reader in readers)
    eventually(lambda: len(group) == 0, "all have left")


def test_threads_send_to_one_compressed_websocket(start, crowd, stack, events):
    peer = ClientPeer(stack, start(lambda: Told(events), max_output=1 << 30))
    peer.open(DEFLATE)
    connection = events.until("open")[1]
    sent = [0] * THREADS

    def send(number: int) -> None:
        connection.send(f"{number} {sent[number]} " + "word " * 40)
        sent[number] += 1
        if sent[number] % 20 == 0:
            connection.ping(b"%d" % number)
            time.sleep(0.002)

    def receive() -> list[int]:
        got = [0] * THREADS
        while (frame := peer.next()).opcode != CLOSE:
            if frame.opcode == TEXT:
                payload = inflated(frame.payload, peer.bits) if frame.rsv else frame.payload
                number, count, *_ = map(int, payload.split(maxsplit=2)[:2])
                assert count == got[number]
                got[number] += 1
        return got

    received = in_thread(receive)
    crowd(send)
    connection.close()
    assert received.result(PATIENCE) == sent


# ---- calls, timers, executors, the cache ----------------------------------------------------------------------------


def test_posted_functions_run_once_in_the_order_of_each_thread(start, crowd, events):
    class Opens(goev.Connection):
        def on_open(self):
            events("open", self)

    server = start(Opens, pollers=2)
    server.connect()
    connection = events.until("open")[1]
    ran = defaultdict(list)
    posted = [0] * THREADS
    threads = set()

    def run(number: int, count: int) -> None:
        ran[number].append(count)
        threads.add(threading.get_ident())

    def post(number: int) -> None:
        connection.call_soon(run, number, posted[number])
        posted[number] += 1
        server.reactor.schedule(0.001, lambda: None).cancel()
        if posted[number] % 200 == 0:
            time.sleep(0.001)

    crowd(post)
    eventually(lambda: sum(map(len, ran.values())) == sum(posted), "all have run")
    assert all(ran[number] == list(range(count)) for number, count in enumerate(posted))
    assert len(threads) == 1


def test_results_of_executors_return_once_to_their_poller(start, crowd, events):
    class Opens(goev.Connection):
        def on_open(self):
            events("open", self, threading.get_ident())

    server = start(Opens, pollers=2)
    homes = []
    for _ in range(2):
        server.connect()
        homes.append(events.until("open")[1:])
    asked, came = [0] * THREADS, Counter()

    def work(number: int, count: int) -> tuple[int, int]:
        if count % 7 == 0:
            raise KeyError(number)
        return number, count

    def offload(number: int) -> None:
        connection, home = homes[number % 2]
        count = asked[number]

        def then(future) -> None:
            assert threading.get_ident() == home
            result = future.exception() or future.result()
            assert isinstance(result, KeyError) if count % 7 == 0 else result == (number, count)
            came[number] += 1

        connection.run_in_executor(None, work, number, count, then=then)
        asked[number] += 1
        if asked[number] % 20 == 0:
            eventually(lambda: came[number] == asked[number], "those so far are back")

    crowd(offload)
    eventually(lambda: [came[number] for number in range(THREADS)] == asked, "all are back")


def test_threads_that_offload_for_the_first_time_at_once_get_one_executor():
    program = f"""
        import gc, threading
        from concurrent.futures import ThreadPoolExecutor
        import goev

        with goev.Reactor(pollers=1) as reactor:
            reactor.start()
            line = threading.Barrier({THREADS})
            def first():
                line.wait()
                reactor.run_in_executor(None, int, then=lambda future: None).result()
            threads = [threading.Thread(target=first) for _ in range({THREADS})]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            gc.collect()
            print(sum(isinstance(one, ThreadPoolExecutor) for one in gc.get_objects()))
    """
    for _ in range(5):
        with Child.running(program) as child:
            assert child.line() == "1"
            assert child.end() == 0, child.errors


def test_the_cache_is_set_by_all_and_read_on_every_poller(start, crowd):
    class Reads(goev.http.Connection):
        def on_request(self, request):
            found = dict(self.cache)
            request.respond(200, None, b"%d" % sum(found[key] == key * 2 for key in found if isinstance(key, int)))

    server = start(Reads, pollers=2)
    visitors = Visitors(server)

    def put(number: int) -> None:
        for key in range(50):
            server.reactor.cache_set(key, key * 2)
            server.reactor.cache_set(str(key), object())

    def read(number: int) -> None:
        visitors.ask(number)

    crowd(put, read, read, read)
    assert visitors.ask(0)[2] == b"50"


# ---- ends -----------------------------------------------------------------------------------------------------------


def test_a_connection_that_all_end_at_once_ends_once(start, crowd, events):
    opened, ended = Counter(), Counter()
    current: list[goev.Connection] = []

    class Short(goev.Connection):
        def on_open(self):
            opened[id(self)] += 1
            current.append(self)

        def on_close(self, error):
            assert opened[id(self)] == 1
            ended[self] += 1

    server = start(Short, pollers=2)

    def end(number: int) -> None:
        for connection in current[-3:]:
            with suppress(goev.ConnectionClosed):
                connection.write(b"x" * 5000)
                (connection.close if number % 2 else connection.abort)()

    def visit(number: int) -> None:
        with suppress(OSError), Client(server.address) as client:
            client.socket.shutdown(socket.SHUT_WR)  # ends it if no thread does
            client.receive_all()

    crowd(end, end, end, visit)
    for connection in current:
        with suppress(goev.ConnectionClosed):
            connection.abort()
    eventually(lambda: len(ended) == len(current), "all have ended")
    assert set(ended.values()) == {1}


def test_counters_are_read_while_connections_come_move_and_go(crowd):
    class Mover(goev.Connection):
        def on_read(self):
            self.write(self.read())
            self._move_to(1 - goev._core._current_poller())

    with goev.Reactor(pollers=2, measure=True) as reactor:
        acceptor = goev.Acceptor(reactor, LOCAL, Mover)
        reactor.start()

        def look(number: int) -> None:
            stats = reactor.stats()
            assert sum(poller["accepted"] for poller in stats) <= acceptor.stats()["accepted"] + THREADS
            assert repr(reactor)
            assert repr(acceptor)

        def visit(number: int) -> None:
            with Client(acceptor.address) as client:
                for _ in range(10):
                    assert client.ask(b"x" * 3000) == b"x" * 3000

        crowd(look, visit, visit)

        def total(counter: str) -> int:
            return sum(poller[counter] for poller in reactor.stats())

        eventually(lambda: total("open") == 0, "all have ended")
        # A poller publishes its counters at the end of a batch.
        eventually(lambda: total("moved_here") == total("moved_away"), "all that have left have come")


def test_reactors_are_made_and_stopped_at_the_same_time(crowd):
    running: list[goev.Reactor] = []

    class Echo(goev.Connection):
        def on_read(self):
            self.write(self.read())

    def serve(number: int) -> None:
        reactor = goev.Reactor(pollers=1 + number % 2)
        acceptor = goev.Acceptor(reactor, LOCAL, Echo)
        reactor.start()
        running.append(reactor)
        with suppress(OSError), Client(acceptor.address) as client:
            client.send(b"hello")
            client.socket.recv(10)
        reactor.stop(grace=0)
        reactor.join(PATIENCE)
        assert not reactor.running
        running.remove(reactor)  # its descriptors end with the object

    def disturb(number: int) -> None:
        for reactor in running[-4:]:
            reactor.stop(grace=0.1)
            reactor.stats()
            with suppress(RuntimeError):
                reactor.call_soon(lambda: None)
        time.sleep(0.001)

    crowd(serve, serve, serve, disturb)
    for reactor in running:
        reactor.join(PATIENCE)


# ---- outgoing connections -------------------------------------------------------------------------------------------


def test_threads_connect_by_one_connector(start, crowd):
    class Echo(goev.Connection):
        def on_read(self):
            self.write(self.read())

    server = start(Echo, pollers=2)
    connector = goev.Connector(server.reactor)

    class Asks(goev.Connection):
        def __init__(self, text: bytes) -> None:
            self.text, self.got, self.done = text, b"", threading.Event()

        def on_open(self):
            self.write(self.text)

        def on_read(self):
            self.got += self.read()
            if len(self.got) == len(self.text):
                self.close()

        def on_close(self, error):
            self.done.set()

    host, port = server.address

    def ask(number: int) -> None:
        asks = Asks(b"%d" % number * 100)
        connector.connect(f"{host}:{port}", asks)
        assert asks.done.wait(PATIENCE)
        assert asks.got == asks.text

    crowd(ask)


def test_a_pool_lends_each_connection_to_one_thread(start, crowd):
    class Echo(goev.Connection):
        def on_read(self):
            self.write(self.read())

    class Lent(goev.PooledConnection):
        holder = None

        def on_read(self):
            self.read()

    server = start(Echo, pollers=2)
    host, port = server.address
    with goev.ConnectionPool(goev.Connector(server.reactor), f"{host}:{port}", Lent, min_idle=1, max_live=4) as pool:

        def use(number: int) -> None:
            with pool.connection(timeout=PATIENCE) as connection:
                assert connection.holder is None
                connection.holder = number
                with suppress(goev.ConnectionClosed):
                    connection.write(b"x" * 100)
                    if number == 7:
                        connection.abort()
                assert connection.holder == number
                connection.holder = None

        def look(number: int) -> None:
            assert 0 <= pool.idle <= pool.live <= 5

        crowd(use, use, use, look)
