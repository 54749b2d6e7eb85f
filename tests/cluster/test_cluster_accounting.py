"""Every message is accounted for, at each of its members: three programs, a real engine, thousands of connections.

A fault happens while messages flow. Without history no member gets a message twice or out of order, and its machine has
counted those that are left out. With history each member gets each message that the engine has once, wherever it is.

300 connections here, and 10,000 for a machine that is killed. `make soak` has 10,000 for all faults.
"""

import json
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from cutting import Cutter
from engines import KeepingRedis, NatsServer
from namespaces import Namespace
from support import Child, eventually, skip_outside_ci

HERE = Path(__file__).parent
SOAK = int(os.environ.get("GOEV_SOAK", "1"))
SENDERS = 9
RATE = 60_000  # messages that all the members get in a second, about
AGAIN = 5.0  # seconds until the last messages are sent again
LONG = 60.0  # seconds until something must have happened, on a machine that is busy
FAULTS = ["node", "restart", "engine", "cut", "freeze", "freeze up", "freeze down"]


class Node:
    """A machine; a link that a test can break leads to its engine.

    Args:
        namespace: its network, if it has one of its own.
    """

    def __init__(self, trial, index, namespace=None):
        self.link = namespace or trial.stack.enter_context(Cutter(trial.engine.port))
        self.prefix = namespace.prefix if namespace else []
        scheme = trial.engine.url.partition(":")[0]
        end = f"{namespace.engine}:{trial.engine.port}" if namespace else f"127.0.0.1:{self.link.port}"
        self.url = f"{scheme}://{end}"
        self.address = f"{namespace.host if namespace else '127.0.0.1'}:0"
        self.trial, self.index = trial, index
        self.start()

    def start(self):
        arguments = [self.url, str(self.trial.history), self.address, str(self.trial.ttl)]
        child = Child(str(HERE / "accounting_node.py"), *arguments, prefix=self.prefix)
        self.child = self.trial.stack.enter_context(child)
        self.is_alive = True
        self.address = self.child.line()

    def known(self):
        self.child.say("")
        return json.loads(self.child.line(LONG))

    def end(self, number):
        self.is_alive = False
        self.child.process.send_signal(number)
        self.child.process.wait(LONG)


def made(name, folder):
    """An engine that any network of this machine reaches."""
    if name == "nats":
        return NatsServer(folder, "-a", "0.0.0.0")
    return KeepingRedis(folder, "--bind", "0.0.0.0", "--protected-mode", "no")


class Trial:
    """Three machines, an engine, and clients that send all the time."""

    def __init__(self, stack, folder, engine, count, history, namespace=None):
        self.stack, self.count, self.history = stack, count, history
        self.ttl = 2.0 if count < 1_000 else 5.0
        self.engine = made(engine, folder)
        stack.callback(self.engine.close)
        self.nodes = [Node(self, index, None if index else namespace) for index in range(3)]
        machines = [node.address for node in self.nodes]
        program = str(HERE / "accounting_fleet.py")
        self.fleet = stack.enter_context(Child(program, str(count), str(SENDERS), str(bool(history)), *machines))

    @property
    def alive(self):
        return [node for node in self.nodes if node.is_alive]

    def say(self, words=""):
        self.fleet.say(words or "report")
        return json.loads(self.fleet.line(LONG))

    def is_whole(self):
        if self.say()["members"] < self.count:
            return False
        known = [node.known() for node in self.alive]
        return all(each["count"] in (None, self.count) and each["state"] == "up" for each in known)

    def until_whole(self):
        eventually(self.is_whole, "each machine knows all members", LONG)

    def flow(self):
        self.say(f"send {self.count / RATE}")

    def until_sent(self, more):
        total = sum(self.say()["sent"].values())
        eventually(lambda: sum(self.say()["sent"].values()) >= total + more, "messages flow", LONG)

    def last_ones(self):
        """Each sender sends one more message, and everybody gets it.

        Without history a machine misses it if its session ends just then, as happens when the CPUs are too busy for
        ``answer_timeout``. It counts that when the next message comes.
        """
        asked = float("-inf")

        def all_have():
            nonlocal asked
            if time.monotonic() > asked + AGAIN:
                asked = time.monotonic()
                self.say("once")
            return self.say()["have_all"] == self.count

        eventually(all_have, "all have the last messages", LONG)
        return self.say()


def strike(trial, fault, some):
    """Let a fault happen, and wait until it is over."""
    first = trial.nodes[0]
    match fault:
        case "node":
            first.end(signal.SIGKILL)
            trial.until_sent(some)
        case "restart":
            for node in trial.nodes:
                node.end(signal.SIGTERM)
                trial.until_sent(some)
                node.start()
                trial.until_whole()
        case "engine":
            trial.engine.kill()
            eventually(lambda: all(node.known()["state"] == "down" for node in trial.nodes), "it is away", LONG)
            trial.until_sent(some)
            trial.engine.start()
        case "cut":
            first.link.cut()
            eventually(lambda: first.known()["state"] == "down", "it is cut off", LONG)
            trial.until_sent(some)
            first.link.heal()
        case _:
            first.link.freeze(fault.partition(" ")[2])
            eventually(lambda: first.known()["state"] == "down", "it notices", LONG)
            trial.until_sent(some)
            first.link.heal()


def check_without_history(trial, report):
    for (home, moves, _, left_out, _), _ in report["clients"]:
        node, lost = trial.nodes[home], dict(left_out)
        for sender in lost:
            assert report["homes"][str(sender)] != home, "members on the sender's machine get all"
        known = node.known()
        if moves or known["sessions"] == 0:
            assert sum(lost.values()) <= known["missed"]
        else:
            assert sum(lost.values()) == known["missed"], "the machine has counted what is left out"
    for node in trial.alive:
        known = node.known()
        assert (known["undelivered"], known["malformed"], known["dropped"]) == (0, 0, 0)


def check_with_history(trial, report, fault):
    stayed, moved = {}, {}  # the last messages by sender
    for (_, moves, lasts, left_out, gaps), _ in report["clients"]:
        assert not left_out, "each message"
        assert not gaps
        for sender, last in lasts:
            (moved if moves else stayed).setdefault(sender, set()).add(last)
    for sender, lasts in stayed.items():
        assert len(lasts) == 1, "all have the same"
        more = moved.get(sender, set()) - lasts
        # The machine that was killed had shown its members what it had not sent yet.
        assert not more or (fault == "node" and report["homes"][str(sender)] == 0 and min(more) > min(lasts))
    if fault == "restart":
        assert all(len(lasts) == 1 for lasts in moved.values()), "all have the same"


def account(stack, folder, engine, fault, count, history, namespace=None):
    trial = Trial(stack, folder, engine, count, history, namespace)
    trial.until_whole()
    trial.last_ones()
    some = 60 if count > 1_000 else 100
    trial.flow()
    trial.until_sent(some)
    strike(trial, fault, some)
    trial.until_whole()
    trial.until_sent(some)
    report = trial.last_ones()
    assert report["errors"] == []
    if history:
        check_with_history(trial, report, fault)
    else:
        check_without_history(trial, report)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("history", [0, 2_000], ids=["plain", "history"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("engine", ["nats", "redis"])
def test_each_message_is_accounted_for(stack, tmp_path, engine, fault, history):
    account(stack, tmp_path, engine, fault, 300, history)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("history", [0, 2_000], ids=["plain", "history"])
@pytest.mark.parametrize("fault", ["freeze", "freeze up", "freeze down"])
@pytest.mark.parametrize("engine", ["nats", "redis"])
def test_packets_that_are_lost_lose_no_message_silently(stack, tmp_path, engine, fault, history):
    """No connection ends here, and the kernel sends again what was lost: one machine has a network of its own."""
    account(stack, tmp_path, engine, fault, 300, history, Namespace(stack))


LARGE = [(fault, history) for fault in FAULTS for history in (0, 2_000)] if SOAK > 1 else [("node", 2_000)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("fault", "history"), LARGE)
@pytest.mark.parametrize("engine", ["nats", "redis"])
def test_each_message_to_ten_thousand_connections_is_accounted_for(stack, tmp_path, engine, fault, history):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 10_500:
        skip_outside_ci(f"needs RLIMIT_NOFILE above 10,500 (ulimit -Hn), which is {hard}")
    account(stack, tmp_path, engine, fault, 10_000, history)
