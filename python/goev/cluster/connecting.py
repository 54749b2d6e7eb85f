"""``goev.cluster.connect``: an engine by its URL."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from goev._core import Reactor
from goev.cluster.cluster import Cluster, OnLoss, OnState
from goev.cluster.interface import Backplane


def connect(
    url: str | Sequence[str] | Backplane = "memory:",
    *,
    timeout: float = 10.0,
    wait: bool = True,
    outbox: int = 16 * 1024 * 1024,
    max_message: int = 1_000_000,
    answer_timeout: float = 5.0,
    ping: float = 5.0,
    ttl: float = 10.0,
    on_state: OnState | None = None,
    on_loss: OnLoss | None = None,
    reactor: Reactor | None = None,
    **options: Any,
) -> Cluster:
    """Join the machines that use the same engine.

    Args:
        url: ``"nats://host:4222"``, ``"redis://host:6379/0"``, ``"memory:"`` for this process alone, or a
            ``Backplane``. Several servers of one engine are a list. ``"tls://"`` and ``"rediss://"`` are those engines
            with TLS, ``"redis+cluster://"`` and ``"rediss+cluster://"`` a Redis Cluster.
        timeout: seconds until the engine must have answered for the first time.
        wait: whether to wait for that. Without, the cluster connects in the background, and messages wait.
        outbox: bytes of messages that wait for an engine that is slow or away. Then the oldest are dropped.
        max_message: bytes of the largest message.
        answer_timeout: seconds in which the engine must answer; if it does not, the connection counts as lost.
        ping: seconds between two questions whether the engine is still there.
        ttl: seconds after which a machine that says nothing counts as gone. Each says something three times as often.
        on_state: called with the new state (``Cluster.state``), and the exception that led to it or ``None``.
        on_loss: called with the number of messages to other machines that were dropped.
        reactor: a ``Reactor(1, asyncio=True)``, or ``goev.asyncio.reactor()``, on whose poller the client of the engine
            runs. Without, the cluster has a thread of its own. If the reactor does not run yet, and inside it,
            ``connect`` does not wait; ``async with cluster`` and ``await cluster.up()`` do.
        **options: of the engine: see docs/cluster.md.

    The callbacks are called on the cluster's thread.

    Raises:
        Unreachable: the engine did not answer in time, or refused. The text has the reason.
        ValueError: the URL is of no known engine, or the reactor has more pollers, or one without an event loop.
        ModuleNotFoundError: the client of the engine is not installed.
    """
    backplane = url if isinstance(url, Backplane) else backplane_of(url, options)
    cluster = Cluster(
        backplane,
        outbox=outbox,
        max_message=max_message,
        timeout=answer_timeout,
        ping=ping,
        ttl=ttl,
        on_state=on_state,
        on_loss=on_loss,
        reactor=reactor,
        patience=timeout if wait else None,
    )
    if wait and cluster.can_wait:
        try:
            cluster.wait_until_up(timeout)
        except BaseException:
            cluster.close(0)
            raise
    return cluster


def backplane_of(url: str | Sequence[str], options: dict[str, Any]) -> Backplane:
    """The backplane of a URL."""
    urls = [url] if isinstance(url, str) else list(url)
    schemes = {urlsplit(each).scheme for each in urls}
    if schemes == {"memory"} and len(urls) == 1:
        from goev.cluster.backplanes.memory import MemoryBackplane

        return MemoryBackplane(urls[0].removeprefix("memory:"), **options)
    if schemes <= {"nats", "tls", "ws", "wss"} and schemes:
        from goev.cluster.backplanes.nats import NatsBackplane

        return NatsBackplane(urls, **options)
    if schemes <= {"redis", "rediss", "unix"} and schemes:
        from goev.cluster.backplanes.redis import RedisBackplane

        return RedisBackplane(urls, **options)
    if schemes <= {"redis+cluster", "rediss+cluster"} and schemes:
        from goev.cluster.backplanes.redis_cluster import RedisClusterBackplane

        return RedisClusterBackplane(urls, **options)
    raise ValueError(f"url must be nats://, tls://, redis://, rediss://, redis+cluster:// or memory:, not {url!r}")
