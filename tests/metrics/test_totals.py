"""Sums over workers: they never fall, and each sample is there once."""

import json

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from goev.metrics import Totals
from metrics_support import made_up, samples, text_of, value


def application(name, kind, *samples, help="Help."):
    return {"name": name, "type": kind, "help": help, "unit": "", "samples": [list(sample) for sample in samples]}


def test_counters_are_summed_over_pollers_and_workers():
    text = text_of(made_up(1, bytes_in=5, closed_by={"raised": 2}), made_up(2, bytes_in=7, closed_by={"raised": 1}))
    assert value(text, "goev_received_bytes_total") == 12
    assert value(text, "goev_connections_closed_total", reason="raised") == 3


def test_gauges_are_told_for_each_worker_and_poller():
    text = text_of(made_up(1, open=3), made_up(2, open=4))
    assert value(text, "goev_connections_open", worker="0", poller="0") == 3
    assert value(text, "goev_connections_open", worker="1", poller="0") == 4


def test_a_worker_that_ends_stays_in_the_counters_and_leaves_the_gauges():
    totals = Totals()
    totals.update(1, made_up(1, callbacks=10))
    totals.update(2, made_up(2, callbacks=1))
    totals.retire(1)
    totals.retire(1)
    totals.retire("unknown")
    text = totals.text()
    assert value(text, "goev_callbacks_total") == 11
    assert ("goev_timers", (("poller", "0"), ("worker", "1"))) not in samples(text)
    totals.update(3, made_up(3, callbacks=4))
    assert value(totals.text(), "goev_callbacks_total") == 15


def test_another_process_under_the_same_id_adds_to_the_one_before():
    totals = Totals()
    totals.update(1, made_up(100, callbacks=10))
    totals.update(1, made_up(200, callbacks=3))
    totals.update(1, made_up(200, callbacks=5))
    assert value(totals.text(), "goev_callbacks_total") == 15


def test_a_histogram_is_cumulated_and_summed():
    histogram = {"classes": [("1e-06", 1), ("2e-06", 2), ("+Inf", 4)], "sum": 0.5}
    text = text_of(*(made_up(pid, histograms={"answer_seconds": histogram}) for pid in (1, 2)))
    name = "goev_http_request_seconds"
    assert [value(text, f"{name}_bucket", le=le) for le in ("1e-06", "2e-06", "+Inf")] == [2, 6, 14]
    assert (value(text, f"{name}_count"), value(text, f"{name}_sum")) == (14, 1.0)


def test_a_snapshot_survives_json():
    through = json.loads(json.dumps(made_up(1, callbacks=3), allow_nan=True))
    assert samples(text_of(through)).keys() == samples(text_of(made_up(1))).keys()


def test_figures_of_the_supervisor():
    totals = Totals()
    figures = {"restarts": {"max_requests": 3}, "workers_wanted": 4, "workers_ready": 2}
    text = totals.text({**figures, "process": made_up(7)["process"]})
    assert value(text, "goev_worker_restarts_total", reason="max_requests") == 3
    assert (value(text, "goev_workers_wanted"), value(text, "goev_workers_ready")) == (4, 2)
    assert value(text, "goev_process_threads", worker="supervisor") > 0
    assert not [name for name, _ in samples(totals.text()) if name.startswith("goev_workers")], "unknown, not zero"


def test_the_age_of_a_snapshot_grows_until_the_next():
    now = [100.0]
    totals = Totals(clock=lambda: now[0])
    totals.update("a", made_up(1))
    now[0] += 5
    totals.update("b", made_up(2))
    now[0] += 2
    text = totals.text()
    assert value(text, "goev_worker_scrape_age_seconds", worker="a") == 7
    assert value(text, "goev_worker_scrape_age_seconds", worker="b") == 2


# --- metrics of the application ---


def test_counters_and_summaries_of_the_application_are_summed_and_do_not_fall():
    def worker(pid, count):
        counter = application("orders", "counter", ("orders_total", {"kind": "book"}, count))
        summary = application("size", "summary", ("size_count", {}, count), ("size_sum", {}, count * 2.5))
        return made_up(pid, application=[counter, summary])

    totals = Totals()
    totals.update(1, worker(1, 4))
    totals.update(2, worker(2, 6))
    totals.retire(1)
    totals.update(3, worker(3, 1))
    text = totals.text()
    assert value(text, "orders_total", kind="book") == 11
    assert (value(text, "size_count"), value(text, "size_sum")) == (11, 27.5)


def test_gauges_of_the_application_are_told_for_each_worker():
    gauges = [
        application("stock", "gauge", ("stock", {"worker": "x"}, 4)),
        application("heat", "gauge", ("heat", {}, 7)),
    ]
    text = text_of(made_up(1, application=gauges), made_up(2, application=gauges))
    assert value(text, "heat", worker="1") == 7
    assert value(text, "stock", worker="x", goev_worker="0") == 4, "a label of its own stays"


def test_histograms_with_other_buckets_than_before_stay_cumulative():
    def worker(pid, *buckets):
        counted = [("t_bucket", {"le": le}, count) for le, count in buckets]
        count = sum(count for _, count in buckets)
        return made_up(
            pid, application=[application("t", "histogram", *counted, ("t_count", {}, count), ("t_sum", {}, 1))]
        )

    text = text_of(worker(1, ("1.0", 1), ("2.0", 5), ("+Inf", 0)), worker(2, ("1.0", 1), ("5.0", 2), ("+Inf", 1)))
    assert [value(text, "t_bucket", le=le) for le in ("1.0", "2.0", "5.0", "+Inf")] == [2, 7, 9, 10]
    assert value(text, "t_count") == 10


def test_a_metric_that_has_changed_its_type_does_not_break_the_text():
    counter = application("thing", "counter", ("thing_total", {}, 4))
    gauge = application("thing", "gauge", ("thing", {}, 5))
    text = text_of(made_up(1, application=[counter]), made_up(2, application=[gauge]))
    assert value(text, "thing_total") == 4
    assert [family.type for family in text_string_to_metric_families(text) if family.name == "thing"] == ["counter"]


@pytest.mark.parametrize("label", ['"quoted"\n\\', "ünï"])
def test_labels_may_be_any_text(label):
    counter = application("odd", "counter", ("odd_total", {"a": label}, 4), help='A "help"\nof \\ two lines')
    assert value(text_of(made_up(1, application=[counter])), "odd_total", a=label) == 4
