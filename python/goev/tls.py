"""TLS 1.2 and 1.3: what a server and a client of TLS need to know::

    import goev

    tls = goev.tls.ServerContext("cert.pem", "key.pem", alpn=["http/1.1"])

The poller encrypts and decrypts, without the interpreter lock.
"""

from typing import NamedTuple

from goev._core import ClientContext, ServerContext
from goev._core import TlsCertificateError as CertificateError
from goev._core import TlsError as Error
from goev._core import TlsTruncatedError as TruncatedError


class Session(NamedTuple):
    """The TLS of one connection, by ``connection.tls``."""

    version: str
    """``"TLSv1.2"`` or ``"TLSv1.3"``."""
    cipher: str
    """The cipher suite by its name in the registry: ``"TLS_AES_128_GCM_SHA256"``."""
    alpn: str | None
    """The protocol that both sides agreed on (RFC 7301)."""
    server_name: str | None
    """The name that the client asked for (RFC 6066 section 3)."""
    peer_certificates: tuple[bytes, ...]
    """The certificates of the peer in DER, its own first; empty if it showed none."""
    resumed: bool
    """Whether an earlier session was resumed."""


__all__ = ["CertificateError", "ClientContext", "Error", "ServerContext", "Session", "TruncatedError"]
