"""Arrays spread over meshes, without a word to igjax: plain calls, `jit`, `vmap`.

Run by `test_meshes` in a process that has four devices. Expected values are those of one
device. Axes of meshes are Explicit, JAX's default, or Auto; the mesh is in use or not.
And in the compiled programs no device gathers what is spread.
"""

import contextlib
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import igjax

FIXED = igjax.rules.gauss_legendre(4)
ADAPTIVE = igjax.rules.adaptive(1e-3, max_evaluations=300)
EXPLICIT, AUTO = AxisType.Explicit, AxisType.Auto
DRAW = np.random.default_rng(0)
XS, B = DRAW.normal(size=(16, 4)), DRAW.normal(size=4)
W = DRAW.normal(size=(4, 8)), DRAW.normal(size=8)
JAX = tuple(map(int, jax.__version__.split(".")[:2]))

each_rule = pytest.mark.parametrize("rule", [FIXED, ADAPTIVE], ids=["fixed", "adaptive"])
each_kind = pytest.mark.parametrize("kind", [EXPLICIT, AUTO], ids=["explicit", "auto"])
each_use = pytest.mark.parametrize("used", [False, True], ids=["", "in use"])


def score(x, w):
    hidden = checkpoint_name(jnp.tanh(x @ w[0]), "hidden")
    return jnp.dot(hidden, w[1])


def row_parallel(x, w):
    """The same of weights that are spread over units: types ask where the sum is to be."""
    return jnp.dot(jnp.tanh(x @ w[0]), w[1], out_sharding=P())


def outputs(x, w):
    return jnp.tanh(x @ w[0]) * w[1]


def features(x, w):
    return jnp.sum(jnp.tanh(x * w) * jnp.sin(w))


def mesh_of(kind, **axes):
    types = (kind,) * len(axes)
    return jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=types)


def using(mesh, used: bool):
    if not used:
        return contextlib.nullcontext()
    in_use = getattr(jax, "set_mesh", None) or vars(jax.sharding)["use_mesh"]
    return in_use(mesh)


def put(a, mesh, *spec):
    return jax.device_put(a, NamedSharding(mesh, P(*spec)))


def close(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    jax.tree.map(same, got, want)


def gathered(function, *args) -> set:
    """The collectives of a compiled program that bring together what is spread."""
    text = str(jax.jit(function).lower(*args).compile().as_text())
    return set(
        re.findall(r" (all-gather|all-to-all|collective-permute)(?:-start)?\(", text)
    )


def spread_evenly(array) -> bool:
    shards = array.addressable_shards
    return len({s.device for s in shards}) * shards[0].data.size == array.size


@functools.cache
def wanted(method, f, rule):
    """What one device says of the batch."""
    return jax.vmap(method(f, rule=rule), (0, None, None))(XS, 0.0, W)


# Batches.


@each_use
@each_kind
@each_rule
def test_a_batch_that_is_spread(rule, kind, used):
    mesh = mesh_of(kind, data=4)
    want = wanted(igjax.integrated_gradients, score, rule)
    attribute = igjax.integrated_gradients(score, rule=rule)
    with using(mesh, used):
        xs, ends = put(XS, mesh, "data"), put(0 * XS, mesh, "data")
        weights = jax.tree.map(lambda a: put(a, mesh), W)
        explain = jax.vmap(attribute, (0, None, None))
        close(explain(xs, 0.0, W), want)
        result = jax.jit(explain)(xs, 0.0, weights)
        close(result, want)
        close(jax.jit(jax.vmap(attribute, (0, 0, None)))(xs, ends, weights), want)
        close(attribute(put(XS[3], mesh), 0.0, weights), want.example(3))
        # The loop of the adaptive rule is shared where types say so; of Auto axes it is
        # JAX's compiler that decides, and `igjax.sharded` that shares.
        if rule is FIXED or kind is EXPLICIT:
            assert spread_evenly(result.values)
            assert not gathered(explain, xs, 0.0, weights)


@each_rule
def test_devices_spend_what_their_own_examples_need(rule):
    f = lambda x, k: jax.nn.sigmoid(k * (x.sum() - 0.3))
    steep, mesh = np.geomspace(0.1, 1e3, 16), mesh_of(EXPLICIT, data=4)
    explain = jax.vmap(igjax.integrated_gradients(f, rule=rule), (0, None, 0))
    got = jax.jit(explain)(put(XS, mesh, "data"), 0.0, put(steep, mesh, "data"))
    close(got, explain(XS, 0.0, steep))
    spent = len(np.unique(got.evaluations))
    assert spent == 1 if rule is FIXED else spent >= 3
    guided = jax.vmap(igjax.guided_integrated_gradients(f, steps=20), (0, None, 0))
    if rule is FIXED:
        got = jax.jit(guided)(put(XS, mesh, "data"), 0.0, put(steep, mesh, "data"))
        close(got, guided(XS, 0.0, steep))


@each_use
@each_rule
def test_jacobians_of_a_batch(rule, used):
    mesh = mesh_of(EXPLICIT, data=4)
    explain = jax.vmap(igjax.integrated_jacobian(outputs, rule=rule), (0, None, None))
    with using(mesh, used):
        xs = put(XS, mesh, "data")
        close(
            jax.jit(explain)(xs, 0.0, W), wanted(igjax.integrated_jacobian, outputs, rule)
        )
        assert not gathered(explain, xs, 0.0, W)


@each_rule
@pytest.mark.parametrize(
    "method",
    [igjax.layer_conductance, igjax.layer_integrated_gradients],
    ids=["conductance", "straight"],
)
def test_layers_of_a_batch(method, rule):
    mesh = mesh_of(EXPLICIT, data=4)
    explain = jax.vmap(method(score, "hidden", rule=rule), (0, None, None))
    want = explain(XS, 0.0, W)
    for used in (False, True):
        with using(mesh, used):
            close(jax.jit(explain)(put(XS, mesh, "data"), 0.0, W), want)


def test_other_methods_of_a_batch():
    mesh, key = mesh_of(EXPLICIT, data=4), jax.random.key(0)
    xs, labels = put(XS, mesh, "data"), put(np.arange(16) % 8, mesh, "data")
    chosen = igjax.select(outputs)
    methods = {
        "labels": (igjax.integrated_gradients(chosen, rule=FIXED), (0, None, 0, None)),
        "x times gradient": (igjax.input_x_gradient(chosen), (0, None, 0, None)),
    }
    for attribute, axes in methods.values():
        explain = jax.vmap(attribute, axes)
        want = explain(XS, 0.0, np.arange(16) % 8, W)
        close(jax.jit(explain)(xs, 0.0, labels, W), want)
    rows = np.stack([0 * B, B])
    mean = igjax.expected_integrated_gradients(score, rule=FIXED)
    explain = jax.vmap(functools.partial(mean, key), (0, None, None))
    close(jax.jit(explain)(xs, rows, W), explain(XS, rows, W))
    groups = igjax.grouped(score, 2, rule=FIXED)
    explain = jax.vmap(groups, (0, None, None, None))
    at = np.array([0, 1, 1, 0])
    close(jax.jit(explain)(xs, 0.0, at, W), explain(XS, 0.0, at, W))


@each_use
@each_rule
def test_models_with_loops_that_start_at_numbers(rule, used):
    step = lambda h, t: (jnp.tanh(0.5 * h + t), None)
    f = lambda x, w: w[1].sum() * jax.lax.scan(step, jnp.ones(()), x)[0]
    explain = jax.vmap(igjax.integrated_gradients(f, rule=rule), (0, None, None))
    want, mesh = explain(XS, 0.0, W), mesh_of(EXPLICIT, data=4)
    with using(mesh, used):
        close(
            jax.jit(explain)(put(XS, mesh, "data"), 0.0, jax.tree.map(jnp.asarray, W)), want
        )


@each_use
def test_derivatives_of_attributions_of_a_batch(used):
    mesh = mesh_of(EXPLICIT, data=4)
    one = igjax.integrated_gradients(score, rule=FIXED)
    explain = jax.vmap(one, (0, None, None))
    loss = lambda w, xs: jnp.sum(explain(xs, 0.0, w).values ** 2)
    each = jax.vmap(jax.grad(lambda x: jnp.sum(one(x, 0.0, W).values ** 2)))
    wanted = jax.grad(loss)(W, XS), each(XS)
    with using(mesh, used):
        xs = put(XS, mesh, "data")
        close(jax.jit(each)(xs), wanted[1])
        if used:  # JAX knows the mesh of cotangents from what is in use alone
            close(jax.jit(jax.grad(loss))(W, xs), wanted[0])


# Weights: tensor parallel.


@each_use
@each_kind
@each_rule
def test_weights_that_are_spread(rule, kind, used):
    mesh = mesh_of(kind, data=2, model=2)
    f = row_parallel if kind is EXPLICIT else score
    want = wanted(igjax.integrated_gradients, score, rule)
    attribute = igjax.integrated_gradients(f, rule=rule)
    with using(mesh, used):
        weights = put(W[0], mesh, None, "model"), put(W[1], mesh, "model")
        xs = put(XS, mesh, "data")
        explain = jax.vmap(attribute, (0, None, None))
        close(attribute(put(XS[3], mesh), 0.0, weights), want.example(3))
        close(attribute(XS[3], 0.0, weights), want.example(3))
        closed = igjax.integrated_gradients(lambda x: f(x, weights), rule=rule)
        close(closed(XS[3], 0.0), want.example(3))
        close(jax.jit(explain)(xs, 0.0, weights), want)
        assert not gathered(attribute, put(XS[3], mesh), 0.0, weights)
        if rule is FIXED:
            assert not gathered(explain, xs, 0.0, weights)
        if rule is ADAPTIVE and kind is EXPLICIT:
            # jax.shard_map over some axes gathers what is on the others before JAX 0.12.
            assert JAX < (0, 12) or not gathered(explain, xs, 0.0, weights)
            with pytest.raises(ValueError, match=r"must not close over .* Pass them in"):
                jax.jit(jax.vmap(closed, (0, None)))(xs, 0.0)


@each_use
@each_rule
def test_jacobians_of_outputs_that_are_spread(rule, used):
    mesh = mesh_of(EXPLICIT, data=2, model=2)
    attribute = igjax.integrated_jacobian(outputs, rule=rule)
    want = wanted(igjax.integrated_jacobian, outputs, rule)
    with using(mesh, used):
        weights = put(W[0], mesh, None, "model"), put(W[1], mesh, "model")
        close(attribute(put(XS[3], mesh), 0.0, weights), want.example(3))
        explain = jax.vmap(attribute, (0, None, None))
        close(jax.jit(explain)(put(XS, mesh, "data"), 0.0, weights), want)


# Features: one example that is spread.


@each_use
@each_kind
@each_rule
def test_features_that_are_spread(rule, kind, used):
    mesh = mesh_of(kind, data=2, model=2)
    attribute = igjax.integrated_gradients(features, rule=rule)
    want = attribute(XS[0], B, W[0][:, 0])
    zero = attribute(XS[0], 0.0, W[0][:, 0])
    with using(mesh, used):
        x, w = put(XS[0], mesh, "model"), put(W[0][:, 0], mesh, "model")
        close(attribute(x, put(B, mesh, "model"), w), want)
        close(attribute(x, put(B, mesh), w), want)
        result = attribute(x, 0.0, w)
        close(result, zero)
        if rule is FIXED:  # the adaptive rule looks at all features of a panel together
            assert result.values.sharding.spec[0] == "model"
            assert not gathered(attribute, x, 0.0, w)


@pytest.mark.skipif(JAX < (0, 9), reason="JAX of that time maps no such select")
def test_labels_of_outputs_that_are_spread():
    mesh, labels = mesh_of(EXPLICIT, data=2, model=2), np.arange(16) - 8
    axes = (0, None, 0, None)
    explain = jax.vmap(igjax.integrated_gradients(igjax.select(outputs), rule=FIXED), axes)
    want = explain(XS, 0.0, labels, W)
    weights = put(W[0], mesh, None, "model"), put(W[1], mesh, "model")
    given = put(XS, mesh, "data"), 0.0, put(labels, mesh, "data"), weights
    close(jax.jit(explain)(*given), want)
    assert not gathered(explain, *given)


# Frameworks.


def test_parameters_of_linen_with_partitions():
    mesh = mesh_of(AUTO, data=2, model=2)
    spread = lambda *names: nn.with_partitioning(nn.initializers.normal(0.5), names)
    model = nn.Sequential(
        [
            nn.Dense(8, kernel_init=spread(None, "model"), param_dtype="float64"),
            nn.tanh,
            nn.Dense(1, kernel_init=spread("model", None), param_dtype="float64"),
        ]
    )
    boxed = model.init(jax.random.key(0), XS[0])
    specs = nn.get_partition_spec(boxed)
    shardings = jax.tree.map(lambda s: NamedSharding(mesh, s), specs)
    f = lambda x, params: model.apply(params, x)[0]
    plain = nn.unbox(boxed)
    params = jax.device_put(plain, nn.unbox(shardings))
    assert params["params"]["layers_0"]["kernel"].sharding.spec[1] == "model"
    for rule in (FIXED, ADAPTIVE):
        attribute = igjax.integrated_gradients(f, rule=rule)
        want = attribute(XS[0], 0.0, plain)
        close(attribute(XS[0], 0.0, params), want)
        assert not gathered(attribute, XS[0], 0.0, params)
        close(igjax.integrated_gradients(f, rule=rule)(XS[0], 0.0, boxed), want)


class Spread(nnx.Module):
    def __init__(self, rngs):
        spread = lambda *names: nnx.with_partitioning(nnx.initializers.normal(0.5), names)
        dtype = {"param_dtype": jnp.float64, "rngs": rngs}
        self.first = nnx.Linear(4, 8, kernel_init=spread(None, "model"), **dtype)
        self.last = nnx.Linear(8, 1, kernel_init=spread("model", None), **dtype)

    def __call__(self, x):
        return self.last(jnp.tanh(self.first(x)))[0]


def test_modules_of_nnx_with_partitions():
    mesh = mesh_of(AUTO, data=2, model=2)
    with using(mesh, True):
        model = Spread(nnx.Rngs(0))
        definition, state = nnx.split(model)
        plain = nnx.merge(definition, jax.tree.map(np.asarray, state))
        if JAX < (0, 8):  # Flax of that time does not place them by itself
            placed = jax.device_put(state, nnx.get_named_sharding(state, mesh))
            model = nnx.merge(definition, placed)
        assert "model" in str(model.first.kernel[...].sharding)
        for rule in (FIXED, ADAPTIVE):
            one = igjax.integrated_gradients(plain, rule=rule)
            want = jax.vmap(one, (0, None))(XS, 0.0)
            attribute = igjax.integrated_gradients(model, rule=rule)
            close(attribute(XS[1], 0.0), want.example(1))
            explain = jax.jit(jax.vmap(attribute, (0, None)))
            close(explain(put(XS, mesh, "data"), 0.0), want)
