"""CPU time and memory of the processes of one session, as Linux reports them."""

import resource
from collections.abc import Iterator
from os import sysconf
from pathlib import Path

_TICKS_PER_SECOND = sysconf("SC_CLK_TCK")
# Places in /proc/PID/stat, counted from the field after the command's name.
_SESSION, _USER_TICKS, _SYSTEM_TICKS = 3, 11, 12


def cpu_seconds(session: int) -> float:
    """User and system time of all threads of all processes of the session."""
    ticks = sum(int(stat[_USER_TICKS]) + int(stat[_SYSTEM_TICKS]) for _, stat in _processes(session))
    return ticks / _TICKS_PER_SECOND


def resident_bytes(session: int) -> int:
    """Resident memory of all processes of the session."""
    return sum(_resident_bytes(folder) for folder, _ in _processes(session))


def raise_file_limit() -> int:
    """Raises the limit of open files of this process and its children to the hard limit, and returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _processes(session: int) -> Iterator[tuple[Path, list[str]]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # the process has ended meanwhile
            continue
        if int(stat[_SESSION]) == session:
            yield folder, stat


def _resident_bytes(folder: Path) -> int:
    lines = (folder / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))
