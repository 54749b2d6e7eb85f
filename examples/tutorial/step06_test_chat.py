"""Step 6: tests of the chat, without sockets and without waiting."""

import goev
import goev.testing
from step05_chat import Chat, Chatter


def test_the_page_is_there() -> None:
    peer = goev.testing.open(Chat())
    answer = peer.ask("GET", "/")
    assert answer.status == 200
    assert b"<title>Chat</title>" in answer.body


def test_both_read_what_one_says() -> None:
    clock = goev.testing.Clock()
    ada = goev.testing.open(Chatter("Ada"), clock=clock)
    bob = goev.testing.open(Chatter("Bob"), clock=clock)
    bob.send("hello")
    assert ada.messages() == ["Ada is here", "Bob is here", "Bob: hello"]
    assert bob.messages() == ["Bob is here", "Bob: hello"]


def test_a_peer_that_vanished_leaves_after_40_seconds() -> None:
    clock = goev.testing.Clock()
    ada = goev.testing.open(Chatter("Ada"), clock=clock)
    clock.advance(39)
    assert not ada.closed
    clock.advance(1)
    assert isinstance(ada.close_error, goev.PingTimeout)
