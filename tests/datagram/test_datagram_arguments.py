"""Wrong arguments of a UDP socket are refused at the call and change nothing."""

import errno

import pytest

from datagram_support import V4, Udp, UdpEcho
from support import on_poller, open_fds, settle, settled_fds


def said_by(error: BaseException) -> str:
    """The text of an exception with its notes."""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


@pytest.mark.parametrize(
    ("address", "kind", "says"),
    [
        ("", ValueError, "port"),
        ("127.0.0.1", ValueError, "port"),
        ("127.0.0.1:", ValueError, "port"),
        ("127.0.0.1:70000", ValueError, "70000"),
        ("127.0.0.1:-1", ValueError, "-1"),
        ("127.0.0.1:x", ValueError, "x"),
        ("localhost:0", ValueError, "localhost"),
        ("256.0.0.1:0", ValueError, "256.0.0.1"),
        ("::1:0", ValueError, "::1"),
        ("[::1:0", ValueError, "::1"),
        ("unix:/tmp/x", ValueError, "unix:/tmp/x"),
        ("unix:@x", ValueError, "unix:@x"),
        (("127.0.0.1", 0), TypeError, "tuple"),
        (9999, TypeError, "int"),
        (b"127.0.0.1:0", TypeError, "bytes"),
    ],
)
@pytest.mark.parametrize("argument", ["address", "peer"])
def test_a_wrong_address_is_refused_by_name(reactor, events, argument, address, kind, says):
    with pytest.raises(kind) as caught:
        Udp(events).bind(reactor, **{"address": V4, argument: address})
    said = said_by(caught.value)
    assert says in said
    assert argument in said


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"max_size": 0}, ValueError, "max_size must be from 1 to 65535, not 0"),
        ({"max_size": 65_536}, ValueError, "max_size must be from 1 to 65535, not 65536"),
        ({"max_size": -1}, ValueError, "max_size"),
        ({"max_size": 10**30}, ValueError, "max_size"),
        ({"max_size": 1.5}, TypeError, "max_size"),
        ({"max_size": None}, TypeError, "max_size"),
        ({"receive_buffer_size": 0}, ValueError, "receive_buffer_size must be from 1 to"),
        ({"receive_buffer_size": -5}, ValueError, "receive_buffer_size"),
        ({"receive_buffer_size": 2**31}, ValueError, "receive_buffer_size"),
        ({"send_buffer_size": 0}, ValueError, "send_buffer_size must be from 1 to"),
        ({"send_buffer_size": 10**30}, ValueError, "send_buffer_size"),
        ({"send_buffer_size": "1"}, TypeError, "send_buffer_size"),
        ({"device": ""}, ValueError, "device"),
        ({"device": "x" * 16}, ValueError, "x" * 16),
        ({"device": "a\0b"}, ValueError, "device"),
        ({"device": 5}, TypeError, "device"),
        ({"device": "goev-no-such"}, OSError, "No such device"),
        ({"reuse_port": 1}, TypeError, "reuse_port"),
        ({"reuse_address": "yes"}, TypeError, "reuse_address"),
        ({"broadcast": None}, TypeError, "broadcast"),
        ({"backlog": 5}, TypeError, "backlog"),
        ({"address": "192.0.2.200:0"}, OSError, "cannot bind 192.0.2.200:0"),
        ({"peer": "[::1]:9"}, OSError, r"cannot connect 127.0.0.1:0 to [::1]:9"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_and_the_handler_stays_unused(reactor, events, bind, peer, options, kind, says):
    before, handler = settled_fds(), UdpEcho(events)
    with pytest.raises(kind) as caught:
        handler.bind(reactor, **{"address": V4, **options})
    assert says in said_by(caught.value)
    assert open_fds() <= before
    assert peer().ask(b"x", bind(handler)) == b"x"


def test_only_reactor_and_address_are_positional(reactor, events):
    with pytest.raises(TypeError, match="positional"):
        Udp(events).bind(reactor, V4, "127.0.0.1:9")
    with pytest.raises(TypeError, match="reactor"):
        Udp(events).bind("no reactor", V4)


@pytest.mark.parametrize(
    ("address", "kind", "says"),
    [
        (None, TypeError, "tuple"),
        ("127.0.0.1:9", TypeError, "tuple"),
        (["127.0.0.1", 9], TypeError, "tuple"),
        ((), TypeError, "tuple"),
        (("127.0.0.1",), TypeError, "tuple"),
        (("127.0.0.1", 9, 0), TypeError, "tuple"),
        (("::1", 9, 0, 0, 0), TypeError, "tuple"),
        ((b"127.0.0.1", 9), TypeError, "tuple"),
        (("localhost", 9), ValueError, "localhost"),
        (("", 9), ValueError, "IP address"),
        (("127.0.0.1", 65_536), ValueError, "65536"),
        (("127.0.0.1", -1), ValueError, "-1"),
        (("::1", 9, -1, 0), ValueError, "address"),
        (("::1", 9, 0, 2**32), ValueError, "address"),
        (("::1", 9, 0, "lo"), TypeError, "address"),
        ((9, "127.0.0.1"), TypeError, "tuple"),
    ],
)
def test_send_to_refuses_what_is_no_address(bind, events, reactor, address, kind, says):
    handler = Udp(events)
    bind(handler)
    with pytest.raises(kind, match=says):
        on_poller(reactor, handler.send_to, b"x", address)
    settle(reactor)
    assert events.names == ["open"]


def test_a_port_that_is_no_number_is_a_type_error(bind, events, reactor):
    handler = Udp(events)
    bind(handler)
    with pytest.raises(TypeError, match="port"):
        on_poller(reactor, handler.send_to, b"x", ("127.0.0.1", "9"))


@pytest.mark.parametrize("data", ["text", None, 5, ["list"]])
def test_data_that_is_not_bytes_like_is_refused(bind, events, reactor, data):
    handler = Udp(events)
    bind(handler)
    for refused in (lambda: handler.send(data), lambda: handler.send_to(data, ("127.0.0.1", 9))):
        with pytest.raises(TypeError, match="bytes-like"):
            on_poller(reactor, refused)


def test_data_with_gaps_is_refused(bind, events, reactor):
    handler = Udp(events)
    bind(handler)
    with pytest.raises(ValueError, match="contiguous"):
        on_poller(reactor, handler.send_to, memoryview(b"abcdef")[::2], ("127.0.0.1", 9))


@pytest.mark.parametrize("method", ["join_group", "leave_group"])
def test_a_wrong_group_or_interface_is_refused(bind, events, reactor, method):
    handler = Udp(events)
    bind(handler)
    call = getattr(handler, method)
    for group in ("127.0.0.1", "::1", "240.0.0.1", "", "239.1.2", "all-hosts", "239.1.2.3:9"):
        with pytest.raises(ValueError, match="multicast"):
            on_poller(reactor, call, group)
    with pytest.raises(TypeError):
        on_poller(reactor, call, 5)
    with pytest.raises(ValueError, match="interface"):
        on_poller(reactor, call, "239.1.2.3", "l\0o")
    for name in ("goev-no-such", "", "x" * 100):
        with pytest.raises(OSError, match=f'interface "{name}"'):
            on_poller(reactor, call, "239.1.2.3", name)
    with pytest.raises(OSError, match=r"ff02::1:3"):
        on_poller(reactor, call, "ff02::1:3", "lo")  # of an IPv4 socket


def test_leaving_a_group_that_was_not_joined_is_refused(bind, events, reactor):
    handler = Udp(events)
    bind(handler)
    with pytest.raises(OSError, match=r"cannot leave 239\.1\.2\.3") as caught:
        on_poller(reactor, handler.leave_group, "239.1.2.3", "lo")
    assert caught.value.errno == errno.EADDRNOTAVAIL
