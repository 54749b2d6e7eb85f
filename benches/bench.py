#!/usr/bin/env python3
"""Compares goev with the Go original, gnet, asyncio on several loops, and servers of HTTP, WebSocket and Redis.

Needs only Python's standard library to begin with. Other programs are installed or built in benches/, and a program
that is not available is skipped by name. The client and all servers run on this machine and use 127.0.0.1.
"""

import argparse
import fnmatch
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from harness import BENCHES, REPO, chart, machine, report, results, rounds, venv
from harness.cases import CASES
from harness.measure import QUICK, Bench, Effort
from harness.programs import Programs
from harness.results import Result

RESULTS = BENCHES / "results.json"
DOCUMENT = REPO / "docs" / "benchmarks.md"
CHART = REPO / "docs" / "benchmarks.svg"


def matching(pattern: str) -> list[str]:
    names = fnmatch.filter(CASES, pattern)
    if not names:
        raise argparse.ArgumentTypeError(f"no case is named {pattern!r}; there are {', '.join(CASES)}")
    return names


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--case", action="extend", type=matching, help="only this case, or those of a pattern: 'tls-*'; may be repeated"
    )
    parser.add_argument("--rounds", type=int, default=Effort.rounds, help="headline has at least 9 (%(default)s)")
    parser.add_argument("--seconds", type=int, default=Effort.seconds, help="how long wrk runs each time (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one short round to see that all works; writes nothing")
    parser.add_argument("--list", action="store_true", help="list the cases and their servers, and end")
    parser.add_argument("--render-only", action="store_true", help="write the report again from benches/results.json")
    parser.add_argument("--check", action="store_true", help="say which tables are older than the code, and end")
    parser.add_argument(
        "--goev-python",
        type=Path,
        default=REPO / ".venv" / "bin" / "python",
        help="a Python that has goev installed, built in release mode (.venv/bin/python)",
    )
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.seconds < 1:
        parser.error("--rounds and --seconds are at least 1")
    return arguments


def list_cases() -> None:
    for name, case in CASES.items():
        print(f"{name}: {case.title}\n    {', '.join(case.peers)}")


def measure(names: list[str], effort: Effort, goev_python: Path) -> Iterator[tuple[str, Result]]:
    """Yield the results, each as soon as its case is done."""
    bench = Bench(Programs(goev_python), effort)
    runs = sum(len(CASES[name].peers) * effort.rounds_of(CASES[name].least_rounds) for name in names)
    progress = rounds.Progress(runs)
    for name in names:
        result = Result(rounds.now(), machine.commit(), effort.seconds)
        rounds.run_case(name, CASES[name], bench, progress, result)
        result.machine = machine.describe(goev_python)  # after everything is installed
        progress.say("\n" + report.text(CASES[name], result))
        if result.runs:
            yield name, result


def render(measured: dict[str, Result]) -> None:
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(report.document(measured))
    print(f"wrote {DOCUMENT.relative_to(REPO)}")
    CHART.write_text(chart.draw(measured))
    print(f"wrote {CHART.relative_to(REPO)}")
    for line in report.overdue(measured):
        print(f"not up to date, {line}")


def check(measured: dict[str, Result]) -> int:
    """Say which tables are older than their cases or than the code; return 1 if there are any."""
    lines = report.overdue(measured)
    for name in (name for name in CASES if name in measured):
        commit = measured[name].commit
        changes = machine.changes_since(commit)
        if changes is None:
            lines.append(f"{CASES[name].title}: git does not know commit {commit}")
        elif changes:
            lines.append(f"{CASES[name].title}: {changes} commits have changed the code since {commit}")
    print("\n".join(lines) or "no table is older than the code")
    return 1 if lines else 0


def main() -> int:
    arguments = parse_arguments()
    if arguments.list:
        list_cases()
        return 0
    if arguments.check:
        return check(results.load(RESULTS))
    venv.enter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that servers are ended too
    names = arguments.case or list(CASES)
    if arguments.quick:
        return 0 if list(measure(names, QUICK, arguments.goev_python)) else 1
    kept = results.load(RESULTS)
    if not arguments.render_only:
        effort = Effort(rounds=arguments.rounds, seconds=arguments.seconds)
        for name, result in measure(names, effort, arguments.goev_python):
            kept[name] = result
            results.save(kept, RESULTS)
    if not kept:
        print("there are no results", file=sys.stderr)
        return 1
    render(kept)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
