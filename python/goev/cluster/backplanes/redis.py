"""Redis, by redis-py: publish and subscribe for messages, streams for history.

Two connections: one for commands, and one that is subscribed. redis-py would reconnect each of them silently, and
messages that were published meanwhile would be lost silently. So it may not, and the end of one ends the session.

The history of a subject is a stream and a hash beside it, with an epoch and the number of the last message. A script
appends a message and publishes it with its number, in one step.
"""

import asyncio
import secrets
import ssl
from collections.abc import Sequence
from contextlib import suppress
from struct import Struct
from typing import Any
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
end
local number = redis.call('HINCRBY', KEYS[2], 'number', 1)
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[3], string.format('%.0f-0', number), 'm', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])
redis.call('PUBLISH', ARGV[1], epoch .. struct.pack('>I8', number) .. ARGV[2])
return number
"""


class RedisBackplane(Backplane):
    """A backplane over a Redis server.

    Args:
        servers: URLs of servers that stand in for each other; each session takes the first one that can be written to.
        prefix: the beginning of all channels and keys. Programs with different ones do not meet.
        history_age: seconds that a history is kept after its last message.
        **options: of ``redis.asyncio.Redis``: ``username``, ``password``, ``ssl_ca_certs``, ``ssl_check_hostname``.
    """

    keeps_history = True

    def __init__(
        self,
        servers: Sequence[str],
        *,
        prefix: str = "goev",
        history_age: float = 86_400.0,
        **options: Any,
    ) -> None:
        self.url = ", ".join(without_password(server) for server in servers)
        self._servers = list(servers)
        self._prefix = prefix
        self._age = max(1, round(history_age))
        self._options = options
        self._script = ""
        self._client: Redis | None = None
        self._pubsub: PubSub | None = None
        self._reading: asyncio.Task[None] | None = None
        self._subjects: dict[bytes, Subscription] = {}  # by channel
        self._confirmed: dict[bytes, asyncio.Future[None]] = {}  # by channel
        self._pongs: list[asyncio.Future[None]] = []

    # ---- sessions ----------------------------------------------------------------------------------------------------

    async def open(self, receive: Receive, lost: Lost) -> None:
        failure: Exception = OSError("there is no server")
        for server in self._servers:
            try:
                await self._connect(server)
                break
            except (AuthenticationError, NoPermissionError) as error:
                raise AccessDenied(f"{without_password(server)} refuses this program: {error}") from error
            except Exception as error:
                if isinstance(error.__cause__ or error.__context__, ssl.SSLError):
                    raise AccessDenied(f"{without_password(server)} refuses this program: {error}") from error
                failure = error
                await self._disconnect()
        else:
            raise failure
        self._reading = asyncio.create_task(self._read_on(receive, lost))
        await self.ping()

    async def _connect(self, server: str) -> None:
        never = Retry(NoBackoff(), 0)
        options = {"socket_keepalive": True, **self._options, "retry": never, "decode_responses": False}
        self._client = client = Redis.from_url(server, health_check_interval=0, **options)
        self._script = await client.script_load(APPEND)
        replication = await client.info("replication")
        if replication["role"] != "master":
            raise ConnectionError(f"{without_password(server)} is a replica")
        self._pubsub = client.pubsub()
        await self._pubsub.connect()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        for future in [*self._confirmed.values(), *self._pongs]:
            future.cancel()
        self._subjects.clear()
        self._confirmed.clear()
        self._pongs.clear()
        await self._disconnect()

    async def _disconnect(self) -> None:
        client, pubsub, self._client, self._pubsub = self._client, self._pubsub, None, None
        with suppress(Exception):
            if pubsub is not None:
                await pubsub.aclose()  # type: ignore[no-untyped-call]
        with suppress(Exception):
            if client is not None:
                await client.aclose()

    @property
    def _commands(self) -> Redis:
        if self._client is None:
            raise ConnectionError("the session has ended")
        return self._client

    async def ping(self) -> None:
        if self._pubsub is None:
            raise ConnectionError("the session has ended")
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        await self._pubsub.ping()
        await self._commands.ping()
        await pong

    # ---- what comes --------------------------------------------------------------------------------------------------

    async def _read_on(self, receive: Receive, lost: Lost) -> None:
        assert self._pubsub is not None
        try:
            while True:
                match await self._pubsub.parse_response():
                    case [b"message", bytes(channel), bytes(data)]:
                        self._received(receive, channel, data)
                    case [b"subscribe", bytes(channel), _]:
                        if future := self._confirmed.pop(channel, None):
                            future.set_result(None)
                    case [b"pong", _] | b"PONG" | b"":
                        if self._pongs and not (pong := self._pongs.pop(0)).done():
                            pong.set_result(None)
        except Exception as error:
            lost(error)
            for future in [*self._confirmed.values(), *self._pongs]:
                if not future.done():
                    future.set_exception(error)

    def _received(self, receive: Receive, channel: bytes, data: bytes) -> None:
        subscription = self._subjects.get(channel)
        if subscription is None:
            return
        if not subscription.keep:
            receive(subscription.subject, data, None)
        elif len(data) >= MARK.size:
            epoch, number = MARK.unpack_from(data)
            receive(subscription.subject, data[MARK.size :], Place(epoch.decode("latin-1"), number, number - 1))

    # ---- subscriptions -----------------------------------------------------------------------------------------------

    def _channel(self, subject: str) -> bytes:
        return f"{self._prefix}:{subject}".encode(errors="surrogatepass")

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        new = {self._channel(each.subject): each for each in subscriptions}
        self._subjects.update(new)
        loop = asyncio.get_running_loop()
        futures = [self._confirmed.setdefault(channel, loop.create_future()) for channel in new]
        await self._execute("SUBSCRIBE", new)
        await asyncio.gather(*futures)

    async def unsubscribe(self, subscriptions: Sequence[Subscription]) -> None:
        gone = [channel for each in subscriptions if (channel := self._channel(each.subject)) in self._subjects]
        for channel in gone:
            del self._subjects[channel]
        if gone:
            await self._execute("UNSUBSCRIBE", gone)

    async def _execute(self, command: str, channels: "Sequence[bytes] | dict[bytes, Subscription]") -> None:
        if self._pubsub is None:
            raise ConnectionError("the session has ended")
        await self._pubsub.execute_command(command, *channels)

    # ---- messages ----------------------------------------------------------------------------------------------------

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        pipeline = self._commands.pipeline(transaction=False)
        for message in messages:
            channel = self._channel(message.subject)
            if message.keep:
                stream, state = self._keys(message.subject)
                new = secrets.token_hex(4)
                pipeline.evalsha(
                    self._script, 2, stream, state, channel, message.data, str(message.keep), str(self._age), new
                )
            else:
                pipeline.publish(channel, message.data)
        for message, result in zip(messages, await pipeline.execute(raise_on_error=False), strict=True):
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

    def _keys(self, subject: str) -> tuple[bytes, bytes]:
        """The keys of a subject's stream and hash; the braces put both into one slot of a Redis Cluster."""
        name = b"{%s}" % self._channel(subject)
        return name + b":messages", name + b":state"

    async def read(self, subscription: Subscription, after: Place | None) -> Replay:
        stream, state = self._keys(subscription.subject)
        pipeline = self._commands.pipeline(transaction=True)
        pipeline.hmget(state, "epoch", "number")
        pipeline.xrange(stream, "-", "+")
        (epoch, number), entries = await pipeline.execute()
        name = (epoch or b"").decode("latin-1")
        messages = kept_of(entries)
        if after is None or after.epoch != name:
            return Replay(name, messages, after is None)
        oldest = messages[0].number if messages else int(number or 0) + 1
        return Replay(name, [each for each in messages if each.number > after.number], oldest <= after.number + 1)


def kept_of(entries: Any) -> list[Kept]:
    """The messages of a stream."""
    return [Kept(int(number.partition(b"-")[0]), fields[b"m"]) for number, fields in entries]


def without_password(url: str) -> str:
    """A URL for log lines."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
