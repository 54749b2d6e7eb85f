"""The engines of the tests of clusters."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster_support import HOMES
from engines import SharedRedisCluster, made

ENGINES = ["memory", "nats", "redis", "redis-cluster", "outside"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """An engine, with a URL."""
    running = made(request.param, tmp_path)
    yield running
    running.close()


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest) -> str:
    """Where a cluster lives."""
    return request.param


@pytest.fixture(scope="session", autouse=True)
def _shared() -> Iterator[None]:
    """The engine that tests share ends with them."""
    yield
    SharedRedisCluster.end()
