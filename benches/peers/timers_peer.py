"""Sets and cancels timers from Python and prints a line of JSON: seconds of both, and bytes for each timer.

The delays are made beforehand, all timers share one callback, and they are cancelled in the order they were set. The
bytes are the growth of the process, including the list of handles.
"""

import argparse
import importlib
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Handle(Protocol):
    def cancel(self) -> None: ...


SetTimer = Callable[[float, Callable[[], None]], Handle]


def on_timeout() -> None:
    """Never called: the shortest delay is longer than the measurement."""


def resident_bytes() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell the resident memory")


def measure(set_timer: SetTimer, delays: list[float]) -> dict[str, float]:
    before = resident_bytes()
    begin = time.perf_counter()
    handles = [set_timer(delay, on_timeout) for delay in delays]
    has_set = time.perf_counter()
    after = resident_bytes()
    begin_cancel = time.perf_counter()
    for handle in handles:
        handle.cancel()
    has_cancelled = time.perf_counter()
    return {
        "set": has_set - begin,
        "cancel": has_cancelled - begin_cancel,
        "bytes": (after - before) / len(delays),
    }


def on_goev(delays: list[float]) -> dict[str, float]:
    """Measures inside a callback, on the poller, where a server sets its timers."""
    import goev  # only the Python that runs this loop has it

    reactor = goev.Reactor(1)
    measured: dict[str, float] = {}

    def work() -> None:
        try:
            measured.update(measure(reactor.schedule, delays))
        finally:
            reactor.stop()

    reactor.call_soon(work)
    reactor.run()
    return measured


def on_event_loop(name: str, delays: list[float]) -> dict[str, float]:
    loop = importlib.import_module(name).new_event_loop()

    async def work() -> dict[str, float]:
        return measure(loop.call_later, delays)

    measured: dict[str, float] = loop.run_until_complete(work())
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", choices=["goev", "asyncio", "uvloop", "rloop"], default="goev")
    parser.add_argument("--timers", type=int, default=1_000_000, help="how many")
    arguments = parser.parse_args()

    seeded = random.Random(1)
    delays = [seeded.uniform(10, 60) for _ in range(arguments.timers)]
    measured = on_goev(delays) if arguments.loop == "goev" else on_event_loop(arguments.loop, delays)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
