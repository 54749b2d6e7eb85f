"""A list of addresses is tried in its order, each beside the silent ones before it, until one opens."""

import socket
import time

import pytest

import goev
from connector_support import SLACK, STAGGER, Dials, listening
from support import eventually, open_fds, settle, settled_fds, text_of


@pytest.mark.parametrize("dead_first", [1, 3])
def test_after_a_refused_address_the_next_is_tried_at_once(reactor, events, dead, target, dead_first):
    began = time.monotonic()
    goev.Connector(reactor).connect([dead] * dead_first + [target], Dials(events))
    assert events.next()[0] == "open"
    assert time.monotonic() - began < STAGGER / 2


def test_beside_a_silent_address_the_next_is_tried_after_the_stagger(reactor, events, silent, listener, target):
    began = time.monotonic()
    goev.Connector(reactor).connect([silent, target], Dials(events))
    connection = events.next()[1]
    assert STAGGER <= time.monotonic() - began < STAGGER + 0.1
    assert connection.remote_address == listener.getsockname()


def test_a_silent_address_beside_a_refused_one_is_still_waited_for(reactor, events, silent, dead):
    began = time.monotonic()
    goev.Connector(reactor).connect([silent, dead], Dials(events), timeout=0.6)
    assert type(events.next()[1]) is TimeoutError
    assert 0.6 <= time.monotonic() - began < 0.6 + SLACK


def test_the_first_of_two_good_addresses_is_preferred(reactor, events, listener, target):
    with listening() as second:
        for _ in range(10):
            goev.Connector(reactor).connect([target, text_of(second.getsockname())], Dials(events))
            assert events.next()[1].remote_address == listener.getsockname()


def test_when_all_are_refused_the_last_error_is_told_once(reactor, events, dead):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        last = text_of(other.getsockname())
        goev.Connector(reactor).connect([dead, last], Dials(events))
        error = events.next()[1]
        assert type(error) is ConnectionRefusedError
        assert last in str(error)
        settle(reactor)
        assert events.names == ["fail"]


def test_a_list_may_mix_kinds(reactor, events, dead, tmp_path):
    with listening(socket.AF_UNIX, f"{tmp_path}/socket"):
        addresses = [dead, f"unix:{tmp_path}/missing", f"unix:{tmp_path}/socket"]
        goev.Connector(reactor).connect(addresses, Dials(events))
        assert events.next()[0] == "open"


def test_the_losing_attempts_leave_nothing_behind(reactor, events, silent, target):
    before = settled_fds()
    goev.Connector(reactor).connect([silent, silent, target], Dials(events))
    connection = events.next()[1]
    eventually(lambda: open_fds() == before + 1, "only the winner's descriptor is open")
    connection.abort()
    eventually(lambda: open_fds() == before, "no descriptor is left")


def test_a_host_name_first_in_the_list_is_preferred(reactor, events, listener):
    """The list is in the order of preference, whatever has to be looked up."""
    with listening() as second:
        name = f"localhost:{listener.getsockname()[1]}"
        for _ in range(5):
            goev.Connector(reactor).connect([name, text_of(second.getsockname())], Dials(events))
            assert events.next()[1].remote_address == listener.getsockname()


def test_a_name_that_is_found_does_not_cut_the_turn_of_an_address_short(reactor, events, silent, listener):
    """The next attempt begins 250 ms after the one before, also when its address was found meanwhile."""
    began = time.monotonic()
    goev.Connector(reactor).connect([silent, f"localhost:{listener.getsockname()[1]}"], Dials(events))
    assert events.next()[0] == "open"
    assert STAGGER <= time.monotonic() - began < STAGGER + 0.1
