"""The reactor as an object: how many pollers, whether it runs, what it counts."""

import os
import threading
import time

import pytest

import goev
from support import PATIENCE, Client, Echo, eventually, has_lock, in_thread

KEYS = {
    "accepted",
    "connected",
    "moved_here",
    "moved_away",
    "open",
    "closed",
    "bytes_in",
    "bytes_out",
    "datagrams_dropped",
    "closed_by",
    "refused",
    "proxy_refused",
    "handshakes_failed",
    "batches",
    "batch_sizes",
    "callbacks",
    "stalls",
    "python_time",
    "attach_wait",
    "timers",
    "mailbox",
    "answers",
    "websockets",
    "handshakes",
    "handshakes_resumed",
    "group_sent",
    "group_skipped",
    "slow_callbacks",
    "histograms",
}
TABLES = {"closed_by", "batch_sizes", "proxy_refused", "handshakes_failed", "answers", "histograms"}


def test_by_default_there_is_one_poller_with_the_gil_and_one_per_cpu_without():
    reactor = goev.Reactor()
    assert reactor.pollers == (1 if has_lock() else len(os.sched_getaffinity(0)))
    assert goev.Reactor(None).pollers == reactor.pollers


@pytest.mark.parametrize("pollers", [1, 2, 7, 1024])
def test_the_number_of_pollers_is_what_was_asked_for(pollers):
    before = threading.active_count()
    assert goev.Reactor(pollers=pollers).pollers == pollers
    assert threading.active_count() == before, "threads begin with start()"


def test_start_returns_and_running_says_so():
    with goev.Reactor(pollers=2) as reactor:
        assert not reactor.running
        assert reactor.start() is None
        assert reactor.running
        reactor.stop()
        reactor.join(5)
        assert not reactor.running


def test_run_uses_the_calling_thread_as_poller_0(events):
    reactor = goev.Reactor(pollers=2)
    reactor.call_soon(lambda: (events("thread", threading.get_ident()), reactor.stop()))
    reactor.run()
    assert events.history == [("thread", threading.get_ident())]


def test_run_in_another_thread_uses_that_thread(events):
    reactor = goev.Reactor(pollers=1)
    reactor.call_soon(lambda: (events("thread", threading.get_ident()), reactor.stop()))

    def run() -> int:
        reactor.run()
        return threading.get_ident()

    assert in_thread(run).result(PATIENCE) == events.next()[1]


def test_a_reactor_without_acceptors_runs_until_stopped(reactor, events):
    reactor.schedule(0.05, lambda: events("still running"))
    assert events.next() == ("still running",)
    assert reactor.running


def test_other_python_threads_run_while_run_waits():
    reactor = goev.Reactor(pollers=1)
    counted = in_thread(lambda: (sum(range(2_000_000)), reactor.stop()))
    reactor.run()
    assert counted.result(PATIENCE)[0] == sum(range(2_000_000))


def test_run_serves_on_the_main_thread_too():
    reactor = goev.Reactor(pollers=2)
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)

    def visit() -> list[bytes]:
        try:
            with Client(acceptor.address) as one, Client(acceptor.address) as two:
                return [client.ask(b"hello") for client in (one, two, one, two)]
        finally:
            reactor.stop()

    visiting = in_thread(visit)
    reactor.run()
    assert visiting.result(PATIENCE) == [b"hello"] * 4


def test_several_reactors_live_side_by_side(start):
    servers = [start(Echo) for _ in range(4)]
    clients = [server.connect() for server in servers]
    servers[0].reactor.stop()
    servers[0].reactor.join(10)
    for client in clients[1:]:
        assert client.ask(b"hello") == b"hello"


def test_reactors_can_be_made_run_and_forgotten_many_times():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        with goev.Reactor(pollers=2) as reactor:
            acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo, reuse_port=True)
            reactor.start()
            with Client(acceptor.address) as client:
                assert client.ask(b"x") == b"x"
    del reactor, acceptor
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before, "all descriptors are closed")


def test_stats_count_connections_and_bytes(start):
    server = start(Echo, pollers=2)
    clients = [server.connect() for _ in range(6)]
    for client in clients:
        assert client.ask(b"x" * 1000) == b"x" * 1000
    stats = server.reactor.stats()
    assert len(stats) == 2
    assert all(set(poller) == KEYS for poller in stats)
    assert all(poller[key] >= 0 for poller in stats for key in KEYS - TABLES)
    assert [(p["accepted"], p["open"], p["closed"]) for p in stats] == [(3, 3, 0)] * 2
    assert [p["bytes_in"] for p in stats] == [3000] * 2
    eventually(lambda: [p["bytes_out"] for p in server.reactor.stats()] == [3000] * 2, "the output is counted")
    for client in clients[:4]:
        client.close()
    eventually(lambda: sum(p["closed"] for p in server.reactor.stats()) == 4, "the ends are counted")
    assert all(p["accepted"] == p["open"] + p["closed"] for p in server.reactor.stats())
    assert all(p["batches"] > 0 and p["callbacks"] > 0 for p in server.reactor.stats())


def test_stats_count_timers(reactor):
    timers = [reactor.schedule(60.0, print) for _ in range(10)]
    eventually(lambda: reactor.stats()[0]["timers"] == 10, "the timers are counted")
    for timer in timers:
        timer.cancel()
    eventually(lambda: reactor.stats()[0]["timers"] == 0, "cancelled timers are gone")


def test_stats_are_readable_before_and_after():
    reactor = goev.Reactor(pollers=3)
    assert [poller["accepted"] for poller in reactor.stats()] == [0, 0, 0]
    reactor.stop()
    assert len(reactor.stats()) == 3


def test_an_idle_reactor_costs_no_cpu(start):
    server = start(Echo, pollers=2)
    clients = [server.connect() for _ in range(20)]
    assert clients[0].ask(b"x") == b"x"
    before = time.process_time()
    time.sleep(0.5)  # the time over which CPU is measured
    assert time.process_time() - before < 0.1


def test_the_package_exports_its_names_and_its_version():
    names = [
        *("Acceptor", "Connection", "EventHandler", "Reactor", "Timer", "serve", "EV_ET", "EV_IN", "EV_OUT"),
        *("ConnectionClosed", "Error", "InputOverflow", "OutputOverflow", "StopTimeout", "WrongThread"),
    ]
    assert set(names) <= set(goev.__all__)
    assert all(hasattr(goev, name) for name in goev.__all__)
    assert isinstance(goev.__version__, str)
    for name in ("ConnectionClosed", "WrongThread", "InputOverflow", "OutputOverflow", "StopTimeout"):
        assert issubclass(getattr(goev, name), goev.Error)
        assert getattr(goev, name).__module__ == "goev"
    assert len({goev.EV_IN, goev.EV_OUT, goev.EV_ET, goev.EV_IN | goev.EV_OUT}) == 4


@pytest.mark.parametrize("name", ["Acceptor", "Connection", "EventHandler", "Reactor", "Timer", "serve"])
def test_public_names_have_docstrings(name):
    thing = getattr(goev, name)
    assert thing.__doc__
    public = [member for member in vars(thing) if not member.startswith("_")] if isinstance(thing, type) else []
    # The docstring of the class describes attributes that are None until a subclass sets them.
    missing = [member for member in public if getattr(thing, member) is not None and not getattr(thing, member).__doc__]
    assert not missing
