"""The pauses between attempts to reach a server that fails.

Callers pass ``now``; no clock and no waiting in here.
"""

import random

FIRST = 0.05  # seconds after the first failure
LONGEST = 5.0  # seconds


class Backoff:
    """Each failure doubles the pause, up to ``LONGEST``.

    Jitter shortens the pause by up to half, so that many clients do not come at once. Failures before ``until`` belong
    to the same round and count once. Failures more than ``memory`` seconds ago are forgotten. A success alone forgets
    none, since a server may accept and close at once.

    Args:
        memory: seconds; longer than an attempt takes to fail.
    """

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self.failures = 0
        self.failing = False  # the last attempt failed
        self.until = 0.0  # no attempt begins before

    def failed(self, now: float) -> bool:
        """Set ``until``, and return whether a new round of failures began."""
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
