"""The listening sockets of a service. The supervisor opens them once, and they live as long as it does.

A TCP address has one socket for each place of a worker (``SO_REUSEPORT``), so that the kernel spreads the connections
and no worker takes connections of another. All workers share Unix sockets, sockets of systemd and sockets of a program.
"""

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from goev._core import _listen
from goev.service.systemd import inherited

SYSTEMD = "systemd:"  # before the number of a descriptor that systemd has opened
METRICS = "metrics"  # the name of a descriptor of systemd for the metrics
OF_PROCESS = ("cpu_steering", "reuse_port", "connection_reactor", "tls", "access_log")


class Address:
    """One address of the settings, with its sockets: one for each place, or a single one."""

    def __init__(self, key: str, sockets: list[socket.socket], *, is_shared: bool) -> None:
        self.key = key
        self.sockets = sockets
        self.is_shared = is_shared
        self.file = _file_of(sockets[0])

    @property
    def name(self) -> str:
        """The address as people write it, with the port that the system chose."""
        name = self.sockets[0].getsockname()
        if isinstance(name, bytes):
            return "unix:@" + name[1:].decode(errors="backslashreplace")
        if isinstance(name, str):
            return f"unix:{name}"
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

    def close(self) -> None:
        """Close the supervisor's copies."""
        for listener in self.sockets:
            listener.close()

    def remove_file(self) -> None:
        """Remove the file of a Unix socket that was made here, unless another one has its name meanwhile."""
        if self.file is None:
            return
        path, *identity = self.file
        with contextlib.suppress(OSError):
            found = os.lstat(path)
            if [found.st_dev, found.st_ino] == identity:
                os.unlink(path)


class Sockets:
    """All of them, opened by ``open``."""

    def __init__(self, addresses: list[Address], options: Mapping[str, Any], metrics: Address | None) -> None:
        self.addresses = addresses
        self.metrics = metrics
        self._options = options

    @classmethod
    def open(
        cls,
        listen: Sequence[Any],
        options: Mapping[str, Any],
        places: int,
        *,
        metrics: str | None = None,
        left: Mapping[str, Address] | None = None,
        left_metrics: Address | None = None,
    ) -> "Sockets":
        """Open them for so many places.

        Args:
            listen: addresses as for ``Acceptor``, and bound sockets. systemd's sockets replace them.
            options: the keyword arguments of ``Acceptor``; the options for connections are only checked.
            metrics: the address of the metrics; a socket of systemd with the name ``metrics`` replaces it.
            left: addresses that a program before has left; addresses that are not in ``listen`` are closed.
            left_metrics: the address of the metrics that it has left.

        Raises:
            OSError: an address cannot be bound, or another service listens on it.
            ValueError, TypeError: an argument is wrong.
        """
        options = {name: value for name, value in options.items() if name not in OF_PROCESS}
        given, left = inherited(), dict(left or {})
        passed_metrics = next((socket.socket(fileno=fd) for name, fd in given if name == METRICS), None)
        passed = {f"{SYSTEMD}{fd}": socket.socket(fileno=fd) for name, fd in given if name != METRICS}
        from_systemd = [key for key in left if key.startswith(SYSTEMD)]
        wanted: dict[str, Any] = (
            passed or {key: key for key in from_systemd} or {str(address): address for address in listen}
        )
        sockets = cls([], options, None)
        try:
            sockets.metrics = _of_metrics(metrics, passed_metrics, left_metrics)
            for key, address in wanted.items():
                sockets.addresses.append(left.pop(key) if key in left else sockets._opened(key, address, places))
        except BaseException:
            sockets.close()
            raise
        for unwanted in left.values():
            unwanted.close()
            unwanted.remove_file()
        return sockets

    def _opened(self, key: str, address: Any, places: int) -> Address:
        is_tcp = isinstance(address, str) and not address.startswith("unix:")
        options = self._options
        if not (isinstance(address, str) and address.startswith("unix:")):
            options = {name: value for name, value in options.items() if name != "unix_mode"}
        fds = _listen(address, count=places if is_tcp else 1, alone=not _has_port_0(address), **options)
        opened = Address(key, [socket.socket(fileno=fd) for fd in fds], is_shared=not is_tcp)
        if not isinstance(address, str):
            opened.file = None  # the program's
        return opened

    def of_place(self, place: int) -> list[socket.socket]:
        """The sockets that the worker of a place listens on. A place that is new gets its own."""
        for address in self.addresses:
            while not address.is_shared and len(address.sockets) <= place:
                text = with_port(address.key, address.sockets[0].getsockname()[1])
                (fd,) = _listen(text, count=1, alone=False, **self._options_of_tcp())
                address.sockets.append(socket.socket(fileno=fd))
        return [address.sockets[0 if address.is_shared else place] for address in self.addresses]

    def lent_of(self, place: int) -> list[socket.socket]:
        """The sockets on which no worker listens while the place has none."""
        own = [address for address in self.addresses if not address.is_shared]
        return [address.sockets[place] for address in own if place < len(address.sockets)]

    def _options_of_tcp(self) -> dict[str, Any]:
        return {name: value for name, value in self._options.items() if name != "unix_mode"}

    def close(self) -> None:
        """Close the supervisor's copies. Connections in a backlog that no worker shares are reset."""
        for address in self.addresses:
            address.close()
        if self.metrics is not None:
            self.metrics.close()

    def remove_files(self) -> None:
        for address in self.addresses:
            address.remove_file()
        if self.metrics is not None:
            self.metrics.remove_file()


def _of_metrics(wanted: str | None, passed: socket.socket | None, left: Address | None) -> Address | None:
    """The address of the metrics: from systemd, from a program before, or a new one."""
    if passed is not None:
        address = Address(SYSTEMD + METRICS, [passed], is_shared=True)
        address.file = None  # systemd's
        return address
    if left is not None:
        if left.key in (wanted, SYSTEMD + METRICS):
            return left
        left.close()
        left.remove_file()
    if wanted is None:
        return None
    (fd,) = _listen(wanted, count=1, alone=not _has_port_0(wanted))
    return Address(wanted, [socket.socket(fileno=fd)], is_shared=True)


def with_port(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"


def _has_port_0(address: Any) -> bool:
    return isinstance(address, str) and address.endswith(":0")


def _file_of(listener: socket.socket) -> tuple[str, int, int] | None:
    name = listener.getsockname()
    if not isinstance(name, str) or not name:
        return None
    with contextlib.suppress(OSError):
        found = os.lstat(name)
        return os.path.abspath(name), found.st_dev, found.st_ino
    return None


class Listening:
    """Where a service listens, for ``ready`` of ``goev.serve``: as ``Acceptor`` shows it."""

    def __init__(self, sockets: Sockets) -> None:
        names = [address.sockets[0].getsockname() for address in sockets.addresses]
        self.addresses = ["@" + os.fsdecode(name[1:]) if isinstance(name, bytes) else name for name in names]
        self.address = self.addresses[0]
