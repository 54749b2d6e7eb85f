"""The event loop of a cluster: on a thread of its own (``thread``), or on the poller of a reactor (``poller``)."""

import asyncio
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from goev._core import Error
from goev.cluster.errors import Closed

Result = TypeVar("Result")


class Home(ABC):
    """An event loop on one thread, and the tasks of the cluster on it."""

    def __init__(self) -> None:
        self._birth = os.getpid()
        self._lock = threading.Lock()
        self._submitted: dict[Future[Any], Coroutine[Any, Any, Any]] = {}  # those that have not begun
        self._tasks: set[asyncio.Task[Any]] = set()
        self._has_ended = False

    # ---- for any thread ----------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def is_current(self) -> bool:
        """Whether this is the loop's thread."""

    @property
    @abstractmethod
    def is_idle(self) -> bool:
        """Whether the loop does not run: not yet, or no more."""

    @property
    @abstractmethod
    def can_wait(self) -> bool:
        """Whether the caller may wait for the loop."""

    @abstractmethod
    def _post(self, function: Callable[..., object], *args: object) -> None:
        """Call a function on the thread, soon. Raises Error, RuntimeError: the loop has ended."""

    @abstractmethod
    def stop(self, timeout: float) -> None:
        """End the tasks of the cluster; a thread of its own ends, and is waited for."""

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Call a function on the thread, soon.

        Raises Closed: the loop has ended. Raises RuntimeError in a forked child.
        """
        if self._birth != os.getpid() or self._has_ended:
            raise self._refusal()
        try:
            self._post(function, *args)
        except (Error, RuntimeError) as error:
            raise self._refusal() from error

    def submit(self, coroutine: Coroutine[Any, Any, Result]) -> "Future[Result]":
        """Run a coroutine on the thread. Raises as ``post``."""
        future: Future[Result] = Future()
        try:
            self._submit(coroutine, future)
        except BaseException:
            coroutine.close()
            raise
        return future

    def _submit(self, coroutine: Coroutine[Any, Any, Any], future: "Future[Any]") -> None:
        if self._birth != os.getpid():  # and another thread may have held the lock
            raise self._refusal()
        with self._lock:
            if self._has_ended:
                raise self._refusal()
            self._submitted[future] = coroutine
        try:
            self.post(self._begin, future)
        except BaseException:
            self._submitted.pop(future, None)
            raise

    def _refusal(self) -> Exception:
        if self._birth != os.getpid():
            return RuntimeError("the cluster was made before os.fork(); call goev.cluster.connect() in the child")
        return too_late()

    # ---- on the thread -----------------------------------------------------------------------------------------------

    def spawn(self, coroutine: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        """Run a coroutine until it has ended, or the cluster has."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _begin(self, future: "Future[Any]") -> None:
        if (coroutine := self._submitted.pop(future, None)) is not None:
            task = self.spawn(coroutine)
            task.add_done_callback(partial(pass_on, future))
            future.add_done_callback(lambda done: self._cancel(task) if done.cancelled() else None)

    def _cancel(self, task: "asyncio.Task[Any]") -> None:
        with suppress(Closed, RuntimeError):  # it has ended with the loop
            self.post(task.cancel)

    def end(self) -> None:
        """Refuse what comes from now on, and cancel the tasks."""
        with self._lock:
            self._has_ended = True
            left, self._submitted = self._submitted, {}
        for future, coroutine in left.items():  # submitted too late to be begun
            coroutine.close()
            with suppress(InvalidStateError):
                future.set_exception(too_late())
        for task in list(self._tasks):
            task.cancel()


def too_late() -> Closed:
    """The exception for those who want something of a closed cluster."""
    return Closed("the cluster is closed")


def pass_on(future: "Future[Any]", task: "asyncio.Task[Any] | Future[Any]") -> None:
    """Give a future the result of a task.

    A task that was cancelled, and not by the future, has ended with the cluster. To those who wait in a coroutine a
    cancellation would look like their own.
    """
    with suppress(InvalidStateError):  # it was cancelled
        if task.cancelled():
            future.set_exception(too_late())
        elif error := task.exception():
            future.set_exception(error)
        else:
            future.set_result(task.result())
