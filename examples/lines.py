"""A line server: each line comes back in capitals, with its number. ``quit`` closes, as does a line that is too long.

Try it with ``nc 127.0.0.1 8080``.
"""

import argparse

import goev

LONGEST = 1024  # bytes of a line


class Lines(goev.Connection):
    framing = goev.Delimited(b"\n", max_size=LONGEST + 32)  # room for an answer: a number, and the line

    def __init__(self) -> None:
        self.count = 0

    def on_open(self) -> None:
        self.send(b"hello")

    def on_message(self, message: bytes) -> bool:
        line = message.removesuffix(b"\r")
        if line == b"quit" or len(line) > LONGEST:
            self.send(b"bye")
            return False
        self.count += 1
        self.send(b"%d %s" % (self.count, line.upper()))
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="TCP port, 0 for a free one (default: %(default)s)")
    args = parser.parse_args()
    address = f"127.0.0.1:{args.port}"
    goev.serve(Lines, address, ready=lambda acceptor: print("lines on {}:{}".format(*acceptor.address), flush=True))


if __name__ == "__main__":
    main()
