"""Echoes WebSocket messages on goev, as a user would write it."""

import argparse

import goev
import secure


class Echo(goev.websocket.Connection):
    __slots__ = ()

    def on_message(self, message: str | bytes) -> None:
        self.send(message)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--pollers", type=int, default=1)
    secure.add_arguments(parser)
    arguments = parser.parse_args()

    goev.serve(
        Echo,
        f"127.0.0.1:{arguments.port}",
        pollers=arguments.pollers,
        tls=secure.goev_context(arguments),
        ready=lambda _: print("ready", flush=True),
    )


if __name__ == "__main__":
    main()
