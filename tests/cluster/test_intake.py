"""The queue between the senders of messages and the cluster's thread: one wake-up, and when it comes."""

import gc
import os
import time
import weakref

import pytest

import goev
from goev._core import Intake
from support import PATIENCE, eventually, in_thread, on_poller


class Waking:
    """Counts the wake-ups, and raises ``error`` if there is one."""

    def __init__(self, most=100):
        self.count = 0
        self.error = None
        self.intake = Intake(self, most)

    def __call__(self):
        self.count += 1
        if self.error:
            raise self.error

    def put(self, *messages):
        for message in messages:
            self.intake.put("sender", message)


@pytest.fixture
def waking():
    return Waking()


def test_the_first_message_wakes_and_the_next_ones_do_not(waking):
    waking.put("one", "two")
    assert waking.count == 1
    assert len(waking.intake) == 2
    assert waking.intake.take() == ([("sender", "one"), ("sender", "two")], 0)
    waking.put("three")
    assert waking.count == 2


def test_the_oldest_messages_are_dropped_and_counted():
    waking = Waking(most=2)
    waking.put(1, 2, 3, 4, 5)
    assert waking.intake.take() == ([("sender", 4), ("sender", 5)], 3)
    assert waking.intake.take() == ([], 0)


def test_on_a_poller_the_wake_up_comes_behind_the_batch(waking, reactor):
    def send():
        waking.put("one", "two")
        return waking.count

    assert on_poller(reactor, send) == 0
    eventually(lambda: waking.count == 1, "the poller wakes the reader")
    assert len(waking.intake.take()[0]) == 2


def test_a_callback_that_goes_on_sending_wakes_after_a_millisecond(waking, reactor):
    def send():
        end = time.monotonic() + PATIENCE
        while not waking.count and time.monotonic() < end:
            waking.put("more")
        return waking.count

    assert on_poller(reactor, send) == 1


def test_no_wake_up_follows_when_the_messages_were_taken(waking, reactor):
    on_poller(reactor, lambda: (waking.put("one"), waking.intake.take()))
    on_poller(reactor, lambda: None)
    assert waking.count == 0


def test_a_poller_that_ends_wakes_the_reader(waking):
    with goev.Reactor(1) as reactor:
        reactor.call_soon(lambda: (waking.put("one"), reactor.stop()))
        reactor.run()
    assert waking.count == 1


def test_a_wake_up_that_fails_is_tried_again_by_the_next_sender(waking):
    waking.error = ValueError("no thread")
    for _ in range(2):
        with pytest.raises(ValueError, match="no thread"):
            waking.put("one")
    waking.error = None
    waking.put("two")
    assert waking.count == 3


def test_a_wake_up_that_fails_behind_the_batch_is_logged(waking, reactor, log):
    waking.error = ValueError("no thread")
    on_poller(reactor, lambda: waking.put("one"))
    assert "ValueError: no thread" in log.next()[1]


def test_a_closed_intake_raises_the_reason_and_keeps_what_it_has(waking):
    waking.put("one")
    waking.intake.close(lambda: goev.cluster.Closed("the cluster is closed"))
    for _ in range(2):
        with pytest.raises(goev.cluster.Closed, match="the cluster is closed"):
            waking.put("two")
    assert waking.intake.take() == ([("sender", "one")], 0)


def test_a_closed_intake_keeps_nothing_of_those_who_come_too_late(waking):
    class Sender:
        pass

    def send():
        sender = Sender()
        with pytest.raises(goev.cluster.Closed):
            waking.put(sender)
        return weakref.ref(sender)

    waking.intake.close(lambda: goev.cluster.Closed("the cluster is closed"))
    sender = send()
    gc.collect()
    assert sender() is None


def test_no_message_of_many_threads_is_lost():
    waking, taken = Waking(most=100_000), []
    threads = [in_thread(lambda: [waking.put(number) for number in range(10_000)]) for _ in range(4)]

    def all_there():
        taken.extend(waking.intake.take()[0])
        return len(taken) == 40_000 and all(thread.done() for thread in threads)

    eventually(all_there, "all messages are taken")


def test_a_dropped_message_may_send_one_itself():
    waking = Waking(most=1)

    class Parting:
        def __del__(self):
            waking.put("parting")

    waking.put(Parting())
    waking.put("next")
    assert waking.intake.take() == ([("sender", "parting")], 2)


def test_in_a_forked_child_the_caller_hears_the_reason(waking):
    waking.put("one")
    waking.error = RuntimeError("made before os.fork()")
    child = os.fork()
    if not child:
        try:
            waking.put("two")
        except RuntimeError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
