"""Ablation and occlusion have the values that Captum's own tests expect, and no others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax.perturbation import ablation, occlusion

from .games import additive, majority, multi_input, multilayer, second_order, unanimity

X = np.array([20.0, 50.0, 30.0])
THREE = (np.array([23.0, 100, 0]), np.array([20.0, 50, 30]), np.array([0.0, 100, 10]))
OTHER = (np.array([20.0, 50, 30]), np.array([0.0, 100, 0]), np.array([2.0, 10, 3]))


@pytest.mark.parametrize(
    "game", [unanimity([1, 3], 5), majority(5), additive(6), second_order(5)]
)
def test_what_is_lost_without_a_feature(game):
    result = ablation(game.f)(np.ones(game.n), 0.0)
    np.testing.assert_allclose(result.values, game.ablation, atol=1e-12)
    np.testing.assert_array_equal(result.error, 0)
    gap = game.ablation.sum() - (result.score - result.baseline_score)
    np.testing.assert_allclose(result.delta, gap, atol=1e-12)
    assert result.forwards == game.n + 2


@pytest.mark.parametrize(
    ("x", "baseline", "labels", "expected"),
    [
        (X, 0.0, [0, 1, 2], [80, 200, 120]),
        ([2.0, 10, 3], 0.0, [0, 1, 2], [8, 35, 12]),
        (X, 0.0, [0, 0, 1], [280, 120]),
        (X, 4.0, [0, 0, 1], [248, 104]),
        ([2.0, 10, 3], 0.0, [0, 0, 1], [41, 12]),
        (X, 0.0, [1, 1, 0], [120, 280]),
    ],
)
def test_ablation_agrees_with_the_literals_of_captum(x, baseline, labels, expected):
    attribute = igjax.grouped(multilayer, max(labels) + 1, method=ablation)
    result = attribute(np.array(x), baseline, np.array(labels))
    np.testing.assert_allclose(result.values, expected, atol=1e-9)


def test_ablation_of_several_inputs():
    baselines = (
        [(3.0, 0, 0), (0, 1.0, 0), (3.0, 2, 4)],
        [(3.0, 0, 2), (0, 1.0, 4), (1.0, 2, 3)],
    )
    expected = [
        ([80, 400, 0], [80, 196, 120], [-12, 392, 24]),
        ([68, 200, 112], [0, 396, -16], [4, 32, 0]),
    ]
    for x, baseline, wanted in zip((THREE, OTHER), baselines, expected, strict=True):
        baseline = tuple(map(np.array, baseline))
        found = ablation(multi_input)(x, baseline).values
        for values, leaf in zip(found, wanted, strict=True):
            np.testing.assert_allclose(values, leaf, atol=1e-9)


def test_groups_over_several_inputs():
    labels = np.array([1, 1, 1]), np.array([0, 1, 2]), np.array([0, 1, 2])
    baseline = (np.array(2.0), np.array(3.0), np.array(4.0))
    attribute = igjax.grouped(multi_input, 3, method=ablation)
    result = attribute(THREE, baseline, labels)
    np.testing.assert_allclose(result.values, [52, 1040, 132], atol=1e-9)


@pytest.mark.parametrize(
    ("x", "window", "strides", "expected"),
    [
        (X, (1,), None, [80, 200, 120]),
        ([2.0, 10, 3], (1,), None, [8, 35, 12]),
        (X, (2,), (2,), [280, 280, 120]),  # the last window stands over the edge
    ],
)
def test_occlusion_agrees_with_the_literals_of_captum(x, window, strides, expected):
    result = occlusion(multilayer, window, strides)(np.array(x), 0.0)
    np.testing.assert_allclose(result.values, expected, atol=1e-9)


def test_windows_of_several_inputs():
    found = occlusion(multi_input, ((3,), (1,), (2,)))(THREE, (0.0, 0.0, 0.0))
    expected = [492, 492, 492], [80, 200, 120], [400, 420, 440]
    for values, wanted in zip(found.values, expected, strict=True):
        np.testing.assert_allclose(values, wanted, atol=1e-9)
    assert found.forwards == 1 + 3 + 2 + 2
    baseline = np.array([1.0, 4, 7]), np.array(3.0), np.array([4.0, 4, 4])
    strides = (2,), (1,), (2,)
    found = occlusion(multi_input, ((3,), (1,), (2,)), strides)(THREE, baseline)
    expected = [444, 444, 444], [68, 188, 108], [368, 368, 24]
    for values, wanted in zip(found.values, expected, strict=True):
        np.testing.assert_allclose(values, wanted, atol=1e-9)


def one_convolution(x):
    """Captum's BasicModel_ConvNet_One_Conv, first output, of two images added up."""
    both = jnp.broadcast_to(x[0] + x[1], (4, 4))
    maps = jax.lax.conv(both[None, None], jnp.ones((2, 1, 3, 3)), (1, 1), "VALID")[0]
    maps = jax.nn.relu(maps + jnp.array([-50.0, -75.0])[:, None, None])
    return jax.nn.relu(maps.reshape(-1) @ jnp.array([1.0, 1, 1, 1, 1, -1, -1, -1]))


IMAGE = np.arange(16.0).reshape(4, 4)


def test_windows_over_a_convolution_agree_with_the_literals_of_captum():
    x, zeros = (IMAGE, np.ones((4, 4))), (0.0, 0.0)
    whole = occlusion(one_convolution, ((4, 4), (4, 4)))(x, zeros).values
    for values, wanted in zip(whole, (67, 13), strict=True):
        np.testing.assert_allclose(values, np.full((4, 4), wanted), atol=1e-9)
    x = IMAGE, np.ones((4, 1))
    windows, strides = ((2, 4), (2, 1)), ((2, 1), (1, 1))
    found = occlusion(one_convolution, windows, strides)(x, zeros).values
    rows = np.array([17.0, 17, 67, 67])[:, None]
    np.testing.assert_allclose(found[0], np.broadcast_to(rows, (4, 4)), atol=1e-9)
    np.testing.assert_allclose(found[1][:, 0], [10, 10, 8, 6], atol=1e-9)


def test_ablation_of_a_convolution_agrees_with_the_literals_of_captum():
    # A neuron of fc1, which is positive here, so that its ReLU does not matter.
    x, zeros = (IMAGE, np.ones((4, 4))), (0.0, 0.0)
    found = ablation(one_convolution)(x, zeros).values
    image = [[0, 2, 4, 3], [4, 9, 10, 7], [4, 13, 14, 11], [0, 0, 0, 0]]
    np.testing.assert_allclose(found[0], image, atol=1e-9)
    ones = [[1, 2, 2, 1], [1, 2, 2, 1], [1, 2, 2, 1], [0, 0, 0, 0]]
    np.testing.assert_allclose(found[1], ones, atol=1e-9)


def test_windows_of_numbers_have_no_axes():
    relu = jax.nn.relu
    f = lambda x: relu(relu(x[0] - 1) - relu(x[1]))
    found = occlusion(f, ((), ()))((3.0, 1.0), (0.0, 0.0))
    assert found.values == (1.0, -1.0)


def test_occlusion_is_the_mean_over_the_windows_that_hide_a_pixel():
    f = lambda x: (
        jnp.tanh((x * jnp.arange(24.0).reshape(4, 6) / 10).sum()) + x[1, 2] * x[3, 5]
    )
    x = np.random.default_rng(0).normal(size=(4, 6))
    sums, counts = np.zeros((4, 6)), np.zeros((4, 6))
    for top in (0, 2):
        for left in (0, 2, 4):  # of width 3: the last is cut
            where = np.zeros((4, 6), bool)
            where[top : top + 2, left : left + 3] = True
            sums += where * float(f(x) - f(np.where(where, 0.5, x)))
            counts += where
    for size in (None, 1, 4):
        result = occlusion(f, (2, 3), (2, 2), chunk_size=size)(x, 0.5)
        np.testing.assert_allclose(result.values, sums / counts, atol=1e-12)


def test_a_batch_is_its_examples_and_gradients_pass():
    attribute = ablation(lambda x: jnp.tanh(x).prod())
    rows = np.random.default_rng(1).normal(size=(3, 4))
    batch = jax.jit(jax.vmap(attribute, (0, None)))(rows, 0.1)
    for i, row in enumerate(rows):
        np.testing.assert_allclose(batch.values[i], attribute(row, 0.1).values, atol=1e-12)
    slope = jax.grad(lambda x: attribute(x, 0.1).values[1])(rows[0])
    step = 1e-6 * np.eye(4)[2]
    both = [attribute(rows[0] + s * step, 0.1).values[1] for s in (1, -1)]
    np.testing.assert_allclose(slope[2], (both[0] - both[1]) / 2e-6, rtol=1e-6)


def test_half_precision_is_read_in_single():
    x = jnp.ones(5, jnp.float16)
    result = ablation(lambda x: x.sum())(x, 0.0)
    assert result.values.dtype == jnp.float32
    np.testing.assert_array_equal(result.values, 1)


def test_a_data_set_as_the_baseline():
    rows = np.array([[0.0, 0.0], [1.0, 0.0]])
    explain = igjax.expected(ablation(lambda x: x[0] * x[1]))
    values = explain(jax.random.key(0), np.array([3.0, 2.0]), rows).values
    np.testing.assert_allclose(values, [5, 6])


@pytest.mark.parametrize(
    ("window", "strides", "match"),
    [
        ((4,), None, "window must be integers from 1 to the sizes of the leaf of x"),
        ((2, 2), None, "window must be integers"),
        ((2,), (3,), "strides must be integers from 1 to the sizes of the window"),
        ({"a": (2,)}, None, "window must have the structure of x"),
        (2, None, "window must be integers"),
    ],
)
def test_windows_that_do_not_fit_are_refused(window, strides, match):
    with pytest.raises(ValueError, match=match):
        occlusion(jnp.sum, window, strides)(np.ones(3), 0.0)
