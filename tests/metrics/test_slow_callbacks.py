"""`Reactor(slow_callback=)`: a callback that has returned late is logged with its peer, its name and its time."""

import time

import pytest

import goev
from support import Client, on_poller, settle

LIMIT = 0.05


def serving(stack, factory, **options):
    reactor = stack.enter_context(goev.Reactor(1, stall_warning=None, slow_callback=LIMIT, **options))
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", factory)
    reactor.start()
    return reactor, acceptor


class SlowRead(goev.Connection):
    def on_read(self):
        self.write(self.read())
        time.sleep(LIMIT * 1.2)


class SlowClose(goev.Connection):
    def on_close(self, error):
        time.sleep(LIMIT * 1.2)


def test_it_tells_the_callback_its_peer_and_its_time(stack, log):
    reactor, acceptor = serving(stack, SlowRead)
    client = stack.enter_context(Client(acceptor.address))
    client.ask(b"x")
    record, text = log.next()
    assert (record.name, record.levelname) == ("goev.slow", "WARNING")
    assert (record.peer, record.callback) == (client.name, "on_read")
    assert LIMIT <= record.seconds < 5
    assert text.startswith(f"on_read with {client.name} took 0.")
    assert text.endswith(" s on poller 0")
    assert reactor.stats()[0]["slow_callbacks"] == 1


def test_on_close_is_told_with_the_peer_that_has_gone(stack, log):
    _, acceptor = serving(stack, SlowClose)
    with Client(acceptor.address) as client:
        name = client.name
    record, _ = log.next()
    assert (record.peer, record.callback) == (name, "on_close")


def test_a_callback_of_no_connection_is_told_without_a_peer(stack, log):
    reactor, _ = serving(stack, goev.Connection)
    on_poller(reactor, time.sleep, LIMIT * 1.2)
    record, text = log.next()
    assert (record.peer, record.callback) == (None, "call_soon function")
    assert " with " not in text


def test_a_function_of_a_connection_is_told_with_its_peer(stack, log, events):
    class Opens(goev.Connection):
        def on_open(self):
            events("open", self)

    _, acceptor = serving(stack, Opens)
    client = stack.enter_context(Client(acceptor.address))
    on_poller(events.until("open")[1], time.sleep, LIMIT * 1.2)
    record, _ = log.next()
    assert record.peer == client.name


def test_there_is_one_line_a_second_and_the_next_one_tells_how_many_were_left_out(stack, log):
    reactor, _ = serving(stack, goev.Connection)
    for _ in range(3):
        on_poller(reactor, time.sleep, LIMIT * 1.1)
    on_poller(reactor, time.sleep, 1.05)
    lines = [log.next()[1] for _ in range(2)]
    assert "more callbacks" not in lines[0]
    assert lines[1].endswith("; so did 2 more callbacks since the last such line")
    assert reactor.stats()[0]["slow_callbacks"] == 4


def test_a_coroutine_counts_until_it_waits(stack, log):
    class Waits(goev.Connection):
        async def on_read(self):
            import asyncio

            self.read()
            await asyncio.sleep(LIMIT * 1.5)
            self.write(b"done")

    reactor, acceptor = serving(stack, Waits, asyncio=True)
    client = stack.enter_context(Client(acceptor.address))
    client.send(b"x")
    assert client.receive(4) == b"done"
    settle(reactor)
    assert reactor.stats()[0]["slow_callbacks"] == 0


def test_without_it_nothing_is_told(reactor, stalls):
    on_poller(reactor, time.sleep, 0.06)
    settle(reactor)
    assert reactor.stats()[0]["slow_callbacks"] == 0


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf")])
def test_a_limit_that_is_no_time_is_refused(limit):
    with pytest.raises(ValueError, match="slow_callback must be"):
        goev.Reactor(slow_callback=limit)
