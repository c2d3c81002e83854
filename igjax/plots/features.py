"""Tables: the values of one example, feature by feature, or of the rows of a batch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from igjax.attribution import Attribution
from igjax.plots import _figures, _scale
from igjax.plots._batches import beeswarm as beeswarm, summary as summary
from igjax.plots._sentence import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["bars", "beeswarm", "compare", "summary", "waterfall"]

MARKERS = "osD^vP*X"  # sign is color, so methods have shapes


def bars(
    result: Attribution, names: Sequence[str] | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draws the values of a table's row as bars, the largest on top, with their errors.

    Use it for one example with named features. Of more than 30 features the 30 largest
    are drawn, and the last label says how many were left out.

    Args:
        result: of one example, with values of shape (n,).
        names: of the n features. Default: their numbers.
        ax: axes to draw on. Default: those of a new figure.

    Returns:
        The axes.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the result is a batch, or a shape does not fit.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> row = jnp.array([3.0, -1.0])
        >>> result = igjax.integrated_gradients(jnp.sum)(row, 0.0)
        >>> axes = igjax.plots.features.bars(result, names=["age", "$ income"])
        >>> [label.get_text() for label in axes.get_yticklabels()]
        ['age', '$ income']
    """
    values, errors, labels = _table("bars", result, names)
    order = _scale.by_size(values)[: _figures.MOST]
    shown = _figures.largest(labels, order)
    axes = ax or _figures.new_axes("bars", 6.0, 0.9 + 0.3 * len(order))[1]
    places, drawn = np.arange(len(order)), values[order]
    axes.barh(places, drawn, color=_scale.sides(drawn), height=0.7)
    _figures.whiskers(axes, drawn, places, errors[order])
    axes.axvline(0.0, color="0.25", linewidth=0.8)
    _figures.named_rows(axes, shown)
    _figures.note(axes, "attribution, with estimated error", result)
    return axes


def waterfall(
    result: Attribution,
    names: Sequence[str] | None = None,
    ax: "Axes | None" = None,
    *,
    x=None,
) -> "Axes":
    """Draws the way from the score of the baseline to the score, feature by feature.

    Use it to show that the values add up: the last step, "gap", is what they lack. The
    largest come first; of more than 30 features the others make one step together.

    Args:
        result: of one example, with values of shape (n,).
        names: of the n features. Default: their numbers.
        ax: axes to draw on. Default: those of a new figure.
        x: what the features are, numbers or texts of shape (n,), to be told in the labels:
            "age = 3". Default: the labels are the names alone.

    Returns:
        The axes.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the result is a batch, or a shape does not fit.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> row = jnp.array([3.0, 1.5])
        >>> result = igjax.integrated_gradients(jnp.sum)(row, 0.0)
        >>> axes = igjax.plots.features.waterfall(result, ["age", "income"], x=row)
        >>> [label.get_text() for label in axes.get_yticklabels()]
        ['baseline', 'age = 3', 'income = 1.5', 'gap', 'score']
    """
    values, errors, labels = _table("waterfall", result, names)
    labels = labels if x is None else _told("waterfall", labels, x)
    order = _scale.by_size(values)[: _figures.MOST]
    rest = np.setdiff1d(np.arange(values.size), order)
    steps, doubts = list(values[order]), list(errors[order])
    shown = ["baseline", *(labels[i] for i in order)]
    if rest.size:
        steps, doubts = [*steps, values[rest].sum()], [*doubts, errors[rest].sum()]
        shown.append(f"{rest.size} smaller ones")
    start, end = float(result.baseline_score), float(result.score)
    ends = start + np.cumsum([0.0, *steps])
    steps, ends = np.append(steps, end - ends[-1]), np.append(ends, end)
    places = 1 + np.arange(len(steps))
    axes = ax or _figures.new_axes("waterfall", 6.5, 1.2 + 0.3 * len(shown))[1]
    axes.barh(places, steps, left=ends[:-1], color=_scale.sides(steps), height=0.7)
    _figures.whiskers(axes, ends[1:-1], places[:-1], np.array(doubts))
    rows = np.arange(len(ends))
    axes.vlines(ends, rows, rows + 1, color="0.6", linewidth=0.8, zorder=0)
    axes.plot([start, end], [0, len(steps) + 1], "D", color="0.1", markersize=5)
    axes.use_sticky_edges = False  # bars would hold the limits at the diamonds
    axes.margins(x=0.04)
    _figures.named_rows(axes, [*shown, "gap", "score"])
    _numbers(axes, start, end, steps)
    _figures.note(axes, "score, with the estimated error of each step", result)
    return axes


def compare(
    results: Mapping[str, Attribution],
    names: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws the values of several methods or baselines, a row for each feature.

    Use it to see where they agree: points of one row whose errors overlap. They have one
    axis, and nothing is rescaled; of more than 30 features the 30 largest are drawn.

    Args:
        results: by name, at most eight, each of one example, with values of shape (n,).
        names: of the n features. Default: their numbers.
        ax: axes to draw on. Default: those of a new figure.

    Returns:
        The axes.

    Raises:
        ImportError: if matplotlib is not installed.
        TypeError: if the results have no names.
        ValueError: if a result is a batch, or a shape does not fit.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> f = igjax.integrated_gradients(jnp.sum)
        >>> results = {str(b): f(jnp.ones(3), float(b)) for b in (0, -2)}
        >>> axes = igjax.plots.features.compare(results, names=["a", "b", "c"])
        >>> [text.get_text() for text in axes.get_legend().get_texts()]
        ['0', '-2']
    """
    _figures.check_several("compare", results)
    if len(results) > len(MARKERS):
        raise ValueError(f"compare: at most {len(MARKERS)} results, got {len(results)}.")
    tables = [_table("compare", result, names) for result in results.values()]
    if len({values.size for values, _, _ in tables}) > 1:
        raise ValueError("compare: all results must have the same features.")
    sizes = np.max([np.abs(values) for values, _, _ in tables], axis=0)
    order = _scale.by_size(sizes)[: _figures.MOST]
    shown = _figures.largest(tables[0][2], order)
    height = 1.2 + max(0.3, 0.14 * len(results)) * len(order)
    axes = ax or _figures.new_axes("compare", 6.0, height)[1]
    offsets = 0.6 * (np.arange(len(results)) + 0.5) / len(results) - 0.3
    for number, (name, (values, errors, _)) in enumerate(zip(results, tables, strict=True)):
        places = np.arange(len(order)) + offsets[number]
        shade = str(0.7 * number / max(1, len(results) - 1))
        style = {"color": shade, "markeredgecolor": "0.2", "markersize": 6}
        (points,) = axes.plot(
            values[order], places, MARKERS[number], linestyle="none", **style
        )
        points.set_label(visible(name))
        _figures.whiskers(axes, values[order], places, errors[order])
    axes.axvline(0.0, color="0.25", linewidth=0.8)
    _figures.named_rows(axes, shown)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    columns = 3 if sum(map(len, results)) < 30 else 1  # what fits above the axes
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": columns}
    legend = axes.legend(frameon=False, **place)
    for text in legend.get_texts():
        text.set_parse_math(False)
    told = "attribution, with estimated error", _figures.caution(results)
    axes.set_xlabel("\n".join(filter(None, told)), parse_math=False)
    return axes


def _table(caller: str, result: Attribution, names):
    values, errors = _figures.arrays(caller, result)
    if values.ndim != 1:
        raise ValueError(
            f"{caller}: values must have shape (n,), got {values.shape}. Images go to "
            "igjax.plots.images."
        )
    return values, errors, _figures.labels(caller, names, values.size)


def _told(caller: str, labels: Sequence[str], x) -> list[str]:
    """The labels with what the features are."""
    found = np.asarray(x).tolist()
    if np.shape(found) != (len(labels),):
        raise ValueError(
            f"{caller}: x must hold a number or a text for each of the {len(labels)} "
            f"features, got shape {np.shape(found)}."
        )
    return [
        f"{label} = {visible(_scale.typeset(_scale.short(value)))}"
        for label, value in zip(labels, found, strict=True)
    ]


def _numbers(axes: "Axes", start: float, end: float, steps: np.ndarray) -> None:
    """The numbers of a waterfall, at its right edge."""
    limit = _scale.limit([*steps, start, end])
    for place, value in enumerate([start, *steps, end]):
        axes.annotate(
            _scale.typeset(_scale.number(float(value), limit)),
            (1.0, place),
            xytext=(6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize="small",
            color="0.25",
        )
