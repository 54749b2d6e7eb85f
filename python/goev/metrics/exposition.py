"""Metrics as text, in both forms that Prometheus reads. ``prometheus_client`` writes it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Metric

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]
Sample = tuple[tuple[str, Labels], float]  # its name and labels, its value


@dataclass(frozen=True)
class Exposed:
    """A metric with its values, by the names of the samples and their labels. Buckets are not cumulated."""

    name: str
    kind: str
    help: str
    unit: str
    values: Mapping[tuple[str, Labels], float]


@dataclass(frozen=True)
class Collected:
    """Metrics as the registry that an encoder of ``prometheus_client`` asks."""

    metrics: Iterable["Metric"]

    def collect(self) -> Iterable["Metric"]:
        return self.metrics


def check_installed() -> None:
    """Import ``prometheus_client``, which takes some 0.1 s; raise ``ModuleNotFoundError`` unless it is installed."""
    try:
        import prometheus_client.openmetrics.exposition
        import prometheus_client.openmetrics.parser  # noqa: F401
    except ModuleNotFoundError as error:
        text = "goev.metrics writes text by prometheus_client, which is not installed: pip install 'goev[metrics]'"
        raise ModuleNotFoundError(text, name="prometheus_client") from error


def openmetrics(exposed: Iterable[Exposed]) -> str:
    """The metrics as OpenMetrics text, version 1.0.0."""
    check_installed()
    from prometheus_client.openmetrics.exposition import generate_latest

    text: bytes = generate_latest(Collected([metric_of(each) for each in exposed]))  # type: ignore[no-untyped-call]
    return text.decode()


def plain_of(text: str) -> str:
    """OpenMetrics text in the older form, version 0.0.4."""
    from prometheus_client import generate_latest
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    families = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    return generate_latest(Collected(families)).decode()


def metric_of(exposed: Exposed) -> "Metric":
    from prometheus_client import Metric

    metric = Metric(exposed.name, exposed.help, exposed.kind, exposed.unit)
    for (name, labels), value in cumulated(exposed) if exposed.kind == "histogram" else grouped(exposed):
        metric.add_sample(name, dict(labels), value)
    return metric


def grouped(exposed: Exposed) -> list[Sample]:
    """The samples of a metric that is no histogram. OpenMetrics wants samples with the same labels side by side."""
    inner = ("quantile", exposed.name)  # labels that tell the samples of a summary or an enum apart

    def place(sample: Sample) -> tuple[Labels, str, Labels]:
        (name, labels), _ = sample
        return tuple(pair for pair in labels if pair[0] not in inner), name, labels

    return sorted(exposed.values.items(), key=place)


def cumulated(exposed: Exposed) -> Iterator[Sample]:
    """The samples of a histogram: for each set of labels its buckets by their limits, each with the sum so far."""
    bucket = f"{exposed.name}_bucket"
    groups: dict[Labels, list[tuple[float, str, float]]] = {}
    for (name, labels), value in exposed.values.items():
        if name == bucket:
            limit = dict(labels)["le"]
            others = tuple(pair for pair in labels if pair[0] != "le")
            groups.setdefault(others, []).append((float(limit), limit, value))
    for labels, buckets in sorted(groups.items()):
        total = 0.0
        for _, limit, value in sorted(buckets):
            total += value
            yield (bucket, (*labels, ("le", limit))), total
        yield (f"{exposed.name}_count", labels), total
        yield (f"{exposed.name}_sum", labels), exposed.values[f"{exposed.name}_sum", labels]


def wants_openmetrics(accept: str) -> bool:
    """Whether a client with this ``Accept`` prefers OpenMetrics text to the older form (RFC 9110 section 12.5.1)."""
    shares = dict(share_of(part) for part in accept.split(","))
    plain = max(shares.get(name, 0.0) for name in ("text/plain", "text/*", "*/*"))
    return shares.get("application/openmetrics-text", 0.0) >= max(plain, 0.001)


def share_of(part: str) -> tuple[str, float]:
    """A media type of ``Accept``, and its quality."""
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return name, float(parameter[2:])
            except ValueError:
                return name, 0.0
    return name, 1.0
