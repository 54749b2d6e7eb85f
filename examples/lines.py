"""A line server: each line comes back in capitals, with its number; ``quit`` ends it.

Try it with ``nc 127.0.0.1 8080``.
"""

import argparse

import goev


class Lines(goev.Connection):
    framing = goev.Delimited(b"\n", max_size=1024)

    def __init__(self) -> None:
        self.count = 0

    def on_open(self) -> None:
        self.send(b"hello")

    def on_message(self, message: bytes) -> bool:
        line = message.removesuffix(b"\r")
        self.count += 1
        self.send(b"bye" if line == b"quit" else b"%d %s" % (self.count, line.upper()))
        return line != b"quit"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="TCP port, 0 for a free one (default: %(default)s)")
    args = parser.parse_args()
    address = f"127.0.0.1:{args.port}"
    goev.serve(Lines, address, ready=lambda acceptor: print("lines on {}:{}".format(*acceptor.address), flush=True))


if __name__ == "__main__":
    main()
