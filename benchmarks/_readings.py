"""Exact values of the games of `_games.py` by other readings: Banzhaf, Owen, LIME, pairs.

By all subsets of up to 16 players, in NumPy; of sums of products in closed form.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

MOST = 16  # players whose subsets are all scored


def unions(n):
    """Of two neighbours each."""
    return jnp.arange(n, dtype=jnp.int32) // 2


def banzhaf(game, i):
    """The mean gain over all coalitions of others."""
    if game.players > MOST:
        members, weights = game.parameters[i]
        each = weights * 2.0 ** (1 - members.sum(1))
        return (each[:, None] * members).sum(0)
    masks, v = _scores(game, i)
    return 2 * (2 * masks - 1).T @ v / len(v)


def owen(game, i):
    """The mean gain over orders that keep neighbours together."""
    of = np.asarray(unions(game.players))
    if game.players > MOST:
        members, weights = game.parameters[i]
        found = np.zeros(game.players)
        for row, weight in zip(members, weights, strict=True):
            inside = np.flatnonzero(row)
            names, counts = np.unique(of[inside], return_counts=True)
            size = dict(zip(names, counts, strict=True))
            for k in inside:
                found[k] += weight / len(names) / size[of[k]]
        return found
    masks, v = _scores(game, i)
    return np.array([_owen_of(k, masks, v, of) for k in range(game.players)])


def _owen_of(k, masks, v, of):
    """Whole unions before that of k, and any of k's own."""
    total = of.max() + 1
    own = np.flatnonzero((of == of[k]) & (np.arange(len(of)) != k))
    others = np.array([masks[:, of == u].sum(1) for u in range(total) if u != of[k]])
    sizes = np.array([(of == u).sum() for u in range(total) if u != of[k]])
    whole = ((others == 0) | (others == sizes[:, None])).all(0) & (masks[:, k] == 0)
    ids = np.flatnonzero(whole)
    before = (others[:, ids] > 0).sum(0)
    inside = masks[ids][:, own].sum(1).astype(int)
    weight = lambda n, s: np.array([1 / (n + 1) / math.comb(n, int(a)) for a in s])
    gains = v[ids + (1 << k)] - v[ids]
    return (weight(total - 1, before) * weight(len(own), inside)) @ gains


def lime(game, i):
    """The line by the default kernel; by the infinite one, where players are many."""
    if game.players > MOST:
        return banzhaf(game, i)
    masks, v = _scores(game, i)
    weights = np.exp(-(((1 - np.sqrt(masks.mean(1))) / 0.25) ** 2))
    columns = np.column_stack([np.ones(len(v)), masks]) * np.sqrt(weights)[:, None]
    return np.linalg.lstsq(columns, v * np.sqrt(weights), rcond=None)[0][1:]


def interactions(game, i):
    """The matrix whose rows add up to Shapley values."""
    n = game.players
    half = np.zeros((n, n))
    if n > MOST:
        members, weights = game.parameters[i]
        for row, weight in zip(members, weights, strict=True):
            if row.sum() > 1:
                half += weight / 2 / (row.sum() - 1) * np.outer(row, row)
    else:
        masks, v = _scores(game, i)
        for j in range(n):
            for k in range(j):
                half[j, k] = half[k, j] = _together(j, k, masks, v) / 2
    half[np.diag_indices(n)] = 0
    return half + np.diag(game.exact[i] - half.sum(1))


def _together(j, k, masks, v):
    ids = np.flatnonzero((masks[:, j] == 0) & (masks[:, k] == 0))
    n = masks.shape[1]
    law = np.array([1 / (n - 1) / math.comb(n - 2, s) for s in range(n - 1)])
    weights = law[masks[ids].sum(1).astype(int)]
    one, other = 1 << j, 1 << k
    return weights @ (v[ids + one + other] - v[ids + one] - v[ids + other] + v[ids])


def _scores(game, i):
    """All masks and their scores; the mask of bits k is in row k."""
    n = game.players
    ids = np.arange(1 << n)
    masks = ((ids[:, None] >> np.arange(n)) & 1).astype("f4")
    run = jax.jit(jax.vmap(game.f, (0, None)))
    parts = [run(masks[k : k + 8192], game.parameters[i]) for k in ids[::8192]]
    return masks, np.concatenate(parts).astype(float)
