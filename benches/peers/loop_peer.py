"""Compares asyncio's own work on goev's event loop with that on the stock one, and prints a line of JSON.

The figures are ratios of speeds, ours to the stock loop's: medians over the rounds. Both loops live in this process,
and take turns. The time is that of the CPU, since none of the works waits for anything.
"""

import argparse
import asyncio
import gc
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import closing

import goev

CHAINS = 16
TASKS = 1_000
CONNECTIONS = 16
SIZE = 64

Work = Callable[[int], Awaitable[None]]
Loops = tuple[asyncio.AbstractEventLoop, asyncio.AbstractEventLoop]  # ours and the stock one


async def call(chains: int, times: int) -> None:
    """Chains of callbacks, each of which calls for the next one."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    missing = chains

    def step(left: int) -> None:
        nonlocal missing
        if left:
            loop.call_soon(step, left - 1)
        else:
            missing -= 1
            if not missing:
                done.set_result(None)

    for _ in range(chains):
        loop.call_soon(step, times // chains)
    await done


async def one_chain(times: int) -> None:
    await call(1, times)


async def chains(times: int) -> None:
    await call(CHAINS, 4 * times)


async def sleeps(times: int) -> None:
    async def sleep() -> None:
        for _ in range(4 * times // TASKS):
            await asyncio.sleep(0)

    await asyncio.gather(*(sleep() for _ in range(TASKS)))


async def streams(times: int) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def ask(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(times // 4 // CONNECTIONS):
            writer.write(bytes(SIZE))
            await reader.readexactly(SIZE)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await asyncio.gather(*(ask(port) for _ in range(CONNECTIONS)))


WORKS: dict[str, Work] = {"one_chain": one_chain, "chains": chains, "sleeps": sleeps, "streams": streams}


def seconds_of(loop: asyncio.AbstractEventLoop, work: Work, times: int) -> float:
    gc.collect()  # so that a loop pays for its own garbage only
    begin = time.process_time()
    loop.run_until_complete(work(times))
    return time.process_time() - begin


def compare(loops: Loops, work: Work, arguments: argparse.Namespace) -> float:
    ours, stock = loops
    ratios = []
    for index in range(arguments.rounds):
        order = loops if index % 2 else reversed(loops)
        seconds = {loop: seconds_of(loop, work, arguments.times) for loop in order}
        ratios.append(seconds[stock] / seconds[ours])
    return statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="of each work on both loops (%(default)s)")
    parser.add_argument("--times", type=int, default=20_000, help="callbacks of one chain, a measure (%(default)s)")
    arguments = parser.parse_args()

    with closing(goev.asyncio.EventLoop()) as ours, closing(asyncio.SelectorEventLoop()) as stock:
        print(json.dumps({name: compare((ours, stock), work, arguments) for name, work in WORKS.items()}))


if __name__ == "__main__":
    main()
