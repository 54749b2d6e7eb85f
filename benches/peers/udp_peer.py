"""A UDP echo server as an asyncio protocol, on the standard event loop or uvloop."""

import argparse
import asyncio
import importlib
from typing import Any, cast


class Echo(asyncio.DatagramProtocol):
    __slots__ = ("transport",)

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(data, address)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9999)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    arguments = parser.parse_args()

    loop: asyncio.AbstractEventLoop = importlib.import_module(arguments.loop).new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", arguments.port)))
    print("ready", flush=True)
    loop.run_forever()


if __name__ == "__main__":
    main()
