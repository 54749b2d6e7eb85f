"""Mistakes with loops and coroutines: each is an error that says how to do it."""

import asyncio
import socket
import threading

import pytest

import goev
import goev.asyncio
import goev.http
import goev.testing
import goev.websocket
from coroutine_support import run
from support import LOCAL, PATIENCE, in_thread, names, settle


class Async(goev.Connection):
    async def on_read(self):
        self.write(self.read())


NEEDS = r"(?s)(?=.*on_\w+)(?=.*async def)(?=.*Reactor\(asyncio=True\))(?=.*goev\.asyncio)"


# ---- loops ----------------------------------------------------------------------------------------------------------


def test_a_loop_cannot_run_in_a_thread_with_a_running_loop():
    async def main():
        other = goev.asyncio.EventLoop()
        coroutine = asyncio.sleep(0)
        try:
            with pytest.raises(RuntimeError, match="another loop is running"):
                other.run_until_complete(coroutine)
            with pytest.raises(RuntimeError, match="running"):
                other.run_forever()
        finally:
            coroutine.close()
            other.close()

    run(main)
    asyncio.run(main())


def test_a_loop_cannot_run_in_a_callback(start, events):
    class Runs(goev.Connection):
        def on_read(self):
            self.read()
            loop = goev.asyncio.EventLoop()
            try:
                loop.run_forever()
            except RuntimeError as error:
                events("refused", str(error))
            finally:
                loop.close()
            self.write(b"x")

    client = start(Runs).connect()
    assert client.ask(b"x") == b"x"
    assert "cannot run in a callback" in events.until("refused")[1]
    assert client.ask(b"x") == b"x"


def test_a_loop_cannot_run_twice_at_once():
    loop = goev.asyncio.EventLoop()
    running = threading.Event()
    loop.call_soon(running.set)
    thread = in_thread(loop.run_forever)
    assert running.wait(PATIENCE)
    with pytest.raises(RuntimeError, match="running"):
        loop.run_forever()
    loop.call_soon_threadsafe(loop.stop)
    thread.result(PATIENCE)
    loop.close()


def test_the_reactor_of_a_loop_cannot_be_run_or_started():
    loop = goev.asyncio.EventLoop()
    with pytest.raises(RuntimeError):
        loop.reactor.run()
    with pytest.raises(RuntimeError):
        loop.reactor.start()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_two_loops_cannot_drive_one_poller():
    from goev.asyncio.selector import PollerSelector

    reactor = goev.Reactor(1, asyncio=True)
    first = PollerSelector(reactor)
    with pytest.raises(RuntimeError, match="running"):
        PollerSelector(reactor)
    first.close()


@pytest.mark.parametrize("how", ["started", "without loops", "two pollers"])
def test_a_loop_does_not_drive_a_reactor_that_is_not_for_it(how):
    from goev.asyncio.selector import PollerSelector

    reactor = goev.Reactor(2 if how == "two pollers" else 1, asyncio=how != "without loops")
    if how == "started":
        reactor.start()
    with reactor, pytest.raises((RuntimeError, TypeError)):
        PollerSelector(reactor)


def test_options_of_a_loop_are_those_of_a_reactor():
    loop = goev.asyncio.EventLoop(stall_warning=None, batch_calls=8)
    loop.close()
    with pytest.raises(TypeError):
        goev.asyncio.EventLoop(nothing_of_that_kind=1)
    with pytest.raises(ValueError, match="batch_calls"):
        goev.asyncio.EventLoop(batch_calls=0)
    with pytest.raises(TypeError):
        goev.asyncio.EventLoop(pollers=2)
    with pytest.raises(TypeError):
        goev.asyncio.EventLoop(asyncio=False)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_asyncio_is_a_bool(value):
    with pytest.raises(TypeError, match="asyncio"):
        goev.Reactor(1, asyncio=value)


def test_reactor_without_a_running_loop():
    with pytest.raises(RuntimeError, match="no running event loop"):
        goev.asyncio.reactor()


def test_reactor_on_a_loop_of_another_kind():
    async def main():
        goev.asyncio.reactor()

    with pytest.raises(RuntimeError, match=r"goev\.asyncio\.EventLoop must run here, not .*EventLoop"):
        asyncio.run(main())


def test_reactor_in_a_callback_of_a_reactor_without_loops(start, events):
    class Asks(goev.Connection):
        def on_open(self):
            try:
                goev.asyncio.reactor()
            except RuntimeError as error:
                events("refused", str(error))

    start(Asks).connect()
    assert "no running event loop" in events.until("refused")[1]


def test_reactor_in_a_callback_and_in_a_coroutine_of_a_reactor_with_loops(start, events):
    class Asks(goev.Connection):
        def on_open(self):
            events("same", goev.asyncio.reactor() is server.reactor)

        async def on_read(self):
            self.read()
            await asyncio.sleep(0)
            events("same", goev.asyncio.reactor() is server.reactor)

    server = start(Asks, asyncio=True)
    client = server.connect()
    client.send(b"x")
    assert events.until("same") == ("same", True)
    assert events.until("same") == ("same", True)


def test_run_takes_coroutines_only():
    with pytest.raises(ValueError, match="coroutine"):
        goev.asyncio.run(3)
    with pytest.raises(ValueError, match="coroutine"):
        goev.asyncio.run(print)


# ---- coroutines on a reactor without loops --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["on_open", "on_read", "on_message", "on_eof", "on_drain", "on_timeout", "on_connect_fail", "on_close"]
)
def test_an_acceptor_and_connect_refuse_a_class_with_an_async_callback(idle, name):
    async def callback(self, *_):
        pass

    kind = type("Async", (goev.Connection,), {name: callback})
    with pytest.raises(TypeError, match=rf"Async\.{name} is async def"):
        goev.Acceptor(idle, LOCAL, kind)
    with pytest.raises(TypeError, match=NEEDS):
        goev.connect(idle, "127.0.0.1:1", kind())
    with pytest.raises(TypeError, match=NEEDS):
        goev.Connector(idle).connect("127.0.0.1:1", kind())


@pytest.mark.parametrize("name", ["on_request", "on_body", "on_answered"])
def test_an_acceptor_refuses_an_http_class_with_an_async_callback(idle, name):
    async def callback(self, *_):
        pass

    kind = type("Async", (goev.http.Connection,), {name: callback})
    with pytest.raises(TypeError, match=rf"Async\.{name} is async def"):
        goev.Acceptor(idle, LOCAL, kind)


def test_a_class_that_inherits_an_async_callback(idle):
    class Base:
        async def on_read(self):
            pass

    class Wrong(Base, goev.Connection):
        pass

    with pytest.raises(TypeError, match=NEEDS):
        goev.Acceptor(idle, LOCAL, Wrong)


def test_a_refused_handler_can_be_used_elsewhere():
    handler = Async()
    idle = goev.Reactor(1)
    with pytest.raises(TypeError, match=NEEDS):
        goev.connect(idle, "127.0.0.1:1", handler)
    idle.stop(0)
    left, right = socket.socketpair()
    with left, right, goev.Reactor(1, asyncio=True) as reactor:
        reactor.adopt(handler, left)
        reactor.start()
        right.settimeout(PATIENCE)
        right.send(b"x")
        assert right.recv(1) == b"x"


def test_adopt_refuses_it(idle):
    left, right = socket.socketpair()
    with left, right, pytest.raises(TypeError, match=NEEDS):
        idle.adopt(Async(), left)


def test_a_datagram_handler_is_refused_at_bind(idle):
    class Udp(goev.Datagram):
        async def on_datagram(self, data, address):
            pass

    with pytest.raises(TypeError, match=NEEDS):
        Udp().bind(idle, LOCAL)


@pytest.mark.parametrize("name", ["on_read", "on_write", "on_close"])
def test_an_event_handler_is_refused_at_add(idle, name):
    async def callback(self, *_):
        pass

    handler = type("Async", (goev.EventHandler,), {name: callback})()
    left, right = socket.socketpair()
    with left, right, pytest.raises(TypeError, match=NEEDS):
        idle.add(handler, left, goev.EV_IN)


def test_a_function_that_makes_such_handlers_is_told_by_the_log(start, log):
    client = start(lambda: Async()).connect()
    client.send(b"x")
    assert client.receive_all() == b""
    assert names(log.next()[1], "on_read", "async def", "Reactor(asyncio=True)")


@pytest.mark.parametrize("what", ["call_soon", "schedule"])
def test_a_coroutine_function_posted_to_a_reactor_without_loops_is_told_by_the_log(reactor, log, what):
    async def work():
        pass

    if what == "call_soon":
        reactor.call_soon(work)
    else:
        reactor.schedule(0, work)
    assert names(log.next()[1], "async def", "Reactor(asyncio=True)")
    settle(reactor)


def test_hand_over_to_such_a_handler_is_refused(start, events):
    class First(goev.Connection):
        def on_read(self):
            self.read()
            try:
                self.hand_over(Async())
            except TypeError as error:
                events("refused", str(error))
            self.write(b"x")

    client = start(First).connect()
    assert client.ask(b"x") == b"x"
    assert names(events.until("refused")[1], "on_read", "async def", "Reactor(asyncio=True)")


def test_generators_are_still_refused():
    class Generates(goev.Connection):
        def on_read(self):
            yield

    class GeneratesAsync(goev.Connection):
        async def on_read(self):
            yield

    for kind in (Generates, GeneratesAsync):
        with pytest.raises(TypeError, match=rf"{kind.__name__}\.on_read .* not a generator"):
            kind()


def test_a_bench_of_tests_refuses_it():
    with pytest.raises(TypeError, match="on_read"):
        goev.testing.open(Async())


def test_serve_takes_asyncio_false_at_its_word():
    with pytest.raises(TypeError, match=NEEDS):
        goev.serve(Async, LOCAL, asyncio=False)


# ---- the wrong thread -----------------------------------------------------------------------------------------------


def test_methods_of_the_poller_from_a_coroutine_of_another_loop(start, events):
    """As from any other thread."""
    handlers = []

    class Keeps(goev.Connection):
        def on_open(self):
            handlers.append(self)
            events("open")

    client = start(Keeps, asyncio=True).connect()
    events.until("open")

    async def main():
        with pytest.raises(goev.WrongThread):
            handlers[0].read()
        with pytest.raises(goev.WrongThread):
            handlers[0].pause_reading()
        handlers[0].write(b"x")

    run(main)
    assert client.receive(1) == b"x"


def test_methods_of_a_connection_of_this_loop_from_any_task_of_it():
    async def main():
        handlers = []

        class Keeps(goev.Connection):
            def on_open(self):
                handlers.append(self)

        acceptor = goev.Acceptor(goev.asyncio.reactor(), LOCAL, Keeps)
        reader, writer = await asyncio.open_connection(*acceptor.address)
        while not handlers:
            await asyncio.sleep(0.001)
        handlers[0].set_limits(idle_timeout=5)
        handlers[0].write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.write(b"hello")
        await writer.drain()
        while not handlers[0].pending_input:
            await asyncio.sleep(0.001)
        assert handlers[0].read() == b"hello"
        handlers[0].close()
        assert await reader.read() == b""
        writer.close()

    run(main)
