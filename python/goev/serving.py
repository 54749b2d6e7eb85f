"""A whole server in one call."""

import socket
from collections.abc import Callable
from typing import Any, Protocol

from goev._core import Acceptor, Connection, Reactor, ServerContext, StopReport, _has_coroutine


class Listening(Protocol):
    """Where a server listens: an ``Acceptor``, or the sockets of worker processes."""

    @property
    def address(self) -> Any:
        """As ``Acceptor.address``."""

    @property
    def addresses(self) -> list[Any]:
        """As ``Acceptor.addresses``."""


def serve(
    factory: Callable[[], Connection],
    address: str | socket.socket | list[str | socket.socket] = ":8080",
    *,
    pollers: int | None = None,
    asyncio: bool | None = None,
    grace: float = 5.0,
    ready: Callable[[Any], object] | None = None,
    workers: int | None = None,
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
        ready: called with the acceptor as soon as it listens and signals stop it; a place to print its address. With
            workers it gets an object with ``address`` and ``addresses``.
        workers: worker processes, under a supervisor that starts, replaces and reloads them (``docs/deploy.md``);
            ``None`` means that this process serves. Workers import the program, so the call has to be below
            ``if __name__ == "__main__":``, and ``factory`` has to be picklable. A program of ``python -c`` or of
            standard input has no file to import, and needs ``start_method="fork"``.
        **options: the keyword arguments of ``Acceptor``. With workers also the attributes of
            ``goev.service.Settings``, and ``tls`` is a dict of the arguments of ``goev.tls.ServerContext``, because
            each worker reads the files anew.

    Raises:
        OSError: the address cannot be bound.
        TypeError, ValueError: an argument is wrong.
        RuntimeError: the workers cannot start; the log has the traceback. Or a worker has come to this call.
        Any exception that ``ready`` raises.

    Signals have the same effect as in ``Reactor.run``.
    """
    if workers is not None:
        reactor_options = {"pollers": pollers, "asyncio": asyncio}
        reactor_options = {name: value for name, value in reactor_options.items() if value is not None}
        return _serve_by_workers(factory, address, ready, reactor_options, workers=workers, grace=grace, **options)
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


def _serve_by_workers(
    factory: Callable[[], Connection],
    address: Any,
    ready: Callable[[Any], object] | None,
    reactor_options: dict[str, Any],
    **options: Any,
) -> StopReport:
    """Serve by a supervisor and its workers."""
    from dataclasses import fields

    from goev.service.settings import Settings
    from goev.service.supervisor import Supervisor

    tls = options.pop("tls", None)
    if tls is not None and not isinstance(tls, dict):
        text = f"tls must be a dict of the arguments of goev.tls.ServerContext with workers, not {type(tls).__name__}"
        raise TypeError(f"{text}: each worker reads the files anew")
    Reactor(**reactor_options)  # what is wrong is told here, and not by each worker
    if tls is not None:
        ServerContext(**tls)
    is_handler = isinstance(factory, type) and issubclass(factory, Connection)
    options.setdefault("interface", "auto" if is_handler else "goev")  # a function makes handlers
    own = {each.name for each in fields(Settings)} & options.keys()
    settings = Settings(
        target=factory,
        listen=tuple(address) if isinstance(address, list) else (address,),
        reactor=reactor_options,
        acceptor={name: value for name, value in options.items() if name not in own},
        tls=tls,
        **{name: options[name] for name in own},
    )
    supervisor = Supervisor.of(settings, ready)
    if supervisor.run():
        raise RuntimeError("the workers cannot start; the log (logger goev.service) says why [GOEV802]")
    return StopReport(*supervisor.report)
