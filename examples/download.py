"""A file sent to each client at a rate that may change while downloads run.

GET / downloads. PUT /rate/5000000 sets the bytes per second of every download, also of running ones. The rate is in the
poller cache; each poller reads its own copy without a lock.
"""

import argparse
import os
import re
import time
from contextlib import suppress
from typing import IO

import goev

PUT_RATE = re.compile(rb"PUT /rate/([1-9][0-9]{0,14}) ")
TICK = 0.02  # seconds; a piece has the bytes that the rate allows in this time
PIECE = 1 << 20  # bytes; the limit of a piece


class Download(goev.Connection):
    def __init__(self, file: IO[bytes], by_sendfile: bool) -> None:
        self.file, self.size, self.by_sendfile = file, os.fstat(file.fileno()).st_size, by_sendfile
        self.offset, self.due = -1, 0.0  # of the next piece (-1 before the request), and its time by the rate

    def on_read(self) -> bool | None:
        try:
            head = self.read_until(b"\r\n\r\n", 8192)
        except goev.InputOverflow:
            head = b"too long"
        if head is None or self.offset >= 0:
            return None
        if head.startswith(b"GET "):
            self.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % self.size)
            self.pause_reading()  # a connection is for one request; later input stays unread
            self.offset, self.due = 0, time.monotonic()
            self.send_piece()
            return None
        if put_rate := PUT_RATE.match(head):
            self.reactor.cache_set("rate", int(put_rate[1]))
        status = b"204 No Content" if put_rate else b"400 Bad Request"
        self.write(b"HTTP/1.1 %b\r\nConnection: close\r\n\r\n" % status)
        return False

    def send_piece(self) -> None:
        rate: int = self.cache["rate"]
        count = min(max(int(rate * TICK), 1), PIECE, self.size - self.offset)
        if self.by_sendfile:
            self.sendfile(self.file, offset=self.offset, count=count)  # from the page cache, not through our memory
        else:
            self.write(os.pread(self.file.fileno(), count, self.offset))
        self.offset += count
        self.due = max(self.due, time.monotonic() - TICK) + count / rate  # a slow client does not catch up later
        if self.offset == self.size:
            self.close()
        elif not self.over_high_water:
            self.on_drain()

    def on_drain(self) -> None:  # there is room for the next piece: send it when it is due
        self.schedule(max(self.due - time.monotonic(), 0), self.send_piece)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="TCP port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--file", default=__file__, help="what to send (default: this program)")
    parser.add_argument("--rate", type=int, default=1_000_000, help="bytes per second (default: %(default)s)")
    parser.add_argument("--sendfile", action="store_true", help="by sendfile(2) instead of read and write")
    parser.add_argument("--pollers", type=int, help="threads, each with its own event loop")
    args = parser.parse_args()
    with open(args.file, "rb") as file, goev.Reactor(args.pollers) as reactor, suppress(KeyboardInterrupt):
        reactor.cache_set("rate", args.rate)
        acceptor = goev.Acceptor(reactor, f"127.0.0.1:{args.port}", lambda: Download(file, args.sendfile))
        print("serving on {}:{}".format(*acceptor.address), flush=True)
        reactor.run()


if __name__ == "__main__":
    main()
