"""The addresses of datagrams."""

from typing import Any, final


@final
class DatagramAddress(tuple[Any, ...]):
    """The sender of a datagram, as ``on_datagram`` gets it on a socket that is bound to every address.

    It equals the tuple of the socket module: ``(host, port)``, or ``(host, port, flow info, scope)`` for IPv6.
    ``send_to`` answers from ``asked``, because a peer takes answers only from the address that it asked. So keep the
    object for a later answer; a tuple of the same values leaves the choice to the system.
    """

    asked: str
    """Our own address that the datagram was sent to: ``"192.0.2.1"``, ``"fe80::1%eth0"``."""
