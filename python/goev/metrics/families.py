"""The metrics of goev: the name, type, help and unit of each, and where its samples come from.

Counters and histograms are sums over all pollers and workers. Gauges have the labels ``worker`` and ``poller``. So the
number of series is bounded by the numbers of workers, pollers and listening sockets. Peers cannot raise it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from goev.metrics.snapshots import Snapshot

Labels = Mapping[str, str]
Value = tuple[str, Labels, float]  # the end of the sample's name, its labels, its value


@dataclass(frozen=True)
class Family:
    """A metric.

    Attributes:
        name: without the ``_total`` of counters; it ends with the unit, if there is one.
        kind: its type.
        help: a sentence.
        read: the values in a snapshot; buckets are not cumulated. ``None``: its values come from the supervisor.
        unit: ``""``, ``"seconds"`` or ``"bytes"``.
        of_worker: whether each worker has its own values, under the label ``worker``. Else they are added up.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    read: Callable[[Snapshot], Iterable[Value]] | None
    unit: str = ""
    of_worker: bool = False


def one(key: str) -> Callable[[Snapshot], Iterator[Value]]:
    """A number of each poller."""
    return lambda snapshot: (("_total", {}, poller[key]) for poller in snapshot["pollers"])


def each(key: str, label: str) -> Callable[[Snapshot], Iterator[Value]]:
    """Numbers of each poller, by a label."""
    return lambda snapshot: (
        ("_total", {label: name}, count) for poller in snapshot["pollers"] for name, count in poller[key].items()
    )


def several(label: str, **keys: str) -> Callable[[Snapshot], Iterator[Value]]:
    """Several numbers of each poller, by a label."""
    return lambda snapshot: (
        ("_total", {label: name}, poller[key]) for poller in snapshot["pollers"] for name, key in keys.items()
    )


def current(key: str) -> Callable[[Snapshot], Iterator[Value]]:
    """A number of each poller that may fall."""
    return lambda snapshot: (
        ("", {"poller": str(index)}, poller[key]) for index, poller in enumerate(snapshot["pollers"])
    )


def histogram(key: str) -> Callable[[Snapshot], Iterator[Value]]:
    """A histogram of each poller that measures."""

    def read(snapshot: Snapshot) -> Iterator[Value]:
        for poller in snapshot["pollers"]:
            found = poller["histograms"].get(key)
            if found is not None:
                yield from (("_bucket", {"le": limit}, count) for limit, count in found["classes"])
                yield "_sum", {}, found["sum"]
                yield "_count", {}, sum(count for _, count in found["classes"])

    return read


def of_acceptors(key: str, end: str = "_total") -> Callable[[Snapshot], Iterator[Value]]:
    """A number of each listening socket."""
    return lambda snapshot: ((end, {"address": each["address"]}, each["stats"][key]) for each in snapshot["acceptors"])


def of_process(key: str, end: str = "") -> Callable[[Snapshot], Iterator[Value]]:
    """A figure of the process."""

    def read(snapshot: Snapshot) -> Iterator[Value]:
        figures: Mapping[str, Any] = snapshot["process"]
        yield end, {}, figures[key]

    return read


POLLERS = [
    Family(
        "goev_connections_opened",
        "counter",
        "Connections that were opened, by the side that opened them.",
        several("side", peer="accepted", us="connected"),
    ),
    Family(
        "goev_connections_closed", "counter", "Connections that have ended, by reason.", each("closed_by", "reason")
    ),
    Family(
        "goev_connections_moved", "counter", "Connections that moved from one poller to another.", one("moved_here")
    ),
    Family("goev_connections_refused", "counter", "Peers that a limit of an acceptor refused.", one("refused")),
    Family("goev_connections_open", "gauge", "Connections that are open.", current("open"), of_worker=True),
    Family(
        "goev_proxies_refused",
        "counter",
        "Sockets without a PROXY header of a trusted proxy, by reason.",
        each("proxy_refused", "reason"),
    ),
    Family("goev_tls_handshakes", "counter", "TLS handshakes of accepted sockets that succeeded.", one("handshakes")),
    Family(
        "goev_tls_handshakes_resumed", "counter", "Those of them that resumed a session.", one("handshakes_resumed")
    ),
    Family(
        "goev_tls_handshakes_failed",
        "counter",
        "TLS handshakes of accepted sockets that failed, by reason.",
        each("handshakes_failed", "reason"),
    ),
    Family(
        "goev_http_requests",
        "counter",
        "HTTP requests whose answer was given whole, by the class of its status.",
        each("answers", "status"),
    ),
    Family(
        "goev_http_request_seconds",
        "histogram",
        "Time from the callback with the request to the end of its answer.",
        histogram("answer_seconds"),
        "seconds",
    ),
    Family("goev_websockets_opened", "counter", "WebSocket handshakes that succeeded.", one("websockets")),
    Family(
        "goev_group_messages",
        "counter",
        "Messages of groups to a member, sent or skipped because it was behind.",
        several("result", sent="group_sent", skipped="group_skipped"),
    ),
    Family("goev_received_bytes", "counter", "Bytes that handlers got from peers.", one("bytes_in"), "bytes"),
    Family("goev_sent_bytes", "counter", "Bytes of handlers that were sent to peers.", one("bytes_out"), "bytes"),
    Family("goev_datagrams_dropped", "counter", "Datagrams that a full send queue dropped.", one("datagrams_dropped")),
    Family("goev_callbacks", "counter", "Callbacks.", one("callbacks")),
    Family("goev_callback_seconds", "histogram", "Time of a callback.", histogram("callback_seconds"), "seconds"),
    Family("goev_calling_seconds", "counter", "Time in callbacks.", one("python_time"), "seconds"),
    Family("goev_callback_stalls", "counter", "Callbacks longer than stall_warning.", one("stalls")),
    Family("goev_slow_callbacks", "counter", "Callbacks longer than slow_callback.", one("slow_callbacks")),
    Family("goev_batches", "counter", "Batches of callbacks.", one("batches")),
    Family(
        "goev_attach_seconds",
        "histogram",
        "Time that a batch waited to begin, for example for the interpreter lock.",
        histogram("attach_seconds"),
        "seconds",
    ),
    Family("goev_attaching_seconds", "counter", "Time that batches waited to begin.", one("attach_wait"), "seconds"),
    Family(
        "goev_mailbox_messages",
        "gauge",
        "Messages of other threads that a poller has not read.",
        current("mailbox"),
        of_worker=True,
    ),
    Family(
        "goev_timers", "gauge", "Timers that are set, those of goev itself included.", current("timers"), of_worker=True
    ),
]
ACCEPTORS = [
    Family(
        "goev_acceptor_accepted", "counter", "Connections that a listening socket accepted.", of_acceptors("accepted")
    ),
    Family("goev_acceptor_refused", "counter", "Peers that a limit of the acceptor refused.", of_acceptors("refused")),
    Family(
        "goev_acceptor_errors",
        "counter",
        "Failed calls of accept(2), for lack of descriptors or memory.",
        of_acceptors("errors"),
    ),
    Family(
        "goev_acceptor_connections",
        "gauge",
        "Connections of a listening socket that are open.",
        of_acceptors("open", ""),
        of_worker=True,
    ),
]
PROCESSES = [
    Family(
        "goev_process_cpu_seconds",
        "counter",
        "Processor time of a process.",
        of_process("cpu_seconds", "_total"),
        "seconds",
        of_worker=True,
    ),
    Family(
        "goev_process_resident_memory_bytes",
        "gauge",
        "Resident memory of a process.",
        of_process("resident_bytes"),
        "bytes",
        of_worker=True,
    ),
    Family("goev_process_open_fds", "gauge", "Open descriptors of a process.", of_process("open_fds"), of_worker=True),
    Family("goev_process_max_fds", "gauge", "The limit of open descriptors.", of_process("max_fds"), of_worker=True),
    Family("goev_process_threads", "gauge", "Threads of a process.", of_process("threads"), of_worker=True),
    Family(
        "goev_process_start_time_seconds",
        "gauge",
        "Start of a process since 1970.",
        of_process("start_time"),
        "seconds",
        of_worker=True,
    ),
]
SERVICE = [
    Family(
        "goev_worker_scrape_age_seconds", "gauge", "Age of the figures of a worker.", None, "seconds", of_worker=True
    ),
    Family("goev_worker_restarts", "counter", "Workers that were replaced, by reason.", None),
    Family("goev_workers_wanted", "gauge", "Workers that the service wants.", None),
    Family("goev_workers_ready", "gauge", "Workers that are ready.", None),
    Family("goev_build", "info", "Versions.", None),
]
FAMILIES = [*POLLERS, *ACCEPTORS, *PROCESSES, *SERVICE]
