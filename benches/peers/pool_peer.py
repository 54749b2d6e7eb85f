"""Acquires and releases a connection of a pool, again and again, and prints a line of JSON: the seconds of one pair.

The pool's connections are open to an echo server in this process. No other thread wants a connection meanwhile. At the
end one acquired connection has to get its echo.
"""

import argparse
import json
import threading
import time

import goev

IDLE = 8
TIMEOUT = 5.0


class Echo(goev.Connection):
    def on_read(self) -> None:
        self.write(self.read())


class Client(goev.PooledConnection):
    def __init__(self) -> None:
        self.answered = threading.Event()

    def on_read(self) -> None:
        self.read()
        self.answered.set()


def measure(pool: goev.ConnectionPool[Client], times: int) -> float:
    acquire, release = pool.acquire, pool.release
    begin = time.perf_counter()
    for _ in range(times):
        connection = acquire()
        assert connection is not None
        release(connection)
    return (time.perf_counter() - begin) / times


def wait_until_idle(pool: goev.ConnectionPool[Client]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while pool.idle < IDLE:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {pool.idle} connections of the pool are open")
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1_000_000, help="how many pairs")
    arguments = parser.parse_args()

    with goev.Reactor(1) as reactor:
        host, port = goev.Acceptor(reactor, "127.0.0.1:0", Echo).address
        reactor.start()
        with goev.ConnectionPool(goev.Connector(reactor), f"{host}:{port}", Client, min_idle=IDLE) as pool:
            wait_until_idle(pool)
            seconds = measure(pool, arguments.times)
            with pool.connection() as connection:
                connection.write(b"x")
                if not connection.answered.wait(TIMEOUT):
                    raise TimeoutError("a connection of the pool got no echo")
    print(json.dumps({"pair": seconds}))


if __name__ == "__main__":
    main()
