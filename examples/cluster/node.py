"""One machine of a chat on many: a room with a history, its people on all machines, and messages to one of them.

``start.py`` beside it starts three of these, an engine and a balancer. Both sides send JSON:

    page:   {"join": "ada", "after": place or null}    {"say": "hello"}    {"to": "bob", "say": "hello"}
    server: {"from": "ada", "text": "hello", "at": 8001, "place": "…"}    {"people": ["ada", "bob"]}
"""

import argparse
import json
from pathlib import Path
from typing import Any

import goev

PAGE = Path(__file__).with_name("page.html").read_bytes()

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1", help="address on which it listens (default: %(default)s)")
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--engine", default="memory:", help="nats://…, redis://… (default: %(default)s)")
parser.add_argument("--balancer", help="its address; it sends the addresses of clients (PROXY protocol)")
args = parser.parse_args()


def stamp(message: str, place: str) -> str:
    """A message with its place, which the page brings along when it connects again."""
    return json.dumps({**json.loads(message), "place": place})


def tell_people(_: Any) -> None:
    """Send the names of all people on all machines to those on this one."""
    names = sorted({member.meta for member in room.presence()})
    here.send(json.dumps({"people": names}))


cluster = goev.cluster.connect(args.engine)
room = cluster.group("room", goev.websocket.Framing(), history=50, stamp=stamp, when_behind="end")
room.watch(on_join=tell_people, on_leave=tell_people)
here = goev.Group(goev.websocket.Framing())


class Chatter(goev.websocket.Connection):
    name = ""

    def on_handshake(self, request: goev.http.Request) -> bool:
        origin = request.headers.get("origin")
        return origin is None or origin.partition("://")[2] == request.headers.get("host")

    def on_message(self, message: str | bytes) -> None:
        match json.loads(message):
            case {"join": str(name), "after": None | str() as after} if not self.name and 0 < len(name) <= 24:
                self.name = name
                here.add(self)
                room.add(self, meta=name, after=after)
                cluster.register(f"user:{name}", self)
                tell_people(None)
            case {"to": str(name), "say": str(text)} if self.name and len(text) <= 500:
                cluster.tell(f"user:{name}", json.dumps({"from": self.name, "text": text, "at": args.port, "to": name}))
            case {"say": str(text)} if self.name and len(text) <= 500:
                room.send(json.dumps({"from": self.name, "text": text, "at": args.port}))
            case _:
                self.close(1008, "join first, then say")


class Page(goev.http.Connection):
    def on_request(self, request: goev.http.Request) -> None:
        match request.path:
            case "/chat":
                goev.websocket.upgrade(request, Chatter())
            case "/":
                request.respond(200, {"content-type": "text/html; charset=utf-8"}, PAGE)
            case "/ready":  # for the balancer
                request.respond(200 if cluster.is_ready else 503)
            case _:
                request.respond(404)


trusted = [args.balancer] if args.balancer else None
goev.serve(Page, f"{args.host}:{args.port}", proxy_protocol=bool(trusted), proxy_from=trusted)
cluster.close()
