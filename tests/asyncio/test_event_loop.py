"""`goev.asyncio.EventLoop` is an event loop of asyncio, and neither side starves the other."""

import asyncio
import contextlib
import contextvars
import gc
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import goev
import goev.asyncio
from coroutine_support import ask, run
from support import LOCAL, PATIENCE, Child, Client, Echo, Events, eventually, in_thread, settled_fds


@pytest.fixture
def loop():
    loop = goev.asyncio.EventLoop()
    yield loop
    loop.close()


@pytest.mark.parametrize("option", ["pollers", "asyncio"])
def test_it_drives_one_poller_so_it_takes_no_number_of_them(option):
    with pytest.raises(TypeError, match=rf"EventLoop\(\) takes no {option}: .*Reactor\(pollers=n, asyncio=True\)"):
        goev.asyncio.EventLoop(**{option: 2})


# ---- the callbacks of `call_soon` -----------------------------------------------------------------------------------


def test_callbacks_come_in_order_with_their_arguments():
    async def main():
        loop, called = asyncio.get_running_loop(), []
        loop.call_soon(called.append, 0)
        loop.call_soon(lambda: called.append(1))
        loop.call_soon(lambda *args: called.append(args), 2, 3, 4)
        loop.call_soon(called.append, 5)
        await asyncio.sleep(0)
        assert called == [0, 1, (2, 3, 4), 5]

    run(main)


def test_a_callback_runs_in_the_context_that_it_was_given():
    value = contextvars.ContextVar("value", default="none")

    async def main():
        loop, seen = asyncio.get_running_loop(), []
        value.set("mine")
        empty = contextvars.Context()
        handles = [
            loop.call_soon(lambda: seen.append(value.get())),
            loop.call_soon(lambda: seen.append(value.get()), context=empty),
            loop.call_soon(lambda: seen.append(value.get()), context=None),
        ]
        value.set("changed")
        await asyncio.sleep(0)
        assert seen == ["mine", "none", "mine"]
        if sys.version_info >= (3, 12):
            assert handles[1].get_context() is empty

    run(main)


def test_a_callback_can_be_cancelled():
    async def main():
        loop, called = asyncio.get_running_loop(), []
        handle = loop.call_soon(called.append, "cancelled")
        other = loop.call_soon(called.append, "called")
        assert not handle.cancelled()
        handle.cancel()
        await asyncio.sleep(0)
        assert called == ["called"]
        assert handle.cancelled()
        assert not other.cancelled()
        assert "cancelled" in repr(handle)

    run(main)


def test_an_exception_of_a_callback_goes_to_the_exception_handler():
    def fails(text):
        raise RuntimeError(text)

    async def main():
        loop, reported, called = asyncio.get_running_loop(), [], []
        loop.set_exception_handler(lambda _, context: reported.append(context))
        loop.call_soon(fails, "wrong")
        loop.call_soon(called.append, "next")
        await asyncio.sleep(0)
        (context,) = reported
        assert "Exception in callback" in context["message"]
        assert "fails(" in context["message"]
        assert str(context["exception"]) == "wrong"
        assert isinstance(context["handle"], asyncio.Handle)
        assert called == ["next"]

    run(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_ends_programs_ends_the_loop(error):
    def fails():
        raise error

    async def main():
        asyncio.get_running_loop().call_soon(fails)
        await asyncio.sleep(PATIENCE)

    with pytest.raises(error):
        goev.asyncio.run(main())


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((print,), {"context": "none"}), ((print,), {"other": contextvars.Context()})]
)
def test_wrong_arguments_of_call_soon(args, kwargs):
    async def main():
        reported = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        try:
            asyncio.get_running_loop().call_soon(*args, **kwargs)
        except TypeError as error:
            reported.append(error)
        await asyncio.sleep(0.001)
        assert reported

    run(main)


def test_callbacks_of_all_kinds_are_in_one_queue():
    async def main():
        loop, called = asyncio.get_running_loop(), []
        loop.call_soon_threadsafe(called.append, 1)
        loop.call_soon(called.append, 2)
        loop.call_soon_threadsafe(called.append, 3)
        loop.call_soon(called.append, 4)
        while len(called) < 4:
            await asyncio.sleep(0)
        assert called == [1, 2, 3, 4]

    run(main)


def test_a_callback_of_a_finalizer_keeps_its_arguments_while_a_task_is_made():
    async def main():
        loop, called = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, context: called.append(context))
        thresholds = gc.get_threshold()

        class Schedules:
            def __init__(self):
                self.me = self

            def __del__(self):
                loop.call_soon(called.append, 42)

        async def waits():
            await asyncio.sleep(0.001)

        def make(number):
            Schedules()
            gc.enable()
            gc.set_threshold(number, 1, 1)
            return waits()

        gc.collect()
        try:
            for number in range(1, 60):
                await asyncio.sleep(0.002)
                gc.collect()
                gc.disable()
                goev.asyncio.reactor().call_soon(make, number)
                await asyncio.sleep(0.003)
                gc.set_threshold(*thresholds)
        finally:
            gc.enable()
            gc.set_threshold(*thresholds)
        gc.collect()
        await asyncio.sleep(0.001)
        assert called == [42] * 59

    run(main)


def test_a_stop_lets_the_callbacks_that_are_ready_run_and_no_others(loop):
    called = []

    def again(number):
        called.append(number)
        loop.call_soon(again, number + 1)

    def begin():
        loop.call_soon(loop.stop)
        loop.call_soon(again, 0)

    loop.call_soon(begin)
    loop.run_forever()
    assert called == [0]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert called[:2] == [0, 1]


def test_a_plain_handler_may_set_a_timer_of_asyncio_while_the_loop_waits(events):
    class Sets(goev.Connection):
        def on_read(self):
            asyncio.get_running_loop().call_later(0.01, self.write, self.read())

    async def main():
        acceptor = goev.Acceptor(goev.asyncio.reactor(), LOCAL, Sets)
        with Client(acceptor.address) as client:
            for _ in range(3):
                assert await asyncio.to_thread(client.ask, b"hello") == b"hello"

    goev.asyncio.run(main())


def test_a_callback_from_another_thread_without_a_wake_up_comes_with_the_next_turn():
    """It is a mistake, which debug mode reports; but finalizers make it."""

    async def main():
        loop, called = asyncio.get_running_loop(), []
        acceptor = goev.Acceptor(goev.asyncio.reactor(), LOCAL, Echo)

        def work():
            with Client(acceptor.address) as client:
                loop.call_soon(called.append, "called")
                assert client.ask(b"hello") == b"hello"
                assert client.ask(b"hello") == b"hello"
                return list(called)

        assert await asyncio.to_thread(work) == ["called"]

    run(main)


# ---- as asyncio's own -----------------------------------------------------------------------------------------------


def test_it_is_a_selector_event_loop_and_has_a_reactor_of_one_poller(loop):
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert isinstance(loop.reactor, goev.Reactor)
    assert loop.reactor.pollers == 1


def test_a_runner_runs_several_coroutines_on_it():
    async def add(a, b):
        await asyncio.sleep(0)
        return a + b

    with asyncio.Runner(loop_factory=goev.asyncio.EventLoop) as runner:
        assert isinstance(runner.get_loop(), goev.asyncio.EventLoop)
        assert [runner.run(add(n, 1)) for n in range(3)] == [1, 2, 3]


def test_connections_live_on_between_two_runs_of_the_loop(loop):
    """Nothing is served while the loop does not run."""
    acceptor = goev.Acceptor(loop.reactor, LOCAL, Echo)
    with Client(acceptor.address) as client:
        for _ in range(3):
            client.send(b"hello")
            asking = in_thread(client.receive, 5)
            loop.run_until_complete(asyncio.wait_for(asyncio.wrap_future(asking, loop=loop), PATIENCE))
            assert asking.result() == b"hello"


def test_what_the_main_coroutine_raises_comes_out():
    class Wrong(Exception):
        pass

    async def main():
        raise Wrong

    with pytest.raises(Wrong):
        goev.asyncio.run(main())


def test_run_refuses_a_coroutine_inside_a_running_loop():
    async def inner():
        pass

    async def main():
        coroutine = inner()
        try:
            with pytest.raises(
                RuntimeError, match=r"goev\.asyncio\.run\(\) cannot be called from a running event loop"
            ):
                goev.asyncio.run(coroutine)
        finally:
            coroutine.close()

    run(main)


def test_a_coroutine_may_make_another_loop_and_close_it(events):
    """It cannot run there, and neither loop is the worse for it."""

    class Tells(goev.Connection):
        def on_close(self, error):
            events("close")

    async def main():
        other = goev.asyncio.EventLoop()
        coroutine = asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            other.run_until_complete(coroutine)
        coroutine.close()
        other.close()
        assert other.is_closed()
        acceptor = goev.Acceptor(goev.asyncio.reactor(), LOCAL, Echo)
        assert await ask(acceptor.address, b"hello") == b"hello"

    run(main)


def test_debug_mode_reports_a_slow_callback_and_a_call_from_a_wrong_thread(caplog):
    async def main():
        loop = asyncio.get_running_loop()
        assert loop.get_debug()
        loop.slow_callback_duration = 0.01
        loop.call_soon(time.sleep, 0.02)
        await asyncio.sleep(0.03)
        with pytest.raises(RuntimeError, match="Non-thread-safe"):
            await asyncio.to_thread(loop.call_soon, print)

    run(main, debug=True)
    assert any("Executing" in record.getMessage() for record in caplog.records)


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals need the main thread")
def test_in_debug_mode_a_handle_shows_the_code_that_asked_for_it():
    async def main():
        loop = asyncio.get_running_loop()
        for schedule in loop.call_soon, loop.call_soon_threadsafe, lambda do: loop.call_at(loop.time(), do):
            handle = schedule(print)
            handle.cancel()
            assert handle._source_traceback[-1].filename == __file__

    run(main, debug=True)


def test_signal_handlers():
    async def main():
        came = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, came.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await came.wait()
        assert loop.remove_signal_handler(signal.SIGUSR1)

    run(main)


def test_a_python_signal_handler_runs_while_the_loop_waits():
    """Without `add_signal_handler`: a handler of the signal module, and a loop that has nothing to do."""

    async def main():
        came = threading.Event()
        before = signal.signal(signal.SIGUSR1, lambda *_: came.set())
        try:
            timer = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1])
            timer.start()
            await asyncio.sleep(0.3)
            assert came.is_set()
            timer.join()
        finally:
            signal.signal(signal.SIGUSR1, before)

    run(main)


@pytest.mark.parametrize("other", [False, True], ids=["none", "other"])
def test_sigint_ends_a_wait_also_without_a_descriptor_that_wakes_the_loop(other):
    """asyncio takes it away with the last of its handlers, and other code may have one of its own."""

    def interrupts():
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    async def main():
        loop = asyncio.get_running_loop()
        if other:
            signal.set_wakeup_fd(theirs.fileno())
        else:
            loop.add_signal_handler(signal.SIGUSR1, print)
            loop.remove_signal_handler(signal.SIGUSR1)
        for _ in range(3):
            await asyncio.sleep(0.001)
        in_thread(interrupts)
        async with asyncio.timeout(PATIENCE):
            await asyncio.Event().wait()

    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        try:
            with pytest.raises(KeyboardInterrupt):
                goev.asyncio.run(main())
        finally:
            signal.set_wakeup_fd(-1)


def test_an_interrupt_at_the_begin_or_the_end_of_a_run_leaves_the_thread_as_it_was(monkeypatch):
    """It is raised where goev asks for the main thread, as a signal at that moment would be."""
    main_thread = threading.main_thread

    def interrupt():
        monkeypatch.setattr(threading, "main_thread", main_thread)
        raise KeyboardInterrupt

    async def at_the_end():
        monkeypatch.setattr(threading, "main_thread", interrupt)

    for main in [asyncio.sleep, lambda _: at_the_end()]:
        loop = goev.asyncio.EventLoop()
        coroutine = main(0)
        if main is asyncio.sleep:
            monkeypatch.setattr(threading, "main_thread", interrupt)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(coroutine)
        coroutine.close()
        loop.close()
        assert signal.set_wakeup_fd(-1) == -1
        assert goev.asyncio.run(asyncio.sleep(0, "fine")) == "fine"


def test_a_loop_runs_in_a_thread_that_threading_takes_for_the_main_one():
    source = """
import _thread, time
def work():
    import asyncio, goev.asyncio
    print(goev.asyncio.run(asyncio.sleep(0, "fine")), flush=True)
_thread.start_new_thread(work, ())
time.sleep(3)
"""
    with Child.running(source) as child:
        assert child.line() == "fine"


def test_sigint_cancels_the_main_task_of_a_runner():
    events = Events()

    async def main():
        threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT]).start()
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            events("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        goev.asyncio.run(main())
    assert events.names == ["cleaned up"]


def test_subprocesses():
    async def main():
        program = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(3)"
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate(b"hello" * 20_000)
        assert output == b"HELLO" * 20_000
        assert child.returncode == 3

    run(main)


def test_add_reader_and_add_writer():
    async def main():
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            writable, readable = asyncio.Event(), asyncio.Event()
            loop.add_writer(left, writable.set)
            await writable.wait()
            assert loop.remove_writer(left)
            assert not loop.remove_writer(left)
            loop.add_reader(right, readable.set)
            await asyncio.sleep(0)
            assert not readable.is_set()
            left.send(b"x")
            await readable.wait()
            # Level-triggered: unread input is told again.
            readable.clear()
            await readable.wait()
            assert loop.remove_reader(right)
            readable.clear()
            for _ in range(5):
                await asyncio.sleep(0)
            assert not readable.is_set()

    run(main)


def test_reader_and_writer_of_one_descriptor_at_once():
    async def main():
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            right.send(b"x")
            told = set()
            both = asyncio.Event()

            def tell(name):
                told.add(name)
                if len(told) == 2:
                    both.set()

            loop.add_reader(left, tell, "r")
            loop.add_writer(left, tell, "w")
            await both.wait()
            loop.remove_writer(left)
            loop.remove_reader(left)

    run(main)


def test_a_descriptor_number_that_is_used_again_is_the_new_one():
    """asyncio's sockets close and open again with the same number all the time."""

    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(50):
            left, right = socket.socketpair()
            came = loop.create_future()
            loop.add_reader(left, lambda: came.done() or came.set_result(left.recv(1)))  # noqa: B023
            right.send(b"x")
            assert await came == b"x"
            loop.remove_reader(left)
            left.close()
            right.close()

    run(main)


def test_a_reader_whose_descriptor_was_closed_before_can_be_removed():
    async def main():
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        loop.add_reader(left, lambda: None)
        fd = left.fileno()
        left.close()
        assert loop.remove_reader(fd)
        right.close()

    run(main)


def test_a_regular_file_cannot_be_watched(tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        with (tmp_path / "file").open("wb") as file:
            with pytest.raises(PermissionError):
                loop.add_reader(file, print)
            assert not loop.remove_reader(file)

    run(main)


def test_executors():
    async def main():
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(2) as pool:
            results = await asyncio.gather(*(loop.run_in_executor(pool, pow, n, 2) for n in range(50)))
        assert results == [n * n for n in range(50)]
        assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()

    run(main)


def test_task_groups_and_timeouts():
    async def main():
        done = []

        async def work(n):
            await asyncio.sleep(0.001 * n)
            done.append(n)

        async with asyncio.TaskGroup() as group:
            for n in (3, 1, 2):
                group.create_task(work(n))
        assert done == [1, 2, 3]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(PATIENCE)

    run(main)


def test_timers_are_never_early_and_not_late():
    async def main():
        loop = asyncio.get_running_loop()
        for delay in (0.0005, 0.002, 0.02):
            begin = time.monotonic()
            await asyncio.sleep(delay)
            taken = time.monotonic() - begin
            assert delay - 1e-9 - loop._clock_resolution <= taken < delay + 0.5

    run(main)


def test_an_idle_loop_uses_no_cpu():
    async def main():
        goev.Acceptor(goev.asyncio.reactor(), LOCAL, Echo)
        begin = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - begin < 0.1

    run(main)


def test_call_soon_threadsafe_from_many_threads():
    async def main():
        loop, count, each = asyncio.get_running_loop(), 8, 500
        got, done = [], asyncio.Event()

        def take(item):
            got.append(item)
            if len(got) == count * each:
                done.set()

        def give(number):
            for n in range(each):
                loop.call_soon_threadsafe(take, (number, n))

        threads = [threading.Thread(target=give, args=[number]) for number in range(count)]
        for thread in threads:
            thread.start()
        await done.wait()
        for number in range(count):
            assert [n for who, n in got if who == number] == list(range(each)), "in order for each thread"

    run(main)


def test_streams_of_asyncio_and_handlers_talk_to_each_other():
    async def main():
        acceptor = goev.Acceptor(goev.asyncio.reactor(), LOCAL, Echo)
        data = os.urandom(3_000_000)
        reader, writer = await asyncio.open_connection(*acceptor.address)
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        writer.close()
        await writer.wait_closed()

    run(main)


def test_asynchronous_generators_are_closed_at_the_end():
    closed, kept = [], []

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def main():
        kept.append(numbers())
        await anext(kept[0])

    run(main)
    assert closed == [True]


def test_the_exception_of_a_lost_task_is_reported_by_the_exception_handler():
    reports = []

    async def wrong():
        raise ValueError("lost")

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context["exception"]))
        task = asyncio.ensure_future(wrong())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        gc.collect()

    run(main)
    assert [str(error) for error in reports] == ["lost"]


def test_eager_tasks():
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks came with CPython 3.12")

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        ran = []

        async def work():
            ran.append(1)
            await asyncio.sleep(0)
            ran.append(2)

        task = asyncio.create_task(work())
        assert ran == [1]
        await task
        assert ran == [1, 2]

    run(main)


# ---- the life of a loop ---------------------------------------------------------------------------------------------


def test_closing_twice_is_harmless_and_a_closed_loop_says_so():
    loop = goev.asyncio.EventLoop()
    loop.close()
    loop.close()
    assert loop.is_closed()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon(print)
    coroutine = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_until_complete(coroutine)
    coroutine.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_forever()


def test_a_loop_that_runs_cannot_be_closed():
    async def main():
        with pytest.raises(RuntimeError, match="running"):
            asyncio.get_running_loop().close()

    run(main)


def test_a_task_of_on_close_that_fails_when_the_loop_ends_is_reported():
    async def fail():
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("of the cleanup")

    class Last(Echo):
        async def on_close(self, error):
            tasks.append(asyncio.ensure_future(fail()))
            await asyncio.sleep(0)

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        acceptor = goev.Acceptor(goev.asyncio.reactor(), LOCAL, Last)
        client = Client(acceptor.address)
        client.send(b"x")
        await asyncio.wrap_future(in_thread(client.receive, 1))
        return client

    tasks, reports = [], []
    with goev.asyncio.run(main()):
        pass
    assert [(report["task"], str(report["exception"])) for report in reports] == [(tasks[0], "of the cleanup")]


def test_closing_ends_the_connections_and_calls_on_close(events):
    class Tells(Echo):
        def on_open(self):
            events("open")

        def on_close(self, error):
            events("close")

    loop = goev.asyncio.EventLoop()
    acceptor = goev.Acceptor(loop.reactor, LOCAL, Tells)
    with Client(acceptor.address) as client:
        client.send(b"x")
        asking = in_thread(client.receive, 1)
        loop.run_until_complete(asyncio.wrap_future(asking, loop=loop))
        loop.close()
        assert events.names == ["open", "close"]
        with contextlib.suppress(ConnectionResetError):
            assert client.receive_all() == b""


def test_a_loop_gives_back_its_descriptors():
    before = settled_fds()
    for _ in range(3):
        loop = goev.asyncio.EventLoop()
        goev.Acceptor(loop.reactor, LOCAL, Echo)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    del loop
    eventually(lambda: settled_fds() == before, "its descriptors are closed")  # another thread may close the last ones


def test_a_loop_that_is_dropped_without_close_warns_and_gives_back_its_descriptors():
    before = settled_fds()
    loop = goev.asyncio.EventLoop()
    loop.run_until_complete(asyncio.sleep(0))
    del loop
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    eventually(lambda: settled_fds() == before, "its descriptors are closed")


def test_a_loop_made_in_one_thread_runs_in_another():
    loop = goev.asyncio.EventLoop()
    acceptor = goev.Acceptor(loop.reactor, LOCAL, Echo)

    def work():
        try:
            return loop.run_until_complete(asyncio.wait_for(ask(acceptor.address, b"hello"), PATIENCE))
        finally:
            loop.close()

    assert in_thread(work).result(PATIENCE) == b"hello"


def test_a_loop_runs_in_one_thread_after_the_other():
    loop = goev.asyncio.EventLoop()
    acceptor = goev.Acceptor(loop.reactor, LOCAL, Echo)
    for _ in range(3):
        done = in_thread(lambda: loop.run_until_complete(ask(acceptor.address, b"hello")))
        assert done.result(PATIENCE) == b"hello"
    assert loop.run_until_complete(ask(acceptor.address, b"hello")) == b"hello"
    loop.close()


def test_loops_of_several_threads_run_at_once():
    barrier = threading.Barrier(4)

    async def main():
        acceptor = goev.Acceptor(goev.asyncio.reactor(), LOCAL, Echo)
        await asyncio.to_thread(barrier.wait, PATIENCE)
        return await ask(acceptor.address, b"hello")

    running = [in_thread(run, main) for _ in range(4)]
    assert [done.result(PATIENCE) for done in running] == [b"hello"] * 4


def test_stop_of_the_loop_and_running_again(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert not loop.is_running()


def test_after_a_stop_of_its_reactor_the_loop_goes_on():
    """The handlers have ended; asyncio's part has not."""

    async def main():
        reactor = goev.asyncio.reactor()
        goev.Acceptor(reactor, LOCAL, Echo)
        reactor.stop(0)
        await asyncio.sleep(0.05)
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            loop = asyncio.get_running_loop()
            right.send(b"x")
            assert await loop.sock_recv(left, 1) == b"x"
        assert await asyncio.to_thread(int, "3") == 3
        with pytest.raises(RuntimeError, match="stopped"):
            goev.Acceptor(reactor, LOCAL, Echo)

    run(main)


# ---- neither side starves the other ---------------------------------------------------------------------------------


def test_ten_thousand_spinning_tasks_do_not_starve_a_connection():
    """Each round of the loop calls all of them, and the poller has many turns in it.

    The client is another process, since a thread of this one would wait for the interpreter lock.
    """
    asked, rounds = 100, 0
    rounds_at: list[int] = []

    class Counts(Echo):
        def on_read(self):
            rounds_at.append(rounds)
            return super().on_read()

    async def main():
        acceptor = goev.Acceptor(goev.asyncio.reactor(), LOCAL, Counts)
        goes_on = True

        async def spin():
            while goes_on:
                await asyncio.sleep(0)

        async def count():
            nonlocal rounds
            while goes_on:
                rounds += 1
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(spin()) for _ in range(10_000)] + [asyncio.create_task(count())]
        with Child.running(ASKS, str(acceptor.address[1]), str(asked)) as child:
            assert await asyncio.to_thread(child.end) == 0, child.errors
        goes_on = False
        await asyncio.gather(*tasks)

    run(main)
    assert len(rounds_at) == asked
    assert rounds_at[-1] - rounds_at[0] < asked, "a starved connection has at most one turn in each round"


ASKS = """
    import socket, sys
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20) as client:
        for _ in range(int(sys.argv[2])):
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
"""


def test_a_flood_of_messages_does_not_starve_timers_and_tasks():
    class Sink(goev.Connection):
        framing = goev.Delimited()
        count = 0

        def on_message(self, message):
            Sink.count += 1

    async def main():
        acceptor = goev.Acceptor(goev.asyncio.reactor(), LOCAL, Sink)
        over = threading.Event()

        def flood():
            with Client(acceptor.address) as client:
                while not over.is_set():
                    client.send(b"x\n" * 20_000)

        flooding = [in_thread(flood) for _ in range(2)]
        while Sink.count < 10_000:
            await asyncio.sleep(0.001)
        late = []
        for _ in range(50):
            begin = time.monotonic()
            await asyncio.sleep(0.001)
            late.append(time.monotonic() - begin)
        over.set()
        await asyncio.gather(*(asyncio.wrap_future(done) for done in flooding))
        return sorted(late)[len(late) // 2]

    assert run(main) < 0.1
    assert Sink.count > 10_000
