"""Step 3: a room, in which everybody reads what anybody says."""

import goev

room = goev.Group(goev.Delimited(b"\n"))


class Chatter(goev.Connection):
    framing = goev.Delimited(b"\n", max_size=1000)
    name = b""

    def on_open(self) -> None:
        self.send(b"your name?")

    def on_message(self, message: bytes) -> None:
        if self.name:
            room.send(b"%b: %b" % (self.name, message))
        else:
            self.name = message
            room.add(self)
            room.send(b"%b is here" % self.name)

    def on_close(self, error: BaseException | None) -> None:
        if self.name:
            room.send(b"%b has left" % self.name)


if __name__ == "__main__":
    goev.serve(Chatter, "127.0.0.1:8080")
