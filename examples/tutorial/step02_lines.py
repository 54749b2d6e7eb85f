"""Step 2: a server that answers each line in capitals."""

import goev


class Shout(goev.Connection):
    framing = goev.Delimited(b"\n", max_size=1000)

    def on_message(self, message: bytes) -> bool:
        self.send(message.upper())
        return message != b"quit"


if __name__ == "__main__":
    goev.serve(Shout, "127.0.0.1:8080")
