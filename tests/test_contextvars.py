"""``contextvars``: each connection has values of its own, each request a copy of them.

Calls for later run with those of the code that asked for them.
"""

import contextvars
import functools
import gc
import socket
import threading
import weakref

import pytest

import goev
import goev.testing
from http_support import get, post_chunked
from support import Client, Events, held, on_poller, run_script, settle

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class Named(goev.Connection):
    """Takes its name when it opens, and tells it to its peer."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_open(self):
        who.set(self.name)

    def on_read(self):
        self.read()
        self.tell()

    def tell(self):
        self.write(who.get().encode() + b"\n")


def ask(client: Client, count: int) -> bytes:
    client.send(b"?")
    return client.receive(count)


@pytest.fixture
def clock():
    return goev.testing.Clock()


# ---- connections ---------------------------------------------------------------------------------------------------


def test_later_callbacks_of_a_connection_see_its_values_and_those_of_others_do_not(clock):
    ann, bob = (goev.testing.open(Named(name), clock=clock) for name in ("ann", "bob"))

    class Silent(Named):
        def on_open(self):
            pass

    third = goev.testing.open(Silent("third"), clock=clock)
    for _ in range(2):
        for peer, name in ((ann, b"ann\n"), (third, b"nobody\n"), (bob, b"bob\n")):
            peer.receive(b"?")
            assert peer.sent() == name
    assert who.get() == "nobody", "the thread of the test keeps its own"


def test_connections_of_one_batch_do_not_share_values(start):
    """The poller is held, so all input arrives in one batch."""
    names = iter(f"{number:02}" for number in range(20))
    server = start(lambda: Named(next(names)))
    clients = [server.connect() for _ in range(20)]
    for _ in range(3):
        with held(server.reactor):
            for client in clients:
                client.send(b"?")
        assert {client.receive(3) for client in clients} == {f"{number:02}\n".encode() for number in range(20)}


def test_every_kind_of_callback_sees_them(clock):
    seen = []

    class Sees(goev.Connection):
        framing = goev.Delimited()

        def on_open(self):
            seen.append(("on_open", who.get()))
            who.set("opened")

        def on_message(self, message):
            seen.append(("on_message", who.get()))
            who.set("told " + message.decode())

        def on_eof(self):
            seen.append(("on_eof", who.get()))
            return False

        def on_close(self, error):
            seen.append(("on_close", who.get()))

    peer = goev.testing.open(Sees(), clock=clock)
    peer.receive(b"1\n2\n")
    peer.eof()
    assert seen == [
        ("on_open", "nobody"),
        ("on_message", "opened"),
        ("on_message", "told 1"),
        ("on_eof", "told 2"),
        ("on_close", "told 2"),
    ]


def test_values_that_the_factory_sets_belong_to_the_connection(start):
    class Made(Named):
        def __init__(self):
            who.set("made")

        def on_open(self):
            pass

    server = start(Made)
    assert [ask(server.connect(), 5) for _ in range(2)] == [b"made\n"] * 2
    assert on_poller(server.reactor, who.get) == "nobody"


def test_a_token_of_an_earlier_callback_resets_its_variable(clock):
    class Resets(Named):
        def on_open(self):
            self.token = who.set("ann")

        def on_read(self):
            self.tell()
            who.reset(self.token)
            self.read()
            self.tell()

    peer = goev.testing.open(Resets("ann"), clock=clock)
    peer.receive(b"?")
    assert peer.sent() == b"ann\nnobody\n"


def test_an_exception_leaves_the_values_of_the_others_alone(clock, log):
    class Raises(Named):
        def on_read(self):
            who.set("raised")
            raise ZeroDivisionError

        def on_close(self, error):
            closed.append(who.get())

    closed: list[str] = []
    failing, other = (goev.testing.open(made, clock=clock) for made in (Raises("ann"), Named("bob")))
    failing.receive(b"?")
    assert closed == ["raised"]
    other.receive(b"?")
    assert other.sent() == b"bob\n"
    log.next()


def test_values_end_with_their_connection(clock):
    class Value:
        pass

    variable: contextvars.ContextVar[Value] = contextvars.ContextVar("variable")

    class Holds(goev.Connection):
        def on_open(self):
            variable.set(Value())
            alive.append(weakref.ref(variable.get()))
            self.schedule(60.0)

        def on_close(self, error):
            assert variable.get() is alive[-1]()

    alive: list[weakref.ref[Value]] = []
    for close in (goev.testing.Peer.eof, goev.testing.Peer.reset):
        peer = goev.testing.open(Holds(), clock=clock)
        assert alive[-1]() is not None
        close(peer)
        gc.collect()
        assert alive[-1]() is None


def test_a_handler_that_takes_over_goes_on_with_the_values(clock):
    class First(Named):
        def on_read(self):
            self.hand_over(Second("second"))
            who.set("changed since")

        def on_close(self, error):
            seen.append(who.get())

    class Second(Named):
        def on_open(self):
            seen.append(who.get())

    seen: list[str] = []
    peer = goev.testing.open(First("first"), clock=clock)
    peer.receive(b"?")
    peer.receive(b"?")
    assert seen == ["changed since"] * 2
    assert peer.sent() == b"changed since\n" * 2


def test_a_connection_that_is_made_starts_with_the_values_of_the_code_that_asked_for_it(start, reactor, events):
    class Tells(goev.Connection):
        def on_open(self):
            events("open", who.get())

        def on_connect_fail(self, error):
            events("fail", who.get())

    server = start(goev.Connection)

    def connect(port):
        who.set("asked")
        goev.Connector(reactor).connect(f"127.0.0.1:{port}", Tells())

    for port, event in ((server.address[1], "open"), (1, "fail")):
        reactor.call_soon(connect, port)
        assert events.next() == (event, "asked")
        contextvars.Context().run(connect, port)
        assert events.next() == (event, "asked")


def test_descriptors_and_datagrams_have_values_of_their_own(reactor, events, stack):
    class Echo(goev.Datagram):
        def on_open(self):
            who.set("datagrams")

        def on_datagram(self, data, address):
            events("datagram", who.get())

    class Pipe(goev.EventHandler):
        def on_read(self):
            ours.recv(100)
            before = who.get()
            who.set("pipe")
            events("pipe", before)
            return before == "nobody"

    echo = Echo()
    echo.bind(reactor, "127.0.0.1:0")
    ours, theirs = map(stack.enter_context, socket.socketpair())
    on_poller(reactor, lambda: reactor.add(Pipe(), ours, goev.EV_IN))
    theirs.send(b"x")
    assert events.next() == ("pipe", "nobody")
    client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client.sendto(b"x", on_poller(reactor, lambda: echo.local_address))
    assert events.next() == ("datagram", "datagrams")
    theirs.send(b"x")
    assert events.next() == ("pipe", "pipe")


# ---- requests ------------------------------------------------------------------------------------------------------


class Asked(goev.http.Connection):
    """A request for ``/name`` takes the name; every answer tells the name before and after."""

    def on_request(self, request):
        before = who.get()
        if request.path != "/":
            who.set(request.path[1:])
        request.respond(200, None, f"{before} {who.get()}".encode())


def test_a_request_does_not_see_the_values_of_another(clock):
    peer = goev.testing.open(Asked(), clock=clock)
    assert peer.ask("GET", "/ann").body == b"nobody ann"
    assert peer.ask("GET", "/").body == b"nobody nobody"
    peer.receive(get("/bob") + get() + get("/ann"))
    assert [peer.answer().body for _ in range(3)] == [b"nobody bob", b"nobody nobody", b"nobody ann"]


def test_a_request_begins_with_the_values_of_its_connection(clock):
    class Opened(Asked):
        def on_open(self):
            who.set("opened")

    peer = goev.testing.open(Opened(), clock=clock)
    peer.receive(get("/bob") + get())
    assert [peer.answer().body for _ in range(2)] == [b"opened bob", b"opened opened"]


@pytest.mark.parametrize("opened", ["nobody", "opened"])
def test_the_pieces_of_a_body_see_the_values_of_their_request(clock, opened):
    class Pieces(goev.http.Connection):
        def on_open(self):
            if opened != "nobody":
                who.set(opened)

        def on_request(self, request):
            seen.append(who.get())
            who.set(request.path)

        def on_body(self, request, data):
            seen.append(who.get())
            if not data:
                request.respond(200)

    seen: list[str] = []
    peer = goev.testing.open(Pieces(), clock=clock)
    other = goev.testing.open(Asked(), clock=clock)
    data = post_chunked("/first", b"1", b"2")
    peer.receive(data[:-8])
    assert other.ask("GET", "/").body == b"nobody nobody"
    peer.receive(data[-8:] + post_chunked("/second"))
    assert seen[:3] == [opened, "/first", "/first"]
    assert seen[-2:] == [opened, "/second"]


def test_later_calls_of_a_request_see_its_values(start, events):
    class Later(goev.http.Connection):
        def on_request(self, request):
            who.set(request.path)
            self.schedule(0.0, lambda: events("timer", who.get()))
            self.call_soon(lambda: events("call_soon", who.get()))
            self.run_in_executor(None, int, then=lambda future: events("then", who.get()))
            who.set("changed since")
            request.respond(200)

    client = start(Later).connect()
    client.send(get("/ann") + get("/bob"))
    events.times("timer", 2)
    events.times("then", 2)
    for event in ("timer", "call_soon", "then"):
        assert {name for _, name in events.of(event)} == {"/ann", "/bob"}


def test_a_websocket_goes_on_with_the_values_of_the_request_that_upgraded(clock):
    class Door(goev.http.Connection):
        def on_request(self, request):
            who.set("signed in")
            goev.websocket.upgrade(request, Socket())

    class Socket(goev.websocket.Connection):
        def on_message(self, message):
            self.send(who.get())

    peer = goev.testing.open(Door(), clock=clock)
    peer._shake_hands("/", ())
    peer.send("who?")
    assert peer.messages() == ["signed in"]


# ---- calls for later -----------------------------------------------------------------------------------------------


def test_a_timer_sees_the_values_of_the_code_that_set_it(clock):
    seen = []

    class Sets(goev.Connection):
        def on_open(self):
            self.schedule(1.0, lambda: seen.append(who.get()))
            who.set("opened")
            self.schedule(2.0, lambda: seen.append(who.get()))
            self.reactor.schedule(3.0, lambda: seen.append(who.get()))
            who.set("changed since")

    goev.testing.open(Sets(), clock=clock)
    clock.advance(5)
    assert seen == ["nobody", "opened", "opened"]


def test_a_repeating_timer_keeps_the_values_that_it_sets(clock):
    seen = []

    def tick():
        seen.append(who.get())
        who.set(who.get() + "!")

    class Sets(goev.Connection):
        def on_open(self):
            who.set("tick")
            self.schedule(1.0, tick, every=1.0)

    peer = goev.testing.open(Sets(), clock=clock)
    clock.advance(3)
    peer.eof()
    assert seen == ["tick", "tick!", "tick!!"]


def test_calls_without_values_do_not_see_those_of_the_call_before(reactor):
    def call():
        before = who.get()
        who.set("set by a call")
        return before

    assert [on_poller(reactor, call) for _ in range(3)] == ["nobody"] * 3


def test_calls_from_other_threads_bring_the_values_of_their_threads(reactor):
    assert contextvars.Context().run(lambda: (who.set("caller"), on_poller(reactor, who.get))[1]) == "caller"
    assert on_poller(reactor, who.get) == "nobody"
    events = Events()
    contextvars.Context().run(lambda: (who.set("timer"), reactor.schedule(0.0, lambda: events(who.get()))))
    assert events.next() == ("timer",)


def test_many_threads_and_connections(start):
    """Values of each of many connections, with calls from other threads amid."""
    names = iter(f"{number:03}" for number in range(60))
    server = start(lambda: Named(next(names)), pollers=2)
    clients = [server.connect() for _ in range(60)]

    def calls():
        for _ in range(300):
            contextvars.Context().run(lambda: (who.set("call"), server.reactor.call_soon(who.set, "called")))

    caller = threading.Thread(target=calls)
    caller.start()
    first = [ask(client, 4) for client in clients]
    for _ in range(10):
        assert [ask(client, 4) for client in clients] == first
    assert len(set(first)) == 60
    caller.join()
    settle(server.reactor)


# ---- run() in a thread that has values ------------------------------------------------------------------------------

INHERITS = """
    import contextvars, http.client, threading
    import goev, goev.http

    who = contextvars.ContextVar("who", default="nobody")
    who.set("main")
    seen = []

    class Request(goev.http.Connection):
        def on_open(self):
            who.set(who.get() + " opened")
        def on_request(self, request):
            who.set(who.get() + " asked")
            self.reactor.call_soon(lambda: seen.append(who.get() + " later"))
            request.respond(200, None, who.get().encode())

    def ask():
        client = http.client.HTTPConnection(*acceptor.address)
        for _ in range(2):
            client.request("GET", "/")
            seen.append(client.getresponse().read().decode())
        client.close()
        reactor.call_soon(lambda: seen.append(who.get()))
        reactor.stop()

    reactor = goev.Reactor()
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Request)
    threading.Thread(target=contextvars.Context().run, args=(ask,)).start()
    reactor.run()
    print(sorted(seen), who.get())
"""


def test_connections_of_run_copy_the_values_of_its_thread():
    asked = "main opened asked"
    printed = str(sorted([asked, asked, asked + " later", asked + " later", "nobody"])) + " main"
    assert run_script(INHERITS) == printed


def without_values(test):
    """Runs a test in an empty context, because pytest has values in its own."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        return contextvars.Context().run(test, *args, **kwargs)

    return run


@without_values
def test_a_repeating_timer_keeps_its_values_also_if_it_began_without_any(clock):
    seen = []

    def tick():
        seen.append(who.get())
        who.set(who.get() + "!")

    class Schedules(goev.Connection):
        def on_open(self):
            self.schedule(1.0, tick, every=1.0)

    peer = goev.testing.open(Schedules(), clock=clock)
    clock.advance(3)
    peer.eof()
    clock.reactor.schedule(1.0, tick, every=1.0)
    clock.advance(2)
    assert seen == ["nobody", "nobody!", "nobody!!", "nobody", "nobody!"]


class SetsWhenDropped:
    """A function whose finalizer sets a value."""

    def __call__(self):
        pass

    def __del__(self):
        who.set("a finalizer")


class Tells(goev.Connection):
    def on_read(self):
        self.write(self.read() + who.get().encode())


def test_the_finalizer_of_a_cancelled_callback_leaves_no_value_to_the_next_connection(reactor, stack):
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Tells)
    client = stack.enter_context(socket.create_connection(acceptor.address, 10))
    for _ in range(3):
        timer = reactor.schedule(60, SetsWhenDropped())
        # Both come in one batch, or in two: the value must be seen in neither.
        on_poller(reactor, lambda: None)
        timer.cancel()
        client.sendall(b"it is ")
        assert client.recv(100) == b"it is nobody"


@without_values
def test_the_finalizer_of_a_value_leaves_no_value_to_the_next_request(clock):
    kept = contextvars.ContextVar("kept")

    class Keeps(goev.http.Connection):
        def on_request(self, request):
            kept.set(SetsWhenDropped())
            request.respond(200, None, who.get().encode())

    peer = goev.testing.open(Keeps(), clock=clock)
    peer.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
    assert [peer.answer().body for _ in range(3)] == [b"nobody"] * 3
