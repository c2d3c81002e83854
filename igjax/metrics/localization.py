"""Are the values where a person has marked the object? If the model looks there, too.

All assume what they cannot know: a model that goes by the background is explained well by
values in the background, and gets 0 here.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from igjax.metrics._features import vector
from igjax.metrics.ranking import chance_of_top

__all__ = ["mass_inside", "pointing_game", "rank_inside"]


def pointing_game(values, mask):
    """The pointing game: whether the largest value is inside of the mask.

    Where several are the largest, the share of them that is inside.

    Args:
        values: values of features, a pytree.
        mask: like values, booleans: the object.

    Returns:
        A scalar in [0, 1]; by chance it is the share of the features inside.

    Raises:
        ValueError: if the mask is not like values, or not of booleans.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> values, mask = jnp.array([0.1, 0.9]), jnp.array([False, True])
        >>> float(igjax.metrics.pointing_game(values, mask))
        1.0

    References:
        Zhang et al., "Top-down Neural Attention by Excitation Backprop", 2018.
    """
    return _share_of_top(*_both("pointing_game", values, mask), 1)


def mass_inside(values, mask):
    """Relevance mass: the share of the sum of the values that is inside of the mask.

    With signs a share may be any number: pass `jnp.maximum(values, 0)` to ask where what
    speaks for the score is, as the authors do.

    Args:
        values: as in `pointing_game`.
        mask: as in `pointing_game`.

    Returns:
        A scalar; NaN where the values add up to 0.

    Raises:
        ValueError: as `pointing_game`.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> values, mask = jnp.array([0.25, 0.75]), jnp.array([False, True])
        >>> float(igjax.metrics.mass_inside(values, mask))
        0.75

    References:
        Arras, Osman, Samek, "CLEVR-XAI", Information Fusion 2022.
    """
    return _share(*_both("mass_inside", values, mask))


def rank_inside(values, mask):
    """Relevance rank: the share inside, of as many largest values as the mask has features.

    Args:
        values: as in `pointing_game`.
        mask: as in `pointing_game`.

    Returns:
        A scalar in [0, 1]; by chance it is the share of the features inside. NaN for an
        empty mask.

    Raises:
        ValueError: as `pointing_game`.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> values, mask = jnp.array([3.0, 2.0, 1.0]), jnp.array([True, False, True])
        >>> float(igjax.metrics.rank_inside(values, mask))
        0.5

    References:
        Arras, Osman, Samek, "CLEVR-XAI", Information Fusion 2022.
    """
    return _share_of_top(*_both("rank_inside", values, mask), None)


@jax.jit
def _share(values, mask):
    a, inside = _vectors(values, mask)
    return (a * inside).sum() / a.sum()


@functools.partial(jax.jit, static_argnums=2)
def _share_of_top(values, mask, count):
    """The share inside of the largest; None takes as many as are inside."""
    a, inside = _vectors(values, mask)
    count = inside.sum().astype(jnp.int32) if count is None else jnp.int32(count)
    return (chance_of_top(a, count) * inside).sum() / count.astype(a.dtype)


def _vectors(values, mask):
    """Values, and 1 inside of the mask."""
    a = vector(values)
    return a, jnp.concatenate([jnp.ravel(m) for m in jax.tree.leaves(mask)]).astype(a.dtype)


def _both(caller: str, values, mask):
    """Checks that the mask is for the values."""
    leaves, structure = jax.tree.flatten(values)
    masks, found = jax.tree.flatten(mask)
    shapes = [np.shape(a) for a in leaves], [np.shape(a) for a in masks]
    if found != structure or shapes[0] != shapes[1]:
        raise ValueError(
            f"{caller}: mask must be like values, of shapes {shapes[0]}, got {shapes[1]}."
        )
    if any(jnp.result_type(a) != jnp.bool for a in masks):
        raise ValueError(
            f"{caller}: mask must be booleans, got "
            f"{[str(jnp.result_type(a)) for a in masks]}. Write mask > 0.5, say."
        )
    return values, mask
