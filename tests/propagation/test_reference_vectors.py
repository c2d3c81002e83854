"""Values that were derived by hand, in closed form, for each method and rule.

Where the peers (Captum 0.9.0, SHAP 0.51.0) say otherwise, that is noted: what they say was
run once, and in each of these cases it does not add up, or depends on how f is written.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from igjax import propagation
from igjax.propagation import (
    EPSILON,
    alpha_beta,
    box,
    deeplift,
    epsilon,
    first,
    flat,
    gamma,
    relevance,
    reveal_cancel,
    wsquare,
    zplus,
)

relu = jax.nn.relu


def _gelu(z):
    return jax.nn.gelu(z, approximate=False)


def _overlapping(x):
    return nn.max_pool(x[None, :, None], (2,), (1,)).sum()


def _softmax_by_hand():
    """Values of the first output at (1, 2, 0), from 0."""
    sums, start = 1 + np.e + np.e**2, 3
    p, q = np.e / sums, 1 / 3
    mean = (p - q) / np.log(p / q)
    of_sum = np.log(sums / start) / (sums - start)
    return mean * (1 - of_sum * (np.e - 1)), -mean * of_sum * (np.e**2 - 1)


_SOFTMAX = _softmax_by_hand()

# f, x, baseline, values.
DEEPLIFT = {
    # torch.relu in Captum: (2, 1), the gradient.
    "relu": (lambda x: relu(x[0] + x[1] - 2), [2, 1], 0, [2 / 3, 1 / 3]),
    # Captum: RuntimeError, the module is used twice.
    "relu of relu": (
        lambda x: relu(relu(x[0] + x[1] - 2) - 0.5),
        [2, 1],
        0,
        [1 / 3, 1 / 6],
    ),
    # Captum: (2.166631, -1.083315), the gradient.
    "gelu": (lambda x: _gelu(x[0] - x[1]), [2, 1], 0, [1.682689, -0.841345]),
    # Captum: (1.855341, -0.927671), the gradient.
    "silu": (lambda x: jax.nn.silu(x[0] - x[1]), [2, 1], 0, [1.462117, -0.731059]),
    # Captum: (3, 4), the gradient.
    "product": (lambda x: x[0] * x[1], [2, 3], 1, [2, 3]),
    "quotient": (lambda x: x[0] / x[1], [6, 3], [2, 1], [8 / 3, -8 / 3]),
    # Captum: (3, 0), the gradient.
    "maximum": (lambda x: jnp.maximum(x[0], x[1]), [3, 1], [0, 2], [1.5, -0.5]),
    "minimum": (lambda x: -jnp.minimum(-x[0], -x[1]), [3, 1], [0, 2], [1.5, -0.5]),
    "largest": (jnp.max, [3, 1, 0], [0, 2, 0], [1, 0, 0]),
    # By logarithmic means: L = m (1 - n_1, -2 n_2), with m of the outputs and n of the
    # sums. Captum: (-0.036879, 0.103451, 0), and something else in a batch. As a * (1 / b)
    # it would be (0.267861, -0.356466, 0), and without bound where logits move alike.
    "softmax": (lambda x: jax.nn.softmax(x)[0], [1, 2, 0], 0, [*_SOFTMAX, 0]),
    # Captum and SHAP: (0, 3, 0), which misses half.
    "overlapping pools": (_overlapping, [0, 3, 0], 0, [0, 6, 0]),
    # Rescale is not symmetric: this is min(x1, x2).
    "minimum by relu": (lambda x: x[0] - relu(x[0] - x[1]), [3, 1], 0, [0, 1]),
    "relu times": (
        lambda x: relu(x[0] - x[1]) * x[2],
        [3, 1, 2],
        [0, 1, 1],
        [3, 0, 1],
    ),
    "nested product": (lambda x: x[0] * (x[1] * x[2]), [2, 2, 2], 1, [2.5, 2.25, 2.25]),
}


REVEAL = (("activation", reveal_cancel()), ("maximum", reveal_cancel()))
# f, x, baseline, values: what is added and what is taken away, each with its Shapley value.
REVEALED = {
    # The smaller of two, section 3.5.2 of the paper: Rescale and gradients give all to one.
    "minimum": (lambda x: x[0] - relu(x[0] - x[1]), [3, 1], 0, [1 / 2, 1 / 2]),
    "minimum, turned": (lambda x: x[0] - relu(x[0] - x[1]), [1, 3], 0, [1 / 2, 1 / 2]),
    "jnp.minimum": (lambda x: jnp.minimum(x[0], x[1]), [3, 1], 0, [1 / 2, 1 / 2]),
    "jnp.maximum": (lambda x: jnp.maximum(x[0], x[1]), [3, 1], 0, [5 / 2, 1 / 2]),
    # Both inputs on: their conjunction, of which neither is nothing.
    "and": (lambda x: relu(x[0] + x[1] - 1), [1, 1], 0, [1 / 2, 1 / 2]),
    # relu(x1 - x2) at (2, 1): up 2, down -1; either first: up (2 + 1) / 2, down -1 / 2.
    "cancelling": (lambda x: relu(x[0] - x[1]), [2, 1], 0, [3 / 2, -1 / 2]),
    # All that is taken away hides what was added: Rescale sees no change and gives 0.
    "hidden": (lambda x: relu(x[0] - x[1]), [2, 2], 0, [1, -1]),
    # Contributions of one sign share what they cause in proportion.
    "shared": (
        lambda x: relu(x[0] + 2 * x[1] - x[2]),
        [1, 1, 1],
        0,
        [5 / 6, 5 / 3, -1 / 2],
    ),
    # Biases belong to the reference: from -1, up 3 alone gives 2, after down 1 gives 1.
    "a bias": (lambda x: relu(3 * x[0] - x[1] - 1), [1, 1], 0, [3 / 2, -1 / 2]),
    # A dense layer, its bias, and a view of it are the same sum.
    "a layer": (
        lambda x: relu((jnp.array([[3.0, -1.0]]) @ x).reshape(1, 1) - 1).sum(),
        [1, 1],
        0,
        [3 / 2, -1 / 2],
    ),
    # Each of two layers sees the whole change of its inputs, 1 of the first: Rescale there.
    "two layers": (
        lambda x: relu(2 * relu(x[0] - x[1]) - 1),
        [2, 1],
        0,
        [3 / 2, -1 / 2],
    ),
    "a square": (lambda x: jnp.square(x[0] - x[1]), [2, 1], 0, [2, -1]),
}


@pytest.mark.parametrize("name", REVEALED)
def test_reveal_cancel_by_hand(name):
    f, x, baseline, values = REVEALED[name]
    result = deeplift(f, REVEAL)(jnp.asarray(x, float), baseline)
    np.testing.assert_allclose(result.values, values, atol=1e-12)
    assert abs(result.delta) < 1e-14
    assert result.status == igjax.Status.NO_TOLERANCE


def _shapley_of_signs(curve, w, bias, d):
    """Values of curve(w @ x + bias) from 0: the game of two players, by hand."""
    parts = w * d
    up, down = parts[parts > 0].sum(), parts[parts < 0].sum()
    g = lambda z: float(curve(z + bias))
    of_up = (g(up) - g(0) + g(up + down) - g(down)) / 2
    of_down = (g(down) - g(0) + g(up + down) - g(up)) / 2
    return np.where(parts > 0, parts / up * of_up, parts / down * of_down)


@pytest.mark.parametrize("curve", [jax.nn.gelu, jnp.tanh, jax.nn.softplus, relu])
def test_reveal_cancel_is_a_game_of_two_players(curve):
    rng = np.random.default_rng(0)
    w, d, bias = rng.normal(size=(3, 7))
    f = lambda x: curve(jnp.asarray(w) @ x + bias[0])
    got = deeplift(f, REVEAL)(jnp.asarray(d), jnp.zeros(7))
    want = _shapley_of_signs(curve, w, bias[0], d)
    np.testing.assert_allclose(got.values, want, rtol=1e-9)


def test_reveal_cancel_adds_up_through_convolutions_norms_skips_and_loops():
    rng = np.random.default_rng(1)
    kernel, x, r = (jnp.asarray(rng.normal(size=s)) for s in ((3, 2, 2), (9, 2), (9, 2)))
    taps = ("NWC", "WIO", "NWC")

    def conv(x):
        y = jax.lax.conv_general_dilated(x[None], kernel, (1,), "SAME", None, None, taps)
        return (y[0] - 0.1) * jnp.array([[1.5, -0.7]]) + 0.2

    def f(x):
        y = relu(conv(x) + x)
        y = jnp.concatenate([y[:4], y[4:]]) - jnp.flip(x, 0)
        round = lambda h, v: (jnp.tanh(h - 0.5 * v), None)
        return jax.lax.scan(round, jnp.zeros(2), jax.nn.gelu(y))[0].sum()

    result = deeplift(f, REVEAL)(x, r)
    assert abs(result.delta) < 1e-14 < np.abs(result.values).min()
    assert result.status == igjax.Status.NO_TOLERANCE
    assert np.abs(result.values - deeplift(f)(x, r).values).max() > 1e-2


def test_a_softmax_does_not_explode_where_all_logits_move_alike():
    baseline = jnp.array([0.3, -0.2, 0.1])
    for move in (0.0, 5.0, 30.0):
        x = baseline + move + jnp.array([0.5, -0.4, 0.1])
        result = deeplift(lambda x: jax.nn.softmax(x)[0])(x, baseline)
        # Softmax has slopes of at most 1/4.
        assert np.abs(result.values / (x - baseline)).max() < 0.3
        assert abs(result.delta) < 1e-13


def test_a_softmax_whose_logits_all_move_far():
    # Each exponential of one end vanishes, in units of the other's.
    f = lambda x: jax.nn.softmax(x)[0]
    for dtype, move in (("float32", 90.0), ("float64", 900.0), ("float32", 5e3)):
        start = jnp.array([0.0, 0.1, -0.2], dtype)
        x = start + jnp.asarray(move, dtype) + jnp.array([0.5, 0.0, 0.1], dtype)
        result = deeplift(f)(x, start)
        assert np.isfinite(result.values).all()
        near = move < 1000
        assert (abs(result.delta) < 64 * jnp.finfo(dtype).eps) or not near
        assert (result.status == igjax.Status.NO_TOLERANCE) == near
    alike = deeplift(f)(jnp.full(4, 1900.0), jnp.zeros(4))
    np.testing.assert_allclose(alike.values.sum(), 0, atol=1e-12)


def test_masked_and_vanishing_weights():
    mask = jnp.array([True, False, True])
    f = lambda x: jax.nn.softmax(x, where=mask)[0]
    result = deeplift(f)(jnp.array([1.0, 2.0, 0.5]), jnp.array([0.5, 1.0, 2.0]))
    assert result.values[1] == 0
    assert abs(result.delta) < 1e-14
    low = lambda x: jax.nn.softmax(x)[0]
    vanishing = deeplift(low)(jnp.array([0.0, 0.0]), jnp.array([-2e3, 0.0]))
    assert abs(vanishing.delta) < 1e-14


@pytest.mark.parametrize("name", DEEPLIFT)
def test_deeplift_by_hand(name):
    f, x, baseline, values = DEEPLIFT[name]
    x = jnp.asarray(x, float)
    baseline = jnp.broadcast_to(jnp.asarray(baseline, float), x.shape)
    result = deeplift(f)(x, baseline)
    np.testing.assert_allclose(result.values, values, atol=6e-7)
    assert abs(result.delta) < 1e-14
    assert result.status == igjax.Status.NO_TOLERANCE


def _layer(x):
    return jnp.array([2.0, -1.0]) @ x + 1


# The layer y = 2 x1 - x2 + 1 at (3, 1), where it is 6.
LAYERS = {
    "epsilon 0": ("layer", epsilon(0), [6, -1]),
    "epsilon 1/2": ("layer", epsilon(0.5), [72 / 13, -12 / 13]),
    "zplus": ("layer", zplus(0), [36 / 7, 0]),
    "alpha 2, beta 1": ("layer", alpha_beta(2, 1, 0), [72 / 7, -6]),
    "gamma 1/4": ("layer", gamma(0.25, 0), [6 * 7.5 / 7.75, -6 / 7.75]),
    "w squared": (first, wsquare(0), [4.8, 1.2]),  # zennit counts the bias: (4, 1)
    "flat": (first, flat(0), [3, 3]),
    "box": (first, box(0, 4, 0), [4, 2]),
    "box by features": (first, box(np.zeros(2), (4, 4), 0), [4, 2]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_rule_at_a_layer_by_hand(name):
    selector, rule, values = LAYERS[name]
    result = relevance(_layer, ((selector, rule),))(jnp.array([3.0, 1.0]))
    np.testing.assert_allclose(result.values, values, rtol=1e-12)
    np.testing.assert_allclose(result.delta, sum(values) - 6, atol=1e-12)


def test_softmax_takes_its_derivative():
    x = jnp.array([1.0, 2.0, 0.0])
    result = relevance(lambda x: jax.nn.softmax(x)[0])(x)
    of_one = np.asarray(result.values) / jax.nn.softmax(x)[0]
    np.testing.assert_allclose(of_one, [0.755272, -1.330482, 0], atol=1e-6)


def test_factors_share_relevance():
    result = relevance(lambda x: x[:2] @ x[2:])(jnp.array([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_allclose(result.values, [1.5, 4, 1.5, 4])


def test_a_normalization_leaves_relevance_to_what_it_normalizes():
    values = [0.308607, -0.308607, -0.925820]
    forms = (
        lambda x: ((x - x.mean()) / x.std())[0],
        lambda x: ((x - x.mean()) * jax.lax.rsqrt(x.var()))[0],
        lambda x: jax.nn.standardize(x, epsilon=0)[0],
    )
    for f in forms:
        result = relevance(f)(jnp.array([1.0, 2.0, 6.0]))
        np.testing.assert_allclose(result.values, values, atol=1e-6)


A, V = jnp.array([[1.0, 2.0], [3.0, 1.0]]), jnp.array([1.0, -1.0])


def test_a_skip_connection_is_a_sum():
    # Captum: (8.142857, -6.142857) for a score of -2, because the sum is no module.
    result = relevance(lambda x: V @ (x + relu(A @ x)))(jnp.array([2.0, 1.0]))
    np.testing.assert_allclose(result.values, [-2, 0], atol=1e-5)


def test_gelu_keeps_relevance():
    # Captum: (-0.010200, -0.013029), because the function is no module.
    result = relevance(lambda x: V @ _gelu(A @ x), EPSILON)(jnp.array([-0.2, -0.1]))
    np.testing.assert_allclose(result.values, [0.076260, -0.044718], atol=1e-6)


def test_guided_gradients_of_relus_however_written():
    # Captum: (-2, 1), the gradient, of a functional ReLU.
    forms = (
        relu,
        lambda z: jnp.maximum(z, 0),
        lambda z: jnp.where(z > 0, z, 0),
        lambda z: z * (z > 0),
    )
    for form in forms:
        f = lambda x, form=form: V @ form(A @ x)
        x = jnp.array([2.0, 1.0])
        for method in (propagation.guided_gradient, propagation.deconvnet_gradient):
            np.testing.assert_allclose(method(f)(x).values, [1, 2])


def test_guided_and_deconvolved_differ_where_a_unit_is_off():
    f = lambda x: jnp.array([1.0, 2.0]) @ relu(x)
    x = jnp.array([-1.0, 1.0])
    np.testing.assert_allclose(propagation.guided_gradient(f)(x).values, [0, 2])
    np.testing.assert_allclose(propagation.deconvnet_gradient(f)(x).values, [1, 2])
