"""System calls that fail, by ``strace -e inject``: what failed ends and nothing else; an interruption ends nothing."""

import errno
import subprocess

import pytest

from support import Child, Client, need

SERVER = """
    import logging
    import goev

    class Echo(goev.Connection):
        def on_read(self):
            self.write(self.read())
        def on_close(self, error):
            print("close", getattr(error, "errno", None))

    logging.getLogger("goev").addHandler(logging.NullHandler())
    reactor = goev.Reactor(stall_warning=None)
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    reactor.call_soon(lambda: print("up", acceptor.address[1]))
    try:
        reactor.run()
    except OSError as error:
        print("over", error.errno)
    else:
        print("stopped")
"""


class Traced:
    """The server, with strace attached that makes some of its calls fail from now on."""

    def __init__(self, stack, injection: str) -> None:
        self._stack, strace = stack, need("strace")
        self.child = stack.enter_context(Child.running(SERVER))
        self.address = ("127.0.0.1", int(self.child.line().split()[1]))
        call = injection.partition(":")[0]
        command = [strace, "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={injection}"]
        tracer = subprocess.Popen([*command, "-p", str(self.child.pid)], stderr=subprocess.PIPE, text=True)
        stack.callback(tracer.wait)
        stack.enter_context(tracer.stderr)
        stack.callback(tracer.terminate)
        assert "attached" in tracer.stderr.readline()

    def connect(self) -> Client:
        return self._stack.enter_context(Client(self.address))


@pytest.mark.parametrize("error", ["EINTR", "ECONNABORTED", "EPERM", "EPROTO", "ENETDOWN", "ENOMEM", "EMFILE", "EIO"])
def test_accept_goes_on_after_any_error(stack, error):
    traced = Traced(stack, f"accept4:error={error}:when=1..3")
    for _ in range(5):
        assert traced.connect().ask(b"hello") == b"hello"


def test_an_interrupted_read_is_repeated_and_loses_nothing(stack):
    traced = Traced(stack, "recvfrom:error=EINTR:when=1+3")
    client = traced.connect()
    data = bytes(range(256)) * 2000
    assert client.ask(data) == data


@pytest.mark.parametrize("error", ["EIO", "ENOMEM", "ETIMEDOUT", "EHOSTUNREACH"])
def test_a_read_that_fails_ends_that_connection_with_its_errno(stack, error):
    traced = Traced(stack, f"recvfrom:error={error}:when=2")
    other, client = traced.connect(), traced.connect()
    assert other.ask(b"1") == b"1"  # the first read; the second fails
    client.send(b"2")
    assert traced.child.line() == f"close {getattr(errno, error)}"
    with pytest.raises(ConnectionResetError):
        client.receive_all()
    assert other.ask(b"3") == b"3"


@pytest.mark.parametrize("call", ["sendto", "sendmsg"])
def test_an_interrupted_write_is_repeated_and_loses_nothing(stack, call):
    traced = Traced(stack, f"{call}:error=EINTR:when=1+3")
    client = traced.connect()
    data = bytes(range(256)) * 2000
    assert client.ask(data) == data


@pytest.mark.parametrize("error", ["EIO", "ENOMEM", "EPIPE"])
def test_a_write_that_fails_ends_that_connection_with_its_errno(stack, error):
    traced = Traced(stack, f"sendto:error={error}:when=1")
    client = traced.connect()
    client.send(b"x")
    assert traced.child.line() == f"close {getattr(errno, error)}"
    with pytest.raises(ConnectionResetError):
        client.receive_all()
    assert traced.connect().ask(b"y") == b"y"


def test_a_full_socket_buffer_is_waited_for(stack):
    """EAGAIN of a socket that the poll would call writable: the next event, of the kernel's own, goes on with it."""
    traced = Traced(stack, "sendto:error=EAGAIN:when=1")
    client = traced.connect()
    client.send(b"x")
    assert client.receive(1) == b"x"


@pytest.mark.parametrize("error", ["ENOMEM", "ENOSPC"])
def test_a_connection_that_cannot_be_watched_is_closed_and_no_other(stack, error):
    traced = Traced(stack, f"epoll_ctl:error={error}:when=1")
    assert traced.connect().receive_all() == b""
    assert traced.connect().ask(b"y") == b"y"


def test_an_interrupted_wait_goes_on(stack):
    traced = Traced(stack, "epoll_wait:error=EINTR:when=1+2")
    client = traced.connect()
    for _ in range(20):
        assert client.ask(b"hello") == b"hello"


@pytest.mark.parametrize("error", ["ENOMEM", "EIO", "EBADF"])
def test_a_wait_that_fails_comes_out_of_run_instead_of_a_hang(stack, error):
    traced = Traced(stack, f"epoll_wait:error={error}:when=2+")
    client = traced.connect()
    client.send(b"x")
    lines = [traced.child.line()]
    while not lines[-1].startswith("over"):
        lines.append(traced.child.line())
    assert lines[-1] == f"over {getattr(errno, error)}"
    assert traced.child.end() == 0
