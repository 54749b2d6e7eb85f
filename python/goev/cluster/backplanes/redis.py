"""Redis, by redis-py: publish and subscribe for messages, streams for history.

Two connections: one for commands, and one that is subscribed. redis-py would reconnect each of them silently, and
messages that were published meanwhile would be lost silently. So it may not, and the end of one ends the session.

The history of a subject is a stream and a hash beside it, with an epoch and the number of the last message. A script
appends a message and publishes it with its number, in one step.
"""

import asyncio
import secrets
import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from struct import Struct
from typing import Any, ClassVar
from urllib.parse import urlsplit

from goev.cluster.backplanes import needing
from goev.cluster.errors import AccessDenied
from goev.cluster.interface import Backplane, Kept, Lost, Outgoing, Place, Receive, Replay, Subscription

with needing("redis-py", "redis"):
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import AuthenticationError, NoPermissionError, NoScriptError, ReadOnlyError, ResponseError

MARK = Struct(">8sQ")  # before a message that is kept: its epoch, its number

# KEYS: the stream, the hash. ARGV: the channel, the message, the most messages, seconds, a new epoch.
APPEND = """
local epoch = redis.call('HGET', KEYS[2], 'epoch')
if not epoch then
  epoch = ARGV[5]
  redis.call('HSET', KEYS[2], 'epoch', epoch)
  redis.call('DEL', KEYS[1])
end
local number = redis.call('HINCRBY', KEYS[2], 'number', 1)
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[3], string.format('%.0f-0', number), 'm', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])
redis.call('PUBLISH', ARGV[1], epoch .. struct.pack('>I8', number) .. ARGV[2])
return number
"""

# A server that comes back with an old snapshot would give numbers again. KEYS: the hash. ARGV: the epoch, a number that
# it has given, a new epoch.
RENEW = """
local epoch, number = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'number'))
if epoch == ARGV[1] and tonumber(number) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[3])
end
"""


class Server:
    """A Redis server: a connection for commands, and one that is subscribed."""

    SUBSCRIBE, UNSUBSCRIBE, PUBLISH = "SUBSCRIBE", "UNSUBSCRIBE", "PUBLISH"
    MESSAGE, SUBSCRIBED, UNSUBSCRIBED = b"message", b"subscribe", b"unsubscribe"

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url = url
        self.commands = client_of(url, options)
        self.script = ""
        self._pubsub: PubSub = self.commands.pubsub()
        self._reading: asyncio.Task[None] | None = None
        self._confirmed: dict[bytes, asyncio.Future[None]] = {}  # by channel
        self._leaving: Counter[bytes] = Counter()  # channels whose end was asked for
        self._pongs: list[asyncio.Future[None]] = []

    async def connect(self, script: str) -> None:
        self.script = await self.commands.script_load(script)
        await self._check_role()
        await self._pubsub.connect()  # type: ignore[no-untyped-call]

    def listen(self, received: Callable[[bytes, bytes], None], lost: Lost) -> None:
        """Call ``received(channel, data)`` for each message from now on."""
        self._reading = asyncio.create_task(self._read_on(received, lost))

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        for future in [*self._confirmed.values(), *self._pongs]:
            future.cancel()
        with suppress(Exception):
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]
        with suppress(Exception):
            await self.commands.aclose()

    async def ping(self) -> None:
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        await self._pubsub.ping()
        await self._check_role()
        await pong

    async def _check_role(self) -> None:
        """A replica takes messages without a word, and the other machines are at the new master."""
        if (await self.commands.info("replication"))["role"] != "master":
            raise ConnectionError(f"{without_password(self.url)} is a replica")

    async def subscribe(self, channels: Sequence[bytes]) -> None:
        loop = asyncio.get_running_loop()
        futures = [self._confirmed.setdefault(channel, loop.create_future()) for channel in channels]
        for part in self._parts(channels):
            await self._pubsub.execute_command(self.SUBSCRIBE, *part)
        await asyncio.gather(*futures)

    async def unsubscribe(self, channels: Sequence[bytes]) -> None:
        self._leaving.update(channels)
        for part in self._parts(channels):
            await self._pubsub.execute_command(self.UNSUBSCRIBE, *part)

    def _parts(self, channels: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
        """Channels that may be in one command."""
        return [channels]

    async def _read_on(self, received: Callable[[bytes, bytes], None], lost: Lost) -> None:
        try:
            while True:
                match await self._pubsub.parse_response():
                    case [self.MESSAGE, bytes(channel), bytes(data)]:
                        received(channel, data)
                    case [self.SUBSCRIBED, bytes(channel), _]:
                        if future := self._confirmed.pop(channel, None):
                            future.set_result(None)
                    case [self.UNSUBSCRIBED, bytes(channel), _]:
                        self._unsubscribed(channel)
                    case [b"pong", _] | b"PONG" | b"":
                        if self._pongs and not (pong := self._pongs.pop(0)).done():
                            pong.set_result(None)
        except Exception as error:
            lost(error)
            for future in [*self._confirmed.values(), *self._pongs]:
                if not future.done():
                    future.set_exception(error)

    def _unsubscribed(self, channel: bytes) -> None:
        if channel not in self._leaving:
            raise ConnectionError(f"{without_password(self.url)} has ended a subscription by itself")
        self._leaving[channel] -= 1
        if not self._leaving[channel]:
            del self._leaving[channel]


class RedisBackplane(Backplane):
    """A backplane over a Redis server.

    Args:
        servers: URLs of servers that stand in for each other; each session takes the first one that can be written to.
        prefix: the beginning of all channels and keys. Programs with different ones do not meet.
        history_age: seconds that a history is kept after its last message.
        **options: of ``redis.asyncio.Redis``: ``username``, ``password``, ``ssl_ca_certs``, ``ssl_check_hostname``.
    """

    keeps_history = True
    script: ClassVar[str] = APPEND

    def __init__(
        self,
        servers: Sequence[str],
        *,
        prefix: str = "goev",
        history_age: float = 86_400.0,
        **options: Any,
    ) -> None:
        self.url = ", ".join(without_password(server) for server in servers)
        self._urls = list(servers)
        self._prefix = prefix
        self._age = max(1, round(history_age))
        self._options = options
        self._servers: list[Server] = []  # of this session
        self._subjects: dict[bytes, Subscription] = {}  # by channel

    # ---- sessions ----------------------------------------------------------------------------------------------------

    async def open(self, receive: Receive, lost: Lost) -> None:
        failure: Exception = OSError("there is no server")
        for url in self._candidates():
            try:
                await self._connect(url)
                break
            except (AuthenticationError, NoPermissionError) as error:
                raise AccessDenied(f"{without_password(url)} refuses this program: {error}") from error
            except Exception as error:
                if isinstance(error.__cause__ or error.__context__, ssl.SSLError):
                    raise AccessDenied(f"{without_password(url)} refuses this program: {error}") from error
                failure = error
                await self._disconnect()
        else:
            raise failure
        for server in self._servers:
            server.listen(partial(self._received, receive), lost)
        await self.ping()

    def _candidates(self) -> list[str]:
        """The servers to try, in this order."""
        return self._urls

    async def _connect(self, url: str) -> None:
        server = Server(url, self._options)
        self._servers.append(server)
        await server.connect(self.script)

    async def close(self) -> None:
        self._subjects.clear()
        await self._disconnect()

    async def _disconnect(self) -> None:
        servers, self._servers = self._servers, []
        for server in servers:
            await server.close()

    async def ping(self) -> None:
        if not self._servers:
            raise ConnectionError("the session has ended")
        await asyncio.gather(*(server.ping() for server in self._servers))

    def _server_of(self, channel: bytes) -> Server:
        """The server that has a channel, and the keys of its history."""
        if not self._servers:
            raise ConnectionError("the session has ended")
        return self._servers[0]

    # ---- subscriptions -----------------------------------------------------------------------------------------------

    def _received(self, receive: Receive, channel: bytes, data: bytes) -> None:
        subscription = self._subjects.get(channel)
        if subscription is None:
            return
        if not subscription.keep:
            receive(subscription.subject, data, None)
        elif len(data) >= MARK.size:
            epoch, number = MARK.unpack_from(data)
            receive(subscription.subject, data[MARK.size :], Place(epoch.decode("latin-1"), number, number - 1))

    def _channel(self, subject: str) -> bytes:
        return f"{self._prefix}:{subject}".encode(errors="surrogatepass")

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        new = {self._channel(each.subject): each for each in subscriptions}
        self._subjects.update(new)
        await asyncio.gather(*(server.subscribe(channels) for server, channels in self._by_server(new).items()))

    async def unsubscribe(self, subscriptions: Sequence[Subscription]) -> None:
        gone = [channel for each in subscriptions if (channel := self._channel(each.subject)) in self._subjects]
        for channel in gone:
            del self._subjects[channel]
        await asyncio.gather(*(server.unsubscribe(channels) for server, channels in self._by_server(gone).items()))

    def _by_server(self, channels: Iterable[bytes]) -> dict[Server, list[bytes]]:
        found: dict[Server, list[bytes]] = {}
        for channel in channels:
            found.setdefault(self._server_of(channel), []).append(channel)
        return found

    # ---- messages ----------------------------------------------------------------------------------------------------

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        batches: dict[Server, list[tuple[bytes, Outgoing]]] = {}
        for message in messages:
            channel = self._channel(message.subject)
            batches.setdefault(self._server_of(channel), []).append((channel, message))
        await asyncio.gather(*(self._publish_to(server, batch) for server, batch in batches.items()))

    async def _publish_to(self, server: Server, batch: list[tuple[bytes, Outgoing]]) -> None:
        pipeline = server.commands.pipeline(transaction=False)
        for channel, message in batch:
            if message.keep:
                arguments = channel, message.data, str(message.keep), str(self._age), secrets.token_hex(4)
                pipeline.evalsha(server.script, 2, *keys_of(channel), *arguments)
            else:
                pipeline.execute_command(server.PUBLISH, channel, message.data)
        results = await pipeline.execute(raise_on_error=False)
        for (_, message), result in zip(batch, results, strict=True):
            self._check(message, result)

    def _check(self, message: Outgoing, result: object) -> None:
        if isinstance(result, NoScriptError | ReadOnlyError):
            raise result  # the server was replaced or restarted; the next session loads the script
        if isinstance(result, ResponseError):
            message.refuse(result)
        elif isinstance(result, Exception):
            raise result
        elif result == 0 and message.on_absent:
            message.on_absent()

    # ---- history -----------------------------------------------------------------------------------------------------

    async def read(self, subscription: Subscription, after: Place | None) -> Replay:
        name, number, messages = await self._history(subscription)
        if after is not None and after.epoch == name and after.number > number:
            channel = self._channel(subscription.subject)
            _, state = keys_of(channel)
            new = secrets.token_hex(4)
            await self._server_of(channel).commands.eval(RENEW, 1, state, name, str(after.number), new)
            name, number, messages = await self._history(subscription)
        if after is None or after.epoch != name:
            return Replay(name, messages, after is None)
        oldest = messages[0].number if messages else number + 1
        return Replay(name, [each for each in messages if each.number > after.number], oldest <= after.number + 1)

    async def _history(self, subscription: Subscription) -> tuple[str, int, list[Kept]]:
        """The epoch of a history, its last number, and its messages."""
        channel = self._channel(subscription.subject)
        stream, state = keys_of(channel)
        pipeline = self._server_of(channel).commands.pipeline(transaction=True)
        pipeline.hmget(state, "epoch", "number")
        pipeline.xrange(stream, "-", "+")
        (epoch, number), entries = await pipeline.execute()
        return (epoch.decode("latin-1"), int(number), kept_of(entries)) if epoch else ("", 0, [])


def keys_of(channel: bytes) -> tuple[bytes, bytes]:
    """The keys of a channel's stream and hash; the braces put both into one slot of a Redis Cluster."""
    return b"{%s}:messages" % channel, b"{%s}:state" % channel


def kept_of(entries: Any) -> list[Kept]:
    """The messages of a stream."""
    return [Kept(int(number.partition(b"-")[0]), fields[b"m"]) for number, fields in entries]


def client_of(url: str, options: dict[str, Any]) -> Redis:
    """A client that does not reconnect. The cluster has a time limit of its own for each call."""
    never = Retry(NoBackoff(), 0)
    options = {"socket_keepalive": True, "socket_timeout": None, **options, "retry": never, "decode_responses": False}
    return Redis.from_url(url, health_check_interval=0, **options)


def without_password(url: str) -> str:
    """A URL for log lines."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
