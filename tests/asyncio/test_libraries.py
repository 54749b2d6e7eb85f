"""Libraries of asyncio on goev's event loop, each against a real server: on their own, and inside of callbacks."""

import asyncio
import functools
import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import aiohttp
import aiohttp.web
import anyio
import anyio.to_thread
import asyncpg
import httpx
import pytest
import redis.asyncio
import uvicorn
import websockets

import goev
from certificates import Authority
from real_servers import PostgresServer, RedisServer
from support import PATIENCE, Events, need

Test = Callable[..., Coroutine[Any, Any, None]]

TEXT = {"content-type": "text/plain"}
CONCURRENT = 20


def on_loop(test: Test) -> Callable[..., None]:
    """Run a test on an event loop of goev, with a limit."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        async def limited() -> None:
            async with asyncio.timeout(2 * PATIENCE):
                await test(**fixtures)

        goev.asyncio.run(limited())

    return run


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of a database."""
    with closing(PostgresServer()) as server:
        yield server.url


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Iterator[str]:
    """The URL of a Redis server."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.url
    server.kill()


@asynccontextmanager
async def serving(handler: Any, scheme: str = "http", **options: Any) -> AsyncIterator[str]:
    """The URL of a handler on the running loop."""
    async with goev.asyncio.serve(handler, "127.0.0.1:0", **options) as server:
        yield "{}://{}:{}".format(scheme, *server.address)


def answering(look_up: Callable[[goev.http.Request], Coroutine[Any, Any, bytes]]) -> Callable[[], goev.Connection]:
    """A handler whose answers a coroutine gives."""

    class Api(goev.http.Connection):
        async def on_request(self, request: goev.http.Request) -> None:
            request.respond(200, TEXT, await look_up(request))

    return Api


@asynccontextmanager
async def aiohttp_serving(*routes: aiohttp.web.RouteDef) -> AsyncIterator[str]:
    """The URL of an aiohttp server on the running loop."""
    app = aiohttp.web.Application()
    app.add_routes(routes)
    runner = aiohttp.web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        yield "http://{}:{}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


async def reversed_body(request: aiohttp.web.Request) -> aiohttp.web.Response:
    return aiohttp.web.Response(body=(await request.read())[::-1])


class Reverse(goev.http.Connection):
    """The same as a plain handler."""

    def on_request(self, request: goev.http.Request) -> None:
        request.respond(200, TEXT, request.body[::-1])


# asyncpg


@on_loop
async def test_asyncpg_runs_queries_side_by_side(postgres):
    async with asyncpg.create_pool(postgres, min_size=2, max_size=5) as pool:
        queries = [pool.fetchval("select $1::int + 1", number) for number in range(5 * CONCURRENT)]
        assert await asyncio.gather(*queries) == [number + 1 for number in range(5 * CONCURRENT)]


@on_loop
async def test_asyncpg_rolls_back_and_copies_many_rows(postgres):
    async with asyncpg.create_pool(postgres, min_size=1, max_size=2) as pool, pool.acquire() as connection:
        await connection.execute("create temporary table many (number int primary key, text text)")
        rows = [(number, "x" * 100) for number in range(20_000)]
        await connection.copy_records_to_table("many", records=rows)

        async def fail() -> None:
            async with connection.transaction():
                await connection.execute("delete from many where number > 10")
                await connection.execute("insert into many values (1, '')")

        with pytest.raises(asyncpg.UniqueViolationError):
            await fail()
        assert [tuple(row) for row in await connection.fetch("select * from many order by number")] == rows


@on_loop
async def test_asyncpg_is_told_of_notifications(postgres):
    told: asyncio.Queue[str] = asyncio.Queue()
    connection, other = await asyncpg.connect(postgres), await asyncpg.connect(postgres)
    try:
        await connection.add_listener("news", lambda *event: told.put_nowait(event[-1]))
        for number in range(CONCURRENT):
            await other.execute(f"notify news, '{number}'")
        assert [await told.get() for _ in range(CONCURRENT)] == [str(number) for number in range(CONCURRENT)]
    finally:
        await connection.close()
        await other.close()


@on_loop
async def test_asyncpg_cancels_a_query_whose_time_is_over(postgres):
    async with asyncpg.create_pool(postgres, min_size=1, max_size=1) as pool:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await pool.execute("select pg_sleep(60)")
        assert await pool.fetchval("select 1") == 1, "the only connection of the pool is free again"


@on_loop
async def test_asyncpg_in_callbacks(postgres):
    async with asyncpg.create_pool(postgres, min_size=1, max_size=5) as pool:

        async def double(request: goev.http.Request) -> bytes:
            return str(await pool.fetchval("select 2 * $1::int", int(request.query))).encode()

        async with serving(answering(double)) as url, httpx.AsyncClient(base_url=url) as client:
            answers = await asyncio.gather(*(client.get(f"/?{number}") for number in range(2 * CONCURRENT)))
            assert [int(answer.text) for answer in answers] == [2 * number for number in range(2 * CONCURRENT)]


# redis.asyncio


@on_loop
async def test_redis_runs_commands_side_by_side_and_pipelines(cache):
    async with redis.asyncio.Redis.from_url(cache) as client:
        await client.delete("count")
        await asyncio.gather(*(client.incr("count") for _ in range(2 * CONCURRENT)))
        pipeline = client.pipeline(transaction=True)
        for _ in range(1_000):
            pipeline.incr("count")
        assert (await pipeline.execute())[-1] == 1_000 + 2 * CONCURRENT
        value = bytes(range(256)) * 4096
        await client.set("value", value)
        assert await client.get("value") == value


@on_loop
async def test_redis_waits_for_messages_and_for_lists(cache):
    async with redis.asyncio.Redis.from_url(cache) as client, client.pubsub() as subscriber:
        await subscriber.subscribe("news")
        assert (await subscriber.get_message(timeout=PATIENCE))["type"] == "subscribe"
        for number in range(CONCURRENT):
            await client.publish("news", str(number))
        heard = [(await subscriber.get_message(timeout=PATIENCE))["data"] for _ in range(CONCURRENT)]
        assert heard == [b"%d" % number for number in range(CONCURRENT)]
        waiting = asyncio.create_task(client.blpop(["list"], timeout=PATIENCE))
        await client.publish("news", "other commands go on")
        await client.rpush("list", "at last")
        assert await waiting == (b"list", b"at last") or await waiting == [b"list", b"at last"]


@on_loop
async def test_redis_in_callbacks(cache):
    async with redis.asyncio.Redis.from_url(cache) as client:
        await client.delete("visits")

        async def visit(_request: goev.http.Request) -> bytes:
            return str(await client.incr("visits")).encode()

        async with serving(answering(visit)) as url, aiohttp.ClientSession(url) as session:

            async def ask() -> int:
                async with session.get("/") as answer:
                    return int(await answer.read())

            counted = await asyncio.gather(*(ask() for _ in range(2 * CONCURRENT)))
            assert sorted(counted) == list(range(1, 2 * CONCURRENT + 1))


def test_redis_on_the_pollers_of_a_reactor(cache):
    """Each poller has a loop, and each connection a client of its own, from its first callback to its last."""
    closed = Events()

    class Visits(goev.http.Connection):
        async def on_open(self) -> None:
            self.client = redis.asyncio.Redis.from_url(cache)
            await self.client.ping()

        async def on_request(self, request: goev.http.Request) -> None:
            request.respond(200, TEXT, str(await self.client.incr("pollers")).encode())

        async def on_close(self, error: BaseException | None) -> None:
            await self.client.aclose()
            closed("closed", error)

    with goev.Reactor(pollers=2, asyncio=True) as reactor:
        host, port = goev.Acceptor(reactor, "127.0.0.1:0", Visits).address
        reactor.start()
        clients = [httpx.Client(base_url=f"http://{host}:{port}") for _ in range(8)]
        counted = [int(client.get("/").text) for _ in range(10) for client in clients]
        assert [count - counted[0] for count in counted] == list(range(80))
        for client in clients:
            client.close()
        closed.times("closed", len(clients))
    assert closed.history == [("closed", None)] * len(clients)


# httpx and aiohttp


@on_loop
async def test_httpx_asks_an_aiohttp_server_and_a_handler_of_goev():
    body = bytes(range(256)) * 1000
    async with (
        aiohttp_serving(aiohttp.web.post("/", reversed_body)) as other,
        serving(Reverse) as ours,
        httpx.AsyncClient() as client,
    ):
        for url in (other, ours):
            answers = await asyncio.gather(*(client.post(url, content=body) for _ in range(CONCURRENT)))
            assert [answer.content for answer in answers] == [body[::-1]] * CONCURRENT


@on_loop
async def test_aiohttp_asks_an_aiohttp_server_and_a_handler_of_goev():
    body = bytes(range(256)) * 1000

    async def ask(session: aiohttp.ClientSession, url: str) -> bytes:
        async with session.post(url, data=body) as answer:
            return await answer.read()

    async with (
        aiohttp_serving(aiohttp.web.post("/", reversed_body)) as other,
        serving(Reverse) as ours,
        aiohttp.ClientSession() as session,
    ):
        for url in (other, ours):
            answers = await asyncio.gather(*(ask(session, url) for _ in range(CONCURRENT)))
            assert answers == [body[::-1]] * CONCURRENT


@on_loop
async def test_curl_asks_an_aiohttp_server_that_streams():
    async def stream(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        answer = aiohttp.web.StreamResponse()
        await answer.prepare(request)
        for number in range(100):
            await answer.write(b"%d " % number * 1000)
        return answer

    async with aiohttp_serving(aiohttp.web.get("/", stream)) as url:
        command = (need("curl"), "-sS", "--max-time", "10", url)
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        printed, _ = await process.communicate()
    assert process.returncode == 0
    assert printed == b"".join(b"%d " % number * 1000 for number in range(100))


@on_loop
async def test_aiohttp_echoes_websocket_messages():
    async def echo(request: aiohttp.web.Request) -> aiohttp.web.WebSocketResponse:
        connection = aiohttp.web.WebSocketResponse()
        await connection.prepare(request)
        async for message in connection:
            await connection.send_bytes(message.data)
        return connection

    async with (
        aiohttp_serving(aiohttp.web.get("/", echo)) as url,
        aiohttp.ClientSession() as session,
        session.ws_connect(url) as connection,
    ):
        for size in (0, 1, 125, 126, 65536, 1 << 20):
            await connection.send_bytes(b"x" * size)
            assert await connection.receive_bytes() == b"x" * size


@on_loop
async def test_clients_over_tls_ask_a_handler_of_goev(tmp_path):
    root = Authority()
    tls = goev.tls.ServerContext(*root.issue("localhost", "127.0.0.1").files(tmp_path))
    trusting = ssl.create_default_context(cadata=root.pem.decode())
    async with serving(Reverse, "https", tls=tls) as url:
        async with httpx.AsyncClient(verify=trusting) as client:
            answers = await asyncio.gather(*(client.post(url, content=b"abc" * 30_000) for _ in range(CONCURRENT)))
            assert {answer.content for answer in answers} == {b"cba" * 30_000}
        async with aiohttp.ClientSession() as session, session.post(url, data=b"abc", ssl=trusting) as answer:
            assert await answer.read() == b"cba"


@on_loop
async def test_a_handler_asks_another_server_and_itself():
    """The client inside of the callback and the server that it asks share the thread."""

    async with httpx.AsyncClient() as client, aiohttp_serving(aiohttp.web.post("/", reversed_body)) as other:

        async def pass_on(request: goev.http.Request) -> bytes:
            if depth := int(request.query):
                return (await client.get(f"{url}/?{depth - 1}")).content + b"+"
            return (await client.post(other, content=b"dne")).content

        async with serving(answering(pass_on)) as url:
            answers = await asyncio.gather(*(client.get(f"{url}/?5") for _ in range(10)))  # of 100 connections, 7 each
            assert {answer.text for answer in answers} == {"end+++++"}


# websockets


class Echo(goev.websocket.Connection):
    def on_message(self, message: str | bytes) -> None:
        self.send(message)


async def echoes(url: str) -> None:
    async with websockets.connect(url) as connection:
        for message in ("", "grüße", b"\0" * 126, "x" * 70_000, b"y" * 500_000):
            await connection.send(message)
            assert await connection.recv() == message
        for number in range(1_000):
            await connection.send(str(number))
        assert [await connection.recv() for _ in range(1_000)] == [str(number) for number in range(1_000)]


@on_loop
async def test_websockets_talks_to_itself_and_to_a_handler_of_goev():
    async def echo(connection: websockets.ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with websockets.serve(echo, "127.0.0.1", 0) as server, serving(Echo, "ws") as ours:
        other = "ws://{}:{}".format(*server.sockets[0].getsockname())
        await asyncio.gather(*(echoes(url) for url in (other, ours) for _ in range(4)))


@on_loop
async def test_a_channel_talks_to_websockets():
    async def count(connection: websockets.ServerConnection) -> None:
        up_to = int(await connection.recv())
        for number in range(up_to):
            await connection.send(str(number))

    async with websockets.serve(count, "127.0.0.1", 0) as server:
        channel = await goev.asyncio.connect("ws://{}:{}".format(*server.sockets[0].getsockname()))
        await channel.send("2000")
        assert [message async for message in channel] == [str(number) for number in range(2_000)]


# anyio


def run_by_anyio(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    anyio.run(function, backend_options={"loop_factory": goev.asyncio.EventLoop})


def test_anyio_runs_tasks_threads_and_processes():
    async def main() -> None:
        assert isinstance(asyncio.get_running_loop(), goev.asyncio.EventLoop)
        done = []
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                for number in range(CONCURRENT):
                    group.start_soon(anyio.to_thread.run_sync, done.append, number)
            assert sorted(done) == list(range(CONCURRENT))
            process = await anyio.run_process([sys.executable, "-c", "print(input()[::-1])"], input=b"abc\n")
            assert process.stdout == b"cba\n"
            with anyio.move_on_after(0.01) as scope:
                await anyio.sleep_forever()
            assert scope.cancelled_caught
            with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
                signal.raise_signal(signal.SIGUSR1)
                assert await anext(signals) == signal.SIGUSR1

    run_by_anyio(main)


def test_anyio_streams_talk_to_themselves_and_to_a_handler_of_goev():
    class Bytes(goev.Connection):
        def on_read(self) -> None:
            self.write(self.read())

    async def echo(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send(data)

    async def ask(port: int) -> None:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            for size in (1, 1000, 50_000):
                await stream.send(b"x" * size)
                missing = size
                while missing:
                    missing -= len(await stream.receive(missing))

    async def main() -> None:
        with anyio.fail_after(PATIENCE):
            async with (
                await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
                goev.asyncio.serve(Bytes, "127.0.0.1:0") as server,
                anyio.create_task_group() as group,
            ):
                group.start_soon(listener.serve, echo)
                other = listener.extra(anyio.abc.SocketAttribute.local_port)
                async with anyio.create_task_group() as clients:
                    for port in (other, server.address[1]):
                        for _ in range(CONCURRENT):
                            clients.start_soon(ask, port)
                group.cancel_scope.cancel()

    run_by_anyio(main)


# uvicorn


@on_loop
async def test_an_uvicorn_application_beside_a_handler_that_asks_it():
    async def application(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        body = json.dumps({"path": scope["path"], "body": message["body"].decode()}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = "http://{}:{}".format(*listener.getsockname())
        config = uvicorn.Config(application, loop="none", ws="none", lifespan="off", log_level="critical")
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        async with httpx.AsyncClient() as client:

            async def pass_on(request: goev.http.Request) -> bytes:
                return (await client.post(theirs + request.path, content=request.body)).content

            async with serving(answering(pass_on)) as ours:
                asking = [client.post(f"{url}/a", content="b") for url in (theirs, ours) for _ in range(CONCURRENT)]
                answers = await asyncio.gather(*asking)
                assert [answer.json() for answer in answers] == [{"path": "/a", "body": "b"}] * 2 * CONCURRENT
        server.should_exit = True
        await running
