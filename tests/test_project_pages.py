"""The pages about the project, the picture of the architecture and the templates of issues are whole and up to date."""

import importlib
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support import ROOT

sys.path.insert(0, str(ROOT / "tools"))
picture = importlib.import_module("picture")

PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "docs/versions.md", "docs/guide.md"]
PAGES += ["docs/errors.md", "docs/examples.md"]
TEMPLATES = ROOT / ".github" / "ISSUE_TEMPLATE"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name):
    page = ROOT / name
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), anchor


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_line_that_is_too_long(name):
    lines = (ROOT / name).read_text().splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith(("|", "!"))] == []


def test_the_readme_is_one_screen_of_each_thing():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 80
    assert text.count("```python") == 1
    assert text.count("![") == 1


def test_every_make_target_of_the_contribution_guide_exists():
    targets = set(re.findall(r"(?m)^([\w-]+)\s*:", (ROOT / "Makefile").read_text()))
    named = set(re.findall(r"\bmake ([a-z][\w-]*)", (ROOT / "CONTRIBUTING.md").read_text()))
    assert {"demo", "lint", "test"} <= named <= targets


def test_the_picture_is_drawn_from_its_source():
    assert picture.PICTURE.read_text() == picture.picture(), "`make picture` draws it"


def test_the_picture_names_folders_that_exist():
    for layer in (*picture.FLOORS, picture.SHARED):
        assert not layer.path or (ROOT / layer.path).is_dir(), layer.path


def test_the_picture_is_an_image_with_a_title_and_its_texts_fit():
    """By the mean width of a letter; the boxes of a floor share its width."""
    root = ElementTree.fromstring(picture.picture())
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    width = picture.WIDTH - 2 * picture.MARGIN - picture.SIDE - picture.GAP
    for layer in picture.FLOORS:
        each = (width - picture.GAP * (len(layer.boxes) + 1)) / len(layer.boxes)
        for part in layer.boxes:
            assert len(part.about) * 6.5 <= each, part.about


@pytest.mark.parametrize("template", ["bug", "docs", "feature"])
def test_a_template_of_issues_has_what_the_forge_asks_for(template):
    text = (TEMPLATES / f"{template}.yml").read_text()
    for key in ("name: ", "description: ", "body:\n", "  - type: "):
        assert re.search(rf"(?m)^{key}", text), key
    ids = re.findall(r"(?m)^    id: (\w+)$", text)
    assert ids
    assert len(ids) == len(set(ids))
