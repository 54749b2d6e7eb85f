"""The pages for those who come from another library: the programs before and after do the same."""

import subprocess

import pytest
from test_readme import wait_until_it_serves_or_ends
from websockets.sync.client import connect

from howto_support import HowTo, needs_the_whole_file
from support import PATIENCE, Client, need

PAGES = {
    name: HowTo(f"from-{name}.md")
    for name in ("asyncio-streams", "asyncio-protocol", "socketserver", "gevent", "twisted", "tornado", "go")
}
TALKS = [
    ("asyncio-streams", "With asyncio"),
    ("asyncio-streams", "With goev"),
    ("asyncio-streams", "With goev and a coroutine"),
    ("asyncio-protocol", "With asyncio"),
    ("asyncio-protocol", "With goev"),
    ("socketserver", "With socketserver"),
    ("socketserver", "With goev"),
    ("socketserver", "A handler that must block"),
    ("gevent", "With gevent"),
    ("gevent", "With goev"),
    ("twisted", "With goev"),
    ("go", "With goev for Python"),
]


@pytest.mark.parametrize(("page", "heading"), TALKS)
def test_a_program_answers_lines_of_several_clients_and_ends_at_quit(page, heading, tmp_path):
    with PAGES[page].program(tmp_path, heading) as child:
        port = wait_until_it_serves_or_ends(child)
        assert port is not None, child.errors
        with Client(("127.0.0.1", port)) as first, Client(("127.0.0.1", port)) as second:
            for client in (second, first, second):
                client.send(b"one\ntw")
                assert client.receive(4) == b"ONE\n"
                client.send(b"o\n")
                assert client.receive(4) == b"TWO\n"
            first.send(b"quit\n")
            assert first.receive_all() == b"QUIT\n"


def test_the_site_after_tornado_greets_and_echoes(tmp_path):
    curl = need("curl")
    with PAGES["tornado"].serving(tmp_path, "With goev") as (port, _):
        url = f"http://127.0.0.1:{port}/hello?name=Ada"
        run = subprocess.run([curl, "-sS", url], capture_output=True, text=True, check=True, timeout=20)
        assert run.stdout == "hello Ada"
        with connect(f"ws://127.0.0.1:{port}/echo", proxy=None) as client:
            client.send("hello")
            assert client.recv(PATIENCE) == "hello"


@pytest.mark.parametrize("page", PAGES)
def test_every_program_of_a_page_was_tried(page, request):
    needs_the_whole_file(request)
    assert PAGES[page].untried() == set()
