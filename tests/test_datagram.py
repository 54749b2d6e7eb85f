"""goev.Datagram: UDP sockets, many datagrams at a time, which no error closes."""

import errno
import gc
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from textwrap import dedent
from threading import get_ident

import pytest

import goev
from support import (
    PATIENCE,
    Child,
    Echo,
    Events,
    eventually,
    held,
    in_thread,
    need,
    need_ipv6,
    on_poller,
    open_fds,
    resident,
    settle,
)

V4, V6 = "127.0.0.1:0", "[::1]:0"
LARGEST = 65_507  # bytes that an IPv4 packet has room for


class Udp(goev.Datagram):
    """Reports its callbacks."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def on_open(self):
        self.events("open", self)

    def on_datagram(self, data, address):
        self.events("datagram", data, address)

    def on_error(self, error):
        self.events("error", error)

    def on_close(self, error):
        self.events("close", error)


class UdpEcho(Udp):
    """Answers instead of reporting what came."""

    def on_datagram(self, data, address):
        self.send_to(data, address)


class Peer(socket.socket):
    """A raw UDP socket of IPv4 or IPv6 loopback; every operation has a limit."""

    def __init__(self, family: int = socket.AF_INET) -> None:
        super().__init__(family, socket.SOCK_DGRAM)
        self.settimeout(PATIENCE)
        self.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))

    def ask(self, data: bytes, address) -> bytes:
        self.sendto(data, address)
        return self.recv(70_000)


@pytest.fixture
def peer(stack):
    """``peer(family=AF_INET)``: a raw socket, closed after the test."""
    return lambda family=socket.AF_INET: stack.enter_context(Peer(family))


@pytest.fixture
def bind(reactor):
    """``bind(handler, address=V4, **options)``: bind it, wait until it is open, return its address."""

    def bind_and_wait(handler: goev.Datagram, address: str = V4, **options):
        handler.bind(reactor, address, **options)
        return on_poller(reactor, lambda: handler.local_address)

    return bind_and_wait


@pytest.fixture(params=[V4, V6], ids=["v4", "v6"])
def family(request):
    """The address to bind to and the family of the peers, for both families."""
    if request.param == V6:
        need_ipv6()
    return request.param, socket.AF_INET6 if request.param == V6 else socket.AF_INET


def descriptors() -> int:
    """How many are open once what earlier tests dropped has gone."""
    gc.collect()
    return open_fds()


def text(address) -> str:
    return f"[{address[0]}]:{address[1]}" if len(address) == 4 else f"{address[0]}:{address[1]}"


def said_by(error: BaseException) -> str:
    """The text of an exception with its notes."""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


def closed_port() -> int:
    """A port of 127.0.0.1 where nobody is."""
    with Peer() as gone:
        return gone.getsockname()[1]


def socket_of(handler: goev.Datagram) -> socket.socket:
    """A copy of its socket, to look at options."""
    return socket.socket(fileno=os.dup(handler.fileno()))


# --- what arrives and what is sent ---


def test_an_echo_answers_each_datagram(bind, events, peer, family):
    address = bind(UdpEcho(events), family[0])
    client = peer(family[1])
    for number in range(100):
        client.sendto(b"%d" % number, address)
        assert client.recvfrom(100) == (b"%d" % number, address)


def test_on_datagram_gets_bytes_and_the_address_of_the_sender(bind, events, peer, family):
    address = bind(Udp(events), family[0])
    clients = [peer(family[1]) for _ in range(3)]
    for client in clients:
        client.sendto(b"x", address)
        _, data, sender = events.until("datagram")
        assert (type(data), data, type(sender), sender) == (bytes, b"x", tuple, client.getsockname())


@pytest.mark.parametrize("size", [0, 1, 1_472, 1_473, 9_000, LARGEST])
def test_any_size_arrives_whole(bind, events, peer, family, size):
    address = bind(UdpEcho(events), family[0])
    data = random.Random(size).randbytes(size)
    assert peer(family[1]).ask(data, address) == data


def test_an_empty_datagram_is_one_like_any_other(bind, events, peer):
    address, client = bind(Udp(events)), peer()
    for data in (b"before", b"", b"", b"after"):
        client.sendto(data, address)
    assert [events.until("datagram")[1] for _ in range(4)] == [b"before", b"", b"", b"after"]


def test_the_datagrams_of_each_peer_come_in_order(bind, events, peer, reactor):
    address, clients = bind(Udp(events)), [peer() for _ in range(4)]
    for start in range(0, 400, 40):
        with held(reactor):
            for number in range(start, start + 40):
                for client in clients:
                    client.sendto(b"%d" % number, address)
        events.times("datagram", 4 * (start + 40))
    for client in clients:
        got = [int(data) for _, data, sender in events.of("datagram") if sender == client.getsockname()]
        assert got == list(range(400))


def test_of_10_000_datagrams_none_is_lost_or_changed_while_the_socket_buffer_has_room(bind, events, peer):
    address, client, window = bind(UdpEcho(events)), peer(), 100
    for start in range(0, 10_000, window):
        for number in range(start, start + window):
            client.sendto(b"%06d" % number, address)
        got = [client.recv(100) for _ in range(window)]
        assert got == [b"%06d" % number for number in range(start, start + window)]


def test_one_callback_may_send_to_many(bind, events, peer, reactor):
    handler, clients = Udp(events), [peer() for _ in range(40)]
    bind(handler)

    def send() -> None:
        for number in range(3):
            for client in clients:
                handler.send_to(b"%d to %d" % (number, client.fileno()), client.getsockname())

    on_poller(reactor, send)
    for client in clients:
        assert [client.recv(100) for _ in range(3)] == [b"%d to %d" % (number, client.fileno()) for number in range(3)]


def test_sizes_may_be_mixed_in_one_batch(bind, events, peer, reactor):
    handler, client = Udp(events), peer()
    bind(handler)
    data = [b"a" * size for size in (0, 1, 20_000, 0, 5, 1_500)]

    def send() -> None:
        for one in data:
            handler.send_to(one, client.getsockname())

    on_poller(reactor, send)
    assert [client.recv(70_000) for _ in data] == data


def test_data_may_be_any_bytes_like_object_and_is_copied(bind, events, peer, reactor):
    handler, client = Udp(events), peer()
    bind(handler)
    changing = bytearray(b"before")

    def send() -> None:
        handler.send_to(changing, client.getsockname())
        changing[:] = b"after!"
        handler.send_to(memoryview(b"-view-")[1:5], client.getsockname())

    on_poller(reactor, send)
    assert [client.recv(100) for _ in range(2)] == [b"before", b"view"]


def test_a_socket_with_a_peer_sends_without_address_and_hears_only_the_peer(bind, events, peer, reactor):
    handler, wanted, other = Udp(events), peer(), peer()
    address = bind(handler, peer=text(wanted.getsockname()))
    on_poller(reactor, handler.send, b"hello")
    assert wanted.recvfrom(100) == (b"hello", address)
    other.sendto(b"unwanted", address)
    wanted.sendto(b"wanted", address)
    assert events.until("datagram") == ("datagram", b"wanted", wanted.getsockname())
    settle(reactor)
    assert len(events.of("datagram")) == 1


def test_two_handlers_talk_to_each_other(bind, events, reactor):
    one = Udp(events)
    bind(one)
    address = bind(UdpEcho(events))
    on_poller(reactor, one.send_to, b"there and back", address)
    assert events.until("datagram") == ("datagram", b"there and back", address)


def test_a_timer_may_send(bind, events, peer, reactor):
    handler, client = Udp(events), peer()
    bind(handler)
    reactor.schedule(0.001, lambda: handler.send_to(b"tick", client.getsockname()))
    assert client.recv(100) == b"tick"


# --- more in the kernel than a batch takes, and several sockets that read into the same memory ---


@pytest.mark.parametrize("batch_calls", [1, 4, 31, 32, 33])
def test_more_datagrams_than_a_batch_takes_arrive_intact_and_in_order(events, peer, batch_calls):
    data = [b"%03d" % number + random.Random(number).randbytes(number) for number in range(100)]
    with goev.Reactor(pollers=1, batch_calls=batch_calls) as reactor:
        handler, client = Udp(events), peer()
        handler.bind(reactor, V4)
        reactor.start()
        address = on_poller(reactor, lambda: handler.local_address)
        with held(reactor):
            for one in data:
                client.sendto(one, address)
        assert [events.until("datagram")[1] for _ in data] == data


@pytest.mark.parametrize("batch_calls", [3, 256])
def test_sockets_of_one_poller_never_mix_their_datagrams(events, peer, batch_calls):
    """Three sockets are full at once, and what is left of one batch waits while the next is read."""
    with goev.Reactor(pollers=1, batch_calls=batch_calls) as reactor:
        handlers = [UdpEcho(events) for _ in range(3)]
        reactor.start()
        for handler in handlers:
            handler.bind(reactor, V4)
        addresses = [on_poller(reactor, lambda one=handler: one.local_address) for handler in handlers]
        clients = [peer() for _ in handlers]
        for round_ in range(5):
            with held(reactor):
                for number in range(50):
                    for tag, client in enumerate(clients):
                        client.sendto(b"%d %d %d " % (tag, round_, number) + b"x" * (number + tag), addresses[tag])
            for tag, client in enumerate(clients):
                for number in range(50):
                    expected = b"%d %d %d " % (tag, round_, number) + b"x" * (number + tag)
                    assert client.recvfrom(1000) == (expected, addresses[tag])


def test_large_datagrams_that_wait_for_the_next_batch_stay_whole(events, peer):
    data = [bytes([number]) * (LARGEST - number) for number in range(20)]
    with goev.Reactor(pollers=1, batch_calls=2) as reactor:
        handler, client = Udp(events), peer()
        handler.bind(reactor, V4, receive_buffer_size=4_000_000)
        reactor.start()
        address = on_poller(reactor, lambda: handler.local_address)
        with held(reactor):
            for one in data:
                client.sendto(one, address)
        assert [events.until("datagram")[1] == one for one in data] == [True] * 20


# --- what is lost is reported, and the socket goes on ---


@pytest.mark.parametrize(("size", "limit"), [(101, 100), (2, 1), (LARGEST, 65_506), (LARGEST, 1)])
def test_a_datagram_that_is_too_large_is_reported_and_the_next_delivered(bind, events, peer, size, limit):
    address, client = bind(Udp(events), max_size=limit), peer()
    for data in (b"x" * size, b"y"):
        client.sendto(data, address)
    error = events.until("error")[1]
    assert type(error) is goev.DatagramTruncated
    for part in (text(client.getsockname()), f"{size} bytes", f"max_size={limit}"):
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
        assert text(to) in str(error) or f"[{to[0]}]:{to[1]}" in str(error)
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
    bind(handler, peer=text(client.getsockname()))
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


# --- the life of a handler ---


class Ends(Udp):
    """Ends at a datagram or at its opening, in some way."""

    how = "close"

    def end(self):
        if self.how == "close":
            self.close()
        elif self.how == "stop":
            self.reactor.stop()
        elif self.how == "raise":
            raise LookupError("of the handler")
        return False if self.how == "False" else None


class EndsAtDatagram(Ends):
    def on_datagram(self, data, address):
        super().on_datagram(data, address)
        return self.end()


class EndsAtError(Ends):
    def on_error(self, error):
        super().on_error(error)
        return self.end()


class EndsAtOpen(Ends):
    def on_open(self):
        super().on_open()
        return self.end()


@pytest.mark.parametrize("how", ["close", "False", "stop"])
def test_on_open_comes_first_and_on_close_last_and_once(bind, events, peer, reactor, how):
    handler = EndsAtDatagram(events)
    handler.how = how
    address, client = bind(handler), peer()
    with held(reactor):
        for _ in range(5):
            client.sendto(b"x", address)
    assert events.until("close") == ("close", None)
    reactor.stop()
    reactor.join(5)
    # A stop comes after the batch; the others end it at once.
    assert events.names == ["open", *["datagram"] * (5 if how == "stop" else 1), "close"]


@pytest.mark.parametrize("how", ["close", "False", "stop"])
def test_a_handler_may_end_in_on_open(events, reactor, peer, how):
    handler = EndsAtOpen(events)
    handler.how = how
    handler.bind(reactor, V4)
    assert events.until("close") == ("close", None)
    reactor.stop()
    reactor.join(5)
    assert events.names == ["open", "close"]


@pytest.mark.parametrize("how", ["close", "False", "stop"])
def test_a_handler_may_end_in_on_error(bind, events, reactor, how):
    handler = EndsAtError(events)
    handler.how = how
    bind(handler)

    def send() -> None:
        for _ in range(3):
            handler.send_to(b"x", ("127.0.0.1", 0))

    on_poller(reactor, send)
    assert events.until("close") == ("close", None)
    reactor.stop()
    reactor.join(5)
    assert events.names == ["open", *["error"] * (3 if how == "stop" else 1), "close"]


@pytest.mark.parametrize("where", [EndsAtOpen, EndsAtDatagram, EndsAtError])
def test_raising_is_logged_and_closes_with_that_exception(events, peer, reactor, log, where):
    handler = where(events)
    handler.how = "raise"
    handler.bind(reactor, V4, max_size=10)
    with socket_of(handler) as copy, Peer() as client:
        for size in (5, 50):
            client.sendto(b"x" * size, copy.getsockname())
    error = events.until("close")[1]
    assert type(error) is LookupError
    record, logged = log.next()
    assert record.name == "goev"
    assert "of the handler" in logged
    settle(reactor)
    assert events.names[0] == "open"
    assert events.names[-1] == "close"
    assert events.names.count("close") == 1
    assert on_poller(reactor, lambda: "alive") == "alive"


def test_another_return_value_is_a_type_error(bind, events, peer, reactor, log):
    class Yes(Udp):
        def on_datagram(self, data, address):
            return "yes"

    peer().sendto(b"x", bind(Yes(events)))
    assert type(events.until("close")[1]) is TypeError


def test_an_exception_in_on_close_is_logged(bind, events, peer, reactor, log):
    class Fails(Udp):
        def on_close(self, error):
            super().on_close(error)
            raise LookupError("at the end")

    handler = Fails(events)
    bind(handler)
    on_poller(reactor, handler.close)
    assert "at the end" in log.next()[1]
    settle(reactor)
    assert events.names == ["open", "close"]


def test_system_exit_in_on_datagram_stops_the_reactor_and_comes_out_of_join(events, peer):
    class Exits(Udp):
        def on_datagram(self, data, address):
            raise SystemExit(3)

    reactor, handler = goev.Reactor(pollers=1), Exits(events)
    handler.bind(reactor, V4)
    reactor.start()
    peer().sendto(b"x", on_poller(reactor, lambda: handler.local_address))
    with pytest.raises(SystemExit):
        reactor.join(5)
    assert events.names == ["open", "close"]


@pytest.mark.parametrize("how", ["close", "False", "raise", "stop"])
def test_what_was_sent_before_the_end_goes_out(bind, events, peer, log, how):
    class Last(EndsAtDatagram):
        def on_datagram(self, data, address):
            for number in range(50):
                self.send_to(b"%d" % number, address)
            return self.end()

    handler, client = Last(events), peer()
    handler.how = how
    client.sendto(b"x", bind(handler))
    assert [client.recv(100) for _ in range(50)] == [b"%d" % number for number in range(50)]
    events.until("close")


def test_close_again_is_harmless_and_sending_after_it_is_refused(bind, events, reactor, peer):
    handler, client = Udp(events), peer()
    bind(handler, peer=text(client.getsockname()))

    def close_and_send() -> None:
        handler.close()
        handler.close()
        for refused in (
            lambda: handler.send(b"x"),
            lambda: handler.send_to(b"x", client.getsockname()),
            lambda: handler.local_address,
            lambda: handler.join_group("239.1.2.3"),
        ):
            with pytest.raises(goev.ConnectionClosed):
                refused()

    on_poller(reactor, close_and_send)
    events.until("close")
    on_poller(reactor, close_and_send)
    settle(reactor)
    assert events.names == ["open", "close"]


def test_a_closed_socket_frees_its_port_at_once(bind, events, reactor, peer):
    handler = Udp(events)
    address = bind(handler)
    on_poller(reactor, handler.close)
    events.until("close")
    settle(reactor)
    assert bind(UdpEcho(events), text(address)) == address
    assert peer().ask(b"new", address) == b"new"


def test_closing_another_handler_spares_it_what_had_arrived(events, peer, reactor, bind):
    """Both have datagrams in the same batch; the first called closes the other."""

    class Closes(Udp):
        other: goev.Datagram

        def on_datagram(self, data, address):
            super().on_datagram(data, address)
            self.other.close()

    one, two = Closes(events), Closes(events)
    one.other, two.other = two, one
    addresses, client = [bind(one), bind(two)], peer()
    with held(reactor):
        for address in addresses:
            client.sendto(b"x", address)
    events.until("close")
    settle(reactor)
    assert events.names == ["open", "open", "datagram", "close"]


def test_callbacks_are_not_nested_in_methods(bind, events, reactor):
    """The error of a send comes in a turn of its own, and so does on_close."""
    handler = Udp(events)
    bind(handler)

    def send_and_close() -> None:
        handler.send_to(b"x", ("127.0.0.1", 0))
        events("sent")
        handler.close()
        events("closed")

    on_poller(reactor, send_and_close)
    events.until("close")
    assert events.names[:3] == ["open", "sent", "closed"]


def test_a_closed_handler_is_let_go_of(bind, events, reactor):
    handler = type("Quiet", (goev.Datagram,), {})()
    gone = weakref.ref(handler)
    bind(handler)
    on_poller(reactor, handler.close)
    settle(reactor)
    del handler
    gc.collect()
    assert gone() is None


# --- bind: where, when, and how often ---


def test_bound_in_a_callback_it_belongs_to_the_same_poller(start, events, peer):
    class Binds(goev.Connection):
        def on_open(self):
            events("accepted", get_ident())
            Where(events).bind(self.reactor, V4)

    class Where(Udp):
        def on_open(self):
            events("bound", get_ident(), self.local_address)

        def on_datagram(self, data, address):
            events("datagram", get_ident())

    server, client = start(Binds, pollers=2), peer()
    for _ in range(4):
        server.connect()
        thread = events.until("accepted")[1]
        _, bound, address = events.until("bound")
        client.sendto(b"x", address)
        assert bound == thread == events.until("datagram")[1]
    assert len({thread for _, thread in events.of("accepted")}) == 2


def test_bound_in_another_thread_it_belongs_to_poller_0(events, peer):
    class Where(UdpEcho):
        def on_open(self):
            events("open", get_ident())

    with goev.Reactor(pollers=3) as reactor:
        reactor.start()
        handler = Where(events)
        in_thread(handler.bind, reactor, V4).result(PATIENCE)
        assert events.until("open")[1] == on_poller(reactor, get_ident)
        assert peer().ask(b"x", on_poller(reactor, lambda: handler.local_address)) == b"x"


def test_bound_before_the_start_it_gets_what_came_meanwhile(events, peer):
    with goev.Reactor(pollers=1) as reactor:
        handler, client = Udp(events), peer()
        handler.bind(reactor, V4)
        with socket_of(handler) as copy:
            address = copy.getsockname()
        for number in range(50):
            client.sendto(b"%d" % number, address)
        assert not events.history
        reactor.start()
        events.times("datagram", 50)
    assert events.names == ["open"] + ["datagram"] * 50 + ["close"]
    assert [int(data) for _, data, _ in events.of("datagram")] == list(range(50))


def test_a_handler_of_a_reactor_that_never_runs_leaves_nothing_open(events):
    before = descriptors()
    reactor = goev.Reactor(pollers=1)
    Udp(events).bind(reactor, V4)
    reactor.stop()
    del reactor
    assert descriptors() <= before


def test_a_stopped_reactor_takes_no_handler(events):
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
    before = descriptors()
    with pytest.raises(RuntimeError, match="stopped"):
        Udp(events).bind(reactor, V4)
    assert descriptors() <= before
    assert not events.history


def test_bound_while_the_reactor_stops_it_is_refused_or_gets_on_close(events):
    """Whichever of the two is first: nothing hangs, and somebody is told."""
    for _ in range(50):
        reactor, handler = goev.Reactor(pollers=1), Udp(events)
        reactor.start()
        stopping = in_thread(reactor.stop)
        try:
            handler.bind(reactor, V4)
        except RuntimeError:
            events("close", None)
        stopping.result(PATIENCE)
        reactor.join(5)
    assert len(events.of("close")) == 50


def test_a_handler_serves_one_socket_once(bind, events, reactor):
    handler = Udp(events)
    bind(handler)
    with pytest.raises(ValueError, match="used"):
        handler.bind(reactor, V4)
    on_poller(reactor, handler.close)
    events.until("close")
    with pytest.raises(ValueError, match="used"):
        handler.bind(reactor, V4)
    with pytest.raises(ValueError, match="used"):
        on_poller(reactor, reactor.add, handler, 0, goev.EV_IN)


def test_an_address_in_use_is_refused_and_the_handler_may_try_another(bind, events, reactor, peer):
    taken, handler = peer(), UdpEcho(events)
    address = text(taken.getsockname())
    with pytest.raises(OSError, match=f"cannot bind {address}") as caught:
        handler.bind(reactor, address)
    assert caught.value.errno == errno.EADDRINUSE
    assert peer().ask(b"x", bind(handler)) == b"x"


def test_between_bind_and_on_open_a_handler_is_closed_and_touches_no_other(bind, events, reactor, peer):
    first, client = Udp(events), peer()
    bind(first, peer=text(client.getsockname()))
    second = UdpEcho(events)

    def bind_and_use() -> None:
        second.bind(reactor, V4)
        for use in (
            lambda: second.send(b"stray"),
            lambda: second.send_to(b"stray", client.getsockname()),
            lambda: second.local_address,
        ):
            with pytest.raises(goev.ConnectionClosed):
                use()

    on_poller(reactor, bind_and_use)
    address = on_poller(reactor, lambda: second.local_address)
    assert client.ask(b"hello", address) == b"hello"
    assert "close" not in events.names


USES = {
    "send_to": lambda handler: handler.send_to(b"x", ("127.0.0.1", 9)),
    "send": lambda handler: handler.send(b"x"),
    "close": lambda handler: handler.close(),
    "local_address": lambda handler: handler.local_address,
    "join_group": lambda handler: handler.join_group("239.1.2.3"),
    "leave_group": lambda handler: handler.leave_group("239.1.2.3"),
}


@pytest.mark.parametrize("name", USES)
def test_from_another_thread_a_method_is_refused_by_its_name(bind, events, reactor, name):
    handler = UdpEcho(events)
    bind(handler)
    with pytest.raises(goev.WrongThread, match=rf"^{name}\b"):
        USES[name](handler)
    settle(reactor)
    assert events.names == ["open"]


@pytest.mark.parametrize("name", USES)
def test_before_bind_a_method_is_refused(events, name):
    with pytest.raises(goev.ConnectionClosed):
        USES[name](Udp(events))


@pytest.mark.parametrize("name", ["on_open", "on_datagram", "on_error", "on_close"])
def test_an_async_callback_is_refused(name):
    async def callback(self, *args):
        pass

    with pytest.raises(TypeError, match=name):
        type("Async", (goev.Datagram,), {name: callback})()


# --- wrong arguments ---


@pytest.mark.parametrize(
    ("address", "kind", "says"),
    [
        ("", ValueError, "port"),
        ("127.0.0.1", ValueError, "port"),
        ("127.0.0.1:", ValueError, "port"),
        ("127.0.0.1:70000", ValueError, "70000"),
        ("127.0.0.1:-1", ValueError, "-1"),
        ("127.0.0.1:x", ValueError, "x"),
        ("localhost:0", ValueError, "localhost"),
        ("256.0.0.1:0", ValueError, "256.0.0.1"),
        ("::1:0", ValueError, "::1"),
        ("[::1:0", ValueError, "::1"),
        ("unix:/tmp/x", ValueError, "unix:/tmp/x"),
        ("unix:@x", ValueError, "unix:@x"),
        (("127.0.0.1", 0), TypeError, "tuple"),
        (9999, TypeError, "int"),
        (b"127.0.0.1:0", TypeError, "bytes"),
    ],
)
@pytest.mark.parametrize("argument", ["address", "peer"])
def test_a_wrong_address_is_refused_by_name(reactor, events, argument, address, kind, says):
    with pytest.raises(kind) as caught:
        Udp(events).bind(reactor, **{"address": V4, argument: address})
    said = said_by(caught.value)
    assert says in said
    assert argument in said


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"max_size": 0}, ValueError, "max_size must be from 1 to 65535, not 0"),
        ({"max_size": 65_536}, ValueError, "max_size must be from 1 to 65535, not 65536"),
        ({"max_size": -1}, ValueError, "max_size"),
        ({"max_size": 10**30}, ValueError, "max_size"),
        ({"max_size": 1.5}, TypeError, "max_size"),
        ({"max_size": None}, TypeError, "max_size"),
        ({"receive_buffer_size": 0}, ValueError, "receive_buffer_size must be from 1 to"),
        ({"receive_buffer_size": -5}, ValueError, "receive_buffer_size"),
        ({"receive_buffer_size": 2**31}, ValueError, "receive_buffer_size"),
        ({"send_buffer_size": 0}, ValueError, "send_buffer_size must be from 1 to"),
        ({"send_buffer_size": 10**30}, ValueError, "send_buffer_size"),
        ({"send_buffer_size": "1"}, TypeError, "send_buffer_size"),
        ({"device": ""}, ValueError, "device"),
        ({"device": "x" * 16}, ValueError, "x" * 16),
        ({"device": "a\0b"}, ValueError, "device"),
        ({"device": 5}, TypeError, "device"),
        ({"device": "goev-no-such"}, OSError, "No such device"),
        ({"reuse_port": 1}, TypeError, "reuse_port"),
        ({"reuse_address": "yes"}, TypeError, "reuse_address"),
        ({"broadcast": None}, TypeError, "broadcast"),
        ({"backlog": 5}, TypeError, "backlog"),
        ({"address": "192.0.2.200:0"}, OSError, "cannot bind 192.0.2.200:0"),
        ({"peer": "[::1]:9"}, OSError, r"cannot connect 127.0.0.1:0 to [::1]:9"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_and_the_handler_stays_unused(reactor, events, bind, peer, options, kind, says):
    before, handler = descriptors(), UdpEcho(events)
    with pytest.raises(kind) as caught:
        handler.bind(reactor, **{"address": V4, **options})
    assert says in said_by(caught.value)
    assert open_fds() <= before
    assert peer().ask(b"x", bind(handler)) == b"x"


def test_only_reactor_and_address_are_positional(reactor, events):
    with pytest.raises(TypeError, match="positional"):
        Udp(events).bind(reactor, V4, "127.0.0.1:9")
    with pytest.raises(TypeError, match="reactor"):
        Udp(events).bind("no reactor", V4)


@pytest.mark.parametrize(
    ("address", "kind", "says"),
    [
        (None, TypeError, "tuple"),
        ("127.0.0.1:9", TypeError, "tuple"),
        (["127.0.0.1", 9], TypeError, "tuple"),
        ((), TypeError, "tuple"),
        (("127.0.0.1",), TypeError, "tuple"),
        (("127.0.0.1", 9, 0), TypeError, "tuple"),
        (("::1", 9, 0, 0, 0), TypeError, "tuple"),
        ((b"127.0.0.1", 9), TypeError, "tuple"),
        (("localhost", 9), ValueError, "localhost"),
        (("", 9), ValueError, "IP address"),
        (("127.0.0.1", 65_536), ValueError, "65536"),
        (("127.0.0.1", -1), ValueError, "-1"),
        (("::1", 9, -1, 0), ValueError, "address"),
        (("::1", 9, 0, 2**32), ValueError, "address"),
        (("::1", 9, 0, "lo"), TypeError, "address"),
        ((9, "127.0.0.1"), TypeError, "tuple"),
    ],
)
def test_send_to_refuses_what_is_no_address(bind, events, reactor, address, kind, says):
    handler = Udp(events)
    bind(handler)
    with pytest.raises(kind, match=says):
        on_poller(reactor, handler.send_to, b"x", address)
    settle(reactor)
    assert events.names == ["open"]


def test_a_port_that_is_no_number_is_a_type_error(bind, events, reactor):
    handler = Udp(events)
    bind(handler)
    with pytest.raises(TypeError, match="port"):
        on_poller(reactor, handler.send_to, b"x", ("127.0.0.1", "9"))


@pytest.mark.parametrize("data", ["text", None, 5, ["list"]])
def test_data_that_is_not_bytes_like_is_refused(bind, events, reactor, data):
    handler = Udp(events)
    bind(handler)
    for refused in (lambda: handler.send(data), lambda: handler.send_to(data, ("127.0.0.1", 9))):
        with pytest.raises(TypeError, match="bytes-like"):
            on_poller(reactor, refused)


def test_data_with_gaps_is_refused(bind, events, reactor):
    handler = Udp(events)
    bind(handler)
    with pytest.raises(ValueError, match="contiguous"):
        on_poller(reactor, handler.send_to, memoryview(b"abcdef")[::2], ("127.0.0.1", 9))


@pytest.mark.parametrize("method", ["join_group", "leave_group"])
def test_a_wrong_group_or_interface_is_refused(bind, events, reactor, method):
    handler = Udp(events)
    bind(handler)
    call = getattr(handler, method)
    for group in ("127.0.0.1", "::1", "240.0.0.1", "", "239.1.2", "all-hosts", "239.1.2.3:9"):
        with pytest.raises(ValueError, match="multicast"):
            on_poller(reactor, call, group)
    with pytest.raises(TypeError):
        on_poller(reactor, call, 5)
    with pytest.raises(ValueError, match="interface"):
        on_poller(reactor, call, "239.1.2.3", "l\0o")
    for name in ("goev-no-such", "", "x" * 100):
        with pytest.raises(OSError, match=f'interface "{name}"'):
            on_poller(reactor, call, "239.1.2.3", name)
    with pytest.raises(OSError, match=r"ff02::1:3"):
        on_poller(reactor, call, "ff02::1:3", "lo")  # of an IPv4 socket


def test_leaving_a_group_that_was_not_joined_is_refused(bind, events, reactor):
    handler = Udp(events)
    bind(handler)
    with pytest.raises(OSError, match=r"cannot leave 239\.1\.2\.3") as caught:
        on_poller(reactor, handler.leave_group, "239.1.2.3", "lo")
    assert caught.value.errno == errno.EADDRNOTAVAIL


# --- options and groups ---


def test_options_reach_the_socket(bind, events):
    handler = Udp(events)
    bind(
        handler,
        reuse_address=True,
        reuse_port=True,
        broadcast=True,
        receive_buffer_size=30_000,
        send_buffer_size=20_000,
        device="lo",
    )
    with socket_of(handler) as copy:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT, socket.SO_BROADCAST):
            assert copy.getsockopt(socket.SOL_SOCKET, option) == 1
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 60_000  # the kernel doubles it
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 40_000
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
    assert not os.get_inheritable(handler.fileno())
    assert not os.get_blocking(handler.fileno())


def test_options_left_out_leave_the_socket_as_the_system_makes_it(bind, events, peer):
    handler, plain = Udp(events), peer()
    bind(handler)
    with socket_of(handler) as copy:
        for name in ("SO_REUSEADDR", "SO_REUSEPORT", "SO_BROADCAST", "SO_RCVBUF", "SO_SNDBUF"):
            option = getattr(socket, name)
            assert copy.getsockopt(socket.SOL_SOCKET, option) == plain.getsockopt(socket.SOL_SOCKET, option), name


def test_with_broadcast_a_broadcast_goes_out(bind, events, reactor):
    sender, receiver = Udp(events), Udp(events)
    own = bind(sender, broadcast=True)
    to = bind(receiver, "127.255.255.255:0")
    on_poller(reactor, sender.send_to, b"to all", to)
    assert events.until("datagram") == ("datagram", b"to all", own)


def test_reuse_port_spreads_the_peers_over_handlers_and_loses_nothing(bind, events, peer):
    class Named(Udp):
        def on_datagram(self, data, address):
            events("datagram", self, address)

    handlers = [Named(events) for _ in range(2)]
    address = bind(handlers[0], reuse_port=True)
    bind(handlers[1], text(address), reuse_port=True)
    clients = [peer() for _ in range(50)]
    for _ in range(3):
        for client in clients:
            client.sendto(b"x", address)
    events.times("datagram", 150)
    who = {(sender, id(handler)) for _, handler, sender in events.of("datagram")}
    assert len(who) == 50, "a peer stays with its socket"
    assert len({handler for _, handler in who}) == 2, "one of them got everything"


@pytest.fixture
def group(stack):
    """A group on the loopback interface: its address, and what sends to a port of it."""
    sender, name = stack.enter_context(Peer()), "239.192.77.3"
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))

    def send(data: bytes, port: int) -> None:
        sender.sendto(data, (name, port))

    try:
        send(b"to nobody", 9)
    except OSError as error:
        pytest.skip(f"this machine has no multicast route on lo: {error}")
    return name, send


def test_a_member_of_a_group_gets_what_is_sent_to_it_until_it_leaves(bind, events, reactor, group):
    name, send = group
    handler = Udp(events)
    port = bind(handler, f"{name}:0")[1]
    send(b"too early", port)
    on_poller(reactor, handler.join_group, name, "lo")
    send(b"hello group", port)
    assert events.until("datagram")[1] == b"hello group"
    with pytest.raises(OSError, match=f"cannot join {name}") as caught:
        on_poller(reactor, handler.join_group, name, "lo")
    assert caught.value.errno == errno.EADDRINUSE
    on_poller(reactor, handler.leave_group, name, "lo")
    send(b"too late", port)
    settle(reactor)
    assert [data for _, data, _ in events.of("datagram")] == [b"hello group"]


def test_with_reuse_address_every_member_on_a_port_gets_a_copy(bind, events, reactor, group):
    name, send = group
    handlers = [Udp(events) for _ in range(3)]
    port = bind(handlers[0], f"{name}:0", reuse_address=True)[1]
    for handler in handlers[1:]:
        bind(handler, f"{name}:{port}", reuse_address=True)
    for handler in handlers:
        on_poller(reactor, handler.join_group, name, "lo")
    for number in range(20):
        send(b"%d" % number, port)
    events.times("datagram", 60)
    settle(reactor)
    assert sorted(int(data) for _, data, _ in events.of("datagram")) == sorted(list(range(20)) * 3)


def test_an_ipv6_group_is_joined_on_the_interface_and_left(bind, events, reactor):
    """Looked up in the kernel's list, since loopback has no IPv6 multicast route as a rule."""
    need_ipv6()

    def is_member() -> bool:
        lines = [line.split() for line in Path("/proc/net/igmp6").read_text().splitlines()]
        return any(line[1:3] == ["lo", "ff020000000000000000000000007703"] for line in lines)

    handler = Udp(events)
    bind(handler, V6)
    on_poller(reactor, handler.join_group, "ff02::7703", "lo")
    assert is_member()
    on_poller(reactor, handler.leave_group, "ff02::7703", "lo")
    assert not is_member()


# --- fairness, memory, descriptors, counters ---


def pour(stop: threading.Event, address) -> None:
    with Peer() as client:
        while not stop.is_set():
            client.sendto(b"!" * 100, address)


def waits(ask, rounds: int) -> list[float]:
    """Seconds that each of some echoes took."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        assert ask(b"ping") == b"ping"
        taken.append(time.perf_counter() - began)
    return taken


def test_a_udp_firehose_starves_neither_a_connection_nor_another_udp_socket(start, events, peer):
    server, stop = start(Echo), threading.Event()
    sink, echo = type("Sink", (goev.Datagram,), {})(), UdpEcho(events)
    sink.bind(server.reactor, V4)
    echo.bind(server.reactor, V4)
    address = on_poller(server.reactor, lambda: echo.local_address)
    stream, client = server.connect(), peer()
    pouring = in_thread(pour, stop, on_poller(server.reactor, lambda: sink.local_address))
    try:
        by_stream = waits(stream.ask, 50)
        by_datagram = waits(lambda data: client.ask(data, address), 50)
    finally:
        stop.set()
    pouring.result(PATIENCE)
    for taken in (by_stream, by_datagram):
        assert statistics.median(taken) < 0.05
        assert max(taken) < 1.0


def test_a_firehose_of_a_connection_does_not_starve_a_udp_socket(start, events, peer):
    class Sink(goev.Connection):
        def on_read(self):
            self.read()

    server, stop = start(Sink), threading.Event()
    echo = UdpEcho(events)
    echo.bind(server.reactor, V4)
    address = on_poller(server.reactor, lambda: echo.local_address)
    stream, client = server.connect(), peer()

    def send() -> None:
        while not stop.is_set():
            stream.send(b"!" * 1_000_000)

    pouring = in_thread(send)
    try:
        taken = waits(lambda data: client.ask(data, address), 50)
    finally:
        stop.set()
    pouring.result(PATIENCE)
    assert statistics.median(taken) < 0.05
    assert max(taken) < 1.0


class Ring(goev.Datagram):
    """Sends itself what it gets, ``left`` times."""

    left = 0

    def __init__(self, events: Events) -> None:
        self.events = events

    def go(self, times: int, data: bytes) -> None:
        self.left, address = times, self.local_address
        for _ in range(32):
            self.send_to(data, address)

    def on_datagram(self, data, address):
        self.left -= 1
        if self.left >= 32:
            self.send_to(data, address)
        elif self.left == 0:
            self.events("done")


def test_memory_is_flat_over_100_000_datagrams(bind, events, reactor):
    handler = Ring(events)
    bind(handler)
    on_poller(reactor, handler.go, 10_000, b"x" * 1_000)
    events.until("done")
    before = resident()
    on_poller(reactor, handler.go, 100_000, b"x" * 1_000)
    events.until("done")
    assert resident() - before < 5_000_000


def test_memory_is_given_back_after_a_burst_of_output(bind, events, reactor, peer):
    """60 MB queued in one callback, which the receiver mostly loses."""
    handler, sink = Udp(events), peer()
    bind(handler)

    def burst() -> None:
        for _ in range(1_000):
            handler.send_to(bytes(60_000), sink.getsockname())

    settle(reactor)
    before = resident()
    on_poller(reactor, burst)
    settle(reactor)
    grown = resident() - before
    assert grown < 20_000_000, f"{grown:,} bytes are kept"


def test_no_descriptor_is_left_open(bind, events, reactor):
    settle(reactor)
    before = descriptors()
    for _ in range(100):
        handler = Udp(events)
        bind(handler)
        on_poller(reactor, handler.close)
    events.times("close", 100)
    eventually(lambda: open_fds() <= before, "all are closed")


def test_a_stop_closes_every_socket(events):
    with goev.Reactor(pollers=2) as reactor:
        reactor.start()
        handlers = [Udp(events) for _ in range(20)]
        for handler in handlers:
            handler.bind(reactor, V4)
        events.times("open", 20)
        addresses = on_poller(reactor, lambda: [handler.local_address for handler in handlers])
    assert events.of("close") == [("close", None)] * 20
    for address in addresses:
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.bind(address)


def test_an_idle_socket_costs_no_cpu(bind, events, reactor, peer):
    client = peer()
    assert client.ask(b"x", bind(UdpEcho(events))) == b"x"
    handler = Udp(events)
    bind(handler, peer=f"127.0.0.1:{closed_port()}")
    on_poller(reactor, handler.send, b"x")
    events.until("error")
    before = time.process_time()
    time.sleep(0.5)  # the time over which CPU is measured
    assert time.process_time() - before < 0.1


def test_the_stats_count_bytes_both_ways(bind, events, reactor, peer):
    client, address = peer(), bind(UdpEcho(events))
    before = reactor.stats()[0]
    for size in (0, 10, 1_000, 20_000):
        client.ask(b"x" * size, address)
    settle(reactor)
    after = reactor.stats()[0]
    for name in ("bytes_in", "bytes_out"):
        assert after[name] - before[name] == 21_010, name
    assert after["datagrams_dropped"] == 0


def test_a_flooded_socket_leaves_its_neighbours_room(reactor, events):
    """The flood comes from another process, which no lock slows down: at each turn there is more than fits."""

    class Sink(goev.Datagram):
        def on_open(self):
            events("sink", self.local_address)

        def on_datagram(self, data, address):
            pass

    class Answers(goev.Datagram):
        def on_open(self):
            events("answers", self.local_address)

        def on_datagram(self, data, address):
            self.send_to(data, address)

    Sink().bind(reactor, "127.0.0.1:0")
    Answers().bind(reactor, "127.0.0.1:0")
    flooded, address = events.next()[1], events.next()[1]
    flood = """
    import socket, sys
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.connect(("127.0.0.1", int(sys.argv[1])))
    print("ready", flush=True)
    while True:
        peer.send(b"x")
    """
    with (
        Child.running(flood, str(flooded[1])) as child,
        Child.running(flood, str(flooded[1])) as other,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        assert child.line() == other.line() == "ready"
        client.connect(address)
        client.settimeout(PATIENCE)
        for _ in range(50):
            client.send(b"ping")
            assert client.recv(100) == b"ping"
