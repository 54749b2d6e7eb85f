"""A fixture opens the connection that tests of bad input call."""

import pytest

import goev


@pytest.fixture
def connection(start, events):
    """An open connection."""

    class Opens(goev.Connection):
        def on_open(self):
            events("open", self)

    start(Opens).connect()
    return events.until("open")[1]
