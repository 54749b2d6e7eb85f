"""Answers HTTP requests with JSON on uvicorn, with httptools and uvloop: a plain ASGI application."""

import argparse
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
import uvloop

import stores

Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Any, Any, Send], Awaitable[None]]


async def answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def plain(scope: Any, receive: Any, send: Send) -> None:
    await answer(send, json.dumps(stores.ITEM).encode())


def looking_up(look_up: stores.Lookup) -> Application:
    async def application(scope: Any, receive: Any, send: Send) -> None:
        await answer(send, await look_up())

    return application


async def serve(application: Application, listener: socket.socket) -> None:
    config = uvicorn.Config(
        application, loop="none", http="httptools", ws="none", lifespan="off", access_log=False, log_level="warning"
    )
    print("ready", flush=True)  # connections wait in the listener
    await uvicorn.Server(config).serve(sockets=[listener])


async def run(arguments: argparse.Namespace) -> None:
    with socket.create_server(("127.0.0.1", arguments.port), backlog=1024) as listener:
        if arguments.store:
            async with stores.STORES[arguments.store](arguments.store_port) as look_up:
                await serve(looking_up(look_up), listener)
        else:
            await serve(plain, listener)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    stores.add_arguments(parser)
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
