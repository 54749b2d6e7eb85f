"""The measurements, kept as JSON so that the report can be rendered again."""

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.cases import Goal
from harness.measure import Run


@dataclass
class Result:
    """One case: its time and machine, every run of every peer by round, and each skipped peer with the reason.

    ``commands`` are those of the peers at that time; results from before they were kept have none.
    """

    when: str
    commit: str
    seconds: int
    machine: dict[str, str] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        return max(map(len, self.runs.values()), default=0)

    def has(self, metric: str) -> bool:
        """Whether every run measured this metric; it does not if the case got the metric later."""
        return all(metric in run for runs in self.runs.values() for run in runs)

    def median(self, peer: str, metric: str) -> float:
        return statistics.median(run[metric] for run in self.runs[peer])


@dataclass(frozen=True)
class Outcome:
    """The outcome of a goal: a median, or a ratio of two medians, and the least and greatest value in any round."""

    goal: Goal
    value: float
    least: float
    greatest: float

    @property
    def reached(self) -> bool:
        return self.value >= self.goal.limit if self.goal.at_least else self.value <= self.goal.limit


def outcome(goal: Goal, result: Result) -> Outcome | None:
    """The outcome of a goal; ``None`` if one of its peers or its metric was not measured."""
    if not {goal.peer, goal.against or goal.peer} <= result.runs.keys() or not result.has(goal.metric):
        return None
    values = [run[goal.metric] for run in result.runs[goal.peer]]
    median = result.median(goal.peer, goal.metric)
    if goal.against is not None:
        others = [run[goal.metric] for run in result.runs[goal.against]]
        values = [value / other for value, other in zip(values, others, strict=True)]
        median /= result.median(goal.against, goal.metric)
    return Outcome(goal, median, min(values), max(values))


def load(path: Path) -> dict[str, Result]:
    if not path.exists():
        return {}
    return {name: Result(**fields) for name, fields in json.loads(path.read_text()).items()}


def save(results: dict[str, Result], path: Path) -> None:
    plain = {name: asdict(result) for name, result in results.items()}
    path.write_text(json.dumps(plain, indent=1) + "\n")
