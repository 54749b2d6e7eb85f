"""A TCP relay: it passes all bytes to the upstream and back, with back-pressure in both directions.

Each connection feeds the other one of its pair, and pauses while the output of the other is above its high-water mark.
So a slow reader slows the sender down, and memory stays bounded. ``auto_pause=False`` leaves the other direction alone.
"""

import argparse
from contextlib import suppress

import goev


class Side(goev.Connection):
    """One end of a relayed pair. Both live on one poller, so each may call any method of the other."""

    other: "Side | None" = None  # only while both ends are open

    def on_read(self) -> None:
        if self.other:
            self.other.write(self.read())  # held by reference, not copied
            if self.other.over_high_water:
                self.pause_reading()

    def on_drain(self) -> None:
        if self.other:
            self.other.resume_reading()

    def on_eof(self) -> None:
        if self.other:
            self.other.shutdown_write()  # after the queued output; the other direction goes on

    def on_close(self, error: BaseException | None) -> None:
        if other := self.other:
            other.other = self.other = None
            # A cut stream must not look complete on the other side: a reset becomes a reset.
            (other.close if error is None else other.abort)()


class Upstream(Side):
    def __init__(self, client: Side) -> None:
        self.client = client

    def on_open(self) -> bool:
        if self.client.fileno() == -1:  # the client has gone meanwhile
            return False
        self.other, self.client.other = self.client, self
        self.client.resume_reading()
        return True

    def on_connect_fail(self, error: Exception) -> None:
        print(f"no upstream: {error}", flush=True)
        self.client.close()


class Client(Side):
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
    parser.add_argument("--pollers", type=int, help="threads, each with its own event loop (default: 1)")
    args = parser.parse_args()
    with goev.Reactor(args.pollers) as reactor, suppress(KeyboardInterrupt):
        connector = goev.Connector(reactor, auto_pause=False)
        acceptor = goev.Acceptor(reactor, f"127.0.0.1:{args.port}", lambda: Client(connector, args), auto_pause=False)
        print("serving on {}:{}".format(*acceptor.address), flush=True)
        reactor.run()


if __name__ == "__main__":
    main()
