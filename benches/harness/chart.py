"""The chart of the README as SVG: bars of throughput and thin bars of p99, readable on a light and on a dark page.

First the cases that stand for what users build, then the plain echo with its limits. The labels name the servers as a
reader knows them. docs/benchmarks.md has the other servers and cases.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from harness.peers import PEERS
from harness.results import Result


@dataclass(frozen=True)
class Panel:
    case: str
    title: str
    rate: str  # the metric of the bars
    bars: dict[str, str]  # the labels, by peer


PANELS = (
    Panel(
        "messages",
        "Messages of 64 bytes, 512 under way",
        "echoes",
        {
            "goev-batches": "goev, on_messages",
            "goev-1": "goev, on_message",
            "uvloop": "uvloop, a Protocol",
            "asyncio-streams": "asyncio streams",
        },
    ),
    Panel(
        "http",
        "HTTP requests, 64 connections",
        "rate",
        {"goev": "goev", "gnet": "gnet (Go)", "socketify": "socketify", "granian": "granian"},
    ),
    Panel(
        "websocket",
        "WebSocket messages of 64 bytes",
        "echoes",
        {"goev-1": "goev", "picows": "picows", "websockets": "websockets"},
    ),
    Panel(
        "tls-c64",
        "Requests over TLS 1.3, 64 connections",
        "rate",
        {
            "goev": "goev",
            "nginx-x2": "nginx, 2 workers",
            "aiofastnet": "aiofastnet",
            "uvloop-x2": "uvloop, 2 processes",
        },
    ),
    Panel(
        "redis",
        "asyncio: HTTP with a look-up in Redis",
        "rate",
        {"goev-coroutine": "goev, async def", "uvicorn": "uvicorn"},
    ),
    Panel(
        "c64",
        "Plain echo (plaintext), 64 connections",
        "rate",
        {
            "goev": "goev",
            "gnet": "gnet (Go)",
            "uvloop-x2": "uvloop, 2 processes",
            "go-goev": "goev of Go",
            "core": "goev's core in Rust",
            "bare-epoll": "bare epoll loop",
        },
    ),
)
LIMITS = ("core", "bare-epoll")  # programs without Python: nobody can pass them

GOEV, OTHERS, TEXT = "#2f81f7", "#8c959f", "#6e7781"  # readable on white and on GitHub's dark page
PANEL, GAP = 430, 40  # widths
LEGEND, HEAD, ROW, FOOT = 34, 26, 22, 22  # heights
BARS, BAR, RATES = 146, 118, 318  # the places where bars begin and numbers end, and the length of the longest bar
THIN_BARS, THIN_BAR = 334, 40
STYLE = f"""\
text {{ font: 13px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: {TEXT}; }}
.title {{ font-weight: 600; font-size: 14px; }}
.us {{ fill: {GOEV}; font-weight: 600; }}
.goev {{ fill: {GOEV}; }}
.other {{ fill: {OTHERS}; }}
.limit {{ fill: none; stroke: {OTHERS}; }}
.line {{ stroke: {OTHERS}; stroke-dasharray: 3 3; }}"""


def draw(results: dict[str, Result]) -> str:
    """An SVG with one panel for each of PANELS that was measured, two in a row."""
    panels = [panel for panel in PANELS if panel.case in results]
    parts: list[str] = []
    top = LEGEND
    for left, right in zip(panels[::2], [*panels[1::2], None], strict=False):
        pair = [panel for panel in (left, right) if panel is not None]
        for x, panel in zip((0, PANEL + GAP), pair, strict=False):
            parts += [f'<g transform="translate({x} {top})">', *_panel(panel, results[panel.case]), "</g>"]
        top += HEAD + ROW * max(len(panel.bars) for panel in pair) + FOOT
    width = 2 * PANEL + GAP
    heading = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {top}" width="{width}">'
    title = "<title>Throughput and p99 of goev and other servers</title>"
    return "\n".join([heading, title, f"<style>\n{STYLE}\n</style>", *_legend(), *parts, "</svg>"]) + "\n"


def _legend() -> Iterator[str]:
    x = 0
    for kind, label, room in (("goev", "goev", 64), ("other", "others", 72), ("limit", "limits, without Python", 0)):
        yield _bar(kind, x + 0.5, 4.5, 12, 12)
        yield _text(x + 18, 15, label)
        x += room
    yield _text(2 * PANEL + GAP, 15, "per second: longer is better; p99, thin: shorter is better", anchor="end")


def _panel(panel: Panel, result: Result) -> Iterator[str]:
    yield _text(0, 14, panel.title, kind="title")
    peers = [peer for peer in panel.bars if peer in result.runs]
    rates = {peer: result.median(peer, panel.rate) for peer in peers}
    slowest = {peer: result.median(peer, "p99") for peer in peers} if result.has("p99") else {}
    if slowest:
        yield _text(THIN_BARS, 14, "p99")
    for index, peer in enumerate(peers):
        y = HEAD + ROW * index
        us, kind = _kinds(peer)
        length = BAR * rates[peer] / max(rates.values())
        yield _text(0, y + 12, panel.bars[peer], kind=us)
        yield _bar(kind, BARS, y + 0.5, length, 14)
        yield _text(RATES, y + 12, show_rate(rates[peer]), anchor="end")
        if slowest:
            length = THIN_BAR * slowest[peer] / max(slowest.values())
            yield _bar(kind, THIN_BARS, y + 5.5, length, 4)
            yield _text(PANEL, y + 12, show_time(slowest[peer]), anchor="end")
    limits = [peer for peer in peers if PEERS[peer].program in LIMITS]
    if limits:
        x = BARS + BAR * max(rates[peer] for peer in limits) / max(rates.values())
        bottom = HEAD + ROW * peers.index(limits[0])
        yield f'<line class="line" x1="{x:.1f}" y1="{HEAD - 4}" x2="{x:.1f}" y2="{bottom}"/>'


def _kinds(peer: str) -> tuple[str, str]:
    """The classes of a label and of a bar."""
    if PEERS[peer].program in LIMITS:
        return "", "limit"
    return ("us", "goev") if peer.startswith("goev") else ("", "other")


def _bar(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:.1f}" height="{height}" rx="1.5"/>'


def _text(x: float, y: float, text: str, *, kind: str = "", anchor: str = "") -> str:
    attributes = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:g}"{attributes}>{escape(text)}</text>'


def show_rate(rate: float) -> str:
    """Three digits: 4.07 M, 627 k, 5.49 k."""
    number, unit = (rate / 1e6, " M") if rate >= 999_500 else (rate / 1e3, " k")
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}{unit}"


def show_time(seconds: float) -> str:
    """Two or three digits: 901 µs, 4.2 ms, 12 ms."""
    if seconds < 999.5e-6:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.{1 if seconds < 9.95e-3 else 0}f} ms"
