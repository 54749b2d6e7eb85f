"""Finds tables that are older than their cases."""

from harness.cases import METRICS, Case
from harness.peers import PEERS
from harness.results import Result


def mismatches(case: Case, result: Result) -> list[str]:
    """The differences between a case and its measurement, one sentence each without its full stop."""
    found = [f"{peer} is not measured yet" for peer in case.peers if peer not in result.runs | result.skipped]
    found += [f"{peer} is no server of this case any more" for peer in result.runs if peer not in case.peers]
    missing = [METRICS[metric].name for metric in case.metrics if not result.has(metric)]
    if missing:
        found.append(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not measured yet")
    for peer, command in result.commands.items():
        if peer in case.peers and command != PEERS[peer].command:
            found.append(f"{peer} was another command, `{command}`")
    return found
