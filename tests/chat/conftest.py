"""A browser for the tests of the chat's page."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, ViewportSize, sync_playwright

from support import need
from visitors import DESKTOP, Visit, Visitor

OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, with a profile of its own that is removed."""
    executable = need("chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=OPTIONS)
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Browser, stack: ExitStack) -> Iterator[Visit]:
    """``visit(port, size)``: a page. None may complain of anything."""
    visitors: list[Visitor] = []

    def come(port: int, size: ViewportSize = DESKTOP, **options: Any) -> Visitor:
        visitors.append(visitor := Visitor(browser, port, size, **options))
        stack.callback(visitor.context.close)
        return visitor

    yield come
    assert [complaint for visitor in visitors for complaint in visitor.complaints] == []
