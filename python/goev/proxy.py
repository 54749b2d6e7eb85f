"""The PROXY protocol: what a proxy says about the client for which it connects, by ``connection.proxy``."""

from typing import Any, Literal, NamedTuple


class ProxyTls(NamedTuple):
    """The TLS between a client and its proxy, as the proxy describes it."""

    version: str | None
    """``"TLSv1.3"`` and the like."""
    cipher: str | None
    """The cipher suite."""
    common_name: str | None
    """The common name of the client's certificate."""
    signature_algorithm: str | None
    """The algorithm that signed the proxy's certificate."""
    key_algorithm: str | None
    """The algorithm of the proxy's key."""
    has_certificate: bool
    """Whether the client showed a certificate, on this connection or when its session began."""
    verified: bool
    """Whether the proxy accepted that certificate."""


class Proxy(NamedTuple):
    """The header of the PROXY protocol with which a connection began."""

    version: int
    """1 or 2."""
    command: Literal["LOCAL", "PROXY"]
    """``"PROXY"`` for a client's connection, ``"LOCAL"`` for the proxy's own, a health check for example."""
    source: Any
    """The client's address, in the form of ``Connection.remote_address``; ``None`` if the header names none."""
    destination: Any
    """The address that the client connected to; ``None`` if the header names none."""
    address: Any
    """The proxy's own address, the socket's peer; ``""`` for a Unix socket."""
    alpn: str | None
    """The protocol that the client and the proxy agreed on (RFC 7301)."""
    authority: str | None
    """The host name that the client asked for (RFC 6066 section 3)."""
    unique_id: bytes | None
    """The proxy's name for the connection."""
    namespace: str | None
    """The network namespace of the proxy's socket."""
    tls: ProxyTls | None
    """The TLS between the client and the proxy; ``None`` if there is none, or nothing is said of it."""
    tlvs: tuple[tuple[int, bytes], ...]
    """Everything behind the addresses as it came, in order: types and values."""


__all__ = ["Proxy", "ProxyTls"]
