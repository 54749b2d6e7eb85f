"""Finds the errors of a configuration, in its options, files and target. Binds nothing."""

import errno
import os
from collections.abc import Callable
from typing import Any

from goev import spelling
from goev._core import Acceptor, Connection, Reactor, ServerContext, _has_coroutine
from goev.cli.options import OPTIONS
from goev.cli.sources import Configuration, origin_of
from goev.service.interfaces import interface_of
from goev.service.loading import TargetError, explain, load
from goev.service.settings import Settings, check


def wrong_options(found: Configuration) -> list[str]:
    """The problems of the configuration, then a line for each option that a class refuses. Imports no target."""
    problems = list(found.problems)
    good = []
    for name in ("listen", "metrics"):
        value = found.value(name)
        for address in [value] if isinstance(value, str) else value or ():
            if (trouble := _refusal(Acceptor._check, address)) is not None:
                problems.append(f"{found.given[name].origin}: {trouble}")
            elif name == "listen":
                good.append(address)
    if good:
        problems += _refused(found, "acceptor", lambda values: Acceptor._check(good, **values))
    problems += _refused(found, "reactor", lambda values: Reactor(**values))
    problems += _refused(found, "settings", lambda values: check(Settings(target=found.target, **values)))
    return problems + _wrong_tls(found) + _wrong_paths(found)


def _wrong_paths(found: Configuration) -> list[str]:
    """The errors of the application's folder and of the files to be written. Makes no file."""
    problems = []
    if "app_dir" in found.given and not os.path.isdir(folder := found.value("app_dir")):
        problems.append(f"{found.given['app_dir'].origin}: there is no folder {folder}")
    for name in ("access_log", "pid_file"):
        path = found.value(name)
        if path is not None and path != "-" and (trouble := _not_writable(path)) is not None:
            problems.append(f"{found.given[name].origin}: cannot write {path}: {os.strerror(trouble)}")
    return problems


def _not_writable(path: str) -> int | None:
    """The error number of a file that cannot be written."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        return errno.EISDIR
    if not os.path.isdir(folder):
        return errno.ENOTDIR if os.path.exists(folder) else errno.ENOENT
    return None if os.access(path if os.path.exists(path) else folder, os.W_OK) else errno.EACCES


def _wrong_tls(found: Configuration) -> list[str]:
    values = found.at("tls")
    missing = [name for name in ("tls_certificate", "tls_key") if name not in found.given]
    if values and missing:
        other = next(given.origin for name, given in found.given.items() if OPTIONS[name].place == "tls")
        return [f"{other} needs {' and '.join(OPTIONS[name].flag for name in missing)}"]
    return _refused(found, "tls", lambda values: ServerContext(**values)) if values else []


def _refusal(attempt: Callable[[Any], object], value: Any) -> str | None:
    """The text of the exception that a class raises for its arguments; ``None`` if it takes them."""
    try:
        attempt(value)
    except (TypeError, ValueError, OSError) as error:
        return str(error)
    return None


def _refused(found: Configuration, place: str, attempt: Callable[[dict[str, Any]], object]) -> list[str]:
    """A line for each option that a class refuses. After each refusal the class is tried without that option."""
    values = found.at(place)
    problems: list[str] = []
    while (text := _refusal(attempt, values)) is not None:
        rest = Configuration(found.target, {n: g for n, g in found.given.items() if OPTIONS[n].field in values})
        name = origin_of(rest, place, text)
        if name is None:
            return [*problems, text]  # it names a default, which another option makes wrong
        text = text.removeprefix(f"{OPTIONS[name].field} ")
        problems.append(f"{found.given[name].origin}: {text}")
        del values[OPTIONS[name].field]
        if place == "tls" and OPTIONS[name].field in ("certificate", "key"):
            break  # without them there is nothing to try
    return problems


def wrong_target(found: Configuration) -> list[str]:
    """Import the target and make its interface; return the errors. Callbacks that goev never calls become warnings."""
    settings = found.settings()
    if not os.path.isdir(settings.app_dir):
        return []  # wrong_options has reported it
    try:
        app = load(found.target, settings.app_dir)
    except TargetError as error:
        return [explain(error)]
    try:
        interface = interface_of(app, settings)
    except (TypeError, ValueError) as error:
        return [str(error)]
    interface.close()
    if settings.reactor.get("asyncio") is False and (interface.asyncio or _has_coroutine(app)):
        return [f"{found.given['asyncio'].origin}: {found.target} needs asyncio, because it has coroutines"]
    if isinstance(app, type) and issubclass(app, Connection):
        found.warnings += [
            f"{found.target}: {name} is never called; {kind} has {callback}"
            for name, callback, kind in spelling.suspects(app)
        ]
    return []
