"""The one color scale: orange, white, blue, symmetric around zero.

A scale that is not symmetric makes a weak value of one sign look like a strong one of
the other, so the limits are always plus and minus the largest size.
"""

import math
import re

import numpy as np

NEGATIVE = (196, 78, 0)
POSITIVE = (0, 110, 178)
BRIGHTEST = 0.9  # of viridis, that is seen on white


def limit(values, quantile: float | None = None) -> float:
    """The size that gets the full color: the largest finite one, 1 if all are zero.

    With a quantile it is that one of the finite sizes, unless it is zero.

    Raises:
        ValueError: if the quantile is not in (0, 1].
    """
    if quantile is not None and not 0 < quantile <= 1:
        raise ValueError(
            f"limit must be a quantile of the sizes, in (0, 1], got {quantile}. Default: "
            "the largest size has the full color."
        )
    sizes = np.abs(np.asarray(values, np.float64))
    sizes = sizes[np.isfinite(sizes)]
    if quantile is not None and sizes.size and (q := float(np.quantile(sizes, quantile))):
        return q
    return float(sizes.max(initial=0.0)) or 1.0


def share(value: float, limit: float) -> float:
    """The strength of a color in [-1, 1]; what is not finite has none."""
    return value / limit if math.isfinite(value) else 0.0


def by_size(values: np.ndarray) -> np.ndarray:
    """The places of the values, the largest first; what is no number goes before all."""
    size = np.where(np.isnan(values), np.inf, np.abs(values))
    return np.argsort(-size, kind="stable")


def number(value: float, limit: float, digits: int = 3) -> str:
    """A signed number, to as many places as give the limit that many digits."""
    if value == 0 or not math.isfinite(value):
        return f"{value:+}" if value else "0"
    places = digits - 1 - math.floor(math.log10(limit))
    if not -3 <= places <= 8:
        return f"{value:+.{digits - 1}e}"
    text = f"{value:+.{max(places, 0)}f}"
    return text if float(text) else text.replace("-", "+")  # no negative zero


def size(error: float) -> str:
    """An error, to two digits."""
    if error == 0 or 100 <= error < 1e6:
        return f"{error:.0f}"
    return f"{error:#.2g}".removesuffix(".")


def short(value) -> str:
    """What a feature is, as a label tells it: a number to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def typeset(text: str) -> str:
    """Text for print: its numbers with a real minus, as wide as a plus."""
    return re.sub(r"(?<!\w)-(?=\d)", "\N{MINUS SIGN}", text)


def sides(values) -> np.ndarray:
    """The full colors of the signs, RGB in [0, 1], of shape (..., 3)."""
    negative = np.asarray(values)[..., None] < 0
    return np.where(negative, NEGATIVE, POSITIVE) / 255


def mappable(limit: float, negative: bool = True):
    """The scale as matplotlib wants it, from -limit or zero to limit."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    ends = [tuple(c / 255 for c in color) for color in (NEGATIVE, POSITIVE)]
    colors = [ends[0], (1.0, 1.0, 1.0), ends[1]]
    low, colors = (-limit, colors) if negative else (0.0, colors[1:])
    return ScalarMappable(
        Normalize(low, limit), LinearSegmentedColormap.from_list("igjax", colors)
    )


def low_to_high():
    """Another scale, of what has no sign: from dark to bright, gray for what is unknown."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    shades = colormaps["viridis"](np.linspace(0, BRIGHTEST, 256))
    colors = LinearSegmentedColormap.from_list("igjax_low_to_high", shades)
    return ScalarMappable(Normalize(0, 1), colors.with_extremes(bad="0.75"))


def ink(color) -> str:
    """Black or white, whichever is read more easily on an RGB color in [0, 1]."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if luminance > 0.179 else "white"
