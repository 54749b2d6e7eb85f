"""The event loop."""

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeVar

from goev._core import Lent, Reactor, _call_soon_of
from goev.asyncio.selector import PollerSelector
from goev.asyncio.transports import quickened

Result = TypeVar("Result")
Scheduled = TypeVar("Scheduled")

CLOSING = 1.0  # seconds for the callbacks of connections that are left when the loop ends


class EventLoop(asyncio.SelectorEventLoop):
    """An event loop of asyncio whose selector is a poller of goev.

    Handlers of its reactor and coroutines run on the same thread, one at a time. Everything else of asyncio works as on
    ``asyncio.SelectorEventLoop``, of which this is a subclass (the argument ``selector`` is documented for it).

    Args:
        **options: the keyword arguments of ``Reactor``.

    Raises ``TypeError`` for ``pollers`` and ``asyncio``, since it drives one poller.
    """

    _turns: PollerSelector
    _is_lent: bool
    # Coroutine functions for the end of a lent poller: its connections have ended, and no task is cancelled yet.
    _farewells: set[Callable[[], Coroutine[Any, Any, object]]]

    def __init__(self, *, _lent: Lent | None = None, **options: Any) -> None:
        if refused := {"pollers", "asyncio"} & options.keys():
            text = f"EventLoop() takes no {' and no '.join(sorted(refused))}: it drives one poller"
            raise TypeError(f"{text}; for more there is Reactor(pollers=n, asyncio=True)")
        self._turns = PollerSelector(_lent or Reactor(1, asyncio=True, **options))
        self._is_lent = _lent is not None
        self._farewells = set()
        super().__init__(self._turns)

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if hasattr(self, "_turns"):  # a loop that could not be made has nothing to complain of
            super().__del__(_warn)  # type: ignore[call-arg]

    @property
    def reactor(self) -> Reactor:
        """The reactor of one poller that this loop drives; it runs while the loop does."""
        return self._turns.reactor

    async def shutdown_asyncgens(self) -> None:
        """End the connections that are left, then close asynchronous generators; ``asyncio.Runner`` calls it."""
        await self._end_connections()
        await super().shutdown_asyncgens()

    async def _say_farewell(self) -> None:
        await asyncio.gather(*(farewell() for farewell in self._farewells))

    async def _end_connections(self) -> None:
        if not self._is_lent:
            self.reactor.stop(0)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                while not self._turns.ended:
                    await asyncio.sleep(0)
        await self._cancel_the_rest()

    async def _cancel_the_rest(self) -> None:
        """Cancel coroutines that began when ``asyncio.Runner`` had cancelled all, as those of ``on_close``."""
        rest = list(asyncio.all_tasks() - {asyncio.current_task()})
        for task in rest:
            task.cancel()
        for task, result in zip(rest, await asyncio.gather(*rest, return_exceptions=True), strict=True):
            if isinstance(result, Exception):
                text = "unhandled exception when the event loop ended"
                self.call_exception_handler({"message": text, "exception": result, "task": task})

    def close(self) -> None:
        """As in asyncio. The coroutines of connections that are left are cancelled first."""
        if self._turns.waits and not (self.is_closed() or self.is_running() or _is_in_a_loop()):
            self.run_until_complete(self._end_connections())
        super().close()

    def set_debug(self, enabled: bool) -> None:
        """As in asyncio."""
        super().set_debug(enabled)
        self._turns.set_debug(enabled)

    def stop(self) -> None:
        """As in asyncio."""
        super().stop()
        self._turns.interrupt()

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in asyncio."""
        self._turns.interrupt()  # it waits no longer than until then
        return _of_caller(super().call_at(when, callback, *args, context=context))

    def _call_soon(self, callback: Callable[..., object], args: Any, context: Context | None) -> Any:
        """``call_soon`` and ``call_soon_threadsafe`` of asyncio call it; all callbacks are in one queue."""
        scheduled = self._turns.schedule(callback, args, context)
        return scheduled or _of_caller(super()._call_soon(callback, args, context))  # type: ignore[misc]

    def _make_socket_transport(self, *args: Any, **named: Any) -> Any:
        return quickened(super()._make_socket_transport(*args, **named))  # type: ignore[misc]

    def run_forever(self) -> None:
        if self.is_closed() or self.is_running() or _is_in_a_loop():
            return super().run_forever()  # which says why it cannot run
        self._turns.begin(self)
        try:
            super().run_forever()
        finally:
            self._turns.end()


# Written in Rust, because asyncio calls it for each step of each task.
EventLoop.call_soon = _call_soon_of(EventLoop, asyncio.SelectorEventLoop.call_soon)  # type: ignore[method-assign, assignment]


def reactor() -> Reactor:
    """The reactor of the running event loop: for ``Acceptor``, ``connect`` and ``Reactor.adopt`` beside coroutines.

    Raises RuntimeError: no event loop runs on this thread, or it is not an ``EventLoop``.
    """
    return reactor_of(asyncio.get_running_loop())


def reactor_of(loop: asyncio.AbstractEventLoop) -> Reactor:
    """The reactor of a loop; see ``reactor``."""
    if not isinstance(loop, EventLoop):
        text = f"goev.asyncio.EventLoop must run here, not {type(loop).__name__}; use goev.asyncio.run()"
        raise RuntimeError(f"{text} [GOEV109]")
    return loop.reactor


def run(main: Coroutine[Any, Any, Result], *, debug: bool | None = None) -> Result:
    """Run the coroutine ``main`` on a new ``EventLoop``, as ``asyncio.run(main, debug=debug)`` does; return its result.

    Raises ``RuntimeError`` inside a running event loop.
    """
    if _is_in_a_loop():
        raise RuntimeError("goev.asyncio.run() cannot be called from a running event loop [GOEV106]")
    with asyncio.Runner(debug=debug, loop_factory=EventLoop) as runner:
        return runner.run(main)


def _of_caller(handle: Scheduled) -> Scheduled:
    """In debug mode a handle shows the code that asked for it; the frame of a method here is none of it."""
    if traceback := getattr(handle, "_source_traceback", None):
        del traceback[-1]
    return handle


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def drive(lent: Lent) -> None:
    """Run an event loop on the thread of a poller until the poller has ended; ``Reactor(asyncio=True)`` calls it."""
    with asyncio.Runner(loop_factory=lambda: EventLoop(_lent=lent)) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, EventLoop)
        try:
            loop.run_forever()
            if loop._farewells:
                loop.run_until_complete(loop._say_farewell())
        except BaseException:
            reactor_of(loop).stop(0)
            raise
