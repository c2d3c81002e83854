"""What Captum's own tests expect, on its own small models, rewritten as functions.

Recorded from its tests of DeepLift, LRP, GuidedBackprop, Deconvolution and GuidedGradCam.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name as named

import igjax
from igjax.propagation import (
    alpha_beta,
    deconvnet_gradient,
    deeplift,
    epsilon,
    first,
    gamma,
    guided_grad_cam,
    guided_gradient,
    identity,
    layer_deeplift,
    layer_relevance,
    relevance,
)

pytestmark = pytest.mark.slow  # two dozen small programs
relu = jax.nn.relu


def close(got, want):
    np.testing.assert_allclose(np.asarray(got), np.asarray(want, float), atol=1e-5)


# -- DeepLIFT


def relu_linear(x):
    """ReLULinearModel: two linear layers, a ReLU on both, and their sum."""
    first, second = x
    parts = [jnp.array([3.0, 1, 0]) @ first, jnp.array([2.0, 3, 0]) @ second]
    on = named(relu(named(jnp.stack(parts), "parts")), "on")
    return on.sum()


def relu_deeplift(x):
    """ReLUDeepLiftModel."""
    return 2 * relu(x[0]) + 2 * relu(x[1] - 1.5)


def arrays(*rows):
    return tuple(jnp.array(row, float) for row in rows)


def test_two_relus():
    result = deeplift(relu_deeplift)(jnp.array([1.0, 2.0]), 0.0)
    close(result.values, [2, 1])
    assert result.delta == 0


def test_multipliers_without_the_change_of_x():
    result = deeplift(relu_deeplift)(jnp.array([1.0, 2.0]), 0.0)
    close(result.values / jnp.array([1.0, 2.0]), [2, 0.5])


@pytest.mark.parametrize(
    ("x", "values"),
    [
        (([-10, 1, -5], [3, 3, 1]), ([0, 0, 0], [6, 9, 0])),
        (([2, 3, 4], [2.3, 5, 4]), ([6, 3, 0], [4.6, 15, 0])),
    ],
)
def test_two_inputs(x, values):
    zeros = arrays([0] * 3, [0] * 3)
    result = deeplift(relu_linear)(arrays(*x), zeros)
    for got, want in zip(result.values, values, strict=True):
        close(got, want)


@pytest.mark.parametrize(
    ("rows", "values"),
    [
        (([[0] * 3, [1] * 3], [[0] * 3, [1] * 3]), ([-2, 0, 0], [5, 7.5, 0])),
        (
            ([[-10, 1, -5], [-20, -9, -15]], [[3, 3, 1], [-7, -7, -9]]),
            ([0, 0, 0], [3, 4.5, 0]),
        ),
    ],
)
def test_deepshap_is_the_expectation_of_deeplift(rows, values):
    explain = igjax.expected(deeplift(relu_linear))
    x = arrays([-10, 1, -5], [3, 3, 1])
    result = explain(jax.random.key(0), x, arrays(*rows))
    for got, want in zip(result.values, values, strict=True):
        close(got, want)
    assert abs(result.delta) < 1e-12


def test_deepshap_of_another_example():
    explain = igjax.expected(deeplift(relu_linear))
    rows = arrays([[0] * 3, [1] * 3], [[0] * 3, [1] * 3])
    result = explain(jax.random.key(0), arrays([2, 3, 4], [2.3, 5, 4]), rows)
    for got, want in zip(result.values, ([4.5, 2.5, 0], [3.6, 13.5, 0]), strict=True):
        close(got, want)


def test_deepshap_of_a_batch_whose_baselines_are_all_zero():
    explain = igjax.expected(deeplift(relu_deeplift))
    rows = jax.vmap(explain, in_axes=(None, 0, None))
    x = jnp.tile(jnp.array([1.0, 2.0]), (4, 1))
    close(rows(jax.random.key(0), x, jnp.zeros((4, 2))).values, [[2, 1]] * 4)


def test_a_maximum_of_four():
    for baseline, want in (([1, 2, 3, 9], [0, 0, 0, -8]), ([4, 8, 6, 7], [0, -7, 0, 0])):
        close(deeplift(jnp.max)(jnp.ones(4), jnp.array(baseline, float)).values, want)


def test_a_sigmoid_of_a_sum():
    # SigmoidDeepLiftModel: relu(x W) V, and a sigmoid; any complete rule gives shares of x.
    f = lambda x: jax.nn.sigmoid(relu(x.sum()) / 100)
    x = jnp.arange(20.0)
    close(deeplift(f)(x, 0.0).values, x / 190 * (jax.nn.sigmoid(1.9) - 0.5))


def test_a_sigmoid_that_saturates():
    # SigmoidDeepLiftModel, weights 1, ten hidden units; a gradient would be 0.
    f = lambda x: jax.nn.sigmoid(relu(jnp.ones((10, 20)) @ x).sum())
    close(deeplift(f)(jnp.arange(20.0), 0.0).values, jnp.arange(20.0) / 190 / 2)


def test_a_softmax_whose_logits_are_alike():
    # SoftmaxDeepLiftModel, weights 1: all outputs are a tenth, whatever x is.
    def f(x):
        logits = jnp.ones((10, 10)) @ relu(jnp.ones((10, 20)) @ x)
        return jax.nn.softmax(logits)[2]

    result = deeplift(f)(jnp.arange(20.0), 0.0)
    np.testing.assert_allclose(result.values, np.zeros(20), atol=1e-12)
    assert abs(result.delta) < 1e-12


def multilayer(x):
    """BasicModel_MultiLayer, its first output, of inputs that are added up."""
    hidden = jnp.ones((4, 3)) @ x + jnp.array([-10.0, 1, 1, 1])
    return relu(hidden).sum() - 1


@pytest.mark.parametrize("row", range(4))
def test_a_model_of_several_layers(row):
    # The output chosen is 8 of its first ones; the other input is added twice.
    x = jnp.arange(1.0, 13.0).reshape(4, 3)[row]
    f = lambda a: 8 * multilayer(a + x)
    values = [[0, 29.33333, 58.66667], [96, 128, 160], [192, 224, 256], [288, 320, 352]]
    result = deeplift(f)(x, 1.0)
    change = f(x) - f(jnp.ones(3))
    close(result.values, (x - 1) / (x - 1).sum() * change)
    assert abs(result.delta) < 1e-9
    assert np.argsort(values[row]).tolist() == [0, 1, 2]


def test_layers():
    x, zeros = arrays([-10, 1, -5], [3, 3, 1]), arrays([0] * 3, [0] * 3)
    for layer in ("parts", "on"):
        close(layer_deeplift(relu_linear, layer)(x, zeros).values, [0, 15])


def test_a_layer_that_is_a_maximum():
    f = lambda x: named(jnp.max(x), "pool")
    for baseline, want in (([1, 2, 3, 9], -8), ([4, 8, 6, 7], -7)):
        got = layer_deeplift(f, "pool")(jnp.ones(4), jnp.array(baseline, float))
        close(got.values, want)


def test_a_layer_with_another_argument():
    def scaled(x, third):
        parts = [jnp.array([3.0, 1, 0]) @ x[0], third * jnp.array([2.0, 3, 0]) @ x[1]]
        return relu(named(jnp.stack(parts), "parts")).sum()

    x, zeros = arrays([-10, 1, -5], [3, 3, 1]), arrays([0] * 3, [0] * 3)
    close(layer_deeplift(scaled, "parts")(x, zeros, 3.0).values, [0, 45])


def test_a_layer_named_twice():
    # BasicModel_MultiLayer with two outputs of one module, from three rows of zeros.
    def twice(x):
        hidden = jnp.ones((4, 3)) @ x + jnp.array([-10.0, 1, 1, 1])
        return (named(relu(hidden), "on") + named(relu(1 * hidden), "on")).sum() - 1

    result = layer_deeplift(twice, "on")(jnp.array([-10.0, 1, -5]), 0.0)
    for got in result.values:
        close(got, [0, -1, -1, -1])


def test_deepshap_of_a_neuron():
    trunk, _ = igjax.cut(relu_linear, "parts")
    x, rows = arrays([-10, 1, -5], [3, 3, 1]), arrays([[0] * 3] * 3, [[0] * 3] * 3)
    for neuron, wants in ((0, ([-30, 1, 0], [0, 0, 0])), (1, ([0, 0, 0], [6, 9, 0]))):
        explain = igjax.expected(deeplift(lambda x, k=neuron: trunk(x)[k]))
        values = explain(jax.random.key(0), x, rows).values
        for got, want in zip(values, wants, strict=True):
            close(got, want)


def test_neurons_are_functions():
    trunk, _ = igjax.cut(relu_linear, "on")
    x, zeros = arrays([-10, 1, -5], [3, 3, 1]), arrays([0] * 3, [0] * 3)
    first, second = deeplift(lambda x: trunk(x)[1])(x, zeros).values
    close(first, [0, 0, 0])
    close(second, [6, 9, 0])


# -- LRP


def simple(x):
    """SimpleLRPModel: 3 -> 3 all 2, ReLU, 3 -> 1 all 3, no biases."""
    hidden = named(relu(named(2 * jnp.ones((3, 3)) @ x, "first")), "on")
    return (3 * jnp.ones((1, 3)) @ hidden)[0]


SMALL = epsilon(1e-9)


def only(rule):
    return (("layer", rule),)


def test_epsilon():
    close(relevance(simple, only(SMALL))(jnp.array([1.0, 2, 3])).values, [18, 36, 54])
    close(relevance(simple, only(SMALL))(jnp.array([3.0, 6, 9])).values, [54, 108, 162])


def one_negative(x):
    """SimpleLRPModel with one weight of the first layer turned to -2."""
    weights = 2 * jnp.ones((3, 3)).at[0, 0].set(-1)
    return (3 * jnp.ones((1, 3)) @ relu(named(weights @ x, "first")))[0]


def test_alpha_beta():
    rules = (("layer", alpha_beta(1, 0, 0)),)
    x = jnp.array([1.0, 2, 3])
    close(relevance(one_negative, rules)(x).values, [12, 33.6, 50.4])
    for rule in (alpha_beta(1, 0, 0), gamma(0.25)):
        got = layer_relevance(one_negative, "first", (("layer", rule),))(x).values
        close(got, [24, 36, 36])


def test_the_identity_hands_relevance_through_a_layer():
    rules = ((first, identity()),)
    close(relevance(one_negative, rules)(jnp.array([1.0, 2, 3])).values, [24, 36, 36])


def test_relevance_at_layers():
    x = jnp.array([1.0, 2, 3])
    for layer in ("first", "on"):
        close(layer_relevance(simple, layer, only(SMALL))(x).values, [36, 36, 36])


def test_tanh():
    def f(x):
        hidden = named(0.1 * jnp.ones((3, 3)) @ x, "first")
        return (0.1 * jnp.ones((1, 3)) @ jnp.tanh(hidden))[0]

    x = jnp.array([1.0, 2, 3])
    np.testing.assert_allclose(relevance(f)(x).values, [0.0269, 0.0537, 0.0806], atol=6e-5)
    got = layer_relevance(f, "first")(x).values
    np.testing.assert_allclose(got, [0.0537] * 3, atol=6e-5)


def test_pools_leave_all_to_the_winner():
    close(relevance(jnp.max)(jnp.array([1.0, 2, 5, 6])).values, [0, 0, 0, 6])
    f = lambda x: (2 * jnp.ones((2, 2)) @ x).max(0)[1]
    close(
        relevance(f, only(SMALL))(jnp.array([[1.0, 2], [5, 6]])).values, [[0, 4], [0, 12]]
    )


def test_several_layers_with_biases():
    close(relevance(multilayer, only(SMALL))(jnp.array([1.0, 2, 3])).values, [3, 6, 9])


def test_two_inputs_share_what_their_sum_gets():
    # Captum: (16, 32, 48) for the first, what both get together, and a delta of -104.
    x = arrays([1, 2, 3], [3, 6, 9])
    result = relevance(lambda x: multilayer(x[0] + x[1]), only(SMALL))(x)
    for got, want in zip(result.values, ([4, 8, 12], [12, 24, 36]), strict=True):
        close(got, want)
    close(result.delta, 8)  # the biases -10 + 1 + 1 + 1 - 1 keep their share


def test_all_layers_of_two_examples():
    for scale in (1.0, 2.0):
        x = scale * jnp.array([1.0, 2, 3])
        close(relevance(simple, only(SMALL))(x).values, scale * np.array([18, 36, 54]))
        close(layer_relevance(simple, "on", only(SMALL))(x).values, [36 * scale] * 3)


# -- a convolutional network


def one_convolution(x):
    """BasicModel_ConvNet_One_Conv, its first output, of images (4, 4)."""
    kernel = jnp.ones((2, 1, 3, 3))
    maps = lax.conv(x[None, None], kernel, (1, 1), "VALID")
    maps = named(maps[0] + jnp.array([-50.0, -75.0])[:, None, None], "conv")
    weights = jnp.array([1.0, 1, 1, 1, 1, -1, -1, -1])
    return relu(weights @ relu(maps).reshape(-1))


IMAGE = np.arange(16.0).reshape(4, 4)


def test_convolutions():
    want = [[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11], [0, 0, 0, 0]]
    close(relevance(one_convolution, only(SMALL))(IMAGE).values, want)
    got = layer_relevance(one_convolution, "conv", only(SMALL))(IMAGE).values
    close(got, [[[0, 4], [31, 40]], [[0, 0], [-6, -15]]])


def test_guided_and_deconvolved_convolutions():
    guided = [[0, 1, 1, 1], [1, 3, 3, 2], [1, 3, 3, 2], [1, 2, 2, 1]]
    deconvolved = [[2, 3, 3, 1], [3, 5, 5, 2], [3, 5, 5, 2], [1, 2, 2, 1]]
    close(guided_gradient(one_convolution)(IMAGE).values, guided)
    close(deconvnet_gradient(one_convolution)(IMAGE).values, deconvolved)


@pytest.mark.parametrize(
    ("method", "want"),
    [
        (guided_gradient, [[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]]),
        (deconvnet_gradient, [[2, 3, 3, 1], [3, 5, 5, 2], [3, 5, 5, 2], [1, 2, 2, 1]]),
    ],
)
def test_two_inputs_of_a_convolution(method, want):
    f = lambda x: one_convolution(x[0] + x[1])
    for got in method(f)((IMAGE, jnp.ones((4, 4)))).values:
        close(got, want)


@pytest.mark.parametrize(
    ("method", "want"),
    [
        (guided_gradient, [[0, 1, 1, 1], [1, 3, 3, 2], [1, 3, 3, 2], [1, 2, 2, 1]]),
        (deconvnet_gradient, [[2, 3, 3, 1], [3, 5, 5, 2], [3, 5, 5, 2], [1, 2, 2, 1]]),
    ],
)
def test_neurons_of_a_convolution(method, want):
    # fc1, before its ReLU: a neuron, and the sum over a slice of one.
    def fc1(x):
        maps = lax.conv(x[None, None], jnp.ones((2, 1, 3, 3)), (1, 1), "VALID")
        maps = relu(maps[0] + jnp.array([-50.0, -75.0])[:, None, None])
        return jnp.array([[1.0, 1, 1, 1, 1, -1, -1, -1]] * 4) @ maps.reshape(-1)

    for neuron in (lambda x: fc1(x)[0], lambda x: fc1(x)[0:1].sum()):
        close(method(neuron)(IMAGE).values, want)


def test_guided_grad_cam():
    # Channels last, as Grad-CAM wants them.
    def f(x):
        both = (x + 1)[..., 0]
        kernel = jnp.ones((2, 1, 3, 3))
        maps = lax.conv(both[None, None], kernel, (1, 1), "VALID")[0]
        maps = maps + jnp.array([-50.0, -75.0])[:, None, None]
        maps = relu(named(jnp.moveaxis(maps, 0, -1), "conv"))
        weights = jnp.array([1.0, 1, 1, 1, 1, -1, -1, -1])
        return relu(weights @ jnp.moveaxis(maps, -1, 0).reshape(-1))

    want = [
        [14.5, 29, 38, 19],
        [29, 58, 76, 38],
        [65, 130, 148, 74],
        [32.5, 65, 74, 37],
    ]
    close(guided_grad_cam(f, "conv")(IMAGE[..., None]).values[..., 0], want)
