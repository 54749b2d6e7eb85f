"""The report of the benchmarks says what was measured, and which tables are older than their cases."""

import re
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from support import ROOT

sys.path.insert(0, str(ROOT / "benches"))

from harness import age, chart, machine, report, results
from harness.cases import CASES, METRICS, Case, Goal
from harness.peers import PEERS
from harness.results import Result

MEASURED = results.load(ROOT / "benches" / "results.json")
DOCUMENT = (ROOT / "docs" / "benchmarks.md").read_text()
CHART = (ROOT / "docs" / "benchmarks.svg").read_text()
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


def test_the_chart_is_the_one_that_the_results_give():
    assert chart.draw(MEASURED) == CHART, RENDER


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


@pytest.mark.parametrize("panel", chart.PANELS, ids=lambda panel: panel.case)
def test_a_panel_shows_servers_and_metrics_of_its_case(panel):
    charted = CASES[panel.case]
    assert set(panel.bars) <= set(charted.peers)
    assert {panel.rate, "p99"} <= set(charted.metrics)


def test_the_chart_begins_with_what_users_build_and_ends_with_the_plain_echo_and_its_limits():
    *built, echo = (panel.case for panel in chart.PANELS)
    assert built == ["messages", "http", "websocket", "tls-c64", "redis"]
    assert echo == "c64"
    assert {PEERS[peer].program for peer in chart.PANELS[-1].bars} >= set(chart.LIMITS)


def messages(**latencies: float) -> dict[str, Result]:
    """The results of the first panel, as if some of its servers had been measured."""
    runs = {peer: [{"echoes": rate, **latencies}] for peer, rate in {"goev-1": 1e6, "uvloop": 5e5}.items()}
    return {"messages": Result("2026-01-02 03:04 UTC", "1234567", 2, runs=runs)}


def drawn(measured: dict[str, Result]) -> list[ElementTree.Element]:
    """All elements of the panels of a chart."""
    root = ElementTree.fromstring(chart.draw(measured))
    return [element for group in root.iter("{http://www.w3.org/2000/svg}g") for element in group.iter()]


def test_the_chart_shows_throughput_and_p99():
    texts = [element.text for element in drawn(messages(p99=1e-3)) if element.tag.endswith("text")]
    title, first, second = chart.PANELS[0].title, *(chart.PANELS[0].bars[peer] for peer in ("goev-1", "uvloop"))
    assert texts == [title, "p99", first, "1.00 M", "1.0 ms", second, "500 k", "1.0 ms"]


def test_the_chart_has_no_p99_where_none_was_measured():
    assert "p99" not in [element.text for element in drawn(messages())]


def test_goev_has_a_colour_of_its_own_in_the_chart():
    bars = [element.get("class") for element in drawn(messages(p99=1e-3)) if element.tag.endswith("rect")]
    assert bars == ["goev", "goev", "other", "other"]


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(4_072_764, "4.07 M"), (999_600, "1.00 M"), (626_900, "627 k"), (62_093, "62.1 k"), (548, "0.55 k")],
)
def test_a_rate_has_three_digits(rate, shown):
    assert chart.show_rate(rate) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(901e-6, "901 µs"), (999.7e-6, "1.0 ms"), (9.96e-3, "10 ms")])
def test_a_time_has_its_unit(seconds, shown):
    assert chart.show_time(seconds) == shown
