"""Answers HTTP requests on goev, as a user would write it."""

import argparse

import goev
import secure


class Hello(goev.http.Connection):
    __slots__ = ()

    def on_request(self, request: goev.http.Request) -> None:
        request.respond(200, {"content-type": "text/plain"}, b"Hello, World!")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--pollers", type=int, default=1)
    secure.add_arguments(parser)
    arguments = parser.parse_args()

    goev.serve(
        Hello,
        f"127.0.0.1:{arguments.port}",
        pollers=arguments.pollers,
        tls=secure.goev_context(arguments),
        ready=lambda _: print("ready", flush=True),
    )


if __name__ == "__main__":
    main()
