"""Real engines for the tests of clusters, on free ports; each can be killed, stopped and started again."""

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster_support import NAMES
from outside import LineServer
from real_servers import RedisServer, free_port
from support import PATIENCE, Client, eventually, need


class NatsServer:
    """A ``nats-server`` with JetStream. Its folder outlives a restart."""

    def __init__(self, directory: Path, *arguments: str, jetstream: bool = True) -> None:
        self.program = need("nats-server")
        self.port = free_port()
        store = ["-js", "-sd", str(directory)] if jetstream else []
        self.arguments: Sequence[str] = [*store, *arguments]
        self.start()

    def start(self) -> None:
        command = [self.program, "-a", "127.0.0.1", "-p", str(self.port), *self.arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self.answers, "nats-server answers")

    def answers(self) -> bool:
        assert self.process.poll() is None
        try:
            with Client(("127.0.0.1", self.port)) as client:
                return client.socket.recv(4) == b"INFO"  # while it begins, it may close what it accepted
        except (ConnectionRefusedError, ConnectionResetError):
            return False

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def freeze(self) -> None:
        """It accepts connections, and never answers."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.thaw()
        self.kill()


class Redis(RedisServer):
    """A ``redis-server`` that keeps nothing over a restart."""

    def freeze(self) -> None:
        """It accepts connections, and never answers."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.thaw()
        self.kill()


class Memory:
    """The engine in memory, under the methods of the others."""

    def __init__(self, name: str) -> None:
        from goev.cluster.backplanes.memory import hub

        self.url = f"memory:{name}"
        self.hub = hub(name)

    def kill(self) -> None:
        self.hub.stop(forget=True)

    def start(self) -> None:
        self.hub.start()

    def close(self) -> None:
        pass


def made(name: str, folder: Path) -> Any:
    """An engine by its name."""
    match name:
        case "memory":
            return Memory(next(NAMES))
        case "nats":
            return NatsServer(folder)
        case "redis":
            return Redis(folder)
        case _:
            return LineServer()
