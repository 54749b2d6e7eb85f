"""Reports of callbacks that raised."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any


def report(
    callback: Callable[..., object],
    args: list[Any],
    loop: asyncio.AbstractEventLoop,
    context: Context,
    error: BaseException,
) -> None:
    """Tell the loop's exception handler that a callback of ``call_soon`` raised, as asyncio does."""
    handle = asyncio.Handle(callback, args, loop, context)
    loop.call_exception_handler({"message": f"Exception in callback {handle!r}", "exception": error, "handle": handle})
