"""A worker as the supervisor sees it: its process, its channel, the figures that it reports; how one is started."""

import base64
import logging
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
from asyncio import Event, Future, get_running_loop
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import Any

from goev.service.channel import Message, SupervisorEnd
from goev.service.settings import Settings

logger = logging.getLogger("goev.service")

BLOCKED = (
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGTERM,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
)
STACKS = 65536  # bytes of stacks that are kept
MAIN_OF_PACKAGE = "goev_main_of_package"  # names the module that a worker imports as the program


class Phase(Enum):
    STARTING = "starting"
    READY = "ready"
    SERVING = "serving"
    STOPPING = "stopping"
    ENDED = "ended"


class StartFailed(Exception):
    """A worker could not start; the text says why."""


class Worker:
    """One worker process."""

    def __init__(self, place: int, pid: int, end: socket.socket, stacks: int, settings: Settings) -> None:
        loop = get_running_loop()
        self.place = place
        self.pid = pid
        self.stacks = stacks
        self.born = loop.time()
        self.phase = Phase.STARTING
        self.ready: Future[None] = loop.create_future()
        self.listening: dict[str, Future[None]] = {}
        self.gone = Event()
        self.status: int | None = None
        self.heard = loop.time()
        self.stands = 0.0
        self.is_stuck = False  # it is killed for that
        self.was_killed = False
        self.memory = 0
        self.served = 0
        self.pollers = 0
        self.report = (0, 0)
        self._asked = 0
        self._answers: dict[int, Future[Any]] = {}  # to questions for its figures, by their numbers
        self.last: Any = None  # its figures at its end, if there are metrics
        self.limits = _limits(settings)
        self.channel = SupervisorEnd(end, self._take)
        self.ready.add_done_callback(_look_at)
        os.set_blocking(stacks, False)
        self._written = b""
        self._failure = ""
        loop.add_reader(stacks, self.read_stacks)

    @property
    def name(self) -> str:
        return f"worker {self.place} (process {self.pid})"

    @property
    def serves(self) -> bool:
        return self.phase is Phase.SERVING

    @property
    def has_served(self) -> bool:
        """Whether it serves, or has served and stops."""
        return self.pollers > 0 and self.phase in (Phase.SERVING, Phase.STOPPING)

    def _take(self, message: Message) -> None:
        match message["is"]:
            case "ready":
                self.pollers = message["pollers"]
                if self.phase is Phase.STARTING:
                    self.phase = Phase.READY
                    _set(self.ready)
            case "failed":
                failure = StartFailed(message["traceback"].rstrip())
                if self.serves:
                    logger.error("%s could not obey:\n%s", self.name, failure)
                else:
                    self._failure = str(failure)
                for waiting in [self.ready, *self.listening.values()]:
                    _set(waiting, failure)
            case "listening":
                if message["set"] in self.listening:
                    _set(self.listening.pop(message["set"]))
            case "alive":
                self.heard = get_running_loop().time()
                self.stands, self.memory = message["stands"], message["memory"]
                self.served = message["served"]
            case "metrics":
                asked = self._answers.get(message["number"])
                if asked is not None and not asked.done():
                    asked.set_result(message["snapshot"])
            case "ended":
                self.report = (message["closed"], message["aborted"])
                self.last = message["snapshot"]

    def read_stacks(self) -> None:
        """Keep the stacks that faulthandler writes when a fatal signal comes."""
        try:
            data = os.read(self.stacks, STACKS)
        except BlockingIOError:
            return
        if not data:
            get_running_loop().remove_reader(self.stacks)
        self._written = (self._written + data)[:STACKS]

    @property
    def written(self) -> str:
        """Its last words: a traceback, or the stacks of its threads."""
        return "\n".join(filter(None, [self._failure, self._written.decode(errors="replace").strip()]))

    async def snapshot(self) -> Any:
        """Its figures now. Raises ``StartFailed`` if it has ended: then ``last`` has them."""
        self._asked += 1
        number = self._asked
        answer = self._answers[number] = get_running_loop().create_future()
        self.channel.send({"do": "metrics", "number": number})
        try:
            found = await answer
        finally:
            del self._answers[number]
        if self.phase is Phase.ENDED:  # it may have answered and ended before this went on
            raise StartFailed("it has ended")
        return found

    def listen(self, name: str, sockets: Sequence[socket.socket]) -> "Future[None]":
        """Have it listen on a set of sockets; the result comes when it does."""
        waiting = self.listening[name] = get_running_loop().create_future()
        waiting.add_done_callback(_look_at)
        self.channel.send({"do": "listen", "set": name}, [listener.fileno() for listener in sockets])
        return waiting

    def unlisten(self, name: str) -> None:
        self.channel.send({"do": "unlisten", "set": name})

    def stop(self, grace: float, drain: float) -> None:
        if self.phase is not Phase.ENDED:
            self.phase = Phase.STOPPING
            self.channel.send({"do": "stop", "grace": grace, "drain": drain})

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.phase is not Phase.ENDED:
            self.was_killed = True
            os.kill(self.pid, number)  # not reaped yet, so the number is its own

    def ended(self, status: int) -> None:
        """It was reaped."""
        self.channel.read()
        self.read_stacks()
        self.phase, self.status = Phase.ENDED, status
        said = f"\n{self.written}" if self.written else ""
        failure = StartFailed(f"it {described(status)}{said}")
        for waiting in [self.ready, *self.listening.values(), *self._answers.values()]:
            _set(waiting, failure)
        self.close()
        self.gone.set()

    def close(self) -> None:
        self.channel.close()
        if self.stacks >= 0:
            get_running_loop().remove_reader(self.stacks)
            os.close(self.stacks)
            self.stacks = -1


def _look_at(future: "Future[None]") -> None:
    """Mark a failure as seen: asyncio would warn of one that no code has awaited."""
    if not future.cancelled():
        future.exception()


def _set(future: "Future[None]", failure: Exception | None = None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(None)
    else:
        future.set_exception(failure)


def _limits(settings: Settings) -> dict[str, float]:
    """The limits after which the worker is replaced, moved by the jitter."""
    limits = {
        "max_requests": settings.max_requests,
        "max_lifetime": settings.max_lifetime,
        "max_memory": settings.max_memory,
    }
    return {
        name: limit * (1 + settings.jitter * random.uniform(-1, 1))
        for name, limit in limits.items()
        if limit is not None
    }


def described(status: int) -> str:
    """The end of a process in words, from its status of waitpid."""
    if not os.WIFSIGNALED(status):
        return f"ended with status {os.waitstatus_to_exitcode(status)}"
    number = os.WTERMSIG(status)
    try:
        return f"was ended by {signal.Signals(number).name}"
    except ValueError:
        return f"was ended by signal {number}"


def first_message(settings: Settings, place: int, *, is_fresh: bool) -> Message:
    """The settings and the place of a worker. A fresh interpreter imports the program if that has the objects."""
    program = program_data() if is_fresh and not isinstance(settings.target, str) else None
    return {
        "place": place,
        "interval": _interval(settings),
        "settings": base64.b64encode(pickle.dumps(settings)).decode(),
        "program": None if program is None else base64.b64encode(pickle.dumps(program)).decode(),
    }


def _interval(settings: Settings) -> float | None:
    """Seconds between two signs of life; ``None``: the settings need none."""
    if settings.stuck_timeout is not None:
        return min(1.0, settings.stuck_timeout / 4)
    limits = (settings.max_requests, settings.max_memory)
    return None if limits == (None, None) else 0.5


def check_target(settings: Settings) -> None:
    """Raise ``TypeError`` or ``ValueError`` if the workers could not get the object that is to be served."""
    if isinstance(settings.target, str):
        return
    try:
        pickled = pickle.dumps(settings.target)
    except Exception as error:
        text = f"the factory must be picklable for workers, as a class or a function of a module is: {error} [GOEV803]"
        raise TypeError(text) from None
    if settings.start_method == "spawn" and b"__main__" in pickled and not MAIN & program_data().keys():
        text = "workers cannot import a program that python got by -c, from standard input or line by line"
        raise ValueError(f"{text}: write it to a file, or use start_method='fork' [GOEV803]")


MAIN = {"init_main_from_name", "init_main_from_path", MAIN_OF_PACKAGE}


def program_data() -> dict[str, Any]:
    """The data from which a worker imports the program in another interpreter, for ``multiprocessing.spawn.prepare``.

    multiprocessing imports no ``__main__`` of a package or folder, because its children are functions. The
    ``__main__`` of goev's workers has the handlers.
    """
    from multiprocessing.process import ORIGINAL_DIR  # type: ignore[attr-defined]
    from multiprocessing.spawn import get_preparation_data

    data = get_preparation_data("goev-worker")
    data = {name: value for name, value in data.items() if name not in ("authkey", "start_method", "log_level")}
    name = data.get("init_main_from_name", "")
    if name == "__main__":  # of a folder or a zip file
        del data["init_main_from_name"]
        spec = sys.modules["__main__"].__spec__
        path = getattr(spec.loader, "archive", None) or spec.origin if spec is not None else None
        if path is not None:
            data["init_main_from_path"] = os.path.join(ORIGINAL_DIR, path)
    elif name.endswith(".__main__"):
        data[MAIN_OF_PACKAGE] = data.pop("init_main_from_name")
    if not os.path.exists(data.get("init_main_from_path", "/")):
        del data["init_main_from_path"]  # "<stdin>"
    return data


@contextmanager
def signals_blocked() -> Iterator[None]:
    """The signals of the supervisor wait until the end of the block. A process that it starts inherits this."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def channel_ends() -> Iterator[tuple[socket.socket, socket.socket, int, int]]:
    """A channel and a pipe for stacks, for a worker that the block starts.

    Yields the supervisor's and the worker's end of the channel, and the reading and the writing end of the pipe. The
    worker's ends are closed after the block, and the supervisor's too if it raises. Signals wait meanwhile: a signal of
    the terminal would end a worker that has no handlers yet, with a traceback.
    """
    with ExitStack() as always, ExitStack() as at_failure:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        at_failure.callback(ours.close)
        always.callback(theirs.close)
        read, write = os.pipe()
        at_failure.callback(os.close, read)
        always.callback(os.close, write)
        always.enter_context(signals_blocked())
        yield ours, theirs, read, write
        at_failure.pop_all()


def spawn(settings: Settings, place: int) -> Worker:
    """Start a worker in a fresh interpreter."""
    message = first_message(settings, place, is_fresh=True)
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    command = [sys.executable, *flags, "-m", "goev.service.worker"]
    with channel_ends() as (ours, theirs, read, write):
        kept = (theirs.fileno(), write)
        started = subprocess.Popen([*command, *map(str, kept)], pass_fds=kept)
    started.returncode = 0  # the supervisor reaps it
    worker = Worker(place, started.pid, ours, read, settings)
    worker.channel.send(message)
    return worker
