"""The thread of a cluster: one event loop, which no caller ever waits for."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, TypeVar

from goev._core import Error
from goev.asyncio import EventLoop
from goev.cluster.errors import Closed

Result = TypeVar("Result")
LOGGER = logging.getLogger("goev.cluster")


class LoopThread:
    """An event loop on a daemon thread. It runs until ``stop``."""

    def __init__(self, name: str) -> None:
        self._birth = os.getpid()
        self._loop = EventLoop(stall_warning=None)
        self._stopping = asyncio.Event()
        self._lock = threading.Lock()
        self._submitted: dict[Future[Any], Coroutine[Any, Any, Any]] = {}  # those that are not done
        self._has_ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._stopping.wait())
        with self._lock:
            self._has_ended = True
            left = list(self._submitted.items())
        for future, coroutine in left:  # submitted too late to be begun
            coroutine.close()
            with suppress(InvalidStateError):
                future.set_exception(Closed("the cluster is closed"))

    @property
    def is_current(self) -> bool:
        return threading.current_thread() is self._thread

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Call a function on the thread, soon.

        Raises Closed: the thread has ended. Raises RuntimeError in a forked child.
        """
        # The poller's mailbox, because asyncio's `call_soon_threadsafe` releases the interpreter lock for a system
        # call, and the thread that it wakes takes the lock: the caller would wait for it.
        try:
            self._loop.reactor.call_soon(function, *args)
        except (Error, RuntimeError) as error:
            raise self._refusal() from error

    def submit(self, coroutine: Coroutine[Any, Any, Result]) -> "Future[Result]":
        """Run a coroutine on the thread."""
        if self._birth != os.getpid():  # and another thread may have held the lock
            coroutine.close()
            raise self._refusal()
        with self._lock:
            if self._has_ended:
                coroutine.close()
                raise self._refusal()
            try:
                future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            except RuntimeError as error:  # the loop ends just now
                coroutine.close()
                raise self._refusal() from error
            self._submitted[future] = coroutine
        future.add_done_callback(self._submitted.pop)
        return future

    def _refusal(self) -> Exception:
        if self._birth != os.getpid():
            return RuntimeError("the cluster was made before os.fork(); call goev.cluster.connect() in the child")
        return Closed("the cluster is closed")

    def stop(self, timeout: float) -> None:
        """End the loop, and wait for the thread."""
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
