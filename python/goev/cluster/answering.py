"""A call at its connection: on the connection's poller, by ``on_call`` and ``on_tell``."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from goev._core import Connection, MessageTooLong
from goev.cluster.errors import CallFailed, Closed, NoSuchName
from goev.cluster.messages import Message, plain_of

Result = str | bytes | Exception


class Reply:
    """The way back to the caller. The first result counts; if there is none, the caller hears that."""

    def __init__(self, name: str, most: int, send: Callable[[Result], None]) -> None:
        self.name = name
        self._most = most
        self._send: Callable[[Result], None] | None = send

    def give(self, result: object) -> None:
        """Send an answer, or that it is none."""
        if result is None:
            self._finish(b"")
        elif isinstance(result, Message):
            try:
                self._finish(plain_of(result, self._most, "the answer"))
            except MessageTooLong as error:
                self.fail(error)
        else:
            self.fail(TypeError(f"on_call must return str, bytes or None, not {type(result).__name__}"))

    def fail(self, error: BaseException) -> None:
        """Send the reason why there is no answer."""
        if not isinstance(error, NoSuchName):
            error = CallFailed(f"{self.name!r} failed: {type(error).__name__}: {error}")
        self._finish(error)

    def _finish(self, result: Result) -> None:
        send, self._send = self._send, None
        if send is not None:
            with suppress(Closed, RuntimeError):  # the cluster is closed, and nobody waits
                send(result)

    def __del__(self) -> None:
        if self._send is not None:
            self._finish(CallFailed(f"{self.name!r} ended before it answered"))


def answer(connection: Connection, message: str | bytes, reply: Reply) -> Coroutine[Any, Any, None] | None:
    """Call ``on_call``; the result may be a coroutine or a future."""
    on_call = getattr(connection, "on_call", None)
    if on_call is None:
        reply.fail(TypeError(f"{type(connection).__name__} has no on_call"))
        return None
    return _called(on_call, message, reply)


def hand_over(connection: Connection, message: str | bytes, reply: Reply) -> Coroutine[Any, Any, None] | None:
    """Call ``on_tell``, or send the message to the peer."""
    return _called(getattr(connection, "on_tell", connection.send), message, Told(reply))


class Told:
    """A reply without the result."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.fail = reply.fail

    def give(self, _: object) -> None:
        self._reply.give(None)


def _called(
    function: Callable[[str | bytes], object], message: str | bytes, reply: Reply | Told
) -> Coroutine[Any, Any, None] | None:
    """Call a callback of the user. If it raises, the caller hears it, and the connection ends as ever."""
    try:
        result = function(message)
        if asyncio.iscoroutine(result):
            _check_loop(result)
            return _awaited(result, reply)
    except Exception as error:
        reply.fail(error)
        raise
    if isinstance(result, Future):
        result.add_done_callback(lambda future: _finished(future, reply))
    else:
        reply.give(result)
    return None


def _check_loop(coroutine: Coroutine[Any, Any, object]) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        coroutine.close()
        raise TypeError("async def on_call needs a reactor with event loops: Reactor(asyncio=True)") from None


async def _awaited(coroutine: Coroutine[Any, Any, object], reply: Reply | Told) -> None:
    try:
        reply.give(await coroutine)
    except Exception as error:
        reply.fail(error)
        raise


def _finished(future: "Future[object]", reply: Reply | Told) -> None:
    try:
        reply.give(future.result())
    except BaseException as error:  # as a future that was cancelled raises it
        reply.fail(error)
