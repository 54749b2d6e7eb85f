"""examples/connection_pool.py against a real Redis server, which also dies under load."""

import importlib.util
import re
import socket
import subprocess
import sys
import threading

import pytest

import goev
from real_servers import RedisServer
from support import PATIENCE, ROOT, eventually, in_thread

EXAMPLE = ROOT / "examples" / "connection_pool.py"


@pytest.fixture
def redis(tmp_path):
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("connection_pool_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pool(example, redis, reactor):
    connector = goev.Connector(reactor)
    with goev.ConnectionPool(connector, f"127.0.0.1:{redis.port}", example.Redis, min_idle=2, max_live=4) as pool:
        yield pool


def run_example(*options: object) -> str:
    command = [sys.executable, str(EXAMPLE), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) < 80


def test_the_example_explains_itself():
    assert "--port" in run_example("--help")


def test_redis_counts_what_the_example_pushed(redis):
    said = run_example("--port", redis.port, "--threads", 4, "--count", 250)
    assert re.match(r"pushed 1000, Redis counted 1000, over [1-4] connections\n", said)
    assert redis.counted("goev:example") == 1000


def test_a_second_run_counts_anew(redis):
    assert [run_example("--port", redis.port, "--threads", 1, "--count", 5).split(",")[0] for _ in range(2)] == [
        "pushed 5"
    ] * 2
    assert redis.counted("goev:example") == 5


def test_the_example_says_that_no_redis_is_there():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        command = [sys.executable, str(EXAMPLE), "--port", str(unused.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "ConnectionRefusedError" in done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("TimeoutError: no connection to 127.0.0.1:")


def test_pipelined_replies_go_to_their_commands(pool):
    with pool.connection(timeout=PATIENCE) as redis:
        replies = [redis.command("INCR", "n") for _ in range(1000)]
        assert [int(reply.result(PATIENCE)) for reply in replies] == list(range(1, 1001))


def test_an_error_of_redis_comes_out_of_its_command(pool):
    with pool.connection(timeout=PATIENCE) as redis:
        wrong, right = redis.command("NONSENSE"), redis.command("PING")
        with pytest.raises(RuntimeError, match="unknown command"):
            wrong.result(PATIENCE)
        assert right.result(PATIENCE) == "PONG"


class Load:
    """Threads that push commands through a pool until told to stop, and what became of each command."""

    def __init__(self, pool, threads: int = 6) -> None:
        self.pool = pool
        self.key = "first"
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.issued, self.answered, self.failed = 0, [], []
        self.threads = [in_thread(self.push) for _ in range(threads)]

    def push(self) -> None:
        while not self.stopping.is_set():
            key = self.key
            with self.lock:
                self.issued += 1
            try:
                with self.pool.connection(timeout=PATIENCE) as redis:
                    replies = [redis.command("INCR", key) for _ in range(3)]
                    for reply in replies:
                        reply.exception(PATIENCE)  # raises TimeoutError for one that is lost
                    values = [int(reply.result()) for reply in replies]
            except (goev.ConnectionClosed, ConnectionError) as error:
                with self.lock:
                    self.failed.append((key, error))
            else:
                with self.lock:
                    self.answered.append((key, values))

    def of(self, key: str) -> int:
        with self.lock:
            return sum(1 for answered, _ in self.answered if answered == key)

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.result(2 * PATIENCE)


@pytest.mark.parametrize("orderly", [False, True], ids=["killed", "shut down"])
def test_a_server_that_dies_under_load_loses_no_command_silently(redis, pool, log, orderly):
    load = Load(pool)
    eventually(lambda: load.of("first") > 200, "commands are answered")
    if orderly:
        redis.process.terminate()
        redis.process.wait(PATIENCE)
    else:
        redis.kill()
    eventually(lambda: pool.live == 0, "the pool notices")
    load.key = "second"
    redis.start()
    eventually(lambda: load.of("second") > 200, "the commands of every thread are answered again")
    load.stop()
    assert len(load.answered) + len(load.failed) == load.issued
    values = [value for key, batch in load.answered if key == "second" for value in batch]
    assert len(set(values)) == len(values)
    failed = sum(3 for key, _ in load.failed if key == "second")
    assert len(values) <= redis.counted("second") <= len(values) + failed
    assert not [text for text in log.texts() if "Traceback" in text]
    eventually(lambda: pool.idle == pool.live, "every connection came back")
    assert 1 <= pool.live <= 4


def test_clients_that_redis_disconnects_are_replaced(redis, pool, log):
    load = Load(pool, threads=3)
    for _ in range(5):
        goal = load.of("first") + 50
        redis.ask(b"CLIENT KILL TYPE normal SKIPME yes")
        eventually(lambda goal=goal: load.of("first") > goal, "commands are answered again")
    load.stop()
    assert len(load.answered) + len(load.failed) == load.issued
    answered = [value for _, batch in load.answered for value in batch]
    assert len(set(answered)) == len(answered)
    assert len(answered) <= redis.counted("first") <= len(answered) + 3 * len(load.failed)
