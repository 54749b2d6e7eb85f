"""The metrics of the application itself, from the default registry of ``prometheus_client``."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any, TypedDict

# The registry's own collectors. The figures of the process are goev's, and the others say little of a sum of processes.
LEFT_OUT = ("process_", "python_info", "python_gc_")
RESERVED = "goev_"
# The types of metrics: values of several processes may be added up.
SUMMED = ("counter", "histogram", "summary")


class ApplicationFamily(TypedDict):
    """A metric: its samples are ``[name, labels, value]``. Buckets of a histogram are not cumulated."""

    name: str
    type: str
    help: str
    unit: str
    samples: list[tuple[str, dict[str, str], float]]


class LastGood:
    """The families of the last collection that succeeded. So counters do not fall when a collector fails."""

    def __init__(self) -> None:
        self.families: list[ApplicationFamily] = []

    def collect(self) -> list[ApplicationFamily]:
        from prometheus_client import REGISTRY

        try:
            found = REGISTRY.collect()
            self.families = [plain(each) for each in found if not each.name.startswith((*LEFT_OUT, RESERVED))]
        except Exception:
            logging.getLogger("goev").exception("a collector of the application's metrics raised")
        return self.families


LAST_GOOD = LastGood()


def application_families() -> list[ApplicationFamily]:
    """The families of the default registry, without its own collectors."""
    return LAST_GOOD.collect()


def plain(family: Any) -> ApplicationFamily:
    """A family of ``prometheus_client`` as plain values. Times of creation are left out, as are exemplars."""
    created = f"{family.name}_created"
    samples = [
        (sample.name, dict(sample.labels), float(sample.value))
        for sample in family.samples
        if sample.name != created or family.type not in SUMMED
    ]
    if family.type == "histogram":
        samples = list(apart(samples, f"{family.name}_bucket"))
    return ApplicationFamily(
        name=family.name, type=family.type, help=family.documentation, unit=family.unit, samples=samples
    )


def apart(
    samples: Iterable[tuple[str, dict[str, str], float]], bucket: str
) -> Iterator[tuple[str, dict[str, str], float]]:
    """The samples of a histogram, each bucket without the counts of lower ones. Buckets come by rising limits."""
    below: dict[tuple[tuple[str, str], ...], float] = {}
    for name, labels, value in samples:
        if name == bucket:
            others = tuple(sorted((key, text) for key, text in labels.items() if key != "le"))
            yield name, labels, value - below.get(others, 0.0)
            below[others] = value
        else:
            yield name, labels, value
