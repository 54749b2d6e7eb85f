"""Echoes messages with their length before them, on asyncio or uvloop: as a protocol, or with streams."""

import argparse
import asyncio
import importlib
import struct
from typing import cast

LENGTH = struct.Struct(">I")


class Echo(asyncio.Protocol):
    __slots__ = ("rest", "transport")

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        begin, echoes = 0, []
        while len(data) - begin >= LENGTH.size:
            (length,) = LENGTH.unpack_from(data, begin)
            end = begin + LENGTH.size + length
            if end > len(data):
                break
            message = data[begin + LENGTH.size : end]
            echoes.append(LENGTH.pack(len(message)))
            echoes.append(message)
            begin = end
        self.rest = data[begin:]
        if echoes:
            self.transport.write(b"".join(echoes))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
            message = await reader.readexactly(length)
            writer.write(LENGTH.pack(len(message)) + message)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve(port: int, streams: bool) -> None:
    if streams:
        server = await asyncio.start_server(echo, "127.0.0.1", port)
    else:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9999)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--streams", action="store_true")
    arguments = parser.parse_args()

    loop: asyncio.AbstractEventLoop = importlib.import_module(arguments.loop).new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(serve(arguments.port, arguments.streams))


if __name__ == "__main__":
    main()
