"""Pages of `examples/chat.py` in a real browser, and the example as a process."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, expect

from chat_support import PROGRAM
from support import PATIENCE, Child

PHONE: ViewportSize = {"width": 375, "height": 812}
HANDHELD = {"device_scale_factor": 2, "is_mobile": True, "has_touch": True}
DESKTOP: ViewportSize = {"width": 1280, "height": 800}


class Visitor:
    """A page in a browser of its own (its storage is nobody else's), and what it complains of."""

    def __init__(
        self, browser: Browser, port: int, size: ViewportSize, *, scheme: str = "http", hash_: str = "", **options: Any
    ) -> None:
        self.complaints: list[str] = []
        self.sockets: list[str] = []  # the URLs of its WebSockets
        self.context = browser.new_context(viewport=size, locale="en-GB", **options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.page.on("console", self.on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"{request.url}: {request.failure}"))
        self.page.on("websocket", lambda socket: self.sockets.append(socket.url))
        self.page.goto(f"{scheme}://127.0.0.1:{port}/{hash_}")

    def on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def join(self, name: str, room: str | None = None) -> None:
        self.page.get_by_label("Your name").fill(name)
        if room is not None:
            self.page.get_by_label("Room", exact=True).fill(room)
        self.page.get_by_role("button", name="Join", exact=True).click()
        self.is_in()

    def is_in(self) -> None:
        expect(self.page.get_by_role("button", name="Send")).to_be_enabled(timeout=3 * PATIENCE * 1000)
        expect(self.page.get_by_role("status")).to_have_text("connected")

    def say(self, text: str) -> None:
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.keyboard.press("Enter")
        self.sees(text)

    def sees(self, text: str) -> None:
        expect(self.page.get_by_role("log").get_by_text(text, exact=True)).to_be_visible(timeout=PATIENCE * 1000)

    @property
    def from_end(self) -> int:
        """Pixels of the log below what is shown."""
        pixels: int = self.page.evaluate("() => log.scrollHeight - log.scrollTop - log.clientHeight")
        return pixels


Visit = Callable[..., Visitor]


@contextmanager
def serving(port: int = 0, *options: str) -> Iterator[int]:
    """The port of the example; killed at the end, as by a power cut."""
    with Child(str(PROGRAM), "--port", str(port), *options) as child:
        found = re.search(r":(\d+)$", child.line())
        assert found is not None
        yield int(found[1])
        assert child.process.poll() is None, child.errors
        assert child.complaints == ""
