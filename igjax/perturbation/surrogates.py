"""A line through scores of random masks: LIME, with weights; RISE, feature by feature.

Masks come in pairs whose features are kept in opposite ways, so that what is constant
cancels; pairs are independent, and so is what each of them adds to the error.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks
from igjax.attribution import Attribution
from igjax.methods._draws import CONFIDENCE
from igjax.perturbation import _looks, _subsets
from igjax.perturbation._games import (
    Game,
    check_budget,
    ends,
    played,
    random_attribution,
    result,
)
from igjax.perturbation._systems import positive

__all__ = ["lime", "rise"]

QUANTILE = (1 + CONFIDENCE) / 2
STEP = 16  # pairs scored together, with a tolerance


def lime(f, *, width=0.25, ridge=0.0, budget: int = 512, tolerance=None, chunk_size=None):
    r"""LIME: the slopes of a weighted line through scores around x, with intervals.

    $$\min_{b_0, b} \; \mathrm{E}_z\, \pi(z) \bigl( v(z) - b_0 - b \cdot z \bigr)^2
      \big/ \mathrm{E}_z\, \pi(z) + \lambda \lVert b \rVert^2, \qquad
      \pi(z) = e^{-(1 - \sqrt{|z| / n})^2 / w^2}$$

    over masks z that keep each feature with probability 1/2; the distance is that of the
    cosine. Use it to compare with what others report, and for its local weights. It is
    not complete: `delta` is what is left. For a wide kernel without ridge it is
    `banzhaf_values`; what a narrow one does to the values depends on n, and nothing in the
    result can tell whether the width was a good one. Other libraries select features by a
    lasso, which shrinks values by an amount they do not report; there is none here.

    Args:
        f: `f(x, *args) -> scalar`, as in `shapley_values`.
        width: w, positive; `float("inf")` weighs all masks alike.
        ridge: lambda, in units of the mean weighted square; 0 for none.
        budget: how many scores of f there may be; all 2^n masks, if that is less.
        tolerance: relative to the sum of the absolute values, positive; None spends the
            budget. With a tolerance it is spent step by step, each twice as large, until
            the errors add up to no more. There is no reverse-mode derivative then.
        chunk_size: how many scores are computed side by side; None chooses.

    Returns:
        `attribute(key, x, baseline, *args) -> Attribution`. `error` is the half-width of a
        95% interval for the slopes that all masks would give (a sandwich, HC3, with pairs
        as clusters), 0 if all are scored. Without a tolerance status is
        NO_TOLERANCE. Else it is TOLERANCE_MET where the errors are within it and the two
        halves of the draws agree, NOT_VERIFIED where these do not, or BUDGET_SPENT.

    Raises:
        TypeError: as `shapley_values`.
        ValueError: as `shapley_values`, and if width or ridge are out of range.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> attribute = igjax.perturbation.lime(lambda x: 2 * x[0] - x[1])
        >>> attribute(jax.random.key(0), jnp.array([1.0, 3.0]), 0.0).values.round(2)
        Array([ 2., -3.], dtype=float32)

    References:
        Ribeiro, Singh, Guestrin, "Why Should I Trust You?", KDD 2016.
        Garreau, von Luxburg, "Explaining the Explainer", AISTATS 2020.
    """
    _checks.count("lime", "budget", budget, 4)
    if not width > 0:
        raise ValueError(f"lime: width must be positive, got {width}.")
    if not 0 <= ridge < np.inf:
        raise ValueError(f"lime: ridge must be at least 0 and finite, got {ridge}.")
    recipe = _line(budget, float(width), float(ridge), _looks.asked("lime", tolerance))
    return random_attribution("lime", recipe, f, chunk_size)


def rise(f, *, keep: float = 0.5, budget: int = 512, tolerance=None, chunk_size=None):
    r"""RISE: how the score of random masks goes with the presence of each feature.

    $$a_i = \frac{\mathrm{Cov}(v(M), M_i)}{\mathrm{Var}(M_i)}
      = \mathrm{E}[v(M) \mid M_i = 1] - \mathrm{E}[v(M) \mid M_i = 0]$$

    over masks M that keep each feature with probability `keep`, by itself. The original
    divides a weighted sum of masks by their mean, which gives a constant map to a constant
    f; this one gives 0. It is the weighted Banzhaf value. Use it on the cells of a grid
    over an image: `igjax.grouped(f, count, method=...)`; where scores are few for many
    cells it is noisier than `banzhaf_values`, which fits all of them at once, but it has
    no limit on their number.

    Args:
        f: `f(x, *args) -> scalar`, as in `shapley_values`.
        keep: the probability that a feature stays at x, in (0, 1).
        budget: how many scores of f there may be, at least 8.
        tolerance: relative to the sum of the absolute values, positive; None spends the
            budget. With a tolerance it is spent step by step, each twice as large, until
            the errors add up to no more. There is no reverse-mode derivative then.
        chunk_size: how many scores are computed side by side; None chooses.

    Returns:
        `attribute(key, x, baseline, *args) -> Attribution`. `error` is the half-width of a
        95% interval (Student's t over pairs). Without a tolerance status is
        NO_TOLERANCE. Else it is TOLERANCE_MET where the errors are within it and the two
        halves of the draws agree, NOT_VERIFIED where these do not, or BUDGET_SPENT.

    Raises:
        TypeError: as `shapley_values`.
        ValueError: as `shapley_values`, and if keep is not in (0, 1).

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> attribute = igjax.perturbation.rise(lambda x: x[0] + 0 * x[1])
        >>> result = attribute(jax.random.key(0), jnp.ones(2), 0.0)
        >>> bool(jnp.all(jnp.abs(result.values - jnp.array([1, 0])) <= result.error + 1e-6))
        True

    References:
        Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box
        Models", BMVC 2018.
        Marichal, Mathonet, "Weighted Banzhaf Power and Interaction Indexes", 2011.
    """
    _checks.count("rise", "budget", budget, 8)
    if not 0 < keep < 1:
        raise ValueError(f"rise: keep must be between 0 and 1, got {keep}.")
    recipe = _covariances(budget, float(keep), _looks.asked("rise", tolerance))
    return random_attribution("rise", recipe, f, chunk_size)


@functools.lru_cache
def _line(budget: int, width: float, ridge: float, tolerance):
    def recipe(f, path, operands, draws, chunk_size) -> Attribution:
        del path
        game = played(f, operands, chunk_size)
        n = game.players
        every = _subsets.count_within(n, budget)
        if every:
            masks = (_counted(2**n)[:, None] >> _counted(n)[None]) & 1 > 0
        else:
            check_budget("lime", budget, 4 * n, f"four for each of the {n} features")
            half = jax.random.bernoulli(draws.given, 0.5, ((budget - 2) // 2, n))
            masks = jnp.stack([half, ~half], 1).reshape(-1, n)
        z = masks.astype(game.dtype)
        weights = jnp.exp(-(((1 - jnp.sqrt(z.mean(1))) / width) ** 2))

        def read(scores, seen, quantile):
            rows = scores.reshape(-1)
            known = weights[: len(rows)] * jnp.repeat(seen, 2).astype(weights.dtype)
            count = seen.astype(weights.dtype).sum()
            return _fit(z[: len(rows)], rows, known, ridge, (count, quantile))

        if every:
            scores = game.scores(lambda k: masks[k], len(masks)).astype(game.dtype)
            values, _ = read(scores, jnp.ones(len(masks) // 2, bool), None)
            return result(game, values, 0 * values, ends(game), len(masks) + 2)
        return _by_pairs(game, lambda k: masks[k], len(masks) // 2, read, tolerance)

    return recipe


def _by_pairs(game: Game, mask_of, pairs: int, read, tolerance) -> Attribution:
    """Scores of pairs of masks, read: all of them, or until a tolerance is met."""
    if tolerance is None:
        scores = game.scores(mask_of, 2 * pairs).astype(game.dtype).reshape(-1, 2)
        values, error = read(scores, jnp.ones(pairs, bool), QUANTILE)
        return result(game, values, error, ends(game), 2 * pairs + 2)
    step = min(STEP, pairs)
    pairs = pairs // step * step

    def more(count):
        found = game.scores(lambda k: mask_of(2 * count + k), 2 * step)
        return found.astype(game.dtype).reshape(-1, 2)

    looks = _looks.plan(game.players, pairs, step)
    unscored = jnp.zeros((pairs, 2), game.dtype)
    found = _looks.spend(more, read, unscored, looks, step, tolerance)
    values, error, count, status = found
    known = result(game, values, error, ends(game), 2 * count + 2)
    return dataclasses.replace(known, status=status)


def _counted(count: int):
    return jnp.arange(count, dtype=jnp.int32)


def _fit(masks, scores, weights, ridge: float, draws):
    """Slopes, and half-widths of their intervals; rows 2k and 2k + 1 are one draw."""
    count, quantile = draws
    n = masks.shape[1]
    weights = weights / weights.sum()
    # About their means, so that the line needs no height.
    masks, scores = masks - (weights @ masks)[None], scores - weights @ scores
    moves = masks * weights[:, None]
    normal = moves.T @ masks + ridge * jnp.eye(n, dtype=masks.dtype)
    slopes, each = positive(normal, moves.T @ scores, moves.T)
    each = each.T  # what a row moves the slopes by
    leverage = (masks * each).sum(1) + weights
    left = (scores - masks @ slopes) / jnp.maximum(1 - leverage, 1e-3)
    pairs = (each * left[:, None]).reshape(-1, 2, n).sum(1)
    return slopes, _looks.half_width(quantile, count) * jnp.sqrt((pairs**2).sum(0))


@functools.lru_cache
def _covariances(budget: int, keep: float, tolerance):
    def recipe(f, path, operands, draws, chunk_size) -> Attribution:
        del path
        game = played(f, operands, chunk_size)

        def mask_of(k):
            places = jax.random.uniform(
                jax.random.fold_in(draws.given, k // 2), (game.players,)
            )
            return jnp.where(k % 2 == 0, places, 1 - places) < keep

        def read(scores, seen, quantile):
            return _slopes(game, mask_of, scores, (keep, seen, quantile))

        return _by_pairs(game, mask_of, (budget - 2) // 2, read, tolerance)

    return recipe


def _slopes(game: Game, mask_of, scores, options):
    """The slope over each feature alone; masks are drawn again, and never kept."""
    keep, seen, quantile = options
    weight = seen.astype(game.dtype)
    pairs = weight.sum()
    mean = (scores * weight[:, None]).sum() / (2 * pairs)
    scores = scores - mean

    def sums(of_pair, like):
        add = lambda total, k: (total + weight[k] * of_pair(k), None)
        start = jnp.zeros((like, game.players), game.dtype) + 0 * scores.sum()
        return jax.lax.scan(add, start, _counted(len(scores)))[0]

    def parts(k):
        both = jnp.stack([mask_of(2 * k), mask_of(2 * k + 1)]).astype(game.dtype) - keep
        return scores[k] @ both, (both**2).sum(0)

    over, under = sums(lambda k: jnp.stack(parts(k)), 2)
    values = over / under

    def square(k):
        up, down = parts(k)
        return ((up - values * down) ** 2)[None]

    deviation = jnp.sqrt(sums(square, 1)[0] * pairs / (pairs - 1)) / under
    return values, _looks.half_width(quantile, pairs) * deviation
