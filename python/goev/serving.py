"""A whole server in one call."""

import socket
from collections.abc import Callable
from typing import Any

from goev._core import Acceptor, Connection, Reactor, StopReport, _has_coroutine


def serve(
    factory: Callable[[], Connection],
    address: str | socket.socket | list[str | socket.socket] = ":8080",
    *,
    pollers: int | None = None,
    asyncio: bool | None = None,
    grace: float = 5.0,
    ready: Callable[[Acceptor], object] | None = None,
    **options: Any,
) -> StopReport:
    """Serve until SIGINT, SIGTERM or ``reactor.stop()``; return how the connections ended.

    Args:
        factory: a ``Connection`` subclass, or a callable that returns a fresh handler for each connection.
        address: as for ``Acceptor``, or a list of such: ``":8080"`` is every IPv4 address, ``"*:8080"`` every address
            of both versions of IP, ``"unix:/path"`` and ``"unix:@name"`` Unix sockets; a bound ``socket.socket``.
        pollers: as for ``Reactor``.
        asyncio: as for ``Reactor``. ``None`` means: if ``factory`` is a class with an ``async def`` callback.
        grace: seconds after the first signal for which open connections may flush their output.
            A second signal stops at once.
        ready: called with the acceptor as soon as it listens and signals stop it; a place to print its address.
        **options: the keyword arguments of ``Acceptor``.

    Raises:
        OSError: the address cannot be bound.
        TypeError, ValueError: an argument is wrong.
        Any exception that ``ready`` raises.

    Signals have the same effect as in ``Reactor.run``.
    """
    if asyncio is None:
        asyncio = _has_coroutine(factory)
    with Reactor(pollers, asyncio=asyncio) as reactor:
        acceptor = Acceptor(reactor, address, factory, **options)
        failures: list[BaseException] = []

        def announce() -> None:
            try:
                if ready is not None:
                    ready(acceptor)
            except BaseException as error:
                failures.append(error)
                reactor.stop(0)

        reactor.call_soon(announce)
        report = reactor.run(grace=grace)
        if failures:
            raise failures[0]
        return report
