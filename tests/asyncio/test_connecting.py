"""``goev.asyncio.connect``: addresses, TLS, WebSockets, failures, cancellation."""

import asyncio
import socket
import ssl
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import websockets.asyncio.server
from websockets.http11 import Request, Response
from wires import authority

import goev
import goev.asyncio
from channel_support import FRAMES, all_of, cancelled, on_loop, settled
from goev.asyncio import ChannelClosed, WebSocketChannel
from support import names, text_of


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server of asyncio's: lines come back in capitals."""
    with closing(writer):  # also when the test ends before the stream does
        while line := await reader.readline():
            writer.write(line.upper())


def secured(folder: Path) -> ssl.SSLContext:
    """Python's settings of a server on this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority().issue("localhost").files(folder))
    return context


@on_loop
async def test_every_kind_of_address_connects(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    over_tcp = await asyncio.start_server(upper, "127.0.0.1", 0)
    over_unix = await asyncio.start_unix_server(upper, path)
    async with over_tcp, over_unix:
        address = text_of(over_tcp.sockets[0].getsockname())
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            refusing = text_of(closed.getsockname())
        for where in (address, f"unix:{path}", [refusing, address]):
            async with goev.asyncio.connect(where) as channel:
                channel.write(b"abc\n")
                assert await channel.read_until() == b"ABC\n"


@on_loop
async def test_a_connect_that_fails_raises_the_error_of_the_system(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refusing = text_of(closed.getsockname())
    with pytest.raises(ConnectionRefusedError):
        await goev.asyncio.connect(refusing)
    with pytest.raises(FileNotFoundError):
        await goev.asyncio.connect(f"unix:{tmp_path}/nothing")
    with pytest.raises(ConnectionRefusedError):
        async with goev.asyncio.connect(f"ws://{refusing}/"):
            pytest.fail("there is no server")


@on_loop
async def test_wrong_arguments_are_named() -> None:
    for arguments, options, error, words in [
        (("localhost",), {}, ValueError, ["localhost"]),
        ((1,), {}, TypeError, ["address", "int"]),
        (("h:1",), {"timeout": 0}, ValueError, ["timeout", "0"]),
        (("h:1",), {"high_watr": 1}, TypeError, ["high_watr"]),
        (("h:1",), {"tls": 1}, TypeError, ["tls"]),
        (("ws://h/",), {"framing": FRAMES}, ValueError, ["framing", "ws://h/", "LengthPrefixed"]),
        (("ws://h/",), {"tls": True}, ValueError, ["tls=True", "ws://h/"]),
        (("ws://h/",), {"subprotocols": "chat"}, TypeError, ["subprotocols", "chat"]),
    ]:
        with pytest.raises(error) as raised:
            await goev.asyncio.connect(*arguments, **options)
        assert names(raised.value, *words)


def test_another_loop_is_refused() -> None:
    async def main() -> None:
        await goev.asyncio.connect(":1")

    with pytest.raises(RuntimeError, match="EventLoop must run here"):
        asyncio.run(main())


@on_loop
async def test_a_cancelled_connect_leaves_no_connection() -> None:
    ends: asyncio.Queue[bytes | Exception] = asyncio.Queue()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            ends.put_nowait(await reader.read())
        except ConnectionError as error:
            ends.put_nowait(error)
        writer.close()

    async with await asyncio.start_server(watch, "127.0.0.1", 0) as server:
        address = text_of(server.sockets[0].getsockname())
        for turns in range(4):
            connecting = asyncio.ensure_future(goev.asyncio.connect(address)._coroutine)
            await settled(turns)
            connecting.cancel()
            await asyncio.wait([connecting])
            if not connecting.cancelled():
                connecting.result().abort()
            if turns:  # before its first step nothing has begun
                assert isinstance(await ends.get(), (bytes, ConnectionError))


@on_loop
async def test_a_connect_takes_at_most_its_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://{text_of(silent.getsockname())}/"
        with pytest.raises(TimeoutError):
            await goev.asyncio.connect(url, timeout=0.05)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await goev.asyncio.connect(url)


@on_loop
async def test_tls_against_python_s_ssl(tmp_path: Path) -> None:
    async with await asyncio.start_server(upper, "127.0.0.1", 0, ssl=secured(tmp_path)) as server:
        port = server.sockets[0].getsockname()[1]
        context = goev.tls.ClientContext(ca=authority().pem)
        async with goev.asyncio.connect(f"localhost:{port}", tls=context) as channel:
            channel.write(b"abc\n")
            assert await channel.read_until() == b"ABC\n"
            assert channel.tls is not None
            assert channel.tls.version == "TLSv1.3"
        with pytest.raises(goev.tls.CertificateError):
            await goev.asyncio.connect(f"localhost:{port}", tls=True)


# ---- WebSockets -----------------------------------------------------------------------------------------------------


async def echo(socket: websockets.asyncio.server.ServerConnection) -> None:
    async for message in socket:
        match message:
            case "close":
                await socket.close(1000, "done")
            case "fail":
                await socket.close(4001, "no more")
            case _:
                await socket.send(message)


def websocket_server(**options: Any) -> Any:
    return websockets.asyncio.server.serve(echo, "127.0.0.1", 0, **options)


def url_of(server: Any, scheme: str = "ws") -> str:
    return f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}/"


@on_loop
async def test_text_and_bytes_go_to_the_websockets_library_and_back() -> None:
    async with websocket_server(subprotocols=["chat"]) as server:
        async with goev.asyncio.connect(url_of(server), subprotocols=("chat",), headers={"Origin": "here"}) as channel:
            assert isinstance(channel, WebSocketChannel)
            assert channel.subprotocol == "chat"
            for message in ("text", "ünï", b"bytes", "", bytes(100_000)):
                await channel.send(message)
                assert await channel.receive() == message
            assert channel.close_code is None
        assert channel.close_code == 1000


@on_loop
async def test_an_orderly_close_of_a_websocket_ends_the_loop_and_another_raises() -> None:
    async with websocket_server() as server:
        channel = await goev.asyncio.connect(url_of(server))
        await channel.send("one")
        await channel.send("close")
        assert [message async for message in channel] == ["one"]
        assert (channel.close_code, channel.close_reason) == (1000, "done")  # type: ignore[attr-defined]
        with pytest.raises(ChannelClosed, match="code 1000: done"):
            await channel.receive()
        channel = await goev.asyncio.connect(url_of(server))
        await channel.send("fail")
        with pytest.raises(ChannelClosed, match="closed with code 4001: no more"):
            await all_of(channel)
        with pytest.raises(ChannelClosed):
            await channel.send("late")


@on_loop
async def test_a_websocket_has_no_bytes() -> None:
    async with websocket_server() as server, goev.asyncio.connect(url_of(server)) as channel:
        with pytest.raises(RuntimeError, match="a WebSocket has messages"):
            channel.write(b"x")
        with pytest.raises(RuntimeError, match="a WebSocket is closed as a whole"):
            channel.shutdown_write()
        with pytest.raises(TypeError, match="this channel has messages"):
            await channel.read()
        with pytest.raises(ValueError, match="code must be"):
            channel.close(999)  # type: ignore[call-arg]
        await channel.send("still there")
        assert await channel.receive() == "still there"


@on_loop
async def test_a_refused_handshake_raises_with_its_status() -> None:
    def refuse(_: Any, __: Request) -> Response:
        return Response(HTTPStatus.UNAUTHORIZED, "Unauthorized", websockets.Headers({"Content-Length": "2"}), b"no")

    async with websocket_server(process_request=refuse) as server:
        with pytest.raises(goev.websocket.HandshakeRefused) as refused:
            await goev.asyncio.connect(url_of(server))
        assert (refused.value.status, refused.value.body) == (401, b"no")


@on_loop
async def test_wss_against_the_websockets_library(tmp_path: Path) -> None:
    async with websocket_server(ssl=secured(tmp_path)) as server:
        context = goev.tls.ClientContext(ca=authority().pem)
        async with goev.asyncio.connect(url_of(server, "wss"), tls=context) as channel:
            await channel.send("secret")
            assert await channel.receive() == "secret"


@on_loop
async def test_a_flood_over_a_websocket_is_bounded() -> None:
    async def flood(socket: websockets.asyncio.server.ServerConnection) -> None:
        for _ in range(400):
            await socket.send(bytes(100_000))

    async with websockets.asyncio.server.serve(flood, "127.0.0.1", 0, compression=None) as server:
        channel = await goev.asyncio.connect(url_of(server), max_input=300_000, receive_buffer_size=65536)
        feed: Any = channel.connection
        while sum(map(len, feed.messages)) < 300_000:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert len(feed.messages) == 3
        assert [len(message) async for message in channel] == [100_000] * 400
        assert channel.close_code == 1000  # type: ignore[attr-defined]


@on_loop
async def test_a_cancelled_handshake_leaves_no_connection() -> None:
    async with websocket_server() as server:
        connecting = asyncio.ensure_future(goev.asyncio.connect(url_of(server))._coroutine)
        await settled(1)
        await cancelled(connecting)
        async with goev.asyncio.connect(url_of(server)) as channel:
            await channel.send("next")
            assert await channel.receive() == "next"
