"""Step 4: a page for the browser, by HTTP."""

from pathlib import Path

import goev

PAGE = Path(__file__).with_name("chat.html").read_bytes()


class Site(goev.http.Connection):
    def on_request(self, request: goev.http.Request) -> None:
        match request.path:
            case "/":
                request.respond(200, {"content-type": "text/html; charset=utf-8"}, PAGE)
            case "/health":
                request.respond(200, {"content-type": "text/plain"}, b"well\n")
            case _:
                request.respond(404, {"content-type": "text/plain"}, b"nothing here\n")


if __name__ == "__main__":
    goev.serve(Site, "127.0.0.1:8080")
