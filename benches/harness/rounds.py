"""Runs a case: every peer once in a round, in an order that rotates by one from round to round."""

import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from harness import Unavailable
from harness.cases import METRICS, Case
from harness.measure import Bench
from harness.peers import PEERS
from harness.results import Result

CLEAR_LINE = "\r\x1b[K"


@dataclass
class Progress:
    """Shows on the terminal the current run and the time that is left."""

    runs: int
    done: int = 0
    begin: float = field(default_factory=time.monotonic)

    def running(self, text: str) -> None:
        if sys.stdout.isatty():
            print(f"{CLEAR_LINE}[{self.done}/{self.runs}{self._time_left()}] {text}", end="", flush=True)

    def finished(self) -> None:
        self.done += 1

    def say(self, text: str) -> None:
        print(CLEAR_LINE if sys.stdout.isatty() else "", text, sep="", flush=True)

    def _time_left(self) -> str:
        if self.done == 0:
            return ""
        seconds = (time.monotonic() - self.begin) / self.done * (self.runs - self.done)
        return f", about {seconds / 60:.0f} min left"


def run_case(name: str, case: Case, bench: Bench, progress: Progress, result: Result) -> None:
    """Fills the result with the runs of every peer that was available in every round."""
    rounds = bench.effort.rounds_of(case.least_rounds)
    for index in range(rounds):
        first = index % len(case.peers)
        for peer in case.peers[first:] + case.peers[:first]:
            progress.running(f"{name}, round {index + 1} of {rounds}: {peer}")
            if peer not in result.skipped:
                _run_peer(peer, case, bench, progress, result)
            progress.finished()
        progress.say(f"{name}, round {index + 1} of {rounds}: {_last_round(case, result)}")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _run_peer(peer: str, case: Case, bench: Bench, progress: Progress, result: Result) -> None:
    try:
        run = case.measure(bench, PEERS[peer])
    except Unavailable as unavailable:
        result.skipped[peer] = unavailable.reason
        result.runs.pop(peer, None)
        progress.say(f"skipping {peer}: {unavailable.reason}\n{unavailable.detail}".rstrip())
    else:
        result.runs.setdefault(peer, []).append(run)
        result.commands[peer] = PEERS[peer].command


def _last_round(case: Case, result: Result) -> str:
    metric = case.metrics[0]
    measured = (peer for peer in case.peers if peer in result.runs)
    return ", ".join(f"{peer} {METRICS[metric].show(result.runs[peer][-1][metric])}" for peer in measured)
