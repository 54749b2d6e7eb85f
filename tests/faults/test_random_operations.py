"""A minute of random operations; the seed is printed, and an earlier one can be given again (GOEV_SEED)."""

import os
import re
from pathlib import Path

import pytest

from support import Child

PROGRAM = str(Path(__file__).with_name("random_operations.py"))
SECONDS = 60 * int(os.environ.get("GOEV_SOAK", "1"))
SEED = os.environ.get("GOEV_SEED")


@pytest.mark.timeout(SECONDS + 60)
def test_random_operations_leave_everything_in_its_place():
    seed = ["--seed", SEED] if SEED else []
    with Child(PROGRAM, "--seconds", str(SECONDS), *seed) as child:
        said = child.line()
        status = child.end(SECONDS + 50)
        assert (status, child.errors) == (0, ""), said
        counts = dict(re.findall(r"(\w+) (\d+)", child.line()))
    assert int(counts["conversations"]) > 100
    assert counts["open"] == counts["close"]


def test_the_plan_of_a_seed_is_always_the_same():
    def plan(seed: str) -> str:
        with Child(PROGRAM, "--plan", "--seed", seed) as child:
            assert child.line() == f"seed {seed}"
            return child.line()

    assert plan("1") == plan("1") != plan("2")
