"""A reactor that never ran is freed although what it holds refers to it."""

import contextlib
import gc
import os
import socket
import weakref

import pytest

import goev


class Handler(goev.Connection):
    def on_connect_fail(self, error):
        pass


class Watches(goev.EventHandler):
    def __del__(self):
        for fd in self.pipe:
            os.close(fd)


def by_a_factory(reactor):
    goev.Acceptor(reactor, "127.0.0.1:0", lambda: reactor)


def by_a_factory_of_many_pollers(reactor):
    goev.Acceptor(reactor, ["127.0.0.1:0", "127.0.0.1:0"], lambda: reactor, reuse_port=True)


def by_a_timer(reactor):
    reactor.schedule(1.0, lambda: print(reactor))


def by_a_call(reactor):
    reactor.call_soon(lambda: reactor)


def by_the_argument_of_a_call(reactor):
    reactor.call_soon(print, [reactor])


def by_the_cache(reactor):
    reactor.cache_set("key", reactor)


def by_a_connect(reactor):
    handler = Handler()
    handler.reactor_again = reactor
    handler.connector = goev.Connector(reactor)
    handler.connector.connect("127.0.0.1:1", handler)


def by_an_adoption(reactor):
    handler = Handler()
    handler.reactor_again = reactor
    with contextlib.ExitStack() as stack:
        ours, _ = map(stack.enter_context, socket.socketpair())
        reactor.adopt(handler, ours)


def by_a_descriptor(reactor):
    handler = Watches()
    handler.reactor_again = reactor
    handler.pipe = os.pipe()
    reactor.add(handler, handler.pipe[0], goev.EV_IN)


HOLDERS = [
    by_a_factory,
    by_a_factory_of_many_pollers,
    by_a_timer,
    by_a_call,
    by_the_argument_of_a_call,
    by_the_cache,
    by_a_connect,
    by_an_adoption,
    by_a_descriptor,
]


@pytest.mark.parametrize("hold", HOLDERS)
def test_it_is_freed_with_what_it_holds(hold):
    reactor = goev.Reactor(pollers=2)
    hold(reactor)
    freed = weakref.ref(reactor)
    gc.collect()
    assert freed() is not None
    del reactor
    gc.collect()
    assert freed() is None


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("hold", HOLDERS)
def test_it_keeps_what_it_holds_as_long_as_it_may_run(hold):
    """A collection before the run, and one during it, take nothing away."""
    called = []

    class Held:
        def __del__(self):
            called.append("freed")

    reactor = goev.Reactor()
    held = Held()
    reactor.call_soon(lambda held=held: called.append("called"))
    reactor.schedule(0.0, lambda held=held: called.append("timer"))
    del held
    hold(reactor)
    gc.collect()
    reactor.call_soon(gc.collect)
    reactor.schedule(0.02, lambda: reactor.stop(0))
    reactor.run()
    assert sorted(called[:2]) == ["called", "timer"], called
