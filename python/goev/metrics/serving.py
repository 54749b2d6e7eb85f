"""Metrics of a program of one process."""

import socket
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from goev import http
from goev._core import Acceptor, Reactor
from goev.metrics.exposition import check_installed
from goev.metrics.pages import Page, give
from goev.metrics.snapshots import snapshot
from goev.metrics.totals import Totals

WORKER = "0"


class Own:
    """The metrics and the health of this process."""

    def __init__(self, reactor: Reactor, acceptors: Iterable[Acceptor]) -> None:
        self.reactor = reactor
        self.acceptors = list(acceptors)
        self.totals = Totals()

    @property
    def is_live(self) -> bool:
        return self.reactor.running

    @property
    def is_ready(self) -> bool:
        return self.reactor.running

    def collect(self) -> str:
        self.totals.update(WORKER, snapshot([self.reactor], self.acceptors))
        return self.totals.text()


class OwnPages(Page):
    def __init__(self, own: Own) -> None:
        super().__init__(own)
        self.own = own

    def on_request(self, request: http.Request) -> None:
        if self.answer(request):
            give(request, self.own.collect())


class MetricsServer:
    """Serves the metrics of this process, by a thread of its own, until it is closed or the process ends.

    A context manager: the end of the block closes it.

    Attributes:
        address: where it listens.
    """

    def __init__(self, own: Own, address: str | socket.socket) -> None:
        self._reactor = Reactor(1, name="goev-metrics")
        acceptor = Acceptor(self._reactor, address, lambda: OwnPages(own))
        self.address: Any = acceptor.address
        self._reactor.start()

    def close(self) -> None:
        """Stop listening, and wait for the end of the thread. Any number of times."""
        self._reactor.stop(1.0)
        self._reactor.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def serve(
    reactor: Reactor, address: str | socket.socket = ":9100", *, acceptors: Iterable[Acceptor] = ()
) -> MetricsServer:
    """Serve the metrics of ``reactor`` and of this process on ``address``, with ``/-/live`` and ``/-/ready``.

    Args:
        reactor: it may run already, or later. Histograms need ``Reactor(measure=True)``. Live and ready: while it runs.
        address: as for ``Acceptor``.
        acceptors: listening sockets with counters of their own.

    A thread of its own answers, so a scrape does not wait for busy pollers. It needs the interpreter lock, as all do.

    Raises:
        ModuleNotFoundError: ``prometheus_client`` is not installed.
        OSError: the address cannot be bound.
    """
    check_installed()
    return MetricsServer(Own(reactor, acceptors), address)
