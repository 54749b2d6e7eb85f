"""Tests of addresses share the interface whose IPv6 addresses need a zone, and a look at it."""

import socket
from pathlib import Path


def scoped() -> tuple[str, str, int]:
    """Address, name and index of an interface with a link-local address; ``::1`` of ``lo`` if there is none."""
    interfaces = Path("/proc/net/if_inet6")  # address, index, prefix, scope, flags (0x40: tentative), name
    for line in interfaces.read_text().splitlines() if interfaces.exists() else []:
        digits, index, _, _, flags, name = line.split()
        if digits.startswith("fe80") and not int(flags, 16) & 0x40:
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)), name, int(index, 16)
    return "::1", "lo", socket.if_nametoindex("lo")


def zone_of(address: str, index: int) -> int:
    """The zone that the system shows: only link-local addresses have one."""
    return index if address.startswith("fe80") else 0
