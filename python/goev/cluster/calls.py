"""Direct calls: a message to the connection that has a name, and its answer.

Each name is a subject, to which the machine of its connection is subscribed. So the engine finds the machine, and knows
if there is none. A name belongs to one connection: the one that registered last. Its machine announces that on the
subject, with the time since then, and machines with an older registration drop theirs.
"""

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from itertools import count

from goev._core import Connection, ConnectionClosed
from goev.cluster import subjects
from goev.cluster.answering import Reply, answer, hand_over
from goev.cluster.envelope import Envelope, Kind, content_of, opened, sealed, sealed_message
from goev.cluster.errors import CallFailed, Closed, NoSuchName, Unreachable
from goev.cluster.interface import Outgoing, Place, Subscription
from goev.cluster.nodes import Nodes
from goev.cluster.wiring import Wiring

LOGGER = logging.getLogger("goev.cluster")
SAME_TIME = 0.5  # seconds; of two registrations closer than this the machine with the greater number has the name
MOST_TEXT = 1000  # characters of a reason that travel

Taken = Callable[[], object]


def key_of(name: str) -> tuple[str, str]:
    """The key of a name among the callbacks for the end of a connection."""
    return "name", name


class Holding:
    """A name of this machine."""

    def __init__(self, connection: Connection, taken: Taken | None, registered: "Future[None]") -> None:
        self.connection = connection
        self.taken = taken
        self.registered = registered
        self.since = time.monotonic()

    def __del__(self) -> None:
        self.registered.cancel()  # nobody has taken it: the cluster is closed

    def lose(self) -> None:
        """Another connection has the name now."""
        if self.taken is not None:
            with suppress(ConnectionClosed):
                self.connection.call_soon(self.taken)


def age_in(body: bytes) -> float:
    """The age of a registration. Raises ValueError, TypeError, OverflowError: it is none."""
    age = float(content_of(body))
    if not 0 <= age < math.inf:
        raise ValueError(f"a name was registered {age} s ago")
    return age


class Calls:
    """The names of this machine, and the calls that wait for answers. Everything runs on the cluster's thread."""

    def __init__(self, wiring: Wiring, nodes: Nodes) -> None:
        self._wiring = wiring
        self._nodes = nodes
        self._held: dict[str, Holding] = {}
        self._numbers = count(1)
        self._is_closed = False
        self._waiting: dict[int, asyncio.Future[str | bytes]] = {}
        for kind in (Kind.ANSWER_BYTES, Kind.ANSWER_TEXT, Kind.FAILURE):
            nodes.on_inbox(kind, self._answered)

    # ---- names -------------------------------------------------------------------------------------------------------

    def hold(self, name: str, holding: Holding) -> None:
        """Register a connection under a name, in place of any other."""
        if self._is_closed or not self._wiring.endings.has(
            holding.connection, key_of(name)
        ):  # it has ended, or gave the name up
            holding.registered.cancel()
            return
        before, self._held[name] = self._held.get(name), holding
        if before is not None and before.connection is not holding.connection:
            before.lose()
        subscription = Subscription(subjects.of_name(name))
        self._wiring.link.want(subscription, partial(self._received, name), partial(self._established, name))

    def drop(self, name: str, connection: Connection) -> None:
        """Give a name up, if this connection has it."""
        holding = self._held.get(name)
        if holding is not None and holding.connection is connection:
            self._forget(name)

    def _forget(self, name: str) -> Holding:
        holding = self._held.pop(name)
        holding.registered.cancel()
        self._wiring.link.unwant(subjects.of_name(name))
        return holding

    def _established(self, name: str) -> None:
        holding = self._held[name]
        self._announce(name, holding)
        with suppress(InvalidStateError):  # it is not the first session, or the user has cancelled it
            holding.registered.set_result(None)

    def _announce(self, name: str, holding: Holding) -> None:
        self._nodes.post(subjects.of_name(name), Kind.NODE, time.monotonic() - holding.since)

    def _announced(self, name: str, other: bytes, age: float) -> None:
        holding = self._held[name]
        own = time.monotonic() - holding.since
        is_older = own > age if abs(own - age) > SAME_TIME else self._wiring.node < other
        if is_older:
            self._forget(name).lose()
        else:
            self._announce(name, holding)

    # ---- calls from here ---------------------------------------------------------------------------------------------

    async def call(self, name: str, message: str | bytes, timeout: float) -> str | bytes:
        """See ``Cluster.call``."""
        return await self._ask(Kind.CALL_BYTES, name, message, timeout)

    async def tell(self, name: str, message: str | bytes, timeout: float) -> None:
        """See ``Cluster.tell``."""
        await self._ask(Kind.TELL_BYTES, name, message, timeout)

    async def _ask(self, kind: Kind, name: str, message: str | bytes, timeout: float) -> str | bytes:
        number = next(self._numbers)
        future: asyncio.Future[str | bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._send(kind, name, number, message)
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise TimeoutError(f"{name!r} did not answer within {timeout} s") from None
        finally:
            del self._waiting[number]

    def _send(self, kind: Kind, name: str, number: int, message: str | bytes) -> None:
        if name in self._held:
            is_text = isinstance(message, str)
            body = message.encode(errors="surrogatepass") if isinstance(message, str) else message
            return self._handle(name, Envelope(Kind(kind + is_text), self._wiring.node, number, body))
        outgoing = Outgoing(
            subjects.of_name(name),
            sealed_message(kind, self._wiring.node, number, message),
            on_absent=partial(self._fail, number, NoSuchName(f"no connection is registered as {name!r}")),
            on_refused=partial(self._fail, number),
        )
        if not self._wiring.link.post(outgoing):
            link = self._wiring.link
            reason = "does not take more" if link.state == "up" else "is away"
            raise Unreachable(f"cannot call {name!r}: {link.backplane.url} {reason}")
        return None

    def close(self) -> None:
        """The cluster closes: nobody waits for ever."""
        self._is_closed = True
        for number in list(self._waiting):
            self._fail(number, Closed("the cluster was closed before the answer came; the call may have been made"))
        for holding in self._held.values():
            holding.registered.cancel()

    def session_ended(self) -> None:
        """The engine is away, and answers with it."""
        for number in list(self._waiting):
            url = self._wiring.link.backplane.url
            self._fail(number, Unreachable(f"{url} went away before the answer came; the call may have been made"))

    def _fail(self, number: int, error: Exception) -> None:
        future = self._waiting.get(number)
        if future is not None and not future.done():
            future.set_exception(error)

    def _answered(self, envelope: Envelope) -> None:
        future = self._waiting.get(envelope.number)
        if future is None or future.done():
            return  # it comes late
        try:
            if envelope.kind is Kind.FAILURE:
                failure = content_of(envelope.body)
                future.set_exception((NoSuchName if failure["absent"] else CallFailed)(failure["text"]))
            else:
                future.set_result(envelope.message)
        except (ValueError, TypeError, KeyError):
            self._wiring.figures.malformed += 1

    # ---- calls to here -----------------------------------------------------------------------------------------------

    def _received(self, name: str, data: bytes, _: Place | None) -> None:
        try:
            envelope = opened(data)
            if envelope.sender == self._wiring.node or name not in self._held:
                return
            if envelope.kind is Kind.NODE:
                self._announced(name, envelope.sender, age_in(envelope.body))
            else:
                self._handle(name, envelope)
        except (ArithmeticError, LookupError, ValueError, TypeError):
            self._wiring.figures.malformed += 1

    def _handle(self, name: str, envelope: Envelope) -> None:
        """Have the connection answer, on its poller."""
        functions = {Kind.CALL_BYTES: answer, Kind.TELL_BYTES: hand_over}
        function = functions[Kind(envelope.kind & ~1)]
        message = envelope.message
        connection = self._held[name].connection
        send = partial(self._wiring.post, self._reply, envelope.sender, envelope.number)
        reply = Reply(name, self._wiring.most, send)
        try:
            connection.call_soon(function, connection, message, reply)
        except ConnectionClosed:
            reply.fail(NoSuchName(f"the connection registered as {name!r} has ended"))

    def _reply(self, node: bytes, number: int, result: str | bytes | Exception) -> None:
        """Send an answer to the machine that asked."""
        subject = subjects.of_node(node.hex())
        if node == self._wiring.node:
            self._answer_here(number, result)
        elif isinstance(result, Exception):
            content = {"absent": isinstance(result, NoSuchName), "text": str(result)[:MOST_TEXT]}
            data = sealed(Kind.FAILURE, self._wiring.node, number, json.dumps(content).encode())
            self._wiring.link.post(Outgoing(subject, data, on_refused=partial(self._nodes.refused, subject)))
        else:
            data = sealed_message(Kind.ANSWER_BYTES, self._wiring.node, number, result)
            self._wiring.link.post(Outgoing(subject, data, on_refused=partial(self._not_sent, node, number)))

    def _not_sent(self, node: bytes, number: int, error: Exception) -> None:
        """The engine does not take an answer."""
        self._reply(node, number, CallFailed(f"the answer was not sent: {error}"))

    def _answer_here(self, number: int, result: str | bytes | Exception) -> None:
        future = self._waiting.get(number)
        if isinstance(result, Exception):
            self._fail(number, result)
        elif future is not None and not future.done():
            future.set_result(result)
