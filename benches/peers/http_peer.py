"""Answers HTTP requests on goev, as a user would write it."""

import argparse

import goev
import goev_serving
import secure


class Hello(goev.http.Connection):
    __slots__ = ()

    def on_request(self, request: goev.http.Request) -> None:
        request.respond(200, {"content-type": "text/plain"}, b"Hello, World!")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    goev_serving.add_arguments(parser)
    secure.add_arguments(parser)
    arguments = parser.parse_args()

    goev_serving.serve(Hello, arguments, tls=secure.goev_context(arguments))


if __name__ == "__main__":
    main()
