"""``goev.asyncio.serve``: servers of handlers and of channels on one loop, faults, and the end with a grace."""

import asyncio
import contextvars
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websockets
import websockets.asyncio.client
from wires import client_context, server_context

import goev
import goev.asyncio
from channel_support import FRAMES, client_of, on_loop, reset, served, settled
from goev.asyncio import Channel, ChannelClosed, WebSocketChannel
from support import LOCAL, Client, Echo, Server, eventually, names, settled_fds, text_of


async def echo(channel: Channel) -> None:
    async for piece in channel:
        channel.write(piece)
        await channel.drain()


async def echo_messages(channel: Channel) -> None:
    async for message in channel:
        await channel.send(message)


# ---- the two styles -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [Echo, echo])
@on_loop
async def test_a_class_and_a_coroutine_serve_on_the_loop(target: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    async with served(target, [LOCAL, f"unix:{path}"]) as server:
        assert server.address == server.addresses[0]
        assert server.addresses[1] == path
        for reader, writer in [await client_of(server), await asyncio.open_unix_connection(path)]:
            writer.write(b"abc")
            assert await reader.readexactly(3) == b"abc"
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()


@on_loop
async def test_messages_over_many_connections_each_in_order() -> None:
    async with served(echo_messages, framing=FRAMES) as server:

        async def client() -> None:
            async with goev.asyncio.connect(text_of(server.address), framing=FRAMES) as channel:
                for number in range(200):
                    await channel.send(b"%d" % number)
                assert [await channel.receive() for _ in range(200)] == [b"%d" % number for number in range(200)]

        await asyncio.gather(*[client() for _ in range(20)])


@on_loop
async def test_tls_with_python_s_ssl_as_the_client() -> None:
    async with served(echo, tls=server_context()) as server:
        reader, writer = await asyncio.open_connection(
            *server.address, ssl=client_context(), server_hostname="localhost"
        )
        writer.write(b"secret")
        assert await reader.readexactly(6) == b"secret"
        writer.close()
        await writer.wait_closed()


@on_loop
async def test_websockets_with_the_websockets_library_as_the_client() -> None:
    seen: list[WebSocketChannel] = []

    async def handle(channel: WebSocketChannel) -> None:
        seen.append(channel)
        await echo_messages(channel)

    class Chat(goev.websocket.Connection):
        subprotocols = ("chat",)

        def on_handshake(self, request: goev.http.Request) -> bool:
            return request.path != "/no"

    connect = websockets.asyncio.client.connect
    async with served(handle, websocket=Chat) as server:
        url = f"ws://{text_of(server.address)}"
        async with connect(f"{url}/yes?1", subprotocols=[websockets.Subprotocol("chat")]) as client:
            for message in ("text", b"bytes"):
                await client.send(message)
                assert await client.recv() == message
            assert client.subprotocol == "chat"
            await client.close(4000, "enough")
        assert await seen[0].closed() is None
        assert (seen[0].close_code, seen[0].close_reason, seen[0].subprotocol) == (4000, "enough", "chat")
        assert seen[0].request is not None
        assert seen[0].request.target == "/yes?1"
        with pytest.raises(websockets.InvalidStatus, match="403"):
            await connect(f"{url}/no")


@on_loop
async def test_wss_with_the_websockets_library_as_the_client() -> None:
    async with served(echo_messages, websocket=True, tls=server_context()) as server:
        url = f"wss://localhost:{server.address[1]}/"
        async with websockets.asyncio.client.connect(url, ssl=client_context()) as client:
            await client.send("secret")
            assert await client.recv() == "secret"


# ---- ends of connections --------------------------------------------------------------------------------------------


@on_loop
async def test_the_channel_is_closed_when_the_function_returns() -> None:
    async def greet(channel: Channel) -> None:
        channel.write(bytes(1_000_000))

    async with served(greet) as server:
        reader, writer = await client_of(server)
        assert await reader.read() == bytes(1_000_000)
        writer.close()


@pytest.mark.parametrize("websocket", [False, True])
@on_loop
async def test_an_exception_is_logged_with_the_peer_and_ends_that_connection_alone(websocket: bool, log: Any) -> None:
    async def fail(channel: Channel) -> None:
        async for message in channel:
            if message == b"fail":
                raise ZeroDivisionError("a bug")
            await channel.send(message)

    options: dict[str, Any] = {"websocket": True} if websocket else {"framing": FRAMES}
    async with served(fail, **options) as server:
        address = text_of(server.address)
        where, given = (f"ws://{address}/", {}) if websocket else (address, {"framing": FRAMES})
        good, bad = await goev.asyncio.connect(where, **given), await goev.asyncio.connect(where, **given)
        peer = text_of(bad.local_address)
        await bad.send(b"fail")
        with pytest.raises(ChannelClosed):
            await bad.receive()
        if isinstance(bad, WebSocketChannel):
            assert bad.close_code == 1011
        record, text = await asyncio.to_thread(log.next)
        assert names(text, "exception in", "fail with 127.0.0.1:", "ZeroDivisionError: a bug")
        assert record.peer == peer  # type: ignore[attr-defined]
        await good.send(b"on")
        assert await good.receive() == b"on"
        good.close()


@on_loop
async def test_a_peer_that_goes_away_is_not_logged() -> None:
    ended = asyncio.get_running_loop().create_future()

    async def wait(channel: Channel) -> None:
        try:
            await channel.read_exactly(3)
        except ChannelClosed as error:
            ended.set_result(error.__cause__)
            raise

    async with served(wait) as server:
        _, writer = await client_of(server)
        reset(writer)
        assert isinstance(await ended, ConnectionResetError)


@on_loop
async def test_a_task_that_is_cancelled_resets_its_connection() -> None:
    running: asyncio.Queue[Any] = asyncio.Queue()

    async def hang(channel: Channel) -> None:
        running.put_nowait(asyncio.current_task())
        channel.write(b"a part")
        await channel.read()

    async with served(hang) as server:
        reader, writer = await client_of(server)
        assert await reader.readexactly(6) == b"a part"
        (await running.get()).cancel()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


@on_loop
async def test_each_task_has_the_context_of_its_connection() -> None:
    variable = contextvars.ContextVar("variable", default="none")

    async def handle(channel: Channel) -> None:
        before = variable.get()
        variable.set("set")
        channel.write(before.encode())

    async with served(handle) as server:
        for _ in range(2):
            reader, writer = await client_of(server)
            assert await reader.read() == b"none"
            writer.close()


# ---- the end of the server ------------------------------------------------------------------------------------------


@on_loop
async def test_a_server_that_closes_lets_functions_come_to_their_end() -> None:
    async def summary(channel: Channel) -> None:
        count = 0
        async for _ in channel:
            count += 1
            await channel.send(b"got it")
        await asyncio.sleep(0.02)
        await channel.send(b"%d messages" % count)

    server = await goev.asyncio.serve(summary, LOCAL, framing=FRAMES)
    async with goev.asyncio.connect(text_of(server.address), framing=FRAMES) as channel:
        await channel.send(b"one")
        assert await channel.receive() == b"got it"
        server.close()
        server.close()
        assert await channel.receive() == b"1 messages"
        with pytest.raises(ChannelClosed):
            await channel.receive()
    await server.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await goev.asyncio.connect(text_of(server.address))


@on_loop
async def test_a_websocket_hears_that_the_server_goes_away() -> None:
    server = await goev.asyncio.serve(echo_messages, LOCAL, websocket=True)
    channel = await goev.asyncio.connect(f"ws://{text_of(server.address)}/")
    await channel.send("one")
    assert await channel.receive() == "one"
    server.close()
    assert [message async for message in channel] == []
    assert channel.close_code == 1001  # type: ignore[attr-defined]
    await server.wait_closed()


@on_loop
async def test_a_function_that_does_not_end_is_cancelled_after_the_grace() -> None:
    ends: list[str] = []

    async def hang(channel: Channel) -> None:
        channel.write(b"a part")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    before = time.monotonic()
    async with goev.asyncio.serve(hang, LOCAL, grace=0.1) as server:
        reader, writer = await client_of(server)
        assert await reader.readexactly(6) == b"a part"
    assert ends == ["cancelled"]
    assert time.monotonic() - before >= 0.1
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


class Stays(goev.Connection):
    """Stays open when it is asked to end."""

    def on_open(self) -> None:
        self.write(b"hello")

    def on_stopping(self) -> None:
        self.write(b"not yet")


@on_loop
async def test_handlers_are_asked_to_end_and_aborted_after_the_grace() -> None:
    async with goev.asyncio.serve(Stays, LOCAL, grace=0.1) as server:
        reader, writer = await client_of(server)
        assert await reader.readexactly(5) == b"hello"
        answer = asyncio.create_task(reader.readexactly(7))
    assert await answer == b"not yet"
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


@on_loop
async def test_only_the_connections_of_that_server_end() -> None:
    async with served(echo) as other, served(Echo) as third:
        reader, writer = await client_of(other)
        async with goev.asyncio.serve(Echo, LOCAL) as server:
            closing = await client_of(server)
            closing[1].write(b"open")
            assert await closing[0].readexactly(4) == b"open"
        assert await closing[0].read() == b""
        closing[1].close()
        for stream in ((reader, writer), await client_of(third)):
            stream[1].write(b"goes on")
            assert await stream[0].readexactly(7) == b"goes on"
            stream[1].close()


class First(goev.Connection):
    """Lets another handler take over."""

    def on_read(self) -> None:
        self.hand_over(Stays())


@on_loop
async def test_handlers_that_took_over_belong_to_the_server_too() -> None:
    async with goev.asyncio.serve(First, LOCAL, grace=0) as server:
        reader, writer = await client_of(server)
        writer.write(b"x")
        assert await reader.readexactly(5) == b"hello"
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


class Slow(goev.http.Connection):
    """Answers after a while."""

    async def on_request(self, request: goev.http.Request) -> None:
        await asyncio.sleep(0.05)
        request.respond(200, {}, b"answer")


@on_loop
async def test_requests_are_answered_before_the_server_is_closed() -> None:
    async with goev.asyncio.serve(Slow, LOCAL) as server:
        reader, writer = await client_of(server)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await asyncio.sleep(0.01)
    assert (await reader.read()).endswith(b"answer")
    writer.close()


@on_loop
async def test_serve_forever_closes_the_server_when_it_is_cancelled() -> None:
    server = await goev.asyncio.serve(echo, LOCAL)
    serving = asyncio.create_task(server.serve_forever())
    reader, writer = await client_of(server)
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    serving.cancel()
    await asyncio.wait([serving])
    assert serving.cancelled()
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await client_of(server)


@on_loop
async def test_serve_forever_returns_when_the_server_is_closed() -> None:
    server = await goev.asyncio.serve(Echo, LOCAL)
    serving = asyncio.create_task(server.serve_forever())
    await settled()
    server.close()
    await serving


# ---- many -----------------------------------------------------------------------------------------------------------


def test_nothing_is_left_of_many_connections() -> None:
    async def hello(channel: Channel) -> None:
        await channel.send(await channel.receive())

    async def rounds(server: goev.asyncio.Server, count: int) -> None:
        for _ in range(count):
            async with goev.asyncio.connect(text_of(server.address), framing=FRAMES) as channel:
                await channel.send(b"x")
                assert await channel.receive() == b"x"

    def alive() -> int:
        gc.collect()
        return sum(isinstance(thing, (Channel, goev.Connection, asyncio.Task)) for thing in gc.get_objects())

    async def main() -> None:
        async with served(hello, framing=FRAMES) as server:
            await rounds(server, 3)
            before = alive()
            await rounds(server, 200)
            await settled()
            assert alive() <= before + 2

    fds = settled_fds()
    goev.asyncio.run(main())
    eventually(lambda: settled_fds() <= fds, "all descriptors are closed")


def test_a_loop_that_ends_inside_the_block_leaves_nothing() -> None:
    async def hang(channel: Channel) -> None:
        await channel.read()

    async def main() -> None:
        server = await goev.asyncio.serve(hang, LOCAL)
        await goev.asyncio.connect(text_of(server.address))
        await settled(20)

    fds = settled_fds()
    goev.asyncio.run(main())
    eventually(lambda: settled_fds() <= fds, "all descriptors are closed")


# ---- wrong use ------------------------------------------------------------------------------------------------------


@on_loop
async def test_wrong_arguments_are_named() -> None:
    for target, options, error, words in [
        (Echo, {"framing": FRAMES}, ValueError, ["framing", "Echo"]),
        (Echo, {"websocket": True}, ValueError, ["websocket", "Echo"]),
        (echo, {"websocket": Echo}, TypeError, ["websocket", "Echo"]),
        (echo, {"websocket": True, "framing": FRAMES}, ValueError, ["framing", "websocket"]),
        (echo, {"grace": -1}, ValueError, ["grace", "-1"]),
        (echo, {"grace": float("nan")}, ValueError, ["grace", "nan"]),
        (echo, {"backlg": 1}, TypeError, ["backlg"]),
        (echo, {"connection_reactor": goev.asyncio.reactor()}, ValueError, ["connection_reactor"]),
        (1, {}, TypeError, ["1", "async def"]),
    ]:
        with pytest.raises(error) as raised:
            await goev.asyncio.serve(target, LOCAL, **options)  # type: ignore[arg-type]
        assert names(raised.value, *words)


@on_loop
async def test_an_address_in_use_raises_at_the_call() -> None:
    async with served(echo) as server:
        with pytest.raises(OSError, match="Address already in use"):
            await goev.asyncio.serve(echo, text_of(server.address))


def test_another_loop_is_refused() -> None:
    async def main() -> None:
        await goev.asyncio.serve(Echo, LOCAL)

    with pytest.raises(RuntimeError, match="EventLoop must run here"):
        asyncio.run(main())


class Asks(goev.Connection):
    """Asks another server by a channel, on the loop of its own poller."""

    other = ""

    async def on_read(self) -> None:
        async with goev.asyncio.connect(self.other) as channel:
            channel.write(self.read())
            self.write(await channel.read_exactly(3))


class Serves(goev.Connection):
    """Tries to serve on a loop whose reactor has other pollers."""

    async def on_read(self) -> None:
        self.read()
        try:
            await goev.asyncio.serve(Echo, LOCAL)
        except RuntimeError as error:
            self.write(str(error).encode())
        self.close()


def test_each_loop_of_a_reactor_has_its_channels(start: Callable[..., Server]) -> None:
    Asks.other = text_of(start(Echo).address)
    with goev.Reactor(pollers=2, asyncio=True) as reactor:
        acceptor = goev.Acceptor(reactor, LOCAL, Asks)
        reactor.start()
        for _ in range(4):
            with Client(acceptor.address) as client:
                assert client.ask(b"abc") == b"abc"


def test_a_loop_that_shares_its_reactor_cannot_serve() -> None:
    with goev.Reactor(pollers=2, asyncio=True) as reactor:
        acceptor = goev.Acceptor(reactor, LOCAL, Serves)
        reactor.start()
        with Client(acceptor.address) as client:
            client.send(b"x")
            assert names(client.receive_all(), "a reactor with 2 pollers", "goev.asyncio.run()")
