"""A connector takes IPv4, IPv6, Unix sockets and host names, and says which of them failed and why."""

import errno
import os
import socket
import time
from contextlib import ExitStack

import pytest

import goev
from connector_support import SLACK, Dials, accept, listening
from support import need_ipv6, on_poller, settle, text_of


def test_ipv6(reactor, events):
    need_ipv6()
    with listening(socket.AF_INET6, ("::1", 0)) as listener:
        goev.Connector(reactor).connect(text_of(listener.getsockname()), Dials(events))
        connection = events.next()[1]
        assert connection.remote_address == listener.getsockname()


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_unix_sockets(reactor, events, stack, tmp_path, kind):
    name = f"{tmp_path}/socket" if kind == "path" else f"\0goev-test-{os.getpid()}"
    with listening(socket.AF_UNIX, name) as listener:
        goev.Connector(reactor).connect("unix:" + name.replace("\0", "@"), Dials(events))
        connection = events.until("open")[1]
        assert connection.remote_address == ""
        peer = accept(listener, stack)
        connection.write(b"hello")
        assert peer.recv(5) == b"hello"
        peer.sendall(b"world")
        assert events.until("read") == ("read", b"world")
        peer.close()
        assert events.until("close") == ("close", None)


def test_a_missing_unix_path_fails_with_errno(reactor, events, tmp_path):
    goev.Connector(reactor).connect(f"unix:{tmp_path}/missing", Dials(events))
    error = events.next()[1]
    assert type(error) is FileNotFoundError
    assert error.errno == errno.ENOENT
    assert "missing" in str(error)


def test_a_unix_path_nobody_listens_on_is_refused(reactor, events, tmp_path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{tmp_path}/socket")
        goev.Connector(reactor).connect(f"unix:{tmp_path}/socket", Dials(events))
        assert type(events.next()[1]) is ConnectionRefusedError


def test_both_ends_know_both_addresses(reactor, events, listener, target, stack):
    goev.Connector(reactor).connect(target, Dials(events))
    connection = events.next()[1]
    peer = accept(listener, stack)
    assert on_poller(connection, lambda: connection.local_address) == peer.getpeername()
    assert connection.remote_address == peer.getsockname()


def test_a_host_name_is_looked_up(reactor, events, listener):
    goev.Connector(reactor).connect(f"localhost:{listener.getsockname()[1]}", Dials(events))
    assert events.next()[1].remote_address == listener.getsockname()


def test_an_unresolvable_host_is_a_gaierror_with_its_code_and_the_name(reactor, events):
    goev.Connector(reactor).connect("no-such-host.invalid:80", Dials(events))
    error = events.next()[1]
    assert type(error) is socket.gaierror
    assert error.errno in (socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_NODATA)
    assert "no-such-host.invalid" in str(error)
    settle(reactor)
    assert events.names == ["fail"]


def test_an_unresolvable_host_in_a_list_is_passed_over(reactor, events, target):
    goev.Connector(reactor).connect(["no-such-host.invalid:80", target], Dials(events))
    assert events.next()[0] == "open"


def test_a_port_that_would_connect_to_itself_is_refused(reactor, events, dead):
    """A client whose own port is the one it wants meets itself (simultaneous open)."""
    address = dead.replace("127.0.0.1", "127.0.0.3")  # free there, since only 127.0.0.1 is bound
    goev.Connector(reactor, local_address=address).connect(address, Dials(events))
    assert type(events.next()[1]) is ConnectionRefusedError


# --- Unix sockets whose backlog is full: connect(2) does not wait for them ---


@pytest.fixture
def full(tmp_path):
    """A Unix listener that has no room until somebody accepts."""
    with ExitStack() as opened:
        listener = opened.enter_context(listening(socket.AF_UNIX, f"{tmp_path}/full", backlog=0))
        filler = opened.enter_context(socket.socket(socket.AF_UNIX))
        filler.connect(listener.getsockname())
        yield listener


def test_a_full_unix_backlog_is_waited_for(reactor, events, full, stack):
    goev.Connector(reactor).connect(text_of(full.getsockname()), Dials(events))
    settle(reactor)
    assert events.names == []
    accept(full, stack)
    assert events.next()[0] == "open"


def test_a_unix_backlog_that_stays_full_times_out(reactor, events, full):
    began = time.monotonic()
    goev.Connector(reactor).connect(text_of(full.getsockname()), Dials(events), timeout=0.3)
    error = events.next()[1]
    assert 0.3 <= time.monotonic() - began < 0.3 + SLACK
    assert type(error) is TimeoutError


def test_beside_a_full_unix_backlog_the_next_address_is_tried(reactor, events, full, target):
    goev.Connector(reactor).connect([text_of(full.getsockname()), target], Dials(events), timeout=2.0)
    assert events.next()[0] == "open"
