"""`examples/redis_server.py` against the real clients, and against bytes that no client sends."""

import re
import subprocess

import pytest
from test_examples import running

from support import Client, need


@pytest.fixture
def port():
    with running("redis_server") as (_, number):
        yield number


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
        (b"*-1\r\n", b"invalid multibulk length"),
        (b"*99999999\r\n", b"invalid multibulk length"),
        (b"*1\r\n$99999999\r\n", b"invalid bulk length"),
        (b"*1\r\n:1\r\n", b"expected '$', got ':'"),
    ],
)
def test_what_is_no_command_is_answered_and_the_connection_closed(port, stream, error):
    with Client(("127.0.0.1", port)) as client:
        client.send(b"PING\r\n" + stream + b"PING\r\n")
        assert client.receive_all() == b"+PONG\r\n-ERR Protocol error: %s\r\n" % error
