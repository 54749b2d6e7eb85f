"""Random operations over two pollers for some seconds: every opening has its end, every byte its place."""

import hashlib
import os
import random
import threading
import time
from collections import Counter
from contextlib import suppress

import goev
from support import Client, eventually, in_thread

SECONDS = 5.0
SEED = int(os.environ.get("GOEV_SEED", random.SystemRandom().randrange(1 << 32)))


class Mixed(goev.Connection):
    """Echoes by whatever method chance picks, with timers, pauses and calls of other threads in between."""

    def __init__(self, counts: Counter, lock: threading.Lock, seed: int) -> None:
        self.counts, self.lock, self.random = counts, lock, random.Random(seed)
        self.over = False

    def count(self, name: str) -> None:
        with self.lock:
            self.counts[name] += 1

    def on_open(self):
        self.count("open")
        if self.random.random() < 0.3:
            self.schedule(self.random.random() / 50, every=0.005)

    def on_timeout(self):
        assert not self.over
        return self.random.random() < 0.8

    def on_read(self):
        assert not self.over
        assert self.pending_input > 0
        act = self.random.randrange(6)
        if act == 0:
            self.write(self.read(self.random.randrange(1, 5000)))
        elif act == 1:
            buffer = bytearray(self.random.randrange(1, 5000))
            self.write(memoryview(buffer)[: self.read_into(buffer)])
        elif act == 2:
            data = self.peek()
            assert self.skip(len(data)) == len(data)
            self.writelines([data[:10], data[10:]])
        elif act == 3:
            self.pause_reading()
            self.schedule(0.001, self.go_on)
        else:
            self.write(self.read())

    def go_on(self):
        self.resume_reading()

    def on_close(self, error):
        assert not self.over
        self.over = True
        self.count("close")


def visit(address, chance: random.Random) -> str:
    """One client: returns what it did, having checked what it got."""
    kind = chance.choice(["whole", "whole", "whole", "slow", "reset", "silent", "leave"])
    with Client(address, receive_buffer=4096 if kind == "slow" else None) as client:
        if kind == "silent":
            return kind
        data = chance.randbytes(chance.choice([1, 100, 5000, 70_000, 400_000]))
        if kind in ("reset", "leave"):
            with suppress(OSError):
                client.send(data[: chance.randrange(len(data)) + 1])
                (client.reset if kind == "reset" else client.close)()
            return kind
        sending = in_thread(lambda: (client.send(data), client.finish()))
        echoed = client.hash_all()
        sending.result(10)
        assert echoed == (len(data), hashlib.sha256(data).hexdigest())
    return kind


def test_random_visits_lose_no_byte_and_no_end(start):
    print(f"GOEV_SEED={SEED}")
    counts: Counter = Counter()
    lock, seeds = threading.Lock(), random.Random(SEED)
    server = start(lambda: Mixed(counts, lock, seeds.randrange(1 << 32)), pollers=2, max_input=65536, high_water=32768)
    end = time.monotonic() + SECONDS

    def visits(seed: int) -> Counter:
        chance, done = random.Random(seed), Counter()
        while time.monotonic() < end:
            done[visit(server.address, chance)] += 1
        return done

    visitors = [in_thread(visits, SEED + number) for number in range(8)]
    done = sum((visitor.result(25) for visitor in visitors), Counter())
    assert set(done) == {"whole", "slow", "reset", "silent", "leave"}
    eventually(lambda: sum(p["open"] for p in server.reactor.stats()) == 0, "all connections have ended")
    server.reactor.stop()
    server.reactor.join(10)
    assert counts["open"] == counts["close"] > 100
    assert sum(p["accepted"] for p in server.reactor.stats()) == counts["open"]


def test_threads_write_call_close_and_cancel_at_random(start):
    """Handlers are used by four threads while they come and go: only the documented exceptions, no lost end."""
    print(f"GOEV_SEED={SEED}")
    alive: list[goev.Connection] = []
    counts: Counter = Counter()
    lock = threading.Lock()

    class Used(goev.Connection):
        def on_open(self):
            with lock:
                counts["open"] += 1
                alive.append(self)

        def on_read(self):
            self.write(self.read())

        def on_close(self, error):
            with lock:
                counts["close"] += 1
                alive.remove(self)

    server = start(Used, pollers=2)
    end = time.monotonic() + 3.0

    def use(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < end:
            with lock:
                connection = chance.choice(alive) if alive else None
            if connection is None:
                time.sleep(0.001)
                continue
            with suppress(goev.ConnectionClosed):
                act = chance.randrange(20)
                if act == 0:
                    chance.choice([connection.close, connection.abort])()
                elif act < 4:
                    connection.call_soon(lambda: None)
                elif act < 6:
                    server.reactor.schedule(0.001, lambda: None).cancel()
                else:
                    connection.write(chance.randbytes(chance.randrange(1, 5000)))

    def come_and_go(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < end:
            with suppress(OSError), Client(server.address) as client:
                for _ in range(chance.randrange(20)):
                    client.send(b"x" * chance.randrange(1, 2000))
                    client.socket.recv(10_000)
                    if chance.random() < 0.05:
                        client.reset()

    workers = [in_thread(use, SEED + n) for n in range(4)] + [in_thread(come_and_go, SEED + n) for n in range(4)]
    for worker in workers:
        worker.result(25)
    eventually(lambda: not alive, "all connections have ended")
    assert counts["open"] == counts["close"] > 20
