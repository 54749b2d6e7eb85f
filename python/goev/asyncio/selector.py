"""The selector of the event loop: a poller, in which asyncio's descriptors are guests."""

import selectors
from collections.abc import Iterator, Mapping
from contextlib import suppress
from selectors import SelectorKey
from typing import Any

from goev._core import Turns


class PollerSelector(Turns, selectors.BaseSelector):
    """A selector whose ``select`` runs turns of the poller of ``reactor``: wait, read, callbacks, flush."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        key = SelectorKey(fileobj, self._descriptor(fileobj), _checked(events), data)
        if key.fd in self.keys:
            raise KeyError(f"{fileobj!r} (FD {key.fd}) is already registered")
        self.watch(key.fd, events)
        self.keys[key.fd] = key
        return key

    def unregister(self, fileobj: Any) -> SelectorKey:
        key = self.get_key(fileobj)
        del self.keys[key.fd]
        with suppress(OSError):  # the descriptor was closed before, and so has left the poll
            self.unwatch(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        key = self.get_key(fileobj)
        if _checked(events) != key.events:
            self.rewatch(key.fd, events)
        changed = self.keys[key.fd] = key._replace(events=events, data=data)
        return changed

    def get_key(self, fileobj: Any) -> SelectorKey:
        try:
            return self.keys[self._descriptor(fileobj)]
        except KeyError:
            raise KeyError(f"{fileobj!r} is not registered") from None

    def get_map(self) -> Mapping[Any, SelectorKey]:
        return _Registered(self)

    def close(self) -> None:
        self.keys.clear()
        super().close()

    def _descriptor(self, fileobj: Any) -> int:
        """Also that of a registered object that was closed, and so has none any more."""
        if isinstance(fileobj, int):
            fd = fileobj
        else:
            try:
                fd = int(fileobj.fileno())
            except (AttributeError, TypeError, ValueError):
                raise ValueError(f"invalid file object: {fileobj!r}") from None
        if fd >= 0:
            return fd
        for key in self.keys.values():
            if key.fileobj is fileobj:
                return key.fd
        raise ValueError(f"invalid file descriptor: {fd}")


class _Registered(Mapping[Any, SelectorKey]):
    """The registered file objects and their keys."""

    def __init__(self, selector: PollerSelector) -> None:
        self._selector = selector

    def __len__(self) -> int:
        return len(self._selector.keys)

    def __getitem__(self, fileobj: Any) -> SelectorKey:
        return self._selector.get_key(fileobj)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._selector.keys)


def _checked(events: int) -> int:
    if not events or events & ~(selectors.EVENT_READ | selectors.EVENT_WRITE):
        raise ValueError(f"invalid events: {events!r}")
    return events
