"""``examples/proxy.py`` between real sockets: bytes, back-pressure, half-close and reset go through both ways."""

import os
import random
import re
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from support import PATIENCE, ROOT, Child, Client, eventually, half_closes, in_thread, need, resident, sha256

EXAMPLE = ROOT / "examples" / "proxy.py"
DATA = random.Random(3).randbytes(1 << 20)


class Relay:
    """The example in a process of its own, and an upstream for it that is a plain listening socket."""

    def __init__(self, stack: ExitStack, *options: str) -> None:
        self.stack = stack
        self.upstream = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.upstream.settimeout(PATIENCE)
        to = f"127.0.0.1:{self.upstream.getsockname()[1]}"
        self.child = stack.enter_context(Child(str(EXAMPLE), "--port", "0", "--upstream", to, *options))
        found = re.search(r":(\d+)", self.child.line())
        assert found
        self.address = ("127.0.0.1", int(found[1]))

    def connect(self, **options: Any) -> Client:
        return self.stack.enter_context(Client(self.address, **options))

    def accept(self) -> Client:
        """The proxy's connection to the upstream, as that sees it."""
        far = Client.__new__(Client)
        far.socket, _ = self.upstream.accept()
        far.socket.settimeout(PATIENCE)
        return self.stack.enter_context(far)

    def pair(self, direction: str = "down", **options: Any) -> tuple[Client, Client]:
        """Both ends of a relayed connection: first the one that is to send, then the one that is to receive."""
        near = self.connect(**options)
        far = self.accept()
        return (near, far) if direction == "up" else (far, near)

    def all_closed(self) -> bool:
        """Whether no sockets are left but those of an idle proxy: the listener, and the pair by which signals come."""
        descriptors, sockets = f"/proc/{self.child.pid}/fd", 0
        for descriptor in os.listdir(descriptors):
            with suppress(FileNotFoundError):
                sockets += os.readlink(f"{descriptors}/{descriptor}").startswith("socket:")
        return sockets <= 3

    def end(self) -> None:
        """Nothing was logged, and Ctrl-C ends it in order."""
        assert self.child.process.poll() is None, self.child.errors
        self.child.interrupt()
        assert (self.child.end(), self.child.complaints) == (0, "")


@contextmanager
def running(*options: str) -> Iterator[Relay]:
    with ExitStack() as stack:
        relay = Relay(stack, *options)
        # The clients go first. The end waits for those that are there.
        with ExitStack() as relay.stack:
            yield relay
        relay.end()


@pytest.fixture
def relay() -> Iterator[Relay]:
    with running() as started:
        yield started


both_ways = pytest.mark.parametrize("direction", ["up", "down"])


def test_it_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 80


def test_it_relays_what_is_said_either_way(relay: Relay) -> None:
    client, far = relay.pair("up")
    for text in (b"hello", b"x" * 100_000, b"bye"):
        client.send(text)
        assert far.receive(len(text)) == text
        far.send(text.upper())
        assert client.receive(len(text)) == text.upper()


def test_what_a_client_says_first_waits_for_the_upstream(relay: Relay) -> None:
    client = relay.connect()
    client.send(b"early")
    client.finish()
    far = relay.accept()
    assert far.receive_all() == b"early"
    far.send(b"late")
    far.close()
    assert client.receive_all() == b"late"


def test_the_upstream_may_speak_first(relay: Relay) -> None:
    far, client = relay.pair()
    far.send(b"220 ready\r\n")
    assert client.receive(11) == b"220 ready\r\n"


def test_curl_gets_a_page_through_it(stack: ExitStack) -> None:
    curl = need("curl")
    server = stack.enter_context(Child(str(ROOT / "examples" / "plaintext.py"), "--port", "0"))
    port = re.search(r":(\d+)", server.line())
    assert port
    proxy = stack.enter_context(Child(str(EXAMPLE), "--port", "0", "--upstream", f"localhost:{port[1]}"))
    found = re.search(r":(\d+)", proxy.line())
    assert found
    url = f"http://127.0.0.1:{found[1]}/plaintext"
    command = [curl, "-sS", "--max-time", "10", *[url] * 20]
    assert subprocess.run(command, capture_output=True, timeout=20, check=True).stdout == b"Hello, World!" * 20


@pytest.mark.parametrize("pollers", ["1", "2"])
def test_100_mb_in_both_directions_at_once(pollers: str) -> None:
    with running("--pollers", pollers) as relay:
        client, far = relay.pair("up")
        up, down = DATA * 95 + b"up", DATA[::-1] * 95 + b"down"
        assert min(len(up), len(down)) > 99_000_000

        def send(end: Client, data: bytes) -> None:
            end.send(data)
            end.finish()

        sending: list[Future[Any]] = [in_thread(send, client, up), in_thread(send, far, down)]
        receiving = [in_thread(far.hash_all), in_thread(client.hash_all)]
        hashes = [future.result(25) for future in receiving]
        for future in sending:
            future.result(PATIENCE)
        assert hashes == [(len(up), sha256(up)), (len(down), sha256(down))]
        eventually(relay.all_closed, "both connections are closed")


def test_twenty_pairs_at_once_are_not_mixed_up() -> None:
    with running("--pollers", "2") as relay:

        def echo(far: Client) -> None:
            for part in iter(lambda: far.socket.recv(1 << 16), b""):
                far.send(part)
            far.finish()

        def visit(number: int) -> None:
            data = bytes([number]) * 2_000_000
            with Client(relay.address) as client:
                sending = in_thread(lambda: (client.send(data), client.finish()))
                assert client.receive_all() == data
                sending.result(PATIENCE)

        visits = [in_thread(visit, number) for number in range(20)]
        echoes = [in_thread(echo, relay.accept()) for _ in visits]
        for future in visits + echoes:
            future.result(20)


@both_ways
def test_a_slow_reader_slows_the_sender_and_takes_no_memory(relay: Relay, direction: str) -> None:
    sender, receiver = relay.pair(direction)
    before = resident(relay.child.pid)
    data = DATA * 100
    sent = sender.fill(data)
    assert sent < len(data), "nothing slowed it down"
    assert resident(relay.child.pid) - before < 4_000_000
    rest = in_thread(lambda: (sender.send(data[sent:]), sender.finish()))
    assert receiver.hash_all() == (len(data), sha256(data))
    rest.result(PATIENCE)
    assert resident(relay.child.pid) - before < 8_000_000


@both_ways
def test_a_slow_reader_of_one_direction_leaves_other_pairs_alone(relay: Relay, direction: str) -> None:
    sender, _ = relay.pair(direction)
    assert sender.fill(DATA * 100) < 100 << 20
    client, far = relay.pair("up")
    client.send(b"ping")
    assert far.receive(4) == b"ping"


@both_ways
def test_a_half_close_goes_through_and_the_other_direction_stays_open(relay: Relay, direction: str) -> None:
    first, second = relay.pair(direction)
    half_closes(first, second, DATA)
    eventually(relay.all_closed, "both connections are closed")


@both_ways
def test_a_half_close_comes_after_what_is_queued(relay: Relay, direction: str) -> None:
    sender, receiver = relay.pair(direction)
    data = DATA * 30
    sending = in_thread(lambda: (sender.send(data), sender.finish()))
    select.select([receiver.socket], [], [], PATIENCE)
    assert receiver.hash_all() == (len(data), sha256(data))
    sending.result(PATIENCE)
    receiver.send(b"got it")
    assert sender.receive(6) == b"got it"


@both_ways
def test_a_close_of_one_side_closes_the_other(relay: Relay, direction: str) -> None:
    first, second = relay.pair(direction)
    first.send(b"bye")
    first.close()
    assert second.receive_all() == b"bye"
    second.close()
    eventually(relay.all_closed, "both connections are closed")


@both_ways
def test_a_reset_goes_through(relay: Relay, direction: str) -> None:
    first, second = relay.pair(direction)
    first.send(b"x")
    assert second.receive(1) == b"x"
    first.reset()
    with pytest.raises(ConnectionResetError):
        second.receive_all()
    eventually(relay.all_closed, "both connections are closed")


@both_ways
def test_a_reader_that_resets_while_its_sender_is_paused_resets_the_sender(relay: Relay, direction: str) -> None:
    sender, receiver = relay.pair(direction)
    assert sender.fill(DATA * 100) < 100 << 20
    receiver.reset()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        sender.send(DATA * 100)
    eventually(relay.all_closed, "both connections are closed")


@both_ways
def test_a_sender_that_resets_while_it_is_paused_resets_the_reader(relay: Relay, direction: str) -> None:
    sender, receiver = relay.pair(direction)
    assert sender.fill(DATA * 100) < 100 << 20
    sender.reset()
    with pytest.raises(ConnectionResetError):
        receiver.hash_all()
    eventually(relay.all_closed, "both connections are closed")


def test_a_dead_upstream_closes_the_client_and_a_live_one_serves_the_next(relay: Relay) -> None:
    address = relay.upstream.getsockname()
    relay.upstream.close()
    for _ in range(5):
        with relay.connect() as client:
            client.send(b"anybody there?")
            assert client.receive_all() == b""
        assert "Connection refused" in relay.child.line()
    relay.upstream = relay.stack.enter_context(socket.create_server(address))
    relay.upstream.settimeout(PATIENCE)
    client, far = relay.pair("up")
    client.send(b"back again")
    assert far.receive(10) == b"back again"


@contextmanager
def silent_upstream() -> Iterator[int]:
    """The port of a listener whose queue is full: it answers no more connects, like an address behind a firewall."""
    with socket.socket() as full, ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        for _ in range(8):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
            waiting.append(one)
        _, connected, _ = select.select([], waiting, [], 0)
        assert len(connected) < len(waiting)
        yield full.getsockname()[1]


def test_a_silent_upstream_closes_the_client_at_the_deadline() -> None:
    with silent_upstream() as port, running("--timeout", "0.3", "--upstream", f"127.0.0.1:{port}") as relay:
        began = time.monotonic()
        client = relay.connect()
        client.send(b"anybody there?")
        assert client.receive_all() == b""
        assert 0.3 <= time.monotonic() - began < 1.0
        assert "timed out" in relay.child.line().lower()


@pytest.mark.parametrize("leave", [Client.close, Client.reset])
def test_clients_that_do_not_wait_for_the_upstream(leave: Callable[[Client], None]) -> None:
    with silent_upstream() as port, running("--timeout", "0.5", "--upstream", f"127.0.0.1:{port}") as relay:
        for _ in range(20):
            client = relay.connect()
            client.send(b"never mind")
            leave(client)
        for _ in range(20):
            assert "timed out" in relay.child.line().lower()
        eventually(relay.all_closed, "all connections are closed")


def test_clients_that_are_gone_when_the_upstream_answers(relay: Relay) -> None:
    """Reset right after connecting: whatever comes first, the upstream's connection ends too."""
    for number in range(100):
        client = relay.connect()
        if number % 2:
            client.send(b"x")
        client.reset()
        with relay.accept() as far:
            try:
                assert far.receive_all() in (b"", b"x")
            except ConnectionResetError:
                continue
    eventually(relay.all_closed, "all connections are closed")


def test_five_hundred_visits_leave_nothing_behind() -> None:
    with running("--pollers", "2") as relay:
        for number in range(500):
            with relay.connect() as client, relay.accept() as far:
                client.send(b"ping")
                assert far.receive(4) == b"ping"
                if number % 3 == 0:
                    client.reset()
                elif number % 3 == 1:
                    far.reset()
        eventually(relay.all_closed, "all connections are closed")


def test_it_ends_while_both_directions_are_busy() -> None:
    with ExitStack() as stack:
        relay = Relay(stack)
        stop = threading.Event()

        def flood(end: Client) -> None:
            with suppress(OSError):
                while not stop.is_set():
                    end.send(DATA)

        def sink(end: Client) -> None:
            with suppress(OSError):
                end.hash_all()

        ends = relay.pair()
        busy = [in_thread(work, end) for end in ends for work in (flood, sink)]
        first, second = relay.pair()
        first.send(b"x")
        assert second.receive(1) == b"x"
        relay.end()
        stop.set()
        for future in busy:
            future.result(PATIENCE)


def test_an_upload_goes_on_while_the_client_reads_nothing_yet(relay: Relay) -> None:
    """Directions are independent: a client may send all it has before it reads what comes meanwhile."""
    client, far = relay.pair("up")
    down = DATA * 30
    sending = in_thread(far.send, down)
    # Until the client's way down is full, from its own buffers back to the sender's.
    eventually(lambda: not select.select([], [far.socket], [], 0.3)[1], "the way down is full")
    assert not sending.done()
    up = DATA * 30
    receiving = in_thread(far.receive, len(up))
    assert client.fill(up) == len(up), "the upload stalled"
    assert receiving.result(PATIENCE) == up
    assert client.receive(len(down)) == down
    sending.result(PATIENCE)
