"""Metrics that the application makes by `prometheus_client` come along. Each test has a process of its own."""

import json
from typing import Any

from metrics_support import made_up, text_of, value
from support import Child

PROGRAM = """
    import json, logging, sys
    import goev
    from goev.metrics import snapshot

    reactor = goev.Reactor(1)
"""


def application_of(body: str) -> Any:
    with Child.running(PROGRAM + body) as child:
        found = json.loads(child.line())
        assert child.end() == 0, child.errors
        return found


def test_those_of_the_default_registry_come_along():
    found = application_of("""
    from prometheus_client import Counter, Enum, Gauge, Histogram, Info, Summary

    Counter("orders", "Orders.", ["kind"]).labels("book").inc(3)
    Gauge("stock", "Stock.").set(4)
    Histogram("size_bytes", "Sizes.", buckets=(10, 20)).observe(15)
    Histogram("labelled", "Sizes.", ["a"], buckets=(10, 20)).labels("x").observe(5)
    Summary("weight", "Weights.").observe(2.5)
    weights = Summary("weights", "Weights.", ["a"])
    for a in "xy":
        weights.labels(a).observe(1)
    Info("app", "Facts.").info({"version": "7"})
    Enum("state", "State.", states=["up", "down"]).state("up")
    Counter("goev_own", "A name that is taken.").inc()
    print(json.dumps(snapshot([reactor])["application"]))
    """)
    text = text_of(made_up(1, application=found), made_up(2, application=found))
    assert value(text, "orders_total", kind="book") == 6
    assert value(text, "stock", worker="0") == 4
    assert [value(text, "size_bytes_bucket", le=le) for le in ("10.0", "20.0", "+Inf")] == [0, 2, 2]
    assert [value(text, "labelled_bucket", a="x", le=le) for le in ("10.0", "20.0", "+Inf")] == [2, 2, 2]
    assert (value(text, "weight_count"), value(text, "weight_sum")) == (2, 5.0)
    assert value(text, "app_info", version="7", worker="1") == 1
    assert value(text, "state", state="up", worker="0") == 1
    assert {family["name"] for family in found} == {
        "orders", "stock", "size_bytes", "labelled", "weight", "weights", "app", "state",
    }  # fmt: skip


def test_an_application_without_it_does_not_import_it():
    found = application_of("""
    found = snapshot([reactor])["application"]
    print(json.dumps([found, "prometheus_client" in sys.modules]))
    """)
    assert found == [[], False]


def test_a_collector_that_raises_is_logged_and_takes_no_counter_back():
    found = application_of("""
    from prometheus_client import REGISTRY, Counter

    Counter("orders", "Orders.").inc()
    logging.disable()
    before = snapshot([reactor])["application"]

    class Broken:
        def collect(self):
            raise RuntimeError

    REGISTRY._collector_to_names[Broken()] = []
    print(json.dumps([before, snapshot([reactor])["application"]]))
    """)
    assert found[0] == found[1] != []


def test_goev_is_imported_without_the_metrics():
    found = application_of("""
    print(json.dumps(0))
    """)
    assert found == 0
    with Child.running("import sys, goev; print([m for m in sys.modules if m.startswith('goev.metrics')])") as child:
        assert child.line() == "[]"


def test_without_prometheus_client_the_error_names_the_extra():
    with Child.running("""
    import sys
    sys.modules["prometheus_client"] = None
    import goev

    for call in (lambda: goev.metrics.serve(goev.Reactor(1)), lambda: goev.metrics.Totals().text()):
        try:
            call()
        except ModuleNotFoundError as error:
            print(error, error.name)
    """) as child:
        for _ in range(2):
            assert child.line().endswith("pip install 'goev[metrics]' prometheus_client")
