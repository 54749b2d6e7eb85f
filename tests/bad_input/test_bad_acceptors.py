"""C11: an acceptor refuses wrong addresses, options and factories at the call, naming argument, value and limit."""

import errno
import socket

import pytest

import goev
from support import LOCAL, Client, Echo, names

# --- addresses ---


@pytest.mark.parametrize(
    "address",
    [
        "8080",
        "127.0.0.1",
        "",
        ":",
        "127.0.0.1:",
        "127.0.0.1:http",
        "127.0.0.1:70000",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:+80",
        "127.0.0.1: 80",
        "127.0.0.1:80 ",
        "127.0.0.1:8\u0660",
        "256.0.0.1:80",
        "127.1:80",
        "example.com:80",
        "localhost:80",
        "::1:80",
        "[::1]",
        "[::1]80",
        "[::1:80",
        "[127.0.0.1]:80",
        "tcp://127.0.0.1:80",
        "unix:",
        "unix:" + "x" * 200,
        "unix:/tmp/nul\0byte",
    ],
)
def test_an_address_of_another_form_is_a_value_error(idle, address):
    with pytest.raises(ValueError, match="address") as raised:
        goev.Acceptor(idle, address, Echo)
    shown = address if address.isprintable() and len(address) < 100 else address[:8]
    assert shown in str(raised.value)


def test_a_port_out_of_range_is_named_with_its_limit(idle):
    with pytest.raises(ValueError, match="70000") as raised:
        goev.Acceptor(idle, "127.0.0.1:70000", Echo)
    assert names(raised.value, "address", "70000", "65535")


@pytest.mark.parametrize("address", [8080, None, b"127.0.0.1:0", ("127.0.0.1", 0), [8080], [None], object()])
def test_an_address_of_another_type_is_a_type_error(idle, address):
    with pytest.raises(TypeError, match="address"):
        goev.Acceptor(idle, address, Echo)


def test_an_empty_list_of_addresses_is_a_value_error(idle):
    with pytest.raises(ValueError, match="address"):
        goev.Acceptor(idle, [], Echo)


def test_an_address_in_use_is_an_os_error_with_errno_and_the_address(idle):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}") as raised:
            goev.Acceptor(idle, f"127.0.0.1:{port}", Echo)
    assert raised.value.errno == errno.EADDRINUSE
    text = f"cannot listen on 127.0.0.1:{port}: Address already in use [GOEV301]"
    assert str(raised.value) == f"[Errno {errno.EADDRINUSE}] {text}"


def test_an_address_that_is_not_ours_is_an_os_error_with_errno(idle):
    with pytest.raises(OSError, match=r"192\.0\.2\.1") as raised:
        goev.Acceptor(idle, "192.0.2.1:0", Echo)
    assert raised.value.errno == errno.EADDRNOTAVAIL


# --- options of the acceptor ---


@pytest.mark.parametrize(
    ("option", "value", "limit"),
    [
        ("backlog", 0, "1"),
        ("backlog", -1, "1"),
        ("backlog", 70000, "65535"),
        ("max_input", 0, "1"),
        ("max_input", -5, "-5"),
        ("high_water", -1, "-1"),
        ("low_water", -1, "-1"),
        ("max_output", 0, "0"),
        ("max_output", -1, "-1"),
        ("receive_buffer_size", 0, "0"),
        ("receive_buffer_size", -1, "-1"),
        ("send_buffer_size", -1, "-1"),
        ("send_buffer_size", 1 << 40, str(1 << 40)),
        ("linger_timeout", -1.0, "-1"),
        ("linger_timeout", float("nan"), "nan"),
        ("linger_timeout", float("inf"), "inf"),
    ],
)
def test_an_option_out_of_range_is_a_value_error(idle, option, value, limit):
    with pytest.raises(ValueError, match=option) as raised:
        goev.Acceptor(idle, LOCAL, Echo, **{option: value})
    assert limit.lower() in str(raised.value).lower()


@pytest.mark.parametrize("option", ["backlog", "max_input", "high_water", "low_water", "max_output"])
@pytest.mark.parametrize("value", ["1", 1.5, None, b"1"])
def test_an_option_of_another_type_is_a_type_error(idle, option, value):
    with pytest.raises(TypeError, match=option):
        goev.Acceptor(idle, LOCAL, Echo, **{option: value})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"low_water": 70_000}, ("low_water", "70000", "65536")),
        ({"high_water": 1000, "low_water": 1001}, ("low_water", "1001", "1000")),
        ({"max_output": 1000}, ("high_water", "65536", "1000")),
    ],
)
def test_marks_out_of_order_are_a_value_error(idle, options, words):
    with pytest.raises(ValueError, match="water") as raised:
        goev.Acceptor(idle, LOCAL, Echo, **options)
    assert names(raised.value, *words)


def test_cpu_steering_without_reuse_port_is_a_value_error(idle):
    with pytest.raises(ValueError, match=r"cpu_steering.*reuse_port"):
        goev.Acceptor(idle, LOCAL, Echo, cpu_steering=True)


def test_an_unknown_option_and_a_positional_one_are_type_errors(idle):
    with pytest.raises(TypeError, match="no_such"):
        goev.Acceptor(idle, LOCAL, Echo, no_such=1)
    with pytest.raises(TypeError):
        goev.Acceptor(idle, LOCAL, Echo, True)


@pytest.mark.parametrize("reactor", [None, 1, "reactor", goev.Reactor])
def test_an_acceptor_of_no_reactor_is_a_type_error(reactor):
    with pytest.raises(TypeError, match="reactor"):
        goev.Acceptor(reactor, LOCAL, Echo)


def test_a_connection_reactor_that_is_none_such_is_a_type_error(idle):
    with pytest.raises(TypeError, match="connection_reactor"):
        goev.Acceptor(idle, LOCAL, Echo, connection_reactor="serving")


@pytest.mark.parametrize("factory", [None, 1, "Echo", b"x", []])
def test_a_factory_that_is_not_callable_is_a_type_error(idle, factory):
    with pytest.raises(TypeError, match=r"factory.*callable"):
        goev.Acceptor(idle, LOCAL, factory)


def test_nothing_listens_after_a_refused_call(idle):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(TypeError):
        goev.Acceptor(idle, f"127.0.0.1:{port}", None)
    with pytest.raises(ValueError, match="backlog"):
        goev.Acceptor(idle, f"127.0.0.1:{port}", Echo, backlog=0)
    with pytest.raises(ConnectionRefusedError):
        Client(("127.0.0.1", port))
