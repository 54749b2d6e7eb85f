"""Where the values of options come from: the command line, then the environment, then a file.

Every value keeps its origin, so that an error names the place to correct. A wrong value is a problem in a list and no
exception, because ``goev check`` reports all of them.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from goev.cli.options import OPTIONS, Option
from goev.service.settings import Logging, Settings

TABLES = ("tls", "log", "dev")  # a table [tls] with a key certificate is tls_certificate
PREFIX = "GOEV_"


class UsageError(Exception):
    """The command cannot begin; the text is one line."""


@dataclass(frozen=True)
class Given:
    """A value, and its origin: ``--workers``, ``GOEV_WORKERS``, ``server.toml: workers``."""

    value: Any
    origin: str


@dataclass
class Configuration:
    """The target and the options of a command.

    Attributes:
        target: the object to serve, ``module:attribute``.
        given: the values that were given, by the names of options.
        problems: the errors of values that are wrong, a line each.
        warnings: the names that look misspelled, a line each.
        file: the TOML file that names the target, if any.
    """

    target: str
    given: dict[str, Given] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    file: str | None = None

    def value(self, name: str) -> Any:
        """The value of an option: the one given, or its default."""
        return self.given[name].value if name in self.given else OPTIONS[name].default

    def at(self, place: str) -> dict[str, Any]:
        """The values given for the parameters of a class."""
        return {OPTIONS[name].field: given.value for name, given in self.given.items() if OPTIONS[name].place == place}

    def settings(self) -> Settings:
        """The settings of the service."""
        tls = self.at("tls")
        own = self.at("settings")
        own |= {name: tuple(value) for name, value in own.items() if isinstance(value, list)}
        return Settings(
            target=self.target,
            reactor=self.at("reactor"),
            acceptor=self.at("acceptor"),
            tls=tls or None,
            logging=Logging(**self.at("logging")),
            **own,
        )


def suggestion(name: str, names: Any) -> str:
    """``"; did you mean …?"``, or nothing."""
    near = get_close_matches(name, list(names), 1)
    return f"; did you mean {near[0]}?" if near else ""


def configuration(
    target: str | None, command_line: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> Configuration:
    """Read the three sources.

    Args:
        target: the argument; ``None`` means ``GOEV_TARGET``.
        command_line: texts, lists of texts and booleans by the names of options.

    Raises:
        UsageError: there is no target, or its file cannot be read.
    """
    target = target or environment.get("GOEV_TARGET")
    if not target:
        raise UsageError("TARGET is missing: module:attribute, or a TOML file, as in 'goev run chat:Chat'")
    found = Configuration(target)
    if target.endswith(".toml"):
        found.file = target
        _read_file(found)
    _read_environment(found, environment)
    for name, value in command_line.items():
        texts = value if isinstance(value, list) else [value]
        _read(found, OPTIONS[name], texts, OPTIONS[name].flag)
    return found


def _read(found: Configuration, option: Option, texts: list[Any], origin: str) -> None:
    """Note the value of texts, or its error. It replaces the value of an earlier source."""
    found.given.pop(option.name, None)
    try:
        found.given[option.name] = Given(_value_of(option, texts), origin)
    except ValueError as error:
        found.problems.append(f"{origin}: {error}")


def _value_of(option: Option, texts: list[Any]) -> Any:
    if isinstance(texts[-1], bool):
        return texts[-1]
    if option.takes_none and texts[-1].strip().lower() == "none":
        return None
    values = [option.kind.read(text) for text in texts]
    if not option.kind.is_list:
        return values[-1]
    if isinstance(values[0], dict):
        return {name: pair for value in values for name, pair in value.items()}
    return [item for value in values for item in value]


def _read_environment(found: Configuration, environment: Mapping[str, str]) -> None:
    options = {option.variable: option for option in OPTIONS.values()}
    for variable, text in environment.items():
        if variable in options:
            if text:  # an empty variable is an unset one: container files often have no other way
                _read(found, options[variable], [text], variable)
        elif variable.startswith(PREFIX) and (near := get_close_matches(variable, options, 1, 0.85)):
            # Only a warning, because a Kubernetes service of the name goev makes variables as well.
            found.warnings.append(f"{variable} is not known; did you mean {near[0]}?")


def _read_file(found: Configuration) -> None:
    path = Path(found.target)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    target = content.pop("target", None)
    if not isinstance(target, str) or not target or target.endswith(".toml"):
        raise UsageError(f'{path}: the key target is missing: target = "module:attribute"')
    found.target = target
    for key, value, shown in _keys(content):
        if key not in OPTIONS:
            found.problems.append(f"{path}: {shown} is not an option{suggestion(key, OPTIONS)}")
            continue
        _read_key(found, OPTIONS[key], value, path, f"{path}: {shown}")


def _keys(content: dict[str, Any]) -> list[tuple[str, Any, str]]:
    """The names, values and spellings of all keys, also of keys in tables."""
    keys = []
    for key, value in content.items():
        if key in TABLES and isinstance(value, dict):
            keys += [(f"{key}_{name}", item, f"{key}.{name}") for name, item in value.items()]
        else:
            keys.append((key, value, key))
    return keys


def _read_key(found: Configuration, option: Option, value: Any, path: Path, origin: str) -> None:
    try:
        if isinstance(value, str):
            value = None if option.takes_none and value == "none" else option.kind.read(value)
        else:
            value = option.kind.take(value)
    except ValueError as error:
        found.problems.append(f"{origin}: {error}")
        return
    if option.kind.files:
        value = _from_folder(value, path.parent)
    found.given[option.name] = Given(value, origin)


def _from_folder(value: Any, folder: Path) -> Any:
    """Paths in a file count from the folder of the file. ``-`` and ``SSLKEYLOGFILE`` are no paths."""
    if isinstance(value, str):
        return value if value in ("-", "SSLKEYLOGFILE") else str(folder / value)
    if isinstance(value, dict):
        return {name: tuple(_from_folder(item, folder) for item in pair) for name, pair in value.items()}
    return value and [_from_folder(item, folder) for item in value]


def origin_of(found: Configuration, place: str, text: str) -> str | None:
    """The option that an error text is about: the one given at that place that the text names first."""
    places = [
        (match.start(), name)
        for name in found.given
        if OPTIONS[name].place == place and (match := re.search(rf"\b{OPTIONS[name].field}\b", text))
    ]
    return min(places)[1] if places else None
