"""15,000 connections at once: each gets its own bytes back, and afterwards nothing is left.

Over TLS they are 3,000 here and 15,000 in `make soak`, because their clients compute for most of a minute.
"""

import os
import resource

import pytest
from wires import authority

from support import Child, Echo, eventually, open_fds, resident

CLIENTS = """
    import resource, select, socket, ssl, sys
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port, host, count, authority = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    context = ssl.create_default_context(cadata=authority) if authority else None
    clients = []
    for number in range(count):
        # An address of its own for each process: the ports of one do not suffice for all.
        client = socket.create_connection(("127.0.0.1", port), 20, (host, 0))
        clients.append(context.wrap_socket(client, server_hostname="localhost") if context else client)
    print("connected", flush=True)
    sys.stdin.readline()
    for turn in range(3):
        for number, client in enumerate(clients):
            client.sendall(b"%s %06d %d" % (host.encode(), number, turn))
        for number, client in enumerate(clients):
            message = b"%s %06d %d" % (host.encode(), number, turn)
            assert client.recv(100) == message, (number, turn)
    print("done", flush=True)
    sys.stdin.readline()
    for client in clients:
        client.close()
"""
PROCESSES = 3
EACH = 5000
EACH_SECURE = 1000 if os.environ.get("GOEV_SOAK", "1") == "1" else EACH


@pytest.fixture
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < PROCESSES * EACH + 500:
        pytest.skip(f"needs RLIMIT_NOFILE above {PROCESSES * EACH + 500} (ulimit -Hn), which is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.timeout(120)
@pytest.mark.wires("plain", "tls")
@pytest.mark.usefixtures("many_descriptors")
def test_fifteen_thousand_connections_at_once_echo_and_leave_nothing(stack, start, wire):
    each, trust = (EACH_SECURE, authority().pem.decode()) if wire.is_secure else (EACH, "")
    before, memory = open_fds(), resident()
    server = start(Echo, pollers=2, backlog=4096)
    port = str(server.address[1])
    children = [
        stack.enter_context(Child.running(CLIENTS, port, f"127.0.1.{index}", str(each), trust))
        for index in range(PROCESSES)
    ]
    for child in children:
        assert child.line(60) == "connected"
    count = PROCESSES * each
    eventually(lambda: sum(poller["open"] for poller in server.reactor.stats()) == count, "all are open at once")
    for child in children:
        child.say("go")
    for child in children:
        assert child.line(60) == "done"
    cost = (resident() - memory) / count
    assert cost < (16_000 if wire.is_secure else 2_000), f"{cost:.0f} bytes a connection"
    for child in children:
        child.say("end")
        assert (child.end(60), child.errors if "Error" in child.errors else "") == (0, "")
    eventually(lambda: sum(poller["open"] for poller in server.reactor.stats()) == 0, "all have ended", 30)
    stats = server.reactor.stats()
    assert sum(poller["accepted"] for poller in stats) == sum(poller["closed"] for poller in stats) == count
    # The reactor and the pipes of the children stay.
    eventually(lambda: open_fds() <= before + 40, "the descriptors are closed")
