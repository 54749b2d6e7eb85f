"""Members of a broadcast: all connect, one more connection asks for messages one by one, and all members get each.

Prints one line of JSON with two medians in seconds: how long each call held the server, as the server measures it, and
how long it took until the last member had the message.
"""

import argparse
import json
import resource
import select
import socket
import statistics
import struct
import time

SIZE = 100
ROUNDS = 20


def receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        data = connection.recv(size - len(received))
        if not data:
            raise SystemExit("the server closed a connection")
        received += data
    return received


def one_round(asking: socket.socket, members: dict[int, socket.socket], poll: select.epoll) -> tuple[float, float]:
    missing = dict.fromkeys(members, SIZE)
    began = time.perf_counter()
    asking.sendall(b"s")
    while missing:
        events = poll.poll(10)
        if not events:
            raise SystemExit(f"{len(missing)} members have not got the message")
        for fd, _ in events:
            if fd in missing:
                missing[fd] -= len(members[fd].recv(missing[fd]))
                if missing[fd] == 0:
                    del missing[fd]
    last = time.perf_counter() - began
    asking.sendall(b"t")
    (held,) = struct.unpack("<d", receive(asking, 8))
    return held, last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("members", type=int)
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    address = ("127.0.0.1", arguments.port)
    connections = [socket.create_connection(address, timeout=10) for _ in range(arguments.members)]
    members = {connection.fileno(): connection for connection in connections}
    poll = select.epoll()
    for connection in connections:
        # The answer shows that the server has this connection as a member.
        connection.sendall(b"j")
        receive(connection, 1)
        poll.register(connection, select.EPOLLIN)
    asking = socket.create_connection(address, timeout=10)
    rounds = [one_round(asking, members, poll) for _ in range(ROUNDS)]
    held, last = (statistics.median(times) for times in zip(*rounds, strict=True))
    print(json.dumps({"held": held, "last": last}))


if __name__ == "__main__":
    main()
