"""System calls that fail, by ``strace -e inject``: only the connection or reactor that failed ends.

An interruption (EINTR) ends nothing.
"""

import errno
import subprocess
import time

import pytest

from support import Child, Client, cpu_seconds, eventually, need

SERVER = """
    import logging, sys, threading
    import goev

    class Echo(goev.Connection):
        def on_read(self):
            data = self.read()
            if data == b"flood":
                return self.write(bytes(20_000_000))
            if data == b"upgrade":
                return self.hand_over(Upgraded())
            # Pieces of this size stay pieces, and go out by one sendmsg; a short one by sendto.
            for at in range(0, len(data), 5000):
                self.write(data[at : at + 5000])
        def on_close(self, error):
            print("close", getattr(error, "errno", None))

    class Upgraded(Echo):
        def on_open(self):
            print("upgraded")
        def on_close(self, error):
            print("close upgraded", getattr(error, "errno", None))

    def listen_for_orders():
        for line in sys.stdin:
            if line == "listen\\n":
                print("listens", goev.Acceptor(reactor, "127.0.0.1:0", Echo).address[1])
            else:
                reactor.call_soon(print, "called")

    logging.getLogger("goev").addHandler(logging.NullHandler())
    reactor = goev.Reactor(pollers=1, stall_warning=None)
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    threading.Thread(target=listen_for_orders, daemon=True).start()
    reactor.call_soon(lambda: print("up", acceptor.address[1]))
    try:
        reactor.run()
    except OSError as error:
        print("over", error.errno)
    else:
        print("stopped")
"""


class Traced:
    """The server, with strace attached, which makes some of its calls fail from now on."""

    def __init__(self, stack, log, injection: str) -> None:
        self._stack, self._log, strace = stack, log, need("strace")
        self.child = stack.enter_context(Child.running(SERVER))
        self.address = ("127.0.0.1", int(self.child.line().split()[1]))
        call = injection.partition(":")[0]
        command = [strace, "-f", "-o", str(log), "-e", f"trace={call}", "-e", f"inject={injection}"]
        tracer = subprocess.Popen([*command, "-p", str(self.child.pid)], stderr=subprocess.PIPE, text=True)
        stack.callback(tracer.wait)
        stack.enter_context(tracer.stderr)
        stack.callback(tracer.terminate)
        self.tracer = tracer
        assert "attached" in tracer.stderr.readline()

    def connect(self) -> Client:
        return self._stack.enter_context(Client(self.address))

    @property
    def failed(self) -> int:
        """How many calls were made to fail so far. strace writes each line when the call is over."""
        return self._log.read_text().count("(INJECTED)")

    def heal(self) -> None:
        """Let no further call fail."""
        self.tracer.terminate()
        self.tracer.wait()


@pytest.fixture
def traced(stack, tmp_path):
    """``traced(injection)``: a server with calls that fail; at the end at least one must have failed."""
    servers = []

    def start(injection: str) -> Traced:
        servers.append(Traced(stack, tmp_path / "strace.log", injection))
        return servers[-1]

    yield start
    for server in servers:
        eventually(lambda server=server: server.failed, "a call has failed")


# Errors of the next connection, and errors of the machine (accept(2)).
PASSING = ["EINTR", "ECONNABORTED", "EPERM", "EPROTO", "ENETDOWN", "EHOSTUNREACH"]
SHORTAGES = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]


@pytest.mark.parametrize("error", [*PASSING, *SHORTAGES, "EIO"])
def test_accept_goes_on_after_any_error(traced, error):
    server = traced(f"accept4:error={error}:when=1..3")
    for _ in range(5):
        assert server.connect().ask(b"hello") == b"hello"


@pytest.mark.parametrize("error", SHORTAGES)
def test_a_shortage_that_lasts_costs_ten_looks_a_second_and_drops_nobody(traced, error):
    server = traced(f"accept4:error={error}:when=1+")
    client = server.connect()
    client.send(b"hello")
    eventually(lambda: server.failed, "it meets the shortage")
    before, cpu = server.failed, cpu_seconds(server.child.pid)
    time.sleep(1.0)  # the time over which it is counted
    assert 5 <= server.failed - before <= 12
    assert cpu_seconds(server.child.pid) - cpu < 0.1
    server.heal()
    assert client.receive(5) == b"hello"


def test_an_interrupted_read_is_repeated_and_loses_nothing(traced):
    server = traced("recvfrom:error=EINTR:when=1+3")
    client = server.connect()
    data = bytes(range(256)) * 2000
    assert client.ask(data) == data


@pytest.mark.parametrize("error", ["EIO", "ENOMEM", "ETIMEDOUT", "EHOSTUNREACH"])
def test_a_read_that_fails_ends_that_connection_with_its_errno(traced, error):
    server = traced(f"recvfrom:error={error}:when=2")
    other, client = server.connect(), server.connect()
    assert other.ask(b"1") == b"1"  # the first read; the second fails
    client.send(b"2")
    assert server.child.line() == f"close {getattr(errno, error)}"
    with pytest.raises(ConnectionResetError):
        client.receive_all()
    assert other.ask(b"3") == b"3"


SIZES = {"sendto": 1000, "sendmsg": 20_000}


@pytest.mark.parametrize("call", SIZES)
def test_an_interrupted_write_is_repeated_and_loses_nothing(traced, call):
    server = traced(f"{call}:error=EINTR:when=1+3")
    client = server.connect()
    data = (bytes(range(256)) * 100)[: SIZES[call]]
    for _ in range(20):
        assert client.ask(data) == data


@pytest.mark.parametrize("call", SIZES)
@pytest.mark.parametrize("error", ["EIO", "ENOMEM", "EPIPE"])
def test_a_write_that_fails_ends_that_connection_with_its_errno(traced, call, error):
    server = traced(f"{call}:error={error}:when=1")
    client = server.connect()
    client.send(bytes(SIZES[call]))
    assert server.child.line() == f"close {getattr(errno, error)}"
    with pytest.raises(ConnectionResetError):
        client.receive_all()
    assert server.connect().ask(b"y") == b"y"


def test_a_full_socket_buffer_is_waited_for(traced):
    """EAGAIN of a socket that the poll would call writable: the kernel's next event continues the write."""
    server = traced("sendto:error=EAGAIN:when=1")
    client = server.connect()
    client.send(b"x")
    assert client.receive(1) == b"x"


# EINTR is no real interruption here: epoll_ctl(2) does not wait.
@pytest.mark.parametrize("error", ["ENOMEM", "ENOSPC", "EIO", "EINTR"])
def test_a_connection_that_cannot_be_watched_is_closed_and_no_other(traced, error):
    server = traced(f"epoll_ctl:error={error}:when=1")
    assert server.connect().receive_all() == b""
    assert server.connect().ask(b"y") == b"y"


@pytest.mark.parametrize("error", ["ENOMEM", "EIO"])
def test_a_connection_whose_room_cannot_be_watched_ends_with_the_errno(traced, error):
    """Its output waits for the peer, and no event would report room in the socket."""
    server = traced(f"epoll_ctl:error={error}:when=2")
    client = server.connect()
    client.send(b"flood")
    assert server.child.line() == f"close {getattr(errno, error)}"
    with pytest.raises(ConnectionResetError):
        client.hash_all()
    assert server.connect().ask(b"y") == b"y"


@pytest.mark.parametrize("error", ["ENOMEM", "EIO"])
def test_a_connection_that_cannot_be_watched_for_its_new_handler_ends_with_both_callbacks_of_each(traced, error):
    server = traced(f"epoll_ctl:error={error}:when=2")
    client = server.connect()
    client.send(b"upgrade")
    lines = [server.child.line() for _ in range(3)]
    assert lines == ["close None", "upgraded", f"close upgraded {getattr(errno, error)}"]
    with pytest.raises(ConnectionResetError):
        client.receive_all()
    assert server.connect().ask(b"y") == b"y"


@pytest.mark.parametrize("error", ["ENOMEM", "ENOSPC"])
def test_a_listener_that_cannot_be_watched_is_tried_again(traced, error):
    """The socket listens already, so its peers would wait for ever in the backlog."""
    server = traced(f"epoll_ctl:error={error}:when=1..3")
    server.child.say("listen")
    port = int(server.child.line().split()[1])
    with Client(("127.0.0.1", port)) as client:
        assert client.ask(b"hello") == b"hello"
    assert server.connect().ask(b"y") == b"y"


def test_an_interrupted_wake_up_is_repeated(traced):
    server = traced("write:error=EINTR:when=1+2")
    for _ in range(10):
        server.child.say("call")
        assert server.child.line() == "called"


def test_an_interrupted_wait_goes_on(traced):
    server = traced("epoll_wait:error=EINTR:when=1+2")
    client = server.connect()
    for _ in range(20):
        assert client.ask(b"hello") == b"hello"


@pytest.mark.parametrize("error", ["ENOMEM", "EIO", "EBADF"])
def test_a_wait_that_fails_comes_out_of_run_instead_of_a_hang(traced, error):
    server = traced(f"epoll_wait:error={error}:when=2+")
    client = server.connect()
    client.send(b"x")
    lines = [server.child.line()]
    while not lines[-1].startswith("over"):
        lines.append(server.child.line())
    assert lines[-1] == f"over {getattr(errno, error)}"
    assert server.child.end() == 0
