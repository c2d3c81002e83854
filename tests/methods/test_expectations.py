"""Expectations over baselines against closed forms, and their errors against the truth.

Of a linear f with weights w the values are w (x - E b), whatever the rows. Of x1 x2 they
are E (x1 - b1) (x2 + b2) / 2 and its mirror image: that needs rows that stay together. Of
the sum of w x**2 / 2 they are w (x**2 - E b**2) / 2.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax.methods.expectations import _parts
from tests.methods.test_smoothing import assert_covers, assert_unbiased, repeated
from tests.registry import together

X = np.array([0.5, -1.0, 2.0])
B = np.array([0.1, 0.2, -0.3])
W = np.array([1.0, 2.0, -0.5])
ROWS = np.random.default_rng(0).normal(size=(20, 3))
KEY = 0

HIDDEN = np.random.default_rng(1).normal(size=(3, 9)) * 0.5
OUT = np.random.default_rng(2).normal(size=9)


def linear(x):
    return W @ x + 7.0


def quadratic(x):
    return jnp.sum(W * x**2) / 2


def network(x):
    return jnp.tanh(x @ HIDDEN) @ OUT


def exact_of_network(x, b):
    """Of one hidden layer: each unit is a ridge, whose values are known."""
    z, c = x @ HIDDEN, b @ HIDDEN
    slopes = OUT * (np.tanh(z) - np.tanh(c)) / (z - c)
    return ((HIDDEN * (x - b)[:, None]) * slopes[None]).sum(1)


EXACT = np.mean([exact_of_network(X, b) for b in ROWS], axis=0)


def exactly(f, nodes=2):
    """Integrated gradients by a rule whose error is nothing here, and that says so."""
    attribute = igjax.integrated_gradients(f, rule=igjax.rules.gauss_legendre(nodes))

    def of_no_error(x, baseline):
        result = attribute(x, baseline)
        error = jax.tree.map(jnp.zeros_like, result.error)
        status = jnp.where(result.status == 1, 0, result.status)
        return dataclasses.replace(result, error=error, status=status)

    return of_no_error


def test_all_rows_of_a_linear_function():
    result = igjax.expected(exactly(linear))(jax.random.key(0), X, ROWS)
    np.testing.assert_allclose(result.values, W * (X - ROWS.mean(0)), rtol=1e-12)
    np.testing.assert_allclose(result.error, 0, atol=1e-14)
    np.testing.assert_allclose(result.score, linear(X), rtol=1e-14)
    np.testing.assert_allclose(result.baseline_score, np.mean(ROWS @ W) + 7, rtol=1e-12)
    np.testing.assert_allclose(result.delta, 0, atol=1e-12)
    assert result.evaluations == 2 * len(ROWS)
    assert result.status == igjax.Status.NO_TOLERANCE


@pytest.mark.slow
def test_all_rows_of_a_network_are_its_closed_form_whatever_the_key():
    explain = igjax.expected(exactly(network, nodes=24))
    for key in (0, 1):
        values = explain(jax.random.key(key), X, ROWS).values
        np.testing.assert_allclose(values, EXACT, rtol=1e-9)


def test_one_row_is_integrated_gradients():
    attribute = igjax.integrated_gradients(network, rule=igjax.rules.gauss_legendre(5))
    got, want = together(
        lambda: igjax.expected(attribute)(jax.random.key(0), X, B[None]),
        lambda: attribute(X, B),
    )
    np.testing.assert_array_equal(got.sampling, 0)
    got = dataclasses.replace(got, sampling=None)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-14, atol=1e-14), got, want)


@pytest.mark.slow
@pytest.mark.parametrize("make", ["expected", "part", "gradients"])
def test_rows_stay_together_over_the_leaves(make):
    # The second leaf is ten times the first on every row: mixed, f would be NaN.
    def f(x):
        paired = jnp.isclose(x["b"], 10 * x["a"], rtol=1e-5)
        return jnp.where(paired, x["a"] * x["b"], jnp.nan)

    a = np.arange(1.0, 9.0)
    explain = {
        "expected": igjax.expected(exactly(f)),
        "part": igjax.expected(exactly(f), draws=6),
        "gradients": igjax.expected_gradients(f, draws=64),
    }[make]
    x = {"a": np.float64(20), "b": np.float64(200)}
    result = explain(jax.random.key(0), x, {"a": a, "b": 10 * a})
    exact = np.mean((20 - a) * (200 + 10 * a) / 2)
    for value, error in zip(result.values.values(), result.error.values(), strict=True):
        assert np.abs(value - exact) <= 1.5 * error + 1e-9
    assert result.status == igjax.Status.NO_TOLERANCE


@pytest.mark.slow
def test_a_part_of_the_rows_is_unbiased_and_its_error_covers():
    rows = np.random.default_rng(3).uniform(-1, 1, size=(60, 3))
    results = repeated(igjax.expected(exactly(quadratic), draws=40), X, rows)
    exact = W * (X**2 - (rows**2).mean(0)) / 2
    assert_unbiased(results, exact)
    # Without the correction for 40 of 60 they would cover in all but 0.1%.
    assert_covers(results, exact, share=0.945, slack=0.025)
    assert (results.values.std(0) > 1e-3).all()


def test_all_rows_drawn_leave_no_statistical_error():
    explain = igjax.expected(exactly(quadratic), draws=len(ROWS))
    result = explain(jax.random.key(5), X, ROWS)
    np.testing.assert_allclose(result.error, 0, atol=1e-14)


@pytest.mark.slow
def test_the_error_of_the_draws_is_told_apart_from_that_of_the_rule():
    attribute = igjax.integrated_gradients(network, rule=igjax.rules.midpoint(3))
    key, groups = jax.random.key(0), np.array([0, 0, 1])
    alone = jax.vmap(attribute, (None, 0))
    few, all_rows, sharp, single, batch = together(
        lambda: igjax.expected(attribute, draws=8)(key, X, ROWS),
        lambda: igjax.expected(attribute)(key, X, ROWS),
        lambda: igjax.expected_integrated_gradients(network, draws=8)(key, X, ROWS),
        lambda: igjax.expected_gradients(network, draws=16)(key, X, ROWS),
        lambda: jax.vmap(igjax.expected(attribute, draws=8), (0, None, None))(
            jax.random.split(key), X, ROWS
        ),
    )
    assert (few.sampling > 0).all()
    assert (few.error > few.sampling).all()  # the rest is that of the rule
    np.testing.assert_array_equal(all_rows.sampling, 0)
    np.testing.assert_allclose(all_rows.error, alone(X, ROWS).error.mean(0), rtol=1e-9)
    assert ((sharp.error > sharp.sampling) & (sharp.sampling > 0)).all()
    np.testing.assert_array_equal(single.sampling, single.error)
    np.testing.assert_array_equal(batch.example(1).sampling, batch.sampling[1])
    added = igjax.aggregate(few, groups, 2)
    np.testing.assert_allclose(added.sampling, [few.sampling[:2].sum(), few.sampling[2]])
    assert attribute(X, 0.0).sampling is None
    assert igjax.aggregate(attribute(X, 0.0), groups, 2).sampling is None
    assert igjax.to_records(few)[1]["sampling"] == float(few.sampling[1])


@pytest.mark.slow
def test_samplers_draw_around_the_baseline_given():
    sample = igjax.baselines.noise(0.5)
    results = repeated(igjax.expected(exactly(quadratic), sample, draws=256), X, B)
    exact = W * (X**2 - B**2 - 0.25) / 2
    assert_unbiased(results, exact)
    assert_covers(results, exact)
    np.testing.assert_allclose(results.delta, 0, atol=1e-12)


def test_a_sampler_of_the_user_gets_a_key_and_the_baseline_as_arrays():
    def sample(key, baseline):
        assert baseline["a"].shape == (3,)
        return {"a": baseline["a"] + jax.random.bernoulli(key, 0.5)}

    explain = igjax.expected(exactly(lambda x: linear(x["a"])), sample, draws=256)
    result = explain(jax.random.key(0), {"a": X}, {"a": 1.0})
    np.testing.assert_allclose(result.values["a"], W * (X - 1.5), atol=4 * 2 * 0.5 / 16)


@pytest.mark.slow
def test_a_tolerance_is_met_as_often_as_promised():
    sample = igjax.baselines.noise(0.5)
    options = {"draws": 4096, "tolerance": 0.05, "chunk_size": 32}
    explain = igjax.expected(exactly(quadratic), sample, **options)
    results = repeated(explain, X, B, repeats=400)
    exact = W * (X**2 - B**2 - 0.25) / 2
    assert results.converged.all()
    bound = 0.05 * np.abs(results.values).sum(1)
    assert (results.error.sum(1) <= bound).all()
    error = np.abs(results.values - exact[None])
    assert ((error <= results.error).mean(0) >= 0.95).all()
    assert (error.sum(1) <= bound).mean() >= 0.95
    draws = results.evaluations // 2
    assert set(np.unique(draws)) <= {32, 64, 128, 256, 512, 1024, 2048, 4096}
    assert len(np.unique(draws)) > 1
    assert draws.max() < 4096


def test_a_tolerance_that_is_not_met_says_so():
    options = {"draws": 64, "tolerance": 1e-4}
    explain = igjax.expected(exactly(quadratic), igjax.baselines.noise(0.5), **options)
    result = explain(jax.random.key(0), X, B)
    assert result.status == igjax.Status.BUDGET_SPENT
    assert result.evaluations == 2 * 64


def test_a_tolerance_over_rows_is_met_by_all_of_them_at_the_last():
    rows = np.random.default_rng(4).normal(size=(100, 3))
    options = {"tolerance": 1e-6, "chunk_size": 16}
    explain = igjax.expected(exactly(quadratic), **options)
    result = explain(jax.random.key(0), X, rows)
    assert result.status == igjax.Status.TOLERANCE_MET
    assert result.evaluations == 2 * 100
    np.testing.assert_allclose(result.values, W * (X**2 - (rows**2).mean(0)) / 2)


def test_trouble_of_a_draw_is_never_converged():
    def attribute(status, x, baseline):
        result = exactly(quadratic)(x, baseline)
        return dataclasses.replace(result, status=jnp.int32(status))

    explain = lambda s: igjax.expected(partial(attribute, s), tolerance=0.5)
    got = together(*(lambda s=s: explain(s)(jax.random.key(0), X, ROWS) for s in range(6)))
    # A fixed rule, status 1, is within the tolerance, but not verified.
    assert [int(r.status) for r in got] == [0, 1, 2, 3, 4, 5]


def test_the_error_of_the_integration_counts_for_the_tolerance():
    rough = igjax.integrated_gradients(network, rule=igjax.rules.midpoint(1))
    result = igjax.expected(rough, tolerance=0.5)(jax.random.key(0), X, ROWS)
    assert result.status == igjax.Status.BUDGET_SPENT  # one node has no error estimate
    assert np.isinf(result.error).all()


@pytest.mark.slow
def test_the_adaptive_rule_may_integrate_each_baseline():
    attribute = igjax.integrated_gradients(network, rule=igjax.rules.adaptive(1e-6))
    explain = igjax.expected(attribute, tolerance=1e-4)
    result = explain(jax.random.key(0), X, ROWS)
    assert result.converged
    np.testing.assert_allclose(result.values, EXACT, rtol=1e-4)


@pytest.mark.parametrize(
    ("tolerance", "error"),
    [("0.1", TypeError), (0.0, ValueError), (np.nan, ValueError), (np.ones(2), ValueError)],
)
def test_a_tolerance_is_one_positive_number(tolerance, error):
    with pytest.raises(error, match="expected: tolerance must be one"):
        igjax.expected(exactly(quadratic), tolerance=tolerance)


def test_a_traced_tolerance_is_refused_in_words():
    explain = lambda t: igjax.expected(exactly(quadratic), tolerance=t)
    with pytest.raises(TypeError, match=r"expected: tolerance must be .* static"):
        jax.jit(explain)(0.1)


def test_no_reverse_mode_through_a_tolerance():
    explain = igjax.expected(exactly(quadratic), tolerance=0.1)
    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        jax.grad(lambda x: explain(jax.random.key(0), x, ROWS).values.sum())(X)


# A rule for each baseline.


@pytest.mark.slow
def test_a_rule_for_each_baseline_has_the_values_of_the_combinator_and_a_sharper_error():
    rule = igjax.rules.gauss_legendre(5)
    attribute = igjax.integrated_gradients(network, rule=rule)
    by_rule = igjax.expected_integrated_gradients(network, rule=rule)
    key = jax.random.key(0)
    all_rows, mean, one_row, single = together(
        lambda: by_rule(key, X, ROWS),
        lambda: igjax.expected(attribute)(key, X, ROWS),
        lambda: by_rule(key, X, B[None]),
        lambda: attribute(X, B),
    )
    np.testing.assert_allclose(all_rows.values, mean.values, rtol=1e-12)
    np.testing.assert_allclose(all_rows.delta, mean.delta, atol=1e-12)
    assert all_rows.evaluations == mean.evaluations == 5 * len(ROWS)
    # The rule is linear, and the root of a sum of squares a norm: triangle inequality.
    assert (all_rows.error <= mean.error * (1 + 1e-12)).all()
    assert all_rows.error.sum() < 0.75 * mean.error.sum()  # they cancel in part
    assert (np.abs(all_rows.values - EXACT) <= all_rows.error).all()
    np.testing.assert_allclose(one_row.values, single.values, rtol=1e-12)
    np.testing.assert_allclose(one_row.error, single.error, rtol=1e-9)


@pytest.mark.slow
def test_a_part_of_the_rows_adds_a_statistical_error_to_that_of_the_rule():
    rule = igjax.rules.gauss_legendre(24)
    explain = igjax.expected_integrated_gradients(network, rule=rule, draws=10)
    results = repeated(explain, X, ROWS, repeats=1000)
    assert_unbiased(results, EXACT)
    assert_covers(results, EXACT, slack=0.03)


def test_a_rule_without_an_estimate_has_an_infinite_error():
    rule = igjax.rules.midpoint(1)
    result = igjax.expected_integrated_gradients(quadratic, rule=rule)(
        jax.random.key(0), X, ROWS
    )
    np.testing.assert_allclose(result.values, W * (X**2 - (ROWS**2).mean(0)) / 2)
    assert np.isinf(result.error).all()
    assert result.status == igjax.Status.NO_TOLERANCE


# Expected gradients.


# With few draws a feature owes its error to few parts, of which little is known.
@pytest.mark.slow
@pytest.mark.parametrize(("draws", "slack"), [(90, 0.035), (320, 0.025)])
def test_expected_gradients_are_unbiased_and_their_errors_cover(draws, slack):
    results = repeated(
        igjax.expected_gradients(network, draws=draws), X, ROWS, repeats=1000
    )
    assert_unbiased(results, EXACT)
    assert_covers(results, EXACT, slack=slack)
    sums = results.values.sum(1)
    np.testing.assert_allclose(
        results.delta, sums - (results.score - results.baseline_score), atol=1e-12
    )
    assert (results.evaluations == draws).all()


@pytest.mark.slow
def test_fewer_draws_than_rows_are_unbiased_and_their_errors_cover():
    rows = np.random.default_rng(6).normal(size=(500, 3))
    exact = np.mean([exact_of_network(X, b) for b in rows], axis=0)
    explain = igjax.expected_gradients(network, draws=48)
    results = repeated(explain, X, rows, repeats=1000)
    assert_unbiased(results, exact)
    assert_covers(results, exact, slack=0.035)


def independent(key, draws):
    """Expected gradients by independent draws, as they are usually computed."""
    key_of_rows, key_of_places = jax.random.split(key)
    b = jnp.asarray(ROWS)[jax.random.randint(key_of_rows, (draws,), 0, len(ROWS))]
    t = jax.random.uniform(key_of_places, (draws, 1))
    dx = X[None] - b
    return (dx * jax.vmap(jax.grad(network))(b + t * dx)).mean(0)


@pytest.mark.slow
def test_stratified_draws_converge_faster_than_the_root_of_their_number():
    keys = jax.random.split(jax.random.key(2), 100)
    explain = lambda n: lambda key: igjax.expected_gradients(network, draws=n)(key, X, ROWS)
    many = lambda one: lambda: jax.vmap(one)(keys)
    few, lots, iid_few, iid_lots = (
        np.sqrt(((getattr(found, "values", found) - EXACT) ** 2).mean())
        for found in jax.device_get(
            together(
                many(explain(128)),
                many(explain(2048)),
                many(partial(independent, draws=128)),
                many(partial(independent, draws=2048)),
            )
        )
    )
    slope = lambda few, lots: np.log(lots / few) / np.log(2048 / 128)
    np.testing.assert_allclose(slope(iid_few, iid_lots), -0.5, atol=0.06)
    # Of n parts each is an n-th as wide, and what varies within it as small.
    np.testing.assert_allclose(slope(few, lots), -1.5, atol=0.1)
    assert lots < 0.05 * iid_lots  # as 400 times as many independent draws


@pytest.mark.parametrize("count", [20, 33, 160])
def test_each_row_has_parts_of_its_own_that_make_up_its_path(count):
    row, start, width, weight = _parts(count, 20)
    assert (row[::2] == row[1::2]).all()
    for r in range(20):
        mine = row[::2] == r
        np.testing.assert_allclose(np.cumsum(width[mine]), [*start[mine][1:], 1])
        np.testing.assert_allclose(weight[mine].sum(), count / 20)


def test_with_few_draws_each_has_a_row_of_its_own():
    row, start, width, weight = _parts(9, 20)
    assert len(set(row)) == 18
    np.testing.assert_allclose(np.cumsum(width), [*start[1:], 1])
    np.testing.assert_allclose(weight, 1)


def test_rows_of_equal_weight_are_exact():
    # Of a linear f nothing depends on t.
    explain = igjax.expected_gradients(linear, draws=2 * len(ROWS))
    result = explain(jax.random.key(0), X, ROWS)
    np.testing.assert_allclose(result.values, W * (X - ROWS.mean(0)), rtol=1e-12)
    np.testing.assert_allclose(result.error, 0, atol=1e-12)
    np.testing.assert_allclose(result.baseline_score, np.mean(ROWS @ W) + 7)


@pytest.mark.slow
def test_expected_gradients_take_samplers():
    explain = igjax.expected_gradients(quadratic, igjax.baselines.noise(0.5), draws=512)
    results = repeated(explain, X, B, repeats=400)
    exact = W * (X**2 - B**2 - 0.25) / 2
    assert_unbiased(results, exact)
    assert_covers(results, exact, slack=0.03)


@pytest.mark.slow
def test_gradient_shap_is_a_smoothed_expectation():
    key = jax.random.key(1)
    explain = partial(igjax.expected(exactly(quadratic)), key)
    result = igjax.smooth(explain, scale=0.3, relative=False, draws=512)(key, X, ROWS)
    exact = W * (X**2 + 0.09 - (ROWS**2).mean(0)) / 2
    assert (np.abs(result.values - exact) <= 1.5 * result.error).all()
    np.testing.assert_allclose(result.delta, 0, atol=1e-12)


@pytest.mark.slow
def test_penalties_of_gray_images_are_trained_side_by_side():
    # XLA made a program of this that crashed, of a sum over pairs of draws.
    kernel = jax.random.normal(jax.random.key(0), (3, 64, 8))
    keys, images = jax.random.split(jax.random.key(1), 3), np.ones((8, 8, 8, 1), "float32")
    f = lambda x, kernel: jax.nn.gelu(x.ravel() @ kernel).sum()
    explain = igjax.expected_gradients(f, draws=16)

    def penalty(kernel, key):
        one = lambda key, x: jnp.abs(explain(key, x, images, kernel).values).sum()
        return jax.vmap(one)(jax.random.split(key, 8), images / 2).mean()

    together = jax.jit(jax.vmap(jax.grad(penalty)))(kernel, keys)
    alone = jax.jit(jax.grad(penalty))(kernel[2], keys[2])
    np.testing.assert_allclose(together[2], alone, rtol=1e-4, atol=1e-5)
