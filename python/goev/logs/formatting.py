"""Log lines as JSON and as text. Neither trusts a value: no message looks like a line, and no object stops one."""

import json
import logging
import re
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

from goev._core import _current_poller

# The attributes of every record; all others came by ``extra``.
STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
OURS = ("time", "level", "logger", "message", "peer", "callback", "worker", "poller", "exception", "stack")
POLLER = re.compile(r"goev-poller-(\d+)")
# Control characters, also of C1, and the line separators of Unicode. A tab is harmless.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
COLORS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


def escaped(text: str) -> str:
    """The text without control characters; line feeds stay."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def message_of(record: logging.LogRecord) -> str:
    """The message; if its arguments do not fit the format, the format and the arguments."""
    try:
        return record.getMessage()
    except Exception as error:
        return f"{safe_str(record.msg)} with the arguments {safe_repr(record.args)}: {safe_repr(error)}"


def safe_str(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return safe_repr(value)


def safe_repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        pass
    try:
        return f"<a {type(value).__name__} whose repr() raises>"
    except Exception:  # by the class of the class
        return "<an object whose repr() raises>"


def poller_of(record: logging.LogRecord) -> int | None:
    """The number of the poller that logged the record, if one did."""
    if record.thread == threading.get_ident():
        current = _current_poller()
        if current is not None:
            return current
    named = POLLER.fullmatch(str(record.threadName))
    return int(named[1]) if named else None


def extras_of(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """The fields that came by ``extra``, under names that are none of ours."""
    for name, value in record.__dict__.items():
        if name not in STANDARD and name not in ("peer", "callback"):
            yield (f"extra_{name}" if name in OURS else str(name)), value


def exception_of(record: logging.LogRecord) -> dict[str, Any] | None:
    if not record.exc_info or record.exc_info[1] is None:
        if not record.exc_text:
            return None
        # The record comes from another process (SocketHandler): only the text is left.
        lines = record.exc_text.splitlines()
        return {"type": None, "text": lines[-1], "traceback": lines}
    kind, error, _ = record.exc_info
    try:
        name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    except Exception:
        name = safe_repr(kind)
    return {"type": name, "text": safe_str(error), "traceback": traceback_of(record).splitlines()}


def traceback_of(record: logging.LogRecord) -> str:
    """The traceback of the exception of a record; an empty text if it has none."""
    if not record.exc_info or record.exc_info[1] is None:
        return record.exc_text or ""
    try:
        return "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
    except Exception as error:
        return f"{safe_repr(record.exc_info[1])}, whose traceback cannot be formatted: {safe_repr(error)}"


def clean(value: Any) -> Any:
    """The same for JSON: keys that are strings, no NaN, and the ``repr`` of a value that JSON does not have."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if value - value == 0 else repr(value)
        case dict():
            return {key if isinstance(key, str) else safe_repr(key): clean(item) for key, item in value.items()}
        case list() | tuple():
            return [clean(item) for item in value]
        case _:
            return safe_repr(value)


def cleaned(value: Any) -> Any:
    """The same for JSON, for every value; a value that cannot be cleaned is its ``repr`` as a whole."""
    try:
        clear = clean(value)
        json.dumps(clear)
    except Exception:  # a value that contains itself, or an integer of more digits than Python prints
        return safe_repr(value)
    return clear


def dumps(fields: dict[str, Any]) -> str:
    """One line of ASCII, for all fields. A field that JSON does not have changes no other field."""
    try:
        return json.dumps(fields, allow_nan=False, separators=(",", ":"))
    except Exception:  # by objects of the application
        return json.dumps({name: cleaned(value) for name, value in fields.items()}, separators=(",", ":"))


class JsonFormatter(logging.Formatter):
    """One object a line: ``time``, ``level``, ``logger``, ``message``, ``peer``, ``callback``, ``worker``, ``poller``.

    Args:
        worker: the number of this worker process.

    ``exception`` (``type``, ``text``, ``traceback`` as a list of lines) and ``stack`` are there if the record has them.
    So are the fields given by ``extra``: values that JSON does not have as their ``repr``, and those named as a field
    above as ``extra_NAME``. ``time`` is UTC. The line is ASCII.
    """

    def __init__(self, *, worker: int | None = None) -> None:
        super().__init__()
        self.worker = worker

    def format(self, record: logging.LogRecord) -> str:
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, Any] = {
            "time": f"{second}.{int(record.msecs):03}Z",
            "level": str(record.levelname).lower(),
            "logger": record.name,
            "message": message_of(record),
            "peer": getattr(record, "peer", None),
            "callback": getattr(record, "callback", None),
            "worker": self.worker,
            "poller": poller_of(record),
        }
        exception = exception_of(record)
        if exception is not None:
            fields["exception"] = exception
        if record.stack_info:
            fields["stack"] = record.stack_info.splitlines()
        fields.update(extras_of(record))
        return dumps(fields)


class TextFormatter(logging.Formatter):
    """A line for people: time, level, logger, worker and poller, message; then the traceback.

    Args:
        worker: the number of this worker process.
        color: whether the level has a colour.

    Further lines of a record are indented, and control characters are escaped, so that no text from a peer looks like a
    line of its own or moves the cursor of a terminal. ``time`` is local.
    """

    def __init__(self, *, worker: int | None = None, color: bool = False) -> None:
        super().__init__()
        self.worker = worker
        self.color = color

    def format(self, record: logging.LogRecord) -> str:
        second = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname!s:<8}"
        if self.color and record.levelname in COLORS:
            level = f"\x1b[{COLORS[record.levelname]}m{level}\x1b[0m"
        behind = [str(part) for part in (traceback_of(record), record.stack_info) if part]
        text = escaped("\n".join([message_of(record), *behind])).replace("\n", "\n    ")
        name = escaped(str(record.name)).replace("\n", "\\n")
        return f"{second}.{int(record.msecs):03} {level} {name}{self.place(record)}: {text}"

    def place(self, record: logging.LogRecord) -> str:
        """The worker and the poller of ``record``, in brackets; ``""`` if it has none."""
        poller = poller_of(record)
        worker = [] if self.worker is None else [f"worker {self.worker}"]
        parts = worker + ([] if poller is None else [f"poller {poller}"])
        return f" [{', '.join(parts)}]" if parts else ""
