"""Docstrings as reStructuredText, so that they can be written to be read in a terminal.

They have `code` in single backticks, $formulas$ and $$displays$$. A name in backticks that
is public becomes a link, everything else is code.
"""

import re

import reference

DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
# Code, formulas, and signs that would be markup there: those of |x| and of (x, *args).
PIECES = re.compile(
    r"(?<![\w`:\\])`([^`]+)`(?!`)(\w?)|\$([^$\n]+)\$"
    r"|(\||(?<=[ (])\*(?=\w)(?![^*\n]*\w\*))"
)
NAMES = {
    alias: name
    for name in reference.names()
    for alias in (name, name.removeprefix("igjax."))
}


def converted(lines: list[str]) -> list[str]:
    """The lines of a docstring, in reStructuredText."""
    text = DISPLAY.sub(_display, "\n".join(lines))
    return [
        line if line.lstrip().startswith((">>>", "...")) else PIECES.sub(_piece, line)
        for line in text.split("\n")
    ]


def _display(match: re.Match) -> str:
    before = match.string[: match.start()]
    indent = re.search(r"[ ]*$", before.rpartition("\n")[2])[0]
    formula = " ".join(match[1].split())
    return f".. math::\n\n{indent}    {formula}\n"


def _piece(match: re.Match) -> str:
    code, letter, formula, sign = match.groups()
    if sign:
        return rf"\{sign}"
    if formula is not None:
        return f":math:`{formula}`"
    escape = rf"\ {letter}" if letter else ""  # a markup may not end within a word
    name = NAMES.get(code.partition("(")[0])
    if name and code.endswith((")", name.rpartition(".")[2])):
        return f":py:obj:`{code} <{name}>`{escape}"
    return f"``{code}``{escape}"


def _convert(app, what, name, thing, options, lines):
    lines[:] = converted(lines)


def _skip(app, what, name, thing, skip, options):
    """Fields of named tuples are told in the docstring of the class."""
    return True if type(thing).__name__ == "_tuplegetter" else None


def setup(app):
    """Connects the conversion, ahead of napoleon's."""
    app.connect("autodoc-process-docstring", _convert, priority=400)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
