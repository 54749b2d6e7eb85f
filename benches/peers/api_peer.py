"""Answers HTTP requests with JSON on goev: by a plain callback, by a coroutine, or by one that asks a store."""

import argparse
import json

import goev
import goev_serving
import stores

JSON = {"content-type": "application/json"}


class Plain(goev.http.Connection):
    __slots__ = ()

    def on_request(self, request: goev.http.Request) -> None:
        request.respond(200, JSON, json.dumps(stores.ITEM).encode())


class Coroutine(goev.http.Connection):
    __slots__ = ()

    async def on_request(self, request: goev.http.Request) -> None:
        request.respond(200, JSON, json.dumps(stores.ITEM).encode())


class LooksUp(goev.http.Connection):
    __slots__ = ("look_up",)

    def __init__(self, look_up: stores.Lookup) -> None:
        self.look_up = look_up

    async def on_request(self, request: goev.http.Request) -> None:
        request.respond(200, JSON, await self.look_up())


async def serve_store(arguments: argparse.Namespace) -> None:
    async with stores.STORES[arguments.store](arguments.store_port) as look_up:
        await goev_serving.serve_here(lambda: LooksUp(look_up), arguments.port)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    goev_serving.add_arguments(parser)
    stores.add_arguments(parser)
    parser.add_argument("--coroutine", action="store_true", help="`async def on_request`, as with a store")
    arguments = parser.parse_args()

    if arguments.store:
        goev.asyncio.run(serve_store(arguments))
    else:
        goev_serving.serve(Coroutine if arguments.coroutine else Plain, arguments)


if __name__ == "__main__":
    main()
