"""What is rewritten for a device has the values, gradients, ties and types of JAX's own."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from igjax._program import jax_internals, loops, rewrites, windows
from igjax._program.rewrites import for_device

ON_CPU = jax.default_backend() == "cpu"
IMAGES = np.random.default_rng(0).normal(size=(2, 9, 8, 12))
LAYOUTS = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")
WINDOWS = (  # strides, padding, dilation of the kernel
    ((1, 1), "SAME", (1, 1)),
    ((2, 3), "VALID", (1, 1)),
    ((2, 1), ((3, 1), (0, 2)), (2, 1)),
)
GROUPS = (12, 2), (4, 1), (1, 1)  # how many, and outputs for each input
CASES = list(itertools.product(GROUPS, WINDOWS, LAYOUTS))
POOLS = list(
    itertools.product(((1, 1), (2, 2), (2, 3)), ((2, 2), (3, 2)), ("SAME", "VALID"))
)


@pytest.fixture(autouse=True)
def _nothing_fails_unseen(request, monkeypatch):
    """What a rewrite raises would leave the program as it was."""
    if "broken" not in request.node.name:
        seen = lambda read, *args, otherwise=None: read(*args)
        monkeypatch.setattr(jax_internals, "if_understood", seen)


def primitives(function, *args) -> set:
    """The names of all primitives of a function, those inside of others as well."""
    found = set()

    def walk(jaxpr):
        for eqn in jaxpr.eqns:
            found.add(eqn.primitive.name)
            for body in jax_internals.bodies(eqn):
                walk(body.jaxpr)

    walk(jax.make_jaxpr(function)(*args).jaxpr)
    return found


def agrees(function, x, tolerance):
    expected, got = jax.jit(function)(x), jax.jit(for_device(function))(x)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        numbers = (np.asarray(leaf, np.float64) for leaf in (a, b))
        np.testing.assert_allclose(*numbers, rtol=tolerance, atol=tolerance)


def cotangent(y):
    return jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)


def pulled(function):
    """The gradient of a function, as a function of the point."""

    def gradient(x):
        y, pullback = jax.vjp(function, x)
        return pullback(cotangent(y))[0]

    return gradient


def used(model):
    """A model of batches as methods use it: itself, its gradient, and one by one."""
    one = lambda x: model(x[None])[0]
    return lambda x: (model(x), pulled(model)(x), jax.vmap(pulled(one))(x))


def pool(kind, init, window, strides, padding):
    return lambda x: lax.reduce_window(
        x, init, kind, (1, *window, 1), (1, *strides, 1), padding
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolutions_in_groups(case):
    (groups, each), (strides, padding, dilation), layout = case
    kernel = jax.random.normal(jax.random.key(1), (3, 4, 12 // groups, 12 * each))
    x = jnp.asarray(IMAGES)
    if layout[0] == "NCHW":
        x, kernel = x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1)
    model = lambda x: lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        strides,
        padding,
        rhs_dilation=dilation,
        feature_group_count=groups,
        dimension_numbers=layout,
    )
    agrees(used(model), x, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (2, 9)], ids=str)
def test_images_that_are_smaller_than_the_kernel(strides):
    kernel = jax.random.normal(jax.random.key(1), (5, 3, 12, 8))
    model = lambda x: lax.conv_general_dilated(
        x, kernel, strides, "SAME", dimension_numbers=LAYOUTS[0]
    )
    agrees(used(model), jnp.asarray(IMAGES[:, :2, :2]), 1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_narrow_convolutions_sum_in_float32(dtype):
    kernel = jax.random.normal(jax.random.key(1), (5, 5, 1, 12), dtype)
    model = lambda x: lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME",
        feature_group_count=12,
        dimension_numbers=LAYOUTS[0],
    )
    # Both round a sum of 25 products once, which were summed in another order.
    tolerance = max(2 * float(jnp.finfo(dtype).eps), 25e-7)
    agrees(model, jnp.asarray(IMAGES, dtype), tolerance)


@pytest.mark.parametrize(("strides", "window", "padding"), POOLS, ids=str)
def test_pools_keep_values_and_ties(strides, window, padding):
    tied = jnp.asarray(
        np.round(2 * IMAGES) / 2
    )  # most windows hold their maximum more than once
    tied = tied.at[0, :4].set(-jnp.inf)
    largest = used(pool(lax.max, -jnp.inf, window, strides, padding))
    total = used(pool(lax.add, 0.0, window, strides, padding))
    kinds = jnp.stack([IMAGES, tied, tied.at[1, 3, 3].set(jnp.nan)])
    agrees(lambda xs: jax.lax.map(lambda x: (largest(x), total(x)), xs), kinds, 1e-12)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("strides", [(1, 1), (2, 3)], ids=str)
def test_convolutions_of_one_place_are_products(strides, layout):
    kernel = jax.random.normal(jax.random.key(1), (1, 1, 12, 8))
    x = jnp.asarray(IMAGES).at[0, 0, 0, 0].set(jnp.nan).at[1, 2, 2, 1].set(jnp.inf)
    if layout[0] == "NCHW":
        x, kernel = x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1)
    padding = ((1, 0), (0, 2))
    numbers = {"dimension_numbers": layout}
    model = lambda x: lax.conv_general_dilated(x, kernel, strides, padding, **numbers)
    agrees(used(model), x, 1e-12)
    if ON_CPU:
        assert "conv_general_dilated" not in primitives(for_device(used(model)), x)


@pytest.mark.parametrize("axes", [(1,), (3,), (0, 1), (1, 2, 3), (0, 3)], ids=str)
def test_sums_next_to_idle_axes(axes):
    x = jnp.asarray(IMAGES[:, None, :4]).at[0, 0, 0, 0].set(jnp.nan)
    x = x.at[1, 0, 1].set(jnp.inf)
    model = lambda x: (x.sum(axes), (x * x).sum(axes, keepdims=True))
    agrees(model, x, 1e-12)
    if ON_CPU:
        squeezed = str(jax.make_jaxpr(for_device(model))(x))
        assert "squeeze" in squeezed


def recurrent(x, kernels):
    """A cell with two gates over the steps of x, its kernels turned round at each step."""
    wide, up, down = kernels

    def step(state, row):
        gate = jax.nn.sigmoid(row @ wide + state @ up)
        new = jnp.tanh(row @ wide.T[: row.size] + state @ down.T)
        return gate * state + (1 - gate) * new, new

    state, rows = lax.scan(step, jnp.ones(5) / 3, x)
    return state.sum() + (rows**2).sum()


KERNELS = tuple(jax.random.normal(jax.random.key(i), (5, 5)) / 3 for i in range(3))


@pytest.mark.parametrize("around", ["scan", "jit", "while"])
def test_products_in_loops(around):
    x = jax.random.normal(jax.random.key(4), (20, 5))
    kernels = [k.astype(x.dtype) for k in KERNELS]
    model = jax.jit(recurrent) if around == "jit" else recurrent
    gradient = lambda x: jax.vmap(jax.grad(model), (0, None))(
        jnp.stack([x, x + 1]), kernels
    )
    if around == "while":
        gradient = lambda x: lax.while_loop(
            lambda c: jnp.abs(c).max() < 3, lambda c: 2 * c + jax.grad(model)(c, kernels), x
        )
    agrees(gradient, x, 1e-5)


@pytest.mark.skipif(not ON_CPU, reason="what is rewritten for CPUs")
def test_kernels_are_turned_before_long_loops(monkeypatch):
    kernel = KERNELS[0]
    product = lambda c, _: (lax.dot_general(c, kernel, (((1,), (1,)), ((), ()))), None)
    run = lambda c, n: lax.scan(product, c, None, n)[0]
    turns = lambda c, n: str(jax.make_jaxpr(for_device(lambda c: run(c, n)))(c))
    assert "transpose[" in turns(jnp.ones((4, 5)), loops.LEAST_TURNS)
    assert "transpose[" not in turns(jnp.ones((4, 5)), loops.LEAST_TURNS - 1)
    assert "transpose[" not in turns(jnp.ones((loops.MOST_ROWS + 1, 5)), 99)
    monkeypatch.setattr(loops, "MOST_BYTES", 99)
    assert "transpose[" not in turns(jnp.ones((4, 5)), 99)


@pytest.mark.slow
def test_what_is_rewritten_has_derivatives_itself():
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 12))
    pooled = pool(lax.max, -jnp.inf, (3, 3), (2, 2), "SAME")

    def model(x, kernel):
        x = lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", feature_group_count=12, dimension_numbers=LAYOUTS[0]
        )
        return (jnp.tanh(pooled(x)) ** 2).sum()

    slopes = lambda x, kernel: jax.grad(model)(x, kernel)
    loss = lambda f: lambda x, kernel: (f(x, kernel) ** 2).sum()
    expected = jax.grad(loss(slopes), (0, 1))(IMAGES, kernel)
    got = jax.jit(jax.grad(loss(for_device(slopes)), (0, 1)))(IMAGES, kernel)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(not ON_CPU, reason="what is rewritten for CPUs")
@pytest.mark.parametrize("around", ["nothing", "jit", "scan", "cond", "remat", "while"])
def test_rewrites_reach_what_others_hold(around):
    pooled = pool(lax.max, -jnp.inf, (2, 2), (2, 2), "VALID")
    slope = pulled(pooled)
    model = {
        "nothing": slope,
        "jit": jax.jit(slope),
        "scan": lambda x: lax.scan(lambda c, _: (slope(c), None), x, None, 2)[0],
        "cond": lambda x: lax.cond(x.sum() > 0, slope, jnp.negative, x),
        "remat": jax.checkpoint(slope),
        "while": lambda x: lax.fori_loop(
            0, x[0, 0, 0, 0].astype(int), lambda _, c: slope(c), x
        ),
    }[around]
    assert "select_and_scatter_add" in primitives(model, IMAGES)
    assert "select_and_scatter_add" not in primitives(for_device(model), IMAGES)
    agrees(model, IMAGES, 1e-12)


def test_what_pays_not_is_left(monkeypatch):
    summed = pool(lax.add, 0.0, (3, 3), (2, 2), "SAME")
    assert "reduce_window_sum" in primitives(for_device(summed), IMAGES)
    monkeypatch.setattr(windows, "MOST_TAPS", 8)
    summed = pool(lax.add, 0.0, (3, 3), (1, 1), "SAME")
    assert "reduce_window_sum" in primitives(for_device(summed), IMAGES)


def test_a_broken_rewrite_changes_nothing(monkeypatch):
    def broken(eqn, inputs):
        raise KeyError("a name that a new JAX does not know")

    monkeypatch.setattr(rewrites, "REWRITES", {jax.default_backend(): (broken,)})
    agrees(pulled(pool(lax.max, -jnp.inf, (2, 2), (2, 2), "SAME")), IMAGES, 0)
