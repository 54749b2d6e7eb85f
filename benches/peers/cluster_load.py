"""Members of a group on some nodes, and a client that asks for messages; prints one line of JSON.

``held``: the time that a call holds its caller, as the first node measures it, for groups of several sizes. Messages of
the cluster's group and of a local group with the same members are asked for in turn, the next one when all members have
the last one. One member is on each other node.

``fan-out``: deliveries per second to members on all nodes. ``--senders`` nodes are asked for each message, and the next
messages when all members have the last ones.
"""

from __future__ import annotations

import argparse
import json
import resource
import select
import socket
import statistics
import struct
import time

SIZE = 100
CALLS = 20_000  # of sends times members, for each size
MOST, LEAST = 500, 30  # calls for a size
AT_ONCE = 4  # messages that are asked for at once
PATIENCE = 10.0


class Client:
    """Connections to the nodes."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._members: dict[int, socket.socket] = {}
        self._elsewhere: set[int] = set()  # members on other nodes than the first
        self._poll = select.epoll()
        self._asking = [self._connect(port) for port in ports]

    def _connect(self, port: int) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def join(self, node: int, count: int) -> None:
        """Make so many members on a node."""
        for _ in range(count):
            member = self._connect(self._ports[node])
            member.sendall(b"j")
            if member.recv(1) != b"j":
                raise SystemExit("the node did not answer")
            self._members[member.fileno()] = member
            if node:
                self._elsewhere.add(member.fileno())
            self._poll.register(member, select.EPOLLIN)

    def settle(self) -> None:
        """Return when messages of each node reach all members, which takes a while after the first one joined."""
        end = time.monotonic() + PATIENCE
        for node in range(len(self._ports)):
            while not self.ask([node], 1, patience=0.2):
                if time.monotonic() > end:
                    raise SystemExit("the members do not get all messages")
        self._drain()

    def ask(self, nodes: list[int], messages: int, patience: float = PATIENCE) -> bool:
        """Ask the nodes for messages, all together, and wait until each member has them, one of each if several ask."""
        for node in nodes:
            self._asking[node].sendall(b"s" * messages)
        return self._wait_for(dict.fromkeys(self._members, messages * SIZE), patience)

    def ask_here(self) -> bool:
        """Ask the first node for a message to its own members, and wait until each has it."""
        self._asking[0].sendall(b"h")
        return self._wait_for(dict.fromkeys(self._members.keys() - self._elsewhere, SIZE), PATIENCE)

    def _wait_for(self, missing: dict[int, int], patience: float) -> bool:
        while missing:
            events = self._poll.poll(patience)
            if not events:
                return False
            for fd, _ in events:
                data = self._members[fd].recv(65536)
                if not data:
                    raise SystemExit("a node closed a connection")
                if fd in missing:
                    missing[fd] -= len(data)
                    if missing[fd] <= 0:
                        del missing[fd]
        return True

    def _drain(self) -> None:
        """Take what came late."""
        while events := self._poll.poll(0.1):
            for fd, _ in events:
                self._members[fd].recv(65536)

    def took(self) -> float:
        """The time that the last call held the first node."""
        self._asking[0].sendall(b"t")
        data = b""
        while len(data) < 8:
            data += self._asking[0].recv(8 - len(data))
        (took,) = struct.unpack("<d", data)
        return float(took)


def held(client: Client, nodes: int, sizes: list[int]) -> dict[str, float]:
    measured: dict[str, float] = {}
    before = 0
    for node in range(1, nodes):
        client.join(node, 1)
    for size in sizes:
        client.join(0, size - before)
        before = size
        client.settle()
        asks = {"held": lambda: client.ask([0], 1), "here": client.ask_here}
        times: dict[str, list[float]] = {kind: [] for kind in asks}
        for _ in range(max(LEAST, min(MOST, CALLS // size))):
            for kind, ask in asks.items():
                if not ask():
                    raise SystemExit("members have not got a message")
                times[kind].append(client.took())
        for kind, taken in times.items():
            measured[f"{kind}_{size}"] = statistics.median(taken)
            measured[f"{kind}_p99_{size}"] = statistics.quantiles(taken, n=100)[98]
    return measured


def fan_out(client: Client, nodes: int, members: int, senders: int, seconds: float) -> dict[str, float]:
    for node in range(nodes):
        client.join(node, members)
    if senders == 1:
        client.settle()
    asked, rounds, began = list(range(senders)), 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        if not client.ask(asked, AT_ONCE):
            raise SystemExit("members have not got their messages")
        rounds += 1
    deliveries = rounds * AT_ONCE * nodes * members
    return {"deliveries": deliveries, "seconds": time.perf_counter() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["held", "fan-out"])
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 10, 100, 1_000, 3_000])
    parser.add_argument("--members", type=int, default=3_000)
    parser.add_argument("--senders", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    client, nodes = Client(arguments.ports), len(arguments.ports)
    if arguments.kind == "held":
        measured = held(client, nodes, arguments.sizes)
    else:
        measured = fan_out(client, nodes, arguments.members, arguments.senders, arguments.seconds)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
