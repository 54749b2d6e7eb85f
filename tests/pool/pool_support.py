"""Tests of ConnectionPool share the server's end of its connections, and waits for a pool to fill."""

import goev
from goev.backoff import FIRST
from support import eventually


class Peer(goev.Connection):
    """The server's end; the tests find all that were opened, and end some."""

    def __init__(self, peers: list) -> None:
        self.peers = peers

    def on_open(self):
        self.peers.append(self)

    def on_read(self):
        self.write(self.read())


def address_of(listener):
    return "{}:{}".format(*listener.getsockname())


def filled(pool, count):
    eventually(lambda: pool.idle == count, f"{count} idle connections")
    return pool


def least_pause(rounds: int) -> float:
    """Seconds that so many failures in a row take at least."""
    return sum(FIRST * 2**failure * 0.5 for failure in range(rounds))
