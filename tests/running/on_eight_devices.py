"""Tests that need eight devices; `test_sharding` runs them in a process that has them.

Expected values are those of one device, to rounding: XLA may fuse the smaller shares of a
batch in another way, and sums of devices are added in another order.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import igjax
from igjax.models import SequenceLSTM
from tests.registry import QUICKLY

RULE = igjax.rules.gauss_legendre(9)
W = np.array([1.0, -2.0, 0.5])
XS = np.random.default_rng(0).normal(size=(24, 3))


def curved(x, w):
    return jnp.tanh(jnp.vdot(w, x)) + jnp.sum(jnp.sin(x) * jnp.roll(x, 1))


def mesh_of(**axes):
    # Axes of type Explicit, which is what JAX makes by default.
    return jax.make_mesh(tuple(axes.values()), tuple(axes))


def close(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    jax.tree.map(same, got, want)


def devices_of(array) -> set:
    return {shard.device for shard in array.addressable_shards if shard.data.size}


@pytest.mark.parametrize("size", [24, 1, 13])
def test_a_sharded_batch_is_a_vmapped_one(size):
    attribute = igjax.integrated_gradients(curved, rule=RULE)
    explain = igjax.sharded(attribute, mesh_of(batch=8), (0, None, None))
    got = explain(XS[:size], 0.0, W)
    close(got, jax.vmap(attribute, (0, None, None))(XS[:size], 0.0, W))
    assert got.status.shape == (size,)
    close(got.example(-1), attribute(XS[size - 1], 0.0, W))


def test_each_device_gets_an_equal_share():
    attribute = igjax.integrated_gradients(curved, rule=RULE)
    explain = igjax.sharded(attribute, mesh_of(batch=8), (0, None, None))
    for run in (explain, jax.jit(explain)):
        values = run(XS, 0.0, W).values
        assert [s.data.shape for s in values.addressable_shards] == [(3, 3)] * 8
        assert len(devices_of(values)) == 8


def test_devices_end_by_themselves():
    # Steep sigmoids at some places and flat ones at others: queues of different lengths.
    f = lambda x, w: jax.nn.sigmoid(w * (x.sum() - 0.3))
    attribute = igjax.integrated_gradients(f)
    steep = np.geomspace(0.1, 1e4, 24)
    want = jax.vmap(attribute, (0, None, 0))(XS, 0.0, steep)
    got = igjax.sharded(attribute, mesh_of(batch=8), (0, None, 0))(XS, 0.0, steep)
    close(got, want)
    assert len(np.unique(got.evaluations)) > 2


def test_a_model_that_starts_a_loop_at_zeros():
    model = SequenceLSTM(4)
    xs = np.random.default_rng(1).normal(size=(8, 5, 2))
    params = jax.jit(model.init, compiler_options=QUICKLY)(jax.random.key(0), xs[0])
    f = lambda x, params: jnp.asarray(model.apply(params, x))[0]
    attribute = igjax.integrated_gradients(f, rule=RULE)
    got = igjax.sharded(attribute, mesh_of(batch=8), (0, None, None))(xs, 0.0, params)
    close(got, jax.vmap(attribute, (0, None, None))(xs, 0.0, params))


def test_axes_and_arguments_of_all_kinds():
    def f(x, p, label, mode, nothing):
        assert mode == "double"
        assert nothing is None
        return 2 * jnp.vdot(p["w"], x["a"] ** 2)[None][label] * p["b"]

    attribute = igjax.integrated_gradients(f, rule=igjax.rules.gauss_legendre(2))
    axes = ({"a": 1}, None, {"w": -1, "b": None}, 0, None, None)
    weights = np.abs(XS[:16])
    args = ({"a": XS[:16].T}, {"a": 0.0}, {"w": weights.T, "b": 3.0}, np.zeros(16, int))
    got = igjax.sharded(attribute, mesh_of(batch=8), axes)(*args, "double", None)
    close(got.values["a"], 6 * weights * XS[:16] ** 2)


def test_both_axes_of_a_mesh_or_one():
    attribute = igjax.integrated_gradients(curved, rule=RULE)
    want = jax.vmap(attribute, (0, None, None))(XS, 0.0, W)
    mesh = mesh_of(rows=4, columns=2)
    for name, share in ((None, 3), ("rows", 6), (("columns", "rows"), 3)):
        explain = igjax.sharded(attribute, mesh, (0, None, None), axis_name=name)
        got = explain(XS, 0.0, W)
        close(got, want)
        assert got.values.addressable_shards[0].data.shape == (share, 3)


def test_inputs_may_lie_anywhere():
    attribute = igjax.integrated_gradients(curved, rule=RULE)
    mesh = mesh_of(batch=8)
    explain = igjax.sharded(attribute, mesh, (0, None, None))
    want = jax.vmap(attribute, (0, None, None))(XS, 0.0, W)
    spread = NamedSharding(mesh, PartitionSpec("batch"))
    for place in (jax.devices()[5], spread):
        xs = jax.device_put(XS, place)
        close(explain(xs, 0.0, W), want)
    close(jax.jit(explain)(xs, 0.0, W), want)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_mesh_that_is_in_use(kind):
    attribute = igjax.integrated_gradients(curved, rule=RULE)
    want = jax.vmap(attribute, (0, None, None))(XS[:13], 0.0, W)
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(kind,))
    explain = igjax.sharded(attribute, mesh, (0, None, None))
    with jax.set_mesh(mesh):
        for run in (explain, jax.jit(explain)):
            close(run(XS[:13], 0.0, W), want)


def test_it_compiles_once_and_is_never_stale():
    scale, traced = {"by": 2.0}, []

    def f(x):
        traced.append(1)
        return scale["by"] * jnp.sum(x)

    attribute = igjax.integrated_gradients(f, rule=igjax.rules.midpoint(1))
    explain = igjax.sharded(attribute, mesh_of(batch=8), (0, None))
    for _ in range(3):
        close(explain(XS, 0.0).values, 2 * XS)
    once = len(traced)
    close(explain(2 * XS, 0.0).values, 4 * XS)
    assert len(traced) == once
    scale["by"] = 5.0
    close(explain(XS, 0.0).values, 5 * XS)


def test_a_program_of_a_tracer_is_not_kept():
    mesh = mesh_of(batch=8)
    with jax.checking_leaks():

        @jax.jit
        def run(w):
            attribute = igjax.integrated_gradients(lambda x: jnp.vdot(w, x), rule=RULE)
            return igjax.sharded(attribute, mesh, (0, None))(XS, 0.0).values

        close(run(W), W[None] * XS)


# Nodes.


@pytest.mark.parametrize("n", [1, 8, 100])
def test_a_rule_split_over_devices_is_the_rule(n):
    rule = igjax.rules.gauss_legendre(n)
    whole = igjax.integrated_gradients(curved, rule=rule)
    split = igjax.integrated_gradients(curved, rule=igjax.rules.split(rule, "nodes"))
    got = igjax.sharded(split, mesh_of(nodes=8), None)(XS[0], 0.0, W)
    close(got, whole(XS[0], 0.0, W))
    assert got.evaluations == n
    assert len(devices_of(got.values)) == 8


def test_errors_of_devices_are_added_before_the_root():
    # One kink: each device sees its side, and the rows of the estimate have both signs.
    f = lambda x: jnp.abs(x.sum() - 0.4)
    rule = igjax.rules.midpoint(64)
    x = np.array([0.3, 0.7])
    want = igjax.integrated_gradients(f, rule=rule)(x, 0.0)
    split = igjax.integrated_gradients(f, rule=igjax.rules.split(rule, "nodes"))
    got = igjax.sharded(split, mesh_of(nodes=8), None)(x, 0.0)
    assert (np.asarray(want.error) > 1e-3).all()
    close(got, want)


def test_each_device_evaluates_its_own_nodes_only():
    seen = []

    @jax.custom_vjp
    def watched(x):
        return x.sum()

    def backward(x, g):
        jax.debug.callback(lambda t: seen.append(float(t)), x[0])
        return (jnp.full(3, g),)

    watched.defvjp(lambda x: (x.sum(), x), backward)
    rule = igjax.rules.gauss_legendre(40)
    split = igjax.rules.split(rule, "nodes")
    attribute = igjax.integrated_gradients(watched, rule=split)
    jax.block_until_ready(igjax.sharded(attribute, mesh_of(nodes=8), None)(W, 0.0))
    jax.effects_barrier()
    np.testing.assert_allclose(sorted(seen), rule.nodes, rtol=1e-12)


@pytest.mark.parametrize("method", [igjax.integrated_gradients, igjax.integrated_jacobian])
def test_examples_over_one_axis_and_nodes_over_another(method):
    f = lambda x, w: (
        jnp.tanh(w * x) if method is igjax.integrated_jacobian else curved(x, w)
    )
    want = jax.vmap(method(f, rule=RULE), (0, None, None))(XS, 0.0, W)
    attribute = method(f, rule=igjax.rules.split(RULE, "nodes"))
    mesh = mesh_of(batch=4, nodes=2)
    got = igjax.sharded(attribute, mesh, (0, None, None), axis_name="batch")(XS, 0.0, W)
    close(got, want)


def test_an_affine_prefix_is_pulled_back_after_the_sum():
    kernel = np.random.default_rng(2).normal(size=(200, 40)) / 14
    f = lambda x: jnp.sum(jnp.tanh(x @ kernel))
    x = np.random.default_rng(3).normal(size=200)
    rule = igjax.rules.gauss_legendre(64)
    split = igjax.integrated_gradients(f, rule=igjax.rules.split(rule, "nodes"))
    got = igjax.sharded(split, mesh_of(nodes=8), None)(x, 0.0)
    close(got, igjax.integrated_gradients(f, rule=rule)(x, 0.0))


@pytest.mark.parametrize("kind", ["nodes", "batch"])
def test_gradients_go_through(kind):
    whole = igjax.integrated_gradients(curved, rule=RULE)
    if kind == "nodes":
        xs = XS[0]
        split = igjax.integrated_gradients(curved, rule=igjax.rules.split(RULE, kind))
        explain = igjax.sharded(split, mesh_of(nodes=8), None)
    else:
        xs, axes = XS[:13], (0, None, None)
        explain = igjax.sharded(whole, mesh_of(batch=8), axes)
        whole = jax.vmap(whole, axes)

    @jax.jit
    def slopes(x, w):
        loss = lambda explain, x, w: jnp.sum(jnp.sin(explain(x, 0.0, w).values) ** 2)
        return [jax.grad(partial(loss, e), argnums=(0, 1))(x, w) for e in (explain, whole)]

    close(*slopes(xs, W))


def test_a_split_rule_in_a_shard_map_of_ones_own():
    split = igjax.integrated_gradients(curved, rule=igjax.rules.split(RULE, "nodes"))
    mesh = jax.make_mesh((8,), ("nodes",), axis_types=(AxisType.Auto,))
    everywhere = PartitionSpec()
    run = jax.shard_map(
        split, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False
    )
    want = igjax.integrated_gradients(curved, rule=RULE)(XS[0], jnp.zeros(3), W)
    close(jax.jit(run)(XS[0], jnp.zeros(3), W), want)
