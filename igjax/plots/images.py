"""Images: the values of one example, pixel by pixel, alone and with their picture.

The channels of a pixel are added up. All pictures use the one scale, and panels of one
figure share its limit; pixels that are not to be trusted are hatched. Printed in gray the
two colors look alike: up to 32 pixels a side negative ones wear a dash, and `positive`
shows the others alone.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from igjax.attribution import Attribution
from igjax.plots import _figures, _scale
from igjax.plots._sentence import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "blended",
    "four_panels",
    "heat_map",
    "original",
    "overlay",
    "positive",
    "side_by_side",
]


def original(image, ax: "Axes | None" = None) -> "Axes":
    """Draws a picture as it is: one channel in gray, three as colors.

    Use it beside the pictures of attributions.

    Args:
        image: of shape (H, W), (H, W, 1) or (H, W, 3). Colors are integers from 0 to 255
            or floats from 0 to 1; gray is drawn from its smallest value, black, to its
            largest.
        ax: axes to draw on. Default: those of a new figure.

    Returns:
        The axes.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the shape does not fit.

    Example:
        >>> import igjax.plots, numpy as np
        >>> igjax.plots.images.original(np.eye(3)).images[0].get_array().shape
        (3, 3)
    """
    picture = np.asarray(image)
    picture = picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture
    if picture.ndim != 2 and (picture.ndim != 3 or picture.shape[-1] != 3):
        raise ValueError(
            "original: image must have shape (H, W), (H, W, 1) or (H, W, 3), got "
            f"{np.shape(image)}."
        )
    axes = ax or _figures.new_axes("original", 4.0, 4.0)[1]
    axes.imshow(picture, cmap="gray", interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    return axes


def heat_map(
    result: Attribution, ax: "Axes | None" = None, *, limit: float | None = None
) -> "Axes":
    """Draws the values of an image: blue raises the score, orange lowers it.

    Use it where the values are to be read; `overlay` shows where they lie. A pixel is
    hatched if its error exceeds its value and a tenth of the full color; of more than 32
    pixels a side, blocks are, by their means.

    Args:
        result: of one example, with values of shape (H, W) or (H, W, C).
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
        >>> result = igjax.integrated_gradients(jnp.sum)(jnp.ones((4, 4, 3)), 0.0)
        >>> low, high = igjax.plots.images.heat_map(result).images[0].get_clim()
        >>> low == -high, round(high, 3)
        (True, 3.0)
    """
    values, errors = _planes("heat_map", result)
    scale = _scale.mappable(_scale.limit(values, limit))
    axes = ax or _figures.new_axes("heat_map", 5.0, 4.2, "compressed")[1]
    _heat(axes, values, errors, scale)
    _figures.note(axes, "", result)
    _figures.color_bar(axes, scale, limit)
    return axes


def positive(
    result: Attribution, ax: "Axes | None" = None, *, limit: float | None = None
) -> "Axes":
    """Draws what raises the score, and leaves white what lowers it.

    Use it beside `heat_map`, whose scale it has, and in print, where the two colors of a
    heat map are one gray. A pixel is not hatched if it is surely negative.

    Args:
        result: of one example, with values of shape (H, W) or (H, W, C).
        ax: axes to draw on. Default: those of a new figure.
        limit: as in `heat_map`; the quantile is that of all sizes.

    Returns:
        The axes, with a color bar beside them.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: as `heat_map`.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> x = jnp.array([[1.0, -2.0]])
        >>> result = igjax.integrated_gradients(jnp.sum)(x, 0.0)
        >>> igjax.plots.images.positive(result).images[0].get_array().round(3).tolist()
        [[1.0, 0.0]]
    """
    values, errors = _planes("positive", result)
    size = _scale.limit(values, limit)
    scale, half = _scale.mappable(size), _scale.mappable(size, negative=False)
    axes = ax or _figures.new_axes("positive", 5.0, 4.2, "compressed")[1]
    _heat(axes, *_positive(values, errors), scale)
    _figures.note(axes, "", result)
    _figures.color_bar(axes, half, limit, "attribution, where positive")
    return axes


def overlay(
    result: Attribution, image, ax: "Axes | None" = None, *, limit: float | None = None
) -> "Axes":
    """Draws the values over the picture in gray, the more opaque the larger they are.

    Use it to see which parts of the picture matter.

    Args:
        result: of one example, with values of shape (H, W) or (H, W, C).
        image: of the same height and width: shape (H, W) or (H, W, C), any range.
        ax: axes to draw on. Default: those of a new figure.
        limit: as in `heat_map`.

    Returns:
        The axes, with a color bar beside them.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: as `heat_map`.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> x = jnp.ones((4, 4, 3))
        >>> result = igjax.integrated_gradients(jnp.sum)(x, 0.0)
        >>> len(igjax.plots.images.overlay(result, x).images)  # the picture, the values
        2
    """
    values, errors = _planes("overlay", result)
    below = _gray("overlay", image)
    scale = _scale.mappable(_scale.limit(values, limit))
    axes = ax or _figures.new_axes("overlay", 5.0, 4.2, "compressed")[1]
    _over(axes, values, errors, below, scale)
    _figures.note(axes, "", result)
    _figures.color_bar(axes, scale, limit)
    return axes


def blended(
    result: Attribution, image, ax: "Axes | None" = None, *, limit: float | None = None
) -> "Axes":
    """Draws the values, smoothed, half transparent over the picture in gray.

    Use it for coarse values, such as those of a convolutional layer: they are stretched
    over the picture and interpolated, and single pixels are not to be read.

    Args:
        result: of one example, with values of shape (h, w) or (h, w, C), whose sides are
            at most those of the picture.
        image: of shape (H, W) or (H, W, C), any range.
        ax: axes to draw on. Default: those of a new figure.
        limit: as in `heat_map`.

    Returns:
        The axes, with a color bar beside them.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: as `heat_map`.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> result = igjax.integrated_gradients(jnp.sum)(jnp.ones((2, 2, 8)), 0.0)
        >>> axes = igjax.plots.images.blended(result, jnp.ones((32, 32, 3)))
        >>> [float(edge) for edge in axes.images[1].get_extent()]
        [-0.5, 31.5, 31.5, -0.5]
    """
    values, errors = _planes("blended", result)
    below = _gray("blended", image)
    size = _scale.limit(values, limit)
    scale = _scale.mappable(size)
    axes = ax or _figures.new_axes("blended", 5.0, 4.2, "compressed")[1]
    picture = axes.imshow(below, cmap="gray", interpolation="nearest")
    extent = picture.get_extent()
    style = {"cmap": scale.cmap, "norm": scale.norm, "alpha": 0.5}
    smooth = np.nan_to_num(values)
    heat = axes.imshow(smooth, extent=extent, interpolation="bilinear", **style)
    _figures.hatch(axes, values, errors, size, extent)
    axes.set(xticks=[], yticks=[])
    _figures.note(axes, "", result)
    _figures.color_bar(axes, heat, limit)
    return axes


def four_panels(
    result: Attribution,
    image,
    axes: "Sequence[Axes] | None" = None,
    *,
    limit: float | None = None,
) -> "list[Axes]":
    """Draws the picture, its heat map, the positive part and the overlay in a row.

    Use it for papers: one figure with all that there is to see, on one scale.

    Args:
        result: of one example, with values of shape (H, W) or (H, W, C).
        image: of the same height and width: shape (H, W), (H, W, 1) or (H, W, 3), as in
            `original`.
        axes: four axes to draw on. Default: those of a new figure.
        limit: as in `heat_map`.

    Returns:
        The four axes, with a color bar beside them.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: as `heat_map`, and if there are not four axes.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> x = jnp.ones((4, 4, 3))
        >>> result = igjax.integrated_gradients(jnp.sum)(x, 0.0)
        >>> [a.get_title() for a in igjax.plots.images.four_panels(result, x)]
        ['picture', 'attribution', 'positive part', 'overlay']
    """
    values, errors = _planes("four_panels", result)
    below = _gray("four_panels", image)
    scale = _scale.mappable(_scale.limit(values, limit))
    panels = _panels("four_panels", axes, 4)
    original(image, panels[0])
    _heat(panels[1], values, errors, scale)
    _heat(panels[2], *_positive(values, errors), scale)
    _over(panels[3], values, errors, below, scale)
    names = ("picture", "attribution", "positive part", "overlay")
    for panel, name in zip(panels, names, strict=True):
        panel.set_title(name, fontsize="medium")
    _figures.note(panels[1], "", result, 30)
    _figures.color_bar(panels, scale, limit)
    return panels


def side_by_side(
    results: Mapping[str, Attribution],
    axes: "Sequence[Axes] | None" = None,
    *,
    limit: float | None = None,
) -> "list[Axes]":
    """Draws the heat maps of several methods, baselines or examples, on one scale.

    Use it to compare what is in the same units: a color means the same in all panels.

    Args:
        results: by name, each of one example, with values of shape (H, W) or (H, W, C).
        axes: as many to draw on. Default: those of a new figure.
        limit: as in `heat_map`; the quantile is that of the sizes of all results.

    Returns:
        The axes, with a color bar beside them.

    Raises:
        ImportError: if matplotlib is not installed.
        TypeError: if the results have no names.
        ValueError: as `heat_map`, and if the axes are more or fewer than the results.

    Example:
        >>> import igjax, igjax.plots, jax.numpy as jnp
        >>> f = igjax.integrated_gradients(jnp.sum)
        >>> results = {str(b): f(jnp.ones((2, 2)), float(b)) for b in (0, -2)}
        >>> axes = igjax.plots.images.side_by_side(results)
        >>> [round(a.images[0].get_clim()[1], 3) for a in axes]
        [3.0, 3.0]
    """
    _figures.check_several("side_by_side", results)
    planes = [_planes("side_by_side", result) for result in results.values()]
    sizes = np.concatenate([values.ravel() for values, _ in planes])
    scale = _scale.mappable(_scale.limit(sizes, limit))
    panels = _panels("side_by_side", axes, len(results))
    each = zip(panels, results.items(), planes, strict=True)
    for panel, (name, result), (values, errors) in each:
        _heat(panel, values, errors, scale)
        panel.set_title(visible(name), fontsize="medium", parse_math=False)
        _figures.note(panel, "", result, 30)
    _figures.color_bar(panels, scale, limit)
    return panels


def _heat(axes: "Axes", values, errors, scale, opacity=None) -> None:
    _figures.cells(axes, values, errors, scale, opacity)
    axes.set(xticks=[], yticks=[])


def _positive(values: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positive part; its error says whether a value is positive at all."""
    return np.maximum(values, 0), np.where(values < -errors, 0, errors)


def _over(axes: "Axes", values, errors, below, scale) -> None:
    if below.shape != values.shape:
        raise ValueError(
            "overlay: the image must have the height and width of the values, "
            f"{values.shape}, got {below.shape}. Coarser values go to `blended`."
        )
    axes.imshow(below, cmap="gray", interpolation="nearest")
    sizes = np.abs(np.nan_to_num(values)) / scale.norm.vmax
    _heat(axes, values, errors, scale, np.minimum(sizes, 1))


def _panels(caller: str, axes, count: int) -> "list[Axes]":
    if axes is None:
        figure = _figures.new_figure(caller, 2.4 * count + 1.2, 3.0, "compressed")
        return list(figure.subplots(1, count, squeeze=False)[0])
    given = list(np.ravel(axes))
    if len(given) != count:
        raise ValueError(f"{caller}: there must be {count} axes, got {len(given)}.")
    return given


def _planes(caller: str, result: Attribution) -> tuple[np.ndarray, np.ndarray]:
    values, errors = _figures.arrays(caller, result)
    return _plane(caller, "values", values, np.sum), _plane(caller, "", errors, np.sum)


def _gray(caller: str, image) -> np.ndarray:
    return _plane(caller, "image", np.asarray(image), np.mean)


def _plane(caller: str, name: str, values: np.ndarray, reduce) -> np.ndarray:
    if values.ndim == 3:
        return reduce(values, axis=-1)
    if values.ndim == 2:
        return values
    raise ValueError(
        f"{caller}: {name} must have shape (H, W) or (H, W, C), got {values.shape}. Of a "
        "batch use result.example(i)."
    )
