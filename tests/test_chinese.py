"""The Chinese pages have the code of the English ones, the terms of one table, and links within the language."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from guides import FENCED, Guide
from support import ROOT

DOCS = ROOT / "docs"
CHINESE = DOCS / "zh"
TERMS = CHINESE / "terms.md"
PAGES = sorted(CHINESE.rglob("*.md"))
TRANSLATED = [DOCS / "guide.md", ROOT / "README.md", *sorted((DOCS / "tutorial").glob("*.md"))]

HAN = "\u4e00-\u9fff"
FULL = "，。：；！？、（）“”《》…"
LATIN = "A-Za-z0-9`<"
LINK = re.compile(r"!?\[([^\]]*)\]\(([^)\s]*)\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def translation(page: Path) -> Path:
    """Where the Chinese page of an English one is, or would be."""
    return CHINESE / (page.relative_to(DOCS) if DOCS in page.parents else page.relative_to(ROOT))


def without_comments(language: str, block: str) -> str:
    """The code of a block. Only comments of Python and of the shell are translated."""
    lines = block.splitlines()
    if language == "python":
        for token in tokenize.generate_tokens(io.StringIO(block).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
    if language == "sh":
        lines = [re.sub(r"(?:^|\s)#.*", "", line) for line in lines]
    return "\n".join(line.rstrip() for line in lines)


def blocks(page: Path) -> list[tuple[str, str]]:
    return [(language, without_comments(language, block)) for language, block in FENCED.findall(page.read_text())]


def prose(page: Path) -> str:
    return re.sub(r"(?ms)^```.*?^```\n", "", page.read_text())


def codes(page: Path) -> set[str]:
    return {" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))}


def levels(page: Path) -> list[str]:
    return re.findall(r"(?m)^(#+) ", prose(page))


def plain_lines(text: str) -> Iterator[str]:
    """The lines without links and emphasis, with a letter for the text of each piece of code."""
    for line in text.splitlines():
        yield re.sub(r"`[^`]+`", "`x`", LINK.sub(r"\1", line).replace("**", ""))


def wrong_signs(text: str) -> list[str]:
    """Places with a half-width sign in Chinese, or where a space is missing or is too much."""
    rules = [
        rf"[{HAN}][{LATIN}]|[{LATIN}>%][{HAN}]",  # no space
        rf"[{HAN}{FULL}][,;:?!()\"]|[,;:?!()\"][{HAN}]|[{HAN}{FULL}]\.(?!\w)",  # a half-width sign
        rf" [{FULL}]|[{FULL}] (?!\|)|[{HAN}] [{HAN}]",  # a space beside a full-width sign
    ]
    found = [f"{rule[0]!r}: {line}" for line in plain_lines(text) for each in rules for rule in re.finditer(each, line)]
    return found + re.findall(rf"\*\*[^*]+[{FULL}`]\*\*[{HAN}\w]", text)  # Markdown sees no end of the emphasis


def blocks_of_prose(page: Path) -> list[str]:
    """Paragraphs, items of lists, and rows of tables."""
    return re.split(r"\n\n+|\n(?=- |\d+\. |\|)", prose(page))


def linked(page: Path) -> set[Path]:
    """The pages to which the page has links."""
    targets = {found[2].partition("#")[0] for found in LINK.finditer(prose(page))}
    return {(page.parent / target).resolve() for target in targets if target.endswith(".md") and ":" not in target}


def wrong_links(page: Path) -> list[str]:
    """Links to a page in English that is there in Chinese, or without a note that it is in English."""
    wrong = []
    for block in blocks_of_prose(page):
        for found in LINK.finditer(block):
            target = (page.parent / found[2].partition("#")[0]).resolve()
            if found[2].startswith("http") or target.suffix != ".md" or CHINESE in target.parents:
                continue
            is_noted = block[found.end() :].startswith("（英文）") or "均为英文" in block
            if not is_noted or translation(target).exists():
                wrong.append(found[0])
    return wrong


def terms() -> list[tuple[str, list[str], list[str]]]:
    """English, the Chinese words that are used, and those that are not."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in re.findall(r"(?m)^\|.+\|$", TERMS.read_text())]
    return [(row[0], row[1].split("、"), row[2].split("、")) for row in rows[2:]]


@pytest.mark.parametrize("page", TRANSLATED, ids=name_of)
def test_a_translation_has_the_code_and_the_headings_of_the_page(page):
    chinese = translation(page)
    assert blocks(chinese) == blocks(page)
    assert levels(chinese) == levels(page)


@pytest.mark.parametrize("page", TRANSLATED, ids=name_of)
def test_a_translation_names_in_its_text_what_the_page_names(page):
    assert codes(translation(page)) == codes(page)


@pytest.mark.parametrize("page", TRANSLATED, ids=name_of)
def test_a_translation_leads_wherever_the_page_leads(page):
    others = {target for target in linked(page) if CHINESE not in target.parents}
    expected = {translation(target) if translation(target).exists() else target for target in others}
    assert expected <= linked(translation(page))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_chinese_punctuation_and_spaces(page):
    assert wrong_signs(prose(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_chinese_pages_or_say_that_they_do_not(page):
    assert wrong_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page):
    assert Guide(str(page.relative_to(DOCS)), 8080).dead_links() == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_no_line_that_is_too_long(page):
    lines = [line for line in page.read_text().splitlines() if not line.startswith(("|", "curl -s"))]
    assert [line for line in lines if len(line) > 120] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != TERMS], ids=name_of)
def test_words_that_the_table_rejects_do_not_occur(page):
    text = page.read_text()
    assert [word for _, _, rejected in terms() for word in rejected if word in text] == []


def test_the_table_is_in_order_and_all_its_terms_are_used():
    table = terms()
    text = "".join(page.read_text() for page in PAGES if page != TERMS)
    assert len(table) > 50
    assert [english for english, _, _ in table] == sorted(english for english, _, _ in table)
    assert [word for _, used, _ in table for word in used if word.strip("`") not in text] == []
    assert not {word for _, used, _ in table for word in used} & {word for _, _, each in table for word in each}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("一个 poller 有 2 个 `x`，见[页](x.md)。", 0),
        ("一个poller", 1),
        ("有2个", 1),
        ("回调,返回", 1),
        ("返回 `None`。 结束", 1),
        ("返回 `None` 。", 1),
        ("**回调。**结束", 1),
        ("**回调**。结束", 0),
        ("回 调", 1),
    ],
)
def test_wrong_signs_are_found(text, count):
    assert len(wrong_signs(text)) == count


def test_only_comments_are_left_out_of_a_block():
    assert without_comments("python", "x = '#'  # a\n") == "x = '#'"
    assert without_comments("sh", "# a\nmake a#b   # c\n") == "\nmake a#b"
    assert without_comments("text", "a # b\n") == "a # b"
