"""Receives WebSocket messages by `async for` over a channel of goev."""

import goev
import receiving


async def run(url: str) -> None:
    await receiving.take_all(await goev.asyncio.connect(url))


if __name__ == "__main__":
    goev.asyncio.run(run(receiving.parse_url(__doc__)))
