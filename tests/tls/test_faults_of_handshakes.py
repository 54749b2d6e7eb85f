"""Peers that go in the middle of the handshake: memory, descriptors and objects stay flat over 100,000 of them in
`make soak`, and over 2,000 here.
"""

import gc
import os
import socket
import ssl

import pytest

import goev
from support import PATIENCE, Child, Echo, Recorder, eventually, open_fds, resident, settle
from tls_support import Peer, trusting

MEGABYTE = 1 << 20
SOAK = int(os.environ.get("GOEV_SOAK", "1"))
HANDSHAKES = 2_000 if SOAK == 1 else 10_000 * SOAK

# Each visitor leaves at the next stage, by the next kind of end; the numbers of both are prime to each other.
VISITS = """
    import contextlib, socket, ssl, struct, sys
    port, authority = int(sys.argv[1]), sys.argv[2]
    context = ssl.create_default_context(cadata=open(authority).read())
    STAGES = ["connected", "half a hello", "hello", "answered", "half finished", "finished", "talked"]
    ENDS = ["reset", "fin", "reset", "fin", "half", "silent"]

    def flight(tls, going):
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return going.read()

    def visit(number, silent):
        stage = STAGES[number % 7]
        end = ENDS[number % 6]
        client = socket.create_connection(("127.0.0.1", port), 10)
        coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(coming, going, server_hostname="localhost")
        if stage != "connected":
            hello = flight(tls, going)
            client.sendall(hello[: len(hello) // 2] if stage == "half a hello" else hello)
        if STAGES.index(stage) > 2:
            while not (last := flight(tls, going)):
                coming.write(came := client.recv(65536))
                assert came, stage
            client.sendall(last[: {"answered": 0, "half finished": len(last) // 2}.get(stage, len(last))])
        if stage == "talked":
            tls.write(b"x")
            client.sendall(going.read())
            while True:
                try:
                    assert tls.read(1) == b"x"
                    break
                except ssl.SSLWantReadError:
                    coming.write(client.recv(65536))
        if end == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif end == "half":
            client.shutdown(socket.SHUT_WR)
        if end == "silent" and stage not in ("finished", "talked") and len(silent) < 100:
            silent.append(client)
        else:
            client.close()

    for line in sys.stdin:
        silent = []
        for number in range(int(line)):
            visit(number, silent)
        for client in silent:
            with contextlib.suppress(ConnectionResetError):
                while client.recv(65536):  # until the server is tired of it
                    pass
            client.close()
        print("done", flush=True)
"""


@pytest.mark.timeout(60 + HANDSHAKES / 50)
def test_peers_that_go_in_the_middle_of_handshakes_leave_everything_flat(stack, identity, root, tmp_path):
    class Cyclic(Echo):
        """A handler in a cycle with its timer, its bound methods and itself."""

        def on_open(self):
            self.me = self
            self.timer = self.schedule(60, self.on_timeout)

    authority = tmp_path / "ca.pem"
    authority.write_bytes(root.pem)
    context = goev.tls.ServerContext(identity.chain, identity.key)
    reactor = stack.enter_context(goev.Reactor(pollers=2))
    options = {"tls": context, "handshake_timeout": 2.0, "linger_timeout": 0.5, "backlog": 4096}
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Cyclic, **options)
    reactor.start()
    port = str(acceptor.address[1])
    children = [stack.enter_context(Child.running(VISITS, port, str(authority))) for _ in range(2)]

    def visit(count: int) -> None:
        for child in children:
            child.say(str(count // 2))
        for child in children:
            assert child.line(30 + count / 50) == "done"
        eventually(lambda: sum(poller["open"] for poller in reactor.stats()) == 0, "all have ended", 20)
        settle(reactor)
        gc.collect()

    def measure() -> tuple[int, int, int]:
        return open_fds(), len(gc.get_objects()), resident()

    visit(HANDSHAKES // 4)
    descriptors, objects, memory = measure()
    visit(3 * HANDSHAKES // 4)
    eventually(lambda: open_fds() <= descriptors + 2, "descriptors are flat")
    _, objects_after, memory_after = measure()
    print(f"{HANDSHAKES} handshakes: {(memory_after - memory) / 1024:.0f} KiB more after the last three quarters")
    assert abs(objects_after - objects) < 500
    assert memory_after - memory < 6 * MEGABYTE
    stats = reactor.stats()
    accepted = sum(poller["accepted"] for poller in stats)
    failed = sum(sum(poller["handshakes_failed"].values()) for poller in stats)
    # Some that reset right behind their last word are not accepted any more.
    assert accepted + failed == HANDSHAKES
    assert accepted > HANDSHAKES // 7
    assert sum(poller["timers"] for poller in stats) == 0


@pytest.mark.parametrize("stage", ["connected", "half a hello", "hello"])
def test_a_silent_peer_is_ended_at_the_handshake_timeout(serve, reactor, root, tells, stage):
    acceptor = serve(Echo, handshake_timeout=0.3)
    going = ssl.MemoryBIO()
    tls = trusting(root).wrap_bio(ssl.MemoryBIO(), going, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = going.read()
    with socket.create_connection(acceptor.address, PATIENCE) as client:
        client.sendall({"connected": b"", "half a hello": hello[:100], "hello": hello}[stage])
        while client.recv(65536):
            pass
    assert "handshake" in tells.next()
    eventually(lambda: reactor.stats()[0]["handshakes_failed"]["timeout"] == 1, "it is counted")


def test_a_stop_ends_handshakes_and_flushes_what_was_written(identity, root, events):
    """With a grace: peers in the middle of the handshake get an end at once, and open connections get their output."""

    class Sends(Recorder):
        def on_open(self):
            self.write(bytes(3_000_000))
            self.events("open", self)

    context = goev.tls.ServerContext(identity.chain, identity.key)
    with goev.Reactor(pollers=1) as reactor:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", lambda: Sends(events), tls=context)
        reactor.start()
        with (
            socket.create_connection(acceptor.address, PATIENCE) as half,
            Peer.to(acceptor.address, trusting(root)) as peer,
        ):
            events.until("open")
            reactor.stop(grace=10)
            assert half.recv(100) == b"", "nothing waits for it"
            assert len(peer.receive_all()) == 3_000_000, "whole, up to our close_notify"
            peer.say_close()
        reactor.join(PATIENCE)
    assert events.until("close")[1] is None


def test_a_stop_lets_nobody_hang_whose_peer_takes_no_last_word(identity, root, events):
    """A peer that never reads: at the end of the grace its connection is aborted."""

    class Sends(Recorder):
        def on_open(self):
            self.write(bytes(30_000_000))
            self.events("open", self)

    context = goev.tls.ServerContext(identity.chain, identity.key)
    with goev.Reactor(pollers=1) as reactor:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", lambda: Sends(events), tls=context)
        reactor.start()
        with Peer.to(acceptor.address, trusting(root)) as peer:
            events.until("open")
            reactor.stop(grace=0.3)
            reactor.join(PATIENCE)
            with pytest.raises(ConnectionResetError):
                peer.receive_all()
    assert isinstance(events.until("close")[1], ConnectionAbortedError)
