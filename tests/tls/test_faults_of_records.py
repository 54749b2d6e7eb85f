"""A stream of records that something on the way changes at random, in either role: it never looks whole, and the poller
lives on. A few seconds here, GOEV_FUZZ seconds for each role in `make soak`. The seed is printed, and GOEV_SEED
gives it again.
"""

import os
import random
import socket
import struct
import time
from contextlib import suppress

import pytest

import goev
from support import PATIENCE, Events, eventually, open_fds, resident, settle
from tls_support import Echo, Peer, serving, trusting

SECONDS = float(os.environ.get("GOEV_FUZZ", "4"))
SEED = int(os.environ.get("GOEV_SEED", random.SystemRandom().randrange(1 << 32)))
MEGABYTE = 1 << 20


class Fuzzed(Peer):
    """Changes some of the bytes that it sends; ``changed`` tells whether it has."""

    chance: random.Random
    changed = False
    # Where the records are spoilt: some in the handshake, most behind it.
    quiet = 0

    def push(self) -> None:
        waiting = bytearray(self.going.read())
        if waiting and self.quiet:
            self.quiet -= 1
        elif waiting and self.chance.random() < 0.5:
            before = bytes(waiting)
            self.spoil(waiting)
            self.changed |= waiting != before
        while waiting:  # in pieces, so that records are cut as well
            count = self.chance.choice([1, 5, 100, len(waiting)])
            self.socket.sendall(waiting[:count])
            del waiting[:count]

    def spoil(self, data: bytearray) -> None:
        chance, at = self.chance, self.chance.randrange(len(data))
        match chance.randrange(8):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at:]
            case 2:
                del data[at : at + chance.randrange(1, 40)]
            case 3:
                data[at:at] = chance.randbytes(chance.choice([1, 5, 40, 20_000]))
            case 4:  # the same again
                data += data[:at]
            case 5:  # the head of a record: its kind, version or length
                data[min(at, chance.randrange(5))] = chance.randrange(256)
            case 6:  # a record in the clear
                kind, size = chance.choice([20, 21, 22, 23, 24, 99]), chance.choice([0, 1, 2, 16_640, 17_000])
                data[0:0] = struct.pack("!BHH", kind, 0x0303, size) + chance.randbytes(size)
            case 7:
                data[:] = chance.randbytes(len(data))


class Keeps(goev.Connection):
    """Keeps its input, and echoes it; the number of its conversation comes first if it was accepted."""

    def __init__(self, events: Events, got: bytearray) -> None:
        self.events, self.got = events, got

    def on_open(self):
        self.events("open")

    def on_read(self):
        data = self.read()
        self.got += data
        self.write(data)

    def on_eof(self):
        self.events("eof")
        self.close()

    def on_close(self, error):
        self.events("close", error)

    def on_connect_fail(self, error):
        self.events("connect_fail", error)


def converse(peer: Fuzzed, data: bytes) -> None:
    """Send and receive at random, then end in one of several ways."""
    chance, rest = peer.chance, memoryview(data)
    peer.shake_hands()
    while rest:
        count = chance.choice([1, 100, 16_384, 40_000])
        peer.send(rest[:count])
        rest = rest[count:]
        if chance.random() < 0.3:
            peer.read()
    if chance.random() < 0.7:
        peer.say_close()
        if not peer.changed:
            peer.receive_all()
    elif chance.random() < 0.5:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def judge(events: Events, got: bytearray, data: bytes, changed: bool, name: str) -> None:
    """The end comes once and last; what came is what was sent, as far as it goes; only a whole stream ends in order."""
    if "open" in events.names:
        events.until("close")
        assert events.names[-1] == "close", name
        assert events.names.count("close") == events.names.count("open") == 1, name
    assert data.startswith(got), f"{name}: {len(got)} bytes, and other ones"
    if "eof" in events.names:
        assert len(got) == len(data), f"{name}: a cut stream looked whole"
        assert events.history[-1] == ("close", None) or changed, name


def rounds(seconds: float):
    """Random choices for one round after another, each with its name."""
    print(f"seed {SEED}")
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until or number < 10:
        number += 1
        yield random.Random(f"{SEED}/{number}"), f"GOEV_SEED={SEED}, round {number}"


def prepared(peer: Fuzzed, chance: random.Random) -> Fuzzed:
    peer.chance, peer.quiet = chance, chance.choice([0, 1, 2, 3, 10, 1000])
    peer.socket.settimeout(2)
    return peer


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_server_survives_every_change_of_the_records_that_it_gets(reactor, identity, root, version):
    context = goev.tls.ServerContext(identity.chain, identity.key)
    made: list[tuple[Events, bytearray]] = []

    def handler() -> Keeps:
        made.append((Events(), bytearray()))
        return Keeps(*made[-1])

    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", handler, tls=context, handshake_timeout=2, linger_timeout=0.2)
    trusted, descriptors, memory = trusting(root, version=version), open_fds(), 0
    for chance, name in rounds(SECONDS / 2):
        made.clear()
        data = chance.randbytes(chance.choice([0, 1, 1000, 50_000]))
        sock = socket.create_connection(acceptor.address, PATIENCE)
        with prepared(Fuzzed(sock, trusted, server_hostname="localhost"), chance) as peer, suppress(OSError):
            converse(peer, data)
        eventually(lambda: reactor.stats()[0]["open"] == 0, f"{name}: it has ended")
        settle(reactor, 2)
        for events, got in made:
            judge(events, got, data, peer.changed, name)
        memory = memory or resident()
    eventually(lambda: open_fds() <= descriptors, "every descriptor is closed")
    assert resident() - memory < 16 * MEGABYTE
    plain = goev.Acceptor(reactor, "127.0.0.1:0", Echo, tls=context)
    with Peer.to(plain.address, trusting(root)) as peer:
        assert peer.ask(b"hello") == b"hello"


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_client_survives_every_change_of_the_records_that_it_gets(reactor, identity, root, tmp_path, version):
    ours, theirs = goev.tls.ClientContext(ca=root.pem), serving(identity, tmp_path, version=version)
    descriptors, memory = open_fds(), 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        target = f"localhost:{listener.getsockname()[1]}"
        for chance, name in rounds(SECONDS / 2):
            events, got = Events(), bytearray()
            data = chance.randbytes(chance.choice([0, 1, 1000, 50_000]))
            goev.connect(reactor, target, Keeps(events, got), tls=ours, handshake_timeout=2, linger_timeout=0.2)
            sock = listener.accept()[0]
            with prepared(Fuzzed(sock, theirs, server_side=True), chance) as peer, suppress(OSError):
                converse(peer, data)
            if events.next()[0] == "connect_fail":
                assert peer.changed, f"{name}: {events.history}"
                assert len(events.history) == 1
            judge(events, got, data, peer.changed, name)
            memory = memory or resident()
    eventually(lambda: open_fds() <= descriptors, "every descriptor is closed")
    assert resident() - memory < 16 * MEGABYTE
