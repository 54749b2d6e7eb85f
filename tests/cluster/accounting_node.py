"""A machine of `test_cluster_accounting.py`, as a program: a room, for connections that join it and send to it.

A client sends ``J`` and a place to join, ``S`` and a message to send. Each line of standard input is answered with what
the machine knows; SIGTERM ends it in order.
"""

import json
import os
import resource
import signal
import sys

import goev

url, history, address, ttl = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
cluster = goev.cluster.connect(url, ping=0.3, answer_timeout=1.0, ttl=ttl, timeout=20)
FRAMING = goev.LengthPrefixed()
GAP = b"gap"  # shorter than any message


def stamp(message: bytes, place: str) -> bytes:
    return message + place.encode()


def on_gap(connection: "Peer") -> None:
    connection.send(GAP)


options = {"history": history, "stamp": stamp, "on_gap": on_gap} if history else {}
room = cluster.group("room:42", FRAMING, **options)


class Peer(goev.Connection):
    framing = FRAMING

    def on_message(self, message: bytes) -> None:
        if message[:1] == b"S":
            room.send(message[1:])
        else:
            room.add(self, **({"after": message[1:].decode() or None} if history else {}))


reactor = goev.Reactor()
# After a fault much comes at once; a member that is behind would miss a part of it, which is another guarantee.
acceptor = goev.Acceptor(reactor, address, Peer, backlog=4096, high_water=1 << 20)
reactor.start()


def leave(*_: object) -> None:
    reactor.stop(0)
    cluster.close()
    os._exit(0)


signal.signal(signal.SIGTERM, leave)
host, port = acceptor.address
print(f"{host}:{port}", flush=True)
for _ in sys.stdin:
    known = room.count() if len(room) else None
    print(json.dumps({"count": known, "state": cluster.state, **cluster.stats()}), flush=True)
