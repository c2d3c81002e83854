"""What `igjax.diagnostics` measures, drawn: paths, rules and landscapes."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from igjax import diagnostics, paths as curves
from igjax.attribution import Status
from igjax.plots import _figures, _scale
from igjax.plots._sentence import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["convergence", "landscape", "path_profile"]

BINS = 1000  # a jump is narrower than one of them
JUMP = 0.05  # of the range of the score
STEEP = 30.0  # slopes of so many ranges of the score want a logarithmic scale
MARKERS = "osD^vP*X"
DASHES = ("-", "--", "-.", ":")


def path_profile(profile: diagnostics.PathProfile, ax: "Axes | None" = None) -> "Axes":
    """Draws the score along the path, its slope below, the panels and the jumps.

    Use it to see where on the path the score is made, and where the rule worked. Ticks
    between the rows are the ends of the panels of an adaptive rule; gray bands are jumps:
    more than 5% of the range of the score within a thousandth of the path. Steep slopes
    are drawn on a logarithmic scale, linear around zero.

    Args:
        profile: of one example, from `igjax.diagnostics.path_profile`.
        ax: axes to divide. Default: those of a new figure.

    Returns:
        The axes; the rows, scores, panels and slopes, are its `child_axes`.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the profile is a batch.

    Example:
        >>> import igjax, igjax.plots, jax, jax.numpy as jnp
        >>> f = lambda x: jax.nn.sigmoid(30.0 * (x.sum() - 1.0))
        >>> profile = igjax.diagnostics.path_profile(f)(jnp.array([1.0, 3.0]), 0.0)
        >>> axes = igjax.plots.diagnostics.path_profile(profile)
        >>> [row.get_ylabel() for row in axes.child_axes]
        ['score', 'panels', 'slope']
    """
    t, score, slope, edges = (np.asarray(a, np.float64) for a in profile[:4])
    if t.ndim != 1:
        raise ValueError(
            "path_profile: the profile must be that of one example, got t of shape "
            f"{t.shape}. Use jax.tree.map(lambda a: a[i], profile)."
        )
    axes = ax or _figures.new_axes("path_profile", 6.5, 4.6)[1]
    above, between, below = _figures.rows(axes, (1, 0.12, 1))
    above.plot(t, score, color="0.1", linewidth=1.2)
    above.set_ylabel("score")
    found = _jumps(t, score)
    for start, end in found:
        for row in (above, below):
            middle, half = (start + end) / 2, max(end - start, 4 / BINS) / 2
            row.axvspan(middle - half, middle + half, color="0.85", zorder=0)
    ends = np.unique(edges[: int(profile.panels)])
    between.vlines(ends, 0, 1, color="0.3", linewidth=0.6, clip_on=False)
    between.set(ylim=(0, 1), yticks=[])
    between.spines[["left", "bottom"]].set_visible(False)
    between.tick_params(length=0)
    between.set_ylabel("panels", rotation=0, ha="right", va="center")
    finite = score[np.isfinite(score)]
    _slopes(below, t, slope, np.ptp(finite) if finite.size else 0.0)
    told = f"panels: {int(profile.panels)}" if len(edges) else "no panels: fixed rule"
    below.set_xlim(0, 1)
    below.set_xlabel(f"t, from baseline to x\n{told}, jumps: {len(found)}")
    return axes


def _jumps(t: np.ndarray, score: np.ndarray) -> list[tuple[float, float]]:
    """The intervals in which the score jumps; neighbors are one."""
    grid = np.linspace(0, 1, BINS + 1)
    change = np.abs(np.diff(np.interp(grid, t, score)))
    high = change > JUMP * np.ptp(score)
    steps = np.diff(np.concatenate([[0], high, [0]]).astype(int))
    starts, ends = grid[np.flatnonzero(steps > 0)], grid[np.flatnonzero(steps < 0)]
    return [*zip(starts.tolist(), ends.tolist(), strict=True)]


def _slopes(axes: "Axes", t, slope, size: float) -> None:
    for side in (1, -1):
        part = np.where(side * slope > 0, slope, 0.0)
        axes.fill_between(t, part, color=_scale.sides(side), alpha=0.5, linewidth=0)
    axes.plot(t, slope, color="0.1", linewidth=0.8)
    axes.axhline(0.0, color="0.25", linewidth=0.8)
    axes.set_ylabel("slope")
    if size and np.abs(slope[np.isfinite(slope)]).max(initial=0.0) > STEEP * size:
        axes.set_yscale("symlog", linthresh=size)
        axes.set_ylabel("slope (logarithmic)")


def convergence(
    found: diagnostics.Convergence,
    names: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws how far each rule is from the reference, against what it costs.

    Use it to choose a rule. Full markers are distances from the reference; hollow ones,
    joined by a thin line, are what the rule believes of it, and should lie above. A ring
    is a tolerance that was met and verified. In the gray area the reference itself is in
    doubt.

    Args:
        found: from `igjax.diagnostics.convergence`.
        names: of the rules, in their order; those of one name are joined by a line, at
            most eight names. Default: one name for all.
        ax: axes to draw on. Default: those of a new figure.

    Returns:
        The axes.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if there are more or fewer names than rules, or too many.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> tried = [igjax.rules.midpoint(n) for n in (8, 16, 32)]
        >>> found = igjax.diagnostics.convergence(
        ...     lambda x: jnp.sin(x).prod(), jnp.ones(2), 0.0, rules=tried
        ... )
        >>> axes = igjax.plots.diagnostics.convergence(found, ["midpoint"] * 3)
        >>> axes.get_xscale(), axes.get_yscale()
        ('log', 'log')
    """
    count = len(found.error)
    labels = _figures.labels("convergence", names or ["rules"] * count, count)
    families = list(dict.fromkeys(labels))
    if len(families) > len(MARKERS):
        raise ValueError(f"convergence: at most {len(MARKERS)} names, got {len(families)}.")
    axes = ax or _figures.new_axes("convergence", 6.0, 4.2)[1]
    seen = [*found.error, *found.estimate, float(found.reference_error)]
    floor = min((e for e in seen if 0 < e < np.inf), default=1e-8) / 2  # a logarithm of 0
    cost = found.evaluations
    actual, believed = (np.maximum(e, floor) for e in (found.error, found.estimate))
    for number, family in enumerate(families):
        rules = np.flatnonzero(np.array(labels) == family)
        shade = str(0.65 * number / max(1, len(families) - 1))
        style: dict[str, Any] = {
            "color": shade,
            "marker": MARKERS[number],
            "linestyle": "-",
        }
        axes.plot(cost[rules], actual[rules], label=family, markersize=6, **style)
        style |= {"linestyle": "none", "markerfacecolor": "white"}
        finite = rules[np.isfinite(believed[rules])]
        axes.plot(cost[finite], believed[finite], markersize=5, **style)
        ends = actual[finite], believed[finite]
        axes.vlines(cost[finite], *ends, color=shade, linewidth=0.6, linestyle=":")
    met = np.flatnonzero(found.converged)
    ring = {"s": 130, "facecolor": "none", "edgecolor": _scale.sides(1)}
    axes.scatter(
        cost[met], actual[met], **ring, label="tolerance met" if met.size else None
    )
    axes.set(xscale="log", yscale="log", ylabel="error, relative (hollow: estimated)")
    if np.isfinite(found.reference_error) and found.reference_error > floor:
        top = float(found.reference_error)
        axes.axhspan(floor / 2, top, color="0.92", zorder=0, label="reference in doubt")
        axes.set_ylim(bottom=floor / 2)
    axes.spines[["top", "right"]].set_visible(False)
    for text in axes.legend(frameon=False, fontsize="small").get_texts():
        text.set_parse_math(False)
    status = Status(int(found.reference_status))
    doubt = f"reference: {status.meaning}" if status in _figures.TOLD else ""
    axes.set_xlabel("\n".join(filter(None, ("gradient evaluations", doubt))))
    return axes


def landscape(
    f,
    x,
    baseline,
    paths: Mapping[str, Callable] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws a function of two inputs as contours, and paths on it.

    Use it to explain why the path matters: each goes its own way over the same hills.

    Args:
        f: `f(x) -> scalar`, of x of shape (2,).
        x: the end of the paths, of shape (2,).
        baseline: their start, of shape (2,).
        paths: by name, each `path(x, baseline, t) -> point`, at most four. Default: the
            straight one.
        ax: axes to draw on. Default: those of a new figure.

    Returns:
        The axes.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if x or the baseline does not have shape (2,), or there are more paths
            than can be told apart.

    Example:
        >>> import igjax.plots, jax.numpy as jnp
        >>> x, baseline = jnp.array([1.0, 2.0]), jnp.zeros(2)
        >>> axes = igjax.plots.diagnostics.landscape(jnp.prod, x, baseline)
        >>> [round(float(end), 3) for end in axes.lines[0].get_xydata()[-1]]
        [1.0, 2.0]
    """
    drawn = {"straight": curves.straight} if paths is None else dict(paths)
    if np.shape(x) != (2,) or np.shape(baseline) != (2,):
        raise ValueError(
            "landscape: x and baseline must have shape (2,), got "
            f"{np.shape(x)} and {np.shape(baseline)}. Of more inputs hold the others in f."
        )
    if len(drawn) > len(DASHES):
        raise ValueError(f"landscape: at most {len(DASHES)} paths, got {len(drawn)}.")
    x, baseline = jnp.asarray(x, float), jnp.asarray(baseline, float)
    t = jnp.linspace(0, 1, 401)
    lines = [
        np.asarray(jax.vmap(lambda t, path=path: path(x, baseline, t))(t))
        for path in drawn.values()
    ]
    axes = ax or _figures.new_axes("landscape", 5.4, 4.6)[1]
    _contours(axes, f, np.concatenate([*lines, [x, baseline]]))
    for (name, line), dash in zip(zip(drawn, lines, strict=True), DASHES, strict=False):
        style = {"color": _scale.sides(1), "linestyle": dash, "linewidth": 2}
        axes.plot(*line.T, label=visible(name), **style)
    ends = np.stack([baseline, x])
    axes.scatter(*ends.T, c=["white", "0.1"], edgecolor="0.1", s=45, zorder=3)
    for end, name in zip(ends, ("baseline", "x"), strict=True):
        place = {"xytext": (9, -6), "textcoords": "offset points", "va": "top"}
        behind = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1}
        axes.annotate(name, end, bbox=behind, **place)
    if len(drawn) > 1:
        style = {"frameon": False, "ncols": 4, "fontsize": "small"}
        legend = axes.legend(loc="lower left", bbox_to_anchor=(0, 1), **style)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return axes


def _contours(axes: "Axes", f, points: np.ndarray) -> None:
    """Contours of f over a rectangle around the points, with their numbers."""
    low, high = points.min(axis=0), points.max(axis=0)
    around = 0.15 * np.maximum(high - low, 1e-6 + 0.5 * (high - low).max())
    spans = np.linspace(low - around, high + around, 81)
    grid = np.stack(np.meshgrid(*spans.T), axis=-1)
    heights = np.asarray(jax.vmap(jax.vmap(f))(jnp.asarray(grid, float)), np.float64)
    lines = axes.contour(*spans.T, heights, levels=12, colors="0.55", linewidths=0.8)
    axes.clabel(lines, fontsize=7, colors="0.35")
    axes.set(xlabel="first input", ylabel="second input")
    axes.spines[["top", "right"]].set_visible(False)
