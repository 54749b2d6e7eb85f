"""`docs/cluster.md` tells the truth: its programs run, and its links lead somewhere."""

from pathlib import Path

import websockets.sync.client

from guides import Guide

GUIDE = Guide("cluster.md", 8080)


def test_the_first_program_is_a_room(tmp_path: Path) -> None:
    with (
        GUIDE.serving(tmp_path, "") as (port, _),
        websockets.sync.client.connect(f"ws://127.0.0.1:{port}") as one,
        websockets.sync.client.connect(f"ws://127.0.0.1:{port}") as other,
    ):
        one.ping().wait(10)
        other.ping().wait(10)
        one.send("hello")
        assert one.recv(10) == other.recv(10) == "hello"


def test_links_and_programs() -> None:
    assert not GUIDE.dead_links()
    assert GUIDE.tried == set(GUIDE.programs), "programs of the page that no test runs"
