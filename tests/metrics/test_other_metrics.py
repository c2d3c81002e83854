"""Agreement, robustness, randomization, shape, localization, and comparisons."""

import functools
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

import igjax
from igjax import metrics

KEY = jax.random.key(0)
A = np.array([3.0, 1.0, 1.0, -2.0, 0.5, 4.0, 4.0, 4.0, -1.0])
B = np.array([2.0, 2.0, 1.5, -3.0, 5.0, 4.0, 3.5, 0.0, 0.0])


def result_of(values, error):
    """An attribution with these values and errors."""
    plain = igjax.gradient(lambda x: x @ values)(np.ones(len(values)))
    return igjax.Attribution(**{**vars(plain), "error": error + 0 * plain.values})


def test_correlations_of_ranks_are_those_of_scipy():
    wanted: Any = scipy.stats.spearmanr(A, B)
    np.testing.assert_allclose(metrics.spearman(A, B), wanted.statistic, atol=1e-12)
    wanted = scipy.stats.kendalltau(A, B)
    np.testing.assert_allclose(metrics.kendall(A, B), wanted.statistic, atol=1e-12)
    assert np.isnan(metrics.spearman(A, 0 * A))


def test_overlaps_of_the_largest():
    # Of A the three that tie are first; of B 4, 5 and 6.
    np.testing.assert_allclose(metrics.top_overlap(A, B, 3), 2 / 3)
    # Two of the three of A, by chance; 4 and 5 of B.
    np.testing.assert_allclose(metrics.top_overlap(A, B, 2), 2 / 3 / 2)
    np.testing.assert_allclose(metrics.top_overlap(A, B, 9), 1)


def test_rank_biased_overlap_is_the_sum_over_depths():
    one, other = np.array([9.0, 7, 5, 3, 1]), np.array([7.0, 9, 1, 3, 5])
    orders = [list(np.argsort(-a)) for a in (one, other)]
    shares = [len(set(orders[0][:d]) & set(orders[1][:d])) / d for d in range(1, 6)]
    weights = 0.8 ** np.arange(5)
    wanted = weights @ shares / weights.sum()
    found = metrics.rank_biased_overlap(one, other, persistence=0.8)
    np.testing.assert_allclose(found, wanted)
    np.testing.assert_allclose(metrics.rank_biased_overlap(A, A), 1)


def test_agreement_knows_what_errors_make_of_ranks():
    one, other = np.arange(20.0), np.arange(20.0) + 0.01
    compare = metrics.agreement(metrics.spearman)
    sharp = compare(KEY, result_of(one, 1e-3), result_of(other, 1e-3))
    np.testing.assert_allclose([sharp.value, sharp.low, sharp.high], 1, atol=1e-12)
    blurred = compare(KEY, result_of(one, 100.0), result_of(other, 100.0))
    assert blurred.value == pytest.approx(1)
    assert -0.7 < blurred.low < -0.2 < 0.2 < blurred.high < 0.7
    with pytest.raises(TypeError, match=r"must be igjax\.Attribution, got ndarray"):
        compare(KEY, A, B)  # pyright: ignore[reportArgumentType]


def test_a_quadratic_has_known_bounds():
    curvature = np.array([1.0, 3.0])
    attribute = igjax.gradient(lambda x: (curvature * x**2).sum() / 2)
    x = np.array([1.0, 2.0])
    lipschitz = metrics.local_lipschitz(attribute, 0.5, draws=400)(KEY, x, None)
    assert 2.95 < lipschitz.value <= 3 + 1e-9
    assert lipschitz.mean <= lipschitz.value
    sensitivity = metrics.max_sensitivity(attribute, 0.5, draws=400)(KEY, x, None)
    largest = np.linalg.norm(curvature * 0.5) / np.linalg.norm(curvature * x)
    assert 0.9 * largest < sensitivity.value <= largest


def test_saliency_of_captums_second_model_is_not_sensitive():
    relu = jax.nn.relu
    attribute = igjax.gradient(lambda x: relu(relu(x[0]) - 1 - relu(x[1])))
    found = metrics.max_sensitivity(attribute, 0.02)(KEY, np.array([3.0, 1.0]), None)
    assert found.value == 0


@pytest.mark.slow
def test_randomization_sees_which_layers_a_method_depends_on():
    model = nn.Sequential([nn.Dense(16), nn.tanh, nn.Dense(16), nn.tanh, nn.Dense(1)])
    x = np.cos(np.arange(12.0))
    parameters = model.init(KEY, x)
    f = lambda x, parameters: jnp.sum(jnp.asarray(model.apply(parameters, x)))
    layers = ["layers_4", "layers_2", "layers_0"]
    measure = metrics.randomization(igjax.gradient(f), layers, draws=16)
    cascading = measure(KEY, x, None, parameters)
    assert cascading.value.shape == cascading.error.shape == (3,)
    assert abs(cascading.value[2]) < 0.3
    ignorant = igjax.gradient(lambda x, parameters: x @ np.arange(12.0))
    same = metrics.randomization(ignorant, layers, draws=2)(KEY, x, None, parameters)
    np.testing.assert_allclose(same.value, 1)
    alone = metrics.randomization(igjax.gradient(f), layers, draws=2, cascading=False)
    assert alone(KEY, x, None, parameters).value.shape == (3,)


class _Nnx(nnx.Module):
    """Two layers; the head has a bias that no slope sees."""

    def __init__(self, rngs):
        self.body = nnx.Linear(9, 4, rngs=rngs, param_dtype=jnp.float64)
        self.head = nnx.Linear(4, 1, rngs=rngs, param_dtype=jnp.float64)

    def __call__(self, x):
        return self.head(jnp.tanh(self.body(x)))[0]


def _of_nnx():
    graph, state = nnx.split(_Nnx(nnx.Rngs(0)))
    return lambda x, state: nnx.merge(graph, state)(x), state, ("head", "body")


def _of_equinox():
    model = eqx.nn.MLP(9, "scalar", 4, 1, jnp.tanh, key=jax.random.key(1))
    return lambda x, model: model(x), model, (".layers[1]", ".layers[0]")


@pytest.mark.slow
@pytest.mark.parametrize("make", [_of_nnx, _of_equinox])
def test_parameters_of_nnx_and_equinox_are_randomized_by_layer(make):
    f, parameters, layers = make()
    x = np.cos(np.arange(9.0))
    changed = metrics.randomized(KEY, parameters, layers[0])
    paths = jax.tree_util.tree_leaves_with_path(changed)
    before = jax.tree.leaves(parameters)
    moved = set()
    for (path, new), old in zip(paths, before, strict=True):
        if not callable(new):
            np.testing.assert_array_equal(np.sort(new, None), np.sort(old, None))
            if (np.asarray(new) != np.asarray(old)).any():
                moved.add(layers[0] in jax.tree_util.keystr(path))
    assert moved == {True}
    for cascading in (True, False):
        measure = metrics.randomization(
            igjax.gradient(f), layers, draws=8, cascading=cascading
        )
        found = measure(KEY, x, None, parameters)
        assert found.value.shape == (2,)
        assert found.value[-1] < 0.9
    ignorant = lambda x, baseline, p: igjax.gradient(lambda x: (x**3).sum())(x)
    same = metrics.randomization(ignorant, layers, draws=2)(KEY, x, None, parameters)
    np.testing.assert_allclose(same.value, 1)


def test_randomized_parameters_keep_their_entries():
    parameters = {"a": np.arange(6.0).reshape(2, 3), "b": np.ones(2), "steps": 3}
    found = metrics.randomized(KEY, parameters, "a")
    np.testing.assert_array_equal(np.sort(found["a"], None), np.arange(6))
    assert (found["a"] != parameters["a"]).any()
    np.testing.assert_array_equal(found["b"], 1)
    assert found["steps"] == 3
    with pytest.raises(ValueError, match=r"got 'head'. There are \['a'\], \['b'\]"):
        metrics.randomized(KEY, parameters, "head")


def test_shapes_of_attributions():
    np.testing.assert_allclose(metrics.complexity(np.ones(8)), np.log(8))
    np.testing.assert_allclose(metrics.complexity(np.eye(8)[2]), 0, atol=1e-12)
    np.testing.assert_allclose(metrics.sparseness(np.ones(8)), 0, atol=1e-12)
    np.testing.assert_allclose(metrics.sparseness(-np.eye(8)[2]), 7 / 8)
    sizes = np.abs(A)
    gini = np.abs(sizes[:, None] - sizes).sum() / (2 * len(A) ** 2 * sizes.mean())
    np.testing.assert_allclose(metrics.sparseness(A), gini)


def test_localization_shares_what_ties():
    mask = np.zeros(9, bool)
    mask[[5, 0, 3]] = True
    np.testing.assert_allclose(metrics.pointing_game(A, mask), 1 / 3)
    np.testing.assert_allclose(metrics.mass_inside(A, mask), 5 / A.sum())
    np.testing.assert_allclose(metrics.rank_inside(A, mask), 1 / 3)
    np.testing.assert_allclose(metrics.rank_inside(A, np.ones(9, bool)), 1)
    with pytest.raises(ValueError, match="mask must be booleans"):
        metrics.mass_inside(A, mask * 1.0)
    with pytest.raises(ValueError, match="mask must be like values"):
        metrics.mass_inside(A, mask[:3])


@pytest.mark.slow
def test_chance_is_a_share_of_shuffles():
    # No order of values means anything to a constant: all shuffles are as good.
    constant = metrics.deletion(lambda x: 1 + 0 * x.sum(), steps=3)
    found = metrics.against_shuffles(constant, low_is_good=True)(KEY, A, np.ones(9), 0.0)
    assert found.chance == 1
    w = np.arange(9.0)
    measure = metrics.sensitivity_n(lambda x: x @ w, 3)
    found = metrics.against_shuffles(measure, shuffles=49)(KEY, w, np.ones(9), 0.0)
    np.testing.assert_allclose(found.chance, 1 / 50)
    assert abs(found.mean) < 0.3


@pytest.mark.slow
def test_chances_of_random_values_are_even():
    w = np.arange(9.0)
    measure = metrics.sensitivity_n(lambda x: x @ w, 3, subsets=32)
    compare = metrics.against_shuffles(measure, shuffles=19)
    keys = jax.random.split(KEY, 400)
    values = jax.vmap(functools.partial(jax.random.normal, shape=(9,)))(keys)
    chances = jax.vmap(compare, (0, 0, None, None))(keys, values, np.ones(9), 0.0).chance
    assert scipy.stats.kstest(np.asarray(chances) - 0.025, "uniform").pvalue > 0.001


def test_paired_differences_are_sharper_than_means():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=200)
    scores = {"a": hard, "b": hard + 0.1 + 0.05 * rng.normal(size=200)}
    found = metrics.paired(scores)
    np.testing.assert_allclose(found.means, [hard.mean(), scores["b"].mean()])
    interval = scipy.stats.t.interval(0.95, 199, scale=scipy.stats.sem(hard))
    np.testing.assert_allclose(found.errors[0], interval[1], rtol=1e-6)
    assert found.differences[1, 0] > found.difference_errors[1, 0]
    assert found.errors.min() > 5 * found.difference_errors[1, 0]
    assert "0.1" in found.markdown()
    with pytest.raises(ValueError, match="of the same two or more examples"):
        metrics.paired({"a": hard, "b": hard[:3]})
