"""Requests handled in a thread pool while the poller keeps serving; pipelined answers go out in request order.

GET /slow?ms=50 blocks a thread of the pool, as a database query would. GET /fast is answered on the poller itself.
"""

import argparse
import re
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import goev

MAX_IN_FLIGHT = 16  # requests of one connection that wait for their answer
REQUEST = re.compile(
    rb"GET (/fast|/slow\?ms=(\d{1,4})) HTTP/1\.1\r\n(?:(?!(?i:Content-Length|Transfer-Encoding))[!-9;-~]+:.*\r\n)*\r\n"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"
FAST, BAD_REQUEST = Future[bytes](), Future[bytes]()
FAST.set_result(OK % (5, b"fast\n"))
BAD_REQUEST.set_result(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def slow(ms: int) -> bytes:
    time.sleep(ms / 1000)
    return OK % (14, b"slept %4d ms\n" % ms)


class AsyncHttp(goev.Connection):
    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool = pool
        self.slots: deque[Future[bytes]] = deque()  # the answers, finished or not, in the order of the requests
        self.ending = False  # close as soon as these answers have gone out

    def on_read(self) -> None:
        try:
            while not self.ending and len(self.slots) < MAX_IN_FLIGHT and (head := self.read_until(b"\r\n\r\n", 8192)):
                request = REQUEST.fullmatch(head)
                if request and request[2]:
                    self.slots.append(self.run_in_executor(self.pool, slow, int(request[2]), then=self.advance))
                else:
                    self.slots.append(FAST if request else BAD_REQUEST)
                self.ending = not request or b"\r\nconnection: close\r\n" in head.lower()
        except goev.InputOverflow:
            self.slots.append(BAD_REQUEST)
            self.ending = True
        self.advance()

    def advance(self, _finished: Future[bytes] | None = None) -> None:
        while self.slots and self.slots[0].done():
            self.write(self.slots.popleft().result())
        if self.ending and not self.slots:
            return self.close()
        full = self.ending or len(self.slots) >= MAX_IN_FLIGHT
        return self.pause_reading() if full else self.resume_reading()

    def on_eof(self) -> None:
        self.ending = True  # a half-close: the answers still go out
        self.advance()

    def on_close(self, error: BaseException | None) -> None:
        for slot in self.slots:
            slot.cancel()  # only those that no thread has begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="TCP port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=32, help="of the pool (default: %(default)s)")
    args = parser.parse_args()
    with ThreadPoolExecutor(args.threads) as pool, goev.Reactor() as reactor, suppress(KeyboardInterrupt):
        acceptor = goev.Acceptor(reactor, f"127.0.0.1:{args.port}", lambda: AsyncHttp(pool))
        print("serving on {}:{}".format(*acceptor.address), flush=True)
        reactor.run()


if __name__ == "__main__":
    main()
