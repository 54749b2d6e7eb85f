"""Redis Cluster: sharded publish and subscribe, and streams, each subject on the primary that has its slot.

redis-py's own cluster client follows slots that move, and subscribes again, by itself. Messages published meanwhile
would be lost silently. So each primary has plain connections, and a slot that moves ends the session. The next session
asks for the slots anew.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from goev.cluster.backplanes import needing
from goev.cluster.backplanes.redis import APPEND, RedisBackplane, Server, client_of, without_password
from goev.cluster.interface import Outgoing

with needing("redis-py", "redis"):
    from redis.crc import key_slot
    from redis.exceptions import AskError, ClusterDownError, TryAgainError

ESCAPES = ((b"%", b"%25"), (b"{", b"%7B"), (b"}", b"%7D"))  # braces would name a part that gives the slot


class Primary(Server):
    """A server that has slots."""

    SUBSCRIBE, UNSUBSCRIBE, PUBLISH = "SSUBSCRIBE", "SUNSUBSCRIBE", "SPUBLISH"
    MESSAGE, SUBSCRIBED, UNSUBSCRIBED = b"smessage", b"ssubscribe", b"sunsubscribe"

    def _parts(self, channels: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
        by_slot: defaultdict[int, list[bytes]] = defaultdict(list)
        for channel in channels:
            by_slot[key_slot(channel)].append(channel)
        return by_slot.values()


class RedisClusterBackplane(RedisBackplane):
    """A backplane over a Redis Cluster of version 7 or later.

    Args:
        servers: URLs of some of its servers, ``redis+cluster://`` or ``rediss+cluster://``. Each session asks the first
            one that answers for the others.
        prefix, history_age, **options: as of ``RedisBackplane``.
    """

    script = APPEND.replace("'PUBLISH'", "'SPUBLISH'")

    def __init__(self, servers: Sequence[str], **options: Any) -> None:
        super().__init__([server.replace("+cluster://", "://", 1) for server in servers], **options)
        self.url = ", ".join(without_password(server) for server in servers)
        self._known: list[str] = []  # the primaries of the last session
        self._by_slot: dict[int, Server] = {}

    def _candidates(self) -> list[str]:
        return self._urls + [url for url in self._known if url not in self._urls]

    async def _connect(self, url: str) -> None:
        addresses = await slots_of(url, self._options)
        primaries = {each: Primary(each, self._options) for each in dict.fromkeys(addresses.values())}
        self._servers += primaries.values()
        self._by_slot = {slot: primaries[each] for slot, each in addresses.items()}
        for primary in primaries.values():
            await primary.connect(self.script)
        self._known = list(primaries)

    def _channel(self, subject: str) -> bytes:
        channel = super()._channel(subject)
        for byte, escape in ESCAPES:
            channel = channel.replace(byte, escape)
        return channel

    def _server_of(self, channel: bytes) -> Server:
        server = self._by_slot.get(key_slot(channel))
        if not self._servers or server is None:
            raise ConnectionError("no server has the slot of a channel")
        return server

    def _check(self, message: Outgoing, result: object) -> None:
        if isinstance(result, AskError | TryAgainError | ClusterDownError):
            raise result  # a slot moves, or has moved
        super()._check(message, result)


async def slots_of(url: str, options: dict[str, Any]) -> dict[int, str]:
    """The URL of the primary of each slot, as one server says.

    Raises ConnectionError: the server takes the cluster for broken.
    """
    async with client_of(url, options) as client:
        info = await client.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]
        if b"cluster_state:ok" not in info:
            raise ConnectionError("the cluster is down, as this server says")
        ranges = await client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
    return {
        slot: beside(url, (host or b"").decode(), port)
        for first, last, (host, port, *_), *_ in ranges
        for slot in range(first, last + 1)
    }


def beside(url: str, host: str, port: int) -> str:
    """The URL of another server; without a host it is on the same one."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    name = host or parts.hostname or "localhost"
    return parts._replace(netloc=f"{user}{at}{f'[{name}]' if ':' in name else name}:{port}").geturl()
