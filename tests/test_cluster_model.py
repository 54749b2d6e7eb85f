"""The arithmetic of `benches/cluster_model.py` is that of its simulation, and of small cases counted by hand."""

import random
import subprocess
import sys
from collections import Counter
from dataclasses import fields, replace

import pytest

from guides import Guide
from support import ROOT

sys.path.insert(0, str(ROOT / "benches"))

from cluster_model import ENGINES, Inputs, Load, agreement, by_engine, counted, drawn, expected, scaled, traffic

PAGE = Guide("cluster-sizing.md", 8080)
SMALL = Inputs(connections=20_000, nodes=10, groups=500)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_the_simulation_agrees_with_the_arithmetic(skew, seed):
    _, deviation = agreement(replace(SMALL, skew=skew), seed)
    assert deviation < (0.5 if skew == 0 else 0.1)  # one group of forty members varies by more than one of thousands


def test_all_memberships_are_drawn():
    assert sum(group.total() for group in drawn(SMALL, random.Random(1))) == SMALL.memberships


def test_three_members_on_two_machines_are_counted():
    inputs = Inputs(connections=3, nodes=3, groups=2, rate=2.0, stay=10.0)
    load = counted(inputs, [Counter({0: 2, 1: 1}), Counter()])
    assert load == Load(present=1, places=2, largest=3, written=6.0, told=pytest.approx(0.6), heard=pytest.approx(0.6))


def test_one_machine_sends_messages_that_nobody_else_gets():
    inputs = Inputs(connections=100, nodes=1, groups=5, presence=False)
    sums = traffic(inputs, expected(inputs), ENGINES["NATS"])
    assert sums.out_messages == pytest.approx(0, abs=1e-9)
    assert sums.into_messages > 0


def test_an_engine_that_echoes_sends_one_more_of_each_message():
    inputs = replace(SMALL, presence=False, ttl=1e9)
    load = expected(inputs)
    nats, redis = (traffic(inputs, load, ENGINES[name]).out_messages for name in ("NATS", "Redis"))
    assert redis - nats == pytest.approx(inputs.rate * load.present, rel=1e-3)


def test_beats_grow_with_the_square_of_the_machines_and_not_with_groups():
    beats = [traffic(inputs, expected(inputs), ENGINES["Redis"]).out_beats
             for inputs in (SMALL, replace(SMALL, nodes=20), replace(SMALL, groups=50))]  # fmt: skip
    assert beats == [pytest.approx(30), pytest.approx(120), pytest.approx(30)]


def test_a_smaller_simulation_has_groups_of_the_same_mean_size():
    small = scaled(Inputs(), 100_000)
    assert (small.memberships, small.groups) == (100_000, 1_000)
    assert scaled(SMALL, 10**6) == SMALL


def test_the_program_prints_its_tables_and_its_options():
    program = [sys.executable, str(ROOT / "benches" / "cluster_model.py")]
    options = ["--connections", "5000", "--nodes", "5", "--groups", "50", "--draws", "5000"]
    printed = subprocess.run([*program, *options], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "deviation" in printed
    assert all(name in printed for name in ENGINES)
    usage = subprocess.run([*program, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert all(f"--{field.name}" in usage for field in fields(Inputs) if field.name != "presence")


def test_the_page_has_the_figures_of_the_model():
    printed = [line.split()[-3:] for line in by_engine(Inputs(), expected(Inputs())).splitlines()[1:]]
    table = PAGE.text.partition("| | NATS | JetStream | Redis |\n")[2].partition("\n\n")[0].splitlines()[1:]
    assert [[cell.strip() for cell in line.split("|")[2:5]] for line in table] == printed


def test_links_of_the_page_lead_somewhere():
    assert not PAGE.dead_links()
