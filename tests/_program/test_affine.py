"""A function is split where it stops being affine, where that pays, and nothing changes.

Attributions along `path`, the straight path under another name, are not hoisted: they
are what hoisted ones are compared with.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

import igjax
from igjax._program import jax_internals
from igjax._program.affine import GAIN, Sweep, affine_split
from igjax.models import CNN, MLP, SequenceLSTM, SequenceTransformer
from tests.registry import together

SWEEP = Sweep(evaluations=50, rows=6, pulled=6, block=10)
RULE = igjax.rules.gauss_legendre(20)


def split_of(f, x):
    """The split by cost alone, however small the model is."""
    split = affine_split(f, x, SWEEP, gain=0.0, worth=0.0)
    assert split is not None
    return split


def is_refused(f, x, **bars):
    return affine_split(f, x, SWEEP, **{"gain": 0.0, "worth": 0.0, **bars}) is None


def sizes(split):
    return sorted(math.prod(a.shape) for a in split.frontier)


def table(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def normal(*shape, dtype="float64", seed=0):
    return jnp.asarray(table(*shape, seed=seed), dtype)


def dense(x, units=3):
    """A product narrower than x, which is worth hoisting if all before it is affine."""
    return normal(units, x.size, dtype=x.dtype, seed=1) @ x.ravel()


def close(got, want, eps):
    scale = max(1.0, float(jnp.abs(want).max()))
    np.testing.assert_allclose(got, want, rtol=0, atol=eps * scale)


# What is affine.

C = np.linspace(0.5, 2, 24).reshape(4, 6)  # NumPy takes the dtype of x
FORWARD = {
    "add": lambda x: x + C.astype(x.dtype),
    "add itself": lambda x: x[:2] + x[2:],
    "subtract": lambda x: C.astype(x.dtype) - x,
    "negate": lambda x: -x,
    "multiply": lambda x: x * C.astype(x.dtype),
    "divide": lambda x: x / C.astype(x.dtype),
    "matrix on the left": lambda x: C.T.astype(x.dtype) @ x,
    "matrix on the right": lambda x: x @ C.T.astype(x.dtype),
    "batched product": lambda x: jnp.einsum("ij,ij->i", x, C.astype(x.dtype)),
    "reshape": lambda x: x.reshape(2, 12),
    "transpose": lambda x: x.T,
    "slice": lambda x: x[1:3, ::2],
    "dynamic slice": lambda x: jax.lax.dynamic_slice(
        x, (jnp.int32(1), jnp.int32(2)), (2, 3)
    ),
    "dynamic update": lambda x: jax.lax.dynamic_update_slice(x, x[:1] * 2, (2, 0)),
    "pad": lambda x: jnp.pad(x, ((1, 2), (0, 3)), constant_values=0.5),
    "pad with itself": lambda x: jax.lax.pad(x, x[0, 0], ((1, 2, 1), (0, 3, 0))),
    "concatenate": lambda x: jnp.concatenate([x, C.astype(x.dtype), 2 * x]),
    "stack": lambda x: jnp.stack([x, -x]),
    "split": lambda x: jnp.split(x, 2)[1],
    "broadcast": lambda x: jnp.broadcast_to(x[0], (4, 6)) + x,
    "tile": lambda x: jnp.tile(x, (1, 2)),
    "squeeze": lambda x: jnp.squeeze(x[:1], 0),
    "expand": lambda x: jnp.expand_dims(x, 1),
    "reverse": lambda x: x[::-1],
    "roll": lambda x: jnp.roll(x, 2, 1),
    "sum": lambda x: x.sum(0),
    "mean": lambda x: x - x.mean(1, keepdims=True),
    "cumulative sum": lambda x: jnp.cumsum(x, 1),
    "average pooling": lambda x: nn.avg_pool(x[..., None], (2, 2), (2, 2)),
    "gather": lambda x: x[jnp.array([3, 0, 0])],
    "take": lambda x: jnp.take(x, jnp.array([1, 5]), axis=1),
    "scatter and add": lambda x: x.at[jnp.array([0, 0, 2])].add(2 * x[:3]),
    "select": lambda x: jnp.where(C > 1, x, -x),
    "select a constant": lambda x: jnp.where(C > 1, x, jnp.asarray(0.25, x.dtype)),
    "copy": jnp.copy,
    "widen": lambda x: x.astype("float64"),
    "jit": jax.jit(lambda x: 2 * x + 1),
    "jit of jit": jax.jit(lambda x: jax.jit(lambda y: y * 2)(x.T)),
    "convolution": lambda x: jax.lax.conv(
        x[None, None], normal(2, 1, 3, 3, dtype=x.dtype), (1, 1), "SAME"
    ),
    "convolution of a constant": lambda x: jax.lax.conv(
        normal(1, 1, 7, 8, dtype=x.dtype), x[None, None], (1, 1), "VALID"
    ),
    "grouped convolution": lambda x: jax.lax.conv_general_dilated(
        *(x.reshape(1, 4, 6), normal(4, 2, 3, dtype=x.dtype), (1,), "SAME"),
        feature_group_count=2,
    ),
}


@pytest.mark.parametrize("name", FORWARD)
def test_an_affine_operation_goes_into_the_prefix(name):
    def checks(dtype):
        f = lambda x: jnp.tanh(dense(FORWARD[name](x))).sum()
        x, y = normal(4, 6, dtype=dtype), normal(4, 6, dtype=dtype, seed=2)
        split = split_of(f, x)
        assert sizes(split) == [3]  # nothing but what the product returned
        joined = lambda x: split.suffix(split.prefix(x))
        (start,), (middle,), (end,) = map(split.prefix, (x, 0.75 * x + 0.25 * y, y))
        yield joined(x), f(x)
        yield jax.grad(joined)(x), jax.grad(f)(x)
        yield middle, 0.75 * start + 0.25 * end

    dtypes = ("float32", "float64")
    rows = together(*(lambda d=d: list(checks(d)) for d in dtypes))
    for dtype, pairs in zip(dtypes, rows, strict=True):
        for got, want in pairs:
            assert got.dtype == want.dtype
            close(got, want, 100 * float(jnp.finfo(dtype).eps))  # sums of up to 96 terms


@jax.custom_jvp
def flat(x):
    return 2 * x


@flat.defjvp
def _(primals, tangents):
    return flat(*primals), tangents[0]


@jax.custom_vjp
def steep(x):
    return 2 * x


steep.defvjp(lambda x: (2 * x, None), lambda _, g: (7 * g,))
step = lambda carry, row: (carry + row, 2 * row)

ENDS = {
    "relu": nn.relu,
    "square": jnp.square,
    "product of itself": lambda x: x * x[::-1],
    "matrix product of itself": lambda x: x @ x.T,
    "quotient": lambda x: 1 / x,
    "maximum": lambda x: jnp.maximum(x, 0.1),
    "largest": lambda x: x.max(0),
    "sort": lambda x: jnp.sort(x, 1),
    "stopped gradient": jax.lax.stop_gradient,
    "custom_jvp": flat,
    "custom_vjp": steep,
    "scan": lambda x: jax.lax.scan(step, jnp.zeros(6), x)[1],
    "loop": lambda x: jax.lax.fori_loop(0, 3, lambda i, y: 2 * y, x),
    "branch": lambda x: jax.lax.cond(jnp.array(True), lambda y: y, lambda y: -y, x),
    "checkpoint": jax.checkpoint(lambda x: 2 * x),
    "cast to integers": lambda x: x.astype("int32").astype("float64"),
    "narrowing": lambda x: x.astype("float32"),
    "complex numbers": lambda x: jnp.fft.fft(x).real,
    "an index that moves": lambda x: jnp.zeros(9)[x.astype("int32")] * x,
    "a start that moves": lambda x: jax.lax.dynamic_slice(
        x, (x[0, 0].astype(int), 0), (1, 6)
    ),
    "a predicate that moves": lambda x: jnp.where(x > 0, x, 2 * x),
    "overwriting": lambda x: jnp.zeros((4, 6)).at[jnp.array([0, 0, 1, 2])].set(x),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_is_not_affine_ends_the_prefix(name):
    x = normal(4, 6)
    assert is_refused(lambda x: jnp.tanh(dense(ENDS[name](x))).sum(), x)
    # And what stands before it is still split off.
    wide = normal(24, 240, seed=3)
    split = split_of(
        lambda x: jnp.tanh(dense(ENDS[name]((wide @ x).reshape(4, 6)))), normal(240)
    )
    assert sizes(split) == [24]


def test_constants_are_found_behind_calls():
    w = normal(3, 24)
    inner = jax.jit(lambda x: jnp.sin(w) @ x)  # sin is of a constant: not of x
    split = split_of(lambda x: jnp.tanh(inner(x)).sum(), normal(24))
    assert sizes(split) == [3]


# The frontier.

W = table(3, 50, seed=4)
FRONTIERS = {
    "one value for two uses": (
        lambda x: (lambda z: jnp.sin(z) + jnp.cos(2 * z))(W @ x),
        [3],
    ),
    "a broadcast": (lambda x: jnp.tanh(jnp.broadcast_to((W @ x)[:, None], (3, 99))), [3]),
    "a broadcast plus a table": (
        lambda x: jnp.tanh(jnp.broadcast_to((W @ x)[:, None], (3, 99)) + jnp.ones((3, 99))),
        [3],
    ),
    "padding": (lambda x: jnp.tanh(jnp.pad(W @ x, 50)), [3]),
    "one branch of two": (lambda x: jnp.tanh(W @ x).sum() + x[:2].prod(), [2, 3]),
    "a shortcut": (lambda x: jnp.tanh(W @ x).sum() * jnp.sin(x).sum(), [3, 50]),
    "two products that are added": (lambda x: jnp.tanh(W @ x + W @ x[::-1]), [3]),
    "the inputs of a scan": (
        lambda x: jax.lax.scan(lambda c, z: (jnp.tanh(c + z), None), jnp.zeros(()), W @ x)[
            0
        ],
        [3],
    ),
    "all of it": (lambda x: (W @ x).sum(), [1]),
}


@pytest.mark.parametrize("name", FRONTIERS)
def test_the_frontier_is_as_narrow_as_it_can_be(name):
    f, want = FRONTIERS[name]
    x = normal(50)
    split = split_of(f, x)
    assert sizes(split) == want
    close(split.suffix(split.prefix(x)), f(x), 1e-13)


def test_leaves_of_a_pytree_meet_in_one_frontier():
    f = lambda x: jnp.tanh(W @ x["a"] + W @ x["b"][0]).sum()
    x = {"a": normal(50), "b": (normal(50, seed=1),), "unused": jnp.ones(9)}
    split = split_of(f, x)
    assert sizes(split) == [3]
    assert jax.tree.structure(split.suffix(split.prefix(x))) == jax.tree.structure(0.0)
    close(split.suffix(split.prefix(x)), f(x), 1e-13)


def test_effects_happen_once_and_in_the_suffix():
    seen = []

    def f(x):
        z = W @ x
        jax.debug.callback(lambda z: seen.append(z), z)
        return jnp.tanh(z).sum()

    split = split_of(f, normal(50))
    z = split.prefix(normal(50))
    jax.effects_barrier()
    assert not seen
    split.suffix(z)
    jax.effects_barrier()
    assert len(seen) == 1


# Where it does not pay.


REFUSED = {
    "scaling": lambda x: jnp.tanh(W[0] * x).sum(),
    "standardization": lambda x: jnp.tanh((x - W[0]) / (1 + W[1] ** 2)).sum(),
    "an outer product": lambda x: jnp.tanh(x[:, None] * W[:1]).sum(),
    "a small part of the work": lambda x: jnp.tanh(
        *[(np.ones((900, 900)) @ jnp.tanh(np.ones((900, 50)) @ x))]
    ).sum(),
    "no dependence": lambda x: jnp.zeros(()),
    "x itself": lambda x: jnp.sin(x).sum(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_where_it_does_not_pay_there_is_no_split(name):
    assert is_refused(REFUSED[name], normal(50), gain=GAIN)


def test_a_product_pays_only_if_it_is_taken_often_enough():
    f = lambda x: jnp.tanh(normal(200, 200) @ x).sum()
    sweep = lambda n: Sweep(evaluations=n, rows=6, pulled=6, block=n)
    assert affine_split(f, normal(200), sweep(50)) is not None
    assert affine_split(f, normal(200), sweep(3)) is None  # 8 products for 6


def test_tiny_products_are_left_alone():
    assert affine_split(lambda x: jnp.tanh(W[:, :4] @ x).sum(), normal(4), SWEEP) is None


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64", "int32"])
def test_other_numbers_are_left_alone(dtype):
    x = jnp.ones(500, dtype)
    assert is_refused(lambda x: jnp.tanh(dense(x)).sum(), x)


# Attributions: the same values, errors and gaps.


def path(x, baseline, t):
    return igjax.paths.straight(x, baseline, t)


class Embedded(nn.Module):
    """A sequence model behind a dense layer, as on one-hot tokens."""

    model: nn.Module

    @nn.compact
    def __call__(self, x):
        return self.model(nn.Dense(4)(x))


class Recurrent(nn.Module):
    """A recurrent network whose inputs are projected before the loop."""

    @nn.compact
    def __call__(self, x):
        projected = nn.Dense(8)(x)
        kernel = self.param("kernel", nn.initializers.orthogonal(), (8, 8), x.dtype)
        step = lambda h, z: (jnp.tanh(z + h @ kernel), None)
        return nn.Dense(3)(jax.lax.scan(step, jnp.zeros(8, x.dtype), projected)[0])


MODELS = {
    "mlp": (MLP((32, 16, 3), nn.relu), (101,)),
    "mlp layernorm": (MLP((32, 16, 3), nn.gelu, layer_norm=True), (101,)),
    "cnn": (CNN(3, channels=(2, 2), hidden=4), (11, 13, 7)),
    "lstm": (Embedded(SequenceLSTM(4)), (5, 101)),
    "recurrent": (Recurrent(), (5, 101)),
    "transformer": (Embedded(SequenceTransformer(2, 3, 8)), (5, 101)),
}


def model_of(name, dtype="float64"):
    model, shape = MODELS[name]
    generator = np.random.default_rng(5)
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype)
    )
    draw = lambda a: jnp.asarray(generator.normal(size=a.shape) / 3, dtype)
    params = jax.tree.map(draw, shapes)
    x, baseline = (normal(*shape, dtype=dtype, seed=s) for s in (6, 7))
    return lambda x, p: model.apply(p, x).ravel(), x, 0.3 * baseline, params


def in_loops(jaxpr, inside=False):
    """The shapes of all values inside the scans of a jaxpr."""
    for eqn in jaxpr.eqns:
        within = inside or eqn.primitive is core.primitives.scan_p
        if inside:
            yield from (v.aval.shape for v in eqn.outvars)
        for value in eqn.params.values():
            if isinstance(value, core.ClosedJaxpr):
                yield from in_loops(value.jaxpr, within)


def is_hoisted(attribute, x, *args):
    """No point of the path is made inside the loop."""
    shapes = set(in_loops(jax.make_jaxpr(attribute)(x, *args).jaxpr))
    return not any(shape[-x.ndim :] == x.shape for shape in shapes)


def same(got, want, eps):
    """Results agree to rounding, relative to the largest value and score."""
    scale = float(jnp.abs(want.values).max() + jnp.abs(want.score).max())
    for field in ("values", "error", "delta", "score", "baseline_score"):
        got_leaf, want_leaf = getattr(got, field), getattr(want, field)
        assert got_leaf.dtype == want_leaf.dtype
        np.testing.assert_allclose(got_leaf, want_leaf, rtol=0, atol=eps * scale)
    assert (got.evaluations == want.evaluations).all()
    assert (got.forwards == want.forwards).all()
    assert (got.status == want.status).all()


METHODS = {
    "gradients": (igjax.integrated_gradients, lambda f: lambda x, p: f(x, p)[0]),
    "jacobian": (igjax.integrated_jacobian, lambda f: f),
}


SLOW_TO_COMPILE = ("lstm", "recurrent", "transformer")


@pytest.mark.parametrize(
    ("name", "method", "dtype"),
    [
        *(
            pytest.param(
                *(name, "gradients", "float64"),
                marks=[pytest.mark.slow] if name in SLOW_TO_COMPILE else [],
            )
            for name in MODELS
        ),
        *((name, "gradients", "float32") for name in MODELS if name not in SLOW_TO_COMPILE),
        *((name, "jacobian", "float64") for name in MODELS if name not in SLOW_TO_COMPILE),
    ],
)
def test_hoisted_attributions_of_models_are_the_same(name, method, dtype):
    transform, pick = METHODS[method]
    f, x, baseline, params = model_of(name, dtype)
    hoisted = transform(pick(f), rule=RULE)
    assert is_hoisted(hoisted, x, baseline, params)
    plain = transform(pick(f), rule=RULE, path=path)
    assert not is_hoisted(plain, x, baseline, params)
    eps = 200 * float(jnp.finfo(dtype).eps)
    got, want = together(*(lambda a=a: a(x, baseline, params) for a in (hoisted, plain)))
    same(got, want, eps)


def network(x, params):
    w, v = params
    return jnp.tanh(jnp.tanh(x @ w) @ v).sum()


# NumPy, since JAX is not in float64 yet when this module is imported.
ARGS = (table(101), table(101, seed=1), (table(101, 32) / 10, table(32, 4, seed=2) / 3))


def along_both(f, *args, **options):
    """The attribution that is hoisted, and the one that is not."""
    make = lambda path: igjax.integrated_gradients(f, path=path, **options)
    paths = (igjax.paths.straight, path)
    return together(*(lambda p=p: make(p)(*args) for p in paths))


RULES = {
    "gauss": igjax.rules.gauss_legendre(32),
    "trapezoid": igjax.rules.trapezoid(33),
    "left": igjax.rules.left(16),
    "composite": igjax.rules.composite(igjax.rules.gauss_legendre(8), 3),
}


@pytest.mark.parametrize("rule", RULES)
def test_all_rules_give_the_same(rule):
    assert is_hoisted(igjax.integrated_gradients(network, rule=RULES[rule]), *ARGS)
    got, want = along_both(network, *ARGS, rule=RULES[rule])
    same(got, want, 1e-13)


@pytest.mark.parametrize("chunk_size", [1, 7, 100])
def test_blocks_of_all_sizes_give_the_same(chunk_size):
    attribute = igjax.integrated_gradients(network, rule=RULE, chunk_size=chunk_size)
    assert is_hoisted(attribute, *ARGS)
    got, want = along_both(network, *ARGS, rule=RULE, chunk_size=chunk_size)
    same(got, want, 1e-13)


def test_a_rule_may_be_an_argument_of_jit():
    run = lambda path: jax.jit(
        lambda rule: igjax.integrated_gradients(network, rule=rule, path=path)(*ARGS)
    )
    same(run(igjax.paths.straight)(RULE), run(path)(RULE), 1e-13)


def test_the_points_in_a_block_are_as_many_as_without_hoisting():
    attribute = igjax.integrated_gradients(network, rule=RULE, chunk_size=5)
    shapes = set(in_loops(jax.make_jaxpr(attribute)(*ARGS).jaxpr))
    assert (5, 32) in shapes  # 5 points of the frontier
    assert (5, 101) not in shapes


@pytest.mark.parametrize(
    "axes", [(0, None, None), (0, 0, None), (None, 0, None), (0, None, 0), (1, None, None)]
)
def test_vmap_is_the_same(axes):
    def batch(a, axis):
        if axis is None:
            return a
        return jax.tree.map(lambda a: jnp.stack([a, 2 * a, a - 1], axis), a)

    args = [batch(a, axis) for a, axis in zip(ARGS, axes, strict=True)]
    explain = lambda path: jax.vmap(
        igjax.integrated_gradients(network, rule=RULE, path=path), axes
    )(*args)
    got, want = together(*(lambda p=p: explain(p) for p in (igjax.paths.straight, path)))
    same(got, want, 1e-12)


def test_all_gradients_of_an_attribution_are_the_same():
    def gradients(path):
        attribute = igjax.integrated_gradients(network, rule=RULE, path=path)

        def loss(*args):
            result = attribute(*args)
            return (result.values**2).sum() + result.error.sum() + result.delta**2

        return jax.grad(loss, (0, 1, 2))(*ARGS)

    got, want = together(*(lambda p=p: gradients(p) for p in (igjax.paths.straight, path)))
    # The error is a root of sums of squares near rounding: its slope is of rounding too.
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


def test_the_closed_form_of_a_quadratic():
    w = ARGS[2][0]
    f = lambda x: ((x @ w) ** 2).sum() / 2
    attribute = igjax.integrated_jacobian(f, rule=igjax.rules.gauss_legendre(20))
    x, b, _ = ARGS
    assert is_hoisted(attribute, x, b)
    want = (x - b) * (w @ (w.T @ (x + b))) / 2
    result = attribute(x, b)
    np.testing.assert_allclose(result.values, want, atol=1e-12)
    np.testing.assert_allclose(result.error, 0, atol=1e-12)
    np.testing.assert_allclose(result.delta, 0, atol=1e-11)


def products_in_loops(attribute, *args):
    """How often a loop multiplies by the weights of the first layer."""
    weights, count = jnp.shape(ARGS[2][0]), 0

    def visit(jaxpr, inside):
        nonlocal count
        for eqn in jaxpr.eqns:
            product = inside and eqn.primitive is core.primitives.dot_general_p
            shapes = [v.aval.shape for v in eqn.invars]
            count += product and weights in [tuple(sorted(s)[::-1]) for s in shapes]
            for body in jax_internals.bodies(eqn):
                visit(body.jaxpr, inside or eqn.primitive.name in ("while", "scan"))

    visit(jax.make_jaxpr(attribute)(*args).jaxpr, False)
    return count


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_adaptive_rule_has_the_same_mesh(method):
    transform, _ = METHODS[method]
    steep = lambda x, p: 5 * jnp.tanh(3 * jnp.tanh(x @ p[0]) @ p[1])
    f = {"gradients": lambda x, p: steep(x, p)[0], "jacobian": steep}[method]
    rule = igjax.rules.adaptive(1e-6)
    hoisted = transform(f, rule=rule)
    plain = transform(f, rule=rule, path=path)
    # Backward, and a forward one whose result is not used: dead code for XLA.
    assert products_in_loops(hoisted, *ARGS) == 2
    assert products_in_loops(plain, *ARGS) == 3
    batch = lambda attribute: jax.vmap(attribute, (0, None, None))
    xs = jnp.stack([ARGS[0], 2 * ARGS[0], -ARGS[0]])
    both = [lambda a=a: batch(a)(xs, *ARGS[1:]) for a in (hoisted, plain)]
    got, want = together(*both)
    assert (got.evaluations > 15).any()
    same(got, want, 1e-12)


def test_features_that_do_not_move_or_do_not_count_get_zero():
    x, b, (w, v) = ARGS
    w, b = jnp.asarray(w).at[3].set(0), jnp.asarray(b).at[5].set(x[5])
    result = igjax.integrated_gradients(network, rule=RULE)(x, b, (w, v))
    assert result.values[3] == result.values[5] == 0
    assert result.error[3] == result.error[5] == 0


def test_pytrees_of_mixed_dtypes_are_the_same():
    f = lambda x: network(x["a"].astype("float64") + x["b"][0], ARGS[2])
    x = {"a": ARGS[0].astype("float32"), "b": [ARGS[1]]}
    baseline = {"a": 0.5, "b": [jnp.zeros(101)]}
    got, want = along_both(f, x, baseline, rule=RULE)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        eps = 50 * float(jnp.finfo("float32").eps) if a.dtype == "float32" else 1e-6
        np.testing.assert_allclose(a, b, rtol=0, atol=eps)


@pytest.mark.parametrize("dtype", ["bfloat16", "complex128"])
def test_other_numbers_are_integrated_as_before(dtype):
    f = lambda x: jnp.tanh((x @ jnp.asarray(ARGS[2][0], dtype)).real).sum()
    x = jnp.asarray(ARGS[0], dtype)
    got, want = along_both(f, x, 0.0, rule=RULE)
    np.testing.assert_array_equal(got.values, want.values)


def test_a_non_finite_gradient_is_reported_as_before():
    f = lambda x: jnp.log(x @ ARGS[2][0] - 1e9).sum()
    result = igjax.integrated_gradients(f, rule=RULE)(ARGS[0], 0.0)
    assert result.status == igjax.Status.NON_FINITE


@pytest.mark.slow
@pytest.mark.parametrize("masked", ["select", "sum"])
def test_a_mask_of_minus_infinity_may_be_hoisted(masked):
    w, keep = normal(256, 64, dtype="float32"), jnp.arange(256) % 3 > 0
    shut = jnp.where(keep, 0.0, -jnp.inf)
    if masked == "select":
        f = lambda x: jax.nn.logsumexp(jnp.where(keep, w @ x, -jnp.inf))
    else:
        f = lambda x: jax.nn.logsumexp(w @ x + shut)
    x = normal(64, dtype="float32", seed=2) / 8
    want = igjax.integrated_gradients(f, rule=RULE, path=path)(x, 0.0)
    for rule in (RULE, igjax.rules.adaptive(1e-4)):
        got = igjax.integrated_gradients(f, rule=rule)(x, 0.0)
        close(got.values, want.values, 1e-5)
        assert jnp.isfinite(got.delta)
    square = lambda values: (values**2).sum()
    slopes = [
        jax.grad(lambda x, a=a: square(a(x, 0.0).values))(x)
        for a in (
            igjax.integrated_gradients(f, rule=RULE),
            igjax.integrated_gradients(f, rule=RULE, path=path),
        )
    ]
    got, want = slopes
    close(got, want, 1e-5)
