"""hand_over: socket, unread input and queued output move to another handler object."""

import gc
import weakref
from contextlib import suppress

import pytest

import goev
from support import PATIENCE, Recorder, eventually, in_thread, on_poller, run_script, settle, sha256

pytestmark = pytest.mark.wires("plain", "tls")


class Upgrades(goev.Connection):
    """Line protocol that hands over to ``make()`` at the line UPGRADE."""

    def __init__(self, events, make) -> None:
        self.events, self.make = events, make

    def on_open(self):
        self.events("old open", self)

    def on_read(self):
        while (line := self.read_until(b"\n")) is not None:
            if line == b"UPGRADE\n":
                self.write(b"101\n")
                self.hand_over(self.make())
                self.events("handed over")
                return
            self.write(b"old " + line)

    def on_timeout(self):
        self.events("old timeout")

    def on_close(self, error):
        self.events("old close", error)


class NewEcho(Recorder):
    def on_open(self):
        super().on_open()
        self.write(b"new\n")

    def on_read(self):
        data = self.read()
        self.events("read", data)
        self.write(data)


@pytest.fixture
def upgraded(start, events):
    """``upgraded(kind)``: a client whose connection hands over to a ``kind`` when asked to."""

    def connect(kind=NewEcho, **options):
        return start(lambda: Upgrades(events, lambda: kind(events)), **options).connect()

    return connect


def test_the_new_handler_goes_on_where_the_old_one_stopped(upgraded, events):
    client = upgraded()
    client.send(b"line\n")
    assert client.receive(9) == b"old line\n"
    client.send(b"UPGRADE\n")
    assert client.receive(8) == b"101\nnew\n"
    assert client.ask(b"raw bytes") == b"raw bytes"
    client.close()
    assert events.until("close") == ("close", None)
    assert events.names == ["old open", "handed over", "old close", "open", "read", "close"]
    assert events.of("old close") == [("old close", None)]


def test_unread_input_moves_and_comes_after_on_open(upgraded, events):
    client = upgraded()
    client.send(b"UPGRADE\nthe first bytes of the new protocol")
    assert client.receive(8) == b"101\nnew\n"
    assert events.until("read") == ("read", b"the first bytes of the new protocol")
    assert events.names.index("open") < events.names.index("read")


def test_queued_output_is_kept_in_order(start, events):
    class Floods(NewEcho):
        def on_open(self):
            self.write(b"b" * 2_000_000)
            self.close()

    class Slow(Upgrades):
        def on_open(self):
            self.write(b"a" * 2_000_000)
            self.hand_over(Floods(self.events))

    client = start(lambda: Slow(events, None), send_buffer_size=8192).connect(receive_buffer=65536)
    data = b"a" * 2_000_000 + b"b" * 2_000_000
    assert client.hash_all() == (len(data), sha256(data))


def test_large_unread_input_moves_whole(upgraded):
    client = upgraded(max_input=1 << 20)
    data = bytes(range(256)) * 4000
    sending = in_thread(lambda: (client.send(b"UPGRADE\n" + data), client.finish()))
    assert client.receive(8) == b"101\nnew\n"
    assert sha256(client.receive_all()) == sha256(data)
    sending.result(10)


def test_the_old_handler_is_over(upgraded, events):
    client = upgraded()
    old = events.until("old open")[1]
    client.send(b"UPGRADE\n")
    new = events.until("open")[1]
    for call in (
        lambda: old.write(b"late"),
        old.read,
        lambda: old.schedule(1.0),
        lambda: old.hand_over(NewEcho(events)),
    ):
        with pytest.raises(goev.ConnectionClosed):
            on_poller(new, call)
    old.close()
    old.abort()
    settle(new)
    client.receive(8)
    assert client.ask(b"alive") == b"alive"


def test_timers_of_the_old_handler_end(upgraded, events):
    class Times(NewEcho):
        def on_open(self):
            super().on_open()
            self.schedule(0.05, lambda: events("new timer"))

    client = upgraded(Times)
    old = events.until("old open")[1]
    on_poller(old, lambda: old.schedule(0.02, every=0.001))
    client.send(b"UPGRADE\n")
    events.until("open")
    count = len(events.of("old timeout"))
    assert events.until("new timer") == ("new timer",)
    assert len(events.of("old timeout")) == count


def test_identity_of_the_connection_stays(start, events):
    class Knows(Recorder):
        def on_open(self):
            events("new", self.fileno(), self.remote_address, self.local_address, self.reactor)

    class Old(goev.Connection):
        def on_open(self):
            events("old", self.fileno(), self.remote_address, self.local_address, self.reactor)
            self.hand_over(Knows(events))

    server = start(Old)
    server.connect()
    assert events.next()[1:] == events.next()[1:]
    stats = server.reactor.stats()[0]
    assert (stats["accepted"], stats["open"], stats["closed"]) == (1, 1, 0)


def test_it_may_be_handed_on_several_times(start, events):
    class Hop(goev.Connection):
        def __init__(self, left: int) -> None:
            self.left = left

        def on_read(self):
            self.write(b"%d" % self.left + self.read(1))
            self.hand_over(Hop(self.left - 1))

        def on_close(self, error):
            events("close", self.left, error)

    client = start(lambda: Hop(9)).connect()
    client.send(b"abcdefghi")
    assert client.receive(18) == b"9a8b7c6d5e4f3g2h1i"
    client.close()
    events.times("close", 10)
    assert events.history == [("close", left, None) for left in range(9, -1, -1)]


def test_an_eof_that_came_before_reaches_the_new_handler(start, events):
    class New(Recorder):
        def on_eof(self):
            self.events("eof")
            return False

    class Old(goev.Connection):
        def on_read(self):
            self.read(1)
            self.hand_over(New(events))

    client = start(Old).connect()
    client.send(b"xrest")
    client.finish()
    assert events.until("eof") == ("eof",)
    assert events.of("read") == [("read", b"rest")]
    assert events.until("close") == ("close", None)


def test_an_exception_in_the_new_on_open_ends_the_connection(upgraded, events, log):
    class Fails(NewEcho):
        def on_open(self):
            raise LookupError("new")

    client = upgraded(Fails)
    client.send(b"UPGRADE\n")
    assert type(events.until("close")[1]) is LookupError
    assert client.receive_all() == b"101\n"


def test_false_from_the_new_on_open_closes(upgraded, events):
    class Leaves(NewEcho):
        def on_open(self):
            return False

    client = upgraded(Leaves)
    client.send(b"UPGRADE\n")
    assert events.until("close") == ("close", None)
    assert client.receive_all() == b"101\n"


def test_a_handler_in_use_cannot_take_over_and_nothing_changes(start, events):
    server = start(lambda: Recorder(events))
    client = server.connect()
    first = events.until("open")[1]
    server.connect()
    second = events.until("open")[1]
    with pytest.raises(ValueError, match=r"handler|connection"):
        on_poller(first, first.hand_over, second)
    client.send(b"still mine")
    assert events.until("read") == ("read", b"still mine")


def test_a_pause_is_not_inherited(start, events):
    class Old(goev.Connection):
        def on_open(self):
            self.pause_reading()
            events("paused", self)

    client = start(Old).connect()
    old = events.until("paused")[1]
    client.send(b"x")
    on_poller(old, old.hand_over, Recorder(events))
    assert events.until("read") == ("read", b"x")


def test_the_old_handler_is_released(upgraded, events):
    client = upgraded()
    old = events.until("old open")[1]
    gone = weakref.ref(old)
    client.send(b"UPGRADE\n")
    events.until("open")
    del old
    events.history.clear()
    eventually(lambda: gc.collect() >= 0 and gone() is None, "the old handler is released")


# --- what was asked for before ---


def recorded(start, events, **options):
    """A client and its connection, which a Recorder handles."""
    client = start(lambda: Recorder(events), **options).connect(receive_buffer=8192)
    return client, events.until("open")[1]


def test_what_another_thread_wrote_before_still_reaches_the_peer(start, events):
    client, old = recorded(start, events)

    def write_elsewhere_then_hand_over() -> None:
        in_thread(old.write, b"accepted before").result(PATIENCE)
        old.hand_over(Recorder(events))

    on_poller(old, write_elsewhere_then_hand_over)
    assert client.receive(15) == b"accepted before"
    new = events.until("open")[1]
    new.write(b" and after")
    assert client.receive(10) == b" and after"


def test_a_close_of_another_thread_before_still_closes(start, events):
    client, old = recorded(start, events)

    def close_elsewhere_then_hand_over() -> None:
        in_thread(lambda: (old.write(b"last"), old.close())).result(PATIENCE)
        with suppress(goev.ConnectionClosed):  # either it is closed already, or the new one gets the close
            old.hand_over(Recorder(events))

    on_poller(old, close_elsewhere_then_hand_over)
    assert client.receive_all() == b"last"
    events.times("close", events.names.count("open"))


@pytest.mark.parametrize("end", ["stop", "close"])
def test_ending_at_once_flushes_the_output_of_the_old_one_and_calls_the_new_one_twice(start, events, end):
    """The new handler is not open yet when it is to end."""

    class Old(goev.Connection):
        def on_read(self):
            new = Recorder(events)
            self.write(b"x" * 3_000_000)
            self.hand_over(new)
            if end == "stop":
                server.reactor.stop(grace=20)
            else:
                new.close()

    server = start(Old, send_buffer_size=8192)
    client = server.connect(receive_buffer=8192)
    client.send(b"x")
    assert client.hash_all() == (3_000_000, sha256(b"x" * 3_000_000))
    assert events.until("close") == ("close", None)
    assert events.names == ["open", "close"]


def test_a_handler_that_is_not_open_yet_cannot_hand_over(start, events):
    client, first = recorded(start, events)
    second, third = Recorder(events), Recorder(events)

    def hand_on_twice() -> None:
        first.hand_over(second)
        second.hand_over(third)

    with pytest.raises(goev.ConnectionClosed):
        on_poller(first, hand_on_twice)
    assert events.until("open") == ("open", second)
    client.send(b"to the second")
    assert events.until("read") == ("read", b"to the second")


def test_a_connection_may_be_handed_over_any_number_of_times_and_its_first_handler_kept():
    printed = run_script(
        """
        import goev

        first = []

        class Next(goev.Connection):
            number = 0

            def on_open(self):
                if not self.number:
                    first.append(self)
                if self.number == 60_000:
                    self.schedule(0, self.let_go)
                else:
                    following = Next()
                    following.number = self.number + 1
                    self.hand_over(following)

            def let_go(self):
                first.clear()
                self.reactor.call_soon(lambda: print("let go of"))
                self.reactor.call_soon(self.reactor.stop)

        reactor = goev.Reactor(stall_warning=None)
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Next)
        goev.Connector(reactor).connect("{}:{}".format(*acceptor.address), goev.Connection())
        reactor.run()
        """,
        timeout=25,
    )
    assert printed == "let go of"
