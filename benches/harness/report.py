"""Tables of the measurements, for the terminal and for docs/benchmarks.md."""

from harness import BENCHES, age
from harness.cases import CASES, METRICS, Case, Goal
from harness.peers import PEERS
from harness.results import Outcome, Result, outcome

Table = list[list[str]]  # the first row is the heading
MISSING = "–"  # a figure that the case has got since its measurement

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
(its correction for coordinated omission, which is wrong where requests are pipelined). Latencies of echoes are those
of our own clients in Rust: from the sending of a message to its echo, with the others of its connection under way.

Each table ends with a verdict. A table says so when it is older than its case: when the case has got a server or a
metric since the measurement, or when a server was started by another command then.

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

# Measured by hand: `make bench` has no Python without the interpreter lock.
WITHOUT_THE_LOCK = BENCHES / "without_the_lock.md"


def document(results: dict[str, Result]) -> str:
    """The whole of docs/benchmarks.md."""
    newest = max(results.values(), key=lambda result: result.when)
    parts = [
        "# Benchmarks",
        "Written by `make bench`.",
        "![Throughput and p99 of goev and other servers](benchmarks.svg)",
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
    parts.append(WITHOUT_THE_LOCK.read_text().strip())
    return "\n\n".join(parts) + "\n"


def text(case: Case, result: Result) -> str:
    """The tables of one case for the terminal."""
    parts = [f"== {case.title} ==", _aligned(_figures(case, result))]
    if case.goals:
        parts.append(_aligned(_goals(case, result)))
    return "\n\n".join([*parts, *_verdict(case, result)]) + "\n"


def overdue(results: dict[str, Result]) -> list[str]:
    """A line for each table that is older than its case, each case without a table, and each table without a case."""
    lines = [f"{name}: the results hold this case, and there is none" for name in results if name not in CASES]
    for name, case in CASES.items():
        found = age.mismatches(case, results[name]) if name in results else ["it is not measured yet"]
        if found:
            lines.append(f"{case.title}: {'; '.join(found)}")
    return lines


def _summary(results: dict[str, Result]) -> str:
    outcomes = [
        (case.title, measured)
        for name, case in CASES.items()
        if name in results
        for goal in case.goals
        if (measured := outcome(goal, results[name])) is not None
    ]
    missed = [(title, measured) for title, measured in outcomes if not measured.reached]
    unknown = sum(len(case.goals) for case in CASES.values()) - len(outcomes)
    sentence = f"{len(outcomes) - len(missed)} of the {len(outcomes) + unknown} figures to reach were reached"
    lines = [f"{sentence}; {unknown} are not measured." if unknown else f"{sentence}."]
    lines += [f"- Missed, {title}: {_subject(one.goal)}; it is {_missed(one)}" for title, one in missed]
    lines += [f"- Not up to date, {line}" for line in overdue(results)]
    return "\n".join(lines)


def _section(case: Case, result: Result, newest: Result) -> list[str]:
    parts = [f"## {case.title}", f"{case.description} {_when(case, result, newest)}", _markdown(_figures(case, result))]
    if case.goals:
        parts.append(_markdown(_goals(case, result)))
    if result.skipped:
        parts.append("\n".join(f"- {peer} was skipped: {reason}." for peer, reason in result.skipped.items()))
    return parts + _verdict(case, result)


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
            medians = [_median(result, peer, metric) for metric in case.metrics]
            medians[0] += _range(result, peer, case.metrics[0])
            rows.append([peer, *medians])
    return rows


def _median(result: Result, peer: str, metric: str) -> str:
    return METRICS[metric].show(result.median(peer, metric)) if result.has(metric) else MISSING


def _range(result: Result, peer: str, metric: str) -> str:
    if result.rounds == 1 or not result.has(metric):
        return ""
    show, values = METRICS[metric].show, [run[metric] for run in result.runs[peer]]
    return f" ({show(min(values))}–{show(max(values))})"


def _goals(case: Case, result: Result) -> Table:
    rows = [["to reach", "measured", ""]]
    for goal in case.goals:
        measured = outcome(goal, result)
        if measured is None:
            rows.append([_subject(goal), "", "not measured"])
        else:
            rows.append([_subject(goal), _measured(measured), "reached" if measured.reached else "missed"])
    return rows


def _verdict(case: Case, result: Result) -> list[str]:
    """The last paragraphs of a table: whether it is older than its case, and which figures were reached."""
    found = age.mismatches(case, result)
    older = [f"Older than its case: {'; '.join(found)}."] if found else []
    if not case.goals:
        return [*older, "Verdict: there is no figure to reach."]
    outcomes = [(goal, outcome(goal, result)) for goal in case.goals]
    missed = [f"{_subject(goal)} is {_missed(seen)}" for goal, seen in outcomes if seen and not seen.reached]
    unknown = [_subject(goal) for goal, seen in outcomes if seen is None]
    verdict = f"Verdict: {len(outcomes) - len(missed) - len(unknown)} of {len(outcomes)} reached."
    verdict += f" Missed: {'; '.join(missed)}." if missed else ""
    verdict += f" Not measured: {'; '.join(unknown)}." if unknown else ""
    return [*older, verdict]


def _subject(goal: Goal) -> str:
    metric = METRICS[goal.metric]
    subject = f"{goal.peer}, {metric.title}" if goal.against is None else f"{goal.peer} / {goal.against}, {metric.name}"
    return f"{subject} {'≥' if goal.at_least else '≤'} {_show(goal, goal.limit)}"


def _measured(measured: Outcome) -> str:
    value, least, greatest = (
        _show(measured.goal, value) for value in (measured.value, measured.least, measured.greatest)
    )
    return f"{value} ({least}–{greatest})"


def _missed(measured: Outcome) -> str:
    """The median that missed its limit, with one more digit for a ratio that looks like the limit otherwise."""
    value, limit = _show(measured.goal, measured.value), _show(measured.goal, measured.goal.limit)
    return f"{measured.value:.3f}" if value == limit and measured.goal.against else value


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
