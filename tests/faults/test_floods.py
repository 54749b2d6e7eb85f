"""A flood of calls or timers costs time in proportion, delays no connection, and leaves no memory behind."""

import time

import pytest

from support import Echo, Recorder, has_lock, held, on_poller, run_script


@pytest.mark.parametrize("source", ["a callback", "a thread"])
def test_connections_do_not_wait_for_a_flood_of_posted_calls(start, source):
    """The answer of an echo goes out while the flood lasts."""
    count, done, seen = 20_000, [0], []

    class Notes(Echo):
        def on_read(self):
            seen.append(done[0])
            super().on_read()

    def call() -> None:
        done[0] += 1

    def flood() -> None:
        for _ in range(count):
            server.reactor.call_soon(call)

    server = start(Notes)
    client = server.connect()
    assert client.ask(b"x") == b"x"
    for _ in range(3):  # each kind of call comes first once in three batches
        with held(server.reactor):
            if source == "a thread":
                flood()
            else:
                server.reactor.call_soon(flood)
            client.send(b"y")
        assert client.receive(1) == b"y"
        on_poller(server.reactor, lambda: None)
    assert done[0] == 3 * count
    assert [n // count for n in seen[1:]] == [0, 1, 2]
    if source == "a thread":
        assert all(n % count < 2_000 for n in seen[1:]), seen


def test_a_flood_of_posted_calls_takes_time_in_proportion():
    """CPU seconds of eight times the calls; a look at all waiting calls in each batch makes them 64 times as much."""
    ratio = run_script(
        """
        import time
        import goev

        def flood(count, then):
            began = time.process_time()
            for _ in range(count):
                reactor.call_soon(list)
            reactor.call_soon(lambda: then(time.process_time() - began))

        def first(seconds):
            flood(400_000, lambda more: (print(more / seconds), reactor.stop()))

        reactor = goev.Reactor(pollers=1, stall_warning=None)
        reactor.call_soon(flood, 50_000, first)
        reactor.run()
        """,
        timeout=60,
    )
    assert float(ratio) < 20


def test_calls_and_writes_of_a_thread_keep_their_order_in_a_flood(start, events):
    server = start(lambda: Recorder(events))
    client = server.connect()
    connection = events.until("open")[1]
    with held(server.reactor):
        for number in range(2_000):
            connection.call_soon(connection.write, b"%4d." % number)
            connection.write(b"%4d;" % number)
    assert client.receive(20_000) == b"".join(b"%4d.%4d;" % (number, number) for number in range(2_000))


def test_writes_of_a_thread_keep_their_order_in_a_flood_and_come_before_its_close(start, events):
    """More than a turn of the loop takes out of the mailbox."""
    server = start(lambda: Recorder(events))
    client = server.connect()
    connection = events.until("open")[1]
    with held(server.reactor):
        for number in range(5_000):
            connection.write(b"%4d;" % number)
        connection.close()
    assert client.receive_all() == b"".join(b"%4d;" % number for number in range(5_000))


def test_a_timer_that_is_cancelled_behind_a_flood_does_not_fire(start):
    server = start(Echo)
    fired = []
    timer = on_poller(server.reactor, lambda: server.reactor.schedule(0.01, lambda: fired.append(1)))
    with held(server.reactor):
        for _ in range(5_000):
            server.reactor.call_soon(list)
        timer.cancel()
        time.sleep(0.02)  # the timer is due when the poller goes on
    on_poller(server.reactor, lambda: None)
    assert not fired


def test_a_flood_of_timers_leaves_no_memory_behind():
    """Set by a thread and cancelled by it, or fired."""
    grown = run_script(
        """
        import ctypes, threading
        import goev

        def resident() -> int:
            # Free memory that the C library keeps does not count.
            ctypes.CDLL(None).malloc_trim(0)
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096

        def settle() -> None:
            for _ in range(5):
                done = threading.Event()
                reactor.call_soon(done.set)
                done.wait()

        def flood(count: int) -> None:
            timers = [reactor.schedule(60, list) for _ in range(count)]
            settle()
            for timer in timers:
                timer.cancel()
            del timers, timer
            for _ in range(count):
                reactor.schedule(0, list)
            settle()

        with goev.Reactor(pollers=1, stall_warning=None) as reactor:
            reactor.start()
            flood(2_000)
            before = resident()
            flood(100_000)
            print((resident() - before) >> 20)
        """,
        timeout=60,
    )
    # Without the interpreter lock mimalloc keeps pages that `malloc_trim` knows nothing of.
    assert int(grown) < (14 if has_lock() else 20), f"{grown} MB more than before"


def test_a_handler_that_is_kept_over_many_hand_overs_keeps_nothing(start, events):
    """The other thread's handle of the connection knows its current token, and no more."""
    grown = run_script(
        """
        import socket, threading
        import goev

        def resident() -> int:
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096

        class Next(goev.Connection):
            left = 0
            def on_open(self):
                if self.left:
                    other = Next()
                    other.left = self.left - 1
                    self.hand_over(other)
                else:
                    last.append(self)
                    done.set()

        first, last, done = Next(), [], threading.Event()
        with goev.Reactor(pollers=1, stall_warning=None) as reactor:
            acceptor = goev.Acceptor(reactor, "127.0.0.1:0", lambda: first)
            reactor.start()
            with socket.create_connection(acceptor.address):
                done.wait(30)
                before = resident()
                done.clear()

                def go_on():
                    other = Next()
                    other.left = 50_000
                    last.pop().hand_over(other)

                last[0].call_soon(go_on)
                done.wait(30)
                print((resident() - before) >> 20)
                assert first is not None
        """,
        timeout=60,
    )
    assert int(grown) < 4, f"{grown} MB more than before"
