"""The sources of the site, from the Markdown files of the repository, which also read well without it.

A link from one file of the repository to another becomes a link between pages of the site. A file that is no page, for
example a program of ``examples/``, becomes a page that shows it. A link that leads nowhere is a fault.
"""

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
LANGUAGES = {"Containerfile": "docker", "json": "json", "py": "python", "toml": "toml", "yml": "yaml", "html": "html"}
LANGUAGES |= {"service": "ini", "socket": "ini", "svg": "xml"}
SECTIONS = {"tutorial": "Tutorial", "how-to": "How-to", "reference": "Reference"}
SECTIONS |= {"zh": "中文", "zh/tutorial": "中文教程"}


class Fault(Exception):
    """The sources of the site are wrong; each argument is the text of one fault."""


def prose(text: str) -> Iterator[tuple[int, str, bool]]:
    """Each line with its number, and whether it is outside of blocks of code."""
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        found = FENCE.match(line)
        if fence:
            yield number, line, False
            if found and found[1].startswith(fence) and not line.strip(" `~"):
                fence = ""
        else:
            fence = found[1] if found else ""
            yield number, line, not found


class Sources:
    """All pages of the site by their paths in it, gathered before any is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pages: dict[str, str] = {}
        self.pictures: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.shown: list[Path] = []  # files that become pages because a page links to them
        markdown = sorted(path.name for path in root.glob("*.md"))
        self.at_root = {name: f"{name.removesuffix('.md').lower()}.md" for name in markdown}

    def gather(self, reference: dict[str, str]) -> None:
        """Take the pages of the repository and those of the reference; raise ``Fault`` if a link is dead."""
        for path in [*sorted((self.root / "docs").rglob("*")), *(self.root / name for name in self.at_root)]:
            if path.suffix == ".md":
                self.pages[self.place(path)] = self.rewritten(path)
            elif path.is_file():
                self.pictures[self.place(path)] = path.read_bytes()
        for path in self.shown:  # grows while folders among them name their files
            self.pages[self.place(path)] = self.listing(path) if path.is_dir() else source_page(path, self.root)
        self.pages |= reference
        if self.faults:
            raise Fault(*self.faults)
        self.pages["index.md"] += self.navigation()

    def place(self, path: Path) -> str:
        """The path in the site of a file or folder of the repository."""
        name = path.relative_to(self.root).as_posix()
        if name in self.at_root:
            return self.at_root[name]
        if path.is_dir():
            pages = sorted((self.place(page) for page in path.glob("*.md")), key=order)
            return pages[0] if pages else f"source/{name}/index.md"
        return name.removeprefix("docs/") if name.startswith("docs/") else f"source/{name}.md"

    def rewritten(self, path: Path) -> str:
        """The text of a page, its links those of the site."""
        lines, titles = [], 0
        for number, line, is_prose in prose(path.read_text()):
            lines.append(LINK.sub(partial(self.moved, path, number), line) if is_prose else line)
            titles += is_prose and line.startswith("# ")
        if titles != 1:
            self.faults.append(f"{path.relative_to(self.root)}: a page has one title, not {titles}")
        return "\n".join(lines) + "\n"

    def moved(self, path: Path, number: int, found: re.Match[str]) -> str:
        """A link in a line of a page, as it is in the site."""
        target = Path(os.path.normpath(path.parent / found[1]))
        if not target.exists() or self.root not in target.parents:
            self.faults.append(f"{path.relative_to(self.root)}:{number}: there is no {found[1]}")
            return found[0]
        return self.link(self.place(path), target) + (found[2] or "")

    def link(self, place: str, target: Path) -> str:
        """The link from a page of the site to a file or folder of the repository, which becomes a page, too."""
        there = self.place(target)
        if there.startswith("source/") and target not in self.shown:
            self.shown.append(target)
        return os.path.relpath(there, Path(place).parent)

    def listing(self, folder: Path) -> str:
        """A page with the files of a folder."""
        place, name = self.place(folder), folder.relative_to(self.root)
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
        links = "\n".join(f"- [`{path.name}`]({self.link(place, path)})" for path in files)
        return f"---\norphan: true\n---\n# `{name}`\n\n{links}\n"

    def navigation(self) -> str:
        """The navigation: the links of ``docs/index.md`` by its headings, then the pages that it does not name."""
        sections: dict[str, list[tuple[str, str]]] = {}
        section = ""
        for line in self.pages["index.md"].splitlines():
            if line.startswith("## "):
                section = line.removeprefix("## ")
                sections[section] = []
            for text, target in re.findall(r"\[([^]]+)\]\(([^)#]+\.md)\)", line):
                sections[section].append((text, target))
        if "reference/index.rst" in self.pages:
            sections.setdefault("Reference", []).insert(0, ("Every public name", "reference/index.rst"))
        named = {target for entries in sections.values() for _, target in entries} | {"index.md"}
        for place in sorted(self.pages, key=order):
            folder = place.rpartition("/")[0]
            if place not in named and folder.partition("/")[0] not in ("source", "reference"):
                default = "Project" if place in self.at_root.values() else "Topics"
                sections.setdefault(SECTIONS.get(folder, default), []).append(("", place))
        return "".join(toctree(caption, entries) for caption, entries in sections.items() if entries)

    def write(self, folder: Path) -> None:
        """Write what has changed, so that only this is built again, and remove what is no longer there."""
        files = {**{place: text.encode() for place, text in self.pages.items()}, **self.pictures}
        for old in sorted(folder.rglob("*"), reverse=True):
            if old.is_file() and old.relative_to(folder).as_posix() not in files:
                old.unlink()
        for place, content in files.items():
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)


def order(place: str) -> tuple[str, bool, str]:
    """The place in the navigation: by the folders, and in each of them its README first."""
    folder, _, name = place.rpartition("/")
    return folder, name != "README.md", name


def toctree(caption: str, entries: list[tuple[str, str]]) -> str:
    lines = [f"{text} <{place.rpartition('.')[0]}>" if text else place.rpartition(".")[0] for text, place in entries]
    return "\n```{toctree}\n:hidden:\n:caption: " + caption + "\n\n" + "\n".join(lines) + "\n```\n"


def source_page(path: Path, root: Path) -> str:
    """A page that shows a file, whose text may hold fences itself."""
    name, text = path.relative_to(root), path.read_text()
    language = LANGUAGES.get(path.suffix.removeprefix(".") or path.name, "text")
    fence = "`" * (2 + max(map(len, re.findall("`+", text)), default=1))
    return f"---\norphan: true\n---\n# `{name}`\n\n{fence}{language}\n{text}{fence}\n"
