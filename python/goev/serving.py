"""A whole server in one call."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from goev._core import Acceptor, Connection, Reactor


def serve(
    factory: Callable[[], Connection],
    address: str | socket.socket | list[str | socket.socket] = ":8080",
    *,
    pollers: int | None = None,
    grace: float = 5.0,
    ready: Callable[[Acceptor], object] | None = None,
    **options: Any,
) -> None:
    """Serve until SIGINT, SIGTERM or ``reactor.stop()``; then return.

    Args:
        factory: a ``Connection`` subclass, or a callable that returns a fresh handler for each connection.
        address: as for ``Acceptor``, or a list of such.
        pollers: as for ``Reactor``.
        grace: seconds that open connections have after the first signal to take what is queued for them.
            A second signal stops at once.
        ready: called with the acceptor when it listens; a place to print its address.
        **options: the keyword arguments of ``Acceptor``.

    Raises:
        OSError: the address cannot be bound.
        TypeError, ValueError: an argument is wrong.

    On another thread than the main one signals are left alone.
    """
    if not isinstance(grace, int | float):
        raise TypeError(f"grace must be a number of seconds, not {type(grace).__name__}")
    if not grace >= 0:
        raise ValueError(f"grace must be 0 or more seconds, not {grace}")
    reactor = Reactor(pollers)
    with reactor:
        acceptor = Acceptor(reactor, address, factory, **options)
        with _stopping_on_signals(reactor, grace):
            if ready is not None:
                ready(acceptor)
            reactor.run()


@contextmanager
def _stopping_on_signals(reactor: Reactor, grace: float) -> Iterator[None]:
    """Let SIGINT and SIGTERM stop ``reactor``, and put back the handlers that were there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    graces = iter([grace])

    def stop(_signal: int, _frame: FrameType | None) -> None:
        reactor.stop(next(graces, 0.0))

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
