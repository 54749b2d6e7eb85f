"""The supervisor: the life of a service from its first worker to its last; signals, reloads, limits.

It runs no code of the application. It is a program of asyncio on one thread, on ``goev.asyncio``; a fork happens
between two runs of its loop.
"""

import errno
import math
import os
import signal
import socket
import threading
from asyncio import FIRST_COMPLETED, Event, Task, create_task, get_running_loop, sleep, wait
from collections.abc import Callable

from goev import service
from goev.asyncio import EventLoop
from goev.metrics.exposition import check_installed
from goev.service import logs, upgrade
from goev.service.fleet import LAST_WORDS, MARGIN, Fleet, Place, logger, wait_briefly
from goev.service.forking import fork
from goev.service.pages import Pages
from goev.service.process import Phase, StartFailed, Worker, check_target
from goev.service.settings import Settings, check
from goev.service.sockets import Listening, Sockets
from goev.service.systemd import Manager

FAILED = 3  # the exit status when the workers cannot start, as of gunicorn


class Supervisor(Fleet):
    """One service, from its first worker to its last."""

    def __init__(self, settings: Settings, sockets: Sockets, adopted: "upgrade.State | None") -> None:
        super().__init__(settings, sockets)
        self.manager = Manager()
        self.is_ready = False
        self.told: Callable[[Listening], object] | None = None  # called when it serves
        self._adopted = adopted
        self._early: list[Callable[[], object]] = []  # asked for by signals before the first workers serve
        self._reload_wanted = False
        self._upgrade_wanted = False
        self._upgrading: Task[None] | None = None
        self._ending = Event()

    @classmethod
    def of(cls, settings: Settings, ready: Callable[[Listening], object] | None = None) -> "Supervisor":
        """A supervisor that has its sockets open. ``ready`` is called when the workers serve."""
        if service.is_worker:
            text = "a worker that imported the program has come here: call goev.serve(workers=…) below"
            raise RuntimeError(f"{text} 'if __name__ == \"__main__\":' [GOEV804]")
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a supervisor of workers needs the main thread, because signals come there [GOEV804]")
        check(settings)
        check_target(settings)
        _check_pid_file(settings.pid_file)
        if settings.metrics is not None:
            check_installed()  # its import would hold up the loop
        logs.set_up(settings.logging, worker=None)
        adopted = upgrade.State.inherited(settings)
        if adopted is None:
            listen, acceptor, workers = settings.listen, settings.acceptor, settings.workers
            sockets = Sockets.open(listen, acceptor, workers, metrics=settings.metrics)
        else:
            sockets = adopted.sockets(settings)
        supervisor = cls(settings, sockets, adopted)
        supervisor.told = ready
        return supervisor

    # ---- the loop -------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until a signal ends it; returns the exit status."""
        loop = EventLoop()
        try:
            self._handle_signals(loop)
            main = loop.create_task(self._main())
            while True:
                loop.run_until_complete(self._until_fork(main))
                if main.done():
                    return main.result()
                self._fork()
        finally:
            loop.close()

    async def _until_fork(self, main: "Task[int]") -> None:
        wanted = create_task(self._fork_wanted.wait())
        await wait([main, wanted], return_when=FIRST_COMPLETED)
        wanted.cancel()

    def _fork(self) -> None:
        self._fork_wanted.clear()
        while self._forks:
            made = self._forks.popleft()
            try:
                made.set_result(fork(self._kept))
            except OSError as error:
                made.set_exception(error)

    def _handle_signals(self, loop: EventLoop) -> None:
        settings = self.settings
        actions: dict[int, Callable[[], object]] = {
            signal.SIGTERM: lambda: self.stop(settings.grace, settings.drain),
            signal.SIGINT: lambda: self.stop(settings.grace, settings.drain),
            signal.SIGQUIT: lambda: self.stop(0, 0),
            signal.SIGHUP: lambda: self._once_ready(self.reload),
            signal.SIGUSR1: self.reopen,
            signal.SIGUSR2: lambda: self._once_ready(self.upgrade),
            signal.SIGTTIN: lambda: self._once_ready(self.add_place),
            signal.SIGTTOU: lambda: self._once_ready(self.remove_place),
            signal.SIGCHLD: self._reap,
        }
        for number, action in actions.items():
            loop.add_signal_handler(number, action)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, actions)

    def _once_ready(self, action: Callable[[], object]) -> None:
        """Call it as soon as the first workers serve: they may have read the old code."""
        if self.is_ready:
            action()
        elif self._stop is None:
            self._early.append(action)

    # ---- the life of the service ----------------------------------------------------------------------------------

    async def _main(self) -> int:
        self._write_pid_file()
        try:
            if self.settings.metrics is not None:
                self._pages = Pages(self)
                if self._adopted is not None and self._adopted.totals is not None:
                    self._pages.inherit(self._adopted.totals)
            self.places = [Place(number) for number in range(self._count())]
            if not await self._begin():
                return 0 if self._stop is not None else FAILED
            self._announce()
            self._start(self._watch())
            for action in self._early:
                action()
            await self._ending.wait()
            return 0
        finally:
            await self._end()

    def _count(self) -> int:
        """Workers at the start."""
        return self.settings.workers if self._adopted is None else self._adopted.workers_of(self.settings)

    async def _begin(self) -> bool:
        """Bring the first workers up; returns whether they serve."""
        old = self._adopt()
        started = create_task(self._generation(self.places[: self._count()]))
        ending = create_task(self._ending.wait())
        await wait([started, ending], return_when=FIRST_COMPLETED)
        ending.cancel()
        if not started.done():
            started.cancel()
            return False
        try:
            self._install(started.result())
        except StartFailed as error:
            if not old:
                logger.error("the workers cannot start: %s [GOEV802]", error)
                return False
            logger.error("the new workers cannot start, so the old ones serve on: %s", error)
            return True
        for place in self.places[self._count() :]:  # the program before had more
            place.is_wanted = False
            place.worker = None
            self._lend(place)
        for worker in old:
            self._retire(worker)
        return True

    def _adopt(self) -> list[Worker]:
        """The workers of the program that this one has replaced."""
        if self._adopted is None:
            return []
        self.restarts.update(self._adopted.restarts)
        for record in self._adopted.workers:
            worker = Worker(
                record["place"], record["pid"], socket.socket(fileno=record["end"]), record["stacks"], self.settings
            )
            worker.phase = Phase(record["phase"])
            worker.heard = math.inf  # its settings may have asked for no signs of life
            worker.pollers = record["pollers"]
            worker.report, worker.last = tuple(record["report"]), record["last"]
            self.workers[worker.pid] = worker
            if worker.serves:
                while len(self.places) <= worker.place:
                    self.places.append(Place(len(self.places)))
                self.places[worker.place].worker = worker
            elif worker.phase is Phase.STOPPING:
                self._start(self._await_end(worker, self.settings.grace))
            else:
                worker.kill()  # it began under the program before, and has accepted nothing
        self._reap()
        return [worker for worker in self.workers.values() if worker.serves]

    def _announce(self) -> None:
        settings = self.settings
        workers = [place.worker for place in self.places if place.worker is not None]
        pollers = workers[0].pollers if workers else 0
        where = ", ".join(address.name for address in self.sockets.addresses)
        count = f"{len(workers)} worker{'s' if len(workers) != 1 else ''}"
        each = f"{pollers} poller{'s' if pollers != 1 else ''}"
        how = "TLS" if settings.tls is not None else "plain"
        logger.info("serving on %s (%s) with %s of %s each; supervisor %d", where, how, count, each, os.getpid())
        if self.sockets.metrics is not None and self._pages is not None:
            logger.info("metrics and health checks on %s", self.sockets.metrics.name)
        if self.told is not None:
            self.told(Listening(self.sockets))
        self._tell_ready()

    def _tell_ready(self) -> None:
        self.is_ready = True
        serving = sum(1 for place in self.places if place.worker is not None)
        self.manager.ready(f"{serving} workers serve")

    def stop(self, grace: float, drain: float) -> None:
        """Stop in order; a second time at once."""
        if self._stop is not None:
            grace, drain = 0, 0
        self._stop = (grace, drain)
        self.is_ready = False
        if not self._ending.is_set():
            logger.info("stopping within %g s", grace)
            self.manager.stopping()
        self._ending.set()
        for worker in self.workers.values():
            if worker.phase is Phase.STARTING:
                worker.kill()
            else:
                worker.stop(grace, drain)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        grace, _ = self._stop or (self.settings.grace, 0)
        for worker in list(self.workers.values()):
            if worker.phase is Phase.STARTING:
                worker.kill()
            elif worker.phase is not Phase.STOPPING:
                worker.stop(*(self._stop or (self.settings.grace, self.settings.drain)))
        # A connect is refused as soon as the workers have closed their copies of the sockets as well.
        self.sockets.close()
        until = get_running_loop().time() + grace + MARGIN
        for worker in list(self.workers.values()):
            while not worker.gone.is_set():
                if self._stop is not None and self._stop[0] == 0:
                    until = min(until, get_running_loop().time() + LAST_WORDS)
                left = until - get_running_loop().time()
                if left <= 0:
                    logger.warning("%s did not end within its grace, and is killed", worker.name)
                    worker.kill()
                    await worker.gone.wait()
                else:
                    await wait_briefly(worker.gone, min(left, 0.25))
        if self._pages is not None:
            self._pages.close()
        self.sockets.remove_files()
        self._remove_pid_file()
        logger.info("stopped")

    # ---- reload, more and fewer workers ---------------------------------------------------------------------------

    def reload(self) -> None:
        """Replace all workers by new ones. While a reload runs, any number of further ones make one."""
        if self._stop is not None:
            return
        self._reload_wanted = True
        if self._reloading is None:
            self._reloading = self._start(self._reload())

    async def _reload(self) -> None:
        try:
            while self._reload_wanted:
                self._reload_wanted = False
                await self._reload_once()
        finally:
            self._reloading = None
            for place in self.places:
                if place.worker is None:
                    self._fill(place)

    async def _reload_once(self) -> None:
        logger.info("reloading")
        self.manager.reloading()
        try:
            generation = await self._generation([place for place in self.places if place.is_wanted])
        except StartFailed as error:
            logger.error("the reload failed, and the old workers serve on: %s", error)
        else:
            for before in self._install(generation):
                self._retire(before)
            self.restarts["reload"] += len(generation)
            logger.info("reloaded: %s", ", ".join(worker.name for _, worker in generation))
        self._tell_ready()

    def add_place(self) -> None:
        """One worker more."""
        if self._stop is not None:
            return
        idle = next((place for place in self.places if not place.is_wanted), None)
        if idle is None:
            idle = Place(len(self.places))
            self.places.append(idle)
        idle.is_wanted = True
        self._fill(idle)

    def remove_place(self) -> None:
        """One worker fewer; one stays."""
        wanted = [place for place in self.places if place.is_wanted]
        if self._stop is not None:
            return
        if len(wanted) < 2:
            logger.info("one worker stays")
            return
        wanted[-1].is_wanted = False
        self._empty(wanted[-1])

    def reopen(self) -> None:
        """Open log files anew, in all processes."""
        logs.reopen()
        for worker in self.workers.values():
            worker.channel.send({"do": "reopen"})

    # ---- limits ---------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Kill the workers that stand still, and replace the workers that have reached a limit."""
        stuck = self.settings.stuck_timeout
        interval = min([0.5, *([stuck / 4] if stuck is not None else []), *self._watchdog()])
        while True:
            await sleep(interval)
            self.manager.alive()
            self._reap()
            for place in self.places:
                worker = place.worker
                if worker is None or not worker.serves:
                    continue
                if self._is_stuck(worker):
                    await self._kill_stuck(worker)
                elif not place.is_filling and (reached := self._reached(worker)) is not None:
                    self._replace(worker, reached)

    def _watchdog(self) -> list[float]:
        return [] if self.manager.watchdog is None else [self.manager.watchdog]

    def _is_stuck(self, worker: Worker) -> bool:
        limit = self.settings.stuck_timeout
        if limit is None:
            return False
        return worker.stands > limit or get_running_loop().time() - worker.heard > limit + 1.0

    async def _kill_stuck(self, worker: Worker) -> None:
        worker.is_stuck = True
        logger.error(
            "%s stands still for longer than stuck_timeout=%g s, and is killed",
            worker.name,
            self.settings.stuck_timeout,
        )
        await self._abort(worker)

    # ---- the upgrade ----------------------------------------------------------------------------------------------

    def upgrade(self) -> None:
        """Replace this program by a new one in the same process.

        While a trial run lasts, any number of further upgrades make one.
        """
        if self._stop is not None:
            return
        self._upgrade_wanted = True
        if self._upgrading is None:
            self._upgrading = self._start(self._upgrade())

    async def _upgrade(self) -> None:
        try:
            while self._upgrade_wanted:
                self._upgrade_wanted = False
                await self._upgrade_once()
        finally:
            self._upgrading = None

    async def _upgrade_once(self) -> None:
        logger.info("upgrading")
        try:
            await upgrade.check(upgrade.State.of(self), self.settings.start_timeout, self._trials)
        except upgrade.Refused as error:
            logger.error("the upgrade is refused, and everything stays: %s", error)
            return
        while self._stop is None and not self._upgrade_wanted:
            if self._reloading is not None:
                await wait([self._reloading])
            async with upgrade.signals_kept() as kept:
                if self._stop is None and self._reloading is None and not self._upgrade_wanted:
                    self._adopted = upgrade.State.of(self)
                    self._pages = None
                    self._adopted.execute(kept)

    # ---- the rest -------------------------------------------------------------------------------------------------

    def _write_pid_file(self) -> None:
        path = self.settings.pid_file
        if path is None:
            return
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w") as file:
            file.write(f"{os.getpid()}\n")
        os.replace(temporary, path)

    def _remove_pid_file(self) -> None:
        path = self.settings.pid_file
        if path is None:
            return
        try:
            with open(path) as file:
                if file.read().strip() == str(os.getpid()):
                    os.unlink(path)
        except OSError:
            pass


def _check_pid_file(path: str | None) -> None:
    """Raise ``OSError`` if the file cannot be written."""
    if path is None:
        return
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w"):
            os.unlink(temporary)
    except OSError as error:
        raise OSError(error.errno, f"cannot write pid_file {path}: {error.strerror}") from None


def run(settings: Settings) -> int:
    """Serve by worker processes until SIGTERM or SIGINT; on the main thread. Returns the exit status.

    0: stopped by a signal. 3: the workers could not start; the log (logger ``goev.service``) has the traceback.

    Raises:
        OSError: an address cannot be bound, or the pid_file not written.
        ModuleNotFoundError: metrics are wanted, and prometheus_client is not installed.
        TypeError, ValueError: a setting is wrong.
        RuntimeError: called in a worker, or not on the main thread.
    """
    return Supervisor.of(settings).run()
