"""A UDP echo server: it sends each datagram back to its sender.

Try it with ``nc -u 127.0.0.1 9999``.
"""

import argparse
import logging
from contextlib import suppress
from typing import Any

import goev


class UdpEcho(goev.Datagram):
    def on_open(self) -> None:
        print("serving on {}:{}".format(*self.local_address), flush=True)

    def on_datagram(self, data: bytes, address: Any) -> None:
        self.send_to(data, address)  # goes out when the batch is over, with the other answers of the batch

    def on_error(self, error: Exception) -> None:
        logging.warning("%s", error)  # about one datagram: the socket goes on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9999, help="UDP port, 0 for a free one (default: %(default)s)")
    args = parser.parse_args()
    with goev.Reactor(pollers=1) as reactor, suppress(KeyboardInterrupt):
        UdpEcho().bind(reactor, f"127.0.0.1:{args.port}")
        reactor.run()


if __name__ == "__main__":
    main()
