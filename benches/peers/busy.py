"""A thread that computes in pure Python for as long as the process lives, to see what a server does beside it."""

import threading


def _compute() -> None:
    while True:
        sum(number * number for number in range(10_000))


def start() -> None:
    threading.Thread(target=_compute, daemon=True).start()
