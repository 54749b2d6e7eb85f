"""docs/conformance.md: each run writes its own section of it, and leaves the others as they are."""

from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"


def put(heading: str, body: str, path: Path = PAGE) -> None:
    """Write the section of this heading in its place; a new one goes to the end."""
    lines = path.read_text().splitlines() if path.exists() else []
    begin = lines.index(heading) if heading in lines else len(lines)
    rest = (number for number in range(begin + 1, len(lines)) if ends(heading, lines[number]))
    end = next(rest, len(lines))
    parts = ["\n".join(lines[:begin]).strip(), f"{heading}\n\n{body.strip()}", "\n".join(lines[end:]).strip()]
    path.write_text("\n\n".join(part for part in parts if part) + "\n")


def ends(heading: str, line: str) -> bool:
    """Whether this line is a heading of the same or a higher level."""
    level = len(line) - len(line.lstrip("#"))
    return 0 < level <= len(heading) - len(heading.lstrip("#"))
