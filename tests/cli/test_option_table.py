"""The table of options has every option of the classes, and nothing else."""

import inspect

import pytest

from goev.cli.helping import group_page, main_options
from goev.cli.options import DEFAULTS, ELSEWHERE, GROUPS, OPTIONS
from options_page import page_with_table, table
from support import ROOT

PAGE = ROOT / "docs" / "cli.md"
PARAMETERS = [(place, name) for place in DEFAULTS for name in DEFAULTS[place]]


@pytest.mark.parametrize(("place", "name"), PARAMETERS)
def test_each_parameter_of_a_class_has_a_row_or_comes_from_elsewhere(place, name):
    rows = [option for option in OPTIONS.values() if (option.place, option.field) == (place, name)]
    assert len(rows) + ((place, name) in ELSEWHERE) == 1


def test_a_row_is_about_a_parameter():
    for option in OPTIONS.values():
        assert option.field in DEFAULTS[option.place]
        assert option.group in GROUPS
        assert not option.help.endswith(".")


def test_a_default_as_shown_is_the_default_when_it_is_read():
    for option in OPTIONS.values():
        if option.kind.is_switch or option.default is inspect.Parameter.empty:
            continue
        if option.default_shown:
            read = option.kind.read(option.default_shown)
            assert (tuple(read) if isinstance(read, list) else read) == option.default
        else:
            assert option.default in (None, (), "")


def test_no_two_options_have_one_name():
    rows = [option.field for option in OPTIONS.values()]
    assert len(OPTIONS) == len(PARAMETERS) - len([key for key in ELSEWHERE if key in PARAMETERS])
    assert len(rows) == len(OPTIONS)


def test_the_table_of_the_page_is_that_of_the_code():
    assert PAGE.read_text() == page_with_table(PAGE.read_text()), "run: python tests/cli/options_page.py"
    assert all(f"`{option.flag}`" in table() for option in OPTIONS.values())


@pytest.mark.parametrize("group", GROUPS)
def test_the_page_of_a_group_fits_a_screen(group, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = group_page(group).splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 100
    assert all(any(option.flag in line for line in lines) for option in OPTIONS.values() if option.group == group)


def test_every_option_is_on_some_page():
    assert {option.group for option in OPTIONS.values()} == set(GROUPS)
    assert 10 <= len(main_options()) <= 20
