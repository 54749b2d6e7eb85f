"""`examples/chat.py`: what it says to any client, and its page in a real browser.

GOEV_SCREENSHOTS=folder keeps pictures of a conversation at the width of a phone and of a desktop.
"""

import http.client
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, expect, sync_playwright
from test_examples import imported, running
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from support import PATIENCE, ROOT, Child, Server, eventually, need
from websocket_support import TEXT, frame, handshake

PROGRAM = ROOT / "examples" / "chat.py"
PHONE: ViewportSize = {"width": 375, "height": 812}
HANDHELD = {"device_scale_factor": 2, "is_mobile": True, "has_touch": True}
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Chatter:
    """A client that sends what it likes, and takes the answers it waits for."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def tell(self, kind: str, **content: Any) -> None:
        self.connection.send(json.dumps({"type": kind, **content}))

    def next(self, *kinds: str) -> dict[str, Any]:
        """The next event of these kinds; with none given, of any but the stats, which come each second."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            event: dict[str, Any] = json.loads(self.connection.recv(timeout=PATIENCE))
            if event["type"] in kinds or (not kinds and event["type"] != "stats"):
                return event
        pytest.fail(f"no {' or '.join(kinds) or 'event'} in {PATIENCE} s")

    def join(self, name: str, room: str = "lobby") -> dict[str, Any]:
        self.tell("join", room=room, name=name)
        return self.next("welcome")

    def say(self, text: str) -> None:
        self.tell("say", text=text)

    def hear(self) -> tuple[str, str]:
        event = self.next("message")
        return event["name"], event["text"]


Enter = Callable[..., Chatter]


def entrance(stack: ExitStack, port: int) -> Enter:
    def enter(name: str | None = None, room: str = "lobby", **options: Any) -> Chatter:
        # What a test does not take must not stop the client: by itself it reads no close frame behind 16 messages.
        limits = {"open_timeout": PATIENCE, "close_timeout": PATIENCE, "max_queue": None}
        connection = connect(f"ws://127.0.0.1:{port}/chat", **limits, **options)
        chatter = Chatter(stack.enter_context(connection))
        if name is not None:
            chatter.join(name, room)
        return chatter

    return enter


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
    assert len(PROGRAM.read_text().splitlines()) < 210


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


# The page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, with a profile of its own that is removed."""
    executable = need("chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=OPTIONS)
        yield launched
        launched.close()


class Visitor:
    """A page in a browser of its own (its storage is nobody else's), and what it complains of."""

    def __init__(self, browser: Browser, port: int, size: ViewportSize, *, hash_: str = "", **options: Any) -> None:
        self.complaints: list[str] = []
        self.context = browser.new_context(viewport=size, locale="en-GB", **options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.page.on("console", self.on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"{request.url}: {request.failure}"))
        self.page.goto(f"http://127.0.0.1:{port}/{hash_}")

    def on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def join(self, name: str, room: str | None = None) -> None:
        self.page.get_by_label("Your name").fill(name)
        if room is not None:
            self.page.get_by_label("Room", exact=True).fill(room)
        self.page.get_by_role("button", name="Join", exact=True).click()
        self.is_in()

    def is_in(self) -> None:
        expect(self.page.get_by_role("button", name="Send")).to_be_enabled(timeout=3 * PATIENCE * 1000)
        expect(self.page.get_by_role("status")).to_have_text("connected")

    def say(self, text: str) -> None:
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.keyboard.press("Enter")
        self.sees(text)

    def sees(self, text: str) -> None:
        expect(self.page.get_by_role("log").get_by_text(text, exact=True)).to_be_visible(timeout=PATIENCE * 1000)

    @property
    def from_end(self) -> int:
        """Pixels of the log below what is shown."""
        pixels: int = self.page.evaluate("() => log.scrollHeight - log.scrollTop - log.clientHeight")
        return pixels


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(browser: Browser, stack: ExitStack) -> Iterator[Visit]:
    """``visit(port, size)``: a page. None may complain of anything."""
    visitors: list[Visitor] = []

    def come(port: int, size: ViewportSize = DESKTOP, **options: Any) -> Visitor:
        visitors.append(visitor := Visitor(browser, port, size, **options))
        stack.callback(visitor.context.close)
        return visitor

    yield come
    assert [complaint for visitor in visitors for complaint in visitor.complaints] == []


@contextmanager
def serving(port: int = 0) -> Iterator[int]:
    """The port of the example; killed at the end, as by a power cut."""
    with Child(str(PROGRAM), "--port", str(port)) as child:
        found = re.search(r":(\d+)$", child.line())
        assert found is not None
        yield int(found[1])
        assert child.process.poll() is None, child.errors
        assert child.complaints == ""


@pytest.mark.timeout(120)
def test_two_pages_talk_and_both_come_back_when_the_server_does(visit):
    with serving() as port:
        ada, grace = visit(port, DESKTOP), visit(port, PHONE, **HANDHELD)
        ada.join("Ada Lovelace")
        grace.join("Grace")
        ada.sees("Grace came in")
        ada.say("Good morning! Has anyone tried the new reactor yet?")
        grace.sees("Good morning! Has anyone tried the new reactor yet?")
        grace.say("It held ten thousand connections on my laptop.")
        ada.sees("It held ten thousand connections on my laptop.")
        expect(ada.page.get_by_role("list", name="People · 2")).to_contain_text("Ada Lovelaceyou")
        expect(ada.page.get_by_role("list", name="People · 2")).to_contain_text("Grace")
        for visitor in (ada, grace):
            expect(visitor.page.get_by_text("2 connections · ")).to_be_visible()
    for visitor in (ada, grace):
        expect(visitor.page.get_by_role("status")).to_have_text("no connection")
        expect(visitor.page.get_by_role("button", name="Send")).to_be_disabled()
        visitor.page.get_by_label("Message", exact=True).fill("written meanwhile")
    with serving(port):
        for visitor in (ada, grace):
            visitor.is_in()
            refused = [text for text in visitor.complaints if "WebSocket" in text and "ERR_CONNECTION_REFUSED" in text]
            assert visitor.complaints == refused  # Chromium's own words, for each attempt
            visitor.complaints.clear()
            visitor.sees("It held ten thousand connections on my laptop.")  # what was said stays in view
        expect(ada.page.get_by_role("list", name="People · 2")).to_be_visible()
        expect(ada.page.get_by_label("Message", exact=True)).to_have_value("written meanwhile")
        ada.say("There we are again.")
        grace.sees("There we are again.")
        grace.say("It took no time.")
        ada.sees("It took no time.")


@pytest.mark.timeout(60)
def test_a_page_whose_connection_broke_gets_what_it_missed_and_nothing_twice(visit, stack):
    with serving() as port:
        ada, grace = visit(port), entrance(stack, port)("Grace")
        ada.join("Ada")
        ada.say("first")
        assert grace.hear() == ("Ada", "first")
        ada.page.evaluate("() => { const broken = socket; socket = null; broken.close(); }")
        while grace.next("people").get("left") != "Ada":
            pass
        grace.say("second")
        assert grace.hear() == ("Grace", "second")
        ada.page.evaluate("() => lost()")  # as when the browser has noticed
        ada.sees("second")
        ada.is_in()
        ada.say("third")
        assert ada.page.locator("article p").all_inner_texts() == ["first", "second", "third"]
        assert ada.page.locator(".note.rule").count() == 0


@pytest.mark.timeout(60)
def test_what_others_write_is_never_markup(visit):
    with serving() as port:
        ada, grace = visit(port), visit(port)
        name = "<b>Ada</b>"
        ada.join(name, room="<i>room</i>")
        grace.join("Grace", room="<i>room</i>")
        text = "<img src=x onerror=document.title='taken'> &amp; <script>1</script>"
        ada.say(text)
        grace.sees(text)
        grace.sees(name)
        expect(grace.page.get_by_role("heading", level=1)).to_have_text("# <i>room</i>")
        assert grace.page.locator("#log img, #log script, #people b, #title i, #rooms i").count() == 0
        assert grace.page.title() == "# <i>room</i>"


@pytest.mark.timeout(60)
def test_room_and_name_are_remembered_and_a_link_leads_into_a_room(visit):
    with serving() as port:
        ada = visit(port, hash_="#caf%C3%A9")
        ada.join("Ada")
        expect(ada.page.get_by_role("heading", level=1)).to_have_text("# café")
        ada.page.reload()
        ada.is_in()  # without being asked
        expect(ada.page.get_by_role("heading", level=1)).to_have_text("# café")
        ada.page.get_by_role("button", name="Change room").click()
        ada.join("Augusta", room="Analytical Engines")
        expect(ada.page.get_by_role("heading", level=1)).to_have_text("# analytical engines")
        assert ada.page.url.endswith("#analytical%20engines")
        grace = visit(port)
        grace.join("Grace")
        grace.page.get_by_role("button", name="analytical engines, 1 person").click()
        expect(grace.page.get_by_role("list", name="People · 2")).to_contain_text("Augusta")


@pytest.mark.timeout(60)
def test_what_the_server_refuses_is_shown_and_may_be_corrected(visit):
    with serving() as port:
        ada = visit(port)
        ada.join("Ada")
        for _ in range(12):  # faster than a person
            ada.page.evaluate("() => tell({type: 'say', text: 'x'})")
        expect(ada.page.get_by_role("alert")).to_contain_text("Not so fast")
        ada.page.get_by_label("Message", exact=True).fill("one too many")
        ada.page.keyboard.press("Enter")
        expect(ada.page.get_by_label("Message", exact=True)).to_have_value("one too many")


@pytest.mark.timeout(60)
def test_the_log_follows_its_end_until_it_is_scrolled_up(visit):
    with serving() as port:
        ada, grace = visit(port, PHONE), visit(port, PHONE)
        ada.join("Ada")
        grace.join("Grace")
        for count in range(7):
            ada.say(f"{count}: " + ("a text of several lines " * 12).rstrip())
        assert grace.from_end < 2
        grace.page.get_by_role("log").evaluate("log => log.scrollTop = 0")
        expect(grace.page.get_by_role("button", name="New messages")).to_be_hidden()
        ada.say("the last one")
        expect(grace.page.get_by_role("button", name="New messages")).to_be_visible()
        assert grace.from_end > 500
        grace.page.get_by_role("button", name="New messages").click()
        expect(grace.page.get_by_role("button", name="New messages")).to_be_hidden()
        assert grace.from_end < 2


@pytest.mark.timeout(60)
def test_the_page_is_used_by_keyboard_alone(visit):
    with serving() as port:
        ada = visit(port)
        keyboard = ada.page.keyboard
        expect(ada.page.get_by_label("Your name")).to_be_focused()
        keyboard.type("Ada")
        keyboard.press("Escape")  # there is nothing behind the door yet
        keyboard.press("Enter")
        ada.is_in()
        expect(ada.page.get_by_label("Message", exact=True)).to_be_focused()
        keyboard.type("Hello")
        keyboard.press("Tab")
        keyboard.press("Enter")
        ada.sees("Hello")


def picture(visitor: Visitor, name: str) -> None:
    """Taken only on demand, and never halfway through an animation."""
    if folder := os.environ.get("GOEV_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        visitor.page.screenshot(path=Path(folder) / f"chat-{name}.png", animations="disabled")


@pytest.mark.timeout(60)
def test_pictures_of_a_conversation_where_all_fits_the_width(visit):
    with serving() as port:
        visitors = {
            "desktop-light": visit(port, DESKTOP, color_scheme="light"),
            "phone-light": visit(port, PHONE, color_scheme="light", **HANDHELD),
            "desktop-dark": visit(port, DESKTOP, color_scheme="dark"),
            "phone-dark": visit(port, PHONE, color_scheme="dark", **HANDHELD),
        }
        names = ["Ada Lovelace", "Grace", "Konrad Zuse", "Grace"]
        for visitor, name in zip(visitors.values(), names, strict=True):
            visitor.join(name, room="rust & python")
        ada, grace, konrad, namesake = visitors.values()
        ordinary = [
            (ada, "Good morning! Is the review still at ten?"),
            (grace, "Yes, in the small room next to the stairs."),
            (grace, "I bring the coffee."),
            (konrad, "Which branch do we look at?"),
            (ada, "The one with the timers."),
            (konrad, "Then I shall read it on the train."),
            (ada, "Lunch at one?"),
        ]
        for visitor, text in ordinary:
            visitor.say(text)
        expect(ada.page.get_by_role("button", name="rust & python, 4 people")).to_be_visible()  # with the next stats
        for name, visitor in (("desktop", ada), ("phone", grace)):
            visitor.sees("Lunch at one?")
            expect(visitor.page.get_by_text("4 connections · ")).to_be_visible()
            picture(visitor, name)
        ada.say("See https://example.org/" + "a-very-long-address-without-any-break/" * 3)
        namesake.say("Somebody has my name, so I am the second. שלום")
        for name, visitor in visitors.items():
            visitor.sees("Somebody has my name, so I am the second. שלום")
            expect(visitor.page.get_by_text("4 connections · ")).to_be_visible()
            assert visitor.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), name
            assert visitor.page.evaluate("() => log.scrollWidth <= log.clientWidth"), name
            picture(visitor, name)
        phone = grace.page
        phone.get_by_role("button", name="4 people").click()
        expect(phone.get_by_role("list", name="People · 4")).to_contain_text("Grace 2")
        picture(grace, "phone-people")
        phone.keyboard.press("Escape")
        expect(phone.get_by_role("list", name="People · 4")).to_be_hidden()
