"""C11: a connection refuses wrong arguments and async callbacks, and goes on as before."""

import socket

import pytest

import goev
from support import Echo, on_poller


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


# --- generators ---


CALLBACKS = ["on_open", "on_read", "on_eof", "on_drain", "on_timeout", "on_connect_fail", "on_close"]


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_generator_is_refused_when_its_class_is_first_used(name):
    def callback(self, *error):
        yield

    wrong = type("Wrong", (goev.Connection,), {name: callback})
    with pytest.raises(TypeError, match=rf"Wrong\.{name} must be a function or async def, not a generator"):
        wrong()


def test_an_inherited_generator_is_refused_too():
    class Base:
        async def on_read(self):
            yield

    class Wrong(Base, goev.Connection):
        pass

    with pytest.raises(TypeError, match="on_read"):
        Wrong()


@pytest.mark.parametrize("name", ["on_read", "on_write", "on_close"])
def test_a_generator_of_an_event_handler_is_refused(idle, name):
    def callback(self, *error):
        yield

    wrong = type("Wrong", (goev.EventHandler,), {name: callback})
    left, right = socket.socketpair()
    with left, right, pytest.raises(TypeError, match=rf"Wrong\.{name} .*not a generator"):
        idle.add(wrong(), left, goev.EV_IN)
