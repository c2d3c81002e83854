"""Sentences with a value for each word: plain, in a terminal, as a page, in a figure."""

from igjax.plots._html import html as html
from igjax.plots._terminal import ansi as ansi, plain as plain
from igjax.plots._tokens import tokens as tokens

__all__ = ["ansi", "html", "plain", "tokens"]
