"""Options of a connector reach its sockets and limit its connections."""

import errno
import os
import socket
from contextlib import suppress

import pytest

import goev
from connector_support import Dials, accept, listening, opened
from support import Echo, Recorder, need_ipv6, on_poller, text_of


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
