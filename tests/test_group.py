"""Groups: one message for many connections, on any pollers, from any thread."""

import gc
import os
import struct
import threading
import weakref

import pytest

import goev
from support import PATIENCE, Child, Client, Events, eventually, on_poller

pytestmark = pytest.mark.wires("plain", "tls")


@pytest.fixture
def joined(start):
    """``joined(count, group, **options)``: a server whose connections join the group, clients, and their handlers."""

    def connect(count, group, **options):
        events = Events()

        class Member(goev.Connection):
            def on_open(self):
                group.add(self)
                events("open", self)

            def on_read(self):
                group.send(self.read())

            def on_close(self, error):
                events("close", error)

        server = start(Member, **options)
        clients, members = [], []
        for _ in range(count):
            clients.append(server.connect())
            members.append(events.until("open")[1])
        return server, clients, members, events

    return connect


@pytest.mark.parametrize("pollers", [1, 3])
def test_every_member_gets_every_message_from_a_member_and_from_a_thread(joined, pollers):
    group = goev.Group()
    _, clients, _, _ = joined(9, group, pollers=pollers)
    assert len(group) == 9
    group.send(b"from a thread;")
    clients[4].send(b"from a member;")
    for client in clients:
        received = client.receive(28)
        assert received in (b"from a thread;from a member;", b"from a member;from a thread;")


def test_a_message_is_framed_once_for_all(joined):
    calls = []

    class Counting:
        def frame(self, message):
            calls.append(message)
            return struct.pack(">I", len(message)) + message

    group = goev.Group(Counting())
    _, clients, _, _ = joined(5, group)
    group.send(b"hello")
    for client in clients:
        assert client.receive(9) == b"\x00\x00\x00\x05hello"
    assert calls == [b"hello"]


def test_who_ends_leaves_and_who_is_taken_out_gets_nothing_more(joined):
    group = goev.Group()
    _, clients, members, events = joined(4, group, pollers=2)
    clients[0].socket.close()
    events.until("close")
    eventually(lambda: len(group) == 3, "the one that ended is gone")
    assert members[0] not in group
    group.discard(members[1])
    group.discard(members[1])
    group.add(members[2])
    assert [member in group for member in members] == [False, False, True, True]
    group.send(b"rest")
    assert [client.receive(4) for client in clients[2:]] == [b"rest", b"rest"]
    members[1].write(b"alone")
    assert clients[1].receive(5) == b"alone"
    assert object() not in group


def test_who_joins_gets_what_is_sent_from_then_on_and_nothing_from_before(joined):
    group = goev.Group()
    server, clients, _, _ = joined(1, group)
    late = []

    class Late(goev.Connection):
        def on_open(self):
            late.append(self)

    other = goev.Acceptor(server.reactor, "127.0.0.1:0", Late)
    with Client(other.address) as client:
        eventually(lambda: late, "it is open")
        joins = threading.Event()

        def send_and_join():
            # The poller is here, so what a thread sends waits in its mailbox; then one joins.
            thread = threading.Thread(target=group.send, args=(b"before;",))
            thread.start()
            thread.join(PATIENCE)
            group.add(late[0])
            joins.set()

        on_poller(server.reactor, send_and_join)
        assert joins.wait(PATIENCE)
        group.send(b"after;")
        assert clients[0].receive(13) == b"before;after;"
        assert client.receive(6) == b"after;"


def test_the_order_of_one_threads_writes_and_messages_is_kept(joined):
    group = goev.Group()
    _, clients, members, _ = joined(1, group)

    def mixed():
        members[0].write(b"1")
        group.send(b"2")
        members[0].write(b"3")

    on_poller(members[0], mixed)
    mixed()
    assert clients[0].receive(6) == b"123123"


def test_a_group_keeps_no_descriptor_of_a_reactor_whose_members_have_ended(events):
    group = goev.Group()

    class Member(goev.Connection):
        def on_open(self):
            group.add(self)
            events("open")

    def live():
        with goev.Reactor(pollers=2) as reactor:
            acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Member)
            reactor.start()
            with Client(acceptor.address), Client(acceptor.address):
                events.times("open", 2)
                assert len(group) == 2
        events.history.clear()

    def open_descriptors():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    live()
    before = open_descriptors()
    live()
    live()
    assert len(group) == 0
    eventually(lambda: open_descriptors() <= before, "all descriptors are closed")


@pytest.mark.parametrize("when_behind", ["skip", "end"])
def test_a_member_that_takes_nothing_costs_the_others_nothing(joined, when_behind):
    group = goev.Group(when_behind=when_behind)
    _, clients, members, events = joined(2, group, high_water=100_000, low_water=1000)
    message = bytes(50_000)
    for count in range(1, 400):
        group.send(message)
        clients[1].discard(len(message))
        if when_behind == "end" and len(group) == 1:
            break
        assert on_poller(members[0], lambda: members[0].pending_output) <= 150_000, f"after {count}"
    if when_behind == "end":
        assert isinstance(events.until("close")[1], goev.OutputOverflow)
        assert members[0] not in group
    else:
        assert len(group) == 2
        on_poller(members[0], members[0].close)
        assert 0 < len(clients[0].receive_all()) < 400 * len(message)


@pytest.mark.parametrize("when_behind", ["skip", "end"])
def test_a_burst_in_one_callback_reaches_a_member_whose_socket_takes_it(joined, when_behind):
    group = goev.Group(when_behind=when_behind)
    _, clients, members, _ = joined(2, group, high_water=4096, low_water=1024)
    on_poller(members[0], lambda: [group.send(bytes([number]) * 1024) for number in range(32)])
    for client in clients:
        assert client.receive(32 * 1024) == b"".join(bytes([number]) * 1024 for number in range(32))


@pytest.mark.parametrize("when_behind", ["skip", "end"])
def test_a_large_write_before_a_message_makes_no_member_behind_whose_socket_takes_more(joined, when_behind):
    group = goev.Group(when_behind=when_behind)
    _, clients, members, _ = joined(1, group, high_water=4096, low_water=1024)
    size = 1_000_000  # more than one flush sends, and less than the buffers of the socket hold
    on_poller(members[0], lambda: (members[0].write(bytes(size)), group.send(b"message")))
    assert clients[0].receive(size + 7) == bytes(size) + b"message"


def test_threads_may_send_join_and_leave_at_once(joined):
    group = goev.Group(goev.LengthPrefixed(2))
    _, clients, members, _ = joined(6, group, pollers=3)
    stable, moving = members[:3], members[3:]

    def send(thread):
        for number in range(200):
            group.send(struct.pack(">BH", thread, number))

    def move():
        for _ in range(200):
            for member in moving:
                group.discard(member)
                group.add(member)

    threads = [threading.Thread(target=send, args=(thread,)) for thread in range(4)]
    threads += [threading.Thread(target=move) for _ in range(2)]
    for thread in threads:
        thread.start()
    for client, _ in zip(clients, stable, strict=False):
        last = dict.fromkeys(range(4), -1)
        for _ in range(800):
            thread, number = struct.unpack(">2xBH", client.receive(5))
            assert number == last[thread] + 1, "each thread's order is kept, and nothing is lost"
            last[thread] = number
    for thread in threads:
        thread.join(PATIENCE)
    assert len(group) == 6


def test_a_connection_that_is_handed_over_has_left(joined):
    group = goev.Group()
    _, clients, members, events = joined(1, group)

    class Next(goev.Connection):
        def on_open(self):
            self.write(b"next")

    on_poller(members[0], members[0].hand_over, Next())
    assert clients[0].receive(4) == b"next"
    assert len(group) == 0
    events.until("close")


def test_one_that_is_not_open_cannot_join(joined):
    group = goev.Group()
    with pytest.raises(goev.ConnectionClosed):
        group.add(goev.Connection())
    group.discard(goev.Connection())
    _, clients, members, events = joined(1, group)
    clients[0].socket.close()
    events.until("close")
    with pytest.raises(goev.ConnectionClosed):
        group.add(members[0])


def test_a_poller_that_takes_nothing_is_given_no_more_than_it_may_have(joined):
    group = goev.Group()
    server, clients, _, _ = joined(1, group)
    release, held = threading.Event(), threading.Event()
    server.reactor.call_soon(lambda: (held.set(), release.wait(PATIENCE)))
    assert held.wait(PATIENCE)
    message = bytes(1 << 20)
    for _ in range(64):
        group.send(message)
    with pytest.raises(goev.OutputOverflow, match="67108864 bytes that may be on their way to each of 1 pollers"):
        group.send(message)
    release.set()
    # They come at once, and by then the member is behind: it is skipped, and nothing breaks.
    assert clients[0].receive(len(message)) == message
    clients[0].socket.close()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((), {"when_behind": "wait"}, ValueError, "when_behind must be 'skip' or 'end'"),
        ((object(),), {}, TypeError, r"framing must have frame\(message\); object has not"),
    ],
)
def test_a_group_that_makes_no_sense_is_refused(arguments, options, error, text):
    with pytest.raises(error, match=text):
        goev.Group(*arguments, **options)


def test_a_group_in_a_cycle_with_its_framing_is_collected():
    class Frames:
        def frame(self, message):
            return message

    framing = Frames()
    framing.group = goev.Group(framing)
    gone = weakref.ref(framing)
    del framing
    gc.collect()
    assert gone() is None


def test_what_is_no_message_is_refused():
    with pytest.raises(TypeError, match="not str"):
        goev.Group().send("text")
    with pytest.raises(goev.MessageTooLong):
        goev.Group(goev.LengthPrefixed(max_size=3)).send(b"long")
    with pytest.raises(TypeError):
        goev.Group().add(object())


FORKS = """
    import os, sys, goev
    group = goev.Group()
    child = os.fork()
    if child == 0:
        try:
            group.send(b"x")
        except RuntimeError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    group.send(b"x")
"""


def test_in_a_forked_child_the_group_is_the_parents(stack):
    child = stack.enter_context(Child.running(FORKS))
    assert "group" in child.line()
    assert child.end() == 0
