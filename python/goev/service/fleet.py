"""The workers of a service: starting them, giving them sockets, noting their ends, putting others into their places.

A new worker accepts nothing before all of its generation are ready. A place without a worker lends its sockets to the
worker of another place.
"""

import logging
import os
import signal
from asyncio import Event, Future, Task, create_task, gather, get_running_loop, sleep, wait, wait_for
from collections import Counter, deque
from collections.abc import Coroutine, Iterable
from typing import Any

from goev.backoff import Backoff
from goev.service.forking import descriptors
from goev.service.pages import Pages
from goev.service.process import Phase, StartFailed, Worker, described, first_message, spawn
from goev.service.settings import Settings
from goev.service.sockets import Sockets

logger = logging.getLogger("goev.service")

MARGIN = 3.0  # seconds beyond the grace until a worker that stops is killed
LAST_WORDS = 1.0  # seconds between SIGABRT and SIGKILL
SHORT = 5.0  # seconds; a worker that reaches a limit sooner is replaced after a pause
MEMORY = 30.0  # seconds in which deaths of one place count together


class Place:
    """A place for a worker: the worker that serves there now, and its successor."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: Worker | None = None
        self.lent_to: Worker | None = None
        self.backoff = Backoff(memory=MEMORY)
        self.is_filling = False
        self.is_wanted = True

    @property
    def name(self) -> str:
        """The name of its set of sockets."""
        return str(self.number)


class Fleet:
    """The places of a service, and the processes that were not reaped yet."""

    def __init__(self, settings: Settings, sockets: Sockets) -> None:
        self.settings = settings
        self.sockets = sockets
        self.places: list[Place] = []
        self.workers: dict[int, Worker] = {}  # by process id
        self.restarts: Counter[str] = Counter()  # workers that were replaced, by reason
        self.report = (0, 0)  # connections that ended in order at the last stop, and others
        self._kept = descriptors() if settings.start_method == "fork" else set()
        self._forks: deque[Future[Any]] = deque()  # waiters for a fork between two runs of the loop
        self._fork_wanted = Event()
        self._trials: set[int] = set()  # processes that try an upgrade
        self._reloading: Task[None] | None = None
        self._stop: tuple[float, float] | None = None  # grace and drain, once it stops
        self._tasks: set[Task[Any]] = set()
        self._pages: Pages | None = None

    def _start(self, work: Coroutine[Any, Any, Any]) -> "Task[Any]":
        task = create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("the supervisor failed", exc_info=task.exception())

    async def _make(self, place: Place) -> Worker:
        """Start a process for a place."""
        settings = self.settings
        if settings.start_method == "spawn":
            worker = spawn(settings, place.number)
        else:
            made: Future[Any] = get_running_loop().create_future()
            self._forks.append(made)
            self._fork_wanted.set()
            pid, end, stacks = await made
            worker = Worker(place.number, pid, end, stacks, settings)
            worker.channel.send(first_message(settings, place.number, is_fresh=False))
        self.workers[worker.pid] = worker
        return worker

    async def _made_ready(self, place: Place) -> Worker:
        """A worker that has loaded the application. Raises ``StartFailed``."""
        try:
            worker = await self._make(place)
        except OSError as error:
            raise StartFailed(f"no process can be started: {error}") from None
        try:
            await wait_for(worker.ready, self.settings.start_timeout)
        except TimeoutError:
            await self._abort(worker)
            stacks = f":\n{worker.written}" if worker.written else ""
            text = f"{worker.name} was not ready within start_timeout={self.settings.start_timeout:g} s{stacks}"
            raise StartFailed(text) from None
        except BaseException as error:
            worker.kill()
            if isinstance(error, StartFailed):
                raise StartFailed(f"{worker.name} failed:\n{error}") from None
            raise
        return worker

    async def _generation(self, places: Iterable[Place]) -> list[tuple[Place, Worker]]:
        """A worker for each place, all of them listening; or none, and ``StartFailed``. A generation that fails has
        accepted nothing."""
        places = list(places)
        tasks = [create_task(self._made_ready(place)) for place in places]
        try:
            workers = await gather(*tasks)
            await gather(*(self._listen(worker) for worker in workers))
        except BaseException:
            for task in tasks:
                task.cancel()
            for result in await gather(*tasks, return_exceptions=True):
                if isinstance(result, Worker):
                    result.kill()
            raise
        return list(zip(places, workers, strict=True))

    async def _listen(self, worker: Worker) -> None:
        try:
            sockets = self.sockets.of_place(worker.place)
            await wait_for(worker.listen(str(worker.place), sockets), self.settings.start_timeout)
        except (TimeoutError, OSError) as error:
            raise StartFailed(f"{worker.name} does not listen: {error!r}") from None
        if worker.phase is Phase.READY:
            worker.phase = Phase.SERVING

    def _install(self, generation: Iterable[tuple[Place, Worker]]) -> list[Worker]:
        """Put workers into their places; returns the workers that they replace."""
        before = []
        for place, worker in generation:
            if place.worker is not None:
                before.append(place.worker)
            place.worker = worker
            if place.lent_to is not None:
                place.lent_to.unlisten(place.name)
                place.lent_to = None
        return before

    def _retire(self, worker: Worker) -> None:
        """Stop a worker that others have replaced."""
        worker.stop(self.settings.grace, self.settings.drain)
        self._return_loans(worker)
        self._start(self._await_end(worker, self.settings.grace))

    async def _await_end(self, worker: Worker, grace: float) -> None:
        if not await wait_briefly(worker.gone, grace + MARGIN):
            logger.warning("%s did not end within its grace, and is killed", worker.name)
            await self._abort(worker)

    async def _abort(self, worker: Worker) -> None:
        """Kill a worker that does not end by itself; its stacks are in ``written`` then."""
        worker.kill(signal.SIGABRT)
        if not await wait_briefly(worker.gone, LAST_WORDS):
            worker.kill()
            await worker.gone.wait()

    def _reap(self) -> None:
        """Take note of the processes that have ended; as process 1 also of orphans that are not ours."""
        for pid in list(self.workers):
            try:
                found, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                found, status = pid, 0  # other code has reaped it
            if found:
                self._ended(pid, status)
        if os.getpid() == 1:
            self._reap_orphans()

    def _reap_orphans(self) -> None:
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in self._trials or found.si_pid in self.workers:
                return  # looked at again in a moment
            os.waitpid(found.si_pid, os.WNOHANG)

    def _ended(self, pid: int, status: int) -> None:
        worker = self.workers.pop(pid, None)
        if worker is None:
            return
        phase = worker.phase
        worker.ended(status)
        if self._stop is not None:
            self.report = (self.report[0] + worker.report[0], self.report[1] + worker.report[1])
        if self._pages is not None:
            self._pages.retire(worker)
        self._return_loans(worker)
        if phase is Phase.SERVING:
            self._lost(worker, status)
        elif phase is Phase.STOPPING and status and not worker.was_killed:
            self._tell_of_end(worker, status)

    def _lost(self, worker: Worker, status: int) -> None:
        """A worker that served has ended by itself."""
        self._tell_of_end(worker, status)
        place = self.places[worker.place] if worker.place < len(self.places) else None
        if place is None or place.worker is not worker:
            return
        place.worker = None
        self.restarts["stuck" if worker.is_stuck else "died"] += 1
        place.backoff.failed(get_running_loop().time())
        self._lend(place)
        self._fill(place)

    def _tell_of_end(self, worker: Worker, status: int) -> None:
        stacks = f"\n{worker.written}" if worker.written else ""
        logger.error("%s %s%s", worker.name, described(status), stacks)

    def _return_loans(self, worker: Worker) -> None:
        """The worker listens no more: others get the sockets that were lent to it."""
        for place in self.places:
            if place.lent_to is worker:
                place.lent_to = None
                self._lend(place)

    def _lend(self, place: Place) -> None:
        """Have another worker listen on the sockets of an empty place, so that no client waits in their backlogs."""
        if place.worker is not None or self._stop is not None:
            return
        sockets = self.sockets.lent_of(place.number)
        others = [other.worker for other in self.places if other.worker is not None and other.worker.serves]
        if sockets and others:
            place.lent_to = others[place.number % len(others)]
            place.lent_to.listen(place.name, sockets)

    def _fill(self, place: Place) -> None:
        if not place.is_filling and place.is_wanted and self._stop is None:
            place.is_filling = True
            self._start(self._filled(place))

    async def _filled(self, place: Place) -> None:
        """Give a place a worker, with pauses between attempts that fail."""
        try:
            while place.is_wanted:
                now = get_running_loop().time()
                await sleep(max(0.0, place.backoff.until - now))
                if self._reloading is not None:
                    await wait([self._reloading])
                if not place.is_wanted or (place.worker is not None and not self._is_worn(place.worker)):
                    return
                try:
                    generation = await self._generation([place])
                except StartFailed as error:
                    logger.error("no worker for place %d: %s", place.number, error)
                    place.backoff.failed(get_running_loop().time())
                    continue
                for before in self._install(generation):
                    self.restarts["limit"] += 1
                    self._retire(before)
                logger.info("%s serves", generation[0][1].name)
                break
        finally:
            place.is_filling = False
        if not place.is_wanted and place.worker is not None:
            self._empty(place)

    def _empty(self, place: Place) -> None:
        """Take the worker of a place away. Its sockets stay, and another worker gets them."""
        worker, place.worker = place.worker, None
        self._lend(place)
        if worker is not None:
            logger.info("%s is no longer wanted", worker.name)
            self._retire(worker)

    def _is_worn(self, worker: Worker) -> bool:
        return self._reached(worker) is not None

    def _reached(self, worker: Worker) -> str | None:
        """The limit that a worker has reached, with the figure."""
        figures = {
            "max_requests": worker.served,
            "max_memory": worker.memory,
            "max_lifetime": get_running_loop().time() - worker.born,
        }
        for name, limit in worker.limits.items():
            if figures[name] >= limit:
                return f"{name} ({figures[name]:,.0f})"
        return None

    def _replace(self, worker: Worker, reached: str) -> None:
        """Replace a worker at a limit.

        A worker that reached it at once delays its successor, as a death does: the successor will reach it as soon.
        """
        logger.info("%s has reached %s", worker.name, reached)
        now, place = get_running_loop().time(), self.places[worker.place]
        if now - worker.born < SHORT:
            place.backoff.failed(now)
        self._fill(place)


async def wait_briefly(event: Event, timeout: float) -> bool:
    try:
        await wait_for(event.wait(), timeout)
    except TimeoutError:
        return False
    return True
