"""A handler is bound once, on the poller that binds it, and its methods are for that poller's thread."""

import errno
from threading import get_ident

import pytest

import goev
from datagram_support import V4, Udp, UdpEcho, socket_of
from support import PATIENCE, in_thread, on_poller, settle, settled_fds, text_of


def test_bound_in_a_callback_it_belongs_to_the_same_poller(start, events, peer):
    class Binds(goev.Connection):
        def on_open(self):
            events("accepted", get_ident())
            Where(events).bind(self.reactor, V4)

    class Where(Udp):
        def on_open(self):
            events("bound", get_ident(), self.local_address)

        def on_datagram(self, data, address):
            events("datagram", get_ident())

    server, client = start(Binds, pollers=2), peer()
    for _ in range(4):
        server.connect()
        thread = events.until("accepted")[1]
        _, bound, address = events.until("bound")
        client.sendto(b"x", address)
        assert bound == thread == events.until("datagram")[1]
    assert len({thread for _, thread in events.of("accepted")}) == 2


def test_bound_in_another_thread_it_belongs_to_poller_0(events, peer):
    class Where(UdpEcho):
        def on_open(self):
            events("open", get_ident())

    with goev.Reactor(pollers=3) as reactor:
        reactor.start()
        handler = Where(events)
        in_thread(handler.bind, reactor, V4).result(PATIENCE)
        assert events.until("open")[1] == on_poller(reactor, get_ident)
        assert peer().ask(b"x", on_poller(reactor, lambda: handler.local_address)) == b"x"


def test_bound_before_the_start_it_gets_what_came_meanwhile(events, peer):
    with goev.Reactor(pollers=1) as reactor:
        handler, client = Udp(events), peer()
        handler.bind(reactor, V4)
        with socket_of(handler) as copy:
            address = copy.getsockname()
        for number in range(50):
            client.sendto(b"%d" % number, address)
        assert not events.history
        reactor.start()
        events.times("datagram", 50)
    assert events.names == ["open"] + ["datagram"] * 50 + ["close"]
    assert [int(data) for _, data, _ in events.of("datagram")] == list(range(50))


def test_a_handler_of_a_reactor_that_never_runs_leaves_nothing_open(events):
    before = settled_fds()
    reactor = goev.Reactor(pollers=1)
    Udp(events).bind(reactor, V4)
    reactor.stop()
    del reactor
    assert settled_fds() <= before


def test_a_stopped_reactor_takes_no_handler(events):
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
    before = settled_fds()
    with pytest.raises(RuntimeError, match="stopped"):
        Udp(events).bind(reactor, V4)
    assert settled_fds() <= before
    assert not events.history


def test_bound_while_the_reactor_stops_it_is_refused_or_gets_on_close(events):
    """Whichever of the two is first: nothing hangs, and somebody is told."""
    for _ in range(50):
        reactor, handler = goev.Reactor(pollers=1), Udp(events)
        reactor.start()
        stopping = in_thread(reactor.stop)
        try:
            handler.bind(reactor, V4)
        except RuntimeError:
            events("close", None)
        stopping.result(PATIENCE)
        reactor.join(5)
    assert len(events.of("close")) == 50


def test_a_handler_serves_one_socket_once(bind, events, reactor):
    handler = Udp(events)
    bind(handler)
    with pytest.raises(ValueError, match="used"):
        handler.bind(reactor, V4)
    on_poller(reactor, handler.close)
    events.until("close")
    with pytest.raises(ValueError, match="used"):
        handler.bind(reactor, V4)
    with pytest.raises(ValueError, match="used"):
        on_poller(reactor, reactor.add, handler, 0, goev.EV_IN)


def test_an_address_in_use_is_refused_and_the_handler_may_try_another(bind, events, reactor, peer):
    taken, handler = peer(), UdpEcho(events)
    address = text_of(taken.getsockname())
    with pytest.raises(OSError, match=f"cannot bind {address}") as caught:
        handler.bind(reactor, address)
    assert caught.value.errno == errno.EADDRINUSE
    assert peer().ask(b"x", bind(handler)) == b"x"


def test_between_bind_and_on_open_a_handler_is_closed_and_touches_no_other(bind, events, reactor, peer):
    first, client = Udp(events), peer()
    bind(first, peer=text_of(client.getsockname()))
    second = UdpEcho(events)

    def bind_and_use() -> None:
        second.bind(reactor, V4)
        for use in (
            lambda: second.send(b"stray"),
            lambda: second.send_to(b"stray", client.getsockname()),
            lambda: second.local_address,
        ):
            with pytest.raises(goev.ConnectionClosed):
                use()

    on_poller(reactor, bind_and_use)
    address = on_poller(reactor, lambda: second.local_address)
    assert client.ask(b"hello", address) == b"hello"
    assert "close" not in events.names


USES = {
    "send_to": lambda handler: handler.send_to(b"x", ("127.0.0.1", 9)),
    "send": lambda handler: handler.send(b"x"),
    "close": lambda handler: handler.close(),
    "local_address": lambda handler: handler.local_address,
    "join_group": lambda handler: handler.join_group("239.1.2.3"),
    "leave_group": lambda handler: handler.leave_group("239.1.2.3"),
}


@pytest.mark.parametrize("name", USES)
def test_from_another_thread_a_method_is_refused_by_its_name(bind, events, reactor, name):
    handler = UdpEcho(events)
    bind(handler)
    with pytest.raises(goev.WrongThread, match=rf"^{name}\b"):
        USES[name](handler)
    settle(reactor)
    assert events.names == ["open"]


@pytest.mark.parametrize("name", USES)
def test_before_bind_a_method_is_refused(events, name):
    with pytest.raises(goev.ConnectionClosed):
        USES[name](Udp(events))


@pytest.mark.parametrize("name", ["on_open", "on_datagram", "on_error", "on_close"])
def test_a_generator_is_refused(name):
    def callback(self, *args):
        yield

    with pytest.raises(TypeError, match=rf"Wrong\.{name} .*not a generator"):
        type("Wrong", (goev.Datagram,), {name: callback})()
