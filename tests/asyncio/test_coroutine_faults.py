"""Coroutines of callbacks that fail, never end, are cancelled, or outlive what they wait for."""

import asyncio
import gc
import threading
import time
import weakref

import pytest

import goev
import goev.asyncio
import goev.http
from coroutine_support import Gate, run
from http_support import get
from support import LOCAL, PATIENCE, Child, Client, Echo, Events, on_poller, run_script, settle


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def serve(start):
    """``serve(factory, **options)``: a server whose pollers have event loops."""
    return lambda factory, **options: start(factory, asyncio=True, **options)


class Steps(goev.Connection):
    """Waits several times in several ways; a test ends it at each of them."""

    COUNT = 6

    def __init__(self, events: Events, gates: list[Gate]) -> None:
        self.events, self.gates = events, gates

    async def on_read(self):
        self.read()
        self.task = asyncio.current_task()
        try:
            await self.step(0, self.gates[0].wait())
            await self.step(1, asyncio.create_task(self.gates[1].wait()))
            async with asyncio.TaskGroup() as group:
                group.create_task(self.step(2, self.gates[2].wait()))
            async with asyncio.timeout(PATIENCE):
                await self.step(3, self.gates[3].wait())
            await self.step(4, asyncio.gather(self.gates[4].wait(), self.gates[4].wait()))
            await self.step(5, asyncio.shield(asyncio.ensure_future(self.gates[5].wait())))
            self.events("done")
        except asyncio.CancelledError:
            self.events("cancelled")
            raise

    async def step(self, number, waits):
        self.events("step", number)
        await waits

    def on_close(self, error):
        self.events("close", error)


def reach(serve, events, number):
    """A connection whose coroutine waits in the step of that number, its client, and the gates."""
    gates, handlers = [Gate() for _ in range(Steps.COUNT)], []

    def make():
        handlers.append(Steps(events, gates))
        return handlers[0]

    server = serve(make)
    client = server.connect()
    client.send(b"x")
    for passed in range(number):
        assert events.until("step") == ("step", passed)
        gates[passed].open()
    assert events.until("step") == ("step", number)
    return server, client, handlers[0], gates


# ---- cancellation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(Steps.COUNT))
@pytest.mark.parametrize("end", ["reset", "abort", "stop", "task"])
def test_a_coroutine_is_cancelled_at_each_of_its_waits(serve, events, number, end):
    server, client, handler, gates = reach(serve, events, number)
    if end == "reset":
        client.reset()
    elif end == "abort":
        handler.abort()
    elif end == "stop":
        server.reactor.stop(grace=0)
    else:
        on_poller(server.reactor, handler.task.cancel)
    error = events.until("close")[1]
    assert [name for name in events.names if name != "step"] == ["cancelled", "close"]
    if end == "reset":
        assert isinstance(error, ConnectionResetError)
    if end == "task":
        assert isinstance(error, asyncio.CancelledError)
    if end != "stop":
        for gate in gates:
            gate.open()
        settle(server.reactor)


@pytest.mark.parametrize("number", range(Steps.COUNT))
def test_a_peer_that_half_closes_cancels_nothing(serve, events, number):
    _, client, _, gates = reach(serve, events, number)
    client.finish()
    for gate in gates:
        gate.open()
    assert client.receive_all() == b""
    assert events.until("close") == ("close", None)
    assert "done" in events.names


def test_a_coroutine_that_is_cancelled_in_its_first_step_is_cancelled_at_its_first_wait(serve, events):
    class Cancels(goev.Connection):
        async def on_read(self):
            self.read()
            asyncio.current_task().cancel()
            events("goes on")
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                events("cancelled")
                raise

        def on_close(self, error):
            events("close", error)

    client = serve(Cancels).connect()
    client.send(b"x")
    assert isinstance(events.until("close")[1], asyncio.CancelledError)
    assert events.names == ["goes on", "cancelled", "close"]


def test_a_cancelled_first_step_that_waits_for_nothing_does_not_spoil_the_next_callback(serve):
    class Cancels(goev.Connection):
        async def on_read(self):
            data = self.read()
            asyncio.current_task().cancel()
            self.write(data)

    client = serve(Cancels).connect()
    for _ in range(5):
        assert client.ask(b"hello") == b"hello"

    class Fine(goev.Connection):
        async def on_read(self):
            data = self.read()
            await asyncio.sleep(0)
            self.write(data)

    assert serve(Fine).connect().ask(b"hello") == b"hello"


def test_an_expired_timeout_does_not_end_the_connection(serve):
    class Times(goev.Connection):
        async def on_read(self):
            data = self.read()
            try:
                async with asyncio.timeout(0.001):
                    await asyncio.sleep(PATIENCE)
            except TimeoutError:
                self.write(data)

    client = serve(Times).connect()
    for _ in range(3):
        assert client.ask(b"hello") == b"hello"


def test_a_coroutine_that_suppresses_its_cancellation_ends_later_and_on_close_comes_then(serve, events, gate):
    class Stubborn(goev.Connection):
        async def on_read(self):
            self.read()
            for _ in range(2):
                try:
                    events("wait")
                    await gate.wait()
                    events("passed")
                except asyncio.CancelledError:
                    events("suppressed")

        def on_close(self, error):
            events("close", error)

    server = serve(Stubborn)
    client = server.connect()
    client.send(b"x")
    events.until("wait")
    client.reset()
    events.until("suppressed")
    settle(server.reactor, 20)
    assert "close" not in events.names
    gate.open()
    assert isinstance(events.until("close")[1], ConnectionResetError)
    assert events.names == ["wait", "suppressed", "wait", "passed", "close"]


def test_a_stop_reports_a_coroutine_that_suppresses_every_cancellation(events, gate):
    class Endless(goev.Connection):
        async def on_read(self):
            self.read()
            events("begin")
            while True:
                try:
                    await gate.wait()
                    return
                except asyncio.CancelledError:
                    events("suppressed")

        def on_close(self, error):
            events("close")

    reactor = goev.Reactor(1, asyncio=True)
    acceptor = goev.Acceptor(reactor, LOCAL, Endless)
    reactor.start()
    with Client(acceptor.address) as client:
        client.send(b"x")
        events.until("begin")
        reactor.stop(grace=0)
        with pytest.raises(goev.StopTimeout):
            reactor.join()
        assert "close" not in events.names
        gate.open()
        events.until("close")
        reactor.join()


def test_a_coroutine_that_never_ends_ends_with_the_peer(serve, events):
    class Endless(goev.Connection):
        async def on_open(self):
            events("begin")
            await asyncio.get_running_loop().create_future()

        def on_close(self, error):
            events("close", error)

    server = serve(Endless)
    client = server.connect()
    events.until("begin")
    client.reset()
    assert isinstance(events.until("close")[1], ConnectionResetError)


def test_a_time_limit_ends_a_connection_whose_coroutine_never_ends(serve, events):
    class Endless(goev.Connection):
        async def on_open(self):
            events("begin")
            await asyncio.get_running_loop().create_future()

        def on_close(self, error):
            events("close", error)

    client = serve(Endless, lifetime=0.05).connect()
    assert isinstance(events.until("close")[1], TimeoutError)
    client.close()


def test_on_close_while_three_requests_run(serve, events, gate):
    class Api(goev.http.Connection):
        async def on_request(self, request):
            events("begin", request.path)
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                await gate.wait()
                events("end", request.path)

        async def on_close(self, error):
            events("close", error)

    server = serve(Api)
    client = server.connect()
    client.send(b"".join(get(f"/{n}") for n in range(3)))
    events.times("begin", 3)
    client.reset()
    settle(server.reactor, 20)
    gate.open()
    events.until("close")
    assert sorted(event[1] for event in events.of("end")) == ["/0", "/1", "/2"]
    assert events.names[-1] == "close"
    assert isinstance(events.history[-1][1], ConnectionResetError)


def test_an_exception_while_it_is_cancelled_is_logged(serve, events, log):
    class Wrong(goev.Connection):
        async def on_read(self):
            self.read()
            events("begin")
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                raise ValueError("while cancelled")

        def on_close(self, error):
            events("close", error)

    client = serve(Wrong).connect()
    client.send(b"x")
    events.until("begin")
    client.reset()
    assert isinstance(events.until("close")[1], ConnectionResetError)
    assert "while cancelled" in log.next()[1]


# ---- stops ----------------------------------------------------------------------------------------------------------


def test_a_stop_gives_coroutines_the_grace(serve, events, gate):
    class Slow(goev.Connection):
        async def on_read(self):
            self.read()
            events("begin")
            await gate.wait()
            self.write(b"answer")

        def on_close(self, error):
            events("close", error)

    server = serve(Slow)
    client = server.connect()
    client.send(b"x")
    events.until("begin")
    server.reactor.stop(grace=PATIENCE)
    gate.open()
    assert client.receive_all() == b"answer"
    server.reactor.join()
    assert events.history == [("begin",), ("close", None)]


def test_a_stop_gives_requests_the_grace(serve, events, gate):
    class Api(goev.http.Connection):
        async def on_request(self, request):
            events("begin")
            await gate.wait()
            request.respond(200, None, b"fine")

        def on_close(self, error):
            events("close", error)

    server = serve(Api)
    client = server.connect()
    client.send(get("/") * 3)
    events.times("begin", 3)
    server.reactor.stop(grace=PATIENCE)
    gate.open()
    assert client.receive_all().count(b"fine") == 3
    server.reactor.join()
    assert events.history[-1] == ("close", None)


def test_behind_the_grace_coroutines_are_cancelled(serve, events):
    class Slow(goev.Connection):
        async def on_read(self):
            self.read()
            events("begin")
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                events("cancelled")
                raise

        def on_close(self, error):
            events("close", error)

    server = serve(Slow)
    client = server.connect()
    client.send(b"x")
    events.until("begin")
    begin = time.monotonic()
    server.reactor.stop(grace=0.1)
    server.reactor.join()
    assert time.monotonic() - begin >= 0.1
    assert events.names == ["begin", "cancelled", "close"]
    assert events.history[-1][1] is not None


@pytest.mark.parametrize("kind", ["reactor", "loop"])
def test_an_async_on_close_ends_before_the_reactor_has_stopped(events, kind):
    class Slow(Echo):
        async def on_close(self, error):
            await asyncio.sleep(0.02)
            events("closed")

    if kind == "reactor":
        with goev.Reactor(1, asyncio=True) as reactor:
            acceptor = goev.Acceptor(reactor, LOCAL, Slow)
            reactor.start()
            with Client(acceptor.address) as client:
                client.ask(b"x")
                reactor.stop(grace=0)
                reactor.join()
    else:

        async def main():
            acceptor = goev.Acceptor(goev.asyncio.reactor(), LOCAL, Slow)
            client = Client(acceptor.address)
            client.send(b"x")
            await asyncio.to_thread(client.receive, 1)
            return client

        run(main).close()
    assert events.names == ["closed"]


def test_the_end_of_the_main_coroutine_cancels_the_coroutines_of_connections(events):
    class Waits(goev.Connection):
        async def on_open(self):
            events("begin")
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                events("cancelled")
                raise

        def on_close(self, error):
            events("close")

    async def main():
        acceptor = goev.Acceptor(goev.asyncio.reactor(), LOCAL, Waits)
        _, writer = await asyncio.open_connection(*acceptor.address)
        while not events.history:
            await asyncio.sleep(0.001)
        writer.close()

    begin = time.monotonic()
    run(main)
    assert events.names == ["begin", "cancelled", "close"]
    assert time.monotonic() - begin < PATIENCE / 2


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_stops_the_reactor_and_comes_out(events, kind, waits):
    class Raises(goev.Connection):
        async def on_read(self):
            self.read()
            if waits:
                await asyncio.sleep(0)
            raise kind("the coroutine's")

        def on_close(self, error):
            events("close")

    reactor = goev.Reactor(2, asyncio=True)
    acceptor = goev.Acceptor(reactor, LOCAL, Raises)
    reactor.start()
    with Client(acceptor.address) as client:
        client.send(b"x")
        with pytest.raises(kind, match="the coroutine's"):
            reactor.join()
    assert events.names == ["close"]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_comes_out_of_run(events, kind, waits):
    class Raises(goev.Connection):
        async def on_read(self):
            self.read()
            if waits:
                await asyncio.sleep(0)
            raise kind("the coroutine's")

        def on_close(self, error):
            events("close")

    async def main():
        acceptor = goev.Acceptor(goev.asyncio.reactor(), LOCAL, Raises)
        _, writer = await asyncio.open_connection(*acceptor.address)
        writer.write(b"x")
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            writer.close()

    with pytest.raises(kind, match="the coroutine's"):
        goev.asyncio.run(main())
    assert events.names == ["close"]


WAITS = """
        import asyncio, socket, goev, goev.asyncio

        class Waits(goev.Connection):
            async def on_open(self):
                print("begin")
                try:
                    await asyncio.sleep(60)
                finally:
                    print("cancelled")
            def on_close(self, error):
                print("close")
"""


def test_sigint_while_coroutines_wait():
    program = (
        WAITS
        + """
        def ready(acceptor):
            global client
            client = socket.create_connection(acceptor.address)

        print(goev.serve(Waits, "127.0.0.1:0", ready=ready, grace=0.1))
        client.close()
    """
    )
    with Child.running(program) as child:
        assert child.line() == "begin"
        child.interrupt()
        assert child.line() == "cancelled"
        assert child.line() == "close"
        child.line()
        assert child.end() == 0, child.errors
        assert child.complaints == ""


def test_sigint_with_run():
    program = (
        WAITS
        + """
        async def main():
            acceptor = goev.Acceptor(goev.asyncio.reactor(), "127.0.0.1:0", Waits)
            streams = await asyncio.open_connection(*acceptor.address)
            try:
                await asyncio.sleep(60)
            finally:
                streams[1].close()

        try:
            goev.asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
    """
    )
    with Child.running(program) as child:
        assert child.line() == "begin"
        child.interrupt()
        assert [child.line() for _ in range(3)] == ["cancelled", "close", "interrupted"]
        assert child.end() == 0
        assert child.complaints == ""


# ---- processes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["reactor", "loop"])
def test_the_end_of_the_interpreter_with_waiting_coroutines(kind):
    program = """
        import asyncio, socket, sys, threading, goev, goev.asyncio

        opened = threading.Event()

        class Waits(goev.Connection):
            async def on_open(self):
                opened.set()
                await asyncio.sleep(60)

        if sys.argv[1] == "reactor":
            reactor = goev.Reactor(2, asyncio=True)
            acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Waits)
            reactor.start()
        else:
            loop = goev.asyncio.EventLoop()
            acceptor = goev.Acceptor(loop.reactor, "127.0.0.1:0", Waits)
            threading.Thread(target=loop.run_forever, daemon=True).start()
        client = socket.create_connection(acceptor.address)
        opened.wait(10)
        print("ends")
        sys.exit(3)
    """
    with Child.running(program, kind) as child:
        assert child.line() == "ends"
        assert child.end() == 3, child.errors


def test_a_fork_in_a_coroutine():
    """The child's copy says so and touches nothing; the parent's goes on."""
    run_script(
        """
        import asyncio, os, socket, sys, threading, warnings
        import goev, goev.asyncio

        warnings.simplefilter("ignore", DeprecationWarning)

        class Forks(goev.Connection):
            async def on_read(self):
                data = self.read()
                await asyncio.sleep(0)
                pid = os.fork()
                if pid == 0:
                    status = 1
                    try:
                        self.write(b"child")
                    except Exception as error:
                        status = 0 if "fork" in str(error).lower() else 2
                    os._exit(status)
                assert os.waitpid(pid, 0)[1] == 0
                await asyncio.sleep(0)
                self.write(data)

        with goev.Reactor(1, asyncio=True) as reactor:
            acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Forks)
            reactor.start()
            with socket.create_connection(acceptor.address, 10) as client:
                for _ in range(3):
                    client.sendall(b"hello")
                    assert client.recv(100) == b"hello"

        async def main():
            acceptor = goev.Acceptor(goev.asyncio.reactor(), "127.0.0.1:0", Forks)
            reader, writer = await asyncio.open_connection(*acceptor.address)
            for _ in range(3):
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
            pid = os.fork()
            if pid == 0:
                # The child makes a loop of its own after it has forgotten the one that it inherited.
                asyncio._set_running_loop(None)
                ok = False
                try:
                    async def own():
                        await asyncio.sleep(0.001)
                        return 5
                    ok = goev.asyncio.run(own()) == 5
                finally:
                    os._exit(0 if ok else 3)
            assert os.waitpid(pid, 0)[1] == 0
            writer.write(b"again")
            assert await reader.readexactly(5) == b"again"
            writer.close()

        goev.asyncio.run(main())
        """
    )


def test_a_forked_child_cannot_go_on_with_the_loop():
    run_script(
        """
        import asyncio, os, sys, warnings
        import goev, goev.asyncio

        warnings.simplefilter("ignore", DeprecationWarning)
        loop = goev.asyncio.EventLoop()
        loop.run_until_complete(asyncio.sleep(0))
        pid = os.fork()
        if pid == 0:
            status = 1
            coroutine = asyncio.sleep(0)
            try:
                loop.run_until_complete(coroutine)
            except Exception as error:
                status = 0 if "fork" in str(error).lower() else 2
            coroutine.close()
            loop.close()
            os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        """
    )


# ---- many, and slow -------------------------------------------------------------------------------------------------


def test_ten_thousand_coroutines_wait(serve, gate):
    """Of 100 connections, each with 100 requests."""
    count = 0

    class Api(goev.http.Connection):
        limits = goev.http.Limits(max_pending=100)

        async def on_request(self, request):
            nonlocal count
            count += 1
            await gate.wait()
            request.respond(200, None, b"fine")

    server = serve(Api)
    clients = [server.connect() for _ in range(100)]
    for client in clients:
        client.send(get("/") * 100)
    end = time.monotonic() + PATIENCE
    while count < 10_000 and time.monotonic() < end:
        time.sleep(0.01)
    assert count == 10_000
    gate.open()
    for client in clients:
        data = b""
        while data.count(b"fine") < 100:
            data += client.socket.recv(1 << 20)


def test_a_stall_in_the_first_step_names_the_callback_the_peer_and_the_line(stack, stalls):
    release = threading.Event()

    class Blocks(goev.Connection):
        async def on_read(self):
            self.read()
            release.wait(PATIENCE)  # in the first step

    reactor = stack.enter_context(goev.Reactor(1, asyncio=True, stall_warning=0.05))
    acceptor = goev.Acceptor(reactor, LOCAL, Blocks)
    reactor.start()
    client = stack.enter_context(Client(acceptor.address))
    client.send(b"x")
    text = stalls.until("stall")[1]
    release.set()
    assert f"in on_read with {client.name}" in text
    assert "release.wait(PATIENCE)  # in the first step" in text


def test_a_stall_in_a_later_step_names_the_coroutine_and_its_line(stack, stalls):
    release = threading.Event()

    class Blocks(goev.Connection):
        async def on_read(self):
            self.read()
            await asyncio.sleep(0)
            release.wait(PATIENCE)  # in a later step

    reactor = stack.enter_context(goev.Reactor(1, asyncio=True, stall_warning=0.05))
    acceptor = goev.Acceptor(reactor, LOCAL, Blocks)
    reactor.start()
    client = stack.enter_context(Client(acceptor.address))
    client.send(b"x")
    text = stalls.until("stall")[1]
    release.set()
    assert "asyncio" in text.splitlines()[0]
    assert "in on_read" in text
    assert "release.wait(PATIENCE)  # in a later step" in text


def test_a_stall_of_a_task_names_it_and_its_line(stalls):
    release = threading.Event()

    async def blocks():
        release.wait(PATIENCE)  # in a task

    async def main():
        threading.Thread(target=lambda: (stalls.until("stall"), release.set())).start()
        await asyncio.create_task(blocks())

    loop = goev.asyncio.EventLoop(stall_warning=0.05)
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    text = stalls.history[0][1]
    assert "in blocks" in text
    assert "release.wait(PATIENCE)  # in a task" in text


def test_a_loop_that_only_waits_is_no_stall(stalls):
    async def main():
        await asyncio.sleep(0.2)

    loop = goev.asyncio.EventLoop(stall_warning=0.05)
    try:
        loop.run_until_complete(main())
        time.sleep(0.2)  # the loop does not run, so there is nothing to warn of
    finally:
        loop.close()
    assert stalls.history == []


# ---- the garbage collector ------------------------------------------------------------------------------------------


def test_collections_during_waits_change_nothing(serve, gate):
    class Waits(goev.Connection):
        async def on_read(self):
            data = self.read()
            for _ in range(3):
                gc.collect()
                await asyncio.sleep(0)
            gc.collect()
            self.write(data)

    client = serve(Waits).connect()
    for _ in range(3):
        assert client.ask(b"hello") == b"hello"


def test_a_coroutine_that_waits_for_a_future_that_nobody_else_has_is_not_lost(serve, events):
    """The task and the future only know each other; asyncio itself would lose such a task."""

    class Waits(goev.Connection):
        async def on_open(self):
            events("begin")
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                events("ended")

        def on_close(self, error):
            events("close")

    server = serve(Waits)
    client = server.connect()
    events.until("begin")
    on_poller(server.reactor, gc.collect)
    settle(server.reactor)
    assert events.names == ["begin"]
    client.reset()
    events.until("close")
    assert events.names == ["begin", "ended", "close"]


def test_the_coroutine_of_a_callback_that_the_user_closes_or_runs_elsewhere(serve, events, log):
    """A handler that gives the same coroutine twice: the second time it cannot run."""

    class Twice(goev.Connection):
        coroutine = None

        async def work(self):
            self.write(self.read())
            await asyncio.sleep(0)

        def on_read(self):
            if self.coroutine is None:
                self.coroutine = self.work()
            return self.coroutine

        def on_close(self, error):
            events("close", error)

    client = serve(Twice).connect()
    assert client.ask(b"x") == b"x"
    client.send(b"y")
    assert isinstance(events.until("close")[1], RuntimeError)
    assert "cannot reuse already awaited coroutine" in log.next()[1]


def test_handlers_and_coroutines_are_freed_after_the_end(serve, events):
    alive = weakref.WeakSet()

    class Frees(goev.Connection):
        def __init__(self):
            alive.add(self)

        async def on_read(self):
            self.read()
            await asyncio.sleep(0)
            self.write(b"x")

        def on_close(self, error):
            events("close")

    server = serve(Frees)
    for _ in range(20):
        with server.connect() as client:
            client.send(b"x")
            client.receive(1)
    events.times("close", 20)
    settle(server.reactor)
    gc.collect()
    assert len(alive) == 0


def test_handlers_are_freed_when_a_reset_cancels_their_coroutines(serve, events):
    alive = weakref.WeakSet()

    class Frees(goev.Connection):
        def __init__(self):
            alive.add(self)

        async def on_read(self):
            self.read()
            events("begin")
            await asyncio.sleep(PATIENCE)

        def on_close(self, error):
            events("close")

    server = serve(Frees)
    for _ in range(20):
        client = server.connect()
        client.send(b"x")
        events.until("begin")
        client.reset()
        events.until("close")
    settle(server.reactor)
    gc.collect()
    assert len(alive) == 0


# ---- other loops, other awaitables ----------------------------------------------------------------------------------


def test_a_future_of_another_loop_is_refused(serve, events, log):
    other = asyncio.new_event_loop()
    future = other.create_future()

    class Waits(goev.Connection):
        async def on_read(self):
            self.read()
            await asyncio.sleep(0)
            await future

        def on_close(self, error):
            events("close", error)

    client = serve(Waits).connect()
    client.send(b"x")
    assert isinstance(events.until("close")[1], RuntimeError)
    assert "attached to a different loop" in log.next()[1]
    other.close()


def test_a_future_of_another_loop_is_refused_at_the_first_step(serve, events, log):
    other = asyncio.new_event_loop()
    future = other.create_future()

    class Waits(goev.Connection):
        async def on_read(self):
            self.read()
            await future

        def on_close(self, error):
            events("close", error)

    client = serve(Waits).connect()
    client.send(b"x")
    assert isinstance(events.until("close")[1], RuntimeError)
    assert "attached to a different loop" in log.next()[1]
    other.close()


@pytest.mark.parametrize("first", [False, True])
def test_an_awaitable_that_is_none_of_asyncios_is_refused(serve, events, log, first):
    class Foreign:
        def __await__(self):
            yield "something of another library"

    class Waits(goev.Connection):
        async def on_read(self):
            self.read()
            if not first:
                await asyncio.sleep(0)
            await Foreign()

        def on_close(self, error):
            events("close", error)

    client = serve(Waits).connect()
    client.send(b"x")
    assert isinstance(events.until("close")[1], RuntimeError)
    assert "Task got bad yield" in log.next()[1]


def test_a_task_that_waits_for_itself_is_refused(serve, events, log):
    class Waits(goev.Connection):
        async def on_read(self):
            self.read()
            await asyncio.current_task()

        def on_close(self, error):
            events("close", error)

    client = serve(Waits).connect()
    client.send(b"x")
    assert isinstance(events.until("close")[1], RuntimeError)
    assert "Task cannot await on itself" in log.next()[1]


def test_the_current_task_is_the_same_in_all_steps(serve, events):
    class Tells(goev.Connection):
        async def on_read(self):
            data = self.read()
            tasks = [asyncio.current_task()]
            await asyncio.sleep(0)
            assert tasks[0] in asyncio.all_tasks()
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())
            assert len(set(tasks)) == 1
            assert "on_read" in tasks[0].get_name()
            self.write(data)

    assert serve(Tells).connect().ask(b"x") == b"x"


def test_a_kept_task_of_a_coroutine_that_waited_for_nothing_is_done(serve, events):
    """Code may keep the current task, for example to cancel it later."""
    kept = []

    class Keeps(goev.Connection):
        async def on_read(self):
            kept.append(asyncio.current_task())
            self.write(self.read())

    server = serve(Keeps)
    client = server.connect()
    for _ in range(3):
        client.ask(b"x")
    settle(server.reactor)
    assert len(set(kept)) == 3
    assert all(task.done() for task in kept)


def test_greenlets_in_a_coroutine(serve):
    greenlet = pytest.importorskip("greenlet")

    class Switches(goev.Connection):
        async def on_read(self):
            data = self.read()

            def other():
                greenlet.getcurrent().parent.switch(1)
                return 2

            inner = greenlet.greenlet(other)
            assert inner.switch() == 1
            await asyncio.sleep(0)
            assert inner.switch() == 2
            self.write(data)

    client = serve(Switches).connect()
    for _ in range(3):
        assert client.ask(b"hello") == b"hello"


def test_recursion_in_a_coroutine_is_an_exception(serve, events, log):
    class Recurses(goev.Connection):
        async def on_read(self):
            self.read()
            await asyncio.sleep(0)
            await self.deeper()

        async def deeper(self):
            await self.deeper()

        def on_close(self, error):
            events("close", error)

    client = serve(Recurses).connect()
    client.send(b"x")
    assert isinstance(events.until("close")[1], RecursionError)
    log.next()


def test_a_callback_that_the_collector_schedules_is_called_whenever_that_happens(serve):
    """Also while goev makes a task: then asyncio's `call_soon` is goev's for a moment."""
    scheduled = called = 0

    class Schedules:
        def __init__(self, loop):
            self.loop, self.me = loop, self

        def __del__(self):
            nonlocal scheduled
            scheduled += 1
            self.loop.call_soon(self.tell)

        @staticmethod
        def tell():
            nonlocal called
            called += 1

    class Waits(goev.Connection):
        async def on_read(self):
            data = self.read()
            Schedules(asyncio.get_running_loop())
            await asyncio.sleep(0)
            self.write(data)

    server = serve(Waits)
    client = server.connect()
    thresholds = gc.get_threshold()
    try:
        for number in range(300):
            on_poller(server.reactor, gc.set_threshold, 1 + number % 60)
            assert client.ask(b"hello") == b"hello"
    finally:
        gc.set_threshold(*thresholds)
    on_poller(server.reactor, gc.collect)
    settle(server.reactor)
    assert called == scheduled == 300


def test_closing_a_loop_with_waiting_coroutines_ends_them_first(events):
    """Without a `Runner`, which would cancel them."""

    class Waits(goev.Connection):
        async def on_open(self):
            events("begin")
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                events("cancelled")
                raise

        async def on_close(self, error):
            await asyncio.sleep(0)
            events("close")

    async def main():
        acceptor = goev.Acceptor(loop.reactor, LOCAL, Waits)
        _, writer = await asyncio.open_connection(*acceptor.address)
        while not events.history:
            await asyncio.sleep(0.001)
        writer.close()
        await writer.wait_closed()

    loop = goev.asyncio.EventLoop()
    loop.run_until_complete(main())
    begin = time.monotonic()
    loop.close()
    assert events.names == ["begin", "cancelled", "close"]
    assert time.monotonic() - begin < 0.9
