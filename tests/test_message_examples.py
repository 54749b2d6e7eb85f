"""The examples with messages: `lines.py` for anyone with netcat, `rpc.py` as server and as client."""

import json
import struct
import subprocess
import sys

import pytest
from test_examples import running

from support import ROOT, Client

RPC = str(ROOT / "examples" / "rpc.py")


def call(port: int, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, RPC, "--port", str(port), "--call", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_lines_come_back_numbered_until_quit():
    with running("lines") as address, Client(address) as client:
        assert client.receive(6) == b"hello\n"
        client.send(b"one\ntwo\r\nqu")
        assert client.receive(12) == b"1 ONE\n2 TWO\n"
        client.send(b"it\nnever\n")
        assert client.receive_all() == b"bye\n"


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_longest_lines_are_answered_and_those_above_end_the_connection(end):
    with running("lines") as address, Client(address) as client:
        assert client.receive(6) == b"hello\n"
        for number, size in enumerate((1022, 1023, 1024), 1):
            client.send(b"x" * size + end)
            answer = b"%d %s\n" % (number, b"X" * size)
            assert client.receive(len(answer)) == answer
        client.send(b"x" * 1025 + end)
        assert client.receive_all() == b"bye\n"


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("add", "1", "2", "3.5"), "6.5"),
        (("upper", "text"), '"TEXT"'),
        (("echo", '{"a": [1, null]}'), '{"a": [1, null]}'),
    ],
)
def test_a_call_prints_its_result(words, printed):
    with running("rpc") as (_, port):
        result = call(port, *words)
    assert (result.stdout, result.stderr, result.returncode) == (printed + "\n", "", 0)


def test_a_call_that_fails_says_why_and_the_server_goes_on():
    with running("rpc") as (_, port):
        assert "KeyError('nothing')" in call(port, "nothing").stderr
        assert "TypeError" in call(port, "add", "text").stderr
        assert call(port, "add", "1").stdout == "1\n"
    assert "refused" in call(port, "add", "1").stderr


def ask(client: Client, request: bytes) -> bytes:
    client.send(struct.pack(">I", len(request)) + request)
    return client.receive(struct.unpack(">I", client.receive(4))[0])


def test_a_peer_that_sends_no_json_is_answered():
    with running("rpc") as address, Client(address) as client:
        for request in (b"{", b"[]", b"17", b'{"id": 7}'):
            answer = json.loads(ask(client, request))
            assert answer["error"]
        assert answer["id"] == 7


@pytest.mark.parametrize(
    ("id_", "function", "arguments", "known"),
    [
        ("1", '"add"', f"{'9' * 4300}, 1", 1),
        ("1", '"add"', "NaN", 1),
        ("1", '"add"', "1e999", 1),
        ("1", '"upper"', f'"{"ŉ" * 30_000}"', 1),  # in capitals it has three bytes, not two
        ("1", '"echo"', r'"\ud800"', 1),
        ("1", '"%s"' % ("é" * 20_000), "1", 1),
        ('"%s"' % ("é" * 20_000), '"echo"', "1", None),
        ('"%s"' % ("é" * 20_000), '"nothing"', "1", None),
        ("9" * 4000, '"echo"', "1", None),
        ("NaN", '"echo"', "1", None),
        ("[" * 9000 + "]" * 9000, '"echo"', "1", None),
    ],
    ids=lambda value: str(value)[:12],
)
def test_what_has_no_answer_is_answered_with_an_error_and_the_connection_goes_on(id_, function, arguments, known):
    request = f'{{"id": {id_}, "function": {function}, "arguments": [{arguments}]}}'
    with running("rpc") as address, Client(address) as client:
        answer = json.loads(ask(client, request.encode()))
        assert answer["error"]
        assert answer["id"] == known
        assert len(answer["error"]) < 1000
        assert ask(client, b'{"id": 2, "function": "add", "arguments": [1]}') == b'{"id": 2, "result": 1}'


def test_an_echo_is_as_long_as_what_was_sent():
    text = "é" * 20_000
    with running("rpc") as address, Client(address) as client:
        request = json.dumps({"id": "ü", "function": "echo", "arguments": [text]}, ensure_ascii=False)
        answer = ask(client, request.encode())
    assert json.loads(answer) == {"id": "ü", "result": text}
    assert len(answer) < 41_000


@pytest.mark.parametrize("word", ["NaN", "x" * 70_000])
def test_what_cannot_be_asked_is_said(word):
    result = call(9, "echo", word)
    assert (result.stdout, result.returncode) == ("", 1)
    assert result.stderr.startswith("rpc.py: ")
    assert "Traceback" not in result.stderr
