"""Step 1: a server that sends back every byte."""

import goev


class Echo(goev.Connection):
    def on_read(self) -> None:
        self.write(self.read())


if __name__ == "__main__":
    goev.serve(Echo, "127.0.0.1:8080")
