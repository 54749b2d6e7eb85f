"""Rust sources as the rules of the architecture see them: the code without its tests, and the paths that it names.

This is no compiler. A tokenizer tells code from comments and strings, and a path is resolved by the names of the files.
Types are not known and re-exports not followed: an item that a ``mod.rs`` hands on is an item of that ``mod.rs``.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

HIDDEN = re.compile(
    r"""
      (?P<comment> //[^\n]* )
    | (?P<block> /\* )
    | (?P<raw> \b[bc]?r(?P<hashes>\#*)" )
    | (?P<string> (?:\b[bc])?" (?: \\. | [^"\\] )* " )
    | (?P<char> (?:\bb)?' (?: \\(?:x[0-9a-fA-F]{2} | u\{[^}]*\} | .) | [^'\\\n] ) ' )
    """,
    re.VERBOSE | re.DOTALL,
)
TEST_ATTRIBUTE = re.compile(r"#\s*\[\s*cfg\s*\(\s*(?:test|all\s*\((?:[^()]*,)?\s*test\s*(?:,[^\]]*)?\))\s*\)\s*\]")
VISIBILITY = r"(?:pub\s*(?:\([^)]*\)\s*)?)?"
# A statement ends at its semicolon; an item ends at its closing brace, or at its semicolon where it has no brace.
STATEMENT = re.compile(VISIBILITY + r"(?:use|const(?!\s+(?:unsafe\s+)?fn)|static|type|let|extern\s+crate)\b")
ITEM = re.compile(VISIBILITY + r"(?:fn|mod|impl|trait|struct|enum|union|unsafe|async|extern|const|macro_rules)\b")
MODULE = re.compile(r"\bmod\s+(\w+)\s*(;|\{)")
USE = re.compile(r"\buse\b(?!\s*<)([^;]*);")
RESTRICTED = re.compile(r"\bpub\s*\(\s*in\b[^)]*\)")
INLINE = re.compile(r"(?<![\w:'>])(?:\$\s*)?(?:::\s*)?\w+(?:\s*::\s*\w+)+")


class Reference(NamedTuple):
    """A path of the crate that code names."""

    line: int
    # From the root of the crate: ("poller", "call", "Call").
    path: tuple[str, ...]
    # The file of the innermost module in it, and the items behind that module: ("Call",); ("*",) for all of them.
    file: str
    items: tuple[str, ...]


class Use(NamedTuple):
    """One leaf of a ``use`` declaration."""

    at: int
    path: tuple[str, ...]
    # The name that it brings into scope; None for ``*`` and ``_``.
    alias: str | None


def blank(text: str) -> str:
    """As many spaces as the text has characters, in the same lines."""
    return re.sub(r"[^\n]", " ", text)


def names_in(path: str) -> tuple[str, ...]:
    """The names of a path as it is written. The first is empty where the path begins with ``::``, in another crate."""
    return (*([""] if path.startswith("::") else []), *re.findall(r"\w+|\*", path))


def code_of(text: str) -> str:
    """A source with spaces in the place of its comments and of the insides of its strings."""
    parts, at = [], 0
    while found := HIDDEN.search(text, at):
        parts.append(text[at : found.start()])
        if found["block"]:
            end = end_of_block_comment(text, found.start())
            hidden = blank(text[found.start() : end])
        elif found["raw"]:
            closing = text.find('"' + found["hashes"], found.end())
            end = len(text) if closing < 0 else closing + 1 + len(found["hashes"])
            hidden = found[0] + blank(text[found.end() : end - 1 - len(found["hashes"])]) + '"' + found["hashes"]
        elif found["comment"]:
            end, hidden = found.end(), blank(found[0])
        else:
            end = found.end()
            prefix = found[0].index(found[0][-1]) + 1
            hidden = found[0][:prefix] + blank(found[0][prefix:-1]) + found[0][-1]
        parts.append(hidden)
        at = end
    return "".join([*parts, text[at:]])


def end_of_block_comment(text: str, start: int) -> int:
    """The end of a block comment, which may have others inside."""
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(text, start):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)


def closing_of(code: str, opening: int) -> int:
    """The place of the bracket that closes the one at ``opening``."""
    depth = 0
    for mark in re.compile(r"[()\[\]{}]").finditer(code, opening):
        depth += 1 if mark[0] in "([{" else -1
        if depth == 0:
            return mark.start()
    return len(code)


def end_of_item(code: str, start: int) -> int:
    """The end of the item, statement, field or match arm at ``start``, where further attributes may come first."""
    at = start
    while attribute := re.compile(r"\s*#\s*\[").match(code, at):
        at = closing_of(code, attribute.end() - 1) + 1
    at += len(code[at:]) - len(code[at:].lstrip())
    is_statement = STATEMENT.match(code, at)
    is_item = not is_statement and ITEM.match(code, at)
    begins_with_brace = code.startswith("{", at)
    while at < len(code):
        mark = code[at]
        if mark in "([{":
            at = closing_of(code, at)
            if mark == "{" and (is_item or begins_with_brace):
                return at + 1
        elif mark == ";" or (mark == "," and not (is_statement or is_item)):
            return at + 1
        elif mark in ")]}":
            return at
        at += 1
    return len(code)


def spans_of_tests(code: str) -> list[tuple[int, int]]:
    """The places of the items that are compiled for tests only, with their attributes."""
    spans, at = [], 0
    while found := TEST_ATTRIBUTE.search(code, at):
        at = end_of_item(code, found.end())
        spans.append((found.start(), at))
    return spans


def leaves(tree: str, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """The paths of a use tree, with the names that they bring into scope."""
    tree = tree.strip()
    if "{" in tree:
        head, _, inner = tree.partition("{")
        prefix += names_in(head)
        depth, begin, inner = 0, 0, inner[: inner.rindex("}")]
        for at, mark in enumerate(inner + ","):
            depth += (mark == "{") - (mark == "}")
            if mark == "," and depth == 0:
                yield from leaves(inner[begin:at], prefix)
                begin = at + 1
        return
    path, _, alias = " ".join(tree.split()).partition(" as ")
    if not path:
        return
    names = prefix + names_in(path)
    if names[-1] == "self" and prefix:
        names = names[:-1]
    bound = alias or names[-1]
    yield names, None if bound in ("*", "_") else bound


class Source:
    """One file."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text

    @cached_property
    def code(self) -> str:
        """Without comments and the insides of strings."""
        return code_of(self.text)

    @cached_property
    def spans(self) -> list[tuple[int, int]]:
        """The places of its tests."""
        whole = re.search(r"#!\s*\[\s*cfg\s*\(\s*test\s*\)\s*\]", self.code)
        return [(0, len(self.code))] if whole else spans_of_tests(self.code)

    def without_tests(self, text: str) -> str:
        for start, end in self.spans:
            text = text[:start] + blank(text[start:end]) + text[end:]
        return text

    @cached_property
    def live(self) -> str:
        """The code without its tests."""
        return self.without_tests(self.code)

    @cached_property
    def comments(self) -> str:
        """The comments and strings outside of tests."""
        pairs = zip(self.without_tests(self.text), self.code, strict=True)
        return "".join(char if char == "\n" or char != kept else " " for char, kept in pairs)

    @cached_property
    def length(self) -> int:
        """Lines outside of its tests."""
        tests = sum(self.text.count("\n", start, end) + 1 for start, end in self.spans)
        return max(0, len(self.text.splitlines()) - tests)

    def line(self, at: int) -> int:
        return self.text.count("\n", 0, at) + 1

    @property
    def module(self) -> tuple[str, ...]:
        """Its module's path from the root of the crate."""
        parts = self.name.removesuffix(".rs").split("/")[1:]
        return tuple(parts[:-1] if parts[-1] in ("mod", "lib") else parts)

    @cached_property
    def inline_modules(self) -> list[tuple[int, int, str]]:
        """Modules that have their bodies in this file: begin and end of the body, and the name."""
        bodies = [found for found in MODULE.finditer(self.live) if found[2] == "{"]
        return [(found.end(), closing_of(self.live, found.end() - 1), found[1]) for found in bodies]

    def module_at(self, at: int) -> tuple[str, ...]:
        """The path of the module that the code at a place belongs to."""
        return self.module + tuple(name for start, end, name in self.inline_modules if start <= at < end)

    @cached_property
    def uses(self) -> list[Use]:
        found = USE.finditer(self.live)
        return [Use(use.start(), path, alias) for use in found for path, alias in leaves(use[1])]

    @cached_property
    def inline_paths(self) -> list[tuple[int, tuple[str, ...]]]:
        """Paths of two names and more outside of ``use``."""
        code = RESTRICTED.sub(lambda found: blank(found[0]), USE.sub(lambda found: blank(found[0]), self.live))
        return [(found.start(), names_in(found[0])) for found in INLINE.finditer(code)]

    @cached_property
    def paths(self) -> list[tuple[int, tuple[str, ...]]]:
        """All paths as they are written, with their lines; those into other crates are among them."""
        paths = [(use.at, use.path) for use in self.uses] + self.inline_paths
        return [(self.line(at), path) for at, path in sorted(paths)]


class Crate:
    """All sources of a crate, by their names from the root of the repository: ``src/poller/mod.rs``."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        tests = {name for source in sources.values() for name in modules_for_tests(source)}
        self.sources = {name: source for name, source in sources.items() if not is_below(source.module, tests)}
        self.files = {source.module: name for name, source in self.sources.items()}
        self.modules = set(self.files)
        for source in self.sources.values():
            self.modules |= {source.module_at(start) for start, _, _ in source.inline_modules}

    @classmethod
    def of_texts(cls, texts: Mapping[str, str]) -> "Crate":
        return cls({name: Source(name, text) for name, text in texts.items()})

    def with_texts(self, texts: Mapping[str, str]) -> "Crate":
        """The same crate with other texts for some files."""
        return Crate(self.sources | {name: Source(name, text) for name, text in texts.items()})

    def references(self, source: Source) -> list[Reference]:
        """The paths into other files of this crate that the code of a source names, from top to bottom."""
        aliases = self._aliases(source)
        named = [(use.at, use.path) for use in source.uses] + source.inline_paths
        found = []
        for at, names in sorted(named):
            path = self._resolve(source.module_at(at), names, aliases)
            if path is None:
                continue
            outwards = (path[:length] for length in range(len(path), -1, -1))
            module = next((module for module in outwards if module in self.files), ())
            file = self.files.get(module, source.name)
            if file != source.name:
                found.append(Reference(source.line(at), path, file, path[len(module) :]))
        return found

    def _aliases(self, source: Source) -> dict[tuple[tuple[str, ...], str], tuple[str, ...]]:
        """The names that ``use`` brings into each module of a file, as far as they are of this crate."""
        aliases: dict[tuple[tuple[str, ...], str], tuple[str, ...]] = {}
        before = -1
        while len(aliases) != before:
            before = len(aliases)
            for use in source.uses:
                module = source.module_at(use.at)
                path = self._resolve(module, use.path, aliases)
                if use.alias and path is not None and (module, use.alias) not in aliases:
                    aliases[module, use.alias] = path
        return aliases

    def _resolve(
        self,
        module: tuple[str, ...],
        names: tuple[str, ...],
        aliases: Mapping[tuple[tuple[str, ...], str], tuple[str, ...]],
    ) -> tuple[str, ...] | None:
        """A path from the root of the crate; None for one of another crate."""
        first, rest = names[0], names[1:]
        if first == "crate":
            return rest
        if first in ("self", "super"):
            base = module if first == "self" else module[:-1]
            while rest[:1] == ("super",):
                base, rest = base[:-1], rest[1:]
            return base + rest
        if (*module, first) in self.modules:
            return module + names
        known = aliases.get((module, first))
        return None if known is None else known + rest

    @cached_property
    def edges(self) -> dict[tuple[str, str], int]:
        """The imports between files, with the first line of each."""
        edges: dict[tuple[str, str], int] = {}
        for source in self.sources.values():
            for reference in self.references(source):
                edges.setdefault((source.name, reference.file), reference.line)
        return edges


def modules_for_tests(source: Source) -> set[tuple[str, ...]]:
    """The modules in files of their own that are compiled for tests only."""
    declared = [found for found in MODULE.finditer(source.code) if found[2] == ";"]
    inside = [found for found in declared if any(start <= found.start() < end for start, end in source.spans)]
    return {(*source.module, found[1]) for found in inside}


def is_below(module: tuple[str, ...], tops: Collection[tuple[str, ...]]) -> bool:
    """Whether a module is one of ``tops``, or inside one."""
    return any(module[: len(top)] == top for top in tops)


def circles(edges: Collection[tuple[str, str]], one: Collection[str] = ()) -> list[set[str]]:
    """The sets of files that reach one another by imports. Those in ``one`` count as a single file."""

    def node(file: str) -> str:
        return "" if file in one else file

    ahead: dict[str, set[str]] = {}
    for start, end in edges:
        ahead.setdefault(node(start), set()).add(node(end))
    reach = {start: reachable(start, ahead) for start in ahead}
    found: list[set[str]] = []
    for start in sorted(reach):
        together = {end for end in reach[start] if start in reach.get(end, ())}
        if len(together) > 1 and together not in found:
            found.append(together)
    files = {file for edge in edges for file in edge}
    return [{file for file in files if node(file) in together} for together in found]


def reachable(start: str, ahead: Mapping[str, Collection[str]]) -> set[str]:
    """Everything that can be reached from ``start`` by one step and more."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for end in ahead.get(waiting.pop(), ()):
            if end not in seen:
                seen.add(end)
                waiting.append(end)
    return seen
