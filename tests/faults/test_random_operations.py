"""A minute of random operations, and less of them over TLS and with coroutines.

The seed is printed, and GOEV_SEED gives it again.
"""

import os
import re
from pathlib import Path

import pytest

from support import Child

PROGRAM = str(Path(__file__).with_name("random_operations.py"))
SOAK = int(os.environ.get("GOEV_SOAK", "1"))
SEED = os.environ.get("GOEV_SEED")


@pytest.mark.timeout(20 * SOAK + 60)
@pytest.mark.parametrize(
    ("wire", "seconds", "options"),
    [
        ("plain", 10 * SOAK, []),
        ("tls", 5 * SOAK, []),
        ("plain", 5 * SOAK, ["--coroutines"]),
        ("tls", 5 * SOAK, ["--coroutines"]),
    ],
)
def test_random_operations_leave_everything_in_its_place(wire, seconds, options):
    seed = ["--seed", SEED] if SEED else []
    with Child(PROGRAM, "--seconds", str(seconds), "--wire", wire, *options, *seed) as child:
        said = child.line()
        status = child.end(seconds + 50)
        assert (status, child.complaints) == (0, ""), said
        counts = dict(re.findall(r"(\w+) (\d+)", child.line()))
    assert int(counts["conversations"]) > 100
    assert counts["open"] == counts["close"]


def test_the_plan_of_a_seed_is_always_the_same():
    def plan(seed: str) -> str:
        with Child(PROGRAM, "--plan", "--seed", seed) as child:
            assert child.line() == f"seed {seed}"
            return child.line()

    assert plan("1") == plan("1") != plan("2")


BROKEN = """
    import sys
    sys.path.insert(0, sys.argv.pop(1))
    import random_operations as program

    write_some = program.Handler.write_some

    def write_wrong(handler):
        # Only some plans lead to this: a stream of this length, at this place.
        if len(handler.plan.down) == 5000 and handler.sent == 0 and handler.plan.number % 7 == 3:
            handler.plan.down = bytes(byte ^ 1 for byte in handler.plan.down)
        write_some(handler)

    program.Handler.write_some = write_wrong
    sys.exit(program.main())
"""


def test_a_fault_is_found_and_its_seed_finds_it_again():
    """With a handler that writes other bytes than planned on some connections."""

    def found(*seed: str) -> tuple[str, set[str]]:
        with Child.running(BROKEN, str(Path(PROGRAM).parent), "--seconds", "3", *seed) as child:
            said = child.line()
            assert child.end(60) == 1, "it is told by the status"
            return said.removeprefix("seed "), set(re.findall(r"seed \d+: (\d+/\d+): what the client", child.errors))

    seed, first = found()
    again, second = found("--seed", seed)
    assert again == seed
    assert first & second, "the same connections"
