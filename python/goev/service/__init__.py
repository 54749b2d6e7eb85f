"""A server as a service: a supervisor, its workers, their sockets, and the reload that loses nothing.

``goev run`` and ``goev.serve(…, workers=n)`` stand on it. ``settings`` holds everything that the two can say,
``loading`` finds the object that a target names, ``interfaces`` the way it is served.

| file | holds |
|---|---|
| `supervisor` | `run`: the life of a service, reloads, limits, signals |
| `process`, `channel`, `forking` | a worker as the supervisor sees it; the messages to it; workers that are copies |
| `worker` | the program of a worker |
| `sockets`, `systemd`, `upgrade` | listening sockets; the service manager; a new program in the same process |
| `pages`, `logs` | metrics and health checks; log lines |
"""

from goev.service.settings import Logging, Settings

__all__ = ["Logging", "Settings", "run"]

is_worker = False  # whether this process is a worker


def run(settings: Settings) -> int:
    """Serve by worker processes until a signal ends it; returns the exit status. See ``supervisor.run``."""
    from goev.service.supervisor import run

    return run(settings)
