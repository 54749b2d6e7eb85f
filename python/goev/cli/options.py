"""The one table of options: the command line, the environment, TOML files, the help and docs/cli.md come from it.

A row has a name, ``max_input``, which is ``--max-input``, ``GOEV_MAX_INPUT`` and the key ``max_input``. A default
comes from the class that takes the option, and is not repeated here. To add an option, add a row: a test compares the
table with the signatures.
"""

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from goev._core import Acceptor, Reactor, ServerContext
from goev.cli import kinds
from goev.cli.kinds import Kind
from goev.service.settings import Logging, Settings

GROUPS = {
    "application": "the target, and how it is served",
    "listening": "addresses, sockets, and the peers that are let in",
    "connections": "limits of one connection",
    "workers": "processes, their lives and ends",
    "pollers": "the loops of one worker",
    "tls": "certificates and keys",
    "logs": "log lines, the access log, metrics",
}


@dataclass(frozen=True, kw_only=True)
class Dev:
    """The options of ``--dev``; no other part of the service knows them."""

    dev: bool = False
    dev_dir: tuple[str, ...] = ()
    dev_files: tuple[str, ...] = ("*.py", "*.toml", "*.html", "*.jinja", "*.jinja2", "*.j2")


PLACEMENTS = ("auto", "round_robin", "least", "incoming_cpu", "source_address")

OWNERS: dict[str, Callable[..., Any]] = {
    "settings": Settings,
    "logging": Logging,
    "reactor": Reactor,
    "acceptor": Acceptor,
    "tls": ServerContext,
    "dev": Dev,
}


def _defaults(owner: Callable[..., Any]) -> dict[str, Any]:
    """The parameters of a class, and their defaults."""
    if not dataclasses.is_dataclass(owner):
        return {name: parameter.default for name, parameter in inspect.signature(owner).parameters.items()}
    return {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(owner)
    }


DEFAULTS = {place: _defaults(owner) for place, owner in OWNERS.items()}

# Parameters that are no options of their own, and where their values come from.
ELSEWHERE = {
    ("settings", "target"): "the argument TARGET",
    ("settings", "reactor"): "the options of Reactor",
    ("settings", "acceptor"): "the options of Acceptor",
    ("settings", "tls"): "the options that begin with tls_",
    ("settings", "logging"): "the options of Logging",
    ("reactor", "slow_callback"): "slow_callback of Logging",
    ("reactor", "measure"): "on if there is an address for metrics",
    ("acceptor", "reactor"): "the worker's own",
    ("acceptor", "address"): "listen",
    ("acceptor", "factory"): "the argument TARGET",
    ("acceptor", "connection_reactor"): "the worker's own",
    ("acceptor", "tls"): "the options that begin with tls_",
    ("acceptor", "access_log"): "access_log of Logging",
}


@dataclass(frozen=True)
class Option:
    """One row of the table.

    Attributes:
        name: as in a file; with dashes on the command line.
        kind: how its values are read.
        group: a key of ``GROUPS``.
        place: the class that takes it, a key of ``OWNERS``.
        help: one sentence without its full stop.
        field: its name in that class.
        is_main: whether the first page of help shows it.
        may_be_none: whether ``none`` is a value, though the default is another.
        is_derived: whether the service finds the value by itself where the class has a default.
    """

    name: str
    kind: Kind
    group: str
    place: str
    help: str
    field: str
    is_main: bool = False
    may_be_none: bool = False
    is_derived: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "GOEV_" + self.name.upper()

    @property
    def default(self) -> Any:
        """The default of its class; ``inspect.Parameter.empty`` if it has none."""
        return DEFAULTS[self.place][self.field]

    @property
    def takes_none(self) -> bool:
        return self.may_be_none or self.default is None

    @property
    def default_shown(self) -> str:
        """The default as a user would write it; empty if there is none."""
        if self.is_derived or self.default in (inspect.Parameter.empty, None, (), ""):
            return ""
        return self.kind.show(self.default)


def _choice(owner: type, field: str) -> Kind:
    """The names that a field of a dataclass may have."""
    return kinds.choice(*get_args(get_type_hints(owner)[field]))


def _rows(group: str, *rows: tuple[Any, ...]) -> list[Option]:
    """Options of a group: place, name, kind, help, and marks: ``main``, ``none``, ``derived``, ``field=…``."""
    options = []
    for place, name, kind, text, *marks in rows:
        field = next((mark.removeprefix("field=") for mark in marks if mark.startswith("field=")), None)
        if field is None:
            field = name.removeprefix("tls_") if place == "tls" else name
        options.append(
            Option(name, kind, group, place, text, field, "main" in marks, "none" in marks, "derived" in marks)
        )
    return options


_APPLICATION = _rows(
    "application",
    ("settings", "interface", _choice(Settings, "interface"), "How the target is served; auto looks at it", "main"),
    ("settings", "app_dir", kinds.FOLDER, "The folder that is first in sys.path", "main"),
    ("settings", "threads", kinds.integer(least=1), "Threads of each worker for a WSGI application", "main"),
    ("dev", "dev", kinds.SWITCH, "One worker, restarted when files change; tracebacks in colour", "main"),
    ("dev", "dev_dir", kinds.FOLDERS, "Folders to watch; the default is the folder of --app-dir"),
    ("dev", "dev_files", kinds.PATTERNS, "Names of the files to watch"),
)

_LISTENING = _rows(
    "listening",
    ("settings", "listen", kinds.ADDRESSES, "Where to listen; give it several times for several addresses", "main"),
    ("acceptor", "reuse_port", kinds.SWITCH, "One listening socket per poller (SO_REUSEPORT)"),
    ("acceptor", "reuse_address", kinds.SWITCH, "Bind although old connections are in TIME_WAIT"),
    ("acceptor", "cpu_steering", kinds.SWITCH, "With reuse_port: the poller of the CPU that a connection came by"),
    ("acceptor", "placement", kinds.choice(*PLACEMENTS), "How the poller of a connection is chosen"),
    ("acceptor", "unix_mode", kinds.MODE, "Permissions of the file of a Unix socket"),
    ("acceptor", "backlog", kinds.integer(), "Connections that the kernel queues"),
    ("acceptor", "device", kinds.TEXT, "The network interface (SO_BINDTODEVICE)"),
    ("acceptor", "nodelay", kinds.SWITCH, "Send small segments at once (TCP_NODELAY)"),
    ("acceptor", "keepalive", kinds.KEEPALIVE, "Probes of silent peers: silence, interval, number", "none"),
    ("acceptor", "receive_buffer_size", kinds.size(), "SO_RCVBUF"),
    ("acceptor", "send_buffer_size", kinds.size(), "SO_SNDBUF"),
    ("acceptor", "max_connections", kinds.integer(), "Connections of one worker at once", "main"),
    ("acceptor", "when_full", kinds.choice("wait", "refuse"), "Peers above max_connections wait, or are refused"),
    ("acceptor", "max_connections_per_address", kinds.integer(), "Connections of one address at once"),
    ("acceptor", "accept_rate", kinds.number(), "Connections a second that one worker accepts"),
    ("acceptor", "proxy_protocol", kinds.SWITCH, "Peers send a header of the PROXY protocol first"),
    ("acceptor", "proxy_from", kinds.NETWORKS, "The proxies that are trusted"),
)

_CONNECTIONS = _rows(
    "connections",
    ("acceptor", "max_input", kinds.size(), "Unread input at which reading pauses"),
    ("acceptor", "high_water", kinds.size(), "Queued output above which reading pauses"),
    ("acceptor", "low_water", kinds.size(), "Queued output at which reading resumes"),
    ("acceptor", "auto_pause", kinds.SWITCH, "Whether output above high_water pauses reading"),
    ("acceptor", "max_output", kinds.size(), "Queued output that ends the connection"),
    ("acceptor", "linger_timeout", kinds.time(), "How long a closed connection discards late input"),
    ("acceptor", "handshake_timeout", kinds.time(), "The most that a TLS handshake may take"),
    ("acceptor", "idle_timeout", kinds.time(), "End a connection on which no byte moves for so long"),
    ("acceptor", "receive_timeout", kinds.time(), "End when the peer sends nothing for so long"),
    ("acceptor", "first_byte_timeout", kinds.time(), "End when the first byte takes longer"),
    ("acceptor", "write_timeout", kinds.time(), "End when the peer takes no output for so long", "none"),
    ("acceptor", "lifetime", kinds.time(), "End a connection after so long"),
    ("acceptor", "min_rate", kinds.RATE, "End when the peer sends less in a window of TIME"),
    ("acceptor", "min_write_rate", kinds.RATE, "End when the peer takes less of the output that waits"),
)

_WORKERS = _rows(
    "workers",
    ("settings", "workers", kinds.integer(least=1), "Worker processes", "main"),
    ("settings", "start_method", _choice(Settings, "start_method"), "How workers begin"),
    ("settings", "start_timeout", kinds.time(above=0), "How long a worker may take to be ready"),
    ("settings", "grace", kinds.time(least=0), "How long a worker that stops may finish its connections", "main"),
    ("settings", "drain", kinds.time(least=0), "Part of the grace in which an idle HTTP connection may send a request"),
    ("settings", "stuck_timeout", kinds.time(above=0), "Kill a worker with a poller that stands still for so long"),
    ("settings", "max_requests", kinds.integer(least=1), "Replace a worker after so many requests"),
    ("settings", "max_lifetime", kinds.time(above=0), "Replace a worker after so long"),
    ("settings", "max_memory", kinds.size(least=1), "Replace a worker that holds so much memory"),
    ("settings", "jitter", kinds.number(least=0, most=1), "The share by which the limits of a worker vary"),
    ("settings", "affinity", kinds.CPUS, "Worker i runs on the i-th of these CPUs only"),
    ("settings", "pid_file", kinds.FILE, "A file for the process id of the supervisor"),
)

_POLLERS = _rows(
    "pollers",
    ("reactor", "pollers", kinds.integer(), "Pollers of each worker, each a thread", "main"),
    ("reactor", "name", kinds.TEXT, "The name of the threads of pollers"),
    ("reactor", "cpus", kinds.CPUS, "Poller i runs on the i-th of these CPUs only"),
    ("reactor", "read_buffer_size", kinds.size(), "Bytes that one batch may read"),
    ("reactor", "batch_calls", kinds.integer(), "Callbacks after which a batch is flushed"),
    ("reactor", "batch_time", kinds.time(), "Time of callbacks after which a batch is flushed"),
    ("reactor", "handshakes_per_batch", kinds.integer(), "Steps of TLS handshakes in one batch"),
    ("reactor", "timer_capacity", kinds.integer(), "Timers to reserve memory for"),
    ("reactor", "stall_warning", kinds.time(), "Log a callback that runs for so long, with its stack", "none"),
    (
        "reactor",
        "asyncio",
        kinds.SWITCH,
        "An event loop of asyncio on each poller; else as the target needs",
        "derived",
    ),
)

_TLS = _rows(
    "tls",
    ("tls", "tls_certificate", kinds.FILE, "The certificate and its chain, a PEM file", "main"),
    ("tls", "tls_key", kinds.FILE, "The key of the certificate, a PEM file", "main"),
    ("tls", "tls_client_ca", kinds.FILE, "The CAs of clients, a PEM file"),
    (
        "tls",
        "tls_client_certificates",
        kinds.choice("none", "optional", "required"),
        "Whether clients are asked for certificates",
    ),
    ("tls", "tls_alpn", kinds.NAMES, "Protocols, the best first"),
    ("tls", "tls_minimum_version", kinds.choice("TLSv1.2", "TLSv1.3"), "The oldest version of TLS"),
    ("tls", "tls_names", kinds.CERTIFICATES, "A certificate and key for a name that clients ask for"),
    ("tls", "tls_tickets", kinds.SWITCH, "Whether clients may resume sessions"),
    ("tls", "tls_key_log", kinds.FILE, "A file for the secrets of sessions, or SSLKEYLOGFILE"),
)

_LOGS = _rows(
    "logs",
    ("logging", "log_level", _choice(Logging, "level"), "The least level that is logged", "main", "field=level"),
    ("logging", "log_format", _choice(Logging, "format"), "Lines of text, or JSON", "main", "field=format"),
    ("logging", "access_log", kinds.FILE, "The access log: a file, or - for standard output", "main"),
    ("logging", "access_log_format", kinds.TEXT, "common, combined, json, or a format of your own"),
    ("logging", "access_log_sample", kinds.number(above=0, most=1), "The share of requests that are logged"),
    ("logging", "slow_callback", kinds.time(above=0), "Log a callback that has taken so long"),
    ("settings", "metrics", kinds.ADDRESS, "Where to serve metrics and health checks", "main"),
)

OPTIONS: dict[str, Option] = {
    option.name: option for option in [*_APPLICATION, *_LISTENING, *_CONNECTIONS, *_WORKERS, *_POLLERS, *_TLS, *_LOGS]
}
