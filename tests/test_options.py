"""Settings of reactors and connections that change how they run; the limits of acceptors are tested with those."""

import os
import socket
import threading
from pathlib import Path

import pytest

import goev
from support import PATIENCE, Echo, in_thread

ALLOWED = sorted(os.sched_getaffinity(0))


class Tells(goev.Connection):
    """Answers each input with where it runs."""

    def on_read(self):
        self.read()
        thread = Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().strip()
        self.write(f"{thread} {sorted(os.sched_getaffinity(0))}\n".encode())


def answers(reactor, connections: int) -> set[str]:
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Tells, placement="round_robin")
    reactor.start()
    found = set()
    for _ in range(connections):
        with socket.create_connection(acceptor.address, timeout=PATIENCE) as client:
            client.sendall(b"?")
            found.add(client.makefile().readline().strip())
    return found


def test_the_threads_of_a_reactor_bear_its_name():
    with goev.Reactor(2, name="chat") as reactor:
        names = {answer.split()[0] for answer in answers(reactor, 4)}
    assert names == {"chat-0", "chat-1"}


def test_pollers_run_on_the_cpus_given_one_after_the_other():
    with goev.Reactor(3, cpus=ALLOWED) as reactor:
        found = {answer.split(None, 1)[1] for answer in answers(reactor, 6)}
    assert found == {str([ALLOWED[index % len(ALLOWED)]]) for index in range(3)}


def test_a_run_gives_the_calling_thread_its_cpus_back():
    reactor = goev.Reactor(cpus=ALLOWED[:1])
    seen = []
    reactor.schedule(0, lambda: seen.append(sorted(os.sched_getaffinity(0))))
    reactor.schedule(0.01, reactor.stop)
    reactor.run()
    assert seen == [ALLOWED[:1]]
    assert sorted(os.sched_getaffinity(0)) == ALLOWED


def test_a_small_read_buffer_and_small_batches_lose_nothing():
    data = os.urandom(1_000_000)
    with goev.Reactor(read_buffer_size=16384, batch_calls=1, batch_time=0.0, timer_capacity=1000) as reactor:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
        reactor.start()
        clients = [socket.create_connection(acceptor.address, timeout=PATIENCE) for _ in range(3)]
        sending = [in_thread(client.sendall, data) for client in clients]
        receiving = [in_thread(client.makefile("rb").read, len(data)) for client in clients]
        assert all(future.result(PATIENCE) == data for future in receiving)
        for future, client in zip(sending, clients, strict=True):
            future.result(PATIENCE)
            client.close()


@pytest.mark.parametrize(
    ("option", "value", "error", "text"),
    [
        ("name", "a\0b", ValueError, "name"),
        ("name", 3, TypeError, "name|str"),
        ("cpus", [], ValueError, "cpus must not be an empty list"),
        ("cpus", [max(ALLOWED) + 1000], ValueError, "cpus must be among those allowed here"),
        ("cpus", [-1], ValueError, "cpus must be 0 or more, not -1"),
        ("read_buffer_size", 16383, ValueError, "read_buffer_size must be from 16384 to 67108864, not 16383"),
        ("read_buffer_size", 2**26 + 1, ValueError, "read_buffer_size must be from"),
        ("batch_calls", 0, ValueError, "batch_calls must be from 1 to 65536, not 0"),
        ("batch_calls", 2**70, ValueError, "batch_calls must be from 1 to 65536"),
        ("batch_time", -0.1, ValueError, "batch_time must be from 0"),
        ("batch_time", float("nan"), ValueError, "batch_time must be from 0"),
        ("timer_capacity", -1, ValueError, "timer_capacity must be 0 or more, not -1"),
        ("timer_capacity", 10**9, ValueError, "timer_capacity must be from 0 to 100000000"),
    ],
)
def test_a_wrong_option_of_a_reactor_is_refused_with_its_limit(option, value, error, text):
    with pytest.raises(error) as caught:
        goev.Reactor(1, **{option: value})
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert any(part in told for part in text.split("|")), told


def test_without_auto_pause_a_full_output_does_not_keep_input_from_coming(start, events):
    class Fills(goev.Connection):
        def on_open(self):
            self.write(bytes(8_000_000))

        def on_read(self):
            events("read", len(self.read()), self.over_high_water)

    server = start(Fills, auto_pause=False)
    client = server.connect()
    client.send(b"hello")
    assert events.next() == ("read", 5, True)
    assert client.receive(8_000_000) == bytes(8_000_000)
