"""Hostile bytes from the engine, and hostile clients and callbacks: each is counted or told, and does no harm."""

import contextlib
import json
import socket
import threading
import time

import pytest

import goev
from cluster_support import NAMES, Machine, Peer, machines
from engines import made
from goev.cluster import subjects
from goev.cluster.backplanes.memory import hub
from goev.cluster.envelope import Kind, sealed
from goev.cluster.interface import Outgoing, Place
from goev.cluster.places import place_of
from support import PATIENCE, Events, eventually, in_thread

FRAMING = goev.LengthPrefixed()
STRANGER = b"stranger"


@pytest.fixture
def url():
    return f"memory:{next(NAMES)}"


@pytest.fixture
def two(url):
    with machines(2, url) as made:
        yield made


@pytest.fixture(params=["nats", "redis"])
def engine(request, tmp_path):
    running = made(request.param, tmp_path)
    yield running
    running.close()


def publish(machine, subject, *messages, **options):
    """Send bytes by the engine, as another program might."""

    async def send():
        await machine.cluster._link.backplane.publish([Outgoing(subject, data, **options) for data in messages])

    machine.cluster._home.submit(send()).result(PATIENCE)


HUGE = b"1" + bytes([48]) * 4000
BODIES = [b"", b"null", b"[]", b"{}", b'"x"', b"NaN", b"-Infinity", HUGE, b"1e999", b"[" * 5000, b"\xff\xfe", b"true"]
POISON = [
    *(sealed(kind, STRANGER, number, body) for kind in Kind for number in (0, 2**64 - 1) for body in BODIES),
    *(sealed(Kind.BYTES, STRANGER, 1, b"x")[:length] for length in range(18)),
    *(bytes([version, kind]) + bytes(16) for version in (0, 1, 2, 255) for kind in (1, 7, 17, 99, 255)),
    sealed(Kind.TEXT, STRANGER, 3, b"\xff"),
    *(
        sealed(Kind.PRESENCE, STRANGER, 0, json.dumps(words).encode())
        for words in (
            ["change", 1, [["a", 1]], ["b"]],
            ["change", 10**30, [], []],
            ["change", None, [], []],
            ["change", 1, [[[], 1]], []],
            ["change", 1, {}, {}],
            ["change", 1, 7, 7],
            ["ask", [[], {}]],
            ["ask", "room"],
            ["all", "room", 10**30, 0, 10**30, []],
            ["all", "room", 1, -1, -1, [[[], 1]]],
            ["all", "room", 1, 0, 1, [1]],
            ["all", [], 1, 0, 1, []],
        )
    ),
]


class Careless(Peer):
    """Takes whatever it is called for or told."""

    def on_call(self, message):
        return message

    def on_tell(self, message):
        if message == b"told":
            self.events("told", message)


class AnyFraming:
    """Frames text as well."""

    def frame(self, message):
        return FRAMING.frame(message.encode() if isinstance(message, str) else message)


@pytest.mark.parametrize("history", [0, 5])
def test_poison_on_every_subject_ends_no_session(engine, history):
    with machines(2, engine.url) as made:
        groups = [machine.cluster.group("room", AnyFraming(), history=history) for machine in made]
        member = made[1].member(groups[1], meta=1)
        made[1].kind = Careless
        made[1].cluster.register("ada", made[1].peer().handler).result(PATIENCE)
        for subject in ("g:room", "p:room", "c:ada", subjects.NODES, subjects.of_node(made[1].cluster.node)):
            publish(made[0], subject, *POISON)
        if history:
            publish(made[0], "g:room", *POISON[:100], keep=history)
        groups[0].send(b"end")
        while member.next() != b"end":
            pass
        made[0].cluster.tell("ada", b"told").result(PATIENCE)
        assert made[1].events.until("told") == ("told", b"told")
        assert made[1].cluster.stats()["malformed"] > 500
        assert made[1].cluster.stats()["sessions"] == 1


def test_bytes_that_nats_did_not_number_are_counted(tmp_path, stack):
    server = made("nats", tmp_path)
    stack.callback(server.close)
    one, two = (Machine(stack, server.url) for _ in range(2))
    groups = [machine.cluster.group("room", FRAMING, history=5) for machine in (one, two)]
    member = two.member(groups[1])
    backplane = one.cluster._link.backplane
    name = backplane._kept(groups[0]._subscription)

    async def send():
        for number in ("x", "-1", "99999999999999999999999"):
            headers = {"Nats-Sequence": number, "Nats-Last-Sequence": "0"}
            await backplane._client.publish(name, b"poison", headers=headers)
        await backplane._client.publish(name, b"poison")

    one.cluster._home.submit(send()).result(PATIENCE)
    two.has(malformed=4)
    groups[0].send(b"hello")
    assert member.next() == b"hello"


@pytest.mark.parametrize("place", [Place("other", 1, 0), Place("", 10**18, 10**17)])
def test_a_message_with_a_false_place_does_not_keep_the_group_reading(two, url, place):
    groups = [machine.cluster.group("room", FRAMING, history=5) for machine in two]
    member = two[1].member(groups[1])
    groups[0].send(b"0")
    assert member.next() == b"0"
    backplane, reads = two[1].cluster._link.backplane, []
    read = backplane.read

    async def counted(*arguments):
        reads.append(arguments)
        return await read(*arguments)

    backplane.read = counted
    epoch = place.epoch or groups[1]._epoch
    data = sealed(Kind.BYTES, STRANGER, 1, b"poison")
    backplane.put("g:room", data, place._replace(epoch=epoch))
    two[1].settle()
    groups[0].send(b"1")
    assert member.next() == b"1"
    assert len(reads) < 5
    two[1].has(missed=1)


# ---- engines that speak another language -----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["nats", "redis"])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"INFO {broken\r\n",
        b"INFO []\r\n",
        b"\xff" * 100 + b"\r\n",
        b"-ERR no\r\n" * 9,
        b"$999999999999\r\n",
        b"*-5\r\n",
        b"*1000000000\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n" * 9,
        b"-DENIED Redis is running in protected mode\r\n",
        b"",
    ],
)
def test_what_is_no_engine_is_unreachable(stack, log, scheme, answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    with server.accept()[0] as client, contextlib.suppress(OSError):
                        client.sendall(answer)
                        client.shutdown(socket.SHUT_WR)
                        client.recv(1)

        serving = in_thread(serve)
        port = server.getsockname()[1]
        with pytest.raises(goev.cluster.Unreachable, match=r"cannot reach|refuses"):
            goev.cluster.connect(f"{scheme}://127.0.0.1:{port}", timeout=0.5, answer_timeout=0.2)
        server.shutdown(socket.SHUT_RDWR)
        serving.result(PATIENCE)


# ---- clients ---------------------------------------------------------------------------------------------------------


def test_a_place_of_a_client_is_not_longer_than_one_of_ours():
    with pytest.raises(ValueError, match="after must be a place"):
        place_of("a.1" + ".0123456789abcdef-1" * 1_000)


# ---- callbacks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("oops"), SystemExit(3), KeyboardInterrupt()])
def test_callbacks_that_raise_do_not_end_the_cluster(url, stack, log, error):
    def raising(*_):
        raise error

    one = Machine(stack, url)
    two = goev.cluster.connect(url, on_state=raising, on_loss=raising, outbox=100)
    stack.callback(two.close)
    group = one.cluster.group("room", FRAMING)
    two.group("room", FRAMING).watch(on_join=raising, on_leave=raising)
    member = one.member(group)
    hub(url.removeprefix("memory:")).stop()
    one.states.until("down")
    eventually(lambda: two.state == "down", "it notices")
    two.group("room", FRAMING).send(bytes(200))  # more than the outbox takes
    hub(url.removeprefix("memory:")).start()
    eventually(lambda: two.state == "up", "it is back")
    two.group("room", FRAMING).send(b"")
    assert member.next() == b""


def test_a_stamp_that_raises_is_logged_and_the_next_message_comes(two, log):
    def stamp(message, place):
        if message == b"1":
            raise ValueError("oops")
        return message

    groups = [machine.cluster.group("room", FRAMING, history=5, stamp=stamp) for machine in two]
    member = two[1].member(groups[1])
    for number in range(3):
        groups[0].send(b"%d" % number)
    assert member.take(2) == [b"0", b"2"]
    assert "cannot be stamped" in log.next()[1]


def test_on_gap_that_raises_ends_its_connection_only(url, log):
    def on_gap(connection):
        raise ValueError("oops")

    with machines(2, url) as made:
        groups = [machine.cluster.group("room", FRAMING, history=2, on_gap=on_gap) for machine in made]
        stays = made[1].member(groups[1])
        for number in range(5):
            groups[0].send(b"%d" % number)
        assert stays.take(5)[-1] == b"4"
        made[1].member(groups[1], after=f"{groups[1]._epoch}.1")
        made[1].events.until("close")
        groups[0].send(b"5")
        assert stays.next() == b"5"


# ---- closing ---------------------------------------------------------------------------------------------------------


def test_close_from_the_threads_own_callback_sends_what_waits(engine, stack):
    one, two = (Machine(stack, engine.url) for _ in range(2))
    groups = [machine.cluster.group("room", FRAMING) for machine in (one, two)]
    member = two.member(groups[1])
    events = Events()
    groups[1].watch(on_leave=lambda members: events("leave", members[0].meta))

    def close(_):
        for number in range(100):
            groups[0].send(b"%d" % number)
        one.cluster.close()

    groups[0].watch(on_join=close)  # of the member that is added below
    assert member.take(100) == [b"%d" % number for number in range(100)]
    eventually(lambda: len(two.cluster.machines()) == 1, "it says good-bye")
    eventually(lambda: one.cluster.state == "closed", "it is closed")


def test_close_does_not_wait_for_an_engine_that_never_answers(log):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        cluster = goev.cluster.connect(url, wait=False, answer_timeout=60)
        with silent.accept()[0]:
            start = time.monotonic()
            cluster.close()
            assert time.monotonic() - start < PATIENCE, "the client of NATS may wait for 2 s, and no call for 60"
            assert cluster.state == "closed"
            assert not cluster._home._thread.is_alive()


def test_futures_of_a_cluster_that_closes_are_done(url, stack, log):
    hub(url.removeprefix("memory:")).stop()
    machine = Machine(stack, url, wait=False)
    peer = machine.peer()
    machine.states.until("down")
    registered = machine.cluster.register("ada", peer.handler)
    machine.cluster.close()
    assert registered.cancelled()


def test_calls_that_race_with_close_end(url, stack):
    for _ in range(20):
        cluster = goev.cluster.connect(url)
        started, futures = threading.Event(), []

        def ask(cluster=cluster, started=started, futures=futures):
            with contextlib.suppress(goev.cluster.Closed):
                for _ in range(500):
                    futures.append(cluster.tell("nobody", b"x"))
                    started.set()

        asking = in_thread(ask)
        assert started.wait(PATIENCE)
        cluster.close()
        asking.result(PATIENCE)
        for future in futures:
            eventually(future.done, "it is done or cancelled")


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_histories_in_memory_are_forgotten_after_their_age(url):
    engine = hub(url.removeprefix("memory:"))
    cluster = goev.cluster.connect(url, history_age=0.05)
    with cluster:
        for number in range(100):
            cluster.group(f"room {number}", FRAMING, history=5).send(b"hello")
        eventually(lambda: cluster.stats()["sent"] == 100, "they are sent")
        time.sleep(0.06)  # the age
        cluster.group("another", FRAMING, history=5).send(b"hello")
        eventually(lambda: len(engine._logs) == 1, "the others are forgotten")


def test_calls_that_wait_for_a_slow_engine_are_bounded(tmp_path, stack, log):
    server = made("redis", tmp_path)
    stack.callback(server.close)
    cluster = goev.cluster.connect(server.url, outbox=1_000_000, answer_timeout=60, ping=60)
    stack.callback(cluster.close, 0.1)
    server.freeze()
    futures = [cluster.tell("ada", bytes(500_000), timeout=60) for _ in range(100)]
    eventually(lambda: sum(future.done() for future in futures) >= 90, "most of them find no room")
    waiting = [future for future in futures if not future.done()]
    server.thaw()
    for future in waiting:
        with pytest.raises(goev.cluster.NoSuchName):
            future.result(PATIENCE)
    for future in set(futures) - set(waiting):
        with pytest.raises(goev.cluster.Unreachable, match="does not take more"):
            future.result(PATIENCE)


def test_senders_that_poison_pretends_are_not_kept_for_ever(two):
    groups = [machine.cluster.group("room", FRAMING) for machine in two]
    two[1].member(groups[1])
    for start in range(0, 20_000, 1_000):
        publish(two[0], "g:room", *(sealed(Kind.BYTES, b"%8d" % n, 1, b"") for n in range(start, start + 1_000)))
    two[1].has(delivered=20_000)
    assert len(groups[1]._heard) < 10_000
