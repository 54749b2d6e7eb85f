"""``connection.pipe_to(other)``: a relay inside the poller. Bytes, ends and limits are those of a relay in Python.

``examples/proxy.py`` is such a relay too: its tests hold these rules for large streams in both directions.
"""

import random
import socket
import threading
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from wires import Wire

import goev
import goev.testing
from guides import Guide
from support import (
    PATIENCE,
    SMALL_BUFFERS,
    Child,
    Client,
    Events,
    Recorder,
    Server,
    eventually,
    half_closes,
    in_thread,
    on_poller,
    open_fds,
    resident,
    settle,
    settled_fds,
    sha256,
)

DATA = random.Random(5).randbytes(1 << 20)
either_wire = pytest.mark.parametrize("wire", ["plain", "tls"], indirect=True)


class End(Recorder):
    """One of two connections that are joined later. Input stays unread until then."""

    def on_read(self) -> None:
        self.events("waits", self.pending_input)


class Pair:
    """A server with two connections, ``a`` and ``b``: their handlers, their clients, and what each was told."""

    def __init__(
        self, stack: ExitStack, *, wires: tuple[str, str] = ("plain", "plain"), kind: type = End, **options: Any
    ):
        self.events = (Events(), Events())
        self.reactor = stack.enter_context(goev.Reactor(pollers=1))
        acceptors = [
            goev.Acceptor(self.reactor, "127.0.0.1:0", lambda events=events: kind(events), **how, **options)
            for events, how in zip(self.events, (WIRES_OF[name].acceptor_options for name in wires), strict=True)
        ]
        self.reactor.start()
        clients = [WIRES_OF[name].client(acceptor.address) for name, acceptor in zip(wires, acceptors, strict=True)]
        self.clients = [stack.enter_context(client) for client in clients]
        self.a, self.b = (events.until("open")[1] for events in self.events)

    def join(self, *, both: bool = False) -> "Pair":
        def join() -> None:
            self.a.pipe_to(self.b)
            if both:
                self.b.pipe_to(self.a)

        on_poller(self.a, join)
        return self

    def reasons(self) -> list[type | None]:
        """The reasons of both ``on_close``, by their types."""
        errors = [events.until("close")[1] for events in self.events]
        return [error and type(error) for error in errors]

    def counters(self) -> Any:
        return self.reactor.stats()[0]


WIRES_OF = {name: Wire(name) for name in ("plain", "tls")}


@pytest.fixture
def pair(stack: ExitStack) -> Pair:
    return Pair(stack)


def receives_all(client: Client, data: bytes) -> bool:
    return client.hash_all() == (len(data), sha256(data))


# ---- bytes --------------------------------------------------------------------------------------------------------


WAYS = [("plain", "plain"), ("tls", "plain"), ("plain", "tls"), ("tls", "tls")]


@pytest.mark.parametrize("wires", WAYS, ids=" to ".join)
def test_unread_input_goes_first_and_no_callback_reads_the_rest(stack, wires):
    pair = Pair(stack, wires=wires)
    (a, b), data = pair.clients, DATA * 20
    a.send(b"first, ")
    assert pair.events[0].until("waits") == ("waits", 7)
    pair.join()
    a.send(b"then, ")
    assert b.receive(13) == b"first, then, "
    sending = in_thread(lambda: (a.send(data), a.finish()))
    assert receives_all(b, data)
    sending.result(PATIENCE)
    assert pair.events[0].names == ["open", "waits"]


@pytest.mark.parametrize("wires", WAYS, ids=" to ".join)
def test_both_directions_at_once(stack, wires):
    pair = Pair(stack, wires=wires).join(both=True)
    a, b = pair.clients
    up, down = DATA * 20, DATA[::-1] * 20
    sending = [
        in_thread(lambda end=end, data=data: (end.send(data), end.finish())) for end, data in ((a, up), (b, down))
    ]
    receiving = [in_thread(receives_all, end, data) for end, data in ((b, up), (a, down))]
    assert all(future.result(2 * PATIENCE) for future in receiving)
    [future.result(PATIENCE) for future in sending]
    assert pair.reasons() == [None, None]


def test_the_end_may_have_come_before(stack):
    class Waits(End):
        def on_eof(self) -> None:
            self.events("eof")

    pair = Pair(stack, kind=Waits)
    a, b = pair.clients
    a.send(b"all of it")
    a.finish()
    pair.events[0].until("eof")
    pair.join()
    assert b.receive_all() == b"all of it"


def test_a_message_of_urgent_data_stops_nothing(pair):
    """A splice stops at an urgent byte and says "would block"."""
    a, b = pair.join().clients
    receiving = in_thread(b.hash_all)
    for _ in range(10):
        a.send(DATA)
        a.socket.send(b"!", socket.MSG_OOB)
    a.send(b"end")
    a.finish()
    count = receiving.result(PATIENCE)[0]
    assert 10 * len(DATA) + 3 <= count <= 10 * len(DATA) + 13


def test_the_relay_of_the_guide(stack, tmp_path):
    upstream = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    address = f"127.0.0.1:{upstream.getsockname()[1]}"
    upstream.settimeout(PATIENCE)
    with (
        Guide("handlers.md", 8080).serving(tmp_path, "Relays", UPSTREAM=address) as (port, _),
        Client(("127.0.0.1", port)) as client,
    ):
        client.send(b"early, ")
        assert client.receive(13) == b"220 relayed\r\n"
        far, _ = upstream.accept()
        with far:
            far.sendall(b"answer")
            assert client.receive(6) == b"answer"
            client.finish()
            assert b"".join(iter(lambda: far.recv(100), b"")) == b"early, "


def test_unix_sockets(stack, tmp_path):
    events = Events()
    server = Server(stack, lambda: End(events), address=f"unix:{tmp_path / 'relay'}")
    a, b = server.connect(), None
    first = events.until("open")[1]
    b = server.connect()
    second = events.until("open")[1]
    on_poller(first, first.pipe_to, second)
    sending = in_thread(lambda: (a.send(DATA * 10), a.finish()))
    assert receives_all(b, DATA * 10)
    sending.result(PATIENCE)


def test_the_other_connection_may_still_write_and_read(pair):
    a, b = pair.join().clients
    a.send(b"one ")
    assert b.receive(4) == b"one "
    on_poller(pair.b, pair.b.write, b"two ")
    assert b.receive(4) == b"two "
    b.send(b"input")
    assert pair.events[1].until("waits") == ("waits", 5)
    assert on_poller(pair.b, pair.b.read) == b"input"
    on_poller(pair.a, pair.a.write, b"output")
    assert a.receive(6) == b"output"


def test_bytes_are_counted_on_both_sides(pair):
    a, b = pair.join().clients
    before = pair.counters()
    sending = in_thread(a.send, DATA * 8)
    b.discard(8 << 20)
    sending.result(PATIENCE)
    after = eventually(lambda: _moved(before, pair.counters(), 8 << 20), "all bytes are counted")
    assert after == (8 << 20, 8 << 20)


def _moved(before: Any, after: Any, least: int) -> Any:
    moved = (after["bytes_in"] - before["bytes_in"], after["bytes_out"] - before["bytes_out"])
    return moved if min(moved) >= least else None


# ---- back-pressure ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wires", WAYS, ids=" to ".join)
def test_a_slow_reader_slows_the_sender_and_takes_no_memory(stack, wires):
    class Told(End):
        def on_drain(self) -> None:
            self.events("drain")

    pair = Pair(stack, wires=wires, kind=Told, **SMALL_BUFFERS).join()
    a, b = pair.clients
    data = DATA * 60
    before = resident()
    sent = a.fill(data)
    assert sent < len(data), "nothing slowed it down"
    assert resident() - before < 8_000_000
    assert 0 < on_poller(pair.b, lambda: pair.b.pending_output) <= 512 * 1024
    rest = in_thread(lambda: (a.send(data[sent:]), a.finish()))
    assert receives_all(b, data)
    rest.result(PATIENCE)
    assert "drain" not in pair.events[1].names


def test_a_pause_of_the_user_holds_the_input_back(pair):
    a, b = pair.join().clients
    on_poller(pair.a, pair.a.pause_reading)
    a.send(b"later")
    settle(pair.a)
    assert not b.gets(b"l", 0.1)
    on_poller(pair.a, pair.a.resume_reading)
    assert b.receive(5) == b"later"


def test_a_full_direction_leaves_the_other_one_alone(pair):
    a, b = pair.join(both=True).clients
    assert a.fill(DATA * 60) < 60 << 20
    b.send(b"the other way")
    assert a.receive(13) == b"the other way"


def test_other_connections_are_served_beside_a_flood(stack):
    pair = Pair(stack)
    events = Events()

    class Echo(goev.Connection):
        def on_read(self) -> None:
            self.write(self.read())

    acceptor = goev.Acceptor(pair.reactor, "127.0.0.1:0", Echo)
    a, b = pair.join().clients
    done = threading.Event()

    def flood() -> None:
        while not done.is_set():
            a.send(DATA)
        a.finish()

    flooding, sinking = in_thread(flood), in_thread(b.hash_all)
    with Client(acceptor.address) as client:
        for _ in range(200):
            assert client.ask(b"ping") == b"ping"
    done.set()
    flooding.result(PATIENCE)
    sinking.result(PATIENCE)
    assert events.history == []


# ---- ends ---------------------------------------------------------------------------------------------------------


@either_wire
def test_a_half_close_goes_through_and_the_other_direction_stays_open(stack, wire):
    pair = Pair(stack, wires=(wire.name, wire.name)).join(both=True)
    a, b = pair.clients
    half_closes(a, b, DATA)
    assert pair.reasons() == [None, None]


def test_on_eof_comes_after_everything_was_passed_on(stack):
    class Told(End):
        def on_eof(self) -> None:
            self.events("eof", self.pending_input)

    pair = Pair(stack, kind=Told)
    a, b = pair.clients
    a.send(b"some")
    pair.events[0].until("waits")
    pair.join()
    a.finish()
    assert b.receive_all() == b"some"
    assert pair.events[0].until("eof") == ("eof", 0)
    assert on_poller(pair.a, pair.a.write, b"still open") is None
    assert a.receive(10) == b"still open"


def test_an_on_eof_that_closes_ends_both(stack):
    class Closes(End):
        def on_eof(self) -> bool:
            return False

    pair = Pair(stack, kind=Closes).join(both=True)
    a, b = pair.clients
    a.send(b"bye")
    a.finish()
    assert (b.receive_all(), a.receive_all()) == (b"bye", b"")
    assert pair.reasons() == [None, None]


def test_a_reset_comes_behind_the_bytes_before_it(pair):
    a, b = pair.join().clients
    sent = a.fill(DATA * 60)
    a.reset()
    got: list[int] = []
    with pytest.raises(ConnectionResetError):
        got.extend(iter(lambda: len(b.socket.recv(1 << 20)), 0))
    # The rest was still in the sender's own kernel.
    assert 0 < sum(got) <= sent
    assert pair.reasons() == [ConnectionResetError, ConnectionAbortedError]


@pytest.mark.parametrize("both", [False, True])
def test_a_reader_that_resets_resets_the_sender(pair, both):
    a, b = pair.join(both=both).clients
    sent = a.fill(DATA * 60)
    b.reset()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        a.send((DATA * 60)[sent:])
    first, second = pair.reasons()
    assert first is ConnectionAbortedError
    assert second in (ConnectionResetError, BrokenPipeError)


@pytest.mark.parametrize("side", [0, 1])
def test_close_ends_the_other_side_in_order(pair, side):
    a, b = pair.join().clients
    a.send(b"x")
    assert b.receive(1) == b"x"
    one = (pair.a, pair.b)[side]
    on_poller(one, one.close)
    assert (a.receive_all(), b.receive_all()) == (b"", b"")
    a.close()
    b.close()
    assert pair.reasons() == [None, None]


@pytest.mark.parametrize("side", [0, 1])
def test_abort_and_errors_reset_the_other_side(pair, side):
    a, b = pair.join().clients
    one = (pair.a, pair.b)[side]
    on_poller(one, one.abort)
    for client in (a, b):
        with pytest.raises(ConnectionResetError):
            client.receive_all()
    assert pair.reasons() == [ConnectionAbortedError, ConnectionAbortedError]


def test_unread_input_is_passed_on_when_the_connection_closes_at_once(pair):
    a, b = pair.clients
    a.send(b"unread")
    pair.events[0].until("waits")

    def join_and_close() -> None:
        pair.a.pipe_to(pair.b)
        pair.a.close()

    on_poller(pair.a, join_and_close)
    assert b.receive_all() == b"unread"


def test_a_stop_sends_what_waits(stack):
    pair = Pair(stack, **SMALL_BUFFERS).join()
    a, b = pair.clients
    sent = a.fill(DATA * 60)
    stopping = in_thread(lambda: pair.reactor.stop(grace=PATIENCE))
    got, _ = b.hash_all()
    stopping.result(PATIENCE)
    # The rest was in the kernel of the side that the stop has closed.
    assert 0 < got <= sent
    assert pair.reasons() == [None, None]


def test_a_stop_does_not_wait_longer_than_its_grace(pair):
    a, _ = pair.join(both=True).clients
    a.fill(DATA * 60)
    pair.reactor.stop(grace=0.2)
    pair.reactor.join(PATIENCE)
    # One side had nothing to send.
    assert pair.reasons() == [None, ConnectionAbortedError]


# ---- limits -------------------------------------------------------------------------------------------------------


def test_piped_bytes_are_activity_and_silence_ends_both(stack):
    pair = Pair(stack, idle_timeout=0.4).join()
    a, b = pair.clients
    for _ in range(8):
        a.send(b"tick")
        assert b.receive(4) == b"tick"
        assert pair.events[0].names == ["open"]
        threading.Event().wait(0.1)
    assert set(pair.reasons()) <= {goev.IdleTimeout, ConnectionAbortedError}


def test_a_reader_that_takes_nothing_is_ended_by_write_timeout(stack):
    pair = Pair(stack, write_timeout=0.3).join()
    a, _ = pair.clients
    with suppress(ConnectionResetError):  # on a busy machine the end comes while the client still sends
        a.fill(DATA * 60)
    assert pair.reasons() == [ConnectionAbortedError, goev.WriteTimeout]


# ---- descriptors --------------------------------------------------------------------------------------------------


def test_pipes_are_few_and_none_is_lost():
    before = settled_fds()
    for _ in range(3):
        with ExitStack() as stack:
            stall_and_reset(stack, 2)
    eventually(lambda: settled_fds() <= before, "all descriptors are closed")


def stall_and_reset(stack: ExitStack, count: int) -> None:
    """Fill pipes of readers that read nothing, and reset half of them."""
    events = Events()
    server = Server(stack, lambda: End(events), **SMALL_BUFFERS)
    ends = []
    for _ in range(2 * count):
        client = server.connect()
        ends.append((events.until("open")[1], client))
    pairs = list(zip(ends[::2], ends[1::2], strict=True))
    for (a, _), (b, _) in pairs:
        on_poller(a, a.pipe_to, b)
    idle = open_fds()
    for (_, sender), _ in pairs:
        assert sender.fill(DATA * 60) < 60 << 20
    assert 0 < open_fds() - idle <= 2 * count
    for _, (_, reader) in pairs[::2]:
        reader.reset()
    events.times("close", count)
    eventually(lambda: open_fds() <= idle, "pipes and sockets are closed")
    server.reactor.stop(grace=0)
    server.reactor.join(PATIENCE)


SHORT = """
    import os, resource, signal, sys
    import goev

    if "mortal" in sys.argv:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)

    class End(goev.Connection):
        waiting = None

        def on_open(self):
            if End.waiting is None:
                End.waiting = self
                return
            End.waiting.pipe_to(self)
            End.waiting = None

    with goev.Reactor(pollers=1) as reactor:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", End)
        reactor.start()
        print(acceptor.address[1])
        sys.stdin.readline()
        most = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        print("short")
        sys.stdin.readline()
"""


def test_without_descriptors_bytes_are_copied(stack):
    child = stack.enter_context(Child.running(SHORT))
    address = ("127.0.0.1", int(child.line()))
    a = stack.enter_context(Client(address))
    b = stack.enter_context(Client(address))
    a.send(b"x")
    assert b.receive(1) == b"x"
    child.say("now")
    assert child.line() == "short"
    sending = in_thread(lambda: (a.send(DATA * 40), a.finish()))
    assert receives_all(b, DATA * 40)
    sending.result(PATIENCE)
    b.close()
    child.say("end")
    assert (child.end(), child.complaints) == (0, "")


def test_a_vanished_reader_does_not_end_a_program_that_sigpipe_would_end(stack):
    child = stack.enter_context(Child.running(SHORT, "mortal"))
    address = ("127.0.0.1", int(child.line()))
    for _ in range(3):
        with Client(address) as a, Client(address) as b:
            sent = a.fill(DATA * 60)
            # Behind its FIN, a reset is EPIPE for a writer.
            b.finish()
            b.reset()
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                a.send((DATA * 60)[sent:])
    child.say("now")
    assert child.line() == "short"
    child.say("end")
    assert (child.end(), child.complaints) == (0, "")


# ---- refusals -----------------------------------------------------------------------------------------------------


def refused(pair: Pair, kind: type[Exception], *words: str, call: Any) -> None:
    with pytest.raises(kind) as caught:
        on_poller(pair.a, call)
    assert all(word in str(caught.value) for word in words), caught.value


def test_refused_calls(pair):
    a, b = pair.a, pair.b
    refused(pair, ValueError, "itself", call=lambda: a.pipe_to(a))
    refused(pair, TypeError, call=lambda: a.pipe_to(None))
    refused(pair, goev.ConnectionClosed, "other", "not open yet", call=lambda: a.pipe_to(goev.Connection()))
    with pytest.raises(goev.WrongThread, match="pipe_to"):
        a.pipe_to(b)
    pair.join()
    refused(pair, RuntimeError, "already", call=lambda: a.pipe_to(b))
    for call in (a.read, lambda: a.read_until(b"\n"), lambda: a.hand_over(End(Events()))):
        refused(pair, RuntimeError, call=call)
    refused(pair, RuntimeError, "piped", call=b.shutdown_write)
    refused(pair, RuntimeError, "piped", call=lambda: b.hand_over(End(Events())))
    refused(pair, RuntimeError, "protocol", call=lambda: a.start_tls(goev.tls.ClientContext(), server_name="x"))


def test_a_second_connection_for_the_same_output_is_refused(pair, stack):
    pair.join()
    events = Events()
    acceptor = goev.Acceptor(pair.reactor, "127.0.0.1:0", lambda: End(events))
    stack.enter_context(Client(acceptor.address))
    third = events.until("open")[1]
    refused(pair, RuntimeError, "other", "already", call=lambda: third.pipe_to(pair.b))


def test_closed_connections_are_refused(pair):
    on_poller(pair.b, pair.b.close)
    refused(pair, goev.ConnectionClosed, "other", call=lambda: pair.a.pipe_to(pair.b))
    refused(pair, goev.ConnectionClosed, call=lambda: pair.b.pipe_to(pair.a))


def test_a_write_side_that_is_shut_down_is_refused(pair):
    on_poller(pair.b, pair.b.shutdown_write)
    refused(pair, RuntimeError, "other", "shut down", call=lambda: pair.a.pipe_to(pair.b))


def test_another_poller_is_refused(stack):
    events = Events()
    server = Server(stack, lambda: End(events), pollers=2)
    handlers = []
    for _ in range(2):
        server.connect()
        handlers.append(events.until("open")[1])
    with pytest.raises(ValueError, match="same poller"):
        on_poller(handlers[0], handlers[0].pipe_to, handlers[1])


class OwnFraming:
    def feed(self, data: bytes) -> list[bytes]:
        return [data]

    def frame(self, message: bytes) -> bytes:
        return message


@pytest.mark.parametrize("framing", [goev.Delimited(), OwnFraming], ids=["core", "own"])
def test_a_connection_with_messages_is_refused_but_may_be_written(stack, framing):
    class Messages(Recorder):
        pass

    Messages.framing = framing  # type: ignore[assignment]
    pair = Pair(stack, kind=Messages)
    refused(pair, RuntimeError, "read by", call=lambda: pair.a.pipe_to(pair.b))


def test_http_is_refused_on_both_sides(stack, pair):
    class Site(goev.http.Connection):
        def on_open(self) -> None:
            events("open", self)

    events = Events()
    acceptor = goev.Acceptor(pair.reactor, "127.0.0.1:0", Site)
    stack.enter_context(Client(acceptor.address))
    site = events.until("open")[1]
    refused(pair, RuntimeError, "protocol", call=lambda: site.pipe_to(pair.a))
    refused(pair, RuntimeError, "other", "protocol", call=lambda: pair.a.pipe_to(site))


# ---- without sockets ----------------------------------------------------------------------------------------------


def test_handlers_in_memory_are_piped_too():
    clock = goev.testing.Clock()
    a, b = End(Events()), End(Events())
    first = goev.testing.open(a, clock=clock)
    second = goev.testing.open(b, clock=clock)
    first.receive(b"early ")

    class Joins(goev.Connection):
        def on_open(self) -> None:
            a.pipe_to(b)

    goev.testing.open(Joins(), clock=clock)
    first.receive(b"late")
    assert second.sent() == b"early late"
    second.take_only(2)
    first.receive(b"slow")
    assert second.sent() == b"sl"
    second.take_only(None)
    assert second.sent() == b"ow"
    first.eof()
    assert not first.closed
    second.reset()
    assert (first.closed, second.closed) == (True, True)
    assert isinstance(first.close_error, ConnectionAbortedError)
