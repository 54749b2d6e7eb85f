"""Every public name of goev: its signature, and its docstring, from wherever they are.

A name is public that a module of ``MODULES`` exports, and so is a member of such a class that has no underscore. The
docstring comes from the object. The signature comes from the stub file if the object is native, else from its source.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from itertools import pairwise, takewhile
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import goev
from goev import _core

STUB = Path(goev.__file__).parent / "_core.pyi"
PARTS = ("http", "websocket", "tls", "asyncio", "testing", "metrics", "logs", "service", "asgi", "wsgi")
MODULES = ("goev", *(f"goev.{part}" for part in PARTS))
# Classes whose objects users get and do not make.
MADE_BY_GOEV = {
    "goev.asyncio.Channel",
    "goev.asyncio.Server",
    "goev.metrics.MetricsServer",
    "goev.testing.Answer",
    "goev.testing.Peer",
    "goev.websocket.HandshakeRefused",
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Parameter(NamedTuple):
    """A parameter as it is written: ``*args`` has its star in the name."""

    name: str
    annotation: str
    default: str


@dataclass(frozen=True)
class Name:
    """A public name, with the members of a class or module."""

    path: str
    kind: str  # as the directives of Sphinx: class, exception, function, method, property, attribute, data, module
    doc: str
    parameters: tuple[Parameter, ...] = ()
    returns: str = ""
    is_async: bool = False
    is_static: bool = False
    bases: tuple[str, ...] = ()
    members: tuple["Name", ...] = ()
    also: str = ""  # the path of the same object, where it is described

    @property
    def signature(self) -> str:
        return "(" + ", ".join(shown(parameter) for parameter in self.parameters) + ")" if self.is_callable else ""

    @property
    def is_callable(self) -> bool:
        return self.kind in ("function", "method") or (self.kind in ("class", "exception") and bool(self.parameters))


def shown(parameter: Parameter) -> str:
    text = parameter.name
    if parameter.annotation:
        text += f": {parameter.annotation}"
    if parameter.default:
        text += f" = {parameter.default}" if parameter.annotation else f"={parameter.default}"
    return text


class Scope:
    """The definitions of one source. Readers see its private names of types by what they stand for."""

    def __init__(self, module: ModuleType, text: str) -> None:
        self.module = module
        self.tree = ast.parse(text)
        self.aliases: dict[str, ast.expr] = {}
        self.dicts: set[str] = set()
        for node in self.tree.body:
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias" and node.value:
                self.aliases[ast.unparse(node.target)] = node.value
            if isinstance(node, ast.ClassDef) and "TypedDict" in map(ast.unparse, node.bases):
                self.dicts.add(node.name)

    def find(self, *path: str) -> Any:
        """The definition of a class or function, or of a member of a class; ``None`` if there is none."""
        node: Any = self.tree
        for name in path:
            node = next((each for each in reversed(node.body) if getattr(each, "name", "") == name), None)
            if node is None:
                return None
        return node

    def type_text(self, annotation: ast.expr | None) -> str:
        if annotation is None:
            return ""
        quoted = isinstance(annotation, ast.Constant) and isinstance(annotation.value, str)
        text = ast.literal_eval(annotation) if quoted else ast.unparse(annotation)
        return ast.unparse(_Readable(self).visit(ast.parse(text, mode="eval")))


class _Readable(ast.NodeTransformer):
    """Replaces private names of types, and gives those of goev with their modules."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def visit_Name(self, node: ast.Name) -> ast.expr:
        name = node.id
        if name.startswith("_") and name in self.scope.aliases:
            return self.visit(ast.parse(ast.unparse(self.scope.aliases[name]), mode="eval").body)
        if name.startswith("_") and name in self.scope.dicts:
            return ast.Name("dict")
        path = public_paths().get(id(getattr(self.scope.module, name, None)))
        return ast.Name(path or name.lstrip("_"))


@cache
def scope_of(module: str) -> Scope:
    found = sys.modules[module]
    return Scope(found, (STUB if found is _core else Path(found.__file__ or "")).read_text())


@cache
def native_names() -> dict[int, str]:
    """The names in the stub file by the identity of the objects."""
    return {id(getattr(_core, name)): name for name in _core.__all__ if not name.startswith("_")}


def definition(found: Any) -> tuple[Scope, tuple[str, ...]]:
    """Where a class or function is defined."""
    if id(found) in native_names():
        return scope_of("goev._core"), (native_names()[id(found)],)
    return scope_of(found.__module__), tuple(found.__qualname__.split("."))


def parameters(scope: Scope, function: Function, *, bound: bool) -> tuple[Parameter, ...]:
    """Of a function as it is called; ``bound`` leaves out ``self`` or ``cls``."""
    given = function.args
    plain = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(plain) - len(given.defaults)) + given.defaults
    found = [_parameter(scope, each.arg, each, value) for each, value in zip(plain, defaults, strict=True)]
    if given.posonlyargs:
        found.insert(len(given.posonlyargs), Parameter("/", "", ""))
    found = found[1:] if bound else found
    if given.vararg:
        found.append(_parameter(scope, f"*{given.vararg.arg}", given.vararg, None))
    elif given.kwonlyargs:
        found.append(Parameter("*", "", ""))
    found += [
        _parameter(scope, each.arg, each, value)
        for each, value in zip(given.kwonlyargs, given.kw_defaults, strict=True)
        if not each.arg.startswith("_")
    ]
    if given.kwarg:
        found.append(_parameter(scope, f"**{given.kwarg.arg}", given.kwarg, None))
    return tuple(each for each in found if each.name != "/" or len(found) > 1)


def _parameter(scope: Scope, name: str, argument: ast.arg, default: ast.expr | None) -> Parameter:
    return Parameter(name, scope.type_text(argument.annotation), ast.unparse(default) if default else "")


def doc_of(found: Any) -> str:
    return inspect.cleandoc(found.__doc__) if isinstance(getattr(found, "__doc__", None), str) else ""


@cache
def public_paths() -> dict[int, str]:
    """Where each class or function is described: the first module that exports it."""
    paths: dict[int, str] = {}
    for module in sorted(MODULES, key=lambda name: (name == "goev", MODULES.index(name))):
        for name, found in exported(module):
            paths.setdefault(id(found), f"{module}.{name}")
    # ``goev.ProtocolError`` is described there, although goev.http exports it, too.
    paths.update({id(found): f"goev.{name}" for name, found in exported("goev")})
    return paths


def exported(module: str) -> Iterator[tuple[str, Any]]:
    """The names that a module exports, but for modules, which have pages of their own."""
    found = import_module(module)
    for name in found.__all__:
        if not isinstance(getattr(found, name), ModuleType):
            yield name, getattr(found, name)


def modules() -> list[Name]:
    """All modules with all their names."""
    return [
        Name(name, "module", doc_of(import_module(name)), members=tuple(named(name, *each) for each in exported(name)))
        for name in MODULES
    ]


def named(module: str, name: str, found: Any) -> Name:
    path = f"{module}.{name}"
    also = public_paths().get(id(found), path) if callable(found) else path
    if also != path:
        return Name(path, "class" if isinstance(found, type) else "function", doc_of(found), also=also)
    if isinstance(found, type):
        return class_name(path, found)
    if callable(found):
        return function_name(path, found, "function", *definition(found))
    return Name(path, "data", section(doc_of(import_module(module)), "Attributes").get(name, ""))


def function_name(
    path: str, found: Any, kind: str, scope: Scope, where: tuple[str, ...], *, bound: bool = False
) -> Name:
    node = scope.find(*where)
    assert isinstance(node, Function), f"{path} has no definition"
    decorators = {ast.unparse(each) for each in node.decorator_list}
    is_static = "staticmethod" in decorators
    return Name(
        path,
        kind,
        doc_of(found),
        parameters(scope, node, bound=bound and not is_static),
        scope.type_text(node.returns),
        is_async=isinstance(node, ast.AsyncFunctionDef),
        is_static=is_static,
    )


def class_name(path: str, found: type) -> Name:
    """A class with its own members and those of its private bases; those of public ones are described there."""
    scope, where = definition(found)
    bases = [base for base in found.__bases__ if base is not object]
    private = list(
        takewhile(lambda base: id(base) in native_names() and id(base) not in public_paths(), found.__mro__[1:])
    )
    members: dict[str, Name] = {}
    for cls in (found, *private):
        for member in class_members(path, cls):
            members.setdefault(member.path, member)
    return Name(
        path,
        "exception" if issubclass(found, BaseException) else "class",
        doc_of(found),
        constructor(scope, where, found),
        bases=tuple(public_paths().get(id(base), base.__qualname__) for base in bases if base not in private),
        members=tuple(members.values()),
    )


def constructor(scope: Scope, where: tuple[str, ...], found: type) -> tuple[Parameter, ...]:
    """The parameters of a class, unless goev alone makes them, or users define ``__init__``, as in handlers."""
    if public_paths()[id(found)] in MADE_BY_GOEV:
        return ()
    for name in ("__init__", "__new__"):
        node = scope.find(*where, name)
        if isinstance(node, Function) and not (node.args.vararg and node.args.kwarg):
            return parameters(scope, node, bound=True)
    if "__dataclass_fields__" in vars(found):
        return (Parameter("*", "", ""), *fields(scope, scope.find(*where)))
    return ()


def fields(scope: Scope, node: ast.ClassDef) -> Iterator[Parameter]:
    """Of a dataclass, as parameters."""
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and not ast.unparse(item.target).startswith("_"):
            default = "..." if isinstance(item.value, ast.Call) else ast.unparse(item.value) if item.value else ""
            yield Parameter(ast.unparse(item.target), scope.type_text(item.annotation), default)


def class_members(path: str, cls: type) -> Iterator[Name]:
    scope, where = definition(cls)
    node = scope.find(*where)
    assert isinstance(node, ast.ClassDef), f"{path} has no definition"
    docs = attribute_docs(cls, node)
    for item in node.body:
        name = getattr(item, "name", "") or (ast.unparse(item.target) if isinstance(item, ast.AnnAssign) else "")
        if not name or name.startswith("_"):
            continue
        if isinstance(item, ast.AnnAssign):
            yield Name(f"{path}.{name}", "attribute", docs.get(name, ""), returns=scope.type_text(item.annotation))
        elif isinstance(item, Function) and not is_described_above(cls, name):
            decorators = {ast.unparse(each) for each in item.decorator_list}
            kind = "property" if decorators & {"property", "cached_property"} else "method"
            member = function_name(
                f"{path}.{name}", inspect.getattr_static(cls, name), kind, scope, (*where, name), bound=True
            )
            yield replace(member, doc=member.doc or docs.get(name, ""))
    for name, text in docs.items():
        if not any(isinstance(item, ast.AnnAssign) and ast.unparse(item.target) == name for item in node.body):
            yield Name(f"{path}.{name}", "attribute", text)


def is_described_above(cls: type, name: str) -> bool:
    """Whether a member overrides one of a base class without a docstring of its own."""
    return not doc_of(inspect.getattr_static(cls, name)) and any(name in vars(base) for base in cls.__mro__[1:])


class Section(NamedTuple):
    """A part of a docstring with a title, ``Args:`` for example: entries, each of some names and a text."""

    title: str
    entries: list[tuple[list[str], str]]


SECTION = re.compile(r"(?m)^(Args|Returns|Yields|Raises|Attributes|Keys):\n((?:(?:    .*)?(?:\n|\Z))+)")


def sections(doc: str) -> list[Section]:
    return [Section(title, list(entries(text))) for title, text in SECTION.findall(doc)]


def entries(text: str) -> Iterator[tuple[list[str], str]]:
    """``names: text``; the names may take several lines, and so may the text. Both are indented from the second on."""
    for entry in re.split(r"\n(?=\S)", textwrap.dedent(text).strip()):
        lines = "\n".join(line.strip() for line in entry.splitlines())
        found = re.match(r"([\w*.,\s]+):(?!:)\s*", lines)
        names = [name.strip() for name in found[1].replace("*", "").split(",")] if found else []
        yield names, lines[found.end() :] if found else lines


def section(doc: str, *titles: str) -> dict[str, str]:
    """The entries of sections with these titles by their names."""
    found = [each for part in sections(doc) if part.title in titles for each in part.entries]
    return {name: text for names, text in found for name in names}


def attribute_docs(cls: type, node: ast.ClassDef) -> dict[str, str]:
    """Of attributes: the entries in the docstring of the class, and strings behind assignments to them."""
    doc = doc_of(cls)
    docs = {name: text for name, text in section(doc, "Args").items() if hasattr(cls, name)}
    docs |= section(doc, "Attributes", "Keys")
    for body in (node.body, *(item.body for item in node.body if getattr(item, "name", "") == "__init__")):
        for before, after in pairwise(body):
            match before, after:
                case (
                    ast.Assign(targets=[target]) | ast.AnnAssign(target=target),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    docs[ast.unparse(target).removeprefix("self.")] = inspect.cleandoc(text)
    return {name: text for name, text in docs.items() if not name.startswith("_")}


def flat(names: list[Name]) -> Iterator[Name]:
    """Names and their members."""
    for name in names:
        yield name
        yield from flat(list(name.members))
