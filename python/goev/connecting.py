"""An outgoing connection in one call."""

from typing import Any

from goev._core import ClientContext, Connection, Connector, Reactor


def connect(
    reactor: Reactor,
    address: str | list[str],
    handler: Connection,
    *,
    timeout: float = 10.0,
    tls: bool | ClientContext | None = None,
    proxy_for: Connection | tuple[Any, Any] | None = None,
    **options: Any,
) -> None:
    """Connect ``handler`` to ``address`` on a poller of ``reactor``: the short form of ``Connector.connect``.

    ``on_open`` or ``on_connect_fail(error)`` follows, exactly one of them, once. For many connections keep a
    ``Connector``: it checks its options once and uses the pollers in turn.

    Args:
        reactor: inside one of its callbacks the connection is made on the same poller, else on the first.
        address: as for ``Connector.connect``: ``"example.com:80"``, ``"[fe80::1%eth0]:80"``, ``"unix:@name"``.
        handler: as for ``Connector.connect``.
        tls: as for ``Connector.connect``: ``True``, or a ``goev.tls.ClientContext``.
        proxy_for: as for ``Connector.connect``: with ``proxy_protocol``, the connection whose addresses are passed on.
        timeout: seconds for the host names, all addresses and the TLS handshake together, > 0.
        **options: the keyword arguments of ``Connector``.

    Raises:
        TypeError, ValueError: an argument is wrong.
        RuntimeError: the reactor has stopped.
    """
    Connector(reactor, **options).connect(address, handler, timeout=timeout, tls=tls, proxy_for=proxy_for)
