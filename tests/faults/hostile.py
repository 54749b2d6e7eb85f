"""A server and its peers in one process that ends at a random moment in a random way: the program of the hostile tests.

Arguments: the seed, and what makes it hostile: any of ``collector`` (a collection at every allocation), ``greenlets``
(callbacks that switch), ``memory`` (RLIMIT_AS) and ``daemons`` (threads that call goev until the end).
It ends with status 40 + seed % 50, whatever happens.
"""

import contextlib
import gc
import logging
import random
import resource
import socket
import sys
import threading
import time

import goev
import goev.http
import goev.websocket

HTTP = b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
EXPECTED = (goev.Error, RuntimeError, OSError, MemoryError)


class Garbage:
    """Garbage whose finalizer calls goev."""

    def __init__(self, call):
        self.itself, self.call = self, call

    def __del__(self):
        with contextlib.suppress(*EXPECTED):
            self.call()


class Serving:
    """Each callback of all handlers does something at random."""

    def on_open(self):
        self.schedule(0.001, self.tick, every=0.002)

    def tick(self):
        self.do_something()

    def do_something(self):
        random.choice(ACTIONS)(self)


class Lines(Serving, goev.Connection):
    framing = goev.Delimited()

    def on_message(self, message):
        self.do_something()
        self.send(message)


class Own(Serving, goev.Connection):
    """With a framing in Python."""

    class framing:
        def __init__(self):
            self.rest = b""

        def feed(self, data):
            *lines, self.rest = (self.rest + data).split(b"\n")
            return lines

        def frame(self, message):
            pause()
            return bytes(message) + b"\n"

    def on_message(self, message):
        self.do_something()
        self.send(message)


class Http(Serving, goev.http.Connection):
    def on_request(self, request):
        self.do_something()
        request.respond(200, {"x-one": "two"}, request.body)

    def do_something(self):
        random.choice(ACTIONS[:-1])(self)


def nothing(_):
    pass


def litter(connection):
    Garbage(lambda: connection.write(b"\n") if isinstance(connection, Lines) else connection.pending_output)


def compute(_):
    sum(range(1000))


def call(connection):
    connection.call_soon(connection.do_something)


def offload(connection):
    connection.run_in_executor(None, compute, None, then=nothing)


def rest(_):
    pause()


def write(connection):
    connection.send(b"x" * random.randrange(20_000))


ACTIONS = [nothing, litter, compute, call, offload, rest, write]


def pause():
    """Replaced by the hostile variants."""


def with_greenlets():
    import greenlet

    def run_other():
        with contextlib.suppress(*EXPECTED):
            for connection in list(OPENED)[:3]:
                connection.send(b"other")
                greenlet.getcurrent().parent.switch()

    def switch():
        greenlet.greenlet(run_other).switch()

    return switch


OPENED: list[goev.Connection] = []


def play(addresses, rng, until):
    """One peer after another, until the process ends."""
    while time.monotonic() < until:
        address, data = rng.choice(addresses)
        with contextlib.suppress(OSError, MemoryError), socket.create_connection(address, 5) as client:
            client.settimeout(0.2)
            for _ in range(rng.randrange(10)):
                client.sendall(data[: rng.randrange(len(data)) + 1] if rng.random() < 0.3 else data)
                if rng.random() < 0.5:
                    client.recv(65536)


def call_goev(reactor, until):
    """A thread that calls goev until it is cut off."""
    while time.monotonic() < until:
        with contextlib.suppress(*EXPECTED):
            reactor.call_soon(compute, None)
            reactor.schedule(0.001, lambda: None)
            reactor.run_in_executor(None, compute, None, then=nothing)
            for connection in OPENED[-2:]:
                connection.send(b"from a thread")
            reactor.stats()


def limit_memory(room):
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))


def main():
    global pause
    seed, hostilities = int(sys.argv[1]), set(sys.argv[2:])
    random.seed(seed)
    rng = random.Random(seed)
    status = 40 + seed % 50
    logging.disable()
    until = time.monotonic() + 20
    reactor = goev.Reactor(pollers=rng.choice((1, 2)), stall_warning=rng.choice((None, 0.001)))
    addresses = []
    for kind, data in ((Lines, b"a line\nanother\n"), (Own, b"mine\nyours\n"), (Http, HTTP)):

        def make(kind=kind):
            handler = kind()
            if kind is not Http:
                OPENED.append(handler)
                del OPENED[:-8]
            return handler

        addresses.append((goev.Acceptor(reactor, "127.0.0.1:0", make).address, data))
    for _ in range(2):
        threading.Thread(target=play, args=(addresses, random.Random(rng.random()), until), daemon=True).start()
    if "greenlets" in hostilities:
        pause = with_greenlets()
    if "collector" in hostilities:
        gc.set_threshold(1, 1, 1)
    if "daemons" in hostilities:
        for _ in range(2):
            threading.Thread(target=call_goev, args=(reactor, until), daemon=True).start()
    run = rng.choice(("start", "daemon", "stuck", "stopped", "main"))
    moment, room = rng.uniform(0.0, 0.3), rng.randrange(2_000_000, 40_000_000)
    if run == "main":
        threading.Timer(moment, reactor.stop, (0,)).start()
        if "memory" in hostilities:
            limit_memory(room)
        with contextlib.suppress(*EXPECTED):  # there may be no memory for a thread
            reactor.run()
        sys.exit(status)
    if run == "daemon":
        threading.Thread(target=reactor.run, daemon=True).start()
    else:
        reactor.start()
    if "memory" in hostilities:
        limit_memory(room)
    time.sleep(moment)
    if run == "stuck":
        reactor.call_soon(rng.choice((lambda: time.sleep(1000), lambda: [None for _ in iter(int, 1)])))
        time.sleep(0.01)
    if run == "stopped":
        reactor.stop(rng.choice((0, 0.1)))
        with contextlib.suppress(goev.StopTimeout):  # any machine may be slow
            reactor.join(10)
    sys.exit(status)


if __name__ == "__main__":
    main()
