"""An echo server: it sends back every byte that arrives.

Try it with ``nc 127.0.0.1 8080``.
"""

import argparse

import goev


class Echo(goev.Connection):
    def on_read(self) -> None:
        self.write(self.read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="TCP port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--pollers", type=int, help="threads, each with its own event loop")
    args = parser.parse_args()
    goev.serve(
        Echo,
        f"127.0.0.1:{args.port}",
        pollers=args.pollers,
        ready=lambda acceptor: print("echo on {}:{}".format(*acceptor.address), flush=True),
    )


if __name__ == "__main__":
    main()
