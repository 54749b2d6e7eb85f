"""A cluster on the poller of a reactor: its begin, its end, and coroutines beside it."""

import asyncio
import contextlib
import gc
import os
import threading
import warnings

import pytest

import goev
from cluster_support import NAMES, machines
from goev.cluster.backplanes.memory import MemoryBackplane, hub
from support import PATIENCE, eventually, in_thread, on_poller

FRAMING = goev.LengthPrefixed()


@pytest.fixture
def name():
    return next(NAMES)


@pytest.fixture
def other(name):
    """A machine with a thread of its own."""
    with machines(1, f"memory:{name}") as made:
        yield made[0]


def joined(other):
    """Another machine hears this group."""
    return other.member(other.cluster.group("room", FRAMING))


def test_a_cluster_may_be_made_before_its_reactor_runs(name, other):
    heard = joined(other)
    with (
        goev.Reactor(1, asyncio=True) as reactor,
        goev.cluster.connect(f"memory:{name}", reactor=reactor) as cluster,
    ):
        assert cluster.state == "connecting"
        cluster.group("room", FRAMING).send(b"early")
        reactor.start()
        assert heard.next() == b"early"
        cluster.wait_until_up(PATIENCE)
        assert cluster.is_ready


def test_no_thread_is_made(name):
    before = threading.active_count()
    with goev.Reactor(1, asyncio=True) as reactor, goev.cluster.connect(f"memory:{name}", reactor=reactor):
        assert threading.active_count() == before


def test_connect_waits_for_a_reactor_that_runs(name):
    with goev.Reactor(1, asyncio=True) as reactor:
        reactor.start()
        with goev.cluster.connect(f"memory:{name}", reactor=reactor) as cluster:
            assert cluster.is_ready


def test_last_words_of_connections_reach_other_machines(name, other):
    heard = joined(other)

    class Guest(goev.Connection):
        def on_open(self):
            room.add(self)
            self.reactor.stop(0)

        def on_close(self, error):
            room.send(b"good-bye")

    with (
        goev.Reactor(1, asyncio=True) as reactor,
        goev.cluster.connect(f"memory:{name}", reactor=reactor) as cluster,
    ):
        room = cluster.group("room", FRAMING)
        goev.connect(reactor, f"127.0.0.1:{other.acceptor.address[1]}", Guest())
        reactor.run()
        assert heard.next() == b"good-bye"
        assert cluster.state == "closed"
        eventually(lambda: len(other.cluster.machines()) == 1, "the other machine knows that this one is gone")
        with pytest.raises(goev.cluster.Closed):
            room.send(b"too late")


def test_messages_that_the_engine_never_took_are_told(name, log):
    lost = []
    hub(name).stop()
    with (
        goev.Reactor(1, asyncio=True) as reactor,
        goev.cluster.connect(f"memory:{name}", reactor=reactor, on_loss=lost.append) as cluster,
    ):
        room = cluster.group("room", FRAMING)
        reactor.call_soon(lambda: [room.send(b"x") for _ in range(3)])
        reactor.call_soon(reactor.stop)
        reactor.run()
    assert lost == [3]
    assert "3 messages to other machines were dropped" in log.texts()[-1]


def test_a_cluster_whose_reactor_never_runs_leaves_nothing_behind(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cluster = goev.cluster.connect(f"memory:{name}", reactor=goev.Reactor(1, asyncio=True))
        cluster.close()
        with pytest.raises(goev.cluster.Closed):
            cluster.group("room").send(b"x")
        del cluster
        gc.collect()


@pytest.mark.parametrize(
    "options", [{"pollers": 2, "asyncio": True}, {"pollers": 1}], ids=["two pollers", "without a loop"]
)
def test_other_reactors_are_refused(name, options):
    with goev.Reactor(**options) as reactor, pytest.raises(ValueError, match="Reactor\\(1, asyncio=True\\)"):
        goev.cluster.connect(f"memory:{name}", reactor=reactor)


def test_waiting_on_the_poller_is_an_error(name):
    with goev.Reactor(1, asyncio=True) as reactor:
        reactor.start()
        cluster = goev.cluster.connect(f"memory:{name}", reactor=reactor)
        with pytest.raises(RuntimeError, match=r"await cluster.up\(\)"):
            on_poller(reactor, cluster.wait_until_up, 1)


@pytest.mark.parametrize("closes", ["here", "on the poller"])
def test_its_reactor_outlives_it(name, other, closes):
    heard = joined(other)
    with goev.Reactor(1, asyncio=True) as reactor:
        reactor.start()
        for number in range(3):
            cluster = goev.cluster.connect(f"memory:{name}", reactor=reactor)
            room = cluster.group("room", FRAMING)
            room.send(b"%d" % number)
            (on_poller(reactor, cluster.close) if closes == "on the poller" else cluster.close())
            assert heard.next() == b"%d" % number
            eventually(lambda cluster=cluster: cluster.state == "closed", "it is closed")
        eventually(lambda: len(other.cluster.machines()) == 1, "no machine beats on")
        assert not on_poller(reactor, lambda: asyncio.get_running_loop()._farewells)


class SlowBackplane(MemoryBackplane):
    """An engine that takes each message after a while; ``None``: never."""

    def __init__(self, name, seconds):
        super().__init__(name)
        self.seconds = seconds

    async def publish(self, messages):
        for message in messages:
            await (asyncio.sleep(self.seconds) if self.seconds else asyncio.Event().wait())
            await super().publish([message])


@pytest.mark.parametrize("closes", ["close", "aclose"])
def test_a_close_that_has_begun_goes_on_when_the_reactor_stops(name, other, closes):
    heard = joined(other)

    def end():
        for number in range(5):
            room.send(b"%d" % number)
        task.append(asyncio.ensure_future(cluster.aclose()) if closes == "aclose" else cluster.close())
        reactor.stop(0)

    task = []
    with goev.Reactor(1, asyncio=True) as reactor:
        reactor.start()
        cluster = goev.cluster.connect(SlowBackplane(name, 0.01), reactor=reactor)
        room = cluster.group("room", FRAMING)
        reactor.call_soon(end)
        reactor.join()
        assert cluster.state == "closed"
    assert heard.take(5) == [b"%d" % number for number in range(5)]


def test_engines_that_take_nothing_hold_no_reactor_up(name, log):
    """A reactor counts as stuck a second after the grace of its stop."""
    lost = []
    with goev.Reactor(1, asyncio=True) as reactor:
        reactor.start()
        clusters = [
            goev.cluster.connect(SlowBackplane(name, None), reactor=reactor, on_loss=lost.append) for _ in range(2)
        ]
        for cluster in clusters:
            cluster.group("room", FRAMING).send(b"x")
        reactor.stop(0)
        reactor.join()
    assert [cluster.state for cluster in clusters] == ["closed"] * 2
    assert lost == [1, 1]


def test_connect_waits_no_longer_for_a_poller_than_for_an_engine(name):
    release = threading.Event()
    with goev.Reactor(1, asyncio=True, stall_warning=None) as reactor:
        reactor.start()
        reactor.call_soon(release.wait, PATIENCE)
        cluster = goev.cluster.connect(f"memory:{name}", reactor=reactor, wait=False)
        with pytest.raises(goev.cluster.Unreachable, match=r"within 0\.1 s"):
            cluster.wait_until_up(0.1)
        with pytest.raises(goev.cluster.Unreachable, match=r"within 0\.1 s"):
            asyncio.run(cluster.up(0.1))
        release.set()
        cluster.wait_until_up(PATIENCE)


def test_a_forked_child_may_close_the_cluster_of_its_parent(name):
    def fork():
        if child := os.fork():
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(BaseException):
            with pytest.raises(RuntimeError, match=r"os\.fork\(\)"):
                cluster.group("room").send(b"x")
            cluster.close()
            os._exit(0)
        os._exit(1)

    with goev.Reactor(1, asyncio=True) as reactor:
        reactor.start()
        with goev.cluster.connect(f"memory:{name}", reactor=reactor) as cluster:
            assert on_poller(reactor, fork) == 0
            assert cluster.is_ready


def test_connect_says_that_the_reactor_was_stopped(name, log):
    hub(name).stop()
    with goev.Reactor(1, asyncio=True) as reactor:
        reactor.start()
        connecting = in_thread(lambda: goev.cluster.connect(f"memory:{name}", reactor=reactor))
        eventually(lambda: log.texts(), "the engine is away")
        reactor.stop(0)
        with pytest.raises(goev.cluster.Closed):
            connecting.result(PATIENCE)


# ---- coroutines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", ["thread", "poller"])
def test_a_coroutine_waits_for_the_engine_and_for_the_end(name, other, home):
    heard = joined(other)

    async def main():
        options = {"reactor": goev.asyncio.reactor()} if home == "poller" else {"wait": False}
        async with goev.cluster.connect(f"memory:{name}", **options) as cluster:
            await cluster.up(PATIENCE)
            cluster.group("room", FRAMING).send(b"hello")
        assert cluster.state == "closed"
        await cluster.aclose()

    goev.asyncio.run(main())
    assert heard.next() == b"hello"


@pytest.mark.parametrize("home", ["thread", "poller"])
def test_a_coroutine_hears_that_the_engine_is_away(name, home, log):
    hub(name).stop()

    async def main():
        options = {"reactor": goev.asyncio.reactor()} if home == "poller" else {"wait": False}
        cluster = goev.cluster.connect(f"memory:{name}", timeout=0.1, **options)
        with pytest.raises(goev.cluster.Unreachable, match=r"within 0\.1 s"):
            await cluster.up(0.1)
        await cluster.aclose()

    goev.asyncio.run(main())


@pytest.mark.parametrize("home", ["thread", "poller"])
def test_a_coroutine_hears_that_the_cluster_was_closed_while_it_waited(name, home, log):
    """A `CancelledError` would look as if somebody had cancelled the coroutine."""
    hub(name).stop()

    async def main():
        options = {"reactor": goev.asyncio.reactor()} if home == "poller" else {"wait": False}
        cluster = goev.cluster.connect(f"memory:{name}", **options)
        waiting = asyncio.ensure_future(cluster.up(PATIENCE))
        await asyncio.sleep(0)
        await cluster.aclose()
        with pytest.raises(goev.cluster.Closed):
            await waiting

    goev.asyncio.run(main())


@pytest.mark.parametrize("home", ["thread", "poller"])
def test_a_close_whose_caller_is_cancelled_goes_on(name, home, log):
    async def main():
        options = {"reactor": goev.asyncio.reactor()} if home == "poller" else {"wait": False}
        cluster = goev.cluster.connect(SlowBackplane(name, None), **options)
        await cluster.up(PATIENCE)
        cluster.group("room", FRAMING).send(b"x")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cluster.aclose(0.2), 0.01)
        assert cluster.state == "up"
        await asyncio.gather(cluster.aclose(), cluster.aclose())
        assert cluster.state == "closed"

    goev.asyncio.run(main())


def test_async_with_raises_as_connect_does(name, log):
    hub(name).stop()

    async def main():
        async with goev.cluster.connect(f"memory:{name}", timeout=0.1, reactor=goev.asyncio.reactor()):
            pytest.fail("the engine is away")

    with pytest.raises(goev.cluster.Unreachable, match=r"within 0\.1 s"):
        goev.asyncio.run(main())


def test_a_main_that_forgets_to_close_ends_and_tells_what_is_lost(name, log):
    hub(name).stop()
    lost = []

    async def main():
        reactor = goev.asyncio.reactor()
        cluster = goev.cluster.connect(f"memory:{name}", reactor=reactor, on_loss=lost.append)
        cluster.group("room", FRAMING).send(b"x")
        return cluster

    cluster = goev.asyncio.run(main())
    assert cluster.state == "closed"
    assert lost == [1]
    cluster.close()


def test_calls_between_coroutines_of_one_poller(name):
    class User(goev.Connection):
        def on_open(self):
            self.registered = cluster.register("user:7", self)

        async def on_call(self, message):
            await asyncio.sleep(0)
            return b"you said " + message

    async def call():
        while True:
            try:
                return await cluster.call("user:7", b"hello", timeout=PATIENCE)
            except goev.cluster.NoSuchName:  # the connection has not come yet
                await asyncio.sleep(0.01)

    async def main():
        nonlocal cluster
        async with (
            goev.cluster.connect(f"memory:{name}", reactor=goev.asyncio.reactor()) as cluster,
            goev.asyncio.serve(User, "127.0.0.1:0") as server,
            asyncio.timeout(PATIENCE),
        ):
            _, writer = await asyncio.open_connection(*server.address)
            answer = await call()
            writer.close()
            return answer

    cluster = None
    assert goev.asyncio.run(main()) == b"you said hello"


def test_messages_of_other_threads_arrive(name, other):
    heard = joined(other)
    with goev.Reactor(1, asyncio=True) as reactor:
        reactor.start()
        with goev.cluster.connect(f"memory:{name}", reactor=reactor) as cluster:
            room = cluster.group("room", FRAMING)
            in_thread(lambda: [room.send(b"%d" % number) for number in range(1_000)]).result(PATIENCE)
            assert heard.take(1_000) == [b"%d" % number for number in range(1_000)]
