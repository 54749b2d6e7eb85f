"""The metrics of one process as plain values, which travel as JSON from a worker to its supervisor."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from goev._core import Acceptor, Reactor
from goev.metrics.application import ApplicationFamily, application_families
from goev.metrics.clusters import INCLUDED
from goev.metrics.process import ProcessFigures, process_figures


class AcceptorFigures(TypedDict):
    """The counters of an acceptor (``Acceptor.stats``), with its address."""

    address: str
    stats: Mapping[str, Any]


class Snapshot(TypedDict):
    """One process at one moment.

    Keys:
        process: the figures of the process.
        pollers: ``Reactor.stats()`` of all its reactors, one entry a poller.
        acceptors: the counters of its acceptors.
        application: the metrics of the application itself, and of clusters that were included.
    """

    process: ProcessFigures
    pollers: list[dict[str, Any]]
    acceptors: list[AcceptorFigures]
    application: list[ApplicationFamily]


def snapshot(reactors: Iterable[Reactor], acceptors: Iterable[Acceptor] = ()) -> Snapshot:
    """Read the counters of ``reactors`` and ``acceptors``, the process, and the metrics of the application.

    The metrics of the application come from the default registry of ``prometheus_client``, if it is imported. Any
    thread may call this; the pollers are not disturbed. If a collector of the application raises, the exception is
    logged, and the application's metrics stay as they were at the last snapshot.
    """
    return Snapshot(
        process=process_figures(),
        pollers=[plain(stats) for reactor in reactors for stats in reactor.stats()],
        acceptors=[AcceptorFigures(address=text_of(each.address), stats={**each.stats()}) for each in acceptors],
        application=[
            *(application_families() if "prometheus_client" in sys.modules else []),
            *INCLUDED.families(),
        ],
    )


def plain(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Counters of a poller with keys and numbers that JSON knows."""
    histograms = {name: dict(value, classes=classes(value)) for name, value in stats["histograms"].items()}
    return {
        **stats,
        "batch_sizes": {str(size): n for size, n in stats["batch_sizes"].items()},
        "histograms": histograms,
    }


def classes(histogram: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The classes of a histogram with their limits as text: JSON knows no infinity."""
    return [("+Inf" if limit == float("inf") else repr(limit), count) for limit, count in histogram["classes"]]


def text_of(address: Any) -> str:
    """An address of a listening socket as ``Acceptor`` takes it."""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(address, bytes):
        return f"unix:@{address.lstrip(bytes(1)).decode(errors='replace')}"
    return f"unix:{address}"
