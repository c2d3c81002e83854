"""The same network in four frameworks gives the attributions of plain JAX.

Each is called in the way that its users would write first.
"""

from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import igjax

RULE = igjax.rules.gauss_legendre(16)
X = np.array([0.5, -1.0, 2.0, 0.3])
LABEL = 2


def weights():
    draw = np.random.default_rng(7).normal
    shapes = {"w1": (4, 8), "b1": (8,), "w2": (8, 3), "b2": (3,)}
    return {name: jnp.asarray(draw(size=shape) / 2) for name, shape in shapes.items()}


def mlp(x, w):
    return jnp.tanh(x @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"]


@pytest.fixture(scope="module")
def expected():
    """Attributions by 4000 midpoints of JAX's gradient, error below 1e-7."""
    w = weights()
    gradient = jax.grad(lambda x: mlp(x, w)[LABEL])
    nodes = (np.arange(4000) + 0.5) / 4000
    return X * jax.vmap(gradient)(nodes[:, None] * X[None]).mean(0)


def check(result, expected):
    # Both are exact to rounding in float64; the midpoint sum is good to 1e-7.
    np.testing.assert_allclose(result.values, expected, atol=1e-6)
    np.testing.assert_allclose(result.delta, 0, atol=1e-6)


def test_plain_jax(expected):
    f = lambda x, w, label: mlp(x, w)[label]
    attribute = igjax.integrated_gradients(f, rule=RULE)
    check(attribute(X, 0.0, weights(), LABEL), expected)


# Flax linen.


class LinenMLP(nn.Module):
    rate: float = 0.0

    @nn.compact
    def __call__(self, x, *, train=False):
        x = jnp.tanh(nn.Dense(8, param_dtype=jnp.float64, name="one")(x))
        x = nn.Dropout(self.rate, deterministic=not train)(x)
        return nn.Dense(3, param_dtype=jnp.float64, name="two")(x)


def linen_variables():
    w = weights()
    one = {"kernel": w["w1"], "bias": w["b1"]}
    two = {"kernel": w["w2"], "bias": w["b2"]}
    return {"params": {"one": one, "two": two}}


def test_linen_with_variables_as_an_argument(expected):
    model: Any = LinenMLP()
    f = lambda x, variables, label: model.apply(variables, x)[label]
    attribute = igjax.integrated_gradients(f, rule=RULE)
    check(attribute(X, 0.0, linen_variables(), LABEL), expected)


def test_linen_with_variables_in_a_closure(expected):
    model: Any = LinenMLP()
    variables = linen_variables()
    f = lambda x: model.apply(variables, x)[LABEL]
    attribute = igjax.integrated_gradients(f, rule=RULE)
    check(attribute(X, 0.0), expected)


def test_linen_bound_to_its_variables(expected):
    bound = LinenMLP().bind(linen_variables())
    attribute = igjax.integrated_gradients(lambda x: bound(x)[LABEL], rule=RULE)
    check(attribute(X, 0.0), expected)
    check(attribute(X, 0.0), expected)


def test_linen_model_as_an_argument(expected):
    f = lambda x, model, variables: model.apply(variables, x)[LABEL]
    attribute = igjax.integrated_gradients(f, rule=RULE)
    check(attribute(X, 0.0, LinenMLP(), linen_variables()), expected)


def test_linen_with_dropout_that_is_deterministic(expected):
    model: Any = LinenMLP(rate=0.5)
    f = lambda x, variables: model.apply(variables, x, train=False)[LABEL]
    check(igjax.integrated_gradients(f, rule=RULE)(X, 0.0, linen_variables()), expected)


def test_linen_with_dropout_and_a_key():
    model: Any = LinenMLP(rate=0.5)

    def f(x, variables, key):
        return model.apply(variables, x, train=True, rngs={"dropout": key})[LABEL]

    with pytest.raises(
        ValueError, match=r"got Dropout\(deterministic=False\) at Dropout_0"
    ):
        igjax.integrated_gradients(f, rule=RULE)(
            X, 0.0, linen_variables(), jax.random.key(1)
        )
    attribute = igjax.integrated_gradients(igjax.in_training_mode(f), rule=RULE)
    results = [attribute(X, 0.0, linen_variables(), jax.random.key(k)) for k in (1, 1, 2)]
    # One key draws one mask for the whole path, so that the sum is complete.
    np.testing.assert_allclose([r.delta for r in results], 0, atol=1e-6)
    np.testing.assert_array_equal(results[0].values, results[1].values)
    assert not np.allclose(results[0].values, results[2].values)


def test_linen_batch_normalization_with_running_averages():
    model: Any = nn.BatchNorm(use_running_average=True, param_dtype=jnp.float64)
    variables = {
        "params": {"scale": jnp.full(4, 3.0), "bias": jnp.ones(4)},
        "batch_stats": {"mean": jnp.full(4, 5.0), "var": jnp.full(4, 4.0)},
    }
    f = lambda x: model.apply(variables, x).sum()
    result = igjax.integrated_gradients(f, rule=RULE)(X, 0.0)
    np.testing.assert_allclose(result.values, 1.5 * X, rtol=1e-5)  # epsilon is 1e-5


# Flax NNX.


class NNXMLP(nnx.Module):
    def __init__(self, rate=0.0):
        rngs = nnx.Rngs(0)
        self.one = nnx.Linear(4, 8, rngs=rngs, param_dtype=jnp.float64)
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.two = nnx.Linear(8, 3, rngs=rngs, param_dtype=jnp.float64)
        w = weights()
        self.one.kernel, self.one.bias = nnx.Param(w["w1"]), nnx.Param(w["b1"])
        self.two.kernel, self.two.bias = nnx.Param(w["w2"]), nnx.Param(w["b2"])

    def __call__(self, x, label=LABEL):
        return self.two(self.dropout(jnp.tanh(self.one(x))))[label]


def test_nnx_model_as_f(expected):
    attribute = igjax.integrated_gradients(NNXMLP(), rule=RULE)
    check(attribute(X, 0.0), expected)
    check(attribute(X, 0.0, LABEL), expected)


def test_nnx_model_in_a_closure(expected):
    model = NNXMLP()
    attribute = igjax.integrated_gradients(lambda x: model(x), rule=RULE)
    check(attribute(X, 0.0), expected)


def test_nnx_model_as_an_argument(expected):
    attribute = igjax.integrated_gradients(lambda x, model: model(x), rule=RULE)
    check(attribute(X, 0.0, NNXMLP()), expected)


def test_nnx_model_split_and_merged(expected):
    graph, state = nnx.split(NNXMLP())
    f = lambda x, state: nnx.merge(graph, state)(x)
    check(igjax.integrated_gradients(f, rule=RULE)(X, 0.0, state), expected)


def test_nnx_method(expected):
    check(igjax.integrated_gradients(NNXMLP().__call__, rule=RULE)(X, 0.0), expected)


def test_nnx_model_under_nnx_jit(expected):
    attribute = igjax.integrated_gradients(lambda x, model: model(x), rule=RULE)
    check(nnx.jit(lambda x, model: attribute(x, 0.0, model))(X, NNXMLP()), expected)


def test_nnx_model_in_a_batch(expected):
    attribute = igjax.integrated_gradients(NNXMLP(), rule=RULE)
    batch = jax.jit(jax.vmap(attribute, (0, None)))(jnp.stack([X, X]), 0.0)
    check(batch.example(1), expected)


CALLS = {
    "as_f": lambda model, x: igjax.integrated_gradients(model, rule=RULE)(x, 0.0),
    "in_a_closure": lambda model, x: igjax.integrated_gradients(
        lambda x: model(x), rule=RULE
    )(x, 0.0),
    "as_an_argument": lambda model, x: igjax.integrated_gradients(
        lambda x, model: model(x), rule=RULE
    )(x, 0.0, model),
    "as_a_method": lambda model, x: igjax.integrated_gradients(model.__call__, rule=RULE)(
        x, 0.0
    ),
    "under_jit": lambda model, x: jax.jit(
        lambda x: igjax.integrated_gradients(model, rule=RULE)(x, 0.0)
    )(x),
}


@pytest.mark.parametrize("call", CALLS)
def test_nnx_dropout_must_be_in_evaluation_mode(call, expected):
    model = NNXMLP(rate=0.5)
    model.train()
    message = (
        r"^integrated_gradients: the model must be in evaluation mode, got "
        r"Dropout\(deterministic=False\) at dropout\. Call model\.eval\(\) first, "
        r"before nnx\.split\."
    )
    with pytest.raises(ValueError, match=message):
        CALLS[call](model, X)
    model.eval()
    check(CALLS[call](model, X), expected)
    model.train()
    with pytest.raises(ValueError, match=message):
        CALLS[call](model, X)


class Normalized(nnx.Module):
    def __init__(self):
        self.norm = nnx.BatchNorm(4, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
        self.norm.mean[...] = jnp.full(4, 5.0)
        self.norm.var[...] = jnp.full(4, 4.0)

    def __call__(self, x):
        return self.norm(x).sum()


@pytest.mark.parametrize("call", CALLS)
def test_nnx_batch_normalization_must_be_in_evaluation_mode(call):
    model = Normalized()
    model.train()
    with pytest.raises(ValueError, match=r"BatchNorm\(use_running_average=False\) at norm"):
        CALLS[call](model, X)
    model.eval()
    np.testing.assert_allclose(CALLS[call](model, X).values, X / 2, rtol=1e-5)
    np.testing.assert_array_equal(model.norm.mean[...], np.full(4, 5.0))


def test_nnx_dropout_of_rate_zero_needs_no_evaluation_mode(expected):
    model = NNXMLP(rate=0.0)
    model.train()
    check(igjax.integrated_gradients(model, rule=RULE)(X, 0.0), expected)


# Equinox.


class EquinoxMLP(eqx.Module):
    one: eqx.nn.Linear
    two: eqx.nn.Linear

    def __init__(self):
        keys, w = jax.random.split(jax.random.key(0)), weights()
        one, two = eqx.nn.Linear(4, 8, key=keys[0]), eqx.nn.Linear(8, 3, key=keys[1])
        leaves = lambda m: (m.weight, m.bias)
        self.one = eqx.tree_at(leaves, one, (w["w1"].T, w["b1"]))
        self.two = eqx.tree_at(leaves, two, (w["w2"].T, w["b2"]))

    def __call__(self, x):
        return self.two(jnp.tanh(self.one(x)))

    def score(self, x, label=LABEL):
        return self(x)[label]


def test_equinox_model_in_a_closure(expected):
    model = EquinoxMLP()
    check(
        igjax.integrated_gradients(lambda x: model(x)[LABEL], rule=RULE)(X, 0.0), expected
    )


def test_equinox_model_as_an_argument(expected):
    f = lambda x, model, label: model(x)[label]
    attribute = igjax.integrated_gradients(f, rule=RULE)
    check(attribute(X, 0.0, EquinoxMLP(), LABEL), expected)


def test_equinox_method(expected):
    model = EquinoxMLP()
    for _ in range(2):
        check(igjax.integrated_gradients(model.score, rule=RULE)(X, 0.0), expected)


def test_equinox_model_as_f(expected):
    result = igjax.integrated_jacobian(EquinoxMLP(), rule=RULE)(X, 0.0)
    np.testing.assert_allclose(result.values[LABEL], expected, atol=1e-6)


def test_equinox_sequential_with_functions_inside(expected):
    model = EquinoxMLP()
    layers = [model.one, eqx.nn.Lambda(jnp.tanh), model.two]
    f = eqx.nn.Sequential([*layers, eqx.nn.Lambda(lambda y: y[LABEL])])
    check(igjax.integrated_gradients(f, rule=RULE)(X, 0.0), expected)


def test_equinox_filter_jit_around_and_inside(expected):
    model = EquinoxMLP()
    attribute = igjax.integrated_gradients(lambda x, model: model(x)[LABEL], rule=RULE)
    check(eqx.filter_jit(attribute)(X, 0.0, model), expected)
    inside = eqx.filter_jit(lambda x: model(x)[LABEL])
    check(igjax.integrated_gradients(inside, rule=RULE)(X, 0.0), expected)


def test_equinox_dropout_in_inference_mode():
    f = eqx.nn.Sequential([eqx.nn.Dropout(0.5), eqx.nn.Lambda(jnp.sum)])
    f = eqx.nn.inference_mode(f)
    result = igjax.integrated_gradients(f, rule=RULE)(X, 0.0)
    np.testing.assert_allclose(result.values, X, rtol=1e-6)


# Haiku.


def haiku_network():
    def forward(x):
        hidden = jnp.tanh(hk.Linear(8, name="one")(x))
        return hk.Linear(3, name="two")(hidden)

    w = weights()
    params = {"one": {"w": w["w1"], "b": w["b1"]}, "two": {"w": w["w2"], "b": w["b2"]}}
    return hk.transform(forward), params


def test_haiku_with_parameters_as_an_argument(expected):
    network, params = haiku_network()
    f = lambda x, params, label: network.apply(params, None, x)[label]
    check(igjax.integrated_gradients(f, rule=RULE)(X, 0.0, params, LABEL), expected)


def test_haiku_with_parameters_in_a_closure(expected):
    network, params = haiku_network()
    f = lambda x: network.apply(params, None, x)[LABEL]
    check(igjax.integrated_gradients(f, rule=RULE)(X, 0.0), expected)


def test_haiku_without_apply_rng(expected):
    network, params = haiku_network()
    apply = hk.without_apply_rng(network).apply
    f = lambda x, params: apply(params, x)[LABEL]
    check(jax.jit(igjax.integrated_gradients(f, rule=RULE))(X, 0.0, params), expected)
