"""Echoes messages with their length before them by a coroutine and its channel, on goev's event loop."""

import argparse
from typing import Any

import goev
import goev_serving


async def echo(channel: Any) -> None:
    async for message in channel:
        await channel.send(message)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()

    goev.asyncio.run(goev_serving.serve_here(echo, arguments.port, framing=goev.LengthPrefixed(4)))


if __name__ == "__main__":
    main()
