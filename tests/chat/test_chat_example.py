"""`examples/chat.py` serves its page and its rooms to any client, and keeps to its limits."""

import http.client
import itertools
import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from test_examples import imported, running
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from chat_support import PROGRAM, Enter, entrance
from support import PATIENCE, Server, eventually
from websocket_support import TEXT, frame, handshake


@pytest.fixture
def port(stack: ExitStack) -> int:
    return stack.enter_context(running("chat"))[1]


@pytest.fixture
def enter(stack: ExitStack, port: int) -> Enter:
    """``enter(name, room)``: one more in a room of the example; without a name a connection that has not joined."""
    return entrance(stack, port)


def ask(port: int, method: str, path: str) -> tuple[int, dict[str, str], str]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        client.request(method, path)
        response = client.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read().decode()
    finally:
        client.close()


def test_the_program_is_short():
    assert len(PROGRAM.read_text().splitlines()) < 270


def test_the_page_comes_with_headers_that_guard_it(port):
    status, headers, page = ask(port, "GET", "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert page == PROGRAM.with_suffix(".html").read_text()


def test_the_page_loads_nothing_else_and_makes_no_markup_of_text(port):
    page = ask(port, "GET", "/")[2]
    assert not re.search(r"\b(src|href|action)\s*=\s*[\"']?(https?:|//)|@import|\burl\((?!data:)", page)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", page)


def test_what_is_no_page_is_answered_and_the_connection_kept(port):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    for method, path, status in (
        ("GET", "/favicon.ico", 404),
        ("GET", "/../chat.py", 404),
        ("POST", "/", 405),
        ("HEAD", "/", 200),
        ("GET", "/", 200),
    ):
        client.request(method, path)
        response = client.getresponse()
        body = response.read()
        assert (response.status, response.isclosed()) == (status, True)
        assert (b"<!doctype html>" in body) == (method == "GET" and status == 200)
    client.close()


def test_no_websocket_handshake_on_the_chat_is_refused(port):
    assert ask(port, "GET", "/chat")[0] in (400, 426)


def test_what_one_says_all_in_the_room_hear(enter):
    ada, grace, other = enter("Ada"), enter("Grace"), enter("Konrad", room="elsewhere")
    ada.say("Good morning")
    grace.say("Good morning, Ada")
    for chatter in (ada, grace):
        assert chatter.hear() == ("Ada", "Good morning")
        assert chatter.hear() == ("Grace", "Good morning, Ada")
    other.say("anyone?")
    assert other.hear() == ("Konrad", "anyone?")


def test_who_is_there_is_told(enter):
    ada = enter("Ada")
    grace = enter()
    welcome = grace.join("Grace")
    assert (welcome["name"], welcome["room"], welcome["names"]) == ("Grace", "lobby", ["Ada", "Grace"])
    event = ada.next("people")
    assert (event["joined"], event["names"]) == ("Grace", ["Ada", "Grace"])
    grace.join("Grace", room="elsewhere")
    event = ada.next("people")
    assert (event["left"], event["names"]) == ("Grace", ["Ada"])
    grace.join("Grace")
    assert ada.next("people")["joined"] == "Grace"
    grace.connection.close()
    assert ada.next("people")["left"] == "Grace"


def test_a_client_whose_connection_breaks_has_left(enter):
    ada, grace = enter("Ada"), enter("Grace")
    assert ada.next("people")["joined"] == "Grace"
    grace.connection.socket.shutdown(2)
    assert ada.next("people")["left"] == "Grace"


def test_a_name_that_is_taken_gets_a_number(enter):
    enter("Ada")
    second, third = enter(), enter()
    assert second.join(" ada ")["name"] == "ada 2"
    assert third.join("ADA")["name"] == "ADA 3"
    assert second.join("ada")["name"] == "ada 2"  # its own is free while it asks again
    assert second.join("Bea")["name"] == "Bea"
    assert enter().join("ada", room="elsewhere")["name"] == "ada"


def test_who_comes_later_gets_the_last_50_messages(enter):
    speakers = [enter(f"speaker {number}") for number in range(7)]  # none may say more than ten a second
    for text in range(60):
        speakers[text % 7].say(str(text))
        assert speakers[0].hear() == (f"speaker {text % 7}", str(text))
    history = enter().join("Ada")["history"]
    assert [event["text"] for event in history] == [str(text) for text in range(10, 60)]
    assert [event["name"] for event in history] == [f"speaker {text % 7}" for text in range(10, 60)]
    assert all(a["number"] < b["number"] and a["time"] <= b["time"] for a, b in itertools.pairwise(history))


def test_what_is_said_is_sent_in_few_bytes(enter):
    ada, grace = enter("Ada"), enter("Grace")
    ada.say("🚀" * 500)
    while '"message"' not in (sent := grace.connection.recv(timeout=PATIENCE, decode=False).decode()):
        pass
    assert len(sent.encode()) < 500 * 4 + 200


def test_a_room_ends_with_the_last_in_it(enter):
    ada = enter()
    first = ada.join("Ada")
    ada.say("to nobody")
    ada.hear()
    renamed = ada.join("Ada Lovelace")  # it was never empty
    assert [event["text"] for event in renamed["history"]] == ["to nobody"]
    ada.join("Ada", room="elsewhere")
    again = ada.join("Ada")
    assert again["history"] == []
    assert again["since"] > first["since"]


@pytest.mark.parametrize("room", ["İ" * 16, "E\u200b\u0301", "ΑΣ", " Straße  ẞ "])
def test_a_room_is_entered_again_by_the_name_the_server_gives(enter, room):
    ada, grace = enter(), enter()
    given = ada.join("Ada", room)["room"]
    assert grace.join("Grace", given)["names"] == ["Ada", "Grace"]
    assert grace.join("Grace", given)["room"] == given


def test_a_room_whose_name_is_too_long_in_small_letters_is_refused(enter):
    ada = enter()
    ada.tell("join", room="İ" * 17, name="Ada")
    assert "1 to 32 characters, not 34" in ada.next("error")["text"]


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ("{", "no JSON"),
        ("[" * 8000, "no JSON"),
        (b"\xff\xfe", "no JSON"),
        ("[]", "Expected"),
        ("null", "Expected"),
        ('{"type": "shout", "text": "x"}', "Expected"),
        ('{"type": "join", "room": "lobby"}', "Expected"),
        ('{"type": "join", "room": "lobby", "name": 7}', "Expected"),
        ('{"type": "say", "text": ["x"]}', "Expected"),
        ('{"type": "join", "room": "lobby", "name": ""}', "A name has 1 to 24 characters, not 0"),
        ('{"type": "join", "room": "lobby", "name": "\\u202e \\u0000\\u200b"}', "A name has 1 to 24 characters, not 0"),
        ('{"type": "join", "room": "lobby", "name": "%s"}' % ("x" * 25), "A name has 1 to 24 characters, not 25"),
        ('{"type": "join", "room": " ", "name": "Ada"}', "A room's name has 1 to 32 characters, not 0"),
        ('{"type": "join", "room": "%s", "name": "Ada"}' % ("x" * 33), "A room's name has 1 to 32 characters, not 33"),
        ('{"type": "say", "text": "\\n"}', "A message has 1 to 500 characters, not 0"),
        ('{"type": "say", "text": "%s"}' % ("x" * 501), "A message has 1 to 500 characters, not 501"),
    ],
    ids=lambda value: None if isinstance(value, str) and len(value) > 100 else value,
)
def test_what_is_wrong_is_answered_and_the_client_goes_on(enter, request_, answer):
    ada = enter("Ada")
    ada.connection.send(request_)
    assert answer in ada.next("error")["text"]
    ada.say("still here")
    assert ada.next()["text"] == "still here"


def test_who_has_not_joined_says_nothing(enter):
    ada = enter()
    ada.say("x")
    assert "Join a room first" in ada.next("error")["text"]
    assert ada.join("Ada")["history"] == []


def test_control_characters_and_lone_surrogates_do_not_come_back(enter):
    ada = enter("Ada")
    ada.connection.send(r'{"type": "say", "text": " a\u0000\u001b[31m\ud800\u202eb \r\n c "}')
    assert ada.hear() == ("Ada", "a[31mb c")
    ada.say("👩\u200d🚀 é")
    assert ada.hear() == ("Ada", "👩\u200d🚀 é")


def test_a_message_above_the_limit_ends_its_sender_only(enter):
    ada, grace = enter("Ada"), enter("Grace")
    grace.connection.send("x" * 8193)
    with pytest.raises(ConnectionClosedError) as caught:
        grace.next("never")
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009
    assert ada.next("people")["joined"] == "Grace"
    assert ada.next("people")["left"] == "Grace"
    ada.say("still here")
    assert ada.hear() == ("Ada", "still here")


def test_a_client_that_is_too_fast_is_told_so_and_may_go_on(enter):
    ada = enter("Ada")  # the first of its ten
    for text in range(20):
        ada.say(str(text))
    events = [ada.next() for _ in range(20)]
    assert [event["type"] for event in events].count("error") >= 10
    assert "Not so fast" in events[-1]["text"]
    ada.next("stats")
    ada.next("stats")  # a second later
    ada.say("slowly")
    assert ada.hear()[1] == "slowly"


def test_the_stats_count_connections_messages_and_rooms(enter):
    ada, grace = enter("Ada"), enter("Grace", room="Elsewhere")
    enter()
    ada.next("stats")
    for _ in range(4):
        grace.say("x")
    seen = [ada.next("stats") for _ in range(2)]
    assert sum(stats["rate"] for stats in seen) == 4
    assert seen[-1]["connections"] == 3
    assert seen[-1]["rooms"] == {"lobby": 1, "elsewhere": 1}


@pytest.mark.parametrize(
    "origin", ["http://example.org", "https://127.0.0.1.example.org", "null", "http://127.0.0.1:1"]
)
def test_the_page_of_another_site_may_not_connect(enter, origin):
    with pytest.raises(InvalidStatus) as caught:
        enter("Ada", origin=origin)
    assert caught.value.response.status_code == 403


def test_its_own_page_may_connect(enter, port):
    assert enter(origin=f"http://127.0.0.1:{port}").join("Ada")["names"] == ["Ada"]


@pytest.fixture
def chat() -> Any:
    """The example as a module."""
    return imported("chat")


@pytest.fixture
def limited(chat: Any, start: Callable[..., Server], stack: ExitStack) -> tuple[Any, Enter]:
    """The example with space for two rooms of two."""
    chat.MAX_ROOMS = chat.MAX_PEOPLE = 2
    return chat, entrance(stack, start(chat.Page).address[1])


def test_rooms_and_the_people_in_them_are_limited(limited):
    chat, enter = limited
    ada, grace, konrad = enter("Ada"), enter("Grace"), enter("Konrad", room="elsewhere")
    konrad.tell("join", room="lobby", name="Konrad")
    assert "2 people" in konrad.next("error")["text"]
    konrad.say("still here")
    assert konrad.hear() == ("Konrad", "still here")
    grace.tell("join", room="third", name="Grace")
    assert "2 rooms" in grace.next("error")["text"]
    assert ada.join("Augusta")["names"] == ["Grace", "Augusta"]  # a full room keeps who is in it
    konrad.connection.close()
    eventually(lambda: list(chat.rooms) == ["lobby"], "the empty room ends")
    assert grace.join("Grace", room="third")["names"] == ["Grace"]
    assert {name: room.names() for name, room in chat.rooms.items()} == {"lobby": ["Augusta"], "third": ["Grace"]}


def test_who_comes_into_a_busy_room_may_be_slow_to_take_its_history(chat, start, stack):
    chat.MAX_RATE = 100
    server = start(chat.Page, send_buffer_size=4096)
    grace = entrance(stack, server.address[1])("Grace")
    for _ in range(50):
        grace.say("🚀" * 500)
        grace.hear()
    slow = server.connect(receive_buffer=4096)
    slow.send(handshake() + frame(TEXT, b'{"type": "join", "room": "lobby", "name": "Ada"}'))
    while grace.next("people").get("joined") != "Ada":
        pass
    grace.say("Welcome, Ada")
    assert grace.hear() == ("Grace", "Welcome, Ada")
    taken = b""
    while b"Welcome, Ada" not in taken:
        part = slow.socket.recv(1 << 16)
        assert part, "the connection was ended"
        taken += part
    assert taken.count("🚀".encode()) == 50 * 500


def test_two_pollers_lose_nothing_and_number_all(stack):
    port = stack.enter_context(running("chat", "--pollers", "2"))[1]
    enter = entrance(stack, port)
    chatters = [enter(f"chatter {number}") for number in range(8)]
    for text in range(5):
        for chatter in chatters:
            chatter.say(str(text))
    for chatter in chatters:
        heard = [chatter.next("message") for _ in range(40)]
        numbers = [event["number"] for event in heard]
        assert len(set(numbers)) == 40
        in_order = sorted(heard, key=lambda event: event["number"])
        assert sorted(numbers) == list(range(9, 49))  # after the eight that came in
        for other in range(8):
            said = [event["text"] for event in in_order if event["name"] == f"chatter {other}"]
            assert said == ["0", "1", "2", "3", "4"]
    names = enter().join("late")["names"]
    assert sorted(names) == sorted([f"chatter {number}" for number in range(8)] + ["late"])
