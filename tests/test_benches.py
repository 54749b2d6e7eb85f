"""The report of the benchmarks says what was measured, and which tables are older than their cases."""

import re
import sys

import pytest

from support import ROOT

sys.path.insert(0, str(ROOT / "benches"))

from harness import age, machine, report, results
from harness.cases import CASES, METRICS, Case, Goal
from harness.peers import PEERS
from harness.results import Result

MEASURED = results.load(ROOT / "benches" / "results.json")
DOCUMENT = (ROOT / "docs" / "benchmarks.md").read_text()
RENDER = "write it again by: make bench ARGS=--render-only"


def case(*goals: Goal, peers: tuple[str, ...] = ("goev", "gnet"), metrics: tuple[str, ...] = ("rate", "p99")) -> Case:
    return Case("Some case", "Described.", peers, metrics, lambda bench, peer: {}, goals)


def result(**rates: float) -> Result:
    """One round of each server, 1 ms slow."""
    runs = {peer.replace("_", "-"): [{"rate": rate, "p99": 1e-3}] for peer, rate in rates.items()}
    return Result("2026-01-02 03:04 UTC", "1234567", 2, runs=runs)


@pytest.mark.parametrize("name", CASES)
def test_a_case_names_servers_and_metrics_that_exist(name):
    assert set(CASES[name].peers) <= PEERS.keys()
    assert set(CASES[name].metrics) <= METRICS.keys()


@pytest.mark.parametrize("name", CASES)
def test_a_goal_is_about_figures_of_its_case_and_has_no_second_limit(name):
    goals = CASES[name].goals
    for goal in goals:
        assert {goal.peer, goal.against or goal.peer} <= set(CASES[name].peers)
        assert goal.metric in CASES[name].metrics
    assert len({(goal.peer, goal.metric, goal.against) for goal in goals}) == len(goals)


def test_the_document_is_the_one_that_the_results_give():
    assert report.document(MEASURED) == DOCUMENT, RENDER


def test_every_table_of_the_document_ends_with_its_verdict():
    sections = re.split(r"(?m)^## ", DOCUMENT)
    tables = [section for section in sections if " at commit " in section]
    assert len(tables) == len(MEASURED)
    for table in tables:
        assert table.rstrip().splitlines()[-1].startswith("Verdict: ")


def test_a_verdict_counts_what_was_reached_and_names_what_was_missed():
    goals = (
        Goal("goev", "rate", 1.2, "gnet"),
        Goal("goev", "p99", 2e-3, at_least=False),
        Goal("goev", "rate", 1, "core"),
    )
    lines = report.text(case(*goals, peers=("goev", "gnet", "core")), result(goev=110, gnet=100)).splitlines()
    verdict = "Verdict: 1 of 3 reached. Missed: goev / gnet, requests/s ≥ 1.20 is 1.10."
    assert lines[-1] == f"{verdict} Not measured: goev / core, requests/s ≥ 1.00."


def test_a_miss_that_looks_like_its_limit_has_one_more_digit():
    text = report.text(case(Goal("goev", "rate", 1.2, "gnet")), result(goev=1196, gnet=1000))
    assert text.endswith("Missed: goev / gnet, requests/s ≥ 1.20 is 1.196.\n")


def test_a_case_without_goals_says_so():
    assert report.text(case(), result(goev=1, gnet=1)).endswith("Verdict: there is no figure to reach.\n")


def test_a_table_of_today_matches_its_case():
    measured = result(goev=1, gnet=1)
    measured.commands = {peer: PEERS[peer].command for peer in measured.runs}
    assert age.mismatches(case(), measured) == []


def test_a_server_that_was_skipped_does_not_make_a_table_old():
    measured = result(goev=1)
    measured.skipped["gnet"] = "Go is not installed"
    assert age.mismatches(case(), measured) == []


def test_a_server_with_another_name_or_command_makes_a_table_old():
    measured = result(goev=1, gnet_9=1)
    measured.commands = {"goev": "goev --pollers 9"}
    assert age.mismatches(case(), measured) == [
        "gnet is not measured yet",
        "gnet-9 is no server of this case any more",
        "goev was another command, `goev --pollers 9`",
    ]


def test_a_metric_that_a_case_has_got_since_is_shown_as_missing():
    newer = case(Goal("goev", "cpu", 1.0, "gnet"), metrics=("rate", "p50", "cpu"))
    lines = report.text(newer, result(goev=1, gnet=1)).splitlines()
    assert lines[3].split() == ["goev", "1", "–", "–"]
    assert lines[-3] == "Older than its case: p50 and server CPU per request are not measured yet."


def test_the_summary_names_cases_without_a_table_and_tables_without_a_case():
    name, measured = next(iter(MEASURED.items()))
    summary = report.document({name: measured, "renamed": result(goev=1)})
    assert "- Not up to date, renamed: the results hold this case, and there is none" in summary
    others = [CASES[other].title for other in CASES if other != name]
    assert all(f"- Not up to date, {title}: it is not measured yet" in summary for title in others)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no clone")
def test_changes_of_the_code_are_counted_from_a_commit_that_git_knows():
    assert machine.changes_since("HEAD, with changes") == 0
    assert machine.changes_since("no-commit") is None
