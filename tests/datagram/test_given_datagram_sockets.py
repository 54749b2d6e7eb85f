"""``Datagram.bind`` takes a bound socket of the user's, which stays the user's."""

import errno
import os
import socket

import pytest

import goev
from datagram_support import Udp, UdpEcho, socket_of
from support import eventually, need_ipv6, on_poller, run_script, settle, settled_fds


@pytest.fixture
def bound(stack):
    """``bound(host="127.0.0.1")``: a bound socket."""

    def make(host: str = "127.0.0.1", family: int = socket.AF_INET) -> socket.socket:
        made = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        made.bind((host, 0))
        return made

    return make


def test_it_serves_like_one_of_ours(bind, events, bound, peer):
    given = bound()
    address = bind(UdpEcho(events), given)
    assert address == given.getsockname()
    assert peer().ask(b"hello", address) == b"hello"


@pytest.mark.parametrize("host", ["", "::"])
def test_one_for_every_address_answers_from_the_one_that_was_asked(bind, events, bound, peer, host):
    if host:
        need_ipv6()
    given = bound(host, socket.AF_INET6 if host else socket.AF_INET)
    given.getsockname()
    port = bind(UdpEcho(events), given)[1]
    client = peer()
    client.connect(("127.0.0.5", port))
    client.send(b"x")
    assert client.recv(10) == b"x"


def test_the_users_object_may_be_closed_at_once(bind, events, bound, peer):
    given = bound()
    handler = UdpEcho(events)
    address = given.getsockname()
    bind(handler, given)
    given.close()
    assert peer().ask(b"hello", address) == b"hello"


def test_the_users_object_is_open_after_the_end_and_keeps_its_mode(bind, events, reactor, bound, peer):
    given, client = bound(), peer()
    handler = UdpEcho(events)
    address = bind(handler, given)
    assert client.ask(b"x", address) == b"x"
    assert os.get_blocking(given.fileno())
    on_poller(reactor, handler.close)
    events.until("close")
    client.sendto(b"mine", address)
    given.settimeout(10)
    assert given.recv(10) == b"mine"


def test_a_socket_that_other_processes_share_is_closed_for_this_one_only():
    """After a fork too, when the end of a connection's socket has to reach all copies."""
    lines = run_script("""
        import os, socket, warnings
        import goev

        class Udp(goev.Datagram):
            def on_open(self):
                self.close()
            def on_close(self, error):
                self.reactor.stop()

        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        bound = socket.socket(type=socket.SOCK_DGRAM)
        bound.bind(("127.0.0.1", 0))
        reading, writing = os.pipe()
        reactor = goev.Reactor(pollers=1)
        child = os.fork()
        if not child:
            os.read(reading, 1)
            bound.settimeout(10)
            print(bound.recv(10).decode(), flush=True)
            os._exit(0)
        Udp().bind(reactor, bound)
        reactor.run()
        address = bound.getsockname()
        bound.close()
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.sendto(b"hello", address)
        os.write(writing, b"x")
        os.waitpid(child, 0)
    """)
    assert lines.split() == ["hello"]


def test_it_may_get_a_peer_and_the_options_that_make_sense_for_it(bind, events, bound, peer):
    given, client, other = bound(), peer(), peer()
    handler = Udp(events)
    target = f"127.0.0.1:{client.getsockname()[1]}"
    address = bind(handler, given, peer=target, broadcast=True, receive_buffer_size=65536, max_size=3)
    with socket_of(handler) as copy:
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 1
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 65536
    other.sendto(b"no", address)
    client.sendto(b"long", address)
    assert isinstance(events.until("error")[1], goev.DatagramTruncated)
    client.sendto(b"yes", address)
    assert events.until("datagram")[1] == b"yes"


def test_a_broadcast_socket_of_the_user_stays_one(bind, events, bound):
    given = bound()
    given.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    handler = Udp(events)
    bind(handler, given)
    with socket_of(handler) as copy:
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 1


def wrong(kind: str, stack, tmp_path):
    """Something that is no bound UDP socket."""
    if kind == "number":
        return 7
    if kind == "pipe":
        reading, writing = os.pipe()
        os.close(writing)
        return stack.enter_context(os.fdopen(reading))
    stream = kind in ("stream", "listening")
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    made = stack.enter_context(socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM))
    if kind != "unbound":
        made.bind(f"{tmp_path}/socket" if kind == "unix" else ("127.0.0.1", 0))
    if kind == "listening":
        made.listen()
    if kind == "closed":
        made.close()
    return made


@pytest.mark.parametrize(
    ("kind", "error", "why"),
    [
        ("number", TypeError, "address must be a str or a bound socket, not int"),
        ("pipe", ValueError, "is no socket"),
        ("stream", ValueError, "is a stream socket, which Acceptor and Reactor.adopt"),
        ("listening", ValueError, "is a stream socket"),
        ("unix", ValueError, "is no UDP socket"),
        ("unbound", ValueError, "is not bound"),
        ("closed", ValueError, "open descriptor"),
    ],
)
def test_what_is_no_bound_socket_for_datagrams_is_refused_by_name(events, idle, stack, tmp_path, kind, error, why):
    given, handler = wrong(kind, stack, tmp_path), Udp(events)
    before = settled_fds()
    with pytest.raises(error, match=why):
        handler.bind(idle, given)
    assert settled_fds() <= before
    handler.bind(idle, "127.0.0.1:0")  # it is still unused


@pytest.mark.parametrize("option", ["reuse_address", "reuse_port"])
def test_an_option_of_binding_is_refused(events, idle, bound, option):
    with pytest.raises(ValueError, match=f"{option}=True comes too late"):
        Udp(events).bind(idle, bound(), **{option: True})


def test_a_closed_number_is_an_os_error(events, idle):
    class Gone:
        def fileno(self):
            return 1_000_000

    with pytest.raises(OSError, match="cannot bind descriptor 1000000") as raised:
        Udp(events).bind(idle, Gone())
    assert raised.value.errno == errno.EBADF


def test_no_descriptor_is_left_after_many_of_them(reactor, events, bound):
    before = settled_fds()
    for _ in range(20):
        given, handler = bound(), Udp(events)
        handler.bind(reactor, given)
        on_poller(reactor, handler.close)
        given.close()
    settle(reactor)
    eventually(lambda: settled_fds() <= before, "all copies are closed")
