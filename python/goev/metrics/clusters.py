"""The metrics of clusters (``goev.cluster``) that the program has included."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from goev.metrics.application import ApplicationFamily

Sample = tuple[str, dict[str, str], float]
# The values of the label ``result``, and the keys of ``Cluster.stats``.
SESSIONS = {"begun": "sessions", "failed": "failures"}
FATES = "sent received delivered own repeated missed dropped refused malformed undelivered"
MESSAGES = {key: key for key in FATES.split()}
GAUGES = {
    "waiting": ("goev_cluster_waiting_messages", "Messages that wait for the engine.", ""),
    "waiting_bytes": ("goev_cluster_waiting_bytes", "Bytes of messages that wait for the engine.", "bytes"),
    "subscriptions": ("goev_cluster_subscriptions", "Subjects that this process has.", ""),
    "machines": ("goev_cluster_machines", "Machines that are there, this one included.", ""),
    "up": ("goev_cluster_up", "Whether the engine is there.", ""),
}


class Countable(Protocol):
    """A ``goev.cluster.Cluster``."""

    @property
    def engine(self) -> str: ...
    @property
    def is_ready(self) -> bool: ...
    def machines(self) -> list[str]: ...
    def stats(self) -> Mapping[str, int]: ...


class Included:
    """The clusters whose metrics come along, by their engines. Closed ones stay, so that counters do not fall."""

    def __init__(self) -> None:
        self._clusters: list[Countable] = []

    def add(self, cluster: Countable) -> None:
        if cluster not in self._clusters:
            self._clusters.append(cluster)

    def families(self) -> list[ApplicationFamily]:
        if not self._clusters:
            return []
        figures: dict[str, dict[str, int]] = {}  # by engine
        for cluster in self._clusters:
            sums = figures.setdefault(cluster.engine, {})
            others = {"machines": len(cluster.machines()), "up": int(cluster.is_ready)}
            for key, number in {**cluster.stats(), **others}.items():
                sums[key] = sums.get(key, 0) + number
        return [*counters(figures), *gauges(figures)]


INCLUDED = Included()


def include(cluster: Countable) -> None:
    """Have the figures of a ``goev.cluster.Cluster`` among the metrics of this process from now on (docs/cluster.md).

    Two clusters with the same engine are added up. Any thread may call this.
    """
    INCLUDED.add(cluster)


def counters(figures: Mapping[str, Mapping[str, int]]) -> list[ApplicationFamily]:
    """Families of sums; ``figures`` has those of ``Cluster.stats`` by the engine."""
    return [
        family(name, "counter", help, list(results(f"{name}_total", keys, figures)))
        for name, help, keys in (
            ("goev_cluster_sessions", "Sessions with the engine that began, and that were lost or refused.", SESSIONS),
            ("goev_cluster_messages", "Messages between machines, by their fate.", MESSAGES),
        )
    ]


def results(name: str, keys: Mapping[str, str], figures: Mapping[str, Mapping[str, int]]) -> Iterator[Sample]:
    """A sample for each engine and key, under the label ``result``."""
    for engine, sums in figures.items():
        for result, key in keys.items():
            yield name, {"engine": engine, "result": result}, sums[key]


def gauges(figures: Mapping[str, Mapping[str, int]]) -> list[ApplicationFamily]:
    """Families of numbers that may fall."""
    return [
        family(name, "gauge", help, [(name, {"engine": engine}, sums[key]) for engine, sums in figures.items()], unit)
        for key, (name, help, unit) in GAUGES.items()
    ]


def family(name: str, kind: str, help: str, samples: list[Sample], unit: str = "") -> ApplicationFamily:
    return ApplicationFamily(name=name, type=kind, help=help, unit=unit, samples=samples)
