"""Log lines: they name the callback that failed, as text and as attributes; threads have the names of their pollers."""

import gc
import logging
import threading

import pytest

import goev
import goev.testing
from support import Child, Client, eventually, on_poller


class Fails:
    def feed(self, data):
        if data == b"feed":
            raise ZeroDivisionError
        return [data]

    def frame(self, message):
        return message


def fail(self, *_):
    raise ZeroDivisionError


@pytest.mark.parametrize("name", ["feed", "on_message", "on_messages"])
def test_callbacks_behind_on_read_are_named(log, name):
    members = {"framing": Fails} | ({} if name == "feed" else {name: fail})
    peer = goev.testing.open(type("Framed", (goev.Connection,), members)())
    peer.receive(b"feed" if name == "feed" else b"x")
    record, text = log.next()
    assert f"exception in {name} of Framed with " in text
    assert record.callback == name
    assert isinstance(peer.close_error, ZeroDivisionError)


def test_an_exception_of_on_read_itself_is_named_so_although_feed_raised_before(log):
    class Reads(goev.Connection):
        framing = Fails

        def on_read(self):
            try:
                super().on_read()
            except ZeroDivisionError:
                raise ValueError from None

    peer = goev.testing.open(Reads())
    peer.receive(b"feed")
    assert log.next()[0].callback == "on_read"


LATER = {
    "timer callback": lambda target: target.schedule(0.0, lambda: 1 // 0),
    "call_soon function": lambda target: target.call_soon(lambda: 1 // 0),
    "then": lambda target: target.run_in_executor(None, int, then=lambda future: 1 // 0),
}


@pytest.mark.parametrize("name", LATER)
@pytest.mark.parametrize("owner", ["connection", "reactor"])
def test_calls_for_later_are_named(start, events, log, name, owner):
    class Later(goev.Connection):
        def on_open(self):
            LATER[name](self if owner == "connection" else self.reactor)

    client = start(Later).connect()
    record, text = log.next()
    assert f"exception in {name} " in text
    assert record.callback == name
    assert record.peer == (client.name if owner == "connection" else None)


def test_every_record_can_be_formatted_with_both_attributes(start, reactor, log):
    def factory():
        raise ZeroDivisionError

    class Refused(goev.Connection):
        pass

    formatter = logging.Formatter("%(callback)s|%(peer)s")
    client = start(factory).connect()
    assert formatter.format(log.next()[0]).splitlines()[0] == f"factory|{client.name}"
    goev.connect(reactor, "127.0.0.1:1", Refused())
    assert formatter.format(log.next()[0]).splitlines()[0] == "on_connect_fail|None"
    reactor.call_soon(fail, None)
    assert formatter.format(log.next()[0]).splitlines()[0] == "call_soon function|None"


def test_stalls_carry_them_too(stack, stalls):
    release = threading.Event()
    stack.callback(release.set)

    class Waits(goev.Connection):
        def on_open(self):
            self.run_in_executor(None, int, then=lambda future: release.wait(10))

    reactor = stack.enter_context(goev.Reactor(pollers=1, stall_warning=0.05))
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Waits)
    reactor.start()
    client = stack.enter_context(Client(acceptor.address))
    record = stalls.next()[2]
    assert (record.callback, record.peer) == ("then", client.name)
    assert f"has been in then with {client.name} for" in record.getMessage()
    release.set()


# ---- threads -------------------------------------------------------------------------------------------------------


def listed(prefix: str) -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith(prefix)}


def test_the_threads_of_pollers_have_their_names_and_are_listed_while_they_run():
    with goev.Reactor(pollers=2, name="named") as reactor:
        reactor.start()
        assert on_poller(reactor, threading.current_thread).name == "named-0"
        eventually(lambda: listed("named") == {"named-0", "named-1"}, "both are listed")
    assert listed("named") == set()


def test_a_log_line_shows_the_name(start, log):
    class Fails(goev.Connection):
        def on_open(self):
            raise ZeroDivisionError

    start(Fails).connect()
    assert log.next()[0].threadName == "goev-poller-0"


def test_many_reactors_leave_no_thread_objects():
    before = threading.active_count()
    for _ in range(20):
        with goev.Reactor() as reactor:
            reactor.start()
            on_poller(reactor, threading.current_thread)
    gc.collect()
    assert threading.active_count() == before
    assert listed("Dummy") == set()


def test_the_thread_of_run_keeps_its_name(stack):
    child = stack.enter_context(
        Child.running("""
            import threading
            import goev

            reactor = goev.Reactor()
            reactor.call_soon(lambda: print(threading.current_thread().name))
            reactor.call_soon(reactor.stop)
            reactor.run()
            print([thread.name for thread in threading.enumerate()])
        """)
    )
    assert child.line() == "MainThread"
    assert child.line() == "['MainThread']"
    assert child.end() == 0
