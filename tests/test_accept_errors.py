"""C7: out of descriptors, a listener waits and comes back; nothing spins and nothing is dropped."""

import re
import time

from support import Child, Client, cpu_seconds

SERVER = """
    import resource, sys
    import goev

    class Echo(goev.Connection):
        def on_read(self):
            self.write(self.read())

    with goev.Reactor(pollers=int(sys.argv[1])) as reactor:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo, reuse_port=sys.argv[1] != "1")
        reactor.start()
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        print(acceptor.address[1])
        sys.stdin.readline()
        print(sum(poller["accepted"] for poller in reactor.stats()))
        print(acceptor.stats()["accepted"], acceptor.stats()["errors"] > 0)
"""


def answered(clients: list[Client], wait: float) -> set[Client]:
    """Those that echo within ``wait`` seconds."""
    end = time.monotonic() + wait
    got = set()
    for client in clients:
        client.socket.settimeout(max(0.01, end - time.monotonic()))
        try:
            if client.socket.recv(1):
                got.add(client)
        except TimeoutError:
            pass
    return got


def out_of_descriptors(stack, pollers: int) -> None:
    child = stack.enter_context(Child.running(SERVER, str(pollers)))
    address = ("127.0.0.1", int(child.line()))
    clients = [stack.enter_context(Client(address)) for _ in range(60)]
    for client in clients:
        client.send(b"x")
    served = answered(clients, 1.0)
    assert 10 < len(served) < 40

    before, began = cpu_seconds(child.pid), time.monotonic()
    time.sleep(1.0)  # the time over which CPU is measured
    assert cpu_seconds(child.pid) - before < 0.2 * (time.monotonic() - began), "it spins"

    one = next(iter(served))
    assert one.ask(b"alive") == b"alive"
    waiting = [client for client in clients if client not in served]
    while waiting:
        assert served, f"{len(waiting)} connections were dropped"
        for client in served:
            client.close()
        served = answered(waiting, 3.0)
        waiting = [client for client in waiting if client not in served]
    child.say("end")
    assert (child.line(), child.line()) == ("60", "60 True")
    assert child.end() == 0
    # Once, although the shortage ended and began again with each connection.
    text = rf"cannot accept on 127.0.0.1:{address[1]}: Too many open files .*; new connections wait in the backlog"
    text += r" \[GOEV304\]\n"
    assert re.fullmatch(text, child.errors)


def test_emfile_pauses_the_listener_and_the_backlog_is_served_later(stack):
    out_of_descriptors(stack, 1)


def test_emfile_pauses_each_listener_of_reuse_port(stack):
    out_of_descriptors(stack, 2)
