"""Coroutines leave nothing behind: memory is flat over many connections and requests."""

from pathlib import Path

import pytest

from support import Child

PROGRAM = str(Path(__file__).with_name("coroutine_memory.py"))


@pytest.mark.timeout(120)
def test_memory_is_flat_over_many_connections_and_requests():
    """Of each 10,000, a quarter of the connections cut while they wait. So it takes some seconds."""
    with Child(PROGRAM, "--count", "10000") as child:
        before, after, objects_before, objects_after = map(int, child.line(100).split())
        assert child.end() == 0
        assert child.complaints == ""
    assert after - before < 2_000_000
    assert objects_after - objects_before < 200
