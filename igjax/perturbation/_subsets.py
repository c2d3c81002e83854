r"""All coalitions scored: values by differences, exact up to rounding.

With all scores known, each value is a mean of what a feature adds to the coalitions without
it, weighed by their size. Differences are taken first: a feature that f does not read gets
exactly 0.
"""

import math

import jax.numpy as jnp
import numpy as np

from igjax.perturbation._games import Game

MOST = 20  # features; a million scores


def count_within(players: int, budget: int) -> bool:
    """Whether all coalitions are scored within the budget."""
    return players <= MOST and 2**players <= budget


def scores(game: Game):
    """The scores of all coalitions, (2,) * n: along the axis of a feature, out and in."""
    n = game.players
    bits = jnp.arange(n, dtype=jnp.int32)
    found = game.scores(lambda k: (k >> bits) & 1 > 0, 2**n)
    # The last feature is the highest bit, and so the first axis.
    return found.reshape((2,) * n).transpose().astype(game.dtype)


def ends(table):
    """The scores of nobody and of all."""
    flat = table.ravel()
    return flat[0], flat[-1]


def values(table, law):
    """The mean gain of each feature, coalitions of s others having the weight law[s]."""
    n = table.ndim
    weights = _by_size(n - 1, law)
    return jnp.stack([_mean(_gain(table, i), weights) for i in range(n)])


def pairs(table, law):
    """What each two features gain by being together, (n, n), 0 on the diagonal."""
    n = table.ndim
    weights = _by_size(n - 2, law)
    found = jnp.zeros((n, n), table.dtype)
    for i in range(n):
        gain = _gain(table, i)
        for j in range(i):
            both = _mean(_gain(gain, j), weights)
            found = found.at[i, j].set(both).at[j, i].set(both)
    return found


def shapley_law(others: int) -> np.ndarray:
    """Weights of coalitions of s others: all sizes alike, and all coalitions of a size."""
    sizes = range(others + 1)
    return np.array([1 / (others + 1) / math.comb(others, s) for s in sizes])


def banzhaf_law(others: int) -> np.ndarray:
    """Weights of coalitions of s others: all alike."""
    return np.full(others + 1, 0.5**others)


def _gain(table, axis: int):
    return jnp.diff(table, axis=axis).squeeze(axis)


def _mean(gain, weights):
    return (gain * jnp.asarray(weights, gain.dtype)).sum()


def _by_size(others: int, law) -> np.ndarray:
    sizes = sum(np.ix_(*[np.arange(2)] * others)) if others else np.zeros((), int)
    return law(others)[sizes]
