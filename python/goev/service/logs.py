"""Log lines of a service: where they go in each of its processes, and files that are opened anew."""

import logging

from goev.logs import configure
from goev.service.settings import Logging


def set_up(settings: Logging, *, worker: int | None) -> None:
    """Set the root logger up, in the supervisor only if the program has not done it."""
    if worker is None and logging.getLogger().handlers:
        return
    # The program may have done it in a worker, too: a copy has its handlers, and so has an import.
    logging.basicConfig(handlers=[], force=True)
    configure(settings, worker=worker)


def reopen() -> None:
    """Open the files of all handlers anew, because another program has moved them away."""
    names = [None, *logging.Logger.manager.loggerDict]
    for handler in {handler for name in names for handler in logging.getLogger(name).handlers}:
        if isinstance(handler, logging.FileHandler):
            handler.acquire()
            try:
                handler.close()
                handler.stream = handler._open()
            finally:
                handler.release()
