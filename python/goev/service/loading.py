"""Finds the object that a target names: ``"module:attribute"``, ``"module:factory()"``, ``"module"``.

A wrong target raises ``TargetError``, with a text of one line. If the module itself raised, its exception is the
cause of the ``TargetError``, with a traceback that begins in the user's files. ``explain`` writes both.
"""

import importlib
import os
import pkgutil
import re
import sys
import traceback
from difflib import get_close_matches
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from inspect import isclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from goev._core import Connection

DEFAULTS = ("app", "application")
# The modules of the interpreter, the program, and goev itself: no file takes their places.
_RUNNING = {*sys.builtin_module_names, "__main__", "goev"}
_TARGET = re.compile(r"(?P<module>\w+(?:\.\w+)*)(?::(?P<path>\w+(?:\.\w+)*)(?P<call>\(\))?)?")


class TargetError(Exception):
    """A target that names nothing, or that cannot be imported."""

    def __str__(self) -> str:
        return f"{super().__str__()} [GOEV801]"


def load(target: str, app_dir: str = ".") -> Any:
    """Import the module of a target, and return the object that the target names.

    Args:
        target: ``"module:attribute"``, also with dots on both sides; ``"module:factory()"``, which is called without
            arguments; ``"module"``, which is ``"module:app"`` or ``"module:application"``.
        app_dir: the folder that becomes the first of ``sys.path``. Its modules come before modules of the same name
            that were imported earlier, such as ``site``, which Python itself imports.

    Raises:
        TargetError: see its text; its ``__cause__`` is the exception of the user's code, if there was one.
    """
    found = _TARGET.fullmatch(target)
    if found is None:
        raise TargetError(_malformed(target))
    folder = str(Path(app_dir).resolve())
    if not Path(folder).is_dir():
        raise TargetError(f"app_dir: there is no folder {folder}")
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    module = _import(found["module"], folder)
    if found["path"] is None:
        return _default(module)
    value = _attribute(module, found["path"])
    return _call(value, target) if found["call"] else value


def explain(error: BaseException) -> str:
    """The text of an exception of ``load``: one line, behind the traceback of the user's code if that raised."""
    if not isinstance(error, TargetError):
        return "".join(traceback.format_exception(error)).rstrip("\n")
    if error.__cause__ is None:
        return str(error)
    return "".join(traceback.format_exception(error.__cause__)) + str(error)


def _malformed(target: str) -> str:
    text = f"{target!r} is not a target, which is module:attribute or module:factory()"
    if re.search(r"\(.+\)$", target):
        return f"{text}; a factory is called without arguments"
    module, colon, attribute = target.partition(":")
    dotted = re.sub(r"\.py$", "", module).strip("./").replace("/", ".")
    plain = f"{dotted}{colon}{attribute}" if attribute else dotted
    return f"{text}; did you mean {plain}?" if plain != target and _TARGET.fullmatch(plain) else text


def _import(name: str, folder: str) -> ModuleType:
    try:
        hidden = _hidden(name.partition(".")[0], folder)
        if hidden is not None:
            _take_place(hidden)
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise TargetError(_no_module(name, error.name, folder)) from None
        raise TargetError(f"cannot import {name}: {_last_line(error)}") from _from_user(error)
    except Exception as error:
        raise TargetError(f"cannot import {name}: {_last_line(error)}") from _from_user(error)
    except SystemExit as error:  # a module that is a script
        raise TargetError(f"cannot import {name}: it ended with {_last_line(error)}") from _from_user(error)


def _hidden(name: str, folder: str) -> ModuleSpec | None:
    """The module of the folder that an import would not find, because another one of this name was imported before."""
    other = sys.modules.get(name)
    if other is None or name in _RUNNING:
        return None
    spec = PathFinder.find_spec(name, [folder])
    if spec is None or spec.origin is None:  # a folder without an __init__.py comes last in any import
        return None
    file = getattr(other, "__file__", None)
    is_other = file is None or os.path.realpath(file) != os.path.realpath(spec.origin)
    return spec if is_other else None


def _take_place(spec: ModuleSpec) -> None:
    """Import a module instead of another one of its name. Code that has imported the other one keeps it."""
    others = {name: sys.modules[name] for name in list(sys.modules) if f"{name}.".startswith(f"{spec.name}.")}
    for name in others:
        del sys.modules[name]
    sys.modules[spec.name] = module = module_from_spec(spec)
    assert spec.loader is not None  # as there is a file
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.update(others)
        raise


def _no_module(name: str, missing: str, folder: str) -> str:
    if name.endswith(".py") and missing == name.removesuffix(".py") + ".py":
        return f"there is no module {name}; did you mean {name.removesuffix('.py')}?"
    parent, _, last = missing.rpartition(".")
    if parent:
        places = list(getattr(sys.modules.get(parent), "__path__", []))
        if not places:
            return f"there is no module {missing}, because {parent} is a module and not a package"
    else:
        places = [folder]
    names = [module.name for module in pkgutil.iter_modules(places)]
    text = f"there is no module {missing} in {places[0]}"
    near = get_close_matches(last, names, 1)
    return f"{text}; did you mean {parent + '.' if parent else ''}{near[0]}?" if near else text


def _attribute(module: ModuleType, path: str) -> Any:
    value: Any = module
    seen = _shown(module)
    for number, name in enumerate(path.split(".")):
        try:
            value = getattr(value, name)
        except AttributeError:
            near = get_close_matches(name, [other for other in dir(value) if not other.startswith("__")], 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TargetError(f"{seen} has no {name}{hint}") from None
        seen = f"{module.__name__}:{'.'.join(path.split('.')[: number + 1])}"
    return value


def _shown(module: ModuleType) -> str:
    """A module with its file, because another module of the same name may have been found."""
    file = getattr(module, "__file__", None)
    return f"module {module.__name__} ({file})" if file else f"module {module.__name__}"


def _default(module: ModuleType) -> Any:
    for name in DEFAULTS:
        if hasattr(module, name):
            return getattr(module, name)
    handlers = [
        name
        for name, value in vars(module).items()
        if isclass(value) and issubclass(value, Connection) and value.__module__ == module.__name__
    ]
    hint = f"; did you mean {module.__name__}:{handlers[-1]}?" if handlers else f"; name it: {module.__name__}:…"
    raise TargetError(f"{_shown(module)} has no app and no application{hint}")


def _call(factory: Any, target: str) -> Any:
    if not callable(factory):
        raise TargetError(f"{target.removesuffix('()')} is {type(factory).__name__}, which cannot be called")
    if isclass(factory) and issubclass(factory, Connection):
        name = target.removesuffix("()")
        raise TargetError(f"{target} would be one handler, and each connection needs its own; did you mean {name}?")
    try:
        return factory()
    except Exception as error:
        raise TargetError(f"{target} failed: {_last_line(error)}") from _from_user(error)


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()


def _from_user(error: BaseException) -> BaseException:
    """The exception without the frames of this module and of the import system that lead to the user's code."""
    frames: TracebackType | None = error.__traceback__
    while frames is not None and _is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return error.with_traceback(frames)


def _is_ours(filename: str) -> bool:
    return filename in (__file__, importlib.__file__) or filename.startswith("<frozen importlib")
