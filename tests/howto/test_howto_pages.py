"""Every page of `docs/how-to/` is in the index, is short, and has no dead links."""

import re

import pytest

from howto_support import FOLDER, NAMES, HowTo


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_short_and_has_no_dead_links(name):
    page = HowTo(name)
    assert page.dead_links() == []
    assert len(page.text.splitlines()) < 180
    assert not [line for line in page.text.splitlines() if len(line) > 130 and not line.startswith("|")]


def test_the_index_has_every_page():
    linked = re.findall(r"\]\(([\w-]+\.md)\)", (FOLDER / "README.md").read_text())
    assert sorted([*linked, "README.md"]) == NAMES
