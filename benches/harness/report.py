"""Tables of the measurements, for the terminal and for docs/benchmarks.md."""

from harness.cases import CASES, METRICS, Case, Goal
from harness.peers import PEERS
from harness.results import Outcome, Result, outcome

Table = list[list[str]]  # the first row is the heading

HOW_MEASURED = """\
Every plaintext server does the same work: for every complete request head in what arrived, one response of the same
bytes, and one write for all that one read brings; heads may be split over reads. Before each run a server is started
anew, shown to answer whole, pipelined and cut requests properly, and warmed up. The client is `wrk` with two threads,
on the same machine and the same cores as the server.

The servers take turns: each runs once in a round, in an order that moves on from round to round. The tables give
medians over the rounds, with the least and the greatest round in parentheses. A ratio is that of two medians of the
same case; in parentheses are the least and the greatest ratio within one round. CPU per request is the user and system
time of all threads and processes of the server during the run, divided by its requests; on a machine with few cores it
moves far less than requests/s do. Latencies are those that `wrk` measured, without those that it adds on presumption
(its correction for coordinated omission, which is wrong where requests are pipelined).

In the cases named HTTP every server parses the requests in full and answers each with the same status, body,
`Content-Type` and `Content-Length`; `Date`, `Server` and the like are as each sends them. WebSocket servers echo each
message, text or binary, without compression. They too are shown to answer properly before each run, with one exception:
no HTTP request is cut within its first line, which socketify 0.0.31 answers with status 505.

Over TLS every server has the same certificate, ECDSA P-256 and signed by itself, and speaks TLS 1.3 only. All clients
lead to AES-256-GCM and X25519, as OpenSSL in `wrk` does, and verify nothing. Those in Rust are on rustls. Session
tickets are on, as each server has them by default. No server leaves records to the kernel (kTLS).

Redis and PostgreSQL are started anew for each run, with data in a temporary folder and without fsync; their CPU time
does not count. All servers look up the same by the same code, with the same versions of redis-py and asyncpg.

Relays, UDP servers and downloads are measured with clients of our own in Rust, and are shown to pass on or to send the
proper bytes before each run. nginx runs with a configuration of its own; its master process counts as well. A GB is
10^9 bytes.
"""


def document(results: dict[str, Result]) -> str:
    """The whole of docs/benchmarks.md."""
    newest = max(results.values(), key=lambda result: result.when)
    parts = [
        "# Benchmarks",
        "Written by `make bench`.",
        "![Requests per second of goev and the others](benchmarks.svg)",
        _summary(results),
        "## Machine",
        _markdown([["", ""], *(list(item) for item in newest.machine.items())]),
        "## Servers",
        _markdown([["name", "what it is"], *([name, peer.description] for name, peer in PEERS.items())]),
        "## How it is measured",
        HOW_MEASURED.strip(),
    ]
    for name, case in CASES.items():
        if name in results:
            parts += _section(case, results[name], newest)
    return "\n\n".join(parts) + "\n"


def text(case: Case, result: Result) -> str:
    """The tables of one case for the terminal."""
    parts = [f"== {case.title} ==", _aligned(_figures(case, result))]
    if case.goals:
        parts.append(_aligned(_goals(case, result)))
    return "\n\n".join(parts) + "\n"


def _summary(results: dict[str, Result]) -> str:
    outcomes = [
        (case.title, measured)
        for name, case in CASES.items()
        if name in results
        for goal in case.goals
        if (measured := outcome(goal, results[name])) is not None
    ]
    missed = [(title, measured) for title, measured in outcomes if not measured.reached]
    lines = [f"{len(outcomes) - len(missed)} of the {len(outcomes)} figures to reach were reached."]
    lines += [f"- Missed, {title}: {_subject(one.goal)}; it is {_show(one.goal, one.value)}" for title, one in missed]
    return "\n".join(lines)


def _section(case: Case, result: Result, newest: Result) -> list[str]:
    parts = [f"## {case.title}", f"{case.description} {_when(case, result, newest)}", _markdown(_figures(case, result))]
    if case.goals:
        parts.append(_markdown(_goals(case, result)))
    if result.skipped:
        parts.append("\n".join(f"- {peer} was skipped: {reason}." for peer, reason in result.skipped.items()))
    return parts


def _when(case: Case, result: Result, newest: Result) -> str:
    lasting = f" of {result.seconds} s" if case.timed else ""
    rounds = "one round" if result.rounds == 1 else f"{result.rounds} rounds"
    sentence = f"Measured {result.when} at commit {result.commit}, {rounds}{lasting}."
    others = [f"{name} {value}" for name, value in result.machine.items() if newest.machine.get(name) != value]
    return f"{sentence} Unlike above: {'; '.join(others)}." if others else sentence


def _figures(case: Case, result: Result) -> Table:
    """Medians of every metric; with the first one its range too."""
    rows = [["server", *(METRICS[metric].title for metric in case.metrics)]]
    for peer in case.peers:
        if peer in result.runs:
            medians = [METRICS[metric].show(result.median(peer, metric)) for metric in case.metrics]
            medians[0] += _range(case.metrics[0], [run[case.metrics[0]] for run in result.runs[peer]])
            rows.append([peer, *medians])
    return rows


def _range(metric: str, values: list[float]) -> str:
    show = METRICS[metric].show
    return f" ({show(min(values))}–{show(max(values))})" if len(values) > 1 else ""


def _goals(case: Case, result: Result) -> Table:
    rows = [["to reach", "measured", ""]]
    for goal in case.goals:
        measured = outcome(goal, result)
        verdict = ["", "not measured"] if measured is None else [_measured(measured), _verdict(measured)]
        rows.append([_subject(goal), *verdict])
    return rows


def _subject(goal: Goal) -> str:
    metric = METRICS[goal.metric]
    subject = f"{goal.peer}, {metric.title}" if goal.against is None else f"{goal.peer} / {goal.against}, {metric.name}"
    return f"{subject} {'≥' if goal.at_least else '≤'} {_show(goal, goal.limit)}"


def _measured(measured: Outcome) -> str:
    value, least, greatest = (
        _show(measured.goal, value) for value in (measured.value, measured.least, measured.greatest)
    )
    return f"{value} ({least}–{greatest})"


def _verdict(measured: Outcome) -> str:
    return "reached" if measured.reached else "missed"


def _show(goal: Goal, value: float) -> str:
    return METRICS[goal.metric].show(value) if goal.against is None else f"{value:.2f}"


def _markdown(table: Table) -> str:
    """A table in Markdown: the first column is text, the others are figures and aligned to the right."""
    heading, *rows = table
    marks = ["---", *("---:" for _ in heading[1:])] if len(heading) > 2 else ["---" for _ in heading]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, marks, *rows))


def _aligned(table: Table) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
    return "\n".join(line.rstrip() for line in lines)
