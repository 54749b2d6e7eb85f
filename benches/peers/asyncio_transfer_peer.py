"""Sends a file, or takes uploads and counts their bytes, as an asyncio protocol."""

import argparse
import asyncio
import re
from pathlib import Path
from typing import IO, cast

import asyncio_peer
import secure

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)")
PIECE = 256 * 1024


class Transfer(asyncio.Protocol):
    __slots__ = ("file", "head", "left", "path", "paused", "transport")

    transport: asyncio.Transport

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.file: IO[bytes] | None = None  # while it is sent
        self.paused = False
        self.head = b""  # the beginning of a head that is not complete yet
        self.left = 0  # bytes of a body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.left > len(data):
            self.left -= len(data)
            return
        if self.left:
            data = data[self.left :]
            self.left = 0
            self.transport.write(asyncio_peer.RESPONSE)
        head, end, rest = (self.head + data).partition(asyncio_peer.END_OF_HEAD)
        self.head = b"" if end else head
        if end:
            self.answer(head)
        if rest:
            self.data_received(rest)

    def answer(self, head: bytes) -> None:
        if length := LENGTH.search(head):
            self.left = int(length[1])
        elif self.path is None:
            self.transport.write(asyncio_peer.RESPONSE)
        else:
            self.file = self.path.open("rb")
            self.transport.write(HEAD % self.path.stat().st_size)
            self.resume_writing()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        while self.file is not None and not self.paused:
            piece = self.file.read(PIECE)
            if piece:
                self.transport.write(piece)
            else:
                self.end()

    def end(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--loop", choices=asyncio_peer.LOOPS, default="asyncio")
    parser.add_argument("--file", type=Path)
    secure.add_arguments(parser)
    arguments = parser.parse_args()

    listener = asyncio_peer.listen(arguments.port, reuse_port=False)
    serving = asyncio_peer.Serving(arguments.loop, lambda: Transfer(arguments.file), secure.python_context(arguments))
    asyncio_peer.serve(serving, listener, asyncio_peer.say_ready)


if __name__ == "__main__":
    main()
