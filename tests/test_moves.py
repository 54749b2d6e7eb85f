"""Connections that move between the pollers of a reactor, by themselves or asked by a test."""

import contextvars
import os
import selectors
import socket
import ssl
import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest

import goev
from certificates import Authority
from goev._core import _current_poller
from support import LOCAL, PATIENCE, Events, eventually
from websocket_support import handshake, text

VALUE = contextvars.ContextVar("VALUE")


class Mover(goev.Connection):
    """Says the number of its poller for each byte; ``m`` asks the other poller to take the connection."""

    def __init__(self, events):
        super().__init__()
        self.events = events

    def on_open(self):
        VALUE.set(id(self))
        self.say()

    def on_read(self):
        for command in self.read():
            if command == ord("m"):
                self.events("asked", self._move_to(1 - _current_poller()))
            elif command == ord("x"):
                self.events("extra", self.extra())
            self.say()

    def on_close(self, error):
        self.events("close", _current_poller(), error, VALUE.get(None) == id(self))

    def say(self):
        self.write(b"%d" % _current_poller())

    def extra(self):
        """More that a test has a callback do."""


class World:
    """A reactor of two pollers with handlers of this class, and clients."""

    def __init__(self, stack, handler=Mover, **options):
        self.events = Events()
        self.handlers = []
        self.stack = stack
        self.reactor = stack.enter_context(goev.Reactor(pollers=2))

        def make():
            self.handlers.append(handler(self.events))
            return self.handlers[-1]

        self.acceptor = goev.Acceptor(self.reactor, LOCAL, make, **options)
        self.reactor.start()

    def client(self):
        client = self.stack.enter_context(socket.create_connection(self.acceptor.address, PATIENCE))
        return client, int(client.recv(1))


@pytest.fixture
def world(stack):
    return lambda *args, **options: World(stack, *args, **options)


def ask(client, command=b"."):
    client.sendall(command)
    return int(client.recv(1))


def move(client, home):
    """Have the connection move; returns its new poller."""
    assert ask(client, b"m") == home
    return eventually(lambda: ask(client) != home, "it has moved") and 1 - home


def test_a_connection_that_moves_keeps_its_handler_its_context_and_its_life(world):
    world = world()
    client, home = world.client()
    for _ in range(5):
        home = move(client, home)
    client.close()
    assert world.events.until("close") == ("close", home, None, True)
    stats = world.reactor.stats()
    assert sum(poller["moved_here"] for poller in stats) == sum(poller["moved_away"] for poller in stats) == 5
    assert [poller["open"] for poller in stats] == [0, 0]


def test_a_stream_is_whole_over_many_moves(world):
    class Echo(Mover):
        def on_read(self):
            data = self.read()
            self.write(data)
            self._move_to(1 - _current_poller())

    world = world(Echo)
    client, _ = world.client()
    chunks = [b"%07d\n" % number * 100 for number in range(2000)]
    received = bytearray()
    for at, chunk in enumerate(chunks):
        client.sendall(chunk)
        while len(received) < 800 * (at - 3):  # some chunks are always on the way
            received += client.recv(65536)
    while len(received) < 800 * len(chunks):
        received += client.recv(65536)
    assert received == b"".join(chunks)
    assert sum(poller["moved_here"] for poller in world.reactor.stats()) > 10


def test_the_writes_of_each_thread_keep_their_order_over_moves(world):
    world = world()
    client, _ = world.client()
    [handler] = world.handlers
    threads, each = 4, 5000

    def write(name):
        for number in range(each):
            handler.write(b"%d %d\n" % (name, number))

    def go_on():
        if not all(done.is_set() for done in ended):
            handler._move_to(1 - _current_poller())
            time.sleep(0)
            handler.call_soon(go_on)

    ended = [threading.Event() for _ in range(threads)]

    def run(name):
        write(name)
        ended[name].set()

    handler.call_soon(go_on)
    writers = [threading.Thread(target=run, args=(name,)) for name in range(threads)]
    for writer in writers:
        writer.start()
    received = bytearray()
    while received.count(b"\n") < threads * each:
        received += client.recv(65536)
    for writer in writers:
        writer.join()
    numbers = {name: [] for name in range(threads)}
    for line in received.splitlines():
        name, number = line.split()
        numbers[int(name)].append(int(number))
    assert numbers == {name: list(range(each)) for name in range(threads)}


def test_calls_of_other_threads_run_where_the_connection_is(world):
    world = world()
    client, _ = world.client()
    [handler] = world.handlers
    calls, count = [], 2000

    def call(number):
        calls.append((number, handler.pending_input))  # raises WrongThread on another poller
        if number % 10 == 0:
            handler._move_to(1 - _current_poller())

    for number in range(count):
        handler.call_soon(call, number)
        if number % 100 == 0:
            eventually(lambda number=number: len(calls) > number - 100, "calls have run")
    eventually(lambda: len(calls) == count, "all calls have run")
    assert [number for number, _ in calls] == list(range(count))
    assert world.events.of("close") == []
    assert ask(client) in (0, 1)


def test_a_close_by_another_thread_comes_once_however_the_connection_moves(world):
    world = world()
    for _ in range(50):
        client, _ = world.client()
        handler = world.handlers[-1]
        handler.call_soon(lambda handler=handler: handler._move_to(1 - _current_poller()))
        handler.write(b"last")
        handler.close()
        data = b""
        while more := client.recv(100):
            data += more
        assert data == b"last"
    world.events.times("close", 50)
    assert all(event[2:] == (None, True) for event in world.events.of("close"))


def test_a_member_of_a_group_stays(world):
    world = world()
    group = goev.Group()
    client, home = world.client()
    group.add(world.handlers[0])
    assert stays(client, home)
    group.discard(world.handlers[0])
    assert move(client, home) == 1 - home


class Waits(Mover):
    """``w`` makes the callback wait until the test lets it go on."""

    def on_read(self):
        for command in self.read():
            if command == ord("w"):
                self.events("waits", self)
                self.gate.wait(PATIENCE)
            elif command == ord("m"):
                self.events("asked", self._move_to(1 - _current_poller()))
            else:
                self.say()


@contextmanager
def on_its_way(world):
    """A connection that has left its poller, and that its new poller, which waits in a callback, has not taken."""
    clients = [(*world.client(), world.handlers[-1]) for _ in range(4)]
    client, home, mover = clients[0]
    first, second = [other for other in clients if other[1] != home][:2]
    for _, _, blocker in (first, second):
        blocker.gate = threading.Event()
    first[0].sendall(b"w")
    world.events.until("waits")
    client.sendall(b"m")
    assert world.events.until("asked") == ("asked", True)
    second[0].sendall(b"w")
    first[2].gate.set()
    world.events.until("waits")
    eventually(lambda: world.reactor.stats()[home]["moved_away"] == 1, "it has left")
    yield client, mover
    second[2].gate.set()


def drain(client):
    received = b""
    while more := client.recv(1000):
        received += more
    return received


@pytest.mark.parametrize("end", ["close", "abort"])
def test_another_thread_ends_a_connection_on_its_way(world, end):
    world = world(Waits)
    with on_its_way(world) as (_client, mover):
        getattr(mover, end)()
        with pytest.raises(goev.ConnectionClosed):
            mover.write(b"late")
    assert world.events.until("close")[3]
    assert len(world.events.of("close")) == 1


@pytest.mark.parametrize("end", ["close", "abort"])
def test_another_thread_ends_a_connection_on_its_way_that_was_handed_over(world, end):
    class First(goev.Connection):
        def __init__(self, events):
            self.events = events

        def on_open(self):
            world.handlers[-1] = Waits(self.events)
            self.hand_over(world.handlers[-1])

    world = world(First)
    with on_its_way(world) as (_client, mover):
        getattr(mover, end)()
    assert world.events.until("close")[3]


def test_calls_and_writes_for_a_connection_on_its_way_keep_their_order(world):
    world = world(Waits)
    ran = []
    with on_its_way(world) as (client, mover):
        mover.call_soon(lambda: (ran.append(1), mover.write(b"first ")))
        mover.write(b"second ")
        mover.call_soon(lambda: ran.append(2))
        mover.write(b"third")
        mover.close()
    assert (drain(client), ran) == (b"first second third", [1, 2])


def test_one_that_joins_a_group_on_its_way_gets_every_message_behind_that(world):
    world = world(Waits)
    group = goev.Group()
    with on_its_way(world) as (client, mover):
        group.send(b"before ")
        group.add(mover)
        for number in range(3):
            group.send(b"%d " % number)
            mover.write(b"own %d " % number)
    received = b""
    while not received.endswith(b"own 2 "):
        received += client.recv(100)
    assert received == b"0 own 0 1 own 1 2 own 2 "
    assert mover in group


def test_a_call_for_a_connection_on_its_way_finds_its_handler(world):
    world = world(Waits)
    handed = []
    with on_its_way(world) as (client, mover):
        mover.call_soon(lambda: handed.append(mover.hand_over(Waits(world.events))))
    eventually(lambda: handed == [None], "it was handed over")
    assert ask(client) in (0, 1)


def test_a_poller_that_stands_still_gets_no_more_than_its_share(world):
    world = world(Waits)
    clients = {0: [], 1: []}
    while len(clients[0]) < 12 or not clients[1]:
        client, home = world.client()
        clients[home].append((client, world.handlers[-1]))
    blocking, blocker = clients[1][0]
    blocker.gate = threading.Event()
    blocking.sendall(b"w")
    world.events.until("waits")
    end = time.monotonic() + 0.5
    busy = [client for client, _ in clients[0][:12]]
    keep_busy(busy, until=lambda homes: time.monotonic() > end)
    assert world.reactor.stats()[1]["mailbox"] <= 6
    blocker.gate.set()
    homes = keep_busy(busy, until=lambda homes: homes.count(1) >= 1)
    assert homes.count(1) <= 6


class Page(goev.http.Connection):
    """Answers with the number of its poller: at once, or for ``/later`` by a thread."""

    def __init__(self, events):
        super().__init__()
        self.events = events

    def on_request(self, request):
        self.events("asked", self._move_to(1 - _current_poller()))
        if request.target == "/later":
            threading.Thread(target=request.respond, kwargs={"body": b"%d" % _current_poller()}).start()
        else:
            request.respond(body=b"%d" % _current_poller())


@pytest.mark.parametrize("path", ["/", "/later"])
def test_requests_are_answered_over_moves(world, path):
    world = world(Page)
    with socket.create_connection(world.acceptor.address, PATIENCE) as client:
        bodies = []
        for _ in range(200):
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            answer = b""
            while not answer.endswith((b"\r\n\r\n0", b"\r\n\r\n1")):
                answer += client.recv(1000)
            bodies.append(answer[-1:])
    # The request is under way when its callback asks, so the connection moves with none of them.
    assert {event[1] for event in world.events.of("asked")} == {False}
    assert len(set(bodies)) == 1


def test_a_request_in_pieces_keeps_its_connection(world):
    class Streamed(Page):
        def on_request(self, request):
            pass

        def on_body(self, request, data):
            self.events("asked", self._move_to(1 - _current_poller()))
            if not data:
                request.respond()

    world = world(Streamed)
    with socket.create_connection(world.acceptor.address, PATIENCE) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 20\r\n\r\n")
        for number in range(4):
            client.sendall(b"%05d" % number)
            world.events.times("asked", number + 1)
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert {event[1] for event in world.events.of("asked")} == {False}


def test_a_website_moves_between_two_requests(world):
    class Twice(Page):
        def on_request(self, request):
            request.respond(body=b"%d" % _current_poller())
            self.events("asked", self._move_to(1 - _current_poller()))

    world = world(Twice)
    with socket.create_connection(world.acceptor.address, PATIENCE) as client:
        bodies = set()
        for _ in range(100):
            client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 3)
            answer = b""
            while answer.count(b"\r\n\r\n") < 3 or not answer.endswith((b"\n0", b"\n1")):
                answer += client.recv(1000)
            bodies.update(answer[at + 4 : at + 5] for at in range(len(answer)) if answer[at : at + 4] == b"\r\n\r\n")
    assert bodies == {b"0", b"1"}


def test_a_websocket_moves_between_two_messages(world):
    class Chat(goev.websocket.Connection):
        def __init__(self, events):
            super().__init__()
            self.events = events

        def on_message(self, message):
            self.send(f"{message} {_current_poller()}")
            self._move_to(1 - _current_poller())

    world = world(Chat)
    with socket.create_connection(world.acceptor.address, PATIENCE) as client:
        client.sendall(handshake())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += client.recv(1)
        pollers = set()
        for number in range(200):
            client.sendall(text(f"{number:04}"))
            frame = client.recv(8, socket.MSG_WAITALL)
            assert frame[2:7] == b"%04d " % number
            pollers.add(frame[7:])
    assert pollers == {b"0", b"1"}


def test_tls_moves_with_its_connection(world):
    root = Authority()
    identity = root.issue("localhost")
    world = world(tls=goev.tls.ServerContext(identity.chain, identity.key))
    context = ssl.create_default_context(cadata=root.pem.decode())
    plain = socket.create_connection(world.acceptor.address, PATIENCE)
    with context.wrap_socket(plain, server_hostname="localhost") as client:
        home = int(client.recv(1))
        for _ in range(5):
            home = move(client, home)


class Bound(Mover):
    def __init__(self, events):
        super().__init__(events)
        self.kept = []


def stays(client, home):
    """Whether a connection that is asked to move is where it was."""
    return ask(client, b"m") == home and {ask(client) for _ in range(50)} == {home}


def test_a_timer_keeps_a_connection_and_its_end_frees_it(world):
    class Timed(Bound):
        def extra(self):
            if self.kept:
                self.kept.pop().cancel()
            else:
                self.kept.append(self.schedule(60, lambda: None))

    world = world(Timed)
    client, home = world.client()
    ask(client, b"x")
    assert stays(client, home)
    ask(client, b"x")
    assert move(client, home) == 1 - home


def test_both_ends_of_a_pipe_stay(world):
    world = world()
    (client, home), (first, first_home) = world.client(), world.client()
    if home != first_home:
        home = move(client, home)
    source, target = world.handlers
    moved = Events()
    source.call_soon(
        lambda: moved("asked", source.pipe_to(target), source._move_to(1 - home), target._move_to(1 - home))
    )
    assert moved.next() == ("asked", None, False, False)
    client.sendall(b"through")
    assert first.recv(7, socket.MSG_WAITALL) == b"through"


def test_a_handler_that_uses_its_poller_stays(world):
    class Calling(Bound):
        def extra(self):
            world.reactor.call_soon(lambda: None)

    class Connecting(Bound):
        def extra(self):
            goev.Connector(world.reactor).connect("{}:{}".format(*world.acceptor.address), Mover(self.events))

    make, uses = world, (Calling, Connecting)
    for handler in uses:
        world = make(handler)
        client, home = world.client()
        ask(client, b"x")
        assert stays(client, home), handler


@pytest.mark.parametrize("placement", ["round_robin", "least", "incoming_cpu", "source_address"])
def test_connections_of_another_placement_stay(world, placement):
    world = world(placement=placement)
    client, home = world.client()
    assert stays(client, home)
    assert world.events.of("asked") == [("asked", False)]


def test_a_stop_ends_connections_on_their_way_in_order_and_once(world):
    make = world
    for _ in range(10):
        world = make(linger_timeout=0.05)
        clients = [world.client()[0] for _ in range(20)]
        for client in clients:
            client.sendall(b"m" * 3)
        world.reactor.stop(grace=PATIENCE)
        world.reactor.join(PATIENCE)
        assert Counter(event[2:] for event in world.events.of("close")) == {(None, True): 20}


def test_an_acceptor_that_closes_finds_its_connections_wherever_they_are(world):
    world = world()
    clients = [world.client() for _ in range(10)]
    for client, home in clients:
        move(client, home)
    assert world.acceptor.stats()["open"] == 10
    for client, _ in clients:
        client.close()
    eventually(lambda: world.acceptor.stats()["open"] == 0, "all have ended")
    world.acceptor.close()


def test_ten_busy_connections_among_a_thousand_silent_ones_on_one_poller_spread(stack, world):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 5000:
        pytest.skip("needs 5,000 descriptors: raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 5000), hard))
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    world = world()
    clients = {0: [], 1: []}
    while len(clients[0]) < 1010:
        client, home = world.client()
        clients[home].append(client)
    for client in clients[1]:
        client.close()
    busy = clients[0][:10]
    homes = keep_busy(busy, until=lambda homes: min(homes.count(0), homes.count(1)) >= 4)
    assert sorted(homes.count(poller) for poller in (0, 1))[0] >= 4


@pytest.mark.parametrize("age", [0, 0.15], ids=["new", "not new"])
def test_connections_of_one_thread_come_together_while_it_changes_its_cpu(stack, world, age):
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
    world = world()
    homes = ([], [])
    while min(map(len, homes)) < 8:
        client, home = world.client()
        homes[home].append(client)
    # Most of a group are on one poller.
    groups = [homes[0][:6] + homes[1][:2], homes[0][6:8] + homes[1][2:8]]
    time.sleep(age)

    def ask_all(turn):
        """Ask each group from a CPU of its own; returns the pollers of each."""
        found = []
        for number, group in enumerate(groups):
            os.sched_setaffinity(0, {cpus[(turn + number) % 2]})
            found.append({ask(client) for client in group})
        return found

    begin = time.monotonic()

    def are_together():
        first, second = ask_all(turn=int((time.monotonic() - begin) / 0.02))
        return len(first) == len(second) == 1 and first != second

    eventually(are_together, "each group is on one poller")


def keep_busy(clients, until):
    """Ask all clients again and again; returns the pollers of their connections when the condition holds."""
    homes = dict.fromkeys(clients, -1)
    end = time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
            client.sendall(b".")
        while time.monotonic() < end and not until(list(homes.values())):
            for key, _ in selector.select(PATIENCE):
                homes[key.fileobj] = int(key.fileobj.recv(1))
                key.fileobj.sendall(b".")
        for client in clients:
            client.recv(1)
    return list(homes.values())
