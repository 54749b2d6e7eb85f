"""The watchdog: a callback that does not return is logged while it runs, once, with its peer and its Python stack."""

import re
import threading
import time
from pathlib import Path

import pytest

import goev
from support import PATIENCE, Child, Client, Echo, eventually, has_lock, held, needs_the_lock, on_poller


class Blocks(goev.Connection):
    """Blocks in its `on_read` until released."""

    def __init__(self, release: threading.Event):
        self.release = release

    def on_read(self):
        self.read()
        self.wait_for_release()
        self.write(b"done")

    def wait_for_release(self):
        self.release.wait(PATIENCE)


@pytest.fixture
def blocked(stack, stalls):
    """A server with ``stall_warning=0.05``, and what releases its handler."""
    release = threading.Event()
    reactor = stack.enter_context(goev.Reactor(pollers=2, stall_warning=0.05))
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", lambda: Blocks(release))
    reactor.start()
    stack.callback(release.set)
    return reactor, acceptor, release


def test_it_tells_callback_peer_and_stack_while_it_is_stuck_and_once(stack, stalls, blocked):
    reactor, acceptor, release = blocked
    client = stack.enter_context(Client(acceptor.address))
    client.send(b"x")
    text = stalls.until("stall")[1]
    assert f"has been in on_read with {client.name} for 0." in text
    assert "stall_warning=0.05" in text
    assert text.index("in on_read") < text.index("in wait_for_release"), "the most recent call comes last"
    time.sleep(0.3)  # more warnings would come now
    release.set()
    assert client.receive(4) == b"done"
    assert len(stalls.history) == 1
    assert sum(poller["stalls"] for poller in reactor.stats()) == 1


def test_each_stall_is_told(stack, stalls, blocked):
    _, acceptor, release = blocked
    for count in (1, 2):
        release.clear()
        client = stack.enter_context(Client(acceptor.address))
        client.send(b"x")
        stalls.times("stall", count)
        release.set()
        assert client.receive(4) == b"done"


def test_a_callback_of_no_connection_is_told_without_a_peer(stack, stalls):
    reactor = stack.enter_context(goev.Reactor(stall_warning=0.05))
    reactor.start()
    with held(reactor):
        text = stalls.until("stall")[1]
    assert "has been in call_soon function for 0." in text


def test_quick_callbacks_are_not_told(stack, stalls):
    reactor = stack.enter_context(goev.Reactor(stall_warning=2.0))
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    reactor.start()
    client = stack.enter_context(Client(acceptor.address))
    for _ in range(100):
        assert client.ask(b"x") == b"x"
    assert stalls.history == []
    assert reactor.stats()[0]["stalls"] == 0


def switches_of(name):
    """How often the thread of that name has gone to sleep (/proc/PID/task/TID/status); 0 before it has the name."""
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            status = (task / "status").read_text()
            return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.MULTILINE)[1])
    return 0


def test_the_watching_thread_sleeps_while_the_pollers_are_busy_or_idle(stack, stalls):
    limit = 0.1
    reactor = stack.enter_context(goev.Reactor(pollers=2, name="sleepy", stall_warning=limit))
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    reactor.start()
    client = stack.enter_context(Client(acceptor.address))
    eventually(lambda: switches_of("sleepy-watch") > 0, "it sleeps")
    before, last, pauses = switches_of("sleepy-watch"), time.monotonic(), 0
    until = last + 10 * limit
    while last < until:
        assert client.ask(b"x") == b"x"
        pauses += time.monotonic() - last > limit
        last = time.monotonic()
    time.sleep(5 * limit)  # nothing happens meanwhile
    # Each pause of a poller that is longer than the limit may wake it once. Looks now and then would be sixty.
    assert switches_of("sleepy-watch") - before <= 3 + pauses
    assert stalls.history == []


def test_without_a_warning_nothing_watches(stack, stalls):
    reactor = stack.enter_context(goev.Reactor(pollers=1, name="alone", stall_warning=None))
    reactor.start()
    on_poller(reactor, time.sleep, 0.3)
    assert stalls.history == []
    assert reactor.stats()[0]["stalls"] == 0
    tasks = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    assert [name for name in tasks if name.startswith("alone")] == ["alone-0"]


HOLDS_THE_LOCK = """
    import ctypes, sys
    import goev

    # A C function that is called without letting go of the interpreter lock.
    sleep = ctypes.PyDLL(None).usleep

    class Holds(goev.Connection):
        def on_read(self):
            self.read()
            self.hold()
            self.write(b"done")
        def hold(self):
            for _ in range(3):
                sleep(700_000)

    reactor = goev.Reactor(stall_warning=0.1)
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Holds)
    reactor.call_soon(lambda: print(acceptor.address[1]))
    reactor.run()
"""


@pytest.mark.parametrize("where", ["run", "start"])
def test_a_callback_that_holds_the_interpreter_lock_is_told_on_standard_error_while_it_does(stack, where):
    program = HOLDS_THE_LOCK
    if where == "start":
        program = program.replace("reactor.run()", "reactor.start()\n    reactor.join()")
    child = stack.enter_context(Child.running(program))
    client = stack.enter_context(Client(("127.0.0.1", int(child.line()))))
    client.send(b"x")
    eventually(lambda: "in hold" in child.errors, "the warning comes")
    client.socket.settimeout(0.0)
    with pytest.raises(BlockingIOError):
        client.socket.recv(4)
    # Without a lock to hold, the watchdog needs no way around the logger.
    by = "goev: " if has_lock() else ""
    assert f"{by}poller 0 has been in on_read with {client.name} for 0." in child.errors
    client.socket.settimeout(PATIENCE)
    assert client.receive(4) == b"done"
    assert child.errors.count("has been in on_read") == 1
    child.interrupt()
    child.end()


@pytest.mark.parametrize("limit", [0, 0.0001, -1, float("nan")])
def test_a_limit_that_is_too_small_is_refused(limit):
    with pytest.raises(ValueError, match="stall_warning must be"):
        goev.Reactor(stall_warning=limit)


@needs_the_lock
@pytest.mark.parametrize("handler", ["signal.SIG_DFL", "signal.SIG_IGN"])
def test_a_program_that_has_taken_the_signal_back_lives_and_is_told_without_a_stack(handler):
    """The default action of a real-time signal ends the process."""
    program = """
        import ctypes, signal, sys
        import goev

        def hold():
            ctypes.PyDLL(None).usleep(600_000)
            reactor.stop(0)

        reactor = goev.Reactor(stall_warning=0.05)
        # `run` takes the signal; the program takes it back.
        reactor.call_soon(lambda: signal.signal(signal.SIGRTMAX - 2, HANDLER))
        reactor.call_soon(hold)
        reactor.run()
        sys.exit(3)
    """
    with Child.running(program.replace("HANDLER", handler)) as child:
        assert child.end() == 3, child.errors
        assert "the interpreter lock was not to be had for 0.25 s" in child.errors
        assert "in hold" not in child.errors
