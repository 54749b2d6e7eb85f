"""NATS, by nats-py: core NATS for messages, JetStream for history.

A history is the messages of one subject in a stream. There is one stream for each number of messages to keep, whatever
the number of groups. The server republishes each message that it has stored, with its number and the one before it.
So receivers need no consumers in the server, and see a gap at once.
"""

import asyncio
import json
import random
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from goev.cluster.backplanes import needing
from goev.cluster.errors import AccessDenied, HistoryUnavailable
from goev.cluster.interface import Backplane, Kept, Lost, Outgoing, Place, Receive, Replay, Subscription
from goev.cluster.subjects import spelled

with needing("nats-py", "nats"):
    import nats.errors
    import nats.js.errors
    from nats.aio.client import Client
    from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RePublish, StorageType, StreamConfig

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription as NatsSubscription

Result = TypeVar("Result")

MOST_WATCHED = 65_536  # messages for which the server may still say that nobody was there
FETCH, FETCH_BYTES = 256, 16 << 20  # messages of a history in one request; a server cuts off who has more to read
ID = "Nats-Msg-Id"
NOBODY = "503"  # the status of a message that found no subscriber
DENIED = (nats.errors.AuthorizationError, nats.errors.InvalidUserCredentialsError, ssl.SSLError)


class NatsBackplane(Backplane):
    """A backplane over NATS servers.

    Args:
        servers: URLs of the servers of one NATS cluster; each session tries them in any order.
        prefix: the first word of all subjects and streams. Programs with different ones do not meet.
        tls: a context instead of the system's roots, for ``tls://`` and for servers that want TLS.
        history_age: seconds that messages of a history are kept at most.
        history_storage: ``"file"``, which outlives a restart of the server, or ``"memory"``.
        history_replicas: servers that keep each message.
        **options: of ``nats.connect``: ``user``, ``password``, ``token``, ``user_credentials``, ``nkeys_seed``,
            ``tls_hostname``.
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        prefix: str = "goev",
        tls: ssl.SSLContext | None = None,
        history_age: float = 86_400.0,
        history_storage: str = "file",
        history_replicas: int = 1,
        **options: Any,
    ) -> None:
        self.url = ", ".join(without_password(server) for server in servers)
        self._servers = list(servers)
        self._spelled = lru_cache(4096)(spelled)
        self._prefix = spelled(prefix)
        self._tls = tls
        self._age = history_age
        self._storage = StorageType(history_storage)
        self._replicas = history_replicas
        self._options = options
        self._client: Client | None = None
        self._denied: AccessDenied | None = None  # the server forbids a subject
        self._subscribed: dict[str, tuple[Subscription, NatsSubscription]] = {}  # by subject
        self._epochs: dict[int, str] = {}  # of the streams, by the number that they keep
        self._numbers = count(1)
        self._inbox = ""
        self._watched: dict[int, Callable[[Msg], None]] = {}  # by the number in the reply subject

    # ---- sessions ----------------------------------------------------------------------------------------------------

    async def open(self, receive: Receive, lost: Lost) -> None:
        self._receive, self._lost = receive, lost
        failure: Exception = OSError("there is no server")
        for server in random.sample(self._servers, len(self._servers)):
            try:
                await self._connect(server)
                break
            except DENIED as error:
                raise AccessDenied(f"{without_password(server)} refuses this program: {error}") from error
            except (OSError, nats.errors.Error) as error:
                if "authorization" in str(error).lower():
                    raise AccessDenied(f"{without_password(server)} refuses this program: {error}") from error
                failure = error
                await self._disconnect()
        else:
            raise failure
        client = self._connected
        self._inbox = client.new_inbox()
        await client.subscribe(f"{self._inbox}.*", cb=self._answered)
        self.keeps_history = await self._has_jetstream()

    async def _connect(self, server: str) -> None:
        self._client = client = Client()
        self._denied = None
        failed: list[Exception] = []

        async def note(error: Exception) -> None:
            failed.append(error)
            if isinstance(error, nats.errors.SlowConsumerError):
                self._lost(error)  # it has dropped messages
            elif "permissions violation" in str(error).lower():
                self._denied = AccessDenied(f"{without_password(server)} refuses this program: {error}")
                self._lost(self._denied)

        async def closed() -> None:
            if self._client is client:  # else another server has taken its place
                self._lost(failed[-1] if failed else None)

        # nats-py tries a server that refuses again and again, unless it may try twice only.
        once = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0}
        options = {"name": "goev", **self._options, **once}
        try:
            await insisted(
                client.connect(server, no_echo=True, error_cb=note, closed_cb=closed, tls=self._tls, **options)
            )
        except nats.errors.NoServersError as error:
            raise (failed[-1] if failed else error) from None

    @property
    def _connected(self) -> Client:
        if self._client is None or not self._client.is_connected:
            raise nats.errors.ConnectionClosedError
        return self._client

    async def _has_jetstream(self) -> bool:
        try:
            await self._connected.jetstream().account_info()
        except nats.js.errors.ServiceUnavailableError:
            return False
        except nats.js.errors.APIError:  # of an account without it
            return False
        return True

    async def close(self) -> None:
        self._subscribed.clear()
        self._epochs.clear()
        self._watched.clear()
        await self._disconnect()

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                if client.is_connected:  # after a TLS handshake that failed it would wait for ever
                    await insisted(client.close())
            finally:
                transport = getattr(client, "_transport", None)
                if transport is not None:  # it is open still, or the close was cut short
                    with suppress(Exception):
                        transport.close()
                    with suppress(Exception):  # the socket would wait until the server takes its output
                        transport._io_writer.transport.abort()

    async def ping(self) -> None:
        await insisted(self._connected.flush(timeout=60))

    # ---- subscriptions -----------------------------------------------------------------------------------------------

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        client = self._connected
        for subscription in subscriptions:
            before = self._subscribed.get(subscription.subject)
            if before is None or before[0] != subscription:
                if before is not None:  # with another history
                    await insisted(before[1].unsubscribe())
                if subscription.keep:
                    await self._stream(subscription.keep)
                name = self._kept(subscription) if subscription.keep else self._plain(subscription.subject)
                subscribed = await insisted(client.subscribe(name, cb=self._receiver(subscription)))
                self._subscribed[subscription.subject] = subscription, subscribed
        # nats-py writes a ping at once, and commands a moment later: only the second ping is behind the subscriptions.
        for _ in range(2):
            await insisted(client.flush(timeout=60))
        if self._denied is not None:
            raise self._denied

    async def unsubscribe(self, subscriptions: Sequence[Subscription]) -> None:
        for subscription in subscriptions:
            if subscribed := self._subscribed.pop(subscription.subject, None):
                await insisted(subscribed[1].unsubscribe())

    def _receiver(self, subscription: Subscription) -> "Callable[[Msg], Awaitable[None]]":
        subject, keep, receive = subscription.subject, subscription.keep, self._receive

        async def received(message: "Msg") -> None:
            receive(subject, message.data, None)

        async def received_kept(message: "Msg") -> None:
            receive(subject, message.data, place_in(message.headers or {}, self._epochs.get(keep, "")))

        return received_kept if keep else received

    def _plain(self, subject: str) -> str:
        return f"{self._prefix}.{self._spelled(subject)}"

    def _kept(self, subscription: Subscription) -> str:
        """The subject on which the server republishes what it has stored."""
        return f"{self._prefix}-kept.{subscription.keep}.{self._spelled(subscription.subject)}"

    def _stored(self, subject: str, keep: int) -> str:
        """The subject of a stream."""
        return f"{self._prefix}-keep.{keep}.{self._spelled(subject)}"

    # ---- messages ----------------------------------------------------------------------------------------------------

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        client = self._connected
        acknowledgements = []
        for message in messages:
            if (size := payload_of(message)) > client.max_payload:
                text = f"{size} bytes are more than the server's max_payload of {client.max_payload}"
                message.refuse(ValueError(text))
            elif message.keep:
                acknowledgements.append((message, await self._store(client, message)))
            elif message.on_absent:
                reply = self._watch(partial(tell_absent, message.on_absent))
                await client.publish(self._plain(message.subject), message.data, reply=reply)
            else:
                await client.publish(self._plain(message.subject), message.data)
            heed_cancellation()
        for message, acknowledgement in acknowledgements:
            self._check(message, await acknowledgement)

    async def _store(self, client: Client, message: Outgoing) -> "asyncio.Future[Msg]":
        """Send a message to its stream; the result is the server's answer."""
        await self._stream(message.keep)
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        reply = self._watch(partial(resolve, future))
        headers = {ID: spelled(message.id)} if message.id else None
        await client.publish(self._stored(message.subject, message.keep), message.data, reply=reply, headers=headers)
        return future

    def _check(self, message: Outgoing, answer: "Msg") -> None:
        if is_nobody(answer):
            self._epochs.pop(message.keep, None)
            raise HistoryUnavailable(f"the stream for histories of {message.keep} messages is gone")
        if failure := json.loads(answer.data).get("error"):
            message.refuse(HistoryUnavailable(f"JetStream: {failure.get('description', failure)}"))

    def _watch(self, receive: "Callable[[Msg], None]") -> str:
        """A reply subject; the server uses it once, or not at all."""
        number = next(self._numbers)
        self._watched[number] = receive
        if len(self._watched) > MOST_WATCHED:
            del self._watched[next(iter(self._watched))]
        return f"{self._inbox}.{number}"

    async def _answered(self, message: "Msg") -> None:
        receive = self._watched.pop(int(message.subject.rpartition(".")[2]), None)
        if receive is not None:
            receive(message)

    # ---- history -----------------------------------------------------------------------------------------------------

    async def _stream(self, keep: int) -> None:
        """Make sure of the stream that keeps so many messages of each subject."""
        if keep in self._epochs:
            return
        if not self.keeps_history:
            raise HistoryUnavailable(f"JetStream is not enabled at {self.url}: start nats-server with -js")
        name = self._stream_name(keep)
        config = StreamConfig(
            name=name,
            subjects=[f"{self._prefix}-keep.{keep}.>"],
            max_msgs_per_subject=keep + 1,  # the one before the oldest shows that nothing is missing
            max_age=self._age,
            storage=self._storage,
            num_replicas=self._replicas,
            republish=RePublish(src=f"{self._prefix}-keep.{keep}.>", dest=f"{self._prefix}-kept.{keep}.>"),
        )
        stream = self._connected.jetstream()
        try:
            info = await stream.add_stream(config)
        except nats.js.errors.BadRequestError:  # it is there, with other settings
            info = await stream.update_stream(config)
        self._epochs[keep] = f"{round(info.created.timestamp() * 1e6):x}" if info.created else ""

    def _stream_name(self, keep: int) -> str:
        return f"{self._prefix}-history-{keep}".replace("%", "_")

    async def read(self, subscription: Subscription, after: Place | None) -> Replay:
        keep = subscription.keep
        await self._stream(keep)
        epoch = self._epochs[keep]
        if after is None or after.epoch != epoch:
            return Replay(epoch, (await self._fetch(subscription, 0))[-keep:], after is None)
        messages = await self._fetch(subscription, after.number)
        if not after.number:
            return Replay(epoch, messages[-keep:], len(messages) <= keep)
        is_complete = bool(messages) and messages[0].number == after.number
        return Replay(epoch, messages[1:] if is_complete else messages[-keep:], is_complete)

    async def _fetch(self, subscription: Subscription, first: int) -> list[Kept]:
        """The messages of a subject from a number on."""
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=max(first, 1),
            inactive_threshold=30.0,
            mem_storage=True,
        )
        stream = self._connected.jetstream()
        subject = self._stored(subscription.subject, subscription.keep)
        consumer = await stream.pull_subscribe(subject, stream=self._stream_name(subscription.keep), config=config)
        most = max(1, min(FETCH, FETCH_BYTES // self._connected.max_payload))
        found: list[Kept] = []
        try:
            # Later messages come by the subscription: a read that follows a busy group to its end would never be done.
            waiting = (await consumer.consumer_info()).num_pending or 0
            while waiting:
                try:
                    messages = await consumer.fetch(min(waiting, most), timeout=0.5)
                except nats.errors.TimeoutError:  # old messages were dropped meanwhile, and then fewer come
                    waiting = min(waiting, (await consumer.consumer_info()).num_pending or 0)
                    continue
                found += [Kept(each.metadata.sequence.stream, each.data) for each in messages]
                waiting -= len(messages)
        finally:
            with suppress(Exception):
                await stream.delete_consumer(self._stream_name(subscription.keep), consumer._consumer)
                await consumer.unsubscribe()
        return found


async def insisted(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Await a coroutine of nats-py; a cancellation ends it, although nats-py suppresses some and waits on."""
    task = asyncio.ensure_future(coroutine)
    try:
        await asyncio.wait([task])
    finally:
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        task.cancelled() or task.exception()  # which asyncio would report if nobody asked
    return task.result()


def heed_cancellation() -> None:
    """Obey a cancellation that nats-py has suppressed. A task for each message would cost more than the message."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def place_in(headers: dict[str, str], epoch: str) -> Place | None:
    """The place that the server has given to a message; anybody may publish one without."""
    try:
        number, before = int(headers["Nats-Sequence"]), int(headers["Nats-Last-Sequence"])
    except (KeyError, ValueError):
        return None
    return Place(epoch, number, before) if 0 <= before < number < 1 << 64 else None


def payload_of(message: Outgoing) -> int:
    """The bytes that count for the server's ``max_payload``: those of the header as well."""
    has_header = message.keep and message.id
    return len(message.data) + (len(f"NATS/1.0\r\n{ID}: {spelled(message.id)}\r\n\r\n") if has_header else 0)


def is_nobody(message: "Msg") -> bool:
    """Whether the server answers that a message found no subscriber."""
    return bool(message.headers and message.headers.get("Status") == NOBODY)


def tell_absent(absent: Callable[[], None], answer: "Msg") -> None:
    if is_nobody(answer):
        absent()


def resolve(future: "asyncio.Future[Msg]", message: "Msg") -> None:
    if not future.done():
        future.set_result(message)


def without_password(url: str) -> str:
    """A URL for log lines."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
