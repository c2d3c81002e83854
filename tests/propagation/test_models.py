"""Whole models: complete to rounding in every framework, loops as if they were unrolled."""

import functools
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import igjax
from igjax.propagation import CP, EPSILON_PLUS, deeplift, relevance

from ..registry import ZOO, together

# Each of a vector, summed with weights: one program shows all of them.
ACTIVATIONS = (
    "relu relu6 sigmoid softplus sparse_plus sparse_sigmoid soft_sign silu log_sigmoid "
    "leaky_relu hard_sigmoid hard_silu hard_tanh elu celu selu gelu squareplus mish glu "
    "logsumexp log_softmax softmax standardize"
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTIVATIONS.split())
def test_all_of_jax_nn_is_complete(name, getkey):
    w, x, baseline = (jax.random.normal(getkey(), s) for s in ((6, 6), (6,), (6,)))
    activation = getattr(jax.nn, name)

    def f(x):
        y = activation(2 * w @ x)
        return (y * jnp.arange(1.0, 1 + y.size).reshape(y.shape)).sum()

    result = deeplift(f)(x, baseline)
    assert abs(result.delta) < 1e-13 * abs(result.values).sum()
    assert result.status == igjax.Status.NO_TOLERANCE
    assert relevance(f)(x).status == igjax.Status.NO_TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("specimen", ZOO, ids=lambda s: s.name)
def test_the_zoo_is_complete(specimen, getkey):
    f = lambda x, params: specimen.score(params, x)
    x, baseline = (jax.random.normal(getkey(), specimen.shape) for _ in range(2))
    result = deeplift(f)(x, baseline, specimen.params)
    assert abs(result.delta) < 1e-13
    assert result.status == igjax.Status.NO_TOLERANCE


class Convolutions(nn.Module):
    """Everything that peers stumble over: skips, overlapping pools, norms, functions."""

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Conv(3, (3, 3))(x[None]))
        x = nn.max_pool(nn.relu(x), (3, 3), (2, 2), padding="SAME")
        x = x + nn.Conv(3, (3, 3))(nn.gelu(x))
        x = nn.GroupNorm(num_groups=1)(nn.avg_pool(x, (2, 2), (2, 2)))
        return nn.Dense(1)(x.reshape(-1))[0]


@pytest.mark.slow
def test_convolutions_are_complete():
    net, generator = Convolutions(), np.random.default_rng(0)
    x, baseline = generator.normal(size=(2, 6, 6, 2))
    shapes = jax.eval_shape(net.init, jax.random.key(0), x)
    params = jax.tree.map(lambda a: generator.uniform(0.1, 1, a.shape) - 0.3, shapes)
    params["batch_stats"] = jax.tree.map(jnp.abs, params["batch_stats"])
    result = deeplift(lambda x, p: net.apply(p, x))(x, baseline, params)
    assert abs(result.delta) < 1e-12 * np.abs(result.values).sum()
    assert relevance(lambda x, p: net.apply(p, x), EPSILON_PLUS)(x, None, params).score


def _linen_attention(key):
    attention = nn.MultiHeadDotProductAttention(num_heads=2, param_dtype=jnp.float64)
    params = attention.init(key, jnp.ones((5, 4)), jnp.ones((5, 4)))
    causal = jnp.tril(jnp.ones((1, 5, 5), bool))
    norm = nn.LayerNorm(use_bias=False, use_scale=False)
    apply: Any = attention.apply
    return lambda x: apply(params, norm.apply({}, x), mask=causal)[3, 0]


def _nnx_block(key):
    del key
    rngs, wide = nnx.Rngs(0), {"param_dtype": jnp.float64, "dtype": jnp.float64}
    attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs, **wide)
    norm, dense = nnx.RMSNorm(4, rngs=rngs, **wide), nnx.Linear(4, 4, rngs=rngs, **wide)
    return lambda x: (x + attention(norm(x)) + nnx.gelu(dense(x)))[2, 1]


def _equinox_attention(key):
    attention, norm = eqx.nn.MultiheadAttention(2, 4, key=key), eqx.nn.LayerNorm(4)
    return lambda x: attention(jax.vmap(norm)(x), x, x)[1, 0]


@pytest.mark.slow
@pytest.mark.parametrize("make", [_linen_attention, _nnx_block, _equinox_attention])
def test_attention_of_every_framework_is_complete(make, getkey):
    f = make(getkey())
    x, baseline = (jax.random.normal(getkey(), (5, 4)) for _ in range(2))
    result = deeplift(f)(x, baseline)
    assert result.status == igjax.Status.NO_TOLERANCE
    assert abs(result.delta) < (1e-6 if make is _nnx_block else 1e-13)  # float32 inside
    # With the weights given, and no biases to speak of, LRP conserves; else it does not.
    score = abs(float(f(x)))
    assert abs(relevance(f, CP)(x).delta) < 1e-4 * score
    assert abs(relevance(f)(x).delta) > 1e-2 * score


# A normalization as people write it; all but the last are the same function.
NORMS = (
    lambda x: (x - x.mean()) * jax.lax.rsqrt(x.var() + 1e-6),
    lambda x: (x - x.mean()) / jnp.sqrt(x.var() + 1e-6),
    lambda x: (x - x.mean()) * (1 / jnp.sqrt(x.var() + 1e-6)),
    lambda x: (x - x.mean()) * (x.var() + 1e-6) ** -0.5,
    lambda x: x / jnp.maximum(jnp.linalg.norm(x), 1e-6),
)


@pytest.mark.slow
def test_normalizations_do_not_explode_at_a_constant_baseline(getkey):
    # There one over the root is a thousand, and so would be the factor of each of four.
    w, x = jax.random.normal(getkey(), (6, 6)), jax.random.normal(getkey(), (6,))

    def deep(norm, x):
        for _ in range(4):
            x = x + norm(jnp.tanh(w @ x))
        return x @ jnp.arange(6.0)

    methods = [deeplift(functools.partial(deep, norm)) for norm in NORMS]
    results = together(*(functools.partial(method, x, 0.0) for method in methods))
    for result in results:
        assert abs(result.values).sum() < 1e3
        assert abs(result.delta) < 1e-12
    for result in results[1:4]:
        np.testing.assert_allclose(result.values, results[0].values, rtol=1e-8)


def _recurrent(start):
    """A gated network, as a loop and unrolled."""
    generator = np.random.default_rng(3)
    inward, across = generator.normal(size=(2, 12, 3)) / 2

    def cell(state, v):
        memory, hidden = state
        gates = jax.nn.sigmoid((inward @ v + across @ hidden)[:9].reshape(3, 3))
        new = jnp.tanh((inward @ v + across @ hidden)[9:])
        memory = gates[0] * memory + gates[1] * new
        return (memory, gates[2] * jnp.tanh(memory)), None

    def loop(x):
        return jax.lax.scan(cell, (start, start), x)[0][1].sum()

    def unrolled(x):
        state = (start, start)
        for v in x:
            state, _ = cell(state, v)
        return state[1].sum()

    return loop, unrolled


@pytest.mark.parametrize("start", [[0.0, 0.0, 0.0], [0.3, -0.5, 0.8]])
def test_a_loop_is_as_if_it_were_unrolled(start, getkey):
    loop, unrolled = _recurrent(jnp.array(start))
    x, baseline = (jax.random.normal(getkey(), (4, 3)) for _ in range(2))
    results = [deeplift(f)(x, baseline) for f in (loop, unrolled)]
    np.testing.assert_allclose(results[0].values, results[1].values, rtol=1e-11)
    assert abs(results[0].delta) < 1e-14
    values = [relevance(f)(x).values for f in (loop, unrolled)]
    np.testing.assert_allclose(*values, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_loop_whose_carries_wake_up_one_after_the_other(reverse, length, getkey):
    # What x moves after one round moves the second carry after two, and both are told.
    def cell(state, v):
        near, far = state
        new = jnp.tanh(near + v) * (1 + far)
        return (new, near), new * far

    start = (jnp.array([0.5, -0.2]), jnp.array([0.7, 0.3]))
    weights = jnp.arange(1.0, 1.0 + 2 * length).reshape(length, 2)

    def loop(x):
        (near, far), rows = jax.lax.scan(cell, start, x, reverse=reverse)
        return (near * far).sum() + (rows * weights).sum()

    def unrolled(x):
        state, rows = start, []
        for v in x[::-1] if reverse else x:
            state, row = cell(state, v)
            rows.append(row)
        rows = jnp.stack(rows[::-1] if reverse else rows)
        return (state[0] * state[1]).sum() + (rows * weights).sum()

    x = jax.random.normal(getkey(), (length, 2))
    one, other = relevance(loop)(x), relevance(unrolled)(x)
    np.testing.assert_allclose(one.score, other.score, rtol=1e-12)
    np.testing.assert_allclose(one.values, other.values, rtol=1e-11, atol=1e-13)


@pytest.mark.slow
def test_deepshap_adds_up_to_the_mean(getkey):
    loop, _ = _recurrent(jnp.zeros(3))
    x, rows = jax.random.normal(getkey(), (6, 3)), jax.random.normal(getkey(), (4, 6, 3))
    result = igjax.expected(deeplift(loop))(getkey(), x, rows)
    mean = jnp.stack([deeplift(loop)(x, row).values for row in rows]).mean(0)
    np.testing.assert_allclose(result.values, mean, rtol=1e-10)
    np.testing.assert_allclose(
        result.baseline_score, jnp.stack(list(map(loop, rows))).mean()
    )
    assert abs(result.delta) < 1e-13
