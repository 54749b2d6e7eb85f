"""Changes of a page that Sphinx has read: links to the reference, room in tables, and lines of Chinese in one piece.

Names of goev in the text, written as code as in ``Connection.write``, become links to their descriptions.
"""

import re
from collections import Counter
from itertools import groupby

from docutils import nodes
from search import CHINESE
from sphinx.application import Sphinx

NAME = re.compile(r"([A-Za-z_][\w.]*)(?:\(.*\))?")
SIGNS = "\u3000-\u303f\uff00-\uffef"  # the punctuation of Chinese
# The end of a line at which Chinese has no space. A browser would show one.
WRAPPED = re.compile(rf"(?<=[{CHINESE}])\n(?=[{CHINESE}])|(?<=[{SIGNS}])\n|\n(?=[{SIGNS}])")
LONG = 60  # characters of a cell that are better read in a few wide lines than in many narrow ones


def link_names(app: Sphinx, document: nodes.document, place: str) -> None:
    """Link each piece of code that is a public name, but for those in headings and in links."""
    targets = targets_of(app)
    for literal in list(document.findall(nodes.literal)):
        found = NAME.fullmatch(literal.astext())
        if found is None or found[1] not in targets or is_inside(literal, nodes.reference, nodes.title):
            continue
        page, anchor = targets[found[1]]
        uri = app.builder.get_relative_uri(place, page)
        reference = nodes.reference("", "", internal=True, refuri=f"{uri}#{anchor}")
        literal.replace_self(reference)
        reference += literal


def targets_of(app: Sphinx) -> dict[str, tuple[str, str]]:
    """Page and anchor by each way to write a name: ``goev.http.Request``, ``http.Request``, and ``Acceptor``.

    A name without a point is a class of ``goev`` that no other module has. Other such names are words of any program.
    """
    objects = {name: (entry.docname, entry.node_id) for name, entry in app.env.domains.python_domain.objects.items()}
    targets = {name: target for name, target in objects.items() if "." in name}
    targets |= {short: target for name, target in targets.items() if "." in (short := name.removeprefix("goev."))}
    ends = Counter(name.rpartition(".")[2] for name in objects)
    top = (name.removeprefix("goev.") for name in objects if re.fullmatch(r"goev\.[A-Z][a-z]\w+", name))
    return targets | {name: objects[f"goev.{name}"] for name in top if ends[name] == 1}


def mark_long_cells(app: Sphinx, document: nodes.document, place: str) -> None:
    """Give cells with much text a class, by which they get a width that is good to read."""
    for cell in document.findall(nodes.entry):
        if len(cell.astext()) > LONG:
            cell["classes"].append("long")


def join_lines(app: Sphinx, document: nodes.document, place: str) -> None:
    """Join lines of Chinese without a space, so that the search finds a word across their ends, too."""
    for paragraph in document.findall(nodes.paragraph):
        parts: list[nodes.Node] = []
        for is_text, group in groupby(paragraph.children, lambda node: isinstance(node, nodes.Text)):
            if is_text:
                parts.append(nodes.Text(WRAPPED.sub("", "".join(node.astext() for node in group))))
            else:
                parts += group
        paragraph.clear()
        paragraph.extend(parts)


def is_inside(node: nodes.Node, *kinds: type[nodes.Node]) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False
