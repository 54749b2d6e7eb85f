"""``Reactor.adopt`` makes a connection of a connected socket: a pair, an accepted, received or inherited one."""

import errno
import os
import socket
import ssl
import time
from functools import partial
from textwrap import dedent
from threading import get_ident

import pytest

import goev
from support import (
    PATIENCE,
    Echo,
    Recorder,
    eventually,
    in_thread,
    need_ipv6,
    on_poller,
    run_script,
    settle,
    settled_fds,
)


class Adopted(Recorder):
    def on_open(self):
        self.events("open", self, get_ident())

    def on_connect_fail(self, error):
        self.events("fail", error)


@pytest.fixture
def pair(stack):
    """``pair()``: two connected Unix sockets."""

    def make() -> tuple[socket.socket, socket.socket]:
        ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
        theirs.settimeout(PATIENCE)
        return ours, theirs

    return make


@pytest.fixture
def tcp(stack):
    """``tcp()``: two connected TCP sockets, the accepted one first."""

    def make(family: int = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        with socket.create_server((host, 0), family=family) as listener:
            client = stack.enter_context(socket.create_connection(listener.getsockname()[:2], PATIENCE))
            return stack.enter_context(listener.accept()[0]), client

    return make


def test_a_socketpair_is_a_connection(reactor, events, pair):
    ours, theirs = pair()
    reactor.adopt(Adopted(events), ours)
    connection = events.until("open")[1]
    theirs.sendall(b"hello")
    assert events.next() == ("read", b"hello")
    connection.write(b"world")
    assert theirs.recv(5) == b"world"
    assert connection.remote_address == ""
    theirs.close()
    assert events.until("close") == ("close", None)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_tcp_socket_keeps_its_addresses(reactor, events, tcp, family):
    if family == socket.AF_INET6:
        need_ipv6()
    ours, theirs = tcp(family)
    reactor.adopt(Adopted(events), ours)
    connection = events.until("open")[1]
    assert connection.remote_address == theirs.getsockname()
    assert on_poller(connection, lambda: connection.local_address) == theirs.getpeername()


def test_a_descriptor_number_is_taken_too(reactor, events, pair):
    ours, theirs = pair()
    reactor.adopt(Adopted(events), ours.fileno())
    events.until("open")
    theirs.sendall(b"x")
    assert events.next() == ("read", b"x")


def test_input_that_came_before_is_delivered(reactor, events, pair):
    ours, theirs = pair()
    theirs.sendall(b"early")
    theirs.close()
    reactor.adopt(Adopted(events), ours)
    assert [events.next()[0], events.next(), events.next()] == ["open", ("read", b"early"), ("close", None)]


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("end", ["close", "abort"])
def test_the_peer_sees_the_end_whether_the_user_keeps_the_object_or_not(reactor, events, tcp, kept, end):
    ours, theirs = tcp()
    reactor.adopt(Adopted(events), ours)
    connection = events.until("open")[1]
    if not kept:
        ours.close()
    on_poller(connection, getattr(connection, end))
    if end == "close":
        assert theirs.recv(1) == b""
    else:
        with pytest.raises(ConnectionResetError):
            theirs.recv(1)


@pytest.mark.parametrize("make", ["pair", "tcp"])
def test_the_peer_sees_our_end_after_its_own(reactor, request, make):
    """The socket is closed then, with nothing to shut down before, and the user's copy would keep it open."""
    ours, theirs = request.getfixturevalue(make)()
    reactor.adopt(Echo(), ours)
    theirs.sendall(b"x")
    assert theirs.recv(1) == b"x"
    theirs.shutdown(socket.SHUT_WR)
    assert theirs.recv(1) == b""


def test_on_open_never_comes_inside_the_call(reactor, events, pair):
    ours, _ = pair()

    def adopt() -> None:
        reactor.adopt(Adopted(events), ours)
        events("returned")

    on_poller(reactor, adopt)
    assert [events.next()[0], events.next()[0]] == ["returned", "open"]


def test_pollers_take_turns_but_a_callback_keeps_its_own(events, pair):
    with goev.Reactor(pollers=3) as reactor:
        reactor.start()
        for _ in range(6):
            reactor.adopt(Adopted(events), pair()[0], linger_timeout=0)
        events.times("open", 6)
        threads = [event[2] for event in events.of("open")]
        assert sorted(threads.count(thread) for thread in set(threads)) == [2, 2, 2]
        for _ in range(3):
            connection = events.history[0][1]
            own = on_poller(connection, get_ident)
            on_poller(connection, partial(reactor.adopt, Adopted(events), pair()[0], linger_timeout=0))
            events.times("open", len(threads) + 1)
            threads.append(events.of("open")[-1][2])
            assert threads[-1] == own


def test_from_any_thread_and_before_the_start(events, pair):
    with goev.Reactor(pollers=2) as reactor:
        ends = [pair() for _ in range(8)]
        for ours, _ in ends:
            in_thread(lambda ours=ours: reactor.adopt(Echo(), ours, linger_timeout=0)).result(PATIENCE)
        for _, theirs in ends:
            theirs.sendall(b"early")
        reactor.start()
        assert all(theirs.recv(5) == b"early" for _, theirs in ends)
        assert sum(poller["accepted"] for poller in reactor.stats()) == 8


def test_its_options_are_those_of_other_connections(reactor, events, tcp):
    ours, theirs = tcp()
    reactor.adopt(Adopted(events), ours, nodelay=False, first_byte_timeout=0.05, max_input=10)
    connection = events.until("open")[1]
    with socket.socket(fileno=os.dup(ours.fileno())) as copy:
        assert copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert isinstance(events.until("close")[1], goev.FirstByteTimeout)
    assert theirs.recv(1) == b""
    assert connection.remote_address == theirs.getsockname()


def test_limits_count_from_the_adoption_not_from_the_beginning_of_the_callback(reactor, events, pair):
    """A callback that took long has not used up the time of a connection that it adopts."""
    ours, theirs = pair()
    theirs.sendall(b"x")

    def late() -> None:
        time.sleep(0.2)  # the callback takes longer than the limit
        reactor.adopt(Adopted(events), ours, first_byte_timeout=0.1)

    on_poller(reactor, late)
    assert [events.next()[0], events.next()] == ["open", ("read", b"x")]


# --- protocols ---


class Hello(goev.http.Connection):
    def on_request(self, request):
        request.respond(body=b"hello")


def test_http_is_served_on_it(reactor, pair):
    ours, theirs = pair()
    reactor.adopt(Hello(), ours)
    theirs.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"".join(iter(lambda: theirs.recv(4096), b"")).endswith(b"\r\n\r\nhello")


def test_a_websocket_is_served_on_it_after_the_handshake(reactor, events, tcp):
    class Talks(goev.websocket.Connection):
        def on_open(self):
            events("open", self.request.path)

    ours, theirs = tcp()
    reactor.adopt(Talks(), ours)
    fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    theirs.sendall(f"GET /chat HTTP/1.1\r\nHost: x\r\n{fields}{key}".encode())
    assert theirs.recv(4096).startswith(b"HTTP/1.1 101 ")
    assert events.next() == ("open", "/chat")


# --- wrong arguments ---


def wrong(kind: str, stack) -> object:
    if kind == "text":
        return "127.0.0.1:80"
    if kind == "none":
        return None
    if kind == "pipe":
        reading, writing = os.pipe()
        os.close(writing)
        return stack.enter_context(os.fdopen(reading))
    if kind == "pairs of packets":
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.enter_context(ends[1])
        return stack.enter_context(ends[0])
    made = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM if kind == "datagrams" else socket.SOCK_STREAM))
    if kind != "fresh":
        made.bind(("127.0.0.1", 0))
    if kind == "listening":
        made.listen()
    if kind == "tls":
        return stack.enter_context(ssl.create_default_context().wrap_socket(made, server_hostname="x"))
    if kind == "closed":
        made.close()
    return made


@pytest.mark.parametrize(
    ("kind", "error", "why"),
    [
        ("text", TypeError, r"sock must be an int or have fileno\(\), not str"),
        ("none", TypeError, "not NoneType"),
        ("pipe", ValueError, "sock: descriptor .* is no socket"),
        ("pairs of packets", ValueError, "neither a stream nor a datagram socket"),
        ("datagrams", ValueError, r"sock: .* is a datagram socket, which Datagram.bind\(\) takes"),
        ("fresh", ValueError, "sock: the socket is not connected"),
        ("bound", ValueError, "is not connected"),
        ("listening", ValueError, "listens; an Acceptor takes such sockets"),
        ("tls", TypeError, "SSLSocket"),
        ("closed", ValueError, "open descriptor"),
    ],
)
def test_what_is_no_connected_stream_socket_is_refused_by_name(idle, events, pair, stack, kind, error, why):
    given, handler = wrong(kind, stack), Adopted(events)
    before = settled_fds()
    with pytest.raises(error, match=why):
        idle.adopt(handler, given)
    assert settled_fds() <= before
    idle.adopt(handler, pair()[0])  # it is still unused


def test_a_connection_that_was_reset_already_is_an_os_error(idle, events, tcp):
    ours, theirs = tcp()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    with pytest.raises(OSError, match="has ended") as raised:
        idle.adopt(Adopted(events), ours)
    assert raised.value.errno == errno.ECONNRESET


def test_an_acceptor_refuses_connected_sockets_and_those_of_ssl(idle, tcp, stack):
    with pytest.raises(ValueError, match=r"address: the socket is connected; Reactor.adopt\(\) takes"):
        goev.Acceptor(idle, tcp()[0], Echo)
    with pytest.raises(TypeError, match="SSLSocket"):
        goev.Acceptor(idle, wrong("tls", stack), Echo)


def test_a_handler_serves_one_connection_once(reactor, events, pair):
    handler = Adopted(events)
    reactor.adopt(handler, pair()[0])
    with pytest.raises(ValueError, match="handler"):
        reactor.adopt(handler, pair()[0])
    with pytest.raises(TypeError):
        reactor.adopt(object(), pair()[0])


@pytest.mark.parametrize(
    ("options", "error"), [({"no_such": 1}, TypeError), ({"max_input": 0}, ValueError), ({"keepalive": 1}, TypeError)]
)
def test_wrong_options_leave_socket_and_handler_alone(reactor, events, pair, options, error):
    ours, _ = pair()
    handler = Adopted(events)
    with pytest.raises(error):
        reactor.adopt(handler, ours, **options)
    assert os.get_blocking(ours.fileno())
    reactor.adopt(handler, ours)
    events.until("open")


# --- stops ---


def test_a_stopped_reactor_takes_no_socket(events, pair):
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
    with pytest.raises(RuntimeError, match="stopped"):
        reactor.adopt(Adopted(events), pair()[0])


def test_adopted_while_the_reactor_stops_it_is_refused_or_told(events, pair):
    for number in range(30):
        reactor, (ours, theirs) = goev.Reactor(pollers=1), pair()
        reactor.start()
        stopping = in_thread(reactor.stop)
        try:
            reactor.adopt(Adopted(events), ours, linger_timeout=0)
        except RuntimeError:
            events("fail", None)
        stopping.result(PATIENCE)
        reactor.join(5)
        ours.close()
        assert theirs.recv(1) == b""
        assert len(events.of("fail")) + len(events.of("close")) == number + 1


def test_a_reactor_that_never_runs_leaves_nothing_open(events, pair):
    ours, _ = pair()
    before = settled_fds()
    reactor = goev.Reactor(pollers=1)
    reactor.adopt(Adopted(events), ours)
    reactor.stop()
    del reactor
    eventually(lambda: settled_fds() <= before, "the copy is closed")
    assert not events.history


# --- inherited sockets ---


SERVICE = """
    import os, socket
    import goev

    class Echo(goev.Connection):
        def on_read(self):
            self.write(self.read())

    reactor = goev.Reactor(pollers=1)
    for number in range(3, 3 + int(os.environ["LISTEN_FDS"])):
        given = socket.socket(fileno=number)
        if given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            goev.Acceptor(reactor, given, Echo)
        else:
            reactor.adopt(Echo(), given)
            given.close()
    print("ready", flush=True)
    reactor.run()
"""
SYSTEMD = """
    import os, socket, subprocess, sys

    listener = socket.create_server(("127.0.0.1", 0))
    ours, theirs = socket.socketpair()

    def inherit():
        listening, connected = os.dup(listener.fileno()), os.dup(ours.fileno())
        os.dup2(listening, 3)
        os.dup2(connected, 4)

    environment = os.environ | {"LISTEN_FDS": "2"}
    command = [sys.executable, "-c", sys.argv[1]]
    with subprocess.Popen(
        command, env=environment, preexec_fn=inherit, pass_fds=(3, 4), stdout=subprocess.PIPE
    ) as service, listener, theirs:
        print(service.stdout.readline().decode().strip())
        ours.close()
        with socket.create_connection(listener.getsockname(), 10) as client:
            client.sendall(b"listening")
            print(client.recv(20).decode())
        theirs.settimeout(10)
        theirs.sendall(b"connected")
        print(theirs.recv(20).decode())
        service.terminate()
        print(theirs.recv(1) == b"", service.wait(10))
"""


def test_sockets_of_systemd_are_adopted_or_listened_on():
    """``LISTEN_FDS``: descriptors from 3 on, which listen, or with ``Accept=yes`` are connected (sd_listen_fds(3))."""
    assert run_script(SYSTEMD, dedent(SERVICE)).split() == ["ready", "listening", "connected", "True", "0"]


def test_no_descriptor_is_left_after_many_adoptions(reactor, events, pair):
    ends = [pair() for _ in range(50)]
    before = settled_fds()
    for ours, theirs in ends:
        reactor.adopt(Adopted(events), ours)
        theirs.close()
        ours.close()
    events.times("close", 50)
    settle(reactor)
    eventually(lambda: settled_fds() <= before, "all copies are closed")
