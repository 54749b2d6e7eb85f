"""C2: any mix of the reading methods behaves like the same calls on one plain byte string."""

from contextlib import ExitStack

from hypothesis import given, settings
from hypothesis import strategies as st

import goev
from support import Events, Server, eventually, on_poller

SMALL = st.integers(0, 12)
PIECE = st.text("ab\n", max_size=8).map(str.encode)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), PIECE),
        st.tuples(st.sampled_from(["read", "peek", "skip", "read_exactly", "read_into"]), SMALL),
        st.tuples(st.just("read_until"), st.sampled_from([b"\n", b"ab", b"a\nb"])),
    ),
    max_size=20,
)


class Model:
    """What the methods mean, on a bytearray."""

    def __init__(self) -> None:
        self.data = b""

    def take(self, count: int) -> bytes:
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def read(self, n):
        return self.take(n)

    def peek(self, n):
        return self.data[:n]

    def skip(self, n):
        return len(self.take(n))

    def read_exactly(self, n):
        return self.take(n) if len(self.data) >= n else None

    def read_into(self, n):
        return self.take(n)

    def read_until(self, separator):
        found = self.data.find(separator)
        return None if found < 0 else self.take(found + len(separator))


class Unread(goev.Connection):
    def __init__(self, events: Events) -> None:
        self.events = events

    def on_open(self):
        self.events("open", self)


def call(connection: goev.Connection, name: str, argument):
    if name == "read_into":
        buffer = bytearray(argument)
        return bytes(buffer[: connection.read_into(buffer)])
    return getattr(connection, name)(argument)


@settings(max_examples=60, deadline=None, database=None)
@given(STEPS)
def test_reading_methods_agree_with_the_model(steps):
    events, model = Events(), Model()
    with ExitStack() as stack:
        client = Server(stack, lambda: Unread(events)).connect()
        connection = events.until("open")[1]

        def pending() -> int:
            return connection.pending_input

        for name, argument in steps:
            if name != "send":
                assert on_poller(connection, call, connection, name, argument) == getattr(model, name)(argument)
            elif argument:
                client.send(argument)
                model.data += argument
                eventually(lambda: on_poller(connection, pending) == len(model.data), "input")
        assert on_poller(connection, connection.peek) == model.data
