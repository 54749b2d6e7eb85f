"""A thread that computes in pure Python as long as the process lives, to measure a server beside it."""

import threading


def _compute() -> None:
    while True:
        sum(number * number for number in range(10_000))


def start() -> None:
    threading.Thread(target=_compute, daemon=True).start()
