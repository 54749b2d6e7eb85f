"""Tests of `examples/chat.py` share a client that tells it what it likes."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from support import PATIENCE, ROOT

PROGRAM = ROOT / "examples" / "chat.py"


class Chatter:
    """A client that sends what it likes, and takes the answers it waits for."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def tell(self, kind: str, **content: Any) -> None:
        self.connection.send(json.dumps({"type": kind, **content}))

    def next(self, *kinds: str) -> dict[str, Any]:
        """The next event of these kinds; with none given, of any but the stats, which come each second."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            event: dict[str, Any] = json.loads(self.connection.recv(timeout=PATIENCE))
            if event["type"] in kinds or (not kinds and event["type"] != "stats"):
                return event
        pytest.fail(f"no {' or '.join(kinds) or 'event'} in {PATIENCE} s")

    def join(self, name: str, room: str = "lobby") -> dict[str, Any]:
        self.tell("join", room=room, name=name)
        return self.next("welcome")

    def say(self, text: str) -> None:
        self.tell("say", text=text)

    def hear(self) -> tuple[str, str]:
        event = self.next("message")
        return event["name"], event["text"]


Enter = Callable[..., Chatter]


def entrance(stack: ExitStack, port: int) -> Enter:
    def enter(name: str | None = None, room: str = "lobby", **options: Any) -> Chatter:
        # Messages that a test leaves must not stop the client: by default it reads no close frame behind 16 of them.
        limits = {"open_timeout": PATIENCE, "close_timeout": PATIENCE, "max_queue": None}
        connection = connect(f"ws://127.0.0.1:{port}/chat", **limits, **options)
        chatter = Chatter(stack.enter_context(connection))
        if name is not None:
            chatter.join(name, room)
        return chatter

    return enter
