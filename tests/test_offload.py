"""Work off the poller: it runs in an executor, and what became of it comes back to the poller that asked."""

import gc
import threading
import time
import weakref
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import get_ident
from typing import ClassVar

import pytest

import goev
from support import PATIENCE, Client, Echo, Recorder, eventually, in_thread, on_poller, run_script, settle


@pytest.fixture
def executor():
    with ThreadPoolExecutor(4) as executor:
        yield executor


@pytest.fixture
def server(start, events):
    """Two pollers; each connection reports its opening."""
    return start(lambda: Recorder(events), pollers=2)


@pytest.fixture
def connection(server, events) -> goev.Connection:
    server.connect()
    return events.until("open")[1]


class Manual:
    """An executor whose work the test ends."""

    def __init__(self) -> None:
        self.future: Future = Future()
        self.submitted: list[tuple] = []

    def submit(self, fn, *args):
        self.submitted.append((fn, args))
        return self.future


def fail(error: BaseException):
    raise error


# --- the result ---


@pytest.mark.parametrize("which", ["custom", "None"])
def test_the_result_comes_back_to_the_connections_poller(server, events, executor, which):
    pool = executor if which == "custom" else None
    for _ in range(4):  # two on each poller
        server.connect()
        one = events.until("open")[1]

        def then(future):
            events("then", get_ident(), future.result())

        one.run_in_executor(pool, lambda a, b: (get_ident(), a + b), 1, 2, then=then)
        _, thread, (worker, total) = events.until("then")
        assert thread == on_poller(one, get_ident)
        assert worker not in (thread, get_ident())
        assert total == 3


def test_the_work_runs_beside_the_poller(start, events):
    """The poller serves others while a request is worked on."""
    release = threading.Event()

    class Works(goev.Connection):
        def on_read(self):
            if self.read() == b"slow":
                self.run_in_executor(None, release.wait, PATIENCE, then=self.done)
            else:
                self.done()

        def done(self, future=None):
            self.write(b"slow" if future else b"fast")

    server = start(Works)
    slow, fast = server.connect(), server.connect()
    slow.send(b"slow")
    for _ in range(10):
        fast.send(b"fast")
        assert fast.receive(4) == b"fast"
    release.set()
    assert slow.receive(4) == b"slow"


def test_then_gets_the_very_future_that_was_returned(connection, events, executor):
    future = connection.run_in_executor(executor, int, "7", then=lambda future: events("then", future))
    assert isinstance(future, Future)
    assert events.until("then")[1] is future
    assert future.result(0) == 7


def test_then_may_write_and_close(server, events):
    class Answers(goev.Connection):
        def on_read(self):
            self.run_in_executor(None, bytes.upper, self.read(), then=self.answer)

        def answer(self, future):
            self.write(future.result())
            self.close()

    acceptor = goev.Acceptor(server.reactor, "127.0.0.1:0", Answers)
    with Client(acceptor.address) as client:
        client.send(b"shout")
        assert client.receive_all() == b"SHOUT"


def test_the_result_raising_in_then_ends_the_connection_with_it(connection, events, log):
    error = LookupError("from the work")
    connection.run_in_executor(None, fail, error, then=lambda future: future.result())
    assert events.until("close") == ("close", error)
    text = log.next()[1]
    assert "LookupError: from the work" in text
    assert "Recorder" in text


def test_an_exception_that_then_does_not_ask_for_ends_nothing(connection, events):
    error = LookupError("from the work")
    connection.run_in_executor(None, fail, error, then=lambda future: events("then", future.exception()))
    assert events.until("then") == ("then", error)
    settle(connection)
    assert "close" not in events.names


def test_then_that_raises_ends_the_connection_and_not_the_reactor(server, connection, events, log):
    connection.run_in_executor(None, int, then=lambda future: fail(ValueError("from then")))
    assert type(events.until("close")[1]) is ValueError
    assert "ValueError: from then" in log.next()[1]
    server.connect().send(b"alive")
    assert events.until("read") == ("read", b"alive")


def test_what_then_returns_does_not_matter(connection, events):
    connection.run_in_executor(None, int, then=lambda future: False)
    connection.run_in_executor(None, int, then=lambda future: events("then"))
    events.until("then")
    settle(connection)
    assert "close" not in events.names


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_stops_the_reactor(events, kind):
    reactor = goev.Reactor(pollers=1)
    reactor.run_in_executor(None, fail, kind(), then=lambda future: future.result())
    with pytest.raises(kind):
        reactor.run()


def test_a_cancelled_future_is_told_too(connection, events):
    manual = Manual()
    future = connection.run_in_executor(manual, int, then=lambda future: events("then", future.cancelled()))
    assert future.cancel()
    assert events.until("then") == ("then", True)
    with pytest.raises(CancelledError):
        future.result()


def test_a_future_that_is_done_already_does_not_call_then_inside(connection, events):
    manual = Manual()
    manual.future.set_result(1)

    def ask() -> None:
        connection.run_in_executor(manual, int, then=lambda future: events("then"))
        assert "then" not in events.names

    on_poller(connection, ask)
    events.until("then")


def test_the_executor_gets_function_and_arguments(connection):
    manual, arguments = Manual(), (1, "two", [3])
    connection.run_in_executor(manual, print, *arguments, then=print)
    assert manual.submitted == [(print, arguments)]


def test_the_pool_of_goev_is_one_for_all(server, connection, events, reactor):
    def name(future) -> None:
        events("name", future.result())

    connection.run_in_executor(None, lambda: threading.current_thread().name, then=name)
    reactor.run_in_executor(None, lambda: threading.current_thread().name, then=name)
    names = {events.until("name")[1], events.until("name")[1]}
    assert all(name.startswith("goev-executor") for name in names)


# --- after the end ---


def test_then_is_not_called_after_the_close(server, connection, events):
    manual = Manual()
    connection.run_in_executor(manual, int, then=lambda future: events("then"))
    connection.close()
    events.until("close")
    manual.future.set_result(1)
    settle(server.reactor)
    assert "then" not in events.names


def test_then_is_not_called_for_who_closed_in_the_same_batch(connection, events):
    manual = Manual()
    connection.run_in_executor(manual, int, then=lambda future: events("then"))

    def end() -> None:
        manual.future.set_result(1)
        connection.abort()

    on_poller(connection, end)
    events.until("close")
    assert "then" not in events.names


def test_then_is_not_called_for_the_next_connection_in_the_same_place(start, events):
    manual = Manual()
    server = start(lambda: Recorder(events))
    first = server.connect()
    events.until("open")[1].run_in_executor(manual, int, then=lambda future: events("then"))
    first.reset()
    events.until("close")
    server.connect()
    events.until("open")
    manual.future.set_result(1)
    settle(server.reactor)
    assert "then" not in events.names


def test_then_is_not_called_for_a_handler_that_was_handed_over(connection, events):
    manual = Manual()
    connection.run_in_executor(manual, int, then=lambda future: events("then"))
    on_poller(connection, connection.hand_over, other := Recorder(events))
    assert events.until("open") == ("open", other)
    manual.future.set_result(1)
    settle(other)
    assert "then" not in events.names


def test_on_a_closed_connection_it_is_refused_and_nothing_is_submitted(connection, events):
    connection.close()
    events.until("close")
    manual = Manual()
    with pytest.raises(goev.ConnectionClosed):
        connection.run_in_executor(manual, int, then=print)
    with pytest.raises(goev.ConnectionClosed, match="not open yet"):
        Echo().run_in_executor(manual, int, then=print)
    assert manual.submitted == []


def test_after_a_stop_it_is_refused_and_nothing_is_submitted():
    manual = Manual()
    reactor = goev.Reactor(pollers=1)
    reactor.start()
    reactor.stop()
    reactor.join(5)
    with pytest.raises(RuntimeError, match="stopped"):
        reactor.run_in_executor(manual, int, then=print)
    assert manual.submitted == []


def test_work_that_ends_after_the_stop_is_dropped_quietly(start, events):
    manual = Manual()
    server = start(lambda: Recorder(events), linger_timeout=0.0)
    server.connect()
    connection = events.until("open")[1]
    connection.run_in_executor(manual, int, then=lambda future: events("then"))
    server.reactor.run_in_executor(manual, int, then=lambda future: events("then"))
    began = time.monotonic()
    server.reactor.stop()
    server.reactor.join(5)
    assert time.monotonic() - began < 2.0
    manual.future.set_result(1)  # anything the callbacks raise is logged by concurrent.futures
    assert events.names == ["open", "close"]


def test_work_that_ends_before_the_stop_is_told(events):
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        for number in range(100):
            manual = Manual()
            manual.future.set_result(number)
            reactor.run_in_executor(manual, int, then=lambda future: events("then", future.result()))
        reactor.stop()
        reactor.join(5)
    assert [event[1] for event in events.history] == list(range(100))


def test_nothing_is_kept_after_then(connection, events):
    class Thing:
        alive: ClassVar[list[weakref.ref]] = []

        def __init__(self) -> None:
            self.alive.append(weakref.ref(self))

        def __call__(self, future=None):
            events("called")

    connection.run_in_executor(None, Thing(), Thing(), then=Thing())
    connection.run_in_executor(None, id, Thing(), then=lambda future: events("called"))
    events.times("called", 3)
    eventually(lambda: gc.collect() >= 0 and all(one() is None for one in Thing.alive), "everything is freed")


# --- from where ---


def test_from_any_thread(connection, events, executor):
    def then(future) -> None:
        events("then", get_ident(), future.result())

    def ask(number: int) -> None:
        connection.run_in_executor(executor, int, number, then=then)

    for thread in [in_thread(ask, number) for number in range(10)]:
        thread.result(PATIENCE)
    events.times("then", 10)
    assert sorted(event[2] for event in events.of("then")) == list(range(10))
    assert {event[1] for event in events.of("then")} == {on_poller(connection, get_ident)}


def test_of_a_reactor_then_runs_on_poller_0(server, events):
    for _ in range(4):
        server.reactor.run_in_executor(None, int, then=lambda future: events("then", get_ident()))
    events.times("then", 4)
    assert {event[1] for event in events.of("then")} == {on_poller(server.reactor, get_ident)}


def test_of_a_reactor_inside_a_callback_then_runs_on_the_same_poller(server, events):
    seen = set()
    for _ in range(4):
        server.connect()
        connection = events.until("open")[1]

        def ask() -> int:
            server.reactor.run_in_executor(None, int, then=lambda future: events("then", get_ident()))
            return get_ident()

        here = on_poller(connection, ask)
        assert events.until("then") == ("then", here)
        seen.add(here)
    assert len(seen) == 2


def test_before_the_start_then_waits_for_it(events):
    with goev.Reactor(pollers=1) as reactor:
        future = reactor.run_in_executor(None, int, "5", then=lambda future: events("then", future.result()))
        assert future.result(PATIENCE) == 5
        assert events.history == []
        reactor.start()
        assert events.next() == ("then", 5)


def test_of_a_reactor_an_exception_in_then_is_logged_and_it_lives(reactor, events, log):
    reactor.run_in_executor(None, fail, LookupError("lost"), then=lambda future: future.result())
    assert "LookupError: lost" in log.next()[1]
    reactor.run_in_executor(None, int, then=lambda future: events("alive"))
    assert events.next() == ("alive",)


# --- many ---


def test_one_worker_keeps_the_order(connection, events):
    with ThreadPoolExecutor(1) as single:
        for number in range(1000):
            connection.run_in_executor(single, int, number, then=lambda future: events("then", future.result()))
        events.times("then", 1000)
    assert [event[1] for event in events.of("then")] == list(range(1000))


def test_every_one_of_many_comes_back_once(server, events, executor):
    connections = []
    for _ in range(10):
        server.connect()
        connections.append(events.until("open")[1])

    def ask(who: int) -> None:
        for number in range(200):
            connections[who].run_in_executor(
                executor, divmod, who * 200 + number, 1, then=lambda future: events("then", future.result()[0])
            )

    for thread in [in_thread(ask, who) for who in range(10)]:
        thread.result(PATIENCE)
    events.times("then", 2000)
    settle(server.reactor)
    assert sorted(event[1] for event in events.of("then")) == list(range(2000))


def test_then_may_offload_again(connection, events):
    def next_step(future) -> None:
        if future.result() == 50:
            events("done")
        else:
            connection.run_in_executor(None, (1).__add__, future.result(), then=next_step)

    connection.run_in_executor(None, int, then=next_step)
    events.until("done")


# --- bad input ---


@pytest.fixture(params=["connection", "reactor"])
def owner(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("bad", [5, "pool", object(), ThreadPoolExecutor], ids=repr)
def test_an_executor_that_is_none_is_a_type_error(owner, bad):
    with pytest.raises(TypeError, match="executor"):
        owner.run_in_executor(bad, int, then=print)


@pytest.mark.parametrize("bad", [None, 5, "then"], ids=repr)
def test_a_then_that_cannot_be_called_is_a_type_error_and_nothing_is_submitted(owner, bad):
    manual = Manual()
    with pytest.raises(TypeError, match=f"then must be callable, not {type(bad).__name__}"):
        owner.run_in_executor(manual, int, then=bad)
    assert manual.submitted == []


@pytest.mark.parametrize("bad", [None, 5, "fn"], ids=repr)
def test_a_function_that_cannot_be_called_is_a_type_error(owner, bad):
    with pytest.raises(TypeError, match=f"fn must be callable, not {type(bad).__name__}"):
        owner.run_in_executor(None, bad, then=print)


def test_then_is_needed_and_keyword_only(owner):
    with pytest.raises(TypeError, match="then"):
        owner.run_in_executor(None, int)
    with pytest.raises(TypeError, match="then"):
        owner.run_in_executor(None, int, print)
    with pytest.raises(TypeError):
        owner.run_in_executor()


def test_an_executor_that_was_shut_down_says_so_itself(owner):
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        owner.run_in_executor(pool, int, then=print)


# --- processes ---


def test_the_end_of_the_program_waits_for_no_callback():
    assert (
        run_script("""
    import time
    import goev

    reactor = goev.Reactor(pollers=1)
    reactor.start()
    for _ in range(20):
        reactor.run_in_executor(None, time.sleep, 0.05, then=lambda future: None)
    print("end")
    """)
        == "end"
    )


def test_after_a_fork_the_child_has_a_pool_of_its_own():
    run_script("""
    import os, queue, traceback, warnings
    import goev

    warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the subject of this test
    done = queue.SimpleQueue()
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        for _ in range(3):
            reactor.run_in_executor(None, int, "5", then=lambda future: done.put(future.result()))
        assert [done.get(timeout=10) for _ in range(3)] == [5, 5, 5]
        pid = os.fork()
        if pid == 0:
            try:
                try:
                    reactor.run_in_executor(None, int, then=print)
                except RuntimeError as error:
                    assert "fork" in str(error), error
                else:
                    raise AssertionError("it did not raise")
                own = goev.Reactor(pollers=1)
                own.start()
                own.run_in_executor(None, int, "6", then=lambda future: done.put(future.result()))
                assert done.get(timeout=5) == 6
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    """)


def test_a_handler_that_keeps_its_future_is_released(start, events):
    """The future keeps its callbacks for ever: what it would have called must not hang on them."""

    class Keeps(goev.Connection):
        def on_open(self):
            events("made", weakref.ref(self))
            self.job = self.run_in_executor(None, int, then=self.done)

        def done(self, future):
            self.close()

        def on_close(self, error):
            events("closed")

    server = start(Keeps)
    with server.connect() as client:
        made = events.next()[1]
        assert client.receive_all() == b""
        events.until("closed")

    def is_gone() -> bool:
        gc.collect()
        return made() is None

    eventually(is_gone, "the handler is released")
