"""The page of the tutorial joins, talks, shows tags as text and comes back, in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from real_servers import free_port
from support import PATIENCE, need
from tutorial_support import Page as Step
from tutorial_support import copied, serving

STEP = Step("05-chat.md")


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=need("chromium"), args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The programs, on one port, so that a second server is where the first one was."""
    with copied(tmp_path) as folder:
        program = folder / "step05_chat.py"
        program.write_text(program.read_text().replace("127.0.0.1:0", f"127.0.0.1:{free_port()}"))
        yield folder


def joined(browser: Browser, port: int, name: str) -> Page:
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(f"http://127.0.0.1:{port}/")
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Join").click()
    connected(page)
    return page


def connected(page: Page) -> None:
    expect(page.get_by_role("status")).to_have_text("connected", timeout=PATIENCE * 1000)


def say(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def test_two_windows_talk_and_come_back_to_a_server_that_was_started_again(browser, folder):
    with serving(folder, STEP) as port:
        ada = joined(browser, port, "Ada")
        bob = joined(browser, port, "Bob & Söhne")
        say(bob, "<b>hello</b>")
        expect(ada.get_by_role("listitem")).to_have_text(
            ["Ada is here", "Bob & Söhne is here", "Bob & Söhne: <b>hello</b>"]
        )
    expect(ada.get_by_role("status")).to_have_text("not connected")
    with serving(folder, STEP):
        connected(ada)
        connected(bob)
        say(ada, "again")
        expect(bob.get_by_role("listitem").last).to_have_text("Ada: again")
