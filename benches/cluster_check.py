"""Three machines in this process, over a real engine: their counters beside the formulas of ``cluster_model.py``.

The machines are three clusters with one reactor. The members are connections of socket pairs, drawn as in the model.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from cluster_model import BEATS, HEAD, Inputs, counted, drawn, shown, table, traffic
from cluster_model import ENGINES as FORMULAS

import goev

INPUTS = Inputs(connections=300, nodes=3, groups=60, rate=1.0, size=100, ttl=3.0)
QUIET = 6.0  # seconds in which only beats are sent
MOST_CHANGES = 60
PATIENCE = 10.0
BURST = 20_000  # messages

Figures = dict[str, float]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(program: str, *arguments: str) -> Iterator[None]:
    found = shutil.which(program, path="/usr/sbin:/usr/bin:/usr/local/bin")
    if found is None:
        raise SystemExit(f"{program} is not installed")
    child = subprocess.Popen([found, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        child.terminate()
        child.wait()


class Engine(NamedTuple):
    """An engine that runs: its URL, and its counters."""

    url: str
    figures: Callable[[], Figures]


@contextmanager
def nats() -> Iterator[Engine]:
    port, monitor = free_port(), free_port()
    with running("nats-server", "-a", "127.0.0.1", "-p", str(port), "-m", str(monitor)):

        def figures() -> Figures:
            with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/varz", timeout=PATIENCE) as answer:
                seen = json.load(answer)
            names = {"in_msgs": "in", "out_msgs": "out", "in_bytes": "bytes in", "out_bytes": "bytes out"}
            return {name: seen[key] for key, name in names.items()} | {"subscriptions": seen["subscriptions"]}

        yield Engine(f"nats://127.0.0.1:{port}", figures)


@contextmanager
def redis() -> Iterator[Engine]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        stack.enter_context(running("redis-server", "--port", str(port), *options))
        client: Any = None

        def figures() -> Figures:
            nonlocal client
            if client is None:
                from redis import Redis

                socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()  # raises OSError
                client = stack.enter_context(Redis(port=port))
            channels = client.pubsub_channels()
            publish = client.info("commandstats").get("cmdstat_publish", {"calls": 0})["calls"]
            subscriptions = sum(count for _, count in client.pubsub_numsub(*channels)) if channels else 0
            return {"in": publish, "subscriptions": subscriptions}

        yield Engine(f"redis://127.0.0.1:{port}", figures)


class Member(goev.Connection):
    """The machine's end of a member."""


class Sink(goev.Connection):
    """The other end."""

    def on_read(self) -> None:
        self.read()


class Machines:
    """Three machines, and the members that the model has drawn."""

    def __init__(self, stack: ExitStack, url: str, inputs: Inputs, chance: random.Random) -> None:
        self.inputs, self.chance = inputs, chance
        self.reactor = stack.enter_context(goev.Reactor(1))
        self.reactor.start()
        join = goev.cluster.connect
        self.clusters = [stack.enter_context(join(url, ttl=inputs.ttl)) for _ in range(inputs.nodes)]
        self.drawn = drawn(inputs, chance)
        self.groups = [
            [cluster.group(f"group-{index:04}") for cluster in self.clusters] for index in range(inputs.groups)
        ]
        self.members = {
            (group, node): [self._connection() for _ in range(count)] for group, node, count in self._places()
        }
        for (group, node), members in self.members.items():
            for member in members:
                self.on_poller(lambda member=member, group=group, node=node: self.groups[group][node].add(member))
        self.settle()

    def _places(self) -> Iterator[tuple[int, int, int]]:
        return ((group, node, count) for group, nodes in enumerate(self.drawn) for node, count in nodes.items())

    def _connection(self) -> Member:
        ends, member = socket.socketpair(), Member()
        self.reactor.adopt(member, ends[0])
        self.reactor.adopt(Sink(), ends[1])
        return member

    def on_poller(self, work: Callable[[], object]) -> None:
        done = threading.Event()
        self.reactor.call_soon(lambda: (work(), done.set()))
        if not done.wait(PATIENCE):
            raise SystemExit("the poller does not answer")

    def stat(self, name: str) -> int:
        return sum(cluster.stats()[name] for cluster in self.clusters)

    def settle(self) -> None:
        """Return when no counter has changed for a while."""
        before, end = None, time.monotonic() + PATIENCE
        while time.monotonic() < end:
            now = [cluster.stats() for cluster in self.clusters]
            if now == before:
                return
            before = now
            time.sleep(0.3)

    def quiet(self, engine: Engine) -> Figures:
        """Only beats."""
        before, began = self._seen(engine), time.monotonic()
        time.sleep(QUIET)
        seconds = time.monotonic() - began
        return {name: value / seconds for name, value in self._since(before, engine).items()}

    def talk(self, engine: Engine) -> Figures:
        """One message to each group that has members, from the machine of one of them."""
        before = self._seen(engine)
        for group, nodes in enumerate(self.drawn):
            if nodes:
                self.groups[group][self.chance.choice(list(nodes.elements()))].send(bytes(self.inputs.size))
        self._until(lambda: self._since(before, engine)["sent"] == sum(map(bool, self.drawn)))
        return self._since(before, engine)

    def churn(self, engine: Engine) -> tuple[Figures, int, int]:
        """Members leave and join; returns the number of both, and how many machines had to hear of it."""
        places = [place for place, members in self.members.items() if len(members) > 1]
        chosen = self.chance.sample(places, min(MOST_CHANGES, len(places)))
        before = self._seen(engine)
        for group, node in chosen:
            member, cluster = self.members[group, node][0], self.groups[group][node]
            self.on_poller(lambda member=member, cluster=cluster: cluster.discard(member))
            time.sleep(0.005)  # so that the two changes are two messages
            self.on_poller(lambda member=member, cluster=cluster: cluster.add(member))
        time.sleep(0.1)
        heard = 2 * sum(len(self.drawn[group]) - 1 for group, _ in chosen)
        return self._since(before, engine), 2 * len(chosen), heard

    def burst(self) -> float:
        """Messages per second that one machine receives when another one sends as many as it can."""
        group = next(index for index, nodes in enumerate(self.drawn) if len(nodes) == len(self.clusters))
        before, began = self.clusters[1].stats()["received"], time.monotonic()
        for _ in range(BURST):
            self.groups[group][0].send(bytes(self.inputs.size))
        last = before
        while time.monotonic() - began < PATIENCE and last < before + BURST:
            time.sleep(0.01)
            last = self.clusters[1].stats()["received"]
        return (last - before) / (time.monotonic() - began)

    def _seen(self, engine: Engine) -> Figures:
        own = {name: float(self.stat(name)) for name in ("sent", "received")}
        return engine.figures() | own

    def _since(self, before: Figures, engine: Engine) -> Figures:
        return {name: value - before[name] for name, value in self._seen(engine).items()}

    def _until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise SystemExit("the machines did not send in time")
            time.sleep(0.01)
        self.settle()


def started(engine: Engine) -> Figures:
    """The first counters of an engine, as soon as it answers."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return engine.figures()
        except OSError as error:
            if time.monotonic() > end:
                raise SystemExit(f"the engine does not answer: {error}") from error
            time.sleep(0.05)


def rows(name: str, engine: Engine, idle: Figures, machines: Machines) -> Iterator[list[str]]:
    """The measured figures beside the arithmetic with the memberships that were drawn, for one engine."""
    inputs, load, formula = machines.inputs, counted(machines.inputs, machines.drawn), FORMULAS[name]
    sums = traffic(inputs, load, formula)
    echo = 1 if formula.echoes else 0
    subscriptions = machines.stat("subscriptions")

    def row(what: str, expectation: float, measured: float) -> list[str]:
        return [name, what, shown(expectation), shown(measured), f"{measured / expectation - 1:+.1%}"]

    yield row("subscriptions of the machines", sums.subscriptions, subscriptions)
    inbox = 2 * inputs.nodes if name == "NATS" else 0  # for answers: ours, and one of nats-py
    measured = engine.figures()["subscriptions"] - idle["subscriptions"]  # nats-server has some of its own
    yield row("subscriptions in the engine", sums.subscriptions + inbox, measured)
    beats = inputs.nodes * BEATS / inputs.ttl
    seen = machines.quiet(engine)
    yield row("beats in/s", beats, seen["in"])
    yield row("beats received/s", beats * (inputs.nodes - 1 + echo), seen["received"])
    began = time.monotonic()
    seen = machines.talk(engine)
    other = beats * (time.monotonic() - began)
    received = load.places - (1 - echo) * load.present
    yield row("messages sent", load.present, seen["sent"])
    yield row("messages received", received, seen["received"] - other * (inputs.nodes - 1 + echo))
    if "bytes in" in seen:
        beat = HEAD + len('"beat"')
        yield row("bytes in", load.present * (HEAD + inputs.size), seen["bytes in"] - other * beat)
        yield row("bytes out", received * (HEAD + inputs.size), seen["bytes out"] - other * beat * (inputs.nodes - 1))
    began = time.monotonic()
    seen, told, heard = machines.churn(engine)
    other = beats * (time.monotonic() - began)
    yield row("joins and leaves in", told, seen["in"] - other)
    yield row("joins and leaves received", heard + echo * told, seen["received"] - other * (inputs.nodes - 1 + echo))


def check(seed: int) -> Iterator[str]:
    """A table for each engine, and how many messages per second one machine took from another."""
    yield f"three machines, {INPUTS.connections} connections in {INPUTS.groups} groups:"
    for name, start in {"NATS": nats, "Redis": redis}.items():
        with ExitStack() as stack:
            engine = stack.enter_context(start())
            idle = started(engine)
            machines = Machines(stack, engine.url, INPUTS, random.Random(seed))
            found = list(rows(name, engine, idle, machines))
            yield table([["", "", "arithmetic", "measured", "deviation"], *found])
            yield f"{name}: one machine received {shown(machines.burst())} messages/s from another in a burst"
