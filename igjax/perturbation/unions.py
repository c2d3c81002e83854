r"""Owen values: Shapley values of unions, and within each union of its members.

Features that belong together (columns of one variable, pixels of one region, words of one
phrase) enter one right after the other, in any order of the unions and any order inside.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from igjax import _checks
from igjax._tree import strong
from igjax.attribution import Attribution, Status
from igjax.methods.groups import labels_of
from igjax.perturbation import _looks, _orders
from igjax.perturbation._games import attribution, check_budget, ends, played, result

__all__ = ["owen_values"]


def owen_values(f, *, budget: int = 512, tolerance=None, chunk_size=None):
    r"""Owen values: each feature's gain, over orders that keep unions together.

    $$\psi_i = \mathrm{E}_\pi \bigl[ v(\pi_{\le i}) - v(\pi_{< i}) \bigr]$$

    over all orders in which the members of a union follow each other. They are finer than
    the values of groups, and add up to them: the sum over a union is the Shapley value of
    the union (`igjax.grouped(f, count, method=...)`). Use them where coalitions that cut
    through a union make no sense. With one union of all features, or with each feature
    its own, they are Shapley values, as PermutationSHAP estimates them, with an error.

    Args:
        f: `f(x, *args) -> scalar`, as in `shapley_values`.
        budget: how many scores of f there may be: two ends, and 2 (n - 1) for each pair of
            orders, of which there are at least two.
        tolerance: relative to the sum of the absolute values, positive; None spends the
            budget. With a tolerance it is spent step by step, each twice as large, until
            the errors add up to no more. There is no reverse-mode derivative then.
        chunk_size: how many scores are computed side by side; None chooses.

    Returns:
        `attribute(key, x, baseline, unions, *args) -> Attribution`. `unions` are labels as
        in `igjax.grouped`: a pytree like x of integers from 0 to the number of features.
        `error` is the half-width of a 95% interval (Student's t over pairs of orders).
        Without a tolerance status is NO_TOLERANCE. Else it is TOLERANCE_MET where the
        errors are within it and the two halves of the orders agree, NOT_VERIFIED where
        these do not, or BUDGET_SPENT.

    Raises:
        TypeError: as `shapley_values`, and if a label is no integer.
        ValueError: as `shapley_values`, and if the unions do not fit x.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> f = lambda x: x[0] * x[1] * x[2]
        >>> attribute = igjax.perturbation.owen_values(f)
        >>> unions = jnp.array([0, 0, 1])  # the pair gets a half, and shares it
        >>> result = attribute(jax.random.key(0), jnp.ones(3), 0.0, unions)
        >>> result.values.round(2)
        Array([0.25, 0.25, 0.5 ], dtype=float32)

    References:
        Owen, "Values of Games with a Priori Unions", 1977.
    """
    caller = "owen_values"
    _checks.count(caller, "budget", budget, 4)
    recipe = _recipe(budget, _looks.asked(caller, tolerance))
    inner = attribution(caller, recipe, f, chunk_size)

    def attribute(key, x, baseline, unions, /, *args):
        _checks.key(caller, key)
        _checks.inputs(caller, x, baseline)
        x = strong(x)
        count = sum(a.size for a in jax.tree.leaves(x))
        labels = labels_of(caller, unions, x, (), count)
        return inner((key, labels), x, baseline, *args)

    return attribute


@functools.lru_cache
def _recipe(budget: int, tolerance):
    def recipe(f, path, operands, draws, chunk_size) -> Attribution:
        del path
        game = played(f, operands, chunk_size)
        key, labels = draws.given
        n = game.players
        each = 2 * max(n - 1, 1)
        check_budget("owen_values", budget, 2 + 2 * each, "two pairs of orders")
        spread = lambda a, x: jnp.broadcast_to(a, x.shape).ravel()
        leaves = jax.tree.leaves(jax.tree.map(spread, labels, operands.x))
        valid = jnp.all(jnp.stack([jnp.all((a >= 0) & (a < n)) for a in leaves]))
        unions = jnp.concatenate([a.astype(jnp.int32) for a in leaves])
        pairs = (budget - 2) // each

        def turns_of(k):
            of_unions, inside = jax.random.uniform(jax.random.fold_in(key, k), (2, n))
            order = jnp.lexsort((inside, unions, of_unions[unions]))
            return jnp.zeros(n, jnp.int32).at[order].set(jnp.arange(n, dtype=jnp.int32))

        scores = ends(game)
        told = lambda a: jnp.where(valid, a, jnp.nan)
        if tolerance is None:
            mean, error = _orders.mean_of_pairs(game, turns_of, pairs, scores)
            return result(game, told(mean), told(error), scores, pairs * each + 2)
        found = _orders.within_tolerance(game, turns_of, pairs, scores, tolerance)
        mean, error, count, status = found
        known = result(game, told(mean), told(error), scores, count * each + 2)
        status = jnp.where(valid, status, Status.NON_FINITE)
        return dataclasses.replace(known, status=status)

    return recipe
