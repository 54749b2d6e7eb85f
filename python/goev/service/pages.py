"""Metrics and health checks of a service, answered by the supervisor from figures that the workers send."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from goev import metrics
from goev._core import Acceptor
from goev.asyncio import reactor
from goev.service.process import Worker

if TYPE_CHECKING:
    from goev.service.supervisor import Supervisor


class Pages:
    """The address of the metrics; a ``goev.metrics.Source``."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self._totals = metrics.Totals()
        address = supervisor.sockets.metrics
        assert address is not None
        self._acceptor = Acceptor(reactor(), address.sockets[0], metrics.pages(self))

    @property
    def is_live(self) -> bool:
        return True

    @property
    def is_ready(self) -> bool:
        """Whether a worker serves: not at the start, not in a stop, and not while all of them are down."""
        supervisor = self._supervisor
        workers = (place.worker for place in supervisor.places)
        return supervisor._stop is None and any(worker is not None and worker.serves for worker in workers)

    async def collect(self) -> str:
        """The figures of all workers as text. A worker that does not answer in time counts with its last figures."""
        workers = self._supervisor.workers.values()
        asked: dict[Hashable, Any] = {worker.pid: worker.snapshot for worker in workers if worker.has_served}
        await metrics.refresh(self._totals, asked)
        self._totals.labels = {worker.pid: self._label(worker) for worker in workers}
        return self._totals.text(self._figures())

    def _label(self, worker: Worker) -> str:
        """The number of its place, which its successor takes over when the worker stops."""
        if worker.serves:
            return str(worker.place)
        stopping = [
            other.pid
            for other in self._supervisor.workers.values()
            if other.place == worker.place and other.has_served and not other.serves
        ]
        number = stopping.index(worker.pid) if worker.pid in stopping else len(stopping)
        return f"{worker.place}-stopping{number or ''}"

    def _figures(self) -> metrics.SupervisorFigures:
        supervisor = self._supervisor
        return metrics.SupervisorFigures(
            process=metrics.process_figures(),
            restarts=dict(supervisor.restarts),
            workers_wanted=sum(1 for place in supervisor.places if place.is_wanted),
            workers_ready=sum(1 for worker in supervisor.workers.values() if worker.serves),
        )

    def retire(self, worker: Worker) -> None:
        """The worker has ended; its sums stay."""
        if worker.last is not None:
            self._totals.update(worker.pid, worker.last)
        self._totals.retire(worker.pid)

    def left(self) -> Any:
        """The counters for the next program, which goes on from them."""
        return self._totals.left()

    def inherit(self, left: Any) -> None:
        """Go on from the counters of the program before."""
        self._totals.inherit(left)

    def close(self) -> None:
        self._acceptor.close()
