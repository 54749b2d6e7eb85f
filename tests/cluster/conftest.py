"""The engines of the tests of clusters."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import Memory, NatsServer, Redis
from outside import LineServer

from cluster_support import NAMES

ENGINES = ["memory", "nats", "outside"]


def made(name: str, folder: Path) -> Any:
    match name:
        case "memory":
            return Memory(next(NAMES))
        case "nats":
            return NatsServer(folder)
        case "redis":
            return Redis(folder)
        case _:
            return LineServer()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """An engine, with a URL; a mark ``engines`` names those of a test."""
    running = made(request.param, tmp_path)
    yield running
    running.close()
