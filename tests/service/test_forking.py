"""Workers that are copies of the supervisor: signals at their start, and an end that loses no line."""

import os
import signal

import pytest

from goev.service.process import channel_ends
from service_support import SLOW, Service

# Lines of this handler wait until it is flushed, as lines of StderrHandler wait for its thread.
WAITING_LINES = """
    import logging, logging.handlers, sys
    import goev

    target = logging.StreamHandler(sys.stdout)
    logging.getLogger("shop").addHandler(logging.handlers.MemoryHandler(100, logging.CRITICAL, target))

    class Site(goev.http.Connection):
        def on_request(self, request):
            logging.getLogger("shop").info("asked")
            request.respond(200, None, b"yes")
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_the_lines_that_wait_at_the_end_of_a_worker_are_written(tmp_path, method):
    with Service(tmp_path, WAITING_LINES, start_method=method).serving() as service:
        assert service.ask() == b"yes"
        assert service.end() == 0
        assert service.child.line(SLOW) == "asked"


def test_the_signals_of_the_supervisor_wait_while_a_worker_starts():
    handled = {
        *(signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT),
        *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU),
    }
    with channel_ends() as (ours, _, read, _):
        assert handled <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert not handled & signal.pthread_sigmask(signal.SIG_BLOCK, ())
    ours.close()
    os.close(read)
