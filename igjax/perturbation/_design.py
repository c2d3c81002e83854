r"""Which coalitions are scored: pairs of complements, spread over the sizes.

A coalition S and its complement are scored together: half their difference,

$$g(S) = \tfrac12 \bigl(v(S) - v(N \setminus S)\bigr),$$

is all that values of features need of v, and what pairs of features do together is gone
from it. Sizes get their pairs by a law: all sizes the same (the leverage law, for Shapley
values) or as many as there are subsets of it (for Banzhaf values). A size that is full is
taken whole; of the others subsets are drawn without repetition, as far as they can be
numbered.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

NUMBERED = 20_000  # sizes of at most so many pairs are drawn without repetition


def pairs_of_size(n: int, s: int) -> int:
    """How many pairs of complements have one of size s."""
    return math.comb(n, s) // (2 if 2 * s == n else 1)


def even_law(n: int, s: int) -> float:
    """All sizes alike; half of n is one size, where others are two, s and n - s."""
    return 0.5 if 2 * s == n else 1.0


def binomial_law(n: int, s: int) -> float:
    """Sizes by their numbers of pairs."""
    return pairs_of_size(n, s) / 2**n


def plan(n: int, pairs: int, law) -> np.ndarray:
    """How many pairs each size 1, ..., n // 2 gets; all there are, if pairs suffice."""
    sizes = np.arange(1, n // 2 + 1)
    there = np.array([float(pairs_of_size(n, int(s))) for s in sizes])
    share = np.array([law(n, int(s)) for s in sizes])
    counts = np.zeros(len(sizes))
    while (left := min(pairs, there.sum()) - counts.sum()) > 0.5:
        open_ = counts < there
        more = share * open_ / (share * open_).sum() * left
        filled = np.minimum(np.floor(counts + more + 1e-9), there)
        if (filled == counts).all():  # less than one for each: the largest shares first
            order = np.argsort(-more, kind="stable")[: round(left)]
            filled[order] += open_[order]
        counts = filled
    return counts.astype(int)


def unbiased(n: int, *, shapley: bool) -> tuple[np.ndarray, np.ndarray]:
    """What the mean of g over a size adds to the values, whatever f is.

    Returns:
        Two arrays (n + 1,), by the size of the first of a pair, 0 but for sizes up to half
        of n: the factor of a member, and that of the others, with the other sign.
    """
    inside, outside = np.zeros(n + 1), np.zeros(n + 1)
    for s in range(1, n // 2 + 1):
        if shapley:
            twice = 1 if 2 * s == n else 2
            inside[s], outside[s] = twice / s, twice / (n - s)
        else:
            inside[s] = outside[s] = 4 * pairs_of_size(n, s) / 2**n
    return inside, outside


def staged(n: int, looks, law) -> tuple[np.ndarray, np.ndarray]:
    """A plan and an order of its pairs, the first of which are nearly plans of their own.

    Args:
        n: the number of features.
        looks: rising numbers of pairs.
        law: as in `plan`.

    Returns:
        The counts of the last plan, and the order: pairs of earlier looks come first.
    """
    counts = np.stack([plan(n, pairs, law) for pairs in looks])
    counts = np.minimum.accumulate(counts[::-1])[::-1]
    size = np.repeat(np.arange(counts.shape[1]), counts[-1])
    place = np.concatenate([np.arange(count) for count in counts[-1]])
    look = (place >= counts[:, size]).sum(0)
    return counts[-1], np.argsort(look, kind="stable")


def masks(key, n: int, counts):
    """The first of each pair, booleans (sum of counts, n), size after size."""
    parts = [
        _of_size(jax.random.fold_in(key, s), n, s, int(count))
        for s, count in enumerate(counts, 1)
        if count
    ]
    return jnp.concatenate([jnp.zeros((0, n), bool), *parts])


def _of_size(key, n: int, s: int, count: int):
    there = pairs_of_size(n, s)
    if there > NUMBERED:
        places = jax.random.uniform(key, (count, n))
        return jnp.argsort(jnp.argsort(places, -1), -1) < s
    chosen = jax.random.permutation(key, there)[:count]
    if 2 * s < n:
        return _subset(chosen, n, s)
    # Of two halves the one with the first feature stands for both.
    rest = _subset(chosen, n - 1, s - 1)
    return jnp.concatenate([jnp.ones((count, 1), bool), rest], 1)


def _subset(number, n: int, s: int):
    """The subsets of size s with given numbers, in the order of the largest members."""
    table = [[min(math.comb(i, k), NUMBERED + 1) for k in range(s + 1)] for i in range(n)]
    table = jnp.asarray(table, jnp.int32)

    def step(carry, i):
        number, left = carry
        first = table[i, left]  # so many subsets have all of `left` below i
        take = (left > 0) & (number >= first)
        carry = jnp.where(take, number - first, number), left - take.astype(left.dtype)
        return carry, take

    start = number.astype(jnp.int32), jnp.full(number.shape, s, jnp.int32)
    _, taken = jax.lax.scan(step, start, jnp.arange(n - 1, -1, -1, dtype=jnp.int32))
    return taken[::-1].T
