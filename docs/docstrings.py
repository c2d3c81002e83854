"""Docstrings as reStructuredText, so that they can be written to be read in a terminal.

They have `code` in single backticks, $formulas$ and $$displays$$. A public name in
backticks becomes a link to its entry, here and on all pages; everything else is code.
"""

import functools
import re
from typing import Any

import reference
from docutils import nodes
from sphinx import addnodes
from sphinx.domains.python import PythonDomain
from sphinx.transforms.post_transforms import SphinxPostTransform

DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
# Code, formulas, and signs that would be markup there: those of |x| and of (x, *args).
PIECES = re.compile(
    r"(?<![\w`:\\])`([^`]+)`(?!`)(\w?)|\$([^$\n]+)\$"
    r"|(\||(?<=[ (])\*(?=\w)(?![^*\n]*\w\*))"
)
NAMES = set(reference.names())


def converted(name: str, lines: list[str]) -> list[str]:
    """The lines of the docstring of `name`, in reStructuredText."""
    text = DISPLAY.sub(_display, "\n".join(lines))
    piece = functools.partial(_piece, name)
    return [
        line if line.lstrip().startswith((">>>", "...")) else PIECES.sub(piece, line)
        for line in text.split("\n")
    ]


def _display(match: re.Match) -> str:
    line = match.string[: match.start()].rpartition("\n")[2]
    indent = " " * (len(line) - len(line.rstrip(" ")))
    formula = " ".join(match[1].split()).replace("|", r"\vert ")
    return f".. math::\n\n{indent}    {formula}\n"


def _piece(within: str, match: re.Match) -> str:
    code, letter, formula, sign = match.groups()
    if sign:
        return rf"\{sign}"
    if formula is not None:
        return f":math:`{formula}`"
    escape = rf"\ {letter}" if letter else ""  # a markup may not end within a word
    if target := _target(within, code):
        return f":py:obj:`{code} <{target}>`{escape}"
    return f"``{code}``{escape}"


def _target(within: str, code: str) -> str | None:
    """The public name that is meant by `code` in the docstring of a name, if any."""
    called = re.fullmatch(r"([\w.]+)(\(.*\))?", code)
    scopes = ["", "igjax.", within.rpartition(".")[0] + ".", within + "."]
    names = [scope + called[1] for scope in scopes] if called else []
    return next((name for name in names if name in NAMES and name != within), None)


def _convert(app, what, name, thing, options, lines):
    lines[:] = converted(name, lines)


class Links(SphinxPostTransform):
    """Makes links of the public names in the text of all pages."""

    default_priority = 5  # ahead of the one that finds where links lead

    def run(self, **kwargs):
        """Wraps each literal that is a public name in a reference."""
        about = {"refdomain": "py", "reftype": "obj", "refexplicit": True}
        for code in list(self.document.findall(nodes.literal)):
            target = _target("igjax", code.astext())
            if target and not linked(code.parent):
                about |= {"reftarget": target, "refdoc": self.env.docname}
                link = addnodes.pending_xref("", code.deepcopy(), refwarn=True, **about)
                code.replace_self(link)


def linked(node) -> bool:
    """Whether what a node holds is a title, or leads somewhere already."""
    kinds = nodes.title, nodes.reference, addnodes.pending_xref
    return node is not None and (isinstance(node, kinds) or linked(node.parent))


def _skip(app, what, name, thing, skip, options):
    """Fields of named tuples are told in the docstring of the class."""
    return True if type(thing).__name__ == "_tuplegetter" else None


def setup(app):
    """Connects the conversion, ahead of napoleon's."""
    directive: Any = PythonDomain.directives["class"]
    for field in directive.doc_field_types:
        field.label = "Attributes" if field.name == "variable" else field.label
    app.add_post_transform(Links)
    app.connect("autodoc-process-docstring", _convert, priority=400)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
