"""A worker: one process that serves the application.

The main thread is poller 0. A thread beside it answers the supervisor. The end of its socket means that the supervisor
is gone, and the worker stops with its grace.
"""

import base64
import errno
import faulthandler
import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Coroutine
from importlib import import_module
from types import ModuleType
from typing import Any

from goev import service
from goev._core import Acceptor, Reactor, StopReport
from goev.logs import AccessLog
from goev.service import logs
from goev.service.channel import Message, WorkerEnd
from goev.service.interfaces import Interface, interface_of
from goev.service.loading import explain, load
from goev.service.settings import Settings
from goev.service.sockets import OF_PROCESS
from goev.tls import ServerContext

LEFT_ALONE = (
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
)
SOON, SELDOM = 0.01, 0.25  # seconds between two looks whether the reactor has ended: in a stop, before one
BARRIER = 0.5  # seconds that pollers have for the sockets that are on their way
FAILED = 3  # the exit status of a worker that cannot start, as of gunicorn's


class Worker:
    """The application on its reactor, and the answers to the supervisor."""

    settings: Settings  # once it was loaded, which may run code of the application

    def __init__(self, channel: WorkerEnd, first: Message) -> None:
        self.channel = channel
        self.place: int = first["place"]
        self._first = first
        self.reactor: Reactor | None = None
        self._interface: Interface | None = None
        self._options: dict[str, Any] = {}
        self._acceptors: dict[str, Acceptor] = {}
        self._retired: list[Acceptor] = []  # their counters still count
        self._access_log: AccessLog | None = None
        self._stops = False
        self._probes: dict[int, float] = {}  # when each poller was asked; its answer removes the entry
        self._lock = threading.Lock()

    # ---- the main thread ------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Load the application and make its interface. An exception ends the start."""
        if self._first["program"] is not None:
            _prepare_program(_unpickled(self._first["program"]))
        self.settings = settings = _unpickled(self._first["settings"])
        if settings.affinity:
            os.sched_setaffinity(0, {settings.affinity[self.place % len(settings.affinity)]})
        logs.set_up(settings.logging, worker=self.place)
        target = settings.target
        app = load(target, settings.app_dir) if isinstance(target, str) else target
        interface = interface_of(app, settings)
        self._options = {name: value for name, value in settings.acceptor.items() if name not in OF_PROCESS}
        self._options.pop("unix_mode", None)
        if settings.tls is not None:
            self._options["tls"] = ServerContext(**settings.tls)
        if settings.logging.access_log is not None:
            asked = settings.logging
            self._access_log = AccessLog(
                asked.access_log, format=asked.access_log_format, sample=asked.access_log_sample, worker=self.place
            )
            self._options["access_log"] = self._access_log
        self._interface = interface

    def run(self) -> None:
        """Serve until the supervisor, or a signal, ends it."""
        assert self._interface is not None
        options = self._reactor_options()
        if self._interface.on_loop:
            report = _run_on_loop(self._live_on_loop(), options)
        else:
            reactor = Reactor(**{**options, "asyncio": self._interface.asyncio})
            reactor.call_soon(self._ready, reactor)
            report = reactor.run(signals=False)
        last = self._snapshot() if self.settings.metrics is not None else None
        self._interface.close()
        if self._access_log is not None:
            self._access_log.close()
        self.channel.send({"is": "ended", "closed": report.closed, "aborted": report.aborted, "snapshot": last})

    def _reactor_options(self) -> dict[str, Any]:
        """The options of the settings; histograms are measured only for metrics."""
        options = dict(self.settings.reactor)
        if self.settings.logging.slow_callback is not None:
            options["slow_callback"] = self.settings.logging.slow_callback
        if self.settings.metrics is not None:
            options.setdefault("measure", True)
        return options

    async def _live_on_loop(self) -> Reactor:
        """The life of an application on the event loop of its connections; the reactor has ended then."""
        from asyncio import sleep  # here, because workers of plain handlers need no asyncio

        from goev.asyncio import reactor

        assert self._interface is not None
        own = reactor()
        await self._interface.begin()
        try:
            self._ready(own)
            while own.running:
                await sleep(SOON if self._stops else SELDOM)
            return own
        finally:
            await self._interface.end()

    def _ready(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.channel.send({"is": "ready", "pollers": reactor.pollers})

    # ---- the control thread ---------------------------------------------------------------------------------------

    def obey(self) -> None:
        """Answer the supervisor until it is gone."""
        interval: float | None = self._first["interval"]
        due = time.monotonic()
        while True:
            try:
                message = self.channel.receive(None if interval is None else max(0.001, due - time.monotonic()))
            except TimeoutError:
                message = {"do": "nothing"}
            if message is None:
                return self.stop()
            try:
                self._do(message)
            except Exception:
                self.channel.send({"is": "failed", "traceback": traceback.format_exc()})
            if interval is not None and time.monotonic() >= due:
                self._tell_of_life()
                due = time.monotonic() + interval

    def _do(self, message: Message) -> None:
        match message["do"]:
            case "listen":
                self._listen(message["set"], message["fds"])
            case "unlisten":
                self._unlisten(message["set"])
            case "stop":
                self.stop(message["grace"], message["drain"])
            case "metrics":
                self.channel.send({"is": "metrics", "number": message["number"], "snapshot": self._snapshot()})
            case "reopen":
                logs.reopen()
                if self._access_log is not None:
                    self._access_log.reopen()

    def _snapshot(self) -> Any:
        """The figures of this process for the metrics; ``None`` before it is ready."""
        if self.reactor is None:
            return None
        from goev.metrics import snapshot  # here, because it imports asyncio

        return snapshot([self.reactor], [*self._retired, *self._acceptors.values()])

    def _listen(self, name: str, fds: list[int]) -> None:
        assert self._interface is not None
        assert self.reactor is not None
        if not fds:
            raise OSError(errno.EMFILE, f"no descriptors for the sockets of {name!r}")
        sockets: list[str | socket.socket] = [socket.socket(fileno=fd) for fd in fds]
        try:
            acceptor = Acceptor(self.reactor, sockets, self._interface.connection, **self._options)
        finally:
            for listener in sockets:
                assert not isinstance(listener, str)
                listener.close()  # the acceptor has its own copies
        self._acceptors[name] = acceptor
        self.channel.send({"is": "listening", "set": name})

    def _unlisten(self, name: str) -> None:
        acceptor = self._acceptors.pop(name, None)
        if acceptor is not None:
            acceptor.close()
            self._retired.append(acceptor)

    def stop(self, grace: float | None = None, drain: float | None = None) -> None:
        """Stop in order, by default as the settings say. A worker that is not ready yet has nothing to end."""
        if self.reactor is None:
            os._exit(0)
        self._stops = True
        grace = self.settings.grace if grace is None else grace
        drain = self.settings.drain if drain is None else drain
        if self.reactor.pollers > 1 and grace > 0:
            self._stop_behind_accepted(self.reactor, grace, drain)
        else:
            self.reactor.stop(grace, drain=drain)

    def _stop_behind_accepted(self, reactor: Reactor, grace: float, drain: float) -> None:
        """Stop when the sockets that one poller has accepted for another have reached it.

        A poller that has stopped takes none.
        """
        for acceptor in list(self._acceptors.values()):
            acceptor.close()
        missing = set(range(reactor.pollers))

        def passed(poller: int) -> None:
            with self._lock:
                missing.discard(poller)
                is_last = not missing
            if is_last:
                reactor.stop(grace, drain=drain)

        # A poller that stands still does not hold up the others for long.
        timer = threading.Timer(BARRIER, reactor.stop, (grace,), {"drain": drain})
        timer.daemon = True
        timer.start()
        reactor._call_on_each(passed)

    def _tell_of_life(self) -> None:
        now = time.monotonic()
        with self._lock:
            stands = max((now - since for since in self._probes.values()), default=0.0)
            ask = not self._probes and self.reactor is not None
            if ask:
                assert self.reactor is not None
                self._probes = dict.fromkeys(range(self.reactor.pollers), now)
        if ask:
            self._probe()
        self.channel.send({"is": "alive", "stands": stands, "memory": _memory(), "served": self._served()})

    def _probe(self) -> None:
        assert self.reactor is not None
        try:
            self.reactor._call_on_each(self._answered)
        except RuntimeError:
            self._probes.clear()  # the reactor has ended

    def _answered(self, poller: int) -> None:
        with self._lock:
            self._probes.pop(poller, None)

    def _served(self) -> int:
        """Requests, and connections of a protocol without requests."""
        if self.reactor is None:
            return 0
        stats: list[Any] = self.reactor.stats()
        return sum(max(each["accepted"], _total(each.get("answers", 0))) for each in stats)


def _run_on_loop(life: Coroutine[Any, Any, Reactor], options: dict[str, Any]) -> StopReport:
    """Run a coroutine on an event loop that has a reactor of these options. The coroutine returns the reactor."""
    from asyncio import Runner  # here, as in _live_on_loop

    from goev.asyncio import EventLoop

    of_loop = {name: value for name, value in options.items() if name not in ("pollers", "asyncio")}
    with Runner(loop_factory=lambda: EventLoop(**of_loop)) as runner:
        return runner.run(life).join(0)  # here, because join inside a callback of the loop raises


def _total(counted: Any) -> int:
    """A counter, or the sum of counters by kind."""
    return sum(map(_total, counted.values())) if isinstance(counted, dict) else int(counted)


def _unpickled(text: str) -> Any:
    return pickle.loads(base64.b64decode(text))


def _memory() -> int:
    """Bytes of resident memory."""
    with open("/proc/self/statm") as figures:
        return int(figures.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def serve(end: socket.socket, stacks: int) -> int:
    """Be a worker; the supervisor is at the other end of the socket. Returns the exit status.

    Args:
        end: one end of a pair of Unix stream sockets.
        stacks: a descriptor for the stacks of all threads when a fatal signal comes.
    """
    service.is_worker = True
    faulthandler.enable(stacks)
    channel = WorkerEnd(end)
    first = channel.receive()
    if first is None:
        return 0
    try:
        worker = Worker(channel, first)
        _set_signals(worker)
        threading.Thread(target=worker.obey, name="goev-control", daemon=True).start()
        worker.prepare()
        worker.run()
    except BaseException as error:
        channel.send({"is": "failed", "traceback": explain(error)})
        return FAILED
    return 0


def _prepare_program(data: dict[str, Any]) -> None:
    """Import the program that called ``goev.serve``, as multiprocessing does for its children."""
    from multiprocessing.spawn import prepare  # here, as runpy below, because a target that is text needs neither

    name = data.pop("goev_main_of_package", None)
    prepare(data)
    if name is not None:
        import runpy

        main = ModuleType("__mp_main__")
        main.__dict__.update(runpy.run_module(name, run_name="__mp_main__", alter_sys=True))
        sys.modules["__main__"] = sys.modules["__mp_main__"] = main


def _set_signals(worker: Worker) -> None:
    """SIGTERM stops this worker. The signals of a terminal are for the supervisor."""

    def on_term(*_: object) -> None:
        worker.stop()

    def ignore(*_: object) -> None:
        """A function, because programs that the application starts would inherit ``SIG_IGN``."""

    for number in LEFT_ALONE:
        signal.signal(number, ignore)
    signal.signal(signal.SIGTERM, on_term)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def main() -> None:
    """``python -m goev.service.worker``, started by the supervisor."""
    end, stacks = map(int, sys.argv[1:3])
    os.set_inheritable(end, False)
    os.set_inheritable(stacks, False)
    status = serve(socket.socket(fileno=end), stacks)
    sys.exit(status)


if __name__ == "__main__":
    import_module("goev.service.worker").main()  # objects of this file exist once, under its name
