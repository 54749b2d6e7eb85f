"""Kinds of option values: how each is read from text and from TOML, and how it is shown.

Pure functions. The command line and the environment give text; TOML gives text or values of its own. The classes
``Acceptor``, ``Reactor`` and ``ServerContext`` check their own limits, which are not repeated here.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
TIMES = {"us": 1e-6, "ms": 1e-3, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_MOST_CPUS = 65536  # so that a range with a slip of the finger does not fill the memory


@dataclass(frozen=True)
class Kind:
    """One kind of value.

    Attributes:
        label: the word for a value in the help.
        read: a value from text; ``ValueError`` says which values are allowed.
        take: a value from a TOML value that is no text; ``ValueError`` likewise.
        show: a default as a user would write it.
        is_list: whether the option may be given several times, and adds up.
        is_switch: whether the command line has ``--name`` and ``--no-name`` instead of a value.
        files: whether values are paths, which in a file count from the folder of the file.
        choices: all values, if they are few.
    """

    label: str
    read: Callable[[str], Any]
    take: Callable[[object], Any]
    show: Callable[[Any], str] = str
    is_list: bool = False
    is_switch: bool = False
    files: bool = False
    choices: tuple[str, ...] = ()


def _refused(value: object, expected: str) -> ValueError:
    return ValueError(f"{value!r} is not {expected}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _kind_of_text(label: str, expected: str, *, files: bool = False) -> Kind:
    def take(value: object) -> str:
        raise _refused(value, expected)

    def read(text: str) -> str:
        if not text:
            raise _refused(text, expected)
        return text

    return Kind(label, read, take, files=files)


TEXT = _kind_of_text("TEXT", "a text")
ADDRESS = _kind_of_text("ADDRESS", "an address, such as :8080 or unix:/run/chat.sock")
FILE = _kind_of_text("FILE", "the path of a file", files=True)
FOLDER = _kind_of_text("DIR", "the path of a folder", files=True)


def _within(value: Any, least: float | None, most: float | None, above: float | None, unit: str) -> Any:
    if least is not None and most is not None and not least <= value <= most:
        raise ValueError(f"must be from {least:g} to {most:g}{unit}, not {value:g}")
    if least is not None and value < least:
        raise ValueError(f"must be at least {least:g}{unit}, not {value:g}")
    if above is not None and most is not None and not above < value <= most:
        raise ValueError(f"must be more than {above:g} and at most {most:g}{unit}, not {value:g}")
    if above is not None and value <= above:
        raise ValueError(f"must be more than {above:g}{unit}, not {value:g}")
    return value


def integer(*, least: int | None = None) -> Kind:
    """A whole number."""

    def take(value: object) -> Any:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _refused(value, "a whole number")
        return _within(value, least, None, None, "")

    def read(text: str) -> Any:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()):
            raise _refused(text, "a whole number")
        return take(int(text))

    return Kind("N", read, take)


def number(*, least: float | None = None, most: float | None = None, above: float | None = None) -> Kind:
    """A number, perhaps with a fraction."""

    def take(value: object) -> Any:
        if not _is_number(value):
            raise _refused(value, "a number")
        return _within(float(value), least, most, above, "")  # type: ignore[arg-type]

    def read(text: str) -> Any:
        try:
            return take(float(text))
        except ValueError as error:
            raise error if "must be" in str(error) else _refused(text, "a number") from None

    return Kind("NUMBER", read, take, lambda value: f"{value:g}")


def _measured(text: str, units: Mapping[str, float], expected: str) -> float:
    found = re.fullmatch(r"([+-]?[0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([a-z]*)", text.strip().lower())
    if found is None or found[2] not in units:
        raise _refused(text, expected)
    return float(found[1]) * units[found[2]]


def size(*, least: int | None = None) -> Kind:
    """Bytes; ``64k`` is 65,536."""
    expected = "a size, such as 65536, 64k, 1m or 2g"

    def take(value: object) -> Any:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _refused(value, expected)
        return _within(value, least, None, None, " bytes")

    def read(text: str) -> Any:
        whole = re.fullmatch(r"[0-9]{1,18}", text)  # floats do not hold every whole number
        short = re.sub(r"(?<=[kmg])i?b$|(?<=[0-9])b$", "", text.strip().lower())
        measured = int(text) if whole else _measured(short, SIZES, expected)
        if measured != int(measured):
            raise _refused(text, "a whole number of bytes")
        return take(int(measured))

    def show(value: int) -> str:
        for unit in ("g", "m", "k"):
            if value and value % SIZES[unit] == 0:
                return f"{value // SIZES[unit]}{unit}"
        return str(value)

    return Kind("SIZE", read, take, show)


def _seconds_shown(value: float) -> str:
    if value and abs(value) < 1:
        return f"{value * 1000:g}ms"
    if value and value % 60 == 0 and value >= 120:
        return f"{value / 60:g}m"
    return f"{value:g}s"


def time(*, least: float | None = None, above: float | None = None) -> Kind:
    """Seconds; ``5m`` is 300, ``500ms`` is 0.5."""
    expected = "a time, such as 2, 2s, 500ms, 5m, 1h or 1d"

    def take(value: object) -> Any:
        if not _is_number(value):
            raise _refused(value, expected)
        return _within(float(value), least, None, above, " seconds")  # type: ignore[arg-type]

    return Kind("TIME", lambda text: take(_measured(text, TIMES, expected)), take, _seconds_shown)


def _switch() -> Kind:
    def take(value: object) -> bool:
        if not isinstance(value, bool):
            raise _refused(value, "true or false")
        return value

    def read(text: str) -> bool:
        word = text.strip().lower()
        if word not in YES + NO:
            raise _refused(text, "true or false (1, yes, on; 0, no, off)")
        return word in YES

    return Kind("", read, take, lambda value: "yes" if value else "no", is_switch=True)


SWITCH = _switch()


def choice(*names: str) -> Kind:
    """One of a few names."""
    one_of = f"one of {', '.join(names)}"

    def take(value: object) -> str:
        raise _refused(value, one_of)

    def read(text: str) -> str:
        if text not in names:
            raise _refused(text, one_of)
        return text

    return Kind("|".join(names), read, take, choices=names)


def _list(label: str, expected: str, *, files: bool = False) -> Kind:
    """Texts; on the command line several options or one with commas."""

    def take(value: object) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise _refused(value, f"a list of {expected}")
        return value

    def read(text: str) -> list[str]:
        items = [item.strip() for item in text.split(",")]
        if not all(items):
            raise _refused(text, f"a list of {expected} with commas between them")
        return items

    return Kind(label, read, take, lambda value: ",".join(map(str, value)), is_list=True, files=files)


ADDRESSES = _list("ADDRESS", "addresses")
NETWORKS = _list("NETWORK", "addresses and networks")
NAMES = _list("NAME", "names")
PATTERNS = _list("PATTERN", "patterns of file names")
FOLDERS = _list("DIR", "folders", files=True)


def _cpus() -> Kind:
    expected = "a list of CPU numbers, such as 0,2 or 0-3"

    def take(value: object) -> list[int]:
        if not isinstance(value, list) or not all(
            isinstance(item, int) and not isinstance(item, bool) for item in value
        ):
            raise _refused(value, expected)
        return value

    def read(text: str) -> list[int]:
        cpus: list[int] = []
        for part in text.split(","):
            found = re.fullmatch(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?\s*", part)
            first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
            if not first <= last < first + _MOST_CPUS:
                raise _refused(text, expected)
            cpus.extend(range(first, last + 1))
        return cpus

    return Kind("CPUS", read, take, lambda value: ",".join(map(str, value)), is_list=True)


CPUS = _cpus()


def _parts(label: str, readers: Sequence[Kind], expected: str) -> Kind:
    """A tuple; text has commas between its items."""

    def take(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) != len(readers):
            raise _refused(value, expected)
        try:
            return tuple(
                kind.read(item) if isinstance(item, str) else kind.take(item)
                for kind, item in zip(readers, value, strict=True)
            )
        except ValueError:
            raise _refused(value, expected) from None

    def read(text: str) -> tuple[Any, ...]:
        try:
            return take(text.split(","))
        except ValueError:
            raise _refused(text, expected) from None

    def show(value: Sequence[Any]) -> str:
        return ",".join(kind.show(item) for kind, item in zip(readers, value, strict=True))

    return Kind(label, read, take, show)


RATE = _parts("SIZE,TIME", (size(), time()), "bytes a second and seconds, such as 1k,20s")
KEEPALIVE = _parts(
    "TIME,TIME,N",
    (time(), time(), integer()),
    "the silence, the time between probes and their number, such as 60s,15s,4",
)


def _mode() -> Kind:
    expected = "a file mode, such as 660"

    def take(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _refused(value, expected)
        return value

    def read(text: str) -> int:
        if not re.fullmatch(r"(0o)?[0-7]{1,6}", text.strip()):
            raise _refused(text, expected)
        return int(text, 8)

    return Kind("MODE", read, take, lambda value: f"{value:o}")


MODE = _mode()


def _certificates() -> Kind:
    """Pairs of a certificate and a key, by the name of the host."""
    expected = "names with a certificate and a key, such as a.example=cert.pem,key.pem"

    def take(value: object) -> dict[str, tuple[str, str]]:
        if not isinstance(value, dict):
            raise _refused(value, expected)
        for pair in value.values():
            if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(item, str) and item for item in pair):
                raise _refused(pair, "a certificate and its key: two paths")
        return {name: (pair[0], pair[1]) for name, pair in value.items()}

    def read(text: str) -> dict[str, tuple[str, str]]:
        name, _, pair = text.partition("=")
        files = [item.strip() for item in pair.split(",")]
        if not name or len(files) != 2 or not all(files):
            raise _refused(text, expected)
        return {name.strip(): (files[0], files[1])}

    return Kind("HOST=FILE,FILE", read, take, is_list=True, files=True)


CERTIFICATES = _certificates()
