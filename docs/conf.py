"""The documentation site: `make docs`.

Sphinx with MyST, as JAX, Flax and Optax use it: their readers know the look, and it takes
the README, the tables of the benchmarks, the docstrings and the executed notebooks as they
are, so that nothing is written twice.
"""

import sys
from importlib.metadata import version as installed
from pathlib import Path

from docutils import nodes

sys.path.insert(0, str(Path(__file__).parent))

project = "igjax"
author = "The igjax authors"
copyright = author
version = release = installed("igjax")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "docstrings",
    "formulas",
    "pages",
]

# Notebooks come with their outputs, from `make notebooks`.
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}  # else they come from another host
myst_enable_extensions = ["attrs_block", "deflist", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.mime_priority"]

autodoc_preserve_defaults = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = False
napoleon_use_ivar = True
napoleon_use_rtype = False
# Exceptions are those of Python, whose documentation is on another host.
nitpick_ignore_regex = [("py:exc", r"\w+")]

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = "igjax"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": False, "top_of_page_buttons": []}
pygments_style = "friendly"
pygments_dark_style = "monokai"


def setup(app):
    """Takes off the blank lines at the end of examples, which doctests need."""
    app.connect("doctree-read", _without_last_lines)


def _without_last_lines(app, doctree):
    for block in doctree.findall(nodes.literal_block):
        text = block.astext().rstrip()
        block.rawsource, block.children = text, [nodes.Text(text)]
