"""The deadline of a connect counts from the call, and holds whatever the addresses and the poller do."""

import errno
import time

import pytest

import goev
from connector_support import SLACK, Dials
from support import Echo, held, settle


@pytest.mark.parametrize("timeout", [0.05, 0.3, 0.6])
def test_a_silent_address_times_out_on_time(reactor, events, silent, timeout):
    class Times(Dials):
        def on_connect_fail(self, error):
            events("fail", error, time.monotonic())

    began = time.monotonic()
    goev.Connector(reactor).connect(silent, Times(events), timeout=timeout)
    _, error, at = events.next()
    assert timeout <= at - began < timeout + SLACK
    assert type(error) is TimeoutError
    assert error.errno == errno.ETIMEDOUT
    assert silent in str(error)
    assert str(timeout) in str(error)
    settle(reactor)
    assert events.names == ["fail"]


def test_one_deadline_holds_for_all_addresses_together(reactor, events, silent):
    began = time.monotonic()
    goev.Connector(reactor).connect([silent] * 5, Dials(events), timeout=0.6)
    assert type(events.next()[1]) is TimeoutError
    assert 0.6 <= time.monotonic() - began < 0.6 + SLACK


def test_many_deadlines_are_all_kept(reactor, events, silent):
    class Times(Dials):
        def __init__(self, due: float) -> None:
            self.due = due

        def on_connect_fail(self, error):
            events("late", time.monotonic() - self.due)

    connector = goev.Connector(reactor)
    for number in range(60):
        timeout = 0.2 + number * 0.005
        connector.connect(silent, Times(time.monotonic() + timeout), timeout=timeout)
    events.times("late", 60)
    late = [event[1] for event in events.history]
    assert min(late) >= -0.001
    assert max(late) < SLACK


def test_the_deadline_counts_from_the_call_also_when_the_poller_is_busy(reactor, events, silent):
    connector = goev.Connector(reactor)
    with held(reactor):
        began = time.monotonic()
        connector.connect(silent, Dials(events), timeout=0.5)
        time.sleep(0.3)  # the time for which the poller is busy
    assert type(events.next()[1]) is TimeoutError
    assert 0.5 <= time.monotonic() - began < 0.5 + SLACK


def test_the_poller_serves_while_a_connect_waits(start, events, silent):
    server = start(Echo)
    goev.Connector(server.reactor).connect(silent, Dials(events), timeout=0.4)
    client = server.connect()
    while not events.history:
        assert client.ask(b"ping") == b"ping"
    assert type(events.next()[1]) is TimeoutError
