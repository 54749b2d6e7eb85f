"""The table of docs/cli.md, made from the table of options. As a program it writes the table into the page."""

import re
from pathlib import Path

from goev.cli.options import GROUPS, OPTIONS, Option

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
MARKED = re.compile(r"(?s)(<!-- options -->\n).*?(<!-- end of options -->)")
CLASSES = {"reactor": "`Reactor`", "acceptor": "`Acceptor`", "tls": "`goev.tls.ServerContext`"}


def _row(option: Option) -> str:
    shown = option.default_shown
    value = "" if option.kind.is_switch else option.kind.label.replace("|", "\\|")
    flag = f"`{option.flag}`"
    if option.kind.is_switch and option.place != "dev":
        flag += f", `--no-{option.flag.removeprefix('--')}`"
    cells = [
        flag,
        f"`{value}`" if value else "",
        f"`{shown}`" if shown else "",
        option.help,
        CLASSES.get(option.place, ""),
    ]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def table() -> str:
    """A table for each group."""
    parts = []
    for group, text in GROUPS.items():
        rows = [_row(option) for option in OPTIONS.values() if option.group == group]
        head = "| option | value | default | meaning | of |\n|---|---|---|---|---|"
        parts.append(
            "\n".join(
                [f"### {group.capitalize() if group != 'tls' else 'TLS'}\n", f"{text.capitalize()}.\n", head, *rows]
            )
        )
    return "\n\n".join(parts)


def page_with_table(page: str) -> str:
    """The page with the table of today."""
    return MARKED.sub(lambda match: f"{match[1]}\n{table()}\n\n{match[2]}", page)


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text()))
