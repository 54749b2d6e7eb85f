"""Finds the client and the scheme in the fields that trusted proxies add to a request."""

from collections.abc import Callable, Collection
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias

from goev._core import AsgiConnection

Network: TypeAlias = IPv4Network | IPv6Network


def check(proxies: Collection[str]) -> Collection[str]:
    """Raise ``TypeError`` or ``ValueError`` unless these are addresses, networks or ``"unix:"``."""
    if isinstance(proxies, str):
        raise TypeError(f"trusted_proxies must be a collection of str, not {proxies!r}")
    _networks(tuple(proxies))
    return proxies


def parsed(proxies: tuple[str, ...]) -> tuple[Network, ...]:
    """The networks among the proxies."""
    try:
        return tuple(ip_network(proxy) for proxy in proxies if proxy != "unix:")
    except ValueError as error:
        raise ValueError(f"trusted_proxies: {error}") from None


_networks: Callable[[tuple[str, ...]], tuple[Network, ...]] = lru_cache(maxsize=64)(parsed)


def apply(connection: AsgiConnection, scope: dict[str, Any]) -> None:
    """Set the client and the scheme of a scope, if the peer is a proxy that is trusted."""
    kind: Any = type(connection)
    proxies = tuple(kind.trusted_proxies)
    client = scope["client"]
    if not is_trusted(client[0] if client else None, proxies):
        return
    fields = dict(scope["headers"])
    proto = fields.get(b"x-forwarded-proto", b"").strip().lower()
    if proto in (b"http", b"https", b"ws", b"wss"):
        is_socket = scope["type"] == "websocket"
        secure, plain = ("wss", "ws") if is_socket else ("https", "http")
        scope["scheme"] = secure if proto in (b"https", b"wss") else plain
    # A proxy appends to the field, or adds one of its own behind it, which means the same (RFC 9110 section 5.3).
    forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    if host := first_untrusted(forwarded.decode("latin-1"), proxies):
        scope["client"] = (host, 0)  # no field tells the port


def first_untrusted(forwarded: str, proxies: tuple[str, ...]) -> str | None:
    """The client: the last address that no trusted proxy has, because each proxy appends its own peer."""
    hosts = [host for host in (without_port(part.strip()) for part in forwarded.split(",")) if host]
    for host in reversed(hosts):
        if not is_trusted(host, proxies):
            return host
    return hosts[0] if hosts else None


def without_port(host: str) -> str:
    """Some proxies give the port of the client too: ``192.0.2.1:5000``, ``[2001:db8::1]:5000``."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    address, _, port = host.partition(":")
    return address if port.isdigit() else host


def is_trusted(host: str | None, proxies: tuple[str, ...]) -> bool:
    """Whether a peer is among these proxies; ``None`` is the peer of a Unix socket."""
    if host is None:
        return "unix:" in proxies
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in _networks(proxies))
