"""What a stop means to connections: `on_stopping`, the grace, the report; and to the process: signals."""

import signal
import socket
import time

import pytest

import goev
from support import PATIENCE, Child, Client, Recorder, held, in_thread, on_poller, text_of


class Leaves(Recorder):
    """Says goodbye and closes, both when told of the stop."""

    def on_stopping(self):
        self.events("stopping")
        self.write(b"bye")
        return False


class Stays(Recorder):
    """Is told, and goes on until it has read a last word."""

    def on_read(self):
        self.events("read", self.read())
        self.close()

    def on_stopping(self):
        self.events("stopping")
        self.write(b"hurry")


def stopped(reactor: goev.Reactor, grace: float) -> goev.StopReport:
    reactor.stop(grace)
    return reactor.join(PATIENCE)


def says(start, events, handler) -> tuple[bytes, goev.StopReport]:
    """What a handler with patience for it says while its reactor stops, and the report."""
    server = start(lambda: handler(events))
    client = server.connect()
    events.until("open")
    report = in_thread(stopped, server.reactor, 5.0)
    said = client.receive_all()
    client.close()
    return said, report.result(PATIENCE)


def test_a_handler_says_goodbye_and_its_last_words_arrive(start, events):
    assert says(start, events, Leaves) == (b"bye", goev.StopReport(closed=1, aborted=0))
    assert events.names == ["open", "stopping", "close"]
    assert events.history[-1][1] is None


def test_a_handler_that_stays_has_the_grace_to_finish(start, events):
    server = start(lambda: Stays(events))
    client = server.connect()
    events.until("open")
    report = in_thread(stopped, server.reactor, 5.0)
    assert client.receive(5) == b"hurry"
    client.send(b"done")
    assert client.receive_all() == b""
    client.close()
    assert report.result(PATIENCE) == goev.StopReport(closed=1, aborted=0)
    assert events.names == ["open", "stopping", "read", "close"]


def test_a_handler_that_stays_too_long_is_aborted(start, events):
    server = start(lambda: Stays(events))
    client = server.connect()
    events.until("open")
    began = time.monotonic()
    assert stopped(server.reactor, 0.3) == goev.StopReport(closed=0, aborted=1)
    assert 0.3 <= time.monotonic() - began < 3
    assert type(events.until("close")[1]) is ConnectionAbortedError
    with pytest.raises(ConnectionResetError):
        client.receive_all()


def test_without_grace_nobody_is_told(start, events):
    server = start(lambda: Stays(events))
    server.connect()
    events.until("open")
    assert stopped(server.reactor, 0.0).closed == 1
    assert events.names == ["open", "close"]


def test_the_report_counts_both_kinds_over_all_pollers(start, events):
    server = start(iter([Leaves(events), Stays(events), Leaves(events), Recorder(events)]).__next__, pollers=2)
    clients = [server.connect() for _ in range(4)]
    events.times("open", 4)
    report = in_thread(stopped, server.reactor, 0.3)
    events.times("stopping", 3)
    for client in clients:
        client.finish()
    assert report.result(PATIENCE) in (goev.StopReport(closed=3, aborted=1), goev.StopReport(closed=4, aborted=0))
    assert server.reactor.join() == report.result()
    assert repr(report.result()).startswith("StopReport(closed=")


def test_who_stops_again_without_patience_ends_it(start, events):
    server = start(lambda: Stays(events))
    server.connect()
    events.until("open")
    server.reactor.stop(60.0)
    events.until("stopping")
    assert stopped(server.reactor, 0.0) == goev.StopReport(closed=0, aborted=1)
    assert events.names.count("stopping") == 1


def test_an_exception_in_the_goodbye_ends_that_connection(start, events, log):
    class Raises(Recorder):
        def on_stopping(self):
            raise ValueError("no goodbye")

    assert says(start, events, Raises)[0] == b""
    assert str(events.until("close")[1]) == "no goodbye"
    assert "on_stopping of Raises with" in log.next()[1]


def test_a_connection_handed_over_in_the_goodbye_is_told_again(start, events):
    class HandsOver(Recorder):
        def on_stopping(self):
            self.hand_over(Leaves(events))

    assert says(start, events, HandsOver) == (b"bye", goev.StopReport(closed=1, aborted=0))


RUN = """
    import signal, sys
    import goev

    class Stays(goev.Connection):
        def on_open(self):
            print("open")
        def on_stopping(self):
            print("stopping")
        def on_close(self, error):
            print(type(error).__name__)

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    reactor = goev.Reactor(pollers=2)
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Stays)
    reactor.call_soon(lambda: print(acceptor.address[1]))
    print(reactor.run(grace=float(sys.argv[1])))
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_with_its_grace_and_a_second_one_at_once(stack, number):
    child = stack.enter_context(Child.running(RUN, "60"))
    stack.enter_context(Client(("127.0.0.1", int(child.line()))))
    assert child.line() == "open"
    child.process.send_signal(number)
    assert child.line() == "stopping"
    child.process.send_signal(number)
    assert [child.line(), child.line()] == ["ConnectionAbortedError", "StopReport(closed=0, aborted=1)"]
    assert (child.end(), child.complaints) == (0, "")


def test_a_handler_of_the_users_own_is_left_alone(stack):
    program = """
        import signal
        import goev
        reactor = goev.Reactor()
        signal.signal(signal.SIGTERM, lambda *_: (print("mine"), reactor.stop()))
        reactor.call_soon(print, "up")
        reactor.run()
        print("over")
    """
    child = stack.enter_context(Child.running(program))
    assert child.line() == "up"
    child.process.send_signal(signal.SIGTERM)
    assert [child.line(), child.line()] == ["mine", "over"]
    assert (child.end(), child.complaints) == (0, "")


@pytest.mark.parametrize(
    ("grace", "text"), [(-1, "grace must be from 0 to"), (float("nan"), "grace must be from 0 to")]
)
def test_a_wrong_grace_is_refused(grace, text):
    with goev.Reactor() as reactor, pytest.raises(ValueError, match=text):
        reactor.run(grace=grace)


# --- work during the grace ---


def test_everything_that_a_connection_needs_works_until_the_grace_is_over(start, events):
    class Asks(Recorder):
        def on_stopping(self):
            self.events("stopping", self)

    class Inquires(Recorder):
        def on_open(self):
            self.write(b"hello")

        def on_read(self):
            self.events("answer", self.read())
            self.close()

        def on_stopping(self):
            self.events("wrong")

    with socket.create_server(("127.0.0.1", 0)) as backend:
        server = start(lambda: Asks(events), pollers=2)
        client = server.connect()
        events.until("open")  # a stop closes the backlog
        reactor = server.reactor
        server.reactor.stop(PATIENCE)
        handler = events.until("stopping")[1]

        def use_everything() -> None:
            reactor.call_soon(events, "call_soon")
            reactor.run_in_executor(None, list, then=lambda future: events("then", future.result()))
            handler.run_in_executor(None, list, then=lambda future: events("own then"))
            reactor.schedule(0.0, lambda: events("timer"))
            reactor.cache_set("key", "value")
            handler.schedule(0.01, lambda: events("cached", handler.cache["key"]))
            goev.connect(reactor, text_of(backend.getsockname()), Inquires(events))

        on_poller(handler, use_everything)
        accepted, _ = backend.accept()
        with accepted:
            assert accepted.recv(5) == b"hello"
            accepted.sendall(b"world")
            assert events.until("answer") == ("answer", b"world")
            for name in ("call_soon", "then", "own then", "timer", "cached"):
                events.times(name, 1)
            # From another thread too, whichever poller still runs.
            for number in range(4):
                reactor.call_soon(events, "from elsewhere", number)
            reactor.cache_set("key", "other")
            events.times("from elsewhere", 4)
            assert "wrong" not in events.names
            with pytest.raises(RuntimeError, match="stopped"):
                goev.Acceptor(reactor, "127.0.0.1:0", Recorder)
        client.close()
        reactor.join(PATIENCE)
    with pytest.raises(RuntimeError, match="stopped"):
        reactor.call_soon(list)


def test_a_connect_that_is_under_way_when_the_stop_begins_goes_on(start, events):
    class Stays(Recorder):
        def on_stopping(self):
            self.events("stopping")

    class Dials(Recorder):
        def on_open(self):
            self.events("connected")
            self.close()

        def on_connect_fail(self, error):
            self.events("fail", error)

    with socket.create_server(("127.0.0.1", 0)) as backend:
        server = start(lambda: Stays(events))
        client = server.connect()
        events.until("open")
        with held(server.reactor):
            goev.connect(server.reactor, text_of(backend.getsockname()), Dials(events))
            server.reactor.stop(PATIENCE)
        events.until("connected")
        client.close()
        server.reactor.join(PATIENCE)
    assert "fail" not in events.names


def test_who_connects_again_and_again_does_not_use_up_the_grace(reactor, events):
    """A connection that is opened during the grace is told of the stop when the last of the others has ended."""

    class Returns(goev.Connection):
        def on_open(self):
            events("open")

        def on_close(self, error):
            try:
                goev.connect(reactor, address, Returns())
            except RuntimeError:
                events("refused")

        def on_connect_fail(self, error):
            events("fail", error)

    with socket.create_server(("127.0.0.1", 0)) as backend:
        address = text_of(backend.getsockname())
        for _ in range(2):
            goev.connect(reactor, address, Returns())
        events.times("open", 2)
        began = time.monotonic()
        reactor.stop(PATIENCE)
        reactor.join(PATIENCE)
        assert time.monotonic() - began < PATIENCE / 2
    assert "refused" in events.names
