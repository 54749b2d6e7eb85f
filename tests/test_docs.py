"""The pages about Go, the options, and the concepts in Chinese tell the truth about the package."""

import ast
import builtins
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import goev
from support import ROOT

DOCS = ROOT / "docs"
FROM_GO = DOCS / "coming-from-go.md"
OPTIONS = DOCS / "options.md"
CHINESE = DOCS / "zh" / "in-depth.md"
PASS_ON = {"goev.serve": "Acceptor", "goev.connect": "Connector", "goev.websocket.connect": "Connector"}
PASS_ON |= {"goev.asyncio.serve": "Acceptor", "goev.asyncio.connect": "goev.connect"}
LIBRARY = ("os", "logging", "collections", "concurrent", "select", "socket")  # of Python, that the pages name


def text(page: Path) -> str:
    return page.read_text() if page.exists() else ""


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of all tables whose heading has this cell."""
    found = []
    for table in re.findall(r"(?:^\|.*\|\n)+", text(page), re.MULTILINE):
        head, _, *body = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]
        if heading in head:
            found += body
    return found


def resolve(name: str) -> Any:
    """What a page calls by this name: in the package, a builtin, or in Python's library."""
    first, *rest = name.removeprefix("goev.").split(".")
    if hasattr(goev, first):
        found = getattr(goev, first)
    elif hasattr(builtins, first) and not name.startswith("goev."):
        found = getattr(builtins, first)
    elif first in LIBRARY:
        found = importlib.import_module(first)
    else:
        raise LookupError(f"{name}: goev has no {first}")
    for part in rest:
        found = getattr(found, part)
    return found


def parameters(name: str) -> dict[str, inspect.Parameter]:
    """Of a function, method or class; those of another for ``**options``."""
    found = dict(inspect.signature(resolve(name)).parameters)
    if found.pop("options", None):
        found |= parameters(PASS_ON[name])
    return found


OURS = sorted({code for row in rows(FROM_GO, "goev for Python") for code in codes(row[1])})
OPTION_ROWS = [
    (option, place, codes(row[2]))
    for row in rows(OPTIONS, "where")
    for option in codes(row[0])
    for place in codes(row[1])
]
BLOCKS = re.findall(r"(?ms)^```python\n(.*?)^```", text(CHINESE))


def test_the_pages_are_there_and_were_understood():
    assert len(OURS) > 80
    assert len(OPTION_ROWS) > 40
    assert len(BLOCKS) > 12


@pytest.mark.parametrize("code", OURS)
def test_a_name_of_ours_exists(code):
    """``Connection.write``, ``goev.serve``, or an argument as in ``Acceptor(backlog=)``."""
    name, _, arguments = code.partition("(")
    assert resolve(name) is not inspect.Parameter.empty
    if arguments:
        assert set(re.findall(r"(\w+)=", arguments)) <= set(parameters(name))


def test_no_go_name_is_left_without_an_answer():
    tables = rows(FROM_GO, "goev for Python")
    assert not [row for row in tables if not codes(row[1]) and row[1] != "none"]
    assert not [row for row in tables if row[1] == "none" and not row[2]], "a reason is missing"


@pytest.mark.parametrize(("option", "place", "default"), OPTION_ROWS)
def test_an_option_exists_and_has_this_default(option, place, default):
    documented = ast.literal_eval(default[0]) if default else inspect.Parameter.empty
    assert default_of(place, option) == documented


def default_of(place: str, option: str) -> Any:
    """Of a parameter, or of an attribute of a class of handlers, which its users set in a subclass."""
    found = resolve(place)
    if isinstance(found, type) and issubclass(found, goev.Connection):
        return getattr(found, option)
    return parameters(place)[option].default


@pytest.mark.parametrize(
    "place",
    ["Reactor", "Acceptor", "Connector", "Connector.connect", "goev.serve", "goev.connect", "Datagram.bind"]
    + ["ConnectionPool", "ConnectionPool.acquire", "ConnectionPool.connection", "Connection.start_tls"]
    + ["goev.tls.ServerContext", "goev.tls.ClientContext", "goev.websocket.connect", "goev.http.Limits", "Group"]
    + ["LengthPrefixed", "Delimited", "FixedSize", "goev.asyncio.connect", "goev.asyncio.serve"]
    + [f"Connection.{name}" for name in sorted(dir(goev.Connection)) if name.startswith("set_")],
)
def test_every_keyword_is_among_the_options(place):
    """Their own ones: those that ``goev.serve`` and ``goev.connect`` pass on are the classes'."""
    own = inspect.signature(resolve(place)).parameters.values()
    keywords = {parameter.name for parameter in own if parameter.kind is parameter.KEYWORD_ONLY}
    assert keywords <= {option for option, where, _ in OPTION_ROWS if where == place}


def test_every_attribute_of_a_websocket_is_among_the_options():
    attributes = {name for name in vars(goev.websocket.Connection) if not name.startswith(("_", "on_"))}
    listed = {option for option, where, _ in OPTION_ROWS if where == "goev.websocket.Connection"}
    assert attributes - listed == {"request", "subprotocol"}  # results of the handshake


def test_ranges_of_the_options_hold():
    """The numbers in the page are the limits that the error texts name."""
    with pytest.raises(ValueError, match="pollers must be from 1 to 1024"):
        goev.Reactor(pollers=1025)
    for wrong in (0, 65_536):
        with pytest.raises(ValueError, match="65535"):
            goev.Acceptor(goev.Reactor(), "127.0.0.1:0", goev.Connection, backlog=wrong)
    with pytest.raises(ValueError, match=str(2**30 - 1)):
        goev.Connector(goev.Reactor(), receive_buffer_size=2**30)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_of_the_chinese_page_runs(number):
    """As a module would be imported; nothing in it starts a server then."""
    program = compile(BLOCKS[number], f"{CHINESE.name}, block {number}", "exec")
    exec(program, {"__name__": "block", "__file__": str(CHINESE)})


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_of_the_chinese_page_uses_names_that_exist(number):
    for node in ast.walk(ast.parse(BLOCKS[number])):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "goev":
            resolve(f"goev.{node.attr}")
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("goev."):
            assert {keyword.arg for keyword in node.keywords} <= set(parameters(ast.unparse(node.func)))
        if isinstance(node, ast.ClassDef):
            check_handler(node)


def check_handler(node: ast.ClassDef) -> None:
    """Callbacks are those of the base class, and what is asked of ``self`` is there or is made in the class."""
    base = resolve(ast.unparse(node.bases[0]))
    methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    assert {name for name in methods if name.startswith("on_")} <= set(dir(base))
    named = [item for item in ast.walk(node) if isinstance(item, ast.Attribute) and ast.unparse(item.value) == "self"]
    made = {item.attr for item in named if isinstance(item.ctx, ast.Store)}
    made |= {item.id for item in ast.walk(node) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)}
    assert {item.attr for item in named} <= methods | made | set(dir(base))


def test_what_the_chinese_page_names_in_its_text_exists():
    prose = re.sub(r"(?ms)^```.*?^```", "", text(CHINESE))
    for name in {code for code in codes(prose) if re.fullmatch(r"goev\.[A-Za-z_]+", code)}:
        resolve(name)


@pytest.mark.parametrize("page", [FROM_GO, OPTIONS], ids=lambda page: str(page.relative_to(DOCS)))
def test_every_link_leads_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", text(page)):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        headings = re.findall(r"(?m)^#+ (.+)$", text(linked))
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, anchor


@pytest.mark.parametrize("page", [FROM_GO, OPTIONS], ids=lambda page: str(page.relative_to(DOCS)))
def test_lines_are_at_most_120_characters_long(page):
    assert not [line for line in text(page).splitlines() if len(line) > 120 and not line.startswith("|")]


def test_a_socket_is_adopted_with_the_options_of_connections_that_are_made():
    made, adopted = (
        {name: each.default for name, each in parameters(one).items() if each.kind is each.KEYWORD_ONLY}
        for one in ("Connector", "Reactor.adopt")
    )
    del made["local_address"], made["proxy_protocol"]  # those of a connect
    assert adopted == made
