"""EventHandler: any descriptor, level-triggered unless EV_ET is asked for; goev never closes it."""

import errno
import os
import socket
import time
from threading import get_ident

import pytest

import goev
from support import Echo, Recorder, eventually, held, on_poller, settle


class Watch(goev.EventHandler):
    """Reports its callbacks; ``on_read`` reads ``size`` bytes of its descriptor, or none for 0."""

    def __init__(self, events, fd: int = -1, size: int = 65536) -> None:
        self.events, self.fd, self.size = events, fd, size

    def on_read(self):
        self.events("read", os.read(self.fd, self.size) if self.size else None)

    def on_write(self):
        self.events("write")

    def on_close(self, error):
        self.events("close", error)


class Named(Watch):
    """Reports under a name of its own, so that two of them can be told apart."""

    def __init__(self, events, name: str, fd: int) -> None:
        super().__init__(lambda kind, *rest: events(f"{name} {kind}", *rest), fd)


@pytest.fixture
def pipe():
    """The two ends of a pipe, neither of which blocks."""
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def pair():
    """Two connected sockets that do not block."""
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


@pytest.fixture
def reactor(pipe, pair):
    """As everywhere, but stopped before the descriptors of the test are closed."""
    with goev.Reactor(pollers=1) as running:
        running.start()
        yield running


@pytest.fixture
def watch(reactor, events):
    """``watch(fd, events_mask, **how)``: a handler added on the reactor's poller."""

    def add(fd, mask: int, **how) -> Watch:
        number = fd if isinstance(fd, int) else fd.fileno()
        handler = Watch(events, number, **how)
        on_poller(reactor, reactor.add, handler, fd, mask)
        return handler

    return add


def test_a_pipe_is_read_when_something_is_written(watch, events, pipe):
    reading, writing = pipe
    watch(reading, goev.EV_IN)
    for text in (b"one", b"two"):
        os.write(writing, text)
        assert events.next() == ("read", text)


def test_what_was_there_before_is_seen(watch, events, pipe):
    os.write(pipe[1], b"early")
    watch(pipe[0], goev.EV_IN)
    assert events.next() == ("read", b"early")


def test_a_handler_may_be_added_before_the_start(events, pipe):
    with goev.Reactor(pollers=1) as reactor:
        reactor.add(Watch(events, pipe[0]), pipe[0], goev.EV_IN)
        os.write(pipe[1], b"early")
        reactor.start()
        assert events.next() == ("read", b"early")


def test_without_ev_et_on_read_comes_until_all_is_read(watch, events, pipe):
    watch(pipe[0], goev.EV_IN, size=1)
    os.write(pipe[1], b"abcde")
    assert [events.next()[1] for _ in range(5)] == [b"a", b"b", b"c", b"d", b"e"]


def test_without_ev_et_on_read_comes_again_even_if_nothing_was_read(watch, events, pipe, reactor):
    handler = watch(pipe[0], goev.EV_IN, size=0)
    os.write(pipe[1], b"x")
    events.times("read", 10)
    handler.size = 10
    eventually(lambda: ("read", b"x") in events.history, "it is read at last")
    settle(reactor)
    assert events.history[-1] == ("read", b"x")


def test_with_ev_et_on_read_comes_once_for_each_arrival(watch, events, pipe, reactor):
    watch(pipe[0], goev.EV_IN | goev.EV_ET, size=1)
    os.write(pipe[1], b"abc")
    assert events.next() == ("read", b"a")
    settle(reactor, 20)
    assert len(events.history) == 1
    os.write(pipe[1], b"d")
    assert events.next() == ("read", b"b")
    settle(reactor, 20)
    assert len(events.history) == 2


def test_an_event_handler_that_never_reads_does_not_starve_others(watch, events, pipe, reactor):
    watch(pipe[0], goev.EV_IN, size=0)
    os.write(pipe[1], b"x")
    events.times("read", 3)
    reactor.schedule(0.01, lambda: events("timer"))
    assert events.until("timer", timeout=2.0) == ("timer",)


def test_on_write_comes_again_while_there_is_room(watch, events, pipe, reactor):
    watch(pipe[1], goev.EV_OUT)
    events.times("write", 5)
    on_poller(reactor, reactor.remove_events, pipe[1], goev.EV_OUT)
    assert events.until("close") == ("close", None)


def test_on_write_waits_for_room(watch, events, pair, reactor):
    left, right = pair
    while True:
        try:
            left.send(bytes(65536))
        except BlockingIOError:
            break
    watch(left, goev.EV_OUT | goev.EV_ET)
    settle(reactor)
    assert not events.history
    while True:
        try:
            right.recv(1 << 20)
        except BlockingIOError:
            break
    assert events.next() == ("write",)


def test_append_and_remove_change_what_is_watched(watch, events, pair, reactor):
    left, right = pair
    watch(left, goev.EV_IN)
    settle(reactor)
    assert not events.history
    on_poller(reactor, reactor.append_events, left, goev.EV_OUT)
    events.times("write", 3)
    on_poller(reactor, reactor.remove_events, left, goev.EV_OUT)
    count = events.names.count("write")
    settle(reactor, 10)
    assert events.names.count("write") == count
    right.send(b"still read")
    assert events.until("read") == ("read", b"still read")
    assert "close" not in events.names


def test_appending_what_is_already_watched_changes_nothing(watch, events, pair, reactor):
    left, right = pair
    watch(left, goev.EV_IN)
    on_poller(reactor, reactor.append_events, left, goev.EV_IN)
    on_poller(reactor, reactor.append_events, left.fileno(), goev.EV_IN)
    right.send(b"x")
    assert events.next() == ("read", b"x")


def test_one_batch_with_input_and_room_calls_both(watch, events, pair):
    left, right = pair
    right.send(b"x")
    watch(left, goev.EV_IN | goev.EV_OUT | goev.EV_ET)
    events.times("read", 1)
    events.times("write", 1)


def test_removing_all_events_unbinds_and_leaves_the_descriptor_open(watch, events, pipe, reactor):
    watch(pipe[0], goev.EV_IN)
    on_poller(reactor, reactor.remove_events, pipe[0], goev.EV_IN)
    assert events.next() == ("close", None)
    os.write(pipe[1], b"x")
    settle(reactor)
    assert events.names == ["close"]
    assert os.read(pipe[0], 10) == b"x"


def test_after_unbinding_the_descriptor_may_be_added_with_another_handler(watch, events, pipe, reactor):
    watch(pipe[0], goev.EV_IN)
    on_poller(reactor, reactor.remove_events, pipe[0], goev.EV_IN)
    watch(pipe[0], goev.EV_IN)
    os.write(pipe[1], b"again")
    assert events.until("read") == ("read", b"again")


def test_an_unbound_handler_cannot_be_used_again(watch, events, pipe, reactor):
    handler = watch(pipe[0], goev.EV_IN)
    on_poller(reactor, reactor.remove_events, pipe[0], goev.EV_IN)
    events.until("close")
    with pytest.raises(ValueError, match="handler"):
        on_poller(reactor, reactor.add, handler, pipe[0], goev.EV_IN)


@pytest.mark.parametrize("name", ["on_read", "on_write"])
def test_false_unbinds(reactor, events, pair, name):
    left, right = pair
    callbacks = {name: lambda self: events("called") or False, "on_close": lambda self, error: events("close", error)}
    handler = type("Leaves", (goev.EventHandler,), callbacks)()
    on_poller(reactor, reactor.add, handler, left, goev.EV_IN if name == "on_read" else goev.EV_OUT)
    right.send(b"x")
    assert [events.next(), events.next()] == [("called",), ("close", None)]
    right.send(b"y")
    settle(reactor)
    assert events.names == ["called", "close"]


@pytest.mark.parametrize("name", ["on_read", "on_write"])
def test_raising_is_logged_and_unbinds_with_that_exception(reactor, events, pair, log, name):
    class MineError(Exception):
        pass

    def fail(self):
        raise MineError("of the handler")

    handler = type(
        "Fails", (goev.EventHandler,), {name: fail, "on_close": lambda self, error: events("close", error)}
    )()
    on_poller(reactor, reactor.add, handler, pair[0], goev.EV_IN if name == "on_read" else goev.EV_OUT)
    pair[1].send(b"x")
    assert type(events.next()[1]) is MineError
    record, text = log.next()
    assert record.name == "goev"
    assert "of the handler" in text
    assert on_poller(reactor, lambda: "alive") == "alive"
    assert pair[0].fileno() >= 0


def test_another_return_value_is_a_type_error(reactor, events, pair, log):
    callbacks = {"on_read": lambda self: "yes", "on_close": lambda self, error: events("close", error)}
    handler = type("Yes", (goev.EventHandler,), callbacks)()
    on_poller(reactor, reactor.add, handler, pair[0], goev.EV_IN)
    pair[1].send(b"x")
    assert type(events.next()[1]) is TypeError


def test_stop_unbinds_with_none_and_leaves_the_descriptor_open(events, pipe):
    with goev.Reactor(pollers=2) as reactor:
        reactor.add(Watch(events, pipe[0]), pipe[0], goev.EV_IN)
        reactor.start()
        settle(reactor)
    assert events.history == [("close", None)]
    os.write(pipe[1], b"x")
    assert os.read(pipe[0], 1) == b"x"


def test_the_end_of_the_other_side_is_seen_as_readable(watch, events, pair, reactor):
    left, right = pair
    watch(left, goev.EV_IN)
    right.close()
    assert events.next() == ("read", b"")
    on_poller(reactor, reactor.remove_events, left, goev.EV_IN)
    assert events.until("close") == ("close", None)


def test_a_udp_socket_echoes(reactor):
    class UdpEcho(goev.EventHandler):
        def __init__(self, sock: socket.socket) -> None:
            self.socket = sock

        def on_read(self):
            data, address = self.socket.recvfrom(2048)
            self.socket.sendto(data, address)

    with socket.socket(type=socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
        server.bind(("127.0.0.1", 0))
        client.settimeout(5)
        on_poller(reactor, reactor.add, UdpEcho(server), server, goev.EV_IN)
        for number in range(100):
            client.sendto(b"%d" % number, server.getsockname())
            assert client.recv(100) == b"%d" % number
        on_poller(reactor, reactor.remove_events, server, goev.EV_IN)


def test_callbacks_run_on_the_poller_that_added_it(start, events, pipe):
    class Adds(goev.Connection):
        def on_open(self):
            events("open", self, get_ident())

    class Where(goev.EventHandler):
        def on_read(self):
            os.read(pipe[0], 100)
            events("read", get_ident())

    server = start(Adds, pollers=2)
    for _ in range(2):
        server.connect()
    events.times("open", 2)
    _, second, thread = events.history[1]
    on_poller(second, server.reactor.add, Where(), pipe[0], goev.EV_IN)
    os.write(pipe[1], b"x")
    assert events.until("read") == ("read", thread)
    on_poller(second, server.reactor.remove_events, pipe[0], goev.EV_IN)


def test_a_handler_knows_its_descriptor_and_reactor(watch, pipe, reactor):
    handler = watch(pipe[0], goev.EV_IN)
    assert on_poller(reactor, handler.fileno) == pipe[0]
    assert on_poller(reactor, lambda: handler.reactor) is reactor


def test_handlers_and_connections_share_a_poller(start, events, pipe):
    server = start(Echo)
    on_poller(server.reactor, server.reactor.add, Watch(events, pipe[0]), pipe[0], goev.EV_IN)
    client = server.connect()
    for number in range(50):
        os.write(pipe[1], b"%d" % number)
        assert client.ask(b"ping") == b"ping"
        assert events.next() == ("read", b"%d" % number)


def test_a_handler_may_remove_itself_inside_its_callback(reactor, events, pipe):
    class Once(Watch):
        def on_read(self):
            super().on_read()
            self.reactor.remove_events(self.fd, goev.EV_IN)
            self.events("removed")

    on_poller(reactor, reactor.add, Once(events, pipe[0], 1), pipe[0], goev.EV_IN)
    os.write(pipe[1], b"ab")
    assert [events.next() for _ in range(3)] == [("read", b"a"), ("removed",), ("close", None)]
    settle(reactor)
    assert len(events.history) == 3


def test_a_handler_removed_by_an_earlier_callback_of_the_batch_is_not_called(reactor, events):
    """Two pipes ready at once; the first handler called removes the other."""
    pipes = [os.pipe2(os.O_NONBLOCK) for _ in range(2)]
    try:

        class Removes(Watch):
            def on_read(self):
                super().on_read()
                other = next(reading for reading, _ in pipes if reading != self.fd)
                self.reactor.remove_events(other, goev.EV_IN)

        def add_both() -> None:
            for reading, writing in pipes:
                reactor.add(Removes(events, reading), reading, goev.EV_IN)
                os.write(writing, b"x")

        on_poller(reactor, add_both)
        events.until("close")
        settle(reactor)
        assert events.names == ["read", "close"]
        reactor.stop()
        reactor.join(5)
    finally:
        for end in (end for ends in pipes for end in ends):
            os.close(end)


def test_an_idle_handler_costs_no_cpu(watch, pipe, reactor):
    watch(pipe[0], goev.EV_IN)
    settle(reactor)
    before = time.process_time()
    time.sleep(0.5)  # the time over which CPU is measured
    assert time.process_time() - before < 0.1


# --- one takes the place of another ---


def add_remove_add(reactor, events, first, second) -> None:
    """A on ``first`` gives its place up; B on ``second`` takes it, before A's on_close came."""
    reactor.add(Named(events, "A", first.fileno()), first, goev.EV_IN)
    reactor.remove_events(first, goev.EV_IN)
    reactor.add(Named(events, "B", second.fileno()), second, goev.EV_IN)


@pytest.mark.parametrize("when", ["before the start", "in a callback"])
def test_a_handler_that_takes_the_place_of_a_removed_one_is_not_removed_with_it(events, pair, when):
    left, right = pair
    with goev.Reactor(pollers=1) as reactor, socket.socket(type=socket.SOCK_DGRAM) as idle:
        if when == "before the start":
            add_remove_add(reactor, events, idle, left)
            reactor.start()
        else:
            reactor.start()
            on_poller(reactor, add_remove_add, reactor, events, idle, left)
        assert events.next() == ("A close", None)
        right.send(b"x")
        assert events.next() == ("B read", b"x")
        settle(reactor)
        assert events.names == ["A close", "B read"]


def test_a_handler_added_while_two_are_being_removed_works(pipe, events):
    """Both leave in one batch, and the on_close of the first adds a third, which gets the place of one of them."""
    pairs = [socket.socketpair() for _ in range(3)]

    class Leaves(Watch):
        def on_read(self):
            super().on_read()
            return False

        def on_close(self, error):
            super().on_close(error)
            if len(events.of("close")) == 1:
                self.reactor.add(Named(events, "third", pairs[2][0].fileno()), pairs[2][0], goev.EV_IN)

    with goev.Reactor(pollers=1) as reactor:
        for ours, _ in pairs[:2]:
            reactor.add(Leaves(events, ours.fileno()), ours, goev.EV_IN)
        reactor.start()
        with held(reactor):
            for _, theirs in pairs[:2]:
                theirs.send(b"x")
        events.times("close", 2)
        pairs[2][1].send(b"to the third")
        assert events.until("third read") == ("third read", b"to the third")
        settle(reactor)
        assert sorted(events.names) == ["close", "close", "read", "read", "third read"]
    for one in (one for ends in pairs for one in ends):
        one.close()


def test_a_handler_added_beside_a_factory_that_raised_works(pipe, start, events, log):
    """Two connections come in one batch: the first gets no handler, and the factory of the second adds one there."""

    def factory() -> goev.Connection:
        events("made")
        if len(events.history) == 1:
            raise LookupError("no handler")
        server.reactor.add(Watch(events, pipe[0]), pipe[0], goev.EV_IN)
        return Echo()

    server = start(factory)
    with held(server.reactor):
        clients = [server.connect() for _ in range(2)]
    events.times("made", 2)
    settle(server.reactor)
    os.write(pipe[1], b"x")
    assert events.until("read") == ("read", b"x")
    assert clients[1].ask(b"served") == b"served"
    settle(server.reactor)
    assert events.names == ["made", "made", "read"]


@pytest.mark.parametrize("then", ["added", "removed later"])
def test_a_number_that_is_used_again_belongs_to_the_second_handler(reactor, events, pair, then):
    """The first descriptor was closed before it was removed, and another got its number."""
    left, right = pair
    first, far = socket.socketpair()
    with first, far:
        number = os.dup(first.fileno())

        def reuse() -> None:
            reactor.add(Named(events, "A", number), number, goev.EV_IN)
            os.dup2(left.fileno(), number)
            reactor.add(Named(events, "B", number), number, goev.EV_IN)

        on_poller(reactor, reuse)
        name, error = events.next()
        assert (name, error.errno) == ("A close", errno.EBADF)
        for text in (b"one", b"two"):
            right.send(text)
            assert events.next() == ("B read", text)
        if then == "removed later":
            on_poller(reactor, reactor.remove_events, number, goev.EV_IN)
            assert events.next() == ("B close", None)
        os.close(number)
    settle(reactor)
    assert "A read" not in events.names


def test_a_handler_that_closes_and_opens_its_descriptor_in_its_callback_is_called_no_more(reactor, events, pair):
    left, right = pair
    first, far = socket.socketpair()
    with first, far:
        number = os.dup(first.fileno())

        class Reopens(Named):
            def on_read(self):
                super().on_read()
                os.dup2(left.fileno(), number)
                self.reactor.add(Named(events, "B", number), number, goev.EV_IN)

        on_poller(reactor, reactor.add, Reopens(events, "A", number), number, goev.EV_IN)
        far.send(b"x")
        assert events.next() == ("A read", b"x")
        assert events.next()[0] == "A close"
        right.send(b"y")
        assert events.next() == ("B read", b"y")
        on_poller(reactor, reactor.remove_events, number, goev.EV_IN)
        assert events.next() == ("B close", None)
        os.close(number)


def test_a_number_that_a_connection_uses_again_stays_the_connections(start, events):
    """The handler of the closed descriptor neither watches the connection's socket nor takes it out of the poll."""
    server = start(lambda: Recorder(events))
    ours, theirs = socket.socketpair()
    number = ours.detach()

    class Closes(goev.EventHandler):
        def on_read(self):
            os.close(number)
            clients.append(server.connect())
            server.reactor.call_soon(list)

        def on_close(self, error):
            events("closed", error)

    clients = []
    with theirs:
        on_poller(server.reactor, server.reactor.add, Closes(), number, goev.EV_IN)
        theirs.send(b"x")
        assert events.until("closed")[1].errno == errno.EBADF
        connection = events.until("open")[1] if "open" not in events.names else events.of("open")[0][1]
        assert on_poller(connection, connection.fileno) >= 0
        clients[0].send(b"hello")
        assert events.until("read")[1] == b"hello"
