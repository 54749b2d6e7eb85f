"""Wrong arguments of a connector are refused at the call, by a message that names argument and value."""

import pytest

import goev
from connector_support import Dials
from support import Echo


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
