"""``goev explain``: the page of a code, and the list of all codes."""

import pytest
from click.shell_completion import BashComplete

from goev import errors
from goev.cli.commands import commands


@pytest.mark.parametrize("code", ["GOEV101", "goev101", "101"])
def test_a_code_is_explained(command, code):
    outcome = command("explain", code)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == errors.explain("GOEV101")


def test_without_a_code_all_are_listed_with_their_titles(command):
    outcome = command("explain")
    assert outcome.status == 0
    out = " ".join(outcome.out.split())
    assert all(f"{code} {title}" in out for code, title in errors.codes().items())
    assert max(map(len, outcome.out.splitlines())) <= 100


def test_a_code_that_there_is_not_is_one_line_and_the_status_2(command):
    assert command("explain", "GOEV999").complaint == "there is no code GOEV999; 'goev explain' lists all"


def test_codes_are_completed():
    offers = BashComplete(commands, {}, "goev", "_GOEV_COMPLETE").get_completions(["explain"], "goev30")
    assert [offer.value for offer in offers] == [code for code in errors.codes() if code.startswith("GOEV30")]
