"""UDP sockets under load starve no other, and keep neither memory, descriptors nor the CPU."""

import socket
import statistics
import threading
import time

import goev
from datagram_support import V4, Peer, Udp, UdpEcho, closed_port
from support import (
    PATIENCE,
    Child,
    Echo,
    Events,
    eventually,
    in_thread,
    on_poller,
    open_fds,
    resident,
    settle,
    settled_fds,
)


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
    before = settled_fds()
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
