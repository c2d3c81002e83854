r"""Shapley interactions: what two features do together, from all coalitions.

The matrix is built as that of `igjax.integrated_hessians` is: off the diagonal stands half
of the interaction of two features, for each of them, and on it what one does alone, so
that its rows add up to the Shapley values.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks
from igjax._tree import gap
from igjax.attribution import Attribution
from igjax.integration.recipes import without_tolerance
from igjax.perturbation import _quadratic, _subsets
from igjax.perturbation._games import (
    attribution,
    check_budget,
    played,
    random_attribution,
)

__all__ = ["sampled_interactions", "shapley_interactions"]


def shapley_interactions(f, *, budget: int = 4096, chunk_size=None):
    r"""The matrix of pairwise Shapley interactions: rows add up to Shapley values.

    $$\Phi_{ij} = \tfrac12 \sum_{S \not\ni i, j} \frac{|S|! \, (n - |S| - 2)!}{(n - 1)!}
      \bigl[ v(S \cup ij) - v(S \cup i) - v(S \cup j) + v(S) \bigr], \qquad
      \Phi_{ii} = \phi_i - \sum_{j \neq i} \Phi_{ij}$$

    Half of the Shapley interaction index (k-SII of order two) off the diagonal. Use it for
    functions without second derivatives, where `igjax.integrated_hessians` sees nothing,
    on up to 16 features or groups: `igjax.grouped(f, count, method=shapley_interactions)`.
    All 2^n coalitions are scored, and nothing is random; of more features:
    `sampled_interactions`.

    Args:
        f: `f(x, *args) -> scalar`, as in `shapley_values`.
        budget: how many scores of f there may be, at least 2^n.
        chunk_size: how many scores are computed side by side; None chooses.

    Returns:
        `attribute(x, baseline, *args) -> Attribution`, whose values are a pytree like x of
        pytrees like x, as those of `jax.hessian`; `error` is 0.

    Raises:
        TypeError: as `shapley_values`.
        ValueError: as `shapley_values`, and if the coalitions are more than the budget.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> attribute = igjax.perturbation.shapley_interactions(jnp.min)
        >>> attribute(jnp.array([1.0, 3.0]), 0.0).values  # neither does a thing alone
        Array([[0. , 0.5],
               [0.5, 0. ]], dtype=float32)

    References:
        Grabisch, Roubens, "An Axiomatic Approach to the Concept of Interaction among
        Players in Cooperative Games", 1999.
        Lundberg et al., "From Local Explanations to Global Understanding with Explainable
        AI for Trees", 2020: the matrix.
    """
    _checks.count("shapley_interactions", "budget", budget, 4)
    recipe = _recipe(budget)
    inner = attribution("shapley_interactions", recipe, f, chunk_size)
    return functools.partial(inner, None)


@functools.lru_cache
def _recipe(budget: int):
    def recipe(f, path, operands, draws, chunk_size) -> Attribution:
        del path, draws
        game = played(f, operands, chunk_size)
        n = game.players
        check_budget("shapley_interactions", budget, 2**n, f"all coalitions of {n}")
        table = _subsets.scores(game)
        half = _subsets.pairs(table, _subsets.shapley_law) / 2
        alone = _subsets.values(table, _subsets.shapley_law) - half.sum(1)
        matrix = half + jnp.diag(alone)
        start, end = _subsets.ends(table)
        rows = jax.vmap(game.unravel, out_axes=0)(matrix)  # leaves (n, *shape)
        values = _split_rows(rows, operands.x)
        zeros = jax.tree.map(jnp.zeros_like, values)
        delta = gap(matrix, start, end)
        return without_tolerance(values, zeros, delta, start, end, 0, 2**n)

    return recipe


def sampled_interactions(f, *, budget: int = 4096, chunk_size=None):
    r"""The matrix of `shapley_interactions`, of more features than all coalitions allow.

    A function of second order is fitted to the scores, and what it misses is estimated
    without bias, on scores that it was not fitted to. So functions in which features act
    in pairs are exact, and others have an error that tells how far they are from that. Use
    it from 17 features on.

    Args:
        f: `f(x, *args) -> scalar`, as in `shapley_values`, of at least 6 features.
        budget: how many scores of f there may be, at least four for each of the
            1 + n + n (n - 1) / 2 numbers of the fit.
        chunk_size: how many scores are computed side by side; None chooses.

    Returns:
        `attribute(key, x, baseline, *args) -> Attribution`, whose values are a pytree like
        x of pytrees like x; rows add up to Shapley values. `error` is the half-width of a
        95% interval. The values add up by construction, so that a small `delta` proves
        nothing. Status is NO_TOLERANCE.

    Raises:
        TypeError: as `shapley_values`.
        ValueError: as `shapley_values`, and if the budget is too small or the features
            are too few.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x: x[0] * x[1] + x[2:].sum()
        >>> attribute = igjax.perturbation.sampled_interactions(f, budget=512)
        >>> result = attribute(jax.random.key(0), jnp.ones(8), 0.0)
        >>> bool(abs(result.values[0, 1] - 0.5) < 1e-2), bool(result.error.max() < 1e-2)
        (True, True)

    References:
        Fumagalli, Muschalik, Kolpaczki, Hüllermeier, Hammer, "SHAP-IQ: Unified
        Approximation of Any-Order Shapley Interactions", NeurIPS 2023: the sums.
        Witter, Liu, Musco, "Regression-Adjusted Monte Carlo Estimators for Shapley Values
        and Probabilistic Values", 2025: what a fit misses, summed.
    """
    _checks.count("sampled_interactions", "budget", budget, 4)
    return random_attribution("sampled_interactions", _sampled(budget), f, chunk_size)


@functools.lru_cache
def _sampled(budget: int):
    def recipe(f, path, operands, draws, chunk_size) -> Attribution:
        del path
        game = played(f, operands, chunk_size)
        n = game.players
        if n < 6:
            raise ValueError(
                f"sampled_interactions: x must have at least 6 features, got {n}. Take "
                "igjax.perturbation.shapley_interactions, which is exact."
            )
        least = 4 * _quadratic.parameters(n)
        why = f"four for each number of a fit to {n} features"
        check_budget("sampled_interactions", budget, least, why)
        pairs = (budget - _quadratic.scores_of(n, 0)) // 4 * 2
        found = _quadratic.estimate(game, draws.given, pairs)
        rows = lambda a: _split_rows(jax.vmap(game.unravel)(a), operands.x)
        start, end = found.ends
        delta = gap(found.matrix, start, end)
        both = rows(found.matrix), rows(found.error)
        spent = _quadratic.scores_of(n, pairs)
        return without_tolerance(*both, delta, start, end, 0, spent)

    return recipe


def _split_rows(rows, x):
    """From rows of pytrees to a pytree of pytrees: the rows of each leaf have its axes."""
    leaves, structure = jax.tree.flatten(x)
    cuts = np.cumsum([a.size for a in leaves])[:-1]
    pieces = jax.tree.map(lambda a: jnp.split(a, cuts), rows)
    of_leaf = lambda i, leaf: jax.tree.map(
        lambda parts: parts[i].reshape(*leaf.shape, *parts[i].shape[1:]),
        pieces,
        is_leaf=lambda a: isinstance(a, list) and all(isinstance(p, jax.Array) for p in a),
    )
    return structure.unflatten([of_leaf(i, leaf) for i, leaf in enumerate(leaves)])
