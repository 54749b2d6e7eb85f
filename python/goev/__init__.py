"""goev: network servers and clients as plain handler objects on a Rust reactor.

Subclass ``Connection``, and ``serve`` it::

    import goev

    class Echo(goev.Connection):
        def on_read(self):
            self.write(self.read())

    goev.serve(Echo, ":8080")

Attributes:
    EV_IN: of ``Reactor.add``: call ``on_read`` when the descriptor is readable, or at its end (EPOLLIN).
    EV_OUT: of ``Reactor.add``: call ``on_write`` when the descriptor is writable (EPOLLOUT).
    EV_ET: of ``Reactor.add``, beside the two: call once when it becomes ready, and not for as long as it is (EPOLLET).
"""

from importlib import import_module
from types import ModuleType

from goev import http, tls, websocket
from goev._core import (
    EV_ET,
    EV_IN,
    EV_OUT,
    Acceptor,
    Connection,
    ConnectionClosed,
    Connector,
    Datagram,
    DatagramTruncated,
    Delimited,
    Error,
    EventHandler,
    FirstByteTimeout,
    FixedSize,
    Framing,
    FramingError,
    Group,
    IdleTimeout,
    InputOverflow,
    LengthPrefixed,
    LifetimeExceeded,
    MessageTooLong,
    OutputOverflow,
    PingTimeout,
    ProtocolError,
    Reactor,
    ReceiveTimeout,
    StopReport,
    StopTimeout,
    Timer,
    TooSlow,
    WriteTimeout,
    WrongThread,
)
from goev.connecting import connect
from goev.datagrams import DatagramAddress
from goev.pool import ConnectionPool, PoolClosed, PooledConnection
from goev.proxy import Proxy, ProxyTls
from goev.serving import serve

__all__ = [
    "EV_ET",
    "EV_IN",
    "EV_OUT",
    "Acceptor",
    "Connection",
    "ConnectionClosed",
    "ConnectionPool",
    "Connector",
    "Datagram",
    "DatagramAddress",
    "DatagramTruncated",
    "Delimited",
    "Error",
    "EventHandler",
    "FirstByteTimeout",
    "FixedSize",
    "Framing",
    "FramingError",
    "Group",
    "IdleTimeout",
    "InputOverflow",
    "LengthPrefixed",
    "LifetimeExceeded",
    "MessageTooLong",
    "OutputOverflow",
    "PingTimeout",
    "PoolClosed",
    "PooledConnection",
    "ProtocolError",
    "Proxy",
    "ProxyTls",
    "Reactor",
    "ReceiveTimeout",
    "StopReport",
    "StopTimeout",
    "Timer",
    "TooSlow",
    "WriteTimeout",
    "WrongThread",
    "connect",
    "http",
    "serve",
    "tls",
    "websocket",
]


# Imported when they are first used, because they take most of the time of an import.
LAZY = ("asgi", "asyncio", "cluster", "errors", "logs", "metrics", "wsgi")


def __getattr__(name: str) -> ModuleType:
    """``goev.asyncio`` and the other modules of ``LAZY``."""
    if name not in LAZY:
        raise AttributeError(f"module 'goev' has no attribute {name!r}")
    return import_module(f"goev.{name}")


__version__ = "0.1.0"
