"""Pictures of results, in a terminal, a page or a figure: one module for each kind of x.

One color means one thing everywhere: blue raises the score, orange lowers it, the
scale is symmetric around zero, and the largest value has the full color. Blue and orange
are told apart with every kind of color blindness. Values are drawn as they are: nothing
is normalized unless a label says so, and panels of a figure share their scale. What is
not to be trusted is marked: error bars and bands, hatched pixels, a note below the axes.

`text.plain` and `text.ansi` need nothing but igjax; pages, `text.html` and `pages.report`,
need jinja2. What draws a figure needs matplotlib; it takes an `ax` or makes a figure of its
own (without pyplot, so nothing global changes) and returns the axes. `axes.figure` as the
last value of a notebook's cell is shown there, and so is a page. `igjax[plots]` installs
both.
"""

from igjax.plots import (
    diagnostics as diagnostics,
    features as features,
    images as images,
    interactions as interactions,
    layers as layers,
    pages as pages,
    signals as signals,
    text as text,
)

__all__ = [
    "diagnostics",
    "features",
    "images",
    "interactions",
    "layers",
    "pages",
    "signals",
    "text",
]
