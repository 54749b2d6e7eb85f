"""Echoes messages with their length before them, on goev, as a user would write it."""

import argparse

import goev


class Echo(goev.Connection):
    __slots__ = ()
    framing = goev.LengthPrefixed(4)

    def on_message(self, message: bytes) -> None:
        self.send(message)


class Batches(goev.Connection):
    __slots__ = ()
    framing = goev.LengthPrefixed(4)

    def on_messages(self, messages: list[bytes]) -> None:
        self.send_messages(messages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--pollers", type=int, default=1)
    parser.add_argument("--batches", action="store_true", help="take all messages that are there in one call")
    arguments = parser.parse_args()

    goev.serve(
        Batches if arguments.batches else Echo,
        f"127.0.0.1:{arguments.port}",
        pollers=arguments.pollers,
        ready=lambda _: print("ready", flush=True),
    )


if __name__ == "__main__":
    main()
