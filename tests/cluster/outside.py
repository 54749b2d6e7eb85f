"""A backplane as somebody outside of goev would write it: a small server of lines, and a client for it.

It knows subjects and messages, no history, and never says that nobody is there.
"""

import asyncio
import threading
from base64 import b64decode, b64encode
from collections.abc import Sequence

from goev.cluster import Backplane, Outgoing, Subscription


class LineServer:
    """The engine: ``S subject``, ``U subject``, ``P subject data``, ``Q`` (answered), a line each, on a thread."""

    def __init__(self) -> None:
        self.port = 0
        self._ready = threading.Event()
        self._clients: dict[asyncio.StreamWriter, set[bytes]] = {}
        self.start()

    def start(self) -> None:
        self._ready.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._client, "127.0.0.1", self.port, limit=1 << 24)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for writer in self._clients:
            writer.transport.abort()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subjects = self._clients[writer] = set()
        try:
            while line := await reader.readline():
                verb, *words = line.split()
                if verb == b"S":
                    subjects.add(words[0])
                elif verb == b"U":
                    subjects.discard(words[0])
                elif verb == b"Q":
                    writer.write(b"A\n")
                else:
                    for other, wanted in self._clients.items():
                        if words[0] in wanted:
                            other.write(line)
        except ConnectionError:
            pass
        finally:
            del self._clients[writer]
            writer.close()

    @property
    def url(self) -> "LineBackplane":
        return LineBackplane(self.port)

    def kill(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def close(self) -> None:
        self.kill()


class LineBackplane(Backplane):
    """The client."""

    def __init__(self, port: int) -> None:
        self.url = f"lines://127.0.0.1:{port}"
        self._port = port
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self, receive, lost) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        self._answers: asyncio.Queue[None] = asyncio.Queue()
        self._task = asyncio.create_task(self._read(reader, receive, lost))
        await self.ping()

    async def _read(self, reader, receive, lost) -> None:
        try:
            while line := await reader.readline():
                verb, *words = line.split()
                if verb == b"A":
                    self._answers.put_nowait(None)
                else:
                    receive(b64decode(words[0]).decode("utf-8", "surrogatepass"), b64decode(words[1]), None)
            lost(ConnectionResetError("the server went away"))
        except ConnectionError as error:
            lost(error)

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
        if self._writer:
            self._writer.transport.abort()

    async def ping(self) -> None:
        await self._send([b"Q\n"])
        await self._answers.get()

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        await self._send([b"S %s\n" % spelled(each.subject) for each in subscriptions])
        await self.ping()

    async def unsubscribe(self, subscriptions: Sequence[Subscription]) -> None:
        await self._send([b"U %s\n" % spelled(each.subject) for each in subscriptions])

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        await self._send([b"P %s %s\n" % (spelled(each.subject), b64encode(each.data)) for each in messages])

    async def _send(self, lines) -> None:
        self._writer.writelines(lines)
        await self._writer.drain()


def spelled(subject: str) -> bytes:
    return b64encode(subject.encode("utf-8", "surrogatepass"))
