"""Baselines are what they say, like x in structure, shape and dtype, and reproducible."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from igjax import baselines

from .registry import together

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
