"""Outgoing connections: on_open or on_connect_fail, exactly one of them, once, in time and on the right poller."""

import errno
import gc
import itertools
import os
import random
import socket
import subprocess
import time
import weakref
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from threading import Semaphore, get_ident

import pytest

import goev
from support import (
    PATIENCE,
    Child,
    Echo,
    Events,
    Recorder,
    eventually,
    held,
    in_thread,
    need_ipv6,
    on_poller,
    open_fds,
    run_script,
    settle,
    sha256,
)

STAGGER = 0.25  # seconds until the next address is tried beside a silent one (RFC 8305)
SLACK = 0.05  # seconds that a deadline may be missed by


class Dials(Recorder):
    """Reports how the connecting ended, and what a Recorder reports."""

    def on_connect_fail(self, error: Exception) -> None:
        self.events("fail", error)


def text_of(address) -> str:
    """An address of the socket module as goev takes it."""
    if isinstance(address, str):
        return f"unix:{address}"
    return f"[{address[0]}]:{address[1]}" if len(address) == 4 else f"{address[0]}:{address[1]}"


@contextmanager
def listening(family=socket.AF_INET, address=("127.0.0.1", 0), backlog: int = 128):
    """A listening socket that is not goev's."""
    with socket.socket(family) as listener:
        listener.bind(address)
        listener.listen(backlog)
        listener.settimeout(PATIENCE)
        yield listener


@pytest.fixture
def listener():
    with listening() as listener:
        yield listener


@pytest.fixture
def dead():
    """An address that refuses: bound, so that nobody else gets it, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield text_of(bound.getsockname())


@pytest.fixture
def silent():
    """An address that does not answer: the backlog of its listener is full."""
    with ExitStack() as opened:
        listener = opened.enter_context(listening(backlog=0))
        for _ in range(10):
            filler = opened.enter_context(socket.socket())
            filler.settimeout(0.2)
            try:
                filler.connect(listener.getsockname())
            except TimeoutError:
                break
        yield text_of(listener.getsockname())


@pytest.fixture
def target(listener) -> str:
    """An address that takes connections; what comes of them is left to the test."""
    return text_of(listener.getsockname())


def accept(listener, stack) -> socket.socket:
    peer = stack.enter_context(listener.accept()[0])
    peer.settimeout(PATIENCE)
    return peer


def settled_fds() -> int:
    """Descriptors of this process, without those of reactors that earlier tests left to the collector."""
    gc.collect()
    return open_fds()


# --- the result ---


def test_a_good_address_opens_once_and_does_not_fail(reactor, events, target):
    handler = Dials(events)
    goev.Connector(reactor).connect(target, handler)
    assert events.next() == ("open", handler)
    settle(reactor)
    assert events.names == ["open"]


def test_the_short_form_does_the_same(reactor, events, target):
    handler = Dials(events)
    goev.connect(reactor, target, handler, timeout=5.0, nodelay=False)
    assert events.next() == ("open", handler)


def test_a_refused_address_fails_once_with_errno_and_the_address(reactor, events, dead):
    goev.Connector(reactor).connect(dead, Dials(events))
    error = events.next()[1]
    assert type(error) is ConnectionRefusedError
    assert error.errno == errno.ECONNREFUSED
    assert f"cannot connect to {dead}" in str(error)
    settle(reactor)
    assert events.names == ["fail"]


def test_neither_is_called_inside_connect(reactor, events, target, dead):
    connector = goev.Connector(reactor)

    def connect_here() -> None:
        for address in (target, dead, "unix:/nonexistent/socket"):
            connector.connect(address, Dials(events))
        assert events.history == []

    on_poller(reactor, connect_here)
    events.times("fail", 2)
    events.times("open", 1)


def test_every_one_of_many_gets_exactly_one_answer(reactor, events, target, dead):
    connector = goev.Connector(reactor)
    for _ in range(100):
        connector.connect(target, Dials(events))
        connector.connect(dead, Dials(events))
    events.times("open", 100)
    events.times("fail", 100)
    settle(reactor)
    assert len(events.history) == 200


def test_a_timeout_that_races_with_success_gives_exactly_one_answer(start, events):
    class Both(Dials):
        def __init__(self) -> None:
            super().__init__(events)
            self.told: list[str] = []

        def on_open(self):
            self.told.append("open")
            self.close()

        def on_connect_fail(self, error):
            self.told.append("fail")
            events("end", error)

        def on_close(self, error):
            self.told.append("close")
            events("end", error)

    server = start(Echo, pollers=2)
    connector = goev.Connector(server.reactor)
    chance = random.Random(1)
    handlers = [Both() for _ in range(500)]
    for handler in handlers:
        connector.connect(text_of(server.address), handler, timeout=chance.uniform(1e-5, 2e-3))
    events.times("end", 500)
    settle(server.reactor)
    assert {tuple(handler.told) for handler in handlers} <= {("open", "close"), ("fail",)}


# --- addresses ---


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


# --- several addresses ---


@pytest.mark.parametrize("dead_first", [1, 3])
def test_after_a_refused_address_the_next_is_tried_at_once(reactor, events, dead, target, dead_first):
    began = time.monotonic()
    goev.Connector(reactor).connect([dead] * dead_first + [target], Dials(events))
    assert events.next()[0] == "open"
    assert time.monotonic() - began < STAGGER / 2


def test_beside_a_silent_address_the_next_is_tried_after_the_stagger(reactor, events, silent, listener, target):
    began = time.monotonic()
    goev.Connector(reactor).connect([silent, target], Dials(events))
    connection = events.next()[1]
    assert STAGGER <= time.monotonic() - began < STAGGER + 0.1
    assert connection.remote_address == listener.getsockname()


def test_a_silent_address_beside_a_refused_one_is_still_waited_for(reactor, events, silent, dead):
    began = time.monotonic()
    goev.Connector(reactor).connect([silent, dead], Dials(events), timeout=0.6)
    assert type(events.next()[1]) is TimeoutError
    assert 0.6 <= time.monotonic() - began < 0.6 + SLACK


def test_the_first_of_two_good_addresses_is_preferred(reactor, events, listener, target):
    with listening() as second:
        for _ in range(10):
            goev.Connector(reactor).connect([target, text_of(second.getsockname())], Dials(events))
            assert events.next()[1].remote_address == listener.getsockname()


def test_when_all_are_refused_the_last_error_is_told_once(reactor, events, dead):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        last = text_of(other.getsockname())
        goev.Connector(reactor).connect([dead, last], Dials(events))
        error = events.next()[1]
        assert type(error) is ConnectionRefusedError
        assert last in str(error)
        settle(reactor)
        assert events.names == ["fail"]


def test_a_list_may_mix_kinds(reactor, events, dead, tmp_path):
    with listening(socket.AF_UNIX, f"{tmp_path}/socket"):
        addresses = [dead, f"unix:{tmp_path}/missing", f"unix:{tmp_path}/socket"]
        goev.Connector(reactor).connect(addresses, Dials(events))
        assert events.next()[0] == "open"


def test_the_losing_attempts_leave_nothing_behind(reactor, events, silent, target):
    before = settled_fds()
    goev.Connector(reactor).connect([silent, silent, target], Dials(events))
    connection = events.next()[1]
    eventually(lambda: open_fds() == before + 1, "only the winner's descriptor is open")
    connection.abort()
    eventually(lambda: open_fds() == before, "no descriptor is left")


def test_a_host_name_first_in_the_list_is_preferred(reactor, events, listener):
    """The list is in the order of preference, whatever has to be looked up."""
    with listening() as second:
        name = f"localhost:{listener.getsockname()[1]}"
        for _ in range(5):
            goev.Connector(reactor).connect([name, text_of(second.getsockname())], Dials(events))
            assert events.next()[1].remote_address == listener.getsockname()


def test_a_name_that_is_found_does_not_cut_the_turn_of_an_address_short(reactor, events, silent, listener):
    """The next attempt begins 250 ms after the one before, also when its address was found meanwhile."""
    began = time.monotonic()
    goev.Connector(reactor).connect([silent, f"localhost:{listener.getsockname()[1]}"], Dials(events))
    assert events.next()[0] == "open"
    assert STAGGER <= time.monotonic() - began < STAGGER + 0.1


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


# --- the deadline ---


@pytest.mark.parametrize("timeout", [0.05, 0.3, 0.6])
def test_a_silent_address_times_out_on_time(reactor, events, silent, timeout):
    class Times(Dials):
        def on_connect_fail(self, error):
            events("fail", error, time.monotonic())

    began = time.monotonic()
    goev.Connector(reactor).connect(silent, Times(events), timeout=timeout)
    _, error, at = events.next()
    assert timeout <= at - began < timeout + SLACK
    assert type(error) is TimeoutError
    assert error.errno == errno.ETIMEDOUT
    assert silent in str(error)
    assert str(timeout) in str(error)
    settle(reactor)
    assert events.names == ["fail"]


def test_one_deadline_holds_for_all_addresses_together(reactor, events, silent):
    began = time.monotonic()
    goev.Connector(reactor).connect([silent] * 5, Dials(events), timeout=0.6)
    assert type(events.next()[1]) is TimeoutError
    assert 0.6 <= time.monotonic() - began < 0.6 + SLACK


def test_many_deadlines_are_all_kept(reactor, events, silent):
    class Times(Dials):
        def __init__(self, due: float) -> None:
            self.due = due

        def on_connect_fail(self, error):
            events("late", time.monotonic() - self.due)

    connector = goev.Connector(reactor)
    for number in range(60):
        timeout = 0.2 + number * 0.005
        connector.connect(silent, Times(time.monotonic() + timeout), timeout=timeout)
    events.times("late", 60)
    late = [event[1] for event in events.history]
    assert min(late) >= -0.001
    assert max(late) < SLACK


def test_the_deadline_counts_from_the_call_also_when_the_poller_is_busy(reactor, events, silent):
    connector = goev.Connector(reactor)
    with held(reactor):
        began = time.monotonic()
        connector.connect(silent, Dials(events), timeout=0.5)
        time.sleep(0.3)  # the time for which the poller is busy
    assert type(events.next()[1]) is TimeoutError
    assert 0.5 <= time.monotonic() - began < 0.5 + SLACK


def test_the_poller_serves_while_a_connect_waits(start, events, silent):
    server = start(Echo)
    goev.Connector(server.reactor).connect(silent, Dials(events), timeout=0.4)
    client = server.connect()
    while not events.history:
        assert client.ask(b"ping") == b"ping"
    assert type(events.next()[1]) is TimeoutError


# --- names that the resolver takes its time with ---

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

/* Answers names that end in .shim: the other labels are addresses ("127-0-0-1", "six"), or say what to do. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    __typeof__(getaddrinfo) *real = (__typeof__(getaddrinfo) *)dlsym(RTLD_NEXT, "getaddrinfo");
    size_t length = name ? strlen(name) : 0;
    if (length < 5 || length > 250 || strcmp(name + length - 5, ".shim")) return real(name, service, hints, found);
    char labels[256], *rest;
    strcpy(labels, name);
    struct addrinfo **next = found;
    *next = NULL;
    for (char *label = strtok_r(labels, ".", &rest); strcmp(label, "shim"); label = strtok_r(NULL, ".", &rest)) {
        if (!strcmp(label, "hang")) for (;;) pause();
        if (!strcmp(label, "again")) return EAI_AGAIN;
        if (!strcmp(label, "late")) { usleep(200000); continue; }
        for (char *dash = label; (dash = strchr(dash, '-')); ) *dash = '.';
        int error = real(strcmp(label, "six") ? label : "::1", service, hints, next);
        if (error) return error;
        while (*next) next = &(*next)->ai_next;
    }
    return 0;
}
"""

DIALS = """
    import errno, os, queue, socket, sys, threading, time, warnings
    import goev

    warnings.simplefilter("ignore", ResourceWarning)  # listeners stay open until the end of the program

    told = queue.SimpleQueue()

    class Dials(goev.Connection):
        def __init__(self, due=0.0):
            self.due = due
        def on_open(self):
            told.put(("open", self.remote_address[0], time.monotonic() - self.due))
        def on_connect_fail(self, error):
            told.put(("fail", error, time.monotonic() - self.due))

    class Echo(goev.Connection):
        def on_read(self):
            self.write(self.read())

    def next():
        return told.get(timeout=10)

    def listening(host="127.0.0.1", port=0):
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        return listener, listener.getsockname()[1]
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> str:
    """The resolver as a library that is loaded before the system's."""
    folder = tmp_path_factory.mktemp("shim")
    source, library = folder / "shim.c", folder / "shim.so"
    source.write_text(SHIM)
    command = ["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, timeout=20)
    return str(library)


@pytest.fixture
def shimmed(shim, monkeypatch):
    """``shimmed(program)`` runs it with that resolver; it must end by itself and with nothing on stderr."""
    monkeypatch.setenv("LD_PRELOAD", shim)
    return lambda program: run_script(DIALS + program)


def test_a_hanging_resolver_keeps_neither_the_deadline_nor_the_poller(shimmed):
    shimmed("""
    with goev.Reactor(pollers=1) as reactor:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
        reactor.start()
        goev.Connector(reactor, linger_timeout=0).connect("hang.shim:80", Dials(time.monotonic() + 0.4), timeout=0.4)
        with socket.create_connection(acceptor.address, 5) as client:
            rounds = 0
            while told.empty():
                began = time.monotonic()
                client.sendall(b"ping")
                assert client.recv(4) == b"ping"
                assert time.monotonic() - began < 0.2
                rounds += 1
        name, error, late = next()
        assert (name, type(error), error.errno) == ("fail", TimeoutError, errno.ETIMEDOUT), error
        assert "hang.shim:80" in str(error), error
        assert 0 <= late < 0.05, late
        assert rounds > 20, rounds
    """)


def test_more_hanging_names_than_resolver_threads_all_time_out_and_addresses_still_connect(shimmed):
    shimmed("""
    listener, port = listening()
    with goev.Reactor(pollers=2) as reactor:
        reactor.start()
        connector = goev.Connector(reactor, linger_timeout=0)
        for _ in range(30):
            connector.connect("hang.shim:80", Dials(time.monotonic() + 0.3), timeout=0.3)
        connector.connect(f"127.0.0.1:{port}", Dials(time.monotonic()))
        answers = [next() for _ in range(31)]
        assert answers[0][:2] == ("open", "127.0.0.1"), answers[0]
        for name, error, late in answers[1:]:
            assert (name, type(error)) == ("fail", TimeoutError), error
            assert 0 <= late < 0.05, late
        assert len([t for t in os.listdir("/proc/self/task")
                    if open(f"/proc/self/task/{t}/comm").read().startswith("goev-resolver")]) <= 8
    """)


def test_more_slow_names_than_resolver_threads_are_all_found(shimmed):
    shimmed("""
    listener, port = listening()
    with goev.Reactor(pollers=2) as reactor:
        reactor.start()
        connector = goev.Connector(reactor, linger_timeout=0)
        began = time.monotonic()
        for _ in range(20):
            connector.connect(f"late.127-0-0-1.shim:{port}", Dials())
        assert {next()[:2] for _ in range(20)} == {("open", "127.0.0.1")}
        assert time.monotonic() - began < 1.5  # three rounds of eight, 0.2 s each
    """)


def test_a_stop_does_not_wait_for_the_resolver_and_neither_does_the_end_of_the_process(shimmed):
    shimmed("""
    reactor = goev.Reactor(pollers=1)
    reactor.start()
    goev.Connector(reactor, linger_timeout=0).connect("hang.shim:80", Dials())
    began = time.monotonic()
    reactor.stop()
    reactor.join(5)
    assert time.monotonic() - began < 1.0
    name, error, _ = next()
    assert (name, type(error)) == ("fail", ConnectionAbortedError), error
    """)


def test_an_answer_that_comes_after_the_deadline_disturbs_nobody(shimmed):
    shimmed("""
    listener, port = listening()
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        connector = goev.Connector(reactor, linger_timeout=0)
        for _ in range(8):
            connector.connect(f"late.127-0-0-1.shim:{port}", Dials(), timeout=0.05)
        assert {type(next()[1]) for _ in range(8)} == {TimeoutError}
        for _ in range(8):  # they get the places of those that have failed
            connector.connect(f"late.127-0-0-1.shim:{port}", Dials())
        assert {next()[0] for _ in range(8)} == {"open"}
        time.sleep(0.3)  # the time in which the late answers come
        assert told.empty()
        assert sum(poller["open"] for poller in reactor.stats()) == 8
    """)


def test_an_answer_that_comes_after_the_reactor_has_ended_disturbs_nobody(shimmed):
    shimmed("""
    reactor = goev.Reactor(pollers=1)
    reactor.start()
    goev.Connector(reactor, linger_timeout=0).connect("late.127-0-0-1.shim:80", Dials())
    reactor.stop()
    reactor.join(5)
    assert type(next()[1]) is ConnectionAbortedError
    del reactor
    time.sleep(0.4)  # the time in which the late answer comes
    assert told.empty()
    """)


def test_all_addresses_of_a_name_are_tried(shimmed):
    shimmed("""
    listener, port = listening("127.0.0.4")
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        connector = goev.Connector(reactor, linger_timeout=0)
        connector.connect(f"127-0-0-2.127-0-0-3.127-0-0-4.shim:{port}", Dials(time.monotonic()))
        name, address, taken = next()
        assert (name, address) == ("open", "127.0.0.4"), address
        assert taken < 0.125, taken
        connector.connect(f"127-0-0-2.127-0-0-3.shim:{port}", Dials())
        name, error, _ = next()
        assert (name, type(error)) == ("fail", ConnectionRefusedError), error
        assert f"127.0.0.3:{port}" in str(error), error
    """)


def test_the_families_of_a_name_alternate(shimmed):
    need_ipv6()
    shimmed("""
    class Silent:
        def __init__(self, host, port=0):
            self.listener = socket.socket()
            self.listener.bind((host, port))
            self.listener.listen(0)
            self.fillers = []
            for _ in range(10):
                filler = socket.socket()
                self.fillers.append(filler)
                filler.settimeout(0.2)
                try:
                    filler.connect(self.listener.getsockname())
                except TimeoutError:
                    break
    first = Silent("127.0.0.2")
    port = first.listener.getsockname()[1]
    second = Silent("127.0.0.3", port)
    listener, _ = listening("::1", port)
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        # Two silent ones first in the answer: IPv6 is second in the order, after 250 ms.
        connector = goev.Connector(reactor, linger_timeout=0)
        connector.connect(f"127-0-0-2.127-0-0-3.six.shim:{port}", Dials(time.monotonic()))
        name, address, taken = next()
        assert (name, address) == ("open", "::1"), (name, address)
        assert 0.25 <= taken < 0.35, taken
    """)


def test_a_temporary_failure_of_the_resolver_keeps_its_code(shimmed):
    shimmed("""
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        goev.Connector(reactor, linger_timeout=0).connect("again.shim:80", Dials())
        name, error, _ = next()
        assert (name, type(error), error.errno) == ("fail", socket.gaierror, socket.EAI_AGAIN), error
    """)


def test_a_hanging_name_does_not_keep_the_next_of_the_list_from_being_tried(shimmed):
    shimmed("""
    listener, port = listening()
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        connector = goev.Connector(reactor, linger_timeout=0)
        connector.connect(["hang.shim:80", f"127.0.0.1:{port}"], Dials(time.monotonic()))
        name, address, taken = next()
        assert (name, address) == ("open", "127.0.0.1"), address
        assert taken < 0.5, taken
    """)


# --- from where, and on which poller ---


class Placed(Dials):
    """Reports the thread of each callback."""

    def on_open(self):
        self.events("open", get_ident())

    def on_connect_fail(self, error):
        self.events("fail", get_ident())


def test_connections_from_elsewhere_are_dealt_round_robin(stack, events, target, dead):
    for address, name in ((target, "open"), (dead, "fail")):
        seen = Events()
        with goev.Reactor(pollers=3) as reactor:
            reactor.start()
            connector = goev.Connector(reactor)
            for _ in range(9):
                connector.connect(address, Placed(seen))
            seen.times(name, 9)
        threads = [event[1] for event in seen.of(name)]
        assert sorted(Counter(threads).values()) == [3, 3, 3]
        assert get_ident() not in threads


def test_inside_a_callback_the_connection_is_made_on_the_same_poller(start, events, target, dead):
    made = Events()

    class Relay(goev.Connection):
        def on_open(self):
            events("here", get_ident())
            for address in (target, dead):
                connector.connect(address, Placed(made))

    server = start(Relay, pollers=3)
    connector = goev.Connector(server.reactor)
    for _ in range(6):
        made.history.clear()
        made._taken = 0
        server.connect()
        here = events.next()[1]
        assert {made.next(), made.next()} == {("open", here), ("fail", here)}
    assert len({event[1] for event in events.history}) == 3


def test_inside_a_callback_of_another_reactor_they_are_dealt_too(reactor, events, target):
    with goev.Reactor(pollers=2) as other:
        other.start()
        connector = goev.Connector(other)
        on_poller(reactor, lambda: [connector.connect(target, Placed(events)) for _ in range(4)])
        events.times("open", 4)
        counts = Counter(event[1] for event in events.history)
        assert sorted(counts.values()) == [2, 2]
        assert on_poller(reactor, get_ident) not in counts


def test_the_short_form_uses_poller_0_outside_of_callbacks(events, target):
    with goev.Reactor(pollers=3) as reactor:
        reactor.start()
        for _ in range(4):
            goev.connect(reactor, target, Placed(events))
        events.times("open", 4)
        assert {event[1] for event in events.history} == {on_poller(reactor, get_ident)}


def test_connect_before_the_start_waits_for_it(events, target, dead):
    with goev.Reactor(pollers=2) as reactor:
        connector = goev.Connector(reactor)
        connector.connect(target, Dials(events))
        connector.connect(dead, Dials(events))
        assert events.history == []
        reactor.start()
        assert {events.next()[0], events.next()[0]} == {"open", "fail"}


def test_connect_before_run_works(events, target):
    class Stops(Dials):
        def on_open(self):
            super().on_open()
            reactor.stop()

    reactor = goev.Reactor(pollers=1)
    goev.connect(reactor, target, Stops(events))
    reactor.run()
    assert events.names == ["open", "close"]


def test_connect_from_many_threads_at_once(start, events):
    server = start(Echo, pollers=2, backlog=4096)
    connector = goev.Connector(server.reactor)
    address = text_of(server.address)

    def connect_many() -> None:
        for _ in range(50):
            connector.connect(address, Dials(events))

    for future in [in_thread(connect_many) for _ in range(6)]:
        future.result(PATIENCE)
    events.times("open", 300)
    assert sum(poller["connected"] for poller in server.reactor.stats()) == 300


def test_a_connector_in_a_timer_callback(reactor, events, target):
    connector = goev.Connector(reactor)
    reactor.schedule(0.001, lambda: connector.connect(target, Dials(events)))
    assert events.next()[0] == "open"


# --- one handler, one connection ---


def is_used(call, *args) -> None:
    with pytest.raises(ValueError, match=r"handler object serves one connection.*used"):
        call(*args)


def test_a_handler_that_is_connecting_cannot_be_connected_again(reactor, events, silent, target):
    connector, handler = goev.Connector(reactor), Dials(events)
    connector.connect(silent, handler, timeout=0.3)
    is_used(connector.connect, target, handler)
    is_used(goev.connect, reactor, target, handler)
    assert type(events.next()[1]) is TimeoutError


@pytest.mark.parametrize("ended", [False, True])
def test_a_handler_that_was_connected_cannot_be_connected_again(reactor, events, target, ended):
    connector, handler = goev.Connector(reactor), Dials(events)
    connector.connect(target, handler)
    events.until("open")
    if ended:
        handler.close()
        events.until("close")
    is_used(connector.connect, target, handler)


def test_a_handler_that_was_accepted_cannot_be_connected(start, events, target):
    server = start(lambda: Recorder(events))
    server.connect()
    is_used(goev.Connector(server.reactor).connect, target, events.until("open")[1])


def test_a_handler_that_is_connecting_cannot_be_accepted_with(start, events, log, silent):
    handler = Dials(events)
    server = start(lambda: handler)
    goev.Connector(server.reactor).connect(silent, handler, timeout=0.5)
    assert server.connect().receive_all() == b""
    assert "one connection" in log.next()[1]
    assert type(events.next()[1]) is TimeoutError
    assert events.names == ["fail"]


def test_a_handler_that_is_connecting_cannot_be_handed_over_to(start, events, silent):
    server = start(lambda: Recorder(events))
    client = server.connect()
    connection, handler = events.until("open")[1], Dials(events)
    goev.Connector(server.reactor).connect(silent, handler, timeout=0.5)
    is_used(on_poller, connection, connection.hand_over, handler)
    client.send(b"still mine")
    assert events.until("read") == ("read", b"still mine")
    assert type(events.until("fail")[1]) is TimeoutError


def test_a_failed_handler_may_be_connected_again(reactor, events, target, dead):
    connector, handler = goev.Connector(reactor), Dials(events)
    for _ in range(3):
        connector.connect(dead, handler)
        assert events.next()[0] == "fail"
    connector.connect(target, handler)
    assert events.next() == ("open", handler)


def test_a_handler_may_be_connected_again_inside_on_connect_fail(reactor, events, target, dead):
    class Retries(Dials):
        addresses = iter([dead, "unix:/nonexistent", dead, target])

        def on_connect_fail(self, error):
            events("fail", error)
            connector.connect(next(self.addresses), self)

    connector, handler = goev.Connector(reactor), Retries(events)
    connector.connect(dead, handler)
    events.until("open")
    assert events.names == ["fail"] * 4 + ["open"]
    handler.write(b"works")
    handler.close()
    assert events.until("close") == ("close", None)


def test_a_failed_handler_may_be_accepted_with(start, events, dead):
    handler = Dials(events)
    server = start(lambda: handler)
    goev.Connector(server.reactor).connect(dead, handler)
    events.until("fail")
    server.connect().send(b"x")
    assert events.until("read") == ("read", b"x")


def test_before_it_is_open_a_handler_is_closed(reactor, events, silent):
    handler = Dials(events)
    goev.Connector(reactor).connect(silent, handler, timeout=0.2)
    for call in (lambda: handler.write(b"x"), handler.close, handler.abort, lambda: handler.call_soon(print)):
        with pytest.raises(goev.ConnectionClosed, match="not open yet"):
            call()
    assert type(events.next()[1]) is TimeoutError
    with pytest.raises(goev.ConnectionClosed):
        handler.write(b"x")


# --- stop ---


def test_a_stop_while_connecting_is_a_connection_aborted_error(events, silent):
    with goev.Reactor(pollers=2) as reactor:
        reactor.start()
        connector = goev.Connector(reactor)
        for _ in range(4):
            connector.connect(silent, Dials(events))
        settle(reactor)
        began = time.monotonic()
        reactor.stop()
        reactor.join(5)
    assert time.monotonic() - began < 1.0
    assert events.names == ["fail"] * 4
    for _, error in events.history:
        assert type(error) is ConnectionAbortedError
        assert error.errno == errno.ECONNABORTED
        assert "stop" in str(error)
        assert silent in str(error)


def test_connects_that_race_with_a_stop_are_answered_or_refused():
    class Counts(Dials):
        def on_open(self):
            self.events("open")
            return False

        def on_connect_fail(self, error):
            super().on_connect_fail(error)
            room.release()

        def on_close(self, error):
            super().on_close(error)
            room.release()

    def connect_until_refused(connector, target, events) -> int:
        for count in itertools.count():
            assert room.acquire(timeout=PATIENCE)
            try:
                connector.connect(target, Counts(events))
            except RuntimeError:
                return count
        raise AssertionError

    for _ in range(10):
        events, room = Events(), Semaphore(60)
        with listening() as listener, goev.Reactor(pollers=2) as reactor:
            reactor.start()
            arguments = (goev.Connector(reactor), text_of(listener.getsockname()), events)
            threads = [in_thread(connect_until_refused, *arguments) for _ in range(2)]
            events.times("open", 20)
            reactor.stop(grace=0.1)
            reactor.join(5)
            for _ in threads:
                room.release()
            taken = sum(thread.result(PATIENCE) for thread in threads)
        names = Counter(events.names)
        assert names["open"] + names["fail"] == taken
        assert names["close"] == names["open"]


def test_connecting_on_a_stopped_reactor_is_refused_and_the_handler_stays_free(reactor, events, target):
    handler = Dials(events)
    with goev.Reactor(pollers=1) as stopped:
        stopped.start()
        connector = goev.Connector(stopped)
        stopped.stop()
        stopped.join(5)
        for call in (connector.connect, lambda *args: goev.connect(stopped, *args)):
            with pytest.raises(RuntimeError, match="stopped"):
                call(target, handler)
        with pytest.raises(RuntimeError, match="stopped"):
            goev.Connector(stopped)
    goev.Connector(reactor).connect(target, handler)
    assert events.next() == ("open", handler)


def test_connecting_while_the_reactor_stops_is_refused(events, silent, target):
    class Retries(Dials):
        def on_connect_fail(self, error):
            events("fail", error)
            with pytest.raises(RuntimeError, match="stop"):
                connector.connect(target, self)
            events("refused")

    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        connector = goev.Connector(reactor)
        connector.connect(silent, Retries(events))
        settle(reactor)
        reactor.stop()
        reactor.join(5)
    assert events.names == ["fail", "refused"]


def test_a_handler_is_told_or_free_again_when_the_reactor_was_stopped_before_it_ran(reactor, events, target):
    handler = Dials(events)
    with goev.Reactor(pollers=1) as unused:
        goev.Connector(unused).connect(target, handler)
        unused.stop()
        unused.run()
    if events.names != ["fail"]:
        assert events.names == []
        goev.Connector(reactor).connect(target, handler)
        assert events.next() == ("open", handler)


def test_open_outgoing_connections_are_flushed_and_closed_by_a_stop(events, listener, target, stack):
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        goev.Connector(reactor).connect(target, Dials(events))
        connection = events.until("open")[1]
        peer = accept(listener, stack)
        connection.write(b"last words" * 1000)
        reactor.stop()
        data = b"".join(iter(lambda: peer.recv(65536), b""))
        peer.close()
        reactor.join(5)
    assert data == b"last words" * 1000
    assert events.until("close") == ("close", None)


# --- what on_connect_fail raises ---


def test_a_failure_without_an_own_on_connect_fail_is_logged(reactor, log, dead):
    goev.Connector(reactor).connect(dead, Echo())
    record, text = log.next()
    assert record.levelname == "ERROR"
    assert "Echo" in text
    assert "on_connect_fail" in text
    assert f"cannot connect to {dead}" in text
    assert "ConnectionRefusedError" in text


def test_an_on_connect_fail_that_raises_is_logged_and_the_reactor_lives(reactor, log, events, dead, target):
    class Raises(Dials):
        def on_connect_fail(self, error):
            raise LookupError("from on_connect_fail")

    connector, handler = goev.Connector(reactor), Raises(events)
    connector.connect(dead, handler)
    text = log.next()[1]
    assert "on_connect_fail of Raises" in text
    assert "LookupError: from on_connect_fail" in text
    connector.connect(target, handler)
    assert events.next() == ("open", handler)
    assert len(log.texts()) == 1


def test_an_on_connect_fail_that_returns_something_is_logged(reactor, log, dead):
    class Returns(goev.Connection):
        def on_connect_fail(self, error):
            return False

    goev.Connector(reactor).connect(dead, Returns())
    assert "TypeError: on_connect_fail must return None" in log.next()[1]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_stops_the_reactor_and_comes_out_of_run(events, dead, kind):
    class Raises(Dials):
        def on_connect_fail(self, error):
            raise kind

    reactor = goev.Reactor(pollers=1)
    goev.connect(reactor, dead, Raises(events))
    with pytest.raises(kind):
        reactor.run()


def test_an_async_on_connect_fail_is_refused_when_the_class_is_used():
    class Wrong(goev.Connection):
        async def on_connect_fail(self, error):
            pass

    with pytest.raises(TypeError, match="on_connect_fail"):
        Wrong()


def test_ctrl_c_ends_a_run_that_is_connecting(stack):
    child = stack.enter_context(
        Child.running("""
        import socket
        import goev

        class Dials(goev.Connection):
            def on_connect_fail(self, error):
                print(type(error).__name__)

        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        fillers = []
        for _ in range(10):
            filler = socket.socket()
            fillers.append(filler)
            filler.settimeout(0.2)
            try:
                filler.connect(listener.getsockname())
            except TimeoutError:
                break
        reactor = goev.Reactor(pollers=1)
        goev.connect(reactor, "127.0.0.1:%d" % listener.getsockname()[1], Dials(), timeout=60.0)
        reactor.call_soon(print, "running")
        try:
            reactor.run(signals=False)
        except KeyboardInterrupt:
            print("interrupted")
        """)
    )
    assert child.line() == "running"
    child.interrupt()
    assert child.line() == "ConnectionAbortedError"
    assert child.line() == "interrupted"
    assert child.end() == 0


def test_ctrl_c_ends_a_run_whose_handlers_connect_again_at_once(stack):
    child = stack.enter_context(
        Child.running("""
        import socket
        import goev

        class Retries(goev.Connection):
            def on_connect_fail(self, error):
                connector.connect(f"127.0.0.1:{port}", self)

        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        reactor = goev.Reactor(pollers=1)
        connector = goev.Connector(reactor)
        connector.connect(f"127.0.0.1:{port}", Retries())
        reactor.schedule(0.1, lambda: print("running"))
        try:
            reactor.run(signals=False)
        except KeyboardInterrupt:
            print("interrupted")
        """)
    )
    assert child.line() == "running"
    child.interrupt()
    assert child.line(3.0) == "interrupted"
    child.end()


# --- bad input ---


@pytest.fixture
def idle():
    """A reactor that was not started."""
    reactor = goev.Reactor(pollers=1)
    yield reactor
    reactor.stop(grace=0)


def words_are_in(raised, *words: str) -> None:
    for word in words:
        assert word in str(raised.value), f"{word!r} is not in {str(raised.value)!r}"


BAD_ADDRESSES = [
    "127.0.0.1",
    "localhost",
    "8080",
    "",
    ":",
    "127.0.0.1:",
    "127.0.0.1:0",
    "localhost:0",
    "[::1]:0",
    "127.0.0.1:70000",
    "localhost:70000",
    "127.0.0.1:-1",
    "localhost:http",
    "127.0.0.1: 80",
    "127.0.0.1:80 ",
    ":80",
    "0.0.0.0:80",
    "[::]:80",
    "::1:80",
    "[::1]",
    "[::1:80",
    "[127.0.0.1]:80",
    "256.0.0.1:80",
    "127.1:80",
    "a..b:80",
    "a b:80",
    "http://localhost:80",
    "x" * 64 + ".example:80",
    "unix:",
    "unix:@",
    "unix:" + "x" * 200,
    "unix:/tmp/nul\0byte",
    "nul\0byte:80",
]


@pytest.mark.parametrize("wrap", [str, lambda address: ["127.0.0.1:80", address]], ids=["alone", "in a list"])
@pytest.mark.parametrize("address", BAD_ADDRESSES, ids=repr)
def test_an_address_nobody_can_connect_to_is_a_value_error(idle, address, wrap):
    with pytest.raises(ValueError, match="address") as raised:
        goev.Connector(idle).connect(wrap(address), Echo())
    shown = address if address.isprintable() and len(address) < 100 else address[:3]
    words_are_in(raised, shown)


@pytest.mark.parametrize("address", [None, 80, b"127.0.0.1:80", ("127.0.0.1", 80), [80], [["127.0.0.1:80"]]], ids=repr)
def test_an_address_that_is_no_text_is_a_type_error(idle, address):
    with pytest.raises(TypeError, match="address"):
        goev.Connector(idle).connect(address, Echo())


def test_an_empty_list_of_addresses_is_a_value_error(idle):
    with pytest.raises(ValueError, match="address must not be an empty list"):
        goev.Connector(idle).connect([], Echo())


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -0.001, float("nan"), float("inf"), 1e18], ids=repr)
def test_a_timeout_out_of_range_is_a_value_error(idle, timeout):
    with pytest.raises(ValueError, match="timeout") as raised:
        goev.Connector(idle).connect("127.0.0.1:80", Echo(), timeout=timeout)
    value = str(raised.value).rpartition("not ")[2].lower()
    assert float(value) == timeout or (timeout != timeout and value == "nan")


@pytest.mark.parametrize("timeout", [None, "1", [1]], ids=repr)
def test_a_timeout_that_is_no_number_is_a_type_error(idle, timeout):
    with pytest.raises(TypeError, match="timeout"):
        goev.Connector(idle).connect("127.0.0.1:80", Echo(), timeout=timeout)


@pytest.mark.parametrize("handler", [None, Echo, object(), goev.EventHandler(), lambda: Echo()])
def test_a_handler_that_is_no_connection_is_a_type_error(idle, handler):
    with pytest.raises(TypeError, match="handler"):
        goev.Connector(idle).connect("127.0.0.1:80", handler)


def test_more_than_two_arguments_are_keyword_only(idle):
    with pytest.raises(TypeError):
        goev.Connector(idle).connect("127.0.0.1:80", Echo(), 1.0)
    with pytest.raises(TypeError):
        goev.Connector(idle, "127.0.0.1:0")


def test_a_handler_is_not_used_up_by_a_refused_call(reactor, events, target):
    connector, handler = goev.Connector(reactor), Dials(events)
    for address, timeout in ((":80", 1.0), ([], 1.0), (80, 1.0), (target, 0.0)):
        with pytest.raises((ValueError, TypeError)):
            connector.connect(address, handler, timeout=timeout)
    connector.connect(target, handler)
    assert events.next() == ("open", handler)


@pytest.mark.parametrize("reactor", [None, goev.Reactor, 5], ids=repr)
def test_a_reactor_that_is_none_is_a_type_error(reactor):
    with pytest.raises(TypeError, match="reactor"):
        goev.Connector(reactor)


OUT_OF_RANGE = [
    ("receive_buffer_size", -1),
    ("receive_buffer_size", 0),
    ("receive_buffer_size", 2**31),
    ("receive_buffer_size", 2**80),
    ("send_buffer_size", -1),
    ("send_buffer_size", 0),
    ("send_buffer_size", 2**31),
    ("max_input", 0),
    ("max_input", -1),
    ("max_input", 2**40),
    ("high_water", -1),
    ("high_water", 2**40),
    ("low_water", -1),
    ("low_water", 65537),
    ("max_output", 0),
    ("max_output", -5),
    ("linger_timeout", -1.0),
    ("linger_timeout", float("nan")),
    ("linger_timeout", float("inf")),
    ("device", ""),
    ("device", "x" * 16),
    ("device", "a\0b"),
    ("keepalive", (0.0, 1.0, 1)),
    ("keepalive", (1.0, 0.0, 1)),
    ("keepalive", (-1.0, 1.0, 1)),
    ("keepalive", (1.0, -1.0, 1)),
    ("keepalive", (float("nan"), 1.0, 1)),
    ("keepalive", (1.0, float("inf"), 1)),
    ("keepalive", (1.0, 1.0, 0)),
    ("keepalive", (1.0, 1.0, -1)),
    ("keepalive", (1.0, 1.0, 128)),
    ("keepalive", (32768.0, 1.0, 1)),  # MAX_TCP_KEEPIDLE of the kernel is 32,767
    ("keepalive", (1.0, 32768.0, 1)),
]


def connector_with(reactor, **options):
    return goev.Connector(reactor, **options)


def acceptor_with(reactor, **options):
    return goev.Acceptor(reactor, "127.0.0.1:0", Echo, **options)


@pytest.mark.parametrize("make", [connector_with, acceptor_with])
@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE, ids=lambda value: repr(value)[:30])
def test_an_option_out_of_range_is_a_value_error_that_names_it(idle, make, name, value):
    with pytest.raises(ValueError, match=name):
        make(idle, **{name: value})


MALFORMED = [
    ("keepalive", 30.0),
    ("keepalive", "abc"),
    ("keepalive", (30.0,)),
    ("keepalive", (30.0, 5.0)),
    ("keepalive", (30.0, 5.0, 3, 1)),
    ("keepalive", ("30", 5.0, 3)),
    ("keepalive", (30.0, None, 3)),
    ("keepalive", (30.0, 5.0, 2.5)),
    ("keepalive", (30.0, 5.0, 2**80)),
    ("device", 5),
    ("device", b"lo"),
    ("receive_buffer_size", 1.5),
    ("send_buffer_size", "1"),
    ("max_input", None),
    ("high_water", 1.5),
    ("linger_timeout", "1"),
    ("nodelay", "yes"),
]


@pytest.mark.parametrize("make", [connector_with, acceptor_with])
@pytest.mark.parametrize(("name", "value"), MALFORMED, ids=lambda value: repr(value)[:30])
def test_an_option_of_a_wrong_form_is_an_error_that_names_it(idle, make, name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        make(idle, **{name: value})


def test_an_unknown_option_is_a_type_error(idle):
    for call in (connector_with, lambda reactor, **options: goev.connect(reactor, "127.0.0.1:80", Echo(), **options)):
        with pytest.raises(TypeError, match="reuse_port"):
            call(idle, reuse_port=True)


@pytest.mark.parametrize("local", ["127.0.0.1", "127.0.0.1:70000", "localhost:0", "", "unix:/tmp/socket", "unix:@name"])
def test_a_local_address_of_another_form_is_a_value_error_that_names_it(idle, local):
    with pytest.raises(ValueError, match="local_address") as raised:
        goev.Connector(idle, local_address=local)
    words_are_in(raised, local)


@pytest.mark.parametrize("local", [5, ("127.0.0.1", 0), b"127.0.0.1:0", ["127.0.0.1:0"]], ids=repr)
def test_a_local_address_that_is_no_text_is_a_type_error(idle, local):
    with pytest.raises(TypeError, match="local_address"):
        goev.Connector(idle, local_address=local)


# --- options ---


def option(connection: goev.Connection, level: int, name: int, *size: int):
    with socket.socket(fileno=os.dup(connection.fileno())) as copy:
        return copy.getsockopt(level, name, *size)


def options(connection: goev.Connection) -> dict[str, int]:
    tcp, base = socket.IPPROTO_TCP, socket.SOL_SOCKET
    wanted = {
        "nodelay": (tcp, socket.TCP_NODELAY),
        "keepalive": (base, socket.SO_KEEPALIVE),
        "idle": (tcp, socket.TCP_KEEPIDLE),
        "interval": (tcp, socket.TCP_KEEPINTVL),
        "count": (tcp, socket.TCP_KEEPCNT),
        "receive": (base, socket.SO_RCVBUF),
        "send": (base, socket.SO_SNDBUF),
    }
    return {name: option(connection, *pair) for name, pair in wanted.items()}


def opened(reactor, events, target, **wanted) -> goev.Connection:
    goev.Connector(reactor, **wanted).connect(target, Dials(events))
    return events.until("open")[1]


def test_options_of_a_connector_are_set(reactor, events, target):
    connection = opened(
        reactor,
        events,
        target,
        nodelay=False,
        keepalive=(30.0, 5, 4),
        receive_buffer_size=20_000,
        send_buffer_size=30_000,
    )
    assert on_poller(connection, options, connection) == {
        "nodelay": 0,
        "keepalive": 1,
        "idle": 30,
        "interval": 5,
        "count": 4,
        "receive": 40_000,  # Linux doubles them for its own bookkeeping
        "send": 60_000,
    }


def test_without_options_nodelay_is_on_and_a_peer_that_is_gone_is_noticed_after_two_minutes(reactor, events, target):
    connection = opened(reactor, events, target)
    found = on_poller(connection, options, connection)
    assert bool(found["nodelay"])
    assert bool(found["keepalive"])
    assert found["idle"] + found["interval"] * found["count"] == 120


def test_parts_of_a_second_are_rounded_up(reactor, events, target):
    connection = opened(reactor, events, target, keepalive=(0.2, 1.5, 127))
    found = on_poller(connection, options, connection)
    assert (found["idle"], found["interval"], found["count"]) == (1, 2, 127)


def test_the_largest_keepalive_is_taken(reactor, events, target):
    connection = opened(reactor, events, target, keepalive=(32767, 32767, 127))
    found = on_poller(connection, options, connection)
    assert (found["idle"], found["interval"]) == (32767, 32767)


def test_keepalive_of_an_acceptor_is_set_on_what_it_accepts(start, events):
    class Looks(goev.Connection):
        def on_open(self):
            found = options(self)
            events("keepalive", found["keepalive"], found["idle"], found["interval"], found["count"])

    start(Looks, keepalive=(60.0, 10.0, 3)).connect()
    assert events.next() == ("keepalive", 1, 60, 10, 3)


def test_tcp_options_are_left_out_for_unix_sockets(reactor, events, tmp_path):
    with listening(socket.AF_UNIX, f"{tmp_path}/socket") as listener:
        connection = opened(
            reactor,
            events,
            text_of(listener.getsockname()),
            keepalive=(60.0, 10.0, 3),
            device="lo",
            local_address="127.0.0.1:0",
            send_buffer_size=30_000,
        )
        assert on_poller(connection, option, connection, socket.SOL_SOCKET, socket.SO_SNDBUF) == 60_000


def test_device_binds_to_an_interface(start, events, reactor):
    class Looks(Recorder):
        def on_open(self):
            super().on_open()
            events("device", option(self, socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16))

    server = start(Echo, device="lo")
    goev.Connector(reactor, device="lo").connect(text_of(server.address), Looks(events))
    connection = events.until("open")[1]
    assert events.until("device")[1].rstrip(b"\0") == b"lo"
    connection.write(b"x")
    assert events.until("read") == ("read", b"x")


def test_a_device_that_does_not_exist_is_an_error_with_errno(reactor, events, target):
    with pytest.raises(OSError, match="No such device") as raised:
        goev.Acceptor(reactor, "127.0.0.1:0", Echo, device="nosuch0")
    assert raised.value.errno == errno.ENODEV
    goev.Connector(reactor, device="nosuch0").connect(target, Dials(events))
    assert events.next()[1].errno == errno.ENODEV


def test_the_local_address_is_bound(reactor, events, listener, target, stack):
    goev.Connector(reactor, local_address="127.0.0.2:0").connect(target, Dials(events))
    events.until("open")
    assert accept(listener, stack).getpeername()[0] == "127.0.0.2"


def test_a_local_port_is_bound_and_can_be_used_again_at_once(reactor, events, start):
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        port = probe.getsockname()[1]
    server = start(Echo)
    connector = goev.Connector(reactor, local_address=f"127.0.0.2:{port}")
    for number in range(3):  # each leaves the port in TIME_WAIT; another target is another connection
        other = goev.Acceptor(server.reactor, "127.0.0.1:0", Echo)
        connector.connect(text_of(other.address), Dials(events))
        connection = events.until("open")[1]
        assert on_poller(connection, lambda connection=connection: connection.local_address) == ("127.0.0.2", port)
        connection.close()
        events.times("close", number + 1)


def test_a_local_address_of_another_machine_fails_with_errno(reactor, events, target):
    goev.Connector(reactor, local_address="192.0.2.1:0").connect(target, Dials(events))
    error = events.next()[1]
    assert error.errno == errno.EADDRNOTAVAIL
    assert target in str(error)


def test_a_local_address_of_the_other_family_fails_for_that_address_only(reactor, events, target):
    need_ipv6()
    with listening(socket.AF_INET6, ("::1", 0)) as six:
        connector = goev.Connector(reactor, local_address="127.0.0.1:0")
        connector.connect(text_of(six.getsockname()), Dials(events))
        assert isinstance(events.next()[1], OSError)
        connector.connect([text_of(six.getsockname()), target], Dials(events))
        assert events.next()[0] == "open"


def test_limits_of_a_connector_hold_for_its_connections(reactor, events, listener, target, stack):
    class Greedy(Dials):
        def on_read(self):
            pass  # consumes nothing

    connector = goev.Connector(reactor, max_input=1000, max_output=1000, high_water=500, low_water=100)
    connector.connect(target, Greedy(events))
    accept(listener, stack).sendall(b"x" * 5000)
    assert type(events.until("close")[1]) is goev.InputOverflow
    connector.connect(target, Dials(events))
    connection = events.until("open")[1]
    accept(listener, stack)

    def write_too_much() -> None:
        with suppress(goev.ConnectionClosed):
            for _ in range(100):
                connection.write(b"x" * 1_000_000)

    on_poller(connection, write_too_much)
    assert type(events.until("close")[1]) is goev.OutputOverflow


# --- they are connections like any other ---


def test_an_outgoing_connection_lives_in_order(start, events):
    class Lives(Dials):
        def on_open(self):
            self.write(b"hello")
            events("open", get_ident())

        def on_read(self):
            events("read", self.read(), get_ident())
            self.schedule(0.001)

        def on_timeout(self):
            events("timeout", get_ident())
            self.call_soon(lambda: events("soon", get_ident()))
            self.call_soon(self.close)

        def on_close(self, error):
            events("close", error, get_ident())

    server = start(Echo, pollers=2)
    goev.Connector(server.reactor).connect(text_of(server.address), Lives(events))
    events.until("close")
    settle(server.reactor)
    assert events.names == ["open", "read", "timeout", "soon", "close"]
    assert events.of("read")[0][1] == b"hello"
    assert events.of("close")[0][1] is None
    assert len({event[-1] for event in events.history}) == 1


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_what_the_peer_sent_before_on_open_is_delivered_after_it(reactor, events, listener, target, stack, size):
    data = os.urandom(size)
    connector = goev.Connector(reactor)
    with held(reactor):
        connector.connect(target, Dials(events))
    peer = accept(listener, stack)
    peer.sendall(data)
    peer.close()
    assert events.until("close") == ("close", None)
    assert events.names[0] == "open"
    assert b"".join(event[1] for event in events.of("read")) == data


def test_a_peer_that_closes_at_once_is_an_open_and_a_close(start, events):
    class Refuses(goev.Connection):
        def on_open(self):
            return False

    server = start(Refuses)
    for _ in range(50):
        goev.Connector(server.reactor).connect(text_of(server.address), Dials(events))
    events.times("close", 50)
    assert Counter(events.names) == {"open": 50, "close": 50}
    assert {event[1] for event in events.of("close")} == {None}


def test_a_reset_by_the_peer_is_told(reactor, events, listener, target, stack):
    connection = opened(reactor, events, target)
    peer = accept(listener, stack)
    peer.sendall(b"before")
    assert events.until("read") == ("read", b"before")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    error = events.until("close")[1]
    assert type(error) is ConnectionResetError
    assert error.errno == errno.ECONNRESET
    with pytest.raises(goev.ConnectionClosed):
        connection.write(b"x")


@pytest.mark.parametrize("how", ["false", "raises"])
def test_on_open_may_end_it(reactor, events, log, target, how):
    class Ends(Dials):
        def on_open(self):
            events("open", self)
            if how == "raises":
                raise LookupError("no")
            return False

    goev.Connector(reactor).connect(target, Ends(events))
    error = events.until("close")[1]
    assert (error is None) if how == "false" else (type(error) is LookupError)
    assert events.names == ["open", "close"]
    assert len(log.texts()) == (how == "raises")


def test_abort_resets_the_peer(reactor, events, listener, target, stack):
    connection = opened(reactor, events, target)
    peer = accept(listener, stack)
    connection.abort()
    assert type(events.until("close")[1]) is ConnectionAbortedError
    with pytest.raises(ConnectionResetError):
        peer.recv(1)


def test_writes_from_threads_keep_their_order(start, events):
    received = bytearray()

    class Collects(Dials):
        def on_read(self):
            received.extend(self.read())
            events("read", len(received))

    server = start(Echo)
    goev.Connector(server.reactor).connect(text_of(server.address), Collects(events))
    connection = events.until("open")[1]

    def write_many(who: int) -> None:
        for number in range(1000):
            connection.write(b"%d:%04d\n" % (who, number))

    for future in [in_thread(write_many, who) for who in range(4)]:
        future.result(PATIENCE)
    eventually(lambda: len(received) == 4 * 1000 * 7, "everything came back")
    lines = bytes(received).split()
    for who in range(4):
        mine = [line for line in lines if line.startswith(b"%d:" % who)]
        assert mine == [b"%d:%04d" % (who, number) for number in range(1000)]


def test_a_large_answer_arrives_whole_under_back_pressure(start, events):
    data = os.urandom(5_000_000)

    class Sends(Dials):
        received = bytearray()

        def on_open(self):
            self.write(data)

        def on_read(self):
            self.received += self.read()
            if len(self.received) == len(data):
                self.close()

    server = start(Echo)
    goev.Connector(server.reactor).connect(text_of(server.address), Sends(events))
    assert events.until("close") == ("close", None)
    assert sha256(Sends.received) == sha256(data)


def test_half_close_and_hand_over_work(reactor, events, listener, target, stack):
    class Second(Dials):
        def on_eof(self):
            events("eof")
            self.write(b"bye")
            self.close()

    class First(Dials):
        def on_open(self):
            self.hand_over(Second(events))

    goev.Connector(reactor).connect(target, First(events))
    peer = accept(listener, stack)
    peer.sendall(b"x")
    assert events.until("read") == ("read", b"x")
    peer.shutdown(socket.SHUT_WR)
    assert peer.recv(10) == b"bye"
    events.times("close", 2)
    assert events.names == ["close", "open", "read", "eof", "close"]


def test_sockets_are_not_inherited(reactor, events, target):
    connection = opened(reactor, events, target)
    assert on_poller(connection, lambda: os.get_inheritable(connection.fileno())) is False


# --- nothing is left behind ---


def balanced(reactor) -> bool:
    return all(
        poller["open"] == poller["accepted"] + poller["connected"] - poller["closed"] for poller in reactor.stats()
    )


def total(reactor, name: str) -> int:
    return sum(poller[name] for poller in reactor.stats())


def test_the_counters_balance(start, events, dead):
    server = start(Echo, pollers=2)
    connector = goev.Connector(server.reactor)
    assert {poller["connected"] for poller in server.reactor.stats()} == {0}
    for _ in range(10):
        connector.connect(text_of(server.address), Dials(events))
        connector.connect(dead, Dials(events))
    events.times("fail", 10)
    events.times("open", 10)
    eventually(lambda: total(server.reactor, "accepted") == 10, "all are accepted")
    assert (total(server.reactor, "connected"), total(server.reactor, "open")) == (10, 20)
    assert balanced(server.reactor)
    for _, connection in events.of("open"):
        connection.close()
    eventually(lambda: total(server.reactor, "open") == 0, "all are closed")
    assert total(server.reactor, "closed") == 20
    assert balanced(server.reactor)


def test_the_timers_of_a_connect_are_gone_with_its_end(reactor, events, silent, target):
    connector = goev.Connector(reactor)
    connector.connect([silent, target], Dials(events), timeout=60.0)
    connector.connect(target, Dials(events), timeout=60.0)
    events.times("open", 2)
    eventually(lambda: settle(reactor) or total(reactor, "timers") == 0, "no timer is left")


def test_a_thousand_failures_leave_no_descriptor(reactor, events, dead):
    connector = goev.Connector(reactor)
    before = settled_fds()
    for _ in range(10):
        for _ in range(100):
            connector.connect([dead, "unix:/nonexistent"], Dials(events))
        events.times("fail", len(events.of("fail")) // 100 * 100 + 100)
    assert len(events.history) == 1000
    eventually(lambda: open_fds() == before, "no descriptor is left")
    assert total(reactor, "connected") == total(reactor, "open") == 0


def test_a_thousand_timeouts_leave_no_descriptor(reactor, events, silent):
    connector = goev.Connector(reactor)
    before = settled_fds()
    for _ in range(5):
        for _ in range(200):
            connector.connect([silent, silent], Dials(events), timeout=0.02)
        events.times("fail", len(events.of("fail")) // 200 * 200 + 200)
    assert {type(error) for _, error in events.history} == {TimeoutError}
    eventually(lambda: open_fds() == before, "no descriptor is left")


def test_a_thousand_connections_leave_no_descriptor(start, events):
    class Leaves(Dials):
        def on_open(self):
            self.write(b"x")

        def on_read(self):
            self.close()

    server = start(Echo, pollers=2)
    connector = goev.Connector(server.reactor)
    before = settled_fds()
    for count in range(100, 1001, 100):
        for _ in range(100):
            connector.connect(text_of(server.address), Leaves(events))
        events.times("close", count)
    assert events.names == ["close"] * 1000
    eventually(lambda: open_fds() == before, "no descriptor is left")
    assert total(server.reactor, "closed") == 2000
    assert balanced(server.reactor)


@pytest.mark.parametrize("end", ["fail", "close"])
def test_a_handler_is_freed_after_its_end(reactor, events, dead, target, end):
    class Ends(Dials):
        def on_open(self):
            return False

        def on_connect_fail(self, error):
            events("fail")

        def on_close(self, error):
            events("close")

    gc.collect()
    gc.disable()  # only reference counts free anything here
    try:
        handler = Ends(events)
        gone = weakref.ref(handler)
        goev.Connector(reactor).connect(dead if end == "fail" else target, handler)
        del handler
        events.until(end)
        eventually(lambda: settle(reactor) or gone() is None, "the handler is freed")
    finally:
        gc.enable()


def test_a_handler_that_connects_is_kept_by_the_reactor(reactor, events, target):
    with held(reactor):
        goev.Connector(reactor).connect(target, Dials(events))
        gc.collect()
    connection = events.next()[1]
    del events.history[:]
    gc.collect()
    assert on_poller(connection, lambda: connection.fileno()) >= 0


def test_out_of_descriptors_a_connect_fails_with_errno_and_later_ones_work():
    run_script(
        DIALS
        + """
    import resource
    listener, port = listening()
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        connector = goev.Connector(reactor, linger_timeout=0)
        connector.connect(f"127.0.0.1:{port}", Dials())
        assert next()[0] == "open"
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, limit[1]))
        connector.connect([f"127.0.0.1:{port}"] * 3, Dials())
        name, error, _ = next()
        assert (name, error.errno) == ("fail", errno.EMFILE), error
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        connector.connect(f"127.0.0.1:{port}", Dials())
        assert next()[0] == "open"
    """
    )


# --- fork ---


def test_after_a_fork_the_child_cannot_connect_and_the_parent_can():
    run_script(
        DIALS
        + """
    import traceback
    warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the subject of this test
    listener, port = listening()
    target = f"127.0.0.1:{port}"
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        connector, handler = goev.Connector(reactor, linger_timeout=0), Dials()
        connector.connect(target, Dials())
        assert next()[0] == "open"
        pid = os.fork()
        if pid == 0:
            try:
                for call in (lambda: connector.connect(target, handler),
                             lambda: goev.connect(reactor, target, handler), lambda: goev.Connector(reactor)):
                    try:
                        call()
                    except RuntimeError as error:
                        assert "fork" in str(error), error
                    else:
                        raise AssertionError("it did not raise")
                with goev.Reactor(pollers=1) as own:
                    own.start()
                    goev.Connector(own, linger_timeout=0).connect(f"localhost:{port}", handler)  # it is unused
                    assert next()[0] == "open"
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        connector.connect(f"localhost:{port}", handler)
        assert next()[0] == "open"
    """
    )


def test_signals_do_not_reach_the_resolver_threads(shimmed):
    """A signal that a resolver thread took would not wake the main thread."""
    shimmed("""
    import signal
    reactor = goev.Reactor(pollers=1)
    goev.connect(reactor, "hang.shim:80", Dials(), timeout=60.0)
    def resolving():
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/status") as file:
                fields = dict(line.split(":", 1) for line in file)
            if fields["Name"].strip().startswith("goev-resolver"):
                return int(fields["SigBlk"], 16) >> (signal.SIGINT - 1) & 1
    def look():
        told.put(resolving())
        os.kill(os.getpid(), signal.SIGINT)
    reactor.schedule(0.1, look)
    try:
        reactor.run()
    except KeyboardInterrupt:
        pass
    assert next() == 1
    """)
