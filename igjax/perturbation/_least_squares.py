r"""Values of features by least squares over coalitions: KernelSHAP, for many scores.

$$\min_\phi \sum_{(S, N \setminus S)} w_S \bigl(g(S) - \tfrac12 \phi \cdot z_S\bigr)^2,
  \qquad \sum_i \phi_i = v(N) - v(\emptyset)$$

with weights that make up for how often the design draws each size. Where the Gaussian
process would have to invert a matrix of thousands, this one is as good as free. Its error
is a sandwich: what each pair moves the values by, from its residual at its leverage (HC3),
less what is certain because a size was taken whole.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from igjax.perturbation import _design
from igjax.perturbation._systems import positive


def fit(z, g, end, counts) -> tuple[Any, Any]:
    """Shapley values and their standard errors.

    Args:
        z: (m, n) of -1 and 1, size after size.
        g: (m,), half the difference of each pair.
        end: half the difference of all and nobody.
        counts: of pairs of each size 1, ..., n // 2.

    Returns:
        Two vectors (n,).
    """
    n = z.shape[1]
    weights, left = _by_row(n, counts)
    weights, left = (jnp.asarray(a, g.dtype) for a in (weights, left))
    half = z / 2
    weighted = (half * weights[:, None]).T
    right = jnp.ones(n, g.dtype), weighted @ g, weighted
    ones, values, moves = positive(weighted @ half, *right)

    def constrained(free, total):
        return free - jnp.multiply.outer(ones, (free.sum(0) - total) / ones.sum())

    values = constrained(values, 2 * end)
    moves = constrained(moves, 0.0)  # (n, m)
    residual = g - half @ values
    leverage = (half * moves.T).sum(1)
    apart = residual / jnp.maximum(1 - leverage, 1e-3)
    return values, jnp.sqrt(moves**2 @ (apart**2 * left))


def _by_row(n: int, counts):
    """Of each pair its weight, and the share of its size that was not drawn."""
    sizes = np.arange(1, len(counts) + 1)
    there = np.array([float(_design.pairs_of_size(n, int(s))) for s in sizes])
    # The kernel of Shapley values, whose weights add up by sizes to 1 / (s (n - s)).
    law = np.where(2 * sizes == n, 0.5, 1.0) / (sizes * (n - sizes))
    weights = law / law.sum() / np.maximum(counts, 1)
    left = np.where(there > _design.NUMBERED, 1.0, 1 - counts / there)
    return np.repeat(weights, counts), np.repeat(left, counts)
