"""A listening socket that other processes share: an end in this process ends nothing there (C10)."""

import os
import socket
import subprocess
import sys
from textwrap import dedent

import pytest

import goev
from support import PATIENCE, Client, Echo, eventually, on_poller, run_script, settled_fds

ACCEPTS = """
    import socket, sys

    listener = socket.socket(fileno=int(sys.argv[1]))
    listener.settimeout(20)
    print("ready", flush=True)
    while True:
        with listener.accept()[0] as connection:
            connection.sendall(b"other process")
"""


@pytest.fixture
def listener(stack):
    return stack.enter_context(socket.create_server(("127.0.0.1", 0)))


@pytest.fixture
def other(listener, stack):
    """Another process that accepts from the same socket; it begins when it is called."""

    def begin() -> None:
        command = [sys.executable, "-c", dedent(ACCEPTS), str(listener.fileno())]
        process = stack.enter_context(subprocess.Popen(command, pass_fds=[listener.fileno()], stdout=subprocess.PIPE))
        stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"

    return begin


def answer_of(address) -> bytes:
    with Client(address) as client:
        return client.receive_all()


@pytest.mark.parametrize("end", ["close", "close on the poller", "stop", "stop at once"])
def test_another_process_goes_on_accepting(start, listener, other, end):
    server = start(Echo, address=listener, linger_timeout=0)
    client = server.connect()
    assert client.ask(b"x") == b"x"
    other()
    if end.startswith("close"):
        on_poller(server.reactor, server.acceptor.close) if "poller" in end else server.acceptor.close()
        assert client.ask(b"still open") == b"still open"
    else:
        server.reactor.stop(0 if end == "stop at once" else 5)
        server.reactor.join(PATIENCE)
    for _ in range(20):
        assert answer_of(listener.getsockname()) == b"other process"


def test_after_close_this_process_accepts_no_connection_that_waits(reactor, listener, other):
    """Also not those that were in the backlog already: they are left to the others."""
    made = []
    acceptor = goev.Acceptor(reactor, listener, lambda: made.append(1) or Echo())

    def connect_and_close() -> Client:
        """Before the poller sees the connection, which it could only do after this callback."""
        client = Client(listener.getsockname())
        acceptor.close()
        return client

    with on_poller(reactor, connect_and_close) as client:
        other()
        assert client.receive_all() == b"other process"
    assert not made


def test_the_users_own_object_accepts_after_close(start, listener):
    server = start(Echo, address=listener)
    server.acceptor.close()
    with Client(listener.getsockname()) as client:
        listener.settimeout(PATIENCE)
        with listener.accept()[0] as accepted:
            accepted.sendall(b"mine")
            assert client.receive(4) == b"mine"


def test_our_copy_is_closed_and_a_later_acceptor_may_take_the_socket_again(start, listener):
    server = start(Echo, address=listener)
    before = settled_fds()
    server.acceptor.close()
    eventually(lambda: settled_fds() < before, "the copy is closed")
    again = goev.Acceptor(server.reactor, listener, Echo)
    with Client(again.address) as client:
        assert client.ask(b"again") == b"again"


def test_a_socket_of_ours_refuses_at_once(start):
    server = start(Echo)
    server.acceptor.close()
    with pytest.raises(ConnectionRefusedError):
        Client(server.address)


def test_a_forked_child_goes_on_accepting_with_a_reactor_of_its_own():
    """As servers do that fork their workers: the parent ends its own share, and the worker serves."""
    lines = run_script("""
        import os, socket, warnings
        import goev

        class Echo(goev.Connection):
            def on_read(self):
                self.write(self.read() + b" by %d" % (os.getpid() == parent))
                self.close()

        def ask(address):
            with socket.create_connection(address, 10) as client:
                client.sendall(b"served")
                return b"".join(iter(lambda: client.recv(100), b"")).decode()

        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        parent, listener = os.getpid(), socket.create_server(("127.0.0.1", 0))
        begin, ready = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            os.read(begin[0], 1)
            goev.serve(Echo, listener, pollers=1, ready=lambda _: os.write(ready[1], b"x"))
            os._exit(0)
        with goev.Reactor(pollers=1) as reactor:
            acceptor = goev.Acceptor(reactor, listener, Echo)
            reactor.start()
            print(ask(listener.getsockname()))
            acceptor.close()
            os.write(begin[1], b"x")
            os.read(ready[0], 1)
            print(ask(listener.getsockname()))
        print(ask(listener.getsockname()))
        os.kill(child, 15)
        print(os.waitpid(child, 0)[1])
        listener.close()
    """)
    assert lines.splitlines() == ["served by 1", "served by 0", "served by 0", "0"]


def test_the_mode_of_the_socket_is_shared(start, listener):
    """goev needs a socket that never blocks, and the mode belongs to all copies: documented, since others see it."""
    start(Echo, address=listener)
    assert not os.get_blocking(listener.fileno())
