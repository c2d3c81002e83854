"""Smoothed attributions against closed forms of their moments.

For f = sum of w x**2 / 2 the gradient is w x: under noise of deviation s its mean is w x,
its mean square w**2 (x**2 + s**2), its variance w**2 s**2. For f = sum of x**3 / 6 it is
x**2 / 2, of variance x**2 s**2 + s**4 / 2. Integrated from b, the former's values
are w (x**2 - b**2) / 2, of mean w (x**2 + s**2 - b**2) / 2.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from tests.registry import together

X = np.array([0.5, -1.0, 2.0])
B = np.array([0.1, 0.2, -0.3])
W = np.array([1.0, 2.0, -0.5])
S = 0.3
KEY = 11
REPEATS = 2000
noisy = {"scale": S, "relative": False}


def quadratic(x):
    return jnp.sum(W * x**2) / 2


def cubic(x):
    return jnp.sum(x**3) / 6


def repeated(explain, *args, repeats=REPEATS):
    """Results for many keys."""
    keys = jax.random.split(jax.random.key(KEY), repeats)
    return jax.jit(jax.vmap(lambda key: explain(key, *args)))(keys)


def assert_covers(results, exact, share=0.95, slack=0.02):
    """Errors cover in 95% of the repeats (0.5% is one standard error of that share)."""
    covered = np.abs(results.values - exact[None]) <= results.error
    np.testing.assert_allclose(covered.mean(0), share, atol=slack)


def assert_unbiased(results, exact):
    deviation = results.values.std(0) / np.sqrt(len(results.values))
    assert (np.abs(results.values.mean(0) - exact) <= 4 * deviation).all()


def integrated(x, baseline):
    """Integrated gradients by an exact rule, which does not know that it is exact."""
    rule = igjax.rules.gauss_legendre(2)
    result = igjax.integrated_gradients(quadratic, rule=rule)(x, baseline)
    return dataclasses.replace(result, error=jnp.zeros_like(result.error))


@pytest.mark.slow
def test_smoothing_has_the_mean_and_an_error_that_covers():
    results = repeated(igjax.smooth(integrated, draws=512, **noisy), X, B)
    exact = W * (X**2 + S**2 - B**2) / 2
    assert_unbiased(results, exact)
    assert_covers(results, exact)
    # The score is that under noise, and the values are complete for it.
    np.testing.assert_allclose(results.delta, 0, atol=1e-12)
    gap = np.abs(results.score.mean() - np.sum(W * (X**2 + S**2)) / 2)
    assert gap < 4 * results.score.std() / np.sqrt(REPEATS)
    np.testing.assert_allclose(results.baseline_score, np.sum(W * B**2) / 2)
    assert (results.evaluations == 2 * 512).all()
    assert (results.status == igjax.Status.NO_TOLERANCE).all()


@pytest.mark.slow
def test_mean_squares_have_their_mean_and_an_error_that_covers():
    explain = igjax.smooth_squared(igjax.gradient(quadratic), draws=256, **noisy)
    results = repeated(explain, X, None)
    exact = W**2 * (X**2 + S**2)
    assert_unbiased(results, exact)
    assert_covers(results, exact, share=0.94, slack=0.025)  # squares are skewed
    assert np.isposinf(results.delta).all()


@pytest.mark.slow
@pytest.mark.parametrize("f", [quadratic, cubic])
def test_variances_have_their_mean_and_an_error_that_covers(f):
    results = repeated(
        igjax.smooth_variance(igjax.gradient(f), draws=256, **noisy), X, None
    )
    exact = W**2 * S**2 if f is quadratic else X**2 * S**2 + S**4 / 2
    assert_unbiased(results, exact)
    assert_covers(results, exact, share=0.93, slack=0.03)  # variances are skewed


@pytest.mark.slow
def test_errors_fall_with_the_root_of_the_draws():
    draws = (16, 64, 256, 1024)
    explain = [igjax.smooth(igjax.gradient(cubic), draws=n, **noisy) for n in draws]
    results = together(*(lambda e=e: repeated(e, X, None, repeats=50) for e in explain))
    exact = (X**2 + S**2)[None] / 2
    spread = [np.sqrt(((r.values - exact) ** 2).mean()) for r in results]
    slope = np.polyfit(np.log(draws), np.log(spread), 1)[0]
    np.testing.assert_allclose(slope, -0.5, atol=0.08)


def test_antithetic_noise_leaves_nothing_random_where_the_attribution_is_affine():
    explain = igjax.smooth(igjax.gradient(quadratic), draws=8, **noisy)
    result = explain(jax.random.key(0), X, None)
    np.testing.assert_allclose(result.values, W * X, rtol=1e-14)
    np.testing.assert_allclose(result.error, 0, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_constant_gradient_has_no_variance(dtype):
    explain = igjax.smooth_variance(igjax.gradient(lambda x: 1000.1 * jnp.sum(x)))
    result = explain(jax.random.key(0), jnp.asarray(X, dtype), None)
    np.testing.assert_array_equal(result.values, 0)
    np.testing.assert_array_equal(result.error, 0)


def test_small_variances_of_large_attributions_are_accurate_in_float32():
    # The mean of squares less the square of the mean would be off by eps * 1e6 = 0.06.
    f = lambda x: jnp.sum(1000.0 * x + x**2 / 200)
    explain = igjax.smooth_variance(
        igjax.gradient(f), draws=4096, scale=1.0, relative=False
    )
    result = explain(jax.random.key(0), jnp.zeros(3, "float32"), None)
    np.testing.assert_allclose(result.values, 1e-4, rtol=0.15)


@pytest.mark.slow
def test_relative_noise_is_a_share_of_the_range_of_each_leaf():
    x = {"a": X, "b": 100 * X}
    f = lambda x: cubic(x["a"]) + cubic(x["b"] / 100)
    attribute = igjax.gradient(f)
    absolute = {"a": 0.1 * 3.0, "b": np.full(3, 0.1 * 300.0)}
    key = jax.random.key(3)
    got, want = together(
        lambda: igjax.smooth(attribute, scale=0.1, draws=8)(key, x, None),
        lambda: igjax.smooth(attribute, scale=absolute, relative=False, draws=8)(
            key, x, None
        ),
    )
    for name in x:
        np.testing.assert_allclose(got.values[name], want.values[name], rtol=1e-12)
    assert np.abs(got.values["a"] - X**2 / 2).max() > 1e-3


def test_errors_of_the_integration_are_added():
    def attribute(x, baseline):
        result = integrated(x, baseline)
        return dataclasses.replace(result, error=jnp.array([1.0, 2.0, jnp.inf]))

    options = {"draws": 16, **noisy}
    with_error, without = together(
        lambda: igjax.smooth(attribute, **options)(jax.random.key(0), X, B),
        lambda: igjax.smooth(integrated, **options)(jax.random.key(0), X, B),
    )
    extra = with_error.error - without.error
    np.testing.assert_allclose(extra, [1.0, 2.0, np.inf], rtol=1e-12)


@pytest.mark.slow
def test_the_worst_status_of_the_draws_is_that_of_the_mean():
    def attribute(statuses, x, baseline):
        del baseline
        result = integrated(x, 0.0)
        place = jnp.clip(jnp.int32(2 * x[0]), 0, len(statuses) - 1)
        return dataclasses.replace(result, status=jnp.asarray(statuses, jnp.int32)[place])

    cases = {(0, 0): 1, (0, 1): 1, (1, 3): 3, (3, 5): 5, (5, 2): 2, (2, 4): 4, (4, 0): 4}
    options = {"draws": 32, "scale": 3.0, "relative": False, "chunk_size": 4}
    thunks = [
        lambda s=s: igjax.smooth(partial(attribute, s), **options)(jax.random.key(0), X, B)
        for s in cases
    ]
    assert [int(r.status) for r in together(*thunks)] == list(cases.values())


@pytest.mark.slow
def test_a_jacobian_is_smoothed_as_a_whole():
    table = jnp.arange(6.0).reshape(2, 3)
    rule = igjax.rules.gauss_legendre(2)
    jacobian = igjax.integrated_jacobian(lambda x: table @ x, rule=rule)
    result = igjax.smooth(jacobian, draws=8, **noisy)(jax.random.key(0), X, B)
    np.testing.assert_allclose(result.values, table * (X - B)[None], rtol=1e-12)
    assert result.status.shape == result.delta.shape == (2,)


@pytest.mark.slow
def test_smoothing_twice_adds_the_variances():
    inner = partial(igjax.smooth(integrated, draws=512, **noisy), jax.random.key(1))
    result = igjax.smooth(inner, draws=512, **noisy)(jax.random.key(2), X, B)
    exact = W * (X**2 + 2 * S**2 - B**2) / 2
    # Twice the mean of 256 squares, of deviation sqrt(2) s**2 w / 2 each.
    np.testing.assert_allclose(result.values, exact, atol=4 * S**2 * 2 / 16)


def test_one_key_gives_one_result():
    explain = igjax.smooth(igjax.gradient(cubic), draws=8)
    first, same, other = (explain(jax.random.key(k), X, None).values for k in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert (first != other).all()


def test_several_results_are_not_averaged():
    several = lambda x, baseline: 2 * (igjax.input_x_gradient(jnp.sum)(x, baseline),)
    for name, combined, baseline in (
        ("smooth", igjax.smooth(several, draws=8), 0 * X),
        ("expected", igjax.expected(several), np.stack([X, X])),
    ):
        with pytest.raises(
            TypeError, match=f"{name}: .* got tuple. Of several layers, take"
        ):
            combined(jax.random.key(0), X, baseline)


def test_a_leaf_may_be_empty():
    f = lambda x: (x["a"] ** 2).sum() + x["b"].sum()
    x = {"a": jnp.array([1.0, 2.0]), "b": jnp.ones((0, 3))}
    result = igjax.smooth(igjax.input_x_gradient(f), draws=8)(
        jax.random.key(0), x, jax.tree.map(jnp.zeros_like, x)
    )
    assert result.values["b"].shape == (0, 3)
    assert jnp.isfinite(result.values["a"]).all()
