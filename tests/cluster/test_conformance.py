"""The guarantees of backplanes, for every one of them, and for one that is written outside of goev.

The first part talks to backplanes, the second one to clusters over them.
"""

import asyncio

import pytest

import goev
from cluster_support import Machine, Peer, end, machines
from goev.cluster import NoSuchName, Outgoing, Subscription, nodes
from goev.cluster.connecting import backplane_of
from support import PATIENCE, Events, eventually, in_thread

FRAMING = goev.LengthPrefixed()


# ---- backplanes ------------------------------------------------------------------------------------------------------


class Session:
    """A backplane with a session, and what it received."""

    def __init__(self, engine):
        self.backplane = backplane_of(engine.url, {}) if isinstance(engine.url, str) else engine.url
        self.received = asyncio.Queue()
        self.lost = asyncio.get_running_loop().create_future()

    async def __aenter__(self):
        await self.backplane.open(
            lambda *message: self.received.put_nowait(message),
            lambda error: self.lost.done() or self.lost.set_result(error),
        )
        return self

    async def __aexit__(self, *_):
        await self.backplane.close()

    async def next(self):
        async with asyncio.timeout(PATIENCE):
            return await self.received.get()

    async def subscribe(self, *subjects):
        await self.backplane.subscribe([Subscription(subject) for subject in subjects])

    async def publish(self, subject, *data, **options):
        await self.backplane.publish([Outgoing(subject, each, **options) for each in data])


def run(coroutine):
    return goev.asyncio.run(coroutine)


@pytest.mark.parametrize("subject", ["g:room", "a.b", "*", ">", "a b", "名前", "\n", "%2E.%", "🙂" * 250])
def test_a_message_reaches_the_subscribers_of_its_subject_and_nobody_else(engine, subject):
    async def main():
        async with Session(engine) as one, Session(engine) as two, Session(engine) as other:
            await one.subscribe(subject, "g:more")
            await two.subscribe(subject)
            await other.subscribe(subject + "x", "x" + subject)
            await other.publish(subject, b"hello", bytes(range(256)))
            for session in (one, two):
                assert await session.next() == (subject, b"hello", None)
                assert await session.next() == (subject, bytes(range(256)), None)
            await two.publish(subject + "x", b"end")
            assert await other.next() == (subject + "x", b"end", None)

    run(main())


def test_messages_of_a_publisher_come_in_order_and_whole(engine):
    async def main():
        async with Session(engine) as one, Session(engine) as two:
            await one.subscribe("g:room")
            sizes = [*range(500), 100_000, 900_000]
            for start in range(0, len(sizes), 100):
                await two.publish("g:room", *(b"%6d" % size + bytes(size) for size in sizes[start : start + 100]))
            for size in sizes:
                assert await one.next() == ("g:room", b"%6d" % size + bytes(size), None)

    run(main())


def test_subscribing_twice_is_once_and_unsubscribing_ends_it(engine):
    async def main():
        async with Session(engine) as one, Session(engine) as two:
            await one.subscribe("g:room", "g:other")
            await one.subscribe("g:room")
            await one.backplane.unsubscribe([Subscription("g:room"), Subscription("g:never")])
            await one.backplane.ping()
            await two.publish("g:room", b"unheard")
            await two.publish("g:other", b"heard")
            assert await one.next() == ("g:other", b"heard", None)
            await one.subscribe("g:room")
            await two.publish("g:room", b"again")
            assert await one.next() == ("g:room", b"again", None)

    run(main())


def test_the_loss_of_a_session_is_told_and_the_next_one_works(engine):
    async def main():
        session = Session(engine)
        async with session:
            await session.subscribe("g:room")
            engine.kill()
            async with asyncio.timeout(PATIENCE):
                await session.lost
        with pytest.raises(Exception):  # noqa: B017, PT011  any exception will do
            await session.backplane.open(lambda *_: None, lambda _: None)
        await session.backplane.close()
        await asyncio.to_thread(engine.start)
        async with session, Session(engine) as two:
            await session.subscribe("g:room")
            await two.publish("g:room", b"hello")
            assert await session.next() == ("g:room", b"hello", None)

    run(main())


def test_closing_is_harmless_at_any_time(engine):
    async def main():
        session = Session(engine)
        await session.backplane.close()
        async with session:
            await session.backplane.close()
        await session.backplane.close()

    run(main())


def test_a_subscription_is_there_when_subscribe_returns(engine):
    async def main():
        async with Session(engine) as one, Session(engine) as two:
            for number in range(300):
                subject = f"g:{number}"
                await one.subscribe(subject)
                await two.publish(subject, b"hello", on_absent=lambda: one.received.put_nowait("absent"))
                assert await one.next() == (subject, b"hello", None)

    run(main())


def test_many_subjects_at_once(engine):
    async def main():
        async with Session(engine) as one, Session(engine) as two:
            names = [f"g:{number}" for number in range(2_000)]
            await one.subscribe(*names)
            for name in names[::100]:
                await two.publish(name, name.encode())
                assert await one.next() == (name, name.encode(), None)
            await one.backplane.unsubscribe([Subscription(name) for name in names])

    run(main())


# ---- clusters --------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(engine, home):
    with machines(3, lambda: engine.url, asyncio=True, home=home) as made:
        yield made


def rooms(machines, name="room:42"):
    return [machine.cluster.group(name, FRAMING) for machine in machines]


def test_each_member_gets_each_message_once_and_in_order(three):
    groups = rooms(three)
    members = [machine.member(group) for machine, group in zip(three, groups, strict=True) for _ in range(2)]
    senders = [
        in_thread(lambda group=group, n=n: [group.send(b"%d %d" % (n, i)) for i in range(300)])
        for n, group in enumerate(groups)
    ]
    for sender in senders:
        sender.result(PATIENCE)
    for member in members:
        got = member.take(900)
        for n in range(3):
            assert [each for each in got if each.startswith(b"%d " % n)] == [b"%d %d" % (n, i) for i in range(300)]
        assert member.nothing(0.01)


def test_presence_joins_and_leaves(three):
    groups = rooms(three)
    events = Events()
    groups[0].watch(
        on_join=lambda members: [events("join", each.meta) for each in members],
        on_leave=lambda members: [events("leave", each.meta) for each in members],
    )
    member = three[1].member(groups[1], meta="a")
    assert events.next() == ("join", "a")
    three[2].member(groups[2], meta="b")
    assert events.next() == ("join", "b")
    for group in groups:
        eventually(lambda group=group: group.count() == 2, "both are known")
    end(member, three[1])
    assert events.next() == ("leave", "a")
    three[2].cluster.close()
    assert events.next() == ("leave", "b")


class Answering(Peer):
    def on_call(self, message):
        return message[::-1]


def test_calls_and_told_messages(three, engine):
    three[1].kind = Answering
    peer = three[1].peer()
    three[1].cluster.register("user:7", peer.handler).result(PATIENCE)
    for machine in three:
        assert asyncio.run(machine.cluster.call("user:7", b"abc")) == b"cba"
        assert asyncio.run(machine.cluster.call("user:7", "äbc")) == "cbä"
        machine.cluster.tell("user:7", b"hello").result(PATIENCE)
        assert peer.next() == b"hello"


def test_nobody_has_the_name(three, engine):
    # An engine that does not know its subscribers says nothing, and then the time is over.
    expected = NoSuchName if isinstance(engine.url, str) else TimeoutError
    with pytest.raises(expected):
        asyncio.run(three[0].cluster.call("user:8", b"abc", timeout=0.5 if expected is TimeoutError else 60))


def test_the_cluster_survives_the_end_of_the_engine(three, engine, log, monkeypatch):
    monkeypatch.setattr(nodes, "GATHERING", PATIENCE)  # the machines try again at different times, up to 5 s apart
    groups = rooms(three)
    members = [machine.member(group, meta=n) for n, (machine, group) in enumerate(zip(three, groups, strict=True))]
    engine.kill()  # perhaps before all are known to all
    for machine in three:
        machine.states.until("down")
    for number in range(100):
        groups[0].send(b"%d" % number)
    assert members[0].take(100) == [b"%d" % number for number in range(100)]
    engine.start()
    for member in members[1:]:
        assert member.take(100) == [b"%d" % number for number in range(100)]
    for group in groups:
        eventually(lambda group=group: group.count() == 3, "all are known again")
    assert all(member.nothing(0.01) for member in members)


@pytest.mark.parametrize("engine", ["nats", "redis", "redis-cluster"], indirect=True)  # the others are one cluster
def test_clusters_of_another_prefix_do_not_meet(engine, stack):
    one, two, other = (Machine(stack, engine.url, prefix=prefix) for prefix in ("a", "a", "b"))
    member = two.member(two.cluster.group("room", FRAMING))
    other.cluster.group("room", FRAMING).send(b"other")
    other.settle()
    one.cluster.group("room", FRAMING).send(b"own")
    assert member.next() == b"own"
