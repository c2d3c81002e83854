"""Formulas as MathML, which browsers draw by themselves: no script, and no other host."""

from docutils.nodes import SkipNode
from latex2mathml.converter import convert


def inline(translator, node):
    """A formula in a line of text."""
    translator.body.append(convert(node.astext(), display="inline"))
    raise SkipNode  # what it holds has been written


def display(translator, node):
    """A formula on a line of its own, which scrolls where the screen is narrow."""
    translator.body.append(
        f'<div class="formula">{convert(node.astext(), display="block")}</div>'
    )
    raise SkipNode  # what it holds has been written


def setup(app):
    """Registers the renderer."""
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
