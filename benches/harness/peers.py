"""The table of compared servers: for each a name, a description, and its program with arguments."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    description: str
    program: str  # a name in harness.programs
    arguments: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The program and its arguments, by which a later report knows that they have changed."""
        return " ".join([self.program, *self.arguments])


_ONE = ("--pollers", "1")
_TWO = ("--pollers", "2")
_STEERED = (*_TWO, "--reuse-port", "--cpu-steering")
_BUSY = "--busy-thread"

PEERS = {
    "goev": Peer("goev with a Python handler, two pollers", "goev", _TWO),
    "goev-steered": Peer("the same with `reuse_port` and `cpu_steering`", "goev", _STEERED),
    "goev-round-robin": Peer(
        'goev with a Python handler, two pollers that take connections in turn (`placement="round_robin"`)',
        "goev",
        (*_TWO, "--placement", "round_robin"),
    ),
    "goev-1": Peer("goev with a Python handler, one poller", "goev", _ONE),
    "goev-loop": Peer("goev with the same handler on a `goev.asyncio.EventLoop`", "goev", ("--event-loop",)),
    "goev-coroutine": Peer("goev with `async def on_request`, one event loop", "goev", (*_ONE, "--coroutine")),
    "goev-channel": Peer("goev with a coroutine and its channel, one event loop", "goev channel"),
    "goev-batches": Peer("the same with `on_messages`: one call for all that are there", "goev", (*_ONE, "--batches")),
    "goev-busy": Peer("goev, two pollers, beside the computing thread", "goev", (*_TWO, _BUSY)),
    "go-goev": Peer("the Go original, set up as in its own example, two serving pollers", "go-goev", _TWO),
    "gnet": Peer("gnet, two event loops", "gnet", _TWO),
    "gnet-1": Peer("gnet, one event loop", "gnet", _ONE),
    "gnet-256k": Peer("the same with a read buffer of 256 KiB", "gnet", (*_ONE, "--read-buffer", "262144")),
    "asyncio": Peer("asyncio on its own event loop, one process", "asyncio"),
    "asyncio-streams": Peer("asyncio streams on its own event loop", "asyncio", ("--streams",)),
    "asyncio-busy": Peer("asyncio beside the computing thread", "asyncio", (_BUSY,)),
    "uvloop": Peer("asyncio on uvloop, one process", "uvloop"),
    "uvloop-streams": Peer("asyncio streams on uvloop", "uvloop", ("--streams",)),
    "uvloop-busy": Peer("uvloop beside the computing thread", "uvloop", (_BUSY,)),
    "uvloop-x2": Peer("asyncio on uvloop, two processes with SO_REUSEPORT", "uvloop", _TWO),
    "aiofastnet": Peer("asyncio on uvloop with the transports of aiofastnet, one process", "aiofastnet"),
    "rloop": Peer("asyncio on rloop, one process", "rloop"),
    "uvicorn": Peer("uvicorn with httptools, a plain ASGI application on uvloop, one process", "uvicorn"),
    "granian": Peer("granian, RSGI on uvloop, one worker", "granian", _ONE),
    "granian-gather": Peer(
        "granian, one worker, told to gather the answers to pipelined requests (`pipeline_flush`, off as it comes)",
        "granian",
        (*_ONE, "--gather"),
    ),
    "granian-x2": Peer("granian, RSGI on uvloop, two workers", "granian", _TWO),
    "socketify": Peer("socketify, one process", "socketify", _ONE),
    "socketify-x2": Peer("socketify, two processes with SO_REUSEPORT", "socketify", _TWO),
    "goev-run": Peer("`goev run`, one worker", "goev"),
    "goev-run-x2": Peer("`goev run`, two workers", "goev", ("--workers", "2")),
    "goev-run-logged": Peer("`goev run`, one worker, with an access log into a file", "goev", ("--access-log",)),
    "granian-run": Peer("granian's command line, one worker: ASGI on uvloop, WSGI with its own threads", "granian"),
    "uvicorn-run": Peer("uvicorn's command line, one worker, httptools and uvloop", "uvicorn"),
    "gunicorn-run": Peer("gunicorn's command line, one worker `gthread` of 16 threads", "gunicorn"),
    "picows": Peer("picows on uvloop, one process", "picows"),
    "websockets": Peer("the package websockets on uvloop, one process", "websockets"),
    "local-groups": Peer("`goev.Group` in each process, one poller", "goev node", ("",)),
    "cluster-nats": Peer("the group of a `goev.cluster` over NATS, one poller", "goev node", ("nats",)),
    "cluster-redis": Peer("the same over Redis", "goev node", ("redis",)),
    "held-nats": Peer("the group of a `goev.cluster` over NATS", "goev node", ("nats", "held")),
    "here-nats": Peer("a `goev.Group` with the same members, in turn with the next", "goev node", ("nats", "here")),
    "held-redis": Peer("the group of a `goev.cluster` over Redis", "goev node", ("redis", "held")),
    "here-redis": Peer("a `goev.Group` with the same members, in turn with the next", "goev node", ("redis", "here")),
    "round-nats": Peer("groups of a `goev.cluster` over NATS, on the poller", "goev round", ("poller", "nats")),
    "round-nats-thread": Peer("the same, on a thread of its own", "goev round", ("thread", "nats")),
    "round-redis": Peer("groups of a `goev.cluster` over Redis, on the poller", "goev round", ("poller", "redis")),
    "round-redis-thread": Peer("the same, on a thread of its own", "goev round", ("thread", "redis")),
    "bare-nats": Peer("nats-py on asyncio", "goev round", ("bare", "nats")),
    "bare-redis": Peer("redis-py on asyncio", "goev round", ("bare", "redis")),
    "redis": Peer("the real Redis server, without a disk", "redis"),
    "nginx": Peer("nginx, one worker, `sendfile` on", "nginx"),
    "nginx-x2": Peer("nginx, two workers", "nginx", _TWO),
    "core": Peer("limit: goev's core with a Rust handler, two pollers", "core", _TWO),
    "core-steered": Peer("limit: the same with `reuse_port` and `cpu_steering`", "core", _STEERED),
    "bare-epoll": Peer("limit: a bare epoll loop in Rust, two threads with SO_REUSEPORT", "bare-epoll", _TWO),
}
