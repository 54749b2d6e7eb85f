"""Echoes WebSocket messages on the package websockets, without compression, on uvloop."""

import argparse

import uvloop
from websockets.asyncio.server import ServerConnection, serve


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def run(port: int) -> None:
    async with serve(echo, "127.0.0.1", port, compression=None) as server:
        print("ready", flush=True)
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9999)
    arguments = parser.parse_args()

    uvloop.run(run(arguments.port))


if __name__ == "__main__":
    main()
