"""The thread of a cluster: one event loop, which no caller ever waits for."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress

from goev.asyncio import EventLoop
from goev.cluster.home import Home

LOGGER = logging.getLogger("goev.cluster")


class LoopThread(Home):
    """An event loop on a daemon thread. It runs until ``stop``."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._loop = EventLoop(stall_warning=None)
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._stopping.wait())
        self.end()

    @property
    def is_current(self) -> bool:
        return threading.current_thread() is self._thread

    @property
    def is_idle(self) -> bool:
        return False

    @property
    def can_wait(self) -> bool:
        return not self.is_current

    def _post(self, function: Callable[..., object], *args: object) -> None:
        # The poller's mailbox, because asyncio's `call_soon_threadsafe` releases the interpreter lock for a system
        # call, and the thread that it wakes takes the lock: the caller would wait for it.
        self._loop.reactor.call_soon(function, *args)

    def stop(self, timeout: float) -> None:
        if self._birth == os.getpid():
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._stopping.set)
            if not self.is_current:
                self._thread.join(timeout)


def guarded(function: Callable[..., object], *args: object) -> None:
    """Call a callback of the user; an exception is logged, also one that would end the thread."""
    try:
        function(*args)
    except BaseException:
        LOGGER.exception("exception in %s", getattr(function, "__qualname__", function))
