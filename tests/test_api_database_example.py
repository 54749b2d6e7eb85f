"""`examples/api_database.py` over a real PostgreSQL and a real Redis server, which also go away and come back."""

import asyncio
import http.client
import itertools
import json
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from test_examples import running

from real_servers import PostgresServer, RedisServer, free_port
from support import PATIENCE, ROOT, Child, eventually, in_thread

NAME = "api_database"
TEA = {"name": "tea", "stock": 3}
NOBODY = f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with closing(PostgresServer()) as server:
        yield server


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@dataclass
class Api:
    """A client of the example."""

    address: tuple[str, int]

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status and the value of an answer; ``body`` is sent as JSON unless it is bytes."""
        with self.connect() as connection:
            return ask(connection, method, path, body)

    def connect(self) -> Any:
        return closing(http.client.HTTPConnection(*self.address, timeout=PATIENCE))

    def counts(self) -> dict[str, int]:
        status, counted = self.ask("GET", "/counts")
        assert status == 200
        return counted

    def did_since(self, before: dict[str, int]) -> dict[str, int]:
        return {name: count - before[name] for name, count in self.counts().items() if name != "items"}

    def create(self, item: dict[str, Any]) -> str:
        """The path of a new item."""
        status, created = self.ask("POST", "/items", item)
        assert (status, created) == (201, {"id": created["id"], **item})
        return f"/items/{created['id']}"


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body))
    answer = connection.getresponse()
    assert answer.headers["content-type"] == "application/json"
    return answer.status, json.loads(answer.read())


def options(postgres: PostgresServer, redis: RedisServer) -> list[str]:
    return ["--postgres", postgres.url, "--redis", redis.url]


@pytest.fixture(scope="module")
def api(postgres: PostgresServer, redis: RedisServer) -> Iterator[Api]:
    """The example, started once: whatever the tests do, it must log nothing, and end with status 0 on SIGINT."""
    with running(NAME, *options(postgres, redis)) as address:
        yield Api(address)


@contextmanager
def away(stop: Callable[[], None], start: Callable[[], None]) -> Iterator[None]:
    stop()
    try:
        yield
    finally:
        start()


def without_id(answer: tuple[int, Any]) -> tuple[int, Any]:
    status, item = answer
    return status, {"name": item["name"], "stock": item["stock"]}


def test_an_item_comes_from_the_database_first_and_from_the_cache_then(api):
    path = api.create(TEA)
    before = api.counts()
    for hits in range(3):
        assert without_id(api.ask("GET", path)) == (200, TEA)
        assert api.did_since(before) == {"misses": 1, "hits": hits, "created": 0, "changed": 0}


def test_a_change_is_seen_at_once_in_the_cache_and_in_the_database(api, redis):
    before = api.counts()
    path = api.create(TEA)
    api.ask("GET", path)
    for stock in range(3):
        changed = {"name": "grüner Tee", "stock": stock}
        assert without_id(api.ask("PUT", path, changed)) == (200, changed)
        assert without_id(api.ask("GET", path)) == (200, changed)
    redis.ask(b"FLUSHALL")
    assert without_id(api.ask("GET", path)) == (200, changed)
    assert api.did_since(before) == {"misses": 2, "hits": 3, "created": 1, "changed": 3}


def test_an_item_leaves_the_cache_after_its_time(postgres, redis):
    with running(NAME, *options(postgres, redis), "--keep", "1") as address:
        api = Api(address)
        path = api.create(TEA)
        api.ask("GET", path)
        eventually(lambda: api.ask("GET", path) and api.counts()["misses"] == 2, "the database is asked again")


def test_it_counts_the_items_of_the_database(api):
    before = api.counts()["items"]
    api.create(TEA)
    assert api.counts()["items"] == before + 1


@pytest.mark.parametrize("path", ["/", "/items", "/items/", "/items/999999999999999999", "/counts/1", "/%00"])
def test_an_unknown_item_or_page_is_not_found(api, path):
    status, answer = api.ask("GET", path)
    assert (status, list(answer)) == (400 if path == "/items/" else 404, ["error"])


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "tea", "01", "1/2", "%31%00", "9" * 19, "1;drop table items"])
def test_an_id_that_is_no_number_is_refused(api, number):
    path = f"/items/{number}".replace(" ", "%20")
    assert api.ask("GET", path) == (400, {"error": "the ID of an item is a whole number"})
    assert api.ask("PUT", path, TEA) == (400, {"error": "the ID of an item is a whole number"})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 4096, "no JSON"),
        (b"1" * 4096, "a name and a stock"),
        ([TEA], "a name and a stock"),
        ({"name": "tea"}, "a name and a stock"),
        ({**TEA, "id": 1}, "a name and a stock"),
        ({"name": "", "stock": 1}, "printable"),
        ({"name": "x" * 101, "stock": 1}, "printable"),
        ({"name": "a\0b", "stock": 1}, "printable"),
        ({"name": "\ud800", "stock": 1}, "printable"),
        ({"name": ["tea"], "stock": 1}, "printable"),
        ({"name": "tea", "stock": -1}, "whole number"),
        ({"name": "tea", "stock": 2**31}, "whole number"),
        ({"name": "tea", "stock": True}, "whole number"),
        ({"name": "tea", "stock": float("nan")}, "whole number"),
    ],
)
def test_bad_input_is_refused_with_the_reason_and_changes_nothing(api, body, reason):
    path = api.create(TEA)
    items = api.counts()["items"]
    for method, target in [("POST", "/items"), ("PUT", path)]:
        status, answer = api.ask(method, target, body)
        assert status == 400
        assert reason in answer["error"]
    assert without_id(api.ask("GET", path)) == (200, TEA)
    assert api.counts()["items"] == items


def test_a_change_of_an_unknown_item_is_not_found(api):
    assert api.ask("PUT", "/items/999999999999999999", TEA) == (404, {"error": "no such item"})


def test_without_the_database_the_cache_still_answers_and_the_rest_gets_503(api, postgres, redis):
    cached, other = api.create(TEA), api.create(TEA)
    api.ask("GET", cached)
    with away(postgres.stop, postgres.start):
        for _ in range(2):
            assert without_id(api.ask("GET", cached)) == (200, TEA)
            asked = [("GET", other, None), ("POST", "/items", TEA), ("PUT", cached, TEA), ("GET", "/counts", None)]
            for method, path, body in asked:
                assert api.ask(method, path, body) == (503, {"error": "the database is gone"})
    assert without_id(api.ask("GET", other)) == (200, TEA)
    assert api.create(TEA)


def test_without_the_cache_nothing_is_changed_and_it_works_again_with_it(api, redis):
    path = api.create(TEA)
    api.ask("GET", path)
    with away(redis.kill, redis.start):
        for _ in range(2):
            assert api.ask("GET", path) == (503, {"error": "the cache is gone"})
            assert api.ask("PUT", path, {"name": "coffee", "stock": 1}) == (503, {"error": "the cache is gone"})
    assert without_id(api.ask("GET", path)) == (200, TEA)
    assert without_id(api.ask("PUT", path, {"name": "coffee", "stock": 1})) == (200, {"name": "coffee", "stock": 1})


def test_a_server_that_hangs_costs_the_time_of_a_request(postgres, redis):
    with running(NAME, *options(postgres, redis), "--timeout", "0.2") as address:
        api = Api(address)
        path = api.create(TEA)
        with away(lambda: redis.process.send_signal(signal.SIGSTOP), lambda: redis.process.send_signal(signal.SIGCONT)):
            slow = [in_thread(api.ask, "GET", path) for _ in range(50)]
            for one in slow:
                assert one.result(PATIENCE) == (503, {"error": "the servers behind this one are too slow"})
            assert api.counts()["items"] > 0
        assert eventually(lambda: api.ask("GET", path)[0] == 200, "the cache answers again")


def load(api: Api, paths: list[str], seed: int, statuses: list[int], goes_on: Callable[[int], bool]) -> None:
    """Requests over one connection, each after the answer to the one before it; every item must be a whole one."""
    seeded = random.Random(seed)
    with api.connect() as connection:
        for number in itertools.takewhile(goes_on, itertools.count()):
            stock = seeded.randrange(1000)
            method, path = "GET" if number % 4 else "PUT", seeded.choice(paths)
            body = {"name": f"tea {stock}", "stock": stock} if method == "PUT" else None
            status, item = ask(connection, method, path, body)
            statuses.append(status)
            if status == 200:
                assert item["name"] == f"tea {item['stock']}"
                assert path == f"/items/{item['id']}"


def test_under_load_every_answer_is_right_and_both_servers_agree_in_the_end(api, redis):
    paths, statuses = [api.create({"name": "tea 1", "stock": 1}) for _ in range(10)], []
    loads = [in_thread(load, api, paths, seed, statuses, lambda number: number < 60) for seed in range(16)]
    for one in loads:
        one.result(2 * PATIENCE)
    assert statuses == [200] * 16 * 60
    from_cache = [api.ask("GET", path) for path in paths]
    redis.ask(b"FLUSHALL")
    assert [api.ask("GET", path) for path in paths] == from_cache


def test_under_load_the_database_goes_away_and_comes_back(api, postgres):
    paths, statuses = [api.create({"name": "tea 1", "stock": 1}) for _ in range(10)], []
    enough = threading.Event()
    loads = [in_thread(load, api, paths, seed, statuses, lambda _: not enough.is_set()) for seed in range(16)]

    def expect(status: int) -> None:
        before = len(statuses)
        eventually(lambda: status in statuses[before:], f"{status} comes")

    try:
        for _ in range(3):
            expect(200)
            with away(postgres.stop, postgres.start):
                expect(503)
        expect(200)
    finally:
        enough.set()
    for one in loads:
        one.result(PATIENCE)
    assert set(statuses) == {200, 503}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_lets_requests_end_and_closes_the_connections_to_the_database(postgres, redis, number):
    before = asyncio.run(sessions(postgres))
    with ExitStack() as stack:
        child = stack.enter_context(
            Child(str(ROOT / "examples" / f"{NAME}.py"), "--port", "0", *options(postgres, redis), "--timeout", "10")
        )
        api = Api(("127.0.0.1", int(child.line().rpartition(":")[2])))
        path = api.create(TEA)
        connection = stack.enter_context(api.connect())
        ask(connection, "GET", "/counts")
        with away(lambda: redis.process.send_signal(signal.SIGSTOP), lambda: redis.process.send_signal(signal.SIGCONT)):
            connection.request("GET", path)
            assert api.counts()["items"] > 0  # so that the request before it is waiting for the cache
            child.process.send_signal(number)
            eventually(lambda: refuses(api), "it listens no more")
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["name"]) == (200, "tea")
        assert (child.end(), child.complaints) == (0, "")
    after = asyncio.run(sessions(postgres))
    assert after["sessions"] > before["sessions"]
    assert after["sessions_abandoned"] == before["sessions_abandoned"]


def refuses(api: Api) -> bool:
    try:
        api.counts()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # the end of a listener resets the connections of its backlog
    return False


async def sessions(postgres: PostgresServer) -> asyncpg.Record:
    """How many sessions of the database there were, and how many of them were lost."""
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute("select pg_stat_force_next_flush()")
        return await connection.fetchrow(
            "select sessions, sessions_abandoned from pg_stat_database where datname = 'postgres'"
        )
    finally:
        await connection.close()


@pytest.mark.parametrize("missing", ["--postgres", "--redis"])
def test_a_server_that_is_not_there_at_the_start_is_named(postgres, redis, missing):
    absent = {"--postgres": f"postgresql://{NOBODY}/x", "--redis": f"redis://{NOBODY}"}[missing]
    urls = options(postgres, redis)
    urls[urls.index(missing) + 1] = absent
    with Child(str(ROOT / "examples" / f"{NAME}.py"), "--port", "0", *urls) as child:
        assert child.end() == 1
        assert NOBODY.rpartition(":")[2] in child.errors
        assert "Traceback" not in child.errors
