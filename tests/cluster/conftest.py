"""The engines of the tests of clusters."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines import made

ENGINES = ["memory", "nats", "redis", "outside"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """An engine, with a URL."""
    running = made(request.param, tmp_path)
    yield running
    running.close()
