"""Changes of a page that Sphinx has read: links to the reference, and room in tables.

Names of goev in the text, written as code as in ``Connection.write``, become links to their descriptions.
"""

import re
from collections import Counter

from docutils import nodes
from sphinx.application import Sphinx

NAME = re.compile(r"([A-Za-z_][\w.]*)(?:\(.*\))?")
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


def is_inside(node: nodes.Node, *kinds: type[nodes.Node]) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False
