"""`docs/metrics.md`, the dashboard and the alert rules name metrics that exist; the programs of the page run."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from test_docs import codes, rows
from test_readme import listens

from goev.metrics.families import FAMILIES
from goev.metrics.totals import Totals
from guides import Guide
from metrics_support import made_up, samples, value
from real_servers import free_port
from support import ROOT, Child, Client, eventually

GUIDE = Guide("metrics.md", 8080)
PAGE = GUIDE.path
DEPLOY = ROOT / "examples" / "deploy"
NAME = re.compile(r"\bgoev_\w+")


def exposed() -> str:
    """A service that has everything."""
    totals = Totals()
    acceptor = {"address": ":80", "stats": {"accepted": 1, "open": 1, "refused": 0, "errors": 0}}
    totals.update(1, {**made_up(1), "acceptors": [acceptor]})
    process = made_up(2)["process"]
    return totals.text({"process": process, "restarts": {"killed": 1}, "workers_wanted": 1, "workers_ready": 1})


def test_the_table_has_every_metric_with_its_type_and_its_labels():
    found = {}
    for family in text_string_to_metric_families(exposed()):
        end = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[family.name + end] = (family.type, labels)
    documented = {codes(row[0])[0]: (row[1], set(codes(row[2]))) for row in rows(PAGE, "metric")}
    assert documented == found
    assert len(found) == len(FAMILIES)


def queried(expression: str) -> set[str]:
    return set(NAME.findall(re.sub(r'"[^"]*"', "", expression)))


@cache
def names() -> set[str]:
    """The samples that a service has."""
    return {name for name, _ in samples(exposed())}


def test_the_dashboard_queries_metrics_that_exist():
    dashboard = json.loads((DEPLOY / "grafana-goev.json").read_text())
    panels = {panel["title"]: {target["expr"] for target in panel["targets"]} for panel in dashboard["panels"]}
    for title, expressions in panels.items():
        for expression in expressions:
            assert queried(expression), title
            assert queried(expression) <= names(), title
    variables = " ".join(str(each["query"]) for each in dashboard["templating"]["list"])
    assert queried(variables) == {"goev_build_info"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_panels_of_the_dashboard_do_not_overlap():
    dashboard = json.loads((DEPLOY / "grafana-goev.json").read_text())
    cells = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert x < 24
                assert (x, y) not in cells, panel["title"]
                cells.add((x, y))


def test_the_alerts_and_the_page_name_metrics_that_exist():
    rules = (DEPLOY / "goev-alerts.yml").read_text()
    queries = re.findall(r"expr: (?:>-\n)?((?:.|\n)+?)\n +(?:for|labels):", rules)
    assert len(queries) == rules.count("- alert:")
    assert queried(" ".join(queries)) <= names()
    families = {family.name for family in FAMILIES}
    others = NAME.findall(PAGE.read_text())
    assert {name for name in others if name not in names() | families} == {"goev_worker"}  # a label


# --- the programs ---


def program(folder: Path, heading: str) -> tuple[Child, int]:
    """A running program of the page, and the port of its metrics."""
    port = free_port()
    text = GUIDE.source(heading).replace('":8080"', '"127.0.0.1:0"').replace(":9100", f":{port}")
    (folder / "program.py").write_text(text)
    return Child(str(folder / "program.py")), port


def fetch(port: int, path: str) -> str:
    with Client(("127.0.0.1", port)) as client:
        fields = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept: application/openmetrics-text\r\n\r\n"
        client.send(fields.encode())
        return client.receive_all().decode().partition("\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("A program without the service", "goev_callbacks_total"),
        ("Metrics of the application", "goev_build_info"),
        ("Pages of one's own", "goev_connections_open"),
    ],
)
def test_a_program_of_the_page_serves_its_metrics(tmp_path, heading, name):
    child, port = program(tmp_path, heading)
    with child:
        eventually(lambda: child.process.poll() is not None or listens(child.pid), "it listens")
        eventually(lambda: is_there(port), "it answers")
        assert name in {found for found, _ in samples(fetch(port, "/metrics"))}
        assert fetch(port, "/-/ready") == "ready\n"
        child.interrupt()
        assert child.end() == 0, child.errors


def is_there(port: int) -> bool:
    try:
        return fetch(port, "/-/live") == "live\n"
    except ConnectionRefusedError:
        return False


def test_the_program_with_metrics_of_its_own_exposes_them(tmp_path):
    child, port = program(tmp_path, "Metrics of the application")
    with child:
        eventually(lambda: is_there(port), "it answers")
        assert "# TYPE shop_orders counter" in fetch(port, "/metrics")
        child.interrupt()
        assert child.end() == 0, child.errors


def test_every_program_and_every_link_was_tried():
    assert {heading for heading, _ in GUIDE.programs} == {
        "A program without the service", "Metrics of the application", "Pages of one's own",
    }  # fmt: skip
    assert GUIDE.dead_links() == []
    assert not [line for line in GUIDE.text.splitlines() if len(line) > 120 and not line.startswith("|")]
    assert value(exposed(), "goev_workers_ready") == 1
