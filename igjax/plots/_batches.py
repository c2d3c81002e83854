"""Many rows at once: how large the values of a feature are, and which way it works."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from igjax.attribution import Attribution
from igjax.methods._draws import CONFIDENCE, student
from igjax.plots import _figures, _scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SWARMS = 15  # features that stay legible
BINS = 110  # points side by side
STEP = 0.12  # from point to point of a pile, in rows
HIGHEST = 0.42  # of a pile, to one side


def summary(
    results: Attribution, names: Sequence[str] | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draws how large the values of each feature are, in the mean over the rows of a batch.

    The mean of |value|, with a 95% confidence interval over the rows (Student's t), the
    largest on top; gray, since a size has no sign. Use it to see what a model goes by as a
    whole; `beeswarm` shows which way, and for which rows. Of more than 30 features the 30
    largest are drawn.

    Args:
        results: of a batch of at least two examples, with values of shape (B, n).
        names: of the n features. Default: their numbers.
        ax: axes to draw on. Default: those of a new figure.

    Returns:
        The axes. Rows with a value that is not finite are left out; what is to be known
        of the rows stands below.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the results are not those of a batch, or a shape does not fit.

    Example:
        >>> import igjax, igjax.plots, jax, jax.numpy as jnp
        >>> rows = jnp.array([[3.0, -1.0], [1.0, -2.0], [2.0, 0.5]])
        >>> attribute = igjax.integrated_gradients(jnp.sum)
        >>> results = jax.vmap(attribute, (0, None))(rows, 0.0)
        >>> axes = igjax.plots.features.summary(results, names=["age", "income"])
        >>> [label.get_text() for label in axes.get_yticklabels()]
        ['age', 'income']
    """
    values, labels = _table("summary", results, names)
    means, widths, count = _mean_sizes(values)
    order = _scale.by_size(means)[: _figures.MOST]
    shown = _figures.largest(labels, order)
    axes = ax or _figures.new_axes("summary", 6.0, 0.9 + 0.3 * len(order))[1]
    places = np.arange(len(order))
    axes.barh(places, means[order], color="0.65", height=0.7)
    _figures.whiskers(axes, means[order], places, widths[order])
    axes.axvline(0.0, color="0.25", linewidth=0.8)
    _figures.named_rows(axes, shown)
    told = f"mean of |attribution| over {count} rows, with its 95% interval"
    axes.set_xlabel("\n".join(filter(None, [told, _figures.caution_of_rows(results)])))
    return axes


def beeswarm(
    results: Attribution,
    x,
    names: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws a point for each row of a batch and each feature, colored by the feature.

    The place of a point is its value; points that would lie on each other are piled up,
    always in the same way. Its color is that of the feature in x, from the 5% to the 95%
    quantile of the rows, gray where it is no number. Use it to see which way a feature
    works: with dark points on the left and bright ones on the right more of it means more.
    The largest mean of sizes is on top; of more than 15 features the 15 largest are drawn.

    Args:
        results: of a batch of at least two examples, with values of shape (B, n).
        x: what was explained, numbers of shape (B, n).
        names: of the n features. Default: their numbers.
        ax: axes to draw on. Default: those of a new figure.

    Returns:
        The axes. What is to be known of the rows stands below.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the results are not those of a batch, or a shape does not fit.

    Example:
        >>> import igjax, igjax.plots, jax, jax.numpy as jnp
        >>> rows = jnp.array([[3.0, -1.0], [1.0, -2.0], [2.0, 0.5]])
        >>> attribute = igjax.integrated_gradients(jnp.sum)
        >>> results = jax.vmap(attribute, (0, None))(rows, 0.0)
        >>> axes = igjax.plots.features.beeswarm(results, rows, names=["age", "income"])
        >>> [label.get_text() for label in axes.get_yticklabels()]
        ['age', 'income']
    """
    values, labels = _table("beeswarm", results, names)
    given = _numbers(x, values.shape)
    order = _scale.by_size(_mean_sizes(values)[0])[:SWARMS]
    shown = _figures.largest(labels, order)
    axes = ax or _figures.new_axes("beeswarm", 7.0, 1.1 + 0.45 * len(order))[1]
    axes.axvline(0.0, color="0.25", linewidth=0.8, zorder=0)
    span, scale = np.ptp([0.0, *values[np.isfinite(values)]]) or 1.0, _scale.low_to_high()
    for place, i in enumerate(order):
        heights = place + _piled(values[:, i] / span)
        colors = scale.to_rgba(_shares(given[:, i]))
        axes.scatter(values[:, i], heights, s=14, c=colors, linewidths=0)
    _figures.named_rows(axes, shown)
    bar = _figures.figure_of(axes).colorbar(
        scale, ax=axes, aspect=30, label="feature value"
    )
    bar.set_ticks([0, 1], labels=["low", "high"])
    bar.outline.set_visible(False)
    told = f"attribution, a point for each of {len(values)} rows"
    axes.set_xlabel("\n".join(filter(None, [told, _figures.caution_of_rows(results)])))
    return axes


def _table(caller: str, results: Attribution, names) -> tuple[np.ndarray, list[str]]:
    """The values of a batch, one row for each example, and the names of its features.

    Raises:
        ValueError: if it is no batch of rows, or the names do not fit.
    """
    if (np.ndim(results.evaluations), np.ndim(results.score)) != (1, 1):
        raise ValueError(
            f"{caller}: results must be those of a batch, of one output each, got scores "
            f"of shape {np.shape(results.score)}. One example goes to features.bars, a "
            "batch through jax.vmap(attribute)."
        )
    shape = getattr(results.values, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] < 2:
        raise ValueError(
            f"{caller}: values must have shape (B, n), of at least two rows, got "
            f"{shape or type(results.values).__name__}. Leaves of a pytree are made one "
            "array first: igjax.grouped, or jax.flatten_util.ravel_pytree in f."
        )
    values = np.asarray(results.values, np.float64)
    drawn = np.where(np.isfinite(values), values, np.nan)
    return drawn, _figures.labels(caller, names, shape[1])


def _numbers(x, shape: tuple) -> np.ndarray:
    given = np.asarray(x)
    if given.shape != shape or given.dtype.kind in "OUSMm":
        raise ValueError(
            f"beeswarm: x must hold numbers of the shape of the values, {shape}, got "
            f"{given.dtype}{list(given.shape)}."
        )
    return given.astype(np.float64)


def _mean_sizes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Means of |value| over the rows that are finite, half-widths, how many rows."""
    sizes = np.abs(values[np.isfinite(values).all(1)])
    count = len(sizes)
    if count < 2:
        return np.nan_to_num(sizes.sum(0)), np.full(values.shape[1], np.nan), count
    quantile = float(student((1 + CONFIDENCE) / 2, count - 1))
    return sizes.mean(0), quantile * sizes.std(0, ddof=1) / count**0.5, count


def _shares(column: np.ndarray) -> np.ndarray:
    """Where the numbers of a column are between its low and its high ones, in [0, 1]."""
    known = column[np.isfinite(column)]
    for ends in ([0.05, 0.95], [0.0, 1.0]) if known.size else ():
        low, high = np.quantile(known, ends, method="nearest")
        if high > low:
            return np.clip((column - low) / (high - low), 0, 1)
    return np.where(np.isfinite(column), 0.5, np.nan)


def _piled(shares: np.ndarray) -> np.ndarray:
    """How far from the middle of its row each point is, so that all are seen."""
    bins = np.round(BINS * np.nan_to_num(shares))
    order = np.argsort(bins, kind="stable")
    _, first, counts = np.unique(bins[order], return_index=True, return_counts=True)
    turn = np.arange(len(bins)) - np.repeat(first, counts)
    steps = np.zeros(len(bins))
    steps[order] = (turn + 1) // 2 * np.where(turn % 2, 1, -1)
    return steps * min(STEP, HIGHEST / max(1, np.abs(steps).max()))
