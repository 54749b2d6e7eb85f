"""goev.serve: blocks, stops gracefully on SIGINT and SIGTERM, at once on the second signal."""

import signal
import time

import pytest

import goev
from support import Child, Client, Echo, in_thread

SERVE = """
    import sys
    import goev

    class Handler(goev.Connection):
        def on_open(self):
            print("open", flush=True)
        def on_read(self):
            data = self.read()
            self.write(bytes(50_000_000) if data == b"much" else data)
        def on_close(self, error):
            print("close", type(error).__name__, flush=True)

    print("up")
    goev.serve(Handler, "127.0.0.1:" + sys.argv[1], grace=float(sys.argv[2]), **eval(sys.argv[3]))
    print("returned")
"""


def serving(free_port: int, grace: float = 5.0, options: str = "{}") -> Child:
    child = Child.running(SERVE, str(free_port), str(grace), options)
    assert child.line() == "up"
    return child


def connect(port: int) -> Client:
    """Connect as soon as somebody listens."""
    end = time.monotonic() + 10
    while True:
        try:
            return Client(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


@pytest.fixture
def free_port() -> int:
    """A port that was free a moment ago; serve() does not tell which one it got."""
    with goev.Reactor(pollers=1) as reactor:
        return goev.Acceptor(reactor, "127.0.0.1:0", Echo).address[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("options", ["{}", "{'pollers': 2, 'reuse_port': True, 'max_input': 4096}"], ids=["1", "2"])
def test_a_signal_makes_serve_return_normally(free_port, number, options):
    with serving(free_port, options=options) as child:
        with connect(free_port) as client:
            assert client.ask(b"hello") == b"hello"
        assert [child.line(), child.line()] == ["open", "close NoneType"]
        child.process.send_signal(number)
        assert child.line() == "returned"
        assert (child.end(), child.complaints) == (0, "")


def test_an_idle_client_is_closed_in_an_orderly_way(free_port):
    with serving(free_port) as child, connect(free_port) as client:
        assert client.ask(b"hello") == b"hello"
        child.interrupt()
        assert client.receive_all() == b""
        client.close()
        assert [child.line() for _ in range(3)] == ["open", "close NoneType", "returned"]
        assert child.end() == 0


def test_a_signal_as_soon_as_it_says_ready_makes_serve_return_normally():
    program = """
        import goev
        goev.serve(goev.Connection, "127.0.0.1:0", ready=lambda acceptor: print(acceptor.address[1], flush=True))
        print("returned")
    """
    for number in (signal.SIGINT, signal.SIGTERM) * 8:
        with Child.running(program) as child:
            assert int(child.line()) > 0
            child.process.send_signal(number)
            assert (child.end(5.0), child.complaints) == (0, "")
            assert child.line() == "returned"


def test_a_second_signal_stops_at_once(free_port):
    with serving(free_port, grace=60.0) as child, connect(free_port) as client:
        assert client.ask(b"hello") == b"hello"
        client.send(b"much")
        client.receive(1000)  # and no more: the output never gets out
        began = time.monotonic()
        child.interrupt()
        time.sleep(0.2)  # two signals that arrive as one would prove nothing
        assert child.process.poll() is None
        child.interrupt()
        child.end()
        assert time.monotonic() - began < 5.0


STUCK_ON_POLLER_1 = """
    import signal, threading
    import goev

    class Handler(goev.Connection):
        def on_open(self):
            print("poller 0" if threading.current_thread() is threading.main_thread() else "poller 1", flush=True)
        def on_read(self):
            self.read()
            self.write(bytes(50_000_000))
        def on_close(self, error):
            print("close", flush=True)

    def on_usr1(*_):
        fd = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(fd)
        print("handled", fd >= 0, flush=True)

    signal.signal(signal.SIGUSR1, on_usr1)
    goev.serve(Handler, "127.0.0.1:0", pollers=2, grace=60.0, ready=lambda acceptor: print(acceptor.address[1]))
    print("returned")
"""


def test_while_another_poller_still_flushes_signals_are_handled_and_a_second_one_stops_at_once(stack):
    """Poller 0, which is the main thread, has nothing left to do and waits for poller 1."""
    child = stack.enter_context(Child.running(STUCK_ON_POLLER_1))
    address = ("127.0.0.1", int(child.line()))
    clients = {}
    for _ in range(2):
        client = stack.enter_context(Client(address))
        clients[child.line()] = client
    clients["poller 0"].close()
    stuck = clients["poller 1"]
    stuck.send(b"x")
    stuck.receive(1000)  # and no more: the output never gets out
    assert child.line() == "close"
    child.interrupt()
    time.sleep(0.5)  # poller 0 has ended by then, as far as it ever will
    for _ in range(3):
        child.process.send_signal(signal.SIGUSR1)
        assert child.line(timeout=5.0) == "handled True"
    began = time.monotonic()
    child.interrupt()
    assert [child.line(timeout=5.0), child.line(timeout=5.0)] == ["close", "returned"]
    assert (child.end(), child.complaints) == (0, "")
    assert time.monotonic() - began < 5.0


def test_grace_limits_how_long_it_waits(free_port):
    with serving(free_port, grace=0.3) as child, connect(free_port) as client:
        client.send(b"much")
        client.receive(1000)
        began = time.monotonic()
        child.interrupt()
        assert [child.line() for _ in range(3)] == ["open", "close ConnectionAbortedError", "returned"]
        assert 0.2 < time.monotonic() - began < 3.0
        assert child.end() == 0


def test_handlers_of_signals_are_restored_after_serve():
    """Stopped from a callback; afterwards Ctrl-C means what it meant before."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    stop_from_a_connection()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def stop_from_a_connection() -> None:
    with goev.Reactor(pollers=1) as probe:
        port = goev.Acceptor(probe, "127.0.0.1:0", Echo).address[1]

    class Stops(Echo):
        def on_open(self):
            self.reactor.stop()

    visiting = in_thread(lambda: connect(port).close())
    goev.serve(Stops, f"127.0.0.1:{port}")
    visiting.result(5)


def test_serve_works_in_a_thread_that_is_not_the_main_one():
    in_thread(stop_from_a_connection).result(15)


def test_wrong_arguments_are_refused_before_anything_listens():
    for arguments, options in (
        ((None, "127.0.0.1:0"), {}),
        ((Echo, "127.0.0.1"), {}),
        ((Echo, "127.0.0.1:0"), {"pollers": 0}),
        ((Echo, "127.0.0.1:0"), {"no_such_option": 1}),
    ):
        with pytest.raises((TypeError, ValueError)):
            goev.serve(*arguments, **options)


@pytest.mark.parametrize(
    ("grace", "error"), [(-1, ValueError), (-0.5, ValueError), (float("nan"), ValueError), ("x", TypeError)]
)
def test_a_wrong_grace_is_refused_before_anything_listens(grace, error):
    def listens(_acceptor) -> None:
        raise LookupError("it listens")

    with pytest.raises(error, match="grace"):
        goev.serve(Echo, "127.0.0.1:0", grace=grace, ready=listens)
