"""Values as vectors, orders of features, and points where some features are replaced."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks
from igjax._program.blocks import chunk
from igjax._tree import flattener, parameter_dtype, spread, strong, widen
from igjax.methods._draws import CONFIDENCE, student

QUANTILE = (1 + CONFIDENCE) / 2


def vector(tree):
    """All features of a pytree of values, in a vector of float32 or wider."""
    return flattener(tree, parameter_dtype(tree))[0](tree)


def fitted(caller: str, values, x):
    """The values as a vector; they must be like x, or shared along axes of size 1.

    Raises:
        TypeError: if x or the values are no floating arrays.
        ValueError: if they do not fit.
    """
    _checks.inputs(caller, x, x)
    _checks.arrays(caller, "values", values)
    leaves, structure = jax.tree.flatten(x)
    found_leaves, found = jax.tree.flatten(values)
    shapes = [np.shape(a) for a in leaves], [np.shape(a) for a in found_leaves]
    if found != structure or shapes[0] != shapes[1]:
        raise ValueError(
            f"{caller}: values must be like x, of shapes {shapes[0]}, got {shapes[1]}. "
            "Groups take igjax.grouped for the method and x of groups for the metric."
        )
    return vector(values)


def mixer(x, baseline):
    """`mixed(mask)`: x where the mask, a vector, is True, and the baseline elsewhere."""
    x = strong(x)
    baseline = spread(baseline, x)
    _, unravel = flattener(x, parameter_dtype(x))
    choose = lambda take, a, b: jnp.where(take, a, b)
    return lambda mask: jax.tree.map(choose, unravel(mask), x, baseline)


def mapped(one: Any, count: int, chunk_size):
    """`one(k)` for all k below count, in blocks of one size: f is compiled once."""
    size = chunk_size or chunk(one, lambda k: k, jnp.int32, count)
    blocks = -(-count // size)
    size = -(-count // blocks)
    # A last block that is not full repeats the last number.
    numbers = np.minimum(np.arange(blocks * size, dtype=np.int32), count - 1)
    found = jax.lax.map(jax.vmap(one), jnp.asarray(numbers).reshape(blocks, size))
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:count], found)


def places(key, values):
    """The place of each feature, the largest value first; ties in random order."""
    n = len(values)
    order = jnp.lexsort((jax.random.uniform(key, (n,)), -values))
    return jnp.zeros(n, jnp.int32).at[order].set(jnp.arange(n, dtype=jnp.int32))


def subset(key, count: int, size: int):
    """A mask of `size` of `count` features, all subsets of that size being as likely.

    Those of the smallest of random numbers. One array alone is sorted, which is several
    times faster than an order; of numbers equal to the last one the first are taken.
    """
    numbers = jax.random.bits(key, (count,))
    last = jnp.sort(numbers)[size - 1]
    below, same = numbers < last, numbers == last
    left = size - below.sum(dtype=jnp.int32)
    return below | (same & (jnp.cumsum(same, dtype=jnp.int32) <= left))


def alike(*arrays):
    """Arrays of floats in the widest of their dtypes."""
    dtype = np.result_type(*(a.dtype for a in arrays))
    return [a.astype(dtype) for a in arrays]


def half_width(deviation, count: int):
    """That of a 95% interval of a mean, from the deviation of count draws."""
    return student(QUANTILE, count - 1) * deviation / count**0.5


def score(f, point, args):
    """A score, in float32 or wider."""
    return widen(jnp.asarray(f(point, *args)))
