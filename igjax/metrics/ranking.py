r"""Do two attributions agree? Correlations of ranks and overlaps, with intervals.

A rank is known only as far as errors do not overlap: `agreement` draws values within their
errors, and gives the interval of any of the measures here. Values are taken with their
sign; pass absolute ones to ask for importance alone.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from igjax import _checks
from igjax._program import compiled
from igjax.attribution import Attribution
from igjax.methods._draws import student
from igjax.metrics._features import QUANTILE, alike, vector

__all__ = [
    "Agreement",
    "agreement",
    "kendall",
    "rank_biased_overlap",
    "spearman",
    "top_overlap",
]


def spearman(one, other):
    r"""Spearman's correlation: Pearson's, of the ranks; ties share their mean rank.

    Args:
        one: values of features, a pytree.
        other: another one like it.

    Returns:
        A scalar; NaN where all values of a side are equal.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> one, other = jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 3.0, 2.0])
        >>> round(float(igjax.metrics.spearman(one, other)), 3)
        0.5

    References:
        Spearman, "The Proof and Measurement of Association between Two Things", 1904.
    """
    return _spearman(one, other)


@jax.jit
def _spearman(one, other):
    a, b = alike(*(_ranks(vector(tree)) for tree in (one, other)))
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / jnp.sqrt((a**2).sum() * (b**2).sum())


def kendall(one, other):
    r"""Kendall's tau-b: pairs in the same order, less those in the other one.

    Args:
        one: values of features, a pytree; n features are n^2 comparisons.
        other: another one like it.

    Returns:
        A scalar; NaN where all values of a side are equal.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> one, other = jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 3.0, 2.0])
        >>> round(float(igjax.metrics.kendall(one, other)), 3)
        0.333

    References:
        Kendall, "The Treatment of Ties in Ranking Problems", 1945.
    """
    return _kendall(one, other)


@jax.jit
def _kendall(one, other):
    a, b = alike(vector(one), vector(other))

    def row(i):
        signs = jnp.sign(a[i] - a), jnp.sign(b[i] - b)
        sums = [x @ y for x, y in ((signs[0], signs[1]), (signs[0],) * 2, (signs[1],) * 2)]
        return jnp.stack(sums)

    both, first, second = jax.lax.map(row, jnp.arange(len(a), dtype=jnp.int32)).sum(0)
    return both / jnp.sqrt(first * second)


def top_overlap(one, other, count: int):
    r"""The share of the largest values that two attributions have in common.

    Of features that tie for the last place each is in by its chance.

    Args:
        one: values of features, a pytree.
        other: another one like it.
        count: how many are the largest; at most all.

    Returns:
        A scalar in [0, 1]; by chance it is count / n.

    Raises:
        ValueError: if count is no number of features.

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> one, other = jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 3.0, 2.0])
        >>> float(igjax.metrics.top_overlap(one, other, 1))
        0.0
    """
    _checks.count("top_overlap", "count", count)
    return _top_overlap(one, other, count)


@functools.partial(jax.jit, static_argnums=2)
def _top_overlap(one, other, count: int):
    a, b = vector(one), vector(other)
    if count > len(a):
        raise ValueError(
            f"top_overlap: count must be at most the number of features, {len(a)}, got "
            f"{count}."
        )
    a, b = alike(*(chance_of_top(side, jnp.int32(count)) for side in (a, b)))
    return (a * b).sum() / count


def rank_biased_overlap(one, other, *, persistence: float = 0.9):
    r"""Rank-biased overlap: the overlap at all depths, the first ones count most.

    $$\frac{1 - p}{1 - p^n} \sum_{d=1}^{n} p^{d-1} \,
      \frac{|\mathrm{top}_d(a) \cap \mathrm{top}_d(b)|}{d}$$

    the finite one, normalized so that equal orders have 1. Ties keep the order of the
    features; break them by noise (`agreement`) where they matter.

    Args:
        one: values of features, a pytree.
        other: another one like it.
        persistence: p, in (0, 1): about 1 / (1 - p) features count.

    Returns:
        A scalar in [0, 1].

    Raises:
        ValueError: if persistence is not in (0, 1).

    Example:
        >>> import igjax, jax.numpy as jnp
        >>> one, other = jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 3.0, 2.0])
        >>> round(float(igjax.metrics.rank_biased_overlap(one, other)), 3)
        0.631

    References:
        Webber, Moffat, Zobel, "A Similarity Measure for Indefinite Rankings", 2010.
    """
    if not 0 < persistence < 1:
        raise ValueError(
            f"rank_biased_overlap: persistence must be in (0, 1), got {persistence}."
        )
    return _rank_biased_overlap(one, other, float(persistence))


@functools.partial(jax.jit, static_argnums=2)
def _rank_biased_overlap(one, other, persistence: float):
    a, b = alike(vector(one), vector(other))
    n, dtype = len(a), a.dtype
    depth = jnp.arange(n, dtype=jnp.int32)
    orders = jnp.argsort(-a), jnp.argsort(-b)
    places = [jnp.zeros(n, jnp.int32).at[order].set(depth) for order in orders]
    # A feature is common to both from the later of its places on.
    arrivals = jnp.zeros(n, jnp.int32).at[jnp.maximum(*places)].add(1)
    overlap = jnp.cumsum(arrivals).astype(dtype) / (depth + 1).astype(dtype)
    weights = persistence ** depth.astype(dtype)
    return (weights * overlap).sum() / weights.sum()


class Agreement(NamedTuple):
    """A measure of two attributions, and what their errors make of it.

    Attributes:
        value: the measure of the values as they are.
        low: lower end of a 95% interval, for values anywhere within their errors.
        high: upper end.

    Example:
        >>> import igjax
        >>> igjax.metrics.Agreement(0.9, 0.7, 0.95).low
        0.7
    """

    value: Any
    low: Any
    high: Any


def agreement(measure, *, draws: int = 256):
    r"""A measure of two attributions, with an interval from the errors of both.

    Values are drawn from normals about them, whose 95% half-widths are their errors. Noise
    makes orders less alike, so that the interval lies lower than the value where errors
    are large: it is that of agreements between answers as good as these ones.

    Args:
        measure: `measure(one, other) -> scalar`, of values: `spearman`, `kendall`, ...
        draws: how many, at least 40.

    Returns:
        `compare(key, one, other) -> Agreement`, of two `igjax.Attribution`.

    Raises:
        TypeError: if measure is not callable, the key is none, or one is no `Attribution`.
        ValueError: if draws are too few.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> one = igjax.gradient(lambda x: (x**2).sum())(jnp.arange(4.0))
        >>> compare = igjax.metrics.agreement(igjax.metrics.spearman)
        >>> found = compare(jax.random.key(0), one, one)
        >>> [round(float(a), 4) for a in found]
        [1.0, 1.0, 1.0]
    """
    _checks.function("agreement", "measure", measure)
    _checks.count("agreement", "draws", draws, 40)

    def compared(key, one: Attribution, other: Attribution) -> Agreement:
        z = student(QUANTILE, 1e9)
        pairs = [(vector(r.values), vector(r.error) / z) for r in (one, other)]

        def draw(k):
            keys = jax.random.split(jax.random.fold_in(key, k))
            noisy = [
                a + e * jax.random.normal(one_key, a.shape, a.dtype)
                for (a, e), one_key in zip(pairs, keys, strict=True)
            ]
            return measure(*noisy)

        found = jax.lax.map(draw, jnp.arange(draws, dtype=jnp.int32))
        low, high = jnp.quantile(found, jnp.asarray([1 - QUANTILE, QUANTILE], found.dtype))
        return Agreement(measure(pairs[0][0], pairs[1][0]), low, high)

    inner = compiled.function("agreement", compared)

    def compare(key, one: Attribution, other: Attribution) -> Agreement:
        _checks.key("agreement", key)
        for result in (one, other):
            if not isinstance(result, Attribution):
                raise TypeError(
                    "agreement: one and other must be igjax.Attribution, got "
                    f"{type(result).__name__}. Of bare values, call the measure itself."
                )
        return inner(key, one, other)

    return compare


def chance_of_top(a, count):
    """Of each feature whether it is among the largest; its chance, where it ties."""
    least = jnp.sort(a)[len(a) - count]
    above, ties = (part.astype(a.dtype) for part in (a > least, a == least))
    left = count.astype(a.dtype) - above.sum()
    return above + ties * left / jnp.maximum(ties.sum(), 1)


def _ranks(a):
    """Ranks from below; ties have the mean of theirs."""
    ordered = jnp.sort(a)
    ends = [jnp.searchsorted(ordered, a, side=side) for side in ("left", "right")]
    return (ends[0] + ends[1]).astype(a.dtype) / 2
