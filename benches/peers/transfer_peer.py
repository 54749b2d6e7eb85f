"""Sends a file, or takes uploads and discards them, on goev as a user would write it."""

import argparse
from pathlib import Path

import goev
import secure


class Transfer(goev.http.Connection):
    __slots__ = ()

    limits = goev.http.Limits(max_body=1 << 30)
    file: Path | None = None

    def on_request(self, request: goev.http.Request) -> None:
        if request.method == "GET" and self.file is not None:
            request.respond_file(self.file)

    def on_body(self, request: goev.http.Request, data: bytes) -> None:
        if not data and not request.answered:
            request.respond(200, {"content-type": "text/plain"}, b"Hello, World!")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--pollers", type=int, default=1)
    parser.add_argument("--file", type=Path)
    secure.add_arguments(parser)
    arguments = parser.parse_args()

    Transfer.file = arguments.file
    goev.serve(
        Transfer,
        f"127.0.0.1:{arguments.port}",
        pollers=arguments.pollers,
        tls=secure.goev_context(arguments),
        ready=lambda _: print("ready", flush=True),
    )


if __name__ == "__main__":
    main()
