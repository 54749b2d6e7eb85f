"""The clients of `test_cluster_accounting.py`, as a program: thousands of connections on one epoll, none of it goev.

Each client joins the room of its machine. When its connection ends it joins at another machine, with the last place it
has had. The first few clients send as well. Each message is a sender and its number; a sender that comes back is a new
one. A client notes what it gets by sender: the numbers must grow, and those that are left out are counted.
"""

import errno
import heapq
import json
import random
import resource
import select
import socket
import struct
import sys
import time
from collections import deque
from contextlib import suppress

HEAD = struct.Struct(">I")
BODY = struct.Struct(">HI")
RETRY = 0.05  # seconds until a client that was refused tries again
AT_ONCE = 200  # connections that are being made


class Client:
    """A user, over all its connections."""

    def __init__(self, number: int, home: int) -> None:
        self.number = number
        self.home = home  # the index of its machine
        self.socket: socket.socket | None = None
        self.is_member = False
        self.moves = 0
        self.place = b""
        self.sender = -1  # its number as a sender
        self.sent = 0
        self.input = b""
        self.last: dict[int, int] = {}  # by sender
        self.left_out: dict[int, int] = {}
        self.gaps = 0


class Fleet:
    def __init__(self, count: int, senders: int, history: bool, machines: list[str]) -> None:
        self.history = history
        self.machines = [(host, int(port)) for host, _, port in (each.partition(":") for each in machines)]
        self.clients = [Client(number, number % len(machines)) for number in range(count)]
        self.senders = self.clients[:senders]
        self.homes: dict[int, int] = {}  # the machine of each sender
        self.sent: dict[int, int] = {}  # how many messages each sender has sent
        self.errors: list[str] = []
        self.poll = select.epoll()
        self.by_fd: dict[int, Client] = {}
        self.waiting = deque(self.clients)
        self.later: list[tuple[float, int]] = []
        self.connecting = 0
        self.interval = 0.0  # seconds between two messages of all senders; 0 for none
        self.next_send = 0.0
        self.turn = 0
        self.lines = b""
        self.poll.register(0, select.EPOLLIN)

    # ---- connections -------------------------------------------------------------------------------------------------

    def connect(self, client: Client) -> None:
        client.socket = made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connecting += 1
        self.by_fd[made.fileno()] = client
        failure = made.connect_ex(self.machines[client.home])
        self.poll.register(made.fileno(), select.EPOLLOUT)
        if failure not in (0, errno.EINPROGRESS):
            self.ended(client)

    def opened(self, client: Client) -> None:
        assert client.socket is not None
        if client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.ended(client)
            return
        self.connecting -= 1
        client.is_member = True
        self.poll.modify(client.socket.fileno(), select.EPOLLIN)
        self.write(client, b"J" + client.place)
        if client.number < len(self.senders):
            client.sender, client.sent = len(self.homes), 0
            self.homes[client.sender], self.sent[client.sender] = client.home, 0

    def ended(self, client: Client) -> None:
        assert client.socket is not None
        del self.by_fd[client.socket.fileno()]
        client.socket.close()
        client.socket, client.input = None, b""
        if client.is_member:
            client.is_member, client.sender = False, -1
            client.moves += 1
            if not self.history:
                client.last, client.left_out = {}, {}
        else:
            self.connecting -= 1
        client.home = (client.home + random.randint(1, len(self.machines) - 1)) % len(self.machines)
        heapq.heappush(self.later, (time.monotonic() + RETRY, client.number))

    def write(self, client: Client, message: bytes) -> None:
        assert client.socket is not None
        with suppress(OSError):  # the end of the connection is on its way
            client.socket.sendall(HEAD.pack(len(message)) + message)

    # ---- messages ----------------------------------------------------------------------------------------------------

    def send(self, client: Client) -> None:
        if client.sender >= 0:
            self.write(client, b"S" + BODY.pack(client.sender, client.sent))
            client.sent += 1
            self.sent[client.sender] = client.sent

    def read(self, client: Client) -> None:
        assert client.socket is not None
        try:
            data = client.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.ended(client)
            return
        data, at = client.input + data, 0
        while len(data) >= at + 4:
            end = at + 4 + HEAD.unpack_from(data, at)[0]
            if len(data) < end:
                break
            self.got(client, data, at + 4, end)
            at = end
        client.input = data[at:]

    def got(self, client: Client, data: bytes, at: int, end: int) -> None:
        if end - at < BODY.size:
            client.gaps += 1
            return
        sender, number = BODY.unpack_from(data, at)
        if self.history:
            client.place = data[at + BODY.size : end]
        last = client.last.get(sender)
        if last is None:
            last = -1 if self.history else number - 1
        if number != last + 1:
            if number <= last:
                self.errors.append(f"client {client.number} got {sender}:{number} after {sender}:{last}")
            client.left_out[sender] = client.left_out.get(sender, 0) + number - last - 1
        client.last[sender] = number

    # ---- the test's words --------------------------------------------------------------------------------------------

    def told(self, word: str, *values: str) -> None:
        match word:
            case "send":
                self.interval, self.next_send = float(values[0]), time.monotonic()
            case "once":
                self.interval = 0.0
                for sender in self.senders:
                    self.send(sender)
        print(json.dumps(self.report()), flush=True)

    def report(self) -> dict[str, object]:
        alive = [client.sender for client in self.senders if client.sender >= 0]
        members = [client for client in self.clients if client.is_member]
        return {
            "members": len(members),
            "alive": alive,
            "homes": self.homes,
            "sent": self.sent,
            "have_all": sum(all(each.last.get(n, -1) == self.sent[n] - 1 for n in alive) for each in members),
            "errors": self.errors[:10],
            "clients": self.summary(),
        }

    def summary(self) -> list[tuple[object, int]]:
        """The clients by what they have had: few lines, since most have had the same."""
        found: dict[str, int] = {}
        for each in self.clients:
            lasts, left_out = sorted(each.last.items()), sorted(each.left_out.items())
            key = json.dumps([each.home, each.moves, lasts, left_out, each.gaps])
            found[key] = found.get(key, 0) + 1
        return [(json.loads(key), count) for key, count in found.items()]

    def run(self) -> None:
        while True:
            now = time.monotonic()
            while self.later and self.later[0][0] <= now:
                self.waiting.append(self.clients[heapq.heappop(self.later)[1]])
            while self.waiting and self.connecting < AT_ONCE:
                self.connect(self.waiting.popleft())
            if self.interval and now >= self.next_send:
                self.next_send = max(self.next_send + self.interval, now - 1)
                self.turn += 1
                self.send(self.senders[self.turn % len(self.senders)])
            for descriptor, _ in self.poll.poll(min(self.interval, 0.01) or 0.01):
                if descriptor == 0:
                    self.lines += (data := sys.stdin.buffer.raw.read(4096) or b"")  # type: ignore[attr-defined]
                    if not data:
                        return
                    *lines, self.lines = self.lines.split(b"\n")
                    for line in lines:
                        self.told(*line.decode().split())
                elif client := self.by_fd.get(descriptor):
                    (self.read if client.is_member else self.opened)(client)


hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
Fleet(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True", sys.argv[4:]).run()
