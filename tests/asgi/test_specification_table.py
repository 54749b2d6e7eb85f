"""The tables of docs/asgi.md have every message of the specification, with its keys, and tests that exist."""

import re
import subprocess
import sys
import typing

import asgiref.typing
import pytest

from support import ROOT

SECTION = (ROOT / "docs" / "asgi.md").read_text().partition("## The specification, message by message")[2]
ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in SECTION.splitlines()
    if line.startswith("| ") and not line.startswith("| message or error |")
]
# The messages of asgiref's specs/www.rst, specs/lifespan.rst and docs/extensions.rst.
IN = {
    "http.request",
    "http.disconnect",
    "websocket.connect",
    "websocket.receive",
    "websocket.disconnect",
    "lifespan.startup",
    "lifespan.shutdown",
}
OUT = {
    "http.response.start",
    "http.response.body",
    "http.response.trailers",
    "http.response.pathsend",
    "http.response.early_hint",
    "http.response.push",
    "http.response.zerocopysend",
    "http.response.debug",
    "websocket.accept",
    "websocket.send",
    "websocket.close",
    "websocket.http.response.start",
    "websocket.http.response.body",
    "lifespan.startup.complete",
    "lifespan.startup.failed",
    "lifespan.shutdown.complete",
    "lifespan.shutdown.failed",
}
NOT_IN_THE_TYPES = {"http.response.early_hint", "http.response.zerocopysend"}


def keys_of_messages() -> dict[str, set[str]]:
    """The keys of each message, by the types of asgiref."""
    found = {}
    for name in dir(asgiref.typing):
        if name.endswith("Event") and typing.is_typeddict(each := getattr(asgiref.typing, name)):
            (kind,) = typing.get_args(typing.get_type_hints(each)["type"])
            found[kind] = set(each.__annotations__) - {"type"}
    return found


KEYS = keys_of_messages()


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """The names of all tests of this folder, without their parameters."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/asgi"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    return set(re.findall(r"(?m)^tests/asgi/(\w+\.py::\w+)", run.stdout))


def test_the_lists_have_every_message_of_the_types():
    assert KEYS.keys() == (IN | OUT) - NOT_IN_THE_TYPES


def test_each_row_names_a_message_or_an_error_a_behaviour_and_a_test():
    assert len(ROWS) > 60
    for row in ROWS:
        assert len(row) == 3, row
        assert all(row), row
        assert re.fullmatch(r"`\w+\.py::\w+`", row[2]), row


def test_each_test_that_is_named_exists(collected):
    assert {row[2].strip("`") for row in ROWS} <= collected


@pytest.mark.parametrize(
    ("direction", "message"), [("in", each) for each in sorted(IN)] + [("out", each) for each in sorted(OUT)]
)
def test_a_message_has_a_row_with_its_keys(direction, message):
    rows = [row[0] for row in ROWS if row[0].startswith(f"`{message}` {direction}")]
    assert rows
    named = {key for row in rows for key in re.findall(r"`(\w+)`", row.removeprefix(f"`{message}`"))}
    assert KEYS.get(message, set()) <= named


@pytest.mark.parametrize("scope", ["http", "websocket", "lifespan"])
def test_a_scope_has_a_row(scope):
    assert any(row[0].startswith(f"scope `{scope}`") for row in ROWS)
