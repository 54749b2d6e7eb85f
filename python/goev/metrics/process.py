"""Figures of this process, as the kernel keeps them: proc(5)."""

import os
import resource
from pathlib import Path
from typing import TypedDict

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessFigures(TypedDict):
    """A process.

    Keys:
        pid: its number.
        cpu_seconds: processor time of all its threads, user and system.
        resident_bytes: resident memory.
        open_fds: open descriptors.
        max_fds: the soft limit of descriptors, infinite without one.
        start_time: seconds since 1970.
        threads: its threads.
    """

    pid: int
    cpu_seconds: float
    resident_bytes: int
    open_fds: int
    max_fds: float
    start_time: float
    threads: int


def process_figures() -> ProcessFigures:
    """The figures of this process now."""
    # The name of the program is the second field, in parentheses, and may hold anything.
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ProcessFigures(
        pid=os.getpid(),
        cpu_seconds=(int(fields[11]) + int(fields[12])) / TICKS,
        resident_bytes=int(fields[21]) * PAGE,
        open_fds=len(os.listdir("/proc/self/fd")) - 1,  # without the descriptor of this listing
        max_fds=float("inf") if soft == resource.RLIM_INFINITY else float(soft),
        start_time=boot_time() + int(fields[19]) / TICKS,
        threads=int(fields[17]),
    )


def boot_time() -> int:
    """The start of the system, in seconds since 1970."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    return 0
