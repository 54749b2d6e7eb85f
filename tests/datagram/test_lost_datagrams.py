"""A datagram that is lost is reported, and the socket goes on."""

import errno
import re
import socket
import subprocess
import sys
from textwrap import dedent

import pytest

import goev
from datagram_support import LARGEST, V4, V6, Peer, Udp, UdpEcho, closed_port
from support import PATIENCE, held, need, need_ipv6, on_poller, settle, text_of


@pytest.mark.parametrize(("size", "limit"), [(101, 100), (2, 1), (LARGEST, 65_506), (LARGEST, 1)])
def test_a_datagram_that_is_too_large_is_reported_and_the_next_delivered(bind, events, peer, size, limit):
    address, client = bind(Udp(events), max_size=limit), peer()
    for data in (b"x" * size, b"y"):
        client.sendto(data, address)
    error = events.until("error")[1]
    assert type(error) is goev.DatagramTruncated
    for part in (text_of(client.getsockname()), f"{size} bytes", f"max_size={limit}"):
        assert part in str(error)
    assert events.until("datagram")[1] == b"y"


def test_among_many_datagrams_only_those_that_are_too_large_are_missing(bind, events, peer, reactor):
    address, client = bind(Udp(events), max_size=50), peer()
    with held(reactor):
        for size in range(100):
            client.sendto(bytes([size]) * size, address)
    events.times("datagram", 51)
    events.times("error", 49)
    assert [data for _, data, _ in events.of("datagram")] == [bytes([size]) * size for size in range(51)]
    assert [int(re.search(r"of (\d+) bytes", str(error))[1]) for _, error in events.of("error")] == list(range(51, 100))


def test_a_datagram_of_exactly_max_size_is_delivered(bind, events, peer):
    address = bind(Udp(events), max_size=100)
    peer().sendto(b"x" * 100, address)
    assert events.until("datagram")[1] == b"x" * 100


def test_a_closed_port_is_reported_and_the_socket_works_when_a_server_appears(bind, events, reactor, stack):
    port = closed_port()
    handler = Udp(events)
    address = bind(handler, peer=f"127.0.0.1:{port}")
    for _ in range(3):
        on_poller(reactor, handler.send, b"anybody?")
        error = events.until("error")[1]
        assert (type(error), error.errno) == (ConnectionRefusedError, errno.ECONNREFUSED)
    server = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    server.settimeout(PATIENCE)
    server.bind(("127.0.0.1", port))
    on_poller(reactor, handler.send, b"now?")
    assert server.recvfrom(100) == (b"now?", address)
    server.sendto(b"yes", address)
    assert events.next() == ("datagram", b"yes", server.getsockname())
    assert "close" not in events.names


def test_many_datagrams_to_a_closed_port_close_nothing(bind, events, reactor):
    handler = Udp(events)
    bind(handler, peer=f"127.0.0.1:{closed_port()}")

    def send() -> None:
        for _ in range(100):
            handler.send(b"x")

    on_poller(reactor, send)
    assert type(events.until("error")[1]) is ConnectionRefusedError
    settle(reactor)
    assert set(events.names) == {"open", "error"}
    assert on_poller(reactor, lambda: handler.local_address)


def test_a_peer_that_has_gone_does_not_disturb_the_others(bind, events, peer):
    address, client = bind(UdpEcho(events)), peer()
    for _ in range(20):
        with Peer() as gone:
            gone.sendto(b"bye", address)
        assert client.ask(b"alive?", address) == b"alive?"
    assert events.names == ["open"]


@pytest.mark.parametrize(
    ("own", "to", "code"),
    [
        (V4, ("::1", 9), errno.EAFNOSUPPORT),
        (V6, ("127.0.0.1", 9), errno.ENETUNREACH),
        (V4, ("127.0.0.1", 0), errno.EINVAL),
        (V4, ("127.255.255.255", 9), errno.EACCES),
    ],
    ids=["v6 from v4", "v4 from v6", "port 0", "broadcast"],
)
def test_what_cannot_be_sent_is_reported_and_the_rest_goes_out(bind, events, peer, reactor, own, to, code):
    if own == V6:
        need_ipv6()
    handler, client = Udp(events), peer(socket.AF_INET6 if own == V6 else socket.AF_INET)
    bind(handler, own)

    def send() -> None:
        for address in (client.getsockname(), to, client.getsockname(), to):
            handler.send_to(b"x", address)

    on_poller(reactor, send)
    for _ in range(2):
        error = events.until("error")[1]
        assert isinstance(error, OSError)
        assert error.errno == code
        assert text_of(to) in str(error) or f"[{to[0]}]:{to[1]}" in str(error)
        assert client.recv(100) == b"x"
    assert "close" not in events.names


def test_send_without_a_peer_is_reported(bind, events, reactor):
    handler = Udp(events)
    bind(handler)
    on_poller(reactor, handler.send, b"to whom?")
    assert events.until("error")[1].errno == errno.EDESTADDRREQ


def test_on_error_may_send_and_be_left_out(bind, events, peer, reactor):
    class Says(Udp):
        def on_error(self, error):
            self.send_to(b"lost", client.getsockname())

    client, quiet, says = peer(), type("Quiet", (goev.Datagram,), {})(), Says(events)
    bind(quiet)
    bind(says)
    for handler in (quiet, says):
        on_poller(reactor, handler.send_to, b"x", ("127.0.0.1", 0))
    assert client.recv(100) == b"lost"
    on_poller(reactor, quiet.send_to, b"alive", client.getsockname())
    assert client.recv(100) == b"alive"


@pytest.mark.parametrize("size", [LARGEST + 1, 65_535, 1_000_000])
def test_more_than_a_datagram_holds_is_refused_at_the_call(bind, events, peer, reactor, size):
    handler, client = Udp(events), peer()
    bind(handler, peer=text_of(client.getsockname()))
    for refused in (lambda: handler.send_to(bytes(size), client.getsockname()), lambda: handler.send(bytes(size))):
        with pytest.raises(ValueError, match=f"65507 bytes.* {size}$"):
            on_poller(reactor, refused)
    on_poller(reactor, handler.send, b"goes on")
    assert client.recv(100) == b"goes on"


# --- what the kernel refuses, by injection ---


PROGRAM = """
    import threading
    import goev

    done = threading.Event()

    class SelfTalk(goev.Datagram):
        def __init__(self):
            self.got = []

        def on_open(self):
            self.own = self.local_address
            for number in range(40):
                self.send_to(b"%d" % number, self.own)
            self.reactor.schedule(0.02, self.finish)

        def finish(self):
            self.send_to(b"last", self.own)

        def on_datagram(self, data, address):
            self.got.append(data.decode())
            if data == b"last":
                done.set()

        def on_error(self, error):
            print("error", error.errno)

        def on_close(self, error):
            print("close", error)

    with goev.Reactor(pollers=1) as reactor:
        talk = SelfTalk()
        talk.bind(reactor, "127.0.0.1:0")
        reactor.start()
        print("done", done.wait(10))
        print("dropped", reactor.stats()[0]["datagrams_dropped"])
        print("got", *talk.got)
"""


def injected(injection: str) -> list[str]:
    """The lines of a program that sends itself 0 to 39 and "last", while some of its system calls fail."""
    call = injection.partition(":")[0]
    command = [need("strace"), "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={call}"]
    command += ["-e", f"inject={injection}", sys.executable, "-c", dedent(PROGRAM)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def got(numbers) -> str:
    return " ".join(["got", *map(str, numbers), "last"])


@pytest.mark.parametrize("error", ["EAGAIN", "ENOBUFS"])
@pytest.mark.parametrize(("call", "sent"), [(1, 0), (2, 32)])
def test_a_full_send_queue_drops_and_counts_and_the_socket_goes_on(error, call, sent):
    lines = injected(f"sendmmsg:error={error}:when={call}")
    assert lines == ["done True", f"dropped {40 - sent}", got(range(sent)), "close None"]


def test_an_interrupted_sendmmsg_is_repeated():
    assert injected("sendmmsg:error=EINTR:when=1") == ["done True", "dropped 0", got(range(40)), "close None"]


def test_a_sendmmsg_that_fails_loses_one_datagram_and_says_so():
    lines = injected("sendmmsg:error=EPERM:when=1")
    assert lines == [f"error {errno.EPERM}", "done True", "dropped 0", got(range(1, 40)), "close None"]


@pytest.mark.parametrize("call", [1, 2])
def test_an_interrupted_recvmmsg_is_repeated(call):
    lines = injected(f"recvmmsg:error=EINTR:when={call}")
    assert lines == ["done True", "dropped 0", got(range(40)), "close None"]


@pytest.mark.parametrize("call", [1, 2])
def test_a_recvmmsg_that_fails_is_reported_and_the_socket_goes_on(call):
    lines = injected(f"recvmmsg:error=ENOMEM:when={call}")
    assert lines == [f"error {errno.ENOMEM}", "done True", "dropped 0", got(range(40)), "close None"]
