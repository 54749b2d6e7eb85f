"""Some of CPython's own tests of asyncio on goev.asyncio.EventLoop; `make asyncio-conformance` runs all of them."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from support import ROOT, skip_outside_ci

# The quick ones among those that make the selector work: sockets, pipes, signals, threads, processes.
MODULES = (
    "test_sock_lowlevel",
    "test_streams",
    "test_server",
    "test_buffered_proto",
    "test_unix_events",
    "test_threads",
)


@pytest.mark.timeout(120)
def test_what_asyncio_has_to_do_is_done_on_a_poller():
    if not (find_spec("test") and find_spec("test.test_asyncio")):
        minor = "{}.{}".format(*sys.version_info)
        skip_outside_ci(f"this Python lacks its own tests (Debian: apt-get install libpython{minor}-testsuite)")
    runner = ROOT / "tests" / "conformance" / "cpython.py"
    command = [sys.executable, runner, "--only-goev", "--modules", *MODULES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
