"""Groups with history, on each engine that keeps messages: members that come late or back, machines that were away.

A message here is ``text|place``: the stamp appends the place, and the client of a member that comes back brings the
last one that it has had.
"""

import pytest

import goev
from cluster_support import NAMES, Machine, end, machines
from engines import made
from goev.cluster.places import MemberPlace, place_of
from support import Events, eventually, in_thread, on_poller

FRAMING = goev.LengthPrefixed()


@pytest.fixture(params=["memory", "nats", "redis", "redis-cluster"])
def engine(request, tmp_path):
    running = made(request.param, tmp_path)
    yield running
    running.close()


@pytest.fixture
def three(engine, home):
    with machines(3, engine.url, home=home) as made:
        yield made


def stamped(message, place):
    return message + b"|" + place.encode()


def room(machine, history=10, **options):
    return machine.cluster.group("room:42", FRAMING, history=history, stamp=stamped, **options)


def rooms(machines, history=10, **options):
    return [room(machine, history, **options) for machine in machines]


class Reader:
    """The client of a member: the messages that it has had, and the last place."""

    def __init__(self, machine, group, after=None):
        self.machine = machine
        self.member = machine.member(group, after=after)
        self.had = []
        self.place = after

    def read(self, count):
        for message in self.member.take(count):
            text, _, place = message.partition(b"|")
            self.had.append(text)
            self.place = place.decode()
        return self.had[-count:]

    def reconnects(self, machine, group):
        end(self.member, self.machine)
        self.machine, self.member = machine, machine.member(group, after=self.place)


def numbers(first, last):
    return [b"%d" % number for number in range(first, last)]


def send(group, first, last):
    for number in range(first, last):
        group.send(b"%d" % number)


def test_a_late_member_gets_what_is_kept_and_then_what_comes(three):
    groups = rooms(three)
    send(groups[0], 0, 25)
    three[0].has(sent=25)
    reader = Reader(three[1], groups[1])
    assert reader.read(10) == numbers(15, 25)
    send(groups[2], 25, 27)
    assert reader.read(2) == numbers(25, 27)
    late = Reader(three[1], groups[1])
    assert late.read(10) == numbers(17, 27)
    send(groups[1], 27, 28)
    assert late.read(1) == reader.read(1) == numbers(27, 28)


def test_a_member_that_comes_back_gets_what_it_missed_once(three):
    groups = rooms(three)
    reader = Reader(three[0], groups[0])
    stays = [Reader(machine, group) for machine, group in zip(three, groups, strict=True)]
    for number, (machine, group) in enumerate(
        [(three[1], groups[1]), (three[2], groups[2]), (three[0], groups[0])] * 2
    ):
        send(groups[number % 3], 6 * number, 6 * number + 3)
        reader.read(3)
        end(reader.member, reader.machine)
        send(groups[(number + 1) % 3], 6 * number + 3, 6 * number + 6)
        stays[(number + 1) % 3].read(6)
        reader.machine, reader.member = machine, machine.member(group, after=reader.place)
        reader.read(3)
    assert reader.had == numbers(0, 36)
    assert reader.member.nothing()


def test_a_member_that_missed_more_than_is_kept_is_told(three):
    gaps = Events()
    groups = rooms(three, on_gap=lambda connection: gaps("gap", connection))
    reader = Reader(three[0], groups[0])
    send(groups[1], 0, 1)
    reader.read(1)
    end(reader.member, three[0])
    send(groups[1], 1, 11)
    three[1].has(sent=11)
    reader.machine, reader.member = three[2], three[2].member(groups[2], after=reader.place)
    assert reader.read(10) == numbers(1, 11), "exactly as many as are kept: nothing is missing"
    end(reader.member, three[2])
    send(groups[1], 11, 22)
    three[1].has(sent=22)
    reader.machine, reader.member = three[2], three[2].member(groups[2], after=reader.place)
    assert gaps.next() == ("gap", reader.member.handler)
    assert reader.read(10) == numbers(12, 22)
    assert len(gaps.history) == 1


def test_own_messages_reach_members_here_before_the_engine_has_them_and_later_nobody_twice(three, engine, log):
    groups = rooms(three)
    readers = [Reader(machine, group) for machine, group in zip(three, groups, strict=True)]
    engine.kill()
    three[0].states.until("down")
    send(groups[0], 0, 5)
    assert readers[0].read(5) == numbers(0, 5)
    late = Reader.__new__(Reader)
    late.machine, late.had, late.place = three[0], [], None
    late.member = three[0].peer(lambda peer: groups[0].add(peer))
    assert late.read(5) == numbers(0, 5), "what is not with the engine yet is kept here"
    if "memory" not in str(engine.url):
        engine.start()
        for reader in readers[1:]:
            assert reader.read(5) == numbers(0, 5)
        send(groups[1], 5, 6)
        for reader in (*readers, late):
            assert reader.read(1) == numbers(5, 6)
            assert reader.member.nothing()


@pytest.mark.parametrize("engine", ["memory", "nats"], indirect=True)  # the others keep nothing over their end
def test_a_member_that_moves_between_machines_while_the_engine_is_away_gets_all_once(three, engine, log):
    groups = rooms(three, 100)
    reader = Reader(three[0], groups[0])
    stays = [Reader(machine, group) for machine, group in zip(three, groups, strict=True)]
    send(groups[1], 0, 3)
    reader.read(3)
    if hasattr(engine, "hub"):
        engine.hub.stop()
    else:
        engine.kill()
    for machine in three:
        machine.states.until("down")
    send(groups[0], 3, 6)
    reader.read(3)
    reader.member.close()
    three[0].events.until("close")
    reader.machine, reader.member = three[2], three[2].peer(lambda peer: groups[2].add(peer, after=reader.place))
    send(groups[2], 6, 9)
    assert reader.read(3) == numbers(6, 9)
    engine.start()
    for each in stays:
        each.read(9)
        assert sorted(each.had) == numbers(0, 9)
    send(groups[1], 9, 10)
    assert reader.read(1) == numbers(9, 10), "the messages of the first machine are not repeated"
    assert reader.member.nothing()
    eventually(lambda: not groups[2]._apart, "it is with the others")


def test_a_machine_that_was_cut_off_reads_what_it_missed(three, engine, log):
    groups = rooms(three, 1_000)
    readers = [Reader(machine, group) for machine, group in zip(three, groups, strict=True)]
    link = three[1].cluster._link
    send(groups[0], 0, 5)
    readers[1].read(5)
    opened = link.backplane.open

    async def refusing(*_):
        raise ConnectionRefusedError("cut off")

    link.backplane.open = refusing
    three[1].cluster._home.submit(link.backplane.close()).result(10)
    three[1].cluster.tell("nobody", b"")  # which fails, so the link notices
    three[1].states.until("down")
    send(groups[0], 5, 300)
    assert readers[2].read(300) == numbers(0, 300)
    send(groups[1], 300, 305)
    assert readers[1].read(5) == numbers(300, 305)
    link.backplane.open = opened
    assert readers[1].read(295) == numbers(5, 300)
    assert readers[2].read(5) == numbers(300, 305)
    assert readers[1].member.nothing()


def test_a_rolling_restart_of_all_machines_loses_nothing(engine, stack):
    old = [Machine(stack, engine.url) for _ in range(3)]
    groups = rooms(old, 100)
    reader = Reader(old[0], groups[0])
    sent = 0
    for index in range(3):
        send(groups[index], sent, sent + 10)
        reader.read(10)
        end(reader.member, reader.machine)
        send(groups[index], sent + 10, sent + 20)
        old[index].cluster.close()
        sent += 20
        new = Machine(stack, engine.url)
        reader.machine, reader.member = new, new.member(room(new, 100), after=reader.place)
        reader.read(10)
    assert reader.had == numbers(0, 60)
    assert reader.member.nothing()


@pytest.mark.parametrize("is_first", [False, True])
def test_a_member_that_has_had_more_than_its_new_machine_knows_gets_nothing_twice(is_first):
    """The machine does not know yet that the engine has its own last messages, and the member had them elsewhere."""
    with machines(2, f"memory:{next(NAMES)}") as made:
        groups = rooms(made)
        stays = Reader(made[0], groups[0])
        reader = Reader(made[1], groups[1])
        backplane, held = made[0].cluster._link.backplane, []
        if not is_first:
            send(groups[0], 0, 1)
            assert stays.read(1) == reader.read(1) == numbers(0, 1)
            eventually(lambda: not groups[0]._unnumbered, "the engine has it")
        put = backplane.put
        backplane.put = lambda *message: held.append(message) if message[0] == "g:room:42" else put(*message)
        send(groups[0], 1, 4)
        assert stays.read(3) == reader.read(3) == numbers(1, 4)
        reader.reconnects(made[0], groups[0])
        send(groups[0], 4, 6)
        assert stays.read(2) == numbers(4, 6)
        backplane.put = put
        for message in held:
            put(*message)
        assert reader.read(2) == numbers(4, 6)
        send(groups[1], 6, 7)
        assert reader.read(1) == stays.read(1) == numbers(6, 7)
        assert reader.member.nothing()
        assert not groups[0]._apart, "it is with the others"


def test_many_senders_and_members_that_come_and_go(three):
    groups = rooms(three, 2_000)
    readers = [Reader(three[n % 3], groups[n % 3]) for n in range(6)]
    senders = [in_thread(lambda n=n: [groups[n].send(b"%d:%d" % (n, i)) for i in range(300)]) for n in range(3)]
    for round_ in range(5):
        for n, reader in enumerate(readers):
            reader.read(30)
            machine = (n + round_) % 3
            reader.reconnects(three[machine], groups[machine])
    for sender in senders:
        sender.result(10)
    for reader in readers:
        reader.read(900 - len(reader.had))
        assert reader.member.nothing(0.02)
        for n in range(3):
            mine = [each for each in reader.had if each.startswith(b"%d:" % n)]
            assert mine == [b"%d:%d" % (n, i) for i in range(300)]


@pytest.mark.parametrize("engine", ["memory", "redis", "redis-cluster"], indirect=True)  # nats-server keeps its files
def test_a_history_that_the_engine_lost_is_a_gap(three, engine, log):
    gaps = Events()
    groups = rooms(three, on_gap=lambda connection: gaps("gap", connection))
    reader = Reader(three[0], groups[0])
    send(groups[1], 0, 3)
    reader.read(3)
    three[0].settle()
    engine.kill()
    engine.start()
    for machine in three:
        machine.states.until("down")
        machine.states.until("up")
    assert gaps.next() == ("gap", reader.member.handler)
    send(groups[1], 3, 4)
    assert reader.read(1) == numbers(3, 4)
    reader.reconnects(three[2], groups[2])
    send(groups[0], 4, 5)
    assert reader.read(1) == numbers(4, 5)


def test_histories_of_groups_do_not_mix(three):
    one, two = (three[0].cluster.group(name, FRAMING, history=5) for name in ("one", "two"))
    for number in range(10):
        one.send(b"one%d" % number)
        two.send(b"two%d" % number)
    three[0].has(sent=20)
    member = three[1].member(three[1].cluster.group("two", FRAMING, history=5))
    assert member.take(5) == [b"two%d" % number for number in range(5, 10)]
    other = three[2].member(three[2].cluster.group("three", FRAMING, history=5))
    assert other.nothing()


@pytest.mark.parametrize("after", ["", "x", "1.2.3", "a.1.00-1", "a.-1", "a.1|", "a.1" * 1000])
def test_a_place_that_is_none_is_refused(after):
    with pytest.raises(ValueError, match="after must be a place"):
        place_of(after)


@pytest.mark.parametrize(
    "place", [MemberPlace(), MemberPlace("abc", 7), MemberPlace("f", 1, {b"12345678": 3, b"abcdefgh": 2**63})]
)
def test_a_place_travels_as_text(place):
    assert place_of(str(place)) == place


def test_an_engine_without_history_says_so(stack):
    from outside import LineServer

    server = LineServer()
    stack.callback(server.close)
    machine = Machine(stack, server.url)
    with pytest.raises(goev.cluster.HistoryUnavailable, match="keeps no messages"):
        room(machine)
    for wrong in (-1, 10_001):
        with pytest.raises(ValueError, match="history must be from 0 to 10000"):
            room(machine, wrong)


def test_a_history_longer_than_high_water_arrives_whole(three):
    groups = rooms(three, 100)
    for number in range(100):
        groups[0].send(b"%d" % number + bytes(10_000))
    three[0].has(sent=100)
    member = three[1].member(groups[1])
    assert [int(message[: message.index(0)]) for message in member.take(100)] == list(range(100))
    again = three[1].member(groups[1])
    assert len(again.take(100)) == 100


def test_a_group_without_history_takes_no_place(stack):
    machine = Machine(stack, "memory:")
    group = machine.cluster.group("room", FRAMING)
    member = machine.peer()
    with pytest.raises(ValueError, match="'room' has no history"):
        group.add(member.handler, after="e.1")
    assert member.handler not in group


def test_a_member_that_leaves_and_returns_at_once_gets_nothing_twice(three):
    group = room(three[0])
    reader = Reader(three[0], group)
    send(group, 0, 3)
    reader.read(3)
    connection = reader.member.handler

    def leave_and_return():
        group.discard(connection)
        group.add(connection, after=reader.place)
        send(group, 3, 6)

    on_poller(three[0].reactor, leave_and_return)
    assert reader.read(3) == numbers(3, 6)
    assert reader.member.nothing()
