"""An HTTP API over PostgreSQL (asyncpg) with a cache in Redis (redis.asyncio); every answer is JSON.

    POST /items       {"name": "tea", "stock": 3}: a new item, 201
    GET  /items/ID    from the cache, else from the database, and then the cache has it too
    PUT  /items/ID    changes an item that exists
    GET  /counts      the items in the database, and what this process did

Bad input gets 400, an item that is not there 404. When a server is gone or too slow: 503, and a PUT may be repeated.
Both servers have to run: ``apt-get install postgresql redis-server``; ``pip install asyncpg redis``.
"""

import argparse
import asyncio
import json
import re
import signal
from collections import Counter
from typing import Any

import asyncpg
import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

import goev

JSON = {"content-type": "application/json"}
NUMBER = re.compile("[1-9][0-9]{0,17}")
LONGEST_NAME, GREATEST_STOCK = 100, 2**31 - 1
TABLE = "create table if not exists items (id bigserial primary key, name text not null, stock int not null)"
SELECT = "select id, name, stock from items where id = $1"
INSERT = "insert into items (name, stock) values ($1, $2) returning id, name, stock"
UPDATE = "update items set name = $2, stock = $3 where id = $1 returning id, name, stock"

DATABASE_GONE = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # asyncpg finds its own connection amid the server's farewell (its issue 784)
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,  # it shuts down, or does not yet serve
)
TOO_SLOW = (TimeoutError, redis.TimeoutError)


class Refused(Exception):
    """A request that gets no item: the status, and the reason for the client."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Items:
    """Items in the database, each also in the cache from its first use until some time later."""

    def __init__(self, database: asyncpg.Pool, cache: Redis, keep: int) -> None:
        self.database, self.cache, self.keep = database, cache, keep
        self.did: Counter[str] = Counter(hits=0, misses=0, created=0, changed=0)

    async def get(self, number: int) -> bytes:
        cached: Any = await self.cache.get(f"item:{number}")
        self.did["misses" if cached is None else "hits"] += 1
        if cached is not None:
            return bytes(cached)
        item = encoded(await self.database.fetchrow(SELECT, number))
        await self.cache.set(f"item:{number}", item, ex=self.keep, nx=True)  # a change meanwhile put a newer one there
        return item

    async def create(self, name: str, stock: int) -> bytes:
        item = encoded(await self.database.fetchrow(INSERT, name, stock))
        self.did["created"] += 1
        return item

    async def change(self, number: int, name: str, stock: int) -> bytes:
        """The row is locked until the cache has the change, so both see changes in the same order, or neither does."""
        async with self.database.acquire() as connection, connection.transaction():
            item = encoded(await connection.fetchrow(UPDATE, number, name, stock))
            await self.cache.set(f"item:{number}", item, ex=self.keep)
        self.did["changed"] += 1
        return item

    async def counts(self) -> bytes:
        items = await self.database.fetchval("select count(*) from items")
        return json.dumps({"items": items, **self.did}).encode()


def encoded(row: asyncpg.Record | None) -> bytes:
    if row is None:
        raise Refused(404, "no such item")
    return json.dumps(dict(row)).encode()


def numbered(path: str) -> int:
    number = path.removeprefix("/items/")
    if not NUMBER.fullmatch(number):
        raise Refused(400, "the ID of an item is a whole number")
    return int(number)


def parsed(body: bytes) -> tuple[str, int]:
    """Name and stock of an item that a client sent."""
    try:
        item: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is no JSON") from None
    if not isinstance(item, dict) or item.keys() != {"name", "stock"}:
        raise Refused(400, "an item has a name and a stock, and nothing else")
    name, stock = item["name"], item["stock"]
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise Refused(400, f"a name has 1 to {LONGEST_NAME} printable characters")
    if type(stock) is not int or not 0 <= stock <= GREATEST_STOCK:
        raise Refused(400, f"a stock is a whole number from 0 to {GREATEST_STOCK}")
    return name, stock


class Api(goev.http.Connection):
    limits = goev.http.Limits(max_body=4096)

    def __init__(self, items: Items, timeout: float) -> None:
        self.items, self.timeout = items, timeout

    async def on_request(self, request: goev.http.Request) -> None:
        status, body = 200, b""
        try:
            async with asyncio.timeout(self.timeout):
                status, body = await self.answer(request)
        except Refused as refused:
            status, body = refused.status, problem(str(refused))
        except TOO_SLOW:
            status, body = 503, problem("the servers behind this one are too slow")
        except redis.ConnectionError:
            status, body = 503, problem("the cache is gone")
        except DATABASE_GONE:
            status, body = 503, problem("the database is gone")
        request.respond(status, JSON, body)

    async def answer(self, request: goev.http.Request) -> tuple[int, bytes]:
        match request.method, request.path:
            case "POST", "/items":
                return 201, await self.items.create(*parsed(request.body))
            case "GET", "/counts":
                return 200, await self.items.counts()
            case "GET", path if path.startswith("/items/"):
                return 200, await self.items.get(numbered(path))
            case "PUT", path if path.startswith("/items/"):
                return 200, await self.items.change(numbered(path), *parsed(request.body))
        raise Refused(404, "there are POST /items, GET and PUT /items/ID, GET /counts")


def problem(reason: str) -> bytes:
    return json.dumps({"error": reason}).encode()


async def serve(args: argparse.Namespace) -> None:
    """Serve until a signal comes. The end is in order: the requests, the cache, the database."""
    pool = BlockingConnectionPool.from_url(
        args.redis,
        max_connections=args.connections,
        timeout=None,  # for a free connection: that of the request counts
        socket_timeout=args.timeout,  # redis-py sometimes loses the cancellation by that of the request
        socket_connect_timeout=args.timeout,
        retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),  # makes a broken connection anew
    )
    async with (
        asyncpg.create_pool(args.postgres, min_size=0, max_size=args.connections) as database,
        Redis.from_pool(pool) as cache,
    ):
        await database.execute(TABLE)
        await cache.ping()
        items = Items(database, cache, args.keep)
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        async with goev.asyncio.serve(lambda: Api(items, args.timeout), f"127.0.0.1:{args.port}") as server:
            print("serving on {}:{}".format(*server.address), flush=True)
            await stopped.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080, help="TCP port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--postgres", default="postgresql:///", help="URL of the database (default: %(default)s)")
    parser.add_argument("--redis", default="redis://127.0.0.1", help="URL of the cache (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=10, help="most to each server (default: %(default)s)")
    parser.add_argument("--keep", type=int, default=60, help="seconds of an item in the cache (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds of a request (default: %(default)s)")
    args = parser.parse_args()
    try:
        goev.asyncio.run(serve(args))
    except (*TOO_SLOW, redis.ConnectionError, *DATABASE_GONE) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
