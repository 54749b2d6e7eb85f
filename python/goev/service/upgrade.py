"""The supervisor executes its program anew in the same process, and keeps its sockets and its workers (SIGUSR2).

The new program finds them by a variable of the environment. Before that, a trial run of the program has to get as far
as ``goev.service.run`` and to open the addresses that are new; else a program that cannot start would end the service.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from asyncio import CancelledError, Event, create_subprocess_exec, get_running_loop, wait_for
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from goev.service.process import BLOCKED, signals_blocked
from goev.service.settings import Settings
from goev.service.sockets import METRICS, SYSTEMD, Address, Sockets

if TYPE_CHECKING:
    from goev.service.supervisor import Supervisor

VARIABLE = "GOEV_UPGRADE"  # the number of a descriptor that holds the state; in a trial run with one to report to
ARRIVED = b"arrived"
MARK = signal.SIGURG  # a signal without an effect by default, which the supervisor does not use
KEPT = 4096  # signals that wait for the new program at most


class Refused(Exception):
    """The program cannot be executed anew; the text says why."""


async def check(state: "State", timeout: float, trials: set[int]) -> None:
    """Run the program as far as ``goev.service.run``. Raises ``Refused``. Meanwhile its process id is in ``trials``.

    The exit status alone says nothing: a program that returns before it serves has the status 0 as well.
    """
    file = state.written()
    report = os.memfd_create("goev-trial", 0)
    pipe = subprocess.PIPE
    try:
        process = await create_subprocess_exec(
            *command(),
            env={**os.environ, VARIABLE: f"{file},{report}"},
            pass_fds=(file, report),
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=subprocess.STDOUT,
        )
        await _finished(process, timeout, trials)
        if os.pread(report, len(ARRIVED), 0) != ARRIVED:
            raise Refused(f"the new program ended with status {process.returncode} and did not come to its server")
    finally:
        os.close(file)
        os.close(report)


async def _finished(process: Process, timeout: float, trials: set[int]) -> None:
    """Wait for the end of the trial run."""
    trials.add(process.pid)
    try:
        output, _ = await wait_for(process.communicate(), timeout)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Refused(f"the new program did not come to its server within {timeout:g} s") from None
    except CancelledError:  # the service stops
        process.kill()
        raise
    finally:
        trials.discard(process.pid)
    if process.returncode != 0:
        raise Refused(f"the new program ended with status {process.returncode}:\n{output.decode(errors='replace')}")


@asynccontextmanager
async def signals_kept() -> AsyncIterator[int]:
    """In the block the event loop gets no signals. It has handled the earlier ones when the block begins.

    Later signals wait until the block ends, or for the new program. The main thread blocks them. Another thread may
    still take a signal: its number waits in a pipe. Yields the descriptor from which the new program reads the numbers.
    """
    loop, handled = get_running_loop(), Event()
    loop.add_signal_handler(MARK, handled.set)
    kept, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    with signals_blocked():
        to_loop = signal.set_wakeup_fd(write)
        try:
            os.write(to_loop, bytes([MARK]))  # behind the signals that have come
            await handled.wait()
            yield kept
        finally:
            loop.remove_signal_handler(MARK)
            signal.set_wakeup_fd(to_loop)
            with suppress(BlockingIOError):
                os.write(to_loop, os.read(kept, KEPT))
            os.close(kept)
            os.close(write)


def command() -> list[str]:
    """The command that began this process."""
    return [sys.executable, *sys.orig_argv[1:]]


class State:
    """The descriptors, by number, and the figures that one program leaves to the next."""

    def __init__(
        self,
        addresses: list[dict[str, Any]],
        workers: list[dict[str, Any]],
        metrics: dict[str, Any] | None,
        more: int,
        restarts: dict[str, int],
        totals: Any,
        kept: int = -1,
    ) -> None:
        self.addresses = addresses
        self.workers = workers
        self.metrics = metrics
        self.more = more  # workers that signals have added to the number of the settings
        self.restarts = restarts
        self.totals = totals  # of the metrics, for workers that have ended
        self.kept = kept  # the descriptor of ``signals_kept``

    @classmethod
    def of(cls, supervisor: "Supervisor") -> "State":
        sockets = supervisor.sockets
        workers = [
            {
                "place": worker.place,
                "pid": worker.pid,
                "end": worker.channel.end.fileno(),
                "stacks": worker.stacks,
                "phase": worker.phase.value,
                "pollers": worker.pollers,
                # Its last words may have been read, and its end has to be seen by the next program.
                "report": worker.report,
                "last": worker.last,
            }
            for worker in supervisor.workers.values()
        ]
        metrics = None if sockets.metrics is None else _record(sockets.metrics)
        wanted = sum(1 for place in supervisor.places if place.is_wanted)
        more = wanted - supervisor.settings.workers
        totals = None if supervisor._pages is None else supervisor._pages.left()
        addresses = [_record(address) for address in sockets.addresses]
        return cls(addresses, workers, metrics, more, dict(supervisor.restarts), totals)

    def descriptors(self) -> Sequence[int]:
        addresses = self.addresses if self.metrics is None else [*self.addresses, self.metrics]
        fds = [fd for address in addresses for fd in address["fds"]]
        fds += [self.kept] if self.kept >= 0 else []
        return fds + [worker[end] for worker in self.workers for end in ("end", "stacks") if worker[end] >= 0]

    def written(self) -> int:
        """The descriptor of a file in memory that holds the state."""
        file = os.memfd_create("goev-upgrade")
        os.write(file, json.dumps(vars(self)).encode())
        return file

    def execute(self, kept: int) -> None:
        """Execute the program anew, inside the block of ``signals_kept``; does not return."""
        self.kept = kept
        file = self.written()
        for fd in (file, *self.descriptors()):
            os.set_inheritable(fd, True)
        logging.shutdown()  # lines may wait for the thread of a StderrHandler
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, command(), {**os.environ, VARIABLE: str(file)})

    @classmethod
    def inherited(cls, settings: Settings) -> "State | None":
        """The state that the program before has left. Ends the process if this is only a trial run.

        Raises ``OSError`` in a trial run if an address of the settings that is new cannot be opened.
        """
        value = os.environ.pop(VARIABLE, None)
        if value is None:
            return None
        number, _, report = value.partition(",")
        with os.fdopen(int(number), "rb") as file:
            file.seek(0)
            state = cls(**json.loads(file.read()))
        if report:
            state._try_new_addresses(settings)
            os.write(int(report), ARRIVED)
            raise SystemExit(0)
        for fd in state.descriptors():
            os.set_inheritable(fd, False)
        state._raise_kept_signals()
        return state

    def _raise_kept_signals(self) -> None:
        """Raise the signals of the pipe. They are blocked until the supervisor has its handlers."""
        if self.kept >= 0:
            with suppress(BlockingIOError):
                for number in {*os.read(self.kept, KEPT)} & {*BLOCKED}:
                    signal.raise_signal(number)
            os.close(self.kept)
            self.kept = -1

    def _try_new_addresses(self, settings: Settings) -> None:
        """Open the addresses that are not open yet, and close them again."""
        known = {record["key"] for record in self.addresses}
        is_of_systemd = any(key.startswith(SYSTEMD) for key in known)
        listen = [] if is_of_systemd else [address for address in settings.listen if str(address) not in known]
        is_known = self.metrics is not None and self.metrics["key"] in (settings.metrics, SYSTEMD + METRICS)
        metrics = None if is_known else settings.metrics
        sockets = Sockets.open(listen, settings.acceptor, 1, metrics=metrics)
        sockets.close()
        sockets.remove_files()

    def sockets(self, settings: Settings) -> Sockets:
        """The sockets of the new settings: inherited ones, and new ones for addresses that are new."""
        return Sockets.open(
            settings.listen,
            settings.acceptor,
            self.workers_of(settings),
            metrics=settings.metrics,
            left={record["key"]: _address(record) for record in self.addresses},
            left_metrics=None if self.metrics is None else _address(self.metrics),
        )

    def workers_of(self, settings: Settings) -> int:
        """How many workers the new settings and the signals before ask for."""
        return max(1, settings.workers + self.more)


def _record(address: Address) -> dict[str, Any]:
    return {
        "key": address.key,
        "shared": address.is_shared,
        "file": address.file,
        "fds": [listener.fileno() for listener in address.sockets],
    }


def _address(record: dict[str, Any]) -> Address:
    sockets = [socket.socket(fileno=fd) for fd in record["fds"]]
    address = Address(record["key"], sockets, is_shared=record["shared"])
    address.file = None if record["file"] is None else tuple(record["file"])
    return address
