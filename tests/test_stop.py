"""C9: stop from anywhere, gracefully, within its time, twice harmlessly; leaving the interpreter is no problem."""

import os
import random
import signal
import socket
import threading
import time

import pytest

import goev
from support import PATIENCE, Child, Client, Echo, Recorder, eventually, in_thread, run_script, sha256

DATA = random.Random(9).randbytes(20_000_000)


@pytest.fixture
def idle():
    """A reactor with a listener, not started."""
    reactor = goev.Reactor(pollers=1)
    goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    yield reactor
    reactor.stop(grace=0)


# --- from anywhere ---


def test_stop_from_another_thread_makes_run_return(idle):
    running = in_thread(idle.run)
    eventually(lambda: idle.running, "it runs")
    idle.stop()
    assert running.result(5).aborted == 0
    assert not idle.running


def test_stop_from_a_call_makes_run_return(idle):
    idle.call_soon(idle.stop)
    assert idle.run().aborted == 0


def test_stop_from_a_timer_makes_run_return(idle):
    idle.schedule(0.02, idle.stop)
    began = time.monotonic()
    assert idle.run().aborted == 0
    assert 0.02 <= time.monotonic() - began < 3.0


@pytest.mark.parametrize("callback", ["on_open", "on_read", "on_close"])
def test_stop_from_a_callback_of_a_connection(events, callback):
    def stop(self, *error):
        events("called")
        self.reactor.stop()

    handler = type("Stops", (goev.Connection,), {callback: stop})
    reactor = goev.Reactor(pollers=2)
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", handler)
    reactor.start()
    with Client(acceptor.address) as client:
        client.send(b"x")
    reactor.join(10)
    assert "called" in events.names


def test_stop_from_a_signal_handler_reaches_an_idle_reactor(idle):
    old = signal.signal(signal.SIGUSR1, lambda *_: idle.stop())
    try:
        sender = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        idle.call_soon(sender.start)
        began = time.monotonic()
        idle.run()
        assert time.monotonic() - began < 3.0
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, old)


def test_signals_are_handled_while_the_reactor_is_idle(idle, events):
    """Ten in a row, each while the poller sleeps: the wake-up descriptor must be served every time."""
    old = signal.signal(signal.SIGUSR1, lambda *_: events("signal"))

    def send_ten() -> None:
        for count in range(1, 11):
            os.kill(os.getpid(), signal.SIGUSR1)
            events.times("signal", count, timeout=3)
        idle.stop()

    try:
        sending = []
        idle.call_soon(lambda: sending.append(in_thread(send_ten)))
        idle.run()
        sending[0].result(5)
    finally:
        signal.signal(signal.SIGUSR1, old)


def test_a_signal_at_any_moment_of_the_start_is_not_lost():
    """The kernel's timer fires at random before, while and after run() prepares its wait."""
    run_script(
        """
        import random, signal, time
        import goev

        for _ in range(2000):
            reactor = goev.Reactor(pollers=1)
            signal.signal(signal.SIGALRM, lambda *_: reactor.stop())
            signal.setitimer(signal.ITIMER_REAL, 1e-6 + random.random() * 0.0003)
            reactor.run()
            signal.setitimer(signal.ITIMER_REAL, 0)
        """
    )


def test_the_wakeup_fd_of_others_is_restored_after_run(idle):
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        before = signal.set_wakeup_fd(left.fileno())
        try:
            idle.call_soon(idle.stop)
            idle.run()
        finally:
            found = signal.set_wakeup_fd(before)
        assert found == left.fileno()


def test_without_signals_ctrl_c_comes_out_of_run_as_keyboard_interrupt():
    program = """
        import goev, sys, threading
        class Echo(goev.Connection):
            def on_open(self):
                print("open")
            def on_close(self, error):
                print("closed", error)
        reactor = goev.Reactor(pollers=2)
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
        print(acceptor.address[1])
        reactor.schedule(0.0, lambda: print("up"))
        try:
            reactor.run(signals=False)
        except KeyboardInterrupt:
            print("interrupted", reactor.running)
    """
    with Child.running(program) as child:
        port = int(child.line())
        assert child.line() == "up"
        with Client(("127.0.0.1", port)):
            assert child.line() == "open"
            child.interrupt()
            lines = [child.line(), child.line()]
        assert lines[-1] == "interrupted False"
        assert lines[0].startswith("closed")
        assert child.end() == 0


def test_stopping_twice_or_after_the_end_is_harmless(idle):
    idle.start()
    for _ in range(3):
        idle.stop()
    idle.join(5)
    idle.stop()
    idle.join(5)


def test_many_threads_may_stop_at_once(idle):
    idle.start()
    for future in [in_thread(idle.stop) for _ in range(8)]:
        future.result(5)
    idle.join(5)


def test_stop_of_a_reactor_that_never_ran_closes_its_listeners():
    reactor = goev.Reactor(pollers=1)
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    address = acceptor.address
    reactor.stop()
    with pytest.raises(ConnectionRefusedError):
        Client(address)
    reactor.run()  # returns at once: a stop from elsewhere cannot come too early
    with pytest.raises(RuntimeError):
        reactor.run()


def test_join_waits_for_the_end_in_any_number_of_threads(idle):
    idle.start()
    joining = [in_thread(idle.join) for _ in range(3)]
    idle.stop()
    assert [future.result(5) for future in joining] == [idle.join()] * 3


# --- what stop does ---


def test_nobody_can_connect_after_stop(start):
    server = start(Echo, pollers=2)
    address = server.address
    server.reactor.stop()
    server.reactor.join(5)
    with pytest.raises(ConnectionRefusedError):
        Client(address)


def test_every_on_close_runs_before_join_returns(start, events):
    server = start(lambda: Recorder(events), pollers=2)
    clients = [server.connect() for _ in range(200)]
    events.times("open", 200)
    for client in clients:
        client.close()
    server.reactor.stop()
    server.reactor.join(10)
    assert events.names.count("close") == 200


def test_stop_closes_idle_connections_in_an_orderly_way(start, events):
    server = start(lambda: Recorder(events))
    client = server.connect()
    events.until("open")
    server.reactor.stop()
    assert client.receive_all() == b""
    assert events.until("close") == ("close", None)


def test_stop_flushes_what_is_queued(start, events):
    class Sends(Recorder):
        def on_open(self):
            self.write(DATA)
            self.events("open", self)

    server = start(lambda: Sends(events), send_buffer_size=16384)
    client = server.connect(receive_buffer=16384)
    events.until("open")
    server.reactor.stop(grace=20)
    assert client.hash_all() == (len(DATA), sha256(DATA))
    server.reactor.join(10)
    assert events.of("close") == [("close", None)]


@pytest.mark.parametrize("grace", [0, 0.0, 0.3])
def test_at_the_deadline_the_rest_is_aborted(start, events, grace):
    class Sends(Recorder):
        def on_open(self):
            self.write(DATA)
            self.events("open", self)

    server = start(lambda: Sends(events), send_buffer_size=16384)
    server.connect(receive_buffer=16384)  # never reads
    events.until("open")
    began = time.monotonic()
    server.reactor.stop(grace=grace)
    server.reactor.join(10)
    assert grace <= time.monotonic() - began < grace + 2.0
    assert type(events.until("close")[1]) is ConnectionAbortedError


def test_a_second_stop_can_shorten_the_grace(start, events):
    class Sends(Recorder):
        def on_open(self):
            self.write(DATA)
            self.events("open", self)

    server = start(lambda: Sends(events), send_buffer_size=16384)
    server.connect(receive_buffer=16384)
    events.until("open")
    server.reactor.stop(grace=60)
    server.reactor.stop(grace=0)
    began = time.monotonic()
    server.reactor.join(10)
    assert time.monotonic() - began < 3.0


def test_a_peer_that_keeps_its_end_open_does_not_hold_up_the_stop(start, events):
    server = start(lambda: Recorder(events), linger_timeout=60.0)
    client = server.connect()
    client.send(b"x")
    events.until("read")
    began = time.monotonic()
    server.reactor.stop(grace=0.5)
    server.reactor.join(10)
    assert time.monotonic() - began < 3.0


def test_writes_of_on_close_callbacks_and_timers_during_the_stop_do_no_harm(start, events):
    class Busy(goev.Connection):
        def on_open(self):
            self.schedule(0.0, every=0.001)
            events("open", self)

        def on_timeout(self):
            self.write(b"x")

        def on_close(self, error):
            events("close", error)
            self.reactor.stop()

    server = start(Busy, pollers=2)
    for _ in range(20):
        server.connect()
    events.times("open", 20)
    server.reactor.stop(grace=1)
    server.reactor.join(10)
    assert events.names.count("close") == 20


def test_leaving_the_with_block_stops_and_joins(events):
    with goev.Reactor(pollers=2) as reactor:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", lambda: Recorder(events))
        reactor.start()
        with Client(acceptor.address):
            events.until("open")
    assert not reactor.running
    assert "close" in events.names
    with pytest.raises(ConnectionRefusedError):
        Client(acceptor.address)


def test_an_exception_leaves_the_with_block_unchanged():
    reactor = goev.Reactor(pollers=1)

    def leave() -> None:
        with reactor:
            reactor.start()
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        leave()
    assert not reactor.running


# --- callbacks that do not return ---


def blocked_poller(stack, pollers: int, which: int) -> tuple[goev.Reactor, threading.Event, threading.Event]:
    """A reactor in which the connection number ``which`` sits in a callback until it is released."""
    blocked, release = threading.Event(), threading.Event()

    class Blocks(goev.Connection):
        def on_read(self):
            self.read()
            blocked.set()
            release.wait(20)

    reactor = goev.Reactor(pollers=pollers)
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Blocks)
    clients = [stack.enter_context(Client(acceptor.address)) for _ in range(pollers)]
    clients[which].send(b"x")
    return reactor, blocked, release


def test_join_raises_stop_timeout_when_a_callback_never_returns(stack):
    reactor, blocked, release = blocked_poller(stack, 1, 0)
    reactor.start()
    assert blocked.wait(PATIENCE)
    reactor.stop(grace=0.1)
    began = time.monotonic()
    with pytest.raises(goev.StopTimeout):
        reactor.join()
    assert time.monotonic() - began < 8.0
    release.set()
    eventually(lambda: not reactor.running, "it ends once the callback returned")


def test_run_raises_stop_timeout_when_a_callback_of_another_poller_never_returns(stack):
    reactor, blocked, release = blocked_poller(stack, 2, 1)
    stopping = in_thread(lambda: (blocked.wait(PATIENCE), reactor.stop(grace=0.1)))
    with pytest.raises(goev.StopTimeout):
        reactor.run()
    stopping.result(1)
    release.set()
    eventually(lambda: not reactor.running, "it ends once the callback returned")


def test_timers_that_are_always_due_do_not_hold_up_the_stop():
    """Two that need more time than there is until the next: there is always one more to call."""
    over = False

    def spin() -> bool:
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass
        return not over

    reactor = goev.Reactor(pollers=1)
    for _ in range(2):
        reactor.schedule(0.0, spin, every=0.001)
    reactor.schedule(0.05, reactor.stop)
    began = time.monotonic()
    try:
        assert in_thread(reactor.run).result(PATIENCE).aborted == 0
    finally:
        over = True
    assert time.monotonic() - began < 2.0


# --- leaving the interpreter ---

LEAVE = """
    import random, socket, sys, threading, time
    import goev

    class Echo(goev.Connection):
        def on_open(self):
            self.schedule(0.0, every=0.0005)
        def on_timeout(self):
            self.write(b"tick")
        def on_read(self):
            self.write(self.read())

    reactor = goev.Reactor(pollers=2)
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    reactor.schedule(0.0, lambda: None, every=0.0005)
    how = sys.argv[1]
    if how == "run in a daemon thread":
        threading.Thread(target=reactor.run, daemon=True).start()
        while not reactor.running:
            time.sleep(0.001)
    elif how != "not started":
        reactor.start()
    clients = [socket.create_connection(acceptor.address) for _ in range(4)]
    for client in clients:
        client.sendall(b"x" * 10000)
        if how != "not started":
            client.recv(100)
    time.sleep(random.random() / 20)
    for client in clients:
        client.close()
    if how == "exit":
        sys.exit(0)
    if how == "stopped but not joined":
        reactor.stop()
    if how == "deleted":
        del reactor, acceptor
    if how == "writers":
        def spin():
            try:
                while True:
                    reactor.call_soon(int)
            except RuntimeError:
                pass  # it has stopped
        threading.Thread(target=spin, daemon=True).start()
"""


@pytest.mark.parametrize(
    "how", ["end", "exit", "stopped but not joined", "deleted", "run in a daemon thread", "not started", "writers"]
)
def test_leaving_the_interpreter_with_a_running_reactor_neither_hangs_nor_crashes(how):
    for _ in range(3):
        assert run_script(LEAVE, how, timeout=15.0) == ""


def test_leaving_with_open_connections_and_blocked_output():
    run_script(
        """
        import socket
        import goev

        class Sends(goev.Connection):
            def on_open(self):
                self.write(bytes(50_000_000))

        reactor = goev.Reactor(pollers=1)
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Sends)
        reactor.start()
        client = socket.create_connection(acceptor.address)
        client.recv(1)
        keep = client.detach()
        """,
        timeout=15.0,
    )


def test_a_wait_is_as_long_as_was_asked_for():
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        for timeout in (0, 0.001, 0.03):
            began = time.perf_counter()
            with pytest.raises(goev.StopTimeout):
                reactor.join(timeout)
            # A wait in parts of 20 ms would take that long, or 40 ms.
            assert time.perf_counter() - began < timeout + 0.009
