"""`docs/asgi.md` tells the truth: its programs run."""

import httpx
import pytest
from websockets.sync.client import connect

import goev
from guides import Guide
from support import PATIENCE

GUIDE = Guide("asgi.md", 8080)


@pytest.mark.parametrize(
    ("heading", "path", "text"),
    [
        ("", "/", "Hello, World!"),
        ("Lifespan", "/", "hello, 127.0.0.1\n"),
        ("Beside handlers", "/-/live", "alive\n"),
        ("Beside handlers", "/else", "from the application\n"),
    ],
)
def test_the_programs_answer(tmp_path, heading, path, text):
    with GUIDE.serving(tmp_path, heading) as (port, _):
        assert httpx.get(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE).text == text


def test_a_websocket_beside_an_application(tmp_path):
    with (
        GUIDE.serving(tmp_path, "Beside handlers") as (port, _),
        connect(f"ws://127.0.0.1:{port}/ticker", open_timeout=PATIENCE) as client,
    ):
        assert client.recv(PATIENCE) == "tick"


def test_the_links_lead_somewhere():
    assert GUIDE.dead_links() == []


def test_the_defaults_of_the_table():
    handler = goev.asgi.Connection
    assert (handler.state, handler.root_path, handler.trusted_proxies) == ({}, "", ())
    assert handler.websocket is goev.asgi.WebSocket
    assert goev.asgi.WebSocket.max_message_size == 16 << 20
    assert handler.limits.max_body == 1 << 30
    assert set(handler.__annotations__) == {"app", "state", "root_path", "trusted_proxies", "websocket"}
    for name in ("app", "state", "root_path", "trusted_proxies", "websocket", "limits"):
        assert f"| `{name}` |" in GUIDE.text
