"""A resolver that takes its time holds up neither pollers, deadlines, nor the end of the process."""

import subprocess

import pytest

from connector_support import DIALS
from support import need_ipv6, run_script

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
