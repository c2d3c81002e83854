r"""Values of features from the scores of some coalitions, by a Gaussian process over all.

With z in {-1, 1}^n for a coalition, half the difference of a pair is taken to be

$$g(z) = \tfrac12 \, b \cdot z + h(z), \qquad
  h \sim \mathrm{GP}\bigl(0, \sigma^2 k_r\bigr), \qquad
  k_r(z, z') \propto r^{d} - r^{n - d} - \text{(its linear part)}$$

with d the number of features in which z and z' differ: the odd part of a product kernel,
one factor a feature. b has a flat prior: what is additive is explained for free and
exactly, and h is what the features do in threes, fives and so on, by the product less
for each more. r is the one of seven with the best restricted likelihood. The values of
features are linear in g; so their posterior mean and deviation are closed forms: those of
a section k(., z') are one number for each size of z', by Gauss-Legendre in the multilinear
extension, exactly. Of Banzhaf values, the gradients in the middle of the cube, only the
linear part is left: they are b.

The tables depend on n alone, and are made in float64, however the scores are computed.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from igjax.perturbation._systems import triangular

COUPLINGS = (0.03, 0.06, 0.12, 0.2, 0.3, 0.45, 0.6)  # rho, with r = (1 - rho) / (1 + rho)
NUGGET = 100  # units of rounding of what the kernel explains, added to it


class Posterior(NamedTuple):
    """What is known of the values of features."""

    values: Any
    deviation: Any
    left_out: Any  # of each observation, its difference from what the others say of it
    left_out_deviation: Any


class _Tables(NamedTuple):
    """For each coupling: the kernel by differing features, and its sections' values."""

    kernel: np.ndarray  # (couplings, n + 1), of agreeing features
    inside: np.ndarray  # (couplings, n + 1), of the size: a member's value of a section
    outside: np.ndarray  # that of one who is no member, with the other sign
    variance: np.ndarray  # (couplings,) of a value


def _tables(n: int, shapley: bool) -> _Tables:
    nodes, weights = np.polynomial.legendre.leggauss(n // 2 + 2)
    weights = weights / 2
    agree = np.arange(n + 1.0)
    rows = []
    for rho in COUPLINGS:
        r = (1 - rho) / (1 + rho)
        kernel = (r ** (n - agree) - r**agree) / 2
        # The coefficient of z . z' in it, to be taken out.
        linear = rho / (1 + rho) * (1 / (1 + rho)) ** (n - 1)
        kernel = kernel - linear * (2 * agree - n)
        up, down = (1 + rho * nodes) / (1 + rho), (1 - rho * nodes) / (1 + rho)
        s = agree[:, None]
        section = 2 * rho / (1 + rho) * weights
        inside = (section * up ** np.maximum(s - 1, 0) * down ** (n - s)).sum(1)
        outside = (section * up**s * down ** np.maximum(n - s - 1, 0)).sum(1)
        both = (1 + rho * np.outer(nodes, nodes)) / (1 + rho)
        variance = 4 * rho / (1 + rho) * weights @ both ** (n - 1) @ weights
        size = max(kernel[-1], np.finfo(float).tiny)
        parts = kernel, inside - 2 * linear, outside - 2 * linear, variance - 4 * linear
        rows.append([part / size * (shapley or part is kernel) for part in parts])
    return _Tables(*map(np.stack, zip(*rows, strict=True)))


def posterior(z, y, seen, *, shapley: bool) -> Posterior:
    """The Shapley or Banzhaf values of what was observed.

    Args:
        z: (m, n) of -1 and 1: the coalitions.
        y: (m,), g of each.
        seen: (m,) booleans; the others are left out, whatever they are.
        shapley: else the Banzhaf values.

    Returns:
        A `Posterior`.
    """
    m, n = z.shape
    tables = jax.tree.map(lambda a: jnp.asarray(a, y.dtype), _tables(n, shapley))
    agree = jnp.round((n + z @ z.T) / 2).astype(jnp.int32)
    weight = seen.astype(y.dtype)
    linear = z / 2 * weight[:, None]
    y = jnp.where(seen, y, 0)
    degrees = weight.sum() - n

    def factor(kernel, *also):
        """The Cholesky factor of the covariance, and solutions: linear part, y, others."""
        nugget = NUGGET * float(jnp.finfo(y.dtype).eps)
        known = seen[:, None] & seen[None, :]
        covariance = jnp.where(known, kernel[agree], 0)
        diagonal = jnp.where(seen, (1 + nugget) * kernel[n], 1)
        covariance = jnp.where(jnp.eye(m, dtype=bool), diagonal, covariance)
        lower = jnp.linalg.cholesky(covariance)
        return lower, triangular(lower, linear, y, *also)

    def likelihood(kernel):
        lower, (half, rest) = factor(kernel)
        inner, _, residual = _projected(half, rest)
        squares = (residual**2).sum()
        logs = 2 * jnp.log(jnp.diag(lower)).sum() + 2 * jnp.log(jnp.diag(inner)).sum()
        tiny = float(jnp.finfo(y.dtype).tiny)
        found = -(degrees * jnp.log(jnp.maximum(squares, tiny)) + logs) / 2
        return jnp.where(jnp.isfinite(found), found, -jnp.inf)

    best = jnp.argmax(jax.lax.map(likelihood, tables.kernel))
    kernel, inside, outside, variance = jax.tree.map(lambda a: a[best], tables)
    size = jnp.round((n + z.sum(1)) / 2).astype(jnp.int32)
    sections = jnp.where(z > 0, inside[size][:, None], -outside[size][:, None])
    sections = sections * weight[:, None]
    _, solved = factor(kernel, sections, jnp.eye(m, dtype=y.dtype))
    return _conditioned(*solved, variance=variance, degrees=degrees)


def _conditioned(half, rest, across, inverse, *, variance, degrees) -> Posterior:
    # What the free linear part has to explain of each value, and of each observation.
    gap = jnp.eye(half.shape[1], dtype=rest.dtype) - half.T @ across
    _, slopes, residual, gap, free = _projected(half, rest, gap, half.T @ inverse)
    values = slopes + across.T @ residual
    scale = (residual**2).sum() / jnp.maximum(degrees, 1)
    spread = variance - (across**2).sum(0) + (gap**2).sum(0)
    weights = inverse.T @ residual
    precision = (inverse**2).sum(0) - (free**2).sum(0)
    root = lambda a: jnp.sqrt(jnp.maximum(a, 0))
    return Posterior(
        values, root(spread * scale), weights / precision, root(scale / precision)
    )


def _projected(half, rest, *also):
    """Normal equations: their factor, the slopes, what these leave, other solutions."""
    inner = jnp.linalg.cholesky(half.T @ half)
    first, *others = triangular(inner, half.T @ rest, *also)
    slopes = solve_triangular(inner, first, trans="T", lower=True)
    return inner, slopes, rest - half @ slopes, *others
