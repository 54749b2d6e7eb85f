"""Fixtures of the suite, one idea each. Helpers that are no fixtures are in support.py.

No two files of tests have the same name, whatever their folders are: pytest imports each by its name alone.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import goev
from support import Events, Server

# So that a failed assertion in these shows its values, as in a test.
pytest.register_assert_rewrite("http_support", "malformed_support", "websocket_support")


@pytest.fixture
def events() -> Events:
    """The reports of the callbacks of a test."""
    return Events()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """A stack for the things that a test opens: it closes them, the last opened first."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def start(stack: ExitStack) -> Callable[..., Server]:
    """``start(factory, pollers=1, **acceptor_options)``: a server in the background, stopped after the test."""

    def start_server(factory: Callable[[], goev.Connection], **options: Any) -> Server:
        return Server(stack, factory, **options)

    return start_server


@pytest.fixture
def reactor() -> Iterator[goev.Reactor]:
    """A reactor with one poller, running in the background."""
    with goev.Reactor(pollers=1) as running:
        running.start()
        yield running


@pytest.fixture
def idle() -> Iterator[goev.Reactor]:
    """A reactor that was not started."""
    reactor = goev.Reactor(pollers=1)
    yield reactor
    reactor.stop(grace=0)


class Log(logging.Handler):
    """Records of the logger ``goev``; a test waits for them as for events."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.events = Events()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "goev.stalls":  # many tests hold a poller, and any machine may be slow
            self.events(record.name, record)

    def next(self) -> tuple[logging.LogRecord, str]:
        """The next record, and its text as a plain formatter prints it (traceback included)."""
        record = self.events.next()[1]
        return record, logging.Formatter().format(record)

    def texts(self) -> list[str]:
        return [logging.Formatter().format(record) for _, record in self.events.history]


@pytest.fixture
def log() -> Iterator[Log]:
    """For tests that expect goev to log something."""
    handler = Log()
    logger = logging.getLogger("goev")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def nothing_logged(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test without ``log`` fails when goev logs a warning, so no failed assertion in a callback goes unnoticed."""
    if "log" in request.fixturenames:
        yield
        return
    handler = Log()
    logger = logging.getLogger("goev")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    texts = handler.texts()
    if texts:
        pytest.fail("goev logged:\n" + "\n".join(texts))
