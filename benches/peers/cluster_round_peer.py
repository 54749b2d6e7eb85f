"""One of two processes between which a message of 100 bytes goes there and back, through an engine.

The far one answers each message, and prints ``ready``. The near one sends the next message when the last one is back,
and prints one line of JSON: the median and the 99th percentile of the rounds, in seconds.

With ``poller`` and ``thread`` a message goes to a group of a cluster that lives there, whose member has a socket pair
to the handler that answers. With ``bare`` the client of the engine publishes, and the callback of its subscription
answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

MESSAGE = bytes(100)
WARM_UP = 200
SUBJECTS = ("there", "back")


class Rounds:
    """The times of the rounds of the near process."""

    def __init__(self, count: int) -> None:
        self._left = count + WARM_UP
        self._times: list[float] = []
        self._began = 0.0

    def begin(self) -> None:
        self._began = time.perf_counter()

    def end(self) -> bool:
        """A message is back; returns whether there is another round."""
        self._times.append(time.perf_counter() - self._began)
        self._left -= 1
        return self._left > 0

    def print(self) -> None:
        times = self._times[WARM_UP:]
        print(json.dumps({"p50": statistics.median(times), "p99": statistics.quantiles(times, n=100)[98]}))


def goev_round(url: str, rounds: Rounds | None, home: str) -> None:
    """The near process has the rounds, the far one has none."""
    import goev

    outgoing, incoming = SUBJECTS if rounds else reversed(SUBJECTS)

    class Member(goev.Connection):
        def on_open(self) -> None:
            inbound.add(self)

    class Peer(goev.Connection):
        """The other end of the member's socket."""

        def on_open(self) -> None:
            if rounds:
                outbound.watch(on_join=lambda _: self.call_soon(self.send_one))  # the far process has subscribed

        def send_one(self, *_: object) -> None:
            if rounds:
                rounds.begin()
            outbound.send(MESSAGE)

        def on_read(self) -> None:
            if self.pending_input < len(MESSAGE):
                return
            self.read()
            if rounds is None or rounds.end():
                self.send_one()
            else:
                reactor.stop()

    with ExitStack() as stack:
        reactor = stack.enter_context(goev.Reactor(1, asyncio=home == "poller"))
        options = {"reactor": reactor} if home == "poller" else {}
        cluster = stack.enter_context(goev.cluster.connect(url, **options))
        outbound, inbound = cluster.group(outgoing), cluster.group(incoming)
        ends = socket.socketpair()
        reactor.adopt(Member(), ends[0])
        reactor.adopt(Peer(), ends[1])
        if rounds is None:
            print("ready", flush=True)
        reactor.run()
    if rounds:
        rounds.print()


Publish = Callable[[], Awaitable[object]]


async def bare_round(url: str, rounds: Rounds | None) -> None:
    outgoing, incoming = SUBJECTS if rounds else reversed(SUBJECTS)
    over = asyncio.Event()

    async def arrived(publish: Publish) -> None:
        if rounds is None or rounds.end():
            if rounds:
                rounds.begin()
            await publish()
        else:
            over.set()

    async def begin(publish: Publish) -> None:
        if rounds:
            rounds.begin()
            await publish()
        else:
            print("ready", flush=True)
        await over.wait()

    await (nats_round if url.startswith("nats") else redis_round)(url, outgoing, incoming, begin, arrived)
    if rounds:
        rounds.print()


Begin = Callable[[Publish], Awaitable[None]]


async def nats_round(url: str, outgoing: str, incoming: str, begin: Begin, arrived: Begin) -> None:
    import nats

    client = await nats.connect(url)

    async def publish() -> None:
        await client.publish(outgoing, MESSAGE)

    async def received(_: object) -> None:
        await arrived(publish)

    await client.subscribe(incoming, cb=received)
    await client.flush()
    await begin(publish)
    await client.close()


async def redis_round(url: str, outgoing: str, incoming: str, begin: Begin, arrived: Begin) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(url) as client, client.pubsub() as pubsub:

        async def publish() -> None:
            await client.publish(outgoing, MESSAGE)

        async def read() -> None:
            async for message in pubsub.listen():
                if message["type"] == "message":
                    await arrived(publish)

        await pubsub.subscribe(incoming)
        reading = asyncio.create_task(read())
        await begin(publish)
        reading.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["poller", "thread", "bare"])
    parser.add_argument("url")
    parser.add_argument("--port", type=int, help="means the far process; it listens on none")
    parser.add_argument("--rounds", type=int, default=3_000)
    arguments = parser.parse_args()
    rounds = None if arguments.port else Rounds(arguments.rounds)
    if arguments.kind == "bare":
        asyncio.run(bare_round(arguments.url, rounds))
    else:
        goev_round(arguments.url, rounds, arguments.kind)


if __name__ == "__main__":
    main()
