"""Out of descriptors: the backlog queues, nothing spins, and waiting peers are served as soon as there is room."""

import time

import pytest

from support import Child, Client, cpu_seconds

SERVER = """
    import logging, resource, sys
    import goev

    class Echo(goev.Connection):
        def on_read(self):
            self.write(self.read())

    logging.getLogger("goev").addHandler(logging.NullHandler())
    pollers = int(sys.argv[1])
    with goev.Reactor(pollers=pollers) as reactor:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo, reuse_port=pollers > 1)
        reactor.start()
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        print(acceptor.address[1])
        sys.stdin.readline()
        stats = reactor.stats()
        print(sum(poller["accepted"] for poller in stats), sum(poller["refused"] for poller in stats))
"""

CLIENTS = 200


@pytest.mark.parametrize("pollers", [1, 2])
def test_two_hundred_clients_come_through_sixty_four_descriptors(stack, pollers):
    child = stack.enter_context(Child.running(SERVER, str(pollers)))
    address = ("127.0.0.1", int(child.line()))
    waiting = [stack.enter_context(Client(address)) for _ in range(CLIENTS)]
    for client in waiting:
        client.send(b"x")
    served: list[Client] = []
    longest = 0.0
    while waiting:
        began = time.monotonic()
        came = [client for client in waiting if client.gets(b"x", 0.002)]
        while not came and time.monotonic() - began < 10:
            came = [client for client in waiting if client.gets(b"x", 0.002)]
        assert came, f"{len(waiting)} of {CLIENTS} were dropped"
        longest = max(longest, time.monotonic() - began)
        waiting = [client for client in waiting if client not in came]
        if not served:
            assert 20 < len(came) < 60
            before = cpu_seconds(child.pid)
            time.sleep(1.0)  # the time over which CPU is measured
            assert cpu_seconds(child.pid) - before < 0.1, "it spins"
        served += came
        for client in came:
            client.close()
    # ``gets`` waits 2 ms for each waiting client as well.
    assert longest < 0.5 + CLIENTS * 0.002 * 2
    child.say("end")
    assert child.line() == f"{CLIENTS} 0"
    assert (child.end(), child.complaints) == (0, "")


def test_with_one_poller_room_is_used_at_once(stack):
    """The listener need not wait for the rest of a tenth of a second: the poller closed the descriptor itself."""
    child = stack.enter_context(Child.running(SERVER, "1"))
    address = ("127.0.0.1", int(child.line()))
    clients = [stack.enter_context(Client(address)) for _ in range(100)]
    for client in clients:
        client.send(b"x")
    served = [client for client in clients if client.gets(b"x", 0.02)]
    waiting = [client for client in clients if client not in served]
    times = []
    for leaving, coming in zip(served[:15], waiting, strict=False):
        began = time.monotonic()
        leaving.close()
        assert coming.gets(b"x", 5.0)
        times.append(time.monotonic() - began)
    assert sorted(times)[len(times) // 2] < 0.03
    child.say("end")
    child.line()
    assert (child.end(), child.complaints) == (0, "")
