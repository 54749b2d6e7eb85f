"""Log lines of a service: where they go in each of its processes, and files that are opened anew."""

import logging
from importlib import import_module

from goev.service.settings import Logging

LINE = "%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s"


def set_up(settings: Logging, *, worker: int | None) -> None:
    """Set the root logger up, in the supervisor only if the program has not done it."""
    if worker is None and logging.getLogger().handlers:
        return
    if settings == Logging():
        logging.basicConfig(level=logging.INFO, format=LINE, force=worker is not None)
        return
    import_module("goev.logs").configure(settings, worker=worker)


def reopen() -> None:
    """Open the files of all handlers anew, because somebody has moved them away."""
    names = [None, *logging.Logger.manager.loggerDict]
    for handler in {handler for name in names for handler in logging.getLogger(name).handlers}:
        if isinstance(handler, logging.FileHandler):
            handler.acquire()
            try:
                handler.close()
                handler.stream = handler._open()
            finally:
                handler.release()
