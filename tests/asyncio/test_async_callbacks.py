"""Callbacks with `async def`: each counts as running until its coroutine is done."""

import asyncio
import contextlib
import contextvars
import http.client
import os
import socket
import time

import pytest

import goev
import goev.asyncio
import goev.http
import goev.websocket
from coroutine_support import Gate
from http_support import get
from support import LOCAL, PATIENCE, SMALL_BUFFERS, Client, Recorder, in_thread, on_poller, settle, text_of

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def serve(start):
    """``serve(factory, **options)``: a server whose pollers have event loops."""
    return lambda factory, **options: start(factory, asyncio=True, **options)


# ---- connections ----------------------------------------------------------------------------------------------------


def test_all_callbacks_of_a_connection_in_order(serve, events):
    class Steps(goev.Connection):
        async def on_open(self):
            await asyncio.sleep(0)
            events("open")

        async def on_read(self):
            data = self.read()
            await asyncio.sleep(0)
            events("read", data)
            self.write(data)

        async def on_eof(self):
            await asyncio.sleep(0)
            events("eof")
            return False

        async def on_close(self, error):
            await asyncio.sleep(0)
            events("close", error)

    client = serve(Steps).connect()
    assert client.ask(b"one") == b"one"
    assert client.ask(b"two") == b"two"
    client.finish()
    assert client.receive_all() == b""
    events.until("close")
    assert events.history == [("open",), ("read", b"one"), ("read", b"two"), ("eof",), ("close", None)]


def send_while_it_waits(server, events):
    """Sends a byte while a coroutine that said "begin" waits, and no other callback comes."""
    client = server.connect()
    events.until("begin")
    client.send(b"x")
    settle(server.reactor, 20)
    assert events.names == ["begin"]


def test_the_next_callback_waits_for_the_end_of_the_coroutine(serve, events, gate):
    class Waits(goev.Connection):
        async def on_open(self):
            events("begin")
            await gate.wait()
            events("end")

        def on_read(self):
            events("read", self.read())

    send_while_it_waits(serve(Waits), events)
    gate.open()
    assert events.until("read") == ("read", b"x")
    assert events.names == ["begin", "end", "read"]


def test_one_callback_runs_at_a_time_whatever_comes(serve):
    running, most = 0, 0

    class Slow(goev.Connection):
        framing = goev.Delimited()

        async def on_message(self, message):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.0001)
            self.send(message)
            running -= 1

    client = serve(Slow).connect()
    data = b"".join(b"%d\n" % n for n in range(200))
    assert client.ask(data) == data
    assert most == 1


def test_coroutines_of_many_connections_run_side_by_side(serve, events, gate):
    class Waits(goev.Connection):
        async def on_read(self):
            data = self.read()
            events("begin")
            await gate.wait()
            self.write(data)

    server = serve(Waits)
    clients = [server.connect() for _ in range(20)]
    for client in clients:
        client.send(b"x")
    events.times("begin", 20)
    gate.open()
    assert [client.receive(1) for client in clients] == [b"x"] * 20


def test_a_coroutine_that_waits_for_nothing_ends_within_its_callback(serve):
    class Quick(goev.Connection):
        async def on_read(self):
            data = self.read()
            assert asyncio.current_task() is not None
            self.write(data)

    client = serve(Quick).connect()
    for _ in range(100):
        assert client.ask(b"hello") == b"hello"


def test_input_that_is_left_unread_comes_again_after_the_coroutine(serve, events):
    class OneByOne(goev.Connection):
        async def on_read(self):
            byte = self.read(1)
            await asyncio.sleep(0)
            events("read", byte)

    client = serve(OneByOne).connect()
    client.send(b"abc")
    assert [events.until("read")[1] for _ in range(3)] == [b"a", b"b", b"c"]


def test_input_that_came_meanwhile_is_there_after_the_wait(serve, events, gate):
    class Reads(goev.Connection):
        async def on_read(self):
            first = self.read()
            events("begin", first)
            await gate.wait()
            events("more", self.read())

    server = serve(Reads)
    client = server.connect()
    client.send(b"1")
    events.until("begin")
    client.send(b"2")
    settle(server.reactor, 20)
    gate.open()
    assert events.until("more") == ("more", b"2")


def test_max_input_bounds_the_input_meanwhile_and_the_peer_feels_it(serve, events, gate):
    class Waits(goev.Connection):
        total = 0

        async def on_read(self):
            self.total += len(self.read())
            events("begin")
            await gate.wait()
            assert self.pending_input <= 65_536
            if self.total + self.pending_input >= 20_000_000:
                self.total += len(self.read())
                events("all")
            self.total += len(self.read())

    server = serve(Waits, max_input=65_536, receive_buffer_size=65_536)
    client = server.connect()
    client.send(b"x")
    events.until("begin")
    data = bytes(20_000_000)
    sent = client.fill(data)
    assert sent < len(data), "the peer feels it"
    gate.open()
    client.socket.sendall(data[sent:])
    client.finish()
    assert client.receive_all() == b""


def test_false_closes_after_the_wait(serve, events):
    class Ends(goev.Connection):
        async def on_read(self):
            self.write(self.read())
            await asyncio.sleep(0)
            return False

        def on_close(self, error):
            events("close", error)

    client = serve(Ends).connect()
    client.send(b"x")
    assert client.receive_all() == b"x"
    assert events.until("close") == ("close", None)


@pytest.mark.parametrize("waits", [False, True])
def test_another_answer_is_a_type_error(serve, events, log, waits):
    class Wrong(goev.Connection):
        async def on_read(self):
            self.read()
            if waits:
                await asyncio.sleep(0)
            return 3

        def on_close(self, error):
            events("close", error)

    client = serve(Wrong).connect()
    client.send(b"x")
    assert client.receive_all() == b""
    assert isinstance(events.until("close")[1], TypeError)
    assert "on_read must return None, True or False" in log.next()[1]


@pytest.mark.parametrize("waits", [False, True])
def test_an_exception_is_logged_and_ends_the_connection(serve, events, log, waits):
    class Wrong(goev.Connection):
        async def on_read(self):
            self.write(self.read())
            if waits:
                await asyncio.sleep(0)
            raise ValueError("the coroutine's")

        def on_close(self, error):
            events("close", error)

    server = serve(Wrong)
    client = server.connect()
    client.send(b"x")
    assert client.receive_all() == b"x"
    error = events.until("close")[1]
    assert isinstance(error, ValueError)
    text = log.next()[1]
    assert "on_read" in text
    assert client.name in text
    assert "the coroutine's" in text
    settle(server.reactor)
    assert len(log.texts()) == 1
    assert server.connect(), "the reactor lives on"


@pytest.mark.parametrize("name", ["on_open", "on_read", "on_eof", "on_close", "on_drain"])
def test_an_exception_in_each_callback(serve, events, log, name):
    async def wrong(self, *_):
        await asyncio.sleep(0)
        raise ValueError(name)

    class Base(goev.Connection):
        def on_read(self):
            self.read()
            self.write(bytes(5_000_000))

        def on_close(self, error):
            events("close", error)

    kind = type("Wrong", (Base,), {name: wrong})
    client = serve(kind, high_water=100_000).connect()
    client.send(b"x")
    if name == "on_drain":
        client.discard(5_000_000)
    else:
        client.finish()
    with contextlib.suppress(ConnectionResetError):
        client.receive_all()
    assert name in log.next()[1]
    if name != "on_close":
        assert repr(events.until("close")[1]) == repr(ValueError(name))


def test_on_drain(serve, events):
    class Drains(goev.Connection):
        def on_read(self):
            self.read()
            self.write(bytes(10_000_000))
            events("written")

        async def on_drain(self):
            await asyncio.sleep(0)
            events("drain")
            self.write(b"end")

    client = serve(Drains, high_water=100_000, **SMALL_BUFFERS).connect()
    client.send(b"x")
    events.until("written")  # a client that reads meanwhile may leave nothing to drain
    client.discard(10_000_000)
    assert client.receive(3) == b"end"
    assert events.names == ["written", "drain"]


def test_callbacks_on_an_event_loop_of_the_main_thread(events):
    class Slow(goev.Connection):
        async def on_read(self):
            data = self.read()
            await asyncio.sleep(0.001)
            self.write(data)

        async def on_close(self, error):
            await asyncio.sleep(0.001)
            events("close", error)

    async def main():
        acceptor = goev.Acceptor(goev.asyncio.reactor(), LOCAL, Slow)
        reader, writer = await asyncio.open_connection(*acceptor.address)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(PATIENCE):
            while not events.history:
                await asyncio.sleep(0.001)

    goev.asyncio.run(main())
    assert events.history == [("close", None)]


def test_methods_of_the_connection_work_after_a_wait(serve, events):
    class Uses(goev.Connection):
        async def on_read(self):
            self.read()
            await asyncio.sleep(0)
            self.set_limits(idle_timeout=5)
            self.pause_reading()
            self.resume_reading()
            self.schedule(0, lambda: events("timer"))
            self.call_soon(events, "soon")
            self.close()

        def on_close(self, error):
            events("close", error)

    client = serve(Uses).connect()
    client.send(b"x")
    assert client.receive_all() == b""
    assert events.until("close") == ("close", None)


def test_writing_after_the_end_raises_connection_closed(serve, events, gate):
    class Late(goev.Connection):
        async def on_read(self):
            self.read()
            self.close()
            events("begin")
            try:
                await gate.wait()
            except asyncio.CancelledError:
                try:
                    self.write(b"late")
                except goev.ConnectionClosed:
                    events("refused")
                raise

        def on_close(self, error):
            events("close", error)

    client = serve(Late).connect()
    client.send(b"x")
    assert client.receive_all() == b""
    events.until("close")
    assert events.history == [("begin",), ("refused",), ("close", None)]


def test_on_close_comes_when_the_cancelled_coroutine_has_ended(serve, events, gate):
    class Cleans(goev.Connection):
        async def on_read(self):
            self.read()
            events("begin")
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                events("cancelled")
                await gate.wait()
                events("cleaned")

        def on_close(self, error):
            events("close", error)

    server = serve(Cleans)
    client = server.connect()
    client.send(b"x")
    events.until("begin")
    client.reset()
    events.until("cancelled")
    settle(server.reactor, 20)
    assert events.names == ["begin", "cancelled"]
    gate.open()
    events.until("close")
    assert events.names == ["begin", "cancelled", "cleaned", "close"]
    assert isinstance(events.history[-1][1], ConnectionResetError)


def test_an_end_of_the_input_waits_for_the_coroutine(serve, events, gate):
    class Waits(goev.Connection):
        async def on_read(self):
            self.read()
            events("begin")
            await gate.wait()
            self.write(b"answer")

        def on_eof(self):
            events("eof")
            return False

    server = serve(Waits)
    client = server.connect()
    client.send(b"x")
    client.finish()
    events.until("begin")
    settle(server.reactor, 20)
    assert events.names == ["begin"]
    gate.open()
    assert client.receive_all() == b"answer"
    assert events.names == ["begin", "eof"]


def test_close_inside_a_coroutine_ends_the_connection_when_it_has_ended(serve, events):
    class Closes(goev.Connection):
        async def on_read(self):
            self.read()
            self.write(b"bye")
            self.close()

        def on_close(self, error):
            events("close", error)

    client = serve(Closes).connect()
    client.send(b"x")
    assert client.receive_all() == b"bye"
    assert events.until("close") == ("close", None)


# ---- timers and call_soon -------------------------------------------------------------------------------------------


def test_a_timer_waits_for_the_coroutine(serve, events, gate):
    class Waits(goev.Connection):
        async def on_read(self):
            self.read()
            self.schedule(0.001, lambda: events("timer"))
            events("begin")
            await gate.wait()
            events("end")

    server = serve(Waits)
    client = server.connect()
    client.send(b"x")
    events.until("begin")
    time.sleep(0.02)  # so that it is due
    settle(server.reactor, 20)
    assert events.names == ["begin"]
    gate.open()
    events.until("timer")
    assert events.names == ["begin", "end", "timer"]


def test_call_soon_does_not_wait_for_the_coroutine(serve, events, gate):
    handlers = []

    class Waits(goev.Connection):
        async def on_read(self):
            self.read()
            handlers.append(self)
            events("begin")
            await gate.wait()
            events("end")

    client = serve(Waits).connect()
    client.send(b"x")
    events.until("begin")
    handlers[0].call_soon(events, "soon")
    events.until("soon")
    gate.open()
    events.until("end")
    assert events.names == ["begin", "soon", "end"]


def test_an_async_timer_holds_the_next_callback(serve, events, gate):
    class Timed(goev.Connection):
        def on_open(self):
            self.schedule(0, self.tick)

        async def tick(self):
            events("begin")
            await gate.wait()
            events("end")

        def on_read(self):
            events("read", self.read())

    send_while_it_waits(serve(Timed), events)
    gate.open()
    events.until("read")
    assert events.names == ["begin", "end", "read"]


def test_a_periodic_async_timer_neither_overlaps_nor_ends_before_it_says_so(serve, events):
    running = 0

    class Timed(goev.Connection):
        count = 0

        def on_open(self):
            self.schedule(0.001, self.tick, every=0.001)

        async def tick(self):
            nonlocal running
            running += 1
            events("tick", running)
            await asyncio.sleep(0.005)
            running -= 1
            self.count += 1
            return self.count < 4

        def on_read(self):
            events("read", self.read())

    server = serve(Timed)
    client = server.connect()
    events.times("tick", 4)
    time.sleep(0.03)  # more ticks would come now
    client.send(b"x")
    events.until("read")
    assert events.of("tick") == [("tick", 1)] * 4


def test_a_periodic_async_timer_of_a_reactor_does_not_overlap(events):
    running = 0

    async def tick():
        nonlocal running
        running += 1
        events("tick", running)
        await asyncio.sleep(0.01)
        running -= 1

    with goev.Reactor(1, asyncio=True) as reactor:
        reactor.schedule(0.001, tick, every=0.002)
        reactor.start()
        events.times("tick", 5)
        on_poller(reactor, lambda: None)
    assert set(events.history) == {("tick", 1)}


def test_a_periodic_async_timer_that_the_stop_cancels_does_not_begin_again(events):
    async def tick():
        events("tick")
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            time.sleep(0.005)  # the timer is due again

    with goev.Reactor(1, asyncio=True) as reactor:
        reactor.schedule(0.001, tick, every=0.001)
        reactor.start()
        events.until("tick")
        reactor.stop(0)
    assert events.history == [("tick",)]


def test_on_timeout_as_a_coroutine(serve, events):
    class Timed(goev.Connection):
        def on_open(self):
            self.schedule(0.001)

        async def on_timeout(self):
            await asyncio.sleep(0)
            events("timeout")

    serve(Timed).connect()
    events.until("timeout")


def test_an_exception_of_an_async_timer_ends_its_connection(serve, events, log):
    class Timed(goev.Connection):
        def on_open(self):
            self.schedule(0, self.tick, every=0.001)

        async def tick(self):
            await asyncio.sleep(0)
            raise ValueError("the timer's")

        def on_close(self, error):
            events("close", error)

    client = serve(Timed).connect()
    assert client.receive_all() == b""
    assert isinstance(events.until("close")[1], ValueError)
    assert "the timer's" in log.next()[1]
    assert len(log.texts()) == 1


def test_call_soon_of_a_coroutine_function(serve, events, gate):
    """It runs beside the callbacks."""

    class Soon(goev.Connection):
        def on_open(self):
            self.call_soon(self.later, 7)

        async def later(self, number):
            events("begin", number)
            await gate.wait()
            events("end", number)

        def on_read(self):
            events("read", self.read())

        def on_eof(self):
            events("eof")
            return False

        def on_close(self, error):
            events("close", error)

    client = serve(Soon).connect()
    events.until("begin")
    client.send(b"x")
    events.until("read")
    client.finish()
    events.until("eof")
    client.receive_all()
    events.until("close")
    assert events.history == [("begin", 7), ("read", b"x"), ("eof",), ("close", None)], "it was cancelled by the end"


def test_call_soon_and_timers_of_a_reactor_take_coroutine_functions(events):
    async def soon(*args):
        await asyncio.sleep(0)
        events("soon", *args)

    async def timer():
        await asyncio.sleep(0)
        events("timer")

    with goev.Reactor(1, asyncio=True) as reactor:
        reactor.call_soon(soon, 1, 2)
        reactor.schedule(0.001, timer)
        reactor.start()
        events.times("soon", 1)
        events.times("timer", 1)
    assert events.of("soon") == [("soon", 1, 2)]


def test_an_exception_of_a_reactors_coroutine_is_logged(events, log):
    async def wrong():
        await asyncio.sleep(0)
        raise ValueError("lost")

    with goev.Reactor(1, asyncio=True) as reactor:
        reactor.call_soon(wrong)
        reactor.start()
        assert "lost" in log.next()[1]
        settle(reactor)


# ---- framings -------------------------------------------------------------------------------------------------------


class Lines:
    """A framing written in Python."""

    def __init__(self):
        self.rest = b""

    def frame(self, message):
        return message + b"\n"

    def feed(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        return lines


@pytest.mark.parametrize("framing", [goev.Delimited(), goev.LengthPrefixed(2), goev.FixedSize(4), Lines], ids=repr)
def test_messages_in_order_one_at_a_time(serve, events, framing):
    class Messages(goev.Connection):
        async def on_message(self, message):
            events("begin", bytes(message))
            await asyncio.sleep(0)
            self.send(message)
            events("end", bytes(message))

    Messages.framing = framing
    client = serve(Messages).connect()
    each = [b"%04d" % n for n in range(20)]
    frame = framing().frame if isinstance(framing, type) else framing.frame
    data = b"".join(frame(message) for message in each)
    assert client.ask(data) == data
    assert events.history == [(when, message) for message in each for when in ("begin", "end")]


def test_messages_in_batches(serve, events, gate):
    class Batches(goev.Connection):
        framing = goev.Delimited()

        async def on_messages(self, messages):
            events("batch", [bytes(message) for message in messages])
            await gate.wait()

    server = serve(Batches)
    client = server.connect()
    client.send(b"1\n")
    events.until("batch")
    client.send(b"2\n3\n")
    settle(server.reactor, 20)
    gate.open()
    got = []
    while len(got) < 2:
        got += events.until("batch")[1]
    assert got == [b"2", b"3"]


def test_a_message_that_is_too_long_behind_a_waiting_coroutine(serve, events, gate):
    class Messages(goev.Connection):
        framing = goev.Delimited(max_size=10)

        async def on_message(self, message):
            events("begin", bytes(message))
            await gate.wait()
            events("end")

        def on_close(self, error):
            events("close", error)

    server = serve(Messages)
    client = server.connect()
    client.send(b"1\n" + bytes(100))
    events.until("begin")
    settle(server.reactor, 20)
    gate.open()
    assert isinstance(events.until("close")[1], goev.MessageTooLong)
    assert events.names == ["begin", "end", "close"]


def test_false_of_on_message_drops_the_messages_behind_it(serve, events):
    class Messages(goev.Connection):
        framing = goev.Delimited()

        async def on_message(self, message):
            events("message", bytes(message))
            await asyncio.sleep(0)
            return False

        def on_close(self, error):
            events("close", error)

    client = serve(Messages).connect()
    client.send(b"1\n2\n3\n")
    assert client.receive_all() == b""
    assert events.until("close") == ("close", None)
    assert events.names == ["message", "close"]


# ---- clients --------------------------------------------------------------------------------------------------------


def test_on_connect_fail_as_a_coroutine(events):
    class Dials(goev.Connection):
        async def on_connect_fail(self, error):
            events("begin")
            await asyncio.sleep(0)
            events("failed", error)

        def on_close(self, error):
            events("close")

    with socket.socket() as unused, goev.Reactor(1, asyncio=True) as reactor:
        unused.bind(("127.0.0.1", 0))
        goev.connect(reactor, text_of(unused.getsockname()), Dials())
        reactor.start()
        assert isinstance(events.until("failed")[1], ConnectionRefusedError)
        settle(reactor)
    assert events.names == ["begin", "failed"]


def test_a_client_whose_callbacks_are_coroutines(serve, events):
    class Echo(goev.Connection):
        async def on_read(self):
            data = self.read()
            await asyncio.sleep(0)
            self.write(data)

    class Asks(goev.Connection):
        async def on_open(self):
            await asyncio.sleep(0)
            self.write(b"hello")

        async def on_read(self):
            await asyncio.sleep(0)
            events("read", self.read())
            return False

    server = serve(Echo)
    goev.connect(server.reactor, text_of(server.address), Asks())
    assert events.until("read") == ("read", b"hello")


# ---- HTTP -----------------------------------------------------------------------------------------------------------

TEXT = {"content-type": "text/plain"}


def answers(client: Client, count: int) -> list[bytes]:
    """The bodies of so many answers, which have a length and no CR in their bodies."""
    data, bodies = b"", []
    while len(bodies) < count:
        head, separator, rest = data.partition(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if separator and len(rest) >= length:
            bodies.append(rest[:length])
            data = rest[length:]
            continue
        part = client.socket.recv(65_536)
        assert part, f"the connection ended after {len(bodies)} answers"
        data += part
    return bodies


def test_requests_run_side_by_side_and_their_answers_leave_in_order(serve, events):
    gates = {b"/0": Gate(), b"/1": Gate(), b"/2": Gate()}

    class Api(goev.http.Connection):
        async def on_request(self, request):
            path = request.path.encode() if isinstance(request.path, str) else bytes(request.path)
            events("begin", path)
            await gates[path].wait()
            events("end", path)
            request.respond(200, None, path)

    server = serve(Api)
    client = server.connect()
    client.send(b"".join(get(f"/{n}") for n in range(3)))
    events.times("begin", 3)
    for n in (2, 1):
        gates[b"/%d" % n].open()
        assert events.until("end") == ("end", b"/%d" % n)
    settle(server.reactor, 10)
    client.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.socket.recv(1)
    client.socket.settimeout(PATIENCE)
    gates[b"/0"].open()
    assert answers(client, 3) == [b"/0", b"/1", b"/2"]


def test_max_pending_bounds_the_coroutines_of_a_connection(serve, events, gate):
    running = most = 0

    class Api(goev.http.Connection):
        limits = goev.http.Limits(max_pending=4)

        async def on_request(self, request):
            nonlocal running, most
            running += 1
            most = max(most, running)
            events("begin")
            await gate.wait()
            running -= 1
            request.respond(200, None, b"x")

    server = serve(Api)
    client = server.connect()
    client.send(get("/") * 20)
    events.times("begin", 4)
    settle(server.reactor, 20)
    assert most == 4
    gate.open()
    assert answers(client, 20) == [b"x"] * 20


def test_a_request_whose_coroutine_raises_gets_500_and_the_others_their_answers(serve, events, log):
    class Api(goev.http.Connection):
        async def on_request(self, request):
            await asyncio.sleep(0.01 if request.path == "/1" else 0)
            if request.path == "/1":
                raise ValueError("the request's")
            request.respond(200, None, b"fine")

        def on_close(self, error):
            events("close", error)

    client = serve(Api).connect()
    client.send(get("/0") + get("/1") + get("/2"))
    data = client.receive_all()
    assert data.count(b"HTTP/1.1 200") == 1
    assert data.count(b"HTTP/1.1 500") == 1
    assert data.index(b"fine") < data.index(b"HTTP/1.1 500")
    assert isinstance(events.until("close")[1], ValueError)
    assert "the request's" in log.next()[1]


def test_a_request_that_its_coroutine_forgets_gets_500(serve, log):
    class Api(goev.http.Connection):
        async def on_request(self, request):
            await asyncio.sleep(0)

    client = serve(Api).connect()
    client.send(get("/"))
    assert b"HTTP/1.1 500" in client.socket.recv(65_536)
    assert "without an answer" in log.next()[1]


def test_a_request_may_be_answered_after_its_coroutine(serve):
    class Api(goev.http.Connection):
        async def on_request(self, request):
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.005, request.respond, 200, None, b"later")

    client = serve(Api).connect()
    client.send(get("/"))
    assert answers(client, 1) == [b"later"]


def test_false_of_on_request_closes_behind_its_answer(serve, events):
    class Api(goev.http.Connection):
        async def on_request(self, request):
            await asyncio.sleep(0)
            request.respond(200, None, b"last")
            return False

        def on_close(self, error):
            events("close", error)

    client = serve(Api).connect()
    client.send(get("/"))
    assert client.receive_all().endswith(b"last")
    assert events.until("close") == ("close", None)


def test_bodies_in_pieces_one_callback_at_a_time(serve, events):
    class Upload(goev.http.Connection):
        async def on_request(self, request):
            events("request")
            await asyncio.sleep(0.001)
            events("request ended")
            self.got = b""

        async def on_body(self, request, data):
            self.got += data
            await asyncio.sleep(0)
            if not data:
                request.respond(200, None, b"%d" % len(self.got))

    client = serve(Upload).connect()
    for _ in range(2):
        body = os.urandom(300_000)
        client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        assert answers(client, 1) == [b"300000"]
    assert events.names == ["request", "request ended"] * 2


def test_a_streamed_answer_from_a_coroutine(serve):
    class Streams(goev.http.Connection):
        async def on_request(self, request):
            request.start(200, None)
            for n in range(5):
                await asyncio.sleep(0)
                request.write(b"%d" % n)
            request.end()

    client = serve(Streams).connect()
    client.send(get("/", "Connection: close"))
    data = client.receive_all()
    assert [data.count(b"1\r\n%d\r\n" % n) for n in range(5)] == [1] * 5


def test_on_answered_as_a_coroutine(serve, events):
    class Api(goev.http.Connection):
        async def on_request(self, request):
            await asyncio.sleep(0)
            request.respond(200, None, request.path.encode())

        async def on_answered(self, request, status, bytes_sent, seconds):
            await asyncio.sleep(0)
            events("answered", request.path, status)

    client = serve(Api).connect()
    client.send(get("/0") + get("/1") + get("/2"))
    assert answers(client, 3) == [b"/0", b"/1", b"/2"]
    events.times("answered", 3)
    assert events.history == [("answered", f"/{n}", 200) for n in range(3)]


def test_a_peer_that_goes_away_cancels_its_requests(serve, events, gate):
    class Api(goev.http.Connection):
        async def on_request(self, request):
            events("begin")
            try:
                await gate.wait()
            except asyncio.CancelledError:
                events("cancelled")
                raise

        def on_close(self, error):
            events("close", error)

    client = serve(Api).connect()
    client.send(get("/") * 3)
    events.times("begin", 3)
    client.close()
    error = events.until("close")[1]
    assert events.names == ["begin"] * 3 + ["cancelled"] * 3 + ["close"]
    assert isinstance(error, ConnectionAbortedError)


# ---- WebSocket ------------------------------------------------------------------------------------------------------


def test_messages_of_a_websocket(serve, events):
    class Chat(goev.websocket.Connection):
        async def on_open(self):
            await asyncio.sleep(0)
            events("open")

        async def on_message(self, message):
            events("begin", message)
            await asyncio.sleep(0)
            self.send(message)
            events("end", message)

        async def on_close(self, error):
            await asyncio.sleep(0)
            events("close", error)

    class Asks(goev.websocket.Connection):
        def on_open(self):
            for n in range(5):
                self.send(str(n))

        def on_message(self, message):
            events("answer", message)
            if message == "4":
                self.close()

    server = serve(Chat)
    goev.websocket.connect(server.reactor, f"ws://{text_of(server.address)}/", Asks())
    events.times("close", 1)
    assert events.of("answer") == [("answer", str(n)) for n in range(5)]
    assert [event for event in events.history if event[0] in ("open", "begin", "end")] == [
        ("open",),
        *((when, str(n)) for n in range(5) for when in ("begin", "end")),
    ]


# ---- datagrams ------------------------------------------------------------------------------------------------------


def test_datagrams_one_at_a_time(events):
    running = 0

    class Udp(goev.Datagram):
        async def on_open(self):
            await asyncio.sleep(0.005)
            events("open", self.local_address)

        async def on_datagram(self, data, peer):
            nonlocal running
            running += 1
            events("begin", running)
            await asyncio.sleep(0.001)
            running -= 1
            self.send_to(data, peer)
            if data == b"9":
                self.close()

        async def on_close(self, error):
            await asyncio.sleep(0)
            events("close", error)

    with goev.Reactor(1, asyncio=True) as reactor, socket.socket(type=socket.SOCK_DGRAM) as peer:
        udp = Udp()
        udp.bind(reactor, LOCAL)
        reactor.start()
        peer.settimeout(PATIENCE)
        peer.connect(events.until("open")[1])
        for n in range(10):
            peer.send(b"%d" % n)
        assert [peer.recv(10) for _ in range(10)] == [b"%d" % n for n in range(10)]
        events.until("close")
    assert events.names == ["open"] + ["begin"] * 10 + ["close"]
    assert {event[1] for event in events.of("begin")} == {1}


def test_an_exception_of_on_datagram_closes_the_socket(events, log):
    class Udp(goev.Datagram):
        def on_open(self):
            events("open", self.local_address)

        async def on_datagram(self, data, peer):
            await asyncio.sleep(0)
            raise ValueError("the datagram's")

        def on_close(self, error):
            events("close", error)

    with goev.Reactor(1, asyncio=True) as reactor, socket.socket(type=socket.SOCK_DGRAM) as peer:
        udp = Udp()
        udp.bind(reactor, LOCAL)
        reactor.start()
        peer.sendto(b"x", events.until("open")[1])
        assert isinstance(events.until("close")[1], ValueError)
        assert "the datagram's" in log.next()[1]


# ---- descriptors ----------------------------------------------------------------------------------------------------


def test_a_descriptor_one_callback_at_a_time(events):
    running = 0

    class Reads(goev.EventHandler):
        def __init__(self, fd):
            self.fd = fd

        async def on_read(self):
            nonlocal running
            running += 1
            events("begin", running)
            await asyncio.sleep(0.005)
            events("read", os.read(self.fd, 1))
            running -= 1

        async def on_close(self, error):
            await asyncio.sleep(0)
            events("close", error)

    reading, writing = os.pipe()
    try:
        with goev.Reactor(1, asyncio=True) as reactor:
            reactor.add(Reads(reading), reading, goev.EV_IN)
            reactor.start()
            os.write(writing, b"abc")
            assert [events.until("read")[1] for _ in range(3)] == [b"a", b"b", b"c"]
            settle(reactor, 10)
            assert {event[1] for event in events.of("begin")} == {1}
        events.until("close")
    finally:
        os.close(reading)
        os.close(writing)


# ---- context variables ----------------------------------------------------------------------------------------------


def test_values_of_a_connection_across_waits_and_callbacks(serve, events):
    class Named(goev.Connection):
        async def on_open(self):
            who.set("opened")
            await asyncio.sleep(0)
            events("open", who.get())
            who.set("after the wait")

        async def on_read(self):
            self.read()
            events("read", who.get())
            await asyncio.sleep(0)
            events("read", who.get())

        def on_close(self, error):
            events("close", who.get())

    client = serve(Named).connect()
    client.send(b"x")
    client.finish()
    client.receive_all()
    events.until("close")
    assert events.history == [
        ("open", "opened"),
        ("read", "after the wait"),
        ("read", "after the wait"),
        ("close", "after the wait"),
    ]


def test_a_token_is_reset_across_a_wait(serve, events):
    class Resets(goev.Connection):
        async def on_read(self):
            self.read()
            token = who.set("inside")
            await asyncio.sleep(0)
            who.reset(token)
            events("read", who.get())

    client = serve(Resets).connect()
    for _ in range(3):
        client.send(b"x")
        assert events.until("read") == ("read", "nobody")


def test_connections_do_not_see_each_others_values_across_waits(serve):
    class Named(goev.Connection):
        async def on_read(self):
            name = self.read()
            who.set(name)
            for _ in range(5):
                await asyncio.sleep(0)
                assert who.get() == name
            self.write(who.get())

    server = serve(Named)
    clients = [server.connect() for _ in range(20)]
    for number, client in enumerate(clients):
        client.send(b"%02d" % number)
    assert [client.receive(2) for client in clients] == [b"%02d" % number for number in range(20)]


def test_each_request_has_values_of_its_own(serve, events):
    class Api(goev.http.Connection):
        def on_open(self):
            who.set("connection")

        async def on_request(self, request):
            before = who.get()
            token = who.set(request.path)
            await asyncio.sleep(0.002)
            mine = who.get()
            who.reset(token)
            request.respond(200, None, f"{before} {mine} {who.get()}".encode())

    client = serve(Api).connect()
    client.send(b"".join(get(f"/{n}") for n in range(5)))
    assert answers(client, 5) == [b"connection /%d connection" % n for n in range(5)]


def test_tasks_of_a_coroutine_inherit_its_values(serve):
    class Named(goev.Connection):
        async def on_read(self):
            who.set(self.read().decode())
            await asyncio.sleep(0)

            async def child():
                return who.get()

            self.write((await asyncio.create_task(child())).encode())

    assert serve(Named).connect().ask(b"ann") == b"ann"


# ---- handing over ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waits_before", [False, True])
@pytest.mark.parametrize("waits_after", [False, True])
def test_hand_over_from_a_coroutine(serve, events, waits_before, waits_after):
    class Second(goev.Connection):
        async def on_open(self):
            events("second open")
            await asyncio.sleep(0)

        async def on_read(self):
            data = self.read()
            await asyncio.sleep(0)
            self.write(data.upper())

        def on_close(self, error):
            events("second close", error)

    class First(goev.Connection):
        async def on_read(self):
            self.read(1)
            if waits_before:
                await asyncio.sleep(0)
            self.hand_over(Second())
            if waits_after:
                await asyncio.sleep(0.005)
            events("first ended")

        def on_close(self, error):
            events("first close", error)

    client = serve(First).connect()
    client.send(b"!abc")
    assert client.receive(3) == b"ABC"
    client.send(b"e")
    assert client.receive(1) == b"E"
    client.finish()
    assert client.receive_all() == b""
    events.times("first close", 1)
    events.times("second close", 1)
    assert set(events.history) == {("second open",), ("first ended",), ("first close", None), ("second close", None)}
    assert events.names.index("first ended") < events.names.index("first close")


@pytest.mark.parametrize("waits_after", [False, True])
def test_coroutines_that_wait_for_a_connection_go_on_when_its_handler_hands_over(serve, events, waits_after):
    async def watch(connection):
        error = await connection.closed()
        events("watch", error)

    async def fill(connection):
        connection.write(b"x" * 1_000_000)
        try:
            await connection.drained()
        except goev.ConnectionClosed as error:
            events("fill", error)

    class First(goev.Connection):
        async def on_read(self):
            self.read()
            self.tasks = [asyncio.create_task(task(self)) for task in (watch, fill)]
            await asyncio.sleep(0)
            self.hand_over(Recorder(events))
            if waits_after:
                await asyncio.sleep(0.005)

        def on_close(self, error):
            events("first close", error)

    client = serve(First, high_water=1000, low_water=100, **SMALL_BUFFERS).connect()
    client.send(b"!")
    events.until("watch")
    events.until("fill")
    assert events.of("watch") == [("watch", None)]
    assert events.names.index("first close") < events.names.index("watch")
    assert events.of("close") == []


# ---- groups and pools -----------------------------------------------------------------------------------------------


def test_a_group_from_a_coroutine(serve, events):
    group = goev.Group()

    class Member(goev.Connection):
        async def on_open(self):
            await asyncio.sleep(0)
            group.add(self)
            events("in")

        async def on_read(self):
            data = self.read()
            await asyncio.sleep(0)
            group.send(data)

    server = serve(Member, pollers=2)
    clients = [server.connect() for _ in range(4)]
    events.times("in", 4)
    clients[0].send(b"all")
    assert [client.receive(3) for client in clients] == [b"all"] * 4


# ---- WebSocket, further ---------------------------------------------------------------------------------------------


def test_an_upgrade_from_an_async_on_request(serve, events):
    """The coroutine of the request hands over, and goes on."""

    class Chat(goev.websocket.Connection):
        async def on_message(self, message):
            await asyncio.sleep(0)
            self.send(message.upper())
            return False

        def on_close(self, error):
            events("chat close")

    class Site(goev.http.Connection):
        async def on_request(self, request):
            await asyncio.sleep(0)
            goev.websocket.upgrade(request, Chat())
            await asyncio.sleep(0)
            events("ended")

        def on_close(self, error):
            events("site close")

    class Asks(goev.websocket.Connection):
        def on_open(self):
            self.send("hello")

        def on_message(self, message):
            events("answer", message)

    server = serve(Site)
    goev.websocket.connect(server.reactor, f"ws://{text_of(server.address)}/", Asks())
    assert events.until("answer") == ("answer", "HELLO")
    events.times("chat close", 1)
    events.times("site close", 1)
    assert events.names.index("ended") < events.names.index("site close")


def test_an_exception_of_a_websockets_coroutine_closes_with_1011(serve, events, log):
    class Chat(goev.websocket.Connection):
        async def on_message(self, message):
            await asyncio.sleep(0)
            raise ValueError("the message's")

    class Asks(goev.websocket.Connection):
        def on_open(self):
            self.send("hello")

        def on_close(self, error):
            events("close", self.close_code)

    server = serve(Chat)
    goev.websocket.connect(server.reactor, f"ws://{text_of(server.address)}/", Asks())
    assert events.until("close") == ("close", 1011)
    assert "the message's" in log.next()[1]


# ---- peers that go away ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["finish", "close", "reset"])
def test_requests_that_outlive_their_peer_end_before_on_close(serve, events, gate, end):
    class Api(goev.http.Connection):
        on_disconnect = "finish"

        async def on_request(self, request):
            events("begin")
            await gate.wait()
            events("end")
            with contextlib.suppress(goev.ConnectionClosed):
                request.respond(200, None, b"fine")

        def on_close(self, error):
            events("close")

    server = serve(Api)
    client = server.connect()
    client.send(get("/") * 3)
    events.times("begin", 3)
    getattr(client, end)()
    settle(server.reactor, 20)
    assert events.names == ["begin"] * 3
    gate.open()
    if end == "finish":
        assert client.receive_all().count(b"fine") == 3
    events.until("close")
    assert events.names == ["begin"] * 3 + ["end"] * 3 + ["close"]


def test_a_peer_that_only_finishes_its_side_cancels_requests_unless_the_class_says_otherwise(serve, events, gate):
    class Api(goev.http.Connection):
        async def on_request(self, request):
            events("begin")
            try:
                await gate.wait()
            finally:
                events("ended")

        def on_close(self, error):
            events("close", error)

    client = serve(Api).connect()
    client.send(get("/"))
    events.until("begin")
    client.finish()
    assert isinstance(events.until("close")[1], ConnectionAbortedError)
    assert events.names == ["begin", "ended", "close"]


def test_the_first_step_of_a_coroutine_does_not_overtake_a_task_that_was_woken(serve):
    """A lock of asyncio, or a pool, wakes the task that waits longest; a new callback must not take it before."""
    asked, got, rounds = [], [], 50
    tokens = None

    class Api(goev.http.Connection):
        async def on_request(self, request):
            nonlocal tokens
            if tokens is None:
                tokens = asyncio.LifoQueue()
                tokens.put_nowait("token")
            asked.append(request)
            token = await tokens.get()
            got.append(request)
            await asyncio.sleep(0.0005)
            tokens.put_nowait(token)
            request.respond(200, {}, b"done")

    server = serve(Api)

    def ask_often():
        client = http.client.HTTPConnection(*server.address, timeout=PATIENCE)
        for _ in range(rounds):
            client.request("GET", "/")
            client.getresponse().read()
        client.close()

    for asking in [in_thread(ask_often) for _ in range(6)]:
        asking.result(PATIENCE)
    assert len(got) == 6 * rounds
    assert got == asked
