"""The help: the main options on one screen, the options of each group on another."""

import shutil

import click

from goev.cli.options import GROUPS, OPTIONS, Option

WIDTH = 100


def width() -> int:
    """The columns of the terminal, at most 100."""
    return max(40, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))


def spelling_of(option: Option) -> str:
    """How the command line writes an option: ``--max-input SIZE``, ``--nodelay / --no-nodelay``."""
    if option.kind.is_switch:
        if option.place == "dev":
            return option.flag
        return f"{option.flag} / --no-{option.flag.removeprefix('--')}"
    return f"{option.flag} {option.kind.label}"


def text_of(option: Option) -> str:
    """The sentence of an option with its default."""
    shown = option.default_shown
    shown = "" if option.place == "dev" and option.kind.is_switch else shown
    return f"{option.help}  [{shown}]" if shown else option.help


def write_options(formatter: click.HelpFormatter, options: list[Option]) -> None:
    """A line or two for each option."""
    formatter.write_dl([(spelling_of(option), text_of(option)) for option in options], col_max=44)


def main_options() -> list[Option]:
    """The options of the first page."""
    return [option for option in OPTIONS.values() if option.is_main]


def group_page(group: str) -> str:
    """The page of one group."""
    options = [option for option in OPTIONS.values() if option.group == group]
    formatter = click.HelpFormatter(width=width())
    with formatter.section(f"Options for {group} ({GROUPS[group]})"):
        write_options(formatter, options)
    example = options[0]
    formatter.write_paragraph()
    formatter.write_text(
        f"{example.flag} is {example.variable} in the environment and {example.name} in a TOML file. "
        "SIZE is 65536, 64k or 1m; TIME is 2, 2s, 500ms or 5m."
    )
    return formatter.getvalue().rstrip("\n")


def groups_page() -> str:
    """The list of groups."""
    formatter = click.HelpFormatter(width=width())
    with formatter.section("Groups of options, each with a page: goev help GROUP"):
        formatter.write_dl(list(GROUPS.items()))
    return formatter.getvalue().rstrip("\n")


def codes_page(codes: dict[str, str]) -> str:
    """The list of codes of errors."""
    formatter = click.HelpFormatter(width=width())
    with formatter.section("Codes of errors, each with a page: goev explain CODE"):
        formatter.write_dl(list(codes.items()))
    return formatter.getvalue().rstrip("\n")


class RunCommand(click.Command):
    """A command that shows its main options, and names the groups that have the others."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.width = width()
        with formatter.section("Main options"):
            write_options(formatter, main_options())
        with formatter.section("Other options"):
            formatter.write_text(f"goev help GROUP, of {', '.join(GROUPS)}")
