"""Shapley and Banzhaf values: exact where all is scored, with errors where it is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax.perturbation import _design, banzhaf_values, shapley_values

from .games import (
    additive,
    by_orders,
    majority,
    multi_input,
    multilayer,
    second_order,
    unanimity,
)

KEY = jax.random.key(0)
GAMES = [unanimity([1, 3], 5), unanimity([0, 1, 2, 4, 5], 7), majority(7), additive(6)]


@pytest.mark.parametrize("game", [*GAMES, second_order(5)])
def test_all_coalitions_give_the_closed_forms(game):
    result = shapley_values(game.f)(KEY, np.ones(game.n), 0.0)
    np.testing.assert_allclose(result.values, game.shapley, atol=1e-12)
    np.testing.assert_array_equal(result.error, 0)
    assert result.forwards == 2**game.n
    assert result.status == igjax.Status.NO_TOLERANCE
    result = banzhaf_values(game.f)(KEY, np.ones(game.n), 0.0)
    np.testing.assert_allclose(result.values, game.banzhaf, atol=1e-12)


def test_all_coalitions_agree_with_all_orders():
    f = lambda x: np.tanh(x[0] * x[1] - x[2]) + np.maximum(x[3], x[0]) * x[4]
    x, baseline = np.array([1.2, -0.7, 0.4, 0.9, -1.1]), np.array([0.1, 0.3, -0.2, 0, 0.5])
    g = lambda x: jnp.tanh(x[0] * x[1] - x[2]) + jnp.maximum(x[3], x[0]) * x[4]
    result = shapley_values(g)(KEY, x, baseline)
    np.testing.assert_allclose(result.values, by_orders(f, x, baseline), atol=1e-12)


def test_monomials_share_alike():
    x = np.array([2.0, 3.0, 0.5, 4.0])
    result = shapley_values(lambda x: 5 * x[0] * x[1] * x[2])(KEY, x, 0.0)
    np.testing.assert_allclose(result.values, [5, 5, 5, 0], atol=1e-12)
    result = banzhaf_values(lambda x: 5 * x[0] * x[1] * x[2])(KEY, x, 0.0)
    np.testing.assert_allclose(result.values, [3.75, 3.75, 3.75, 0], atol=1e-12)


def test_of_multilinear_functions_they_are_integrated_gradients():
    f = lambda x: x[0] * x[1] * x[2] - 2 * x[1] * x[3] + x[2]
    x, baseline = np.array([1.0, 2.0, -1.5, 0.5]), np.array([0.3, -0.2, 0.1, 0.9])
    rule = igjax.rules.gauss_legendre(4)
    along = igjax.integrated_gradients(f, rule=rule)(x, baseline)
    result = shapley_values(f)(KEY, x, baseline)
    np.testing.assert_allclose(result.values, along.values, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "baseline", "labels", "expected"),
    [
        ([20.0, 50, 30], 0.0, [0, 1, 2], [76.6666667, 196.6666667, 116.6666667]),
        ([20.0, 50, 30], [10.0, 20, 10], [0, 1, 2], [40, 120, 80]),
        ([20.0, 50, 30], 0.0, [0, 0, 1], [275, 115]),
        ([20.0, 50, 30], 4.0, [0, 0, 1], [248, 104]),
        ([2.0, 10, 3], 0.0, [0, 1, 2], [7, 32.5, 10.5]),
        ([2.0, 10, 3], 0.0, [0, 0, 1], [39.5, 10.5]),
    ],
)
def test_shapley_values_agree_with_the_literals_of_captum(x, baseline, labels, expected):
    method = lambda f: lambda *args: shapley_values(f)(KEY, *args)
    attribute = igjax.grouped(multilayer, max(labels) + 1, method=method)
    result = attribute(np.array(x), np.array(baseline), np.array(labels))
    np.testing.assert_allclose(result.values, expected, atol=1e-6)


# Inputs that are added up; each value alone, whatever the mask of the others is.
APART = [
    (
        ([23.0, 0, 0], [20.0, 0, 50], [0.0, 100, 10]),
        ([90, 0, 0], [78, 0, 198], [0, 398, 38]),
    ),
    (
        ([20.0, 50, 30], [0.0, 100, 0], [0.0, 10, 0]),
        ([78, 198, 118], [0, 398, 0], [0, 38, 0]),
    ),
]
TOGETHER = [
    (
        ([23.0, 100, 0], [20.0, 50, 30], [0.0, 100, 10]),
        ([1, 1, 1], [0, 1, 2], [0, 1, 2]),
        {0.0: [76.6666667, 1088.6666667, 156.6666667], (2.0, 3.0, 4.0): [52, 1040, 132]},
    ),
    (
        ([20.0, 50, 30], [0.0, 100, 0], [2.0, 10, 3]),
        ([0, 1, 0], [0, 1, 2], [0, 0, 0]),
        {0.0: [255, 595, 0], (2.0, 3.0, 4.0): [184, 580, -12]},
    ),
]


@pytest.mark.parametrize(("x", "expected"), APART)
def test_shapley_values_of_several_inputs_agree_with_captums_kernel_shap(x, expected):
    # Its tolerance is 1: it samples, and what it lists are the values of the ends.
    x = tuple(map(np.array, x))
    result = shapley_values(multi_input)(KEY, x, (0.0, 0.0, 0.0))
    assert result.forwards == 2**9
    for values, wanted in zip(result.values, expected, strict=True):
        np.testing.assert_allclose(values, wanted, atol=1)


@pytest.mark.parametrize(("x", "labels", "expected"), TOGETHER)
def test_groups_over_several_inputs_agree_with_captums_kernel_shap(x, labels, expected):
    method = lambda f: lambda *args: shapley_values(f)(KEY, *args)
    attribute = igjax.grouped(multi_input, 3, method=method)
    given = tuple(map(np.array, x)), tuple(map(np.array, labels))
    for start, wanted in expected.items():
        baseline = tuple(map(np.array, start)) if start else (0.0, 0.0, 0.0)
        values = attribute(given[0], baseline, given[1]).values
        np.testing.assert_allclose(values, wanted, atol=1e-6)


@pytest.mark.parametrize(
    "n", [5, 6, *(pytest.param(n, marks=pytest.mark.slow) for n in (9, 12))]
)
@pytest.mark.parametrize("pairs", [7, 15, 30])
def test_designs_are_distinct_pairs_of_all_sizes(n, pairs):
    pairs = min(pairs, 2 ** (n - 1) - 1)
    counts = _design.plan(n, pairs, _design.even_law)
    assert counts.sum() == pairs
    masks = np.asarray(_design.masks(KEY, n, counts))
    sizes = np.repeat(np.arange(1, n // 2 + 1), counts)
    np.testing.assert_array_equal(masks.sum(1), sizes)
    both = np.concatenate([masks, ~masks])
    assert len(np.unique(both, axis=0)) == 2 * pairs


@pytest.mark.parametrize(
    "game", [pytest.param(additive(20), marks=pytest.mark.slow), second_order(20)]
)
@pytest.mark.parametrize("budget", [80, pytest.param(200, marks=pytest.mark.slow)])
def test_what_pairs_know_exactly_is_exact(game, budget):
    # Up to order two pairs tell everything, and the error is rounding.
    result = shapley_values(game.f, budget=budget)(KEY, np.ones(20), 0.0)
    np.testing.assert_allclose(result.values, game.shapley, atol=1e-9)
    assert np.max(result.error) < 1e-9
    result = banzhaf_values(game.f, budget=budget)(KEY, np.ones(20), 0.0)
    np.testing.assert_allclose(result.values, game.banzhaf, atol=1e-9)


@pytest.mark.slow
def test_many_scores_are_read_by_least_squares_and_cover():
    game = second_order(24)
    f = lambda x: game.f(x) + x[:6].prod() * 5
    exact = game.shapley + 5 / 6 * (np.arange(24) < 6)
    result = shapley_values(f, budget=4000)(KEY, np.ones(24), 0.0)
    assert result.forwards == 4000
    np.testing.assert_allclose(result.values.sum(), exact.sum(), rtol=1e-9)
    assert np.mean(np.abs(result.values - exact) <= result.error) >= 0.75
    assert np.max(np.abs(result.values - exact)) < 3 * np.max(result.error)


@pytest.mark.slow
def test_least_squares_are_exact_up_to_order_two():
    game = second_order(24)
    result = shapley_values(game.f, budget=2400)(KEY, np.ones(24), 0.0)
    np.testing.assert_allclose(result.values, game.shapley, atol=1e-9)
    assert np.max(result.error) < 1e-9


def test_features_may_change_places():
    w = np.linspace(0.5, 1.5, 6)
    f = lambda x: jnp.tanh((x * w).sum()) * x[0]
    turned = lambda x: f(x[::-1])
    x = np.linspace(-1, 2, 6)
    one = shapley_values(f)(KEY, x, 0.2).values
    other = shapley_values(turned)(KEY, x[::-1], 0.2).values
    np.testing.assert_allclose(one, other[::-1], atol=1e-12)


def test_misuse_is_refused():
    with pytest.raises(
        ValueError, match="budget must be at least 80 scores, four for each"
    ):
        shapley_values(jnp.sum, budget=60)(KEY, np.ones(20), 0.0)
    with pytest.raises(ValueError, match="budget must be at most 2050 here"):
        banzhaf_values(jnp.sum, budget=4000)(KEY, np.ones(20), 0.0)
    with pytest.raises(ValueError, match="tolerance must be one positive number"):
        shapley_values(jnp.sum, tolerance=0.0)
    with pytest.raises(TypeError, match="the first argument must be a random key"):
        shapley_values(jnp.sum)(np.ones(3), 0.0, 0.0)


def cubic(n):
    """A sum of products of three neighbours, and its Shapley values."""
    f = lambda x: (jnp.sin(jnp.arange(n)) * x * jnp.roll(x, 1) * jnp.roll(x, 2)).sum()
    third = np.sin(np.arange(n)) / 3
    return f, third + np.roll(third, -1) + np.roll(third, -2)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "budget"), [(12, 128), (12, 512), (30, 256)])
def test_errors_cover(n, budget):
    # Wilson's 99.9% bounds for 200 keys, whose features are not independent.
    f, exact = cubic(n)
    keys = jax.random.split(KEY, 200)
    attribute = jax.jit(shapley_values(f, budget=budget))
    found = jax.lax.map(lambda key: attribute(key, jnp.ones(n), 0.0), keys)
    covered = np.mean(np.abs(found.values - exact[None]) <= found.error)
    assert 0.89 <= covered <= 1.0, covered


@pytest.mark.slow
@pytest.mark.parametrize("method", [shapley_values, banzhaf_values])
def test_a_tolerance_is_met_and_checked_or_the_budget_is_spent(method):
    n = 12
    w = np.cos(np.arange(n))
    f = lambda x: jax.nn.relu(x @ w + 0.3) + x[0] * x[1] * x[2]
    exact = method(f, budget=2**n)(KEY, np.ones(n), 0.0).values
    keys = jax.random.split(KEY, 20)
    for tolerance in (0.3, 0.05):
        attribute = jax.jit(method(f, budget=1000, tolerance=tolerance))
        found = jax.lax.map(lambda key, a=attribute: a(key, jnp.ones(n), 0.0), keys)
        met = np.asarray(found.converged)
        assert met.any()
        wrong = np.abs(found.values - exact[None]).sum(1) / np.abs(exact).sum()
        assert (wrong[met] <= tolerance).all()
        assert np.max(found.forwards) <= 1000
    attribute = method(f, budget=1000, tolerance=1e-6)
    assert attribute(KEY, np.ones(n), 0.0).status == igjax.Status.BUDGET_SPENT


@pytest.mark.slow
def test_looser_tolerances_spend_less():
    f, _ = cubic(14)
    run = lambda t: shapley_values(f, budget=1000, tolerance=t)(KEY, np.ones(14), 0.0)
    spent = [int(run(t).forwards) for t in (1.0, 0.1)]
    assert spent[0] < spent[1]


def test_what_is_not_finite_is_told():
    f = lambda x: jnp.where(x[:2].sum() > 1, jnp.nan, x.sum())
    result = shapley_values(f)(KEY, np.ones(4), 0.0)
    assert result.status == igjax.Status.NON_FINITE


@pytest.mark.slow
def test_half_precision_is_read_in_single():
    result = shapley_values(lambda x: x.sum(), budget=64)(KEY, jnp.ones(8, "float16"), 0.0)
    assert result.values.dtype == jnp.float32
    np.testing.assert_allclose(result.values, 1, atol=1e-5)
