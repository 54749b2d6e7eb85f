"""A handler opens first, closes last and once, and ends by what its callbacks return or raise."""

import gc
import weakref

import pytest

import goev
from datagram_support import V4, Peer, Udp, UdpEcho, socket_of
from support import held, on_poller, settle, text_of


class Ends(Udp):
    """Ends at a datagram or at its opening, in some way."""

    how = "close"

    def end(self):
        if self.how == "close":
            self.close()
        elif self.how == "stop":
            self.reactor.stop()
        elif self.how == "raise":
            raise LookupError("of the handler")
        return False if self.how == "False" else None


class EndsAtDatagram(Ends):
    def on_datagram(self, data, address):
        super().on_datagram(data, address)
        return self.end()


class EndsAtError(Ends):
    def on_error(self, error):
        super().on_error(error)
        return self.end()


class EndsAtOpen(Ends):
    def on_open(self):
        super().on_open()
        return self.end()


@pytest.mark.parametrize("how", ["close", "False", "stop"])
def test_on_open_comes_first_and_on_close_last_and_once(bind, events, peer, reactor, how):
    handler = EndsAtDatagram(events)
    handler.how = how
    address, client = bind(handler), peer()
    with held(reactor):
        for _ in range(5):
            client.sendto(b"x", address)
    assert events.until("close") == ("close", None)
    reactor.stop()
    reactor.join(5)
    # A stop comes after the batch; the others end it at once.
    assert events.names == ["open", *["datagram"] * (5 if how == "stop" else 1), "close"]


@pytest.mark.parametrize("how", ["close", "False", "stop"])
def test_a_handler_may_end_in_on_open(events, reactor, peer, how):
    handler = EndsAtOpen(events)
    handler.how = how
    handler.bind(reactor, V4)
    assert events.until("close") == ("close", None)
    reactor.stop()
    reactor.join(5)
    assert events.names == ["open", "close"]


@pytest.mark.parametrize("how", ["close", "False", "stop"])
def test_a_handler_may_end_in_on_error(bind, events, reactor, how):
    handler = EndsAtError(events)
    handler.how = how
    bind(handler)

    def send() -> None:
        for _ in range(3):
            handler.send_to(b"x", ("127.0.0.1", 0))

    on_poller(reactor, send)
    assert events.until("close") == ("close", None)
    reactor.stop()
    reactor.join(5)
    assert events.names == ["open", *["error"] * (3 if how == "stop" else 1), "close"]


@pytest.mark.parametrize("where", [EndsAtOpen, EndsAtDatagram, EndsAtError])
def test_raising_is_logged_and_closes_with_that_exception(events, peer, reactor, log, where):
    handler = where(events)
    handler.how = "raise"
    with held(reactor):  # one that raises in on_open keeps its socket for the copy
        handler.bind(reactor, V4, max_size=10)
        copy = socket_of(handler)
    with copy, Peer() as client:
        for size in (5, 50):
            client.sendto(b"x" * size, copy.getsockname())
    error = events.until("close")[1]
    assert type(error) is LookupError
    record, logged = log.next()
    assert record.name == "goev"
    assert "of the handler" in logged
    settle(reactor)
    assert events.names[0] == "open"
    assert events.names[-1] == "close"
    assert events.names.count("close") == 1
    assert on_poller(reactor, lambda: "alive") == "alive"


def test_another_return_value_is_a_type_error(bind, events, peer, reactor, log):
    class Yes(Udp):
        def on_datagram(self, data, address):
            return "yes"

    peer().sendto(b"x", bind(Yes(events)))
    assert type(events.until("close")[1]) is TypeError


def test_an_exception_in_on_close_is_logged(bind, events, peer, reactor, log):
    class Fails(Udp):
        def on_close(self, error):
            super().on_close(error)
            raise LookupError("at the end")

    handler = Fails(events)
    bind(handler)
    on_poller(reactor, handler.close)
    assert "at the end" in log.next()[1]
    settle(reactor)
    assert events.names == ["open", "close"]


def test_system_exit_in_on_datagram_stops_the_reactor_and_comes_out_of_join(events, peer):
    class Exits(Udp):
        def on_datagram(self, data, address):
            raise SystemExit(3)

    reactor, handler = goev.Reactor(pollers=1), Exits(events)
    handler.bind(reactor, V4)
    reactor.start()
    peer().sendto(b"x", on_poller(reactor, lambda: handler.local_address))
    with pytest.raises(SystemExit):
        reactor.join(5)
    assert events.names == ["open", "close"]


@pytest.mark.parametrize("how", ["close", "False", "raise", "stop"])
def test_what_was_sent_before_the_end_goes_out(bind, events, peer, log, how):
    class Last(EndsAtDatagram):
        def on_datagram(self, data, address):
            for number in range(50):
                self.send_to(b"%d" % number, address)
            return self.end()

    handler, client = Last(events), peer()
    handler.how = how
    client.sendto(b"x", bind(handler))
    assert [client.recv(100) for _ in range(50)] == [b"%d" % number for number in range(50)]
    events.until("close")


def test_close_again_is_harmless_and_sending_after_it_is_refused(bind, events, reactor, peer):
    handler, client = Udp(events), peer()
    bind(handler, peer=text_of(client.getsockname()))

    def close_and_send() -> None:
        handler.close()
        handler.close()
        for refused in (
            lambda: handler.send(b"x"),
            lambda: handler.send_to(b"x", client.getsockname()),
            lambda: handler.local_address,
            lambda: handler.join_group("239.1.2.3"),
        ):
            with pytest.raises(goev.ConnectionClosed):
                refused()

    on_poller(reactor, close_and_send)
    events.until("close")
    on_poller(reactor, close_and_send)
    settle(reactor)
    assert events.names == ["open", "close"]


def test_a_closed_socket_frees_its_port_at_once(bind, events, reactor, peer):
    handler = Udp(events)
    address = bind(handler)
    on_poller(reactor, handler.close)
    events.until("close")
    settle(reactor)
    assert bind(UdpEcho(events), text_of(address)) == address
    assert peer().ask(b"new", address) == b"new"


def test_closing_another_handler_spares_it_what_had_arrived(events, peer, reactor, bind):
    """Both have datagrams in the same batch; the first called closes the other."""

    class Closes(Udp):
        other: goev.Datagram

        def on_datagram(self, data, address):
            super().on_datagram(data, address)
            self.other.close()

    one, two = Closes(events), Closes(events)
    one.other, two.other = two, one
    addresses, client = [bind(one), bind(two)], peer()
    with held(reactor):
        for address in addresses:
            client.sendto(b"x", address)
    events.until("close")
    settle(reactor)
    assert events.names == ["open", "open", "datagram", "close"]


def test_callbacks_are_not_nested_in_methods(bind, events, reactor):
    """The error of a send comes in a turn of its own, and so does on_close."""
    handler = Udp(events)
    bind(handler)

    def send_and_close() -> None:
        handler.send_to(b"x", ("127.0.0.1", 0))
        events("sent")
        handler.close()
        events("closed")

    on_poller(reactor, send_and_close)
    events.until("close")
    assert events.names[:3] == ["open", "sent", "closed"]


def test_a_closed_handler_is_let_go_of(bind, events, reactor):
    handler = type("Quiet", (goev.Datagram,), {})()
    gone = weakref.ref(handler)
    bind(handler)
    on_poller(reactor, handler.close)
    settle(reactor)
    del handler
    gc.collect()
    assert gone() is None
