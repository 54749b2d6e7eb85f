"""A server on the running event loop: of handlers, or of coroutines with channels."""

import logging
import socket
from asyncio import CancelledError, Event, Task, get_running_loop, sleep, timeout, wait
from collections.abc import Awaitable, Callable
from contextlib import suppress
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeGuard, cast

from goev import websocket as websockets
from goev._core import Acceptor, Connection, Reactor
from goev.asyncio.channel import Channel, WebSocketChannel
from goev.asyncio.connecting import MAX_INPUT
from goev.asyncio.ended import ChannelClosed
from goev.asyncio.feeds import BytesFeed, Feed, MessagesFeed, WebSocketFeed
from goev.asyncio.loop import reactor
from goev.asyncio.opening import Opening

Handle: TypeAlias = Callable[[Any], Awaitable[object]]
_Address: TypeAlias = str | socket.socket | list[str | socket.socket]

STEP = 0.01  # seconds between two looks at connections that are ending


def serve(
    target: Callable[[], Connection] | Handle,
    address: _Address = ":8080",
    *,
    framing: Any = None,
    websocket: bool | type[websockets.Connection] = False,
    grace: float = 5.0,
    **options: Any,
) -> Opening["Server"]:
    """Serve on the running ``EventLoop``: ``await`` it for a ``Server``, or write ``async with`` before it.

    Args:
        target: a ``Connection`` subclass, or another factory of handlers, as for ``Acceptor``; or an ``async def``
            function, which a task calls with the ``Channel`` of each connection. The channel is closed when it
            returns. An exception is logged (logger ``goev``, with the peer) and ends that connection; the
            ``ChannelClosed`` of a stream that has ended is not logged. A task that is cancelled resets its connection.
        address: as for ``Acceptor``, or a list of such.
        framing: of the channels: as the attribute of ``goev.Connection``; ``None``: they carry bytes.
        websocket: whether the channels are WebSockets. A subclass of ``goev.websocket.Connection`` says how: its
            attributes and its ``on_handshake`` hold; its other callbacks are not called.
        grace: seconds, >= 0, in which connections may come to their end when the server is closed.
        **options: the keyword arguments of ``Acceptor``; ``auto_pause`` is False for channels.

    Raises:
        OSError: the address cannot be bound.
        TypeError, ValueError: an argument is wrong.
        RuntimeError: no ``EventLoop`` runs on this thread.
    """
    if not grace >= 0:
        raise ValueError(f"grace must be 0 seconds or more, not {grace}")
    if options.get("connection_reactor") is not None:
        raise ValueError(
            "connection_reactor is for goev.Acceptor: the connections of serve() belong to the running loop"
        )
    if _is_async(target):
        feed = _feed_of(websocket, framing)
        return Opening(_serve_channels(target, address, feed, framing, grace, {"auto_pause": False, **options}))
    if not callable(target):
        raise TypeError(f"target must be a goev.Connection subclass or an async def function, not {target!r}")
    if framing is not None or websocket:
        raise ValueError(
            f"framing and websocket are for an async def function; {target!r} makes handlers, which have their own"
        )
    return Opening(_serve_handlers(cast("Callable[[], Connection]", target), address, grace, options))


class Server:
    """The connections of one acceptor on an event loop.

    ``async with`` closes it at the end of the block, and waits until its connections have ended.
    """

    def __init__(self, acceptor: Acceptor, tasks: set[Task[None]], grace: float) -> None:
        self._acceptor = acceptor
        self._tasks = tasks
        self._grace = grace
        self._ending: Task[None] | None = None
        self._is_closed = Event()

    @property
    def address(self) -> Any:
        """As ``Acceptor.address``: with the port that the system chose."""
        return self._acceptor.address

    @property
    def addresses(self) -> list[Any]:
        """As ``Acceptor.addresses``."""
        return self._acceptor.addresses

    def close(self) -> None:
        """Stop listening, and let the open connections come to their end. May be called any number of times.

        Handlers get ``on_stopping``, or close, as by ``Reactor.stop``. Channels give what has come, and then the end of
        the stream. When ``grace`` is over, tasks are cancelled and connections aborted. ``wait_closed`` waits for it.
        """
        if self._ending is None:
            self._acceptor.close()
            self._ending = get_running_loop().create_task(self._end())

    async def wait_closed(self) -> None:
        """Wait until the server was closed and its connections have ended."""
        await self._is_closed.wait()

    async def serve_forever(self) -> None:
        """Wait as ``wait_closed`` does; close the server when that is cancelled."""
        try:
            await self.wait_closed()
        except CancelledError:
            self.close()
            await self.wait_closed()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        await self.wait_closed()

    async def _end(self) -> None:
        try:
            await sleep(0)  # connections that were accepted have their handlers then
            self._acceptor._stop()
            with suppress(TimeoutError):
                async with timeout(self._grace):
                    await self._all_ended()
            for task in self._tasks:
                task.cancel()
            self._acceptor._abort()
            await self._all_ended()
        finally:
            self._is_closed.set()

    async def _all_ended(self) -> None:
        while self._tasks:
            await wait(self._tasks)
        while self._acceptor._served():
            await sleep(STEP)


async def _serve_handlers(
    factory: Callable[[], Connection], address: _Address, grace: float, options: dict[str, Any]
) -> Server:
    return Server(Acceptor(_own_reactor(), address, factory, **options), set(), grace)


async def _serve_channels(
    handle: Handle, address: _Address, feed: type[Feed], framing: Any, grace: float, options: dict[str, Any]
) -> Server:
    loop, tasks = get_running_loop(), set[Task[None]]()
    most = options.get("max_input", MAX_INPUT)
    open_channel = WebSocketChannel if issubclass(feed, WebSocketFeed) else Channel

    def opened(made: Any, _: Exception | None) -> None:
        channel = open_channel(made)
        task = loop.create_task(_run(handle, channel))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def make() -> Feed:
        made = feed(loop, most, opened)
        if framing is not None:
            made.framing = framing
        return made

    return Server(Acceptor(_own_reactor(), address, make, **options), tasks, grace)


def _own_reactor() -> Reactor:
    """The reactor of the running loop, all of whose connections belong to this loop."""
    own = reactor()
    if own.pollers > 1:
        text = f"serve() needs a loop that has a reactor to itself; this one is of a reactor with {own.pollers} pollers"
        raise RuntimeError(f"{text}: use goev.Acceptor, or goev.asyncio.run() [GOEV109]")
    return own


async def _run(handle: Handle, channel: Channel) -> None:
    """One connection of a server, from its opening to its end."""
    try:
        await handle(channel)
        channel._leave()
    except CancelledError:
        channel.abort()  # the peer must not take a part for the whole
        raise
    except Exception as error:
        if not (isinstance(error, ChannelClosed) and channel.ended):
            _log(handle, channel, error)
        channel._leave(error)
    await channel.closed()


def _log(handle: Handle, channel: Channel, error: Exception) -> None:
    name, peer = getattr(handle, "__qualname__", type(handle).__name__), _text_of(channel.remote_address)
    extra = {"peer": peer, "callback": name}
    logging.getLogger("goev").error("exception in %s with %s", name, peer, exc_info=error, extra=extra)


def _text_of(address: Any) -> str:
    """A peer as goev's own records name it."""
    if isinstance(address, tuple):
        return f"{address[0]}:{address[1]}" if len(address) == 2 else f"[{address[0]}]:{address[1]}"
    return "a Unix-socket peer"


def _is_async(target: Any) -> TypeGuard[Handle]:
    return iscoroutinefunction(target) or iscoroutinefunction(getattr(type(target), "__call__", None))  # noqa: B004


def _feed_of(websocket: bool | type[websockets.Connection], framing: Any) -> type[Feed]:
    """The class of the handlers below channels."""
    if websocket is False:
        return BytesFeed if framing is None else MessagesFeed
    if framing is not None:
        raise ValueError(
            f"framing must be None with websocket, because a WebSocket has messages already, not {framing!r}"
        )
    if websocket is True:
        return WebSocketFeed
    if not (isinstance(websocket, type) and issubclass(websocket, websockets.Connection)):
        raise TypeError(f"websocket must be a bool or a subclass of goev.websocket.Connection, not {websocket!r}")
    return type(websocket.__name__, (WebSocketFeed, websocket), {})
