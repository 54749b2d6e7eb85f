"""Prints the notes of a release: the section of CHANGELOG.md for a version.

``python tools/notes.py 1.2.3``. It fails unless the section has text and nothing is left under "Unreleased".
"""

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"
SECTION = re.compile(r"(?ms)^## (?P<title>[^\n]+)\n(?P<text>.*?)(?=^## |\Z)")


class Missing(Exception):
    """The changelog has no notes for the version, or notes that belong to none."""


def notes(changelog: str, version: str) -> str:
    """The text of the section ``## 1.2.3``, behind which a date may stand."""
    sections = {found["title"].split()[0]: found["text"].strip() for found in SECTION.finditer(changelog)}
    if sections.get("Unreleased"):
        raise Missing(f'text stands under "Unreleased": it belongs to {version}, or to no release yet')
    if not sections.get(version):
        raise Missing(f"there is no section {version}, or it is empty")
    return sections[version] + "\n"


def main() -> int:
    try:
        [version] = sys.argv[1:]
        print(notes(CHANGELOG.read_text(), version.removeprefix("v")), end="")
    except ValueError:
        print("usage: python tools/notes.py VERSION", file=sys.stderr)
        return 2
    except Missing as error:
        print(f"{CHANGELOG.name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
