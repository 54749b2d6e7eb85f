"""A chat in the browser: rooms, names, the people present, the last 50 messages. Page and WebSocket use one port.

Start it and open the address that it prints in two windows. With ``--cluster`` several of these programs, on any
machines, are one chat (``chat_cluster.py``). Both sides send JSON:

    page:   {"type": "join", "room": "lobby", "name": "Ada"}      {"type": "say", "text": "Hello"}
    server: "welcome" and "error" to one client, "message" and "people" to its room, "stats" to all each second
"""

import argparse
import hashlib
import itertools
import json
import re
import secrets
import threading
import time
import unicodedata
from base64 import b64encode
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import goev

if TYPE_CHECKING:
    from chat_cluster import ClusterRoom

MAX_NAME, MAX_ROOM, MAX_TEXT = 24, 32, 500  # characters
MAX_ROOMS, MAX_PEOPLE = 200, 100  # at once, and in a room
MAX_RATE = 10  # requests of one client in a second
HISTORY = 50  # messages of a room for people who join later
MAKE_FILES = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost "
    "-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out cert.pem"
)

PAGE = Path(__file__).with_suffix(".html").read_text()


def sources(tag: str) -> str:
    """Hashes for the content security policy: it allows the inline styles or scripts of the page, and no other."""
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in found)


HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": f"default-src 'none'; script-src {sources('script')}; style-src {sources('style')}; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Refused(Exception):
    """A client asked for something that it does not get. It gets the reason, and its connection goes on."""


def clean(what: str, text: str, limit: int, *, joiners: str = "") -> str:
    """The text on one line, without control characters: they could make one name look like another."""
    kept = [character for character in text if character.isprintable() or character.isspace() or character in joiners]
    shown = unicodedata.normalize("NFC", " ".join("".join(kept).split()))
    if not 0 < len(shown) <= limit:
        raise Refused(f"A {what} has 1 to {limit} characters, not {len(shown)}.")
    return shown


def encoded(event: dict[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False)  # else an emoji has twelve bytes, not four


class Room:
    def __init__(self, name: str) -> None:
        self.name, self.since = name, time.time_ns() // 1000  # ``since`` tells this room from a later one of this name
        self.group = goev.Group(goev.websocket.Framing(), when_behind="end")  # a slow client connects again
        self.people: dict[str, Chatter] = {}  # by name, in small letters
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY)
        self.number = 0

    def names(self) -> list[str]:
        return [chatter.name for chatter in self.people.values()]

    def tell(self, kind: str, **content: Any) -> dict[str, Any]:
        """Send an event to all in the room. Two pollers may deliver two events in either order: the page sorts them."""
        self.number += 1
        event = {"type": kind, "room": self.name, "number": self.number, "time": time.time_ns() // 1_000_000, **content}
        self.group.send(encoded(event))
        return event

    def is_free(self, name: str, who: str) -> bool:
        return name.lower() not in self.people

    def enter(self, chatter: "Chatter", after: str | None) -> None:
        self.people[chatter.name.lower()] = chatter
        self.tell("people", names=self.names(), joined=chatter.name)
        self.group.add(chatter)
        welcome = {"room": self.name, "since": self.since, "number": self.number, "name": chatter.name}
        chatter.send(encoded({"type": "welcome", **welcome, "names": self.names(), "history": list(self.history)}))

    def say(self, name: str, text: str) -> None:
        self.history.append(self.tell("message", name=name, text=text))

    def leave(self, chatter: "Chatter", stays: bool) -> None:
        """``stays``: it comes back at once, under another name."""
        self.group.discard(chatter)
        del self.people[chatter.name.lower()]
        if self.people:
            self.tell("people", names=self.names(), left=chatter.name)


lock = threading.Lock()  # for the names below; there may be several pollers
rooms: dict[str, "Room | ClusterRoom"] = {}
new_room: "Callable[[str], Room | ClusterRoom]" = Room
everyone = goev.Group(goev.websocket.Framing())
said = 0  # messages since the last ``stats``


def count_people() -> dict[str, int]:
    return {room.name: len(room.people) for room in rooms.values()}


class Chatter(goev.websocket.Connection):
    max_message_size = 8192

    def __init__(self) -> None:
        self.room: Room | ClusterRoom | None = None
        self.name = ""
        self.who = secrets.token_hex()  # with a cluster: the page's own, which it brings along when it connects again
        self.asked: deque[float] = deque(maxlen=MAX_RATE)  # times of the last requests

    def on_handshake(self, request: goev.http.Request) -> bool:
        """Refuse the pages of other sites: a visitor's browser would connect them as well."""
        origin = request.headers.get("origin")
        return origin is None or origin.partition("://")[2] == request.headers.get("host")

    def on_open(self) -> None:
        self.set_limits(high_water=1 << 20)  # the history of a room, 120 KB, must not count as falling behind
        everyone.add(self)

    def on_message(self, message: str | bytes) -> None:
        try:
            self.answer(message)
        except Refused as error:
            self.send(encoded({"type": "error", "text": str(error)}))

    def answer(self, message: str | bytes) -> None:
        now = time.monotonic()
        if len(self.asked) == MAX_RATE and now - self.asked[0] < 1:
            raise Refused(f"Not so fast: {MAX_RATE} messages a second.")
        self.asked.append(now)
        try:
            request = json.loads(message)
        except (ValueError, RecursionError):
            raise Refused("That is no JSON.") from None
        with lock:
            match request:
                case {"type": "join", "room": str(room), "name": str(name), **more}:
                    self.who, after = str(more.get("who") or self.who)[:64], more.get("after")
                    room, name = clean("room's name", room.lower(), MAX_ROOM), clean("name", name, MAX_NAME)
                    self.join(room, name, after=after if isinstance(after, str) else None)
                case {"type": "say", "text": str(text)}:
                    self.say(clean("message", text, MAX_TEXT, joiners="\u200c\u200d"))
                case _:
                    raise Refused('Expected {"type": "join", "room": …, "name": …} or {"type": "say", "text": …}.')

    def join(self, room_name: str, name: str, *, after: str | None) -> None:
        room = rooms.get(room_name) or new_room(room_name)
        if room_name not in rooms and len(rooms) >= MAX_ROOMS:
            raise Refused(f"There are {MAX_ROOMS} rooms already. Join one of them.")
        if room is not self.room and len(room.people) >= MAX_PEOPLE:
            raise Refused(f"There are {MAX_PEOPLE} people in “{room_name}” already.")
        self.leave(stays=room is self.room)
        spellings = itertools.chain([name], (f"{name} {number}" for number in itertools.count(2)))
        self.name = next(spelling for spelling in spellings if room.is_free(spelling, self.who))
        try:
            room.enter(self, after)
        except ValueError as error:  # no place
            raise Refused(str(error)) from None
        self.room = rooms[room_name] = room

    def say(self, text: str) -> None:
        global said
        if not self.room:
            raise Refused("Join a room first.")
        said += 1
        self.room.say(self.name, text)

    def leave(self, *, stays: bool = False) -> None:
        if room := self.room:
            self.room = None
            room.leave(self, stays)
            if not room.people:
                del rooms[room.name]

    def on_close(self, error: BaseException | None) -> None:
        with lock:
            self.leave()


class Page(goev.http.Connection):
    def on_request(self, request: goev.http.Request) -> None:
        if request.path == "/chat":
            goev.websocket.upgrade(request, Chatter())
        elif request.path != "/":
            request.respond(404, {"content-type": "text/plain"}, b"Not found\n")
        elif request.method not in ("GET", "HEAD"):
            request.respond(405, {"allow": "GET, HEAD"})
        else:
            request.respond(200, HEADERS, PAGE.encode())


def tell_everyone() -> None:
    global said
    with lock:
        popular = sorted(count_people().items(), key=lambda room: -room[1])[:20]
        stats = {"connections": len(everyone), "rate": said, "rooms": dict(popular)}
        said = 0
    everyone.send(encoded({"type": "stats", **stats}))


def use_cluster(url: str) -> None:
    """Have rooms that are on all nodes."""
    global new_room, count_people
    from chat_cluster import Town

    town = Town(goev.cluster.connect(url), rooms, lock, history=HISTORY)
    new_room, count_people = town.room, town.count_people


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080, help="TCP port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--pollers", type=int, default=1, help="threads, each with its own event loop (default: 1)")
    parser.add_argument("--tls", action="store_true", help="serve https and wss, with --certificate and --key")
    parser.add_argument("--certificate", default="cert.pem", help="PEM file (default: %(default)s)")
    parser.add_argument("--key", default="key.pem", help="PEM file (default: %(default)s)")
    parser.add_argument("--cluster", metavar="URL", help="one chat with other nodes: nats://…, redis://…, memory:")
    args = parser.parse_args()
    try:
        tls = goev.tls.ServerContext(args.certificate, args.key, alpn=["http/1.1"]) if args.tls else None
    except FileNotFoundError as error:
        parser.error(f"{error}\nThis makes both files:\n{MAKE_FILES}")
    if args.cluster:
        try:
            use_cluster(args.cluster)
        except (goev.cluster.ClusterError, ValueError, ModuleNotFoundError) as error:
            parser.error(str(error))
    with goev.Reactor(args.pollers) as reactor, suppress(KeyboardInterrupt):
        acceptor = goev.Acceptor(reactor, f"127.0.0.1:{args.port}", Page, idle_timeout=60, tls=tls)
        reactor.schedule(1, tell_everyone, every=1)
        print("chat on {}://{}:{}".format("https" if tls else "http", *acceptor.address), flush=True)
        reactor.run()


if __name__ == "__main__":
    main()
