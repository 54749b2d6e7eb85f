"""C5: what raises is logged and ends that connection; the reactor lives on, unless it was told to stop."""

import logging
import socket
import threading
from contextlib import suppress

import pytest

import goev
from support import PATIENCE, Client, Echo, in_thread, on_poller, settle


class BrokenError(RuntimeError):
    pass


class Raises(goev.Connection):
    """Raises in one of its callbacks; ``trigger`` brings that callback about."""

    def __init__(self, events, where: str) -> None:
        self.events = events
        self.where = where

    def come_to(self, where: str) -> None:
        if where == self.where:
            raise BrokenError(f"in {where}")

    def on_open(self):
        self.events("open", self)
        self.come_to("on_open")

    def on_read(self):
        self.read()
        self.come_to("on_read")

    def on_eof(self):
        self.come_to("on_eof")
        return False

    def on_drain(self):
        self.come_to("on_drain")

    def on_timeout(self):
        self.come_to("on_timeout")

    def on_close(self, error):
        self.events("close", error)
        self.come_to("on_close")


def trigger(where: str, client, connection: Raises) -> None:
    if where == "on_read":
        client.send(b"x")
    elif where == "on_eof":
        client.finish()
    elif where == "on_drain":
        connection.write(bytes(3_000_000))
        client.discard(3_000_000)
    elif where == "on_timeout":
        on_poller(connection, lambda: connection.schedule(0.0))
    elif where == "timer":
        on_poller(connection, lambda: connection.schedule(0.0, lambda: connection.come_to("timer")))
    elif where == "call_soon":
        connection.call_soon(connection.come_to, "call_soon")
    elif where == "on_close":
        client.close()


CALLBACKS = ["on_open", "on_read", "on_eof", "on_drain", "on_timeout", "timer", "call_soon"]


@pytest.mark.parametrize("where", CALLBACKS)
def test_a_raising_callback_ends_its_connection_with_that_exception(start, events, log, where):
    server = start(lambda: Raises(events, where), send_buffer_size=8192)
    client = server.connect(receive_buffer=8192)
    trigger(where, client, events.until("open")[1])
    error = events.until("close")[1]
    assert type(error) is BrokenError
    assert str(error) == f"in {where}"
    settle(server.reactor)
    assert events.names == ["open", "close"]


@pytest.mark.parametrize("where", [*CALLBACKS, "on_close"])
def test_a_raising_callback_is_logged_once_with_the_peer_and_the_traceback(start, events, log, where):
    server = start(lambda: Raises(events, where), send_buffer_size=8192)
    client = server.connect(receive_buffer=8192)
    name = client.name
    trigger(where, client, events.until("open")[1])
    events.until("close")
    record, text = log.next()
    assert record.name == "goev"
    assert record.levelno == logging.ERROR
    assert name in record.getMessage()
    assert f"in {where}" in text
    assert "come_to" in text, "no traceback"
    settle(server.reactor)
    assert len(log.texts()) == 1


@pytest.mark.parametrize("where", [*CALLBACKS, "on_close"])
def test_the_reactor_and_its_other_connections_live_on(start, events, log, where):
    made = []

    def factory() -> goev.Connection:
        made.append(Echo() if len(made) != 1 else Raises(events, where))
        return made[-1]

    server = start(factory, send_buffer_size=8192)
    before = server.connect()
    assert before.ask(b"before") == b"before"
    client = server.connect(receive_buffer=8192)
    trigger(where, client, events.until("open")[1])
    events.until("close")
    assert before.ask(b"still") == b"still"
    assert server.connect().ask(b"after") == b"after"


def test_what_was_written_before_raising_is_still_sent(start, log):
    class Answers(goev.Connection):
        def on_read(self):
            self.write(b"400 " + b"x" * 1_000_000)
            raise BrokenError

    client = start(Answers).connect()
    client.send(b"nonsense")
    assert client.receive_all() == b"400 " + b"x" * 1_000_000


@pytest.mark.parametrize("first", [goev.Connection.close, goev.Connection.shutdown_write], ids=lambda f: f.__name__)
def test_what_is_raised_after_closing_is_still_the_error_of_on_close(start, events, log, first):
    class Closes(goev.Connection):
        def on_read(self):
            self.write(b"x" * 1_000_000)
            first(self)
            raise BrokenError("after closing")

        def on_close(self, error):
            events("close", error)

    client = start(Closes, send_buffer_size=8192).connect(receive_buffer=8192)
    client.send(b"x")
    assert len(client.receive_all()) == 1_000_000
    error = events.next()[1]
    assert type(error) is BrokenError
    assert "after closing" in log.next()[1]


def test_a_reset_while_the_output_is_flushed_does_not_replace_what_was_raised(start, events, log):
    class Fails(goev.Connection):
        def on_read(self):
            self.write(bytes(50_000_000))
            raise BrokenError

        def on_close(self, error):
            events("close", error)

    server = start(Fails)
    client = server.connect(receive_buffer=8192)
    client.send(b"x")
    log.next()
    settle(server.reactor)
    assert not events.history, "it is still flushing"
    client.reset()
    assert type(events.next()[1]) is BrokenError


class Farewell:
    """Calls ``fn`` when it is freed, and reports that this went well."""

    def __init__(self, events, fn) -> None:
        self.events, self.fn = events, fn

    def __del__(self) -> None:
        with suppress(goev.ConnectionClosed):
            self.fn()
        self.events("freed")


@pytest.mark.parametrize("before", ["nothing", "close", "abort"])
@pytest.mark.parametrize(
    "use",
    [
        lambda connection: connection.pending_input,
        lambda connection: connection.reactor.stats(),
        lambda connection: connection.write(b"x"),
        lambda connection: connection.abort(),
    ],
    ids=["pending_input", "stats", "write", "abort"],
)
def test_what_is_freed_with_an_exception_may_call_goev(start, events, monkeypatch, before, use):
    """The traceback holds the locals of the callback: dropping the exception runs their finalizers."""
    monkeypatch.setattr(logging.getLogger("goev"), "disabled", True)  # whoever logs keeps the exception

    class Fails(goev.Connection):
        def on_read(self):
            local = Farewell(events, lambda: use(self))  # noqa: F841
            if before != "nothing":
                getattr(self, before)()
            raise ValueError("x")

        def on_close(self, error):
            events("close", type(error))

    server = start(Fails)
    client = server.connect()
    client.send(b"x")
    events.until("close")
    events.times("freed", 1)
    assert on_poller(server.reactor, lambda: "alive") == "alive"


def test_a_raising_init_or_factory_closes_that_socket_and_no_other(start, log):
    attempts = []

    def factory() -> goev.Connection:
        attempts.append(None)
        if len(attempts) == 1:
            raise BrokenError("in the factory")
        return Echo()

    server = start(factory)
    client = server.connect()
    name = client.name
    record, text = log.next()
    assert record.name == "goev"
    assert name in record.getMessage()
    assert "in the factory" in text
    assert ended(client)
    assert server.connect().ask(b"next") == b"next"


def ended(client) -> bool:
    """The peer closed or reset it."""
    try:
        return client.receive_all() == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "wrong", [None, 42, "handler", Echo, object(), goev.EventHandler()], ids=lambda v: type(v).__name__
)
def test_a_factory_that_returns_no_handler_is_logged_and_that_socket_closed(start, log, wrong):
    made = []

    def factory():
        made.append(wrong if not made else Echo())
        return made[-1]

    server = start(factory)
    client = server.connect()
    name = client.name
    record, text = log.next()
    assert record.name == "goev"
    assert name in record.getMessage()
    assert repr(wrong) in text
    assert "Connection" in text
    assert ended(client)
    assert server.connect().ask(b"next") == b"next"


def test_a_factory_that_returns_a_used_handler_is_logged_and_the_first_goes_on(start, log):
    handler = Echo()
    server = start(lambda: handler)
    first = server.connect()
    assert first.ask(b"first") == b"first"
    second = server.connect()
    name = second.name
    record, _ = log.next()
    assert name in record.getMessage()
    assert ended(second)
    assert first.ask(b"first again") == b"first again"


def test_a_handler_is_used_even_after_its_connection_has_ended(start, events, log):
    class Closes(goev.Connection):
        def on_close(self, error):
            events("close", error)

    handler = Closes()
    server = start(lambda: handler)
    server.connect().close()
    events.next()
    assert ended(server.connect())
    log.next()
    assert events.names == ["close"]


@pytest.mark.parametrize("name", ["on_open", "on_read", "on_eof"])
@pytest.mark.parametrize("value", ["yes", 1, 0, b"", [], object()], ids=lambda v: type(v).__name__)
def test_any_other_return_value_is_a_type_error(start, events, log, name, value):
    def answer(self):
        self.read()
        return value

    answers = type(
        "Answers", (goev.Connection,), {name: answer, "on_close": lambda self, error: events("close", error)}
    )
    client = start(answers).connect()
    with suppress(OSError):  # it may have ended already
        client.send(b"x")
        client.finish()
    error = events.next()[1]
    assert type(error) is TypeError
    assert name in str(error)
    assert repr(value) in str(error)


# --- on the reactor itself ---


def broken() -> None:
    raise BrokenError("of the reactor")


def test_an_exception_in_reactor_call_soon_is_logged_and_the_reactor_goes_on(reactor, log):
    reactor.call_soon(broken)
    record, text = log.next()
    assert record.name == "goev"
    assert "of the reactor" in text
    assert on_poller(reactor, lambda: "alive") == "alive"


def test_a_repeating_reactor_timer_that_raises_is_logged_and_ended(reactor, log, events):
    reactor.schedule(0.0, broken, every=0.001)
    assert "of the reactor" in log.next()[1]
    reactor.schedule(0.03, lambda: events("later"))
    events.next()
    assert len(log.texts()) == 1


def test_the_return_value_of_call_soon_does_not_matter(reactor):
    reactor.call_soon(lambda: "anything")
    reactor.call_soon(lambda: False)
    assert on_poller(reactor, lambda: "alive") == "alive"


# --- what stops it ---


class Final(BaseException):
    """Like KeyboardInterrupt: no Exception."""


def raising(error: BaseException):
    def fn() -> None:
        raise error

    return fn


STOPPERS = [KeyboardInterrupt("by hand"), SystemExit(3), Final("mine")]


@pytest.mark.parametrize("error", STOPPERS, ids=lambda error: type(error).__name__)
def test_a_base_exception_comes_out_of_run(error):
    reactor = goev.Reactor(pollers=1)
    reactor.call_soon(raising(error))
    with pytest.raises(type(error)) as raised:
        reactor.run()
    assert raised.value is error
    assert not reactor.running


@pytest.mark.parametrize("error", STOPPERS, ids=lambda error: type(error).__name__)
def test_a_base_exception_comes_out_of_join(error):
    reactor = goev.Reactor(pollers=2)
    reactor.start()
    reactor.call_soon(raising(error))
    with pytest.raises(type(error)) as raised:
        reactor.join(10)
    assert raised.value is error
    assert not reactor.running


def test_a_base_exception_of_another_poller_comes_out_of_run(stack, events):
    """Both pollers have a connection; the one of poller 1 raises."""
    main = threading.get_ident()

    class Leaves(goev.Connection):
        def on_open(self):
            if threading.get_ident() != main:
                raise SystemExit(7)

        def on_close(self, error):
            events("close", error)

    reactor = goev.Reactor(pollers=2)
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Leaves)
    for _ in range(2):
        stack.enter_context(Client(acceptor.address))
    with pytest.raises(SystemExit) as raised:
        reactor.run()
    assert raised.value.code == 7
    assert events.of("close")


@pytest.mark.parametrize("where", ["on_open", "on_read", "on_timeout", "on_close"])
def test_a_base_exception_in_a_callback_still_closes_every_connection(stack, events, where):
    class Leaves(goev.Connection):
        def on_open(self):
            events("open", self)

        def on_read(self):
            if where == "on_read":
                raise Final
            self.close()

        def on_timeout(self):
            raise Final

        def on_close(self, error):
            events("close", error)
            if where == "on_close" and len(events.of("close")) == 1:
                raise Final

    class LeavesAtOnce(Leaves):
        def on_open(self):
            super().on_open()
            if len(events.of("open")) == 3:
                raise Final

    reactor = goev.Reactor(pollers=1)
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", LeavesAtOnce if where == "on_open" else Leaves)
    reactor.start()
    clients = [stack.enter_context(Client(acceptor.address)) for _ in range(3)]
    events.times("open", 3)
    if where in ("on_read", "on_close"):
        clients[0].send(b"x")
    elif where == "on_timeout":
        last = events.history[-1][1]
        last.call_soon(last.schedule, 0.0)
    with pytest.raises(Final):
        reactor.join(10)
    assert events.names.count("close") == 3


def test_a_clean_stop_leaves_nothing_to_raise():
    reactor = goev.Reactor(pollers=1)
    reactor.call_soon(reactor.stop)
    assert reactor.run().aborted == 0
    assert reactor.join(1).aborted == 0


def test_nothing_can_be_added_to_a_reactor_that_a_base_exception_ends(stack, events):
    """What is added then would never be removed, and the reactor never end."""
    idle = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))

    class Leaves(goev.Connection):
        def on_read(self):
            raise SystemExit(5)

        def on_close(self, error):
            with pytest.raises(RuntimeError):
                self.reactor.add(goev.EventHandler(), idle, goev.EV_IN)
            events("refused")

    reactor = goev.Reactor(pollers=1)
    client = stack.enter_context(Client(goev.Acceptor(reactor, "127.0.0.1:0", Leaves).address))
    client.send(b"x")
    with pytest.raises(SystemExit) as raised:
        in_thread(reactor.run).result(PATIENCE)
    assert raised.value.code == 5
    assert events.names == ["refused"]


@pytest.mark.parametrize("where", ["call_soon", "on_read"])
def test_a_base_exception_of_a_log_handler_comes_out_of_run(stack, log, where):
    """Ctrl-C while an exception is being logged."""

    class Interrupts(logging.Handler):
        def emit(self, record):
            raise KeyboardInterrupt

    class Fails(goev.Connection):
        def on_read(self):
            broken()

    reactor = goev.Reactor(pollers=1)
    client = stack.enter_context(Client(goev.Acceptor(reactor, "127.0.0.1:0", Fails).address))
    if where == "call_soon":
        reactor.call_soon(broken)
    else:
        client.send(b"x")
    reactor.schedule(5.0, reactor.stop)  # if it is swallowed
    interrupts, logger = Interrupts(), logging.getLogger("goev")
    logger.addHandler(interrupts)
    stack.callback(logger.removeHandler, interrupts)
    with pytest.raises(KeyboardInterrupt):
        reactor.run()
    assert not reactor.running
