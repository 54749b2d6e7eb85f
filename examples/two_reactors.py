"""Two reactors: one only accepts, the other serves.

A flood of new connections then never delays the open ones, and the serving pollers get new connections in turn.
"""

import argparse
from contextlib import suppress

import goev

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n"


class Hello(goev.Connection):
    def on_read(self) -> None:
        while self.read_until(b"\r\n\r\n", 8192):
            self.write(RESPONSE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="TCP port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--pollers", type=int, default=2, help="serving pollers (default: %(default)s)")
    args = parser.parse_args()
    # Both are stopped and joined at the end of the block, also after an exception.
    with goev.Reactor() as accepting, goev.Reactor(args.pollers) as serving:
        acceptor = goev.Acceptor(accepting, f"127.0.0.1:{args.port}", Hello, backlog=256, connection_reactor=serving)
        with suppress(KeyboardInterrupt):
            print("accepting and serving on {}:{}".format(*acceptor.address), flush=True)
            accepting.start()  # in the background
            serving.run()  # this thread is poller 0


if __name__ == "__main__":
    main()
