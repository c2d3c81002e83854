"""A program is read as a network: what is one unit, whatever the equations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import erf

from igjax.propagation import RESCALE, deeplift, epsilon, first, flat, relevance, units

W = np.random.default_rng(1).normal(size=(4, 3))


def kinds(f, x=None, rules=()):
    x = jnp.ones(3) if x is None else x
    return [entry.kind for entry in units(f, rules)(x)]


# Each twice: as jax.nn has it, and by hand.
ACTIVATIONS = {
    "gelu": (
        lambda z: jax.nn.gelu(z, approximate=False),
        lambda z: 0.5 * z * (1 + erf(z / np.sqrt(2))),
    ),
    "silu": (jax.nn.silu, lambda z: z / (1 + jnp.exp(-z))),
    "elu": (jax.nn.elu, lambda z: jnp.where(z > 0, z, jnp.exp(jnp.minimum(z, 0)) - 1)),
    "softplus": (jax.nn.softplus, lambda z: jnp.log(1 + jnp.exp(z))),
    "mish": (jax.nn.mish, lambda z: z * jnp.tanh(jnp.log1p(jnp.exp(z)))),
    "sigmoid": (jax.nn.sigmoid, lambda z: 1 / (1 + jnp.exp(-z))),
    "leaky": (jax.nn.leaky_relu, lambda z: jnp.where(z >= 0, z, 0.01 * z)),
    "tanh": (
        jnp.tanh,
        lambda z: (jnp.exp(z) - jnp.exp(-z)) / (jnp.exp(z) + jnp.exp(-z)),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_how_a_function_of_one_number_is_written_does_not_matter(name):
    x, baseline = jnp.array([0.3, -1.2, 2.0]), jnp.array([-0.5, 0.4, 0.1])
    results = []
    for activation in ACTIVATIONS[name]:
        f = lambda x, g=activation: jnp.array([1.0, -2.0, 0.5, 1.5]) @ g(W @ x)
        results.append((deeplift(f)(x, baseline).values, relevance(f)(x).values))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_a_number_added_after_the_last_curve_is_a_bias():
    # The same function as tanh; what it lacks is what the -1 absorbs.
    f = lambda x: (2 * jax.nn.sigmoid(2 * x) - 1).sum()
    x = jnp.array([0.3, 1.2])
    np.testing.assert_allclose(relevance(f)(x).delta, 2)
    np.testing.assert_allclose(
        relevance(lambda x: jnp.tanh(x).sum())(x).delta, 0, atol=1e-9
    )


def test_equal_equations_are_one():
    f = lambda x: ((W @ x) * ((W @ x) > 0)).sum()
    assert kinds(f) == ["layer", "relu"]
    result = deeplift(f)(jnp.array([1.0, -2.0, 0.5]), 0.0)
    assert abs(result.delta) < 1e-14


def test_a_layer_is_its_weights_biases_scales_and_views():
    def f(x):
        hidden = (W @ x + jnp.arange(4.0)) * jnp.arange(1.0, 5.0) - 1
        return jax.nn.relu(hidden.reshape(2, 2)).sum()

    layer, relu = units(f)(jnp.ones(3))
    assert (layer.kind, relu.kind) == ("layer", "relu")
    assert layer.primitives[0] == "dot_general"
    assert layer.primitives[-1] == "reshape"
    assert (layer.inputs, layer.output) == (((3,),), (2, 2))


def test_a_layer_ends_where_something_else_sees_it():
    def f(x):
        hidden = W @ x
        return ((hidden + 1) * jax.nn.sigmoid(hidden)).sum()

    assert units(f)(jnp.ones(3))[0].primitives == ("dot_general",)


def test_relus_are_told_from_clipped_variances():
    norm = nn.LayerNorm()
    params = norm.init(jax.random.key(0), jnp.ones(3))
    f = lambda x: norm.apply(params, x)[0]
    assert "relu" not in kinds(f)
    assert (
        kinds(lambda x: jnp.sqrt(jax.nn.relu(x)).sum() + jax.nn.relu(x).sum())[0] == "relu"
    )


def test_softmax_is_known_by_its_quotient():
    assert kinds(lambda x: jax.nn.softmax(x)[0]) == ["softmax", "softmax"]
    assert kinds(lambda x: (jnp.exp(x) / jnp.exp(x).sum())[0]) == ["softmax", "softmax"]
    assert "softmax" in kinds(lambda x: jax.nn.logsumexp(x))
    assert kinds(lambda x: jnp.exp(x).sum()) == ["activation"]


def test_a_stopped_maximum_that_something_else_sees_is_no_shift():
    stopped = lambda x: jax.lax.stop_gradient(x.max())
    x, baseline = jnp.array([1.0, 3.0]), jnp.array([0.5, 0.2])
    seen = deeplift(lambda x: jnp.exp(x - stopped(x)).sum())(x, baseline)
    np.testing.assert_allclose(seen.score, 1 + np.exp(-2))
    assert abs(seen.delta) > 0.1


def test_gates_normalizations_products():
    gate = lambda x: jax.nn.sigmoid(x[0]) * x[1]
    assert kinds(gate)[-1] == "gate"
    assert kinds(lambda x: (1 - jax.nn.sigmoid(x[0])) * x[1])[-1] == "gate"
    assert kinds(lambda x: x[0] * x[1]) == ["product"]
    assert kinds(lambda x: x[0] / x[1]) == ["normalization"]
    assert "normalization" in kinds(lambda x: (x * jax.lax.rsqrt((x**2).mean()))[0])
    assert kinds(lambda x: jnp.maximum(x[0], x[1])) == ["maximum"]
    assert kinds(jnp.max) == ["pool"]


def test_paths_of_modules_and_scopes_are_there():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            hidden = nn.relu(nn.Dense(4)(x))
            return nn.Dense(1)(hidden)[0]

    net = Net()
    params = net.init(jax.random.key(0), jnp.ones(3))
    f = lambda x: net.apply(params, x)
    paths = [entry.path for entry in units(f)(jnp.ones(3))]
    assert paths[0] == "Net/Dense_0"
    assert paths[-1] == "Net/Dense_1"
    (entry,) = units(lambda x: jnp.tanh(x).sum())(jnp.ones(3))
    assert "test_reading.py" in entry.line
    rules = (("*/Dense_0", epsilon(0.25)),)
    assert "epsilon" in str(units(f, rules)(jnp.ones(3))[0])


def test_loops_are_listed_with_what_is_in_them():
    def f(x):
        step = lambda c, v: (jnp.tanh(c * v), None)
        return jax.lax.scan(step, 1.0, x)[0]

    assert kinds(f) == ["product", "activation"]
    assert {e.rule for e in units(f, RESCALE)(jnp.ones(3))} == {"rescale"}


def test_rules_for_first_layers_stay_there():
    f = lambda x: (W @ jnp.tanh(x)).sum()
    with pytest.raises(
        ValueError, match=r"relevance: the selector 'first' must match a unit"
    ):
        relevance(f, ((first, flat()),))(jnp.ones(3))
    with pytest.raises(
        ValueError, match=r"relevance: the rule 'flat' is for layers that see"
    ):
        relevance(f, (("layer", flat()),))(jnp.ones(3))
    reshaped = lambda x: jax.nn.relu(W @ x.reshape(3)).sum()
    relevance(reshaped, ((first, flat()),))(jnp.ones((3, 1)))


def test_a_pattern_without_a_match_is_an_error():
    f = lambda x: (W @ x).sum()
    with pytest.raises(ValueError, match=r"'\*/Dense_7' must match .* The paths there are"):
        relevance(f, (("*/Dense_7", epsilon(0.1)),))(jnp.ones(3))
