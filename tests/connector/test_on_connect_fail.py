"""Exceptions out of on_connect_fail, and failures that no handler takes, are logged or end the run."""

import pytest

import goev
from connector_support import Dials
from support import Echo


def test_a_failure_without_an_own_on_connect_fail_is_logged(reactor, log, dead):
    goev.Connector(reactor).connect(dead, Echo())
    record, text = log.next()
    assert record.levelname == "ERROR"
    assert "Echo" in text
    assert "on_connect_fail" in text
    assert f"cannot connect to {dead}" in text
    assert "ConnectionRefusedError" in text


def test_an_on_connect_fail_that_raises_is_logged_and_the_reactor_lives(reactor, log, events, dead, target):
    class Raises(Dials):
        def on_connect_fail(self, error):
            raise LookupError("from on_connect_fail")

    connector, handler = goev.Connector(reactor), Raises(events)
    connector.connect(dead, handler)
    text = log.next()[1]
    assert "on_connect_fail of Raises" in text
    assert "LookupError: from on_connect_fail" in text
    connector.connect(target, handler)
    assert events.next() == ("open", handler)
    assert len(log.texts()) == 1


def test_an_on_connect_fail_that_returns_something_is_logged(reactor, log, dead):
    class Returns(goev.Connection):
        def on_connect_fail(self, error):
            return False

    goev.Connector(reactor).connect(dead, Returns())
    assert "TypeError: on_connect_fail must return None" in log.next()[1]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_stops_the_reactor_and_comes_out_of_run(events, dead, kind):
    class Raises(Dials):
        def on_connect_fail(self, error):
            raise kind

    reactor = goev.Reactor(pollers=1)
    goev.connect(reactor, dead, Raises(events))
    with pytest.raises(kind):
        reactor.run()


def test_a_generator_is_refused_when_the_class_is_used():
    class Wrong(goev.Connection):
        def on_connect_fail(self, error):
            yield

    with pytest.raises(TypeError, match="on_connect_fail"):
        Wrong()
