"""Arithmetic on pytrees: the few sums and casts that the integral needs. No policy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def wide(dtype) -> np.dtype:
    """The dtype to accumulate in: float32 (or complex64) at the least."""
    return np.dtype(dtype) if jnp.finfo(dtype).bits >= 32 else np.dtype(jnp.float32)


def parameter_dtype(x) -> np.dtype:
    """The dtype of t: the real part of the widest accumulation dtype."""
    return np.result_type(*(jnp.finfo(wide(a.dtype)).dtype for a in jax.tree.leaves(x)))


def strong(tree):
    """Makes every leaf an array with a dtype of its own, numbers too."""
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.result_type(a)), tree)


def widen(tree):
    """Casts every leaf to its accumulation dtype."""
    return jax.tree.map(lambda a: a.astype(wide(a.dtype)), tree)


def wide_labels(a):
    """Integers as an array of int32 or wider: comparing with a size must not wrap it."""
    a = jnp.asarray(a)
    return a.astype(a.dtype if a.dtype.itemsize >= 4 else jnp.int32)


def wrapped(index, size: int):
    """An index that counts from the end where it is negative, and whether it exists."""
    index = wide_labels(index)
    index = jnp.where(index < 0, index + size, index)
    inside = (index >= 0) & (index < size)
    return jnp.where(inside, index, 0), inside


def cast_like(tree, like):
    """Casts every leaf of `tree` to the dtype of its counterpart in `like`."""
    return jax.tree.map(lambda a, b: a.astype(b.dtype), tree, like)


def spread(tree, like):
    """Makes every leaf an array of the shape and dtype of its counterpart in `like`."""
    leaf = lambda a, b: jnp.broadcast_to(jnp.asarray(a).astype(b.dtype), b.shape)
    return jax.tree.map(leaf, tree, like)


def flattener(like, dtype):
    """`ravel`, from a pytree like `like` to a vector of the dtype, and its inverse."""
    leaves, structure = jax.tree.flatten(like)
    splits = np.cumsum([a.size for a in leaves])[:-1]

    def ravel(tree):
        return jnp.concatenate([a.ravel().astype(dtype) for a in jax.tree.leaves(tree)])

    def unravel(flat):
        pieces = zip(jnp.split(flat, splits), leaves, strict=True)
        return structure.unflatten([p.reshape(a.shape) for p, a in pieces])

    return ravel, unravel


def total(tree, keep: int) -> Any:
    """Sums all leaves over all axes but the first `keep`."""
    sums = [a.sum(axis=tuple(range(keep, a.ndim))) for a in jax.tree.leaves(tree)]
    dtype = np.result_type(*(a.dtype for a in sums))
    return sum((a.astype(dtype) for a in sums[1:]), sums[0].astype(dtype))


def norms(result):
    """The sums of the errors and of the absolute values of a result, to hold to its gap."""
    sums = result.error, jax.tree.map(jnp.abs, result.values)
    return [total(a, np.ndim(result.delta)).astype(result.delta.dtype) for a in sums]


def gap(values, start, end):
    """The completeness gap: what all values add up to beyond the change of the score."""
    whole, change = total(values, end.ndim), widen(end) - widen(start)
    dtype = np.result_type(whole.dtype, change.dtype)
    return whole.astype(dtype) - change.astype(dtype)
