"""The settings of a service: plain values that a supervisor hands to each of its workers.

They are picklable, and nothing here imports the application. The command line, a TOML file and ``goev.serve`` make
them.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints

MOST = 253  # addresses: the descriptors that one message to a worker can carry (unix(7))


@dataclass(frozen=True, kw_only=True)
class Logging:
    """Where log lines go, and in which form.

    Attributes:
        level: the level of the root logger.
        format: ``"text"``, or ``"json"``: one object a line.
        access_log: the path of the access log, ``"-"`` for standard output; ``None`` means no access log.
        access_log_format: ``"common"``, ``"combined"``, ``"json"``, or a format of one's own.
        access_log_sample: the share of requests that are logged, more than 0, at most 1. Answers of 500 and above are
            always logged.
        slow_callback: seconds from which a callback that has returned is logged, more than 0; ``None`` means never.
    """

    level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    format: Literal["text", "json"] = "text"
    access_log: str | None = None
    access_log_format: str = "combined"
    access_log_sample: float = 1.0
    slow_callback: float | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a service: of ``run``, and of ``goev.serve`` with workers.

    Attributes:
        target: ``"module:attribute"``, ``"module:factory()"``, or a picklable object to serve.
        interface: how the target is served; ``"auto"`` looks at the object.
        app_dir: the folder that is first in ``sys.path`` of the workers.
        listen: addresses as for ``Acceptor``, or bound ``socket.socket`` objects that a program owns.
        workers: processes, at least 1.
        threads: threads of each worker for calls of a WSGI application, at least 1.
        start_method: how workers begin: ``"spawn"``, a fresh interpreter, or ``"fork"``, a copy of the supervisor.
        start_timeout: seconds in which a worker has to become ready, more than 0.
        grace: seconds in which a worker that stops may finish its connections, at least 0.
        drain: seconds of ``grace`` in which an idle HTTP connection may still send one request, at least 0.
        stuck_timeout: seconds for which a poller may stand still until its worker is killed; ``None`` means no limit.
        max_requests: requests (connections of a protocol without requests) after which a worker is replaced.
        max_lifetime: seconds after which a worker is replaced.
        max_memory: bytes of resident memory at which a worker is replaced.
        jitter: the share by which the three limits vary from worker to worker, 0 to 1, so that not all end at once.
        affinity: CPU numbers; worker ``i`` runs on ``affinity[i % len(affinity)]`` only. Empty: left to the system.
        metrics: the address of metrics and health checks; ``None`` means none.
        pid_file: the path of a file for the supervisor's process id.
        reactor: the keyword arguments of ``Reactor``.
        acceptor: the keyword arguments of ``Acceptor``, without ``tls``.
        tls: the keyword arguments of ``goev.tls.ServerContext``; ``None`` means plain bytes. Files are read anew by
            each worker.
        logging: log lines and the access log.
    """

    target: str | Callable[..., Any]
    interface: Literal["auto", "goev", "asgi", "wsgi"] = "auto"
    app_dir: str = "."
    listen: tuple[Any, ...] = (":8080",)
    workers: int = 1
    threads: int = 16
    start_method: Literal["spawn", "fork"] = "spawn"
    start_timeout: float = 60.0
    grace: float = 30.0
    drain: float = 2.0
    stuck_timeout: float | None = None
    max_requests: int | None = None
    max_lifetime: float | None = None
    max_memory: int | None = None
    jitter: float = 0.1
    affinity: tuple[int, ...] = ()
    metrics: str | None = None
    pid_file: str | None = None
    reactor: Mapping[str, Any] = field(default_factory=dict)
    acceptor: Mapping[str, Any] = field(default_factory=dict)
    tls: Mapping[str, Any] | None = None
    logging: Logging = field(default_factory=Logging)


def check(settings: Settings) -> None:
    """Raise ``TypeError`` or ``ValueError`` if a value of the service itself is wrong.

    The options of reactor, acceptor and TLS are checked by these.
    """
    _whole("workers", settings.workers, 1, 1024)
    _whole("threads", settings.threads, 1, 100_000)
    if not settings.listen:
        raise ValueError("listen must name at least one address")
    if len(settings.listen) > MOST:
        raise ValueError(f"listen must name at most {MOST} addresses, not {len(settings.listen)}")
    if settings.start_method not in ("spawn", "fork"):
        raise ValueError(f"start_method must be 'spawn' or 'fork', not {settings.start_method!r}")
    for name in ("grace", "drain"):
        _seconds(name, getattr(settings, name), may_be_zero=True)
    for name in ("start_timeout", "stuck_timeout", "max_lifetime"):
        if name == "start_timeout" or getattr(settings, name) is not None:
            _seconds(name, getattr(settings, name), may_be_zero=False)
    for name in ("max_requests", "max_memory"):
        if getattr(settings, name) is not None:
            _whole(name, getattr(settings, name), 1, 2**63)
    if not isinstance(settings.jitter, (int, float)) or isinstance(settings.jitter, bool):
        raise TypeError(f"jitter must be a number, not {settings.jitter!r}")
    if not 0 <= settings.jitter <= 1:
        raise ValueError(f"jitter must be from 0 to 1, not {settings.jitter}")
    if not isinstance(settings.affinity, (tuple, list)):
        raise TypeError(f"affinity must be CPU numbers, such as (0, 1), not {settings.affinity!r}")
    for cpu in settings.affinity:
        if cpu not in os.sched_getaffinity(0):
            raise ValueError(f"affinity must name CPUs of this process, {sorted(os.sched_getaffinity(0))}, not {cpu!r}")
    for name in ("app_dir", "metrics", "pid_file"):
        value = getattr(settings, name)
        if not isinstance(value, str) and (value is not None or name == "app_dir"):
            raise TypeError(f"{name} must be text, not {value!r}")
    if not isinstance(settings.logging, Logging):
        raise TypeError(f"logging must be goev.service.Logging(…), not {settings.logging!r}")
    for name in ("level", "format"):
        value, known = getattr(settings.logging, name), get_args(get_type_hints(Logging)[name])
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")


def _whole(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least:,} to {most:,}, not {value:,}")


def _seconds(name: str, value: object, *, may_be_zero: bool) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be seconds, not {value!r}")
    if not (math.isfinite(value) and (value > 0 or (may_be_zero and value == 0))):
        least = "0 seconds or more" if may_be_zero else "more than 0 seconds"
        raise ValueError(f"{name} must be {least}, not {value}")
