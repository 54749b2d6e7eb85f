"""Changes of a page that Sphinx has read: links to the reference, and room in tables.

Names of goev in the text, written as code as in ``Connection.write``, become links to their descriptions.
"""

import re

from docutils import nodes
from sphinx.application import Sphinx

NAME = re.compile(r"(?:goev\.)?([A-Za-z_][\w.]*)(?:\(.*\))?")
LONG = 60  # characters of a cell that are better read in a few wide lines than in many narrow ones


def link_names(app: Sphinx, document: nodes.document, place: str) -> None:
    """Link each piece of code that is a public name, but for those in headings and in links."""
    objects = {name: (entry.docname, entry.node_id) for name, entry in app.env.domains.python_domain.objects.items()}
    for literal in list(document.findall(nodes.literal)):
        found = NAME.fullmatch(literal.astext())
        target = objects.get(f"goev.{found[1]}") if found else None
        if target is None or is_inside(literal, nodes.reference, nodes.title) or "." not in literal.astext():
            continue
        uri = app.builder.get_relative_uri(place, target[0])
        reference = nodes.reference("", "", internal=True, refuri=f"{uri}#{target[1]}")
        literal.replace_self(reference)
        reference += literal


def mark_long_cells(app: Sphinx, document: nodes.document, place: str) -> None:
    """Give cells with much text a class, by which they get a width that is good to read."""
    for cell in document.findall(nodes.entry):
        if len(cell.astext()) > LONG:
            cell["classes"].append("long")


def is_inside(node: nodes.Node, *kinds: type[nodes.Node]) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False
