"""The startup and the shutdown of an application."""

import logging
from asyncio import Queue, Task, all_tasks, get_running_loop, wait
from types import TracebackType
from typing import Any

from goev.asgi.connection import App
from goev.asgi.ended import LifespanFailed
from goev.asgi.messages import unexpected, without_type

log = logging.getLogger("goev")

ASGI = {"version": "3.0", "spec_version": "2.0"}
CALL = "goev.asgi"  # the name of the tasks of calls


class Lifespan:
    """Starts an application, and ends it: an async context manager around the server.

    ::

        async with goev.asgi.Lifespan(app) as state:
            Site.state = state
            async with goev.asyncio.serve(Site, ":8080") as server:
                await server.serve_forever()

    The result is the state that the application has filled, for ``Connection.state``. An application that knows no
    lifespan raises an exception or returns at once, and is served without one.

    Args:
        app: the application.
        grace: seconds, >= 0, in which calls that have answered may come to their end before the shutdown.

    Raises:
        TypeError, ValueError: an argument is wrong.
        LifespanFailed: the application said that its startup has failed, or its shutdown.
    """

    def __init__(self, app: App, *, grace: float = 5.0) -> None:
        if not callable(app):
            raise TypeError(f"app must be an ASGI application, not {app!r}")
        if not grace >= 0:
            raise ValueError(f"grace must be 0 seconds or more, not {grace}")
        self.app = app
        self.state: dict[str, Any] = {}
        self._grace = grace
        self._events: Queue[dict[str, Any]] = Queue()
        self._task: Task[None] | None = None
        self._expected = ""  # the event that the application has to answer
        self._answer: Any = None  # its answer, a future

    async def __aenter__(self) -> dict[str, Any]:
        self._task = get_running_loop().create_task(self._run(), name="goev.asgi lifespan")
        try:
            answer = await self._ask("startup")
        except BaseException:
            await self._end(0)
            raise
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            await self._end(0)
            raise LifespanFailed(answer.get("message") or "the startup of the application has failed")
        return self.state

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._calls_ended()
        answer = await self._ask("shutdown")
        await self._end(self._grace)
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            text = answer.get("message") or "the shutdown of the application has failed"
            if error is None:
                raise LifespanFailed(text)
            log.error("%s", text)

    async def _calls_ended(self) -> None:
        calls = {task for task in all_tasks() if task.get_name() == CALL}
        if calls:
            await wait(calls, timeout=self._grace)

    async def _ask(self, event: str) -> dict[str, Any] | None:
        """Send an event; ``None`` if the application has ended, or ends, without an answer."""
        if self._task is None or self._task.done():
            return None
        self._expected, self._answer = event, get_running_loop().create_future()
        self._events.put_nowait({"type": f"lifespan.{event}"})
        await wait({self._task, self._answer}, return_when="FIRST_COMPLETED")
        return self._answer.result() if self._answer.done() else None

    async def _end(self, patience: float) -> None:
        """Cancel the application, which has nothing more to do, unless it returns by itself."""
        if self._task is not None and not self._task.done():
            await wait({self._task}, timeout=patience)
            self._task.cancel()
            await wait({self._task})

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": ASGI, "state": self.state}
        try:
            await self.app(scope, self._events.get, self._send)
        except Exception as error:
            if self._expected == "startup" and not self._answer.done():
                log.info("the application knows no lifespan: %r", error)
            else:
                log.error("exception in the lifespan of the application", exc_info=error)

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            kind = message["type"]
        except (KeyError, TypeError):
            raise without_type(message) from None
        known = {f"lifespan.{self._expected}.complete", f"lifespan.{self._expected}.failed"}
        if kind not in known or self._answer.done():
            expected = "nothing" if self._answer.done() else " or ".join(map(repr, sorted(known)))
            raise unexpected(kind, expected)
        self._answer.set_result(message)
