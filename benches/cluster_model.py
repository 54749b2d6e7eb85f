#!/usr/bin/env python3
"""The traffic of a large cluster: arithmetic, and a simulation beside it.

Connections are members of groups, whose sizes follow Zipf's law, and each connection is on any machine. The arithmetic
gives expected values. The simulation draws the memberships at random and counts. Both are printed, with the deviation
of the simulation, and then the load of one machine and of the engine beside the limits.

With ``--check`` three machines in this process, over real engines, carry a small load, and their counters and those of
the engines are compared with the same formulas.
"""

from __future__ import annotations

import argparse
import random
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import accumulate

HEAD = 18  # bytes before each message between machines: python/goev/cluster/envelope.py
BEATS = 3  # of a machine within ttl
CHANGE = 50  # bytes of a join or leave without metadata, about
SUBJECT = 16  # characters of a subject, about
OWN_SUBJECTS = 2  # of a machine: its inbox, and the one for all machines


@dataclass(frozen=True)
class Inputs:
    """The load of a cluster.

    Attributes:
        connections, nodes, groups: their numbers.
        joined: groups of a connection, on average.
        skew: the exponent of Zipf's law: the n-th group has a share of n to the power of minus ``skew``.
        rate: messages per second of each group that has members.
        size: bytes of a message.
        stay: seconds that a member stays in a group.
        ttl: as in ``goev.cluster.connect``.
        history: messages that the engine keeps of each group.
        presence: whether groups tell who is there.
    """

    connections: int = 10_000_000
    nodes: int = 100
    groups: int = 100_000
    joined: float = 1.0
    skew: float = 1.0
    rate: float = 0.1
    size: int = 100
    stay: float = 600.0
    ttl: float = 10.0
    history: int = 50
    presence: bool = True

    @property
    def memberships(self) -> int:
        return round(self.connections * self.joined)

    def shares(self) -> list[float]:
        """The part of all memberships that each group has."""
        weights = [(1 + index) ** -self.skew for index in range(self.groups)]
        total = sum(weights)
        return [weight / total for weight in weights]


@dataclass(frozen=True)
class Load:
    """The sums over a cluster; rates are per second.

    Attributes:
        present: groups with members.
        places: pairs of a group and a machine that has members of it.
        largest: members of the largest group.
        written: messages that members get.
        told: joins and leaves.
        heard: joins and leaves, times the other machines that have members of the group.
    """

    present: float
    places: float
    largest: float
    written: float
    told: float
    heard: float


def expected(inputs: Inputs) -> Load:
    """The expected values: each membership is one of a group by its share, and on each machine alike."""
    members, nodes = inputs.memberships, inputs.nodes
    present = places = written = heard = 0.0
    shares = inputs.shares()
    changes = 2 / inputs.stay if inputs.presence else 0.0
    for share in shares:
        has_members = 1 - (1 - share) ** members
        present += has_members
        places += nodes * (1 - (1 - share / nodes) ** members)
        written += inputs.rate * members * share
        heard += changes * members * share * (nodes - 1) * (1 - (1 - share / nodes) ** (members - 1))
    return Load(present, places, members * shares[0], written, changes * members, heard)


def drawn(inputs: Inputs, chance: random.Random) -> list[Counter[int]]:
    """Memberships: for each group the number of its members by machine."""
    groups: list[Counter[int]] = [Counter() for _ in range(inputs.groups)]
    bounds = list(accumulate(inputs.shares()))
    for _ in range(inputs.memberships):
        group = min(bisect(bounds, chance.random()), inputs.groups - 1)
        groups[group][chance.randrange(inputs.nodes)] += 1
    return groups


def counted(inputs: Inputs, groups: list[Counter[int]]) -> Load:
    """The values of memberships that were drawn."""
    sizes = [group.total() for group in groups]
    changes = 2 / inputs.stay if inputs.presence else 0.0
    return Load(
        sum(1 for size in sizes if size),
        sum(map(len, groups)),
        sizes[0],
        inputs.rate * sum(sizes),
        changes * sum(sizes),
        changes * sum(size * (len(group) - 1) for size, group in zip(sizes, groups, strict=True) if size),
    )


def scaled(inputs: Inputs, draws: int) -> Inputs:
    """Inputs for so many memberships at most, with groups of the same mean size."""
    factor = min(1.0, draws / inputs.memberships)
    return replace(inputs, connections=round(inputs.connections * factor), groups=max(1, round(inputs.groups * factor)))


@dataclass(frozen=True)
class Engine:
    """What an engine does with a message between machines.

    Attributes:
        echoes: whether the sender's machine gets its own message too.
        answers: messages of the engine to the sender for each message of a group.
        sent, got: bytes of the protocol around a message on its way in, and to a machine, with the subject.
    """

    echoes: bool
    answers: int
    sent: int
    got: int


ENGINES = {
    # PUB subject  size, and MSG subject sid size
    "NATS": Engine(echoes=False, answers=0, sent=14 + SUBJECT, got=18 + SUBJECT),
    # the headers Nats-Stream, -Subject, -Sequence, -Last-Sequence of a message that is republished; the id, the reply
    "JetStream": Engine(echoes=True, answers=1, sent=125 + SUBJECT, got=165 + 2 * SUBJECT),
    # PUBLISH and message as arrays of RESP
    "Redis": Engine(echoes=True, answers=0, sent=40 + SUBJECT, got=40 + SUBJECT),
}


@dataclass(frozen=True)
class Traffic:
    """The traffic of the whole cluster with an engine, per second; subscriptions are a number."""

    subscriptions: float
    into_messages: float
    out_messages: float
    into_bytes: float
    out_bytes: float
    out_presence: float
    out_beats: float
    kept_bytes: float


def traffic(inputs: Inputs, load: Load, engine: Engine) -> Traffic:
    """The arithmetic of messages between machines."""
    nodes, own = inputs.nodes, 1 if engine.echoes else 0
    published = inputs.rate * load.present
    received = inputs.rate * (load.places - (1 - own) * load.present)
    changes_out = load.heard + own * load.told
    beats = nodes * BEATS / inputs.ttl
    beats_out = beats * (nodes - 1 + own)
    message = HEAD + inputs.size
    other_in, other_out = load.told + beats, changes_out + beats_out
    plain = ENGINES["NATS"] if engine is ENGINES["JetStream"] else engine  # presence and beats are not kept
    return Traffic(
        subscriptions=load.places * (2 if inputs.presence else 1) + OWN_SUBJECTS * nodes,
        into_messages=published + other_in,
        out_messages=received + published * engine.answers + other_out,
        into_bytes=published * (message + engine.sent) + other_in * (HEAD + CHANGE + plain.sent),
        out_bytes=received * (message + engine.got) + other_out * (HEAD + CHANGE + plain.got),
        out_presence=changes_out,
        out_beats=beats_out,
        kept_bytes=load.present * inputs.history * message if engine.answers else 0.0,
    )


# ---- tables ----------------------------------------------------------------------------------------------------------


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


def table(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *others]).rstrip())
    return "\n".join(lines)


def agreement(inputs: Inputs, seed: int) -> tuple[str, float]:
    """A table of the arithmetic and the simulation, and the greatest deviation."""
    arithmetic, simulation = expected(inputs), counted(inputs, drawn(inputs, random.Random(seed)))
    rows, greatest = [["", "arithmetic", "simulation", "deviation"]], 0.0
    for field in fields(Load):
        one, other = getattr(arithmetic, field.name), getattr(simulation, field.name)
        deviation = other / one - 1 if one else 0.0
        greatest = max(greatest, abs(deviation))
        rows.append([NAMES[field.name], shown(one), shown(other), f"{deviation:+.2%}"])
    return table(rows), greatest


NAMES = {
    "present": "groups with members",
    "places": "pairs of group and machine",
    "largest": "members of the largest group",
    "written": "messages to members/s",
    "told": "joins and leaves/s",
    "heard": "the same, times machines/s",
}


def by_engine(inputs: Inputs, load: Load) -> str:
    """A table of the traffic, for the engine and for one machine."""
    columns = [traffic(inputs, load, engine) for engine in ENGINES.values()]

    def row(name: str, value: Callable[[Traffic], float]) -> list[str]:
        return [name, *(shown(value(column)) for column in columns)]

    nodes = inputs.nodes
    rows = [
        ["", *ENGINES],
        row("engine: subscriptions", lambda each: each.subscriptions),
        row("engine: messages in/s", lambda each: each.into_messages),
        row("engine: messages out/s", lambda each: each.out_messages),
        row("  of them presence", lambda each: each.out_presence),
        row("  of them beats", lambda each: each.out_beats),
        row("engine: MB in/s", lambda each: each.into_bytes / 1e6),
        row("engine: MB out/s", lambda each: each.out_bytes / 1e6),
        row("engine: MB kept", lambda each: each.kept_bytes / 1e6),
        row("machine: subscriptions", lambda each: each.subscriptions / nodes),
        row("machine: messages out/s", lambda each: each.into_messages / nodes),
        row("machine: messages in/s", lambda each: each.out_messages / nodes),
        row("machine: MB in/s", lambda each: each.out_bytes / nodes / 1e6),
        row("machine: messages to members/s", lambda _: load.written / nodes),
    ]
    return table(rows)


def breaking(
    inputs: Inputs, load: Load, machine_in: float, machine_out: float, engine_out: float
) -> Iterator[tuple[float, str]]:
    """How much of each limit is used: the greatest one breaks first."""
    for name, engine in ENGINES.items():
        sums = traffic(inputs, load, engine)
        yield sums.out_messages / inputs.nodes / machine_in, f"{name}: messages that one machine receives"
        yield sums.out_messages / engine_out, f"{name}: messages that one server of the engine sends"
    yield load.written / inputs.nodes / machine_out, "messages that one machine writes to members"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Inputs):
        if field.name != "presence":
            kind = type(field.default)
            parser.add_argument(
                f"--{field.name}", type=kind, default=field.default, help=f"{HELP[field.name]} (%(default)s)"
            )
    parser.add_argument("--no-presence", action="store_true", help="no group tells who is there")
    parser.add_argument("--draws", type=int, default=1_000_000, help="memberships of the simulation (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--machine-in", type=float, default=10_000.0, help="messages/s that a machine can receive")
    parser.add_argument("--machine-out", type=float, default=180_000.0, help="messages/s to members of a machine")
    parser.add_argument("--engine-out", type=float, default=3_800_000.0, help="messages/s of an engine's server")
    parser.add_argument("--check", action="store_true", help="compare with three machines over real engines")
    return parser


HELP = {
    "connections": "connections",
    "nodes": "machines",
    "groups": "groups",
    "joined": "groups of a connection",
    "skew": "exponent of Zipf's law for the sizes of groups",
    "rate": "messages per second of each group",
    "size": "bytes of a message",
    "stay": "seconds that a member stays in a group",
    "ttl": "seconds after which a silent machine is gone",
    "history": "messages that the engine keeps of each group",
}


def main() -> None:
    arguments = parser().parse_args()
    values = {field.name: getattr(arguments, field.name) for field in fields(Inputs) if field.name != "presence"}
    inputs = Inputs(**values, presence=not arguments.no_presence)
    if arguments.check:
        from cluster_check import check  # needs goev and the engines

        print("\n\n".join(check(arguments.seed)))
        return
    small = scaled(inputs, arguments.draws)
    print(f"{small.connections:,} connections in {small.groups:,} groups on {small.nodes} machines:\n")
    print(agreement(small, arguments.seed)[0])
    load = expected(inputs)
    print(f"\n{inputs.connections:,} connections in {inputs.groups:,} groups on {inputs.nodes} machines:\n")
    print(table([[name, shown(getattr(load, key))] for key, name in NAMES.items()]))
    print(f"\n{by_engine(inputs, load)}\n\nused of each limit, the one that breaks first on top:\n")
    limits = breaking(inputs, load, arguments.machine_in, arguments.machine_out, arguments.engine_out)
    print(table([[text, f"{part:.0%}"] for part, text in sorted(limits, reverse=True)]))


if __name__ == "__main__":
    main()
