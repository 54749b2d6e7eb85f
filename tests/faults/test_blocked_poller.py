"""A callback that blocks holds up its own poller and no other."""

import select
import threading
import time

import goev
from support import PATIENCE, Client, eventually


def test_a_blocked_callback_holds_up_only_its_own_poller(start):
    entered, release = threading.Event(), threading.Event()

    class Blocks(goev.Connection):
        def on_read(self):
            data = self.read()
            if data == b"block":
                entered.set()
                assert release.wait(PATIENCE)
            self.write(data)

    server = start(Blocks, pollers=2, placement="round_robin")
    clients = [server.connect() for _ in range(6)]  # the odd ones belong to the second poller
    for client in clients:
        assert client.ask(b"hello") == b"hello"
    blocked = clients[1]
    blocked.send(b"block")
    assert entered.wait(PATIENCE)
    try:
        began = time.monotonic()
        for _ in range(50):
            for client in clients[0::2]:
                assert client.ask(b"ping") == b"ping"
        assert time.monotonic() - began < 5
        for client in clients[3::2]:
            client.send(b"wait")
            assert not client.gets(b"w", 0.05)
        # The first poller accepts, and keeps every other new connection.
        new = [server.connect() for _ in range(2)]
        for client in new:
            client.send(b"hello")
        eventually(lambda: any(has_input(client) for client in new), "the free poller serves new ones")
    finally:
        release.set()
    for client in clients[3::2]:
        assert client.receive(4) == b"wait"
    assert blocked.receive(5) == b"block"


def has_input(client: Client) -> bool:
    return bool(select.select([client.socket], [], [], 0)[0])
