"""64 threads that write to one connection, or to connections that are being closed; stops from everywhere at once."""

import contextlib

import pytest

import goev
from support import PATIENCE, Child, Client, Recorder, eventually, in_thread

THREADS = 64


def test_sixty_four_threads_write_to_one_connection_each_in_its_order(start, events):
    each = 300
    server = start(lambda: Recorder(events), max_output=100_000_000)
    client = server.connect()
    connection = events.until("open")[1]

    def write(thread: int) -> None:
        for number in range(each):
            message = b"%03d %05d " % (thread, number)
            # Short messages are copied, long ones held by reference.
            connection.write(message.ljust(5000 if number % 10 == 0 else 20, b".") + b"\n")

    received = in_thread(lambda: b"".join(iter(lambda: client.socket.recv(1 << 20), b"")))
    for writer in [in_thread(write, thread) for thread in range(THREADS)]:
        writer.result(PATIENCE)
    connection.close()
    lines = received.result(PATIENCE).splitlines()
    assert len(lines) == THREADS * each
    numbers: dict[int, list[int]] = {thread: [] for thread in range(THREADS)}
    for line in lines:
        thread, number, padding = line.split(b" ")
        assert len(line) == (5000 if int(number) % 10 == 0 else 20)
        assert padding.strip(b".") == b""
        numbers[int(thread)].append(int(number))
    assert all(found == list(range(each)) for found in numbers.values())


@pytest.mark.parametrize("end", ["close", "abort", "reset"])
def test_sixty_four_threads_write_to_connections_that_are_being_closed(start, events, end):
    server = start(lambda: Recorder(events), pollers=2, max_output=100_000_000)
    rounds = 10

    def write(connection: goev.Connection) -> None:
        with contextlib.suppress(goev.ConnectionClosed):
            while True:
                connection.write(b"x" * 50)

    for _ in range(rounds):
        client = server.connect()
        connection = events.until("open")[1]
        writers = [in_thread(write, connection) for _ in range(THREADS)]
        if end == "reset":
            client.reset()
        else:
            in_thread(getattr(connection, end)).result(PATIENCE)
            client.close()
        for writer in writers:
            writer.result(PATIENCE)
    events.times("close", rounds)
    eventually(lambda: sum(poller["open"] for poller in server.reactor.stats()) == 0, "all have ended")
    assert sum(poller["accepted"] for poller in server.reactor.stats()) == rounds


STOPS = """
    import os, signal, sys, threading
    import goev

    def say(*words):
        # In one piece, whichever thread says it.
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())

    class Handler(goev.Connection):
        def on_open(self):
            say("open")
        def on_read(self):
            self.reactor.stop()
        def on_close(self, error):
            say("close", error)

    reactor = goev.Reactor(pollers=2)
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Handler)
    reactor.call_soon(lambda: say(acceptor.address[1]))

    def stop(how):
        if how == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        elif how == "timer":
            reactor.schedule(0.0, reactor.stop)
        elif how == "thread":
            reactor.stop()
        elif how == "twice at once":
            barrier = threading.Barrier(2)
            for _ in range(2):
                threading.Thread(target=lambda: (barrier.wait(), reactor.stop(5.0))).start()

    threading.Thread(target=lambda: [stop(line.strip()) for line in sys.stdin], daemon=True).start()
    say(reactor.run())
"""


@pytest.mark.parametrize("how", ["callback", "timer", "thread", "signal", "twice at once"])
def test_a_stop_from_anywhere_ends_everybody_in_order(stack, how):
    child = stack.enter_context(Child.running(STOPS))
    address = ("127.0.0.1", int(child.line()))
    clients = [stack.enter_context(Client(address)) for _ in range(10)]
    assert [child.line() for _ in clients] == ["open"] * 10
    if how == "callback":
        clients[0].send(b"x")
    else:
        child.say(how)
    for client in clients:
        assert client.receive_all() == b""
        client.close()
    assert sorted(child.line() for _ in range(11)) == ["StopReport(closed=10, aborted=0)"] + ["close None"] * 10
    assert (child.end(), child.complaints) == (0, "")
