"""The parts of scopes that are the same for all requests of a connection."""

from ssl import DER_cert_to_PEM_cert
from typing import Any

from goev._core import AsgiConnection
from goev.asgi.forwarded import check
from goev.asgi.subjects import subject_of
from goev.tls import Session

ASGI = {"version": "3.0", "spec_version": "2.5"}
VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
# The registry of RFC 8446 and RFC 5289, as far as goev speaks them.
CIPHER_SUITES = {
    "TLS_AES_128_GCM_SHA256": 0x1301,
    "TLS_AES_256_GCM_SHA384": 0x1302,
    "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": 0xC02B,
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": 0xC02C,
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": 0xC02F,
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": 0xC030,
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": 0xCCA8,
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": 0xCCA9,
}


def template(connection: AsgiConnection) -> tuple[Any, dict[str, Any], str, bool]:
    """The application of a connection, a scope with the keys that all requests share, its root path, and whether it
    has trusted proxies.

    Raises ``TypeError``, ``ValueError``: an attribute of the class is wrong.
    """
    kind: Any = type(connection)
    app, root_path = getattr(kind, "app", None), kind.root_path
    if not callable(app):
        raise TypeError(f"{kind.__name__}.app must be an ASGI application, not {app!r}")
    if not isinstance(root_path, str) or (root_path and (root_path[0] != "/" or root_path[-1] == "/")):
        raise ValueError(f"{kind.__name__}.root_path must be '' or like '/api', not {root_path!r}")
    proxied = connection.proxy.tls if connection.proxy else None
    extensions: dict[str, Any] = {"http.response.early_hint": {}, "http.response.pathsend": {}}
    if (session := connection.tls) is not None:
        extensions["tls"] = tls_extension(session)
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": ASGI,
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http" if session is None and proxied is None else "https",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": root_path,
        "headers": [],
        "client": client_of(connection.remote_address),
        "server": server_of(connection.local_address),
        "state": dict(kind.state),
        "extensions": extensions,
    }
    return app, scope, root_path, bool(check(kind.trusted_proxies))


def client_of(address: Any) -> tuple[str, int] | None:
    """A Unix socket has no address of its client."""
    return (address[0], address[1]) if isinstance(address, tuple) else None


def server_of(address: Any) -> tuple[str, int | None]:
    """A path of a Unix socket stands alone."""
    return (address[0], address[1]) if isinstance(address, tuple) else (address, None)


def tls_extension(session: Session) -> dict[str, Any]:
    """The extension of the specification. goev does not tell its own certificate."""
    chain = [DER_cert_to_PEM_cert(certificate) for certificate in session.peer_certificates]
    return {
        "server_cert": None,
        "client_cert_chain": chain,
        "client_cert_name": subject_of(session.peer_certificates[0]) if chain else None,
        "client_cert_error": None,
        "tls_version": VERSIONS.get(session.version),
        "cipher_suite": CIPHER_SUITES.get(session.cipher),
    }
