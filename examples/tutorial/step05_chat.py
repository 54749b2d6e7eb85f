"""Step 5: the room in the browser, by WebSockets."""

from typing import Any
from urllib.parse import parse_qsl

import goev
from step04_page import Site


class Chatter(goev.websocket.Connection):
    max_message_size = 4000
    room: Any = goev.Group(goev.websocket.Framing())

    def __init__(self, name: str) -> None:
        self.name = name

    def on_handshake(self, request: goev.http.Request) -> bool:
        origin = request.headers.get("origin")
        return origin is None or origin.partition("://")[2] == request.host

    def on_open(self) -> None:
        self.room.add(self)
        self.room.send(f"{self.name} is here")

    def on_message(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.room.send(f"{self.name}: {message}")
        else:
            self.close(1003, "text only")

    def on_close(self, error: BaseException | None) -> None:
        self.room.send(f"{self.name} has left")


class Chat(Site):
    chatter = Chatter

    def on_request(self, request: goev.http.Request) -> None:
        if request.path == "/chat":
            name = dict(parse_qsl(request.query)).get("name", "somebody")[:24]
            goev.websocket.upgrade(request, self.chatter(name))
        else:
            super().on_request(request)


if __name__ == "__main__":
    goev.serve(Chat, "127.0.0.1:8080")
