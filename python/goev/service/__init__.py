"""A server as a service: a supervisor, its workers, their sockets, and the reload that loses nothing.

``goev run`` and ``goev.serve(…, workers=n)`` stand on it. ``settings`` holds everything that the two can say,
``loading`` finds the object that a target names, ``interfaces`` the way it is served.

Its files:

- ``supervisor``: ``run``: the life of a service, reloads, limits, signals.
- ``process``, ``channel``, ``forking``: a worker as the supervisor sees it; its messages; workers that are copies.
- ``worker``: the program of a worker.
- ``sockets``, ``systemd``, ``upgrade``: listening sockets; the service manager; a new program in the same process.
- ``pages``, ``logs``: metrics and health checks; log lines.
"""

from goev.service.settings import Logging, Settings

__all__ = ["Logging", "Settings", "run"]

is_worker = False  # whether this process is a worker


def run(settings: Settings) -> int:
    """Serve by worker processes, as ``settings`` say, until a signal ends it; return the exit status."""
    from goev.service.supervisor import run

    return run(settings)
