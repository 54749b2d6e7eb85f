"""How Sphinx builds the site. ``make docs`` calls it; see docs/architecture.md for the choice."""

import sys
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))
from links import join_lines, link_names, mark_long_cells
from search import BothLanguages

import goev

project = "goev"
author = "the goev authors"
release = version = goev.__version__
language = "en"

extensions = ["myst_parser"]
myst_enable_extensions = ["html_image"]
myst_heading_anchors = 6
myst_links_external_new_tab = False
suppress_warnings = ["myst.strikethrough"]
add_module_names = False
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "goev"
html_static_path = ["static"]
html_favicon = "static/icon.svg"
html_css_files = ["site.css"]
html_js_files = ["copy.js"]
html_search_language = BothLanguages.lang
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
templates_path: list[str] = []
pygments_style = "friendly"
pygments_dark_style = "github-dark"


def setup(app: Sphinx) -> None:
    app.add_search_language(BothLanguages)
    app.add_lexer("logrotate", TextLexer)  # Pygments knows no better
    app.connect("doctree-resolved", link_names)
    app.connect("doctree-resolved", mark_long_cells)
    app.connect("doctree-resolved", join_lines)
