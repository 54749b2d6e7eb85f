"""Real servers of databases on free ports. Each can go away, and be started again on the same port."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from support import PATIENCE, Client, eventually, need


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """A ``redis-server`` that keeps nothing."""

    persistence = "no"

    def __init__(self, directory: Path, *options: str) -> None:
        self.options = options
        self.program = need("redis-server")
        self.directory = directory
        self.port = free_port()
        self.start()

    def start(self) -> None:
        command = [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--appendonly", self.persistence, "--dir", str(self.directory), *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        eventually(self.answers, "redis-server answers")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        assert self.process.poll() is None
        try:
            return self.ask(b"PING") == b"+PONG"
        except ConnectionRefusedError:
            return False

    def ask(self, command: bytes) -> bytes:
        """The first line of the reply to a command in Redis' inline form."""
        with Client(("127.0.0.1", self.port)) as client:
            client.send(command + b"\r\n")
            answer = b""
            while not answer.endswith(b"\r\n"):
                answer += client.receive(1)
            return answer[:-2]

    def counted(self, key: str) -> int:
        return int(self.ask(f"INCRBY {key} 0".encode())[1:])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)


class PostgresServer:
    """A PostgreSQL server in a folder below /tmp. It refuses root, so root starts it as ``nobody``."""

    def __init__(self) -> None:
        found = need("postgres", "postgresql", *Path("/usr/lib/postgresql").glob("*/bin"))
        self.programs = Path(found).resolve().parent
        self.user = "nobody" if os.geteuid() == 0 else None
        self.folder = tempfile.TemporaryDirectory()
        if self.user:
            shutil.chown(self.folder.name, self.user)
        self.port = free_port()
        assert self.run("initdb", "-U", "postgres", "-A", "trust", "--no-sync", "-D", "data").wait(PATIENCE) == 0
        self.start()

    def run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [self.programs / program, *arguments]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, cwd=self.folder.name, user=self.user, stdout=quiet, stderr=quiet)

    def start(self) -> None:
        self.process = self.run("postgres", "-D", "data", "-F", "-k", "", "-h", "127.0.0.1", "-p", str(self.port))
        eventually(self.answers, "PostgreSQL answers")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def answers(self) -> bool:
        assert self.process.poll() is None
        asking = self.run("pg_isready", "-q", "-U", "postgres", "-h", "127.0.0.1", "-p", str(self.port))
        return asking.wait(PATIENCE) == 0

    def stop(self) -> None:
        """Ends all its connections, and then it; what it keeps stays."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)

    def close(self) -> None:
        self.stop()
        self.folder.cleanup()
