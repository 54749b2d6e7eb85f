"""The site of the documentation builds without a warning, ends at a dead link, and works without a network.

GOEV_SCREENSHOTS=folder keeps pictures of the home page, dark and light, at the width of a phone and of a desktop.
"""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, Request, ViewportSize, expect, sync_playwright

from support import ROOT, need, skip_outside_ci

PHONE: ViewportSize = {"width": 375, "height": 812}
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
SIZES = {"phone": PHONE, "desktop": DESKTOP}
LONG = 120  # seconds for a build on a busy machine; it takes about 12

pytestmark = pytest.mark.timeout(2 * LONG)


def build(root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec("sphinx") is None:
        skip_outside_ci("Sphinx is not installed (make docs)")
    command = [sys.executable, ROOT / "tools" / "site", "--root", root, "--out", folder / "site", "--work", folder]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "site"


def small_repository(root: Path, text: str) -> Path:
    """One with a page that has this text."""
    (root / "docs").mkdir(parents=True)
    (root / "examples").mkdir()
    (root / "examples" / "echo.py").write_text('"""Has a fence.\n\n```\n"""\n')
    (root / "docs" / "index.md").write_text("# Home\n\n## Topics\n\n- [Page](page.md)\n")
    (root / "docs" / "page.md").write_text(f"# Page\n\n{text}\n")
    return root


def sources(root: Path):
    sys.path.insert(0, str(ROOT / "tools" / "site"))
    return importlib.import_module("sources").Sources(root)


def faults(root: Path) -> tuple[str, ...]:
    gathered = sources(root)
    with pytest.raises(Exception, match="docs/page") as caught:
        gathered.gather({})
    return caught.value.args


# ---- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["missing.md", "../examples/missing.py", "../../outside.md", "../examples/echo.py.md#x"]
)
def test_a_link_to_a_file_that_is_not_there_is_a_fault_with_its_place(tmp_path, target):
    (tmp_path / "outside.md").write_text("# Outside of the repository\n")
    [fault] = faults(small_repository(tmp_path / "repository", f"Read [this]({target})."))
    assert fault == f"docs/page.md:3: there is no {target.partition('#')[0]}"


def test_a_second_title_is_a_fault(tmp_path):
    assert "not 2" in faults(small_repository(tmp_path, "# Another"))[0]


def test_what_looks_like_a_link_or_a_title_in_code_is_none(tmp_path):
    gathered = sources(small_repository(tmp_path, "````md\n```\n# [x](missing.md)\n```\n````"))
    gathered.gather({})
    assert "[x](missing.md)" in gathered.pages["page.md"]


def test_a_link_to_a_program_leads_to_a_page_that_shows_it_whole(tmp_path):
    gathered = sources(small_repository(tmp_path, "[one](../examples/echo.py), [all](../examples/)"))
    gathered.gather({})
    assert "[one](source/examples/echo.py.md), [all](source/examples/index.md)" in gathered.pages["page.md"]
    assert "````python\n" in gathered.pages["source/examples/echo.py.md"]
    assert "[`echo.py`](echo.py.md)" in gathered.pages["source/examples/index.md"]


def test_a_page_that_the_home_page_does_not_name_is_in_the_navigation(tmp_path):
    root = small_repository(tmp_path, "")
    (root / "docs" / "how-to").mkdir()
    for name, title in (("10-land", "Land"), ("09-fly", "Fly"), ("README", "In the air")):
        (root / "docs" / "how-to" / f"{name}.md").write_text(f"# {title}\n")
    gathered = sources(root)
    gathered.gather({})
    assert ":caption: How-to\n\nhow-to/README\nhow-to/09-fly\nhow-to/10-land\n" in gathered.pages["index.md"]


def test_the_chinese_tutorial_has_a_part_of_its_own_in_the_navigation(tmp_path):
    root = small_repository(tmp_path, "")
    (root / "docs" / "zh" / "tutorial").mkdir(parents=True)
    (root / "docs" / "zh" / "guide.md").write_text("# 指南\n")
    (root / "docs" / "zh" / "tutorial" / "01-echo.md").write_text("# 回显\n")
    gathered = sources(root)
    gathered.gather({})
    assert ":caption: 中文\n\nzh/guide\n" in gathered.pages["index.md"]
    assert ":caption: 中文教程\n\nzh/tutorial/01-echo\n" in gathered.pages["index.md"]


def test_a_dead_anchor_ends_the_build(tmp_path):
    built = build(small_repository(tmp_path / "repository", "[there](index.md#nowhere)"), tmp_path)
    assert built.returncode != 0
    assert "page.md:3: WARNING" in built.stderr
    assert "nowhere" in built.stderr


# ---- the site --------------------------------------------------------------------------------------------------------


def test_every_page_of_the_repository_and_every_module_has_a_page(site):
    pages = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    pages += [Path("readme.html"), Path("changelog.html"), Path("reference/goev.http.html"), Path("search.html")]
    assert not [page for page in pages if not (site / page).exists()]


def test_the_reference_has_signatures_with_types_and_sections(site):
    text = re.sub(r"<[^>]+>", "", (site / "reference" / "goev.Connection.html").read_text())
    assert "schedule(delay: float, callback: Callable" in re.sub(r"\s+", " ", text).replace("( ", "(")
    assert "never early, on an idle reactor at most 2 ms late" in text
    assert "a duration is negative" in text


def test_a_name_in_a_guide_is_a_link_to_its_description(site):
    options = (site / "options.html").read_text()
    assert 'href="reference/goev.Reactor.html#goev.Reactor.adopt"' in options
    assert 'href="reference/goev.html#goev.Connector"' in options


def test_lines_of_chinese_are_joined_without_a_space(site):
    for page in (site / "zh").rglob("*.html"):
        for paragraph in re.findall(r"(?s)<p>(.*?)</p>", page.read_text()):
            text = re.sub(r"<[^>]+>", "", paragraph)
            assert not re.search(r"[\u4e00-\u9fff]\n[\u4e00-\u9fff]|[，。；：、）]\n", text), page


# ---- in a browser ----------------------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def playing() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playing) -> Iterator[Browser]:
    launched = playing.chromium.launch(executable_path=need("chromium"), args=["--no-sandbox", "--disable-gpu"])
    yield launched
    launched.close()


class Reader:
    """A page in a browser, and everything that it complains of or asks for elsewhere."""

    def __init__(self, browser: Browser, address: str, size: str, **options: object) -> None:
        self.address = address
        self.complaints: list[str] = []
        self.context = browser.new_context(viewport=SIZES[size], **options)
        self.page: Page = self.context.new_page()
        self.page.on("request", self.on_request)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)

    def on_request(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:")):
            self.complaints.append(f"it asked for {request.url}")

    def opens(self, place: str) -> None:
        self.page.goto(f"{self.address}/{place}")


@pytest.fixture
def reader(browser, address) -> Iterator[partial[Reader]]:
    readers = []

    def opened(size: str, **options: object) -> Reader:
        readers.append(Reader(browser, address, size, **options))
        return readers[-1]

    yield opened
    for one in readers:
        one.context.close()
        assert one.complaints == []


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("read_until", "reference/goev.Connection.html"),
        ("linger timeout", "options.html"),
        ("connecting", "options.html"),  # by its stem
        ("连接池", "zh/in-depth.html"),
        ("poller 缓存", "zh/in-depth.html"),
        ("监管进程", "zh/tutorial/08-service.html"),
    ],
)
def test_the_search_finds(reader, query, place):
    visitor = reader("desktop")
    visitor.opens("index.html")
    visitor.page.get_by_role("textbox", name="Search").fill(query)
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator(f'ul.search a[href*="{place}"]').first).to_be_visible()


def test_the_search_finds_nothing_where_no_pair_of_characters_is(reader):
    visitor = reader("desktop")
    visitor.opens("search.html?q=龘靐")
    expect(visitor.page.get_by_text("did not match any documents")).to_be_visible()


@pytest.mark.parametrize("size", SIZES)
def test_no_page_is_wider_than_the_window(reader, site, size):
    visitor = reader(size)
    wide = []
    for path in sorted(site.rglob("*.html")):
        visitor.opens(str(path.relative_to(site)))
        if visitor.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            wide.append(path.name)
    assert wide == []


@pytest.mark.parametrize("size", SIZES)
def test_it_is_dark_for_a_reader_who_prefers_that(reader, size):
    shades = {}
    for scheme in ("light", "dark"):
        visitor = reader(size, color_scheme=scheme)
        visitor.opens("index.html")
        if folder := os.environ.get("GOEV_SCREENSHOTS"):
            visitor.page.screenshot(path=Path(folder) / f"site-{size}-{scheme}.png")
        colour = visitor.page.evaluate("getComputedStyle(document.body).backgroundColor")
        shades[scheme] = sum(map(int, re.findall(r"\d+", colour)[:3]))
    assert shades["dark"] < 200 < 600 < shades["light"]


def test_a_block_is_copied_by_its_button(reader):
    visitor = reader("desktop", permissions=["clipboard-read", "clipboard-write"])
    visitor.opens("index.html")
    visitor.page.locator("div.highlight").first.hover()
    visitor.page.get_by_role("button", name="Copy").first.click()
    expect(visitor.page.get_by_role("button", name="Copied")).to_be_visible()
    assert visitor.page.evaluate("navigator.clipboard.readText()").startswith("import goev\n")
