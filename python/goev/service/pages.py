"""Metrics and health checks of a service, answered by the supervisor from figures that the workers send."""

from asyncio import Future, gather, get_running_loop, wait_for
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from goev._core import Acceptor
from goev.asyncio import reactor
from goev.service.process import StartFailed, Worker

if TYPE_CHECKING:
    from goev.service.supervisor import Supervisor

PATIENCE = 1.0  # seconds that a worker has for its figures


class Pages:
    """The address of the metrics; a ``goev.metrics.Source``."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._metrics = metrics = import_module("goev.metrics")
        self._supervisor = supervisor
        self._totals = metrics.Totals()
        self._number = 0
        address: Any = supervisor.sockets.metrics or supervisor.settings.metrics
        self._acceptor = Acceptor(reactor(), address, metrics.pages(self))

    @property
    def is_live(self) -> bool:
        return True

    @property
    def is_ready(self) -> bool:
        return self._supervisor.is_ready

    async def collect(self) -> str:
        """The figures of all workers as text. One that does not answer in time counts with its last figures."""
        self._number += 1
        workers = [worker for worker in self._supervisor.workers.values() if worker.pollers]
        await gather(*(self._ask(worker, self._number) for worker in workers))
        text: str = self._totals.text(self._figures())
        return text

    async def _ask(self, worker: Worker, number: int) -> None:
        answer: Future[Any] = get_running_loop().create_future()
        worker.answers[number] = answer
        worker.channel.send({"do": "metrics", "number": number})
        with suppress(TimeoutError, StartFailed):
            self._totals.update(worker.pid, await wait_for(answer, PATIENCE))
        worker.answers.pop(number, None)

    def _figures(self) -> dict[str, Any]:
        supervisor = self._supervisor
        return {
            "process": self._metrics.process_figures(),
            "restarts": dict(supervisor.restarts),
            "workers_wanted": sum(1 for place in supervisor.places if place.is_wanted),
            "workers_ready": sum(1 for worker in supervisor.workers.values() if worker.serves),
        }

    def retire(self, worker: Worker) -> None:
        """The worker has ended; its sums stay."""
        self._totals.retire(worker.pid)

    def close(self) -> None:
        self._acceptor.close()
