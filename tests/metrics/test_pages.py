"""The pages: forms of the text, health, and workers that do not answer."""

import asyncio
import threading
import time

import pytest

import goev
from goev.metrics import Totals, pages, refresh, serve, snapshot
from goev.metrics.exposition import wants_openmetrics
from http_support import HttpClient, get
from metrics_support import made_up, samples, value
from support import Client, held, in_thread

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"


class Source:
    is_live = True
    is_ready = False

    def __init__(self):
        self.totals = Totals()

    async def collect(self):
        await asyncio.sleep(0)
        self.totals.update("w", made_up(1, callbacks=3))
        return self.totals.text()


@pytest.fixture
def client(start, stack):
    return HttpClient(stack, start(pages(Source()), asyncio=True))


def test_openmetrics_for_those_that_want_it(client):
    answer = client.ask(get("/metrics", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5"))
    assert (answer.status, answer["content-type"]) == (200, OPENMETRICS)
    assert answer.body.endswith(b"# EOF\n")
    assert value(answer.body.decode(), "goev_callbacks_total") == 3


def test_the_older_text_for_others(client):
    answer = client.ask(get("/metrics"))
    assert (answer.status, answer["content-type"]) == (200, PLAIN)
    assert b"# TYPE goev_callbacks_total counter\ngoev_callbacks_total 3.0\n" in answer.body
    assert b"# EOF" not in answer.body


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;q=0.5,text/plain;q=0.8", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=oops", False),
        # The field `Accept` of Prometheus 2.42.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            True,
        ),
        ("application/vnd.google.protobuf;q=0.7,text/plain;version=0.0.4;q=0.3", False),
    ],
)
def test_accept(accept, wanted):
    assert wants_openmetrics(accept) is wanted


def test_health(client):
    live, ready = client.ask(get("/-/live")), client.ask(get("/-/ready"))
    assert (live.status, live.body) == (200, b"live\n")
    assert (ready.status, ready.body) == (503, b"not ready\n")


def test_head_has_no_body(client):
    answer = client.ask(get("/-/live", method="HEAD"))
    assert (answer.status, answer["content-length"]) == (200, "5")


def test_other_paths_and_methods_are_refused(client):
    assert client.ask(get("/")).status == 404
    answer = client.ask(get("/metrics", "Content-Length: 0", method="POST"))
    assert (answer.status, answer["allow"]) == (405, "GET, HEAD")


# --- workers that do not answer ---


def test_a_worker_that_does_not_answer_keeps_its_last_snapshot():
    now = [0.0]
    totals = Totals(clock=lambda: now[0])
    totals.update("stuck", made_up(1, callbacks=10))
    now[0] = 60.0

    async def answer():
        return made_up(2, callbacks=1)

    async def hang():
        await asyncio.get_running_loop().create_future()

    async def fail():
        raise ConnectionResetError

    began = time.monotonic()
    asyncio.run(refresh(totals, {"fine": answer, "stuck": hang, "gone": fail}, timeout=0.1))
    assert time.monotonic() - began < 5
    text = totals.text()
    assert value(text, "goev_callbacks_total") == 11
    assert value(text, "goev_worker_scrape_age_seconds", worker="stuck") == 60
    assert value(text, "goev_worker_scrape_age_seconds", worker="fine") == 0


def test_a_worker_that_is_retired_while_another_hangs_is_counted_once():
    totals = Totals()

    async def answer():
        return made_up(1, callbacks=10)

    async def hang():
        while True:
            await asyncio.sleep(0.001)
            totals.retire("ended")

    asyncio.run(refresh(totals, {"ended": answer, "stuck": hang}, timeout=0.1))
    text = totals.text()
    assert value(text, "goev_callbacks_total") == 10
    assert 'worker="ended"' not in text


def test_without_workers_there_is_nothing_to_wait_for():
    asyncio.run(refresh(Totals(), {}))


@pytest.mark.parametrize("timeout", [0, -1.0])
def test_a_limit_that_is_no_time_is_refused(timeout):
    with pytest.raises(ValueError, match="timeout must be more than 0 seconds"):
        asyncio.run(refresh(Totals(), {}, timeout=timeout))


# --- a program of one process ---


def ask(server, path):
    with Client(server.address) as client:
        client.send(get(path, "Accept: application/openmetrics-text", "Connection: close"))
        head, _, body = client.receive_all().partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()


def test_a_scrape_does_not_wait_for_a_busy_poller(stack):
    reactor = stack.enter_context(goev.Reactor(2, measure=True, stall_warning=None))
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", goev.Connection)
    server = stack.enter_context(serve(reactor, "127.0.0.1:0", acceptors=[acceptor]))
    assert [ask(server, f"/-/{page}")[0] for page in ("live", "ready")] == [503, 503], "it does not run yet"
    reactor.start()
    assert [ask(server, f"/-/{page}") for page in ("live", "ready")] == [(200, "live\n"), (200, "ready\n")]
    with held(reactor):
        status, text = in_thread(ask, server, "/metrics").result(5)
    assert status == 200
    host, port = acceptor.address
    assert value(text, "goev_acceptor_accepted_total", address=f"{host}:{port}") == 0
    assert value(text, "goev_connections_open", worker="0", poller="1") == 0
    assert value(text, "goev_process_threads", worker="0") >= threading.active_count()


def test_it_closes_any_number_of_times(idle):
    server = serve(idle, "127.0.0.1:0")
    address = server.address
    server.close()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        Client(address)


def test_an_address_that_cannot_be_bound_is_refused(idle):
    with serve(idle, "127.0.0.1:0") as server, pytest.raises(OSError, match="Address already in use"):
        serve(idle, f"127.0.0.1:{server.address[1]}")


def test_addresses_are_written_as_acceptors_take_them(idle, tmp_path):
    path = tmp_path / "sock"
    acceptors = [goev.Acceptor(idle, each, goev.Connection) for each in ("127.0.0.1:0", f"unix:{path}")]
    found = [each["address"] for each in snapshot([idle], acceptors)["acceptors"]]
    assert found == [f"127.0.0.1:{acceptors[0].address[1]}", f"unix:{path}"]


def test_names_follow_the_rules_of_openmetrics(idle):
    """The parser refuses other texts. Names end with their unit."""
    totals = Totals()
    totals.update(0, snapshot([idle]))
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    for family in text_string_to_metric_families(totals.text()):
        assert family.name.startswith("goev_")
        assert not family.name.endswith("_total")
        assert family.documentation.endswith("."), family.name
        for word in ("seconds", "bytes"):
            assert (word in family.name.split("_")) == (family.unit == word), family.name
    assert samples(totals.text())
