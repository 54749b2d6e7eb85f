"""Answers HTTP requests on granian, by its own interface RSGI on uvloop, in one worker process or several."""

import argparse
import asyncio
import multiprocessing
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings

import secure

HEADERS = [("content-type", "text/plain")]


class Hello:
    def __init__(self, workers: int) -> None:
        self._begun = multiprocessing.Barrier(workers)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon(self._say_ready)  # granian runs the loop when it serves

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        protocol.response_bytes(200, HEADERS, b"Hello, World!")

    def _say_ready(self) -> None:
        """One worker prints it when all workers have begun."""
        if self._begun.wait() == 0:
            print("ready", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--pollers", type=int, default=1, help="worker processes")
    parser.add_argument("--gather", action="store_true", help="one write for the answers to pipelined requests")
    secure.add_arguments(parser)
    arguments = parser.parse_args()

    multiprocessing.set_start_method("fork")  # the workers share the barrier
    application: Any = Hello(arguments.pollers)
    server = Granian(
        "handed over by the loader below",
        port=arguments.port,
        interface=Interfaces.RSGI,
        workers=arguments.pollers,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(pipeline_flush=arguments.gather),
        websockets=False,
        log_enabled=False,
        ssl_cert=arguments.certificate,
        ssl_key=arguments.key,
    )
    server.serve(target_loader=lambda _: application)


if __name__ == "__main__":
    main()
