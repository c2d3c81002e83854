"""jit, vmap, grad, shard_map, export, half precision, rematerialization, branches."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

import igjax
from igjax.propagation import (
    CP,
    alpha_beta,
    box,
    deconvnet_gradient,
    deeplift,
    first,
    gamma,
    guided_gradient,
    layer_deeplift,
    layer_relevance,
    relevance,
    reveal_cancel,
)

W = np.random.default_rng(5).normal(size=(5, 3))
ROWS = np.random.default_rng(6).normal(size=(4, 3))
BASELINE = np.array([0.2, -0.3, 0.5])


def score(x, w):
    """A layer, a ReLU, a tag, a loop, a softmax, a gate and a normalization."""
    hidden = checkpoint_name(jax.nn.relu(w @ x), "hidden")
    hidden = jax.lax.scan(lambda c, v: (jnp.tanh(c + v * hidden), None), hidden, x)[0]
    attention = jax.nn.softmax(hidden) @ hidden
    normed = (hidden - hidden.mean()) * jax.lax.rsqrt(hidden.var() + 0.1)
    return attention * jax.nn.sigmoid(x[0]) + normed[0]


METHODS: dict[str, Any] = {
    "deeplift": deeplift(score),
    "deeplift by RevealCancel": deeplift(score, (("activation", reveal_cancel()),)),
    "relevance": relevance(score),
    "relevance by CP": relevance(score, CP),
    "relevance by gamma": relevance(score, (("layer", gamma()),)),
    "relevance by alpha-beta and a box": relevance(
        score, ((first, box(-4.0, 4.0)), ("layer", alpha_beta()))
    ),
    "guided_gradient": guided_gradient(score),
    "deconvnet_gradient": deconvnet_gradient(score),
    "layer_deeplift": layer_deeplift(score, "hidden"),
    "layer_relevance": layer_relevance(score, "hidden"),
}


# Each takes two compilations of a program with everything in it.
FAST = "deeplift"
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in METHODS if name != FAST]


@pytest.mark.parametrize("name", [FAST, *SLOW])
def test_a_batch_is_its_rows(name):
    method = METHODS[name]
    batch = jax.jit(jax.vmap(method, in_axes=(0, None, None)))(ROWS, BASELINE, W)
    for i, row in enumerate(ROWS[:2]):
        one = method(row, BASELINE, W)
        np.testing.assert_allclose(batch.values[i], one.values, rtol=1e-10, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_gradients_of_attributions_are_those_of_finite_differences(name):
    method = METHODS[name]
    loss = jax.jit(lambda x, w: (method(x, BASELINE, w).values ** 2).sum())
    x, generator = ROWS[0], np.random.default_rng(7)
    along, step = (generator.normal(size=a.shape) for a in (x, W)), 1e-6
    dx, dw = along
    slope_x, slope_w = jax.grad(loss, (0, 1))(x, W)
    in_x = (loss(x + step * dx, W) - loss(x - step * dx, W)) / (2 * step)
    in_w = (loss(x, W + step * dw) - loss(x, W - step * dw)) / (2 * step)
    np.testing.assert_allclose(
        [slope_x @ dx, (slope_w * dw).sum()], [in_x, in_w], rtol=1e-5
    )


@pytest.mark.slow
def test_a_penalty_on_relevance_has_a_gradient():
    method = METHODS["relevance by alpha-beta and a box"]
    loss = jax.jit(lambda x: (method(x, BASELINE, W).values ** 2).sum())
    x, along = ROWS[0], np.array([1.0, -2.0, 0.5])
    by_difference = (loss(x + 1e-6 * along) - loss(x - 1e-6 * along)) / 2e-6
    np.testing.assert_allclose(jax.grad(loss)(x) @ along, by_difference, rtol=1e-6)


@pytest.mark.slow
def test_it_works_inside_shard_map():
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = PartitionSpec("rows")
    for name in ("deeplift", "relevance"):
        method = METHODS[name]
        values = lambda rows, m=method: jax.vmap(lambda x: m(x, BASELINE, W).values)(rows)
        sharded = jax.shard_map(values, mesh=mesh, in_specs=spec, out_specs=spec)
        np.testing.assert_allclose(jax.jit(sharded)(ROWS), values(ROWS), rtol=1e-10)


def test_it_is_exported_and_read_again():
    method = METHODS["deeplift"]
    call = jax.jit(lambda x, w: method(x, BASELINE, w))
    file = jax.export.export(call)(ROWS[0], W).serialize()
    again: Any = jax.export.deserialize(bytearray(file)).call(ROWS[0], W)
    np.testing.assert_allclose(again.values, method(ROWS[0], BASELINE, W).values)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_every_precision(dtype):
    x, w = jnp.asarray(ROWS[0], dtype), jnp.asarray(W, dtype)
    f = lambda x, w: jnp.tanh(jax.nn.relu(w @ x)).sum() * jax.nn.silu(x[0])
    exact = deeplift(f)(ROWS[0], BASELINE, W)
    result = deeplift(f)(x, jnp.asarray(BASELINE, dtype), w)
    rounding = 20 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(result.values, exact.values, rtol=rounding, atol=rounding)
    assert result.values.dtype == jnp.float32
    assert result.status == igjax.Status.NO_TOLERANCE


def test_pytrees_and_what_f_does_not_read():
    f = lambda x: x["a"] * x["b"][0]
    x = {"a": jnp.array(2.0), "b": (jnp.array(3.0), jnp.ones(2))}
    result = deeplift(f)(x, jax.tree.map(jnp.zeros_like, x))
    values = {"a": 3.0, "b": (3.0, np.zeros(2))}
    jax.tree.map(np.testing.assert_allclose, result.values, values)
    constant = deeplift(lambda x: jnp.float64(3.0))(jnp.ones(2), 0.0)
    np.testing.assert_allclose(constant.values, [0, 0])


@jax.custom_vjp
def _own(x):
    return jnp.tanh(x)


_own.defvjp(lambda x: (jnp.tanh(x), x), lambda x, ct: (7 * ct,))


def test_calls_are_opened():
    plain = lambda x: jnp.tanh(W @ x).sum()
    forms = (
        jax.jit(plain),
        jax.checkpoint(plain),
        lambda x: _own(W @ x).sum(),  # its own derivative is not used
        lambda x: jax.vmap(jnp.tanh)(W @ x).sum(),
        lambda x: jax.lax.cond(True, plain, jnp.sum, x),
        lambda x: jax.lax.fori_loop(0, 1, lambda i, c: c + plain(x), 0.0),
    )
    want = deeplift(plain)(ROWS[0], BASELINE).values
    for f in forms:
        got = deeplift(f)(ROWS[0], BASELINE)
        np.testing.assert_allclose(got.values, want, rtol=1e-12)
        assert abs(got.delta) < 1e-14


def test_branches():
    f = lambda x, flag: jax.lax.cond(
        flag, lambda x: x[0] * x[1], lambda x: jnp.tanh(x).sum(), x
    )
    for flag in (True, False):
        result = deeplift(f)(ROWS[0][:2], BASELINE[:2], jnp.array(flag))
        assert abs(result.delta) < 1e-14
    # LRP takes the branch that x takes.
    g = lambda x: jax.lax.cond(x[0] > 0, lambda x: 2 * x.sum(), lambda x: x[1], x)
    np.testing.assert_allclose(relevance(g)(jnp.array([1.0, 3.0])).values, [2, 6])
    np.testing.assert_allclose(relevance(g)(jnp.array([-1.0, 3.0])).values, [0, 3])


def test_weights_in_a_closure_are_seen_when_they_change():
    weights = {"w": jnp.ones(2)}
    attribute = deeplift(lambda x: jax.nn.relu(weights["w"] @ x))
    np.testing.assert_allclose(attribute(jnp.ones(2), 0.0).values, [1, 1])
    weights["w"] = 3 * jnp.ones(2)
    np.testing.assert_allclose(attribute(jnp.ones(2), 0.0).values, [3, 3])
