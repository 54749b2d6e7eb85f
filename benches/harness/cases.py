"""The table of cases: the measurements, their servers, and the figures to reach."""

from collections.abc import Callable
from dataclasses import dataclass

from harness import broadcast, cluster, datagrams, http, measure, messages, resp, secure, services, streams, websocket
from harness.measure import Bench, Run
from harness.peers import Peer


@dataclass(frozen=True)
class Metric:
    name: str
    unit: str
    format: str
    factor: float = 1.0  # from the measured unit to the shown unit

    @property
    def title(self) -> str:
        return f"{self.name}, {self.unit}" if self.unit else self.name

    def show(self, value: float) -> str:
        return self.format.format(value * self.factor)


METRICS = {
    "rate": Metric("requests/s", "", "{:,.0f}"),
    "p50": Metric("p50", "µs", "{:,.0f}", 1e6),
    "p99": Metric("p99", "µs", "{:,.0f}", 1e6),
    "cpu": Metric("server CPU per request", "µs", "{:.2f}", 1e6),
    "connects": Metric("connects/s", "", "{:,.0f}"),
    "lost": Metric("connects lost", "", "{:,.0f}"),
    "set": Metric("time to set all", "s", "{:.3f}"),
    "cancel": Metric("time to cancel all", "s", "{:.3f}"),
    "bytes": Metric("bytes each", "", "{:,.0f}"),
    "throughput": Metric("throughput", "MB/s", "{:,.0f}", 1e-6),
    "byte_cpu": Metric("server CPU per GB", "s", "{:.3f}", 1e9),
    "echoes": Metric("echoes/s", "", "{:,.0f}"),
    "datagrams_lost": Metric("datagrams lost", "", "{:,.0f}"),
    "set_rate": Metric("SET/s", "", "{:,.0f}"),
    "get_rate": Metric("GET/s", "", "{:,.0f}"),
    "held": Metric("caller held", "µs", "{:,.0f}", 1e6),
    **{f"held_{size}": Metric(f"{size:,} members", "µs", "{:,.1f}", 1e6) for size in cluster.SIZES},
    "held_p99_1000": Metric("p99 of 1,000 members", "µs", "{:,.0f}", 1e6),
    "deliveries": Metric("messages to members/s", "", "{:,.0f}"),
    "delivery_cpu": Metric("CPU of the nodes per message", "µs", "{:.2f}", 1e6),
    "last": Metric("last member has it", "ms", "{:,.1f}", 1e3),
    "handshakes": Metric("handshakes/s", "", "{:,.0f}"),
    "handshake_cpu": Metric("server CPU per handshake", "µs", "{:.0f}", 1e6),
    "slower": Metric("p99 beside / p99 alone", "", "{:.2f}"),
    "quiet_p99": Metric("p99 alone", "µs", "{:,.0f}", 1e6),
    "storm_p99": Metric("p99 beside", "µs", "{:,.0f}", 1e6),
    "made": Metric("new connections/s", "", "{:,.0f}"),
    "messages": Metric("messages/s", "", "{:,.0f}"),
    "message_cpu": Metric("client CPU per message", "µs", "{:.2f}", 1e6),
    "one_chain": Metric("a call_soon chain / stock loop", "", "{:.2f}"),
    "chains": Metric("call_soon chains / stock loop", "", "{:.2f}"),
    "sleeps": Metric("sleep(0) / stock loop", "", "{:.2f}"),
    "streams": Metric("streams echo / stock loop", "", "{:.2f}"),
    "pair": Metric("acquire and release", "µs", "{:.2f}", 1e6),
}


@dataclass(frozen=True)
class Goal:
    """A limit on the median of ``metric``, or on its ratio to that of the peer ``against``."""

    peer: str
    metric: str
    limit: float
    against: str | None = None
    at_least: bool = True


@dataclass(frozen=True)
class Case:
    title: str
    description: str
    peers: tuple[str, ...]
    metrics: tuple[str, ...]  # the first one is shown while the case runs
    measure: Callable[[Bench, Peer], Run]
    goals: tuple[Goal, ...] = ()
    least_rounds: int = 1
    timed: bool = False  # a run lasts for the seconds that ``--seconds`` gives


def _wrk(connections: int, depth: int = 1, *, one_cpu: bool = False) -> Callable[[Bench, Peer], Run]:
    return lambda bench, peer: measure.requests(bench, peer, connections, depth, one_cpu=one_cpu)


def _http(connections: int, depth: int = 1) -> Callable[[Bench, Peer], Run]:
    return lambda bench, peer: http.requests(bench, peer, connections, depth)


def _items(connections: int, store: str | None = None) -> Callable[[Bench, Peer], Run]:
    return lambda bench, peer: http.items(bench, peer, connections, store)


def _echo(connections: int) -> Callable[[Bench, Peer], Run]:
    return lambda bench, peer: messages.echoes(bench, peer, "echo", connections, in_flight=1)


def _websocket(size: int, *, tls: bool = False) -> Callable[[Bench, Peer], Run]:
    return lambda bench, peer: websocket.echoes(bench, peer, size, tls=tls)


def _service(application: str) -> Callable[[Bench, Peer], Run]:
    return lambda bench, peer: services.requests(bench, peer, application)


def _secure(connections: int, depth: int = 1, kind: str = "") -> Callable[[Bench, Peer], Run]:
    return lambda bench, peer: secure.requests(bench, peer, connections, depth, kind)


def _handshakes(*, resumed: bool) -> Callable[[Bench, Peer], Run]:
    return lambda bench, peer: secure.handshakes(bench, peer, resumed=resumed)


def _download(connections: int) -> Callable[[Bench, Peer], Run]:
    return lambda bench, peer: streams.download(bench, peer, connections)


_NOT_SLOWER = 0.95  # a ratio that says "as fast as" on a machine where two runs of one server differ by as much
_STREAM = ("throughput", "byte_cpu")
_REQUESTS = ("rate", "p50", "p99", "cpu")
_ECHOES = ("echoes", "p50", "p99", "cpu")
_SHAKING = ("goev", "goev-1", "nginx-x2", "uvloop", "aiofastnet")
_HANDSHAKES = ("handshakes", "handshake_cpu")
_HTTP_SERVERS = (
    "goev",
    "goev-1",
    "granian",
    "granian-x2",
    "socketify",
    "socketify-x2",
    "gnet",
    "gnet-1",
)
_WEBSOCKET_SERVERS = ("goev-1", "picows", "websockets")
_FAST = ("goev", "go-goev", "gnet", "uvloop", "uvloop-x2", "core", "bare-epoll")

CASES = {
    "headline": Case(
        title="Headline: 2 connections",
        description="`wrk -c 2 -t 2`, the test that the Go original is shown with.",
        peers=("goev-steered", "goev", "go-goev", "gnet", "core-steered", "bare-epoll"),
        metrics=_REQUESTS,
        measure=_wrk(2),
        timed=True,
        goals=(
            Goal("goev", "rate", 2.0, "go-goev"),
            Goal("goev-steered", "rate", 0.9, "core-steered"),
        ),
        least_rounds=9,
    ),
    "c64": Case(
        title="64 connections",
        description="`wrk -c 64 -t 2`.",
        peers=("goev", "goev-1", "go-goev", "gnet", "asyncio", "uvloop", "uvloop-x2", "rloop", "core", "bare-epoll"),
        metrics=_REQUESTS,
        measure=_wrk(64),
        timed=True,
        goals=(
            Goal("goev", "rate", 1.4, "go-goev"),
            Goal("goev", "rate", 1.2, "gnet"),
            Goal("goev", "rate", 1.35, "uvloop"),
            Goal("goev-1", "rate", 1.05, "uvloop"),
            Goal("goev", "rate", 1.15, "uvloop-x2"),
            Goal("goev", "rate", 0.9, "core"),
            Goal("goev", "p99", 0.35, "gnet", at_least=False),
            Goal("goev", "cpu", 0.75, "go-goev", at_least=False),
            Goal("goev", "cpu", 1.0, "gnet", at_least=False),
            Goal("goev", "cpu", 1.05, "core", at_least=False),
        ),
    ),
    "c1000": Case(
        title="1,000 connections",
        description="`wrk -c 1000 -t 2`.",
        peers=_FAST,
        metrics=_REQUESTS,
        measure=_wrk(1000),
        timed=True,
        goals=(
            Goal("goev", "rate", 1.5, "go-goev"),
            Goal("goev", "rate", 1.2, "gnet"),
            Goal("goev", "rate", 0.9, "core"),
        ),
    ),
    "pipelined": Case(
        title="64 connections, 16 requests pipelined",
        description="`wrk -c 64 -t 2`, where each write of a client holds 16 requests.",
        peers=_FAST,
        metrics=_REQUESTS,
        measure=_wrk(64, depth=16),
        timed=True,
        goals=(
            Goal("goev", "rate", 1.4, "go-goev"),
            Goal("goev", "rate", 1.15, "gnet"),
            Goal("goev", "rate", 0.9, "core"),
        ),
    ),
    "http": Case(
        title="HTTP: 64 connections",
        description="`wrk -c 64 -t 2` of servers that parse HTTP/1.1; gnet does it with the parser wildcat.",
        peers=_HTTP_SERVERS,
        metrics=_REQUESTS,
        measure=_http(64),
        timed=True,
        goals=(
            Goal("goev", "rate", 3.0, "granian"),
            Goal("goev", "rate", 2.0, "granian-x2"),
            Goal("goev", "rate", 1.2, "socketify"),
            Goal("goev", "rate", 1.2, "socketify-x2"),
            Goal("goev", "rate", 1.15, "gnet"),
        ),
    ),
    "http-pipelined": Case(
        title="HTTP: 64 connections, 16 requests pipelined",
        description="The same, where each write of a client holds 16 requests. goev calls Python for each of them.",
        peers=(*_HTTP_SERVERS, "granian-gather"),
        metrics=_REQUESTS,
        measure=_http(64, depth=16),
        timed=True,
        goals=(
            Goal("goev", "rate", 8.0, "granian"),
            Goal("goev", "rate", 8.0, "granian-x2"),
            Goal("goev", "rate", 10.0, "granian-gather"),
            Goal("goev", "rate", 2.5, "socketify"),
            Goal("goev", "rate", 2.5, "socketify-x2"),
            Goal("goev", "rate", 0.9, "gnet"),
        ),
    ),
    "churn": Case(
        title="Connection churn",
        description="10,000 connects as fast as a client in Rust can, up to 128 at once; one request and reply each.",
        peers=("goev", "go-goev", "gnet", "asyncio", "uvloop", "bare-epoll"),
        metrics=("connects", "lost", "cpu"),
        measure=measure.churn,
        goals=(
            Goal("goev", "connects", 1.1, "gnet"),
            Goal("goev", "lost", 0, at_least=False),
        ),
    ),
    "busy": Case(
        title="Beside a thread that computes",
        description="`wrk -c 64 -t 2` while a thread of the server's process computes in pure Python, under the GIL.",
        peers=("goev-busy", "asyncio-busy", "uvloop-busy"),
        metrics=("rate", "p50", "p99"),
        measure=_wrk(64),
        timed=True,
    ),
    "one-cpu": Case(
        title="Every connection from one CPU",
        description=(
            "`taskset` keeps `wrk -c 64 -t 2` on one CPU, so all packets arrive there, as from a card with a single "
            "queue. By default a poller gets the connections of its CPU up to its share."
        ),
        peers=("goev", "goev-round-robin", "core"),
        metrics=_REQUESTS,
        measure=_wrk(64, one_cpu=True),
        timed=True,
        goals=(Goal("goev", "rate", _NOT_SLOWER, "goev-round-robin"),),
    ),
    "two-servers": Case(
        title="Two servers on one machine",
        description=(
            "Two processes of the server at once, each under `wrk -c 32 -t 2` of its own. Requests and CPU time are "
            "those of both, latencies those of the slower one."
        ),
        peers=("goev", "goev-round-robin", "core"),
        metrics=_REQUESTS,
        measure=lambda bench, peer: measure.two_servers(bench, peer, connections=32),
        timed=True,
        goals=(Goal("goev", "rate", _NOT_SLOWER, "goev-round-robin"),),
    ),
    "timers": Case(
        title="1 million timers",
        description=(
            "Set from Python inside a callback, with delays uniform in 10-60 s and one shared callback; cancelled in "
            "the order set. The bytes are those by which the process grows, with the list of handles and without the "
            "callback. For go-goev they are those of Go's heap, without the handler that each of its timers needs."
        ),
        peers=("goev", "go-goev", "asyncio", "uvloop", "rloop"),
        metrics=("set", "cancel", "bytes"),
        measure=measure.timers,
        goals=(
            Goal("goev", "set", 1.5, "go-goev", at_least=False),
            Goal("goev", "cancel", 0.1, at_least=False),
            Goal("goev", "bytes", 150, at_least=False),
        ),
    ),
    "idle": Case(
        title="10,000 idle connections",
        description="Resident memory by which a server grows for each connection that had one reply and stays open.",
        peers=("goev", "go-goev", "gnet", "rloop", "uvloop", "asyncio"),
        metrics=("bytes",),
        measure=measure.idle,
        goals=(Goal("goev", "bytes", 450, at_least=False),),
    ),
    "relay": Case(
        title="Relay",
        description=(
            "`examples/proxy.py` and the same in Go: four connections, each as fast as it can from a source through "
            "the relay to a sink, both in one client in Rust; what the sinks got. goev pipes inside the kernel, with "
            "send buffers of 256 KiB. gnet reads 64 KiB at a time by default, and has no back-pressure."
        ),
        peers=("goev-1", "gnet-1", "gnet-256k"),
        metrics=_STREAM,
        measure=streams.relay,
        goals=(
            Goal("goev-1", "throughput", 0.9, "gnet-1"),
            Goal("goev-1", "throughput", 1.3, "gnet-256k"),
        ),
        timed=True,
    ),
    "udp": Case(
        title="UDP echo",
        description=(
            "`examples/udp_echo.py` and the same on asyncio: 64 bytes, 16 sockets with 8 datagrams under way each, of "
            "a client in Rust. One that is not back after 200 ms is lost, and another is sent instead."
        ),
        peers=("goev-1", "asyncio", "uvloop"),
        metrics=("echoes", "datagrams_lost", "cpu"),
        measure=datagrams.echoes,
        goals=(Goal("goev-1", "echoes", 1.3, "uvloop"),),
        timed=True,
    ),
    "messages": Case(
        title="Messages",
        description=(
            "64 bytes behind their length in 4 bytes, each sent back so: 16 connections with 32 messages under way "
            "each, of a client in Rust that checks every echo. The protocol on uvloop does the framing in Python."
        ),
        peers=("goev-1", "goev-batches", "asyncio-streams", "uvloop"),
        metrics=_ECHOES,
        measure=messages.echoes,
        goals=(
            Goal("goev-1", "echoes", 5.0, "asyncio-streams"),
            Goal("goev-1", "echoes", 2.0, "uvloop"),
            Goal("goev-batches", "echoes", 5.0, "asyncio-streams"),
            Goal("goev-batches", "echoes", 3.2, "uvloop"),
        ),
        timed=True,
    ),
    "websocket": Case(
        title="WebSocket echo, 64 bytes",
        description="A client in Rust with 16 connections, each with four messages under way, without compression.",
        peers=_WEBSOCKET_SERVERS,
        metrics=_ECHOES,
        measure=_websocket(64),
        timed=True,
        goals=(
            Goal("goev-1", "echoes", 1.3, "picows"),
            Goal("goev-1", "echoes", 4.0, "websockets"),
        ),
    ),
    "websocket-64k": Case(
        title="WebSocket echo, 64 KiB",
        description="The same with messages of 65,536 bytes.",
        peers=_WEBSOCKET_SERVERS,
        metrics=_ECHOES,
        measure=_websocket(65_536),
        timed=True,
        goals=(Goal("goev-1", "echoes", 1.4, "picows"),),
    ),
    "broadcast": Case(
        title="Broadcast to 5,000 members",
        description=(
            "A message of 100 bytes, twenty times: `goev.Group.send` in a callback, and a loop over all transports on "
            "uvloop. The client, in Python on epoll, sees when the last member has it."
        ),
        peers=("goev-1", "uvloop"),
        metrics=("held", "last"),
        measure=broadcast.latencies,
        goals=(
            Goal("goev-1", "held", 0.1, "uvloop", at_least=False),
            Goal("goev-1", "last", 1.0, "uvloop", at_least=False),
        ),
    ),
    "cluster-held": Case(
        title="Cluster: caller held by `send`",
        description=(
            "A message of 100 bytes to the members of a `goev.Group`, and in turn to those of a cluster's group with "
            "another node: the time of the call in a callback, for groups of 1 to 3,000 members on this node. Both "
            "groups have the same members, in the same process."
        ),
        peers=("here-nats", "held-nats", "here-redis", "held-redis"),
        metrics=(*(f"held_{size}" for size in cluster.SIZES), "held_p99_1000"),
        measure=cluster.held,
        goals=tuple(
            Goal(f"held-{engine}", f"held_{size}", 1.2, f"here-{engine}", at_least=False)
            for engine in ("nats", "redis")
            for size in cluster.SIZES
        ),
    ),
    "cluster-round": Case(
        title="Cluster: from one node to another and back",
        description=(
            "A message of 100 bytes between two processes. With goev the peer of a member answers, by a socket pair. "
            "With the bare client of the engine the callback of its subscription does, on asyncio. 3,000 rounds."
        ),
        peers=("round-nats", "round-nats-thread", "bare-nats", "round-redis", "round-redis-thread", "bare-redis"),
        metrics=("p50", "p99"),
        measure=cluster.rounds,
        goals=(
            Goal("round-nats", "p50", 1.5, "bare-nats", at_least=False),
            Goal("round-redis", "p50", 1.5, "bare-redis", at_least=False),
        ),
    ),
    "cluster-fan-out": Case(
        title="Cluster: 3,000 members on each of three nodes",
        description=(
            "Messages of 100 bytes, four at once: one node of a cluster sends them, or each of three processes to a "
            "local group of its own. The client, in Python on epoll, asks again when all 9,000 members have them."
        ),
        peers=("local-groups", "cluster-nats", "cluster-redis"),
        metrics=("deliveries", "delivery_cpu"),
        measure=cluster.fan_out,
        timed=True,
        goals=(
            Goal("cluster-nats", "deliveries", 0.8, "local-groups"),
            Goal("cluster-redis", "deliveries", 0.8, "local-groups"),
        ),
    ),
    "resp": Case(
        title="Redis protocol, 16 commands pipelined",
        description=(
            "`examples/redis_server.py`, whose protocol is written in Python, and the real Redis server: "
            "`redis-benchmark -t set,get -P 16 -c 50 -d 64`."
        ),
        peers=("goev-1", "redis"),
        metrics=("set_rate", "get_rate", "cpu"),
        measure=resp.commands,
        goals=(
            Goal("goev-1", "set_rate", 0.2, "redis"),
            Goal("goev-1", "get_rate", 0.2, "redis"),
        ),
        timed=True,
    ),
    "download": Case(
        title="Download",
        description="`examples/download.py --sendfile`, at no limited rate, and nginx: a file of 1 GB, once.",
        peers=("goev-1", "nginx"),
        metrics=_STREAM,
        measure=_download(1),
        goals=(Goal("goev-1", "throughput", 0.9, "nginx"),),
    ),
    "downloads": Case(
        title="8 downloads at a time",
        description="The same file over eight connections.",
        peers=("goev-1", "nginx"),
        metrics=_STREAM,
        measure=_download(8),
        goals=(Goal("goev-1", "throughput", 1.0, "nginx"),),
    ),
    "pool": Case(
        title="Connection pool",
        description="`acquire()` and `release()` of an open connection, a million times in a thread that is no poller.",
        peers=("goev-1",),
        metrics=("pair",),
        measure=measure.pool,
        goals=(Goal("goev-1", "pair", 1e-6, at_least=False),),
    ),
    "redis": Case(
        title="asyncio: HTTP with Redis, 32 connections",
        description=(
            "`wrk -c 32 -t 2`. For each request the server gets a value from a real Redis server, by redis.asyncio in "
            "its own process, without hiredis."
        ),
        peers=("goev-coroutine", "uvicorn"),
        metrics=_REQUESTS,
        measure=_items(32, "redis"),
        timed=True,
        goals=(Goal("goev-coroutine", "rate", 1.4, "uvicorn"),),
    ),
    "postgres": Case(
        title="asyncio: HTTP with PostgreSQL, 32 connections",
        description="The same with a select by asyncpg in a real PostgreSQL server, over a pool of ten connections.",
        peers=("goev-coroutine", "uvicorn"),
        metrics=_REQUESTS,
        measure=_items(32, "postgres"),
        timed=True,
        goals=(Goal("goev-coroutine", "rate", 1.25, "uvicorn"),),
    ),
    "async-json": Case(
        title="asyncio: HTTP with JSON, 64 connections",
        description="`wrk -c 64 -t 2`. The coroutine awaits nothing.",
        peers=("goev-1", "goev-coroutine", "uvicorn"),
        metrics=_REQUESTS,
        measure=_items(64),
        timed=True,
        goals=(
            Goal("goev-coroutine", "rate", 0.85, "goev-1"),
            Goal("goev-coroutine", "rate", 2.0, "uvicorn"),
        ),
    ),
    "channel": Case(
        title="asyncio: messages over channels",
        description="As in the case Messages. Streams do the framing in Python.",
        peers=("goev-channel", "uvloop-streams", "asyncio-streams"),
        metrics=_ECHOES,
        measure=messages.echoes,
        timed=True,
        goals=(Goal("goev-channel", "echoes", 3.0, "uvloop-streams"),),
    ),
    "async-for": Case(
        title="asyncio: WebSocket client",
        description=(
            "A client on one connection receives messages of 64 bytes by `async for`, from a source in Python that "
            "sends as fast as the client takes them. The listener of picows puts them into an `asyncio.Queue`."
        ),
        peers=("goev-channel", "picows", "websockets"),
        metrics=("messages", "message_cpu"),
        measure=websocket.messages,
        timed=True,
        goals=(
            Goal("goev-channel", "messages", 2.0, "websockets"),
            Goal("goev-channel", "messages", 1.0, "picows"),
        ),
    ),
    "on-loop": Case(
        title="asyncio: echo of plain handlers on an event loop",
        description=(
            "Handlers without coroutines, on a reactor alone and on the thread of an event loop: 64 connections of a "
            "client in Rust with 68 bytes under way each."
        ),
        peers=("goev-1", "goev-loop"),
        metrics=_ECHOES,
        measure=_echo(64),
        timed=True,
        goals=(Goal("goev-loop", "echoes", _NOT_SLOWER, "goev-1"),),
    ),
    "on-loop-http": Case(
        title="asyncio: HTTP of plain handlers on an event loop",
        description="The same with HTTP: `wrk -c 64 -t 2`.",
        peers=("goev-1", "goev-loop"),
        metrics=_REQUESTS,
        measure=_http(64),
        timed=True,
        goals=(Goal("goev-loop", "rate", _NOT_SLOWER, "goev-1"),),
    ),
    "loop": Case(
        title="asyncio: its own work on goev's event loop",
        description=(
            "Speeds by CPU time, as ratios to those of the stock loop. Both loops live in one process and take turns; "
            "a round is the median of seven pairs. One chain and 16 chains of callbacks that call for the next one by "
            "`call_soon`; `sleep(0)` in 1,000 tasks; streams that echo 64 bytes over 16 connections."
        ),
        peers=("goev-loop",),
        metrics=("chains", "one_chain", "sleeps", "streams"),
        measure=measure.loop,
        goals=(
            Goal("goev-loop", "chains", _NOT_SLOWER),
            Goal("goev-loop", "sleeps", _NOT_SLOWER),
            Goal("goev-loop", "streams", _NOT_SLOWER),
        ),
    ),
    "asgi": Case(
        title="Service: ASGI, 64 connections",
        description="`wrk -c 64 -t 2` of a plain ASGI application, in one worker process of each server.",
        peers=("goev-run", "granian-run", "uvicorn-run"),
        metrics=_REQUESTS,
        measure=_service("asgi"),
        timed=True,
        goals=(
            Goal("goev-run", "rate", 1.25, "granian-run"),
            Goal("goev-run", "rate", 1.7, "uvicorn-run"),
        ),
    ),
    "asgi-json": Case(
        title="Service: JSON through Starlette, 64 connections",
        description="The same with a route of Starlette that answers with `JSONResponse`.",
        peers=("goev-run", "granian-run"),
        metrics=_REQUESTS,
        measure=_service("starlette"),
        timed=True,
        goals=(Goal("goev-run", "rate", 1.2, "granian-run"),),
    ),
    "wsgi": Case(
        title="Service: WSGI, 64 connections",
        description="The same with a plain WSGI application.",
        peers=("goev-run", "granian-run", "gunicorn-run"),
        metrics=_REQUESTS,
        measure=_service("wsgi"),
        timed=True,
        goals=(
            Goal("goev-run", "rate", 1.5, "granian-run"),
            Goal("goev-run", "rate", 4.0, "gunicorn-run"),
        ),
    ),
    "workers": Case(
        title="Service: two workers, and the access log",
        description=(
            "`wrk -c 64 -t 2` of a handler of goev, which shares the two cores with the server: one worker process, "
            "two, and one that writes a line of the access log for each request, in the format `combined`."
        ),
        peers=("goev-run", "goev-run-x2", "goev-run-logged"),
        metrics=_REQUESTS,
        measure=_service("handler"),
        timed=True,
        goals=(
            Goal("goev-run-x2", "rate", 1.1, "goev-run"),
            Goal("goev-run-logged", "rate", 0.93, "goev-run"),
        ),
    ),
    "tls-c64": Case(
        title="TLS: 64 connections",
        description="`wrk -c 64 -t 2` over https. nginx answers by `return 200`, with a head of its own.",
        peers=("goev", "goev-1", "uvloop", "uvloop-x2", "aiofastnet", "nginx-x2"),
        metrics=_REQUESTS,
        measure=_secure(64),
        timed=True,
        goals=(
            Goal("goev", "rate", 1.25, "uvloop"),
            Goal("goev", "rate", 1.1, "nginx-x2"),
            Goal("goev", "cpu", 0.85, "aiofastnet", at_least=False),
        ),
    ),
    "tls-pipelined": Case(
        title="TLS: 64 connections, 16 requests pipelined",
        description="The same, where each write of a client holds 16 requests. nginx answers each with a write.",
        peers=("goev", "uvloop", "aiofastnet", "nginx-x2"),
        metrics=_REQUESTS,
        measure=_secure(64, depth=16),
        timed=True,
        goals=(Goal("goev", "rate", 1.2, "aiofastnet"),),
    ),
    "tls-http": Case(
        title="TLS: HTTP, 64 connections",
        description="`wrk -c 64 -t 2` over https of servers that parse HTTP/1.1 and call Python.",
        peers=("goev", "goev-1", "granian", "granian-x2"),
        metrics=_REQUESTS,
        measure=_secure(64, kind="http"),
        timed=True,
        goals=(
            Goal("goev", "rate", 2.0, "granian"),
            Goal("goev", "rate", 2.0, "granian-x2"),
        ),
    ),
    "tls-handshakes": Case(
        title="TLS: full handshakes",
        description=(
            "4,000 connections of a client in Rust, up to 32 at once: a full handshake, one request and its reply, "
            "which says that the server is done too, and a reset."
        ),
        peers=_SHAKING,
        metrics=_HANDSHAKES,
        measure=_handshakes(resumed=False),
        goals=(
            Goal("goev", "handshakes", 0.9, "nginx-x2"),
            Goal("goev", "handshakes", 2.0, "uvloop"),
        ),
    ),
    "tls-resumed": Case(
        title="TLS: resumed handshakes",
        description=(
            "The same, where each connection resumes the session of the one before it in its place: by its ticket, "
            "and with new keys of X25519. The first 32 handshakes are full ones."
        ),
        peers=_SHAKING,
        metrics=_HANDSHAKES,
        measure=_handshakes(resumed=True),
        goals=(
            Goal("goev", "handshakes", 0.9, "nginx-x2"),
            Goal("goev", "handshakes", 2.0, "uvloop"),
        ),
    ),
    "tls-download": Case(
        title="TLS: download",
        description=(
            "A file of 1 GB, once: `respond_file` of a handler for HTTP, nginx with its default buffers, and an "
            "asyncio protocol that writes pieces of 256 KiB as long as the transport takes them. The client in Rust "
            "decrypts the beginning and counts the rest by the heads of the records, so that it does not set the pace."
        ),
        peers=("goev-1", "nginx", "uvloop", "aiofastnet"),
        metrics=_STREAM,
        measure=secure.download,
        goals=(
            Goal("goev-1", "throughput", 0.9, "nginx"),
            Goal("goev-1", "throughput", 1.5, "uvloop"),
        ),
    ),
    "tls-upload": Case(
        title="TLS: upload",
        description=(
            "The body of a PUT, 1 GB, once, until a GET behind it is answered. goev calls `on_body` of a handler for "
            "HTTP with each piece, and the asyncio protocol counts the bytes. nginx answers by `return 200` before it "
            "has read the body, reads it nevertheless, and discards it; it does not hand it to anybody."
        ),
        peers=("goev-1", "nginx", "uvloop", "aiofastnet"),
        metrics=_STREAM,
        measure=secure.upload,
        goals=(
            Goal("goev-1", "throughput", 0.9, "nginx"),
            Goal("goev-1", "throughput", 1.5, "uvloop"),
        ),
    ),
    "tls-websocket": Case(
        title="TLS: WebSocket echo, 64 bytes",
        description="As without TLS; picows uses aiofastnet for it, as it does by itself.",
        peers=("goev-1", "picows"),
        metrics=_ECHOES,
        measure=_websocket(64, tls=True),
        timed=True,
        goals=(Goal("goev-1", "echoes", 3.0, "picows"),),
    ),
    "tls-idle": Case(
        title="TLS: 10,000 idle connections",
        description="Resident memory by which a server grows for each connection that had one reply and stays open.",
        peers=("goev", "nginx-x2", "uvloop"),
        metrics=("bytes",),
        measure=secure.idle,
        goals=(
            Goal("goev", "bytes", 0.25, "uvloop", at_least=False),
            Goal("goev", "bytes", 1.0, "nginx-x2", at_least=False),
        ),
    ),
    "tls-storm": Case(
        title="TLS: 50 pingers beside 1,000 new connections a second",
        description=(
            "Each pinger of a client in Rust asks every 10 ms over a connection that stays open: first alone, then as "
            "long beside new connections at even distances. Those have full handshakes and a request each, of threads "
            "with a low priority."
        ),
        peers=("goev-1", "nginx"),
        metrics=("slower", "quiet_p99", "storm_p99", "made"),
        measure=secure.storm,
        timed=True,
        goals=(
            Goal("goev-1", "slower", 3.0, at_least=False),
            Goal("goev-1", "made", 950),
        ),
    ),
}
