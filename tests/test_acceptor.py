"""Listening: every form of address, who accepts, on which poller a connection lives, and when listening ends."""

import errno
import gc
import os
import socket
import time
import weakref
from contextlib import suppress
from threading import get_ident

import pytest

import goev
from support import Client, Echo, eventually, need_ipv6, on_poller, open_fds, settle


def threads_of(events, name: str) -> list[int]:
    return [event[1] for event in events.of(name)]


class Placed(Echo):
    """Reports the threads on which it was made, opened and read."""

    def __init__(self, events) -> None:
        self.events = events
        events("made", get_ident())

    def on_open(self):
        self.events("open", get_ident(), self)

    def on_read(self):
        self.events("read", get_ident())
        super().on_read()


# --- addresses ---


def test_port_0_is_resolved_and_the_address_is_as_in_the_socket_module(start):
    server = start(Echo, address="127.0.0.1:0")
    host, port = server.acceptor.address
    assert host == "127.0.0.1"
    assert 1024 <= port <= 65535
    assert server.acceptor.addresses == [(host, port)]
    assert server.connect().ask(b"hello") == b"hello"


def test_an_ipv6_address_is_a_tuple_of_four(start):
    need_ipv6()
    server = start(Echo, address="[::1]:0")
    host, port, flow, scope = server.acceptor.address
    assert (host, flow, scope) == ("::1", 0, 0)
    assert port > 0
    assert server.connect().ask(b"hello") == b"hello"


def test_a_port_alone_is_every_ipv4_address(start):
    server = start(Echo, address=":0")
    assert server.acceptor.address[0] == "0.0.0.0"
    for host in ("127.0.0.1", "127.0.0.2"):
        with Client((host, server.acceptor.address[1])) as client:
            assert client.ask(b"hello") == b"hello"


def test_every_ipv6_address_leaves_the_port_free_for_ipv4(start):
    need_ipv6()
    six = start(Echo, address="[::]:0")
    port = six.acceptor.address[1]
    assert six.acceptor.address[0] == "::"
    four = start(Echo, address=f":{port}")
    for address in (("::1", port, 0, 0), ("127.0.0.1", port)):
        with Client(address) as client:
            assert client.ask(b"hello") == b"hello"
    assert [sum(p["accepted"] for p in server.reactor.stats()) for server in (six, four)] == [1, 1]


def test_a_given_port_is_used(start):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start(Echo, address=f"127.0.0.1:{port}")
    assert server.acceptor.address == ("127.0.0.1", port)


def test_a_port_with_connections_in_time_wait_can_be_listened_on_again(start):
    first = start(Echo)
    address = first.acceptor.address
    client = first.connect()
    client.ask(b"x")
    first.reactor.stop()  # the server closes first: its side keeps the port in TIME_WAIT
    client.receive_all()
    client.close()
    first.reactor.join(10)
    again = start(Echo, address=f"127.0.0.1:{address[1]}")
    assert again.connect().ask(b"again") == b"again"


def test_both_ends_know_both_addresses(start, events):
    class Knows(goev.Connection):
        def on_open(self):
            events("addresses", self.local_address, self.remote_address)

    server = start(Knows)
    client = server.connect()
    assert events.next() == ("addresses", client.socket.getpeername(), client.socket.getsockname())


def test_both_ends_of_ipv6_know_both_addresses(start, events):
    need_ipv6()

    class Knows(goev.Connection):
        def on_open(self):
            events("addresses", self.local_address, self.remote_address)

    client = start(Knows, address="[::1]:0").connect()
    assert events.next() == ("addresses", client.socket.getpeername(), client.socket.getsockname())


def test_a_list_of_addresses_is_listened_on_together(start, tmp_path):
    need_ipv6()
    path = f"{tmp_path}/socket"
    server = start(Echo, address=["127.0.0.1:0", "[::1]:0", f"unix:{path}"])
    addresses = server.acceptor.addresses
    assert [len(address) for address in addresses[:2]] == [2, 4]
    assert addresses[2] == path
    assert server.acceptor.address == addresses[0]
    for address in addresses:
        with Client(address) as client:
            assert client.ask(b"hello") == b"hello"


def test_when_one_of_a_list_fails_none_listens():
    with socket.socket() as taken, socket.socket() as probe, goev.Reactor(pollers=1) as reactor:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
        probe.close()
        with pytest.raises(OSError, match=str(taken.getsockname()[1])) as raised:
            goev.Acceptor(reactor, [f"127.0.0.1:{free}", f"127.0.0.1:{taken.getsockname()[1]}"], Echo)
        assert raised.value.errno == errno.EADDRINUSE
        with pytest.raises(ConnectionRefusedError):
            Client(("127.0.0.1", free))


# --- sockets of the user ---


@pytest.mark.parametrize("listening", [False, True])
def test_a_bound_socket_is_listened_on(start, listening):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        if listening:
            bound.listen()
        server = start(Echo, address=bound)
        assert server.acceptor.address == bound.getsockname()
        assert server.connect().ask(b"hello") == b"hello"


def test_a_bound_unix_socket_is_listened_on_and_its_path_stays(start, tmp_path):
    path = f"{tmp_path}/socket"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)
        server = start(Echo, address=bound)
        assert server.connect().ask(b"hello") == b"hello"


def refused_sockets():
    unbound = socket.socket()
    datagrams = socket.socket(type=socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    closed = socket.socket()
    closed.close()
    return {"unbound": unbound, "datagrams": datagrams, "closed": closed}


@pytest.mark.parametrize("kind", ["unbound", "datagrams", "closed"])
def test_a_socket_that_cannot_listen_is_refused(kind):
    sockets = refused_sockets()
    with goev.Reactor(pollers=1) as reactor, pytest.raises((ValueError, OSError)) as raised:
        goev.Acceptor(reactor, sockets[kind], Echo)
    assert kind != "unbound" or "bound" in str(raised.value)
    for one in sockets.values():
        one.close()


def test_a_listening_socket_the_user_shut_down_costs_no_cpu_and_disturbs_no_other(start, log):
    """Whether that is logged is not said here."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = start(Echo, address=bound)
        other = goev.Acceptor(server.reactor, "127.0.0.1:0", Echo)
        client = server.connect()
        assert client.ask(b"before") == b"before"
        bound.shutdown(socket.SHUT_RDWR)
        settle(server.reactor)
        before = time.process_time()
        time.sleep(0.5)  # the time over which CPU is measured
        assert time.process_time() - before < 0.1, "it spins"
        assert client.ask(b"still") == b"still"
        with Client(other.address) as late:
            assert late.ask(b"served") == b"served"


# --- Unix sockets ---


@pytest.fixture
def path(tmp_path) -> str:
    return f"{tmp_path}/socket"


def test_a_unix_socket_serves_and_is_unlinked_on_close(start, path, events):
    class Knows(Echo):
        def on_open(self):
            events("addresses", self.local_address, self.remote_address)

    server = start(Knows, address=f"unix:{path}")
    assert server.acceptor.address == path
    assert server.connect().ask(b"hello") == b"hello"
    local, remote = events.next()[1:]
    assert local == path
    assert remote in ("", None)
    server.acceptor.close()
    eventually(lambda: not os.path.exists(path), "the path is gone")


def test_a_unix_path_is_unlinked_when_the_reactor_stops(start, path):
    server = start(Echo, address=f"unix:{path}")
    assert os.path.exists(path)
    server.reactor.stop()
    server.reactor.join(5)
    assert not os.path.exists(path)


def test_a_stale_unix_socket_is_replaced(start, path):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    assert os.path.exists(path)
    assert start(Echo, address=f"unix:{path}").connect().ask(b"hello") == b"hello"


def test_a_unix_socket_somebody_listens_on_is_left_alone(path):
    with socket.socket(socket.AF_UNIX) as alive, goev.Reactor(pollers=1) as reactor:
        alive.bind(path)
        alive.listen()
        with pytest.raises(OSError, match=path) as raised:
            goev.Acceptor(reactor, f"unix:{path}", Echo)
        assert raised.value.errno == errno.EADDRINUSE
        with Client(path):
            alive.accept()[0].close()


def test_a_file_in_place_of_a_unix_socket_is_left_alone(path):
    with open(path, "w") as file:
        file.write("precious")
    with goev.Reactor(pollers=1) as reactor, pytest.raises(OSError, match=path) as raised:
        goev.Acceptor(reactor, f"unix:{path}", Echo)
    assert raised.value.errno == errno.EADDRINUSE
    with open(path) as file:
        assert file.read() == "precious"


def test_a_socket_that_took_the_path_over_is_not_unlinked(start, path):
    """A new server renamed its socket over ours: closing ours must not remove it."""
    server = start(Echo, address=f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(path + ".new")
        successor.listen()
        os.rename(path + ".new", path)
        server.reactor.stop()
        server.reactor.join(5)
        with Client(path):
            successor.accept()[0].close()


def test_a_unix_path_in_a_missing_folder_is_an_os_error_with_errno(tmp_path):
    with goev.Reactor(pollers=1) as reactor, pytest.raises(OSError, match="missing") as raised:
        goev.Acceptor(reactor, f"unix:{tmp_path}/missing/socket", Echo)
    assert raised.value.errno == errno.ENOENT


# --- on which poller ---


def test_without_reuse_port_pollers_take_turns_if_told(start, events):
    server = start(lambda: Placed(events), pollers=3, placement="round_robin")
    for _ in range(9):
        assert server.connect().ask(b"x") == b"x"
    threads = threads_of(events, "open")
    assert len(set(threads)) == 3
    assert threads[:3] == threads[3:6] == threads[6:]
    assert [poller["accepted"] for poller in server.reactor.stats()] == [3, 3, 3]


def test_factory_and_callbacks_run_on_the_poller_that_owns_the_connection(start, events):
    server = start(lambda: Placed(events), pollers=3)
    for _ in range(6):
        events.history.clear()
        assert server.connect().ask(b"x") == b"x"
        assert len({event[1] for event in events.history}) == 1
        assert events.names == ["made", "open", "read"]


def test_with_reuse_port_every_poller_accepts(start, events):
    server = start(lambda: Placed(events), pollers=2, reuse_port=True)
    assert len(server.acceptor.addresses) == 1
    for _ in range(64):  # the kernel chooses by hash: all on one side has a chance of 2 ** -63
        assert server.connect().ask(b"x") == b"x"
    assert len(set(threads_of(events, "open"))) == 2
    accepted = [poller["accepted"] for poller in server.reactor.stats()]
    assert min(accepted) > 0
    assert sum(accepted) == 64


def test_two_reactors_may_share_a_port_with_reuse_port(start):
    first = start(Echo, reuse_port=True)
    second = start(Echo, address=f"127.0.0.1:{first.acceptor.address[1]}", reuse_port=True)
    for _ in range(64):
        assert first.connect().ask(b"x") == b"x"
    assert all(server.reactor.stats()[0]["accepted"] > 0 for server in (first, second))


def steered(events, server, cpu: int) -> set[int]:
    """The pollers that get 20 connections made on one CPU."""
    seen = len(events.of("open"))
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        for _ in range(20):
            assert server.connect().ask(b"x") == b"x"
    finally:
        os.sched_setaffinity(0, before)
    return set(threads_of(events, "open")[seen:])


def test_cpu_steering_sends_connections_to_the_poller_of_their_cpu(start, events):
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    server = start(lambda: Placed(events), pollers=2, reuse_port=True, cpu_steering=True)
    first, second = (steered(events, server, cpu) for cpu in cpus)
    assert len(first) == len(second) == 1
    assert first != second


def test_cpu_steering_works_with_more_or_fewer_pollers_than_cpus(start):
    for pollers in (1, 3, 5):
        server = start(Echo, pollers=pollers, reuse_port=True, cpu_steering=True)
        for _ in range(20):
            assert server.connect().ask(b"x") == b"x"


def test_the_calling_thread_keeps_its_cpus_after_run():
    before = os.sched_getaffinity(0)
    reactor = goev.Reactor(pollers=2)
    goev.Acceptor(reactor, "127.0.0.1:0", Echo, reuse_port=True, cpu_steering=True)
    reactor.call_soon(reactor.stop)
    reactor.run()
    assert os.sched_getaffinity(0) == before


# --- two reactors ---


def test_a_separate_reactor_accepts_and_another_serves(events):
    with goev.Reactor(pollers=1) as accepting, goev.Reactor(pollers=2) as serving:
        acceptor = goev.Acceptor(accepting, "127.0.0.1:0", lambda: Placed(events), connection_reactor=serving)
        accepting.start()
        serving.start()
        clients = [Client(acceptor.address) for _ in range(8)]
        assert all(client.ask(b"x") == b"x" for client in clients)
        threads = {event[1] for event in events.history}
        assert len(threads) == 2
        assert on_poller(accepting, get_ident) not in threads
        assert all(on_poller(event[2], lambda event=event: event[2].reactor) is serving for event in events.of("open"))
        assert sum(poller["accepted"] for poller in serving.stats()) == 8
        for client in clients:
            client.close()


def test_connections_that_come_before_the_serving_reactor_runs_are_served_later():
    with goev.Reactor(pollers=1) as accepting, goev.Reactor(pollers=1) as serving:
        acceptor = goev.Acceptor(accepting, "127.0.0.1:0", Echo, connection_reactor=serving)
        accepting.start()
        with Client(acceptor.address) as client:
            client.send(b"early")
            settle(accepting)
            serving.start()
            assert client.receive(5) == b"early"


def test_when_the_serving_reactor_has_stopped_new_connections_are_closed():
    with goev.Reactor(pollers=1) as accepting, goev.Reactor(pollers=1) as serving:
        acceptor = goev.Acceptor(accepting, "127.0.0.1:0", Echo, connection_reactor=serving)
        accepting.start()
        serving.start()
        with Client(acceptor.address) as client:
            assert client.ask(b"x") == b"x"
        serving.stop()
        serving.join(5)
        before = open_fds()
        for _ in range(5):
            with suppress(ConnectionError), Client(acceptor.address) as client:
                assert client.receive_all() == b""
        eventually(lambda: open_fds() <= before, "their sockets are closed")
        assert on_poller(accepting, lambda: "alive") == "alive"


# --- when it begins and ends ---


def test_it_listens_before_the_reactor_runs():
    with goev.Reactor(pollers=1) as reactor:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
        with Client(acceptor.address) as client:
            client.send(b"early")
            reactor.start()
            assert client.receive(5) == b"early"


def test_an_acceptor_may_be_added_while_the_reactor_runs(reactor):
    here = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    there = on_poller(reactor, goev.Acceptor, reactor, "127.0.0.1:0", Echo)
    for acceptor in (here, there):
        with Client(acceptor.address) as client:
            assert client.ask(b"hello") == b"hello"


def test_the_reactor_owns_its_acceptors(reactor):
    address = goev.Acceptor(reactor, "127.0.0.1:0", Echo).address
    gc.collect()
    with Client(address) as client:
        assert client.ask(b"hello") == b"hello"


def refuses(address) -> bool:
    try:
        Client(address).close()
    except ConnectionRefusedError:
        return True
    return False


def test_close_ends_listening_and_leaves_connections_alone(start):
    server = start(Echo, pollers=2, reuse_port=True)
    address = server.acceptor.address
    clients = [server.connect() for _ in range(4)]
    for client in clients:
        assert client.ask(b"before") == b"before"
    server.acceptor.close()
    eventually(lambda: refuses(address), "nobody listens")
    for client in clients:
        assert client.ask(b"after") == b"after"


def test_close_may_be_called_twice_anywhere_and_before_the_start(start):
    server = start(Echo)
    server.acceptor.close()
    server.acceptor.close()
    on_poller(server.reactor, server.acceptor.close)
    with goev.Reactor(pollers=1) as reactor:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
        address = acceptor.address
        acceptor.close()
        assert refuses(address)


def test_the_address_is_readable_after_close(start):
    server = start(Echo)
    address = server.acceptor.address
    server.acceptor.close()
    settle(server.reactor)
    assert server.acceptor.address == address


def test_the_factory_is_released_with_the_acceptor(start):
    class Factory:
        def __call__(self):
            return Echo()

    factory = Factory()
    gone = weakref.ref(factory)
    server = start(factory, linger_timeout=0)
    del factory
    assert server.connect().ask(b"x") == b"x"
    server.reactor.stop()
    server.reactor.join(5)
    del server.acceptor
    eventually(lambda: gc.collect() >= 0 and gone() is None, "the factory is released")


@pytest.mark.parametrize("end", ["close", "stop", "stop before the start"])
def test_an_object_whose_acceptor_has_its_method_as_factory_is_collected(end):
    class Service:
        def __init__(self, reactor: goev.Reactor) -> None:
            self.acceptor = goev.Acceptor(reactor, "127.0.0.1:0", self.make)

        def make(self) -> goev.Connection:
            return Echo()

    with goev.Reactor(pollers=1) as reactor:
        service = Service(reactor)
        gone = weakref.ref(service)
        if end != "stop before the start":
            reactor.start()
            with Client(service.acceptor.address) as client:
                assert client.ask(b"x") == b"x"
        if end == "close":
            service.acceptor.close()
        else:
            reactor.stop()
        del service
        eventually(lambda: gc.collect() >= 0 and gone() is None, "the service is collected")


# --- options of the sockets ---


def option(connection: goev.Connection, level: int, name: int) -> int:
    with socket.socket(fileno=os.dup(connection.fileno())) as copy:
        return copy.getsockopt(level, name)


@pytest.mark.parametrize("nodelay", [True, False])
def test_nodelay_is_on_unless_asked_otherwise(start, events, nodelay):
    class Looks(goev.Connection):
        def on_open(self):
            events("nodelay", option(self, socket.IPPROTO_TCP, socket.TCP_NODELAY))

    start(Looks, **({} if nodelay else {"nodelay": False})).connect()
    assert bool(events.next()[1]) is nodelay


def test_buffer_sizes_are_set(start, events):
    class Looks(goev.Connection):
        def on_open(self):
            sizes = [option(self, socket.SOL_SOCKET, name) for name in (socket.SO_RCVBUF, socket.SO_SNDBUF)]
            events("sizes", *sizes)

    start(Looks, receive_buffer_size=20_000, send_buffer_size=30_000).connect()
    assert events.next() == ("sizes", 40_000, 60_000)  # Linux doubles them for its own bookkeeping


def test_options_can_be_set_on_a_connection(start, events):
    class Sets(goev.Connection):
        def on_open(self):
            self.set_nodelay(False)
            self.set_keepalive(30.0, interval=5.0, count=4)
            self.set_receive_buffer_size(20_000)
            self.set_send_buffer_size(30_000)
            tcp, base = socket.IPPROTO_TCP, socket.SOL_SOCKET
            wanted = [
                (tcp, socket.TCP_NODELAY),
                (base, socket.SO_KEEPALIVE),
                (tcp, socket.TCP_KEEPIDLE),
                (tcp, socket.TCP_KEEPINTVL),
                (tcp, socket.TCP_KEEPCNT),
                (base, socket.SO_RCVBUF),
                (base, socket.SO_SNDBUF),
            ]
            events("options", *(option(self, *pair) for pair in wanted))

    start(Sets).connect()
    assert events.next() == ("options", 0, 1, 30, 5, 4, 40_000, 60_000)


def test_sockets_are_not_inherited(start, events):
    class Looks(goev.Connection):
        def on_open(self):
            events("inheritable", os.get_inheritable(self.fileno()))

    start(Looks).connect()
    assert events.next() == ("inheritable", False)


def test_a_thousand_connects_at_once_are_all_served(start):
    server = start(Echo, pollers=2, backlog=1024)
    clients = [server.connect() for _ in range(1000)]
    for client in clients:
        client.send(b"x")
    assert {client.receive(1) for client in clients} == {b"x"}
    assert sum(poller["open"] for poller in server.reactor.stats()) == 1000
