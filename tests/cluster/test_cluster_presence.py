"""Presence over machines: who is there, joins and leaves, machines that die, words that are lost."""

import asyncio
import gc

import pytest

import goev
from cluster_support import NAMES, Machine, end, machines
from goev.cluster import subjects
from goev.cluster.backplanes.memory import hub
from goev.cluster.envelope import Kind, sealed
from goev.cluster.figures import Figures
from goev.cluster.nodes import Nodes
from support import PATIENCE, Events, eventually, on_poller

TTL = 0.3


@pytest.fixture
def url():
    return f"memory:{next(NAMES)}"


@pytest.fixture
def engine(url):
    return hub(url.removeprefix("memory:"))


@pytest.fixture
def three(url, home):
    with machines(3, url, ttl=TTL, home=home) as made:
        yield made


def rooms(machines, name="room:42", **options):
    return [machine.cluster.group(name, goev.LengthPrefixed(), **options) for machine in machines]


def watched(group):
    """The joins and leaves that a machine hears of: (word, machine, meta)."""
    events = Events()
    group.watch(
        on_join=lambda members: [events("join", each.node, each.meta) for each in members],
        on_leave=lambda members: [events("leave", each.node, each.meta) for each in members],
    )
    return events


def metas(group):
    return sorted(str(each.meta) for each in group.presence())


def agrees(group, *expected):
    eventually(lambda: metas(group) == sorted(map(str, expected)), f"{expected}")
    assert group.count() == len(expected)


def test_every_machine_with_a_member_knows_all_with_what_they_say(three):
    groups = rooms(three)
    members = {}
    for name, machine, group in zip("abc", three, groups, strict=True):
        members[name] = machine.member(group, meta={"name": name})
    for group in groups:
        agrees(group, {"name": "a"}, {"name": "b"}, {"name": "c"})
    assert {each.node for each in groups[0].presence()} == {machine.cluster.node for machine in three}
    assert groups[0].presence()[0].node == three[0].cluster.node
    end(members["b"], three[1])
    for group in (groups[0], groups[2]):
        agrees(group, {"name": "a"}, {"name": "c"})


def test_own_members_count_at_once(three):
    group = rooms(three)[0]
    peer = three[0].peer()
    group.add(peer.handler, meta=1)
    assert group.count() == 1
    assert [each.meta for each in group.presence()] == [1]
    group.discard(peer.handler)
    with pytest.raises(RuntimeError, match=r"'room:42' has no member on this machine.* call watch\(\) first"):
        group.count()


def test_joins_and_leaves_are_told_once_also_without_a_member_here(three):
    groups = rooms(three)
    early = three[1].member(groups[1], meta="early")
    events = watched(groups[0])
    assert events.next() == ("join", three[1].cluster.node, "early")
    late = three[2].member(groups[2], meta="late")
    assert events.next() == ("join", three[2].cluster.node, "late")
    own = three[0].member(groups[0], meta="own")
    assert events.next() == ("join", three[0].cluster.node, "own")
    end(early, three[1])
    assert events.next() == ("leave", three[1].cluster.node, "early")
    on_poller(late.handler, lambda: groups[2].discard(late.handler))
    assert events.next() == ("leave", three[2].cluster.node, "late")
    end(own, three[0])
    assert events.next() == ("leave", three[0].cluster.node, "own")
    again = three[1].member(groups[1], meta="again")
    assert events.next() == ("join", three[1].cluster.node, "again")
    end(again, three[1])
    assert events.next()[0] == "leave"


def test_a_machine_that_dies_leaves_within_ttl(three):
    groups = rooms(three)
    three[0].member(groups[0], meta="stays")
    three[1].member(groups[1], meta="dies")
    agrees(groups[0], "stays", "dies")
    events = watched(groups[0])
    three[1].cluster._nodes.post = lambda *_: False  # it says nothing more
    assert events.until("leave", 3 * TTL) == ("leave", three[1].cluster.node, "dies")
    assert three[1].cluster.node not in three[0].cluster.machines()


class Clock(asyncio.SelectorEventLoop):
    """An event loop with a time of its own, which goes on at once to the next timer."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self._selector.select = self._skip

    def time(self):
        return self.now

    def _skip(self, timeout):
        self.now += timeout or 0.0
        return []


class Deaf:
    """A link that subscribes to nothing, and sends nothing."""

    def want(self, *_):
        pass

    def post(self, _):
        return False


@pytest.mark.parametrize("last_word", [0.0, 0.5, 1.0, 2.7, 3.3])
def test_the_time_without_a_word_of_a_machine_that_is_gone_is_at_most_ttl(last_word):
    clock = Clock()
    nodes = Nodes(b"here....", Deaf(), Figures(), ttl=3.0)

    async def hear():
        gone = clock.create_future()
        nodes.on_gone.append(lambda node: gone.set_result(clock.time()))
        nodes.begin()
        await asyncio.sleep(last_word)
        nodes.note(b"there...")
        return await gone

    with asyncio.Runner(loop_factory=lambda: clock) as runner:
        silence = runner.run(hear()) - last_word
    assert 2 * 3.0 / 3 < silence <= 3.0, "two beats may be late"


def test_a_member_that_hands_its_connection_over_leaves(three):
    groups = rooms(three)
    there = three[1].member(groups[1], meta="there")
    member = three[0].member(groups[0], meta="here")
    agrees(groups[1], "there", "here")
    three[0].cluster.register("user:7", member.handler).result(PATIENCE)
    on_poller(three[0].reactor, lambda: member.handler.hand_over(goev.Connection()))
    agrees(groups[1], "there")
    assert len(groups[0]) == 0
    with pytest.raises(goev.cluster.NoSuchName):
        three[1].cluster.tell("user:7", b"hello").result(PATIENCE)
    groups[1].send(b"to members")
    assert there.next() == b"to members"
    assert member.nothing()


def test_a_machine_that_closes_leaves_at_once(url):
    with machines(2, url, ttl=60) as made:
        groups = rooms(made)
        made[1].member(groups[1], meta="goes")
        events = watched(groups[0])
        assert events.next()[0] == "join"
        made[1].cluster.close()
        assert events.next() == ("leave", made[1].cluster.node, "goes")


def test_a_machine_that_was_cut_off_is_back_with_its_members(three, engine, log):
    groups = rooms(three)
    three[0].member(groups[0], meta="a")
    gone = three[1].member(groups[1], meta="b")
    agrees(groups[0], "a", "b")
    events = watched(groups[0])
    backplane = three[1].cluster._link.backplane
    backplane.open, opened = refusing, backplane.open
    backplane.end(ConnectionResetError("cut"))
    assert events.until("leave")[2] == "b"
    three[1].states.until("down")
    end_quietly(gone, three[1])
    three[1].cluster._home.post(lambda: None)
    peer = three[1].peer()
    groups[1].add(peer.handler, meta="c")
    backplane.open = opened
    assert events.until("join")[2] == "c"
    for group in groups[:2]:
        agrees(group, "a", "c")


async def refusing(*_):
    raise ConnectionRefusedError("cut off")


def end_quietly(member, machine):
    member.close()
    machine.events.until("close")


def test_after_the_engine_was_away_all_agree_on_what_happened_meanwhile(three, engine, log):
    groups = rooms(three)
    members = [machine.member(group, meta=n) for n, (machine, group) in enumerate(zip(three, groups, strict=True))]
    for group in groups:
        agrees(group, 0, 1, 2)
    events = watched(groups[0])
    engine.stop()
    for machine in three:
        machine.states.until("down")
    end_quietly(members[1], three[1])
    peer = three[2].peer()
    groups[2].add(peer.handler, meta=3)
    engine.start()
    for machine in three:
        machine.states.until("up")
    agrees(groups[0], 0, 2, 3)
    agrees(groups[2], 0, 2, 3)
    assert ("leave", three[1].cluster.node, 1) in events.history


def test_a_word_that_is_lost_is_noticed_by_the_next_one(three, engine):
    groups = rooms(three)
    three[0].member(groups[0], meta=0)
    members = [three[1].member(groups[1], meta=1)]
    agrees(groups[0], 0, 1)
    subject = [subjects.of_presence("room:42")]
    engine.unsubscribe(three[0].cluster._link.backplane, subject)
    members.append(three[1].member(groups[1], meta=2))
    end(members[0], three[1])
    engine.subscribe(three[0].cluster._link.backplane, subject)
    three[1].member(groups[1], meta=3)
    agrees(groups[0], 0, 2, 3)


def test_a_change_that_overtakes_an_answer_is_not_lost(url):
    """Each subject has a task of its own in nats-py, so messages of two subjects come in any order."""
    with machines(2, url, ttl=60) as made:
        groups = rooms(made)
        made[1].member(groups[1], meta=1)
        backplane, held = made[0].cluster._link.backplane, []
        put = backplane.put
        inbox = subjects.of_node(made[0].cluster.node)
        backplane.put = lambda *message: held.append(message) if message[0] == inbox else put(*message)
        made[0].member(groups[0], meta=0)
        made[1].member(groups[1], meta=2)  # so it asks this machine
        eventually(lambda: b"[2, 2]" in held[-1][1], "it is answered")
        made[1].member(groups[1], meta=3)
        made[0].settle()
        backplane.put = put
        for message in held:
            put(*message)
        for group in groups:
            agrees(group, 0, 1, 2, 3)


def test_an_answer_that_comes_after_later_changes_is_ignored(url):
    with machines(2, url, ttl=60) as made:
        groups = rooms(made)
        made[0].member(groups[0], meta=0)
        made[1].member(groups[1], meta=1)
        for group in groups:
            agrees(group, 0, 1)
        backplane, held = made[0].cluster._link.backplane, []
        put = backplane.put
        inbox = subjects.of_node(made[0].cluster.node)
        backplane.put = lambda *message: held.append(message) if message[0] == inbox else put(*message)
        for number in (1, 2):
            made[0].cluster._home.post(groups[0]._presence.ask, bytes.fromhex(made[1].cluster.node))
            eventually(lambda number=number: len(held) == number, "it is answered")
        put(*held[0])
        made[0].settle()
        made[1].member(groups[1], meta=2)
        agrees(groups[0], 0, 1, 2)
        put(*held[1])
        made[0].settle()
        agrees(groups[0], 0, 1, 2)


def test_the_words_are_as_many_as_the_changes(three, engine):
    groups = rooms(three)
    three[0].member(groups[0])
    peers = [three[1].peer() for _ in range(200)]
    words = []
    put = three[0].cluster._link.backplane.put
    three[0].cluster._link.backplane.put = lambda *message: (words.append(message[0]), put(*message))[1]
    on_poller(three[1].reactor, lambda: [groups[1].add(peer.handler) for peer in peers])
    eventually(lambda: groups[0].count() == 201, "all are known")
    about = [subject for subject in words if subject == subjects.of_presence("room:42")]
    assert len(about) < 50, "changes of the same moment travel together"
    words.clear()
    eventually(lambda: words.count("nodes") >= 6, "some heartbeats")
    assert set(words) == {"nodes"}, "members that stay cost nothing"


def test_many_members_with_much_to_say_travel_in_parts(three):
    groups = rooms(three)
    peers = [three[1].peer() for _ in range(60)]
    for number, peer in enumerate(peers):
        groups[1].add(peer.handler, meta=f"{number}" + "x" * 4_000)
    three[1].settle()
    three[0].member(groups[0])
    eventually(lambda: groups[0].count() == 61, "all are known")
    three[1].settle()


@pytest.mark.parametrize(("meta", "error"), [(object(), TypeError), ("x" * 4_095, ValueError), ({1, 2}, TypeError)])
def test_meta_is_checked_before_anything_happens(three, meta, error):
    group = rooms(three)[0]
    peer = three[0].peer()
    with pytest.raises(error):
        group.add(peer.handler, meta=meta)
    assert peer.handler not in group


def test_without_presence_nothing_is_told(three, engine):
    groups = rooms(three, presence=False)
    three[0].member(groups[0])
    assert subjects.of_presence("room:42") not in engine.subjects()
    for method in (groups[0].count, groups[0].presence, groups[0].watch):
        with pytest.raises(RuntimeError, match="made with presence=False"):
            method()


def test_a_watched_group_stays_and_one_that_is_not_watched_costs_nothing(three, engine):
    group = rooms(three)[0]
    events = watched(group)
    three[0].settle()
    subject = subjects.of_presence("room:42")
    del group
    gc.collect()
    other = rooms(three)[1]
    member = three[1].member(other, meta=1)
    assert events.next()[0] == "join"
    rooms(three)[0].unwatch()
    three[0].settle()
    assert engine.subjects()[subject] == 1
    end(member, three[1])
    assert subject not in engine.subjects()


def test_a_group_that_was_made_anew_is_heard(three):
    watching = watched(rooms(three)[0])
    for number in range(3):
        group = rooms(three)[1]
        member = three[1].member(group, meta=number)
        assert watching.next() == ("join", three[1].cluster.node, number)
        end(member, three[1])
        assert watching.next()[0] == "leave"
        del group
        gc.collect()


def test_a_callback_that_raises_is_logged_and_disturbs_nobody(three, log):
    groups = rooms(three)

    def broken(members):
        raise ValueError("oops")

    groups[0].watch(on_join=broken)
    events = watched(groups[0])
    three[1].member(groups[1], meta=1)
    assert events.next()[0] == "join"
    assert "oops" in log.next()[1]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'["change"]', b'["change",1,[7],[]]', b'["all",1]', b"\xff", b"[" * 9999]
)
def test_poison_is_counted_and_does_no_harm(three, engine, body):
    groups = rooms(three)
    three[0].member(groups[0], meta=0)
    source = three[2].cluster._link.backplane
    data = sealed(Kind.PRESENCE, b"stranger", 0, body)
    places = [subjects.of_presence("room:42"), subjects.of_node(three[0].cluster.node)]
    engine.publish(source, [goev.cluster.Outgoing(place, data) for place in places])
    three[0].has(malformed=2)
    three[1].member(groups[1], meta=1)
    agrees(groups[0], 0, 1)


def test_a_new_machine_hears_of_all(three, url, stack):
    three[1].member(rooms(three)[1], meta=1)
    new = Machine(stack, url, ttl=TTL)
    new.member(rooms([new])[0], meta=2)
    agrees(rooms([new])[0], 1, 2)
