r"""Values by orders of arrival: pairs of an order and its reverse, both ends shared.

In an order the features go from the baseline to x one after the other, and each gets what
f gains in its turn. The mean of an order and its reverse is exact where at most pairs of
features interact; pairs are independent, so that their spread is an honest error. An order
takes n - 1 scores, for its ends are those of every other.
"""

import jax
import jax.numpy as jnp

from igjax._program.jax_internals import varying
from igjax.methods._draws import CONFIDENCE, student
from igjax.perturbation import _looks
from igjax.perturbation._games import Game


def mean_of_pairs(game: Game, turns_of, pairs: int, ends):
    """Means of the gains over pairs of orders, with half-widths of 95% intervals.

    Args:
        game: who plays.
        turns_of: of the k-th pair, when each feature comes in its first order.
        pairs: at least two.
        ends: the scores of nobody and of all.

    Returns:
        Two vectors of the features.
    """
    n = game.players

    def add(sums, k):
        mean, squares = sums
        above = gains_of_pair(game, turns_of(k), ends) - mean
        mean = mean + above / (k + 1).astype(above.dtype)
        return (mean, squares + above * (above - (mean - sums[0]))), None

    zeros = varying(jnp.zeros(n, game.dtype), ends)
    numbers = jnp.arange(pairs, dtype=jnp.int32)
    (mean, squares), _ = jax.lax.scan(add, (zeros, zeros), numbers)
    quantile = student((1 + CONFIDENCE) / 2, pairs - 1)
    positive = squares > 0
    root = jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)
    return mean, quantile * root / (pairs * (pairs - 1)) ** 0.5


def gains_of_pair(game: Game, turns, ends):
    """What each feature adds in its turn: the mean of an order and its reverse."""
    n = game.players
    start, end = (jnp.asarray(a, game.dtype)[None] for a in ends)

    def gains(turns):
        inner = game.scores(lambda k: turns <= k, n - 1).astype(game.dtype)
        return jnp.diff(jnp.concatenate([start, inner, end]))[turns]

    return (gains(turns) + gains(n - 1 - turns)) / 2


def within_tolerance(game: Game, turns_of, pairs: int, ends, tolerance: float):
    """The same as `mean_of_pairs`, until the errors are within a tolerance.

    Returns:
        Values, half-widths, how many pairs there were, and the status.
    """
    more = lambda k: gains_of_pair(game, turns_of(k), ends)[None]

    def read(rows, seen, quantile):
        weight = seen.astype(rows.dtype)
        count = weight.sum()
        mean = weight @ rows / jnp.maximum(count, 1)
        squares = weight @ (rows - mean[None]) ** 2 / jnp.maximum(count - 1, 1)
        half_width = _looks.half_width(quantile, count)
        return mean, half_width * jnp.sqrt(squares / jnp.maximum(count, 1))

    rows = jnp.zeros((pairs, game.players), game.dtype)
    looks = _looks.plan(0, pairs, 1)
    return _looks.spend(more, read, rows, looks, 1, tolerance)
