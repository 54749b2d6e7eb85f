"""The pages ``/metrics``, ``/-/live`` and ``/-/ready``."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from goev import http
from goev.metrics.exposition import OPENMETRICS, PLAIN, check_installed, plain_of, wants_openmetrics

TEXT = "text/plain; charset=utf-8"


class Health(Protocol):
    """Attributes:
    is_live: whether the program works at all. If not, it should be ended.
    is_ready: whether it takes requests. If not, it should get none for now.
    """

    @property
    def is_live(self) -> bool: ...

    @property
    def is_ready(self) -> bool: ...


class Source(Health, Protocol):
    """The health and the metrics that the pages show."""

    async def collect(self) -> str:
        """All metrics as OpenMetrics text (``Totals.text``). It must not wait for a process that does not answer
        (``refresh``)."""


class Page(http.Connection):
    """Answers everything but ``/metrics``."""

    def __init__(self, health: Health) -> None:
        self.health = health

    def answer(self, request: http.Request) -> bool:
        """Answer ``request``, unless it asks for the metrics: then the result is true."""
        if request.method not in ("GET", "HEAD"):
            request.respond(405, {"allow": "GET, HEAD", "content-type": TEXT}, b"only GET and HEAD\n")
            return False
        match request.path:
            case "/metrics":
                return True
            case "/-/live":
                tell(request, "live", self.health.is_live)
            case "/-/ready":
                tell(request, "ready", self.health.is_ready)
            case _:
                request.respond(404, {"content-type": TEXT}, b"/metrics\n/-/live\n/-/ready\n")
        return False


class Pages(Page):
    """The pages of a source that may have to wait for others."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.source = source

    async def on_request(self, request: http.Request) -> None:
        if self.answer(request):
            give(request, await self.source.collect())


def pages(source: Source) -> Callable[[], http.Connection]:
    """A factory for ``Acceptor`` that serves the metrics and the health of ``source``.

    ``/metrics`` is OpenMetrics text, or the older text of Prometheus for a client that does not ask for OpenMetrics.
    ``/-/live`` and ``/-/ready`` answer 200 or 503. Needs ``Reactor(asyncio=True)``.

    Raises:
        ModuleNotFoundError: ``prometheus_client`` is not installed.
    """
    check_installed()
    return partial(Pages, source)


def give(request: http.Request, text: str) -> None:
    """Answer with metrics, in the form that the client wants."""
    accept = ",".join(request.headers.get_all("accept"))
    if wants_openmetrics(accept):
        request.respond(200, {"content-type": OPENMETRICS, "vary": "accept"}, text.encode())
    else:
        request.respond(200, {"content-type": PLAIN, "vary": "accept"}, plain_of(text).encode())


def tell(request: http.Request, state: str, holds: bool) -> None:
    text = f"{state}\n" if holds else f"not {state}\n"
    request.respond(200 if holds else 503, {"content-type": TEXT, "cache-control": "no-store"}, text.encode())
