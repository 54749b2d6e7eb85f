"""Receives WebSocket messages by picows, on uvloop, through a queue: its listener has callbacks only."""

import asyncio

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

import receiving


class Queueing(WSListener):
    def __init__(self, queue: asyncio.Queue[bytes | None]) -> None:
        self.queue = queue

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        else:
            self.queue.put_nowait(frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.queue.put_nowait(None)


async def run(url: str) -> None:
    queue = asyncio.Queue[bytes | None]()
    await ws_connect(lambda: Queueing(queue), url)
    watch = receiving.Stopwatch()
    count, last = 0, b"-1"
    while (message := await queue.get()) is not None:
        count, last = count + 1, message
    watch.report(count, last)


if __name__ == "__main__":
    uvloop.run(run(receiving.parse_url(__doc__)))
