"""Nothing is kept longer than needed: handlers, callbacks, buffers, descriptors."""

import gc
import logging
import os
import random
import sys
import weakref
from typing import ClassVar

import pytest

import goev
from support import Child, Client, Echo, eventually, on_poller, open_fds, page_faults, resident, settle


@pytest.fixture
def without_gc():
    """Only reference counts free anything in this test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Seen(Echo):
    """Keeps a weak reference to each of its kind."""

    alive: "list[weakref.ref[Seen]]"

    def __init__(self) -> None:
        self.alive.append(weakref.ref(self))


def fresh() -> type[Seen]:
    return type("Fresh", (Seen,), {"alive": []})


def all_gone(kind: type[Seen]) -> bool:
    return all(reference() is None for reference in kind.alive)


def test_an_ended_handler_without_cycles_is_freed_at_once(start, without_gc):
    kind = fresh()
    server = start(kind)
    for end in (Client.close, Client.reset):
        client = server.connect()
        assert client.ask(b"x") == b"x"
        end(client)
    assert len(kind.alive) == 2
    eventually(lambda: all_gone(kind), "the handlers are freed")


def test_handlers_in_cycles_are_collected_after_the_end(start):
    class Cyclic(Seen):
        alive: ClassVar[list[weakref.ref[Seen]]] = []

        def on_open(self):
            self.myself = self
            self.method = self.on_read
            self.timer = self.schedule(60.0, self.on_read)
            self.call_soon(lambda: self)

    server = start(Cyclic)
    clients = [server.connect() for _ in range(10)]
    for client in clients:
        assert client.ask(b"x") == b"x"
        client.close()
    assert len(Cyclic.alive) == 10
    eventually(lambda: gc.collect() >= 0 and all_gone(Cyclic), "the handlers are collected")


def test_open_handlers_survive_the_collector(start):
    kind = fresh()
    server = start(kind)
    clients = [server.connect() for _ in range(10)]
    for client in clients:
        client.ask(b"x")
    for _ in range(3):
        gc.collect()
    assert all(client.ask(b"still here") == b"still here" for client in clients)
    assert not any(reference() is None for reference in kind.alive)


def test_the_collector_may_run_inside_callbacks(start):
    class Collects(Echo):
        def on_read(self):
            self.myself = self
            gc.collect()
            super().on_read()

        def on_close(self, error):
            gc.collect()

    server = start(Collects, pollers=2)
    for _ in range(20):
        with server.connect() as client:
            assert client.ask(b"x" * 100_000) == b"x" * 100_000


def test_handlers_are_freed_when_the_reactor_stops(start):
    kind = fresh()
    server = start(kind)
    client = server.connect()
    client.ask(b"x")
    client.close()
    server.connect().ask(b"y")
    server.reactor.stop(grace=0)
    server.reactor.join(5)
    eventually(lambda: gc.collect() >= 0 and all_gone(kind), "the handlers are freed")


class Token:
    """Something a callback refers to."""


@pytest.mark.parametrize("how", ["cancelled", "fired", "ended"])
def test_callbacks_of_timers_are_released(start, events, without_gc, how):
    class Opens(goev.Connection):
        def on_open(self):
            events("open", self)

        def on_close(self, error):
            events("close", error)

    server = start(Opens)
    client = server.connect()
    connection = events.until("open")[1]
    token = Token()
    gone = weakref.ref(token)
    timer = on_poller(connection, connection.schedule, 60.0 if how != "fired" else 0.0, lambda token=token: None)
    del token
    if how == "cancelled":
        assert gone() is not None
        timer.cancel()
    elif how == "ended":
        client.close()
        events.until("close")
    settle(server.reactor)
    eventually(lambda: gone() is None, "the callback is released")
    del timer


@pytest.mark.parametrize("set_by", ["this thread", "the poller"])
def test_the_callback_of_a_reactor_timer_cancelled_by_another_thread_is_released(reactor, without_gc, set_by):
    """Nothing else happens on the poller: the cancel alone must see to it."""
    token = Token()
    gone = weakref.ref(token)
    if set_by == "this thread":
        timer = reactor.schedule(60.0, lambda token=token: None)
    else:
        timer = on_poller(reactor, reactor.schedule, 60.0, lambda token=token: None)
    del token
    settle(reactor)
    assert gone() is not None
    timer.cancel()
    eventually(lambda: gone() is None, "the callback is released")


def test_what_call_soon_was_given_is_released(reactor, without_gc):
    token = Token()
    gone = weakref.ref(token)
    reactor.call_soon(lambda token: None, token)
    del token
    settle(reactor)
    eventually(lambda: gone() is None, "the argument is released")


def test_what_waits_in_a_reactor_that_never_ran_is_released():
    def leave_behind() -> "weakref.ref[Token]":
        token = Token()
        reactor = goev.Reactor(pollers=1)
        reactor.schedule(60.0, lambda: bool((reactor, token)))
        reactor.call_soon(lambda: (reactor, token))
        reactor.stop()
        return weakref.ref(token)

    gone = leave_behind()
    eventually(lambda: gc.collect() >= 0 and gone() is None, "it is released")


def test_an_exception_that_ended_a_connection_is_released(start, events, log, monkeypatch):
    monkeypatch.setattr(logging.getLogger("goev"), "propagate", False)  # pytest keeps what it captures

    class Fails(goev.Connection):
        def on_read(self):
            token = Token()
            events("token", weakref.ref(token))
            raise RuntimeError(token)

    server = start(Fails)
    client = server.connect()
    client.send(b"x")
    gone = events.next()[1]
    client.receive_all()
    log.next()
    log.events.history.clear()
    eventually(lambda: gc.collect() >= 0 and gone() is None, "the exception is released")


def test_event_handlers_are_released_after_removal(reactor):
    class Watches(goev.EventHandler):
        pass

    reading, writing = os.pipe()
    handler = Watches()
    gone = weakref.ref(handler)
    on_poller(reactor, reactor.add, handler, reading, goev.EV_IN)
    del handler
    gc.collect()
    assert gone() is not None, "an added handler is kept"
    on_poller(reactor, reactor.remove_events, reading, goev.EV_IN)
    eventually(lambda: gc.collect() >= 0 and gone() is None, "the handler is released")
    os.close(reading)
    os.close(writing)


def test_five_thousand_visits_leave_the_descriptors_flat(start):
    kind = fresh()
    server = start(kind, pollers=2)
    server.connect().close()
    settle(server.reactor)
    before = open_fds()
    for number in range(5000):
        with Client(server.address) as client:
            if number % 5 == 0:
                assert client.ask(b"x") == b"x"
            if number % 2:
                client.reset()
    eventually(lambda: open_fds() <= before, "all descriptors are closed")
    eventually(lambda: sum(poller["open"] for poller in server.reactor.stats()) == 0, "all connections are closed")
    eventually(lambda: all_gone(kind), "all handlers are freed")


def test_reference_counts_of_constants_do_not_drift(start):
    """A callback's None, True and its bytes: an extra or a missing reference would add up."""
    payload = random.randbytes(5000)

    class Returns(goev.Connection):
        def on_read(self):
            self.skip(1)
            self.write(payload)
            return True

    client = start(Returns).connect()
    before = sys.getrefcount(payload)
    for _ in range(500):
        client.send(b"x")
        assert client.receive(5000) == payload
    eventually(lambda: sys.getrefcount(payload) == before, "as many references as before")


SERVER = """
    import sys
    import goev

    class Echo(goev.Connection):
        def on_read(self):
            self.write(self.read())

    with goev.Reactor(pollers=1) as reactor:
        print(goev.Acceptor(reactor, "127.0.0.1:0", Echo, backlog=4096).address[1])
        reactor.start()
        sys.stdin.readline()
"""


def test_an_idle_connection_keeps_no_buffer(stack):
    """2,000 connections after an echo of 16 KiB each: kept buffers would be 32 MB or more."""
    child = stack.enter_context(Child.running(SERVER))
    address = ("127.0.0.1", int(child.line()))
    data = b"x" * 16_384

    def visit() -> None:
        assert stack.enter_context(Client(address)).ask(data) == data

    for _ in range(200):
        visit()
    before = resident(child.pid)
    for _ in range(2000):
        visit()
    grown = (resident(child.pid) - before) / 2000
    assert grown < 2000, f"{grown:.0f} bytes a connection"
    stack.pop_all().close()


def test_large_messages_fault_in_no_memory_again_and_again(stack):
    """16 clients have four of 64 KiB echoed at a time: the memory of one round stays with the process for the next."""
    framed = SERVER.replace("on_read(self)", "on_message(self, message)").replace("write(self.read())", "send(message)")
    child = stack.enter_context(Child.running(framed.replace("def", "framing = goev.LengthPrefixed(4)\n        def")))
    address = ("127.0.0.1", int(child.line()))
    messages = 4 * ((65_536).to_bytes(4) + bytes(65_536))
    clients = [stack.enter_context(Client(address)) for _ in range(16)]

    def echo_all(times: int) -> None:
        for _ in range(times):
            for client in clients:
                client.send(messages)
            for client in clients:
                client.discard(len(messages))

    echo_all(20)
    before = page_faults(child.pid)
    echo_all(50)
    faults = (page_faults(child.pid) - before) / (50 * 16 * 4)
    assert faults < 0.05, f"{faults:.3f} page faults an echo"


def test_memory_is_given_back_after_a_burst(stack):
    """300 visitors each fill a queue of 1 MB and leave: the next 300 need no more than the first."""
    child = stack.enter_context(
        Child.running(SERVER.replace("self.write(self.read())", "self.read(), self.write(bytes(1_000_000))"))
    )
    address = ("127.0.0.1", int(child.line()))

    def burst() -> int:
        clients = [Client(address, receive_buffer=8192) for _ in range(300)]
        for client in clients:
            client.send(b"x")
            client.receive(1)
        used = resident(child.pid)
        for client in clients:
            client.reset()
        return used

    first = burst()
    for _ in range(3):
        last = burst()
    assert last < first * 1.3 + 30_000_000
