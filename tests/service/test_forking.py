"""The end of a worker that is a copy of the supervisor: it skips that of the interpreter, and loses no line by it."""

import pytest

from service_support import SLOW, Service

# A handler whose lines wait until it is flushed, as those of StderrHandler wait for its thread.
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
