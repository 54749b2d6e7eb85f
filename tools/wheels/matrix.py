"""The wheels of a release: one for each Python, C library and processor."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.14t")
LIBRARIES = {"gnu": "manylinux2014", "musl": "musllinux_1_2"}
PROCESSORS = ("x86_64", "aarch64")


@dataclass(frozen=True)
class Wheel:
    """A wheel to build.

    Attributes:
        python: the version of CPython, with a ``t`` for free threading.
        library: ``"gnu"`` or ``"musl"``.
        processor: as the kernel names it.
    """

    python: str
    library: str
    processor: str

    @property
    def target(self) -> str:
        """The name by which Rust knows the system."""
        return f"{self.processor}-unknown-linux-{self.library}"

    @property
    def tags(self) -> tuple[str, str]:
        """The first two tags of the file name, for example ``cp314`` and ``cp314t``."""
        version = self.python.replace(".", "")
        return f"cp{version.rstrip('t')}", f"cp{version}"

    @property
    def platform(self) -> str:
        """The newest platform tag that the wheel may need."""
        return f"{LIBRARIES[self.library]}_{self.processor}"

    @property
    def abi(self) -> str:
        """The part of the extension's file name that says which interpreter loads it (``SOABI``)."""
        return f"cpython-{self.python.replace('.', '')}-{self.processor}-linux-{self.library}"

    def file(self, folder: Path, version: str) -> Path | None:
        """The built wheel in ``folder``."""
        marks = {"gnu": "manylinux", "musl": "musllinux"}[self.library]
        pattern = rf"goev-{re.escape(version)}-{'-'.join(self.tags)}-{marks}\S*_{self.processor}\.whl"
        return next((path for path in sorted(folder.glob("*.whl")) if re.fullmatch(pattern, path.name)), None)

    def __str__(self) -> str:
        return f"{'-'.join(self.tags)}-{self.platform}"


def wheels(pythons: Iterable[str], libraries: Iterable[str], processors: Iterable[str]) -> Iterator[Wheel]:
    """Every combination, grouped by target, so that one target's dependencies are compiled once."""
    for processor, library, python in product(processors, libraries, pythons):
        yield Wheel(python, library, processor)
