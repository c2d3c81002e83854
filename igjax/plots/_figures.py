"""What all figures share: the axes, the shape of a result, the doubts about it.

Axes are those that the caller gives, or new ones. Matplotlib is an extra, so it is imported
when something is drawn. Pyplot is not used: a library must not open windows or keep
figures alive.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from igjax.attribution import Attribution, Status
from igjax.plots import _scale
from igjax.plots._sentence import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Layout = Literal["constrained", "compressed"]


TOLD = set(Status) - {Status.TOLERANCE_MET, Status.NO_TOLERANCE}
NOTABLE = 0.05  # errors of that share of the attribution are told
VISIBLE = 0.1  # errors of that share of the full color are seen
CELLS = 32  # along the side of an image, that can be hatched
MOST = 30  # rows that stay legible


def new_figure(
    caller: str, width: float, height: float, layout: "Layout" = "constrained"
) -> "Figure":
    """Makes a figure of that many inches, whose axes fit themselves to it.

    The layout "compressed" keeps images of a fixed shape and their color bar together.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from igjax.plots._shown import Figure
    except ImportError as error:
        raise ImportError(
            f'{caller} needs matplotlib. Install it: pip install "igjax[plots]"'
        ) from error
    return Figure(figsize=(width, height), layout=layout)


def new_axes(
    caller: str, width: float, height: float, layout: "Layout" = "constrained"
) -> "tuple[Figure, Axes]":
    """Makes a figure of that many inches, with axes that fit themselves to it.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    figure = new_figure(caller, width, height, layout)
    return figure, figure.add_subplot()


def rows(axes: "Axes", heights: Sequence[float]) -> "list[Axes]":
    """Divides axes into rows with one x axis, from top to bottom, of those heights."""
    gap = 0.08
    unit = (1 - gap * (len(heights) - 1)) / sum(heights)
    made, top = [], 1.0
    for height in heights:
        shared = {"sharex": made[0]} if made else {}
        made.append(axes.inset_axes((0, top - unit * height, 1, unit * height), **shared))
        top -= unit * height + gap
    for row in made[:-1]:
        row.tick_params(labelbottom=False)
    for row in made:
        row.spines[["top", "right"]].set_visible(False)
    axes.set_axis_off()
    return made


def figure_of(axes: "Axes") -> "Figure":
    """The figure that holds the axes, directly or in a subfigure."""
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("plots: the axes must belong to a figure, these were removed.")
    return figure


def check_single(caller: str, result: Attribution) -> None:
    """Checks that a result is that of one example and one output.

    Raises:
        ValueError: if it has an axis for examples or outputs.
    """
    if np.ndim(result.evaluations):
        raise ValueError(
            f"{caller}: the result must be that of one example, got a batch of shape "
            f"{np.shape(result.evaluations)}. Use result.example(i)."
        )
    if np.ndim(result.score):
        raise ValueError(
            f"{caller}: the result must be that of one output, got outputs of shape "
            f"{np.shape(result.score)}. Choose one in f: igjax.select(f)."
        )


def arrays(caller: str, result: Attribution) -> tuple[np.ndarray, np.ndarray]:
    """The values and errors of one example, of one array, as float64.

    Infinite values become NaN: neither has a place in a picture, and `note` tells of them.

    Raises:
        ValueError: if the result is a batch, of several outputs, or of a pytree.
    """
    check_single(caller, result)
    if not hasattr(result.values, "shape"):
        raise ValueError(
            f"{caller}: values must be one array, got {type(result.values).__name__}. "
            "Draw a pytree leaf by leaf: dataclasses.replace(result, values=..., "
            "error=...)."
        )
    values = np.asarray(result.values, np.float64)
    drawn = np.where(np.isfinite(values), values, np.nan)
    return drawn, np.asarray(result.error, np.float64)


def check_several(caller: str, results: Mapping[str, Attribution]) -> None:
    """Checks that there are results with names.

    Raises:
        TypeError: if they have no names.
        ValueError: if there are none.
    """
    if not isinstance(results, Mapping):
        raise TypeError(
            f"{caller}: results must map names to results, got {type(results).__name__}. "
            'Pass {"zeros": one, "mean": other}, say.'
        )
    if not results:
        raise ValueError(f"{caller}: there must be at least one result, got none.")


def labels(caller: str, names: Sequence[str] | None, count: int) -> list[str]:
    """The names of features, safe to show; by default their numbers.

    Raises:
        ValueError: if there are more or fewer of them.
    """
    found = [visible(str(n)) for n in (range(count) if names is None else names)]
    if len(found) != count:
        raise ValueError(
            f"{caller}: there must be a name for each of the {count} features, got "
            f"{len(found)} names."
        )
    return found


def largest(names: Sequence[str], order) -> list[str]:
    """The names of the features that are drawn; the last one says how many are not."""
    shown, rest = [names[int(i)] for i in order], len(names) - len(order)
    return [*shown[:-1], f"{shown[-1]}\n({rest} smaller ones left out)"] if rest else shown


def named_rows(axes: "Axes", names: Sequence[str]) -> None:
    """Makes the y axis one of rows with names, from top to bottom."""
    axes.set_yticks(np.arange(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def whiskers(axes: "Axes", values, places, errors) -> None:
    """Draws errors at the ends of bars."""
    finite = np.where(np.isfinite(errors), errors, np.nan)
    style = {"ecolor": "0.25", "elinewidth": 1, "capsize": 2, "zorder": 1.9}
    axes.errorbar(values, places, xerr=finite, fmt="none", **style)


def cells(axes: "Axes", values, errors, scale, opacity=None, dashes=True) -> None:
    """Draws values as an image; where dashes fit, negative ones are told in gray, too."""
    style = {"cmap": scale.cmap, "norm": scale.norm, "alpha": opacity}
    drawn = axes.imshow(values, interpolation="nearest", **style)
    limit = scale.norm.vmax
    if dashes and max(values.shape) <= CELLS:
        rows, columns = np.nonzero(values < -VISIBLE * limit)
        color = [_scale.ink(rgba[:3]) for rgba in scale.to_rgba(values[rows, columns])]
        axes.hlines(rows, columns - 0.15, columns + 0.15, color=color, linewidth=0.8)
    hatch(axes, values, errors, limit, drawn.get_extent())


def hatch(axes: "Axes", values, errors, limit: float, extent) -> None:
    """Hatches the cells of an image where a color means nothing.

    There the error exceeds the value, and enough to be seen. Cells too small to be
    hatched are taken together, by the means of errors and sizes.
    """
    sizes, errors = _blocks(np.abs(values)), _blocks(errors)
    known = np.isfinite(errors) | np.isnan(sizes)
    doubtful = known & ~(errors <= np.maximum(sizes, VISIBLE * limit)) | ~np.isfinite(sizes)
    if not doubtful.any():
        return
    fine = np.kron(doubtful, np.ones((4, 4)))  # contours then follow the edges of cells
    left, right, bottom, top = extent
    x = left + (right - left) * (np.arange(fine.shape[1]) + 0.5) / fine.shape[1]
    y = top + (bottom - top) * (np.arange(fine.shape[0]) + 0.5) / fine.shape[0]
    bounds = axes.get_xlim(), axes.get_ylim()
    from matplotlib import rc_context

    with rc_context({"hatch.color": "0.35", "hatch.linewidth": 0.6}):
        axes.contourf(x, y, fine, levels=[0.5, 1.5], colors="none", hatches=["/////"])
    axes.set(xlim=bounds[0], ylim=bounds[1])


def _blocks(values: np.ndarray) -> np.ndarray:
    """The means over blocks, no more than CELLS along the longer side."""
    size = -(-max(values.shape) // CELLS)
    counts = [np.add.reduceat(np.ones(n), np.arange(0, n, size)) for n in values.shape]
    rows = np.add.reduceat(values, np.arange(0, values.shape[0], size), axis=0)
    sums = np.add.reduceat(rows, np.arange(0, values.shape[1], size), axis=1)
    return sums / np.outer(*counts)


def caution(results: Mapping[str, Attribution]) -> str:
    """What a reader must know before trusting the picture; empty if there is nothing."""
    told = ((name, _doubt(result)) for name, result in results.items())
    return "\n".join(f"{name}: {doubt}".lstrip(": ") for name, doubt in told if doubt)


def _doubt(result: Attribution) -> str:
    status = Status(int(result.status))
    if status in TOLD:
        return status.meaning
    size, error = (np.abs(np.asarray(a)).sum() for a in (result.values, result.error))
    if not np.isfinite(error):
        return "errors unknown"
    if error > NOTABLE * size:
        return f"estimated error {100 * error / size:.0f}%" if size else "nothing is sure"
    return ""


def caution_of_rows(results: Attribution) -> str:
    """The same of a batch: how many rows have which trouble."""
    statuses, count = np.asarray(results.status), len(results.status)
    told = [(statuses == s, s.meaning) for s in Status if s in TOLD]
    size, error = (np.abs(np.asarray(a)).sum(1) for a in (results.values, results.error))
    told.append((error > NOTABLE * size, f"estimated error over {100 * NOTABLE:g}%"))
    return "\n".join(f"{n.sum()} of {count} rows: {what}" for n, what in told if n.any())


def note(axes: "Axes", text: str, result: Attribution, width: int = 80) -> None:
    """Writes the label of the x axis, with what is to be known below it."""
    told = text, textwrap.fill(caution({"": result}), width)
    axes.set_xlabel("\n".join(filter(None, told)))


def color_bar(axes, scale, quantile: float | None = None, label="attribution") -> None:
    """Draws the scale beside axes, or a list of them, and says where it was cut."""
    beyond = "neither"
    if quantile is not None and quantile < 1:
        beyond = "both" if scale.norm.vmin < 0 else "max"
        limit = _scale.size(scale.norm.vmax)
        label += f"\nfull color: {limit},\n{100 * quantile:g}% quantile of sizes"
    first = axes[0] if isinstance(axes, list) else axes
    bar = figure_of(first).colorbar(scale, ax=axes, label=label, extend=beyond)
    bar.outline.set_visible(False)
