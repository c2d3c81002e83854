r"""Shapley and Banzhaf values: the mean of what a feature adds to a coalition of others.

Few features have few coalitions: all are scored, and nothing is random. Of more, pairs of
complements are drawn over all sizes (`_design`), and what was not scored is said by a
Gaussian process over coalitions (`_gaussian`), whose deviation is the error; of thousands
of scores, which only a model that costs little is asked for, by least squares
(`_least_squares`), because then the solution would cost more than the scores.
"""

import dataclasses
import functools
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from igjax import _checks
from igjax._program.jax_internals import varying
from igjax.attribution import Attribution
from igjax.methods._draws import CONFIDENCE
from igjax.perturbation import _design, _gaussian, _least_squares, _looks, _subsets
from igjax.perturbation._games import (
    Game,
    check_budget,
    ends,
    played,
    random_attribution,
    result,
)

__all__ = ["banzhaf_values", "shapley_values"]

MOST_PAIRS = 1024  # of a Gaussian process; its solutions cost the third power
STEP = 16  # pairs scored together, with a tolerance
QUANTILE = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def shapley_values(f, *, budget: int = 512, tolerance=None, chunk_size=None):
    r"""Shapley values: what each feature adds, averaged over all orders of arrival.

    $$\phi_i = \sum_{S \not\ni i} \frac{|S|! \, (n - |S| - 1)!}{n!}
      \bigl[ v(S \cup i) - v(S) \bigr]$$

    with v(S) the score where the features in S are at x and the others at the baseline.
    Use it where f has no useful gradient (trees, steps, counts, a model that JAX cannot
    trace), or to see what the path of Integrated Gradients decides: they agree on
    multilinear functions. The corners mix x and the baseline; of images and texts take
    groups (`igjax.grouped`). It estimates what KernelSHAP, PermutationSHAP and Shapley
    sampling estimate, with a smaller error for the same scores
    (`python benchmarks/bench_shapley.py`), and tells the error.

    Where all 2^n coalitions are within the budget they are scored, and the values are
    exact. Else pairs of complements are, and a Gaussian process over coalitions reads
    them; above 2050 scores, least squares do. Choose the budget by cost: a model for
    which 2050 scores are nothing gains most from more of them.

    The values add up to f(x) - f(baseline) by construction, so that a small `delta`
    proves nothing here. `error` is the half-width of a 95% interval; how often it covers
    is in docs/without_gradients.md. It cannot know of what no coalition showed: a
    feature that matters in one in a million of them.

    Args:
        f: `f(x, *args) -> scalar`, as in `igjax.integrated_gradients`; no gradient is
            taken. A function that JAX cannot trace: `black_box`.
        budget: how many scores of f there may be, at least four for each feature.
        tolerance: relative to the sum of the absolute values, positive; None spends the
            budget. With a tolerance it is spent step by step, each twice as large, until
            the errors add up to no more. There is no reverse-mode derivative then.
        chunk_size: how many scores are computed side by side; None chooses.

    Returns:
        `attribute(key, x, baseline, *args) -> Attribution`. `forwards` counts the scores,
        `status` is NO_TOLERANCE without a tolerance, or where all coalitions were scored.
        Else it is TOLERANCE_MET where the errors are within the tolerance and a second
        estimate, unbiased by its design, agrees within the errors of both; NOT_VERIFIED
        where it does not; BUDGET_SPENT where the errors are larger.

    Raises:
        TypeError: as `igjax.integrated_gradients`, and if the key is none.
        ValueError: as `igjax.integrated_gradients`, and if the budget is too small, or
            with a tolerance above 2050, or the tolerance not positive.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> attribute = igjax.perturbation.shapley_values(jnp.min)
        >>> attribute(jax.random.key(0), jnp.array([1.0, 3.0]), jnp.zeros(2)).values
        Array([0.5, 0.5], dtype=float32)

    References:
        Shapley, "A Value for n-Person Games", 1953.
        Lundberg, Lee, "A Unified Approach to Interpreting Model Predictions", 2017.
        Musco, Witter, "Provably Accurate Shapley Value Estimation via Leverage Score
        Sampling", ICLR 2025: the sizes.
        Covert, Lee, "Improving KernelSHAP", AISTATS 2021: the pairs.
    """
    return _values("shapley_values", f, budget, tolerance, chunk_size)


def banzhaf_values(f, *, budget: int = 512, tolerance=None, chunk_size=None):
    r"""Banzhaf values: what each feature adds, averaged over all coalitions of others.

    $$\beta_i = 2^{-(n-1)} \sum_{S \not\ni i} \bigl[ v(S \cup i) - v(S) \bigr]$$

    All coalitions count the same, where Shapley values let all sizes count the same. The
    ranks of features are the most robust to noise in f among all such values; but they do
    not add up: `delta` is what is left. They are the best linear fit to all scores, and so
    what LIME tends to for a wide kernel.

    Args:
        f: as in `shapley_values`.
        budget: as in `shapley_values`, at most 2050 where not all coalitions are scored.
        tolerance: as in `shapley_values`.
        chunk_size: as in `shapley_values`.

    Returns:
        `attribute(key, x, baseline, *args) -> Attribution`, as `shapley_values`.

    Raises:
        TypeError: as `shapley_values`.
        ValueError: as `shapley_values`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> attribute = igjax.perturbation.banzhaf_values(jnp.prod)
        >>> attribute(jax.random.key(0), jnp.full(3, 2.0), 0.0).values
        Array([2., 2., 2.], dtype=float32)

    References:
        Banzhaf, "Weighted Voting Doesn't Work", 1965.
        Wang, Jia, "Data Banzhaf", AISTATS 2023.
    """
    return _values("banzhaf_values", f, budget, tolerance, chunk_size)


def _values(caller, f, budget, tolerance, chunk_size):
    _checks.count(caller, "budget", budget, 4)
    if tolerance is not None:
        _checks.tolerance(caller, tolerance)
    recipe = _recipe(caller, budget, None if tolerance is None else float(tolerance))
    return random_attribution(caller, recipe, f, chunk_size)


@functools.lru_cache
def _recipe(caller: str, budget: int, tolerance):
    shapley = caller == "shapley_values"

    def recipe(f, path, operands, draws, chunk_size) -> Attribution:
        del path
        game = played(f, operands, chunk_size)
        n = game.players
        if _subsets.count_within(n, budget):
            table = _subsets.scores(game)
            law = _subsets.shapley_law if shapley else _subsets.banzhaf_law
            values = _subsets.values(table, law)
            return result(game, values, 0 * values, _subsets.ends(table), 2**n)
        least = (not shapley) or tolerance is not None
        _check_budget(caller, n, budget, 2 * MOST_PAIRS + 2 if least else None)
        pairs = (budget - 2) // 2
        law = _design.even_law if shapley else _design.binomial_law
        if pairs > MOST_PAIRS:
            return _by_least_squares(game, draws.given, pairs)
        if tolerance is None:
            return _by_process(game, draws.given, pairs, law, shapley)
        return _within_tolerance(game, draws.given, pairs, law, shapley, tolerance)

    return recipe


def _check_budget(caller: str, n: int, budget: int, most) -> None:
    check_budget(caller, budget, 4 * n, f"four for each of the {n} features")
    if most is not None and budget > most:
        raise ValueError(
            f"{caller}: budget must be at most {most} here, got {budget}: what a Gaussian "
            "process can read."
        )


class _Pairs(NamedTuple):
    """A design on its way through the game."""

    z: Any  # (m, n), of -1 and 1
    mask_of: Any  # k -> the mask of the k-th score; two for each pair


def _drawn(game: Game, key, counts, order=None) -> _Pairs:
    masks = _design.masks(key, game.players, counts)
    if order is not None:
        masks = masks[order]
    mask_of = lambda k: masks[k // 2] ^ (k % 2 == 1)
    return _Pairs(jnp.where(masks, 1, -1).astype(game.dtype), mask_of)


def _scored(game: Game, pairs: _Pairs):
    found = game.scores(pairs.mask_of, 2 * len(pairs.z)).reshape(-1, 2)
    return ((found[:, 0] - found[:, 1]) / 2).astype(game.dtype)


def _with_end(z, g, end):
    """All features against none are one more pair."""
    z = jnp.concatenate([z, jnp.ones((1, z.shape[1]), z.dtype)])
    return z, jnp.concatenate([g, end[None].astype(g.dtype)])


def _by_process(game: Game, key, pairs: int, law, shapley: bool) -> Attribution:
    drawn = _drawn(game, key, _design.plan(game.players, pairs, law))
    start, end = ends(game)
    z, y = _with_end(drawn.z, _scored(game, drawn), (end - start) / 2)
    found = _gaussian.posterior(z, y, jnp.ones(len(y), bool), shapley=shapley)
    error = QUANTILE * found.deviation
    return result(game, found.values, error, (start, end), 2 * pairs + 2)


def _by_least_squares(game: Game, key, pairs: int) -> Attribution:
    counts = _design.plan(game.players, pairs, _design.even_law)
    drawn = _drawn(game, key, counts)
    start, end = ends(game)
    half = ((end - start) / 2).astype(game.dtype)
    values, deviation = _least_squares.fit(drawn.z, _scored(game, drawn), half, counts)
    return result(game, values, QUANTILE * deviation, (start, end), 2 * pairs + 2)


def _within_tolerance(game, key, pairs, law, shapley, tolerance) -> Attribution:
    """Twice as many pairs at each look, until the errors are within the tolerance."""
    n, step = game.players, min(STEP, pairs)
    looks = _looks.plan(n, pairs // step * step, step)
    drawn = _drawn(game, key, *_design.staged(n, looks, law))
    start, end = ends(game)
    unscored = jnp.zeros(len(drawn.z), game.dtype)
    z, _ = _with_end(drawn.z, unscored, (end - start) / 2)

    def read(g, count):
        seen = jnp.arange(len(z), dtype=jnp.int32) < count
        seen = seen.at[-1].set(True)
        y = _with_end(drawn.z, g, (end - start) / 2)[1]
        found = _gaussian.posterior(z, y, seen, shapley=shapley)
        error = QUANTILE * found.deviation
        return found, error, seen, _looks.is_within(found.values, error, tolerance)

    def more(carry):
        g, count = carry
        scores = game.scores(lambda k: drawn.mask_of(2 * count + k), 2 * step)
        new = ((scores[::2] - scores[1::2]) / 2).astype(g.dtype)
        return jax.lax.dynamic_update_slice(g, new, (count,)), count + step

    def look(carry):
        g, count, k, _ = carry
        stop = jnp.asarray(looks, jnp.int32)[k]
        g, count = jax.lax.while_loop(lambda c: c[1] < stop, more, (g, count))
        return g, count, k + 1, read(g, count)[-1]

    carry = unscored, jnp.int32(0), jnp.int32(0), jnp.array(False)
    carry = varying(carry, (z, start, end))
    unmet = lambda carry: ~carry[-1] & (carry[-2] < len(looks))
    g, count, _, met = jax.lax.while_loop(unmet, look, carry)
    found, error, seen, _ = read(g, count)
    status = _looks.answer(found.values, met, _agrees(found, z, seen, shapley))
    known = result(game, found.values, error, (start, end), 2 * count + 2)
    return dataclasses.replace(known, status=status)


def _agrees(found, z, seen, shapley: bool):
    """Whether the values are those that the design knows, without any process.

    What the others say of each pair, and what was seen, differ by residuals. Weighed as
    the design was drawn, they add up to what the values lack, whatever f is; within what
    that sum and the values are uncertain by, there must be nothing.
    """
    n = z.shape[1]
    inside, outside = _design.unbiased(n, shapley=shapley)
    size = ((n + z.sum(1)) / 2).round().astype(jnp.int32)
    counts = jnp.zeros(n + 1, z.dtype).at[size].add(seen.astype(z.dtype))
    table = lambda a: jnp.asarray(a, z.dtype)[size] / jnp.maximum(counts, 1)[size]
    weights = jnp.where(z > 0, table(inside)[:, None], -table(outside)[:, None])
    parts = weights * jnp.where(seen, found.left_out, 0)[:, None]
    lack, known = parts.sum(0), (parts**2).sum(0) + found.deviation**2
    return (lack**2).sum() <= _looks.DOUBT**2 * known.sum()
