"""`docs/cluster.md` tells the truth: its programs run, and its links lead somewhere."""

import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import websockets.sync.client

import goev
from goev.cluster.figures import Figures
from guides import Guide
from real_servers import free_port
from support import PATIENCE, Child, Client, eventually

GUIDE = Guide("cluster.md", 8080)


def browser(port: int) -> websockets.sync.client.ClientConnection:
    return websockets.sync.client.connect(f"ws://127.0.0.1:{port}", proxy=None)


def test_the_first_program_is_a_room(tmp_path: Path) -> None:
    with GUIDE.serving(tmp_path, "") as (port, _), browser(port) as one, browser(port) as other:
        one.ping().wait(PATIENCE)
        other.ping().wait(PATIENCE)
        one.send("hello")
        assert one.recv(PATIENCE) == other.recv(PATIENCE) == "hello"


def test_a_client_that_comes_back_gets_what_it_missed(tmp_path: Path) -> None:
    with GUIDE.serving(tmp_path, "History") as (port, _), browser(port) as stays:
        stays.send(json.dumps({"join": None}))
        with browser(port) as client:
            client.send(json.dumps({"join": None}))
            client.send(json.dumps({"say": "one"}))
            one = json.loads(client.recv(PATIENCE))
            assert one["text"] == json.loads(stays.recv(PATIENCE))["text"] == "one"
        stays.send(json.dumps({"say": "two"}))
        assert json.loads(stays.recv(PATIENCE))["text"] == "two"
        with browser(port) as again:
            again.send(json.dumps({"join": one["place"]}))
            again.send(json.dumps({"say": "three"}))
            assert [json.loads(again.recv(PATIENCE))["text"] for _ in range(2)] == ["two", "three"]


def test_a_cluster_on_a_poller_is_a_room(tmp_path: Path) -> None:
    with GUIDE.serving(tmp_path, "A cluster on a poller") as (port, _), Client(("127.0.0.1", port)) as one:
        one.send(b"hello\n")
        assert one.receive(6) == b"hello\n"
        with Client(("127.0.0.1", port)) as other:
            other.send(b"there\n")
            assert one.receive(6) == other.receive(6) == b"there\n"


def test_a_room_knows_who_is_there(tmp_path: Path) -> None:
    with GUIDE.serving(tmp_path, "Presence") as (port, child):
        with Client(("127.0.0.1", port)) as ada, Client(("127.0.0.1", port)) as bob:
            ada.send(b"ada\n")
            assert ada.receive(len(b"1 here: ada\n")) == b"1 here: ada\n"
            bob.send(b"bob\n")
            assert bob.receive(len(b"2 here: ada, bob\n")) == b"2 here: ada, bob\n"
            assert [child.line(), child.line()] == ["joined ada", "joined bob"]
        assert sorted([child.line(), child.line()]) == ["left ada", "left bob"]


def test_calls_reach_the_connection_with_a_name(tmp_path: Path) -> None:
    users, site = free_port(), free_port()
    source = GUIDE.source("Calls").replace("8081", str(users)).replace("8080", str(site))
    (tmp_path / "block.py").write_text(source)
    with Child(str(tmp_path / "block.py")) as child:

        def ask(name: str) -> tuple[int, bytes]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{site}/{name}", timeout=PATIENCE) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read()
            except urllib.error.URLError:
                return 0, b""

        eventually(lambda: ask("ada")[0] == 404, "it serves")
        assert ask("ada") == (404, b"no connection is registered as 'ada'\n")
        with Client(("127.0.0.1", users)) as ada, Client(("127.0.0.1", users)) as bob:
            ada.send(b"ada\n")
            eventually(lambda: ask("ada") == (200, b"I am here"), "the name is known")
            bob.send(b"ada:hello\n")
            assert ada.receive(6) == b"hello\n"
        child.interrupt()
        child.end()


def test_links_and_programs() -> None:
    assert not GUIDE.dead_links()


def test_all_counters_are_in_the_page() -> None:
    with goev.cluster.connect("memory:guide") as cluster:
        figures = set(cluster.stats())
    table = GUIDE.text.partition("| `cluster.stats()` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:]))) == figures
    assert set(Figures.__slots__) <= figures
