"""Random legal and illegal operations over several pollers; afterwards all has ended, every byte in its place.

Each connection carries two streams of its own, made from the seed: one from the client and one from the handler. So
each end knows the bytes it must have received: all of them after an orderly end, the first of them after any other
end. The seed and the number of a connection decide the plan of both its ends. They do not decide the order of threads,
so a seed that fails is likely, but not certain, to fail again.

    python tests/faults/random_operations.py --seconds 60
    python tests/faults/random_operations.py --seconds 60 --seed 1234 --wire tls
"""

import argparse
import asyncio
import contextlib
import hashlib
import logging
import os
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import goev

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from wires import WIRES, Wire

CLIENTS = 16
LENGTH = 200_000  # bytes of the longest stream in either direction


def stream(seed: str) -> bytes:
    """The bytes of one direction of one connection."""
    chance = random.Random(seed)
    return chance.randbytes(chance.choice([0, 1, 100, 5000, LENGTH]))


class Tally:
    """The totals over all connections."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.whole: set[int] = set()  # connections whose handlers wrote all they had and closed in order
        self._lock = threading.Lock()

    def count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def check(self, ok: bool, text: str) -> None:
        if not ok:
            with self._lock:
                self.wrong.append(text)

    def is_prefix(self, got: bytes, of: bytes, text: str) -> None:
        self.check(got == of[: len(got)], f"{text}: {len(got)} of {len(of)} bytes, and other ones")


class Both:
    """The plan of one connection, known to both ends."""

    def __init__(self, seed: int, number: int) -> None:
        self.name = f"{seed}/{number}"
        self.number = number
        self.chance = random.Random(self.name)
        self.up, self.down = stream(self.name + "/up"), stream(self.name + "/down")
        self.ending = random.Random(self.name + "/ending").choice(["finish", "finish", "finish", "reset", "close"])

    def digest(self) -> str:
        parts = [self.up, self.down, *(b"%d" % self.chance.randrange(1000) for _ in range(20))]
        return hashlib.sha256(b"".join(parts)).hexdigest()


class Handler(goev.Connection):
    """Reads its connection's number from the first eight bytes, then does a random operation at each callback."""

    def __init__(self, tally: Tally, seed: int, plan: Both | None = None, got: bytearray | None = None, sent: int = 0):
        self.tally, self.seed, self.plan = tally, seed, plan
        self.got = bytearray() if got is None else got
        self.sent = sent
        self.opened = self.over = self.cut = False

    # --- operations ---

    def write_some(self) -> None:
        piece = self.plan.down[self.sent : self.sent + self.plan.chance.choice([1, 100, 4096, 70_000])]
        form = self.plan.chance.choice([bytes, bytearray, memoryview])
        self.write(form(piece))
        self.sent += len(piece)

    def write_from_elsewhere(self) -> None:
        """Order is kept per thread only, so this thread waits for the other."""
        thread = threading.Thread(target=self.refused, args=[lambda: self.write(b"")])
        thread.start()
        thread.join()

    def write_lines(self) -> None:
        piece = self.plan.down[self.sent : self.sent + 3000]
        self.writelines([piece[:1], b"", piece[1:]])
        self.sent += len(piece)

    def wrong_arguments(self) -> None:
        for call, errors in (
            (lambda: self.read(-2), ValueError),
            (lambda: self.read_exactly(1 << 40), ValueError),
            (lambda: self.read_until(b""), ValueError),
            (lambda: self.write("text"), TypeError),
            (lambda: self.schedule(-1), ValueError),
            (lambda: self.set_limits(lifetime=0), ValueError),
            (lambda: self.hand_over(self), ValueError),
        ):
            try:
                call()
            except errors:
                continue
            except goev.ConnectionClosed:
                continue
            self.tally.check(False, f"{self.plan.name}: a wrong argument was taken")

    def wrong_thread(self) -> None:
        def read() -> None:
            try:
                self.read()
            except (goev.WrongThread, goev.ConnectionClosed):
                return
            self.tally.check(False, f"{self.plan.name}: read on another thread")

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()

    def rest(self) -> None:
        self.pause_reading()
        self.schedule(self.plan.chance.random() / 100, self.go_on)

    def go_on(self) -> None:
        self.resume_reading()

    def set_timers(self) -> None:
        timers = [self.schedule(self.plan.chance.random() / 50, every=0.002) for _ in range(3)]
        timers[0].cancel()
        timers[0].cancel()

    def limits(self) -> None:
        self.set_limits(high_water=self.plan.chance.randrange(100_000), low_water=0, idle_timeout=5, write_timeout=5)

    def soon(self) -> None:
        self.call_soon(self.refused, self.write_some)

    def pass_on(self) -> None:
        other = type(self)(self.tally, self.seed, self.plan, self.got, self.sent)
        self.hand_over(other)

    def end(self) -> None:
        self.close()
        self.refused(lambda: self.write(b"late"), must=True)

    def break_off(self) -> None:
        self.cut = True
        self.abort()
        self.refused(lambda: self.write(b"late"), must=True)

    def blow_up(self) -> None:
        self.cut = True
        raise Blown(self.plan.name)

    COMMON = (write_some, write_some, write_some, write_lines, write_from_elsewhere, rest, set_timers, limits, soon)
    ODD = (wrong_arguments, wrong_thread, pass_on)
    LAST = (end, break_off, blow_up)

    def refused(self, call: Callable[[], object], must: bool = False) -> None:
        try:
            call()
        except goev.ConnectionClosed:
            return
        self.tally.check(not must, f"{self.plan.name}: a call after the end was taken")

    def act(self) -> None:
        dice = self.plan.chance.random()
        table = self.LAST if dice > 0.99 else self.ODD if dice > 0.9 else self.COMMON
        self.plan.chance.choice(table)(self)

    # --- callbacks ---

    def on_open(self) -> bool | None:
        self.tally.check(not self.opened, "opened twice")
        self.opened = True
        self.tally.count("open")

    def on_read(self) -> bool | None:
        self.tally.check(self.opened and not self.over, "read before the opening or after the end")
        if self.plan is None:
            head = self.read_exactly(8)
            if head is None:
                return
            self.plan = Both(self.seed, int.from_bytes(head))
        how = self.plan.chance.randrange(4)
        if how == 0:
            self.got += self.read()
        elif how == 1:
            self.got += self.read(self.plan.chance.randrange(1, 5000))
        elif how == 2:
            data = self.peek()
            self.got += data[: self.skip(len(data))]
        else:
            buffer = bytearray(3000)
            self.got += buffer[: self.read_into(buffer)]
        self.tally.is_prefix(bytes(self.got), self.plan.up, f"{self.plan.name}: what the handler read")
        self.act()

    def on_eof(self) -> bool | None:
        if self.plan is not None:
            whole = self.got == self.plan.up or self.plan.ending != "finish"
            self.tally.check(whole, f"{self.plan.name}: {len(self.got)} of {len(self.plan.up)} bytes before the end")
            while self.sent < len(self.plan.down):
                self.write_some()
            self.tally.whole.add(self.plan.number)
        self.close()

    def on_timeout(self) -> bool | None:
        self.tally.check(not self.over, "a timer after the end")
        return self.plan is None or self.plan.chance.random() > 0.3

    def on_drain(self) -> None:
        self.tally.check(not self.over, "on_drain after the end")

    def on_close(self, error: BaseException | None) -> None:
        self.tally.check(self.opened and not self.over, "closed twice, or without an opening")
        self.over = True
        self.tally.count("close")
        self.refused(lambda: self.write(b"late"), must=self.plan is not None)


class Waiting(Handler):
    """The same with coroutines, which wait before and after they act."""

    running = False

    async def wait(self) -> None:
        for _ in range(random.randrange(3)):
            await asyncio.sleep(random.choice([0, 0, 0.001]))

    async def alone(self, callback: Callable[..., bool | None], *args: object) -> bool | None:
        self.tally.check(not self.running, "two callbacks of one connection at once")
        self.running = True
        try:
            await self.wait()
            answer = callback(*args)
            await self.wait()
            return answer
        finally:
            self.running = False

    async def on_open(self) -> bool | None:
        super().on_open()
        await self.alone(lambda: None)

    async def on_read(self) -> bool | None:
        return await self.alone(super().on_read)

    async def on_eof(self) -> bool | None:
        return await self.alone(super().on_eof)

    async def on_timeout(self) -> bool | None:
        return await self.alone(super().on_timeout)

    async def on_drain(self) -> None:
        await self.alone(super().on_drain)

    async def on_close(self, error: BaseException | None) -> None:
        await self.alone(super().on_close, error)


class Blown(Exception):
    """Raised in callbacks, on purpose."""


class Dials(goev.Connection):
    """Outgoing connections to a port without a listener."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    def on_connect_fail(self, error: BaseException) -> None:
        self.tally.count("failed")


def converse(wire: Wire, address: tuple[str, int], plan: Both, tally: Tally) -> None:
    """One client: sends its stream in pieces, reads meanwhile, and ends in one of several ways."""
    chance, received, sent = plan.chance, bytearray(), 0
    with contextlib.suppress(ConnectionResetError, BrokenPipeError), wire.client(address) as connected:
        client = connected.socket
        client.settimeout(20)
        client.sendall(plan.number.to_bytes(8))
        while sent < len(plan.up):
            piece = plan.up[sent : sent + chance.choice([1, 50, 3000, 50_000])]
            client.sendall(piece)
            sent += len(piece)
            with contextlib.suppress(BlockingIOError):
                client.setblocking(False)
                part = client.recv(chance.choice([1, 100, 65_536]))
                received += part
            client.settimeout(20)
            if plan.ending != "finish" and chance.random() < 0.02:
                break
        if plan.ending == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif plan.ending == "finish":
            with contextlib.suppress(OSError):  # ENOTCONN after a reset
                client.shutdown(socket.SHUT_WR)
            while part := client.recv(65_536):
                received += part
    tally.is_prefix(bytes(received), plan.down, f"{plan.name}: what the client received")
    if plan.ending == "finish" and plan.number in tally.whole:
        tally.check(received == plan.down, f"{plan.name}: the client got {len(received)} of {len(plan.down)} bytes")
        tally.count("whole")


def talk(wire: Wire, address: tuple[str, int], seed: int, numbers: range, until: float, tally: Tally) -> None:
    for number in numbers:
        if time.monotonic() > until:
            return
        try:
            converse(wire, address, Both(seed, number), tally)
        except Exception as error:
            tally.check(False, f"{seed}/{number}: the client met {error!r}")
        tally.count("conversations")


def wait_for(condition: Callable[[], bool], what: str, tally: Tally) -> None:
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end:
            tally.check(False, f"not within 20 seconds: {what}")
            break
        time.sleep(0.01)


def count_of(what: str) -> int:
    """Open descriptors or threads of this process."""
    return len(os.listdir(f"/proc/self/{what}"))


def run(seed: int, seconds: float, pollers: int, wire: Wire, kind: type[Handler]) -> Tally:
    tally, descriptors, threads = Tally(), count_of("fd"), count_of("task")
    serve(seed, seconds, pollers, wire, tally, kind)
    wait_for(lambda: count_of("fd") <= descriptors, "all descriptors are closed", tally)
    wait_for(lambda: count_of("task") <= threads, "all threads have ended", tally)
    return tally


def serve(seed: int, seconds: float, pollers: int, wire: Wire, tally: Tally, kind: type[Handler]) -> None:
    with goev.Reactor(pollers, stall_warning=None, asyncio=kind is Waiting) as reactor:
        acceptor = goev.Acceptor(
            reactor, "127.0.0.1:0", lambda: kind(tally, seed), max_input=50_000, **wire.acceptor_options
        )
        connector = goev.Connector(reactor)
        reactor.start()
        until = time.monotonic() + seconds
        talkers = [
            threading.Thread(
                target=talk, args=[wire, acceptor.address, seed, range(n << 20, n + 1 << 20), until, tally]
            )
            for n in range(CLIENTS)
        ]
        for thread in talkers:
            thread.start()
        dialled = 0
        while any(thread.is_alive() for thread in talkers):
            connector.connect("127.0.0.1:1", Dials(tally))
            reactor.cache_set(dialled, seed)
            dialled += 1
            time.sleep(0.02)
        wait_for(lambda: tally.counts["failed"] == dialled, "every dial fails", tally)
        wait_for(lambda: sum(poller["open"] for poller in reactor.stats()) == 0, "all have ended", tally)
        stats = reactor.stats()
    tally.check(tally.counts["open"] == tally.counts["close"], f"openings and ends differ: {tally.counts}")
    accepted, closed = (sum(poller[key] for poller in stats) for key in ("accepted", "closed"))
    tally.check(accepted == closed, f"accepted {accepted}, closed {closed}")
    reasons = sum(sum(poller["closed_by"].values()) for poller in stats)
    tally.check(reasons == closed, f"closed {closed}, by reasons {reasons}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run; chosen at random otherwise")
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long connections begin (default 60)")
    parser.add_argument("--pollers", type=int, default=3, help="(default 3)")
    parser.add_argument("--wire", choices=WIRES, default="plain", help="(default plain)")
    parser.add_argument("--coroutines", action="store_true", help="let the callbacks be coroutines")
    parser.add_argument("--plan", action="store_true", help="only print a hash of the plan that follows from the seed")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    if options.plan:
        print(hashlib.sha256("".join(Both(seed, n).digest() for n in range(100)).encode()).hexdigest())
        return 0
    # Exceptions that handlers raise on purpose stay out of the log.
    logging.getLogger("goev").addFilter(lambda record: not (record.exc_info and record.exc_info[0] is Blown))
    kind = Waiting if options.coroutines else Handler
    tally = run(seed, options.seconds, options.pollers, Wire(options.wire), kind)
    print(*(f"{name} {count}" for name, count in sorted(tally.counts.items())), sep=", ")
    for text in tally.wrong[:20]:
        print(f"seed {seed}: {text}", file=sys.stderr)
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
