"""A network of its own for one machine, with a link to this one that loses packets without a word, one way or both."""

import itertools
import os
import subprocess
from contextlib import ExitStack

import pytest

from support import need

NUMBERS = itertools.count(os.getpid() % 200)
NOWHERE = "02:00:00:00:00:99"


class Namespace:
    """A network namespace. The test is skipped where none can be made.

    Each end of the link has two addresses: one for clients and machine, and one for engine and machine. Packets of the
    latter are lost when their neighbour has a false hardware address.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._ip = need("ip", "iproute2")
        number = next(NUMBERS)
        self.name, self._here, self._there = f"goev{number}", f"gv{number}a", f"gv{number}b"
        net = f"10.211.{number % 256}"
        self.host, self.engine, self._machine = f"{net}.2", f"{net}.3", f"{net}.4"
        if os.geteuid() != 0 or not self._may("netns", "add", self.name):
            pytest.skip("this user may not make network namespaces (ip netns add)")
        stack.callback(self._may, "netns", "del", self.name)
        peer = ("peer", "name", self._there, "address", "02:00:00:00:00:02", "netns", self.name)
        if not self._may("link", "add", self._here, "address", "02:00:00:00:00:01", "type", "veth", *peer):
            pytest.skip("this kernel has no veth")
        stack.callback(self._may, "link", "del", self._here)
        for address in (f"{net}.1", self.engine):
            self._run("addr", "add", f"{address}/29", "dev", self._here)
        self._run("link", "set", self._here, "up")
        for address in (self.host, self._machine):
            self._run("addr", "add", f"{address}/29", "dev", self._there, inside=True)
        for device in ("lo", self._there):
            self._run("link", "set", device, "up", inside=True)
        self._run("route", "add", self.engine, "dev", self._there, "src", self._machine, inside=True)

    def _may(self, *arguments: str) -> bool:
        return subprocess.run([self._ip, *arguments], stderr=subprocess.DEVNULL, check=False).returncode == 0

    def _run(self, *arguments: str, inside: bool = False) -> None:
        subprocess.run([self._ip, *(("-n", self.name) if inside else ()), *arguments], check=True)

    @property
    def prefix(self) -> list[str]:
        """The words before a command that runs inside."""
        return [self._ip, "netns", "exec", self.name]

    def _neighbour(self, way: str, hardware: str) -> None:
        address, device, inside = (
            (self.engine, self._there, True) if way == "up" else (self._machine, self._here, False)
        )
        state = ("lladdr", hardware, "dev", device, "nud", "permanent")
        self._run("neigh", "replace", address, *state, inside=inside)

    def freeze(self, way: str = "") -> None:
        """Lose the packets to the engine (``"up"``), from it (``"down"``), or both."""
        for each in [way] if way else ["up", "down"]:
            self._neighbour(each, NOWHERE)

    def heal(self) -> None:
        self._neighbour("up", "02:00:00:00:00:01")
        self._neighbour("down", "02:00:00:00:00:02")
