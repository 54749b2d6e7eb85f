"""Takes all messages that a source sends, and prints a line of JSON: their number, the seconds, and those of CPU."""

import argparse
import json
import time
from collections.abc import AsyncIterable


def parse_url(description: str | None) -> str:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=8080, help="where the source listens")
    return f"ws://127.0.0.1:{parser.parse_args().port}/"


class Stopwatch:
    def __init__(self) -> None:
        self.began, self.cpu = time.perf_counter(), time.process_time()

    def report(self, count: int, last: bytes) -> None:
        """``count`` messages came; the last of them has to be the number of the others."""
        seconds, cpu = time.perf_counter() - self.began, time.process_time() - self.cpu
        if int(last) != count - 1:
            raise SystemExit(f"{count} messages came of {int(last) + 1}")
        print(json.dumps({"messages": count, "seconds": seconds, "cpu": cpu}))


async def take_all(messages: AsyncIterable[bytes]) -> None:
    watch = Stopwatch()
    count, last = 0, b"-1"
    async for message in messages:
        count, last = count + 1, message
    watch.report(count, last)
