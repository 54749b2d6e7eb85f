"""Tests of UDP share handlers that report or echo, raw peers, and looks at a socket."""

import os
import socket

import goev
from support import PATIENCE, Events

V4, V6 = "127.0.0.1:0", "[::1]:0"
LARGEST = 65_507  # bytes that an IPv4 packet has room for


class Udp(goev.Datagram):
    """Reports its callbacks."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def on_open(self):
        self.events("open", self)

    def on_datagram(self, data, address):
        self.events("datagram", data, address)

    def on_error(self, error):
        self.events("error", error)

    def on_close(self, error):
        self.events("close", error)


class UdpEcho(Udp):
    """Answers instead of reporting what came."""

    def on_datagram(self, data, address):
        self.send_to(data, address)


class Peer(socket.socket):
    """A raw UDP socket of IPv4 or IPv6 loopback; every operation has a limit."""

    def __init__(self, family: int = socket.AF_INET) -> None:
        super().__init__(family, socket.SOCK_DGRAM)
        self.settimeout(PATIENCE)
        self.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))

    def ask(self, data: bytes, address) -> bytes:
        self.sendto(data, address)
        return self.recv(70_000)


def closed_port() -> int:
    """A port of 127.0.0.1 where nobody is."""
    with Peer() as gone:
        return gone.getsockname()[1]


def socket_of(handler: goev.Datagram) -> socket.socket:
    """A copy of its socket, to look at options."""
    return socket.socket(fileno=os.dup(handler.fileno()))
