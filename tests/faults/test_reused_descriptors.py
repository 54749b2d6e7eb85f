"""Handlers that close themselves and others while new connections reuse the descriptors: no byte goes astray."""

import contextlib
import os
import random
import threading

import pytest

import goev
from support import Client, eventually, in_thread, open_fds

SOAK = int(os.environ.get("GOEV_SOAK", "1"))
ROUNDS = 10_000 * SOAK
AT_ONCE = 50


class Tagged(goev.Connection):
    """Knows its peer by the tag of the first message; every later message must have the same tag."""

    present: list["Tagged"]
    strangers: list[tuple[bytes, bytes]]

    def __init__(self) -> None:
        self.tag = b""

    def on_open(self) -> bool | None:
        self.present.append(self)

    def on_read(self) -> bool | None:
        while message := self.read_exactly(8):
            tag, act = message[:6], message[6:]
            self.tag = self.tag or tag
            if tag != self.tag:
                self.strangers.append((self.tag, tag))
            self.write(message)
            if act == b"cl":
                return False
            if act == b"ot" and self.present:
                # Often a connection of the same batch that has not had its turn yet.
                random.choice(self.present).abort()
        return None

    def on_close(self, error: BaseException | None) -> None:
        self.present.remove(self)


def visit(address, tags: range, wrong: list[bytes]) -> None:
    """One connection after the other; each sends its tag until it is closed."""
    for number in tags:
        tag = b"%06d" % number
        # Another connection may abort it at any time, even before connect() has returned.
        with contextlib.suppress(ConnectionResetError, BrokenPipeError), Client(address) as client:
            for act in (b"go", b"ot", b"go", b"cl"):
                client.send(tag + act)
                answer = client.socket.recv(8)
                if answer not in (tag + act, b""):
                    wrong.append(answer)


@pytest.mark.timeout(90 * SOAK)
@pytest.mark.parametrize("pollers", [1, 2])
def test_ten_thousand_connections_never_get_a_byte_of_another(start, pollers):
    before, wrong, strangers = open_fds(), [], []
    state = threading.local()

    class Handler(Tagged):
        @property
        def present(self) -> list[Tagged]:
            """The connections of the same poller."""
            return state.__dict__.setdefault("present", [])

    Handler.strangers = strangers
    server = start(Handler, pollers=pollers, linger_timeout=0.0)
    each = ROUNDS // AT_ONCE
    visits = [in_thread(visit, server.address, range(n * each, (n + 1) * each), wrong) for n in range(AT_ONCE)]
    for future in visits:
        future.result(60 * SOAK)
    assert (wrong, strangers) == ([], [])
    eventually(lambda: sum(poller["open"] for poller in server.reactor.stats()) == 0, "all have ended")
    stats = server.reactor.stats()
    assert sum(poller["accepted"] for poller in stats) == sum(poller["closed"] for poller in stats) == ROUNDS
    assert sum(poller["closed_by"]["aborted"] for poller in stats) > ROUNDS // 100
    eventually(lambda: open_fds() <= before + 20, "the descriptors are closed")
