"""The server that the Autobahn test suite tests: it echoes each message."""

import goev


class Echo(goev.websocket.Connection):
    max_message_size = 32 * 1024 * 1024  # the largest message of the suite has 16 MiB
    ping_interval = None  # the suite counts the frames that it gets

    def on_message(self, message: str | bytes) -> None:
        self.send(message)


if __name__ == "__main__":
    goev.serve(Echo, "127.0.0.1:0", ready=lambda acceptor: print(acceptor.address[1], flush=True))
