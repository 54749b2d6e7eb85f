"""Programs that run hostile and end at a random moment: never with a status that is not their own.

A few here; five hundred by ``make soak`` (``GOEV_SOAK=10``).
"""

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SOAK = int(os.environ.get("GOEV_SOAK", "1"))
ROUNDS = 2 if SOAK == 1 else 10 * SOAK
AT_ONCE = 2
# glibc allocates the thread-local data of a library, and the entries of its destructors, at the first use in a thread.
# It aborts without memory for them.
BEYOND_US = (
    "cannot allocate memory for thread-local data: ABORT",
    "Fatal glibc error: failed to register TLS destructor: out of memory",
)
PROGRAM = Path(__file__).with_name("hostile.py")

# Arguments of the interpreter, variables of the environment, arguments of the program.
WAYS: dict[str, tuple[list[str], dict[str, str], list[str]]] = {
    "development mode": (["-X", "dev"], {}, ["daemons"]),
    "debugging allocators": ([], {"PYTHONMALLOC": "debug"}, ["daemons"]),
    "a collection at every allocation": ([], {"PYTHONMALLOC": "debug"}, ["collector"]),
    "greenlets": ([], {}, ["greenlets"]),
    "short memory": ([], {}, ["memory"]),
}


@pytest.mark.timeout(60 + 20 * ROUNDS)
@pytest.mark.parametrize("way", WAYS)
def test_the_status_is_always_the_programs(way):
    options, variables, arguments = WAYS[way]
    if "greenlets" in arguments and importlib.util.find_spec("greenlet") is None:
        pytest.skip("needs greenlet: pip install greenlet")

    def live(seed: int) -> tuple[int, int, str]:
        command = [sys.executable, "-X", "faulthandler", *options, "-W", "ignore", str(PROGRAM), str(seed), *arguments]
        ended = subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120, check=False
        )
        is_own = ended.returncode == 40 + seed % 50 or (
            "memory" in arguments and any(text in ended.stderr for text in BEYOND_US)
        )
        return seed, 0 if is_own else ended.returncode, ended.stderr

    with ThreadPoolExecutor(AT_ONCE) as pool:
        bad = [(seed, status, errors[-3000:]) for seed, status, errors in pool.map(live, range(ROUNDS)) if status]
    assert not bad, bad
