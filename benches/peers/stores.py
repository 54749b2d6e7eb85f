"""The item that an API answers with, and where it looks that up: the same for every server.

A store is a context manager that opens a pool of connections, with the defaults of its library, and gives the
coroutine function that looks the item up, as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

Lookup = Callable[[], Awaitable[bytes]]

ITEM = {"id": 1, "message": "Hello, World!"}
USER = "postgres"


@asynccontextmanager
async def _redis(port: int) -> AsyncIterator[Lookup]:
    from redis.asyncio import Redis  # only the servers that use it need it

    async with Redis(host="127.0.0.1", port=port) as client:
        await client.set("item:1", json.dumps(ITEM))

        async def look_up() -> bytes:
            item: bytes = await client.get("item:1")
            return item

        yield look_up


@asynccontextmanager
async def _postgres(port: int) -> AsyncIterator[Lookup]:
    import asyncpg  # only the servers that use it need it

    async with asyncpg.create_pool(host="127.0.0.1", port=port, user=USER, database=USER) as pool:
        await pool.execute("create table items (id int primary key, message text not null)")
        await pool.execute("insert into items values ($1, $2)", *ITEM.values())

        async def look_up() -> bytes:
            row = await pool.fetchrow("select id, message from items where id = $1", 1)
            return json.dumps(dict(row)).encode()

        yield look_up


STORES: dict[str, Callable[[int], AbstractAsyncContextManager[Lookup]]] = {"redis": _redis, "postgres": _postgres}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", choices=STORES, help="where each request looks the item up (default: nowhere)")
    parser.add_argument("--store-port", type=int, help="where the store listens")
