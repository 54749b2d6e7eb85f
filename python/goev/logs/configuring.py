"""The root logger of a service."""

import logging
import os
import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING

from goev.logs.formatting import JsonFormatter, TextFormatter
from goev.logs.handler import StderrHandler

if TYPE_CHECKING:
    from goev.service.settings import Logging

LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("text", "json")


def configure(settings: "Logging", *, worker: int | None = None) -> None:
    """Have the root logger write to standard error, as text or as JSON.

    Args:
        settings: ``level`` and ``format`` count; the access log is an ``AccessLog`` of its own.
        worker: the number of this worker process.

    Raises:
        ValueError: the level or the format is none.

    Other handlers of the root logger stay; a second call replaces the handler of the first. With ``format="json"``
    warnings and uncaught exceptions, which Python prints, become records of ``py.warnings`` and ``goev.uncaught``.
    The level has a colour if standard error is a terminal and the environment has no ``NO_COLOR``.
    """
    for name, value, known in (("level", settings.level, LEVELS), ("format", settings.format, FORMATS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    handler = StderrHandler()
    if settings.format == "json":
        handler.setFormatter(JsonFormatter(worker=worker))
    else:
        handler.setFormatter(TextFormatter(worker=worker, color=is_terminal(2) and "NO_COLOR" not in os.environ))
    root = logging.getLogger()
    for before in [before for before in root.handlers if isinstance(before, StderrHandler)]:
        root.removeHandler(before)
        before.close()
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    if settings.format == "json":
        log_what_python_prints()


def is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def log_what_python_prints() -> None:
    """Warnings, and exceptions that nothing catches."""
    logging.captureWarnings(True)
    sys.excepthook = log_uncaught
    threading.excepthook = log_uncaught_of_thread
    sys.unraisablehook = log_unraisable


def log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return sys.__excepthook__(kind, error, trace)
    uncaught("uncaught exception", error)
    return None


def log_uncaught_of_thread(failed: threading.ExceptHookArgs) -> None:
    name = failed.thread.name if failed.thread else "a thread"
    if failed.exc_value is not None and not issubclass(failed.exc_type, SystemExit):
        uncaught(f"uncaught exception in {name}", failed.exc_value)


def log_unraisable(failed: "sys.UnraisableHookArgs") -> None:
    where = failed.err_msg or f"exception ignored in {failed.object!r}"
    if failed.exc_value is not None:
        uncaught(where, failed.exc_value)


def uncaught(text: str, error: BaseException) -> None:
    logging.getLogger("goev.uncaught").critical("%s", text, exc_info=error)
