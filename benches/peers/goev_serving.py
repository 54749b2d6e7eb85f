"""Serves handlers on goev: on a reactor alone, or on an asyncio event loop of goev's."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from typing import Any

import goev


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--pollers", type=int, default=1)
    parser.add_argument("--event-loop", action="store_true", help="on the thread of a goev.asyncio.EventLoop")


def serve(factory: Callable[[], goev.Connection], arguments: argparse.Namespace, **options: Any) -> None:
    if arguments.event_loop:
        goev.asyncio.run(serve_here(factory, arguments.port, **options))
    else:
        address = f"127.0.0.1:{arguments.port}"
        goev.serve(factory, address, pollers=arguments.pollers, ready=lambda _: say_ready(), **options)


async def serve_here(handler: Callable[..., Any], port: int, **options: Any) -> None:
    """Serve on the running loop until the process ends; ``handler`` may also be a coroutine function."""
    async with goev.asyncio.serve(handler, f"127.0.0.1:{port}", **options):
        say_ready()
        await asyncio.Event().wait()


def say_ready() -> None:
    print("ready", flush=True)
