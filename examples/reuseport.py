"""One listener per poller: with SO_REUSEPORT the kernel spreads the connections, and no poller hands any to another.

With --cpu-steering a connection goes to the poller of the CPU it arrived on, and the pollers are pinned.
"""

import argparse
import os

import goev

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n"


class Hello(goev.Connection):
    def on_read(self) -> None:
        while self.read_until(b"\r\n\r\n", 8192):
            self.write(RESPONSE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="TCP port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--pollers", type=int, default=os.cpu_count(), help="default: one per CPU (%(default)s)")
    parser.add_argument("--cpu-steering", action="store_true", help="connections stay on the CPU they arrived on")
    args = parser.parse_args()
    goev.serve(
        Hello,
        f"127.0.0.1:{args.port}",
        pollers=args.pollers,
        reuse_port=True,
        cpu_steering=args.cpu_steering,
        ready=lambda acceptor: print("{} pollers on {}:{}".format(args.pollers, *acceptor.address), flush=True),
    )


if __name__ == "__main__":
    main()
