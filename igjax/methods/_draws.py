r"""The mean of attributions that are drawn at random, with the error of that mean.

Draws come in blocks; only running means and sums of squared deviations are kept (Welford,
merged by Chan's formula), so memory does not grow with the draws, and no difference of
large squares is ever taken. The error of each value is

$$\overline{\mathrm{error}} + t_{n-1} \, \sqrt{\frac{s^2}{n}\Bigl(1 - \frac{n}{N}\Bigr)}$$

the mean error of the draws, which may all lean to one side, plus the half-width of a 95%
confidence interval (Student's t). N is the number of all draws there are, where they are
taken from a finite set without repetition: taken all, they leave no statistical error. The
half-width alone is `sampling`.

With a tolerance the mean is looked at after 32 draws, 64 and so on, until the errors are
within it. Each look could stop by luck; so the 5% are shared among all the looks that
there can be.
"""

import dataclasses
import functools
import math
import operator
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from igjax._program import telling
from igjax._program.blocks import chunk
from igjax._program.jax_internals import varying
from igjax._tree import norms
from igjax.attribution import Attribution, Status

CONFIDENCE = 0.95
DRAW = "igjax_draw"
FIRST_LOOK = 32

# From the best to the worst.
_WORSE = (
    Status.TOLERANCE_MET,
    Status.NO_TOLERANCE,
    Status.ROUNDING,
    Status.RESOLUTION,
    Status.NOT_VERIFIED,
    Status.BUDGET_SPENT,
    Status.NON_FINITE,
)
_SEVERITY = [_WORSE.index(s) for s in Status]


def worst(statuses):
    """The worst of statuses along their first axis, as that of a mean of their results."""
    return _status(_severity(statuses).max(0))


def _severity(status):
    return _looked_up(_SEVERITY, status)


def _status(severity):
    return _looked_up(_WORSE, severity)


def _looked_up(table, index):
    """The entries of a short table, without a gather: of those, types ask where they go."""
    picked = ((index == k).astype(jnp.int32) * int(e) for k, e in enumerate(table))
    return functools.reduce(operator.add, picked)


class _State(NamedTuple):
    """Running sums over the draws so far."""

    count: Any
    mean: Any  # of values, scores and gaps
    squares: Any  # sum of squared deviations of the values from their mean
    error: Any  # sum; may be infinite
    spent: Any  # sums of evaluations, forwards and jumps
    severity: Any


def mean_of(draw, count: int, chunk_size, *, population=None, tolerance=None):
    """The mean of `draw(k)`, an `Attribution`, over the integers k below count.

    Args:
        draw: a function of an int32 scalar; different k give independent draws, or
            different members of the population.
        count: how many draws there are at the most.
        chunk_size: how many are evaluated side by side; None chooses.
        population: how many members there are, if draws are members of a finite set.
        tolerance: None takes all draws; else they end when errors and gap are within it.

    Returns:
        An `Attribution`.
    """
    shapes = jax.eval_shape(lambda k: _parts(draw(k)), jnp.int32(0))
    empty = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    state = varying(_State(jnp.int32(0), *empty), shapes)
    size = chunk_size or chunk(draw, lambda k: k, jnp.int32, count)
    drawn = jax.vmap(_named(draw))

    def add(state, start, end, size):
        """Draws the numbers from start to start + size, if below end."""
        telling.step("draws", start)
        numbers = start + jnp.arange(size, dtype=jnp.int32)
        # A block that is not full repeats a draw, which cannot bring in a NaN.
        results = drawn(jnp.minimum(numbers, end - 1))
        return _merge(state, _parts(results), numbers < end)

    if tolerance is None:
        blocks = -(-count // size)
        size = -(-count // blocks)
        block = lambda state, start: (add(state, start, count, size), None)
        starts = size * jnp.arange(blocks, dtype=jnp.int32)
        state, _ = jax.lax.scan(block, state, varying(starts, shapes))
        return _finish(state, 1, population)[0]

    looks = 1 + max(0, math.ceil(math.log2(count / FIRST_LOOK)))

    def step(carry):
        state, look, _ = carry
        state = add(state, state.count, look, size)
        there = state.count >= look
        _, met = _finish(state, looks, population, tolerance)
        done = there & jnp.all(met | (state.severity == len(_WORSE) - 1))
        return state, jnp.where(there, jnp.minimum(2 * look, count), look), done

    unfinished = lambda carry: ~carry[2] & (carry[0].count < count)
    start = varying((jnp.int32(min(FIRST_LOOK, count)), jnp.array(False)), shapes)
    state, _, _ = jax.lax.while_loop(unfinished, step, (state, *start))
    return _finish(state, looks, population, tolerance)[0]


def mean_of_pairs(draw, count: int, chunk_size):
    """The mean of draws of which each two, 2k and 2k + 1, are from a part of their own.

    The two are independent; what they differ by is the error of the mean of their part,
    whatever the parts differ by.

    Args:
        draw: as in `mean_of`; the draws of different parts are independent too.
        count: how many draws there are, an even number.
        chunk_size: how many pairs are evaluated side by side; None chooses.

    Returns:
        An `Attribution`; errors of the draws themselves are not looked at.
    """
    pairs = count // 2

    def pair(k):
        both = jax.vmap(draw)(2 * k + jnp.arange(2, dtype=jnp.int32))
        mean = jax.tree.map(lambda a: (a[0] + a[1]) / 2, both.values)
        squares = jax.tree.map(lambda a: ((a[0] - a[1]) / 2) ** 2, both.values)
        values = mean, squares, jax.tree.map(jnp.square, squares)
        nothing = jax.tree.map(jnp.zeros_like, values)
        scores = (both.delta.mean(0), both.score.mean(0), both.baseline_score.mean(0))
        count = lambda a: a.sum(0, dtype=jnp.int32)
        spent = (count(both.evaluations), count(both.forwards), count(both.jumps))
        return Attribution(values, nothing, *scores, *spent, worst(both.status))

    found = mean_of(pair, pairs, chunk_size)
    values, squares, fourth = found.values

    def half_width(square, fourth):
        # Welch and Satterthwaite: few degrees of freedom where few parts hold the error.
        some = fourth > 0
        degrees = jnp.where(some, pairs * square**2 / jnp.where(some, fourth, 1), pairs)
        return student((1 + CONFIDENCE) / 2, degrees) * _root(square / pairs)

    error = jax.tree.map(half_width, squares, fourth)
    return dataclasses.replace(found, values=values, error=error, sampling=error)


def of_one(caller: str, result) -> Attribution:
    """The result of an attribution, which must be one result.

    Raises:
        TypeError: if it is anything else.
    """
    if not isinstance(result, Attribution):
        raise TypeError(
            f"{caller}: attribute must return an igjax.Attribution, "
            f"got {type(result).__name__}. Of several layers, take one at a time."
        )
    return result


def _named(draw):
    """The draw as a program with a name: whoever counts evaluations is to know of it."""
    run = lambda k: draw(k)
    run.__name__ = DRAW
    return jax.jit(run)


def _parts(result: Attribution):
    """What is merged, in the order of `_State` but for the count."""
    gauges = (result.score, result.baseline_score, result.delta)
    spent = (result.evaluations, result.forwards, result.jumps)
    severity = _severity(result.status)
    return (result.values, gauges), result.values, result.error, spent, severity


def _merge(state: _State, parts, taken) -> _State:
    (values, gauges), _, error, spent, severity = parts
    more = taken.sum(dtype=jnp.int32)
    count = state.count + more

    def each(combine, *trees):
        return jax.tree.map(combine, *trees)

    def masked(a):
        return jnp.where(taken.reshape(-1, *(1,) * (a.ndim - 1)), a, jnp.zeros((), a.dtype))

    summed = lambda a: _sum(masked(a))
    average = lambda a: summed(a) / more.astype(a.dtype)
    means = each(average, (values, gauges))
    share = lambda a: more.astype(a.dtype) / count.astype(a.dtype)
    moved = lambda old, new: old + jnp.where(new == old, 0, (new - old) * share(new))
    mean = each(moved, state.mean, means)  # that of a gap that is infinite is, too

    def deviations(old, a, before, now):
        within = summed((a - now[None]) ** 2)
        return old + within + (now - before) ** 2 * (state.count.astype(a.dtype) * share(a))

    add = lambda old, a: old + summed(a)
    return _State(
        count,
        mean,
        each(deviations, state.squares, values, state.mean[0], means[0]),
        each(add, state.error, error),
        each(add, state.spent, spent),
        jnp.maximum(state.severity, masked(severity).max(0)),
    )


def _sum(a):
    """The sum over draws, as a product.

    XLA's CPU compiler (jaxlib 0.10.2) makes programs of some sums that crash: of arrays
    with seven axes, the last of which is one long, like those of batches of gray images.
    """
    return jnp.tensordot(jnp.ones(len(a), a.dtype), a, 1, precision="highest")


def _finish(state: _State, looks: int, population, tolerance=None):
    """The result, and where its errors and gap are within the tolerance."""
    count, (values, (score, baseline_score, delta)) = state.count, state.mean
    quantile = 1 - (1 - CONFIDENCE) / (2 * looks)

    def half_width(squares):
        n = count.astype(squares.dtype)
        left = 1.0 if population is None else (population - n) / population  # 0 if all
        variance = left * squares / (n * jnp.maximum(n - 1, 1))
        return student(quantile, n - 1) * _root(variance)

    sampling = jax.tree.map(half_width, state.squares)
    add = lambda width, error: error / count.astype(error.dtype) + width
    error = jax.tree.map(add, sampling, state.error)
    severity = jnp.maximum(state.severity, _WORSE.index(Status.NO_TOLERANCE))
    evaluations, forwards, jumps = state.spent
    scores, spent = (delta, score, baseline_score), (evaluations, forwards, jumps)
    result = Attribution(values, error, *scores, *spent, _status(severity), sampling)
    if tolerance is None:
        return result, jnp.zeros(delta.shape, bool)
    doubt, size = norms(result)
    bound = jnp.asarray(tolerance, size.dtype) * size
    met = (doubt <= bound) & (jnp.abs(delta) <= bound)
    # A mean is verified if all its draws are.
    unfinished = _WORSE.index(Status.BUDGET_SPENT)
    sound = state.severity <= _WORSE.index(Status.NO_TOLERANCE)
    severity = jnp.where(sound & ~met, unfinished, state.severity)
    return dataclasses.replace(result, status=_status(severity)), met


def _root(a):
    """The square root, whose derivative is taken as 1 at 0, where it has none."""
    positive = a > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, a, 1)), a)


def student(quantile: float, degrees):
    """A quantile of Student's t, by its expansion about the normal one.

    Its error is 0.2% at 3 degrees of freedom and falls with their fifth power; at one
    degree, the least, it is a tenth too small.
    """
    z = NormalDist().inv_cdf(quantile)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    u = 1 / jnp.maximum(degrees, 1)
    return sum(term * u**k for k, term in enumerate(terms))
