r"""Shapley-Shubik values: the mean over all orders in which features may come.

In each order the features go from the baseline to x one after the other, and each gets
what f gains in its turn. That is the integral along a staircase (`paths.staircase`), and
it needs no gradient: only the scores at the corners, and nothing to integrate.
"""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks, paths
from igjax._program import compiled
from igjax._program.jax_internals import varying
from igjax._tree import flattener, parameter_dtype, widen
from igjax.attribution import Attribution
from igjax.integration.recipes import without_tolerance
from igjax.methods._draws import CONFIDENCE, student

__all__ = ["shapley_shubik"]

SIDE_BY_SIDE = 32  # corners evaluated together


def shapley_shubik(f, *, orders: int = 128, chunk_size=None):
    r"""Shapley-Shubik values, sampled over orders, with their sampling error.

    $$\phi_i = \mathrm{E}_\pi \bigl[ f(x_{\pi \le i}, x'_{\pi > i})
      - f(x_{\pi < i}, x'_{\pi \ge i}) \bigr]$$

    Use it where f has no useful gradient (trees, steps, counts), or to see what the path
    decides: Integrated Gradients moves all features together, this one at a time. They
    agree on multilinear functions. The points at the corners mix x and the baseline, and
    a sample costs a score for each feature: it is meant for tables.

    Orders are drawn in pairs, one the reverse of the other; where there are no more
    orders than that, all are taken, and nothing is random. Every order is complete, and
    so is the mean.

    Args:
        f: `f(x, *args) -> scalar`, as in `integrated_gradients`; no gradient is taken.
        orders: how many orders, at least 2; an odd one is rounded up.
        chunk_size: how many scores are computed side by side; None is 32.

    Returns:
        `attribute(key, x, baseline, *args) -> Attribution`, whose values are like x and
        whose error is the half-width of a 95% confidence interval: infinite for a single
        pair, zero where all orders are taken. `forwards` counts the scores.

    Raises:
        TypeError: as `integrated_gradients`, and if the key is none.
        ValueError: as `integrated_gradients`, and if orders is less than 2.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> attribute = igjax.shapley_shubik(jnp.min)
        >>> attribute(jax.random.key(0), jnp.array([1.0, 3.0]), jnp.zeros(2)).values
        Array([0.5, 0.5], dtype=float32)

    References:
        Sundararajan, Najmi, "The Many Shapley Values for Model Explanation", ICML 2020.
        Mitchell, Cooper, Frank, Holmes, "Sampling Permutations for Shapley Value
        Estimation", JMLR 2022.
    """
    _checks.function("shapley_shubik", "f", f)
    _checks.count("shapley_shubik", "orders", orders, 2)
    pairs = (orders + 1) // 2

    def attribute(key, x, baseline, /, *args):
        _checks.key("shapley_shubik", key)
        draws = _Draws(np.arange(pairs), key)
        inner = compiled.attribution(
            "shapley_shubik", _recipe, f, paths.straight, draws, chunk_size, scalar=True
        )
        return inner(x, baseline, *args)

    return attribute


class _Draws(NamedTuple):
    """Stands where a rule stands: one node for each pair of orders."""

    nodes: np.ndarray
    key: Any


def _recipe(f, path, operands, draws, chunk_size) -> Attribution:
    del path
    n = sum(a.size for a in jax.tree.leaves(operands.x))
    pairs = len(draws.nodes)
    _, unravel = flattener(operands.x, parameter_dtype(operands.x))

    def corner(turns, k):
        """The score after k turns."""
        choose = lambda turn, x, baseline: jnp.where(turn < k, x, baseline)
        point = jax.tree.map(choose, unravel(turns), operands.x, operands.baseline)
        return widen(f(operands, point))

    def gains(turns):
        """What each feature gains f in its turn."""
        at = lambda k: corner(turns, k)
        size = min(chunk_size or SIDE_BY_SIDE, n + 1)
        scores = jax.lax.map(at, jnp.arange(n + 1), batch_size=size)
        return jnp.diff(scores)[turns]

    gained = jax.eval_shape(corner, jnp.zeros(n, jnp.int32), 0).dtype
    dtype = jnp.result_type(parameter_dtype(operands.x), gained)
    zeros = varying(jnp.zeros(n, dtype), operands.x)
    if n < 10 and math.factorial(n) <= 2 * pairs:
        every = jnp.asarray(list(itertools.permutations(range(n))), jnp.int32)
        mean, _ = jax.lax.scan(lambda s, turns: (s + gains(turns), None), zeros, every)
        mean, error, count = mean / len(every), zeros, len(every)
    else:
        mean, error = _sampled(gains, draws.key, n, pairs, zeros)
        count = 2 * pairs
    end, start = corner(jnp.zeros(n, jnp.int32), 1), corner(jnp.zeros(n, jnp.int32), 0)
    delta = mean.sum() - (end - start)
    both = unravel(mean), unravel(error)
    return without_tolerance(*both, delta, start, end, 0, count * (n + 1))


def _sampled(gains, key, n: int, pairs: int, zeros):
    """Mean and half-width over pairs of an order and its reverse."""

    def add(sums, i):
        mean, squares = sums
        turns = jax.random.permutation(jax.random.fold_in(key, i), n)
        pair = (gains(turns) + gains(n - 1 - turns)) / 2
        above = pair - mean
        mean = mean + above / (i + 1)
        return (mean, squares + above * (pair - mean)), None

    (mean, squares), _ = jax.lax.scan(add, (zeros, zeros), jnp.arange(pairs))
    if pairs == 1:
        return mean, jnp.full_like(mean, np.inf)
    quantile = student((1 + CONFIDENCE) / 2, pairs - 1)
    return mean, quantile * jnp.sqrt(squares / (pairs * (pairs - 1)))
