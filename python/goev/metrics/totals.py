"""Sums over the processes of a service. Counters and histograms never fall, whichever worker is replaced."""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from platform import python_version
from typing import Any, TypedDict

from goev.metrics.application import SUMMED, ApplicationFamily
from goev.metrics.exposition import Exposed, openmetrics
from goev.metrics.families import FAMILIES, Family, Labels
from goev.metrics.process import ProcessFigures
from goev.metrics.snapshots import Snapshot

Key = tuple[str, tuple[tuple[str, str], ...]]  # the name of a sample, and its labels
Sums = dict[str, dict[Key, float]]  # by the name of the metric


class SupervisorFigures(TypedDict, total=False):
    """The figures that a supervisor adds to the snapshots of its workers; each key may be missing.

    Keys:
        process: its own figures (``process_figures``).
        restarts: replaced workers, by reason.
        workers_wanted: workers that the service wants.
        workers_ready: workers that are ready.
    """

    process: ProcessFigures
    restarts: Mapping[str, int]
    workers_wanted: int
    workers_ready: int


@dataclass
class Worker:
    """The last snapshot of a worker, and when it came."""

    snapshot: Snapshot
    came: float

    @property
    def process(self) -> tuple[int, float]:
        """The process id and its start, which together name one process."""
        return self.snapshot["process"]["pid"], self.snapshot["process"]["start_time"]


@dataclass
class Described:
    """A metric of the application, as the first worker that has it describes it."""

    type: str
    help: str
    unit: str


@dataclass
class Totals:
    """The metrics of a service, from the snapshots of its workers. One thread at a time may use it.

    Attributes:
        clock: seconds, for the age of snapshots.
        labels: the label ``worker`` of the gauges by worker, if it is not its id; no two have the same.
    """

    clock: Callable[[], float] = time.monotonic
    labels: Mapping[Hashable, str] = field(default_factory=dict)
    _workers: dict[Hashable, Worker] = field(default_factory=dict, init=False)
    # The sums of workers that have ended.
    _gone: Sums = field(default_factory=dict, init=False)
    _described: dict[str, Described] = field(default_factory=dict, init=False)

    def update(self, worker_id: Hashable, snapshot: Snapshot) -> None:
        """Keep ``snapshot`` as the newest of ``worker_id``. Another process under this id replaces the one before."""
        worker = Worker(snapshot, self.clock())
        if worker_id in self._workers and self._workers[worker_id].process != worker.process:
            self.retire(worker_id)
        for family in snapshot["application"]:
            described = Described(family["type"], family["help"], family["unit"])
            self._described.setdefault(family["name"], described)
        self._workers[worker_id] = worker

    def retire(self, worker_id: Hashable) -> None:
        """The worker ``worker_id`` has ended: its counters stay in the sums, its gauges go. Unknown ids are ignored."""
        worker = self._workers.pop(worker_id, None)
        if worker is not None:
            self._add(self._gone, worker.snapshot)

    def left(self) -> Any:
        """The sums of workers that have ended, as values for JSON. ``inherit`` of another process takes them."""
        return {
            "sums": [[name, *key, value] for name, values in self._gone.items() for key, value in values.items()],
            "described": {name: astuple(described) for name, described in self._described.items()},
        }

    def inherit(self, left: Any) -> None:
        """Begin with the sums that ``left`` of an earlier process has returned, so that the counters do not fall."""
        for name, sample, labels, value in left["sums"]:
            key = sample, tuple((label, text) for label, text in labels)
            values = self._gone.setdefault(name, {})
            values[key] = values.get(key, 0) + value
        for name, described in left["described"].items():
            self._described.setdefault(name, Described(*described))

    def text(self, supervisor_figures: SupervisorFigures | None = None) -> str:
        """All metrics as OpenMetrics text, with the figures of a supervisor unless ``supervisor_figures`` is ``None``.

        Raises:
            ModuleNotFoundError: ``prometheus_client`` is not installed.
        """
        return openmetrics(self._exposed(supervisor_figures or {}))

    def _exposed(self, figures: SupervisorFigures) -> Iterator[Exposed]:
        sums: Sums = {name: dict(values) for name, values in self._gone.items()}
        for worker in self._workers.values():
            self._add(sums, worker.snapshot)
        for family in FAMILIES:
            if family.of_worker:
                values = dict(self._of_workers(family, figures))
            elif family.read is None:
                values = {(name, ordered(labels)): value for name, labels, value in of_service(family.name, figures)}
            else:
                values = sums.get(family.name, {})
            yield Exposed(family.name, family.kind, family.help, family.unit, values)
        for name, described in self._described.items():
            values = sums.get(name, {}) if described.type in SUMMED else dict(self._gauges(name, described.type))
            yield Exposed(name, described.type, described.help, described.unit, values)

    def _add(self, sums: Sums, snapshot: Snapshot) -> None:
        """Add the values of a worker that may be added up."""
        for family in FAMILIES:
            if family.read is not None and not family.of_worker:
                values = sums.setdefault(family.name, {})
                for end, labels, value in family.read(snapshot):
                    key = family.name + end, ordered(labels)
                    values[key] = values.get(key, 0) + value
        for own in snapshot["application"]:
            if own["type"] in SUMMED and self._is_as_described(own):
                values = sums.setdefault(own["name"], {})
                for name, labels, value in own["samples"]:
                    key = name, ordered(labels)
                    values[key] = values.get(key, 0) + value

    def _is_as_described(self, family: ApplicationFamily) -> bool:
        """Whether a metric has the type that an earlier worker gave it. A new version of the application may differ."""
        return self._described[family["name"]].type == family["type"]

    def _of_workers(self, family: Family, figures: SupervisorFigures) -> Iterator[tuple[Key, float]]:
        now = self.clock()
        for worker_id, worker in self._workers.items():
            name = {"worker": self._label(worker_id)}
            if family.read is None:
                yield (family.name, ordered(name)), now - worker.came
            else:
                for end, labels, value in family.read(worker.snapshot):
                    yield (family.name + end, ordered({**labels, **name})), value
        if family.name.startswith("goev_process_") and family.read is not None and "process" in figures:
            own = Snapshot(process=figures["process"], pollers=[], acceptors=[], application=[])
            for end, labels, value in family.read(own):
                yield (family.name + end, ordered({**labels, "worker": "supervisor"})), value

    def _label(self, worker_id: Hashable) -> str:
        return self.labels.get(worker_id, str(worker_id))

    def _gauges(self, name: str, kind: str) -> Iterator[tuple[Key, float]]:
        for worker_id, worker in self._workers.items():
            for family in worker.snapshot["application"]:
                if (family["name"], family["type"]) == (name, kind):
                    for sample, labels, value in family["samples"]:
                        label = "goev_worker" if "worker" in labels else "worker"
                        yield (sample, ordered({**labels, label: self._label(worker_id)})), value


def ordered(labels: Labels) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def of_service(name: str, figures: SupervisorFigures) -> Iterator[tuple[str, Labels, float]]:
    """The values of a metric that only the supervisor knows."""
    from goev import __version__

    match name:
        case "goev_worker_restarts":
            for reason, count in figures.get("restarts", {}).items():
                yield "goev_worker_restarts_total", {"reason": reason}, count
        case "goev_workers_wanted" if "workers_wanted" in figures:
            yield name, {}, figures["workers_wanted"]
        case "goev_workers_ready" if "workers_ready" in figures:
            yield name, {}, figures["workers_ready"]
        case "goev_build":
            yield "goev_build_info", {"version": __version__, "python": python_version()}, 1
