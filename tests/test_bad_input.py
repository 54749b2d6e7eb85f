"""C11: wrong arguments are refused at the call, by a message that names argument, value and limit."""

import errno
import os
import re
import socket

import pytest

import goev
from support import PATIENCE, Client, Echo, in_thread, on_poller

LOCAL = "127.0.0.1:0"


@pytest.fixture
def idle():
    """A reactor that was not started."""
    reactor = goev.Reactor(pollers=1)
    yield reactor
    reactor.stop(grace=0)


@pytest.fixture
def connection(start, events):
    """An open connection."""

    class Opens(goev.Connection):
        def on_open(self):
            events("open", self)

    start(Opens).connect()
    return events.until("open")[1]


def names(message: object, *words: str) -> bool:
    """All words occur in the message."""
    return all(re.search(re.escape(word), str(message)) for word in words)


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
        "[::1%nosuch]:80",
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
    assert str(raised.value) == f"[Errno {errno.EADDRINUSE}] cannot listen on 127.0.0.1:{port}: Address already in use"


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


# --- reactors ---


@pytest.mark.parametrize("pollers", [0, -1, 1025, 10**6, -(10**30), 10**30])
def test_a_number_of_pollers_out_of_range_is_a_value_error(pollers):
    with pytest.raises((ValueError, OverflowError), match="pollers") as raised:
        goev.Reactor(pollers=pollers)
    assert type(raised.value) is ValueError
    assert names(raised.value, str(pollers) if abs(pollers) < 1 << 62 else "not ", "1", "1024")


@pytest.mark.parametrize("pollers", ["2", 1.0, b"2", [2]])
def test_a_number_of_pollers_of_another_type_is_a_type_error(pollers):
    with pytest.raises(TypeError, match="pollers"):
        goev.Reactor(pollers=pollers)


def test_running_twice_is_a_runtime_error(idle):
    idle.start()
    for again in (idle.run, idle.start):
        with pytest.raises(RuntimeError):
            again()
    idle.stop()
    idle.join(5)
    for again in (idle.run, idle.start):
        with pytest.raises(RuntimeError):
            again()


def test_run_inside_a_callback_is_a_runtime_error(reactor, idle):
    with pytest.raises(RuntimeError):
        on_poller(reactor, reactor.run)
    with pytest.raises(RuntimeError):
        on_poller(reactor, idle.run)


def test_join_inside_a_callback_is_a_runtime_error(reactor):
    with pytest.raises(RuntimeError):
        on_poller(reactor, reactor.join)


def test_leaving_the_with_block_inside_a_callback_does_not_hang(reactor):
    with pytest.raises(RuntimeError):
        on_poller(reactor, reactor.__exit__, None, None, None)


def test_adding_to_a_stopped_reactor_is_a_runtime_error():
    reactor = goev.Reactor(pollers=1)
    reactor.start()
    reactor.stop()
    reactor.join(5)
    for call in (
        lambda: goev.Acceptor(reactor, LOCAL, Echo),
        lambda: reactor.schedule(1.0, print),
        lambda: reactor.call_soon(print),
    ):
        with pytest.raises(RuntimeError, match="stopped"):
            call()
    reading, writing = os.pipe()
    try:
        with pytest.raises(RuntimeError, match="stopped"):
            reactor.add(goev.EventHandler(), reading, goev.EV_IN)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("grace", [-1, -0.001, float("nan"), float("inf"), float("-inf")])
def test_a_wrong_grace_is_a_value_error_and_stops_nothing(reactor, grace):
    with pytest.raises(ValueError, match="grace"):
        reactor.stop(grace=grace)
    assert on_poller(reactor, lambda: "alive") == "alive"


def test_a_grace_of_another_type_is_a_type_error(reactor):
    with pytest.raises(TypeError, match="grace"):
        reactor.stop(grace="1")
    assert reactor.running


def test_what_is_called_soon_must_be_callable(reactor, connection):
    for target in (reactor, connection):
        with pytest.raises(TypeError, match="callable"):
            target.call_soon("not callable")
        with pytest.raises(TypeError):
            target.call_soon()


def test_an_unhashable_cache_key_is_a_type_error(reactor):
    with pytest.raises(TypeError, match="unhashable"):
        reactor.cache_set([], 1)


# --- timers ---


@pytest.mark.parametrize("delay", [-1, -0.5, float("nan"), float("inf"), float("-inf")])
def test_a_wrong_delay_is_a_value_error(idle, connection, delay):
    with pytest.raises(ValueError, match="delay") as raised:
        idle.schedule(delay, print)
    assert names(str(raised.value).lower(), f"{delay:g}"[:2])
    with pytest.raises(ValueError, match="delay"):
        on_poller(connection, connection.schedule, delay)


@pytest.mark.parametrize("every", [0, 0.0, -1, float("nan"), float("inf")])
def test_a_wrong_period_is_a_value_error(idle, connection, every):
    with pytest.raises(ValueError, match="every"):
        idle.schedule(1.0, print, every=every)
    with pytest.raises(ValueError, match="every"):
        on_poller(connection, lambda: connection.schedule(1.0, every=every))


@pytest.mark.parametrize("delay", ["1", None, b"1", []])
def test_a_delay_of_another_type_is_a_type_error(idle, delay):
    with pytest.raises(TypeError, match="delay"):
        idle.schedule(delay, print)
    with pytest.raises(TypeError, match="every"):
        idle.schedule(1.0, print, every=delay if delay is not None else "1")


@pytest.mark.parametrize("callback", [1, "on_timeout", b""])
def test_a_timer_callback_that_is_not_callable_is_a_type_error(idle, connection, callback):
    with pytest.raises(TypeError, match="callback"):
        idle.schedule(1.0, callback)
    with pytest.raises(TypeError, match="callback"):
        on_poller(connection, connection.schedule, 1.0, callback)


def test_a_reactor_timer_needs_a_callback(idle):
    with pytest.raises(TypeError):
        idle.schedule(1.0)
    with pytest.raises(TypeError, match="callback"):
        idle.schedule(1.0, None)


def test_the_period_is_keyword_only(idle):
    with pytest.raises(TypeError):
        idle.schedule(1.0, print, 1.0)


# --- connections ---


@pytest.mark.parametrize("data", ["text", None, 5, 1.5, [1, 2], {}])
def test_what_is_not_bytes_like_cannot_be_written(connection, data):
    with pytest.raises(TypeError, match=type(data).__name__):
        on_poller(connection, connection.write, data)
    with pytest.raises(TypeError, match=type(data).__name__):
        connection.write(data)  # the same from another thread


@pytest.mark.parametrize("lines", ["text", None, 5, [1], ["text"]])
def test_what_is_no_iterable_of_bytes_cannot_be_written(connection, lines):
    with pytest.raises(TypeError):
        on_poller(connection, connection.writelines, lines)


@pytest.mark.parametrize("name", ["read", "peek"])
def test_a_negative_count_other_than_minus_1_is_a_value_error(connection, name):
    with pytest.raises(ValueError, match=r"\bn\b.*-2.*-1|\bn\b.*-1.*-2"):
        on_poller(connection, getattr(connection, name), -2)


@pytest.mark.parametrize("name", ["skip", "read_exactly"])
def test_a_negative_count_is_a_value_error(connection, name):
    with pytest.raises(ValueError, match=r"\bn\b.*-1"):
        on_poller(connection, getattr(connection, name), -1)


@pytest.mark.parametrize("name", ["read", "peek", "skip", "read_exactly"])
@pytest.mark.parametrize("count", ["1", 1.0, b"1"])
def test_a_count_of_another_type_is_a_type_error(connection, name, count):
    with pytest.raises(TypeError):
        on_poller(connection, getattr(connection, name), count)


@pytest.mark.parametrize("name", ["read", "peek", "skip", "read_exactly"])
def test_a_count_beyond_any_integer_of_the_machine_does_not_panic(connection, name):
    for count in (-(1 << 80), -(1 << 63)):
        with pytest.raises((ValueError, OverflowError)):
            on_poller(connection, getattr(connection, name), count)
    assert on_poller(connection, lambda: connection.pending_input) == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((b"",), ValueError),
        ((b"\n", 0), ValueError),
        ((b"\n", -1), ValueError),
        ((b"\r\n\r\n", 3), ValueError),
        (("\n",), TypeError),
        ((None,), TypeError),
        ((b"\n", "9"), TypeError),
    ],
)
def test_read_until_refuses_what_it_cannot_find(connection, arguments, error):
    with pytest.raises(error):
        on_poller(connection, connection.read_until, *arguments)


@pytest.mark.parametrize("buffer", [b"read only", "text", None, 4, memoryview(b"read only")])
def test_read_into_needs_a_writable_buffer(connection, buffer):
    with pytest.raises((TypeError, ValueError)):
        on_poller(connection, connection.read_into, buffer)


def test_read_from_another_thread_names_what_to_do(connection):
    with pytest.raises(goev.WrongThread, match="call_soon"):
        connection.read()


def test_write_after_close_is_connection_closed(connection):
    connection.close()
    with pytest.raises(goev.ConnectionClosed):
        connection.write(b"late")


def test_set_keepalive_and_buffer_sizes_refuse_nonsense(connection):
    for options in (
        {"idle": 0},
        {"idle": -1.0},
        {"idle": float("nan")},
        {"interval": 0.0},
        {"count": 0},
        {"count": -1},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            on_poller(connection, lambda options=options: connection.set_keepalive(**options))
    for method in (connection.set_receive_buffer_size, connection.set_send_buffer_size):
        for size in (0, -1, 1 << 40):
            with pytest.raises((ValueError, OverflowError), match=str(size)):
                on_poller(connection, method, size)


def test_hand_over_refuses_what_is_no_fresh_connection(connection):
    for wrong in (None, 5, Echo, goev.EventHandler()):
        with pytest.raises(TypeError):
            on_poller(connection, connection.hand_over, wrong)
    with pytest.raises(ValueError, match="hand_over"):
        on_poller(connection, connection.hand_over, connection)


@pytest.mark.parametrize(
    "use",
    [
        lambda c: c.read(),
        lambda c: c.write(b"x"),
        lambda c: c.schedule(1.0),
        lambda c: c.call_soon(print),
        lambda c: c.fileno(),
        lambda c: c.reactor,
        lambda c: c.pending_input,
        lambda c: c.remote_address,
        lambda c: c.close(),
        lambda c: c.abort(),
    ],
)
def test_a_handler_that_serves_nothing_yet_neither_crashes_nor_hangs(use):
    try:
        use(Echo())
    except (goev.Error, RuntimeError, OSError) as error:
        assert str(error)  # noqa: PT017


# --- async callbacks ---

CALLBACKS = ["on_open", "on_read", "on_eof", "on_drain", "on_timeout", "on_connect_fail", "on_close"]


@pytest.mark.parametrize("name", CALLBACKS)
def test_an_async_callback_is_refused_when_its_class_is_first_used(name):
    async def callback(self, *error):
        pass

    wrong = type("Wrong", (goev.Connection,), {name: callback})
    with pytest.raises(TypeError, match=f"(?s)(?=.*{name})(?=.*async)"):
        wrong()


def test_an_inherited_async_callback_is_refused_too():
    class Base:
        async def on_read(self):
            pass

    class Wrong(Base, goev.Connection):
        pass

    with pytest.raises(TypeError, match="on_read"):
        Wrong()


@pytest.mark.parametrize("name", ["on_read", "on_write", "on_close"])
def test_an_async_callback_of_an_event_handler_is_refused(idle, name):
    async def callback(self, *error):
        pass

    wrong = type("Wrong", (goev.EventHandler,), {name: callback})
    left, right = socket.socketpair()
    with left, right, pytest.raises(TypeError, match=f"(?s)(?=.*{name})(?=.*async)"):
        idle.add(wrong(), left, goev.EV_IN)


# --- descriptors ---


def closed_fd() -> int:
    fd = os.dup(0)
    os.close(fd)
    return fd


def test_a_closed_descriptor_is_ebadf(idle):
    fd = closed_fd()
    with pytest.raises(OSError, match=str(fd)) as raised:
        idle.add(goev.EventHandler(), fd, goev.EV_IN)
    assert raised.value.errno == errno.EBADF


def test_a_regular_file_is_eperm(idle, tmp_path):
    with open(tmp_path / "file", "w+b") as file:
        with pytest.raises(OSError, match=str(file.fileno())) as raised:
            idle.add(goev.EventHandler(), file, goev.EV_IN)
        assert raised.value.errno == errno.EPERM


@pytest.mark.parametrize("fd", [-1, -(1 << 40), 1 << 40])
def test_a_number_that_is_no_descriptor_is_refused(idle, fd):
    with pytest.raises((ValueError, OSError), match="fd") as raised:
        idle.add(goev.EventHandler(), fd, goev.EV_IN)
    assert str(fd) in str(raised.value)


@pytest.mark.parametrize("fd", ["0", None, 1.0, object()])
def test_a_descriptor_of_another_type_is_a_type_error(idle, fd):
    with pytest.raises(TypeError, match="fd"):
        idle.add(goev.EventHandler(), fd, goev.EV_IN)


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        yield left, right


@pytest.mark.parametrize("bits", [0, 1 << 20, -1, goev.EV_IN | (1 << 20)])
def test_wrong_events_are_a_value_error(idle, pair, bits):
    with pytest.raises(ValueError, match="events") as raised:
        idle.add(goev.EventHandler(), pair[0], bits)
    assert names(raised.value, "events")
    idle.add(goev.EventHandler(), pair[0], goev.EV_IN)
    for change in (idle.append_events, idle.remove_events):
        with pytest.raises(ValueError, match="events"):
            change(pair[0], bits)


def test_a_handler_that_is_none_is_a_type_error(idle, pair):
    for handler in (None, 5, Echo(), goev.EventHandler, object()):
        with pytest.raises(TypeError, match="handler"):
            idle.add(handler, pair[0], goev.EV_IN)


def test_a_handler_bound_twice_is_a_value_error(idle, pair):
    handler = goev.EventHandler()
    idle.add(handler, pair[0], goev.EV_IN)
    with pytest.raises(ValueError, match="handler"):
        idle.add(handler, pair[1], goev.EV_IN)


def test_a_descriptor_added_twice_is_eexist(idle, pair):
    idle.add(goev.EventHandler(), pair[0], goev.EV_IN)
    with pytest.raises(OSError, match=str(pair[0].fileno())) as raised:
        idle.add(goev.EventHandler(), pair[0], goev.EV_IN)
    assert raised.value.errno == errno.EEXIST


def test_changing_events_of_an_unknown_descriptor_is_enoent(idle, pair):
    for change in (idle.append_events, idle.remove_events):
        with pytest.raises(OSError, match=str(pair[0].fileno())) as raised:
            change(pair[0], goev.EV_IN)
        assert raised.value.errno == errno.ENOENT


def test_add_from_another_thread_while_running_is_wrong_thread(reactor, pair):
    for call in (
        lambda: reactor.add(goev.EventHandler(), pair[0], goev.EV_IN),
        lambda: reactor.append_events(pair[0], goev.EV_IN),
        lambda: reactor.remove_events(pair[0], goev.EV_IN),
    ):
        with pytest.raises(goev.WrongThread, match="call_soon"):
            call()


# --- late failures, and peers that misbehave ---


def test_a_refused_call_leaves_the_server_working(start):
    """Every refusal above, in one callback: the connection and the reactor are as before."""

    class Tries(Echo):
        def on_read(self):
            for wrong in (
                lambda: self.write("text"),
                lambda: self.read(-5),
                lambda: self.read_until(b""),
                lambda: self.schedule(-1),
                lambda: self.hand_over(self),
                lambda: self.sendfile(-1),
                lambda: self.reactor.run(),
            ):
                with pytest.raises((TypeError, ValueError, OSError, RuntimeError)):
                    wrong()
            super().on_read()

    client = start(Tries).connect()
    for _ in range(3):
        assert client.ask(b"as before") == b"as before"


def test_a_timer_is_made_by_schedule_only():
    with pytest.raises(TypeError):
        goev.Timer()


def test_two_threads_starting_the_same_reactor_start_it_once(idle):
    outcomes = []

    def start_it() -> None:
        try:
            idle.start()
            outcomes.append("started")
        except RuntimeError:
            outcomes.append("refused")

    for future in [in_thread(start_it) for _ in range(4)]:
        future.result(PATIENCE)
    assert sorted(outcomes) == ["refused"] * 3 + ["started"]
