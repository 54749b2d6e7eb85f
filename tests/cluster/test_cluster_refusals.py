"""Engines that refuse, forget and drop: it is told or counted, what can go on goes on, and nothing is lost silently."""

import asyncio
import functools
import gc
import threading

import nats.aio.client
import pytest

import goev
from cluster_support import NAMES, Machine, Peer, machines
from engines import KeepingRedis, NatsServer, Redis, made
from goev.cluster import AccessDenied
from goev.cluster.backplanes.memory import MemoryBackplane, hub
from support import PATIENCE, Client, Events, eventually, resident

FRAMING = goev.LengthPrefixed()
HISTORIES = pytest.mark.parametrize("history", [0, 1_000], ids=["plain", "history"])


@pytest.fixture
def nats_server(tmp_path, stack):
    """A ``nats-server`` with a configuration."""

    def start(*lines):
        configure(tmp_path, *lines)
        server = NatsServer(tmp_path / "store", "-c", str(tmp_path / "nats.conf"))
        stack.callback(server.close)
        return server

    return start


def configure(tmp_path, *lines):
    (tmp_path / "nats.conf").write_text("\n".join(lines) + "\n")


@pytest.fixture
def redis(tmp_path, stack):
    server = Redis(tmp_path)
    stack.callback(server.close)
    return server


def numbers(first, last):
    return [b"%d" % number for number in range(first, last)]


def rooms(machines, **options):
    return [machine.cluster.group("room", FRAMING, **options) for machine in machines]


def held(stack, machine):
    """Hold the thread of a cluster. Returns a function that lets it go on."""
    begun, release = threading.Event(), threading.Event()
    stack.callback(release.set)
    machine.cluster._home.post(lambda: (begun.set(), release.wait(PATIENCE)))
    assert begun.wait(PATIENCE)
    return release.set


# ---- too large -------------------------------------------------------------------------------------------------------


@HISTORIES
def test_a_message_of_any_size_near_the_servers_limit_arrives_or_is_refused(nats_server, stack, log, history):
    url = nats_server("max_payload: 1000").url
    one, two = (Machine(stack, url) for _ in range(2))
    groups = rooms((one, two), history=history)
    member = two.member(groups[1])
    got = 0
    for first in range(850, 1_001, 30):  # all at once would exceed the high-water mark of the member
        for size in range(first, min(first + 30, 1_001)):
            groups[0].send(bytes(size))
        groups[0].send(b"end")
        while member.next() != b"end":
            got += 1
    one.has(refused=151 - got, sessions=1)
    assert got > 20


def test_a_server_that_takes_less_after_a_restart_refuses_what_waits(nats_server, tmp_path, stack, log):
    server = nats_server("max_payload: 10000")
    one, two = (Machine(stack, server.url) for _ in range(2))
    groups = rooms((one, two))
    member = two.member(groups[1])
    groups[0].send(b"0")
    assert member.next() == b"0"
    server.kill()
    for machine in (one, two):
        machine.states.until("down")
    groups[0].send(bytes(5_000))
    groups[0].send(b"1")
    configure(tmp_path, "max_payload: 1000")
    server.start()
    assert member.next() == b"1"
    one.has(refused=1)
    two.has(missed=1)


def test_presence_that_the_engine_refuses_is_counted_and_told(nats_server, stack, log):
    url = nats_server("max_payload: 500").url
    one, two = (Machine(stack, url) for _ in range(2))
    groups = rooms((one, two))
    one.member(groups[0], meta="x" * 600)
    eventually(lambda: one.cluster.stats()["refused"] >= 1, "it is counted")
    assert "max_payload" in log.next()[1]


def test_an_answer_that_the_engine_refuses_fails_the_call_at_once(nats_server, stack, log):
    class Talkative(Peer):
        def on_call(self, message):
            return bytes(5_000)

    url = nats_server("max_payload: 1000").url
    one, two = (Machine(stack, url) for _ in range(2))
    two.kind = Talkative
    peer = two.peer()
    two.cluster.register("ada", peer.handler).result(PATIENCE)
    with pytest.raises(goev.cluster.CallFailed, match="max_payload"):
        asyncio.run(one.cluster.call("ada", b"x", timeout=60))


# ---- not allowed -----------------------------------------------------------------------------------------------------


class Locked(Redis):
    """A ``redis-server`` that wants a password."""

    def answers(self):
        try:
            return self.ask(b"PING").startswith(b"-NOAUTH")
        except ConnectionRefusedError:
            return False


def allowing(*permissions):
    return ["authorization {", "users = [{", "user: ada, password: right", *permissions, "}]", "}"]


def test_nats_that_forbids_subjects_is_an_error(nats_server, stack, log):
    server = nats_server(*allowing('permissions: {subscribe: {deny: "goev.nodes"}}'))
    url = server.url.replace("//", "//ada:right@")
    with pytest.raises(AccessDenied, match=r"goev\.nodes"):
        goev.cluster.connect(url, timeout=60)


def test_nats_that_forbids_messages_is_told(nats_server, stack, log):
    server = nats_server(*allowing('permissions: {publish: {deny: "goev.g%3Asecret"}}'))
    machine = Machine(stack, server.url.replace("//", "//ada:right@"))
    machine.cluster.group("open", FRAMING).send(b"hello")
    machine.settle()
    assert machine.cluster.is_ready
    machine.cluster.group("secret", FRAMING).send(b"hello")
    _, error = machine.states.until("down")
    assert isinstance(error, AccessDenied)
    assert "secret" in str(error)
    machine.states.until("up")


@pytest.mark.parametrize("engine", ["nats", "redis"])
def test_a_password_that_changes_while_the_engine_is_away_is_told_and_messages_wait(tmp_path, stack, log, engine):
    if engine == "nats":
        server = NatsServer(tmp_path, "--user", "ada", "--pass", "right")
        url = server.url.replace("//", "//ada:right@")
    else:
        server = Locked(tmp_path, "--requirepass", "right")
        url = server.url.replace("//", "//:right@")
    stack.callback(server.close)
    one, two = (Machine(stack, url) for _ in range(2))
    groups = rooms((one, two))
    member = two.member(groups[1])
    right = list(getattr(server, "arguments", None) or server.options)
    wrong = [each.replace("right", "wrong") for each in right]

    def give(options):
        server.kill()
        setattr(server, "arguments" if engine == "nats" else "options", options)
        server.start()

    give(wrong)
    while not isinstance(one.states.until("down")[1], AccessDenied):
        pass
    assert not one.cluster.is_ready
    assert isinstance(one.cluster.error, AccessDenied)
    groups[0].send(b"hello")
    give(right)
    assert member.next() == b"hello"


def test_redis_that_asks_for_a_password_in_a_session(redis, stack, log):
    machine = Machine(stack, redis.url, ping=0.05)
    assert redis.ask(b"CONFIG SET requirepass secret") == b"+OK"
    group = rooms([machine])[0]
    group.send(b"hello")
    with Client(("127.0.0.1", redis.port)) as client:
        client.send(b"AUTH secret\r\nCLIENT KILL TYPE normal\r\nCLIENT KILL TYPE pubsub\r\n")
        assert client.receive(5) == b"+OK\r\n"
    while not isinstance(machine.states.until("down")[1], AccessDenied):
        pass


def test_redis_that_forbids_channels_refuses_and_says_so(redis, stack, log):
    machine = Machine(stack, redis.url)
    machine.settle()
    assert redis.ask(b"ACL SETUSER default resetchannels &goev:n*") == b"+OK"
    group = rooms([machine])[0]
    group.send(b"hello")
    machine.has(refused=1)
    peer = machine.peer()
    group.add(peer.handler)
    _, error = machine.states.until("down")
    assert "permission" in str(error)


def test_redis_that_becomes_a_replica_is_left_for_the_next_server(tmp_path, stack, log):
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first, second = Redis(tmp_path / "1"), Redis(tmp_path / "2")
    for each in (first, second):
        stack.callback(each.close)
    one, two = (Machine(stack, [first.url, second.url]) for _ in range(2))
    groups = rooms((one, two), history=100)
    members = [machine.member(group) for machine, group in zip((one, two), groups, strict=True)]
    assert first.ask(f"REPLICAOF 127.0.0.1 {second.port}".encode()) == b"+OK"
    for number in range(10):
        groups[0].send(b"%d" % number)
    for machine in (one, two):
        machine.states.until("down")
    assert members[0].take(10) == numbers(0, 10)
    assert members[1].take(10) == numbers(0, 10)
    for member in members:
        assert member.nothing()


# ---- histories that are lost -----------------------------------------------------------------------------------------


def test_redis_that_goes_back_to_an_old_snapshot_loses_no_later_message(tmp_path, stack, log):
    server = KeepingRedis(tmp_path)
    server.options = ["--appendonly", "no"]
    server.kill()
    server.start()
    stack.callback(server.close)
    gaps = Events()
    one, two = (Machine(stack, server.url) for _ in range(2))
    groups = rooms((one, two), history=100, on_gap=lambda connection: gaps("gap"))
    members = [machine.member(group) for machine, group in zip((one, two), groups, strict=True)]
    for number in range(5):
        groups[0].send(b"%d" % number)
    for member in members:
        assert member.take(5) == numbers(0, 5)
    assert server.ask(b"SAVE") == b"+OK"
    for number in range(5, 10):
        groups[0].send(b"%d" % number)
    for member in members:
        assert member.take(5) == numbers(5, 10)
    server.kill()
    for machine in (one, two):
        machine.states.until("down")
    server.start()
    for machine in (one, two):
        machine.states.until("up")
        machine.settle()
    for number in range(10, 13):
        groups[0].send(b"%d" % number)
    for member in members:
        assert member.take(3) == numbers(10, 13)
        assert member.nothing()
    assert gaps.next() == ("gap",)


def test_a_history_in_the_memory_of_nats_is_a_gap_after_a_restart(tmp_path, stack, log):
    server = NatsServer(tmp_path)
    stack.callback(server.close)
    gaps = Events()
    one, two = (Machine(stack, server.url, history_storage="memory") for _ in range(2))
    groups = rooms((one, two), history=100, on_gap=lambda connection: gaps("gap", connection))
    members = [machine.member(group) for machine, group in zip((one, two), groups, strict=True)]
    groups[0].send(b"0")
    for member in members:
        assert member.next() == b"0"
    server.kill()
    for machine in (one, two):
        machine.states.until("down")
    server.start()
    assert {gaps.next()[1], gaps.next()[1]} == {member.handler for member in members}
    groups[0].send(b"1")
    for member in members:
        assert member.next() == b"1"
        assert member.nothing()


def test_redis_that_evicts_the_numbers_of_a_history_begins_a_new_one(redis, stack, log):
    one, two = (Machine(stack, redis.url) for _ in range(2))
    groups = rooms((one, two), history=100)
    members = [machine.member(group) for machine, group in zip((one, two), groups, strict=True)]
    for number in range(3):
        groups[0].send(b"%d" % number)
    for member in members:
        assert member.take(3) == numbers(0, 3)
    assert redis.ask(b"DEL {goev:g:room}:state") == b":1"
    groups[0].send(b"3")
    for member in members:
        assert member.next() == b"3"
    one.has(refused=0)


def test_jetstream_without_room_refuses_messages_and_goes_on(nats_server, stack, log):
    url = nats_server("jetstream {max_memory_store: 100KB, max_file_store: 100KB}").url
    one, two = (Machine(stack, url) for _ in range(2))
    groups = rooms((one, two), history=1_000)
    member = two.peer(lambda peer: (peer.set_limits(high_water=1 << 20), groups[1].add(peer)))
    other = two.member(two.cluster.group("other", FRAMING))
    for _ in range(20):
        groups[0].send(bytes(10_000))
    one.has(sent=20)
    assert one.cluster.stats()["refused"] >= 5
    assert "JetStream" in log.next()[1]
    assert len(log.texts()) == 1, "one line for all of them"
    assert len(member.take(20 - one.cluster.stats()["refused"])) > 5
    one.cluster.group("other", FRAMING).send(b"hello")
    assert other.next() == b"hello"


# ---- slow engines ----------------------------------------------------------------------------------------------------


@HISTORIES
@pytest.mark.parametrize("engine", ["nats", "redis"])
def test_an_engine_that_takes_nothing_more_costs_bounded_memory(tmp_path, stack, log, engine, history):
    server = made(engine, tmp_path)
    stack.callback(server.close)
    told = []
    options = {"outbox": 4_000_000, "ping": 60, "answer_timeout": 60, "on_loss": told.append}
    one, two = (Machine(stack, server.url, **options) for _ in range(2))
    groups = rooms((one, two), history=history and 10)
    member = two.peer(lambda peer: (peer.set_limits(high_water=1 << 28, max_output=1 << 28), groups[1].add(peer)))
    two.settle()
    groups[0].send(b"first")
    assert member.next() == b"first"
    server.freeze()
    gc.collect()
    before = resident()
    for number in range(2_000):
        groups[0].send(b"%04d" % number + bytes(100_000))
        if number % 10 == 0:
            one.cluster._home.submit(asyncio.sleep(0)).result(PATIENCE)  # it takes them in
    eventually(lambda: one.cluster.stats()["dropped"] > 1_800, "most of them are dropped")
    assert one.cluster.stats()["waiting_bytes"] <= 4_000_000
    assert resident() - before < 60_000_000
    assert sum(told) == one.cluster.stats()["dropped"]
    assert "were dropped" in log.next()[1]
    server.thaw()
    one.has(waiting=0)
    groups[0].send(b"last")
    got = []
    while not got or got[-1] != b"last":
        got.append(member.next()[:4])
    assert got[:-1] == sorted(got[:-1])
    assert len(got) + one.cluster.stats()["dropped"] == 2_001
    assert two.cluster.stats()["missed"] == (0 if history else one.cluster.stats()["dropped"])


# ---- slow machines ---------------------------------------------------------------------------------------------------


@HISTORIES
def test_a_machine_that_is_too_slow_for_nats_is_cut_off_and_counts_or_catches_up(nats_server, stack, log, history):
    url = nats_server("max_pending: 4000000", 'write_deadline: "100ms"').url
    slow, quick = (Machine(stack, url, outbox=1 << 26) for _ in range(2))
    groups = rooms((slow, quick), history=history)
    member = slow.peer(lambda peer: (peer.set_limits(high_water=1 << 26, max_output=1 << 27), groups[0].add(peer)))
    slow.settle()
    groups[1].send(b"000")
    assert member.next() == b"000"
    release = held(stack, slow)
    for number in range(1, 300):
        groups[1].send(b"%03d" % number + bytes(100_000))
    quick.has(sent=300)
    release()
    slow.states.until("down")
    slow.states.until("up")
    slow.settle()
    groups[1].send(b"300")
    got = []
    while not got or got[-1] != b"300":
        got.append(member.next()[:3])
    assert got == sorted(set(got)), "none twice, in order"
    assert 300 - len(got) == slow.cluster.stats()["missed"]
    assert (slow.cluster.stats()["missed"] == 0) is bool(history)


@HISTORIES
def test_a_machine_that_is_too_slow_for_its_client_of_nats_counts_or_catches_up(
    tmp_path, stack, log, monkeypatch, history
):
    server = made("nats", tmp_path)
    stack.callback(server.close)
    with monkeypatch.context() as limiting:
        limited = functools.partialmethod(nats.aio.client.Client.subscribe, pending_msgs_limit=10)
        limiting.setattr(nats.aio.client.Client, "subscribe", limited)
        slow = Machine(stack, server.url)
        group = rooms([slow], history=history)[0]
        member = slow.member(group)
    quick = Machine(stack, server.url)
    groups = [group, *rooms([quick], history=history)]
    groups[1].send(b"000")
    assert member.next() == b"000"
    release = held(stack, slow)
    for number in range(1, 900):
        groups[1].send(b"%03d" % number)
    quick.has(sent=900)
    release()
    slow.states.until("down")
    slow.states.until("up")
    slow.settle()
    groups[1].send(b"end")
    got = []
    while not got or got[-1] != b"end":
        got.append(member.next())
    assert got == sorted(set(got)), "none twice, in order"
    assert 900 - len(got) == slow.cluster.stats()["missed"]


# ---- sessions --------------------------------------------------------------------------------------------------------


class SlowToSubscribe(MemoryBackplane):
    """Takes a moment for each subject."""

    async def subscribe(self, subscriptions):
        await asyncio.sleep(0.0002 * len(subscriptions))
        await super().subscribe(subscriptions)


def test_a_session_subscribes_to_any_number_of_subjects(stack, log):
    name = next(NAMES)
    machine = Machine(stack, SlowToSubscribe(name), answer_timeout=0.4)
    peer = machine.peer()
    groups = [machine.cluster.group(f"room {number}", FRAMING, presence=False) for number in range(4_000)]
    for group in groups:
        group.add(peer.handler)
    machine.settle()
    hub(name).stop()
    machine.states.until("down")
    hub(name).start()
    machine.states.until("up")
    assert len(hub(name).subjects()) == 4_002


def test_messages_wait_for_the_others_after_each_loss_of_the_engine(stack, log, monkeypatch):
    monkeypatch.setattr("goev.cluster.nodes.GATHERING", 0.6)
    name = next(NAMES)
    with machines(2, f"memory:{name}") as made:
        link = made[0].cluster._link
        made[1].cluster._link.backplane.open, opened = refusing, made[1].cluster._link.backplane.open
        member = made[1].peer()
        for _ in range(2):
            hub(name).stop()
            made[0].states.until("down")
            hub(name).start()
            made[0].states.until("up")
            assert link._is_held
            until = asyncio.run_coroutine_threadsafe(asyncio.sleep(0.4), made[0].cluster._home._loop)
            until.result(PATIENCE)
        assert link._is_held, "the time of the last session counts"
        made[1].cluster._link.backplane.open = opened
        eventually(lambda: not link._is_held, "all are back, or it has waited long enough")
        member.close()


async def refusing(*_):
    raise ConnectionRefusedError("cut off")
