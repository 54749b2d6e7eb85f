"""The supervisor executes its program anew in the same process, and keeps its sockets and its workers (SIGUSR2).

The new program finds them by a variable of the environment. Before that, a trial run of the program has to get as far
as ``goev.service.run``; else a program that cannot start would end the service.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from asyncio import create_subprocess_exec, wait_for
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from goev.service.process import BLOCKED
from goev.service.settings import Settings
from goev.service.sockets import Address, Sockets

if TYPE_CHECKING:
    from goev.service.supervisor import Supervisor

VARIABLE = "GOEV_UPGRADE"  # "check", or the number of a descriptor that holds the state


class Refused(Exception):
    """The program cannot be executed anew; the text says why."""


async def check(timeout: float, trials: set[int]) -> None:
    """Run the program as far as ``goev.service.run``. Raises ``Refused``. Meanwhile its process id is in ``trials``."""
    environment = {**os.environ, VARIABLE: "check"}
    pipe = subprocess.PIPE
    process = await create_subprocess_exec(
        *command(), env=environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT
    )
    trials.add(process.pid)
    try:
        output, _ = await wait_for(process.communicate(), timeout)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Refused(f"the new program did not come to its server within {timeout:g} s") from None
    finally:
        trials.discard(process.pid)
    if process.returncode != 0:
        raise Refused(f"the new program ended with status {process.returncode}:\n{output.decode(errors='replace')}")


def command() -> list[str]:
    """The command that began this process."""
    return [sys.executable, *sys.orig_argv[1:]]


class State:
    """What one program leaves to the next: descriptors by number."""

    def __init__(self, addresses: list[dict[str, Any]], workers: list[dict[str, Any]], metrics: int | None) -> None:
        self.addresses = addresses
        self.workers = workers
        self.metrics = metrics

    @classmethod
    def of(cls, supervisor: "Supervisor") -> "State":
        sockets = supervisor.sockets
        addresses = [
            {
                "key": address.key,
                "shared": address.is_shared,
                "file": address.file,
                "fds": [listener.fileno() for listener in address.sockets],
            }
            for address in sockets.addresses
        ]
        workers = [
            {
                "place": worker.place,
                "pid": worker.pid,
                "end": worker.channel.end.fileno(),
                "stacks": worker.stacks,
                "phase": worker.phase.value,
            }
            for worker in supervisor.workers.values()
        ]
        return cls(addresses, workers, sockets.metrics.fileno() if sockets.metrics is not None else None)

    def descriptors(self) -> Sequence[int]:
        fds = [fd for address in self.addresses for fd in address["fds"]]
        fds += [worker[end] for worker in self.workers for end in ("end", "stacks")]
        return fds if self.metrics is None else [*fds, self.metrics]

    def execute(self) -> None:
        """Execute the program anew; does not return."""
        file = os.memfd_create("goev-upgrade", 0)
        os.set_inheritable(file, True)
        os.write(file, json.dumps(vars(self)).encode())
        for fd in self.descriptors():
            os.set_inheritable(fd, True)
        # A signal must not end the program before it has its handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, (*BLOCKED, signal.SIGTTIN, signal.SIGTTOU))
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, command(), {**os.environ, VARIABLE: str(file)})

    @classmethod
    def inherited(cls) -> "State | None":
        """What the program before has left. Ends the process if this is only a trial run."""
        value = os.environ.pop(VARIABLE, None)
        if value is None:
            return None
        if value == "check":
            raise SystemExit(0)
        with os.fdopen(int(value), "rb") as file:
            file.seek(0)
            state = cls(**json.loads(file.read()))
        for fd in state.descriptors():
            os.set_inheritable(fd, False)
        return state

    def sockets(self, settings: Settings) -> Sockets:
        """The sockets of the new settings: those that are there, and new ones for addresses that are new."""
        left = {}
        for record in self.addresses:
            sockets = [socket.socket(fileno=fd) for fd in record["fds"]]
            left[record["key"]] = Address(record["key"], sockets, is_shared=record["shared"])
            left[record["key"]].file = None if record["file"] is None else tuple(record["file"])
        metrics = None if self.metrics is None else socket.socket(fileno=self.metrics)
        return Sockets.open(settings.listen, settings.acceptor, settings.workers, left=left, metrics=metrics)
