"""Groups and names that are made, dropped and used at awkward moments."""

import gc

import pytest

import goev
from cluster_support import machines
from engines import made
from support import Events, eventually, on_poller

FRAMING = goev.LengthPrefixed()


@pytest.fixture(params=["memory", "nats", "redis"])
def engine(request, tmp_path):
    running = made(request.param, tmp_path)
    yield running
    running.close()


@pytest.fixture
def two(engine):
    with machines(2, engine.url) as made:
        yield made


@pytest.mark.parametrize("history", [0, 5])
def test_a_group_that_was_dropped_and_made_again_is_heard(two, history):
    sender, receiver = two
    member = receiver.member(receiver.cluster.group("room", FRAMING, history=history))
    for number in range(6):
        sender.cluster.group("room", FRAMING, history=history).send(b"%d" % number)
        assert member.next() == b"%d" % number
        gc.collect()
    receiver.has(repeated=0, missed=0, delivered=6)


@pytest.mark.parametrize("name", ["a\r\nNats-Msg-Id: x", "\ud800", "🙂" * 256, " a ", "*", ">", "a.b", "\0"])
def test_any_name_will_do_with_history(two, name):
    groups = [machine.cluster.group(name, FRAMING, history=5) for machine in two]
    member = two[1].member(groups[1])
    for number in range(3):
        groups[0].send(b"%d" % number)
        assert member.next() == b"%d" % number
    late = two[1].member(groups[1])
    assert late.take(3) == [b"0", b"1", b"2"]


def stamped(message, place):
    return message + b"|" + place.encode()


@pytest.mark.parametrize("history", [{}, {"history": 100, "stamp": stamped}], ids=["plain", "history"])
def test_a_member_that_leaves_and_joins_at_once_gets_each_message_once(two, history):
    groups = [machine.cluster.group("room", FRAMING, **history) for machine in two]
    stays, member = (two[1].member(groups[1]) for _ in range(2))
    place = None

    def leave_and_join():
        groups[1].discard(member.handler)
        groups[1].add(member.handler, **({"after": place} if history else {}))

    for number in range(20):
        on_poller(member.handler, leave_and_join)
        two[1].settle()
        groups[number % 2].send(b"%d" % number)
        for each in (stays, member):
            text, _, last = each.next().partition(b"|")
            assert text == b"%d" % number
        awaited = ".00000000000000aa-7"  # a message that never comes: so the member is apart from the others
        place = last.decode().removesuffix(awaited) + awaited * (number % 2)
    assert member.nothing()


def test_a_member_that_ends_while_it_joins_leaves_nothing(two):
    group = two[0].cluster.group("room", FRAMING, history=5)
    stays, peer = two[0].member(group), two[0].peer()
    add = group._members.add

    def add_and_end(connection, meta):
        added = add(connection, meta)
        peer.close()
        eventually(lambda: connection not in group, "it has left")
        return added

    group._members.add = add_and_end
    group.add(peer.handler, after="0.0.00000000000000aa-7")  # so it waits for a message
    two[0].settle()
    assert not [apart for apart in group._apart if apart.connection is peer.handler]
    group.send(b"hello")
    assert stays.next() == b"hello"


def test_a_name_of_a_connection_that_ends_while_it_is_registered_is_free(two):
    peer = two[0].peer()
    endings, add = two[0].cluster._wiring.endings, two[0].cluster._wiring.endings.add

    def add_and_end(connection, key, callback):
        add(connection, key, callback)
        peer.close()
        two[0].events.until("close")
        on_poller(two[0].reactor, lambda: None)

    endings.add = add_and_end
    two[0].cluster.register("ada", peer.handler)
    two[0].settle()
    eventually(lambda: "ada" not in two[0].cluster._calls._held, "the name is free")


def test_a_name_of_a_connection_that_has_ended_is_free(two):
    peer = two[0].peer()
    peer.close()
    two[0].events.until("close")
    with pytest.raises(goev.ConnectionClosed):
        two[0].cluster.register("ada", peer.handler)
    two[0].settle()
    assert "ada" not in two[0].cluster._calls._held
    assert not two[0].cluster._wiring.endings._by_connection


def test_a_subject_that_takes_on_a_history_is_heard(two):
    """Both changes of the subscription are made in one turn of the cluster's thread."""
    sender, receiver = two
    plain = receiver.cluster.group("room", FRAMING)
    receiver.member(plain)
    history = sender.cluster.group("room", FRAMING, history=5)
    received = Events()

    def swap():
        link = receiver.cluster._link
        link.unwant(plain._subscription.subject)
        link.want(history._subscription, lambda data, place: received("data", data[-5:]), lambda: None)

    receiver.cluster._home.post(swap)
    receiver.settle()
    history.send(b"hello")
    assert received.next() == ("data", b"hello")


def test_groups_that_are_made_and_dropped_leave_nothing(two):
    cluster = two[0].cluster
    for number in range(2_000):
        cluster.group(f"room {number}", FRAMING).send(b"hello")
        cluster.group(f"history {number}", FRAMING, history=1)
    peer = two[0].peer()
    for number in range(200):
        group = cluster.group(f"other {number}", FRAMING, history=1)
        group.add(peer.handler)
        group.discard(peer.handler)
        cluster.register(f"name {number}", peer.handler)
        cluster.unregister(f"name {number}", peer.handler)
    del group
    two[0].settle()
    gc.collect()
    assert not list(cluster._groups)
    assert cluster.stats()["subscriptions"] == 2, "those of the machine itself"
    assert not cluster._presences._rooms
    assert [len(ending.callbacks) for ending in cluster._wiring.endings._by_connection.values()] == [0]
