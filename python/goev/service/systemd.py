"""The messages between a service and its manager, both ways: sd_listen_fds(3), sd_notify(3).

Without a manager every function does nothing.
"""

import os
import socket
import time
from collections.abc import MutableMapping

FIRST = 3  # the number of the first descriptor that the manager passes


def inherited(environment: MutableMapping[str, str] = os.environ) -> list[tuple[str, int]]:
    """The descriptors that the manager opened for this process, with their names; the variables are removed.

    Raises ``ValueError`` if the variables are no numbers, or name descriptors that are not open.
    """
    pid, count, names = (environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if not count or not pid:
        return []
    try:
        mine, passed = int(pid) == os.getpid(), int(count)
    except ValueError:
        raise ValueError(f"LISTEN_PID and LISTEN_FDS must be numbers, not {pid!r} and {count!r}") from None
    if not mine:
        return []
    named = names.split(":") if names else []
    fds = range(FIRST, FIRST + passed)
    for fd in fds:
        try:
            os.set_inheritable(fd, False)
        except OSError:
            raise ValueError(f"LISTEN_FDS={passed}: descriptor {fd} is not open") from None
    return [(named[index] if index < len(named) else "", fd) for index, fd in enumerate(fds)]


class Manager:
    """The service manager, if there is one."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "") if mine else ""
        self.watchdog = int(microseconds) / 2e6 if microseconds.isdigit() else None
        """Seconds between two signs of life that the manager wants; ``None``: it wants none."""

    def tell(self, *lines: str) -> None:
        """Send assignments, ``"READY=1"`` say. A manager that is gone, or hears nothing, is no reason to end."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
                end.settimeout(1.0)
                end.sendto("\n".join(lines).encode(), address)
        except OSError:
            pass

    def ready(self, status: str) -> None:
        self.tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def stopping(self) -> None:
        self.tell("STOPPING=1", "STATUS=stopping")

    def alive(self) -> None:
        self.tell("WATCHDOG=1")
