r"""Ablation and occlusion: what is missing when a feature, or a window, is taken away.

They are the last of the orders in which features may leave: each leaves alone, from x, and
is put back before the next one. So they see what only this feature can do, and nothing of
what any of two could: for the maximum of two equal features both get 0.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks
from igjax._tree import gap
from igjax.attribution import Attribution
from igjax.integration.recipes import without_tolerance
from igjax.perturbation import _games

__all__ = ["ablation", "occlusion"]


def ablation(f, *, chunk_size=None):
    r"""Feature ablation: what the score loses if one feature goes to the baseline.

    $$a_i = f(x) - f(x \text{ with } x_i = x'_i)$$

    Use it for a question of this kind, "what if this one were not there?", and as the
    cheapest attribution without gradients. It does not share interactions: `delta` is
    what they leave, and where it is large use `shapley_values`. Groups of features are
    ablated together through `igjax.grouped(f, count, method=ablation)`, a data set as the
    baseline goes through `igjax.expected(ablation(f))`.

    Args:
        f: `f(x, *args) -> scalar`, as in `igjax.integrated_gradients`; no gradient is
            taken. A function that JAX cannot trace: `black_box`.
        chunk_size: how many scores are computed side by side; None chooses.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`. `error` is 0: nothing is random.
        `forwards` is the number of features plus 2.

    Raises:
        TypeError: as `igjax.integrated_gradients`.
        ValueError: as `igjax.integrated_gradients`.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> attribute = igjax.perturbation.ablation(lambda x: x[0] * x[1] + x[2])
        >>> result = attribute(jnp.array([2.0, 3.0, 1.0]), 0.0)
        >>> result.values, float(result.delta)  # the product counts twice
        (Array([6., 6., 1.], dtype=float32), 6.0)

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014.
        Covert, Lundberg, Lee, "Explaining by Removing", JMLR 2021.
    """
    return functools.partial(_games.attribution("ablation", _ablated, f, chunk_size), None)


def _ablated(f, path, operands, draws, chunk_size) -> Attribution:
    del path, draws
    game = _games.played(f, operands, chunk_size)
    n = game.players
    every = jnp.arange(n, dtype=jnp.int32)
    without = game.scores(lambda k: every != k, n)
    start, end = _games.ends(game)
    values = (end - without).astype(game.dtype)
    return _games.result(game, values, jnp.zeros_like(values), (start, end), n + 2)


def occlusion(f, window: Any, strides: Any = None, *, chunk_size=None):
    r"""Occlusion: the mean loss of the score over all windows that hide a feature.

    $$a_i = \frac{1}{|\{W \ni i\}|} \sum_{W \ni i} f(x) - f(x \text{ with } x_W = x'_W)$$

    Use it for images, signals and tables over time, where neighbors say the same and one
    alone is not missed. Values depend on the size of the window, and are no shares of the
    score: neighbors count what they lose together, each in full.

    Args:
        f: as in `ablation`.
        window: the size of the window along each axis of x, a tuple of integers; for
            a pytree x a pytree like x of such tuples. Leaves are hidden one at a time.
        strides: like window, the steps from one window to the next, at most its size;
            None is 1 everywhere. A last window may stand over the edge, and is cut there.
        chunk_size: as in `ablation`.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`. `error` is 0; `forwards` is the
        number of windows plus 2.

    Raises:
        TypeError: as `ablation`.
        ValueError: as `ablation`, and if a window or stride does not fit x.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> attribute = igjax.perturbation.occlusion(jnp.max, (2,))
        >>> attribute(jnp.array([0.0, 3.0, 3.0, 0.0]), 0.0).values
        Array([0. , 1.5, 1.5, 0. ], dtype=float32)

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014.
    """
    given = [_sizes(window), None if strides is None else _sizes(strides)]
    inner = _games.attribution("occlusion", _occluding(*given), f, chunk_size)
    return functools.partial(inner, None)


def _sizes(tree):
    """The tuples of a pytree of tuples, and its structure: something hashable."""
    whole = lambda w: isinstance(w, tuple) and all(map(_checks.is_whole, w))
    leaves, structure = jax.tree.flatten(tree, is_leaf=whole)
    return tuple(tuple(w) if whole(w) else w for w in leaves), structure


@functools.lru_cache
def _occluding(window, strides):
    def recipe(f, path, operands, draws, chunk_size) -> Attribution:
        del path, draws
        leaves, structure = jax.tree.flatten(operands.x)
        shapes = [a.shape for a in leaves]
        windows = _fitted("window", window, structure, shapes)
        ones = (tuple((1,) * len(shape) for shape in shapes), structure)
        steps = _fitted("strides", strides or ones, structure, windows)
        axes = [_axes(*sizes) for sizes in zip(shapes, windows, steps, strict=True)]
        game = _games.played(f, operands, chunk_size)
        counts = [math.prod(len(hidden) for hidden in leaf) for leaf in axes]
        before = np.cumsum([0, *counts]).tolist()

        def mask_of(k):
            hidden = [
                _window(leaf, k - first) & (first <= k) & (k < last)
                for leaf, first, last in zip(axes, before[:-1], before[1:], strict=True)
            ]
            return ~jnp.concatenate([mask.ravel() for mask in hidden])

        start, end = _games.ends(game)
        losses = (end - game.scores(mask_of, before[-1])).astype(game.dtype)
        pieces = jnp.split(losses, np.array(before[1:-1], int))
        parts = [_means(leaf, p) for leaf, p in zip(axes, pieces, strict=True)]
        values = structure.unflatten(parts)
        zeros = jax.tree.map(jnp.zeros_like, values)
        delta = gap(values, start, end)
        return without_tolerance(values, zeros, delta, start, end, 0, before[-1] + 2)

    return recipe


def _axes(shape, window, strides):
    """For each axis: which of its positions each window hides, (windows, positions)."""
    axes = []
    for n, width, step in zip(shape, window, strides, strict=True):
        starts = step * np.arange(-(-(n - width) // step) + 1)[:, None]
        place = np.arange(n)
        axes.append((place >= starts) & (place < starts + width))
    return axes


def _window(axes, k):
    """The k-th window, as a mask of its leaf; any, if there is none."""
    places = jnp.unravel_index(k, [len(hidden) for hidden in axes]) if axes else ()
    mask = jnp.array(True)
    for hidden, place in zip(axes, places, strict=True):
        row = jnp.asarray(hidden)[place]
        mask = mask[..., None] & jnp.expand_dims(row, tuple(range(mask.ndim)))
    return mask


def _means(axes, losses):
    """The mean loss over the windows that hide each position."""
    found = losses.reshape([len(hidden) for hidden in axes])
    for hidden in axes:  # the first axis goes, and comes back as the last one
        share = hidden / hidden.sum(0)
        share = jnp.asarray(share, found.dtype)
        found = jnp.tensordot(found, share, (0, 0), precision="highest")
    return found


def _fitted(name: str, given, structure, limits):
    """The sizes for each leaf, which must have as many axes, and fit in."""
    sizes, found = given
    if found != structure:
        raise ValueError(
            f"occlusion: {name} must have the structure of x, {structure}, with a tuple "
            f"for each leaf, got {found}."
        )
    for size, limit in zip(sizes, limits, strict=True):
        tupled = isinstance(size, tuple) and len(size) == len(limit)
        if not tupled or not all(1 <= s <= n for s, n in zip(size, limit, strict=True)):
            what = "window" if name == "strides" else "leaf of x"
            raise ValueError(
                f"occlusion: {name} must be integers from 1 to the sizes of the {what}, "
                f"{tuple(limit)}, got {size}. An axis that is hidden as a whole, as "
                "channels are, has a window of its size."
            )
    return sizes
