"""The poller of a reactor as the home of a cluster: messages of its connections cross no threads."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from goev._core import Error, Reactor
from goev.asyncio import EventLoop
from goev.asyncio import reactor as running_reactor
from goev.cluster.errors import Closed
from goev.cluster.home import Home

Farewell = Callable[[], Coroutine[Any, Any, object]]


class PollerHome(Home):
    """The event loop that drives the only poller of a reactor.

    Args:
        farewell: a coroutine function, called when the reactor has stopped and its connections have ended.

    Raises ValueError: the reactor has more pollers, or one that no event loop drives.
    """

    def __init__(self, reactor: Reactor, farewell: Farewell) -> None:
        if reactor.pollers != 1 or not reactor._has_loops:
            raise ValueError("the reactor of a cluster must be a Reactor(1, asyncio=True), or that of an EventLoop")
        super().__init__()
        self._reactor = reactor
        self._farewell = farewell
        self._loop: EventLoop | None = None
        self._thread: threading.Thread | None = None
        if not self._settle():
            reactor.call_soon(self._settle)

    def _settle(self) -> bool:
        """Learn the loop and the thread of the reactor, if this is its thread."""
        try:
            if running_reactor() is not self._reactor:
                return False
        except RuntimeError:  # no event loop of goev runs here
            return False
        loop = asyncio.get_running_loop()
        assert isinstance(loop, EventLoop)
        self._loop, self._thread = loop, threading.current_thread()
        if not self._has_ended:
            loop._farewells.add(self._farewell)
        return True

    @property
    def is_current(self) -> bool:
        return threading.current_thread() is self._thread

    @property
    def is_idle(self) -> bool:
        return self._birth != os.getpid() or not (self._reactor.running or self.is_current)

    @property
    def can_wait(self) -> bool:
        return self._birth == os.getpid() and self._reactor.running and not self.is_current

    def _post(self, function: Callable[..., object], *args: object) -> None:
        try:
            self._reactor.call_soon(self._call, function, *args)
        except (Error, RuntimeError):
            if self._loop is None or not self.is_current:
                raise
            self._loop.call_soon(self._call, function, *args)  # the poller has ended, and the loop says farewell

    def _call(self, function: Callable[..., object], *args: object) -> None:
        if not self._has_ended:  # unlike a thread of its own, this one goes on
            function(*args)

    def stop(self, timeout: float) -> None:
        if self._birth != os.getpid():  # the tasks are the parent's
            return
        if self.can_wait:
            with suppress(Closed, RuntimeError):  # it ends by itself
                self.post(self.end)
        else:
            self.end()

    def end(self) -> None:
        super().end()
        if self._loop is not None:
            self._loop._farewells.discard(self._farewell)
