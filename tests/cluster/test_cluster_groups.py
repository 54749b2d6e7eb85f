"""Groups over machines, on the backplane in memory: delivery, order, bounds, one subscription."""

import gc
import threading
import time

import pytest

import goev
from cluster_support import NAMES, Machine, end, machines
from goev.cluster import subjects
from goev.cluster.backplanes.memory import hub
from goev.cluster.outbox import MOST_IN_INTAKE
from support import PATIENCE, eventually, in_thread, on_poller

FRAMING = goev.LengthPrefixed()


@pytest.fixture
def url():
    return f"memory:{next(NAMES)}"


@pytest.fixture
def three(url, home):
    with machines(3, url, home=home) as made:
        yield made


def rooms(machines, name="room:42", **options):
    return [machine.cluster.group(name, FRAMING, **options) for machine in machines]


def test_members_on_all_machines_get_a_message_once(three):
    groups = rooms(three)
    members = [machine.member(group) for machine, group in zip(three, groups, strict=True) for _ in range(2)]
    for number, group in enumerate(groups):
        group.send(b"from %d" % number)
    for member in members:
        assert sorted(member.take(3)) == [b"from 0", b"from 1", b"from 2"]
    for machine in three:
        machine.has(sent=1, delivered=2)
    assert all(member.nothing() for member in members)


def test_members_here_have_the_message_when_send_returns(three):
    group = rooms(three)[0]
    member = three[0].member(group)

    def sent():
        group.send(b"hello")
        return member.handler.pending_output

    assert on_poller(member.handler, sent) == 9


def test_text_arrives_as_text_and_bytes_as_bytes(three):
    framed = []

    class Noting:
        def frame(self, message):
            framed.append(message)
            return b"\0\0\0\1!"

    group = three[0].cluster.group("room", FRAMING)
    other = three[1].cluster.group("room", Noting())
    members = [three[1].member(other) for _ in range(3)]
    three[0].cluster.group("room").send(b"bytes")
    group.send(memoryview(b"view"))
    for member in members:
        assert member.take(2) == [b"!", b"!"]
    assert framed == [b"bytes", b"view"], "framed once for three members"
    text = [machine.cluster.group("text", Noting()) for machine in three[:2]]
    reader = three[1].member(text[1])
    text[0].send("täxt")
    assert reader.next() == b"!"
    assert framed[2:] == ["täxt", "täxt"], "framed once on each machine"


def test_the_order_of_a_sender_is_kept_and_none_is_lost(three):
    groups = rooms(three)
    member = three[2].member(groups[2])
    senders = [in_thread(lambda n=n: [groups[n].send(b"%d:%d" % (n, i)) for i in range(2_000)]) for n in (0, 1)]
    got = member.take(4_000)
    for n, sender in enumerate(senders):
        sender.result(10)
        assert [each for each in got if each.startswith(b"%d:" % n)] == [b"%d:%d" % (n, i) for i in range(2_000)]


def test_one_subscription_while_a_machine_has_members(three, url):
    engine = hub(url.removeprefix("memory:"))
    subject = subjects.of_group("room:42")
    group = rooms(three)[0]
    assert subject not in engine.subjects()
    members = [three[0].member(group) for _ in range(3)]
    other = three[1].member(rooms(three)[1])
    assert engine.subjects()[subject] == 2
    on_poller(members[0].handler, lambda: group.discard(members[0].handler))
    end(members[1], three[0])
    assert engine.subjects()[subject] == 2
    end(members[2], three[0])
    assert engine.subjects()[subject] == 1
    end(other, three[1])
    assert subject not in engine.subjects()
    again = three[0].member(group)
    rooms(three)[1].send(b"hello")
    assert again.next() == b"hello"


def test_a_connection_that_ends_leaves_and_keeps_nothing_alive(three):
    group = rooms(three)[0]
    member = three[0].member(group)
    on_poller(member.handler, lambda: [(group.discard(member.handler), group.add(member.handler)) for _ in range(100)])
    assert len(group) == 1
    assert len(three[0].cluster._wiring.endings._by_connection) == 1
    end(member, three[0])
    assert len(group) == 0
    assert not three[0].cluster._wiring.endings._by_connection


def test_a_member_may_be_added_from_any_thread(three):
    groups = rooms(three)
    peer = three[0].peer()
    groups[0].add(peer.handler)
    groups[0].add(peer.handler)
    three[0].settle()
    groups[1].send(b"hello")
    assert peer.next() == b"hello"
    assert peer.nothing()
    assert peer.handler in groups[0]
    end(peer, three[0])
    with pytest.raises(goev.ConnectionClosed):
        groups[0].add(peer.handler)


def test_the_same_name_is_the_same_group_while_it_is_in_use(three):
    cluster = three[0].cluster
    assert cluster.group("a") is not cluster.group("b")
    group = cluster.group("room", FRAMING)
    member = three[0].member(group)
    number = id(group)
    del group
    gc.collect()
    assert id(cluster.group("room")) == number
    three[1].cluster.group("room").send(b"hello")
    assert member.next() == b"hello"


@pytest.mark.parametrize(
    ("name", "error"), [("", ValueError), ("x" * 257, ValueError), (b"room", TypeError), (None, TypeError)]
)
def test_names_of_groups_are_checked(three, name, error):
    with pytest.raises(error, match="name of a group"):
        three[0].cluster.group(name)


@pytest.mark.parametrize("name", ["a.b", "*", ">", "a b", "名", "\n", "a%2Eb", "\ud800", "🙂" * 200])
def test_any_name_will_do(three, name):
    groups = rooms(three, name)
    member = three[1].member(groups[1])
    rooms(three, name + "!"[len(name) // 256 :])[0].send(b"elsewhere")
    groups[0].send(b"hello")
    assert member.next() == b"hello"


@pytest.mark.parametrize("history", [0, 5])
def test_a_message_that_is_too_large_reaches_nobody_and_says_so(url, history):
    with machines(2, url, max_message=1_000) as made:
        groups = rooms(made, history=history)
        members = [machine.member(group) for machine, group in zip(made, groups, strict=True)]
        for large in (b"x" * 1_001, "ä" * 501):
            with pytest.raises(goev.MessageTooLong, match="more than max_message=1000"):
                groups[0].send(large)
        groups[0].send(b"x" * 1_000)
        for member in members:
            assert len(member.next()) == 1_000
            assert member.nothing()


def test_what_cannot_be_framed_goes_nowhere(three):
    group = three[0].cluster.group("room", goev.FixedSize(3))
    member = three[1].member(rooms(three, "room")[1])
    with pytest.raises(goev.FramingError):
        group.send(b"four")
    group.send(b"abc")
    assert member.next() == b"abc"


def test_a_framing_that_raises_elsewhere_is_logged_and_ends_nothing(three, log):
    member = three[1].member(three[1].cluster.group("room", goev.FixedSize(7)))
    three[0].cluster.group("room").send(b"four")
    assert "cannot be framed" in log.next()[1]
    three[0].cluster.group("room").send(b"\0\0\0\3abc")
    assert member.next() == b"abc"


def test_while_the_engine_is_away_members_here_get_messages_and_others_get_them_later(three, url, log):
    groups = rooms(three)
    members = [machine.member(group) for machine, group in zip(three, groups, strict=True)]
    engine = hub(url.removeprefix("memory:"))
    engine.stop()
    for machine in three:
        machine.states.until("down")
    for number in range(10):
        groups[0].send(b"%d" % number)
    assert members[0].take(10) == [b"%d" % number for number in range(10)]
    assert members[1].nothing()
    engine.start()
    assert members[1].take(10) == members[2].take(10) == [b"%d" % number for number in range(10)]
    assert members[0].nothing()
    assert "is away" in log.next()[1]


def test_memory_is_bounded_and_the_oldest_are_dropped_counted_and_told(url, log):
    told = []
    with machines(2, url, outbox=10_000, on_loss=told.append) as made:
        groups = rooms(made)
        members = [machine.member(group) for machine, group in zip(made, groups, strict=True)]
        engine = hub(url.removeprefix("memory:"))
        engine.stop()
        made[0].states.until("down")
        for number in range(1_000):
            groups[0].send(b"%03d" % number + bytes(97))
            assert members[0].next().startswith(b"%03d" % number)
        made[0].has(dropped=1_000 - 10_000 // 118)
        assert made[0].cluster.stats()["waiting_bytes"] <= 10_000
        engine.start()
        assert [message[:3] for message in members[1].take(84)] == [b"%03d" % number for number in range(916, 1_000)]
        assert sum(told) == 916
        made[1].has(missed=0)
        eventually(lambda: any("were dropped" in text for text in log.texts()), "a log line about dropped messages")


def test_messages_that_find_no_room_before_the_clusters_thread_are_counted(three, log):
    groups = rooms(three)
    member = three[1].member(groups[1])
    for round_ in (1, 2):
        held, release = threading.Event(), threading.Event()
        three[0].cluster._home.post(lambda held=held, release=release: (held.set(), release.wait(PATIENCE)))
        assert held.wait(PATIENCE)
        for _ in range(MOST_IN_INTAKE + 1_000):
            groups[0].send(b"x")
        release.set()
        three[0].has(dropped=1_000 * round_, sent=(MOST_IN_INTAKE + 1) * round_ - 1)
        groups[0].send(b"y")
        while member.next() != b"y":
            pass


def test_a_receiver_counts_what_it_missed(three, url, log):
    groups = rooms(three)
    member = three[1].member(groups[1])
    groups[0].send(b"one")
    assert member.next() == b"one"
    engine = hub(url.removeprefix("memory:"))
    engine.unsubscribe(three[1].cluster._link.backplane, [subjects.of_group("room:42")])
    groups[0].send(b"two")
    three[0].has(sent=2)
    engine.subscribe(three[1].cluster._link.backplane, [subjects.of_group("room:42")])
    groups[0].send(b"three")
    assert member.next() == b"three"
    three[1].has(missed=1)


def test_poison_is_counted_and_does_no_harm(three, url):
    groups = rooms(three)
    member = three[1].member(groups[1])
    engine, source = hub(url.removeprefix("memory:")), three[0].cluster._link.backplane
    poison = [
        b"",
        b"short",
        bytes(18),
        b"\1" + bytes([255]) + bytes(16),
        b"\2" + bytes(17),
        b"\1\1" + bytes(16) + b"\xff",
    ]
    engine.publish(source, [goev.cluster.Outgoing(subjects.of_group("room:42"), data) for data in poison])
    three[1].has(malformed=len(poison))
    groups[0].send(b"hello")
    assert member.next() == b"hello"


def test_many_threads_join_send_and_leave(three):
    groups = rooms(three)
    constant = three[2].member(groups[2])
    peers = [three[0].peer() for _ in range(8)]
    go = threading.Barrier(8)

    def live(peer):
        go.wait()
        for number in range(50):
            groups[0].add(peer.handler)
            groups[0].send(b"%d" % number)
            groups[0].discard(peer.handler)

    for each in [in_thread(live, peer) for peer in peers]:
        each.result(10)
    assert len(constant.take(400)) == 400
    three[0].settle()
    assert len(groups[0]) == 0
    assert three[0].cluster.stats()["subscriptions"] == 2, "those of the machine itself"


def test_a_closed_cluster_says_so(url):
    with machines(2, url) as made:
        groups = rooms(made)
        member = made[0].member(groups[0])
        groups[0].send(b"one")
        made[0].cluster.close()
        made[0].cluster.close()
        assert made[0].cluster.state == "closed"
        for message in (b"two", b"three"):
            with pytest.raises(goev.cluster.Closed):
                groups[0].send(message)
        assert member.take(3) == [b"one", b"two", b"three"], "members here get them"
        assert made[1].cluster.state == "up"


@pytest.mark.parametrize("history", [0, 5])
def test_close_sends_what_waits(url, history):
    with machines(2, url) as made:
        groups = rooms(made, history=history)
        member = made[1].member(groups[1])
        for number in range(1_000):
            groups[0].send(b"%d" % number)
        made[0].cluster.close()
        assert member.take(1_000) == [b"%d" % number for number in range(1_000)]


def test_an_unknown_engine_is_named():
    with pytest.raises(ValueError, match="not 'kafka://x'"):
        goev.cluster.connect("kafka://x")


def test_an_engine_that_is_not_there_is_an_error_that_says_why(url, log):
    hub(url.removeprefix("memory:")).stop()
    with pytest.raises(goev.cluster.Unreachable, match="the hub is stopped") as caught:
        goev.cluster.connect(url, timeout=0.1)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_without_waiting_an_engine_may_come_later(url, stack, log):
    engine = hub(url.removeprefix("memory:"))
    engine.stop()
    machine = Machine(stack, url, wait=False)
    assert not machine.cluster.is_ready
    machine.states.until("down")
    engine.start()
    machine.states.until("up")
    assert machine.cluster.is_ready


@pytest.mark.parametrize("home", ["thread"])
def test_a_callback_that_sends_many_messages_does_not_put_the_others_off(three):
    groups = rooms(three)
    sender, receiver = three[0].member(groups[0]), three[1].member(groups[1])

    def sends_until_one_has_arrived():
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            groups[0].send(b"x")
            if receiver.gets(b"\0", 0.001):
                return True
        return False

    assert on_poller(sender.handler, sends_until_one_has_arrived)


def test_a_message_goes_out_although_its_reactor_stops_at_once(three):
    groups = rooms(three)
    sender, receiver = three[0].member(groups[0]), three[1].member(groups[1])

    def last_words():
        groups[0].send(b"good-bye")
        three[0].reactor.stop(0)

    sender.handler.call_soon(last_words)
    assert receiver.next() == b"good-bye"


@pytest.mark.parametrize("home", ["thread"])
def test_a_cluster_outlives_the_reactors_of_its_members(three):
    groups = rooms(three)
    receiver = three[1].member(groups[1])
    three[0].reactor.stop(0)
    three[0].reactor.join(PATIENCE)
    groups[0].send(b"from another thread")
    assert receiver.next() == b"from another thread"
