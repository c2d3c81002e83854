"""Layers: how the change of the score is spread over the units of each.

Every layer that all of f goes through has the same sum, so the bars of a deep network
end at one line; where one does not, something goes around that layer.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from igjax.attribution import Attribution
from igjax.plots import _figures, _scale
from igjax.plots._sentence import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["stacked"]

UNITS = 40  # of one sign that stay legible in a bar


def stacked(results: Mapping[str, Attribution], ax: "Axes | None" = None) -> "Axes":
    """Draws a bar for each layer: its units from the largest on, negative ones leftward.

    Use it for `layer_conductance` of several layers: to see whether a few units do the
    work or all of them, how much they work against each other, and the sum, a diamond
    with its estimated error. Of each sign the 40 largest units are told apart, the others
    make one pale block.

    Args:
        results: by name of the layer, from the input on, each of one example, with an
            array of values of any shape.
        ax: axes to draw on. Default: those of a new figure.

    Returns:
        The axes.

    Raises:
        ImportError: if matplotlib is not installed.
        TypeError: if the results have no names.
        ValueError: if a result is a batch, or that of several arrays.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> f = lambda x: (checkpoint_name(3 * x, "y") ** 2).sum()
        >>> results = igjax.layer_conductance(f, {"y": "y"})(jnp.ones(2), 0.0)
        >>> axes = igjax.plots.layers.stacked(results)
        >>> [label.get_text() for label in axes.get_yticklabels()]
        ['y']
    """
    _figures.check_several("stacked", results)
    axes = ax or _figures.new_axes("stacked", 6.5, 1.1 + 0.45 * len(results))[1]
    for place, result in enumerate(results.values()):
        values, errors = (a.ravel() for a in _figures.arrays("stacked", result))
        for side in (1, -1):
            _units(axes, place, values[side * values > 0], side)
        error = errors.sum()
        style = {"color": "0.1", "markerfacecolor": "white", "capsize": 3, "zorder": 3}
        axes.errorbar(
            values.sum(), place, xerr=error if np.isfinite(error) else 0, fmt="D", **style
        )
    axes.axvline(0.0, color="0.25", linewidth=0.8)
    axes.set_yticks(np.arange(len(results)), list(map(visible, results)), parse_math=False)
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    told = "attribution of units, and their sum (diamond)", _figures.caution(results)
    axes.set_xlabel("\n".join(filter(None, told)), parse_math=False)
    return axes


def _units(axes: "Axes", place: int, values: np.ndarray, side: int) -> None:
    ordered = values[_scale.by_size(values)]
    told, rest = ordered[:UNITS], ordered[UNITS:].sum()
    starts = np.cumsum([0.0, *told])
    style = {"color": _scale.sides(side), "height": 0.7}
    edge = {"edgecolor": "white", "linewidth": 0.5}
    axes.barh(np.full(len(told), place), told, left=starts[:-1], **style, **edge)
    axes.barh(place, rest, left=starts[-1], alpha=0.35, **style)
