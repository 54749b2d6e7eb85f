"""A pool of connections to a Redis server: several threads push commands through it.

The server has to run: ``apt-get install redis-server``, then ``redis-server``.
"""

import argparse
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import goev

KEY = "goev:example"


class Redis(goev.PooledConnection):
    """Sends commands, and gives each its own reply; for replies of one line, such as the one to INCR."""

    def __init__(self) -> None:
        self.waiting: deque[Future[str]] = deque()  # Redis answers in the order of the commands

    def command(self, *words: str) -> Future[str]:
        """Send a command. The future always gets either its reply or the exception that explains why there is none."""
        reply: Future[str] = Future()
        parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
        self.waiting.append(reply)
        try:
            self.write(f"*{len(words)}\r\n{''.join(parts)}".encode())
        except goev.ConnectionClosed as error:
            with suppress(ValueError):  # on_close has failed it already
                self.waiting.remove(reply)
                reply.set_exception(error)
        return reply

    def on_read(self) -> None:
        while line := self.read_until(b"\r\n"):
            kind, text = line[:1], line[1:-2].decode()
            reply = self.waiting.popleft()
            if kind == b"-":
                reply.set_exception(RuntimeError(text))
            else:
                reply.set_result(text)

    def on_close(self, error: BaseException | None) -> None:
        super().on_close(error)
        while self.waiting:
            self.waiting.popleft().set_exception(error or goev.ConnectionClosed("the server has closed the connection"))


def push(pool: goev.ConnectionPool[Redis], count: int) -> None:
    for _ in range(count):
        with pool.connection(timeout=10) as redis:
            redis.command("INCR", KEY).result(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=6379, help="where Redis listens (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=8, help="how many push commands (default: %(default)s)")
    parser.add_argument("--count", type=int, default=1000, help="commands of each thread (default: %(default)s)")
    args = parser.parse_args()
    with goev.Reactor() as reactor:
        reactor.start()  # in the background
        connector = goev.Connector(reactor)
        with goev.ConnectionPool(connector, f"127.0.0.1:{args.port}", Redis, min_idle=2, max_live=4) as pool:
            with pool.connection(timeout=2) as redis:
                redis.command("DEL", KEY).result(10)
            with ThreadPoolExecutor(args.threads) as threads:
                list(threads.map(push, [pool] * args.threads, [args.count] * args.threads))
            with pool.connection() as redis:
                counted = redis.command("INCRBY", KEY, "0").result(10)  # like GET, but its reply is one line
            print(f"pushed {args.threads * args.count}, Redis counted {counted}, over {pool.live} connections")


if __name__ == "__main__":
    main()
