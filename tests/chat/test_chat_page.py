"""The page of `examples/chat.py` talks, comes back and shows what it is told, in a real browser.

GOEV_SCREENSHOTS=folder keeps pictures of a conversation at the width of a phone and of a desktop.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import expect

from chat_support import PROGRAM, entrance
from support import Child, need
from visitors import DESKTOP, HANDHELD, PHONE, Visitor, serving


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
def test_the_page_and_its_websocket_are_over_tls_with_files_that_the_program_says_how_to_make(visit, tmp_path):
    need("openssl")
    files = ("--tls", "--certificate", str(tmp_path / "cert.pem"), "--key", str(tmp_path / "key.pem"))
    with Child(str(PROGRAM), *files) as child:
        assert child.end() == 2
        command = child.errors.splitlines()[-1]
    assert re.search(r"cannot read certificate .*cert\.pem", child.errors)
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    with serving(0, *files) as port:
        ada, grace = (visit(port, scheme="https", ignore_https_errors=True) for _ in range(2))
        ada.join("Ada")
        grace.join("Grace")
        ada.say("Nobody between us reads this.")
        grace.sees("Nobody between us reads this.")
        assert ada.sockets == grace.sockets == [f"wss://127.0.0.1:{port}/chat"]


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
