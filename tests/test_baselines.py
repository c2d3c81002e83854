"""Baselines are what they say, like x in structure, shape and dtype, and reproducible."""

import dataclasses
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import ndimage

import igjax
from igjax import baselines
from tests.registry import together

X = {"image": np.linspace(-1, 2, 60).reshape(5, 6, 2), "age": np.array(0.5, "float32")}
SAMPLERS = {
    "noise": baselines.noise(0.5),
    "uniform": baselines.uniform(-2.0, 3.0),
    "permuted": baselines.permuted,
}
each_sampler = pytest.mark.parametrize("sample", SAMPLERS.values(), ids=SAMPLERS)


def assert_like(got, x):
    assert jax.tree.structure(got) == jax.tree.structure(x)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(x), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


@pytest.mark.parametrize("value", [0.0, -1.5], ids=["zeros", "constant"])
def test_constants_fill_every_leaf(value):
    got = baselines.constant(X, value) if value else baselines.zeros(X)
    assert_like(got, X)
    assert all((leaf == value).all() for leaf in jax.tree.leaves(got))


def test_constants_take_numbers_for_leaves():
    assert baselines.constant({"age": 3.0}, 1.0)["age"] == 1.0


def test_the_mean_is_over_examples():
    data = {"a": np.arange(12.0).reshape(3, 2, 2), "b": np.array([1.0, 2.0, 6.0])}
    got = baselines.mean(data)
    np.testing.assert_allclose(got["a"], data["a"].mean(0))
    np.testing.assert_allclose(got["b"], 3.0)


def test_the_mean_of_a_narrow_dtype_is_accumulated_wide():
    # Summed in float16, 3000 ones would stop at 2048.
    got = baselines.mean(np.ones((3000, 2), "float16"))
    assert got.dtype == "float16"
    np.testing.assert_array_equal(got, 1)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.3])
def test_blurs_agree_with_scipy(sigma):
    expected = ndimage.gaussian_filter(
        X["image"], sigma, mode="nearest", truncate=4.0, axes=(0, 1)
    )
    got = baselines.blurred(X["image"], sigma)
    assert_like(got, X["image"])
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_blurs_along_other_axes():
    series = np.random.default_rng(0).normal(size=(3, 20))
    got = baselines.blurred(series, 1.5, axes=(1, 1))
    twice = ndimage.gaussian_filter1d(
        ndimage.gaussian_filter1d(series, 1.5, axis=1, mode="nearest"),
        1.5,
        axis=1,
        mode="nearest",
    )
    np.testing.assert_allclose(got, twice, atol=1e-12)


def test_a_blur_leaves_a_constant_image_alone():
    flat = np.full((4, 4, 3), 0.7, "float32")
    np.testing.assert_allclose(baselines.blurred(flat, 3.0), flat, rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_a_blur_needs_a_positive_width(sigma):
    with pytest.raises(ValueError, match="sigma must be positive, got"):
        baselines.blurred(X["image"], sigma)


@each_sampler
def test_samples_are_like_x_and_depend_on_the_key_alone(sample, getkey):
    one, other = getkey(), getkey()
    first = sample(one, X)
    assert_like(first, X)
    assert all(
        jax.tree.leaves(jax.tree.map(lambda a, b: (a == b).all(), first, sample(one, X)))
    )
    assert (first["image"] != sample(other, X)["image"]).any()


@each_sampler
def test_samplers_pass_through_jit_and_vmap(sample, getkey):
    keys = jax.random.split(getkey(), 3)
    batch, alone = together(
        lambda: jax.vmap(sample, in_axes=(0, None))(keys, X), lambda: sample(keys[1], X)
    )
    assert batch["image"].shape == (3, 5, 6, 2)
    np.testing.assert_allclose(batch["image"][1], alone["image"], rtol=1e-14)


def test_noise_is_normal_around_x(getkey):
    x = np.full(20_000, 3.0)
    got = np.asarray(baselines.noise(0.5)(getkey(), x) - x)
    # Four standard errors of the mean, of the variance and of the fourth moment.
    assert abs(got.mean()) < 4 * 0.5 / np.sqrt(len(x))
    assert abs(got.var() - 0.25) < 4 * 0.25 * np.sqrt(2 / len(x))
    assert abs((got**4).mean() / 0.25**2 - 3) < 4 * np.sqrt(96 / len(x))


def test_uniform_values_fill_the_interval(getkey):
    got = np.sort(baselines.uniform(-2.0, 3.0)(getkey(), np.zeros(20_000)))
    assert got[0] >= -2
    assert got[-1] < 3
    # Kolmogorov's distance, at the level of 1e-4.
    distance = np.abs(got - np.linspace(-2, 3, len(got))).max() / 5
    assert distance < 2.23 / np.sqrt(len(got))


def test_leaves_are_drawn_independently(getkey):
    pair = {"a": np.zeros(50), "b": np.zeros(50)}
    for sample in (baselines.noise(1.0), baselines.uniform(0.0, 1.0)):
        got = sample(getkey(), pair)
        assert (got["a"] != got["b"]).all()


def test_a_permutation_keeps_the_entries(getkey):
    got = baselines.permuted(getkey(), X)["image"]
    np.testing.assert_array_equal(np.sort(got.ravel()), np.sort(X["image"].ravel()))
    assert (got != X["image"]).mean() > 0.8


def test_rows_are_whole_rows_and_all_of_them_come_up(getkey):
    data = {"a": np.arange(6.0), "b": 10 * np.arange(12.0).reshape(6, 2)}
    sample = baselines.rows(data)
    keys = jax.random.split(getkey(), 3000)
    (drawn,) = together(lambda: jax.vmap(lambda key: sample(key, None))(keys))
    # Row i is (i, 20 i, 20 i + 10): leaves are never drawn apart.
    np.testing.assert_array_equal(drawn["b"][:, 0], 20 * drawn["a"])
    np.testing.assert_array_equal(drawn["b"][:, 1], 20 * drawn["a"] + 10)
    counts = np.bincount(np.asarray(drawn["a"], int), minlength=6)
    # Chi squared of 5 degrees of freedom, at the level of 1e-4.
    assert ((counts - 500) ** 2 / 500).sum() < 25.7


@pytest.mark.parametrize(
    ("data", "counts"),
    [
        ({"a": np.zeros((3, 2)), "b": np.zeros(4)}, r"\[3, 4\]"),
        (np.zeros((0, 2)), r"\[0\]"),
        (np.float64(1.0), r"\[0\]"),
        ({}, r"\[\]"),
    ],
    ids=["differ", "none", "scalar", "empty"],
)
@pytest.mark.parametrize("maker", [baselines.mean, baselines.rows])
def test_data_without_rows_or_with_unequal_ones_is_refused(maker, data, counts):
    with pytest.raises(ValueError, match=f"same number of examples .*got {counts}"):
        maker(data)


# Texts.


def test_a_repeated_token_leaves_what_is_to_be_kept():
    tokens = np.array([[101, 7, 9, 102, 0], [101, 5, 102, 0, 0]])
    got = baselines.repeated(tokens, 3, keep=(101, 102, 0))
    np.testing.assert_array_equal(got, [[101, 3, 3, 102, 0], [101, 3, 102, 0, 0]])
    np.testing.assert_array_equal(baselines.repeated(tokens, 3), 3)
    assert got.dtype == tokens.dtype
    with pytest.raises(TypeError, match=r"repeated: tokens must be integers, got float64"):
        baselines.repeated(np.ones(3), 0)


def test_the_mean_embedding_stands_at_every_position():
    table = np.arange(12.0).reshape(4, 3)
    x = np.zeros((5, 3), "float16")
    got = baselines.mean_embedding(table, x)
    assert_like(got, x)
    np.testing.assert_array_equal(got, np.tile(table.mean(0), (5, 1)))
    for bad in (np.ones((4, 2)), np.ones((0, 3)), np.ones(3)):
        with pytest.raises(ValueError, match=r"mean_embedding: table must have the shape"):
            baselines.mean_embedding(bad, x)


# Learned.

LAYER = np.array([[1.0, -2.0, 0.5], [0.3, 1.0, -1.0], [2.0, 0.1, 1.0]])


def test_a_learned_baseline_of_a_trained_classifier_is_predicted_evenly():
    # Trained to tell three clusters apart; certain at the start, and undecided at the end.
    centers = 3 * np.eye(3)[:, :2]
    points = np.repeat(centers, 20, axis=0) + np.random.default_rng(0).normal(size=(60, 2))
    labels = np.repeat(np.arange(3), 20)

    def fit(w, _):
        rows = lambda w: jax.nn.log_softmax(points @ w[:2] + w[2:])
        picked = lambda w: -rows(w)[np.arange(60), labels].mean()
        return w - jax.grad(picked)(w), None

    def run():
        w, _ = jax.lax.scan(fit, jnp.zeros((3, 3)), length=300)
        loss = baselines.surprise(lambda x: x @ w[:2] + w[2])
        return w, baselines.learned(loss, centers[0], steps=400), loss(centers[0])

    w, found, before = together(run)[0]
    logits = found.baseline @ w[:2] + w[2]
    assert before > 0.5
    assert found.loss < 1e-6
    np.testing.assert_allclose(jax.nn.softmax(logits), 1 / 3, atol=2e-3)
    assert found.losses.shape == (401,)
    assert found.losses[0] == before
    assert found.loss == found.losses.min()


def test_learning_keeps_the_best_point():
    # So long a step that it only gets worse.
    result = baselines.learned(
        lambda x: jnp.sum(x["a"] ** 2), {"a": 0.01 * X["image"]}, optimizer=optax.sgd(10.0)
    )
    assert result.loss == result.losses[0]
    np.testing.assert_array_equal(result.baseline["a"], 0.01 * X["image"])


def test_learning_goes_through_jit_and_vmap():
    loss = baselines.surprise(lambda x, w: w @ x)
    starts = np.stack([np.ones(3), np.array([1.0, 2.0, 3.0])])
    learn = lambda x: baselines.learned(loss, x, LAYER, steps=20)
    batch, second = together(lambda: jax.vmap(learn)(starts), lambda: learn(starts[1]))
    np.testing.assert_allclose(batch.baseline[1], second.baseline, rtol=1e-10)


def test_surprise_is_the_divergence_from_the_uniform_distribution():
    logits = np.array([0.3, -1.0, 2.0])
    p = np.exp(logits) / np.exp(logits).sum()
    want = np.sum(np.log(1 / 3 / p)) / 3
    loss = baselines.surprise(lambda x: x)
    np.testing.assert_allclose(loss(logits), want, rtol=1e-12)
    assert np.isfinite(jax.grad(loss)(np.array([500.0, 0.0, 0.0]))).all()
    with pytest.raises(ValueError, match=r"surprise: g must return a vector of logits"):
        loss(np.ones((2, 3)))


def test_without_optax_the_error_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "optax", None)
    with pytest.raises(ImportError, match=r'needs optax\. .*pip install "igjax\[models\]"'):
        baselines.learned(jnp.sum, np.ones(3))


def test_no_steps_are_refused():
    with pytest.raises(
        ValueError, match="learned: steps must be an integer of at least 1, got 0"
    ):
        baselines.learned(jnp.sum, np.ones(3), steps=0)


# Comparisons.


def test_a_comparison_holds_each_baseline_and_what_they_agree_on():
    w, x = np.array([3.0, -1.0, 0.5]), {"a": np.array([1.0, 2.0]), "b": np.array([4.0])}
    f = lambda x: jnp.vdot(w[:2], x["a"]) + w[2] * x["b"][0]
    attribute = igjax.integrated_gradients(f, rule=igjax.rules.gauss_legendre(5))
    tried = [{"a": 0.0, "b": 0.0}, {"a": 0.5, "b": np.array([5.0])}]
    found = baselines.compare(attribute, x, tried)
    # w (x - b): (3, -2, 2) and (1.5, -1.5, -0.5).
    np.testing.assert_allclose(found.results.values["a"], [[3, -2], [1.5, -1.5]])
    np.testing.assert_allclose(found.results.values["b"], [[2], [-0.5]])
    np.testing.assert_allclose(found.sums, [3, -0.5])
    np.testing.assert_allclose(found.results.score, [3, 3])
    np.testing.assert_allclose(found.results.baseline_score, [0, 3.5])
    np.testing.assert_allclose(found.results.delta, 0, atol=1e-12)
    np.testing.assert_allclose(found.spread["a"], [0.75, 0.25])
    np.testing.assert_array_equal(found.keeps_sign["a"], [True, True])
    np.testing.assert_array_equal(found.keeps_sign["b"], [False])
    np.testing.assert_array_equal(found.ranks["a"], [[0, 1], [0, 1]])
    np.testing.assert_array_equal(found.ranks["b"], [[2], [2]])
    assert found.keeps_rank["a"].all()


def test_a_sign_within_the_error_is_not_kept():
    def attribute(x, baseline):
        result = igjax.input_x_gradient(jnp.sum)(x, baseline)
        return dataclasses.replace(result, error=jnp.array([0.5, 2.0]))

    found = baselines.compare(attribute, np.ones(2), (0.0, -0.5))
    np.testing.assert_array_equal(found.keeps_sign, [True, False])


def test_comparisons_take_methods_of_all_kinds_and_arguments():
    f = lambda x, w, mode: {"sum": jnp.vdot(w, x)}[mode]
    key, w, x = jax.random.key(0), np.array([1.0, 2.0]), np.array([1.0, -1.0])
    smoothed = functools.partial(igjax.smooth(igjax.input_x_gradient(f), draws=8), key)
    for attribute in (igjax.input_x_gradient(f), smoothed):
        found = baselines.compare(attribute, x, [0.0, 1.0], w, "sum")
        np.testing.assert_allclose(found.results.values, [[1, -2], [0, -4]], atol=1e-12)


@pytest.mark.parametrize("bad", [[], (), np.zeros((2, 3)), {"black": 0.0}, 0.0], ids=str)
def test_what_is_no_list_of_baselines_is_refused(bad):
    with pytest.raises(ValueError, match="compare: baselines must be a list of baselines"):
        baselines.compare(igjax.gradient(jnp.sum), np.ones(3), bad)


def test_a_baseline_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"compare: baseline must be a scalar or"):
        baselines.compare(igjax.gradient(jnp.sum), np.ones(3), [0.0, np.ones(2)])
