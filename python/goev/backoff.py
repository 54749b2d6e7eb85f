"""When a server that fails may be tried again.

Callers pass ``now``; no clock and no waiting in here.
"""

import random

FIRST = 0.05  # seconds after the first failure
LONGEST = 5.0  # seconds


class Backoff:
    """Each failure doubles the pause, up to ``LONGEST``; jitter takes off up to half, lest many clients come at once.

    Failures before ``until`` are of the same round and count once. What lies back more than ``memory`` seconds is
    forgotten; a mere success is not enough for that, since a server may accept and close at once.

    Args:
        memory: seconds; longer than an attempt takes to fail.
    """

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self.failures = 0
        self.failing = False  # the last attempt failed
        self.until = 0.0  # nothing is to be tried before

    def failed(self, now: float) -> bool:
        """Set ``until``; whether a new round of failures began."""
        self.failing = True
        if now < self.until:
            return False
        if now - self.until > self._memory:
            self.failures = 0
        pause = min(FIRST * 2 ** min(self.failures, 16), LONGEST)
        self.failures += 1
        self.until = now + pause * random.uniform(0.5, 1.0)
        return True

    def succeeded(self) -> None:
        self.failing = False
