"""Fixtures open an access log, and servers that write to it."""

import pytest

import goev.logs
from http_support import HttpClient


@pytest.fixture
def access_log(tmp_path, stack):
    """``access_log(format, **options)``: a log in a file of the test."""

    def open_log(format="{method} {target} {status}", path=None, **options):
        log = goev.logs.AccessLog(path or tmp_path / "access.log", format=format, **options)
        stack.callback(log.close)
        return log

    return open_log


@pytest.fixture
def connected(start, stack):
    """``connected(factory, **options)``: a server of that handler, and a client of it."""
    return lambda factory, **options: HttpClient(stack, start(factory, **options))
