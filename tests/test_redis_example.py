"""`examples/redis_server.py` against the real clients, and against bytes that no client sends."""

import re
import select
import subprocess
import time
from types import ModuleType

import pytest
from test_examples import imported, running

from support import PATIENCE, ROOT, Child, Client, need

PROGRAM = ROOT / "examples" / "redis_server.py"


@pytest.fixture
def port():
    with running("redis_server") as (_, number):
        yield number


@pytest.fixture
def redis() -> ModuleType:
    """The example as a module."""
    return imported("redis_server")


def array(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def answers(port: int, requests: list[bytes]) -> list[bytes]:
    """The lines of the answers to commands that were sent all at once."""
    with Client(("127.0.0.1", port)) as client:
        client.send(b"".join(requests) + b"ECHO end\r\n")
        client.finish()
        lines = client.receive_all().split(b"\r\n")
    assert lines[-3:] == [b"$3", b"end", b""]
    return lines[:-3]


def cli(port: int, *words: str, given: str | None = None) -> str:
    command = [need("redis-cli", "redis-server"), "-p", str(port), *words]
    encoded = None if given is None else given.encode()
    result = subprocess.run(command, input=encoded, capture_output=True, timeout=30, check=True)
    return result.stdout.decode().rstrip("\n")


def test_redis_cli_sees_what_it_has_set(port):
    assert cli(port, "PING") == "PONG"
    assert cli(port, "GET", "key") == ""
    assert cli(port, "SET", "key", "a value\r\nof two lines") == "OK"
    assert cli(port, "GET", "key") == "a value\r\nof two lines"
    assert cli(port, "EXISTS", "key", "other") == "1"
    assert [cli(port, "INCR", "count") for _ in range(3)] == ["1", "2", "3"]
    assert "not an integer" in cli(port, "INCR", "key")
    assert cli(port, "DEL", "key", "count", "other") == "2"
    assert "unknown command 'FLUSHALL'" in cli(port, "FLUSHALL")
    assert "wrong number of arguments for 'get'" in cli(port, "GET")


def test_a_key_expires_and_a_new_value_lives_on(port):
    assert cli(
        port, given="SET a 1\nSET b 1\nEXPIRE a 1\nEXPIRE b 1\nTTL a\nSET b 2\nTTL b\nEXPIRE c 1\nTTL c\n"
    ).split() == [*("OK", "OK", "1", "1", "1", "OK", "-1", "0", "-2")]
    with Client(("127.0.0.1", port)) as client:
        answer = b"$1\r\n1\r\n"
        while answer != b"$-1\r\n":
            client.send(b"GET a\r\n")
            answer = client.receive(5)
            if answer != b"$-1\r\n":
                answer += client.receive(2)
        client.send(b"GET b\r\n")
        assert client.receive(7) == b"$1\r\n2\r\n"


def test_redis_benchmark_runs_through_pipelined_and_not(port):
    for depth in (1, 16):
        command = [need("redis-benchmark", "redis-server"), "-p", str(port), "-t", "ping,set,get,incr"]
        command += ["-n", "20000", "-P", str(depth), "-q"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert len(re.findall(r"requests per second", result.stdout)) == 5, result.stdout
        assert "ERR" not in result.stdout + result.stderr


def test_commands_cut_anywhere_are_answered_once_and_in_order(port):
    stream = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n"
    answers = b"+OK\r\n$4\r\na\r\nb\r\n+PONG\r\n"
    with Client(("127.0.0.1", port)) as client:
        for cut in range(1, len(stream)):
            client.send(stream[:cut])
            client.send(stream[cut:])
            assert client.receive(len(answers)) == answers


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"*x\r\n", b"invalid multibulk length"),
        (b"*\r\n", b"invalid multibulk length"),
        (b"*+1\r\n", b"invalid multibulk length"),
        (b"* 1\r\n", b"invalid multibulk length"),
        (b"*1_0\r\n", b"invalid multibulk length"),
        (b"*1025\r\n", b"invalid multibulk length"),
        (b"*99999999\r\n", b"invalid multibulk length"),
        (b"*1\r\n$99999999\r\n", b"invalid bulk length"),
        (b"*1\r\n$-1\r\n", b"invalid bulk length"),
        (b"*1\r\n$\xb2\r\n", b"invalid bulk length"),
        (b"*3\r\n" + b"$1000000\r\n%s\r\n" % bytes(1_000_000) * 2 + b"$1000000\r\n", b"too big a command"),
        (b"*1\r\n\r\n$4\r\n", rb"expected '$', got '\r'"),
        (b"*1\r\n:1\r\n", b"expected '$', got ':'"),
    ],
)
def test_what_is_no_command_is_answered_and_the_connection_closed(port, stream, error):
    with Client(("127.0.0.1", port)) as client:
        client.send(b"PING\r\n" + stream + b"PING\r\n")
        assert client.receive_all() == b"+PONG\r\n-ERR Protocol error: %s\r\n" % error


@pytest.mark.parametrize("unfinished", [b"x" * 70_000, b"*" + b"1" * 20, b"*2\r\n$1\r\nx\r\n$" + b"1" * 20])
def test_a_line_that_does_not_end_ends_the_connection(port, unfinished):
    with Client(("127.0.0.1", port)) as client:
        client.send(b"PING\r\n" + unfinished)
        assert client.receive_all() == b"+PONG\r\n-ERR Protocol error: too long a line\r\n"


@pytest.mark.parametrize("nothing", [b"*-1\r\n", b"*0\r\n", b"\r\n", b"\n"])
def test_what_asks_for_nothing_is_ignored(port, nothing):
    assert answers(port, [nothing, b"PING\r\n", nothing]) == [b"+PONG"]


def test_a_line_of_words_may_end_without_a_carriage_return(port):
    with Client(("127.0.0.1", port)) as client:
        client.send(b"PING\n")
        assert client.receive(7) == b"+PONG\r\n"
        client.send(b"SET k v\nGET k\n")
        assert client.receive(12) == b"+OK\r\n$1\r\nv\r\n"


def test_only_what_redis_calls_an_integer_is_counted_on(port):
    for text in (b"1_000", b" 12 ", b"+5", b"007", b"-0", b"", b"x", b"\xb2", b"9" * 19, b"9" * 5000):
        requests = [array(b"SET", b"k", text), array(b"INCR", b"k"), array(b"EXPIRE", b"k", text), b"TTL k\r\n"]
        error = b"-ERR value is not an integer or out of range"
        assert answers(port, requests) == [b"+OK", error, error, b":-1"], text
    for text, more in ((b"-1", b"0"), (b"0", b"1"), (b"-9223372036854775808", b"-9223372036854775807")):
        assert answers(port, [array(b"SET", b"k", text), b"INCR k\r\n"]) == [b"+OK", b":" + more]
        assert answers(port, [b"GET k\r\n"])[1] == more


def test_a_count_does_not_overflow(port):
    most = b"9223372036854775807"
    requests = [array(b"SET", b"k", b"9223372036854775806"), b"INCR k\r\n", b"INCR k\r\n", b"GET k\r\n"]
    error = b"-ERR increment or decrement would overflow"
    assert answers(port, requests) == [b"+OK", b":" + most, error, b"$19", most]


@pytest.mark.parametrize(
    ("seconds", "error"),
    [
        (10**400, b"-ERR value is not an integer or out of range"),
        (1 << 63, b"-ERR value is not an integer or out of range"),
        ((1 << 63) - 1, b"-ERR invalid expire time in 'expire' command"),
        (10**12, b"-ERR invalid expire time in 'expire' command"),
        (315_360_001, b"-ERR invalid expire time in 'expire' command"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_expiry_too_far_off_changes_nothing(port, seconds, error):
    asked = array(b"EXPIRE", b"k", b"%d" % seconds)
    requests = [b"SET k v\r\n", b"EXPIRE k 1000\r\n", asked, b"TTL k\r\n"]
    assert answers(port, requests) == [b"+OK", b":1", error, b":1000"]


def test_the_farthest_expiry_is_ten_years_off(port):
    requests = [b"SET k v\r\n", b"EXPIRE k 315360000\r\n", b"TTL k\r\n", b"EXPIRE k -1\r\n", b"GET k\r\n"]
    assert answers(port, requests) == [b"+OK", b":1", b":315360000", b":1", b"$-1"]


def test_a_value_of_a_mebibyte_comes_back_whole(port):
    value = bytes(range(256)) * 4096
    with Client(("127.0.0.1", port)) as client:
        client.send(array(b"SET", b"k", value) + b"GET k\r\n" * 3)
        assert client.receive(5) == b"+OK\r\n"
        for _ in range(3):
            assert client.receive(len(value) + 12) == b"$1048576\r\n%s\r\n" % value


def peak(pid: int) -> int:
    """Bytes of memory that a process has had in use at most."""
    with open(f"/proc/{pid}/status") as status:
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1])


def test_a_peer_that_does_not_read_its_answers_costs_a_limited_memory():
    with Child(str(PROGRAM), "--port", "0") as child:
        port = int(re.search(r":(\d+)", child.line())[1])
        with Client(("127.0.0.1", port), receive_buffer=4096) as client:
            client.send(array(b"SET", b"b", bytes(1 << 20)))
            assert client.receive(5) == b"+OK\r\n"
            client.send(b"GET b\r\n" * 300)
            reset = select.poll()
            reset.register(client.socket, 0)
            assert reset.poll(PATIENCE * 1000), "the connection goes on"
        assert answers(port, [b"PING\r\n"]) == [b"+PONG"]
        assert peak(child.pid) < 200 << 20
        assert child.complaints == ""


def test_the_answers_to_many_commands_are_written_together(redis):
    class Recorder(redis.Redis):
        def __init__(self) -> None:
            self.written: list[bytes] = []

        def write(self, data: bytes) -> None:
            self.written.append(data)

    recorder = Recorder()
    recorder.on_messages([[b"PING"]] * 1000)
    assert recorder.written == [b"+PONG\r\n" * 1000]
    recorder.on_messages([[b"ECHO", bytes(1000)]] * 1000)
    assert all(len(data) < 70_000 for data in recorder.written)
    assert sum(len(data) for data in recorder.written) == 7000 + 1000 * 1009


@pytest.mark.parametrize(
    "words",
    [[b"SET", b"key", bytes(1 << 20)], [b"DEL", *[b"x" * 1000] * 1023], [b"DEL", *[b""] * 1023]],
    ids=["one large word", "many words", "many empty words"],
)
@pytest.mark.parametrize("piece", [1, 7, 1400])
def test_a_command_in_small_pieces_costs_time_in_proportion_to_its_length(redis, words, piece):
    stream = array(*words) + array(b"PING")
    framing, found = redis.Resp(), []
    start = time.process_time()
    for at in range(0, len(stream), piece):
        found += framing.feed(stream[at : at + piece])
        assert time.process_time() - start < 8  # all takes a tenth of that; to begin again with each piece, minutes
    assert found == [words, [b"PING"]]
