"""Memory that runs out (RLIMIT_AS): a connection that finds none ends with ``MemoryError``, the others live."""

import struct

import pytest

from support import Child, Client, eventually

MEGABYTE = 1 << 20

SERVER = """
    import resource, sys
    import goev, goev.http

    ends = {}

    def note(error):
        name = type(error).__name__
        ends[name] = ends.get(name, 0) + 1

    class Messages(goev.Connection):
        framing = goev.LengthPrefixed(4, max_size=1 << 30)
        def on_message(self, message):
            self.send(b"%d" % len(message))
        def on_close(self, error):
            note(error)

    class Bodies(goev.http.Connection):
        limits = goev.http.Limits(max_body=1 << 30)
        def on_request(self, request):
            request.respond(200, {}, b"%d" % len(request.body))
        def on_close(self, error):
            note(error)

    class Lines(goev.Connection):
        def on_read(self):
            if self.pending_input < 1000:
                self.write(b"%d\\n" % len(self.read()))
        def on_close(self, error):
            note(error)

    import logging
    logging.getLogger("goev").disabled = True
    reactor = goev.Reactor(pollers=1, stall_warning=None)
    acceptors = [
        goev.Acceptor(reactor, "127.0.0.1:0", Messages),
        goev.Acceptor(reactor, "127.0.0.1:0", Bodies),
        goev.Acceptor(reactor, "127.0.0.1:0", Lines, max_input=1 << 30),
    ]
    reactor.start()
    print(*(acceptor.address[1] for acceptor in acceptors))
    for line in sys.stdin:
        if line.startswith("limit"):
            with open("/proc/self/statm") as statm:
                used = int(statm.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + int(line.split()[1]), resource.RLIM_INFINITY))
            print("limited")
        elif line.startswith("ends"):
            print(ends.get("MemoryError", 0), sum(ends.values()))
        else:
            reactor.stop(0)
            reactor.join(10)
            sys.exit(3)
"""


@pytest.fixture
def server(stack, monkeypatch):
    # Without an interpreter lock Python allocates by mimalloc, which would reserve a GiB of addresses before the limit.
    monkeypatch.setenv("MIMALLOC_ARENA_RESERVE", "0")
    child = stack.enter_context(Child.running(SERVER))
    return child, [("127.0.0.1", int(port)) for port in child.line().split()]


def command(child, line):
    child.say(line)
    return child.line()


def end(child):
    child.say("end")
    assert child.end() == 3, child.errors
    assert not child.complaints


def offer(client, data):
    """Send what the server takes; it may end the connection in the middle."""
    try:
        client.socket.sendall(data)
    except OSError:
        return False
    return True


def test_many_unfinished_messages(stack, server):
    """Each connection holds half a message, until there is no memory for another."""
    child, (address, *_) = server
    # The C library has reserved 64 MiB of addresses for the threads, which the limit counts already.
    size, peers = 1_000_000, 300
    clients = [stack.enter_context(Client(address)) for _ in range(peers)]
    before = command(child, f"limit {24 * MEGABYTE}")
    assert before == "limited"
    half = struct.pack(">I", size) + bytes(size // 2)
    alive = [client for client in clients if offer(client, half)]
    for client in alive[::2]:
        client.reset()
    finished = 0
    for client in alive[1::2]:
        try:
            if offer(client, bytes(size - size // 2)) and client.socket.recv(20)[4:] == b"%d" % size:
                finished += 1
        except OSError:
            pass
        client.close()
    eventually(lambda: int(command(child, "ends").split()[0]) > 0, "a connection ends with MemoryError")
    assert finished > 0, "a connection that had its memory goes on"
    fresh = stack.enter_context(Client(address))
    fresh.send(struct.pack(">I", 5) + b"hello")
    assert fresh.receive(5)[4:] == b"5"
    end(child)


CASES = {
    "a message": (0, lambda size: struct.pack(">I", size) + bytes(size)),
    "a body": (1, lambda size: b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)),
    "a body in chunks": (
        1,
        lambda size: (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + (b"10000\r\n" + bytes(65536) + b"\r\n") * (size // 65536)
            + b"0\r\n\r\n"
        ),
    ),
    "input that is not taken": (2, lambda size: bytes(size)),
}
SMALL = {
    0: (struct.pack(">I", 5) + b"hello", b"5"),
    1: (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"\r\n\r\n0"),
    2: (b"hello\n", b"6\n"),
}


# MiB: for less than the input, for the input alone, for the input and a part of the `bytes`.
ROOMS = [(case, room) for case in CASES for room in (20, 40, 70) if room == 20 or case != "input that is not taken"]


@pytest.mark.parametrize(("case", "room"), ROOMS)
def test_one_that_is_too_large_for_the_memory_that_is_left(stack, server, case, room):
    """For its input, or for the ``bytes`` that the handler is to get."""
    child, addresses = server
    which, make = CASES[case]
    other = stack.enter_context(Client(addresses[which]))
    assert command(child, f"limit {room * MEGABYTE}") == "limited"
    large = stack.enter_context(Client(addresses[which]))
    offer(large, make(64 * MEGABYTE))
    try:
        large.finish()
        large.receive_all()
    except OSError:
        pass
    eventually(lambda: command(child, "ends").split()[0] == "1", "one connection ends", 60.0)
    question, answer = SMALL[which]
    other.send(question)
    other.socket.settimeout(10)
    assert answer in other.socket.recv(65536)
    end(child)
