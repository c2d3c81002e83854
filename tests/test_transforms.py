"""An attribution is a pure function: jit, vmap, grad and friends, pytrees, dtypes.

Expected values are closed forms. Rules are exact for the polynomials used here, or have
enough nodes that rounding is all that is left.
"""

import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax
from tests.registry import x64

RULE = igjax.rules.gauss_legendre(20)
explain = igjax.integrated_gradients


def quadratic(x, w):
    """Its attributions from baseline b are w * (x**2 - b**2) / 2."""
    return jnp.sum(w * x**2) / 2


def curved(x, w):
    """No closed form is needed where transformations are compared with a loop."""
    return jnp.tanh(jnp.vdot(w, x)) + jnp.sum(jnp.sin(x) * jnp.roll(x, 1))


def close(got, want, rtol=1e-10):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
    jax.tree.map(same, got, want)


# NumPy, since JAX is not in float64 yet when this module is imported.
X = np.array([0.5, -1.0, 2.0])
B = np.array([0.1, 0.2, -0.3])
W = np.array([1.0, 2.0, -0.5])
XS, BS, WS = (np.stack([a, 2 * a, a - 1, a * a]) for a in (X, B, W))


# jit, vmap, map, shard_map.


@pytest.mark.parametrize("method", [igjax.integrated_gradients, igjax.integrated_jacobian])
def test_jit_is_eager(method):
    attribute = method(curved, rule=RULE)
    close(jax.jit(attribute)(X, B, W), attribute(X, B, W), rtol=1e-14)


def test_the_rule_may_be_an_argument_of_jit():
    run = jax.jit(lambda rule, x: explain(quadratic, rule=rule)(x, B, W).values)
    want = W * (X**2 - B**2) / 2
    for rule in (igjax.rules.gauss_legendre(3), igjax.rules.gauss_legendre(7)):
        close(run(rule, X), want)


@pytest.mark.parametrize(
    ("axes", "args"),
    [
        ((0, 0, 0), (XS, BS, WS)),
        ((0, None, None), (XS, B, W)),
        ((None, 0, None), (X, BS, W)),
        ((None, None, 0), (X, B, WS)),
        ((1, 1, 1), (XS.T, BS.T, WS.T)),
        ((0, 1, None), (XS, BS.T, W)),
        ((-1, None, 0), (XS.T, 0.0, WS)),
        ((0, 0, None), (XS, np.arange(4.0), W)),
    ],
    ids=str,
)
def test_vmap_is_a_loop(axes, args):
    attribute = explain(curved, rule=igjax.rules.gauss_legendre(4))
    got = jax.vmap(attribute, axes)(*args)
    take = lambda a, axis, i: a if axis is None else jnp.take(a, i, axis)
    pairs = list(zip(args, axes, strict=True))
    rows = [attribute(*(take(a, axis, i) for a, axis in pairs)) for i in range(4)]
    close(got, jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows), rtol=1e-12)


def test_vmap_takes_axes_of_dictionaries():
    f = lambda x, p: quadratic(x["a"], p["w"]) * x["b"]
    attribute = explain(f, rule=igjax.rules.gauss_legendre(3))
    x = {"a": XS, "b": jnp.float64(2)}
    axes = ({"a": 0, "b": None}, {"a": None, "b": None}, {"w": 0})
    got = jax.vmap(attribute, axes)(x, {"a": 0.0, "b": 0.0}, {"w": WS}).values
    # The product of a quadratic and a linear function gives thirds: 2/3 and 1/3.
    close(got["a"], 2 * WS * XS**2 / 2 * 2 / 3)
    close(got["b"], 2 * (WS * XS**2).sum(1) / 2 / 3)


def test_vmap_over_labels():
    table = jnp.arange(12.0).reshape(4, 3)
    attribute = explain(lambda x, label: (table @ x)[label], rule=RULE)
    labels = jnp.array([3, 0, 1, 1])
    close(
        jax.vmap(attribute, (None, None, 0))(X, 0.0, labels).values, table[labels] * X[None]
    )


def test_nested_vmap_is_a_double_loop():
    attribute = explain(quadratic, rule=RULE)
    pairs = jax.vmap(jax.vmap(attribute, (None, 0, None)), (0, None, None))
    got = jax.jit(pairs)(XS, BS, W).values
    close(got, expected_pairs())


def expected_pairs():
    return jnp.stack([jnp.stack([W * (x**2 - b**2) / 2 for b in BS]) for x in XS])


def test_vmap_of_jit_of_vmap():
    attribute = explain(quadratic, rule=RULE)
    inner = jax.jit(jax.vmap(attribute, (None, 0, None)))
    close(jax.vmap(inner, (0, None, None))(XS, BS, W).values, expected_pairs())


def test_map_and_scan_are_loops():
    attribute = explain(quadratic, rule=RULE)
    want = jnp.stack([W * x**2 / 2 for x in XS])
    close(jax.lax.map(lambda x: attribute(x, 0.0, W).values, XS, batch_size=3), want)
    step = lambda total, x: (total + attribute(x, 0.0, W).values, None)
    close(jax.lax.scan(step, jnp.zeros(3), XS)[0], want.sum(0))


def test_vmap_with_a_named_axis():
    f = lambda x: jnp.sum(x * jax.lax.psum(jax.lax.stop_gradient(x), "batch"))
    attribute = explain(f, rule=igjax.rules.gauss_legendre(4))
    got = jax.vmap(attribute, (0, None), axis_name="batch")(XS, 0.0).values
    # At t the sum of the batch is t times what it is at 1: half of it on average.
    close(got, XS * XS.sum(0)[None] / 2)


def test_shard_map_is_a_loop():
    script = """
import jax, jax.numpy as jnp, igjax
from jax.sharding import PartitionSpec as P
mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
held = jnp.ones(3)  # f and the path may hold arrays of their own
attribute = igjax.integrated_gradients(
    lambda x, w: (held * w * x**2).sum(), rule=igjax.rules.gauss_legendre(3),
    path=lambda x, b, t: b + t * held * (x - b))
w = jnp.array([1.0, 2.0, 3.0])
x = jnp.arange(24.0).reshape(8, 3)
batched = jax.vmap(attribute, (0, None, None))
sharded = jax.shard_map(
    lambda x, w: batched(x, 0.0, w), mesh=mesh, in_specs=(P("batch"), P()),
    out_specs=P("batch"))
for run in (sharded, jax.jit(sharded)):
    got = run(x, w)
    assert jnp.allclose(got.values, w * x**2, rtol=1e-5), got.values
    assert got.status.shape == (8,)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
            "JAX_PLATFORMS": "cpu",
            "PATH": "",
        },
    )
    assert done.returncode == 0, done.stderr[-800:]


def test_an_attribution_is_built_inside_jit():
    @jax.jit
    def run(x, w):
        return explain(lambda x: quadratic(x, w), rule=RULE)(x, B).values

    close(run(X, W), W * (X**2 - B**2) / 2)
    close(run(2 * X, -W), -W * (4 * X**2 - B**2) / 2)


def test_attribution_of_an_attribution():
    inner = explain(quadratic, rule=igjax.rules.gauss_legendre(3))
    first = lambda x: inner(x, 0.0, W).values[0]  # w[0] * x[0]**2 / 2
    outer = explain(first, rule=igjax.rules.gauss_legendre(3))
    want = jnp.array([W[0] * X[0] ** 2 / 2, 0, 0])
    close(outer(X, 0.0).values, want)
    close(jax.jit(outer)(X, 0.0).values, want)


# Derivatives.


def directional(f, x, direction, h=1e-5):
    """Central difference, error h**2 times a third derivative of order one."""
    step = lambda s: jax.tree.map(lambda a, d: a + s * h * d, x, direction)
    return (f(step(1)) - f(step(-1))) / (2 * h)


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_gradients_of_an_attribution_are_finite_differences(chunk_size):
    rule = igjax.rules.gauss_legendre(8)
    attribute = explain(curved, rule=rule, chunk_size=chunk_size)

    @jax.jit
    def loss(args):  # x, the baseline and the parameters
        return jnp.sum(jnp.array([1.0, -2.0, 0.5]) * attribute(*args).values ** 2)

    args, slopes = (X, B, W), jax.grad(loss)((X, B, W))
    forward = jax.jit(lambda direction: jax.jvp(loss, (args,), (direction,))[1])
    for k in range(3):
        direction = [np.zeros(3)] * k + [np.array([0.3, -0.7, 1.1])]
        direction = tuple(direction + [np.zeros(3)] * (2 - k))
        want = directional(loss, args, direction)
        got = sum(map(jnp.vdot, slopes, direction))
        np.testing.assert_allclose(got, want, rtol=1e-7)
        np.testing.assert_allclose(forward(direction), got, rtol=1e-10)


def test_gradients_of_error_and_gap_exist():
    attribute = explain(curved, rule=igjax.rules.gauss_legendre(3))

    @jax.jit
    def fields(x):
        result = attribute(x, B, W)
        return jnp.stack([result.delta, result.score, result.baseline_score])

    want = directional(fields, X, W)
    got = jax.jit(jax.jacrev(fields))(X) @ W
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)


def test_hessian_of_an_attribution_is_exact():
    attribute = explain(quadratic, rule=RULE)
    loss = lambda x: attribute(x, B, W).values.sum()  # sum of w * (x**2 - b**2) / 2
    close(jax.jit(jax.hessian(loss))(X), jnp.diag(W))


def test_batched_attribution_prior_is_the_mean_of_its_examples():
    attribute = explain(curved, rule=RULE)
    prior = lambda w, x: jnp.abs(attribute(x, 0.0, w).values).sum()
    batch = lambda w: jax.vmap(prior, (None, 0))(w, XS).mean()
    slope = jax.jit(jax.grad(prior))
    want = sum(slope(W, x) for x in XS) / len(XS)
    close(jax.jit(jax.grad(batch))(W), want)


# Pytrees.


class Point(NamedTuple):
    left: np.ndarray
    right: tuple


PYTREES = {
    "array": X,
    "dictionary": {"b": X, "a": 2 * X},
    "nested": {"a": [X, (X, {"c": X})]},
    "tuple": (X, X[:1]),
    "named_tuple": Point(X, (X, np.float64(3))),
    "none_inside": {"a": X, "b": None, "c": (None, X)},
    "python_float": 3.0,
    "python_floats": [1.0, {"a": -2.0}],
    "python_complex": 2.0 + 1.0j,
    "numpy_scalar": np.float64(3),
    "scalar_array": np.float32(3),
    "zero_size": {"a": np.zeros((0, 3)), "b": X},
    "shapes": {"a": X, "b": np.ones((2, 3, 4)), "c": np.ones((1, 1))},
}


@pytest.mark.parametrize("name", PYTREES)
def test_pytrees_of_all_kinds(name):
    x = PYTREES[name]
    norm = lambda x: sum(jnp.sum(jnp.abs(a) ** 2) for a in jax.tree.leaves(x))
    f = lambda x: norm(x) / 2
    # |z|**2 / 2 gives |z|**2 / 2 to each entry, real or complex.
    want = jax.tree.map(lambda a: jnp.abs(jnp.asarray(a)) ** 2 / 2, x)
    zero = jax.tree.map(lambda a: 0.0, x)
    attribute = explain(f, rule=igjax.rules.gauss_legendre(3))
    result = attribute(x, zero)
    close(result.values, want, rtol=1e-6)
    assert jax.tree.structure(result.error) == jax.tree.structure(x)
    np.testing.assert_allclose(result.score, norm(x) / 2, rtol=1e-6)


@pytest.mark.parametrize("rule", [RULE, igjax.rules.adaptive()], ids=["fixed", "adaptive"])
def test_an_x_of_zero_size_has_no_values(rule):
    f = lambda x: jnp.sum(x) + 3.0
    result = explain(f, rule=rule)(jnp.zeros((0,)), 0.0)
    assert result.values.shape == (0,)
    assert result.score == 3
    assert result.delta == 0


def test_inputs_of_several_shapes_feed_one_model():
    def f(x, w):
        image = jnp.tanh(x["image"]).mean()
        return image * jnp.vdot(x["table"], w) + x["bias"]

    x = {"image": jnp.ones((4, 4)), "table": X, "bias": jnp.float64(2)}
    zero = jax.tree.map(lambda a: 0.0, x)
    result = explain(f, rule=RULE)(x, zero, W)
    np.testing.assert_allclose(result.values["bias"], 2, rtol=1e-12)
    np.testing.assert_allclose(result.delta, 0, atol=1e-12)
    # The part of the table is w * x times the mean of tanh over [0, 1], log(cosh(1)).
    close(result.values["table"], W * X * np.log(np.cosh(1)))


def test_numbers_are_accepted_for_every_leaf_of_the_baseline():
    x = {"a": X, "b": jnp.ones((2, 2))}
    f = lambda x: quadratic(x["a"], W) + jnp.sum(x["b"])
    for baseline in ({"a": 1, "b": 1.0}, {"a": np.int32(1), "b": jnp.ones((2, 2))}):
        values = explain(f, rule=RULE)(x, baseline).values
        close(values["a"], W * (X**2 - 1) / 2)
        close(values["b"], jnp.zeros((2, 2)))


# Dtypes.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_values_are_as_good_as_the_dtype(dtype):
    x = jnp.asarray([0.5, -1.5, 2.0], dtype)
    f = lambda x: jnp.sum(x**2) / 2
    result = explain(f, rule=igjax.rules.gauss_legendre(3))(x, 0.0)
    want = np.array([0.125, 1.125, 2.0])
    wide = jnp.promote_types(dtype, "float32")
    fields = (result.values, result.error, result.delta, result.score)
    assert [a.dtype for a in fields] == [wide] * 4
    # Each of three gradients is rounded to the dtype; they are summed in a wider one.
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(result.values, want, rtol=2 * eps)


def test_narrow_inputs_are_summed_in_a_wider_dtype():
    x = jnp.ones(2, "bfloat16")
    result = explain(lambda x: x.sum(), rule=igjax.rules.gauss_legendre(64))(x, 0.0)
    # A running sum of 64 weights in bfloat16 would be off by about 1e-2.
    np.testing.assert_allclose(result.values, [1, 1], rtol=1e-6)


def test_dtypes_may_be_mixed_in_one_pytree():
    x = {name: jnp.ones(2, name) for name in ("float16", "bfloat16", "float32", "float64")}
    f = lambda x: sum(jnp.sum(a.astype("float64")) for a in x.values())
    values = explain(f, rule=RULE)(x, dict.fromkeys(x, 0.0)).values
    for name, leaf in values.items():
        wide = jnp.promote_types(name, "float32")
        assert jnp.promote_types(leaf.dtype, wide) == leaf.dtype  # at least as wide
        np.testing.assert_allclose(leaf, [1, 1], rtol=2 * float(jnp.finfo(wide).eps))


def test_a_wide_baseline_takes_the_dtype_of_x():
    x = jnp.ones(2, "float32")
    result = explain(lambda x: jnp.sum(x**2), rule=RULE)(x, np.full(2, 0.5))
    assert result.values.dtype == "float32"
    np.testing.assert_allclose(result.values, [0.75, 0.75], rtol=1e-6)


def test_f_may_return_another_dtype():
    x = jnp.array([1.0, 3.0], "float32")
    for dtype in ("float16", "bfloat16", "float64"):
        result = explain(lambda x, d=dtype: jnp.sum(2 * x).astype(d), rule=RULE)(x, 0.0)
        np.testing.assert_allclose(result.values, [2, 6], rtol=1e-2)
        assert result.score.dtype == jnp.promote_types(dtype, "float32")


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_inputs_have_real_values(dtype):
    z = jnp.asarray([1 + 2j, -0.5 + 1j, 3.0], dtype)
    attribute = lambda f: explain(f, rule=igjax.rules.gauss_legendre(4))(z, 0.0)
    rtol = 10 * float(jnp.finfo(dtype).eps)
    square = attribute(lambda z: jnp.sum(z.real**2 + z.imag**2))
    assert square.values.dtype == jnp.finfo(dtype).dtype
    np.testing.assert_allclose(square.values, np.abs(z) ** 2, rtol=rtol)
    holomorphic = attribute(lambda z: jnp.sum(z**3).real)
    np.testing.assert_allclose(holomorphic.values, (z**3).real, rtol=4 * rtol)
    np.testing.assert_allclose(holomorphic.delta, 0, atol=100 * rtol)


def test_complex_and_real_leaves_share_a_function():
    x = {"z": jnp.array([1 + 2j]), "r": jnp.array([3.0])}
    f = lambda x: jnp.sum(jnp.abs(x["z"]) ** 2 * x["r"])
    got = explain(f, rule=igjax.rules.gauss_legendre(3))(x, {"z": 0.0, "r": 0.0}).values
    # |z|**2 * r is of degree 2 in z and 1 in r: thirds of 15.
    close(got, {"z": jnp.array([10.0]), "r": jnp.array([5.0])})


def test_x64_may_be_switched_within_one_process():
    f = lambda x: jnp.sum(jnp.exp(x))
    attribute = explain(f, rule=RULE)
    x = np.array([0.5, 1.0])
    want = np.expm1(x)
    for enabled in (True, False, True, False):
        with x64(enabled):
            result = attribute(x, 0.0)
            assert result.values.dtype == ("float64" if enabled else "float32")
            np.testing.assert_allclose(result.values, want, 1e-14 if enabled else 1e-6)


def test_weak_and_strong_types_agree():
    attribute = explain(lambda x: x**2 * jnp.float64(3), rule=RULE)
    inputs = (2.0, np.float64(2), jnp.float64(2), np.array(2.0), jnp.asarray(2.0))
    for x in inputs:
        np.testing.assert_allclose(attribute(x, 0.0).values, 12, rtol=1e-6)


# Options.


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 4, 6, 8, None])
def test_any_chunk_size_gives_the_same_values(chunk_size):
    rule = igjax.rules.gauss_legendre(5)
    got = explain(curved, rule=rule, chunk_size=chunk_size)(X, B, W)
    want = explain(curved, rule=rule, chunk_size=5)(X, B, W)
    close(got.values, want.values, rtol=1e-14)
    close(got.error, want.error, rtol=1e-12)
    assert got.evaluations == want.evaluations == 5


@pytest.mark.parametrize("chunk_size", [1, 3, 7])
def test_padding_evaluates_no_point_off_the_path(chunk_size):
    rule = igjax.rules.Rule.of([0.25, 0.75], [0.5, 0.5], degree=1)
    allowed = lambda t: jnp.isclose(t, 0.25) | jnp.isclose(t, 0.75) | (t == 0) | (t == 1)
    f = lambda x: jnp.where(allowed(x[0]), x[0], jnp.nan)
    result = explain(f, rule=rule, chunk_size=chunk_size)(jnp.ones(1), 0.0)
    np.testing.assert_allclose(result.values, [1], rtol=1e-12)


# What f may be made of.


def by_checkpoint(x):
    return jax.checkpoint(lambda x: jnp.sum(x**2) / 2)(x)


def by_scan(x):
    return jax.lax.scan(lambda s, a: (s + a**2 / 2, None), jnp.zeros(()), x)[0]


def by_cond(x):
    return jax.lax.cond(
        x.sum() > -100, lambda x: jnp.sum(x**2) / 2, lambda x: x.sum() * jnp.nan, x
    )


def by_switch(x):
    branches = [lambda x: x.sum(), lambda x: jnp.sum(x**2) / 2]
    return jax.lax.switch(jnp.int32(1), branches, x)


def by_fori_loop(x):
    return jax.lax.fori_loop(0, 3, lambda i, s: s + x[i] ** 2 / 2, jnp.zeros(()))


def by_custom_vjp(x):
    @jax.custom_vjp
    def half_square(x):
        return jnp.sum(x**2) / 2

    half_square.defvjp(lambda x: (half_square(x), x), lambda x, g: (g * x,))
    return half_square(x)


@jax.custom_jvp
def half_square(x):
    return jnp.sum(x**2) / 2


@half_square.defjvp
def half_square_jvp(primals, tangents):
    return half_square(*primals), jnp.vdot(primals[0], tangents[0])


def by_custom_jvp(x):
    return half_square(x)


def by_jit(x):
    return jax.jit(lambda x: jnp.sum(x**2) / 2)(x)


def by_vmap(x):
    return jax.vmap(lambda a: a**2 / 2)(x).sum()


def by_grad(x):
    return jnp.vdot(jax.grad(lambda x: jnp.sum(x**3) / 6)(x), jnp.ones(3))


def by_loop(x):
    return sum(a**2 for a in x) / 2


def by_einsum(x):
    return jnp.einsum("i,i", x, x) / 2


MADE_OF = (by_checkpoint, by_scan, by_cond, by_switch, by_fori_loop, by_custom_vjp)
MADE_OF += (by_custom_jvp, by_jit, by_vmap, by_grad, by_loop, by_einsum)


@pytest.mark.parametrize("f", MADE_OF, ids=lambda f: f.__name__)
def test_what_f_may_be_made_of(f):
    attribute = explain(f, rule=igjax.rules.gauss_legendre(3))
    close(jax.vmap(attribute, (0, None))(XS, 0.0).values, XS**2 / 2)


def test_a_while_loop_raises_the_error_of_jax():
    f = lambda x: jax.lax.while_loop(lambda s: s < 3, lambda s: s + x.sum(), x.sum())
    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        explain(f, rule=RULE)(X, 0.0)


def test_a_custom_gradient_is_used():
    @jax.custom_vjp
    def f(x):
        return x.sum()

    f.defvjp(lambda x: (f(x), x.shape), lambda shape, g: (jnp.full(shape, 7.0) * g,))
    close(explain(f, rule=RULE)(X, 0.0).values, 7 * X)


def test_a_stopped_gradient_gets_nothing():
    f = lambda x: jnp.sum(x[:2]) + jax.lax.stop_gradient(x[2])
    result = explain(f, rule=RULE)(X, 0.0)
    close(result.values, jnp.array([0.5, -1.0, 0.0]))
    np.testing.assert_allclose(result.delta, -2, rtol=1e-12)


def test_arguments_of_all_kinds_pass_through():
    def f(x, label, flag, mode, nothing, g, key, mask, tree):
        assert flag is True
        assert mode == "double"
        assert nothing is None
        assert tree["name"] == "a"
        noise = jax.random.normal(key, x.shape)
        picked = jnp.take(tree["w"], label)
        return jnp.sum(jnp.where(mask, g(x), 0)) * picked + 0 * noise.sum()

    mask = np.array([True, False, True])
    tree = {"w": np.array([2, 3]), "name": "a"}
    args = (1, True, "double", None, jnp.negative, jax.random.key(0), mask, tree)
    attribute = explain(f, rule=RULE)
    for _ in range(2):
        close(attribute(X, 0.0, *args).values, -3 * X * jnp.array([1, 0, 1]))


def test_one_key_is_one_noise_for_the_whole_path():
    f = lambda x, key: jnp.vdot(jax.random.normal(key, x.shape), x)
    attribute = explain(f, rule=igjax.rules.gauss_legendre(3))
    keys = jax.random.split(jax.random.key(0), 4)
    got = jax.vmap(attribute, (None, None, 0))(X, 0.0, keys).values
    close(got, jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys) * X[None])
    old = jax.random.PRNGKey(5)
    close(attribute(X, 0.0, old).values, jax.random.normal(old, (3,)) * X)


def test_the_jacobian_holds_the_gradients_of_all_outputs():
    table = jnp.arange(12.0).reshape(4, 3)
    f = lambda x: (table @ x**2).reshape(2, 2)
    result = igjax.integrated_jacobian(f, rule=RULE)(X, B)
    want = (table * (X**2 - B**2)[None]).reshape(2, 2, 3)
    close(result.values, want)
    assert result.error.shape == (2, 2, 3)
    for field in ("delta", "score", "baseline_score", "status"):
        assert getattr(result, field).shape == (2, 2)


def test_the_jacobian_of_a_scalar_is_the_gradient():
    one = igjax.integrated_jacobian(curved, rule=RULE)(X, B, W)
    close(one, explain(curved, rule=RULE)(X, B, W))


def test_the_jacobian_takes_pytrees():
    f = lambda x: jnp.stack([x["a"].sum(), x["b"].sum(), x["a"].sum() * 2])
    x = {"a": jnp.ones((2, 2)), "b": X}
    values = igjax.integrated_jacobian(f, rule=RULE)(x, {"a": 0.0, "b": 0.0}).values
    ones = jnp.ones((2, 2))
    close(values["a"], jnp.stack([ones, 0 * ones, 2 * ones]))
    close(values["b"], jnp.stack([0 * X, X, 0 * X]))
