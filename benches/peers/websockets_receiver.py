"""Receives WebSocket messages by `async for` over a connection of the package websockets, on uvloop."""

import uvloop
from websockets.asyncio.client import connect

import receiving


async def run(url: str) -> None:
    async with connect(url, compression=None) as connection:
        await receiving.take_all(connection)


if __name__ == "__main__":
    uvloop.run(run(receiving.parse_url(__doc__)))
