"""The engines: one file each, imported when it is used."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needing(package: str, extra: str) -> Iterator[None]:
    """Imports of an engine's client. If it is not installed, the exception says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        text = f"{extra}:// needs {package}, which is not installed: pip install 'goev[{extra}]'"
        raise ModuleNotFoundError(text, name=error.name) from error
