"""Log lines about things that may happen with every message."""

import time

SECONDS = 60.0


class Pace:
    """Lets one line a minute through, with the number of those in between."""

    def __init__(self) -> None:
        self._last = float("-inf")
        self._count = 0

    def due(self, count: int = 1) -> int:
        """Count, and return the number since the last line; 0 if it is too early for another one."""
        self._count += count
        now = time.monotonic()
        if now - self._last < SECONDS:
            return 0
        self._last, count, self._count = now, self._count, 0
        return count
