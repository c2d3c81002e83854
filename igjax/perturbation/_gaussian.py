r"""Values of features from the scores of some coalitions, by a Gaussian process over all.

With z in {-1, 1}^n for a coalition, half the difference of a pair is taken to be

$$g(z) = \tfrac12 \, b \cdot z + h(z), \qquad
  h \sim \mathrm{GP}\bigl(0, \sigma^2 k_\rho\bigr), \qquad
  k_\rho(z, z') \propto \prod_i (1 + \rho_i z_i z'_i) - \prod_i (1 - \rho_i z_i z'_i)
  - \text{(its linear part)}$$

b has a flat prior: what is additive is explained for free and exactly, and h is what the
features do in threes, fives and so on, each by the product of its members' couplings rho.
Couplings that are alike are tried first; then some in proportion to how much each feature
changes h, as far as that is known, which is how the few that act together are found. Those
with the best restricted likelihood are kept. They are from a grid, so that the values are
linear in the scores, almost everywhere; their posterior mean and deviation are closed
forms: those of a section k(., z') are integrals along the diagonal of its multilinear
extension, by Gauss-Legendre, exactly. Of Banzhaf values, the gradients in the middle of the
cube, only the linear part is left: they are b.

What is left of a kernel without its linear part is small where the couplings are; so all is
computed from differences that do not cancel: sinh(s) - s, expm1 and log1p.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from igjax import _gauss
from igjax._program.jax_internals import varying
from igjax.perturbation._systems import triangular

# Of the feature that does most.
COUPLINGS = (0.03, 0.06, 0.12, 0.2, 0.3, 0.45, 0.6, 0.8, 0.95, 0.99)
ROUNDS = 5  # of couplings, each from the shares that those before it found
LEAST = 0.02  # of a share: a feature that h does not seem to depend on
FINE = 2  # steps of the grid of shares in a factor of two
ENOUGH = 512  # about so many observations, evenly chosen, decide on couplings
SERIES = 8  # terms of sinh(s) - s for |s| < 1, to the last digit of float64
NUGGET = 100  # units of rounding of what the kernel explains, added to it


class Posterior(NamedTuple):
    """What is known of the values of features."""

    values: Any
    deviation: Any
    left_out: Any  # of each observation, its difference from what the others say of it
    left_out_deviation: Any


class _Seen(NamedTuple):
    """Coalitions, what was observed of them, and of which anything was."""

    z: Any  # (m, n) of -1 and 1
    y: Any  # (m,), 0 where nothing was observed
    weight: Any  # (m,), 0 there and 1 elsewhere


class _Solved(NamedTuple):
    """Observations in coordinates in which they are independent and vary alike."""

    lower: Any
    half: Any  # what the linear part explains
    rest: Any  # what was observed
    more: list


def _logs(rho):
    """bend, mean and top of prod(1 + rho z z') = exp(mean + bend . z z') <= exp(top)."""
    return jnp.arctanh(rho), jnp.log1p(-(rho**2)).sum() / 2, jnp.log1p(rho).sum()


def _grown(z, rho):
    """The exponents s of all pairs of rows, and both products, divided by the largest."""
    bend, mean, top = _logs(rho)
    s = (z * bend[None]) @ z.T
    return s, jnp.exp(mean - top + s), jnp.exp(mean - top - s)


def _kernel(z, rho):
    """k(z, z') of all pairs of rows; what they share is a factor exp(-sum log(1 + rho))."""
    bend, mean, top = _logs(rho)
    s, up, down = _grown(z, rho)
    squared = s * s
    series = 1.0
    for k in range(SERIES, 1, -1):
        series = 1 + squared / (2 * k * (2 * k + 1)) * series
    size = jnp.exp(mean - top)
    large = (up - down) / 2 - size * s
    curved = jnp.where(jnp.abs(s) < 1, size * s * squared / 6 * series, large)
    straight = jnp.exp(-top) * (jnp.expm1(mean) * bend + (bend - rho))
    return curved + (z * straight[None]) @ z.T


def _sections(z, rho):
    """The Shapley values of k(., z') for each row, and the variances of values under k."""
    n = len(rho)
    t, weights = _gauss.nodes_and_weights(n // 2 + 2)
    nodes, weights = jnp.asarray(2 * t - 1, z.dtype), jnp.asarray(weights, z.dtype)
    rows = jnp.concatenate([z, jnp.broadcast_to(nodes[:, None], (len(nodes), n))])
    _, _, top = _logs(rho)

    def add(total, node):
        u, weight = node
        parts = jnp.log1p(u * rho[None] * rows)
        others = parts.sum(1, keepdims=True) - parts
        small = jnp.exp(-top) * jnp.expm1(jnp.minimum(others, 1))
        large = jnp.exp(others - top) - jnp.exp(-top)
        return total + weight * jnp.where(others < 1, small, large), None

    total, _ = jax.lax.scan(add, 0 * rows, (nodes, weights))
    means, diagonal = total[: len(z)], total[len(z) :]
    return 2 * rho[None] * z * means, 4 * rho * (weights @ diagonal)


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
    data = _Seen(z, jnp.where(seen, y, 0), seen.astype(y.dtype))
    rho = _couplings(jax.lax.stop_gradient(data))
    if shapley:
        sections, variance = (a / _size(rho) for a in _sections(z, rho))
    else:
        sections, variance = jnp.zeros_like(z), jnp.zeros_like(rho)
    also = sections * data.weight[:, None], jnp.eye(m, dtype=y.dtype)
    known = _solved(data, rho, *also)
    degrees = data.weight.sum() - n
    return _conditioned(known, variance=variance, degrees=degrees)


def _couplings(data: _Seen):
    """The couplings, of those tried, under which what was observed is likeliest."""
    m, n = data.z.shape
    apart = max(1, round(m / max(ENOUGH, 2 * n)))
    data = jax.tree.map(lambda a: a[::-1][::apart], data)  # the last one is the whole

    def climb(carry):
        k, best, rho, share, _ = carry
        grid = jnp.asarray(COUPLINGS, share.dtype)[:, None] * share[None]
        found = jax.lax.map(lambda rho: _likelihood(data, rho), grid)
        most = jnp.argmax(found)
        better = found[most] > best
        rho = jnp.where(better, grid[most], rho)
        best = jnp.maximum(found[most], best)
        return k + 1, best, rho, _shares(data, rho), better

    # A round that finds nothing better would be the same again.
    goes_on = lambda carry: (carry[0] < ROUNDS) & carry[-1]
    dtype = data.y.dtype
    rho = jnp.full(n, COUPLINGS[0], dtype)
    start = jnp.int32(0), jnp.full((), -jnp.inf, dtype), rho, jnp.ones(n, dtype), True
    start = varying(jax.tree.map(jnp.asarray, start), tuple(data))
    return jax.lax.while_loop(goes_on, climb, start)[2]


def _size(rho):
    """What the kernel is divided by: its value for a coalition and itself."""
    size = _kernel(jnp.ones((1, len(rho)), rho.dtype), rho)[0, 0]
    return jnp.maximum(size, float(jnp.finfo(rho.dtype).tiny))


def _covariance(data: _Seen, rho):
    """That of the observations, with variances of one; of what was not seen, the unit's."""
    nugget = NUGGET * float(jnp.finfo(rho.dtype).eps)
    diagonal = 1 + nugget * data.weight
    scaled = _kernel(data.z, rho) / _size(rho)
    scaled = scaled * data.weight[:, None] * data.weight[None]
    return jnp.where(jnp.eye(len(scaled), dtype=bool), diagonal[None], scaled)


def _solved(data: _Seen, rho, *also) -> _Solved:
    lower = jnp.linalg.cholesky(_covariance(data, rho))
    linear = data.z / 2 * data.weight[:, None]
    half, rest, *more = triangular(lower, linear, data.y, *also)
    return _Solved(lower, half, rest, more)


def _likelihood(data: _Seen, rho):
    """The logarithm of the restricted likelihood, but for what all couplings share."""
    known = _solved(data, rho)
    inner, _, residual = _projected(known.half, known.rest)
    tiny = float(jnp.finfo(rho.dtype).tiny)
    squares = jnp.maximum((residual**2).sum(), tiny)
    logs = jnp.log(jnp.diag(known.lower)).sum() + jnp.log(jnp.diag(inner)).sum()
    degrees = data.weight.sum() - len(rho)
    found = -degrees * jnp.log(squares) / 2 - logs
    return jnp.where(jnp.isfinite(found), found, -jnp.inf)


def _shares(data: _Seen, rho):
    """By how much each feature changes h, relative to the one that does most."""
    known = _solved(data, rho)
    residual = _projected(known.half, known.rest)[2]
    pulled = solve_triangular(known.lower, residual, trans="T", lower=True)
    moved = _flipped(data.z, rho, pulled * data.weight)
    size = jnp.sqrt((data.weight[:, None] * moved**2).sum(0))
    share = size / jnp.maximum(size.max(), float(jnp.finfo(rho.dtype).tiny))
    return 2.0 ** (jnp.round(FINE * jnp.log2(jnp.maximum(share, LEAST))) / FINE)


def _flipped(z, rho, pulled):
    """By how much h changes where one feature comes or goes, at each row: (m, n)."""
    bend, _, top = _logs(rho)
    _, up, down = _grown(z, rho)
    odd, even = (up - down) @ pulled / 2, (up + down) @ (z * pulled[:, None]) / 2
    straight = jnp.exp(-top) * rho * (pulled @ z)
    # sinh(s - 2 b z z') = sinh(s) cosh(2 b) - z z' cosh(s) sinh(2 b)
    changed = odd[:, None] * (jnp.cosh(2 * bend) - 1)[None]
    changed = changed - z * even * jnp.sinh(2 * bend)[None]
    return changed + 2 * z * straight[None]


def _conditioned(known: _Solved, *, variance, degrees) -> Posterior:
    half, rest, (across, inverse) = known.half, known.rest, known.more
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
