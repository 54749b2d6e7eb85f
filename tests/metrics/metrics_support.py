"""Tests of metrics share snapshots that they make up, and the samples of a text."""

from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families

import goev
from goev.metrics import Snapshot, Totals, snapshot

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    """The samples of OpenMetrics text. The parser checks the format."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(text: str, name: str, **labels: str) -> float:
    return samples(text)[name, tuple(sorted(labels.items()))]


def made_up(pid: int = 1, *, application: Any = (), **counters: Any) -> Snapshot:
    """A snapshot of a worker with one idle poller, with other values for counters of the poller."""
    reactor = goev.Reactor(1, measure=True)
    try:
        found = snapshot([reactor])
    finally:
        reactor.stop(0)
    found["process"]["pid"] = pid
    found["pollers"][0].update(counters)
    found["application"] = list(application)
    return found


def text_of(*snapshots: Snapshot) -> str:
    totals = Totals()
    for number, each in enumerate(snapshots):
        totals.update(number, each)
    return totals.text()
