"""Serves one case on goev for a client that counts: prints its port, and ends with its input or by SIGTERM."""

import argparse
import os
import sys

from goev_peer import Plain
from http_peer import Hello
from messages_peer import Batches
from messages_peer import Echo as Messages
from websocket_peer import Echo as WebSocket

import goev

CASES: dict[str, type[goev.Connection]] = {
    "plaintext": Plain,
    "http": Hello,
    "message": Messages,
    "messages": Batches,
    "websocket": WebSocket,
}
BATCH_TIME = 1.0  # seconds: at callgrind's pace the usual millisecond would cut batches


class Input(goev.EventHandler):
    """Stops the reactor at the end of the standard input."""

    __slots__ = ()

    def on_read(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self.reactor.stop(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, default="plaintext")
    parser.add_argument("--pollers", type=int, default=1)
    arguments = parser.parse_args()

    reactor = goev.Reactor(arguments.pollers, batch_time=BATCH_TIME)
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", CASES[arguments.case])
    reactor.add(Input(), sys.stdin, goev.EV_IN)
    print(acceptor.address[1], flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
