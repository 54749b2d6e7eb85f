"""The pages of the reference: one for each module, and one for each class with many members."""

import re
import textwrap

from names import SECTION, Name, entries, modules

LARGE = 6  # members from which a class has a page of its own
START = """Reference
=========

Every public name, from its docstring and the stub file. ``help(goev.Connection)`` shows the same text.

.. rubric:: What all of them share

- Times are seconds, as ``float``; sizes are bytes, as ``int``.
- A wrong argument raises ``TypeError``, ``ValueError`` or ``OSError`` at the call. The text names the argument, the
  value and the limit.
- A method that is not for any thread raises ``goev.WrongThread`` elsewhere than on the thread of its poller.
- The callbacks, whose names begin with ``on_``, are for subclasses to define. goev calls them. Each may be
  ``async def`` if the reactor runs with ``asyncio=True``.

.. toctree::
   :maxdepth: 1

"""


def pages() -> dict[str, str]:
    """All pages by their places in the site."""
    found = {}
    for module in modules():
        large = [name for name in module.members if is_large(name)]
        found[f"reference/{module.path}.rst"] = module_page(module, large)
        for name in large:
            found[f"reference/{name.path}.rst"] = titled(name.path) + in_module(module.path) + described(name)
    names = [place.removeprefix("reference/").removesuffix(".rst") for place in found]
    tops = [name for name in names if name in {module.path for module in modules()}]
    return {"reference/index.rst": START + "".join(f"   {name}\n" for name in tops), **found}


def is_large(name: Name) -> bool:
    return not name.also and name.kind == "class" and len(name.members) >= LARGE


def titled(text: str) -> str:
    return f"{text}\n{'=' * len(text)}\n\n"


def in_module(module: str) -> str:
    return f".. py:currentmodule:: {module}\n\n"


def module_page(module: Name, large: list[Name]) -> str:
    parts = [titled(module.path), f".. py:module:: {module.path}\n\n", body(module), "\n\n", summary(module)]
    if large:
        parts.append(".. toctree::\n   :hidden:\n\n" + "".join(f"   {name.path}\n" for name in large) + "\n")
    parts += [described(name) for name in module.members if name not in large and not name.also]
    return "".join(parts)


def summary(module: Name) -> str:
    """A table of all names with the first sentence of each."""
    rows = []
    for name in module.members:
        role = {"exception": "exc", "function": "func", "data": "data"}.get(name.kind, "class")
        link = f":py:{role}:`{name.path.rpartition('.')[2]} <{name.also or name.path}>`"
        rows.append(f"   * - {link}\n     - {first(name.doc)}\n")
    return ".. list-table::\n   :widths: 30 70\n   :class: names\n\n" + "".join(rows) + "\n"


def first(doc: str) -> str:
    """The first sentence of a docstring, in one line."""
    paragraph = " ".join(doc.partition("\n\n")[0].split())
    return re.split(r"(?<=[.:]) (?=[A-Z])|: (?=subclass|each )|::$", paragraph)[0].rstrip(":")


def described(name: Name) -> str:
    """The directive of a name with its members inside."""
    local = name.path.rpartition(".")[2]
    directive = {"data": "py:data"}.get(name.kind, f"py:{name.kind}")
    options = []
    if name.kind in ("property", "attribute") and name.returns:
        options.append(f":type: {name.returns}")
    if name.is_async:
        options.append(":async:")
    if name.is_static:
        options.append(":staticmethod:")
    signature = name.signature + (f" -> {name.returns}" if name.is_callable and name.returns else "")
    head = f".. {directive}:: {local}{signature}\n" + "".join(f"   {option}\n" for option in options)
    bases = ", ".join(f"``{base}``" for base in name.bases if base not in ("tuple", "dict", "Generic"))
    parts = [f"Base: {bases}.\n\n" if bases else "", body(name), "\n\n", *(described(each) for each in name.members)]
    return head + "\n" + textwrap.indent("".join(parts), "   ") + "\n"


def body(name: Name) -> str:
    """The docstring as Sphinx reads it, its sections as lists."""
    return SECTION.sub(lambda found: listed(found[1], found[2]), name.doc)


def listed(title: str, text: str) -> str:
    if title in ("Attributes", "Keys"):  # members, with types
        return ""
    shown = {"Args": "Arguments"}.get(title, title)
    items = []
    for names, meaning in entries(text):
        head = ", ".join(f"``{name}``" for name in names)
        items.append(f"{head}\n{textwrap.indent(meaning, '   ')}\n" if head else f"{meaning}\n")
    return f".. rubric:: {shown}\n\n" + "\n".join(items) + "\n"
