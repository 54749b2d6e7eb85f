"""Every public name has a meaning, its parameters, units where it takes a time or a size, and the errors it raises."""

import ast
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

import goev
import goev.testing
from support import ROOT

sys.path.insert(0, str(ROOT / "tools" / "site"))
names = importlib.import_module("names")

NAMES = {name.path: name for name in names.flat(names.modules()) if not name.also}
CALLABLE = [path for path, name in NAMES.items() if name.is_callable]
# A docstring may say that another one has the rest.
ELSEWHERE = re.compile(
    r"\b[Aa]s (?:in asyncio|for ``|that of|``\w[\w.]*(?:\(.*?\))?``)|same errors as ``|keyword arguments of ``"
)
TIME = re.compile(r"\bseconds?\b|\bshare\b|\brate\b", re.IGNORECASE)
SIZE = re.compile(r"\bbytes?\b|[KMG]iB\b|\bnumber\b|\bconnections\b|\brequests\b|\bfields\b", re.IGNORECASE)
SIZED = re.compile(r"n|size|limit|count|offset|capacity|max_\w+|\w+_water|\w*buffer\w*|\w*bytes\w*|pending_\w+")


def description(name: Any, parameter: str) -> str:
    """The text about a parameter: its entry, or the whole docstring if it names the parameter."""
    entries = names.section(name.doc, "Args", "Attributes", "Keys")
    if parameter in entries:
        return entries[parameter]
    is_named = re.search(rf"``[^`]*\b{re.escape(parameter)}\b[^`]*``", name.doc)
    return name.doc if is_named or ELSEWHERE.search(name.doc) else entries.get("options", "")


def found_at(path: str) -> Any:
    """The object of a public name, without what binds it to a class."""
    module = max((each for each in names.MODULES if path.startswith(f"{each}.")), key=len)
    found: Any = importlib.import_module(module)
    for part in path.removeprefix(f"{module}.").split("."):
        found = inspect.getattr_static(found, part) if isinstance(found, type) else getattr(found, part)
    found = vars(found).get("__init__") if isinstance(found, type) else found
    return inspect.unwrap(getattr(found, "fget", None) or getattr(found, "__func__", found))


def is_in_python(found: Any) -> bool:
    """Whether it has a source; the ``__init__`` of a dataclass has none."""
    return inspect.isfunction(found) and not found.__code__.co_filename.startswith("<")


def leaving(node: ast.AST) -> Iterator[ast.AST]:
    """All parts of a function whose exceptions leave it: not the bodies of a ``try`` that has handlers."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.Try) and node.handlers and child in node.body):
            yield from leaving(child)


def test_there_are_names_to_check():
    assert len(NAMES) > 400
    assert {"goev.Connection.write", "goev.http.Limits.max_body", "goev.asyncio.serve", "goev.EV_ET"} <= NAMES.keys()
    assert len(CALLABLE) > 150


def test_the_entries_of_a_docstring_are_read():
    text = """Do it.

    Args:
        one, two,
            three: seconds: as ``Timer``.
        *rest: bytes,
            each 1.

    Raises:
        ValueError, TypeError: wrong.
        Any other.
    """
    doc = inspect.cleandoc(text)
    shared = dict.fromkeys(("one", "two", "three"), "seconds: as ``Timer``.")
    assert names.section(doc, "Args") == {**shared, "rest": "bytes,\neach 1."}
    assert [part.title for part in names.sections(doc)] == ["Args", "Raises"]
    assert names.sections(doc)[1].entries == [(["ValueError", "TypeError"], "wrong."), ([], "Any other.")]


@pytest.mark.parametrize("path", NAMES)
def test_a_name_has_a_meaning(path):
    assert NAMES[path].doc


@pytest.mark.parametrize("path", CALLABLE)
def test_each_parameter_is_described(path):
    parameters = [each.name.lstrip("*") for each in NAMES[path].parameters]
    assert not [each for each in parameters if each not in ("", "/") and not description(NAMES[path], each)]


@pytest.mark.parametrize("path", NAMES)
def test_times_and_sizes_have_units(path):
    name = NAMES[path]
    values = [(each.name, each.annotation, description(name, each.name)) for each in name.parameters]
    if name.kind in ("property", "attribute"):
        values.append((path.rpartition(".")[2], name.returns, name.doc))
    for value, annotation, text in values:
        if ELSEWHERE.search(text):
            continue
        if "float" in annotation:
            assert TIME.search(text), value
        if "int" in annotation.split(" | ") and SIZED.fullmatch(value):
            assert SIZE.search(text), value


IN_PYTHON = [path for path in CALLABLE if is_in_python(found_at(path))]


@pytest.mark.parametrize("path", IN_PYTHON)
def test_an_error_that_python_code_raises_is_named(path):
    tree = ast.parse(textwrap.dedent(inspect.getsource(found_at(path))))
    raised = [node.exc for node in leaving(tree) if isinstance(node, ast.Raise) and node.exc]
    classes = {ast.unparse(each.func if isinstance(each, ast.Call) else each).rpartition(".")[2] for each in raised}
    assert not [each for each in classes if each[0].isupper() and each not in NAMES[path].doc]


# Arguments that are right, for methods of connections that need some.
RIGHT = {
    "skip": (1,),
    "read_exactly": (1,),
    "read_until": (b"\n",),
    "read_into": (bytearray(1),),
    "write": (b"x",),
    "send": (b"x",),
    "send_messages": ([b"x"],),
    "writelines": ([b"x"],),
    "set_receive_buffer_size": (4096,),
    "set_send_buffer_size": (4096,),
    "pipe_to": (goev.Connection(),),
    "schedule": (1,),
    "call_soon": (print,),
    "hand_over": (goev.Connection(),),
    "start_tls": (True,),
}
METHODS = sorted(
    path.rpartition(".")[2]
    for path, name in NAMES.items()
    if path.startswith("goev.Connection.") and name.kind == "method" and ".on_" not in path
    if path.rpartition(".")[2] not in ("run_in_executor", "drained", "closed")  # those need a reactor that runs
)


@pytest.mark.parametrize("state", ["not open yet", "ended"])
@pytest.mark.parametrize("method", METHODS)
def test_an_error_of_a_connection_that_is_not_open_is_named(method, state):
    connection = goev.Connection()
    if state == "ended":
        goev.testing.open(connection).reset()
    raised = None
    try:
        with open(__file__, "rb") as file:
            getattr(connection, method)(*RIGHT.get(method, (file,) if method == "sendfile" else ()))
    except Exception as error:
        raised = type(error).__name__
    told = NAMES[f"goev.Connection.{method}"].doc + NAMES["goev.Connection"].doc
    assert raised is None or re.search(rf"\b{raised}\b", told)
