"""Direct calls over machines, on the backplane in memory."""

import asyncio
from concurrent.futures import Future

import pytest

import goev
from cluster_support import NAMES, Peer, end, machines
from goev.cluster import CallFailed, Closed, NoSuchName, Unreachable
from goev.cluster.backplanes.memory import hub
from support import PATIENCE, eventually, on_poller


@pytest.fixture
def url():
    return f"memory:{next(NAMES)}"


@pytest.fixture
def three(url, home):
    with machines(3, url, asyncio=True, home=home) as made:
        yield made


class Answering(Peer):
    """Does what it is called for."""

    def on_call(self, message):
        match message:
            case b"raise":
                raise ValueError("no such order")
            case b"nothing":
                return None
            case b"wrong":
                return 7
            case b"large":
                return bytes(2_000_000)
            case b"future":
                future = Future()
                self.call_soon(future.set_result, "later")
                return future
            case b"cancelled":
                future = Future()
                future.cancel()
                return future
            case b"wait" | b"end":
                return self.wait(message)
            case b"never":
                self.kept = Future()
                return self.kept
            case _:
                return message[::-1]

    async def wait(self, message):
        await asyncio.sleep(0.01)
        if message == b"end":
            raise LookupError("it is gone")
        return b"waited"

    def on_tell(self, message):
        self.events("told", message)


def call(machine, name, message, **options):
    return asyncio.run(machine.cluster.call(name, message, **options))


def registered(machine, name, kind=Answering, **options):
    machine.kind = kind
    peer = machine.peer()
    machine.cluster.register(name, peer.handler, **options).result(PATIENCE)
    return peer


def test_a_call_finds_the_connection_on_its_machine_and_on_others(three):
    registered(three[1], "user:7")
    for machine in three:
        assert call(machine, "user:7", b"abc") == b"cba"
        assert call(machine, "user:7", "äbc") == "cbä"
        assert call(machine, "user:7", b"nothing") == b""
        assert call(machine, "user:7", b"future") == "later"
        assert call(machine, "user:7", b"wait") == b"waited"


def test_a_name_that_nobody_has_is_a_clear_error_at_once(three):
    with pytest.raises(NoSuchName, match="no connection is registered as 'user:8'"):
        call(three[0], "user:8", b"abc", timeout=60)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"wrong", "on_call must return str, bytes or None, not int"),
        (b"large", "MessageTooLong: the answer has 2000000 bytes, more than max_message=1000000"),
        (b"cancelled", "CancelledError"),
    ],
)
def test_a_call_that_fails_says_why(three, message, text):
    registered(three[1], "user:7")
    for machine in three[:2]:
        with pytest.raises(CallFailed, match="'user:7' failed") as caught:
            call(machine, "user:7", message)
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("message", "text"),
    [(b"raise", "'user:7' failed: ValueError: no such order"), (b"end", "'user:7' failed: LookupError: it is gone")],
)
def test_a_call_that_raises_ends_the_connection_and_tells_the_caller(three, message, text, log):
    for machine in three[:2]:
        registered(three[1], "user:7")
        with pytest.raises(CallFailed, match=text):
            call(machine, "user:7", message)
        three[1].events.until("close")
        assert "exception in call_soon function of Answering" in log.next()[1]


def test_a_class_without_on_call_takes_no_calls(three):
    registered(three[1], "plain", Peer)
    with pytest.raises(CallFailed, match="Peer has no on_call"):
        call(three[0], "plain", b"abc")


def test_an_answer_that_never_comes_is_a_timeout_and_one_that_comes_late_is_nothing(three):
    peer = registered(three[1], "user:7")
    with pytest.raises(TimeoutError, match=r"'user:7' did not answer within 0\.05 s"):
        call(three[0], "user:7", b"never", timeout=0.05)
    peer.handler.kept.set_result(b"late")
    assert call(three[0], "user:7", b"abc") == b"cba"


def test_a_connection_that_ends_gives_up_its_name_and_its_calls(three):
    peer = registered(three[1], "user:7")
    waiting = asyncio.run_coroutine_threadsafe(three[0].cluster.call("user:7", b"never"), three[0].cluster._home._loop)
    eventually(lambda: hasattr(peer.handler, "kept"), "it was called")
    end(peer, three[1])
    with pytest.raises(NoSuchName):
        call(three[0], "user:7", b"abc")
    del peer.handler.kept  # the last one that could have answered
    with pytest.raises(CallFailed, match="ended before it answered"):
        waiting.result(PATIENCE)


def test_a_told_message_reaches_on_tell_or_the_peer(three):
    registered(three[1], "user:7")
    plain = registered(three[2], "plain", Peer)
    for machine in three:
        machine.cluster.tell("user:7", "hello").result(PATIENCE)
        assert three[1].events.until("told") == ("told", "hello")
        assert machine.cluster.tell("plain", b"hello").result(PATIENCE) is None
        assert plain.next() == b"hello"
    with pytest.raises(NoSuchName):
        three[0].cluster.tell("user:8", b"hello").result(PATIENCE)


def test_told_messages_keep_their_order(three):
    plain = registered(three[2], "plain", Peer)
    for machine in (three[0], three[2]):
        for number in range(500):
            machine.cluster.tell("plain", b"%d" % number)
        assert plain.take(500) == [b"%d" % number for number in range(500)]


def test_the_last_registration_has_the_name_on_one_machine_and_over_two(three, monkeypatch):
    monkeypatch.setattr("goev.cluster.calls.SAME_TIME", 0.0)
    taken = []
    registered(three[0], "user:7", taken=lambda: taken.append("first"))
    registered(three[0], "user:7", taken=lambda: taken.append("second"))
    eventually(lambda: taken == ["first"], "the first one hears it")
    third = registered(three[1], "user:7")
    eventually(lambda: taken == ["first", "second"], "the second one hears it")
    three[0].settle()
    three[2].cluster.tell("user:7", b"hello").result(PATIENCE)
    assert three[1].events.until("told") == ("told", b"hello")
    assert hub(three[0].cluster._link.backplane.url.removeprefix("memory:")).subjects()["c:user:7"] == 1
    end(third, three[1])
    with pytest.raises(NoSuchName):
        call(three[2], "user:7", b"abc")


def test_of_registrations_at_the_same_time_one_machine_keeps_the_name(three, url):
    peers = [machine.peer() for machine in three]
    for machine, peer in zip(three, peers, strict=True):
        machine.cluster.register("user:7", peer.handler)
    eventually(lambda: hub(url.removeprefix("memory:")).subjects().get("c:user:7") == 1, "one has it")


def test_unregister_takes_the_name_of_its_own_connection_only(three):
    peer = registered(three[1], "user:7")
    other = registered(three[1], "user:8")
    three[1].cluster.unregister("user:7", other.handler)
    three[1].settle()
    assert call(three[0], "user:7", b"abc") == b"cba"
    three[1].cluster.unregister("user:7", peer.handler)
    three[1].settle()
    with pytest.raises(NoSuchName):
        call(three[0], "user:7", b"abc")
    end(peer, three[1])
    with pytest.raises(goev.ConnectionClosed):
        three[1].cluster.register("user:7", peer.handler)


def test_without_the_engine_only_names_of_this_machine_can_be_called(three, url, log):
    registered(three[0], "here")
    there = registered(three[1], "there")
    waiting = three[0].cluster._home.submit(three[0].cluster.call("there", b"never"))
    eventually(lambda: hasattr(there.handler, "kept"), "it was called")
    hub(url.removeprefix("memory:")).stop()
    three[0].states.until("down")
    with pytest.raises(Unreachable, match="went away before the answer came"):
        waiting.result(PATIENCE)
    assert call(three[0], "here", b"abc") == b"cba"
    with pytest.raises(Unreachable, match="cannot call 'there'"):
        call(three[0], "there", b"abc")
    hub(url.removeprefix("memory:")).start()
    for machine in three:
        machine.states.until("up")
        machine.settle()
    assert call(three[0], "there", b"abc") == b"cba"


def test_calls_of_a_closed_cluster_say_so(three):
    peer = three[0].peer()
    three[0].cluster.close()
    with pytest.raises(Closed):
        call(three[0], "user:7", b"abc")
    with pytest.raises(Closed):
        three[0].cluster.tell("user:7", b"abc")
    with pytest.raises(Closed):
        three[0].cluster.register("user:7", peer.handler)


def test_a_call_from_a_callback_of_a_poller(three):
    registered(three[1], "user:7")
    peer = registered(three[0], "user:8")
    answers = []

    async def ask():
        answers.append(await three[0].cluster.call("user:7", b"abc"))

    on_poller(peer.handler, lambda: peer.handler.call_soon(ask))
    eventually(lambda: answers == [b"cba"], "the answer")


def test_a_message_that_is_too_large_is_refused(three):
    with pytest.raises(goev.MessageTooLong, match="a call to 'user:7' has 1000001 bytes"):
        call(three[0], "user:7", bytes(1_000_001))
