"""`examples/chat.py --cluster`: three nodes are one chat, and a page that loses its node goes on and misses nothing."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from test_examples import running

from chat_support import PROGRAM, Chatter, entrance
from support import ROOT, Child
from visitors import Visitor

sys.path.insert(0, str(ROOT / "tests" / "cluster"))
from engines import made

pytestmark = pytest.mark.timeout(120)


class Node:
    """A process of the example; it can be started again on its port."""

    def __init__(self, url: str) -> None:
        self.url, self.port = url, 0
        self.start()

    def start(self) -> None:
        self.child = Child(str(PROGRAM), "--port", str(self.port), "--cluster", self.url).__enter__()
        found = re.search(r":(\d+)$", self.child.line())
        assert found is not None
        self.port = int(found[1])

    def kill(self) -> None:
        """End it, as by a power cut; harmless when it has ended."""
        self.child.__exit__()

    def stop(self) -> None:
        """End it in order."""
        self.child.interrupt()
        assert (self.child.end(), self.child.complaints) == (0, "")
        self.kill()


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[Any]:
    engine = made("nats", tmp_path)
    yield engine
    engine.close()


@pytest.fixture
def nodes(nats: Any, stack: ExitStack) -> list[Node]:
    """Three nodes."""
    made = []
    for _ in range(3):
        made.append(node := Node(nats.url))
        stack.callback(node.kill)
    return made


def shown(visitor: Visitor) -> list[str]:
    """The messages on a page."""
    return visitor.page.locator("article p").all_inner_texts()


def say(text: str, speaker: Visitor, *others: Visitor) -> None:
    speaker.say(text)
    for other in others:
        other.sees(text)


def forget_refusals(visitor: Visitor) -> None:
    """Chromium complains of each attempt to connect while a node is away."""
    assert [each for each in visitor.complaints if "WebSocket" not in each or "failed" not in each] == []
    visitor.complaints.clear()


@pytest.mark.parametrize("ending", [Node.stop, Node.kill])
def test_pages_of_three_nodes_talk_and_a_restart_in_the_midst_loses_and_repeats_nothing(visit, nodes, ending):
    ada, bob, cid = (visit(node.port) for node in nodes)
    for visitor, name in ((ada, "Ada"), (bob, "Bob"), (cid, "Cid")):
        visitor.join(name)
    for visitor in (ada, bob, cid):
        expect(visitor.page.get_by_role("list", name="People · 3")).to_have_text(re.compile("Ada.*Bob.*Cid"))
    ada.sees("Cid came in")
    say("one", ada, bob, cid)
    say("two", bob, ada, cid)
    ending(nodes[0])
    expect(ada.page.get_by_role("status")).to_have_text("no connection")
    say("three, while Ada is away", cid, bob)
    say("four, while Ada is away", bob, cid)
    nodes[0].start()
    ada.is_in()
    forget_refusals(ada)
    ada.sees("four, while Ada is away")
    say("five", ada, bob, cid)
    said = ["one", "two", "three, while Ada is away", "four, while Ada is away", "five"]
    for visitor in (ada, bob, cid):
        assert shown(visitor) == said
        expect(visitor.page.get_by_role("list", name="People · 3")).to_have_text(re.compile("Ada.*Bob.*Cid"))
    late = visit(nodes[0].port)
    late.join("Dan")
    late.sees("five")
    assert shown(late) == said


def test_a_history_outlives_all_nodes(visit, nodes):
    ada, bob = visit(nodes[0].port), visit(nodes[1].port)
    ada.join("Ada")
    bob.join("Bob")
    say("before", ada, bob)
    for node in nodes:
        node.stop()
    for node in nodes:
        node.start()
    for visitor in (ada, bob):
        visitor.is_in()
        forget_refusals(visitor)
    say("after", bob, ada)
    for visitor in (ada, bob):
        assert shown(visitor) == ["before", "after"]
    late = visit(nodes[2].port)
    late.join("Cid")
    late.sees("after")
    assert shown(late) == ["before", "after"]


def test_a_page_that_goes_to_another_room_and_back_sees_each_message_once(visit, nodes):
    ada, bob = visit(nodes[0].port), visit(nodes[1].port)
    ada.join("Ada")
    bob.join("Bob")
    say("in the lobby", ada, bob)
    ada.page.get_by_role("button", name="Change room").click()
    ada.join("Ada", room="elsewhere")
    expect(ada.page.get_by_text("Nothing has been said here yet")).to_be_visible()
    bob.sees("Ada has left")
    bob.say("are you back?")
    ada.page.get_by_role("button", name="lobby, 1 person").click()
    ada.sees("are you back?")
    ada.page.get_by_role("button", name="Change room").click()
    ada.join("Augusta")
    bob.sees("Augusta came in")
    say("under another name", ada, bob)
    for visitor in (ada, bob):
        assert shown(visitor) == ["in the lobby", "are you back?", "under another name"]


Enter = Callable[..., Chatter]


@pytest.fixture
def enter(stack: ExitStack) -> Enter:
    """A client of one node without an engine between nodes."""
    port = stack.enter_context(running("chat", "--cluster", "memory:"))[1]
    return entrance(stack, port)


def test_a_client_that_comes_back_gets_what_it_missed_behind_its_place(enter):
    ada, bob = enter("Ada"), enter("Bob")
    ada.say("one")
    place = bob.next("message")["place"]
    ada.say("two")
    assert bob.hear() == ("Ada", "two")
    back = enter()
    back.tell("join", room="lobby", name="Bob again", after=place)
    assert back.next("welcome")["continues"]
    assert back.hear() == ("Ada", "two")
    assert [enter("Cid").hear() for _ in range(1)] == [("Ada", "one")]


def test_names_are_taken_unless_the_page_shows_that_it_is_the_same(enter):
    ada, second, third = enter(), enter(), enter()
    ada.tell("join", room="lobby", name="Ada", who="secret")
    assert ada.next("welcome")["name"] == "Ada"
    assert second.join("ada")["name"] == "ada 2"
    third.tell("join", room="lobby", name="Ada", who="guessed")
    assert third.next("welcome")["name"] == "Ada 3"
    ada.join("Bea", room="elsewhere")
    while second.next("people").get("left") != "Ada":
        pass


@pytest.mark.parametrize("after", ["no place", "x" * 5000, "\ud800"])
def test_a_place_that_is_none_is_refused(enter, after):
    ada = enter()
    ada.tell("join", room="lobby", name="Ada", after=after)
    assert "after must be a place" in ada.next("error")["text"]
    assert ada.join("Ada")["names"] == ["Ada"]


def test_an_engine_that_is_not_there_is_named():
    with Child(str(PROGRAM), "--port", "0", "--cluster", "gopher://localhost") as child:
        assert child.end() == 2
    assert "url must be nats://" in child.errors


def test_without_a_cluster_none_is_imported():
    program = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import chat
        print([name for name in sys.modules if "cluster" in name])
    """
    with Child.running(program, str(PROGRAM.parent)) as child:
        assert child.line() == "[]"
