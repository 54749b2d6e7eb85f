"""`goev.metrics.include`: the figures of clusters are metrics."""

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from test_docs import codes, rows

from metrics_support import Totals, value
from support import ROOT, Child

PROGRAM = """
    import json, sys
    import goev
    from goev.metrics import Totals, include, snapshot

    reactor = goev.Reactor(1)

    def text():
        totals = Totals()
        totals.update(0, json.loads(json.dumps(snapshot([reactor]))))
        return totals.text()

    def show():
        print(json.dumps(text()), flush=True)
"""


def texts_of(body, count=1):
    import json

    with Child.running(PROGRAM + body) as child:
        found = [json.loads(child.line()) for _ in range(count)]
        assert child.end() == 0, child.errors
        return found


def test_the_figures_of_a_cluster_are_there_from_include_on():
    before, during, after = texts_of(
        """
    one, two = (goev.cluster.connect("memory:metrics") for _ in range(2))
    show()
    include(one)
    include(one)
    group = one.group("room")
    group.send(b"hello")
    while one.stats()["sent"] == 0 or len(one.machines()) < 2:
        pass
    show()
    two.close()
    one.close()
    show()
    """,
        3,
    )
    assert "goev_cluster" not in before
    assert value(during, "goev_cluster_messages_total", engine="memory:metrics", result="sent") == 1
    assert value(during, "goev_cluster_messages_total", engine="memory:metrics", result="dropped") == 0
    assert value(during, "goev_cluster_sessions_total", engine="memory:metrics", result="begun") == 1
    assert value(during, "goev_cluster_machines", engine="memory:metrics", worker="0") == 2
    assert value(during, "goev_cluster_up", engine="memory:metrics", worker="0") == 1
    assert value(after, "goev_cluster_up", engine="memory:metrics", worker="0") == 0
    assert value(after, "goev_cluster_messages_total", engine="memory:metrics", result="sent") == 1


def test_clusters_of_one_engine_are_added_up_and_engines_apart():
    (text,) = texts_of("""
    for name in ("a", "a", "b"):
        include(goev.cluster.connect(f"memory:{name}"))
    show()
    """)
    assert value(text, "goev_cluster_sessions_total", engine="memory:a", result="begun") == 2
    assert value(text, "goev_cluster_sessions_total", engine="memory:b", result="begun") == 1


def test_every_figure_is_a_metric_and_every_metric_is_in_the_page():
    (text,) = texts_of("""
    include(goev.cluster.connect("memory:"))
    show()
    """)
    (keys,) = texts_of("""
    with goev.cluster.connect("memory:") as cluster:
        print(json.dumps(sorted(cluster.stats())))
    """)
    found, results = {}, set()
    for family in text_string_to_metric_families(text):
        if family.name.startswith("goev_cluster"):
            end = "_total" if family.type == "counter" else ""
            found[family.name + end] = (family.type, {label for each in family.samples for label in each.labels})
            results |= {each.labels.get("result", family.name) for each in family.samples}
    page = ROOT / "docs" / "cluster.md"
    documented = {codes(row[0])[0]: (row[1], set(codes(row[2]))) for row in rows(page, "metric of a cluster")}
    assert found == documented
    renamed = {"sessions": "begun", "failures": "failed", "waiting": "goev_cluster_waiting_messages"}
    renamed |= {key: f"goev_cluster_{key}" for key in ("waiting_bytes", "subscriptions")}
    assert {renamed.get(key, key) for key in keys} <= results


def test_a_program_without_a_cluster_imports_none():
    (modules,) = texts_of("""
    text()
    print(json.dumps([name for name in sys.modules if name.startswith("goev.cluster")]))
    """)
    assert modules == []
    assert "goev_cluster" not in Totals().text()
