"""Draws docs/architecture.svg, the picture of the architecture: floors of boxes, and what passes between them.

``make picture`` runs it. Its middle tones, those of docs/benchmarks.svg, are readable on light and on dark pages.
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path

REPO = Path(__file__).parent.parent
PICTURE = REPO / "docs" / "architecture.svg"

WIDTH, MARGIN = 900.0, 16.0
SIDE = 220.0  # the width of the column of other threads
GAP = 12.0  # between boxes
BOX = 46.0  # the height of a box
HEAD = 26.0  # the room for the title of a floor
STEP = 30.0  # between floors, where the arrows are
STYLE = """
text { font: 13px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #6e7781; }
.title { font-weight: 600; font-size: 14px; }
.name { fill: #2f81f7; font-weight: 600; text-anchor: middle; }
.about { font-size: 12px; text-anchor: middle; }
.floor { fill: none; stroke: #8c959f; stroke-dasharray: 3 3; }
.box { fill: none; stroke: #2f81f7; }
.arrow { fill: none; stroke: #8c959f; marker-end: url(#tip); }
.tip { fill: #8c959f; }
"""


@dataclass(frozen=True)
class Box:
    """A part: its name, and a line about it."""

    name: str
    about: str


@dataclass(frozen=True)
class Floor:
    """A layer of the source.

    Attributes:
        title: its name, and its rule.
        path: its folder, at the right of the title; none for what is not part of goev.
        boxes: its parts, from left to right.
        up, down: what passes to and from the floor below.
    """

    title: str
    path: str
    boxes: tuple[Box, ...]
    up: str = ""
    down: str = ""


FLOORS = (
    Floor(
        "Your handlers: Python, with the interpreter lock",
        "",
        (
            Box("Connection", "on_read, on_message"),
            Box("http, websocket", "on_request, on_pong"),
            Box("ASGI, WSGI", "applications"),
            Box("async def", "asyncio's libraries"),
        ),
        up="callbacks, in batches",
        down="write, respond, close",
    ),
    Floor(
        "Faces: how a callback is called",
        "src/python",
        (
            Box("dispatch", "the calls of a batch"),
            Box("classes", "one for each protocol"),
            Box("event loop", "of asyncio, a poller"),
        ),
        up="messages, requests",
        down="answers, in order",
    ),
    Floor(
        "Meaning: pure machines without sockets",
        "src/protocols",
        (
            Box("framing", "length, delimiter, size"),
            Box("http", "requests, answers"),
            Box("websocket", "frames, close"),
        ),
        up="bytes",
        down="bytes to send",
    ),
    Floor(
        "Pollers: one thread and one epoll each, without the interpreter lock",
        "src/poller",
        (
            Box("1  wait", "epoll_wait"),
            Box("2  read", "all that is ready"),
            Box("3  call", "attached once"),
            Box("4  flush", "one send for each"),
        ),
        up="input",
        down="output",
    ),
    Floor(
        "Bytes: what one socket has",
        "src/connection",
        (
            Box("transport", "plain, TLS, memory"),
            Box("buffers", "input, output, limits"),
            Box("timers", "idle, write, lifetime"),
        ),
        up="recv",
        down="send, sendfile, splice",
    ),
)
# The parts that any other thread may use, beside the floor of the pollers.
SHARED = Floor(
    "Other threads",
    "src/shared",
    (Box("mailbox", "write, call_soon, close"), Box("acceptor", "listens, places"), Box("executor", "blocking work")),
)


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "") -> str:
    attributes = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:g}" y="{y:g}"{attributes}>{escape(content)}</text>'


def rectangle(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4"/>'


def arrow(*points: tuple[float, float]) -> str:
    way = " L ".join(f"{x:g} {y:g}" for x, y in points)
    return f'<path class="arrow" d="M {way}"/>'


def box(part: Box, x: float, y: float, width: float) -> list[str]:
    middle = x + width / 2
    return [
        rectangle("box", x, y, width, BOX),
        text(middle, y + 20, part.name, "name"),
        text(middle, y + 37, part.about, "about"),
    ]


def floor(layer: Floor, y: float, width: float) -> list[str]:
    """A floor with its boxes, and below it the arrows to the next floor."""
    inside = width - 2 * GAP
    each = (inside - GAP * (len(layer.boxes) - 1)) / len(layer.boxes)
    height = HEAD + BOX + GAP
    drawn = [rectangle("floor", MARGIN, y, width, height), text(MARGIN + GAP, y + 18, layer.title, "title")]
    if layer.path:
        drawn.append(text(MARGIN + width - GAP, y + 18, layer.path, anchor="end"))
    for number, part in enumerate(layer.boxes):
        drawn += box(part, MARGIN + GAP + number * (each + GAP), y + HEAD, each)
    left, right, top, bottom = MARGIN + width * 0.3, MARGIN + width * 0.6, y + height + 3, y + height + STEP - 3
    drawn += [arrow((left, bottom), (left, top)), text(left + 8, y + height + 20, layer.up)]
    drawn += [arrow((right, top), (right, bottom)), text(right + 8, y + height + 20, layer.down)]
    return drawn


def side(layer: Floor, y: float, target: float) -> list[str]:
    """The column of the other threads, and its arrow to the pollers at the height ``target``."""
    x, count = WIDTH - MARGIN - SIDE, len(layer.boxes)
    height = HEAD + count * (BOX + GAP)
    drawn = [rectangle("floor", x, y, SIDE, height), text(x + GAP, y + 18, layer.title, "title")]
    drawn.append(text(x + SIDE - GAP, y + 18, layer.path, anchor="end"))
    for number, part in enumerate(layer.boxes):
        drawn += box(part, x + GAP, y + HEAD + number * (BOX + GAP), SIDE - 2 * GAP)
    drawn.append(arrow((x + SIDE / 2, y + height), (x + SIDE / 2, target), (x - GAP, target)))
    drawn.append(text(x + SIDE / 2 - 8, target - 8, "messages", anchor="end"))
    return drawn


def picture() -> str:
    """The whole picture as SVG."""
    width = WIDTH - 2 * MARGIN - SIDE - GAP
    step = HEAD + BOX + GAP + STEP
    tops = [MARGIN + number * step for number in range(len(FLOORS) + 1)]
    drawn = [line for layer, y in zip(FLOORS, tops, strict=False) for line in floor(layer, y, width)]
    drawn += side(SHARED, tops[1], tops[3] + HEAD + BOX / 2)
    bottom = tops[-1]
    drawn += [
        rectangle("floor", MARGIN, bottom, width, HEAD),
        text(MARGIN + GAP, bottom + 18, "Linux: sockets, epoll, pipes", "title"),
    ]
    height = bottom + HEAD + MARGIN
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH:g} {height:g}" width="{WIDTH:g}">',
        "<title>The architecture of goev: handlers, faces, protocols, pollers, connections</title>",
        f"<style>{STYLE}</style>",
        f'<defs>{tip}<path class="tip" d="M 0 0 L 8 4 L 0 8 z"/></marker></defs>',
    ]
    return "\n".join([*head, *drawn, "</svg>\n"])


if __name__ == "__main__":
    PICTURE.write_text(picture())
