"""The handler class, and the threads of each application."""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

from goev._core import Limits, WsgiConnection, WsgiPool
from goev.wsgi.files import FileWrapper

_lock = threading.Lock()


class Connection(WsgiConnection):
    """One connection of an HTTP/1.1 server. A WSGI application answers its requests in a pool of threads.

    Subclass it and set ``app``. Each class has its own pool, made with its first connection. The requests of one
    connection are answered one after the other; requests of several connections side by side.

    A subclass may define ``on_request`` and answer some requests by itself, on the poller;
    ``super().on_request(request)`` gives a request to the application. Such a class gets the bodies of its own requests
    by ``on_body``, and calls ``super().on_body(request, data)`` for the others.

    Attributes:
        app: the application, a callable of ``environ`` and ``start_response``.
        threads: how many calls of the application may run at once, at least 1.
        max_waiting: the number of requests that may wait for a thread, at least 1. Further ones wait in their sockets.
        root_path: ``SCRIPT_NAME``: the path under which the application is mounted, ``""`` or ``"/path"``.
        multiprocess: ``wsgi.multiprocess``: whether other processes serve the same application.
    """

    app: ClassVar[Callable[..., Any]]
    threads: ClassVar[int] = 16
    max_waiting: ClassVar[int] = 1000
    root_path: ClassVar[str] = ""
    multiprocess: ClassVar[bool] = False
    limits = Limits(max_body=1 << 30)
    _own_pool: ClassVar[WsgiPool]
    _own_threads: ClassVar[list[threading.Thread]]

    @classmethod
    def _pool(cls) -> WsgiPool:
        """The pool of the class in this process."""
        pool: WsgiPool | None = cls.__dict__.get("_own_pool")
        if pool is not None and pool.is_here:
            return pool
        with _lock:
            pool = cls.__dict__.get("_own_pool")
            if pool is None or not pool.is_here:
                pool = _started(cls)
                cls._own_pool = pool
            return pool

    @classmethod
    def close_pool(cls, timeout: float = 1.0) -> None:
        """End the threads of the class. A call of the application that runs goes on, at most ``timeout`` seconds of
        which are waited for."""
        pool: WsgiPool | None = cls.__dict__.get("_own_pool")
        if pool is None or not pool.is_here:
            return
        pool.close()
        del cls._own_pool
        deadline = time.monotonic() + timeout
        for thread in cls._own_threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _describe(self, environ: dict[str, Any], secure: bool) -> None:
        """Add the facts of this connection to the environment of its requests."""
        environ["wsgi.url_scheme"] = "https" if secure else "http"
        environ["SERVER_NAME"], environ["SERVER_PORT"] = "localhost", "443" if secure else "80"
        if isinstance(local := self.local_address, tuple):
            environ["SERVER_NAME"], environ["SERVER_PORT"] = local[0], str(local[1])
        environ["REMOTE_ADDR"] = ""
        if isinstance(remote := self.remote_address, tuple):
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = remote[0], str(remote[1])
        if secure:
            environ["HTTPS"] = "on"


def _started(cls: type[Connection]) -> WsgiPool:
    """A pool with running threads."""
    app = getattr(cls, "app", None)
    if not callable(app):
        raise TypeError(f"{cls.__name__}.app must be a WSGI application, not {app!r}")
    if not isinstance(cls.threads, int) or cls.threads < 1:
        raise ValueError(f"{cls.__name__}.threads must be an int of at least 1, not {cls.threads!r}")
    root_path = cls.root_path
    if root_path and (not root_path.startswith("/") or root_path.endswith("/")):
        raise ValueError(f"{cls.__name__}.root_path must be '' or '/path', not {root_path!r}")
    root = unquote_to_bytes(root_path)
    environ = {
        "SCRIPT_NAME": root.decode("latin-1"),
        "SERVER_SOFTWARE": "goev",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "wsgi.version": (1, 0),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": cls.threads > 1,
        "wsgi.multiprocess": cls.multiprocess,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
    }
    pool = WsgiPool(app, environ, file_wrapper=FileWrapper, root_path=root, max_waiting=cls.max_waiting)
    cls._own_threads = [
        threading.Thread(target=pool.work, name=f"goev-wsgi-{number}", daemon=True) for number in range(cls.threads)
    ]
    for thread in cls._own_threads:
        thread.start()
    return pool
