"""LIME, RISE, Owen values, interactions, importance, and what JAX cannot trace."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax.perturbation import (
    ablation,
    banzhaf_values,
    black_box,
    lime,
    owen_values,
    permutation_importance,
    rise,
    sampled_interactions,
    shapley_interactions,
    shapley_values,
)

from .games import additive, majority, multilayer, second_order, unanimity

KEY = jax.random.key(0)
INF = float("inf")


@pytest.mark.parametrize("game", [unanimity([1, 3], 5), majority(5), second_order(4)])
def test_lime_of_all_masks_without_weights_is_banzhaf(game):
    result = lime(game.f, width=INF)(KEY, np.ones(game.n), 0.0)
    np.testing.assert_allclose(result.values, game.banzhaf, atol=1e-10)
    np.testing.assert_array_equal(result.error, 0)
    gap = game.banzhaf.sum() - (result.score - result.baseline_score)
    np.testing.assert_allclose(result.delta, gap, atol=1e-10)


@pytest.mark.parametrize(("width", "ridge"), [(0.25, 0.0), (0.5, 0.03), (INF, 0.1)])
def test_lime_is_the_weighted_ridge_that_numpy_fits(width, ridge):
    n = 6
    f = lambda x: jnp.tanh(x[:3].sum()) * x[3] + x[4] * x[5] - x[0]
    x = np.array([0.5, -1.0, 0.8, 1.5, -0.6, 2.0])
    masks = np.array(list(itertools.product([0.0, 1.0], repeat=n)))
    scores = np.array([float(f(x * mask)) for mask in masks])
    weights = np.exp(-(((1 - np.sqrt(masks.sum(1) / n)) / width) ** 2))
    weights /= weights.sum()
    # The intercept is a column, and the ridge rows of data without it.
    root = np.sqrt(weights)[:, None]
    rows = np.concatenate(
        [np.c_[np.ones(2**n), masks] * root, np.eye(n + 1)[1:] * ridge**0.5]
    )
    targets = np.r_[scores * root[:, 0], np.zeros(n)]
    wanted = np.linalg.lstsq(rows, targets, rcond=None)[0][1:]
    result = lime(f, width=width, ridge=ridge)(KEY, x, 0.0)
    np.testing.assert_allclose(result.values, wanted, atol=1e-10)


def test_the_lasso_of_captum_takes_what_it_takes_off_lime():
    # Their literals, with a lasso of 1 on masks of variance 1/4: four less than a line.
    result = lime(multilayer, width=INF)(KEY, np.array([20.0, 50, 30]), 0.0)
    np.testing.assert_allclose(result.values - 4, [73.3716, 193.3349, 113.3349], atol=1)


@pytest.mark.slow
def test_lime_of_some_masks_covers_that_of_all():
    w = np.cos(np.arange(11.0))
    f = lambda x: jnp.tanh((x * w).sum()) + x[0] * x[1] * x[2]
    all_masks = lime(f, width=0.5, budget=2**11)(KEY, np.ones(11), 0.0).values
    keys = jax.random.split(KEY, 200)
    some = jax.vmap(lime(f, width=0.5, budget=200), (0, None, None))(keys, np.ones(11), 0.0)
    covered = np.mean(np.abs(some.values - all_masks[None]) <= some.error)
    assert 0.93 <= covered <= 0.98


def test_lime_of_a_line_is_exact_whatever_is_drawn():
    game = additive(20)
    result = lime(game.f, budget=100)(KEY, np.ones(20), 0.0)
    np.testing.assert_allclose(result.values, game.shapley, atol=1e-10)
    assert np.max(result.error) < 1e-9


@pytest.mark.parametrize("keep", [0.5, pytest.param(0.3, marks=pytest.mark.slow)])
def test_rise_covers_the_weighted_banzhaf_values(keep):
    n = 6
    f = lambda x: x[0] * x[1] + jnp.maximum(x[2], x[3]) - 2 * x[4]
    masks = np.array(list(itertools.product([0, 1], repeat=n)))
    chance = (keep**masks * (1 - keep) ** (1 - masks)).prod(1)
    scores = np.array([float(f(mask * 1.0)) for mask in masks])
    exact = (chance * scores) @ (masks - keep) / (keep * (1 - keep))
    keys = jax.random.split(KEY, 200)
    attribute = jax.vmap(rise(f, keep=keep, budget=300), (0, None, None))
    found = attribute(keys, np.ones(n), 0.0)
    assert 0.92 <= np.mean(np.abs(found.values - exact[None]) <= found.error) <= 0.98
    np.testing.assert_allclose(found.values.mean(0), exact, atol=0.02)


def test_rise_gives_nothing_to_a_constant_or_to_many_cells_at_once():
    result = rise(lambda x: 3 + 0 * x.sum(), budget=64)(KEY, np.ones((20, 20)), 0.0)
    np.testing.assert_array_equal(result.values, 0)
    np.testing.assert_array_equal(result.error, 0)


def by_orders_of_unions(f, n, labels):
    """Owen values by all orders that keep unions together."""
    values, count = np.zeros(n), 0
    names = sorted(set(labels))
    members = [[i for i in range(n) if labels[i] == name] for name in names]
    for order in itertools.permutations(range(len(names))):
        choices = [itertools.permutations(members[u]) for u in order]
        for turns in itertools.product(*choices):
            point, before = np.zeros(n), float(f(np.zeros(n)))
            for i in itertools.chain(*turns):
                point[i] = 1
                after = float(f(point))
                values[i] += after - before
                before = after
            count += 1
    return values / count


def test_owen_values_cover_those_of_all_orders_that_keep_unions_together():
    f = lambda x: x[0] * x[1] * x[2] + jnp.maximum(x[3], x[0]) * x[4]
    labels = np.array([2, 0, 0, 4, 2])
    exact = by_orders_of_unions(f, 5, list(labels))
    keys = jax.random.split(KEY, 200)
    attribute = jax.vmap(owen_values(f, budget=250), (0, None, None, None))
    found = attribute(keys, np.ones(5), 0.0, labels)
    assert found.forwards[0] == 250
    assert 0.93 <= np.mean(np.abs(found.values - exact[None]) <= found.error) <= 0.98
    np.testing.assert_allclose(found.values.mean(0), exact, atol=0.01)
    np.testing.assert_allclose(found.delta, 0, atol=1e-12)
    # A union gets what it gets as one feature.
    of_unions = igjax.grouped(f, 5, method=lambda g: partial(shapley_values(g), KEY))
    together = of_unions(np.ones(5), 0.0, labels).values
    mean, together = np.asarray(found.values.mean(0)), np.asarray(together)
    np.testing.assert_allclose(
        [mean[[1, 2]].sum(), mean[[0, 4]].sum()], together[[0, 2]], atol=0.02
    )


def test_owen_values_of_pairs_are_exact_and_labels_out_of_range_are_seen():
    game = second_order(6)
    labels = np.arange(6)
    result = owen_values(game.f, budget=40)(KEY, np.ones(6), 0.0, labels)
    np.testing.assert_allclose(result.values, game.shapley, atol=1e-12)
    with pytest.raises(ValueError, match="owen_values: groups must be in"):
        owen_values(game.f)(KEY, np.ones(6), 0.0, labels + 1)
    traced = jax.jit(lambda labels: owen_values(game.f)(KEY, jnp.ones(6), 0.0, labels))
    assert np.isnan(traced(labels + 1).values).all()
    with pytest.raises(ValueError, match="budget must be at least 22 scores"):
        owen_values(game.f, budget=20)(KEY, np.ones(6), 0.0, labels)


def test_interactions_are_those_of_the_definition():
    n = 5
    f = lambda x: x[0] * x[1] * x[2] + jnp.maximum(x[3], x[0]) * x[4] + jnp.tanh(x.sum())
    value = {
        s: float(f(np.isin(np.arange(n), s) * 1.0))
        for k in range(n + 1)
        for s in itertools.combinations(range(n), k)
    }
    v = lambda *s: value[tuple(sorted(s))]
    wanted = np.zeros((n, n))
    for i, j in itertools.permutations(range(n), 2):
        rest = [k for k in range(n) if k not in (i, j)]
        for size in range(n - 1):
            for s in itertools.combinations(rest, size):
                weight = (
                    math.factorial(size)
                    * math.factorial(n - size - 2)
                    / math.factorial(n - 1)
                )
                wanted[i, j] += weight / 2 * (v(*s, i, j) - v(*s, i) - v(*s, j) + v(*s))
    result = shapley_interactions(f)(np.ones(n), 0.0)
    off = ~np.eye(n, dtype=bool)
    np.testing.assert_allclose(result.values[off], wanted[off], atol=1e-12)
    shapley = shapley_values(f)(KEY, np.ones(n), 0.0)
    np.testing.assert_allclose(result.values.sum(1), shapley.values, atol=1e-12)
    np.testing.assert_allclose(result.delta, 0, atol=1e-12)


def test_interactions_of_second_order_are_the_matrix():
    game = second_order(4)
    a = np.cos(np.add.outer(np.arange(4), np.arange(4)) ** 1.5)
    result = shapley_interactions(game.f)(np.ones(4), 0.0)
    np.testing.assert_allclose(result.values, a, atol=1e-12)


@pytest.mark.slow
def test_sampled_interactions_of_second_order_are_the_matrix():
    game = second_order(20)
    a = np.cos(np.add.outer(np.arange(20), np.arange(20)) ** 1.5)
    result = sampled_interactions(game.f, budget=2000)(KEY, np.ones(20), 0.0)
    np.testing.assert_allclose(result.values, a, atol=1e-3)
    assert abs(result.delta) < 1e-3
    assert result.forwards <= 2000


@pytest.mark.slow
def test_sampled_interactions_cover_the_exact_ones():
    n = 9
    w = jnp.asarray(np.random.default_rng(2).normal(size=(2, n)))
    f = lambda x: x[0] * x[1] * x[2] + jnp.tanh(w[0] @ x) * (w[1] @ x)
    exact = shapley_interactions(f)(np.ones(n), 0.0).values
    attribute = sampled_interactions(f, budget=400)
    keys = jax.random.split(KEY, 200)
    explain = jax.jit(jax.vmap(lambda key: attribute(key, np.ones(n), 0.0)))
    found = jax.block_until_ready(explain(keys))
    wrong = np.abs(found.values - exact[None])
    covered = np.asarray(wrong <= found.error)
    off = ~np.eye(n, dtype=bool)
    assert 0.92 < covered[:, off].mean() < 0.985
    assert 0.92 < covered[:, ~off].mean() < 0.985
    assert np.sqrt((wrong**2).mean()) < 0.2 * np.sqrt((exact**2).mean())
    # The mean over keys is the matrix: no bias.
    bias = np.abs(found.values.mean(0) - exact)
    assert (bias < 4 * found.values.std(0) / np.sqrt(200) + 1e-9).all()


def test_sampled_interactions_refuse_what_they_cannot_know():
    with pytest.raises(ValueError, match="at least 6 features, got 3"):
        sampled_interactions(lambda x: x.sum())(KEY, np.ones(3), 0.0)
    with pytest.raises(ValueError, match="budget must be at least 844 scores"):
        sampled_interactions(lambda x: x.sum(), budget=800)(KEY, np.ones(20), 0.0)


def test_interactions_of_pytrees_are_pytrees_of_pytrees():
    f = lambda x: x["a"][0] * x["b"].sum() + x["a"][1]
    x = {"a": np.array([1.0, 2.0]), "b": np.ones((2, 2))}
    values = shapley_interactions(f)(x, {"a": 0.0, "b": 0.0}).values
    np.testing.assert_allclose(
        values["a"]["b"], [[[0.5, 0.5]] * 2, [[0, 0]] * 2], atol=1e-12
    )
    np.testing.assert_allclose(values["b"]["a"][..., 0], np.full((2, 2), 0.5), atol=1e-12)
    np.testing.assert_allclose(values["a"]["a"], [[0, 0], [0, 2]], atol=1e-12)
    with pytest.raises(
        ValueError, match="budget must be at least 64 scores, all coalitions"
    ):
        shapley_interactions(f, budget=32)(x, {"a": 0.0, "b": 0.0})


def test_functions_that_jax_cannot_trace():
    calls = []

    def g(rows, scale):
        calls.append(rows.shape)
        return np.array([max(row) * s for row, s in zip(rows.tolist(), scale, strict=True)])

    x = np.array([[1.0, 3.0, 2.0], [5.0, 1.0, 1.0]])
    attribute = jax.vmap(
        partial(shapley_values(black_box(g), chunk_size=8), KEY), (0, None, None)
    )
    result = attribute(x, 0.0, 2.0)
    plain = jax.vmap(
        partial(shapley_values(lambda x, s: x.max() * s), KEY), (0, None, None)
    )
    np.testing.assert_allclose(result.values, plain(x, 0.0, 2.0).values, atol=1e-12)
    assert calls == [(16, 3)]  # all coalitions of both examples at once
    with pytest.raises(TypeError, match="g must be callable"):
        black_box(3)


def test_importance_is_what_the_loss_gains():
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(400, 3))
    ys = 2 * xs[:, 0] + xs[:, 1]
    loss = lambda x, y: (2 * x[0] + x[1] - y) ** 2
    result = permutation_importance(loss)(KEY, xs, ys)
    # E (w (x' - x))^2 = 2 w^2 Var x.
    exact = np.array([8.0, 2.0, 0.0])
    assert (np.abs(result.values - exact) <= 1.2 * result.error).all()
    assert result.values[2] == 0
    assert result.error[2] == 0
    assert result.status == igjax.Status.NO_TOLERANCE
    assert result.forwards == 400 * (1 + 3 * 8)


@pytest.mark.slow
@pytest.mark.parametrize("shuffles", [1, 8])
def test_intervals_of_importance_cover_the_population(shuffles):
    loss = lambda x, y: jnp.abs(jnp.tanh(x[0]) + x[0] * x[1] - y)
    importance = permutation_importance(loss, shuffles=shuffles)

    def data(key, rows):
        xs = jax.random.normal(key, (rows, 2))
        return xs, jnp.tanh(xs[:, 0]) + xs[:, 0] * xs[:, 1]

    run = lambda key, rows: importance(key, *data(jax.random.fold_in(key, 0), rows))
    exact = run(jax.random.key(9), 40_000).values
    found = jax.lax.map(lambda key: run(key, 60), jax.random.split(KEY, 400))
    covered = np.mean(np.abs(found.values - exact[None]) <= found.error, axis=0)
    assert (covered > 0.92).all(), covered


def test_rows_that_do_not_fit_are_refused():
    importance = permutation_importance(lambda x, y: x.sum())
    with pytest.raises(ValueError, match="must have an axis of as many rows"):
        importance(KEY, np.ones((5, 2)), np.ones(4))
    with pytest.raises(ValueError, match="fewer shuffles than rows"):
        importance(KEY, np.ones((5, 2)), np.ones(5))


@pytest.mark.slow
@pytest.mark.parametrize("method", [shapley_values, banzhaf_values, lime, rise])
def test_random_readings_are_batched_and_differentiable(method):
    w = np.linspace(-1, 1, 10)
    f = lambda x, s: jnp.tanh((x * w).sum() * s) + x[0] * x[1]
    rows = np.random.default_rng(3).normal(size=(2, 10))
    options = {} if method is rise else {"budget": 64}
    attribute = method(f, **options)
    batch = jax.jit(jax.vmap(partial(attribute, KEY), (0, None, None)))(rows, 0.1, 2.0)
    one = attribute(KEY, rows[1], 0.1, 2.0)
    np.testing.assert_allclose(batch.values[1], one.values, atol=1e-9)
    np.testing.assert_allclose(batch.error[1], one.error, atol=1e-8)
    first = lambda s: attribute(KEY, rows[1], 0.1, s).values[3]
    slope = jax.grad(first)(2.0)
    steps = (first(2.0 + 1e-5) - first(2.0 - 1e-5)) / 2e-5
    np.testing.assert_allclose(slope, steps, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: lime(jnp.sum, width=0.0), "width must be positive"),
        (lambda: lime(jnp.sum, ridge=-1.0), "ridge must be at least 0"),
        (lambda: rise(jnp.sum, keep=1.0), "keep must be between 0 and 1"),
        (lambda: rise(jnp.sum, budget=7), "budget must be an integer of at least 8"),
        (
            lambda: lime(jnp.sum, budget=50)(KEY, np.ones(20), 0.0),
            "budget must be at least 80",
        ),
    ],
)
def test_options_out_of_range_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_ablation_is_the_last_of_the_orders():
    game = majority(5)
    assert np.max(np.abs(ablation(game.f)(np.ones(5), 0.0).values)) == 0


def _bumpy(n):
    w = jnp.asarray(np.random.default_rng(4).normal(size=(2, n)))
    return lambda x: jnp.tanh(w[0] @ x) + 0.3 * (w[1] @ x)


def _owen_of_singles(f, **options):
    attribute = owen_values(f, **options)
    return lambda key, x, baseline: attribute(key, x, baseline, np.arange(len(x)))


_TOLD = {
    "lime": lambda f, **options: lime(f, width=np.inf, **options),
    "rise": rise,
    "owen_values": _owen_of_singles,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", _TOLD)
def test_a_tolerance_is_met_checked_and_true_or_the_budget_is_spent(name):
    method, n = _TOLD[name], 11
    f, x = _bumpy(n), np.ones(n)
    exactly = shapley_values if name == "owen_values" else banzhaf_values
    exact = exactly(f, budget=2**n)(KEY, x, 0.0)
    most = 2000 if name == "lime" else 20_000  # of 2048 masks lime would score all
    loose = method(f, budget=most, tolerance=0.3)
    tight = method(f, budget=200, tolerance=1e-4)
    keys = jax.random.split(KEY, 40)
    found = jax.vmap(lambda key: loose(key, x, 0.0))(keys)
    met = found.status == igjax.Status.TOLERANCE_MET
    assert met.mean() > 0.7
    assert set(np.unique(found.status)) <= {
        igjax.Status.TOLERANCE_MET,
        igjax.Status.NOT_VERIFIED,
        igjax.Status.BUDGET_SPENT,
    }
    size = np.abs(found.values).sum(1)
    assert (np.asarray(found.error.sum(1))[met] <= 0.3 * size[met]).all()
    off = np.abs(found.values - exact.values[None]).sum(1)
    assert (off[met] <= 0.3 * size[met]).mean() > 0.95
    spent = tight(KEY, x, 0.0)
    assert spent.status == igjax.Status.BUDGET_SPENT
    assert spent.forwards <= 200
    assert found.forwards.max() < most / 2


def test_a_tolerance_that_is_none_is_refused():
    for method in (lime, rise, owen_values):
        with pytest.raises(ValueError, match="tolerance must be"):
            method(lambda x: x.sum(), tolerance=-1.0)
