"""Interactions: how much two features do together, as a matrix or as a network.

Both take a result whose values are a square matrix, of `igjax.integrated_hessians` of one
array, of groups, or of `top_interactions`. What one feature does alone stands on
the diagonal. The matrix is symmetric, so an interaction counts twice in the sum.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from igjax.attribution import Attribution
from igjax.plots import _figures, _scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["matrix", "network"]

WRITTEN = 12  # features whose numbers fit into the cells
WIDEST = 6.0  # points, of a line
LARGEST = 24.0  # points, of a disk
DASHES = (0, (2, 0.8))


def matrix(
    result: Attribution,
    names: Sequence[str] | None = None,
    ax: "Axes | None" = None,
    *,
    limit: float | None = None,
) -> "Axes":
    """Draws all pairs of features as a heat map; up to 12 features have numbers.

    Use it to look up pairs. A cell is hatched if its error exceeds its value and a tenth
    of the full color.

    Args:
        result: of one example, with values of shape (n, n).
        names: of the n features. Default: their numbers.
        ax: axes to draw on. Default: those of a new figure.
        limit: the quantile of the sizes that gets the full color, in (0, 1]; the color
            bar says so. Default: the largest one.

    Returns:
        The axes, with a color bar beside them.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the result is a batch, a shape does not fit, or the limit is no
            quantile.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> attribute = igjax.integrated_hessians(jnp.prod)
        >>> result = attribute(jnp.array([2.0, 4.0]), jnp.zeros(2))
        >>> axes = igjax.plots.interactions.matrix(result, names=["age", "income"])
        >>> [text.get_text() for text in axes.texts]
        ['+2.00', '+2.00', '+2.00', '+2.00']
    """
    values, errors, shown = _square("matrix", result, names)
    scale = _scale.mappable(_scale.limit(values, limit))
    side = min(8.0, 1.5 + 0.42 * len(shown))
    width, height = max(4.2, side + 1.2), max(3.2, side)
    axes = ax or _figures.new_axes("matrix", width, height, "compressed")[1]
    written = len(shown) <= WRITTEN
    _figures.cells(axes, values, errors, scale, dashes=not written)
    if written:
        _write(axes, values, scale)
    places = np.arange(len(shown))
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(places, shown, parse_math=False, **slanted)
    axes.set_yticks(places, shown, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _figures.note(axes, "", result)
    _figures.color_bar(axes, scale, limit, "interaction")
    return axes


def network(
    result: Attribution,
    names: Sequence[str] | None = None,
    ax: "Axes | None" = None,
    *,
    most: int = 20,
) -> "Axes":
    """Draws features on a circle, the strongest interactions as lines between them.

    Use it to see who works with whom. The area of a disk is what a feature does alone,
    the width of a line what a pair does together, both entries of it; the key says how
    much the largest of each is. Blue and solid raise the score, orange and dashed lower
    it; faint are lines whose error exceeds their value.

    Args:
        result: of one example, with values of shape (n, n).
        names: of the n features. Default: their numbers.
        ax: axes to draw on. Default: those of a new figure.
        most: how many lines are drawn, the strongest; the note below says of how many.

    Returns:
        The axes.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the result is a batch, or a shape does not fit.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> attribute = igjax.integrated_hessians(lambda x: x[0] * x[1] + x[2])
        >>> result = attribute(jnp.array([2.0, 4.0, 1.0]), jnp.zeros(3))
        >>> axes = igjax.plots.interactions.network(result, names=["a", "b", "c"])
        >>> [text.get_text() for text in axes.texts]
        ['a', 'b', 'c']
    """
    values, errors, shown = _square("network", result, names)
    values, errors = (np.nan_to_num(a, posinf=0, neginf=0) for a in (values, errors))
    axes = ax or _figures.new_axes("network", 5.6, 5.8)[1]
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(shown)) / len(shown)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    pairs, doubts = values + values.T, errors + errors.T
    alone = np.diag(values)
    first, second = np.triu_indices(len(shown), 1)
    limit, largest = _scale.limit(pairs[first, second]), _scale.limit(alone)
    order = np.argsort(-np.abs(pairs[first, second]), kind="stable")
    kept = [k for k in order if pairs[first[k], second[k]]][:most]
    for k in reversed(kept):
        i, j = first[k], second[k]
        pair, doubt = float(pairs[i, j]), float(doubts[i, j])
        _line(axes, points[[i, j]], pair / limit, faint=doubt > abs(pair))
    areas = LARGEST**2 * np.abs(alone) / largest
    axes.scatter(*points.T, s=areas, c=_scale.sides(alone), zorder=3)
    axes.scatter(*points.T, s=4, c="0.1", zorder=4)
    for (x, y), name in zip(points.tolist(), shown, strict=True):
        _name(axes, (x, y), name)
    axes.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    _key(axes, limit, largest)
    pairs_told = np.count_nonzero(pairs[first, second])
    cut = f"the strongest {len(kept)} of {pairs_told} interactions"
    _figures.note(axes, cut if len(kept) < pairs_told else "", result)
    return axes


def _square(caller: str, result: Attribution, names):
    values, errors = _figures.arrays(caller, result)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ValueError(
            f"{caller}: values must be a square matrix, got shape {values.shape}. Those of "
            "igjax.integrated_hessians of images: group them, with igjax.grouped."
        )
    return values, errors, _figures.labels(caller, names, len(values))


def _write(axes: "Axes", values: np.ndarray, scale) -> None:
    limit = _scale.limit(values)
    for (row, column), value in np.ndenumerate(values):
        color = _scale.ink(scale.to_rgba(np.nan_to_num(value))[:3])
        text = _scale.typeset(_scale.number(float(value), limit))
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": "x-small"}
        axes.text(column, row, text, color=color, **style)


def _line(axes: "Axes", ends: np.ndarray, share: float, faint: bool) -> None:
    axes.plot(
        *ends.T,
        color=_scale.sides(share),
        linewidth=max(0.4, WIDEST * abs(share)),
        linestyle="-" if share > 0 else DASHES,
        dash_capstyle="butt",
        solid_capstyle="round",
        alpha=0.25 if faint else 0.9,
    )


def _name(axes: "Axes", point: tuple[float, float], name: str) -> None:
    x, y = point
    sides = "left" if x > 0.1 else "right" if x < -0.1 else "center"
    heights = "bottom" if y > 0.9 else "top" if y < -0.9 else "center"
    place = {"ha": sides, "va": heights, "parse_math": False}
    axes.annotate(name, point, xytext=(16 * x, 16 * y), textcoords="offset points", **place)


def _key(axes: "Axes", limit: float, largest: float) -> None:
    """What the widest lines and the largest disk mean."""
    from matplotlib.lines import Line2D

    handles = []
    for side, style in ((1, "-"), (-1, DASHES)):
        label = _scale.typeset(_scale.number(side * limit, limit))
        line = {"color": _scale.sides(side), "linewidth": WIDEST, "linestyle": style}
        handles.append(Line2D([], [], label=label, **line))
    label = f"\N{PLUS-MINUS SIGN}{_scale.number(largest, largest)[1:]} alone"
    disk = {"marker": "o", "color": "0.6", "linestyle": "none", "markersize": LARGEST}
    handles.append(Line2D([], [], label=label, **disk))
    style = {"frameon": False, "handlelength": 4, "fontsize": "small", "columnspacing": 2.5}
    axes.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, **style
    )
