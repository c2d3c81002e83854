"""Pictures of results: sentences, tables and images, in a terminal, a page or a figure.

One color means one thing everywhere: blue raises the score, orange lowers it, the
scale is symmetric around zero, and the largest value has the full color. Blue and orange
are told apart with every kind of color blindness.

`text.plain`, `text.ansi` and `text.html` need nothing but igjax. What draws a figure needs
matplotlib, and says how to install it; it takes an `ax` or makes a figure of its own
(without pyplot, so nothing global changes) and returns the axes.
"""

from igjax.plots import features as features, text as text

__all__ = ["features", "text"]
