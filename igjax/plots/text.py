"""Sentences with a value for each word: plain, in a terminal, as a page, in a figure.

And tables of a value for each token that was predicted and each that it was predicted from.
"""

from igjax.plots._html import html as html
from igjax.plots._targets import (
    table as table,
    table_ansi as table_ansi,
    table_html as table_html,
    table_plain as table_plain,
)
from igjax.plots._terminal import ansi as ansi, plain as plain
from igjax.plots._tokens import tokens as tokens

__all__ = [
    "ansi",
    "html",
    "plain",
    "table",
    "table_ansi",
    "table_html",
    "table_plain",
    "tokens",
]
