"""Tables and images: the values of one example, feature by feature or pixel by pixel."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from igjax.attribution import Attribution
from igjax.plots import _figures, _scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 30  # bars that stay legible


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
    _figures.check_single("bars", result)
    values, errors = _array("bars", result.values), _array("bars", result.error)
    labels = [str(i) for i in range(values.size)] if names is None else list(names)
    if values.shape != (len(labels),):
        raise ValueError(
            f"bars: values and names must have one shape (n,), got {values.shape} and "
            f"{len(labels)} names. Images go to igjax.plots.features.image."
        )
    order = np.argsort(-np.abs(values), kind="stable")[:MOST]
    shown = [labels[i] for i in order]
    if values.size > MOST:
        shown[-1] += f"\n({values.size - MOST} smaller ones left out)"
    axes = ax or _figures.new_axes("bars", 6.0, 0.9 + 0.3 * len(order))[1]
    colors = [_scale.NEGATIVE if values[i] < 0 else _scale.POSITIVE for i in order]
    places = np.arange(len(order))
    axes.barh(places, values[order], color=np.array(colors) / 255, height=0.7)
    finite = np.where(np.isfinite(errors[order]), errors[order], np.nan)
    axes.errorbar(
        values[order],
        places,
        xerr=finite,
        fmt="none",
        ecolor="0.25",
        elinewidth=1,
        capsize=2,
    )
    axes.set_yticks(places, shown, parse_math=False)
    axes.invert_yaxis()
    axes.axvline(0.0, color="0.25", linewidth=0.8)
    axes.set_xlabel("attribution, with estimated error")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return axes


def image(result: Attribution, image=None, ax: "Axes | None" = None) -> "Axes":
    """Draws the values of an image as a heat map: blue raises the score, orange lowers it.

    Use it for one image; the values of its channels are added up.

    Args:
        result: of one example, with values of shape (H, W) or (H, W, C).
        image: drawn in gray below the values: shape (H, W) or (H, W, C), any range.
            Default: none.
        ax: axes to draw on. Default: those of a new figure.

    Returns:
        The axes, with a color bar beside them.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the result is a batch, or a shape does not fit.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> result = igjax.integrated_gradients(jnp.sum)(jnp.ones((4, 4, 3)), 0.0)
        >>> low, high = igjax.plots.features.image(result).images[0].get_clim()
        >>> low == -high, round(high, 3)
        (True, 3.0)
    """
    _figures.check_single("image", result)
    values = _plane("values", _array("image", result.values), np.sum)
    below = None if image is None else _plane("image", np.asarray(image), np.mean)
    if below is not None and below.shape != values.shape:
        raise ValueError(
            f"image: the image must have the height and width of the values, "
            f"{values.shape}, got {below.shape}."
        )
    axes = ax or _figures.new_axes("image", 5.0, 4.2)[1]
    limit = _scale.limit(values)
    scale = _scale.mappable(limit)
    opacity = None
    if below is not None:
        axes.imshow(below, cmap="gray")
        opacity = np.abs(np.nan_to_num(values, posinf=0.0, neginf=0.0)) / limit
    heat = axes.imshow(values, cmap=scale.cmap, vmin=-limit, vmax=limit, alpha=opacity)
    bar = _figures.figure_of(axes).colorbar(scale, ax=axes, label="attribution")
    bar.outline.set_visible(False)
    axes.set(xticks=[], yticks=[])
    heat.set_interpolation("nearest")
    return axes


def _array(caller: str, values) -> np.ndarray:
    if not hasattr(values, "shape"):
        raise ValueError(
            f"{caller}: values must be one array, got {type(values).__name__}. Draw a "
            "pytree leaf by leaf: dataclasses.replace(result, values=..., error=...)."
        )
    return np.asarray(values, np.float64)


def _plane(name: str, values: np.ndarray, reduce) -> np.ndarray:
    if values.ndim == 3:
        return reduce(values, axis=-1)
    if values.ndim == 2:
        return values
    raise ValueError(
        f"image: {name} must have shape (H, W) or (H, W, C), got {values.shape}. Of a "
        "batch use result.example(i)."
    )
