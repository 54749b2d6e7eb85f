"""The codes of errors, such as ``GOEV101``, and their explanations.

``goev explain GOEV101`` prints a section of ``docs/errors.md``, which the package carries.
"""

import re
from pathlib import Path

from goev._core import _code_of as code_of

__all__ = ["code_of", "codes", "explain"]

_SECTION = re.compile(r"(?ms)^### (GOEV\d{3})\n\n(.*?)(?=^##|\Z)")
_TITLE = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)


def _sections() -> dict[str, str]:
    return dict(_SECTION.findall(Path(__file__).with_suffix(".md").read_text(encoding="utf-8")))


def codes() -> dict[str, str]:
    """Every code with its title, in order."""
    return {code: " ".join(_TITLE.findall(text)[0].split()) for code, text in _sections().items()}


def explain(code: str) -> str:
    """Return the explanation of a code in Markdown: meaning, cause, remedy, and mostly a program that shows the error.

    Args:
        code: as an error shows it; lower case is accepted, and so is the number alone: ``"101"``.

    Raises:
        KeyError: there is no such code.
    """
    name = f"GOEV{code.upper().removeprefix('GOEV')}"
    return f"{name}: {_sections()[name].strip()}\n"
