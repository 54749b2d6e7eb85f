"""Groups over machines, by an engine between them (docs/cluster.md).

::

    cluster = goev.cluster.connect("nats://127.0.0.1:4222")
    room = cluster.group("room:42", goev.websocket.Framing())
    room.add(connection)
    room.send("hello")  # to the members on all machines
"""

from goev.cluster.cluster import Cluster
from goev.cluster.connecting import connect
from goev.cluster.errors import (
    AccessDenied,
    CallFailed,
    Closed,
    ClusterError,
    HistoryUnavailable,
    NoSuchName,
    Unreachable,
)
from goev.cluster.group import ClusterGroup
from goev.cluster.interface import Backplane, Kept, Outgoing, Place, Replay, Subscription
from goev.cluster.presence import Present

__all__ = [
    "AccessDenied",
    "Backplane",
    "CallFailed",
    "Closed",
    "Cluster",
    "ClusterError",
    "ClusterGroup",
    "HistoryUnavailable",
    "Kept",
    "NoSuchName",
    "Outgoing",
    "Place",
    "Present",
    "Replay",
    "Subscription",
    "Unreachable",
    "connect",
]
