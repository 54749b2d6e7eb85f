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


def test_a_peer_that_sends_no_json_is_answered():
    with running("rpc") as address, Client(address) as client:
        for request in (b"{", b"[]", b"17", b'{"id": 7}'):
            client.send(struct.pack(">I", len(request)) + request)
            answer = json.loads(client.receive(struct.unpack(">I", client.receive(4))[0]))
            assert answer["error"]
        assert answer["id"] == 7
