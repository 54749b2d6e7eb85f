"""Tracebacks in colour, for every process of a service and every formatter.

The colours are the ones of CPython 3.13. ``Painter`` looks at lines of text only, so it needs no part in the logging of
the processes that it reads from.
"""

import os
import re
import sys
from typing import TextIO

_RED, _MAGENTA, _BOLD, _END = "\x1b[31m", "\x1b[35m", "\x1b[1;35m", "\x1b[0m"
_HEAD = "Traceback (most recent call last):"
_FRAME = re.compile(r'(?P<indent>[ |+-]*)File (?P<file>"[^"]*"), line (?P<line>\d+)(?:, in (?P<name>.*))?$')
_MARKS = re.compile(r"[ |]*[~^]+[~^ ]*$")
_ERROR = re.compile(r"(?P<indent>[ |]*)(?P<kind>[A-Za-z_][\w.]*)(?P<rest>: .*)?$")


def are_wanted(stream: TextIO) -> bool:
    """Whether a stream shows colours: ``NO_COLOR``, ``FORCE_COLOR``, ``TERM``, and whether it is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class Painter:
    """Colours one stream, line by line. Lines outside of tracebacks stay as they are."""

    def __init__(self) -> None:
        self._inside = False

    def paint(self, line: str) -> str:
        """A line without its end, in colour."""
        if frame := _FRAME.match(line):  # a SyntaxError begins without the head
            self._inside = True
            where = f"File {_MAGENTA}{frame['file']}{_END}, line {_MAGENTA}{frame['line']}{_END}"
            return frame["indent"] + where + (f", in {_MAGENTA}{frame['name']}{_END}" if frame["name"] else "")
        if _HEAD in line:
            self._inside = True
            return line
        if not self._inside:
            return line
        if _MARKS.match(line):
            return f"{_RED}{line}{_END}"
        if line[:1] not in (" ", "|") and (error := _ERROR.match(line)):
            self._inside = False
            rest = f": {_MAGENTA}{error['rest'][2:]}{_END}" if error["rest"] else ""
            return f"{error['indent']}{_BOLD}{error['kind']}{_END}{rest}"
        return line


def copy(source: int) -> None:
    """Copy a pipe to standard error in colour, until its end."""
    painter = Painter()
    with open(source, encoding="utf-8", errors="backslashreplace", newline="\n") as lines:
        for line in lines:
            sys.stderr.write(painter.paint(line.rstrip("\n")) + "\n" * line.endswith("\n"))
            sys.stderr.flush()
