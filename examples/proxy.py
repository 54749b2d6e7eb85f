"""A TCP relay: it passes all bytes to the upstream and back, with back-pressure in both directions.

``pipe_to`` joins two connections of one poller. The bytes go from socket to socket inside the kernel, without Python. A
slow reader slows the sender down, a half-close goes through, and when one side ends, the other one ends alike.

The kernel may queue megabytes for each reader. Small send buffers keep the bytes in the cache of the CPU. Over long
ways they limit the speed, and ``--send-buffer 0`` leaves their size to the kernel.
"""

import argparse
from contextlib import suppress

import goev


class Upstream(goev.Connection):
    def __init__(self, client: goev.Connection) -> None:
        self.client = client

    def on_open(self) -> bool:
        if self.client.fileno() == -1:  # the client has gone meanwhile
            return False
        self.pipe_to(self.client)
        self.client.pipe_to(self)
        self.client.resume_reading()
        return True

    def on_connect_fail(self, error: Exception) -> None:
        # With its end in the same write: without the interpreter lock two pollers may print at once.
        print(f"no upstream: {error}\n", end="", flush=True)
        self.client.close()


class Client(goev.Connection):
    def __init__(self, connector: goev.Connector, args: argparse.Namespace) -> None:
        self.connector, self.args = connector, args

    def on_open(self) -> None:
        self.pause_reading()  # the client's input waits for the upstream
        self.connector.connect(self.args.upstream, Upstream(self), timeout=self.args.timeout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="TCP port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--upstream", default="127.0.0.1:8081", help="HOST:PORT to relay to (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=10, help="seconds to connect within (default: %(default)s)")
    parser.add_argument("--send-buffer", type=int, default=256 << 10, help="bytes for a reader (default: %(default)s)")
    parser.add_argument("--pollers", type=int, help="threads, each with its own event loop")
    args = parser.parse_args()
    with goev.Reactor(args.pollers) as reactor, suppress(KeyboardInterrupt):
        size = args.send_buffer or None
        connector = goev.Connector(reactor, send_buffer_size=size)
        address = f"127.0.0.1:{args.port}"
        acceptor = goev.Acceptor(reactor, address, lambda: Client(connector, args), send_buffer_size=size)
        print("serving on {}:{}".format(*acceptor.address), flush=True)
        reactor.run()


if __name__ == "__main__":
    main()
