"""Real engines for the tests of clusters, on free ports; each can be killed, stopped and started again."""

import signal
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import redis

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


class ClusterServer(Redis):
    """A server of a Redis Cluster. It finds the others again after a restart."""

    def __init__(self, directory: Path, *tls: str) -> None:
        self.bus, self.secure_port = free_port(), free_port()
        directory.mkdir(exist_ok=True)
        cluster = ["--cluster-enabled", "yes", "--cluster-port", str(self.bus), "--cluster-node-timeout", "1000"]
        secure = ["--tls-port", str(self.secure_port), *tls] if tls else []
        super().__init__(directory, *cluster, *secure)
        self.client = redis.Redis(port=self.port, decode_responses=True)

    def run(self, *words: object) -> Any:
        return self.client.execute_command("CLUSTER", *words)  # type: ignore[no-untyped-call]

    @property
    def is_ok(self) -> bool:
        return "cluster_state:ok" in self.run("INFO")

    @property
    def name(self) -> Any:
        """Its name in the cluster."""
        return self.run("MYID")

    def meet(self, other: "ClusterServer") -> None:
        self.run("MEET", "127.0.0.1", other.port, other.bus)

    def close(self) -> None:
        self.client.close()
        super().close()


class RedisCluster:
    """A Redis Cluster of three primaries, under the methods of the others.

    Args:
        tls: options of the servers by which each has a port with TLS as well.
    """

    FIRST, END = (0, 5461, 10923), 16384  # slots

    def __init__(self, folder: Path, *tls: str) -> None:
        self.folder = folder
        self.servers = [ClusterServer(folder / f"server{number}", *tls) for number in range(3)]
        for number, (server, end) in enumerate(zip(self.servers, [*self.FIRST[1:], self.END], strict=True)):
            server.run("SET-CONFIG-EPOCH", number + 1)
            server.run("ADDSLOTSRANGE", self.FIRST[number], end - 1)
        for server in self.servers[1:]:
            server.meet(self.servers[0])
        self.wait_until_ok()

    def wait_until_ok(self) -> None:
        eventually(lambda: all(server.is_ok for server in self.servers), "the servers are one cluster", 20)

    def server_of(self, slot: int) -> ClusterServer:
        """The server that had a slot when the cluster was made."""
        return self.servers[sum(slot >= first for first in self.FIRST) - 1]

    def move(self, slot: int, source: ClusterServer, target: ClusterServer) -> None:
        """Move a slot with its keys."""
        target.run("SETSLOT", slot, "IMPORTING", source.name)
        source.run("SETSLOT", slot, "MIGRATING", target.name)
        for key in source.run("GETKEYSINSLOT", slot, 100):
            source.client.migrate("127.0.0.1", target.port, [key], 0, 5000)
        for server in (target, source, *self.servers):
            server.run("SETSLOT", slot, "NODE", target.name)

    def add_replica(self, primary: ClusterServer) -> ClusterServer:
        """One more server, which takes the place of another when that dies."""
        replica = ClusterServer(self.folder / "replica")
        self.servers.append(replica)
        replica.meet(primary)
        eventually(lambda: primary.name in replica.run("NODES"), "the replica knows its primary")
        replica.run("REPLICATE", primary.name)
        eventually(lambda: replica.client.info("replication")["master_link_status"] == "up", "the replica has all", 20)
        return replica

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.servers[0].port}"

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    def start(self) -> None:
        for server in self.servers:
            server.start()
        self.wait_until_ok()

    def freeze(self) -> None:
        for server in self.servers:
            server.freeze()

    def thaw(self) -> None:
        for server in self.servers:
            server.thaw()

    def close(self) -> None:
        for server in self.servers:
            server.close()


class SharedRedisCluster(RedisCluster):
    """The same servers for one test after another, because each start of a primary takes two seconds."""

    idle: ClassVar[list[RedisCluster]] = []
    folders: ClassVar[ExitStack] = ExitStack()

    @classmethod
    def taken(cls) -> RedisCluster:
        if cls.idle:
            return cls.idle.pop()
        return cls(Path(cls.folders.enter_context(TemporaryDirectory())))

    def close(self) -> None:
        for server in self.servers:
            server.client.flushall()
        self.idle.append(self)

    @classmethod
    def end(cls) -> None:
        """No test takes it any more."""
        for made in cls.idle:
            RedisCluster.close(made)
        cls.idle.clear()
        cls.folders.close()


class KeepingRedis(Redis):
    """A ``redis-server`` that writes down each command before it answers."""

    persistence = "yes"


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
        case "redis-cluster":
            return SharedRedisCluster.taken()
        case _:
            return LineServer()
