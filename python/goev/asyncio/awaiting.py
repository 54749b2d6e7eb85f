"""The awaitables of connections and reactors.

Each belongs to the event loop that drives the poller of its object: another loop or thread gets ``WrongThread``.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from goev._core import Connection, Reactor, WrongThread


async def drained(connection: Connection) -> None:
    """See ``Connection.drained``."""
    future = _future_of(connection, "drained()")
    if connection._when_drained(future):
        await future


async def closed(connection: Connection) -> BaseException | None:
    """See ``Connection.closed``."""
    future = _future_of(connection, "closed()")
    connection._when_closed(future)
    error: BaseException | None = await future
    return error


async def run_in_executor(reactor: Reactor, executor: Any, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """See ``Reactor.run_in_executor_async``."""
    check_loop(reactor, "run_in_executor_async()")
    return await asyncio.wrap_future(reactor.run_in_executor(executor, function, *args, then=_nothing))


async def deliver(connection: Connection, first: Coroutine[Any, Any, Any], rest: list[Any]) -> Any:
    """Ends the first ``on_message`` of a framing in Python, then calls the next ones, one at a time."""
    answer = await first
    while rest and answer is not False and connection._is_open():
        answer = connection.on_message(rest.pop(0))
        if asyncio.iscoroutine(answer):
            answer = await answer
    return answer


def check_loop(reactor: Reactor | None, method: str) -> asyncio.AbstractEventLoop:
    """The running loop, if it drives a poller of ``reactor``."""
    loop = asyncio.get_running_loop()
    if reactor is None or getattr(loop, "reactor", None) is not reactor:
        raise _elsewhere(method)
    return loop


def _future_of(connection: Connection, method: str) -> "asyncio.Future[Any]":
    loop = asyncio.get_running_loop()
    if not connection._is_here():
        raise _elsewhere(method)
    return loop.create_future()


def _elsewhere(method: str) -> WrongThread:
    return WrongThread(f"{method} was called from an event loop that does not drive its poller [GOEV101]")


def _nothing(_: object) -> None:
    pass
