r"""Pairwise interactions from some coalitions: a quadratic fit, and what it misses.

The Shapley interaction of two features is a sum over sizes s of means over coalitions S,

$$I_{ij} = \sum_{s=0}^{n} \mathrm{E}_{|S| = s} \, W_s(|S \cap ij|) \, v(S), \qquad
  W_s = \frac{n}{(n-s)(n-s-1)}, \; \frac{-n}{s (n-s)}, \; \frac{n}{s (s-1)}$$

for none, one and both of them in S; a Shapley value is one with the weights 1 / s and
-1 / (n - s). Sizes 0, 1, n - 1 and n are taken whole; of the others pairs of complements
are drawn. Drawn alone, these sums are noisy. So a function of second order is fitted, whose
interactions are its coefficients, and only what it misses is summed: each half of the
pairs is corrected by the fit of the other half, which makes the sum unbiased and its
spread an honest error.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from igjax.methods._draws import CONFIDENCE, student
from igjax.perturbation._games import Game
from igjax.perturbation._systems import positive

RIDGE = 1e-6  # of the mean square of the columns: enough to solve, and made up for


class Estimate(NamedTuple):
    """The matrix of interactions, rows adding up to Shapley values."""

    matrix: Any
    error: Any  # half-widths of 95% intervals
    ends: Any  # the scores of nobody and of all


def parameters(n: int) -> int:
    """How many numbers the fit has."""
    return 1 + n + n * (n - 1) // 2


def scores_of(n: int, pairs: int) -> int:
    """How many scores are taken for so many pairs."""
    return 2 * pairs + 2 * n + 2


def estimate(game: Game, key, pairs: int) -> Estimate:
    """Interactions from so many pairs, an even number, and the sizes taken whole."""
    n = game.players
    whole = jnp.asarray(_whole(n))
    of_whole = game.scores(lambda k: whole[k], len(whole)).astype(game.dtype)
    masks = _drawn(key, n, pairs)
    mask_of = lambda k: masks[k // 2] ^ (k % 2 == 1)
    drawn = game.scores(mask_of, 2 * pairs).astype(game.dtype).reshape(-1, 2)
    x, rim = masks.astype(game.dtype), whole.astype(game.dtype)
    halves = [jnp.stack([a[0::2], a[1::2]]) for a in (x, drawn)]
    others = [a[::-1] for a in halves]

    def one(mine, other):
        return _corrected(_fit(other, (rim, of_whole)), mine, (rim, of_whole))

    # Mapped, not looped over: two systems at once may hang, see `_systems`.
    matrices, variances = jax.vmap(one)(halves, others)
    matrix, variance = matrices.mean(0), variances.mean(0) / 2
    width = student((1 + CONFIDENCE) / 2, pairs - 2)
    return Estimate(matrix, width * jnp.sqrt(variance), (of_whole[0], of_whole[-1]))


def _whole(n: int) -> np.ndarray:
    """All coalitions of 0, 1, n - 1 and n."""
    one = np.eye(n, dtype=bool)
    return np.concatenate([np.zeros((1, n), bool), one, ~one, np.ones((1, n), bool)])


def _drawn(key, n: int, pairs: int):
    """Coalitions of 2 to n - 2, all sizes alike, each place in turn for either half."""
    sizes = 2 + np.arange(pairs) // 2 % (n - 3)
    places = jnp.argsort(jnp.argsort(jax.random.uniform(key, (pairs, n)), -1), -1)
    return places < jnp.asarray(sizes, places.dtype)[:, None]


def _columns(x):
    """1, each feature, each product of two, of rows of zeros and ones."""
    i, j = np.triu_indices(x.shape[1], 1)
    return jnp.concatenate([jnp.ones_like(x[:, :1]), x, x[:, i] * x[:, j]], 1)


def _fit(drawn, rim):
    """The coefficients of second order that fit the scores best."""
    x, scores = drawn
    rows = jnp.concatenate([x, 1 - x, rim[0]])
    given = jnp.concatenate([scores[:, 0], scores[:, 1], rim[1]])
    columns = _columns(rows - 0.5)
    normal = columns.T @ columns
    normal = normal + RIDGE * jnp.trace(normal) / len(normal) * jnp.eye(
        len(normal), dtype=normal.dtype
    )
    return positive(normal, columns.T @ given)[0]


def _corrected(fit, drawn, rim):
    """The matrix by a fit and what it misses, and the variance of that."""
    (x, scores), n = drawn, drawn[0].shape[1]
    predict = lambda rows: _columns(rows - 0.5) @ fit
    misses = scores - jnp.stack([predict(x), predict(1 - x)], 1)
    even, odd = misses.mean(1), (misses[:, 0] - misses[:, 1]) / 2
    sizes, count = n - 3, len(x)
    drawn_pair = sizes * _sums(x, even, 1) / count
    drawn_value = sizes * _alone(x, odd, 1) / count
    pair_square = sizes**2 * _sums(x, even**2, 2) / count
    value_square = sizes**2 * _alone(x, odd**2, 2) / count
    of_rim = rim[1] - predict(rim[0])
    size = rim[0].sum(1)
    share = of_rim / jnp.where((size == 0) | (size == n), 1, n)
    pair = drawn_pair + _sums(rim[0], share, 1)
    value = drawn_value + _alone(rim[0], share, 1)
    i, j = np.triu_indices(n, 1)
    own = jnp.zeros((n, n), x.dtype).at[i, j].set(fit[1 + n :])
    half = _off_diagonal((pair + own + own.T) / 2)
    # Centred at a half the slopes are the Shapley values of the fit.
    matrix = half + jnp.diag(value + fit[1 : 1 + n] - half.sum(1))
    # Row sums of the weights of pairs are 0: a diagonal varies as its value does.
    spread = lambda square, mean: jnp.maximum(square - mean**2, 0) / (count - 1)
    off = _off_diagonal(spread(pair_square, drawn_pair)) / 4
    return matrix, off + jnp.diag(spread(value_square, drawn_value))


def _off_diagonal(a):
    return a * (1 - jnp.eye(len(a), dtype=a.dtype))


def _sums(x, weights, power: int):
    """Sums over rows of weights times W, or its square, for each two features."""
    n = x.shape[1]
    s = x.sum(1)
    safe = lambda a: jnp.where(a == 0, 1, a)
    none = n / safe((n - s) * (n - s - 1))
    one, both = -n / safe(s * (n - s)), n / safe(s * (s - 1))
    none, one, both = (weights * w**power for w in (none, one, both))
    out = 1 - x
    mixed = (x * one[:, None]).T @ out
    return (out * none[:, None]).T @ out + mixed + mixed.T + (x * both[:, None]).T @ x


def _alone(x, weights, power: int):
    """The same of the weights of Shapley values, for each feature."""
    n = x.shape[1]
    s = x.sum(1)
    up, down = 1 / jnp.where(s == 0, 1, s), -1 / jnp.where(s == n, 1, n - s)
    return (weights * up**power) @ x + (weights * down**power) @ (1 - x)
