"""The pages on framings: their programs talk to real peers, in any pieces, and refuse those that break the rules."""

import os
import re
import struct
import subprocess
import sys

import pytest

import goev
from guides import FENCED
from howto_support import HowTo, needs_the_whole_file
from real_servers import RedisServer
from support import Client, need

REDIS, MQTT, POSTGRES = (HowTo(f"framing-{name}.md") for name in ("redis", "mqtt", "postgres"))


def defined(page: HowTo) -> dict:
    """The names that the program of a page defines before it serves."""
    names: dict = {}
    text = page.source("")
    exec(text[: re.search(r"(?m)^(reactor = |goev\.serve)", text).start()], names)
    return names


# --- Redis ---


def test_the_client_of_redis_prints_the_lines_of_the_page(tmp_path):
    server = RedisServer(tmp_path)
    try:
        text = REDIS.source("").replace(":6379", f":{server.port}")
        (tmp_path / "client.py").write_text(text)
        run = subprocess.run([sys.executable, "client.py"], cwd=tmp_path, capture_output=True, text=True, timeout=20)
    finally:
        server.kill()
    assert run.stderr == ""
    assert ("text", run.stdout) in FENCED.findall(REDIS.text)


STREAM = b"+OK\r\n:-42\r\n$5\r\nhe\r\no\r\n$-1\r\n*2\r\n$1\r\na\r\n*1\r\n:1\r\n*-1\r\n-ERR no\r\n"
VALUES = ["OK", -42, b"he\r\no", None, [b"a", [1]], None]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_values_of_redis_arrive_whole_in_pieces_of_any_size(size):
    resp = defined(REDIS)["Resp"]()
    values = [value for at in range(0, len(STREAM), size) for value in resp.feed(STREAM[at : at + size])]
    assert values[:-1] == VALUES
    assert str(values[-1]) == "ERR no"
    assert resp.rest == b""


@pytest.mark.parametrize("wrong", [b"?\r\n", b":x\r\n", b"$99999999\r\n", b"*1\r\n" * 9])
def test_wrong_values_of_redis_are_refused(wrong):
    with pytest.raises(goev.FramingError):
        defined(REDIS)["Resp"]().feed(wrong)


# --- MQTT ---


def packet(first: int, content: bytes) -> bytes:
    """One with a length below 128."""
    return bytes([first, len(content)]) + content


def mqtt_text(text: bytes) -> bytes:
    return len(text).to_bytes(2) + text


HELLO = packet(0x10, mqtt_text(b"MQTT") + b"\x04\x02\x00\x3c" + mqtt_text(b"me"))


def test_a_subscriber_gets_messages_of_its_topic(tmp_path):
    with (
        MQTT.serving(tmp_path, "") as (port, _),
        Client(("127.0.0.1", port)) as ada,
        Client(("127.0.0.1", port)) as bob,
    ):
        for client in (ada, bob):
            for at in range(len(HELLO)):  # byte by byte
                client.send(HELLO[at : at + 1])
            assert client.receive(4) == b"\x20\x02\x00\x00"
        ada.send(packet(0x82, b"\x00\x07" + mqtt_text(b"news") + b"\x00"))
        assert ada.receive(5) == b"\x90\x03\x00\x07\x00"
        bob.send(packet(0x30, mqtt_text(b"other") + b"no") + packet(0x30, mqtt_text(b"news") + b"hello"))
        assert ada.receive(13) == packet(0x30, mqtt_text(b"news") + b"hello")
        long = mqtt_text(b"news") + b"x" * 20_000
        bob.send(b"\x30" + bytes([len(long) & 127 | 128, len(long) >> 7 & 127 | 128, len(long) >> 14]) + long)
        assert ada.receive(4 + len(long))[4:] == long
        ada.send(b"\xc0\x00")
        assert ada.receive(2) == b"\xd0\x00"
        ada.send(b"\xe0\x00")  # DISCONNECT
        assert ada.receive_all() == b""


@pytest.mark.parametrize("wrong", [b"\x30\xff\xff\xff\x7f", b"\x30\xff\xff\xff\xff\x01"], ids=["large", "five bytes"])
def test_a_wrong_length_of_mqtt_ends_the_connection(wrong, tmp_path):
    with MQTT.serving(tmp_path, "") as (port, _), Client(("127.0.0.1", port)) as client:
        client.send(wrong)
        assert client.receive_all() == b""


# --- PostgreSQL ---


def test_psql_gets_its_query_back(tmp_path):
    psql = need("psql", "postgresql-client")
    (command,) = [text for language, text in FENCED.findall(POSTGRES.text) if language == "sh"]
    with POSTGRES.serving(tmp_path, "") as (port, _):
        command = command.replace("psql ", f"{psql} ", 1).replace("8080", str(port))
        environment = {**os.environ, "PGCONNECT_TIMEOUT": "5"}
        run = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, env=environment)
    assert run.stderr == ""
    assert ("text", run.stdout) in FENCED.findall(POSTGRES.text)


@pytest.mark.parametrize("length", [0, 7, 1 << 21])
def test_a_wrong_length_of_postgres_ends_the_connection(length, tmp_path):
    with POSTGRES.serving(tmp_path, "") as (port, _), Client(("127.0.0.1", port)) as client:
        client.send(struct.pack(">I", length))
        assert client.receive_all() == b""


@pytest.mark.parametrize("page", [REDIS, MQTT, POSTGRES], ids=lambda page: page.path.stem)
def test_every_program_of_a_page_was_tried(page, request):
    needs_the_whole_file(request)
    assert page.untried() == set()
