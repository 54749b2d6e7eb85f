"""The handler of log lines that never waits for standard error."""

import logging
import os

from goev._core import _LineLog


class StderrHandler(logging.Handler):
    """Writes records to standard error (descriptor 2) on a thread of its own.

    Args:
        capacity: bytes of lines that may wait, 1,024 to 1 GiB.

    A thread in Rust writes at once. While standard error takes nothing, because it is a pipe without a reader, lines
    wait within ``capacity``; further ones are dropped and counted. If it is closed, every line is dropped and counted.
    ``flush`` and the end of the interpreter wait one second at most. A forked child has a thread of its own from its
    first line on.
    """

    def __init__(self, *, capacity: int = 1_048_576) -> None:
        super().__init__()
        self.capacity = capacity
        self._birth = os.getpid()
        self._lines = _LineLog(capacity)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:
            line = f"a record of {record.name} cannot be formatted: {type(error).__name__}"
        self._here().put(line.encode(errors="backslashreplace"))

    def flush(self) -> None:
        self._here().flush(1.0)

    def stats(self) -> dict[str, int]:
        """The counts so far: ``written`` and ``dropped`` lines, ``errors``, and ``waiting`` bytes."""
        return self._here().stats()

    def _here(self) -> _LineLog:
        """The thread of this process."""
        if self._birth != os.getpid():
            self._birth, self._lines = os.getpid(), _LineLog(self.capacity)
        return self._lines
