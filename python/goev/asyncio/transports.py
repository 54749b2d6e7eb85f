"""asyncio's socket transports with two paths in Rust: bytes that arrive, and ``write``."""

import asyncio
from asyncio import selector_events
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from goev._core import _speed_up

# asyncio has no public name for it. A version without it keeps its transports as they are.
_Stock: Any = getattr(selector_events, "_SelectorSocketTransport", asyncio.Transport)


class SocketTransport(_Stock):  # type: ignore[misc]
    """The socket transport of asyncio's selector loops. All but its hot paths is theirs."""

    __slots__ = ()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """As in asyncio."""
        super().write(data)  # goev replaces it

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """As in asyncio, which forgets to pause the protocol from CPython 3.12.0 to 3.13.1 (CVE-2024-12254)."""
        super().writelines(list_of_data)
        self._maybe_pause_protocol()


def quickened(transport: Any) -> Any:
    """A transport that asyncio has just made, with the faster paths."""
    if type(transport) is _Stock:
        transport.__class__ = SocketTransport
    return transport


with suppress(AttributeError):
    _speed_up(SocketTransport)
