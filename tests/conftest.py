"""Fixtures of the suite, one idea each. Helpers that are no fixtures are in support.py.

No two files of tests have the same name, whatever their folders are: pytest imports each by its name alone.
"""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from wires import WIRES, Wire

import goev
from support import Events, Server

# So that a failed assertion in these shows its values, as in a test.
pytest.register_assert_rewrite("http_support", "malformed_support", "tls_attacks", "tls_support", "websocket_support")


@pytest.fixture
def events() -> Events:
    """The reports of the callbacks of a test."""
    return Events()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """A stack for the things that a test opens: it closes them, the last opened first."""
    with ExitStack() as opened:
        yield opened


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"wires(*names): run over each of these wires, of {', '.join(WIRES)}")


def pytest_collection_finish() -> None:
    """Leave what the test modules have imported out of later collections of garbage.

    Tests collect in callbacks, and a collection of a heap with several web frameworks takes a tenth of a second.
    """
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test over each wire that the nearest mark names."""
    mark = metafunc.definition.get_closest_marker("wires")
    if mark and "wire" in metafunc.fixturenames:
        metafunc.parametrize("wire", mark.args, indirect=True)


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> Wire:
    """The wire between servers and their clients: plain bytes, unless a mark says otherwise."""
    return Wire(getattr(request, "param", "plain"))


@pytest.fixture
def start(stack: ExitStack, wire: Wire) -> Callable[..., Server]:
    """``start(factory, pollers=1, **acceptor_options)``: a server in the background, stopped after the test."""

    def start_server(factory: Callable[[], goev.Connection], **options: Any) -> Server:
        return Server(stack, factory, client=wire.client, **wire.acceptor_options, **options)

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


@pytest.fixture
def stalls() -> Iterator[Events]:
    """The texts of the logger ``goev.stalls``, each with its record."""
    events = Events()
    handler = logging.Handler()
    handler.emit = lambda record: events("stall", record.getMessage(), record)  # type: ignore[method-assign]
    logger = logging.getLogger("goev.stalls")
    logger.addHandler(handler)
    yield events
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
