"""Baselines: what an input is compared with. The choice matters more than any other.

Two kinds of functions: those that return a baseline, an array tree like x, and those
that return a sampler, `sample(key, x) -> baseline`, for expectations over baselines.
A baseline belongs to the space of x: after a normalization, zero is the mean, not black.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from igjax._tree import cast_like, strong, widen

__all__ = ["blurred", "constant", "mean", "noise", "permuted", "rows", "uniform", "zeros"]


def zeros(x):
    """The zero baseline: absence, where zero means absence.

    Args:
        x: pytree of arrays.

    Returns:
        Zeros, a pytree like x.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> igjax.baselines.zeros({"age": jnp.ones(2)})
        {'age': Array([0., 0.], dtype=float32)}
    """
    return constant(x, 0.0)


def constant(x, value: float):
    """One value everywhere: black, white or grey images, in the units of x.

    Args:
        x: pytree of arrays.
        value: the number to fill with.

    Returns:
        A pytree like x.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> igjax.baselines.constant(jnp.ones(2), 0.5)
        Array([0.5, 0.5], dtype=float32)
    """
    return jax.tree.map(lambda a: jnp.full_like(a, value), strong(x))


def mean(data):
    """The mean of a data set: the average example, for tables and features.

    Args:
        data: pytree of floating arrays of shape (examples, ...).

    Returns:
        The mean over the first axis, accumulated in float32 or wider.

    Raises:
        ValueError: if there is no example.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> igjax.baselines.mean(jnp.array([[0.0, 1.0], [2.0, 3.0]]))
        Array([1., 2.], dtype=float32)
    """
    data = strong(data)
    _check_rows("mean", data)
    return cast_like(jax.tree.map(lambda a: a.mean(axis=0), widen(data)), data)


def blurred(x, sigma: float, axes: tuple[int, int] = (0, 1)):
    r"""A Gaussian blur of x: an image without its details, but with its colors.

    Args:
        x: pytree of arrays, images of shape (height, width, ...) unless axes say else.
        sigma: standard deviation in pixels, positive.
        axes: the axes to blur along.

    Returns:
        A pytree like x. Beyond its border an image is continued by its edge.

    Raises:
        ValueError: if sigma is not positive.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> spot = jnp.zeros((5, 5)).at[2, 2].set(1.0)
        >>> round(float(igjax.baselines.blurred(spot, 1.0)[2, 2]), 3)
        0.159

    References:
        Fong, Vedaldi, "Interpretable Explanations of Black Boxes", ICCV 2017.
    """
    if not sigma > 0:
        raise ValueError(f"baselines.blurred: sigma must be positive, got {sigma}.")
    radius = int(4 * sigma + 0.5)
    offsets = jnp.arange(-radius, radius + 1)
    kernel = jnp.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()

    def along(a, axis):
        a = jnp.moveaxis(a, axis, -1)
        padded = jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(radius, radius)], mode="edge")
        smooth = jnp.apply_along_axis(
            lambda r: jnp.convolve(r, kernel, "valid"), -1, padded
        )
        return jnp.moveaxis(smooth, -1, axis)

    def leaf(a):
        for axis in axes:
            a = along(a, axis)
        return a

    x = strong(x)
    return cast_like(jax.tree.map(leaf, widen(x)), x)


def noise(scale: float) -> Callable:
    """A sampler of x plus Gaussian noise.

    Args:
        scale: standard deviation, in the units of x.

    Returns:
        `sample(key, x) -> baseline`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> igjax.baselines.noise(0.1)(jax.random.key(0), jnp.zeros(3)).shape
        (3,)
    """
    return _sampler(lambda key, a: a + scale * jax.random.normal(key, a.shape, a.dtype))


def uniform(low: float, high: float) -> Callable:
    """A sampler of independent uniform values: an image of random pixels.

    Args:
        low: the least value.
        high: the bound from above.

    Returns:
        `sample(key, x) -> baseline`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> igjax.baselines.uniform(0.0, 1.0)(jax.random.key(0), jnp.zeros(3)).shape
        (3,)
    """
    draw = jax.random.uniform
    return _sampler(lambda key, a: draw(key, a.shape, a.dtype, minval=low, maxval=high))


def permuted(key, x):
    """A sampler: x with its entries shuffled, leaf by leaf.

    Args:
        key: a JAX random key.
        x: pytree of arrays.

    Returns:
        A pytree like x with the same entries in a random order.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> float(igjax.baselines.permuted(jax.random.key(0), jnp.arange(3.0)).sum())
        3.0
    """
    shuffle = lambda key, a: jax.random.permutation(key, a.ravel()).reshape(a.shape)
    return _sampler(shuffle)(key, x)


def rows(data) -> Callable:
    """A sampler of rows of a data set, joint rows over all leaves.

    Args:
        data: pytree of arrays of shape (examples, ...), each row a baseline.

    Returns:
        `sample(key, x) -> baseline`.

    Raises:
        ValueError: if there is no row, or leaves differ in the number of rows.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> sample = igjax.baselines.rows({"a": jnp.arange(4.0), "b": 10 * jnp.arange(4.0)})
        >>> row = sample(jax.random.key(0), None)
        >>> bool(row["b"] == 10 * row["a"])
        True
    """
    data = strong(data)
    n = _check_rows("rows", data)

    def sample(key, x):
        del x  # the signature of every sampler
        i = jax.random.randint(key, (), 0, n)
        return jax.tree.map(lambda a: a[i], data)

    return sample


def _sampler(draw) -> Callable:
    """Draws each leaf with a key of its own."""

    def sample(key, x):
        leaves, structure = jax.tree.flatten(strong(x))
        keys = jax.random.split(key, len(leaves))
        return structure.unflatten([draw(k, a) for k, a in zip(keys, leaves, strict=True)])

    return sample


def _check_rows(caller: str, data) -> int:
    counts = {a.shape[0] if a.ndim else 0 for a in jax.tree.leaves(data)}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"baselines.{caller}: every leaf must have the same number of examples on its "
            f"first axis, at least 1, got {sorted(counts)}."
        )
    return counts.pop()
