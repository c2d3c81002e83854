"""Expectations over baselines: of any attribution, or of gradients one by one.

No single baseline is neutral for every f; a mean over many, rows of data or draws of a
sampler, asks what x has that typical inputs have not. `expected` averages attributions,
and with few rows it is a sum and nothing is random. `expected_gradients` draws the place
on the path along with the baseline, one gradient a draw; `expected_integrated_gradients`
takes a fixed rule for each baseline. All take a random key first.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from igjax import _checks, paths, rules
from igjax._program import compiled
from igjax._tree import gap, parameter_dtype, spread, strong
from igjax.attribution import Attribution
from igjax.integration.path_integral import estimated_error, integrand, weighted_sums
from igjax.methods._draws import mean_of, mean_of_pairs, of_one
from igjax.methods.gradients import of_one_gradient

__all__ = ["expected", "expected_gradients", "expected_integrated_gradients"]


def expected(attribute, sample=None, *, draws=None, tolerance=None, chunk_size=None):
    r"""The mean of an attribution over baselines: rows of data, or draws of a sampler.

    $$a_i = \mathrm{E}_{x' \sim D}\, A_i(x, x')$$

    It takes any attribution; with Integrated Gradients by the adaptive rule each baseline
    meets its own tolerance (by a fixed rule, `expected_integrated_gradients` knows its
    error better). `baseline_score` is the mean score of the baselines, and `delta` the
    gap against score - baseline_score.

    Rows are joint over all leaves. All of them are taken unless `draws` says otherwise,
    and then nothing is random: `error` is that of the integration. Fewer rows are drawn
    without repetition, and `error` has a 95% confidence half-width added.

    With a tolerance draws stop as soon as the errors added up over the features, and
    `delta`, are at most tolerance * sum |values|: looked at after 32 draws, 64 and so on,
    the confidence shared among these looks. `converged` then means that this was reached,
    and that each draw itself met its tolerance. The promise is statistical: each value is
    within its error of the mean over all baselines for at least 95 of 100 keys, as far
    as means of the draws are near normal. An effect of few baselines, none of which was
    drawn, cannot be seen.

    Args:
        attribute: `attribute(x, baseline, *args) -> Attribution`, of any method.
        sample: None takes rows of the third argument; else `sample(key, baseline)`
            returns a baseline, given that argument: see `igjax.baselines`.
        draws: how many baselines are attributed, at least 4; with a tolerance, at the
            most. None takes every row once. A sampler needs a number.
        tolerance: relative to the sum of the absolute values, positive; None asks for
            none. With a tolerance there is no reverse-mode derivative.
        chunk_size: how many draws are evaluated side by side; it bounds the memory. None
            chooses.

    Returns:
        `explain(key, x, baselines, *args) -> Attribution`. Without a sampler each leaf of
        the baselines has the shape (rows, *shape of the leaf of x). `status` is the worst
        of the draws, if any had trouble. Else it is NO_TOLERANCE without a tolerance; with
        one it is BUDGET_SPENT, or, where the errors are within it, TOLERANCE_MET if the
        draws are verified (the adaptive rule) and NO_TOLERANCE if not (a fixed one).

    Raises:
        TypeError: if attribute or sample is not callable, attribute draws at random and
            has not its key bound, the key is none, or the tolerance is traced.
        ValueError: if draws, tolerance or the shapes of the rows make no sense.

    Example:
        >>> import functools, igjax, jax, jax.numpy as jnp
        >>> f, key = lambda x: x[0] * x[1], jax.random.key(0)
        >>> rows = jnp.array([[0.0, 0.0], [1.0, 0.0]])
        >>> integrated = igjax.integrated_gradients(f, rule=igjax.rules.gauss_legendre(2))
        >>> explain = igjax.expected(integrated)
        >>> explain(key, jnp.array([3.0, 2.0]), rows).values.round(4)
        Array([2.5, 3.5], dtype=float32)

        Groups of features go inside, their labels last.

        >>> groups = igjax.expected(igjax.grouped(f, 1, rule=igjax.rules.midpoint(1)))
        >>> groups(key, jnp.array([3.0, 2.0]), rows, jnp.array([0, 0])).values.round(4)
        Array([6.], dtype=float32)

        GradientSHAP adds noise to the input as well: smooth the expectation.

        >>> noisy = igjax.smooth(functools.partial(explain, key), scale=0.1)
        >>> noisy(key, jnp.array([3.0, 2.0]), rows).values.shape
        (2,)

    References:
        Erion, Janizek, Sturmfels, Lundberg, Lee, "Improving Performance of Deep Learning
        Models with Axiomatic Attribution Priors and Expected Gradients", 2021.
    """
    caller = "expected"
    _checks.function(caller, "attribute", attribute)
    _checks.unkeyed(caller, attribute)
    if tolerance is not None:
        _checks.tolerance(caller, tolerance)
    options = (draws, tolerance, chunk_size)
    return compiled.function(caller, _over_baselines(caller, attribute, sample, *options))


def _over_baselines(caller, attribute, sample, draws, tolerance, chunk_size):
    """The mean of an attribution over baselines, not compiled yet."""
    _check_sampler(caller, sample, draws)
    _checks.chunk_size(caller, chunk_size)
    if draws is not None:
        _checks.draws(caller, draws, 4, 1)

    def explain(key, x, baselines, /, *args):
        _checks.key(caller, key)
        _checks.inputs(caller, x, x)
        rows, pick = _picker(caller, sample, strong(x), baselines)
        count = rows if draws is None else draws
        if rows is not None and count > rows:
            raise ValueError(
                f"{caller}: draws must be at most the number of rows, {rows}, got {draws}. "
                "Every row once, draws=None, is exact."
            )
        if rows is None:
            place = lambda k: jax.random.fold_in(key, k)
        else:
            order = _some(key, rows, count)
            place = lambda k: order[k]

        draw = lambda k: of_one(caller, attribute(x, pick(place(k)), *args))
        return mean_of(draw, count, chunk_size, population=rows, tolerance=tolerance)

    return explain


def expected_integrated_gradients(
    f, sample=None, *, rule=None, draws=None, chunk_size=None
):
    r"""Expected Gradients by a fixed rule for the path from each baseline.

    $$a_i = \mathrm{E}_{x' \sim D}\, (x_i - x'_i) \sum_k w_k\,
      \partial_i f\bigl(x' + t_k (x - x')\bigr)$$

    The values are those of `expected(integrated_gradients(f, rule=rule))`; the error is
    sharper, because it is that of the rule on the mean of the integrands, in which the
    errors of the baselines cancel as they do in the values. It does not contain rounding.
    For a smooth f this takes the fewest gradients by far.

    Args:
        f: `f(x, *args) -> scalar`, as in `integrated_gradients`.
        sample: as in `expected`.
        rule: a fixed rule of at least three nodes, `rules.Rule`, all of whose nodes are
            evaluated side by side; None is `rules.gauss_legendre(8)`.
        draws: as in `expected`: how many baselines are taken.
        chunk_size: how many baselines are evaluated side by side. None chooses.

    Returns:
        `explain(key, x, baselines, *args) -> Attribution`, as in `expected`. `status` is
        NO_TOLERANCE, or NON_FINITE.

    Raises:
        TypeError: if the rule is no fixed one, and as `expected`.
        ValueError: as `expected`, and as `integrated_gradients`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> explain = igjax.expected_integrated_gradients(lambda x: x[0] * x[1])
        >>> rows = jnp.array([[0.0, 0.0], [1.0, 0.0]])
        >>> explain(jax.random.key(0), jnp.array([3.0, 2.0]), rows).values.round(4)
        Array([2.5, 3.5], dtype=float32)

    References:
        Erion, Janizek, Sturmfels, Lundberg, Lee, "Improving Performance of Deep Learning
        Models with Axiomatic Attribution Priors and Expected Gradients", 2021.
    """
    caller = "expected_integrated_gradients"
    rule = rules.gauss_legendre(8) if rule is None else rule
    if not isinstance(rule, rules.Rule):
        raise TypeError(
            f"{caller}: rule must be a fixed one, rules.gauss_legendre(n), say, got "
            f"{rule!r}. Of the adaptive rule use expected(integrated_gradients(f))."
        )
    options = (f, paths.straight, rule, None)
    one = compiled.attribution(caller, _all_rows_of_a_rule, *options, scalar=True)
    mean_sums = _over_baselines(caller, one, sample, draws, None, chunk_size)

    def explain(key, x, baselines, /, *args):
        mean = mean_sums(key, x, baselines, *args)
        add = lambda sums, e: estimated_error(sums) + e[0]
        error = jax.tree.map(add, mean.values, mean.error)
        values, sampling = jax.tree.map(lambda a: a[0], (mean.values, mean.sampling))
        return dataclasses.replace(mean, values=values, error=error, sampling=sampling)

    return compiled.function(caller, explain)


def _all_rows_of_a_rule(f, path, operands, rule, chunk_size) -> Attribution:
    """The recipe of one baseline: the sums of all rows of weights, signed, in one tree."""
    del chunk_size
    f, path = partial(f, operands), partial(path, operands)
    dtype = parameter_dtype(operands.x)
    nodes = np.shape(rule.nodes)[-1]
    sums = weighted_sums(f, path, dtype, rule, nodes)
    values = jax.tree.map(lambda a: a[0], sums)
    result = _of_one_path(f, operands, values, sums)
    return dataclasses.replace(result, evaluations=jnp.int32(nodes))


def expected_gradients(f, sample=None, *, draws=256, chunk_size=None):
    r"""Expected Gradients by one gradient a draw, of the baseline and the place at once.

    $$a_i = \mathrm{E}_{x' \sim D,\; t \sim U(0, 1)}\,
      (x_i - x'_i)\, \partial_i f\bigl(x' + t (x - x')\bigr)$$

    Use it where there are more baselines than gradients to spend on them, or f is
    kinked; else `expected_integrated_gradients` needs far fewer. The draws are stratified,
    not independent. With at least two draws a row, the path from each row is cut into
    equal parts, as many as there are pairs of draws for it; else, and with a sampler, the
    places are stratified and each draw has another baseline. The two draws of a part are
    independent, and how far they differ tells the error, which falls faster than the root
    of the number of draws.

    Args:
        f: `f(x, *args) -> scalar`, as in `integrated_gradients`.
        sample: as in `expected`.
        draws: how many gradients are taken; an even number, at least 16.
        chunk_size: how many pairs of draws are evaluated side by side; it bounds the
            memory. None chooses.

    Returns:
        `explain(key, x, baselines, *args) -> Attribution`, as in `expected`. Each `error`
        is a 95% confidence half-width (of less than a hundred draws it covers 92 to 98 of
        100, and nearly all where draws are about as many as rows); `delta` is the gap
        against f(x) less the mean score of the baselines drawn, and is random too.

    Raises:
        TypeError: as `expected`, and as `integrated_gradients`.
        ValueError: as `expected`, and as `integrated_gradients`.

    Example:
        >>> import igjax, jax, jax.numpy as jnp
        >>> explain = igjax.expected_gradients(lambda x: (x**2).sum(), draws=1024)
        >>> rows = jnp.array([[0.0, 0.0], [1.0, 0.0]])
        >>> result = explain(jax.random.key(0), jnp.array([3.0, 2.0]), rows)
        >>> bool((abs(result.values - jnp.array([8.5, 4.0])) <= result.error).all())
        True

    References:
        Erion, Janizek, Sturmfels, Lundberg, Lee, "Improving Performance of Deep Learning
        Models with Axiomatic Attribution Priors and Expected Gradients", 2021.
    """
    caller = "expected_gradients"
    _checks.function(caller, "f", f)
    _check_sampler(caller, sample, draws)
    _checks.chunk_size(caller, chunk_size)
    _checks.draws(caller, draws, 16, 2)

    def at(t, x, baseline, *args):
        rule = rules.Rule(t[None], jnp.ones_like(t)[None], jnp.zeros((0, 1), t.dtype))
        options = (f, paths.straight, rule, None)
        one = compiled.attribution(caller, _one_gradient, *options, scalar=True)
        return one(x, baseline, *args)

    def explain(key, x, baselines, /, *args):
        _checks.key(caller, key)
        _checks.inputs(caller, x, x)
        x = strong(x)
        rows, pick = _picker(caller, sample, x, baselines)
        dtype = parameter_dtype(x)
        key_of_baselines, key_of_places = jax.random.split(key)
        member, *parts = _parts(draws // 2, rows)
        order = None if rows is None else _some(key_of_baselines, rows, draws)

        def draw(k):
            start, width, weight = (jnp.asarray(a, dtype)[k // 2] for a in parts)
            place = jax.random.uniform(jax.random.fold_in(key_of_places, k), (), dtype)
            if order is None:
                baseline = pick(jax.random.fold_in(key_of_baselines, k))
            else:
                baseline = pick(order[jnp.asarray(member)[k]])
            one = at(start + width * place, x, baseline, *args)
            scaled = lambda a: a * weight.astype(a.dtype)
            return dataclasses.replace(
                one,
                values=jax.tree.map(scaled, one.values),
                delta=scaled(one.delta),
                baseline_score=scaled(one.baseline_score),
            )

        return mean_of_pairs(draw, draws, chunk_size)

    return compiled.function(caller, explain)


def _parts(count: int, rows: int | None):
    """The parts of which each gives two draws: start, width on the path, and weight.

    Before them, for each draw, which of the drawn rows it takes. Each row has its parts,
    if there are enough; their numbers differ by one at the most, the weights of the rows
    do not. Else a part of [0, 1] is that of the paths from all rows.
    """
    part = np.arange(count)
    if rows is None or rows > count:
        ones = np.ones(count)
        return np.arange(2 * count) % (rows or 1), part / count, ones / count, ones
    row = part * rows // count
    width = 1 / np.bincount(row)[row]
    start = (part - np.searchsorted(row, row)) * width
    return np.repeat(row, 2), start, width, width * count / rows


def _some(key, rows: int, count: int):
    """Rows in random order, at most count: a batch of inputs need not sort them all."""
    key_of_order, key_of_start = jax.random.split(key)
    _, order = jax.lax.top_k(jax.random.uniform(key_of_order, (rows,)), min(count, rows))
    # Of equal numbers, which millions of rows have, the first wins: it is a random row.
    start = jax.random.randint(key_of_start, (), 0, rows)
    return (order + start.astype(order.dtype)) % rows


def _one_gradient(f, path, operands, rule, chunk_size) -> Attribution:
    """The recipe of one draw: the gradient at the one node of the rule."""
    del chunk_size
    f, path = partial(f, operands), partial(path, operands)
    _, values = integrand(f, path, rule.nodes[0].astype(parameter_dtype(operands.x)))
    return _of_one_path(f, operands, values, values)


def _of_one_path(f, operands, attributions, values) -> Attribution:
    """The result for one baseline, with what the attributions leave of the scores."""
    score, start = f(operands.x), f(operands.baseline)
    missing = gap(attributions, start, score)
    return of_one_gradient(values, missing, score, start, jnp.isfinite(missing))


def _picker(caller, sample, x, baselines) -> tuple[Any, Callable]:
    """The number of rows, if baselines are rows, and how to get one by index or key."""
    if sample is not None:
        _checks.inputs(caller, x, baselines)
        baselines = spread(baselines, x)
        return None, lambda key: sample(key, baselines)
    rows = _checks.rows(caller, x, baselines)
    return rows, lambda i: jax.tree.map(lambda a: jnp.asarray(a)[i], baselines)


def _check_sampler(caller, sample, draws) -> None:
    if sample is None:
        return
    _checks.function(caller, "sample", sample)
    if draws is None:
        raise ValueError(f"{caller}: a sampler needs draws, the number of baselines.")
