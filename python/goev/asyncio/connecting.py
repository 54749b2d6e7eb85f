"""An outgoing connection as a channel."""

from asyncio import CancelledError, Future, get_running_loop
from typing import Any

import goev.connecting
from goev import websocket
from goev._core import ClientContext
from goev.asyncio.channel import Channel, WebSocketChannel
from goev.asyncio.feeds import BytesFeed, Feed, MessagesFeed, WebSocketFeed
from goev.asyncio.loop import reactor
from goev.asyncio.opening import Opening

MAX_INPUT = 1024 * 1024  # bytes; the default of goev

# Options that a class of WebSockets has as attributes.
_OF_WEBSOCKETS = {"subprotocols", "compression", "max_message_size", "ping_interval", "ping_timeout"}


def connect(
    address: str | list[str],
    *,
    framing: Any = None,
    tls: bool | ClientContext | None = None,
    timeout: float = 10.0,
    **options: Any,
) -> Opening[Channel]:
    """Connect on the running ``EventLoop``: ``await`` it for a ``Channel``, or write ``async with`` before it.

    Cancelling gives the connect up.

    Args:
        address: as for ``goev.connect``: ``"example.com:80"``, ``"unix:/path"``, a list of them; or the URL of a
            WebSocket, ``"ws://…"`` or ``"wss://…"``, which makes it a ``WebSocketChannel``.
        framing: as the attribute of ``goev.Connection``; ``None``: the channel carries bytes.
        tls: as for ``goev.connect``: ``True``, or a ``goev.tls.ClientContext``.
        timeout: seconds for the host name, all addresses and all handshakes together, > 0.
        **options: as for ``goev.connect``; ``auto_pause`` is False. For a WebSocket those of
            ``goev.websocket.connect``, ``headers`` say, and the attributes ``subprotocols``, ``compression``,
            ``max_message_size``, ``ping_interval`` and ``ping_timeout`` of ``goev.websocket.Connection``.

    Raises:
        OSError: no connection came about; of several addresses the error of the last.
        goev.websocket.ProtocolError: the server refused the handshake (``HandshakeRefused``), or broke its rules.
        TypeError, ValueError: an argument is wrong.
        RuntimeError: no ``EventLoop`` runs on this thread.
    """
    is_url = isinstance(address, str) and address.startswith(("ws://", "wss://"))
    if is_url and framing is not None:
        raise ValueError(
            f"framing must be None for {address!r}, because a WebSocket has messages already, not {framing!r}"
        )
    # The two directions of a channel are independent; its own limits bound the input.
    options = {"auto_pause": False, "tls": tls, "timeout": timeout, **options}
    return Opening(_open_websocket(address, options) if is_url else _open(address, framing, options))


async def _open(address: str | list[str], framing: Any, options: dict[str, Any]) -> Channel:
    here, opened = reactor(), _Opened()
    feed = BytesFeed if framing is None else MessagesFeed
    made = feed(opened.loop, options.get("max_input", MAX_INPUT), opened.settle)
    made.framing = framing
    goev.connecting.connect(here, address, made, **options)
    await opened.wait(made)
    return Channel(made)


async def _open_websocket(url: Any, options: dict[str, Any]) -> Channel:
    here, opened = reactor(), _Opened()
    made = WebSocketFeed(opened.loop, options.get("max_input", MAX_INPUT), opened.settle)
    for name in _OF_WEBSOCKETS & options.keys():
        setattr(made, name, options.pop(name))
    websocket.connect(here, url, made, **options)
    await opened.wait(made)
    return WebSocketChannel(made)


class _Opened:
    """The end of a connect, for the coroutine that waits for it."""

    def __init__(self) -> None:
        self.loop = get_running_loop()
        self._future: Future[None] = self.loop.create_future()

    def settle(self, feed: Feed, error: Exception | None) -> None:
        if self._future.cancelled():
            if error is None:
                feed.abort()
        elif error is None:
            self._future.set_result(None)
        else:
            self._future.set_exception(error)

    async def wait(self, feed: Feed) -> None:
        try:
            await self._future
        except CancelledError:
            if not self._future.cancelled() and self._future.exception() is None:
                feed.abort()  # it was opened in the same turn
            raise
